/* Shape rules: one short function for each name in the `shape` column of ops.def.
 *
 * A rule looks at its operands' types (and at the given type, of TYPED ops) and fills the results'.
 * What does not fit is said in words for users: most shape errors are errors in a model spec. */
#include "shape.h"

#include <math.h>
#include <string.h>

#define MAX_ELEMENTS ((int64_t)1 << 48) /* so that sizes in bytes and FLOP counts stay within int64 */

const char *type_problem(const Type *t) {
    if ((unsigned)t->dtype >= DT_COUNT || t->rank > MAX_RANK) return "is not a type";
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (t->dim[i] < 1) return "has a dim below 1";
        if (t->dim[i] > MAX_ELEMENTS / n) return "has more than 2^48 elements";
        n *= t->dim[i];
    }
    if (t->dtype != DT_T2) return t->group ? "has a group but is not ternary" : NULL;
    if (t->rank != 2) return "is ternary but not a matrix";
    if (t->group < 1 || t->group > INT32_MAX) return "needs a group from 1 to 2147483647";
    return NULL;
}

typedef struct Infer {
    const NodeShape *node;
    Type *out;
    Buf *why;
} Infer;
typedef bool ShapeRule(Infer *);

static const Type *operand(const Infer *s, uint32_t i) {
    return val_type(s->node->g, s->node->in[i]);
}

TBC_PRINTF(2, 3) static bool fail(Infer *s, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(s->why, fmt, ap);
    va_end(ap);
    return false;
}

/* ---- what several rules ask */

static const char *const ordinal[] = {"first", "second", "third", "fourth", "fifth", "sixth", "seventh"};

static bool want(Infer *s, uint32_t i, DType dtype, uint32_t min_rank, uint32_t max_rank) {
    static const char *const dtype_name[] = {"f32", "i32", "ternary (t2)", "bf16"};
    const Type *t = operand(s, i);
    if (t->dtype != dtype) return fail(s, "the %s operand must be %s", ordinal[i], dtype_name[dtype]);
    if (t->rank < min_rank || t->rank > max_rank) {
        if (min_rank == max_rank)
            return fail(s, "the %s operand must have rank %u, not %u", ordinal[i], min_rank, t->rank);
        return fail(s, "the %s operand must have rank %u to %u, not %u", ordinal[i], min_rank, max_rank,
                    t->rank);
    }
    return true;
}

static bool want_f32(Infer *s, uint32_t i, uint32_t min_rank, uint32_t max_rank) {
    return want(s, i, DT_F32, min_rank, max_rank);
}

static bool want_given_f32(Infer *s, uint32_t min_rank) {
    const Type *t = s->node->given;
    if (t->dtype != DT_F32) return fail(s, "the result must be f32");
    if (t->rank < min_rank) return fail(s, "the result must have rank %u at least", min_rank);
    return true;
}

static bool want_same(Infer *s, uint32_t i, const Type *t) {
    if (type_equal(operand(s, i), t)) return true;
    Buf b = {0};
    print_type(t, &b);
    fail(s, "the %s operand must be %s", ordinal[i], b.at);
    buf_free(&b);
    return false;
}

bool shape_broadcast(const Type *a, const Type *b, Type *out) {
    Type result = a->rank >= b->rank ? *a : *b;
    const Type *shorter = a->rank >= b->rank ? b : a;
    for (uint32_t i = 0; i < shorter->rank; i++) {
        int64_t d = shorter->dim[shorter->rank - 1 - i], *r = &result.dim[result.rank - 1 - i];
        if (d != *r && d != 1 && *r != 1) return false;
        if (*r == 1) *r = d;
    }
    *out = result;
    return true;
}

/* t with its last dim replaced. */
static Type with_cols(const Type *t, int64_t cols) {
    Type r = *t;
    r.dim[r.rank - 1] = cols;
    return r;
}

