/* Well-typed random models, small enough for the interpreter and rich enough to try every pass.
 *
 * random_module(seed) has the functions train (output "loss"), eval (outputs "nll" and some others) and
 * decode (output "logits" of one position), over the same parameters: embeddings and matrices, most of
 * them ternary, and norm weights. The bodies are random sequences of the idioms that models are made of
 * (norms, projections, rotary attention, gates, residuals) and of single ops, with shared and dead
 * subexpressions. Data for them comes from evaluate.h; all values stay moderate, so that comparisons in
 * f64 need no allowance. */
#ifndef TBC_TEST_RANDOM_GRAPH_H
#define TBC_TEST_RANDOM_GRAPH_H

#include "evaluate.h"

#include <stdio.h>

enum { MAX_PARAMS = 16, MAX_POOL = 64 };

typedef struct RandomModel {
    Rng rng;
    bool no_stop; /* no stop but where it changes no gradient: finite differences do not see it */
    int64_t batch, seq, width, heads, groups, head; /* width = heads * head */
    uint32_t nparams;
    struct {
        char name[16];
        Type type;
        int64_t group; /* 0: full precision */
    } param[MAX_PARAMS];
} RandomModel;

/* A function under construction: values of type f32[batch,seq,width] to go on from. */
typedef struct RandomBody {
    RandomModel *model;
    Graph *g;
    Val param[MAX_PARAMS], tokens, targets;
    Val pool[MAX_POOL];
    uint32_t npool;
} RandomBody;

static const Loc no_loc = {0};

static inline Type f32_type(uint32_t rank, int64_t a, int64_t b, int64_t c, int64_t d) {
    return type_make(DT_F32, rank, (int64_t[]){a, b, c, d});
}

static inline Val typed_op(Graph *g, Op op, const Type *t, Val a) {
    return graph_add(g, NULL, NULL, no_loc, op, t, &a, 1, NULL);
}

static inline Val source(Graph *g, Op op, const char *name, const Type *t) {
    return graph_add(g, NULL, NULL, no_loc, op, t, NULL, 0, ATTRS(name, name));
}

static inline void sink(Graph *g, Op op, const char *name, Val v) {
    graph_add(g, NULL, NULL, no_loc, op, NULL, &v, 1, ATTRS(name, name));
}

/* ---- idioms */

/* weight * x / sqrt(mean(x^2) + 0.1): also tames values that have grown. */
static inline Val rms_norm(Graph *g, Val x, Val weight) {
    int64_t n = type_cols(val_type(g, x));
    Val mean =
        ir_scale(g, no_loc, ir_unary(g, no_loc, OP_sum, ir_binary(g, no_loc, OP_mul, x, x)), 1.0 / (double)n);
    Val r = ir_unary(g, no_loc, OP_rsqrt, ir_offset(g, no_loc, mean, 0.1));
    return ir_binary(g, no_loc, OP_mul, weight, ir_binary(g, no_loc, OP_mul, x, r));
}

/* x*cos + rotate_half(x)*sin for x[B,S,H,D] */
static inline Val rotary(Graph *g, Val x) {
    const Type *t = val_type(g, x);
    Type table = f32_type(3, t->dim[1], 1, t->dim[3], 0);
    Val cos = graph_add(g, NULL, NULL, no_loc, OP_rope_cos, &table, NULL, 0, ATTRS(theta, 100.0));
    Val sin = graph_add(g, NULL, NULL, no_loc, OP_rope_sin, &table, NULL, 0, ATTRS(theta, 100.0));
    Val straight = ir_binary(g, no_loc, OP_mul, x, cos);
    return ir_binary(g, no_loc, OP_add, straight,
                     ir_binary(g, no_loc, OP_mul, ir_unary(g, no_loc, OP_rotate_half, x), sin));
}

