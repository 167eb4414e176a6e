/* Capture of streams into graphs, and their launch. */
#include "driver.h"
#include <stdlib.h>
#include <string.h>

static void free_graph(Graph *g) {
    for (Queued *q = g->head, *n; q; q = n) {
        n = q->next;
        free(q->params);
        free(q);
    }
    g->magic = 0;
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
    *g = (Graph){.magic = MAGIC_GRAPH};
    g->tail = &g->head;
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
    s->capture = NULL;
    s->origin = false;
    if (g->invalid) {
        free_graph(g);
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

static int instantiate(Graph **out, Graph *g) {
    int r = ready();
    if (r) return r;
    if (!out || !g || g->magic != MAGIC_GRAPH) return INVALID_VALUE;
    Graph *e = calloc(1, sizeof *e);
    if (!e) return OUT_OF_MEMORY;
    *e = (Graph){.magic = MAGIC_EXEC, .nodes = g->nodes};
    e->tail = &e->head;
    for (const Queued *q = g->head; q; q = q->next) {
        Queued *n = malloc(sizeof *n);
        if (!n) abort();
        *n = *q;
        n->next = NULL;
        if (q->params) {
            if (!(n->params = malloc(q->func->param_bytes + 16))) abort();
            memcpy(n->params, q->params, q->func->param_bytes);
        }
        *e->tail = n;
        e->tail = &n->next;
    }
    *out = e;
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
API cuGraphLaunch(Graph *e, void *handle) {
    int r = ready();
    Stream *s = stream_of(handle);
    if (r) return r;
    if (!s || !e || e->magic != MAGIC_EXEC) return INVALID_VALUE;
    return enqueue(s, (Queued){.kind = OP_GRAPH, .graph = e});
}
API cuGraphUpload(Graph *e, void *handle) {
    return !e || e->magic != MAGIC_EXEC || !stream_of(handle) ? INVALID_VALUE : ready();
}
API cuGraphGetNodes(Graph *g, void **nodes, size_t *count) {
    if (!g || !count || g->magic != MAGIC_GRAPH) return INVALID_VALUE;
    if (nodes) return NOT_SUPPORTED;
    *count = g->nodes;
    return ready();
}
API cuGraphExecDestroy(Graph *e) {
    int r = ready();
    if (r) return r;
    if (!e || e->magic != MAGIC_EXEC) return INVALID_VALUE;
    r = finish_all();
    free_graph(e);
    return r;
}
API cuGraphDestroy(Graph *g) {
    int r = ready();
    if (r) return r;
    if (!g || g->magic != MAGIC_GRAPH) return INVALID_VALUE;
    free_graph(g);
    return OK;
}
