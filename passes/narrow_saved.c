/* narrow-saved: what waits in memory for the backward part, or for a product, waits as bf16, where products
 * are rounded to that anyway or options.saved asks for it.
 *
 *     g = tmatmul(x, W)                          g = tmatmul(x, W)
 *     y = region(g) { .. silu .. }               y, g' = region(g) { .. silu .. narrow .. }
 *     ...                                 ->     ...
 *     dg = region(dy, g) { .. }                  dg = region(dy, g') { .. widen .. }
 *
 * So does what a region computes for products that round it to bf16: they read its bf16, and the region
 * yields nothing else where nothing else is read.
 *
 * A forward value is narrowed by the region that computes it, or else by the first that reads all of it, so
 * that this takes no pass over memory of its own; only where there is neither it does. Regions and gradients
 * of weights read bf16 as it is; for the others it is widened just before. Row scalars and single rows stay
 * as they are, and so does what is read before the forward part has ended (chunks of logits).
 *
 * With options.bf16_heads attention is among the products that read bf16, and stores as that itself what only
 * such products read. */
#include "order.h"

#include <stdlib.h>
#include <string.h>

typedef VEC(Val) Vals;

typedef struct Narrow {
    const Graph *g;
    Graph *to;
    bool f32_products, bf16_heads;
    const bool *forward; /* of each node */
    uint32_t *maker;     /* of each value: the node that narrows it, or behind which that is done; NONE */
    bool *waits;         /* of each value: the backward part reads all of it, after the forward part has ended */
    bool *rounded;       /* of each value: nothing reads it as more than bf16; it becomes bf16 itself */
    Val *map;            /* of each value: itself in `to` */
    Val *half, *wide;    /* its bf16, and that widened again; VAL_NONE: not yet */
} Narrow;

/* ---- what is narrowed, and where */

/* Elements of what a region computes for each of its rows. */
static int64_t largest(const Graph *body) {
    int64_t most = 0;
    for (Val v = 0; v < body->values.n; v++) {
        const Type *t = val_type(body, v);
        if (t->dtype == DT_F32 && !val_is(body, v, OP_partial_sum) && type_count(t) > most)
            most = type_count(t);
    }
    return most;
}

/* Does the region, which computes or reads v, go over all of it? */
static bool covers(const Narrow *s, const Node *region, Val v) {
    return region->op == OP_region && type_count(val_type(s->g, v)) == largest(region->body);
}

static bool is_cut(const Graph *g, Val v) {
    for (; op_info[val_node(g, v)->op].flags & VIEW; v = val_node(g, v)->in[0])
        if (val_is(g, v, OP_slice)) return true;
    return false;
}

/* Can views of it as f32 be views of its bf16? Slices of that begin with whole words. */
static bool keeps_views(const Graph *g, Val v) {
    for (; op_info[val_node(g, v)->op].flags & VIEW; v = val_node(g, v)->in[0]) {
        const Type *t = val_type(g, v);
        if (val_is(g, v, OP_slice) && type_count(t) / t->dim[0] % 2 != 0) return false;
    }
    return true;
}

/* Values that the backward part begins to read after the forward part has ended. */
static void find_waiting(const Narrow *s) {
    const Graph *g = s->g;
    uint32_t turn = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (s->forward[i] && n->nout && !(op_info[n->op].flags & (VIEW | SOURCE))) turn = i;
    }
    /* First all that it reads, then without what is read early or in part. */
    for (uint32_t early = 0; early < 2; early++)
        for (uint32_t i = 0; i < g->nodes.n; i++) {
            const Node *n = &g->nodes.at[i];
            for (uint32_t k = 0; !s->forward[i] && !(op_info[n->op].flags & VIEW) && k < n->nin; k++)
                if (!early)
                    s->waits[view_root(g, n->in[k])] = true;
                else if (i < turn || is_cut(g, n->in[k]))
                    s->waits[view_root(g, n->in[k])] = false;
        }
}

static bool is_matrix(const Graph *g, Val v) {
    const Type *t = val_type(g, v);
    return t->dtype == DT_F32 && type_cols(t) > 1 && type_rows(t) > 1;
}

