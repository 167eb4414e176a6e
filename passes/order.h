/* Orders and storage: what the passes that move nodes about or place values have in common. */
#ifndef TBC_ORDER_H
#define TBC_ORDER_H

#include "pass.h"

#define NONE UINT32_MAX

/* An order of the groups of a graph's nodes in which every group comes after those it reads from.
 * group[i] is the group (below `groups`) of node i; the graph must stay acyclic when groups become nodes.
 * Nodes are visited as they stand, but groups marked `lazy` only when something reads from them, so those
 * that nothing reads are left out. Writes the order's length to *count; memory from `scratch`. */
uint32_t *group_order(const Graph *, const uint32_t *group, uint32_t groups, const bool *lazy, Arena *scratch,
                      uint32_t *count);

/* The operand whose storage result `result` of an INPLACE node takes over; NONE if it has its own. */
uint32_t inplace_operand(const Node *, uint32_t result);

/* The value whose storage v shares by being a view of it. */
Val view_root(const Graph *, Val v);

/* The param or state of that name; VAL_NONE if the function does not declare it. */
Val declared_value(const Graph *, const char *name);

/* May an INPLACE node's `result` be written over `root` (no view)? Not over inputs and tables, and over
 * params and states only on the way to what is stored to them in the end. */
bool may_overwrite(const Graph *, Val root, Val result);

/* How many operands a node reads: of an `after` only the first. */
uint32_t operands_read(const Node *);

/* Has the function a backward part? Then the nodes that its outputs are computed from are its forward part, and the
 * rest is the backward part. Memory from `scratch`. */
bool has_backward(const Graph *);
bool *forward_nodes(const Graph *, Arena *scratch);

/* What pass narrow-saved makes of a function: a new graph. */
Graph *narrow_graph(PassCtx *, const Graph *);

/* The order that pass schedule gives a function, and the graph in it: a new one. */
Graph *schedule_graph(PassCtx *, const Graph *);

/* Readers of values: node read.at[i] for i from read.first[v] up to read.first[v+1], in node order, one
 * entry for each operand. Memory from `scratch`. */
typedef struct Readers {
    const uint32_t *first, *at;
} Readers;
Readers graph_readers(const Graph *, Arena *scratch);

#endif
