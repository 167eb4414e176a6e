/* The ops of a spec in terms of the IR's: one emit_NAME for each row of spec_ops.def. Each checks what its
 * args must look like, in the spec's words, and appends nodes that are then known to fit. */
#include "emit.h"

#include <string.h>

typedef struct Emit {
    Builder *b;
    Stmt *st;
    Graph *g;
    Loc loc;
    const Val *args;
} Emit;

static const Type *type_of(const Emit *e, Val v) {
    return val_type(e->g, v);
}
static const Type *arg_type(const Emit *e, uint32_t i) {
    return type_of(e, e->args[i]);
}

/* A shape for a message: [2, 32, 128]. Memory of the sources' arena. */
static const char *shape_text(const Emit *e, const Type *t) {
    Buf b = {0};
    buf_printf(&b, "[");
    for (uint32_t i = 0; i < t->rank; i++) buf_printf(&b, "%s%lld", i ? ", " : "", (long long)t->dim[i]);
    buf_printf(&b, "]");
    const char *text = arena_strdup(e->b->spec->src->arena, b.at);
    buf_free(&b);
    return text;
}

static const char *arg_text(const Emit *e, uint32_t i) {
    return shape_text(e, arg_type(e, i));
}
static const char *arg_name(const Emit *e, uint32_t i) {
    return e->st->args[i]->string;
}

#define fail(e, at, ...) stmt_error((e)->b, (e)->st, (at), __VA_ARGS__)

/* Is t small enough to compute with? Reported where it is not. */
static bool fits(const Emit *e, const Type *t) {
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (t->dim[i] <= MAX_ELEMENTS / n) {
            n *= t->dim[i];
            continue;
        }
        fail(e, e->st->at, "the result %s has more than 2^40 elements", shape_text(e, t));
        return false;
    }
    return true;
}

static bool want_numbers(const Emit *e, uint32_t i) {
    if (arg_type(e, i)->dtype == DT_F32) return true;
    fail(e, e->st->args[i], "'%s' holds token ids (a tensor of numbers was expected)", arg_name(e, i));
    return false;
}

/* The weight, of the given rank; NULL after an error. */
static const Param *weight(const Emit *e, uint32_t rank) {
    const Param *p = stmt_param(e->b, e->st);
    if (!p || p->type.rank == rank) return p;
    fail(e, e->st->shape, "%s takes a weight of rank %u, found %u dims", spec_op_info[e->st->op].name, rank,
         p->type.rank);
    return NULL;
}

static Val add_node(const Emit *e, Op op, const Type *type, const Val *in, uint32_t nin, const Attrs *attrs) {
    return graph_add(e->g, NULL, NULL, e->loc, op, type, in, nin, attrs);
}

static Val unary(const Emit *e, Op op, Val a) {
    return ir_unary(e->g, e->loc, op, a);
}
static Val binary(const Emit *e, Op op, Val a, Val b) {
    return ir_binary(e->g, e->loc, op, a, b);
}

/* ---- layers */

static Val emit_embedding(Emit *e) {
    if (arg_type(e, 0)->dtype != DT_I32)
        return fail(e, e->st->args[0], "'%s' is no tensor of token ids (tokens was expected)",
                    arg_name(e, 0));
    const Param *w = weight(e, 2);
    if (!w) return VAL_NONE;
    Type out = *arg_type(e, 0);
    out.dim[out.rank++] = w->type.dim[1];
    if (!fits(e, &out)) return VAL_NONE;
    if (e->b->embedded && e->b->embedded != w->type.dim[0])
        return fail(e, e->st->shape, "%lld rows, where an earlier embedding of the tokens has %lld",
                    (long long)w->type.dim[0], (long long)e->b->embedded);
    e->b->embedded = w->type.dim[0];
    return binary(e, OP_embedding, e->args[0], w->val);
}

static Val emit_linear(Emit *e) {
    if (!want_numbers(e, 0)) return VAL_NONE;
    const Param *w = weight(e, 2);
    if (!w) return VAL_NONE;
    int64_t in = type_cols(arg_type(e, 0));
    if (in != w->type.dim[1])
        return fail(e, e->st->at, "'%s' %s has %lld features, the weight %s takes %lld", arg_name(e, 0),
                    arg_text(e, 0), (long long)in, shape_text(e, &w->type), (long long)w->type.dim[1]);
    Type out = *arg_type(e, 0);
    out.dim[out.rank - 1] = w->type.dim[0];
    return fits(e, &out) ? ir_matmul(e->g, e->loc, e->args[0], w->val, false, true) : VAL_NONE;
}

