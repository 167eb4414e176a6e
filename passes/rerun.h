/* Running parts of the forward computation again in the backward part, so that what they make need not be
 * kept in between: what can be dropped, what that saves and costs, and the graph that does it. */
#ifndef TBC_RERUN_H
#define TBC_RERUN_H

#include "order.h"

/* FLOPs that take as long as moving one byte: the balance of processors from two cores to a GPU is 10 to 20.
 */
#define RERUN_BALANCE 10

/* A scheduled function seen as forward (what outputs are computed from) and backward (the rest). */
typedef struct Rerun {
    const Graph *g;
    Arena *scratch;
    bool *forward;  /* of each node */
    bool *saved;    /* of each value that is no view: forward, and read in the backward part */
    bool *dropped;  /* of each value: it is saved no more */
    bool *wanted;   /* of each value: the backward part computes it again, for readers of it or of others */
    uint32_t *neck; /* of each node: which neck of the forward part it is, if one; NONE */
    uint32_t necks;
    bool *open; /* of each neck, from 1: computing again goes back beyond it; none before and after */
} Rerun;

/* One value dropped after the others, in the order of choice. */
typedef struct Drop {
    Val v;
    int64_t bytes; /* it takes while it is saved */
    int64_t time;  /* to have it again, in bytes moved */
    bool heavy;    /* something runs again for it that computes for longer than it moves bytes */
} Drop;
typedef struct Drops {
    VEC(Drop) at;
} Drops;

Rerun rerun_new(const Graph *scheduled, Arena *scratch);
/* All that can be dropped, what saves most for its time first; of equals the earliest first, whose backward
 * part is the last, when most memory is free again. */
void rerun_rank(Rerun *, Drops *out);
/* The time of a node on a machine of that balance, in bytes moved. */
int64_t rerun_time(const Graph *, const Node *);

/* What runs again, and what that adds to a step. */
typedef struct RerunCost {
    uint32_t nodes[OP_COUNT]; /* of each op */
    Cost cost;
    int64_t time; /* as rerun_time has it */
} RerunCost;
/* The graph in which the first n of the drops are dropped: their readers in the backward part read copies,
 * computed just before the first of them. Each copy hangs on a gradient by an `after`, so that no pass can
 * merge it with the original or move it to the forward part. */
Graph *rerun_build(Rerun *, const Drops *, uint32_t n, RerunCost *);

#endif
