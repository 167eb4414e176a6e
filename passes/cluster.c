/* Clusters of row ops, grown greedily.
 *
 * Every row op starts as a cluster of its own. From the last to the first, each joins its readers', the
 * nearest first: a value is computed where it is used rather than long before. Then clusters that read the
 * same full value join, so that it is read once. Two clusters join only if nothing outside lies on a path
 * between them; bit sets of what is reachable, kept per cluster, answer that. */
#include "cluster.h"

#include <string.h>

/* ---- domains */

Domain row_domain(const Graph *g, const Node *n) {
    bool by_operand = n->op == OP_sum || n->op == OP_max || n->op == OP_pick || n->op == OP_partial_sum;
    const Type *t = val_type(g, by_operand ? n->in[0] : n->out);
    Domain d = {.rank = t->rank ? t->rank - 1 : 0, .n = type_cols(t)};
    for (uint32_t i = 0; i < d.rank; i++) d.lead[i] = t->dim[i];
    return d;
}

bool same_lead(const Domain *a, const Domain *b) {
    return a->rank == b->rank && memcmp(a->lead, b->lead, a->rank * sizeof *a->lead) == 0;
}

bool is_full(const Type *t, const Domain *d) {
    return t->dtype == DT_F32 && t->rank == d->rank + 1 && type_cols(t) > 1 &&
           memcmp(t->dim, d->lead, d->rank * sizeof *d->lead) == 0;
}

/* ---- a partition of the nodes, with what each part can reach */

typedef struct Partition {
    const Graph *g;
    uint32_t words;          /* of a bit set over nodes */
    uint32_t *rep;           /* the node that stands for each node's part */
    uint32_t *next;          /* the next member of the part, in a circle */
    uint64_t *below, *above; /* of a part's rep: nodes outside that depend on it, that it depends on */
    Domain *domain;          /* of a part's rep */
    uint64_t *temp;          /* two bit sets */
} Partition;

static uint64_t *row_of(uint64_t *sets, const Partition *p, uint32_t node) {
    return sets + (size_t)node * p->words;
}
static void set_bit(uint64_t *set, uint32_t i) {
    set[i / 64] |= (uint64_t)1 << i % 64;
}
static void clear_bit(uint64_t *set, uint32_t i) {
    set[i / 64] &= ~((uint64_t)1 << i % 64);
}
static bool has_bit(const uint64_t *set, uint32_t i) {
    return set[i / 64] >> i % 64 & 1;
}
static void unite(uint64_t *into, const uint64_t *set, uint32_t words) {
    for (uint32_t w = 0; w < words; w++) into[w] |= set[w];
}

static Partition singletons(const Graph *g, Arena *scratch) {
    uint32_t n = g->nodes.n;
    Partition p = {.g = g, .words = (n + 63) / 64};
    p.rep = arena_array(scratch, uint32_t, n);
    p.next = arena_array(scratch, uint32_t, n);
    p.temp = arena_array(scratch, uint64_t, 2 * (size_t)p.words);
    p.domain = arena_array(scratch, Domain, n);
    p.below = arena_array(scratch, uint64_t, (size_t)n * p.words);
    p.above = arena_array(scratch, uint64_t, (size_t)n * p.words);
    for (uint32_t i = 0; i < n; i++) {
        const Node *node = &g->nodes.at[i];
        p.rep[i] = p.next[i] = i;
        if (op_info[node->op].flags & ROW) p.domain[i] = row_domain(g, node);
        for (uint32_t k = 0; k < node->nin; k++) {
            uint32_t from = g->values.at[node->in[k]].node;
            unite(row_of(p.above, &p, i), row_of(p.above, &p, from), p.words);
            set_bit(row_of(p.above, &p, i), from);
        }
    }
    for (uint32_t i = n; i-- > 0;) {
        const Node *node = &g->nodes.at[i];
        for (uint32_t k = 0; k < node->nin; k++) {
            uint64_t *below = row_of(p.below, &p, g->values.at[node->in[k]].node);
            unite(below, row_of(p.below, &p, i), p.words);
            set_bit(below, i);
        }
    }
    return p;
}

/* No path leaves a, passes something outside of both, and ends in b. */
static bool direct_only(const Partition *p, uint32_t a, uint32_t b) {
    const uint64_t *below = row_of(p->below, p, a), *above = row_of(p->above, p, b);
    for (uint32_t w = 0; w < p->words; w++)
        if (below[w] & above[w]) return false;
    return true;
}