static bool same_trailing(const Type *a, const Type *b) {
    if (a->dtype != b->dtype || a->rank != b->rank) return false;
    for (uint32_t i = 1; i < a->rank; i++) {
        if (a->dim[i] != b->dim[i]) return false;
    }
    return true;
}

/* ---- sources, sinks, regions */

static bool shape_any(Infer *s) {
    const NodeShape *n = s->node;
    if ((n->op == OP_param || n->op == OP_splat) && n->given->dtype != DT_F32)
        return fail(s, "the result must be f32");
    s->out[0] = *n->given;
    return true;
}

static bool shape_rope_table(Infer *s) {
    const Type *t = s->node->given;
    if (t->dtype != DT_F32 || t->rank != 3 || t->dim[1] != 1 || t->dim[2] % 2 != 0)
        return fail(s, "the result must be f32[S,1,D] with an even D");
    if (!(s->node->attrs->theta > 0)) return fail(s, "theta must be above 0");
    s->out[0] = *t;
    return true;
}

static bool shape_sink(Infer *s) {
    (void)s;
    return true;
}

static bool shape_region(Infer *s) {
    const NodeShape *n = s->node;
    const Graph *body = n->body;
    for (uint32_t i = 0; i < body->nodes.n; i++) {
        const Node *arg = &body->nodes.at[i];
        if (arg->op != OP_arg) continue;
        int64_t index = arg->attrs.index;
        if (index < 0 || index >= n->nin)
            return fail(s, "arg %lld of a region with %u operands", (long long)index, n->nin);
        const Type *t = val_type(n->g, n->in[index]);
        if (!type_equal(val_type(body, arg->out), t)) {
            fail(s, "arg %lld has type ", (long long)index);
            print_type(val_type(body, arg->out), s->why);
            buf_printf(s->why, ", the operand ");
            print_type(t, s->why);
            return false;
        }
    }
    const Node *yield = &body->nodes.at[body->nodes.n - 1];
    for (uint32_t i = 0; i < yield->nin; i++) s->out[i] = *val_type(body, yield->in[i]);
    return true;
}

/* ---- element by element */

static bool shape_same(Infer *s) {
    if (!want_f32(s, 0, 0, MAX_RANK)) return false;
    s->out[0] = *operand(s, 0);
    return true;
}

static bool shape_broadcast2(Infer *s) {
    if (!want_f32(s, 0, 0, MAX_RANK) || !want_f32(s, 1, 0, MAX_RANK)) return false;
    return shape_broadcast(operand(s, 0), operand(s, 1), s->out) ||
           fail(s, "shapes do not broadcast (dims aligned at the end must be equal or 1)");
}

static bool shape_broadcast1(Infer *s) {
    if (!want_f32(s, 0, 0, MAX_RANK) || !want_given_f32(s, 0)) return false;
    const Type *t = s->node->given;
    if (!shape_broadcast(operand(s, 0), t, s->out) || !type_equal(s->out, t))
        return fail(s, "the operand does not broadcast to the result");
    return true;
}

static bool shape_narrow(Infer *s) {
    if (!want_f32(s, 0, 0, MAX_RANK)) return false;
    s->out[0] = *operand(s, 0);
    s->out[0].dtype = DT_BF16;
    return true;
}

static bool shape_widen(Infer *s) {
    if (!want(s, 0, DT_BF16, 0, MAX_RANK)) return false;
    s->out[0] = *operand(s, 0);
    s->out[0].dtype = DT_F32;
    return true;
}

/* ---- rows */

static bool shape_rotate_half(Infer *s) {
    if (!want_f32(s, 0, 1, MAX_RANK)) return false;
    int64_t d = type_cols(operand(s, 0));
    if (d % 2) return fail(s, "the last dim, %lld, must be even", (long long)d);
    s->out[0] = *operand(s, 0);
    return true;
}

static bool shape_reduce(Infer *s) {
    if (!want_f32(s, 0, 1, MAX_RANK)) return false;
    s->out[0] = with_cols(operand(s, 0), 1);
    return true;
}

