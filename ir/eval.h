/* Evaluation rules: eval_<op> computes one node's results from its operands. Internal to ir/. */
#ifndef TBC_EVAL_H
#define TBC_EVAL_H

#include "ir.h"

typedef struct Eval {
    const Graph *g;
    const Node *n;
    const Tensor *in;
    Tensor *out; /* types filled, elements zeroed */
    EvalPrecision precision;
    Arena *arena;
    bool bad_index; /* set by eval_index */
} Eval;

typedef void EvalRule(Eval *);
#define OP(name, ...) EvalRule eval_##name;
#include "ops.def"
#undef OP

EvalRule eval_tmatmul_i16; /* eval_i16.c */

/* Precision "bf16", eval_bf16.c. eval_factor: operand i as a factor of the node's products, rounded if the
 * node has that precision, else as it is; eval_rounded: the same for one number. */
bool eval_is_bf16(const Eval *);
double eval_rounded(const Eval *, double);
const double *eval_factor(const Eval *, uint32_t i);

/* Element i of an index tensor; where it is not in 0 .. limit-1, sets e->bad_index and returns -1. */
int64_t eval_index(Eval *e, const Tensor *indices, int64_t i, int64_t limit);

#endif
