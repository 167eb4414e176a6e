/* Evaluation rules of sources, copies, ternary weights, matrix products, attention and the optimizer. */
#include "eval.h"

#include <math.h>
#include <string.h>

static void copy(double *to, const double *from, int64_t n) {
    memcpy(to, from, sizeof(double) * (size_t)n);
}

/* ---- sources */

void eval_splat(Eval *e) {
    int64_t count = type_count(&e->out[0].type);
    for (int64_t i = 0; i < count; i++) e->out[0].at[i] = e->n->attrs.c;
}

static void rope_table(Eval *e, double f(double)) {
    int64_t s = e->out[0].type.dim[0], d = e->out[0].type.dim[2];
    for (int64_t i = 0; i < s; i++) {
        for (int64_t j = 0; j < d; j++) {
            double frequency = pow(e->n->attrs.theta, -2.0 * (double)(j % (d / 2)) / (double)d);
            e->out[0].at[i * d + j] = f((double)i * frequency);
        }
    }
}

void eval_rope_cos(Eval *e) {
    rope_table(e, cos);
}
void eval_rope_sin(Eval *e) {
    rope_table(e, sin);
}

/* ---- views and copies */

void eval_reshape(Eval *e) {
    copy(e->out[0].at, e->in[0].at, type_count(&e->out[0].type));
}

void eval_after(Eval *e) {
    eval_reshape(e);
}

void eval_slice(Eval *e) {
    int64_t entry = type_count(&e->out[0].type) / e->out[0].type.dim[0];
    copy(e->out[0].at, e->in[0].at + e->n->attrs.begin * entry, type_count(&e->out[0].type));
}

void eval_concat(Eval *e) {
    double *to = e->out[0].at;
    for (uint32_t i = 0; i < e->n->nin; i++) {
        int64_t count = type_count(&e->in[i].type);
        copy(to, e->in[i].at, count);
        to += count;
    }
}

void eval_take_row(Eval *e) {
    const Type *x = &e->in[0].type;
    int64_t s = x->dim[1], n = x->dim[2], rows = e->out[0].type.dim[1];
    for (int64_t b = 0; b < x->dim[0]; b++) {
        int64_t row = eval_index(e, &e->in[1], b, s - rows + 1);
        for (int64_t j = 0; j < rows * n; j++)
            e->out[0].at[b * rows * n + j] = row < 0 ? NAN : e->in[0].at[(b * s + row) * n + j];
    }
}

/* ---- ternary weights */

void eval_ternary(Eval *e) {
    int64_t rows = type_rows(&e->in[0].type), cols = type_cols(&e->in[0].type), group = e->n->attrs.group;
    float *w = arena_array(e->arena, float, cols);
    int8_t *codes = arena_array(e->arena, int8_t, cols);
    for (int64_t r = 0; r < rows; r++) {
        double *out = e->out[0].at + r * cols;
        for (int64_t j = 0; j < cols; j++) w[j] = (float)e->in[0].at[r * cols + j];
        for (int64_t j = 0; j < cols; j += group) {
            int64_t n = cols - j < group ? cols - j : group; /* a last group may be shorter */
            double scale = ternary_group(w + j, n, codes);
            for (int64_t i = 0; i < n; i++) out[j + i] = codes[i] * scale;
        }
    }
}

void eval_ste(Eval *e) {
    copy(e->out[0].at, e->in[0].at, type_count(&e->out[0].type));
}

/* A group's largest magnitude of code*scale is its scale: the code of its largest weight is never 0. */
void eval_ste_clip(Eval *e) {
    int64_t rows = type_rows(&e->in[1].type), cols = type_cols(&e->in[1].type), group = e->in[1].type.group;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t first = 0; first < cols; first += group) {
            int64_t at = r * cols + first, n = cols - first < group ? cols - first : group;
            double scale = 0;
            for (int64_t i = at; i < at + n; i++) scale = fmax(scale, fabs(e->in[1].at[i]));
            for (int64_t i = at; i < at + n; i++)
                e->out[0].at[i] = fabs(e->in[2].at[i]) <= scale ? e->in[0].at[i] : 0;
        }
    }
}

/* ---- embedding */

void eval_embedding(Eval *e) {
    int64_t tokens = type_count(&e->in[0].type), vocab = e->in[1].type.dim[0], n = e->in[1].type.dim[1];
    for (int64_t t = 0; t < tokens; t++) {
        int64_t row = eval_index(e, &e->in[0], t, vocab);
        for (int64_t j = 0; j < n; j++) e->out[0].at[t * n + j] = row < 0 ? NAN : e->in[1].at[row * n + j];
    }
}

void eval_embedding_grad(Eval *e) {
    int64_t tokens = type_count(&e->in[0].type), vocab = e->out[0].type.dim[0], n = e->out[0].type.dim[1];
    if (e->n->nin == 3) copy(e->out[0].at, e->in[2].at, vocab * n);
    for (int64_t t = 0; t < tokens; t++) {
        int64_t row = eval_index(e, &e->in[0], t, vocab);
        for (int64_t j = 0; row >= 0 && j < n; j++) e->out[0].at[row * n + j] += e->in[1].at[t * n + j];
    }
}