/* One index for each row of x. */
static bool want_indices(Infer *s, uint32_t i, const Type *x) {
    if (!want(s, i, DT_I32, 0, MAX_RANK)) return false;
    long long indices = type_count(operand(s, i)), rows = type_rows(x);
    return indices == rows || fail(s, "%lld indices for %lld rows", indices, rows);
}

static bool shape_pick(Infer *s) {
    return want_f32(s, 0, 1, MAX_RANK) && want_indices(s, 1, operand(s, 0)) && shape_reduce(s);
}

static bool shape_onehot(Infer *s) {
    if (!want_given_f32(s, 1) || !want_indices(s, 0, s->node->given)) return false;
    s->out[0] = *s->node->given;
    return true;
}

static bool shape_sum_rows(Infer *s) {
    if (!want_f32(s, 0, 1, MAX_RANK)) return false;
    s->out[0] = type_make(DT_F32, 1, (int64_t[]){type_cols(operand(s, 0))});
    return true;
}

static bool shape_partial_sum(Infer *s) {
    if (!want_f32(s, 0, 1, MAX_RANK) || !want_given_f32(s, 2)) return false;
    const Type *x = operand(s, 0), *t = s->node->given;
    if (t->rank != 2 || t->dim[1] != type_cols(x) || t->dim[0] > type_rows(x))
        return fail(s, "the result must be f32[p,%lld] with p from 1 to %lld", (long long)type_cols(x),
                    (long long)type_rows(x));
    s->out[0] = *t;
    return true;
}

/* ---- views and copies */

static bool shape_reshape(Infer *s) {
    const Type *x = operand(s, 0), *t = s->node->given;
    if (x->dtype == DT_T2 || x->dtype != t->dtype)
        return fail(s, "the result must have the operand's element type, and not be ternary");
    if (type_count(x) != type_count(t))
        return fail(s, "%lld elements do not fit %lld", (long long)type_count(x), (long long)type_count(t));
    s->out[0] = *t;
    return true;
}

static bool shape_after(Infer *s) {
    s->out[0] = *operand(s, 0);
    return true;
}

/* Rows do not take whole words of 4 bytes each. */
static bool is_packed(const Type *t) {
    return t->dtype == DT_T2 || t->dtype == DT_BF16;
}

static bool shape_slice(Infer *s) {
    const Type *x = operand(s, 0), *t = s->node->given;
    int64_t begin = s->node->attrs->begin;
    if (x->dtype == DT_T2 || x->rank < 1 || !same_trailing(x, t))
        return fail(s, "the result may differ from the operand in the first dim only");
    if (x->dtype == DT_BF16 && type_count(x) / x->dim[0] % 2 != 0)
        return fail(s, "entries of bf16 must be of an even number of elements, whole words");
    if (begin < 0 || begin > x->dim[0] || t->dim[0] > x->dim[0] - begin)
        return fail(s, "%lld entries from %lld on are outside of the operand's %lld", (long long)t->dim[0],
                    (long long)begin, (long long)x->dim[0]);
    s->out[0] = *t;
    return true;
}

static bool shape_concat(Infer *s) {
    Type *out = s->out;
    *out = *operand(s, 0);
    if ((is_packed(out) && s->node->nin > 1) || out->rank < 1)
        return fail(s, "operands must be f32 or i32 of rank 1 at least, or one t2 or bf16");
    for (uint32_t i = 1; i < s->node->nin; i++) {
        if (!same_trailing(operand(s, i), out)) return fail(s, "operands may differ in the first dim only");
        if (operand(s, i)->dim[0] > MAX_ELEMENTS - out->dim[0]) return fail(s, "the result is too large");
        out->dim[0] += operand(s, i)->dim[0];
    }
    return true;
}

/* One position for each of `batch` sequences. */
static bool want_positions(Infer *s, uint32_t i, int64_t batch) {
    if (!want(s, i, DT_I32, 1, 1)) return false;
    long long positions = operand(s, i)->dim[0], sequences = batch;
    return positions == sequences || fail(s, "%lld positions for %lld sequences", positions, sequences);
}

