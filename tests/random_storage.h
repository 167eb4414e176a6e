/* Random graphs about memory: views of views, pieces joined and cut, sums taken over, updates, values that
 * are stored crosswise, read late or written out. They make no sense as models, and are meant to hit every
 * rule of schedule and plan-memory, and every exception to it. */
#ifndef TBC_TEST_RANDOM_STORAGE_H
#define TBC_TEST_RANDOM_STORAGE_H

#include "random_graph.h"

enum { STORAGE_COLS = 16, STORAGE_ROWS = 48, STORAGE_STATES = 4 };

typedef struct Soup {
    Rng rng;
    Graph *g;
    VEC(Val) pool; /* f32[r,16], r at most 48 */
    Val hyper;
} Soup;

static inline int64_t soup_rows(const Soup *s, Val v) {
    return val_type(s->g, v)->dim[0];
}
static inline Val soup_any(Soup *s) {
    return s->pool.at[rng_below(&s->rng, s->pool.n)];
}

/* Some value of `rows` rows; the first of the pool has 16. */
static inline Val soup_of(Soup *s, int64_t rows) {
    uint32_t start = rng_below(&s->rng, s->pool.n);
    for (uint32_t i = 0; i < s->pool.n; i++) {
        Val v = s->pool.at[(start + i) % s->pool.n];
        if (soup_rows(s, v) == rows) return v;
    }
    ice("no value of %lld rows", (long long)rows);
}

static inline Val soup_slice(Soup *s, Val v) {
    int64_t rows = soup_rows(s, v), begin = rng_below(&s->rng, (uint32_t)rows);
    if (rng_below(&s->rng, 2) && rows > 16) begin = rows - 16; /* keep squares coming */
    Type t = f32_type(2, rows - begin, STORAGE_COLS, 0, 0);
    return graph_add(s->g, NULL, NULL, no_loc, OP_slice, &t, &v, 1, ATTRS(begin, begin));
}

static inline Val soup_concat(Soup *s) {
    Val in[3];
    int64_t rows = 0;
    uint32_t n = 0, want = 1 + rng_below(&s->rng, 3);
    while (n < want) {
        Val v = soup_any(s);
        if (rows + soup_rows(s, v) > STORAGE_ROWS) break;
        rows += soup_rows(s, v);
        in[n++] = v;
    }
    return n ? graph_add(s->g, NULL, NULL, no_loc, OP_concat, NULL, in, n, NULL) : soup_any(s);
}

/* Through other shapes, with an element-wise op on the way, or nothing. */
static inline Val soup_views(Soup *s, Val v) {
    Type t = *val_type(s->g, v), flat = f32_type(1, type_count(&t), 0, 0, 0),
         narrow = f32_type(2, t.dim[0] * 4, 4, 0, 0);
    v = ir_reshape(s->g, no_loc, v, &flat);
    if (rng_below(&s->rng, 2)) v = ir_scale(s->g, no_loc, v, -0.5);
    v = ir_reshape(s->g, no_loc, v, &narrow);
    if (rng_below(&s->rng, 2)) {
        Type half = f32_type(2, t.dim[0] * 4 - 2, 4, 0, 0); /* at 32 bytes: not aligned */
        Val in[2] = {graph_add(s->g, NULL, NULL, no_loc, OP_slice, &half, &v, 1, ATTRS(begin, 2)), v};
        half.dim[0] = 2;
        in[1] = graph_add(s->g, NULL, NULL, no_loc, OP_slice, &half, &v, 1, ATTRS(begin, 0));
        v = graph_add(s->g, NULL, NULL, no_loc, OP_concat, NULL, in, 2, NULL);
    }
    return ir_reshape(s->g, no_loc, v, &t);
}

