/* Storage: which values of a function share memory, and for how long each piece of it is in use. */
#ifndef TBC_STORAGE_H
#define TBC_STORAGE_H

#include "order.h"

/* A piece of memory, known by one of its values, its root. */
typedef struct Block {
    int64_t bytes;
    uint32_t first, last; /* nodes: in use from the first's run until the last's, both included */
    int64_t at;           /* offset in the arena; -1: to be chosen */
} Block;

typedef struct Storage {
    const Graph *g;
    Val *root;      /* of each value: the root of its block */
    int64_t *delta; /* of each value: its offset within the block */
    Val *next;      /* the next value of the same block, in a circle */
    Block *block;   /* by root */
} Storage;

/* Finds the blocks of a scheduled function. at[v] is the offset of persistent values (params, states,
 * tables), -1 of others. Memory from `scratch`. */
Storage storage_of(const Graph *, const int64_t *at, Arena *scratch);

/* May result `result` of a region be written where operand `operand` stands, if nobody else reads that? It
 * may if both have the type of the region's full rows, or of its row scalars. Kernels of regions keep to
 * this: rows are independent; within a row, picks and all but the last sweep over the columns come before
 * any result is written, and in the last sweep columns are read before they are written, together with
 * their partners under rotate_half. */
bool region_takes_over(const Node *region, uint32_t operand, uint32_t result);

#endif