static bool shape_take_row(Infer *s) {
    if (!want_f32(s, 0, 3, 3)) return false;
    const Type *x = operand(s, 0), *t = s->node->given;
    if (!want_positions(s, 1, x->dim[0])) return false;
    if (t->dtype != DT_F32 || t->rank != 3 || t->dim[0] != x->dim[0] || t->dim[2] != x->dim[2] ||
        t->dim[1] < 1 || t->dim[1] > x->dim[1])
        return fail(s, "the result may differ from the operand in having fewer rows only");
    s->out[0] = *t;
    return true;
}

/* ---- ternary weights, embedding */

static bool shape_ternary(Infer *s) {
    if (!want_f32(s, 0, 2, 2)) return false;
    s->out[0] = *operand(s, 0);
    s->out[0].dtype = DT_T2;
    s->out[0].group = (uint32_t)s->node->attrs->group;
    return true;
}

static bool shape_ste(Infer *s) {
    if (!want(s, 0, DT_T2, 2, 2)) return false;
    Type t = type_make(DT_F32, 2, operand(s, 0)->dim);
    if (!want_same(s, 1, &t)) return false;
    s->out[0] = t;
    return true;
}

static bool shape_ste_clip(Infer *s) {
    if (!want_f32(s, 0, 2, 2) || !want(s, 1, DT_T2, 2, 2)) return false;
    Type t = type_make(DT_F32, 2, operand(s, 1)->dim);
    if (!want_same(s, 0, &t) || !want_same(s, 2, &t)) return false;
    s->out[0] = t;
    return true;
}

static bool shape_embedding(Infer *s) {
    if (!want(s, 0, DT_I32, 0, MAX_RANK - 1)) return false;
    if (operand(s, 1)->dtype != DT_T2 && !want_f32(s, 1, 2, 2)) return false;
    Type *out = s->out;
    *out = *operand(s, 0);
    out->dtype = DT_F32;
    out->dim[out->rank++] = type_cols(operand(s, 1));
    return true;
}

static bool shape_embedding_grad(Infer *s) {
    const Type *t = s->node->given;
    if (!want_f32(s, 1, 1, MAX_RANK)) return false;
    if (!want(s, 0, DT_I32, 0, MAX_RANK) || !want_given_f32(s, 2)) return false;
    const Type *dy = operand(s, 1);
    if (type_count(operand(s, 0)) != type_rows(dy))
        return fail(s, "%lld indices for %lld rows", (long long)type_count(operand(s, 0)),
                    (long long)type_rows(dy));
    if (t->rank != 2 || t->dim[1] != type_cols(dy))
        return fail(s, "the result must be f32[V,%lld]", (long long)type_cols(dy));
    if (s->node->nin == 3 && !want_same(s, 2, t)) return false;
    s->out[0] = *t;
    return true;
}

/* ---- matrix products */

static bool product(Infer *s, bool ta, bool tb) {
    const Type *a = operand(s, 0), *b = operand(s, 1);
    int64_t k = ta ? type_rows(a) : type_cols(a);
    int64_t b_rows = type_rows(b), b_cols = type_cols(b);
    int64_t inner = tb ? b_cols : b_rows, n = tb ? b_rows : b_cols;
    if (k != inner) return fail(s, "inner dims %lld and %lld differ", (long long)k, (long long)inner);
    s->out[0] = ta ? type_make(DT_F32, 2, (int64_t[]){type_cols(a), n}) : with_cols(a, n);
    s->out[0].dtype = DT_F32;
    return true;
}

/* The precisions that an op can have stand in `known`. */
static bool want_precision(Infer *s, const char *known) {
    const Attrs *at = s->node->attrs;
    if (!(at->set & A(precision)) || strcmp(at->precision, "bf16") == 0) return true;
    return (strstr(known, "i16") && strcmp(at->precision, "i16") == 0) ||
           fail(s, "precision \"%s\" is not known here (%s)", at->precision, known);
}

