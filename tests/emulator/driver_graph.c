/* Capture of streams into graphs, copies of graphs, and their launch. */
#include "driver.h"
#include <stdlib.h>
#include <string.h>

void graph_free(Graph *g) {
    for (Queued *q = g->head, *n; q; q = n) {
        n = q->next;
        if (q->kind == OP_GRAPH) graph_free(q->graph);
        free(q->params);
        free(q->after);
        handle_end(q);
        free(q);
    }
    handle_end(g);
    free(g);
}

API cuStreamBeginCapture_v2(void *handle, int mode) {
    int r = ready();
    Stream *s = stream_of(handle);
    if (r) return r;
    if (!s || mode < 0 || mode > 2) return INVALID_VALUE;
    if (s == stream_of(NULL)) return CAPTURE_UNSUPPORTED;
    if (s->capture) return INVALID_VALUE;
    Graph *g = calloc(1, sizeof *g);
    if (!g) return OUT_OF_MEMORY;
    handle_add(g, A_GRAPH);
    s->capture = g;
    s->origin = true;
    return OK;
}
API cuStreamEndCapture(void *handle, Graph **out) {
    int r = ready();
    Stream *s = stream_of(handle);
    if (r) return r;
    if (!s || !out) return INVALID_VALUE;
    *out = NULL;
    if (!s->capture || !s->origin) return CAPTURE_UNMATCHED;
    Graph *g = s->capture;
    s->origin = false;
    streams_leave(g);
    if (g->invalid) {
        graph_free(g);
        return CAPTURE_INVALIDATED;
    }
    *out = g;
    return OK;
}
API cuStreamIsCapturing(void *handle, int *status) {
    Stream *s = stream_of(handle);
    if (!s || !status) return INVALID_VALUE;
    *status = !s->capture ? 0 : s->capture->invalid ? 2 : 1;
    return ready();
}

void graph_append(Graph *g, Queued *node) {
    node->next = NULL;
    if (g->last)
        g->last->next = node;
    else
        g->head = node;
    g->last = node;
    g->nodes++;
    handle_add(node, A_NODE);
}
void node_after(Queued *node, Queued *before) {
    if (!(node->after = realloc(node->after, (node->nafter + 1) * sizeof *node->after))) abort();
    node->after[node->nafter++] = before;
}

/* ---- copies ---- */
Queued *graph_find(const Graph *g, const Queued *origin) {
    for (Queued *q = g->head; q; q = q->next) {
        if (q->origin == origin) return q;
        Queued *inner = q->kind == OP_GRAPH ? graph_find(q->graph, origin) : NULL;
        if (inner) return inner;
    }
    return NULL;
}
static Queued *copy_node(const Queued *q) {
    Queued *n = malloc(sizeof *n);
    if (!n) abort();
    *n = *q;
    n->after = NULL;
    n->nafter = 0;
    n->origin = q;
    if (q->kind == OP_GRAPH) n->graph = graph_child(q->graph);
    if (q->params) {
        if (!(n->params = malloc(q->param_bytes + 16))) abort();
        memcpy(n->params, q->params, q->param_bytes);
    }
    return n;
}
Graph *graph_clone(const Graph *g) {
    Graph *c = calloc(1, sizeof *c);
    if (!c) abort();
    handle_add(c, A_GRAPH);
    for (const Queued *q = g->head; q; q = q->next) graph_append(c, copy_node(q));
    for (Queued *q = c->head; q; q = q->next)
        for (u32 k = 0; k < q->origin->nafter; k++) node_after(q, graph_find(c, q->origin->after[k]));
    return c;
}
Graph *graph_child(const Graph *g) {
    Graph *c = graph_clone(g);
    c->child = true;
    return c;
}

