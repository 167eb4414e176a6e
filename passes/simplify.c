/* simplify: local identities, until none applies. Results may differ by rounding only.
 *
 *   constants      op(splat..) -> splat; x + c -> offset; x * c, x / c -> scale; scales and offsets merge,
 *                  and scales move to the operand of a product that has fewer elements
 *   signs          neg neg x -> x; x + neg y -> x - y; neg scale x -> scale x
 *   broadcasts     dropped where the other operand has the full shape; sums of them become scales
 *   views          reshape of reshape, slice of slice, identities
 *   take_row       moved before a product, so that one row is multiplied instead of all
 *   accumulation   x + weight gradient -> the gradient's product with x as its sum so far
 *
 * A rule looks at a node whose operands are already simplified and says what to use instead; what it
 * makes goes through the rules again. */
#include "pass.h"

#include <math.h>

typedef struct Simplify {
    PassCtx *ctx;
    Graph *g;       /* under construction */
    bool changed;   /* by this sweep */
    bool drop_stop; /* gradients exist already, so stop has done its work */
} Simplify;

/* A node to be: op, operands (in s->g), attributes and the type of its single result. */
typedef struct Expr {
    Op op;
    Loc loc;
    uint32_t nin;
    const Val *in;
    const Attrs *attrs;
    Type type;
} Expr;

static Val make(Simplify *, const Expr *);

/* ---- looking at and making values */

static const Type *type_of(const Simplify *s, Val v) {
    return val_type(s->g, v);
}
static bool is(const Simplify *s, Val v, Op op) {
    return val_is(s->g, v, op);
}
static Val operand(const Simplify *s, Val v, uint32_t i) {
    return val_node(s->g, v)->in[i];
}
static double constant(const Simplify *s, Val v) {
    return val_node(s->g, v)->attrs.c;
}
static bool has_type(const Simplify *s, Val v, const Type *t) {
    return type_equal(type_of(s, v), t);
}

static Val make_splat(Simplify *s, const Expr *e, double c) {
    return ir_splat(s->g, e->loc, &e->type, c);
}

/* The op on one or two operands, with e's type. */
static Val make_unary(Simplify *s, const Expr *e, Op op, Val a) {
    return make(s, &(Expr){.op = op, .loc = e->loc, .nin = 1, .in = &a, .type = e->type});
}

static Val make_binary(Simplify *s, const Expr *e, Op op, Val a, Val b) {
    return make(s, &(Expr){.op = op, .loc = e->loc, .nin = 2, .in = (Val[]){a, b}, .type = e->type});
}

static Val make_const(Simplify *s, const Expr *e, Op op, Val a, double c) {
    if (!isfinite(c)) return VAL_NONE;
    return make(s,
                &(Expr){.op = op, .loc = e->loc, .nin = 1, .in = &a, .attrs = ATTRS(c, c), .type = e->type});
}

/* ---- constants */

static double fold(Op op, double a, double b, double c) {
    switch (op) {
    case OP_add:
        return a + b;
    case OP_sub:
        return a - b;
    case OP_mul:
        return a * b;
    case OP_div:
        return a / b;
    case OP_neg:
        return -a;
    case OP_scale:
        return c * a;
    case OP_offset:
        return a + c;
    case OP_exp:
        return exp(a);
    case OP_log:
        return log(a);
    case OP_rsqrt:
        return 1 / sqrt(a);
    case OP_sigmoid:
        return 1 / (1 + exp(-a));
    case OP_stop:
    case OP_broadcast:
    case OP_reshape:
    case OP_slice:
        return a;
    default:
        return NAN;
    }
}

/* All operands are splats: a splat, if the result is a finite number. */
static Val fold_constants(Simplify *s, const Expr *e) {
    if (e->nin == 0 || e->nin > 2) return VAL_NONE;
    for (uint32_t i = 0; i < e->nin; i++)
        if (!is(s, e->in[i], OP_splat)) return VAL_NONE;
    double a = constant(s, e->in[0]), b = e->nin > 1 ? constant(s, e->in[1]) : 0;
    double rows = (double)type_rows(type_of(s, e->in[0])), cols = (double)type_cols(type_of(s, e->in[0]));
    double c = e->op == OP_sum        ? a * cols
               : e->op == OP_sum_rows ? a * rows
                                      : fold(e->op, a, b, e->attrs ? e->attrs->c : 0);
    return isfinite(c) ? make_splat(s, e, c) : VAL_NONE;
}

