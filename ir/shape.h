/* Type inference: do operands and attributes fit an op, and which types do its results have?
 * Asked by graph_add when a node is built and by the verifier afterwards. Internal to ir/. */
#ifndef TBC_SHAPE_H
#define TBC_SHAPE_H

#include "ir.h"

/* A node, before or after it is in its graph. */
typedef struct NodeShape {
    const Graph *g; /* what the operands are values of */
    Op op;
    const Val *in;
    uint32_t nin;
    const Attrs *attrs;
    const Graph *body; /* regions only, ends in yield */
    const Type *given; /* TYPED ops only */
} NodeShape;

/* Number of results: op_info's, or what a region's body yields. */
uint32_t shape_results(const NodeShape *);
/* Fills out[0 .. shape_results-1]. False, with a text for the user in *why that starts with the op and
 * its operands' types, if anything about the node is wrong. Operand ids must be valid. */
bool shape_infer(const NodeShape *, Type *out, Buf *why);
/* NULL if the type is one that a value can have, else what is wrong with it. */
const char *type_problem(const Type *);
/* NumPy's broadcasting: dims aligned at the end; a 1, or a missing dim, stretches. False if a and b do not
 * fit. out may be a or b. */
bool shape_broadcast(const Type *a, const Type *b, Type *out);

#endif