static inline Val soup_product(Soup *s) {
    Graph *g = s->g;
    Val a = ir_scale(g, no_loc, soup_any(s), 0.06);
    if (rng_below(&s->rng, 3) == 0)
        return ir_matmul(g, no_loc, a, soup_of(s, 16), false, rng_below(&s->rng, 2));
    Attrs ta = {.set = A(ta), .ta = true};
    Val in[3] = {a, soup_of(s, soup_rows(s, a)), soup_of(s, 16)};
    if (soup_rows(s, a) == 16 && rng_below(&s->rng, 8) == 0)
        in[2] = in[rng_below(&s->rng, 2)]; /* a sum read twice */
    return graph_add(g, NULL, NULL, no_loc, OP_matmul, NULL, in, 3, &ta);
}

/* w, m or v of an update. */
static inline Val soup_update(Soup *s) {
    Val v = soup_of(s, 16), in[5] = {soup_of(s, 16), soup_of(s, 16), soup_of(s, 16),
                                     ir_binary(s->g, no_loc, OP_mul, v, v), s->hyper};
    Attrs attrs = {.set = A(beta1) | A(beta2) | A(eps), .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-3};
    return graph_add(s->g, NULL, NULL, no_loc, OP_adamw, NULL, in, 5, &attrs) + rng_below(&s->rng, 3);
}

static inline Val soup_rowwise(Soup *s, Val v) {
    Graph *g = s->g;
    if (rng_below(&s->rng, 3) == 0) return ir_binary(g, no_loc, OP_add, v, soup_of(s, soup_rows(s, v)));
    if (rng_below(&s->rng, 3) == 0)
        return ir_binary(g, no_loc, OP_mul, v, ir_unary(g, no_loc, OP_sum_rows, v));
    Val square = ir_unary(g, no_loc, OP_sum, ir_binary(g, no_loc, OP_mul, v, v));
    v = ir_binary(g, no_loc, OP_mul, v, ir_unary(g, no_loc, OP_rsqrt, ir_offset(g, no_loc, square, 1)));
    return rng_below(&s->rng, 2) ? ir_unary(g, no_loc, OP_rotate_half, v) : v;
}

static inline Val soup_step(Soup *s) {
    switch (rng_below(&s->rng, 7)) {
    case 0:
        return soup_slice(s, soup_any(s));
    case 1:
        return soup_concat(s);
    case 2:
        return soup_views(s, soup_any(s));
    case 3:
    case 4:
        return soup_product(s);
    case 5:
        return soup_update(s);
    default:
        return soup_rowwise(s, soup_any(s));
    }
}

static inline void soup_add(Soup *s, Val v) {
    vec_push(&s->pool, v);
}

/* One function; stores and outputs name any values, also states themselves. */
static inline Module *random_storage(uint64_t seed) {
    Soup s = {.rng = {seed}, .g = graph_new("soup")};
    Type square = f32_type(2, 16, STORAGE_COLS, 0, 0), hyper = f32_type(1, 4, 0, 0, 0);
    static const char *const state[STORAGE_STATES] = {"s0", "s1", "s2", "s3"};
    soup_add(&s, source(s.g, OP_param, "p", &square));
    for (int i = 0; i < STORAGE_STATES; i++) soup_add(&s, source(s.g, OP_state, state[i], &square));
    soup_add(&s, source(s.g, OP_input, "x", &square));
    s.hyper = source(s.g, OP_input, "hyper", &hyper);
    soup_add(&s, ir_splat(s.g, no_loc, &square, 0.25));
    for (uint32_t steps = 2 + rng_below(&s.rng, 12); steps > 0; steps--) soup_add(&s, soup_step(&s));
    for (int i = 0; i < STORAGE_STATES; i++)
        if (rng_below(&s.rng, 3)) sink(s.g, OP_store, state[i], soup_of(&s, 16));
    sink(s.g, OP_output, "y", soup_any(&s));
    sink(s.g, OP_output, "z", s.pool.at[s.pool.n - 1]);
    vec_free(&s.pool);
    Module *m = module_new();
    vec_push(&m->graphs, s.g);
    return m;
}

#endif