/* log(sum(exp(z))) - z[target] for each row of z, [..,1] */
static inline Val cross_entropy(Graph *g, Val z, Val targets) {
    Val most = ir_unary(g, no_loc, OP_stop, ir_unary(g, no_loc, OP_max, z));
    Val e = ir_unary(g, no_loc, OP_exp, ir_binary(g, no_loc, OP_sub, z, most));
    Val lse = ir_binary(g, no_loc, OP_add, ir_unary(g, no_loc, OP_log, ir_unary(g, no_loc, OP_sum, e)), most);
    return ir_binary(g, no_loc, OP_sub, lse, ir_binary(g, no_loc, OP_pick, z, targets));
}

/* The mean of all elements, f32[1]. */
static inline Val mean_of(Graph *g, Val x) {
    int64_t count = type_count(val_type(g, x));
    Type column = f32_type(2, count, 1, 0, 0);
    Val sum = ir_unary(g, no_loc, OP_sum_rows, ir_reshape(g, no_loc, x, &column));
    return ir_scale(g, no_loc, sum, 1.0 / (double)count);
}

/* x * w^T, for w[n,k] */
static inline Val linear(Graph *g, Val x, Val w) {
    return ir_matmul(g, no_loc, x, w, false, true);
}

static inline Val attend(Graph *g, Val q, Val k, Val v, double scale) {
    return graph_add(g, NULL, NULL, no_loc, OP_attention, NULL, (Val[]){q, k, v}, 3, ATTRS(c, scale));
}

/* ---- random choices */

static inline Val from_pool(RandomBody *b) {
    return b->pool[rng_below(&b->model->rng, b->npool)];
}

/* A parameter of this type, if the model has one, chosen at random. */
static inline Val some_param(RandomBody *b, const Type *t) {
    uint32_t start = rng_below(&b->model->rng, b->model->nparams);
    for (uint32_t i = 0; i < b->model->nparams; i++) {
        uint32_t p = (start + i) % b->model->nparams;
        if (type_equal(&b->model->param[p].type, t)) return b->param[p];
    }
    ice("the random model has no such parameter");
}

static inline Val some_matrix(RandomBody *b, int64_t rows, int64_t cols) {
    Type t = f32_type(2, rows, cols, 0, 0);
    return some_param(b, &t);
}

static inline Val some_vector(RandomBody *b, int64_t n) {
    Type t = f32_type(1, n, 0, 0, 0);
    return some_param(b, &t);
}

static inline Val normed(RandomBody *b, Val x) {
    return rms_norm(b->g, x, some_vector(b, type_cols(val_type(b->g, x))));
}

/* Projects x to heads of normed, rotated rows. */
static inline Val heads_of(RandomBody *b, Val x, int64_t heads, bool rotate) {
    RandomModel *m = b->model;
    Type t = f32_type(4, m->batch, m->seq, heads, m->head);
    Val y = ir_reshape(b->g, no_loc, linear(b->g, x, some_matrix(b, heads * m->head, m->width)), &t);
    if (!rotate) return y;
    return rotary(b->g, normed(b, y));
}

static inline Val attention_block(RandomBody *b, Val x) {
    RandomModel *m = b->model;
    Val h = normed(b, x);
    Val q = heads_of(b, h, m->heads, true), k = heads_of(b, h, m->groups, true);
    Val out = attend(b->g, q, k, heads_of(b, h, m->groups, false), 0.7);
    return linear(b->g, ir_reshape(b->g, no_loc, out, val_type(b->g, x)), some_matrix(b, m->width, m->width));
}

/* silu(h gate^T) * (h up^T), projected back */
static inline Val gated_block(RandomBody *b, Val x) {
    int64_t n = b->model->width;
    Val h = normed(b, x);
    Val gate = linear(b->g, h, some_matrix(b, 2 * n, n)), up = linear(b->g, h, some_matrix(b, 2 * n, n));
    Val silu = ir_binary(b->g, no_loc, OP_mul, gate, ir_unary(b->g, no_loc, OP_sigmoid, gate));
    return linear(b->g, ir_binary(b->g, no_loc, OP_mul, silu, up), some_matrix(b, n, 2 * n));
}

