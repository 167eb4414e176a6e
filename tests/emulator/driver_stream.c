/* Streams, events, and when work is done: as late as the API allows. Work waits in its stream until something
 * synchronises with it, then runs together with what it depends on: what came before it in its stream, the
 * events it waits for, and the NULL stream's work of before (for that stream: everybody's). */
#include "driver.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static Stream null_stream = {.blocking = true, .tail = &null_stream.head};
static Stream *streams; /* the others */
u64 last_seq;
int sticky;

Stream *stream_of(void *handle) {
    if (!handle || handle == (void *)1 || handle == (void *)2) return &null_stream;
    Stream *s = handle;
    for (Stream *t = streams; t; t = t->next)
        if (t == s) return s;
    return NULL;
}

static bool any_capture(void) {
    for (Stream *s = streams; s; s = s->next)
        if (s->capture && s->blocking) return true;
    return false;
}

static Queued *copy_queued(const Queued *q) {
    Queued *n = malloc(sizeof *n);
    if (!n) abort();
    *n = *q;
    n->next = NULL;
    return n;
}

static void free_queued(Queued *q) {
    free(q->params);
    free(q);
}

int enqueue(Stream *s, Queued q) {
    if (s == &null_stream && any_capture()) {
        free(q.params);
        return CAPTURE_IMPLICIT;
    }
    Queued *n = copy_queued(&q);
    n->seq = ++last_seq;
    if (s->capture) {
        if (n->kind == OP_GRAPH) n->graph = graph_child(n->graph);
        if (s->capture->last) node_after(n, s->capture->last);
        graph_append(s->capture, n);
        return OK;
    }
    *s->tail = n;
    s->tail = &n->next;
    return settings.defer ? OK : finish(s, n->seq);
}

