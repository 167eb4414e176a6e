/* Graphs that are put together node by node. Nodes that do not depend on each other run in random order. */
#include "driver.h"
#include <stdlib.h>
#include <string.h>

static bool is_graph(const Graph *g) {
    return is_handle(g, A_GRAPH);
}
static bool has_node(const Graph *g, const Queued *node) {
    for (const Queued *q = g->head; q; q = q->next)
        if (q == node) return true;
    return false;
}

/* Adds work as a node that comes after the n nodes of `after`; takes over work.params. */
static int add(Queued **out, Graph *g, Queued *const *after, size_t n, Queued work) {
    int r = ready();
    if (!r && (!out || !is_graph(g) || (n && !after))) r = INVALID_VALUE;
    for (size_t k = 0; !r && k < n; k++)
        if (!has_node(g, after[k])) r = INVALID_VALUE;
    Queued *node = r ? NULL : malloc(sizeof *node);
    if (!node) {
        free(work.params);
        return r ? r : OUT_OF_MEMORY;
    }
    *node = work;
    graph_append(g, node);
    for (size_t k = 0; k < n; k++) node_after(node, after[k]);
    *out = node;
    return OK;
}

API cuGraphCreate(Graph **out, unsigned flags) {
    int r = ready();
    if (r) return r;
    if (!out || flags) return INVALID_VALUE;
    if (!(*out = calloc(1, sizeof **out))) return OUT_OF_MEMORY;
    handle_add(*out, A_GRAPH);
    return OK;
}

/* ---- kernels ---- */
typedef struct KernelNode { /* the second form has more, which nobody needs: a kernel and a context */
    const Func *func;
    unsigned grid[3], block[3], dynamic;
    void **params, **extra;
} KernelNode;
static int kernel_of(const KernelNode *k, Queued *q) {
    return k ? kernel_work(q, k->func, k->grid, k->block, k->dynamic, k->params, k->extra, false)
             : INVALID_VALUE;
}
API cuGraphAddKernelNode(Queued **out, Graph *g, Queued *const *after, size_t n, const KernelNode *k) {
    Queued q;
    int r = kernel_of(k, &q);
    return r ? r : add(out, g, after, n, q);
}
API cuGraphAddKernelNode_v2(Queued **out, Graph *g, Queued *const *after, size_t n, const KernelNode *k) {
    return cuGraphAddKernelNode(out, g, after, n, k);
}
static int change_kernel(Queued *node, const KernelNode *k) {
    Queued q;
    if (!is_handle(node, A_NODE) || node->kind != OP_KERNEL) return INVALID_VALUE;
    int r = kernel_of(k, &q);
    if (r) return r;
    free(node->params);
    node->func = q.func, node->dynamic = q.dynamic, node->params = q.params,
    node->param_bytes = q.param_bytes;
    memcpy(node->grid, q.grid, sizeof q.grid);
    memcpy(node->dim, q.dim, sizeof q.dim);
    return OK;
}
API cuGraphKernelNodeSetParams(Queued *node, const KernelNode *k) {
    return change_kernel(node, k);
}
API cuGraphKernelNodeSetParams_v2(Queued *node, const KernelNode *k) {
    return change_kernel(node, k);
}
API cuGraphExecKernelNodeSetParams(Graph *e, const Queued *node, const KernelNode *k) {
    if (!is_handle(e, AN_EXEC)) return INVALID_VALUE;
    int r = finish_all(); /* launches before this one keep what they had */
    return r ? r : change_kernel(graph_find(e, node), k);
}
API cuGraphExecKernelNodeSetParams_v2(Graph *e, const Queued *node, const KernelNode *k) {
    return cuGraphExecKernelNodeSetParams(e, node, k);
}