/* One op with two operands: equal shapes, or a row vector, a column, a constant on either side. */
static inline Val some_binary(RandomBody *b, Val x) {
    static const Op ops[] = {OP_add, OP_sub, OP_mul};
    Graph *g = b->g;
    Rng *r = &b->model->rng;
    Val y;
    switch (rng_below(r, 6)) {
    case 0:
        y = some_vector(b, b->model->width);
        break;
    case 1:
        y = ir_unary(g, no_loc, OP_sigmoid, ir_unary(g, no_loc, OP_sum, from_pool(b)));
        break;
    case 2:
        y = ir_splat(g, no_loc, val_type(g, x), rng_below(r, 3) ? rng_uniform(r, -1, 1) : 1);
        break;
    case 3:
        y = typed_op(g, OP_broadcast, val_type(g, x), some_vector(b, b->model->width));
        break;
    default:
        y = from_pool(b);
    }
    Op op = ops[rng_below(r, 3)];
    if (rng_below(r, 4) == 0) { /* a quotient with a denominator of at least 1/2 */
        y = ir_offset(g, no_loc, ir_binary(g, no_loc, OP_mul, y, y), 0.5);
        op = OP_div;
    }
    return rng_below(r, 2) && op != OP_div ? ir_binary(g, no_loc, op, y, x) : ir_binary(g, no_loc, op, x, y);
}

/* One op with one operand, within its domain. */
static inline Val some_unary(RandomBody *b, Val x) {
    Graph *g = b->g;
    Rng *r = &b->model->rng;
    Val positive;
    switch (rng_below(r, 9)) {
    case 0:
        return ir_unary(g, no_loc, OP_neg, x);
    case 1:
        return ir_scale(g, no_loc, x, rng_below(r, 3) ? rng_uniform(r, -1.5, 1.5) : 1);
    case 2:
        return ir_offset(g, no_loc, x, rng_below(r, 3) ? rng_uniform(r, -1, 1) : 0);
    case 3:
        return ir_unary(g, no_loc, OP_exp, ir_unary(g, no_loc, OP_neg, ir_unary(g, no_loc, OP_sigmoid, x)));
    case 4:
        return ir_unary(g, no_loc, OP_sigmoid, x);
    case 5:
        return ir_unary(g, no_loc, b->model->no_stop ? OP_neg : OP_stop, x);
    case 6:
        return ir_unary(g, no_loc, OP_rotate_half, x);
    default:
        positive = ir_offset(g, no_loc, ir_binary(g, no_loc, OP_mul, x, x), 0.5);
    }
    return ir_unary(g, no_loc, rng_below(r, 2) ? OP_log : OP_rsqrt, positive);
}

/* Ops that change the shape, led back to the shape of the pool. */
static inline Val some_shape_change(RandomBody *b, Val x) {
    RandomModel *m = b->model;
    Graph *g = b->g;
    Type t = *val_type(g, x), flat = f32_type(2, m->batch * m->seq, m->width, 0, 0);
    Type rows = f32_type(4, m->batch, m->seq, m->heads, m->head);
    Val y;
    switch (rng_below(&m->rng, 6)) {
    case 0: /* views of views */
        return ir_reshape(
            g, no_loc,
            ir_unary(g, no_loc, OP_neg, ir_reshape(g, no_loc, ir_reshape(g, no_loc, x, &flat), &rows)), &t);
    case 1: /* a row of means over all rows */
        y = ir_scale(g, no_loc, ir_unary(g, no_loc, OP_sum_rows, x), 1.0 / (double)(m->batch * m->seq));
        return typed_op(g, OP_broadcast, &t, y);
    case 2: /* a column, broadcast and summed again */
        y = typed_op(g, OP_broadcast, &t, ir_unary(g, no_loc, OP_sum, x));
        return ir_binary(g, no_loc, OP_mul, x,
                         ir_unary(g, no_loc, OP_sigmoid, ir_unary(g, no_loc, OP_sum, y)));
    case 3: /* a product over all rows, used as a weight */
        y = ir_scale(g, no_loc, ir_matmul(g, no_loc, x, from_pool(b), true, false),
                     1.0 / (double)(m->batch * m->seq));
        return ir_matmul(g, no_loc, x, y, false, rng_below(&m->rng, 2));
    case 4: /* the element of each row that a token names, and its place */
        y = ir_binary(g, no_loc, OP_pick, x, b->tokens);
        return ir_binary(g, no_loc, OP_mul, typed_op(g, OP_onehot, &t, b->targets), y);
    default: /* an untransposed product */
        return ir_matmul(g, no_loc, normed(b, x), some_matrix(b, m->width, m->width), false, false);
    }
}