/* ---- matrix products */

static const double *transposed(const double *x, int64_t rows, int64_t cols, Arena *arena) {
    double *t = arena_array(arena, double, rows *cols);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) t[j * rows + i] = x[i * cols + j];
    }
    return t;
}

/* c[m,n] += a[m,k] b[k,n] */
static void multiply(const double *a, const double *b, double *c, int64_t m, int64_t n, int64_t k) {
    for (int64_t i = 0; i < m; i++) {
        for (int64_t l = 0; l < k; l++) {
            double x = a[i * k + l];
            for (int64_t j = 0; j < n; j++) c[i * n + j] += x * b[l * n + j];
        }
    }
}

/* a and b: the factors, of the operands' types. */
static void product(Eval *e, const double *a, const double *b) {
    const Type *at = &e->in[0].type, *bt = &e->in[1].type;
    bool ta = e->n->attrs.ta, tb = e->n->attrs.tb;
    int64_t m = ta ? type_cols(at) : type_rows(at), k = ta ? type_rows(at) : type_cols(at);
    int64_t n = tb ? type_rows(bt) : type_cols(bt);
    if (ta) a = transposed(a, k, m, e->arena);
    if (tb) b = transposed(b, n, k, e->arena);
    if (e->n->nin == 3) copy(e->out[0].at, e->in[2].at, m * n);
    multiply(a, b, e->out[0].at, m, n, k);
}

void eval_matmul(Eval *e) {
    product(e, eval_factor(e, 0), eval_factor(e, 1));
}

/* A ternary tensor holds its decoded elements already. In bf16 its scales stay exact where they can be
 * multiplied to the sum over a group. */
void eval_tmatmul(Eval *e) {
    if (e->n->attrs.set & A(precision) && !eval_is_bf16(e))
        eval_tmatmul_i16(e);
    else
        product(e, eval_factor(e, 0), e->n->attrs.tb ? e->in[1].at : eval_factor(e, 1));
}

/* ---- attention */

typedef struct Heads {
    int64_t b, s, h, g, d; /* batch, positions, query heads, key and value heads, head's width */
    const double *q, *k, *v;
    const double *dout; /* of attention_grad */
} Heads;

static Heads heads(const Eval *e) {
    const int64_t *q = e->in[0].type.dim, *k = e->in[1].type.dim;
    Heads z = {q[0], k[1], q[2], k[2], q[3], eval_factor(e, 0), eval_factor(e, 1), eval_factor(e, 2), NULL};
    if (e->n->op == OP_attention_grad) z.dout = eval_factor(e, 4);
    return z;
}

/* Index of the row of query head h at position i, and of the key head that it attends to. */
static int64_t q_row(const Heads *z, int64_t b, int64_t i, int64_t h) {
    return (b * z->s + i) * z->h + h;
}
static int64_t k_row(const Heads *z, int64_t b, int64_t i, int64_t h) {
    return (b * z->s + i) * z->g + h / (z->h / z->g);
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void add_scaled(double *to, double c, const double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] += c * x[i];
}

/* One query, row `row` of q: softmax over positions 0 .. i. p: room for i+1 scores. Returns the log-sum-exp. */
static double attend(Eval *e, const Heads *z, int64_t b, int64_t i, int64_t h, int64_t row, double *p) {
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j <= i; j++) {
        p[j] = e->n->attrs.c * dot(z->q + row * z->d, z->k + k_row(z, b, j, h) * z->d, z->d);
        if (p[j] > max) max = p[j];
    }
    for (int64_t j = 0; j <= i; j++) sum += p[j] = exp(p[j] - max);
    for (int64_t j = 0; j <= i; j++)
        add_scaled(e->out[0].at + row * z->d, eval_rounded(e, p[j]) / sum, z->v + k_row(z, b, j, h) * z->d,
                   z->d);
    return max + log(sum);
}

/* Rounds what is stored as bf16. */
static void store_narrow(Tensor *t) {
    if (t->type.dtype != DT_BF16) return;
    for (int64_t i = 0; i < type_count(&t->type); i++) t->at[i] = (double)bf16_round((float)t->at[i]);
}

void eval_attention(Eval *e) {
    Heads z = heads(e);
    double *p = arena_array(e->arena, double, z.s);
    for (int64_t b = 0; b < z.b; b++)
        for (int64_t h = 0; h < z.h; h++)
            for (int64_t i = 0; i < z.s; i++) {
                int64_t row = q_row(&z, b, i, h);
                e->out[1].at[row] = attend(e, &z, b, i, h, row, p);
            }
    store_narrow(&e->out[0]);
}