/* ---- element by element */

/* x op splat(c) with x of the result's type. */
static Val with_constant(Simplify *s, const Expr *e, Val x, double c, bool constant_first) {
    if (!has_type(s, x, &e->type)) return VAL_NONE;
    switch (e->op) {
    case OP_add:
        return make_const(s, e, OP_offset, x, c);
    case OP_mul:
        return make_const(s, e, OP_scale, x, c);
    case OP_sub:
        if (constant_first) return make_const(s, e, OP_offset, make_unary(s, e, OP_neg, x), c);
        return make_const(s, e, OP_offset, x, -c);
    case OP_div:
        return constant_first ? VAL_NONE : make_const(s, e, OP_scale, x, 1 / c);
    default:
        return VAL_NONE;
    }
}

/* a + neg b, neg a + b, a - neg b */
static Val with_sign(Simplify *s, const Expr *e) {
    Val a = e->in[0], b = e->in[1];
    if (e->op != OP_add && e->op != OP_sub) return VAL_NONE;
    if (is(s, b, OP_neg)) return make_binary(s, e, e->op == OP_add ? OP_sub : OP_add, a, operand(s, b, 0));
    if (e->op == OP_add && is(s, a, OP_neg)) return make_binary(s, e, OP_sub, b, operand(s, a, 0));
    return VAL_NONE;
}

/* Whether an op on a and b has this type by its own broadcasting. */
static bool stretches(const Simplify *s, Val a, Val b, const Type *to) {
    const Type *types[2] = {type_of(s, a), type_of(s, b)};
    bool same[MAX_RANK] = {0}, deep = false;
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t pad = to->rank - types[k]->rank;
        deep |= pad == 0;
        for (uint32_t i = pad; i < to->rank; i++) same[i] |= types[k]->dim[i - pad] == to->dim[i];
    }
    for (uint32_t i = 0; i < to->rank; i++) deep &= same[i];
    return deep;
}

static Val simplify_binary(Simplify *s, const Expr *e) {
    Val a = e->in[0], b = e->in[1];
    Val v = VAL_NONE;
    if (is(s, b, OP_splat))
        v = with_constant(s, e, a, constant(s, b), false);
    else if (is(s, a, OP_splat))
        v = with_constant(s, e, b, constant(s, a), true);
    if (v != VAL_NONE) return v;
    if (is(s, a, OP_broadcast) && stretches(s, operand(s, a, 0), b, &e->type))
        return make_binary(s, e, e->op, operand(s, a, 0), b);
    if (is(s, b, OP_broadcast) && stretches(s, a, operand(s, b, 0), &e->type))
        return make_binary(s, e, e->op, a, operand(s, b, 0));
    return with_sign(s, e);
}

static Val simplify_neg(Simplify *s, const Expr *e) {
    Val x = e->in[0];
    if (is(s, x, OP_neg)) return operand(s, x, 0);
    if (is(s, x, OP_scale)) return make_const(s, e, OP_scale, operand(s, x, 0), -constant(s, x));
    if (is(s, x, OP_sub)) return make_binary(s, e, OP_sub, operand(s, x, 1), operand(s, x, 0));
    return VAL_NONE;
}

/* c * (a * b), of which a or b is repeated: fewer elements are scaled if that one is. */
static Val scale_narrow(Simplify *s, const Expr *e, Val a, Val b) {
    int64_t na = type_count(type_of(s, a)), nb = type_count(type_of(s, b));
    if (na == nb) return VAL_NONE;
    Val narrow = na < nb ? a : b, wide = na < nb ? b : a;
    Expr scaled = *e;
    scaled.in = &narrow;
    scaled.type = *type_of(s, narrow);
    return make_binary(s, e, OP_mul, make(s, &scaled), wide);
}

static Val simplify_scale(Simplify *s, const Expr *e) {
    Val x = e->in[0];
    double c = e->attrs->c;
    if (c == 1) return x;
    if (c == -1) return make_unary(s, e, OP_neg, x);
    if (is(s, x, OP_scale)) return make_const(s, e, OP_scale, operand(s, x, 0), c * constant(s, x));
    if (is(s, x, OP_neg)) return make_const(s, e, OP_scale, operand(s, x, 0), -c);
    if (is(s, x, OP_mul)) return scale_narrow(s, e, operand(s, x, 0), operand(s, x, 1));
    return VAL_NONE;
}

