/* Passes: one file each, one exported function each, listed in passes.def and run by pass.c. */
#ifndef TBC_PASS_H
#define TBC_PASS_H

#include "../ir/ir.h"

/* How much memory running the module may take. */
typedef struct MemoryBudget {
    int64_t bytes; /* 0: no bound */
    /* Bytes that a planned module needs beside its arena, for kernels' scratch; may be NULL */
    int64_t (*beside)(const Module *, const void *context);
    const void *context;
} MemoryBudget;

typedef struct PassCtx PassCtx;

typedef struct PassOptions {
    bool grads_buffer;       /* --grads buffer: `backward` and `update` instead of a fused `train` */
    const char *precision;   /* of products: "i16" (ternary ones), "bf16"; NULL: f32 */
    const char *saved;       /* for narrow-saved: "f32", "bf16"; NULL: bf16 where products are */
    bool bf16_heads;         /* attention in bf16 reads and stores that in memory */
    bool f32_products;       /* products read no bf16 from memory: for targets where those in f32 are slow at that */
    bool f32_decode;         /* i16 leaves out decode: for targets whose kernels for a row do not round */
    int64_t update_block;    /* fuse-update: columns of its blocks, within which groups must lie; 0: any do */
    int64_t logits_bytes;    /* aim for one chunk of logits in fuse-loss; 0: 16 MiB */
    int64_t most_parts;      /* of a very long sum_rows in fuse, each a tile of a region; 0: 32 */
    MemoryBudget memory;     /* for recompute */
    /* Told in words what recompute did, if anything, before the dump; may be NULL. False after a reported error. */
    bool (*recomputed)(PassCtx *, Module *, const char *what);
    /* driver */
    const char *dump_dir;    /* NN-PASS.tir of each pass, NULL: none */
    const char *const *print_after; /* pass names, NULL-terminated, may be NULL */
    const char *stop_after;  /* pass name or NULL */
    bool time;               /* a table of times on stderr */
    bool verify;             /* after every pass */
} PassOptions;

struct PassCtx {
    Diag *diag;
    const PassOptions *options;
    const Module *module; /* the module being transformed: file names for diagnostics */
    Arena *scratch;       /* emptied after each pass */
};

/* A pass replaces graphs of the module. False: a diagnostic was reported, the module is unusable. */
typedef bool PassFn(PassCtx *, Module *);
#define PASS(fn, ...) PassFn pass_##fn;
#include "passes.def"
#undef PASS

typedef struct PassInfo {
    const char *name;
    PassFn *run;
    uint32_t needs, gives, breaks;
    const char *help;
} PassInfo;
extern const PassInfo pass_info[];
extern const uint32_t pass_count;
const PassInfo *pass_find(const char *name); /* NULL if there is none */

/* Runs the whole pipeline, or the named passes in the given order. With options.dump_dir the module is
 * also written before the first pass, as 00-frontend.tir. False after a reported error. */
bool passes_run(Module *, Diag *, const PassOptions *, const PassInfo *const *passes, uint32_t n);
bool passes_run_all(Module *, Diag *, const PassOptions *);
/* Does the module have what the passes need that give its properties, but for what these break? A text can claim
 * anything. False after reported errors. */
bool passes_consistent(const Module *, Diag *);

/* For passes that rewrite one graph at a time: replaces each graph by fn's result, or fails if that is NULL. */
typedef Graph *GraphFn(PassCtx *, const Graph *);
bool pass_each_graph(PassCtx *, Module *, GraphFn *);

/* Steps that graph passes share. pass_begin: an empty graph with the name and attributes of `from`.
 * pass_map: the map that graph_copy_node fills, VAL_NONE for each value of `from`; scratch memory.
 * pass_drop_dead (dce.c): a copy of the graph without the nodes that no sink needs. Parameters, states
 * and inputs stay, so that all functions declare the same storage in the same order. */
Graph *pass_begin(const Graph *from);
Val *pass_map(PassCtx *, const Graph *from);
Graph *pass_drop_dead(PassCtx *, const Graph *);

/* Is the function differentiated and does it get an optimizer: @train, or @warmup? */
bool pass_trains(const Graph *);

/* Gradient rules, grads.c. For node n (a copy: g grows) with operands and results in g, and the gradient
 * dy of its first result, appends nodes that compute the gradients of its operands into din (left
 * VAL_NONE where there is none). Rules of broadcasting ops leave the result's shape; the caller undoes
 * it with grad_unbroadcast. */
typedef void GradFn(Graph *g, const Node *n, Val dy, Val *din);
extern GradFn *const grad_rules[OP_COUNT]; /* NULL: no rule, an error on a differentiated path */
/* Sums dy over the dims that broadcasting `to` to dy's type repeated. They must be leading or trailing
 * ones; VAL_NONE if a repeated dim stands between kept ones. */
Val grad_unbroadcast(Graph *, Loc, Val dy, const Type *to);

#endif
