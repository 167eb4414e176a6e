/* The IR: one typed SSA graph per function, a module of a few functions.
 *
 *   Module  "train", "eval", "decode" ... and the files their locations point into
 *   Graph   nodes in execution order; values by 32-bit id
 *   Node    op, operands, attributes, results, sometimes a body (regions)
 *
 * Passes do not edit a graph: they build a new one from the old, node by node, so ids are dense and in
 * definition order, and print -> parse -> print is the identity at every level.
 *
 * Everything in a graph lives in the graph's arena; graph_free frees it, bodies included. */
#ifndef TBC_IR_H
#define TBC_IR_H

#include "base.h"
#include "diag.h"

#define MAX_RANK 4

typedef enum DType {
    DT_F32,
    DT_I32,
    DT_T2,   /* ternary: packed 2-bit codes plus one f16 scale per group, see ternary_layout */
    DT_BF16, /* the upper half of an f32: moments, and what narrow makes */
    DT_COUNT
} DType;

typedef struct Type {
    DType dtype;
    uint32_t group; /* DT_T2 only, else 0 */
    uint32_t rank;  /* 0 .. MAX_RANK */
    int64_t dim[MAX_RANK];
} Type;

Type type_make(DType, uint32_t rank, const int64_t *dim);
bool type_equal(const Type *, const Type *);
int64_t type_count(const Type *); /* number of elements */
int64_t type_rows(const Type *);  /* product of all dims but the last; 1 for rank 0 and 1 */
int64_t type_cols(const Type *);  /* last dim; 1 for rank 0 */
int64_t type_bytes(const Type *); /* storage, t2 codes and scales included */

/* Storage of t2[.., cols] with `rows` rows: row r's codes start at byte r*row_bytes, weight j in bits
 * 2(j%4)..2(j%4)+1 of byte j/4 as code+1 (0, 1 or 2; padding is 1); row r's scales are
 * ceil(cols/group) f16 from byte scales_at + r*groups*2. row_bytes is a multiple of 4, scales_at of 64. */
typedef struct TernaryLayout {
    int64_t row_bytes, groups, scales_at, bytes;
} TernaryLayout;
TernaryLayout ternary_layout(int64_t rows, int64_t cols, int64_t group);

typedef uint32_t Val; /* id of a value within its graph */
#define VAL_NONE UINT32_MAX

/* ---- ops and attributes, from the tables */

typedef enum Op {
#define OP(name, ...) OP_##name,
#include "ops.def"
#undef OP
    OP_COUNT
} Op;

enum AttrBit {
#define ATTR(name, kind, help) ATTR_INDEX_##name,
#include "attrs.def"
#undef ATTR
    ATTR_COUNT
};
#define A(name) (1u << ATTR_INDEX_##name)
extern const char *const attr_name[ATTR_COUNT];

typedef int64_t attr_i64;
typedef double attr_f64;
typedef bool attr_bool;
typedef const char *attr_str; /* in the graph's arena */
typedef struct Attrs {
    uint32_t set; /* which of the fields are present: A(name) bits */
#define ATTR(name, kind, help) attr_##kind name;
#include "attrs.def"
#undef ATTR
} Attrs;
/* ATTRS(name, "loss"), ATTRS(c, 0.5): an Attrs with one field present. */
#define ATTRS(field, value) (&(Attrs){.set = A(field), .field = (value)})

enum OpFlags { EW = 1, ROW = 2, TYPED = 4, SOURCE = 8, SINK = 16, VIEW = 32, INPLACE = 64 };

typedef struct OpInfo {
    const char *name;
    int min, max, results; /* see ops.def */
    uint32_t attrs, optional, flags;
    const char *shape, *grad, *cost, *help;
} OpInfo;
extern const OpInfo op_info[OP_COUNT];
bool op_from_name(const char *name, Op *out);

/* ---- graphs */

typedef struct Graph Graph;

typedef struct Node {
    Op op;
    uint32_t nin, nout;
    const Val *in;
    Val out; /* results are out .. out+nout-1 */
    Attrs attrs;
    Graph *body; /* regions only */
    Loc loc;
} Node;

typedef struct Value {
    Type type;
    uint32_t node, result; /* defining node, and which of its results */
    int64_t offset;        /* bytes from the arena's start once memory is planned, else -1 */
} Value;

struct Graph {
    Arena *arena;
    const char *name; /* "train", "eval", "decode", "backward", "update"; regions' bodies: "" */
    Attrs attrs;      /* of a function: AdamW's beta1, beta2, eps on "train" */
    VEC(Node) nodes;
    VEC(Value) values;
};

/* What holds of a module; passes need, give and break these. Printed by name. */
typedef enum Prop {
#define PROP(name, help) PROP_##name,
#include "props.def"
#undef PROP
    PROP_COUNT
} Prop;
#define P(name) (1u << PROP_##name)
extern const char *const prop_name[PROP_COUNT];

typedef struct Module {
    Arena *arena;
    uint32_t props;           /* P(..) bits */
    const char *meta;         /* one JSON object that travels into train.so; "{}" at least */
    VEC(const char *) files;  /* what Loc.file indexes */
    VEC(Graph *) graphs;
    int64_t arena_bytes;      /* memory the functions need in all, once planned, else -1 */
} Module;

Module *module_new(void);
void module_free(Module *);
Graph *module_graph(const Module *, const char *name); /* NULL if there is none */

Graph *graph_new(const char *name);
void graph_free(Graph *);

/* Appends a node and infers its result types. `type` is needed for TYPED ops and ignored for others;
 * attrs may be NULL. Strings in attrs are copied. Returns the first result (VAL_NONE for sinks).
 * If the operands do not fit, reports through `diag` at `loc` (file name from `m`, may be NULL) and
 * returns VAL_NONE; with diag NULL that is a compiler bug and ends in ice(). */