/* a takes in b. Whoever had one of them above (below) itself now has both there, and all beyond. */
static void join(Partition *p, uint32_t a, uint32_t b) {
    uint32_t swap = p->next[a];
    p->next[a] = p->next[b];
    p->next[b] = swap;
    if (p->domain[a].n == 1) p->domain[a].n = p->domain[b].n;

    uint64_t *down = p->temp, *up = down + p->words; /* below and above the union, and its members */
    memset(p->temp, 0, 2 * p->words * sizeof *p->temp);
    unite(down, row_of(p->below, p, a), p->words), unite(down, row_of(p->below, p, b), p->words);
    unite(up, row_of(p->above, p, a), p->words), unite(up, row_of(p->above, p, b), p->words);
    uint32_t m = a;
    do {
        set_bit(down, m), set_bit(up, m);
        p->rep[m] = a;
    } while ((m = p->next[m]) != a);
    for (uint32_t u = 0; u < p->g->nodes.n; u++) {
        if (p->rep[u] != u || u == a) continue;
        if (has_bit(row_of(p->above, p, a), u) != has_bit(row_of(p->above, p, b), u))
            unite(row_of(p->below, p, u), down, p->words);
        if (has_bit(row_of(p->below, p, a), u) != has_bit(row_of(p->below, p, b), u))
            unite(row_of(p->above, p, u), up, p->words);
    }
    do clear_bit(down, m), clear_bit(up, m);
    while ((m = p->next[m]) != a);
    memcpy(row_of(p->below, p, a), down, p->words * sizeof *down);
    memcpy(row_of(p->above, p, a), up, p->words * sizeof *up);
}

/* ---- growing */

static bool is_row(const Graph *g, uint32_t node) {
    return op_info[g->nodes.at[node].op].flags & ROW;
}

/* A sum over row scalars stays alone: its reader wants all rows, the region it would join works on a few. */
static bool stays_alone(const Graph *g, uint32_t node) {
    const Node *n = &g->nodes.at[node];
    return n->op == OP_partial_sum && type_cols(val_type(g, n->out)) == 1;
}

static void try_join(Partition *p, uint32_t a, uint32_t b) {
    if (!is_row(p->g, a) || !is_row(p->g, b) || stays_alone(p->g, a) || stays_alone(p->g, b)) return;
    a = p->rep[a], b = p->rep[b];
    const Domain *da = &p->domain[a], *db = &p->domain[b];
    if (a == b || !same_lead(da, db) || (da->n != db->n && da->n != 1 && db->n != 1)) return;
    if (direct_only(p, a, b) && direct_only(p, b, a)) join(p, a, b);
}

static void join_readers(Partition *p, const Readers *readers) {
    for (uint32_t i = p->g->nodes.n; i-- > 0;) {
        if (!is_row(p->g, i)) continue;
        Val v = p->g->nodes.at[i].out;
        for (uint32_t k = readers->first[v]; k < readers->first[v + 1]; k++) try_join(p, i, readers->at[k]);
    }
}

static bool reads_in_full(const Partition *p, uint32_t node, Val v) {
    return is_row(p->g, node) && is_full(val_type(p->g, v), &p->domain[node]);
}

static void join_siblings(Partition *p, const Readers *readers) {
    for (Val v = 0; v < p->g->values.n; v++) {
        for (uint32_t k = readers->first[v]; k < readers->first[v + 1]; k++) {
            if (!reads_in_full(p, readers->at[k], v)) continue;
            for (uint32_t j = readers->first[v]; j < k; j++)
                if (reads_in_full(p, readers->at[j], v)) try_join(p, readers->at[j], readers->at[k]);
        }
    }
}

uint32_t *cluster_rows(const Graph *g, Arena *scratch, uint32_t *count) {
    Partition p = singletons(g, scratch);
    Readers readers = graph_readers(g, scratch);
    join_readers(&p, &readers);
    join_siblings(&p, &readers);
    uint32_t *cluster = arena_array(scratch, uint32_t, g->nodes.n);
    for (uint32_t i = 0; i < g->nodes.n; i++) cluster[i] = NONE;
    *count = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        if (!is_row(g, i)) continue;
        uint32_t rep = p.rep[i];
        if (cluster[rep] == NONE) cluster[rep] = (*count)++;
        cluster[i] = cluster[rep];
    }
    return cluster;
}