/* weight * (x * rsqrt(mean(x^2) + eps)) */
static Val emit_rms_norm(Emit *e) {
    if (!want_numbers(e, 0)) return VAL_NONE;
    const Param *w = weight(e, 1);
    if (!w) return VAL_NONE;
    Val x = e->args[0];
    int64_t n = type_cols(type_of(e, x));
    if (n != w->type.dim[0])
        return fail(e, e->st->at, "'%s' %s has %lld features, the weight %s has %lld", arg_name(e, 0),
                    arg_text(e, 0), (long long)n, shape_text(e, &w->type), (long long)w->type.dim[0]);
    Val mean = ir_scale(e->g, e->loc, unary(e, OP_sum, binary(e, OP_mul, x, x)), 1.0 / (double)n);
    Val r = unary(e, OP_rsqrt, ir_offset(e->g, e->loc, mean, e->st->eps));
    return binary(e, OP_mul, binary(e, OP_mul, x, r), w->val);
}

static Val emit_reshape(Emit *e) {
    Type t;
    if (!want_numbers(e, 0) || !stmt_shape(e->b, e->st, 1, MAX_RANK, &t)) return VAL_NONE;
    int64_t from = type_count(arg_type(e, 0)), to = type_count(&t);
    if (from != to)
        return fail(e, e->st->shape, "%s has %lld elements, '%s' %s has %lld", shape_text(e, &t),
                    (long long)to, arg_name(e, 0), arg_text(e, 0), (long long)from);
    return ir_reshape(e->g, e->loc, e->args[0], &t);
}

/* ---- the loss's and decode's inputs */

static Val input(const Emit *e, const char *name) {
    const Builder *b = e->b;
    for (uint32_t i = 0; i < b->lets.n; i++) {
        if (strcmp(b->lets.at[i].name, name) == 0) return b->lets.at[i].val;
    }
    ice("function %d has no input %s", (int)b->fn, name);
}

/* ---- attention
 *
 * In decode there is one position, pos, in prefill there are some from pos on; the keys and values of those
 * before are in caches, states that outlive the run. */

/* Is x, of attention or rope, the function's positions of one sequence, as decode and prefill must have it? */
static bool is_at_pos(const Emit *e, uint32_t i) {
    const Type *t = arg_type(e, i);
    if (t->dim[0] == 1 && t->dim[1] == e->b->seq) return true;
    fail(e, e->st->args[i], "%s takes [batch, seq, heads, dim], '%s' is %s", spec_op_info[e->st->op].name,
         arg_name(e, i), arg_text(e, i));
    return false;
}

/* The rows of a rope table from position pos on. */
static Val rows_at_pos(const Emit *e, Val table) {
    const Type *t = type_of(e, table);
    Type all = type_make(DT_F32, 3, (int64_t[]){1, t->dim[0], t->dim[2]});
    Type rows = type_make(DT_F32, 3, (int64_t[]){1, e->b->seq, t->dim[2]});
    Type made = type_make(DT_F32, 3, (int64_t[]){e->b->seq, 1, t->dim[2]});
    Val in[2] = {ir_reshape(e->g, e->loc, table, &all), input(e, "pos")};
    return ir_reshape(e->g, e->loc, add_node(e, OP_take_row, &rows, in, 2, NULL), &made);
}

/* The cosine and sine tables, shared by all uses in a function. */
static const Rope *rope_tables(Emit *e, int64_t seq, int64_t dim) {
    Builder *b = e->b;
    for (uint32_t i = 0; i < b->ropes.n; i++) {
        const Rope *r = &b->ropes.at[i];
        if (r->theta == e->st->theta && r->dim == dim && r->seq == seq) return r;
    }
    Type t = type_make(DT_F32, 3, (int64_t[]){seq, 1, dim});
    const Attrs *theta = ATTRS(theta, e->st->theta);
    Rope made = {.theta = e->st->theta, .dim = dim, .seq = seq};
    made.cos = add_node(e, OP_rope_cos, &t, NULL, 0, theta);
    made.sin = add_node(e, OP_rope_sin, &t, NULL, 0, theta);
    if (takes_pos(b->fn)) made.cos = rows_at_pos(e, made.cos), made.sin = rows_at_pos(e, made.sin);
    vec_push(&b->ropes, made);
    return &b->ropes.at[b->ropes.n - 1];
}