static bool destroyed(Stream *s) { /* an event or a wait may outlive the stream; what it held is done then */
    return s != &null_stream && stream_of(s) != s;
}
bool pending(Stream *s, u64 seq) {
    return !destroyed(s) && s->head && s->head->seq <= seq;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static u8 *place(u64 address, bool host) {
    return host                     ? (u8 *)(uintptr_t)address
           : host_bytes(address, 1) ? (u8 *)(uintptr_t)address
                                    : mem_bytes(address);
}

static int run_copy(const Queued *q) {
    for (u64 r = 0; r < q->rows; r++) {
        u64 dst = q->dst + r * q->dst_pitch, from = q->src + r * q->src_pitch;
        bool dst_device = !q->dst_host && !host_bytes(dst, 1),
             src_device = !q->src_host && !host_bytes(from, 1);
        if ((dst_device && !mem_mapped(dst, q->bytes)) || (src_device && !mem_mapped(from, q->bytes))) {
            char text[160];
            fprintf(
                stderr, "tbc-emulator: error: a copy of %llu bytes uses memory that is not allocated: %s\n",
                (unsigned long long)q->bytes,
                mem_whereabouts(dst_device && !mem_mapped(dst, q->bytes) ? dst : from, text, sizeof text));
            return ERR_ILLEGAL_ADDRESS;
        }
        memmove(place(dst, q->dst_host), place(from, q->src_host), q->bytes);
        if (!dst_device) continue;
        u8 *state = mem_state(dst);
        if (src_device) { /* what was never written stays so */
            const u8 *old = mem_state(from);
            for (u64 k = 0; k < q->bytes; k++) state[k] = (u8)((state[k] & ~ST_INIT) | (old[k] & ST_INIT));
        } else
            for (u64 k = 0; k < q->bytes; k++) state[k] |= ST_INIT;
    }
    return OK;
}

static int run_set(const Queued *q) {
    for (u64 r = 0; r < q->rows; r++) {
        u64 dst = q->dst + r * q->dst_pitch;
        bool host = host_bytes(dst, 1);
        if (!host && !mem_mapped(dst, q->bytes)) {
            fprintf(stderr, "tbc-emulator: error: a memset uses memory that is not allocated\n");
            return ERR_ILLEGAL_ADDRESS;
        }
        u8 *p = place(dst, false);
        for (u64 k = 0; k < q->bytes; k += q->element) memcpy(p + k, &q->value, q->element);
        if (!host)
            for (u64 k = 0; k < q->bytes; k++) mem_state(dst)[k] |= ST_INIT;
    }
    return OK;
}

/* cooperative_groups finds it in %envreg1 and 2: its size, then the word that blocks count in. One for all
 * launches. */
static u64 grid_workspace(void) {
    enum { BYTES = 256 };
    static u64 at;
    if (!at && (at = mem_alloc(BYTES, BYTES))) {
        memset(mem_bytes(at), 0, BYTES);
        memset(mem_state(at), ST_MAPPED | ST_INIT, BYTES);
    }
    return at;
}

static int run_kernel(const Queued *q) {
    static u32 launches;
    Launch *l = calloc(1, sizeof *l);
    if (!l) abort();
    Func func = *q->func; /* with this launch's dynamic shared memory */
    if (func.shared_end < STATIC_SHARED) func.shared_end = STATIC_SHARED;
    if (func.shared_end < q->func->module->shared_next) func.shared_end = q->func->module->shared_next;
    if (func.shared_end == STATIC_SHARED) func.shared_end = DYNAMIC_SHARED + q->dynamic;
    l->func = &func;
    l->module = func.module;
    memcpy(l->grid, q->grid, sizeof l->grid);
    memcpy(l->dim, q->dim, sizeof l->dim);
    l->threads = l->dim[0] * l->dim[1] * l->dim[2];
    l->nwarps = (l->threads + LANES - 1) / LANES;
    l->blocks = (u64)l->grid[0] * l->grid[1] * l->grid[2];
    l->dynamic = q->dynamic;
    l->params = q->params;
    l->cooperative = q->cooperative;
    l->workspace = q->cooperative ? grid_workspace() : 0;
    l->id = ++launches;
    int r = launch_run(l);
    if (settings.trace)
        fprintf(stderr, "tbc-emulator: %s: %llu blocks, %llu warp instructions\n", func.name,
                (unsigned long long)l->blocks, (unsigned long long)l->executed);
    free(l);
    return r;
}

int run_queued(const Queued *q) {
    switch (q->kind) {
    case OP_KERNEL:
        return run_kernel(q);
    case OP_COPY:
        return run_copy(q);
    case OP_SET:
        return run_set(q);
    case OP_RECORD:
        if (is_handle(q->event, AN_EVENT)) q->event->time = now(); /* it may be destroyed by now */
        return OK;
    case OP_WAIT:
    case OP_NOTHING:
        return OK;
    case OP_HOST:
        q->host(q->host_arg);
        return OK;
    case OP_GRAPH:
        for (const Queued *n = q->graph->head; n; n = n->next) {
            int r = run_queued(n);
            if (r) return r;
        }
        return OK;
    }
    return UNKNOWN;
}

int finish(Stream *s, u64 seq) {
    if (destroyed(s)) return sticky;
    while (!sticky && s->head && s->head->seq <= seq) {
        Queued *q = s->head;
        if (s == &null_stream) {
            for (Stream *t = streams; t; t = t->next)
                if (t->blocking) finish(t, q->seq);
        } else if (s->blocking)
            finish(&null_stream, q->seq);
        if (q->kind == OP_WAIT) finish(q->wait_stream, q->wait_seq);
        if (sticky || s->head != q) continue;
        if (!(s->head = q->next)) s->tail = &s->head;
        int r = run_queued(q);
        free_queued(q);
        if (r) sticky = r;
    }
    return sticky;
}

int finish_all(void) {
    for (Stream *s = streams; s; s = s->next) finish(s, last_seq);
    return finish(&null_stream, last_seq);
}

int synchronous(Queued q) {
    bool defer = settings.defer;
    settings.defer = true;
    int r = enqueue(&null_stream, q);
    settings.defer = defer;
    return r ? r : finish(&null_stream, last_seq);
}

static void drop(Stream *s) {
    for (Queued *q = s->head, *n; q; q = n) {
        n = q->next;
        free_queued(q);
    }
    s->head = NULL;
    s->tail = &s->head;
}

static void remove_stream(Stream *s) {
    for (Stream **p = &streams; *p; p = &(*p)->next)
        if (*p == s) {
            *p = s->next;
            break;
        }
    drop(s);
    free(s);
}
void streams_end(const Context *c) {
    drop(&null_stream);
    for (Stream *s = streams, *next; s; s = next) {
        next = s->next;
        if (s->context == c) remove_stream(s);
    }
    sticky = 0;
}
void streams_leave(const Graph *g) {
    for (Stream *s = streams; s; s = s->next)
        if (s->capture == g) s->capture = NULL;
}
static bool being_captured(const Graph *g) {
    for (const Stream *s = streams; s; s = s->next)
        if (s->capture == g) return true;
    return false;
}

/* ---- streams ---- */
API cuStreamCreate(Stream **out, unsigned flags) {
    int r = ready();
    if (r) return r;
    if (!out || flags > 1) return INVALID_VALUE;
    Stream *s = calloc(1, sizeof *s);
    if (!s) return OUT_OF_MEMORY;
    *s = (Stream){.context = current_context(), .blocking = !flags, .next = streams};
    s->tail = &s->head;
    *out = streams = s;
    return OK;
}
API cuStreamCreateWithPriority(Stream **out, unsigned flags, int priority) {
    (void)priority;
    return cuStreamCreate(out, flags);
}
API cuStreamDestroy_v2(Stream *s) {
    int r = ready();
    if (r) return r;
    if (!stream_of(s) || !s) return INVALID_HANDLE;
    finish(s, last_seq); /* the work is still done */
    remove_stream(s);
    return OK;
}
API cuStreamSynchronize(void *handle) {
    int r = ready();
    Stream *s = stream_of(handle);
    if (r) return r;
    if (!s) return INVALID_HANDLE;
    if (s->capture) {
        s->capture->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    return finish(s, last_seq);
}
API cuStreamQuery(void *handle) {
    int r = ready();
    Stream *s = stream_of(handle);
    if (r) return r;
    if (!s) return INVALID_HANDLE;
    if (s->capture) {
        s->capture->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    bool busy = pending(s, last_seq); /* the first question finds it busy, and makes it go on */
    r = finish(s, last_seq);
    return r ? r : busy ? NOT_READY : OK;
}
API cuStreamGetPriority(void *handle, int *priority) {
    if (!stream_of(handle) || !priority) return INVALID_VALUE;
    *priority = 0;
    return ready();
}
API cuStreamGetCtx(void *handle, Context **out) {
    if (!stream_of(handle) || !out) return INVALID_VALUE;
    *out = current_context();
    return ready();
}
API cuStreamGetFlags(void *handle, unsigned *flags) {
    Stream *s = stream_of(handle);
    if (!s || !flags) return INVALID_VALUE;
    *flags = !s->blocking;
    return ready();
}
API cuStreamWaitEvent(void *handle, Event *e, unsigned flags) {
    (void)flags;
    int r = ready();
    Stream *s = stream_of(handle);
    if (r) return r;
    if (!s || !is_handle(e, AN_EVENT)) return INVALID_HANDLE;
    if (e->graph) { /* the stream joins the capture */
        if ((s->capture && s->capture != e->graph) || !being_captured(e->graph)) return CAPTURE_ISOLATION;
        s->capture = e->graph;
        return OK;
    }
    if (s->capture) return CAPTURE_ISOLATION;
    if (!e->recorded) return OK;
    return enqueue(s, (Queued){.kind = OP_WAIT, .wait_stream = e->stream, .wait_seq = e->seq});
}
API cuLaunchHostFunc(void *handle, void (*f)(void *), void *arg) {
    int r = ready();
    Stream *s = stream_of(handle);
    if (r) return r;
    if (!s || !f) return INVALID_VALUE;
    return enqueue(s, (Queued){.kind = OP_HOST, .host = f, .host_arg = arg});
}

/* ---- events ---- */
API cuEventCreate(Event **out, unsigned flags) {
    (void)flags;
    int r = ready();
    if (r) return r;
    if (!out || !(*out = calloc(1, sizeof **out))) return INVALID_VALUE;
    handle_add(*out, AN_EVENT);
    return OK;
}
API cuEventDestroy_v2(Event *e) {
    int r = ready();
    if (r) return r;
    if (!is_handle(e, AN_EVENT)) return INVALID_HANDLE;
    if (e->recorded && e->stream) finish(e->stream, e->seq);
    handle_end(e);
    free(e);
    return OK;
}
API cuEventRecord(Event *e, void *handle) {
    int r = ready();
    Stream *s = stream_of(handle);
    if (r) return r;
    if (!s || !is_handle(e, AN_EVENT)) return INVALID_HANDLE;
    if (s->capture) {
        e->graph = s->capture;
        return OK;
    }
    e->graph = NULL;
    r = enqueue(s, (Queued){.kind = OP_RECORD, .event = e});
    e->stream = s;
    e->seq = last_seq;
    e->recorded = true;
    return r;
}
API cuEventRecordWithFlags(Event *e, void *handle, unsigned flags) {
    return flags > 1 ? INVALID_VALUE : cuEventRecord(e, handle);
}
API cuEventSynchronize(Event *e) {
    int r = ready();
    if (r) return r;
    if (!is_handle(e, AN_EVENT)) return INVALID_HANDLE;
    if (e->graph) return CAPTURED_EVENT;
    return e->recorded ? finish(e->stream, e->seq) : OK;
}
API cuEventQuery(Event *e) {
    int r = ready();
    if (r) return r;
    if (!is_handle(e, AN_EVENT)) return INVALID_HANDLE;
    if (e->graph) return CAPTURED_EVENT;
    if (!e->recorded || !pending(e->stream, e->seq)) return OK;
    r = finish(e->stream, e->seq);
    return r ? r : NOT_READY;
}
API cuEventElapsedTime(float *ms, Event *a, Event *b) {
    int r = ready();
    if (r) return r;
    if (!ms) return INVALID_VALUE;
    if (!is_handle(a, AN_EVENT) || !is_handle(b, AN_EVENT)) return INVALID_HANDLE;
    if (a->graph || b->graph) return CAPTURED_EVENT;
    if (!a->recorded || !b->recorded) return INVALID_HANDLE;
    if (pending(a->stream, a->seq) || pending(b->stream, b->seq)) return NOT_READY;
    *ms = (float)(b->time - a->time);
    return OK;
}
API cuEventElapsedTime_v2(float *ms, Event *a, Event *b) {
    return cuEventElapsedTime(ms, a, b);
}