static Val simplify_offset(Simplify *s, const Expr *e) {
    Val x = e->in[0];
    if (e->attrs->c == 0) return x;
    if (is(s, x, OP_offset))
        return make_const(s, e, OP_offset, operand(s, x, 0), e->attrs->c + constant(s, x));
    return VAL_NONE;
}

/* ---- shapes */

static Val simplify_broadcast(Simplify *s, const Expr *e) {
    Val x = e->in[0];
    if (has_type(s, x, &e->type)) return x;
    return is(s, x, OP_broadcast) ? make_unary(s, e, OP_broadcast, operand(s, x, 0)) : VAL_NONE;
}

/* The sum over n copies of x is n * x, in the shape that the sum has. */
static Val simplify_sum(Simplify *s, const Expr *e) {
    if (!is(s, e->in[0], OP_broadcast)) return VAL_NONE;
    Val x = operand(s, e->in[0], 0);
    const Type wide = *type_of(s, e->in[0]), narrow = *type_of(s, x);
    if (e->op == OP_sum && type_cols(&narrow) == 1)
        return make_const(s, e, OP_scale, make_unary(s, e, OP_broadcast, x), (double)type_cols(&wide));
    if (e->op == OP_sum_rows && has_type(s, x, &e->type))
        return make_const(s, e, OP_scale, x, (double)type_rows(&wide));
    return VAL_NONE;
}

static Val simplify_reshape(Simplify *s, const Expr *e) {
    Val x = e->in[0];
    if (has_type(s, x, &e->type)) return x;
    return is(s, x, OP_reshape) ? make_unary(s, e, OP_reshape, operand(s, x, 0)) : VAL_NONE;
}

static Val simplify_slice(Simplify *s, const Expr *e) {
    Val x = e->in[0];
    if (has_type(s, x, &e->type)) return x;
    if (!is(s, x, OP_slice)) return VAL_NONE;
    Val whole = operand(s, x, 0);
    int64_t begin = e->attrs->begin + val_node(s->g, x)->attrs.begin;
    return make(s, &(Expr){.op = OP_slice,
                           .loc = e->loc,
                           .nin = 1,
                           .in = &whole,
                           .attrs = ATTRS(begin, begin),
                           .type = e->type});
}

/* take_row(matmul(x, w), pos) -> matmul(take_row(x, pos), w) for products row by row. */
static Val simplify_take_row(Simplify *s, const Expr *e) {
    const Node product = *val_node(s->g, e->in[0]);
    if ((product.op != OP_matmul && product.op != OP_tmatmul) || product.nin != 2 || product.attrs.ta)
        return VAL_NONE;
    Expr row = *e;
    row.in = (Val[]){product.in[0], e->in[1]};
    row.type.dim[2] = type_cols(type_of(s, product.in[0]));
    Val in[2] = {make(s, &row), product.in[1]};
    return make(s, &(Expr){.op = product.op,
                           .loc = product.loc,
                           .nin = 2,
                           .in = in,
                           .attrs = &product.attrs,
                           .type = e->type});
}

/* ---- the rules together */

static Val rewrite(Simplify *s, const Expr *e) {
    Val v = fold_constants(s, e);
    if (v != VAL_NONE) return v;
    switch (e->op) {
    case OP_add:
    case OP_sub:
    case OP_mul:
    case OP_div:
        return simplify_binary(s, e);
    case OP_neg:
        return simplify_neg(s, e);
    case OP_scale:
        return simplify_scale(s, e);
    case OP_offset:
        return simplify_offset(s, e);
    case OP_stop:
        return s->drop_stop ? e->in[0] : VAL_NONE;
    case OP_broadcast:
        return simplify_broadcast(s, e);
    case OP_sum:
    case OP_sum_rows:
        return simplify_sum(s, e);
    case OP_reshape:
        return simplify_reshape(s, e);
    case OP_slice:
        return simplify_slice(s, e);
    case OP_take_row:
        return simplify_take_row(s, e);
    default:
        return VAL_NONE;
    }
}