/* ---- instantiation ---- */
/* A random one of the nodes that can come next; NULL: none can. */
static Queued *next_node(Graph *g) {
    static u64 rng;
    Queued *found = NULL;
    u32 ready_nodes = 0;
    if (!rng) rng = settings.seed;
    for (Queued *q = g->head; q; q = q->next) {
        bool can = !q->placed;
        for (u32 k = 0; can && k < q->nafter; k++) can = q->after[k]->placed;
        if (can && (!ready_nodes++ || (settings.seed && random_next(&rng) % ready_nodes == 0))) found = q;
    }
    return found;
}

/* The nodes in an order in which they can run, those of child graphs, too. False: there is a circle. */
static bool put_in_order(Graph *g) {
    Queued **order = malloc((g->nodes + 1) * sizeof *order);
    if (!order) abort();
    bool good = true;
    for (Queued *q = g->head; q; q = q->next) {
        q->placed = false;
        if (q->kind == OP_GRAPH) good &= put_in_order(q->graph);
    }
    u32 n = 0;
    for (Queued *q; (q = next_node(g)); order[n++] = q) q->placed = true;
    good &= n == g->nodes;
    if (good) {
        g->head = g->last = NULL;
        g->nodes = 0;
        for (u32 k = 0; k < n; k++) graph_append(g, order[k]);
    }
    free(order);
    return good;
}

static int instantiate(Graph **out, Graph *g) {
    int r = ready();
    if (r) return r;
    if (!out || !is_handle(g, A_GRAPH)) return INVALID_VALUE;
    Graph *e = graph_clone(g);
    handle_add(e, AN_EXEC);
    if (!put_in_order(e)) {
        graph_free(e);
        return INVALID_VALUE;
    }
    *out = e;
    return OK;
}
API cuGraphClone(Graph **out, const Graph *g) {
    int r = ready();
    if (r) return r;
    if (!out || !is_handle(g, A_GRAPH)) return INVALID_VALUE;
    *out = graph_clone(g);
    return OK;
}
API cuGraphInstantiateWithFlags(Graph **out, Graph *g, unsigned long long flags) {
    (void)flags;
    return instantiate(out, g);
}
API cuGraphInstantiate_v2(Graph **out, Graph *g, void **node, char *log, size_t size) {
    if (node) *node = NULL;
    if (log && size) *log = 0;
    return instantiate(out, g);
}
/* Modules can go before the graphs that launch their kernels. */
static bool kernels_loaded(const Graph *g) {
    for (const Queued *q = g->head; q; q = q->next)
        if ((q->kind == OP_KERNEL && !func_loaded(q->func)) ||
            (q->kind == OP_GRAPH && !kernels_loaded(q->graph)))
            return false;
    return true;
}
API cuGraphLaunch(Graph *e, void *handle) {
    int r = ready();
    Stream *s = stream_of(handle);
    if (r) return r;
    if (!s || !is_handle(e, AN_EXEC)) return INVALID_VALUE;
    if (!kernels_loaded(e)) return INVALID_HANDLE;
    return enqueue(s, (Queued){.kind = OP_GRAPH, .graph = e});
}
API cuGraphUpload(Graph *e, void *handle) {
    return !is_handle(e, AN_EXEC) || !stream_of(handle) ? INVALID_VALUE : ready();
}
API cuGraphGetNodes(Graph *g, void **nodes, size_t *count) {
    if (!count || !is_handle(g, A_GRAPH)) return INVALID_VALUE;
    size_t n = 0;
    for (Queued *q = g->head; nodes && q && n < *count; q = q->next) nodes[n++] = q;
    *count = nodes ? n : g->nodes;
    return ready();
}
API cuGraphExecDestroy(Graph *e) {
    int r = ready();
    if (r) return r;
    if (!is_handle(e, AN_EXEC)) return INVALID_VALUE;
    r = finish_all();
    graph_free(e);
    return r;
}
API cuGraphDestroy(Graph *g) {
    int r = ready();
    if (r) return r;
    if (!is_handle(g, A_GRAPH) || g->child) return INVALID_VALUE;
    graph_free(g);
    return OK;
}
