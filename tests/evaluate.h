/* Running functions in the interpreter on seeded random data, and comparing the results: the means by
 * which pass tests show that a pass changed nothing that can be observed. */
#ifndef TBC_TEST_EVALUATE_H
#define TBC_TEST_EVALUATE_H

#include "../ir/ir.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64: a counter is its whole state. */
typedef struct Rng {
    uint64_t state;
} Rng;

static inline uint64_t rng_next(Rng *r) {
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
/* 0 .. n-1 */
static inline uint32_t rng_below(Rng *r, uint32_t n) {
    return (uint32_t)(rng_next(r) >> 32) % n;
}
/* lo .. hi, with 24 random bits, so that values are exact in f32 too. */
static inline double rng_uniform(Rng *r, double lo, double hi) {
    return lo + (hi - lo) * ((double)(rng_next(r) >> 40) / (double)(1 << 24));
}

static inline Tensor tensor_new(Arena *arena, const Type *type) {
    return (Tensor){.type = *type, .at = arena_array(arena, double, type_count(type))};
}

static inline const Tensor *find_tensor(const Bindings *b, const char *name) {
    for (uint32_t i = 0; i < b->n; i++)
        if (strcmp(b->at[i].name, name) == 0) return &b->at[i].tensor;
    return NULL;
}

/* i32 inputs are indices below this limit: small tables are enough for every test. */
enum { INDEX_LIMIT = 5 };

/* Data for one input, param or state that depends on seed and name alone, so every function and every
 * version of it sees the same. Floats are in -1 .. 1, states in 0 .. 1 (second moments are positive),
 * "pos" is in 0 .. 1 (sequences have at least two positions), other indices in 0 .. INDEX_LIMIT-1, and
 * "hyper" is a plausible learning rate. */
static inline void fill_random(Tensor *t, const char *name, Op op, uint64_t seed) {
    Rng r = {fnv1a(seed ^ FNV_INIT, name, strlen(name))};
    static const double hyper[4] = {0.999, 0.05, 1.25, 0.5};
    uint32_t limit = strcmp(name, "pos") == 0 ? 2 : INDEX_LIMIT;
    for (int64_t i = 0; i < type_count(&t->type); i++) {
        if (t->type.dtype == DT_I32)
            t->at[i] = rng_below(&r, limit);
        else if (strcmp(name, "hyper") == 0)
            t->at[i] = hyper[i % 4];
        else
            t->at[i] = rng_uniform(&r, op == OP_state ? 0 : -1, 1);
        if (t->type.dtype == DT_BF16) t->at[i] = (double)bf16_round((float)t->at[i]);
    }
}

/* Random data for all that g reads, appended to *in; memory is the arena's. */
static inline void bind_random(const Graph *g, uint64_t seed, Arena *arena, Bindings *in) {
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (n->op != OP_input && n->op != OP_param && n->op != OP_state) continue;
        Binding b = {arena_strdup(arena, n->attrs.name), tensor_new(arena, val_type(g, n->out))};
        fill_random(&b.tensor, b.name, n->op, seed);
        vec_push(in, b);
    }
}

/* Whether got is expected up to rounding: tol relative to the largest element. Both must be finite. */
static inline bool tensors_agree(const Tensor *expected, const Tensor *got, double tol, Buf *why) {
    if (!type_equal(&expected->type, &got->type)) return buf_printf(why, "another type"), false;
    double largest = 1e-6;
    for (int64_t i = 0; i < type_count(&got->type); i++) largest = fmax(largest, fabs(expected->at[i]));
    for (int64_t i = 0; i < type_count(&got->type); i++) {
        if (isfinite(expected->at[i]) && fabs(expected->at[i] - got->at[i]) <= tol * largest) continue;
        buf_printf(why, "element %lld is %.17g, expected %.17g", (long long)i, got->at[i], expected->at[i]);
        return false;
    }
    return true;
}

/* Whether two versions of a function give the same outputs and stores, in any order, on the same data. */
static inline bool graphs_agree(const Graph *before, const Graph *after, uint64_t seed, double tol,
                                Buf *why) {
    Arena *arena = arena_new();
    Diag diag = {0};
    Bindings in = {0}, in2 = {0}, expected = {0}, got = {0};
    bind_random(before, seed, arena, &in);
    bind_random(after, seed, arena, &in2);
    bool ok = eval_graph(before, EVAL_F64, in.at, in.n, arena, &expected, &diag) &&
              eval_graph(after, EVAL_F64, in2.at, in2.n, arena, &got, &diag);
    if (!ok) buf_printf(why, "@%s: %s", before->name, diag.text.at);
    if (ok && expected.n != got.n) {
        buf_printf(why, "@%s: %u results, expected %u", before->name, got.n, expected.n);
        ok = false;
    }
    for (uint32_t i = 0; ok && i < expected.n; i++) {
        const Tensor *t = find_tensor(&got, expected.at[i].name);
        Buf detail = {0};
        if (!t) buf_printf(&detail, "missing");
        ok = t && tensors_agree(&expected.at[i].tensor, t, tol, &detail);
        if (!ok) buf_printf(why, "@%s: %s: %s", before->name, expected.at[i].name, detail.at);
        buf_free(&detail);
    }
    vec_free(&in), vec_free(&in2), vec_free(&expected), vec_free(&got);
    buf_free(&diag.text);
    arena_free(arena);
    return ok;
}

/* Whether all functions of two versions of a module agree. */
static inline bool modules_agree(const Module *before, const Module *after, uint64_t seed, double tol,
                                 Buf *why) {
    if (before->graphs.n != after->graphs.n) return buf_printf(why, "another number of functions"), false;
    for (uint32_t i = 0; i < before->graphs.n; i++) {
        const Graph *g = before->graphs.at[i], *h = module_graph(after, g->name);
        if (!h) return buf_printf(why, "@%s is gone", g->name), false;
        if (!graphs_agree(g, h, seed, tol, why)) return false;
    }
    return true;
}

/* An independent copy, made through the text form. */
static inline Module *module_copy(const Module *m) {
    Buf text = {0};
    Diag diag = {0};
    print_module(m, &text);
    Module *copy = parse_module(text.at, "copy", &diag);
    if (!copy) ice("a printed module does not parse: %s", diag.text.at);
    buf_free(&text);
    buf_free(&diag.text);
    return copy;
}

#endif