static inline void grow(RandomBody *b) {
    RandomModel *m = b->model;
    Val x = from_pool(b), y;
    Type table = f32_type(2, INDEX_LIMIT, m->width, 0, 0);
    bool tame = true;
    switch (rng_below(&m->rng, 12)) {
    case 0:
        y = ir_binary(b->g, no_loc, OP_add, x, attention_block(b, x));
        break;
    case 1:
        y = ir_binary(b->g, no_loc, OP_add, x, gated_block(b, x));
        break;
    case 2:
        y = ir_binary(b->g, no_loc, OP_embedding, b->tokens, some_param(b, &table)), tame = false;
        break;
    case 3:
        y = normed(b, x), tame = false;
        break;
    case 4:
    case 5:
        y = some_shape_change(b, x);
        break;
    case 6:
    case 7:
    case 8:
        y = some_binary(b, x);
        break;
    default:
        y = some_unary(b, x);
        break;
    }
    if (b->npool == MAX_POOL) ice("the random body is too long");
    b->pool[b->npool++] = tame ? normed(b, y) : y;
}

/* ---- modules */

static inline void add_random_param(RandomModel *m, const char *name, Type t, bool ternary) {
    snprintf(m->param[m->nparams].name, sizeof m->param->name, "%s", name);
    m->param[m->nparams].type = t;
    m->param[m->nparams++].group = ternary ? 1 + rng_below(&m->rng, 4) : 0;
}

static inline void random_params(RandomModel *m) {
    static const int64_t batches[] = {1, 2}, seqs[] = {2, 3}, heads[] = {1, 2, 4}, head[] = {2, 4};
    m->batch = batches[rng_below(&m->rng, 2)];
    m->seq = seqs[rng_below(&m->rng, 2)];
    m->heads = heads[1 + rng_below(&m->rng, 2)];
    m->groups = rng_below(&m->rng, 2) ? m->heads : m->heads / 2;
    m->head = m->heads == 4 ? 2 : head[rng_below(&m->rng, 2)];
    m->width = m->heads * m->head;
    if (m->width < INDEX_LIMIT) m->heads = m->groups = 3, m->width = 6, m->head = 2;
    int64_t n = m->width, kv = m->groups * m->head;
    bool ternary = rng_below(&m->rng, 4) != 0;
    add_random_param(m, "embed", f32_type(2, INDEX_LIMIT, n, 0, 0), ternary);
    add_random_param(m, "square", f32_type(2, n, n, 0, 0), ternary);
    add_random_param(m, "square2", f32_type(2, n, n, 0, 0), ternary && rng_below(&m->rng, 2));
    add_random_param(m, "kv", f32_type(2, kv, n, 0, 0), ternary);
    add_random_param(m, "wide", f32_type(2, 2 * n, n, 0, 0), ternary);
    add_random_param(m, "wide2", f32_type(2, 2 * n, n, 0, 0), false);
    add_random_param(m, "back", f32_type(2, n, 2 * n, 0, 0), ternary);
    add_random_param(m, "norm", f32_type(1, n, 0, 0, 0), false);
    add_random_param(m, "norm2", f32_type(1, n, 0, 0, 0), false);
    add_random_param(m, "head_norm", f32_type(1, m->head, 0, 0, 0), false);
    if (rng_below(&m->rng, 2)) add_random_param(m, "head", f32_type(2, INDEX_LIMIT, n, 0, 0), ternary);
    if (rng_below(&m->rng, 2)) add_random_param(m, "unused", f32_type(2, 3, 2, 0, 0), ternary);
}