static void find_makers(Narrow *s) {
    const Graph *g = s->g;
    if (has_backward(g)) find_waiting(s);
    for (Val v = 0; v < g->values.n; v++) {
        uint32_t def = g->values.at[v].node;
        s->waits[v] &= s->forward[def] && !(op_info[g->nodes.at[def].op].flags & SOURCE) && is_matrix(g, v);
        s->maker[v] = s->waits[v] ? def : NONE;
    }
    for (uint32_t i = g->nodes.n; i-- > 0;) { /* the first reader is seen last */
        const Node *n = &g->nodes.at[i];
        for (uint32_t k = 0; s->forward[i] && k < n->nin; k++) {
            Val v = view_root(g, n->in[k]);
            uint32_t def = g->values.at[v].node;
            if (s->maker[v] == NONE || covers(s, &g->nodes.at[def], v) || is_cut(g, n->in[k])) continue;
            if (covers(s, n, v)) s->maker[v] = i;
        }
    }
}

static bool is_weight_gradient(const Node *n) {
    return n->op == OP_matmul_adamw || (n->op == OP_matmul && n->attrs.ta && !n->attrs.tb);
}

static bool is_bf16(const Node *n) {
    return n->attrs.set & A(precision) && strcmp(n->attrs.precision, "bf16") == 0;
}

static bool is_attention(const Node *n) {
    return n->op == OP_attention || n->op == OP_attention_grad;
}

/* Does attention know heads as bf16? Units of 8 numbers are copied as they are, from addresses that are
 * multiples of their size, and wide heads are left to units that know f32 only. */
static bool knows_bf16(const Narrow *s, const Node *n) {
    if (!is_attention(n) || !s->bf16_heads) return false;
    int64_t width = type_cols(val_type(s->g, n->in[0]));
    return width % 8 == 0 && width <= 128;
}

/* Does attention read its operand k as bf16? */
static bool reads_heads(const Narrow *s, const Node *n, uint32_t k) {
    bool factor = k < 3 || (n->op == OP_attention_grad && k == 4);
    return factor && knows_bf16(s, n) && !is_cut(s->g, n->in[k]);
}

/* The result that attention, in bf16, can store as that: out, or dv of its gradient; VAL_NONE: none. */
static Val stores_bf16(const Narrow *s, const Node *n) {
    if (!is_bf16(n) || !knows_bf16(s, n)) return VAL_NONE;
    return n->op == OP_attention ? n->out : n->out + 2;
}

/* Does the node, a product, round its operand k to bf16, and may it read it as that? */
static bool rounds(const Narrow *s, const Node *n, uint32_t k) {
    if (!is_bf16(n)) return false;
    if (is_weight_gradient(n)) return k < 2;
    return n->op == OP_tmatmul ? k == 0 : reads_heads(s, n, k);
}

/* The value of the region's body that is v: what it yields, or an arg. */
static Val inner_of(const Narrow *s, const Node *region, Val v) {
    const Graph *body = region->body;
    if (v >= region->out && v < region->out + region->nout)
        return body->nodes.at[body->nodes.n - 1].in[v - region->out];
    for (uint32_t i = 0; i < body->nodes.n; i++) {
        const Node *n = &body->nodes.at[i];
        if (n->op == OP_arg && view_root(s->g, region->in[n->attrs.index]) == v &&
            !is_cut(s->g, region->in[n->attrs.index]))
            return n->out;
    }
    return VAL_NONE;
}

/* What attention reads as bf16 and no region computes, the first region before it narrows that reads all of it. */
static void find_readers(Narrow *s) {
    const Graph *g = s->g;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        for (uint32_t k = 0; is_bf16(n) && k < n->nin; k++) {
            Val v = view_root(g, n->in[k]);
            if (!reads_heads(s, n, k) || s->maker[v] != NONE || !is_matrix(g, v)) continue;
            for (uint32_t r = g->values.at[v].node + 1; r < i && s->maker[v] == NONE; r++)
                if (covers(s, &g->nodes.at[r], v) && inner_of(s, &g->nodes.at[r], v) != VAL_NONE)
                    s->maker[v] = r;
        }
    }
}

/* Results of regions that some products round: bf16 of them is yielded, too, or alone if nothing reads more
 * of them; of attention only alone. */
