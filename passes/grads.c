/* Gradient rules, one for each name in the `grad` column of ops.def: reverse mode, a few lines each.
 *
 * A rule gets y = op(a, b, ..) and dy and leaves da, db, .. in din. Element-wise rules do not care for
 * broadcasting: autodiff sums over repeated dims afterwards, with grad_unbroadcast. */
#include "pass.h"

/* ---- broadcasting */

Val grad_unbroadcast(Graph *g, Loc loc, Val dy, const Type *to) {
    const Type from = *val_type(g, dy), target = *to; /* copies: adding nodes moves types */
    if (type_equal(&from, &target)) return dy;
    uint32_t pad = from.rank - target.rank, lo = from.rank, hi = from.rank;
    bool repeated[MAX_RANK];
    for (uint32_t i = 0; i < from.rank; i++) {
        repeated[i] = from.dim[i] > 1 && (i < pad || target.dim[i - pad] == 1);
        if (repeated[i] || from.dim[i] == 1) continue;
        if (lo == from.rank) lo = i;
        hi = i + 1;
    }
    if (lo == from.rank) lo = hi = 0; /* nothing kept: all dims are trailing ones */
    int64_t kept = 1, tail = 1;
    for (uint32_t i = lo; i < hi; i++) {
        if (repeated[i]) return VAL_NONE;
        kept *= from.dim[i];
    }
    for (uint32_t i = hi; i < from.rank; i++) tail *= from.dim[i];
    int64_t lead = type_count(&from) / (kept * tail);
    if (tail > 1) {
        Type rows = type_make(DT_F32, 2, (int64_t[]){lead * kept, tail});
        if (type_cols(&from) != tail) dy = ir_reshape(g, loc, dy, &rows);
        dy = ir_unary(g, loc, OP_sum, dy);
    }
    if (lead > 1) {
        Type rows = type_make(DT_F32, 2, (int64_t[]){lead, kept});
        if (type_cols(val_type(g, dy)) != kept) dy = ir_reshape(g, loc, dy, &rows);
        dy = ir_unary(g, loc, OP_sum_rows, dy);
    }
    return ir_reshape(g, loc, dy, &target);
}

/* ---- shorthands */

static Val typed(Graph *g, const Node *n, Op op, Type type, const Val *in, uint32_t nin) {
    return graph_add(g, NULL, NULL, n->loc, op, &type, in, nin, NULL);
}

static Type type_of(const Graph *g, Val v) {
    return *val_type(g, v);
}

static Val mul(Graph *g, const Node *n, Val a, Val b) {
    return ir_binary(g, n->loc, OP_mul, a, b);
}

static Val matmul(Graph *g, const Node *n, Val a, Val b, bool ta, bool tb) {
    return ir_matmul(g, n->loc, a, b, ta, tb);
}

/* ---- leaves, and what stops a gradient */

#define grad_none NULL
static void grad_leaf(Graph *g, const Node *n, Val dy, Val *din) {
    (void)g, (void)n, (void)dy, (void)din;
}
static void grad_zero(Graph *g, const Node *n, Val dy, Val *din) {
    (void)g, (void)n, (void)dy, (void)din;
}

/* ---- element by element */

static void grad_add(Graph *g, const Node *n, Val dy, Val *din) {
    (void)g, (void)n;
    din[0] = din[1] = dy;
}

static void grad_sub(Graph *g, const Node *n, Val dy, Val *din) {
    din[0] = dy;
    din[1] = ir_unary(g, n->loc, OP_neg, dy);
}

/* A square is common, in norms; its two gradients are the same. */
static void grad_mul(Graph *g, const Node *n, Val dy, Val *din) {
    din[0] = mul(g, n, dy, n->in[1]);
    if (n->in[0] == n->in[1])
        din[0] = ir_scale(g, n->loc, din[0], 2);
    else
        din[1] = mul(g, n, dy, n->in[0]);
}

/* y = a/b: da = dy/b, db = -da*y */
static void grad_div(Graph *g, const Node *n, Val dy, Val *din) {
    din[0] = ir_binary(g, n->loc, OP_div, dy, n->in[1]);
    din[1] = ir_unary(g, n->loc, OP_neg, mul(g, n, din[0], n->out));
}

static void grad_neg(Graph *g, const Node *n, Val dy, Val *din) {
    din[0] = ir_unary(g, n->loc, OP_neg, dy);
}

static void grad_scale(Graph *g, const Node *n, Val dy, Val *din) {
    din[0] = ir_scale(g, n->loc, dy, n->attrs.c);
}

static void grad_offset(Graph *g, const Node *n, Val dy, Val *din) {
    (void)g, (void)n;
    din[0] = dy;
}

static void grad_exp(Graph *g, const Node *n, Val dy, Val *din) {
    din[0] = mul(g, n, dy, n->out);
}