static Val emit_rope(Emit *e) {
    if (!want_numbers(e, 0)) return VAL_NONE;
    Val x = e->args[0];
    const Type *t = type_of(e, x);
    if (t->rank != 4)
        return fail(e, e->st->args[0], "rope takes [batch, seq, heads, dim], '%s' is %s", arg_name(e, 0),
                    arg_text(e, 0));
    if (t->dim[3] % 2)
        return fail(e, e->st->args[0],
                    "'%s' %s has heads of odd size %lld (rope rotates pairs: even was expected)",
                    arg_name(e, 0), arg_text(e, 0), (long long)t->dim[3]);
    bool at_pos = takes_pos(e->b->fn);
    if (at_pos && !is_at_pos(e, 0)) return VAL_NONE;
    const Rope *r = rope_tables(e, at_pos ? e->b->spec->seq : t->dim[1], t->dim[3]);
    Val straight = binary(e, OP_mul, x, r->cos);
    return binary(e, OP_add, straight, binary(e, OP_mul, unary(e, OP_rotate_half, x), r->sin));
}

/* The cache NAME with x as its rows from pos on, which it keeps. */
static Val cached(const Emit *e, char name, Val x) {
    Type t = *type_of(e, x);
    t.dim[1] = e->b->spec->seq;
    const Attrs *attrs =
        ATTRS(name, arena_printf(e->b->spec->src->arena, "attention.%u.%c.cache", e->b->caches, name));
    Val cache = add_node(e, OP_state, &t, NULL, 0, attrs);
    cache = add_node(e, OP_cache_row, NULL, (Val[]){cache, x, input(e, "pos")}, 3, NULL);
    add_node(e, OP_store, NULL, &cache, 1, attrs);
    return cache;
}

static Val decode_attention(Emit *e, const Attrs *scale) {
    if (!is_at_pos(e, 0)) return VAL_NONE;
    Val k = cached(e, 'k', e->args[1]), v = cached(e, 'v', e->args[2]);
    e->b->caches++;
    return add_node(e, OP_attention_decode, NULL, (Val[]){e->args[0], k, v, input(e, "pos")}, 4, scale);
}

static Val emit_attention(Emit *e) {
    for (uint32_t i = 0; i < 3; i++) {
        if (!want_numbers(e, i)) return VAL_NONE;
        if (arg_type(e, i)->rank != 4)
            return fail(e, e->st->args[i], "attention takes [batch, seq, heads, dim], '%s' is %s",
                        arg_name(e, i), arg_text(e, i));
    }
    const Type *q = arg_type(e, 0), *k = arg_type(e, 1), *v = arg_type(e, 2);
    if (q->dim[0] != k->dim[0] || q->dim[1] != k->dim[1] || q->dim[3] != k->dim[3] || !type_equal(k, v))
        return fail(e, e->st->at,
                    "q %s, k %s, v %s: k and v must be alike, and like q but for the number of heads",
                    arg_text(e, 0), arg_text(e, 1), arg_text(e, 2));
    if (q->dim[2] % k->dim[2])
        return fail(e, e->st->at, "%lld query heads are not a multiple of %lld key heads",
                    (long long)q->dim[2], (long long)k->dim[2]);
    double scale = e->st->scale;
    if (scale == 0) scale = 1 / __builtin_sqrt((double)q->dim[3]);
    if (takes_pos(e->b->fn)) return decode_attention(e, ATTRS(c, scale));
    return add_node(e, OP_attention, NULL, e->args, 3, ATTRS(c, scale));
}

/* ---- element by element */

static Val emit_silu(Emit *e) {
    if (!want_numbers(e, 0)) return VAL_NONE;
    return binary(e, OP_mul, e->args[0], unary(e, OP_sigmoid, e->args[0]));
}

static Val emit_sigmoid(Emit *e) {
    return want_numbers(e, 0) ? unary(e, OP_sigmoid, e->args[0]) : VAL_NONE;
}