static void find_rounded(Narrow *s, Arena *scratch) {
    const Graph *g = s->g;
    bool *some = arena_array(scratch, bool, g->values.n), *more = arena_array(scratch, bool, g->values.n);
    for (uint32_t i = g->nodes.n; i-- > 0;) { /* views after their readers */
        const Node *n = &g->nodes.at[i];
        for (uint32_t k = 0; k < n->nin; k++) {
            Val v = n->in[k];
            if (n->op == OP_after && k == 1) continue; /* is waited for, not read */
            bool view = n->op == OP_reshape || (n->op == OP_slice && keeps_views(g, n->out));
            bool saved = !s->forward[i] && s->waits[view_root(g, v)];
            some[v] |= view ? some[n->out] : rounds(s, n, k);
            more[v] |= view ? more[n->out] : !rounds(s, n, k) && !saved;
        }
    }
    for (Val v = 0; v < g->values.n; v++) {
        uint32_t def = g->values.at[v].node;
        const bool region = g->nodes.at[def].op == OP_region;
        const bool attention = !more[v] && stores_bf16(s, &g->nodes.at[def]) == v;
        if (!some[v] || !(region || attention) || !is_matrix(g, v)) continue;
        s->maker[v] = def;
        s->rounded[v] = !more[v];
    }
}

/* ---- building */

static Type bf16_of(const Type *t) {
    Type half = *t;
    half.dtype = DT_BF16;
    return half;
}

/* The region's body, in which args of bf16 operands are widened, rounded results are yielded as bf16, and
 * `narrowed` as bf16, too. */
static Graph *body_of(const Narrow *s, const Node *region, const Val *in, const Vals *narrowed) {
    const Graph *from = region->body;
    Graph *body = graph_new("");
    Val *map = xcalloc(from->values.n, sizeof *map);
    for (uint32_t i = 0; i + 1 < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        if (n->op == OP_arg && val_type(from, n->out)->dtype != val_type(s->to, in[n->attrs.index])->dtype) {
            Type half = bf16_of(val_type(from, n->out));
            Val arg = graph_add(body, NULL, NULL, n->loc, OP_arg, &half, NULL, 0, &n->attrs);
            map[n->out] = ir_unary(body, n->loc, OP_widen, arg);
        } else {
            graph_copy_node(body, from, n, map);
        }
    }
    const Node *yield = &from->nodes.at[from->nodes.n - 1];
    Vals results = {0};
    for (uint32_t i = 0; i < yield->nin; i++) {
        Val result = map[yield->in[i]];
        if (s->rounded[region->out + i]) result = ir_unary(body, yield->loc, OP_narrow, result);
        vec_push(&results, result);
    }
    for (uint32_t i = 0; i < narrowed->n; i++)
        vec_push(&results, ir_unary(body, yield->loc, OP_narrow, map[narrowed->at[i]]));
    graph_add(body, NULL, NULL, yield->loc, OP_yield, NULL, results.at, results.n, NULL);
    vec_free(&results);
    free(map);
    return body;
}

/* Node i, a region, on those operands. What it narrows beside its results are some of them, or operands. */
static void add_region(Narrow *s, uint32_t i, const Val *in) {
    const Node *n = &s->g->nodes.at[i];
    Vals values = {0}, inner = {0};
    for (Val v = 0; v < n->out + n->nout; v++) {
        if (s->maker[v] != i || s->rounded[v] || inner_of(s, n, v) == VAL_NONE) continue;
        vec_push(&values, v);
        vec_push(&inner, inner_of(s, n, v));
    }
    Val out = graph_add_region(s->to, n->loc, in, n->nin, body_of(s, n, in, &inner));
    for (uint32_t r = 0; r < n->nout; r++) {
        s->map[n->out + r] = out + r;
        if (s->rounded[n->out + r]) s->half[n->out + r] = out + r;
    }
    for (uint32_t k = 0; k < values.n; k++) {
        Type half = bf16_of(val_type(s->g, values.at[k]));
        s->half[values.at[k]] = ir_reshape(s->to, n->loc, out + n->nout + k, &half);
    }
    vec_free(&values), vec_free(&inner);
}

/* Attention that stores what products read as bf16. */
static void add_narrow(Narrow *s, const Node *n, const Val *in) {
    Attrs attrs = n->attrs;
    attrs.set |= A(narrow), attrs.narrow = true;
    const Val out = graph_add(s->to, NULL, NULL, n->loc, n->op, NULL, in, n->nin, &attrs);
    for (uint32_t r = 0; r < n->nout; r++) s->map[n->out + r] = out + r;
    s->half[stores_bf16(s, n)] = s->map[stores_bf16(s, n)];
}

/* A region of one op. */
static Val convert(Narrow *s, Loc loc, Op op, Val v) {
    Graph *body = graph_new("");
    Val arg = graph_add(body, NULL, NULL, loc, OP_arg, val_type(s->to, v), NULL, 0, ATTRS(index, 0));
    Val result = ir_unary(body, loc, op, arg);
    graph_add(body, NULL, NULL, loc, OP_yield, NULL, &result, 1, NULL);
    return graph_add_region(s->to, loc, &v, 1, body);
}

