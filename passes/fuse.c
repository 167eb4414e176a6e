/* fuse: row ops become regions. Afterwards every row op lives in a region's body, and the operands of a
 * region are values in memory.
 *
 *     y = add(x, o); r = rsqrt(.. sum(mul(y, y)) ..); h = mul(mul(y, r), w)
 * ->  y, h = region(x, o, w) { .. }
 *
 * Each cluster of row ops (cluster.h) becomes a region that yields what has to be in memory:
 *   - what an op that is no row op reads;
 *   - what another region needs and is not cheap to compute again there. Cheap is a full value computed
 *     from one full value in memory at most: reading that one costs no more than reading the result.
 *     Cheap values are computed again in each region that needs them; row scalars are stored, being tiny.
 *
 * sum_rows(x) is split first: part sums, one for each tile of the region that computes x, and a small
 * sum_rows over those. */
#include "cluster.h"

#include <stdlib.h>

#define PARTS     32             /* partial sums of a long sum_rows */
#define PART_ROWS 64             /* a part has these at least, if there may be more parts */
#define FEW_ROWS  64             /* up to which a plain sum_rows over memory will do */
#define LEAF_NONE VAL_NONE       /* computed from no full value in memory */
#define LEAF_MANY (VAL_NONE - 1) /* from two or more */

static bool is_row(const Graph *g, Val v) {
    return op_info[val_node(g, v)->op].flags & ROW;
}

/* ---- sum_rows */

static Val split_sum(PassCtx *ctx, Graph *to, const Graph *from, const Node *n, const Val *map) {
    const Type *x = val_type(from, n->in[0]);
    bool in_region = is_row(from, n->in[0]) && type_cols(x) > 1;
    if (!in_region && type_rows(x) <= FEW_ROWS) return map[n->in[0]];
    int64_t parts = type_rows(x) / PART_ROWS;
    if (parts > ctx->options->most_parts) parts = ctx->options->most_parts;
    if (parts < PARTS) parts = PARTS;
    if (parts > type_rows(x)) parts = type_rows(x);
    Type partial = type_make(DT_F32, 2, (int64_t[]){parts, type_cols(x)});
    return graph_add(to, NULL, NULL, n->loc, OP_partial_sum, &partial, &map[n->in[0]], 1, NULL);
}

static Graph *split_sums(PassCtx *ctx, const Graph *from) {
    Graph *to = pass_begin(from);
    Val *map = pass_map(ctx, from);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        if (n->op == OP_sum_rows)
            map[n->out] = ir_unary(to, n->loc, OP_sum_rows, split_sum(ctx, to, from, n, map));
        else
            graph_copy_node(to, from, n, map);
    }
    return to;
}

/* ---- what is stored, and what each region computes */

typedef struct Fuse {
    const Graph *from;
    Graph *to;
    Val *map, *inner;            /* from's values in `to`, and in the body being built */
    uint32_t *cluster, clusters; /* of each node; NONE: not a row op */
    Domain *domain;              /* of each cluster, some member's: its leading dims count */
    bool *anchored;              /* of each value: an op that is no row op reads it */
    Val *leaf;                   /* of each row op's value: the full value it is computed from, if just one */
    bool *stored;                /* of each row op's value: some region has it as an operand, or anchored */
    bool *needed;                /* [cluster][value]: as an operand, or computed there */
    VEC(Val) work;               /* values newly stored, whose clusters still have to provide them */
} Fuse;

static uint32_t home(const Fuse *f, Val v) {
    return f->cluster[f->from->values.at[v].node];
}

/* Is v computed in the body of cluster c, rather than read from memory? */
static bool computed_in(const Fuse *f, uint32_t c, Val v) {
    if (val_is(f->from, v, OP_splat)) return true;
    if (!is_row(f->from, v) || home(f, v) == c) return is_row(f->from, v);
    return !f->anchored[v] && f->leaf[v] != LEAF_MANY && is_full(val_type(f->from, v), &f->domain[c]);
}

static Val find_leaf(const Fuse *f, const Node *n) {
    const Graph *g = f->from;
    Domain d = row_domain(g, n);
    Val leaf = LEAF_NONE;
    for (uint32_t k = 0; k < n->nin; k++) {
        Val o = n->in[k];
        if (!is_full(val_type(g, o), &d) || val_is(g, o, OP_splat)) continue;
        if (is_row(g, o) && !f->anchored[o] && f->leaf[o] != LEAF_MANY) o = f->leaf[o];
        if (o == LEAF_NONE || o == leaf) continue;
        leaf = leaf == LEAF_NONE ? o : LEAF_MANY;
    }
    return leaf;
}

static void analyse(Fuse *f) {
    const Graph *g = f->from;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (op_info[n->op].flags & ROW) continue;
        for (uint32_t k = 0; k < n->nin; k++) f->anchored[n->in[k]] = true;
    }
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (f->cluster[i] == NONE) continue;
        f->leaf[n->out] = find_leaf(f, n);
        f->domain[f->cluster[i]] = row_domain(g, n);
    }
}

static void store(Fuse *f, Val v) {
    if (f->stored[v]) return;
    f->stored[v] = true;
    vec_push(&f->work, v);
}