/* The rows that a gradient of weights is made from may be saved as bf16. */
static bool want_f32_or_bf16(Infer *s, uint32_t i, uint32_t min_rank, uint32_t max_rank) {
    return want(s, i, operand(s, i)->dtype == DT_BF16 ? DT_BF16 : DT_F32, min_rank, max_rank);
}

/* Operand 0 may be bf16 where the product rounds it to that anyway. */
static bool want_activations(Infer *s) {
    const Attrs *at = s->node->attrs;
    bool rounds = at->set & A(precision) && strcmp(at->precision, "bf16") == 0;
    return rounds ? want_f32_or_bf16(s, 0, 1, MAX_RANK) : want_f32(s, 0, 1, MAX_RANK);
}

static bool shape_matmul(Infer *s) {
    const Attrs *at = s->node->attrs;
    if (!want_precision(s, "bf16")) return false;
    /* With ta alone b is a batch of rows like a; else it is a matrix. */
    bool rows = at->ta && !at->tb;
    if (!(rows ? want_activations(s) : want_f32(s, 0, 1, MAX_RANK)) ||
        !(rows ? want_f32_or_bf16(s, 1, 1, MAX_RANK) : want_f32(s, 1, 2, 2)))
        return false;
    return product(s, at->ta, at->tb) && (s->node->nin < 3 || want_same(s, 2, s->out));
}

static bool shape_tmatmul(Infer *s) {
    const Attrs *at = s->node->attrs;
    return want_precision(s, "i16, bf16") && want_activations(s) && want(s, 1, DT_T2, 2, 2) &&
           product(s, false, at->tb);
}

/* ---- attention */

/* q has a number of heads that is a multiple of k's. */
static bool want_heads(Infer *s) {
    long long heads = operand(s, 0)->dim[2], groups = operand(s, 1)->dim[2];
    return heads % groups == 0 ||
           fail(s, "%lld query heads are not a multiple of %lld key heads", heads, groups);
}

/* Operand i of attention: heads, which a product in bf16 may read as that. */
static bool want_factor(Infer *s, uint32_t i) {
    bool half = s->node->attrs->set & A(precision) && operand(s, i)->dtype == DT_BF16;
    return want(s, i, half ? DT_BF16 : DT_F32, 4, 4);
}

static Type with_dtype(const Type *t, DType dtype) {
    Type other = *t;
    other.dtype = dtype;
    return other;
}

static bool shape_attention(Infer *s) {
    if (!want_precision(s, "bf16")) return false;
    const bool narrow = s->node->attrs->set & A(narrow) && s->node->attrs->narrow;
    if (narrow && !(s->node->attrs->set & A(precision))) return fail(s, "narrow goes with precision bf16");
    for (uint32_t i = 0; i < 3; i++) {
        if (!want_factor(s, i)) return false;
    }
    const Type *q = operand(s, 0), *k = operand(s, 1);
    if (k->dim[0] != q->dim[0] || k->dim[1] != q->dim[1] || k->dim[3] != q->dim[3])
        return fail(s, "q[B,S,H,D] and k[B,S,G,D] must agree in B, S and D");
    Type v = with_dtype(k, operand(s, 2)->dtype);
    if (!want_heads(s) || !want_same(s, 2, &v)) return false;
    s->out[0] = with_dtype(q, narrow ? DT_BF16 : DT_F32);
    s->out[1] = with_dtype(q, DT_F32), s->out[1].dim[3] = 1;
    return true;
}

static bool shape_attention_grad(Infer *s) {
    Type forward[2];
    Infer f = {s->node, forward, s->why};
    if (!shape_attention(&f) || !want_same(s, 3, &forward[1]) || !want_factor(s, 4)) return false;
    const Type dout = with_dtype(&forward[0], operand(s, 4)->dtype);
    if (!want_same(s, 4, &dout) || !want_same(s, 5, &forward[1])) return false;
    for (uint32_t i = 0; i < 3; i++)
        s->out[i] = with_dtype(operand(s, i), i == 2 ? forward[0].dtype : DT_F32);
    return true;
}