static Val half_of(Narrow *s, Val v);

/* Operand k of a view. */
static Val viewed(Narrow *s, const Node *n, uint32_t k) {
    return s->rounded[view_root(s->g, n->in[k])] ? half_of(s, n->in[k]) : s->map[n->in[k]];
}

/* v, or a view of it, as bf16. */
static Val half_of(Narrow *s, Val v) {
    const Node *n = val_node(s->g, v);
    if (s->half[v] != VAL_NONE) return s->half[v];
    Type half = bf16_of(val_type(s->g, v));
    Val in[2] = {half_of(s, n->in[0]), n->nin > 1 ? viewed(s, n, 1) : VAL_NONE};
    if (n->op != OP_reshape)
        return s->half[v] = graph_add(s->to, NULL, NULL, n->loc, n->op, &half, in, n->nin, &n->attrs);
    while (val_is(s->to, in[0], OP_reshape)) in[0] = val_node(s->to, in[0])->in[0];
    return s->half[v] = ir_reshape(s->to, n->loc, in[0], &half);
}

static bool reads_bf16(const Narrow *s, const Node *n, uint32_t k) {
    return n->op == OP_region || (is_weight_gradient(n) && k == 1 && !s->f32_products);
}

/* Operand k of node i, in `to`. */
static Val operand_of(Narrow *s, uint32_t i, uint32_t k) {
    const Node *n = &s->g->nodes.at[i];
    Val v = n->in[k], root = view_root(s->g, v);
    if (rounds(s, n, k) && s->half[root] != VAL_NONE && keeps_views(s->g, v)) return half_of(s, v);
    if (s->forward[i] || !s->waits[root]) return s->map[v];
    if (reads_bf16(s, n, k)) return half_of(s, v);
    if (s->wide[v] == VAL_NONE) s->wide[v] = convert(s, n->loc, OP_widen, half_of(s, v));
    return s->wide[v];
}

static void add_node(Narrow *s, uint32_t i) {
    const Node *n = &s->g->nodes.at[i];
    Val *in = xcalloc(n->nin, sizeof *in);
    bool view = op_info[n->op].flags & VIEW;
    if (view && s->rounded[view_root(s->g, n->out)]) {
        free(in);
        return; /* half_of makes those of bf16 */
    }
    for (uint32_t k = 0; k < n->nin; k++) in[k] = view ? viewed(s, n, k) : operand_of(s, i, k);
    if (n->op == OP_region) {
        add_region(s, i, in);
    } else if (stores_bf16(s, n) != VAL_NONE && s->rounded[stores_bf16(s, n)]) {
        add_narrow(s, n, in);
    } else {
        Val out = graph_copy_on(s->to, s->g, n, in);
        for (uint32_t r = 0; r < n->nout; r++) {
            Val v = n->out + r;
            s->map[v] = out + r;
            if (s->maker[v] == i) s->half[v] = convert(s, n->loc, OP_narrow, s->map[v]);
        }
    }
    free(in);
}

static bool is_wanted(const PassOptions *options, const Graph *g) {
    if (options->saved) return strcmp(options->saved, "bf16") == 0;
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (is_bf16(&g->nodes.at[i])) return true;
    return false;
}

Graph *narrow_graph(PassCtx *ctx, const Graph *from) {
    Graph *g = pass_drop_dead(ctx, from);
    if (!is_wanted(ctx->options, g)) return g;
    Narrow s = {.g = g,
                .to = pass_begin(g),
                .f32_products = ctx->options->f32_products,
                .bf16_heads = ctx->options->bf16_heads,
                .forward = forward_nodes(g, ctx->scratch)};
    s.map = pass_map(ctx, g), s.half = pass_map(ctx, g), s.wide = pass_map(ctx, g);
    s.maker = arena_array(ctx->scratch, uint32_t, g->values.n);
    s.waits = arena_array(ctx->scratch, bool, g->values.n);
    s.rounded = arena_array(ctx->scratch, bool, g->values.n);
    find_makers(&s);
    find_rounded(&s, ctx->scratch);
    find_readers(&s);
    for (uint32_t i = 0; i < g->nodes.n; i++) add_node(&s, i);
    graph_free(g);
    return s.to;
}

bool pass_narrow_saved(PassCtx *ctx, Module *m) {
    return pass_each_graph(ctx, m, narrow_graph);
}