/* Cluster c has v: follows what it is computed from, down to values in memory. */
static void need(Fuse *f, uint32_t c, Val v) {
    bool *needed = &f->needed[(size_t)c * f->from->values.n + v];
    if (*needed) return;
    *needed = true;
    if (computed_in(f, c, v)) {
        const Node *n = val_node(f->from, v);
        for (uint32_t k = 0; k < n->nin; k++) need(f, c, n->in[k]);
    } else if (is_row(f->from, v)) {
        store(f, v);
    }
}

static void find_needs(Fuse *f) {
    for (Val v = 0; v < f->from->values.n; v++)
        if (f->anchored[v] && is_row(f->from, v)) store(f, v);
    for (uint32_t i = 0; i < f->work.n; i++) need(f, home(f, f->work.at[i]), f->work.at[i]);
    vec_free(&f->work);
}

/* ---- building */

typedef VEC(Val) Vals;

static bool has(const Vals *vals, Val v) {
    for (uint32_t i = 0; i < vals->n; i++)
        if (vals->at[i] == v) return true;
    return false;
}

/* The values that cluster c reads from memory, in the order in which its body first reads them: equal
 * layers then get equal bodies, whatever the ids around them, and share a kernel. */
static Vals find_operands(const Fuse *f, uint32_t c) {
    const bool *needed = &f->needed[(size_t)c * f->from->values.n];
    Vals operands = {0};
    for (Val v = 0; v < f->from->values.n; v++) {
        if (!needed[v] || !computed_in(f, c, v)) continue;
        const Node *n = val_node(f->from, v);
        for (uint32_t k = 0; k < n->nin; k++)
            if (!computed_in(f, c, n->in[k]) && !has(&operands, n->in[k])) vec_push(&operands, n->in[k]);
    }
    return operands;
}

static void build_region(Fuse *f, uint32_t c) {
    const Graph *from = f->from;
    const bool *needed = &f->needed[(size_t)c * from->values.n];
    Graph *body = graph_new("");
    Val *inner = f->inner;
    Vals operands = find_operands(f, c), in = {0}, results = {0}, yields = {0};
    Loc loc = {0};
    for (uint32_t i = 0; i < operands.n; i++) {
        Val v = operands.at[i];
        inner[v] = graph_add(body, NULL, NULL, (Loc){0}, OP_arg, val_type(from, v), NULL, 0, ATTRS(index, i));
        vec_push(&in, f->map[v]);
    }
    for (Val v = 0; v < from->values.n; v++) {
        if (!needed[v] || !computed_in(f, c, v)) continue;
        const Node *n = val_node(from, v);
        graph_copy_node(body, from, n, inner);
        if (!is_row(from, v) || home(f, v) != c || !f->stored[v]) continue;
        vec_push(&results, v);
        vec_push(&yields, inner[v]);
        if (!loc.line) loc = n->loc;
    }
    if (results.n) {
        graph_add(body, NULL, NULL, loc, OP_yield, NULL, yields.at, yields.n, NULL);
        Val out = graph_add_region(f->to, loc, in.at, in.n, body);
        for (uint32_t i = 0; i < results.n; i++) f->map[results.at[i]] = out + i;
    } else {
        graph_free(body); /* all of it is computed where it is needed */
    }
    vec_free(&operands);
    vec_free(&in);
    vec_free(&results);
    vec_free(&yields);
}

/* Nodes in their order, regions just before their first reader. */
static void build(Fuse *f, Arena *scratch) {
    const Graph *g = f->from;
    uint32_t groups = f->clusters + g->nodes.n, count;
    uint32_t *group = arena_array(scratch, uint32_t, g->nodes.n);
    bool *lazy = arena_array(scratch, bool, groups);
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        group[i] = f->cluster[i] != NONE ? f->cluster[i] : f->clusters + i;
        lazy[group[i]] = f->cluster[i] != NONE;
    }
    uint32_t *order = group_order(g, group, groups, lazy, scratch, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (order[i] < f->clusters) {
            build_region(f, order[i]);
            continue;
        }
        const Node *n = &g->nodes.at[order[i] - f->clusters];
        if (n->op != OP_splat || f->anchored[n->out]) graph_copy_node(f->to, g, n, f->map);
    }
}

static Graph *fuse_graph(PassCtx *ctx, const Graph *original) {
    Graph *from = split_sums(ctx, original);
    Arena *s = ctx->scratch;
    uint32_t values = from->values.n;
    Fuse f = {.from = from, .to = pass_begin(original), .map = pass_map(ctx, from)};
    f.cluster = cluster_rows(from, s, &f.clusters);
    f.inner = pass_map(ctx, from);
    f.domain = arena_array(s, Domain, f.clusters);
    f.anchored = arena_array(s, bool, values);
    f.leaf = arena_array(s, Val, values);
    f.stored = arena_array(s, bool, values);
    f.needed = arena_array(s, bool, (size_t)f.clusters *values);
    analyse(&f);
    find_needs(&f);
    build(&f, s);
    graph_free(from);
    return f.to;
}

bool pass_fuse(PassCtx *ctx, Module *m) {
    return pass_each_graph(ctx, m, fuse_graph);
}
