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

/* May result `result` of a region be written where operand `operand` stands? True if, for every element,
 * all reads of the operand come before the write: it is read element by element only (not moved by
 * rotate_half or pick), and by nothing that runs in a later sweep over the row than the result. Within a
 * sweep, a kernel reads its operands at an element before it writes results there. */
bool region_takes_over(const Node *region, uint32_t operand, uint32_t result, Arena *scratch);

#endif