/* What the pair of query i and key j adds to dq, dk and dv. */
static void attend_grad(Eval *e, const Heads *z, int64_t b, int64_t i, int64_t j, int64_t h) {
    int64_t row = q_row(z, b, i, h), q = row * z->d, k = k_row(z, b, j, h) * z->d;
    double c = e->n->attrs.c;
    const double *dout = z->dout + q;
    double p = exp(c * dot(z->q + q, z->k + k, z->d) - e->in[3].at[row]);
    double ds = eval_rounded(e, c * p * (dot(dout, z->v + k, z->d) - e->in[5].at[row]));
    add_scaled(e->out[0].at + q, ds, z->k + k, z->d);
    add_scaled(e->out[1].at + k, ds, z->q + q, z->d);
    add_scaled(e->out[2].at + k, eval_rounded(e, p), dout, z->d);
}

void eval_attention_grad(Eval *e) {
    Heads z = heads(e);
    for (int64_t b = 0; b < z.b; b++)
        for (int64_t h = 0; h < z.h; h++)
            for (int64_t i = 0; i < z.s; i++)
                for (int64_t j = 0; j <= i; j++) attend_grad(e, &z, b, i, j, h);
    store_narrow(&e->out[2]);
}

/* ---- positions after a cache */

void eval_cache_row(Eval *e) {
    const int64_t *cache = e->in[0].type.dim;
    int64_t n = cache[2] * cache[3], rows = e->in[1].type.dim[1];
    copy(e->out[0].at, e->in[0].at, type_count(&e->out[0].type));
    for (int64_t b = 0; b < cache[0]; b++) {
        int64_t row = eval_index(e, &e->in[2], b, cache[1] - rows + 1);
        if (row >= 0) copy(e->out[0].at + (b * cache[1] + row) * n, e->in[1].at + b * rows * n, rows * n);
    }
}

void eval_attention_decode(Eval *e) {
    Heads z = heads(e);
    double *p = arena_array(e->arena, double, z.s);
    int64_t queries = e->in[0].type.dim[1];
    for (int64_t b = 0; b < z.b; b++) {
        int64_t pos = eval_index(e, &e->in[3], b, z.s - queries + 1);
        for (int64_t i = 0; pos >= 0 && i < queries; i++)
            for (int64_t h = 0; h < z.h; h++)
                attend(e, &z, b, pos + i, h, (b * queries + i) * z.h + h, p);
    }
}

/* ---- optimizer */

/* As bf16, by 16 of the random bits of weight i in this step. */
static double rounded_moment(const Eval *e, int64_t i, double x, int shift) {
    uint32_t key = random_key((int32_t)e->in[5].at[0], (int32_t)e->in[5].at[1]);
    uint32_t bits = random_bits(key, (uint32_t)i);
    return (double)bf16_round_stochastic((float)x, bits >> shift & 0xffff);
}

void eval_adamw(Eval *e) {
    const Attrs *a = &e->n->attrs;
    const double *hyper = e->in[4].at;
    double decay = hyper[0], step = hyper[1], v_scale = hyper[2], g_scale = hyper[3];
    int64_t count = type_count(&e->out[0].type);
    if (isnan(decay)) {
        for (uint32_t k = 0; k < 3; k++) copy(e->out[k].at, e->in[k ? k + 1 : 0].at, count);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        double w = e->in[0].at[i], g = e->in[1].at[i] * g_scale;
        double m = a->beta1 * e->in[2].at[i] + (1 - a->beta1) * g;
        double v = a->beta2 * e->in[3].at[i] + (1 - a->beta2) * g * g;
        e->out[0].at[i] = w * decay - step * m / (sqrt(v * v_scale) + a->eps);
        e->out[1].at[i] = e->n->nin == 6 ? rounded_moment(e, i, m, 0) : m;
        e->out[2].at[i] = e->n->nin == 6 ? rounded_moment(e, i, v, 16) : v;
    }
}

/* The node op of these operands, whose results have the types of e's from `result` on. */
static void step(Eval *e, Node op, const Tensor *in, uint32_t result) {
    op.out = e->n->out + result;
    eval_node(e->g, &op, e->precision, in, &e->out[result], e->arena);
}

void eval_matmul_adamw(Eval *e) {
    const Tensor *in = e->in;
    const Attrs *at = &e->n->attrs;
    Attrs product = {.set = A(ta) | (at->set & A(precision)), .ta = true, .precision = at->precision};
    bool codes = e->n->nout > 3, key = e->n->nin > (codes ? 7 : 6);
    step(e, (Node){.op = OP_matmul, .nin = 2, .nout = 1, .attrs = product}, in, 0);
    Tensor update[6] = {in[2], e->out[0], in[3], in[4], in[5]};
    if (key) update[5] = in[e->n->nin - 1];
    step(e, (Node){.op = OP_adamw, .nin = key ? 6 : 5, .nout = 3, .attrs = e->n->attrs}, update, 0);
    if (!codes) return;
    Attrs group = {.set = A(group), .group = in[6].type.group};
    if (isnan(in[5].at[0]))
        copy(e->out[3].at, in[6].at, type_count(&in[6].type));
    else
        step(e, (Node){.op = OP_ternary, .nin = 1, .nout = 1, .attrs = group}, e->out, 3);
}