static void grad_log(Graph *g, const Node *n, Val dy, Val *din) {
    din[0] = ir_binary(g, n->loc, OP_div, dy, n->in[0]);
}

/* -1/2 y^3 dy */
static void grad_rsqrt(Graph *g, const Node *n, Val dy, Val *din) {
    Val cube = mul(g, n, n->out, mul(g, n, n->out, n->out));
    din[0] = ir_scale(g, n->loc, mul(g, n, dy, cube), -0.5);
}

/* y (1 - y) dy */
static void grad_sigmoid(Graph *g, const Node *n, Val dy, Val *din) {
    Val rest = ir_offset(g, n->loc, ir_unary(g, n->loc, OP_neg, n->out), 1);
    din[0] = mul(g, n, dy, mul(g, n, n->out, rest));
}

static void grad_broadcast(Graph *g, const Node *n, Val dy, Val *din) {
    (void)g, (void)n;
    din[0] = dy;
}

/* ---- rows, views */

/* rotate_half is a quarter turn; its inverse is its transpose. */
static void grad_rotate_half(Graph *g, const Node *n, Val dy, Val *din) {
    din[0] = ir_unary(g, n->loc, OP_neg, ir_unary(g, n->loc, OP_rotate_half, dy));
}

static void grad_sum(Graph *g, const Node *n, Val dy, Val *din) {
    din[0] = typed(g, n, OP_broadcast, type_of(g, n->in[0]), &dy, 1);
}

static void grad_sum_rows(Graph *g, const Node *n, Val dy, Val *din) {
    din[0] = typed(g, n, OP_broadcast, type_of(g, n->in[0]), &dy, 1);
}

static void grad_pick(Graph *g, const Node *n, Val dy, Val *din) {
    din[0] = mul(g, n, typed(g, n, OP_onehot, type_of(g, n->in[0]), &n->in[1], 1), dy);
}

static void grad_reshape(Graph *g, const Node *n, Val dy, Val *din) {
    Type t = type_of(g, n->in[0]);
    din[0] = ir_reshape(g, n->loc, dy, &t);
}

/* ---- weights */

/* The straight-through estimator: the projection counts as the identity, or clipped, as what it is the rounding
 * of: w where |w| <= s, s and -s beyond. */
static void grad_ste(Graph *g, const Node *n, Val dy, Val *din) {
    Val in[3] = {dy, n->in[0], n->in[1]};
    din[1] = n->attrs.clip ? graph_add(g, NULL, NULL, n->loc, OP_ste_clip, NULL, in, 3, NULL) : dy;
}

static void grad_embedding(Graph *g, const Node *n, Val dy, Val *din) {
    Val in[2] = {n->in[0], dy};
    din[1] = typed(g, n, OP_embedding_grad, type_of(g, n->in[1]), in, 2);
}

static Val flat(Graph *g, const Node *n, Val x) {
    Type rows = type_make(DT_F32, 2, (int64_t[]){type_rows(val_type(g, x)), type_cols(val_type(g, x))});
    return ir_reshape(g, n->loc, x, &rows);
}

static void grad_matmul(Graph *g, const Node *n, Val dy, Val *din) {
    Val a = n->in[0], b = n->in[1];
    bool tb = n->attrs.tb;
    if (n->attrs.ta) { /* y = a^T b or a^T b^T */
        Type a_type = type_of(g, a), b_type = type_of(g, b);
        Val da = matmul(g, n, b, dy, tb, true);
        Val db = tb ? matmul(g, n, dy, flat(g, n, a), true, true) : matmul(g, n, a, dy, false, false);
        din[0] = ir_reshape(g, n->loc, da, &a_type);
        din[1] = ir_reshape(g, n->loc, db, &b_type);
    } else { /* y = a b or a b^T */
        din[0] = matmul(g, n, dy, b, false, !tb);
        din[1] = tb ? matmul(g, n, dy, a, true, false) : matmul(g, n, a, dy, true, false);
    }
    if (n->nin == 3) din[2] = dy;
}

/* dy of the output only: autodiff refuses gradients of second results. */
static void grad_attention(Graph *g, const Node *n, Val dy, Val *din) {
    Val delta = ir_unary(g, n->loc, OP_sum, mul(g, n, n->out, dy));
    Val in[6] = {n->in[0], n->in[1], n->in[2], n->out + 1, dy, delta};
    Val dq = graph_add(g, NULL, NULL, n->loc, OP_attention_grad, NULL, in, 6, ATTRS(c, n->attrs.c));
    for (uint32_t i = 0; i < 3; i++) din[i] = dq + i;
}

GradFn *const grad_rules[OP_COUNT] = {
#define OP(name, min, max, results, attrs, optional, flags, shape, grad, ...) grad_##grad,
#include "../ir/ops.def"
#undef OP
};
