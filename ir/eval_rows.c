/* Evaluation rules of ops that work element by element or along rows. */
#include "eval.h"

#include <math.h>

/* ---- element by element */

#define UNARY(name, expr)                                                                                    \
    void eval_##name(Eval *e) {                                                                              \
        int64_t count = type_count(&e->out[0].type);                                                         \
        for (int64_t i = 0; i < count; i++) {                                                                \
            double a = e->in[0].at[i];                                                                       \
            e->out[0].at[i] = (expr);                                                                        \
        }                                                                                                    \
    }
UNARY(neg, -a)
UNARY(scale, e->n->attrs.c *a)
UNARY(offset, a + e->n->attrs.c)
UNARY(exp, exp(a))
UNARY(log, log(a))
UNARY(rsqrt, 1 / sqrt(a))
UNARY(sigmoid, 1 / (1 + exp(-a)))
UNARY(stop, a)
UNARY(narrow, bf16_round((float)a))
UNARY(widen, a)
#undef UNARY

/* Strides of `from` over the dims of `to`, aligned at the end of MAX_RANK; 0 where it is repeated. */
static void broadcast_strides(const Type *from, int64_t *stride) {
    int64_t step = 1;
    for (int i = 0; i < MAX_RANK; i++) {
        int64_t d = (uint32_t)i < from->rank ? from->dim[from->rank - 1 - (uint32_t)i] : 1;
        stride[MAX_RANK - 1 - i] = d == 1 ? 0 : step;
        step *= d;
    }
}

/* For each element of the result, in order, the index of the operand's element that belongs to it. */
static int64_t *broadcast_map(const Type *from, const Type *to, Arena *arena) {
    int64_t *map = arena_array(arena, int64_t, type_count(to));
    int64_t stride[MAX_RANK], dim[MAX_RANK], n = 0;
    broadcast_strides(from, stride);
    for (uint32_t i = 0; i < MAX_RANK; i++)
        dim[i] = i < MAX_RANK - to->rank ? 1 : to->dim[i + to->rank - MAX_RANK];
    for (int64_t a = 0; a < dim[0]; a++)
        for (int64_t b = 0; b < dim[1]; b++)
            for (int64_t c = 0; c < dim[2]; c++)
                for (int64_t d = 0; d < dim[3]; d++)
                    map[n++] = a * stride[0] + b * stride[1] + c * stride[2] + d * stride[3];
    return map;
}

#define BINARY(name, expr)                                                                                   \
    void eval_##name(Eval *e) {                                                                              \
        int64_t count = type_count(&e->out[0].type);                                                         \
        const int64_t *ai = broadcast_map(&e->in[0].type, &e->out[0].type, e->arena);                        \
        const int64_t *bi = broadcast_map(&e->in[1].type, &e->out[0].type, e->arena);                        \
        for (int64_t i = 0; i < count; i++) {                                                                \
            double a = e->in[0].at[ai[i]], b = e->in[1].at[bi[i]];                                           \
            e->out[0].at[i] = (expr);                                                                        \
        }                                                                                                    \
    }
BINARY(add, a + b)
BINARY(sub, a - b)
BINARY(mul, a *b)
BINARY(div, a / b)
#undef BINARY

void eval_broadcast(Eval *e) {
    int64_t count = type_count(&e->out[0].type);
    const int64_t *map = broadcast_map(&e->in[0].type, &e->out[0].type, e->arena);
    for (int64_t i = 0; i < count; i++) e->out[0].at[i] = e->in[0].at[map[i]];
}

/* ---- along rows */

void eval_rotate_half(Eval *e) {
    int64_t rows = type_rows(&e->in[0].type), d = type_cols(&e->in[0].type);
    for (int64_t r = 0; r < rows; r++) {
        const double *a = e->in[0].at + r * d;
        double *out = e->out[0].at + r * d;
        for (int64_t j = 0; j < d / 2; j++) {
            out[j] = -a[d / 2 + j];
            out[d / 2 + j] = a[j];
        }
    }
}

void eval_sum(Eval *e) {
    int64_t rows = type_rows(&e->in[0].type), n = type_cols(&e->in[0].type);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t j = 0; j < n; j++) e->out[0].at[r] += e->in[0].at[r * n + j];
    }
}

void eval_max(Eval *e) {
    int64_t rows = type_rows(&e->in[0].type), n = type_cols(&e->in[0].type);
    for (int64_t r = 0; r < rows; r++) {
        double m = e->in[0].at[r * n];
        for (int64_t j = 1; j < n; j++) {
            double a = e->in[0].at[r * n + j];
            if (a > m || isnan(a)) m = a;
        }
        e->out[0].at[r] = m;
    }
}

void eval_pick(Eval *e) {
    int64_t rows = type_rows(&e->in[0].type), n = type_cols(&e->in[0].type);
    for (int64_t r = 0; r < rows; r++) {
        int64_t j = eval_index(e, &e->in[1], r, n);
        e->out[0].at[r] = j < 0 ? NAN : e->in[0].at[r * n + j];
    }
}

void eval_onehot(Eval *e) {
    int64_t rows = type_rows(&e->out[0].type), n = type_cols(&e->out[0].type);
    for (int64_t r = 0; r < rows; r++) {
        int64_t j = eval_index(e, &e->in[0], r, n);
        if (j >= 0) e->out[0].at[r * n + j] = 1;
    }
}

/* ---- across rows */

/* out[n] += rows begin .. end-1 of x[..,n] */
static void add_rows(const double *x, int64_t n, int64_t begin, int64_t end, double *out) {
    for (int64_t r = begin; r < end; r++) {
        for (int64_t j = 0; j < n; j++) out[j] += x[r * n + j];
    }
}

void eval_sum_rows(Eval *e) {
    const Type *t = &e->in[0].type;
    add_rows(e->in[0].at, type_cols(t), 0, type_rows(t), e->out[0].at);
}

void eval_partial_sum(Eval *e) {
    int64_t rows = type_rows(&e->in[0].type), n = type_cols(&e->in[0].type), parts = e->out[0].type.dim[0];
    int64_t step = (rows + parts - 1) / parts;
    for (int64_t p = 0; p < parts; p++) {
        int64_t end = (p + 1) * step < rows ? (p + 1) * step : rows;
        add_rows(e->in[0].at, n, p * step, end, e->out[0].at + p * n);
    }
}