/* The declarations and a random body of `steps` steps. */
static inline RandomBody random_body(RandomModel *m, const char *name, uint32_t steps) {
    RandomBody b = {.model = m, .g = graph_new(name)};
    for (uint32_t i = 0; i < m->nparams; i++) {
        Attrs attrs = {.set = A(name) | (m->param[i].group ? A(group) : 0),
                       .name = m->param[i].name,
                       .group = m->param[i].group};
        b.param[i] = graph_add(b.g, NULL, NULL, no_loc, OP_param, &m->param[i].type, NULL, 0, &attrs);
    }
    Type ids = type_make(DT_I32, 2, (int64_t[]){m->batch, m->seq}),
         table = f32_type(2, INDEX_LIMIT, m->width, 0, 0);
    b.tokens = source(b.g, OP_input, "tokens", &ids);
    b.targets = source(b.g, OP_input, "targets", &ids);
    b.pool[b.npool++] = ir_binary(b.g, no_loc, OP_embedding, b.tokens, some_param(&b, &table));
    while (steps-- > 0) grow(&b);
    return b;
}

/* A product with most of what the body made; the rest may stay dead. */
static inline Val random_logits(RandomBody *b) {
    Val x = b->pool[b->npool - 1];
    for (uint32_t i = 0; i + 1 < b->npool; i++)
        if (rng_below(&b->model->rng, 4) > 0) x = ir_binary(b->g, no_loc, OP_add, x, b->pool[i]);
    return linear(b->g, normed(b, x), some_matrix(b, INDEX_LIMIT, b->model->width));
}

static inline Graph *random_train(RandomModel *m, uint32_t steps) {
    RandomBody b = random_body(m, "train", steps);
    b.g->attrs = (Attrs){.set = A(beta1) | A(beta2) | A(eps), .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    if (steps % 4 == 0) b.g->attrs.set |= A(moments), b.g->attrs.moments = "bf16";
    Val loss = mean_of(b.g, cross_entropy(b.g, random_logits(&b), b.targets));
    if (rng_below(&m->rng, 2)) {
        Val x = from_pool(&b); /* a second path into the loss */
        loss = ir_binary(b.g, no_loc, OP_add, loss, mean_of(b.g, ir_binary(b.g, no_loc, OP_mul, x, x)));
    }
    sink(b.g, OP_output, "loss", loss);
    return b.g;
}

static inline Graph *random_eval(RandomModel *m, uint32_t steps) {
    RandomBody b = random_body(m, "eval", steps);
    sink(b.g, OP_output, "nll", cross_entropy(b.g, random_logits(&b), b.targets));
    sink(b.g, OP_output, "hidden", from_pool(&b));
    return b.g;
}

static inline Graph *random_decode(RandomModel *m, uint32_t steps) {
    RandomBody b = random_body(m, "decode", steps);
    Type t = type_make(DT_I32, 1, &m->batch);
    Val in[2] = {random_logits(&b), source(b.g, OP_input, "pos", &t)};
    Type row = *val_type(b.g, in[0]);
    row.dim[1] = 1;
    sink(b.g, OP_output, "logits", graph_add(b.g, NULL, NULL, no_loc, OP_take_row, &row, in, 2, NULL));
    return b.g;
}

static inline Module *random_module_of(RandomModel model) {
    random_params(&model);
    Module *m = module_new();
    uint32_t steps = 1 + rng_below(&model.rng, 10);
    vec_push(&m->graphs, random_train(&model, steps));
    vec_push(&m->graphs, random_eval(&model, steps));
    vec_push(&m->graphs, random_decode(&model, steps));
    return m;
}

/* A module of three functions; free it with module_free. */
static inline Module *random_module(uint64_t seed) {
    return random_module_of((RandomModel){.rng = {seed * 0x9e3779b97f4a7c15u + 1}});
}

/* One whose gradients can be compared with finite differences. */
static inline Module *random_smooth_module(uint64_t seed) {
    return random_module_of((RandomModel){.rng = {seed * 0x9e3779b97f4a7c15u + 1}, .no_stop = true});
}

#endif
