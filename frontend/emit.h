/* What build.c (statements, parameters, functions) and emit.c (one function for each spec op) share.
 * Internal to the frontend. */
#ifndef TBC_EMIT_H
#define TBC_EMIT_H

#include "build.h"

#define MAX_ELEMENTS ((int64_t)1 << 40) /* of one tensor */

typedef struct Param {
    const char *name;
    Type type;
    const Json *first; /* the weight key that named it first */
    Val val;           /* in the function being built */
} Param;

/* A name that `let` gave a value; VAL_NONE where an error left it unknown. */
typedef struct Let {
    const char *name;
    Val val;
} Let;

typedef struct Rope {
    double theta;
    int64_t dim, seq;
    Val cos, sin; /* f32[seq,1,dim]; in decode and prefill the rows of their positions */
} Rope;

typedef enum Function { FN_TRAIN, FN_WARMUP, FN_EVAL, FN_DECODE, FN_PREFILL, FN_COUNT } Function;

/* Does the function take the positions from pos on, after what caches hold of those before? */
static inline bool takes_pos(Function fn) {
    return fn == FN_DECODE || fn == FN_PREFILL;
}

typedef struct Builder {
    Spec *spec;
    Module *m;
    Scope scope; /* dims, batch, seq, loop variables */
    VEC(Param) params;
    uint32_t steps; /* statements executed, so that loops end */
    /* of the function being built */
    Function fn;
    int64_t seq; /* its */
    Graph *g; /* NULL: collecting parameters */
    VEC(Let) lets;
    VEC(Rope) ropes;
    int64_t embedded; /* rows of the table that tokens are looked up in, 0: none yet */
    uint32_t caches;  /* attentions so far, in decode and prefill */
    int64_t vocab;    /* classes of the loss, 0: there was none yet */
} Builder;

/* Reports an error at a part of a statement, and marks the statement as failed: one error is enough, also
 * where a loop comes by again. Always VAL_NONE. */
Val stmt_error(Builder *, Stmt *, const Json *at, const char *fmt, ...) TBC_PRINTF(4, 5);
/* The statement's shape key as dims, all above 0 and MAX_ELEMENTS together at most. */
bool stmt_shape(Builder *, Stmt *, uint32_t min_rank, uint32_t max_rank, Type *out);
/* The parameter a statement names, already collected. NULL where that failed. */
Param *stmt_param(Builder *, Stmt *);

/* Appends what the statement computes from args; the result, VAL_NONE after an error. */
Val emit_statement(Builder *, Stmt *, const Val *args);

#endif