static Val make(Simplify *s, const Expr *e) {
    Val v = rewrite(s, e);
    if (v == VAL_NONE) return graph_add(s->g, NULL, NULL, e->loc, e->op, &e->type, e->in, e->nin, e->attrs);
    s->changed = true;
    return v;
}

/* ---- accumulation */

/* What a sweep does about sums x + y of which y is a weight gradient: y's product starts from x, and the
 * sum is y. Other products stay, so that a residual add joins a row region. */
typedef struct Accumulation {
    Val *start; /* by result of a product: the sum so far that it is to take over, or VAL_NONE */
    Val *same;  /* by result of an add: the value that it becomes, or VAL_NONE */
} Accumulation;

static bool is_weight_gradient(const Node *n) {
    return (n->op == OP_matmul && n->attrs.ta) || n->op == OP_embedding_grad;
}

/* y, or what stands first in the chain of products that y adds up; VAL_NONE if it is no such chain. */
static Val first_product(const Graph *g, const uint32_t *uses, Val y) {
    for (;;) {
        const Node *n = val_node(g, y);
        if (!is_weight_gradient(n) || uses[y] != 1) return VAL_NONE;
        if (n->nin == 2) return y;
        y = n->in[2];
    }
}

/* x may be taken over: it has no other use and storage of its own. */
static bool may_take(const Graph *g, const uint32_t *uses, Val x) {
    const Node *n = val_node(g, x);
    return uses[x] == 1 && (n->op == OP_state || !(op_info[n->op].flags & (SOURCE | VIEW)));
}

static Accumulation find_accumulation(PassCtx *ctx, const Graph *g) {
    Accumulation acc = {pass_map(ctx, g), pass_map(ctx, g)};
    const uint32_t *uses = graph_uses(g, ctx->scratch);
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (n->op != OP_add) continue;
        for (uint32_t k = 0; k < 2; k++) {
            Val x = n->in[k], y = n->in[1 - k], first = first_product(g, uses, y);
            if (first == VAL_NONE || x > first || acc.start[first] != VAL_NONE) continue;
            if (!may_take(g, uses, x) || !type_equal(val_type(g, x), val_type(g, y))) continue;
            acc.start[first] = x;
            acc.same[n->out] = y;
            break;
        }
    }
    return acc;
}

/* The product n, starting from a sum so far. */
static Val start_from(Simplify *s, const Graph *from, const Node *n, const Val *map, Val sum) {
    Val in[3] = {map[n->in[0]], map[n->in[1]], map[sum]};
    s->changed = true;
    return graph_add(s->g, NULL, NULL, n->loc, n->op, val_type(from, n->out), in, 3, &n->attrs);
}

/* ---- the pass */

static Val simplify_node(Simplify *s, const Graph *from, const Node *n, const Val *map) {
    Val *in = arena_array(s->ctx->scratch, Val, n->nin);
    for (uint32_t k = 0; k < n->nin; k++) in[k] = map[n->in[k]];
    return make(s, &(Expr){.op = n->op,
                           .loc = n->loc,
                           .nin = n->nin,
                           .in = in,
                           .attrs = &n->attrs,
                           .type = *val_type(from, n->out)});
}

static Graph *sweep(Simplify *s, const Graph *from) {
    s->g = pass_begin(from);
    s->changed = false;
    Val *map = pass_map(s->ctx, from);
    const Accumulation acc = find_accumulation(s->ctx, from);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        Val v = n->out;
        if (n->nout != 1 || n->body)
            graph_copy_node(s->g, from, n, map);
        else if (acc.same[v] != VAL_NONE)
            map[v] = map[acc.same[v]];
        else if (acc.start[v] != VAL_NONE)
            map[v] = start_from(s, from, n, map, acc.start[v]);
        else
            map[v] = simplify_node(s, from, n, map);
    }
    return s->g;
}

static Graph *simplify_graph(PassCtx *ctx, const Graph *from) {
    Simplify s = {.ctx = ctx, .drop_stop = ctx->module->props & (P(grads) | P(updates))};
    Graph *g = pass_drop_dead(ctx, from); /* dead uses would hide single ones */
    do {
        Graph *swept = sweep(&s, g);
        graph_free(g);
        g = pass_drop_dead(ctx, swept);
        graph_free(swept);
    } while (s.changed);
    return g;
}

bool pass_simplify(PassCtx *ctx, Module *m) {
    return pass_each_graph(ctx, m, simplify_graph);
}