static bool shape_cache_row(Infer *s) {
    if (!want_f32(s, 0, 4, 4)) return false;
    const Type *cache = operand(s, 0);
    Type rows = *cache;
    rows.dim[1] = operand(s, 1)->rank == 4 ? operand(s, 1)->dim[1] : 1;
    if (!want_same(s, 1, &rows) || !want_positions(s, 2, cache->dim[0])) return false;
    if (rows.dim[1] < 1 || rows.dim[1] > cache->dim[1])
        return fail(s, "%lld rows for a cache of %lld", (long long)rows.dim[1], (long long)cache->dim[1]);
    s->out[0] = *cache;
    return true;
}

static bool shape_attention_decode(Infer *s) {
    if (!want_f32(s, 0, 4, 4) || !want_f32(s, 1, 4, 4)) return false;
    const Type *q = operand(s, 0), *k = operand(s, 1);
    if (k->dim[0] != q->dim[0] || k->dim[3] != q->dim[3] || q->dim[1] < 1 || q->dim[1] > k->dim[1])
        return fail(s, "q[B,C,H,D] and k[B,S,G,D] must agree in B and D, with C from 1 to S");
    if (!want_heads(s) || !want_same(s, 2, k) || !want_positions(s, 3, q->dim[0])) return false;
    s->out[0] = *q;
    return true;
}

/* ---- optimizer */

/* The moments of w as operands `at` and the next: f32, or bf16 with a key as operand number `key`. Sets the
 * results. */
static bool want_moments(Infer *s, const Type *w, uint32_t at, uint32_t key) {
    const Type pair = type_make(DT_I32, 1, (int64_t[]){2});
    bool bf16 = s->node->nin > key;
    Type moment = *w;
    if (bf16) moment.dtype = DT_BF16;
    s->out[0] = *w;
    s->out[1] = s->out[2] = moment;
    return want_same(s, at, &moment) && want_same(s, at + 1, &moment) && (!bf16 || want_same(s, key, &pair));
}

static bool shape_adamw(Infer *s) {
    if (!want_f32(s, 0, 0, MAX_RANK)) return false;
    const Type *w = operand(s, 0), hyper = type_make(DT_F32, 1, (int64_t[]){4});
    return want_same(s, 1, w) && want_same(s, 4, &hyper) && want_moments(s, w, 2, 5);
}

static bool makes_codes(const NodeShape *n) {
    return n->nin > 6 && val_type(n->g, n->in[6])->dtype == DT_T2;
}

/* The types are those of the three ops in a row; the operands taken over come last, but for hyper. */
static bool shape_matmul_adamw(Infer *s) {
    const Type hyper = type_make(DT_F32, 1, (int64_t[]){4});
    if (!want_precision(s, "bf16") || !want_activations(s) || !want_f32_or_bf16(s, 1, 1, MAX_RANK) ||
        !product(s, true, false))
        return false;
    const Type w = s->out[0];
    bool coded = makes_codes(s->node);
    if (!want_same(s, 2, &w) || !want_same(s, 5, &hyper) || !want_moments(s, &w, 3, coded ? 7 : 6))
        return false;
    if (!coded) return true;
    if (!want(s, 6, DT_T2, 2, 2)) return false;
    Type codes = w;
    codes.dtype = DT_T2, codes.group = operand(s, 6)->group;
    s->out[3] = codes;
    return want_same(s, 6, &codes);
}

/* ---- the driver */

static ShapeRule *const rules[OP_COUNT] = {
#define OP(name, min, max, results, attrs, optional, flags, shape, ...) shape_##shape,
#include "ops.def"
#undef OP
};

uint32_t shape_results(const NodeShape *n) {
    if (n->op == OP_matmul_adamw) return makes_codes(n) ? 4 : 3;
    if (n->op != OP_region) return (uint32_t)op_info[n->op].results;
    return n->body->nodes.n ? n->body->nodes.at[n->body->nodes.n - 1].nin : 0;
}

