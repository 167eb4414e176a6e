/* A model spec: JSON read, merged and checked, everything but what needs the graph's shapes.
 *
 *     file -> load_tree (extends, Hugging Face config.json) -> spec_check -> build_module (build.h)
 *
 * Specs and all they point to live in the arena of their Sources. */
#ifndef TBC_SPEC_H
#define TBC_SPEC_H

#include "../ir/ir.h"
#include "expr.h"
#include "json.h"

typedef enum SpecOp {
#define SPEC_OP(name, ...) SPEC_##name,
#include "spec_ops.def"
#undef SPEC_OP
    SPEC_OP_COUNT
} SpecOp;

enum SpecKeyBit { KEY_weight = 1, KEY_shape = 2, KEY_eps = 4, KEY_theta = 8, KEY_scale = 16 };
#define K(key)    KEY_##key
#define SPEC_KEYS 5
extern const char *const spec_key[SPEC_KEYS]; /* their names, bit by bit */

typedef struct SpecOpInfo {
    const char *name;
    uint32_t min, max;           /* args */
    uint32_t required, optional; /* K(..) bits */
    const char *args, *help;
} SpecOpInfo;
extern const SpecOpInfo spec_op_info[SPEC_OP_COUNT];

typedef enum StmtKind { STMT_OP, STMT_FOR, STMT_IF } StmtKind;

/* One statement of the graph. Expressions and names stay JSON values: they are evaluated, and found
 * wrong, where they stand. */
typedef struct Stmt Stmt;
struct Stmt {
    StmtKind kind;
    const Json *at;
    Stmt *next;
    /* STMT_OP */
    SpecOp op;
    const char *let; /* NULL for the loss */
    const Json *args[3];
    uint32_t nargs;
    const Json *weight, *shape; /* NULL where the op has none */
    double eps, theta, scale;   /* scale 0: the default */
    /* STMT_FOR: var in 0 .. count-1; STMT_IF: count is the condition */
    const char *var;
    const Json *count;
    Stmt *body, *other;
    bool failed; /* an error was reported: what it computes is unknown, and no error either */
    /* what build_module found out, for pictures: in train it ran so often, and gave this last */
    int64_t runs;
    Type type, weight_type;
};

typedef struct Optimizer {
    double lr, beta1, beta2, eps, weight_decay;
    int64_t warmup;
    bool bias_correction, bf16_moments;
} Optimizer;

typedef struct Const {
    const char *name;
    double value;
} Const;

typedef struct Spec {
    Sources *src;
    const char *name;
    Scope dims; /* of the model; batch and seq are added where the graph is built */
    VEC(Const) consts;
    int64_t batch, seq;
    int64_t group;       /* weights per ternary scale; 0: full precision */
    bool clip;           /* the clipped STE instead of the identity */
    bool lambda_warmup;  /* a function `warmup` beside `train` */
    Optimizer optimizer;
    bool sizes_known;  /* no errors in the above: shapes can be computed */
    const Json *graph; /* for errors */
    Stmt *body;
    const Json *config; /* template of the Hugging Face config.json, or NULL */
} Spec;

typedef struct SpecOptions {
    int64_t batch, seq;  /* replace the spec's; 0: they do not */
    bool full_precision; /* whatever the spec says of ternary weights */
} SpecOptions;

#define MAX_BATCH ((int64_t)1 << 20)
#define MAX_SEQ   ((int64_t)1 << 24)
#define MAX_GROUP ((int64_t)1 << 24)

/* Reads a spec or a Hugging Face config.json. A name without a directory is looked up here, then among
 * the installed models. NULL if there is no graph to go on with after reported errors; other errors are
 * counted in the Sources' diag only. Free with spec_free (the arena stays). */
Spec *spec_load(Sources *, const char *name, const SpecOptions *);
void spec_free(Spec *);

/* The JSON of a spec with its `extends` merged in and a config.json turned into a spec (load.c). */
const Json *load_tree(Sources *, const char *name);
/* A Hugging Face config.json as a spec that extends the built-in qwen3.json (hf.c). NULL after errors. */
const Json *hf_spec(Sources *, const Json *config);

/* The const of that name, or NULL. */
const Const *spec_const(const Spec *, const char *name);

#endif