/* ---- the others ---- */
typedef struct MemsetNode {
    CUdeviceptr dst;
    size_t pitch;
    unsigned value, element;
    size_t width, height;
} MemsetNode;
API cuGraphAddMemsetNode(Queued **out, Graph *g, Queued *const *after, size_t n, const MemsetNode *m,
                         Context *c) {
    (void)c;
    if (!m || (m->element != 1 && m->element != 2 && m->element != 4)) return INVALID_VALUE;
    return add(out, g, after, n,
               (Queued){.kind = OP_SET,
                        .dst = m->dst,
                        .bytes = m->width * m->element,
                        .rows = m->height,
                        .dst_pitch = m->pitch,
                        .value = m->value,
                        .element = m->element});
}

typedef struct CopySide {
    size_t x, y, z, lod;
    int type; /* 1 host, 2 device, 3 array, 4 unified */
    void *host;
    CUdeviceptr device;
    void *array, *reserved;
    size_t pitch, height;
} CopySide;
typedef struct Copy3D {
    CopySide src, dst;
    size_t width, height, depth;
} Copy3D;
static u64 start_of(const CopySide *s) {
    return (s->type == 1 ? (u64)(uintptr_t)s->host : s->device) + s->y * s->pitch + s->x;
}
API cuGraphAddMemcpyNode(Queued **out, Graph *g, Queued *const *after, size_t n, const Copy3D *c,
                         Context *context) {
    (void)context;
    if (!c) return INVALID_VALUE;
    if (c->src.type == 3 || c->dst.type == 3 || c->depth != 1 || c->src.z || c->dst.z) return NOT_SUPPORTED;
    return add(out, g, after, n,
               (Queued){.kind = OP_COPY,
                        .bytes = c->width,
                        .rows = c->height,
                        .src = start_of(&c->src),
                        .dst = start_of(&c->dst),
                        .src_pitch = c->src.pitch,
                        .dst_pitch = c->dst.pitch,
                        .src_host = c->src.type == 1,
                        .dst_host = c->dst.type == 1});
}

typedef struct HostNode {
    void (*function)(void *);
    void *data;
} HostNode;
API cuGraphAddHostNode(Queued **out, Graph *g, Queued *const *after, size_t n, const HostNode *h) {
    if (!h || !h->function) return INVALID_VALUE;
    return add(out, g, after, n, (Queued){.kind = OP_HOST, .host = h->function, .host_arg = h->data});
}
API cuGraphAddEmptyNode(Queued **out, Graph *g, Queued *const *after, size_t n) {
    return add(out, g, after, n, (Queued){.kind = OP_NOTHING});
}

API cuGraphAddChildGraphNode(Queued **out, Graph *g, Queued *const *after, size_t n, const Graph *child) {
    if (!out || !is_graph(g) || !is_graph(child)) return INVALID_VALUE;
    Graph *copy = graph_child(child);
    int r = add(out, g, after, n, (Queued){.kind = OP_GRAPH, .graph = copy});
    if (r) graph_free(copy);
    return r;
}
API cuGraphChildGraphNodeGetGraph(const Queued *node, Graph **out) {
    if (!is_handle(node, A_NODE) || node->kind != OP_GRAPH || !out) return INVALID_VALUE;
    *out = node->graph;
    return ready();
}

API cuGraphAddDependencies(Graph *g, Queued *const *from, Queued *const *to, size_t n) {
    int r = ready();
    if (r) return r;
    if (!is_graph(g) || (n && (!from || !to))) return INVALID_VALUE;
    for (size_t k = 0; k < n; k++)
        if (from[k] == to[k] || !has_node(g, from[k]) || !has_node(g, to[k])) return INVALID_VALUE;
    for (size_t k = 0; k < n; k++) node_after(to[k], from[k]);
    return OK;
}
API cuGraphNodeGetType(const Queued *node, int *type) {
    static const u8 types_of[] = {
        [OP_KERNEL] = 0, [OP_COPY] = 1, [OP_SET] = 2, [OP_HOST] = 3, [OP_GRAPH] = 4, [OP_NOTHING] = 5};
    if (!is_handle(node, A_NODE) || !type) return INVALID_VALUE;
    *type = types_of[node->kind];
    return ready();
}