static bool check_count(Infer *s) {
    const OpInfo *op = &op_info[s->node->op];
    int n = s->node->nin > INT32_MAX ? INT32_MAX : (int)s->node->nin;
    if (n >= op->min && (op->max < 0 || n <= op->max)) return true;
    if (op->max == op->min) return fail(s, "takes %d operand%s, not %d", op->min, op->min == 1 ? "" : "s", n);
    if (op->max < 0) return fail(s, "takes %d operand%s at least", op->min, op->min == 1 ? "" : "s");
    return fail(s, "takes %d to %d operands, not %d", op->min, op->max, n);
}

static bool attr_ok_i64(int64_t v) {
    return v >= 0;
}
static bool attr_ok_f64(double v) {
    return isfinite(v);
}
static bool attr_ok_bool(bool v) {
    return v;
}
static bool attr_ok_str(const char *v) {
    return v && *v;
}

static bool check_attrs(Infer *s) {
    static const char *const rule_i64 = "must not be negative", *const rule_f64 = "must be finite",
                             *const rule_bool = "must be absent when false",
                             *const rule_str = "must not be empty";
    const OpInfo *op = &op_info[s->node->op];
    const Attrs *at = s->node->attrs;
#define ATTR(name, kind, help)                                                                               \
    if ((op->attrs & A(name)) && !(at->set & A(name))) return fail(s, "attribute '" #name "' is missing");   \
    if ((at->set & A(name)) && !((op->attrs | op->optional) & A(name)))                                      \
        return fail(s, "there is no attribute '" #name "' here");                                            \
    if ((at->set & A(name)) && !attr_ok_##kind(at->name))                                                    \
        return fail(s, "attribute '" #name "' %s", rule_##kind);
#include "attrs.def"
#undef ATTR
    if ((at->set & A(group)) && (at->group < 1 || at->group > INT32_MAX))
        return fail(s, "group %lld is not from 1 to 2147483647", (long long)at->group);
    return true;
}

static bool check_body(Infer *s) {
    const NodeShape *n = s->node;
    if (n->op != OP_region) return true;
    if (n->body && n->body->nodes.n && n->body->nodes.at[n->body->nodes.n - 1].op == OP_yield) return true;
    return fail(s, "the body does not end in yield");
}

static bool check_results(Infer *s) {
    for (uint32_t i = 0; i < shape_results(s->node); i++) {
        const char *problem = type_problem(&s->out[i]);
        if (problem) return fail(s, "a result %s", problem);
    }
    return true;
}

/* "op: t0 x t1: ", which every message starts with. */
static void describe(const NodeShape *n, Buf *why) {
    buf_printf(why, "%s: ", op_info[n->op].name);
    for (uint32_t i = 0; i < n->nin; i++) {
        if (i) buf_printf(why, " x ");
        if (i == 8) {
            buf_printf(why, "...");
            break;
        }
        print_type(val_type(n->g, n->in[i]), why);
    }
    if (op_info[n->op].flags & TYPED) {
        buf_printf(why, n->nin ? " -> " : "");
        print_type(n->given, why);
    }
    if (n->nin || (op_info[n->op].flags & TYPED)) buf_printf(why, ": ");
}

static bool check_given(Infer *s) {
    if (!(op_info[s->node->op].flags & TYPED)) return true;
    const char *problem = type_problem(s->node->given);
    return !problem || fail(s, "the result %s", problem);
}

bool shape_infer(const NodeShape *n, Type *out, Buf *why) {
    Buf reason = {0};
    Infer s = {n, out, &reason};
    bool ok = check_count(&s) && check_attrs(&s) && check_given(&s) && check_body(&s) && rules[n->op](&s) &&
              check_results(&s);
    if (!ok) {
        describe(n, why);
        buf_add(why, reason.at, reason.n);
    }
    buf_free(&reason);
    return ok;
}
