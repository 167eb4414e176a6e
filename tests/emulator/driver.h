/* The driver API as far as it is there: types by value as in NVIDIA's cuda.h (12.x), and what the parts
 * share. */
#ifndef DRIVER_H
#define DRIVER_H
#include "emu.h"
#include "memory.h"
#include "warp.h"

#define API __attribute__((visibility("default"))) int
typedef int CUdevice;
typedef u64 CUdeviceptr;

enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    DEINITIALIZED = 4,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    INVALID_PTX = 218,
    UNSUPPORTED_PTX_VERSION = 222,
    FILE_NOT_FOUND = 301,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    LAUNCH_OUT_OF_RESOURCES = 701,
    CONTEXT_IS_DESTROYED = 709,
    HOST_MEMORY_NOT_REGISTERED = 713,
    HOST_MEMORY_ALREADY_REGISTERED = 712,
    COOPERATIVE_TOO_LARGE = 720,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903,
    CAPTURED_EVENT = 907,
    CAPTURE_ISOLATION = 905,
    CAPTURE_IMPLICIT = 906,
    UNKNOWN = 999
};

typedef struct Context {
    u32 references;
    bool primary;
} Context;
typedef struct Stream Stream;
typedef struct Graph Graph;

typedef enum OpKind2 {
    OP_KERNEL,
    OP_COPY,
    OP_SET,
    OP_RECORD,
    OP_WAIT,
    OP_GRAPH,
    OP_HOST,
    OP_NOTHING
} QueueKind;
typedef struct Queued { /* work that waits in a stream, or a node of a graph */
    struct Queued *next;
    QueueKind kind;
    u64 seq;
    const Func *func;
    u32 grid[3], dim[3], dynamic;
    u8 *params;
    u32 param_bytes;
    bool cooperative;
    /* copies: where host memory is meant the address is the host's */
    u64 dst, src, bytes, rows, dst_pitch, src_pitch;
    bool dst_host, src_host;
    u32 value, element; /* memset: rows of elements */
    struct Event *event;
    Stream *wait_stream; /* OP_WAIT: until this stream has done everything up to wait_seq */
    u64 wait_seq;
    Graph *graph; /* in a stream an instantiated graph; in a graph a child, which belongs to the node */
    void (*host)(void *);
    void *host_arg;
    /* nodes of graphs */
    struct Queued **after; /* those that must be done before */
    u32 nafter;
    bool placed;                 /* in the order of the graph that is being instantiated */
    const struct Queued *origin; /* in a copy of a graph: the node it was made from */
} Queued;

struct Stream {
    Context *context;
    bool blocking; /* synchronises with the NULL stream */
    Queued *head, **tail;
    Graph *capture; /* work goes into a graph */
    bool origin;    /* the capture began here */
    Stream *next;
};
struct Graph {
    Queued *head, *last;
    u32 nodes;
    bool invalid, child; /* child: a node's, which frees it */
};
typedef struct Event {
    Stream *stream;
    u64 seq;
    bool recorded;
    Graph *graph;
    double time;
} Event;
/* driver_handles.c: handles of these kinds; streams and modules are in lists of their own */
enum { A_CONTEXT = 1, A_GRAPH, AN_EXEC, A_NODE, AN_EVENT, A_POOL };
void handle_add(const void *p, u32 kind);
bool is_handle(const void *p, u32 kind); /* alive, and of this kind */
void handle_end(const void *p);

extern int sticky; /* the context is lost: every call returns this */
int ready(void);   /* initialised, a context current, nothing sticky */
Context *current_context(void);
int device_ok(CUdevice d);
Stream *stream_of(void *handle);  /* NULL for something that is none */
int enqueue(Stream *s, Queued q); /* copies q; takes over q.params */
int finish(Stream *s, u64 seq);   /* runs what the stream holds up to seq, and what that waits for */
int finish_all(void);
int synchronous(Queued q); /* on the NULL stream, done when it returns */
int run_queued(const Queued *q);
void graph_append(Graph *g, Queued *node);
void node_after(Queued *node, Queued *before);
Graph *graph_clone(const Graph *g);
Graph *graph_child(const Graph *g); /* a copy for a node */
void graph_free(Graph *g);
Queued *graph_find(const Graph *g,
                   const Queued *origin); /* the node, of a child too, that was made from it */
int kernel_work(Queued *q, const Func *handle, const unsigned g[3], const unsigned b[3], unsigned dynamic,
                void **params, void **extra, bool cooperative); /* a launch, checked; q->params is new */
bool pending(Stream *s, u64 seq);
extern u64 last_seq;
void streams_end(const Context *c); /* with the context they go */
void streams_leave(const Graph *g); /* its capture ends */
void modules_end(const Context *c);
bool func_loaded(const Func *f);
#endif