Val graph_add(Graph *, const Module *m, Diag *, Loc loc, Op, const Type *type, const Val *in, uint32_t nin,
              const Attrs *attrs);
/* Appends a region around `body`, which it takes over. Result i has the type of the i-th yielded value. */
Val graph_add_region(Graph *, Loc loc, const Val *in, uint32_t nin, Graph *body);
/* Copies node `n` of graph `from` into `to`, operands through map[old] (indexed by old value id), and
 * fills map for its results. Types are inferred again. Returns the first new result. */
Val graph_copy_node(Graph *to, const Graph *from, const Node *n, Val *map);
/* The same with operands as given: values of `to`, n->nin of them. */
Val graph_copy_on(Graph *to, const Graph *from, const Node *n, const Val *in);

static inline const Type *val_type(const Graph *g, Val v) { return &g->values.at[v].type; }
static inline const Node *val_node(const Graph *g, Val v) { return &g->nodes.at[g->values.at[v].node]; }
static inline bool val_is(const Graph *g, Val v, Op op) { return val_node(g, v)->op == op; }
/* Number of uses of each value as an operand, in an array of values.n from `scratch`. */
uint32_t *graph_uses(const Graph *, Arena *scratch);

/* Shorthands for graph_add that cannot fail on a well-typed graph (ice() if they do). */
Val ir_unary(Graph *, Loc, Op, Val);
Val ir_binary(Graph *, Loc, Op, Val, Val);
Val ir_scale(Graph *, Loc, Val, double c);
Val ir_offset(Graph *, Loc, Val, double c);
Val ir_splat(Graph *, Loc, const Type *, double c);
Val ir_reshape(Graph *, Loc, Val, const Type *); /* v itself where the type is the same */
Val ir_matmul(Graph *, Loc, Val a, Val b, bool ta, bool tb);

/* ---- checking, text, evaluation, cost */

/* Checks ids, order, operand counts, attributes, types, bodies, and planned offsets. A region's body
 * consists of row ops (which with the property `regions` stand nowhere else), arg, splat and one yield at
 * its end; its f32 values broadcast to one shape, its rows; indices have one element a row; partial sums have
 * the same number of parts and go to yield only.
 * Reports each finding through diag; true if there was none. */
bool verify(const Module *, Diag *);
bool verify_graph(const Module *, const Graph *, Diag *);

/* The text form, .tir. Grammar in ir/README.md. Doubles print shortest-exact. */
void print_module(const Module *, Buf *);
void print_graph(const Graph *, Buf *);
void print_type(const Type *, Buf *);
/* Parses and verifies a whole module. The text ends at its first NUL; file (may be NULL) is for messages
 * only. NULL after errors reported through diag. */
Module *parse_module(const char *text, const char *file, Diag *);

/* The interpreter. A tensor holds its elements as doubles; t2 tensors hold code*scale of each element. */
typedef struct Tensor {
    Type type;
    double *at;
} Tensor;
typedef struct Binding {
    const char *name; /* of an input, param, state (read), or an output, param, state (written) */
    Tensor tensor;
} Binding;
typedef enum EvalPrecision { EVAL_F64, EVAL_F32 } EvalPrecision; /* F32 rounds every result to float */
/* Runs graph g. `in` binds every input, param and state by name. Results of output and store sinks are
 * appended to *out as (name, tensor) in order; memory is the arena's. False, with a message through
 * diag, if a binding is missing or has another type, or if an index (of an embedding, pick, ..) is out of
 * range. */
typedef VEC(Binding) Bindings;
bool eval_graph(const Graph *g, EvalPrecision, const Binding *in, uint32_t nin, Arena *, Bindings *out, Diag *);
/* One node on given operands; results allocated in the arena. The rule behind eval_graph. Not for input,
 * param, state and arg, which have no value of their own. An index out of range reads as NaN, or is skipped. */
void eval_node(const Graph *g, const Node *n, EvalPrecision, const Tensor *in, Tensor *out, Arena *);
/* Absmean projection of one group: n weights (f32 values) to codes; returns the f16 scale as its exact
 * float value. DESIGN section 1. */
float ternary_group(const float *w, int64_t n, int8_t *codes);
/* tmatmul with precision "i16" quantises each row of activations by blocks of so many steps of k, beginning
 * anew at each group of weights (that is: i16_block(group) of them), to -I16_MAX .. I16_MAX times a scale.
 * Magnitudes below I16_TINY / I16_MAX are lost. eval_i16.c says it exactly. */
enum { I16_BLOCK = 128, I16_MAX = 0x7f7f /* what two signed digits of 8 bits can say */ };
#define I16_TINY 0x1p-100
static inline int64_t i16_block(int64_t group) { return group < I16_BLOCK ? group : I16_BLOCK; }
/* Round to nearest even to f16 and back; overflow gives infinity. */
uint16_t f16_from_f32(float);
float f32_from_f16(uint16_t);
/* Rounds to nearest even to the 8 bits of a bf16; NaN stays. Precision "bf16": eval_bf16.c. */
float bf16_round(float);
/* Random bits of number i under a key, a counter-based generator: two rounds of lowbias32 (Ch. Wellons, "Prospecting
 * for hash functions", 2018). key is of random_key. */
uint32_t random_key(int32_t seed, int32_t step);
uint32_t random_bits(uint32_t key, uint32_t i);
/* Rounds to the next bf16 towards zero or away from it, the nearer the likelier; `random` is of 16 bits. */
float bf16_round_stochastic(float, uint32_t random);

typedef struct Cost {
    int64_t flops; /* multiply and add counted as two */
    int64_t bytes; /* operands read once, results written once */
} Cost;
Cost node_cost(const Graph *, const Node *);

#endif
