/* Clusters: which row ops of a graph are to become one region. */
#ifndef TBC_CLUSTER_H
#define TBC_CLUSTER_H

#include "order.h"

/* The rows a row op works on: rows of n elements under the leading dims. n is 1 where an op has row
 * scalars only; such an op fits rows of any length under its leading dims. */
typedef struct Domain {
    uint32_t rank; /* number of leading dims */
    int64_t lead[MAX_RANK], n;
} Domain;
Domain row_domain(const Graph *, const Node *);
bool same_lead(const Domain *, const Domain *);
/* Is a value of that type one full row (of more than one element) for each row of the domain? */
bool is_full(const Type *, const Domain *);

/* Partitions the row ops of a graph: the cluster, 0 .. *count-1, of each node; NONE for other nodes.
 * Members of a cluster share their leading dims and row length, and no path leaves a cluster and comes
 * back to it, so clusters can become nodes. Memory from `scratch`. */
uint32_t *cluster_rows(const Graph *, Arena *scratch, uint32_t *count);

#endif