static Val elementwise(Emit *e, Op op) {
    if (!want_numbers(e, 0) || !want_numbers(e, 1)) return VAL_NONE;
    const Type *a = arg_type(e, 0), *b = arg_type(e, 1);
    const Type *longer = a->rank >= b->rank ? a : b, *shorter = longer == a ? b : a;
    Type out = *longer;
    for (uint32_t i = 1; i <= shorter->rank; i++) {
        int64_t d = shorter->dim[shorter->rank - i], *o = &out.dim[out.rank - i];
        if (d != *o && d != 1 && *o != 1)
            return fail(e, e->st->at,
                        "'%s' %s and '%s' %s do not broadcast (dims from the right must be equal or 1)",
                        arg_name(e, 0), arg_text(e, 0), arg_name(e, 1), arg_text(e, 1));
        if (d > *o) *o = d;
    }
    return fits(e, &out) ? binary(e, op, e->args[0], e->args[1]) : VAL_NONE;
}

static Val emit_mul(Emit *e) {
    return elementwise(e, OP_mul);
}
static Val emit_add(Emit *e) {
    return elementwise(e, OP_add);
}

/* ---- the loss */

static void output(const Emit *e, const char *name, Val v) {
    add_node(e, OP_output, NULL, &v, 1, ATTRS(name, name));
}

static bool check_logits(Emit *e) {
    const Builder *b = e->b;
    if (!want_numbers(e, 0)) return false;
    const Type *tokens = type_of(e, input(e, "tokens")), *l = arg_type(e, 0);
    bool rows = l->rank == 3 && l->dim[0] == tokens->dim[0] && l->dim[1] == tokens->dim[1];
    if (!rows) {
        fail(e, e->st->args[0], "cross_entropy takes logits [%lld, %lld, vocab], '%s' is %s",
             (long long)tokens->dim[0], (long long)tokens->dim[1], arg_name(e, 0), arg_text(e, 0));
    } else if (l->dim[2] > INT32_MAX) {
        fail(e, e->st->args[0], "%lld classes are more than 32-bit token ids can name", (long long)l->dim[2]);
    } else if (b->embedded && b->embedded != l->dim[2]) {
        fail(e, e->st->args[0], "'%s' %s has %lld classes, the embedding has %lld rows", arg_name(e, 0),
             arg_text(e, 0), (long long)l->dim[2], (long long)b->embedded);
    } else {
        return true;
    }
    return false;
}

/* -log softmax(l)[target] of each row, [B,S,1]. The maximum is taken off first; it cancels, so it has no
 * gradient. */
static Val negative_log_likelihood(Emit *e) {
    Val l = e->args[0];
    Val z = binary(e, OP_sub, l, unary(e, OP_stop, unary(e, OP_max, l)));
    Val lse = unary(e, OP_log, unary(e, OP_sum, unary(e, OP_exp, z)));
    return binary(e, OP_sub, lse, binary(e, OP_pick, z, input(e, "targets")));
}

static Val emit_cross_entropy(Emit *e) {
    Builder *b = e->b;
    if (e->st->nargs == 2 && strcmp(arg_name(e, 1), "targets") != 0)
        return fail(e, e->st->args[1], "the second arg of cross_entropy is targets");
    if (!check_logits(e)) return VAL_NONE;
    const Type *l = arg_type(e, 0);
    b->vocab = l->dim[2];
    if (b->fn == FN_DECODE) {
        output(e, "logits", e->args[0]);
        return VAL_NONE;
    }
    if (b->fn == FN_PREFILL) return VAL_NONE; /* what it leaves in the caches is all */
    double targets = (double)l->dim[0] * (double)l->dim[1];
    Val nll = negative_log_likelihood(e);
    if (b->fn == FN_EVAL)
        output(e, "nll", nll);
    else
        output(e, "loss", unary(e, OP_sum_rows, ir_scale(e->g, e->loc, nll, 1 / targets)));
    return VAL_NONE;
}

/* ---- dispatch */

Val emit_statement(Builder *b, Stmt *st, const Val *args) {
    static Val (*const rule[SPEC_OP_COUNT])(Emit *) = {
#define SPEC_OP(name, ...) emit_##name,
#include "spec_ops.def"
#undef SPEC_OP
    };
    Emit e = {.b = b, .st = st, .g = b->g, .loc = st->at->loc, .args = args};
    return rule[st->op](&e);
}
