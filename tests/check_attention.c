/* Causal attention, its gradients and its step of decoding against plain loops in f64: odd lengths, grouped and
 * single key heads, head dims around the register tiles. In bf16, the loops round what ir/eval_bf16.c says. */
#include "suite.h"
#include "tier_test.h"

static const AttnDesc cases[] = {
    /* b, s, h, g, d, scale */
    {1, 1, 1, 1, 2, 0.7, 0},       {2, 1, 4, 2, 8, 0.35, 0},     {1, 5, 2, 1, 10, 0.3, 0},
    {2, 45, 4, 2, 16, 0.25, 0},    {1, 45, 4, 1, 64, 0.125, 0},  {2, 96, 2, 2, 32, 0.18, 0},
    {1, 97, 2, 1, 32, 0.18, 0},    {1, 128, 2, 2, 80, 0.11, 0},  {1, 129, 6, 2, 64, 0.125, 0},
    {1, 300, 2, 1, 128, 0.088, 0}, {3, 17, 3, 3, 34, -0.171, 0}, {1, 224, 1, 1, 12, 2.0, 0},
};
enum { CASES = sizeof cases / sizeof *cases, ARGS = 9 };
enum { Q, K, V, LSE, DOUT, DELTA, DQ, DK, DV, OUT };

/* The same problem in f64. */
typedef struct Problem {
    const AttnDesc *d;
    bool bf16;
    int64_t count[10];
    double *x[10];
} Problem;

static Problem problem_new(const AttnDesc *d, bool bf16, uint64_t *state) {
    int64_t q = d->b * d->s * d->h * d->d, kv = d->b * d->s * d->g * d->d, stats = d->b * d->s * d->h;
    Problem p = {.d = d, .bf16 = bf16, .count = {q, kv, kv, stats, q, stats, q, kv, kv, q}};
    for (int i = 0; i < 10; i++) {
        p.x[i] = xcalloc((size_t)p.count[i], sizeof(double));
        if (i == Q || i == K || i == V || i == DOUT)
            for (int64_t j = 0; j < p.count[i]; j++) p.x[i][j] = 2 * test_random(state);
    }
    return p;
}

static void problem_free(Problem *p) {
    for (int i = 0; i < 10; i++) free(p->x[i]);
}

static double *vector_of(const Problem *p, int which, int64_t b, int64_t s, int64_t head) {
    int64_t heads = which == K || which == V || which == DK || which == DV ? p->d->g : p->d->h;
    return p->x[which] + ((b * p->d->s + s) * heads + head) * p->d->d;
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void add_scaled(double *y, double c, const double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] += c * x[i];
}

/* x as a factor of products. */
static double factor(const Problem *p, double x) {
    return p->bf16 ? (double)bf16_round((float)x) : x;
}

/* Output, log-sum-exp and all gradients for one query of one head. */
static void solve_query(Problem *p, int64_t b, int64_t i, int64_t h) {
    const AttnDesc *d = p->d;
    int64_t g = h / (d->h / d->g), stat = (b * d->s + i) * d->h + h;
    double *q = vector_of(p, Q, b, i, h), *out = vector_of(p, OUT, b, i, h),
           *dout = vector_of(p, DOUT, b, i, h);
    double total = 0, *w = xcalloc((size_t)i + 1, sizeof *w);
    for (int64_t j = 0; j <= i; j++) total += w[j] = exp(d->scale * dot(q, vector_of(p, K, b, j, g), d->d));
    for (int64_t j = 0; j <= i; j++) add_scaled(out, factor(p, w[j] /= total), vector_of(p, V, b, j, g), d->d);
    double delta = dot(out, dout, d->d);
    p->x[LSE][stat] = log(total);
    p->x[DELTA][stat] = delta;
    for (int64_t j = 0; j <= i; j++) {
        double ds = factor(p, d->scale * w[j] * (dot(dout, vector_of(p, V, b, j, g), d->d) - delta));
        add_scaled(vector_of(p, DV, b, j, g), factor(p, w[j]), dout, d->d);
        add_scaled(vector_of(p, DK, b, j, g), ds, q, d->d);
        add_scaled(vector_of(p, DQ, b, i, h), ds, vector_of(p, K, b, j, g), d->d);
    }
    free(w);
}

/* Factors are a little more than what bf16 rounds them to. */
static float *add_arg(TestArgs *a, const Problem *p, int which, bool filled) {
    bool more = p->bf16 && which != LSE && which != DELTA;
    float *x = test_arg(a, (uint64_t)(4 * p->count[which]));
    for (int64_t i = 0; i < p->count[which]; i++)
        x[i] = filled ? (float)(p->x[which][i] * (more ? 1 + 0x1p-12 : 1)) : NAN;
    return x;
}

static void expect(const Problem *p, const char *name, int which, const float *x) {
    /* dq and dk of a single key are 0 but for rounding */
    double norm = sqrt(dot(p->x[which], p->x[which], p->count[which]));
    double error = test_error(x, p->x[which], p->count[which]);
    if (norm > 0 && norm < 1e-9) error *= norm;
    /* weights are rounded relative to one of them or to their sum, and a last bit of f32 can decide how */
    double most = !p->bf16 ? 2e-6 : which == LSE ? 2e-6 : which == OUT ? 2e-3 : 1e-4;
    ck_assert_msg(error < most, "%s b%d s%d h%d g%d d%d: error %g of norm %g", name, (int)p->d->b,
                  (int)p->d->s, (int)p->d->h, (int)p->d->g, (int)p->d->d, error, norm);
}

/* One query, a few, and blocks of them, as far as there are positions. */
static const int64_t queries[] = {1, 5, 101};
enum { COUNTS = sizeof queries / sizeof *queries };

static AttnDecodeDesc decode_case(int index, int count) {
    const AttnDesc *d = &cases[index];
    return (AttnDecodeDesc){*d, d->s < queries[count] ? d->s : queries[count]};
}

static bool has_case(int index, int count) {
    return count < COUNTS && (count == 0 || queries[count - 1] < cases[index].s);
}

/* Queries from `pos` on of every sequence, after caches that hold nothing behind them. */
static void check_decode(void *so, int index, int count, const Target *t, const Problem *p, int64_t pos) {
    const AttnDecodeDesc decode = decode_case(index, count);
    const AttnDesc *d = &decode.at;
    char name[48];
    TestArgs a = test_args(1 << 24);
    int64_t row = decode.queries * d->h * d->d, first = pos * d->h * d->d, key = d->g * d->d, all = d->s * d->h * d->d;
    float *q = test_arg(&a, (uint64_t)(4 * d->b * row)), *k = add_arg(&a, p, K, true), *v = add_arg(&a, p, V, true);
    int32_t *at = test_arg(&a, (uint64_t)(4 * d->b));
    float *out = test_arg(&a, (uint64_t)(4 * d->b * row));
    for (int64_t b = 0; b < d->b; b++) {
        at[b] = (int32_t)pos;
        for (int64_t i = 0; i < row; i++) q[b * row + i] = (float)p->x[Q][b * all + first + i];
        for (int64_t i = (b * d->s + pos + decode.queries) * key; i < (b + 1) * d->s * key; i++) k[i] = v[i] = NAN;
    }
    snprintf(name, sizeof name, "attention_decode%d_%d", index, count);
    test_run(so, name, &a, attention_decode_tiles(&decode, t), attention_decode_scratch(&decode, t));
    for (int64_t b = 0; b < d->b; b++) {
        double error = test_error(out + b * row, p->x[OUT] + b * all + first, row);
        ck_assert_msg(error < 2e-6, "%s at %d: error %g", name, (int)pos, error);
    }
    test_args_free(&a);
}

/* Gradients are cut up differently for one core and for so many that no tile is whole; their bits are the
 * same. Several sequences, groups and blocks have to be told apart. */
static bool is_cut(int index) {
    return index == 3 || index == 8 || index == 9;
}

static Target for_cores(const Target *t, bool many) {
    Target target = *t;
    target.cores = many ? 1 << 20 : 1;
    return target;
}

static void check_case(void *so, int index, bool bf16, const Target *t) {
    uint64_t state = (uint64_t)index;
    const AttnDesc *d = &cases[index];
    Problem p = problem_new(d, bf16, &state);
    /* inputs as the kernels see them */
    for (int i = 0; i < 10; i++)
        for (int64_t j = 0; j < p.count[i]; j++) p.x[i][j] = factor(&p, (float)p.x[i][j]);
    for (int64_t b = 0; b < d->b; b++)
        for (int64_t s = 0; s < d->s; s++)
            for (int64_t h = 0; h < d->h; h++) solve_query(&p, b, s, h);
    char name[32];
    TestArgs a = test_args(1 << 24);
    for (int i = Q; i <= V; i++) add_arg(&a, &p, i, true);
    float *out = add_arg(&a, &p, OUT, false), *lse = add_arg(&a, &p, LSE, false);
    snprintf(name, sizeof name, "attention%d", index);
    test_run(so, name, &a, attention_tiles(d, t), (bf16 ? attention_bf16_scratch : attention_scratch)(d, t));
    expect(&p, name, OUT, out);
    expect(&p, name, LSE, lse);
    test_args_free(&a);
    for (int count = 0; !bf16 && has_case(index, count); count++) {
        int64_t last = d->s - decode_case(index, count).queries;
        for (int64_t pos = 0; pos < last; pos += 1 + d->s / 3) check_decode(so, index, count, t, &p, pos);
        check_decode(so, index, count, t, &p, last);
    }

    TestArgs grad[2];
    float *x[2][ARGS];
    for (int many = 0; many <= is_cut(index); many++) {
        const Target target = for_cores(t, many);
        grad[many] = test_args(1 << 24);
        for (int i = 0; i < ARGS; i++) x[many][i] = add_arg(&grad[many], &p, i, i <= DELTA);
        snprintf(name, sizeof name, "attention_grad%d_%d", index, many);
        test_run(so, name, &grad[many], attention_grad_tiles(d, &target),
                 (bf16 ? attention_grad_bf16_scratch : attention_grad_scratch)(d, &target));
        for (int i = DQ; i <= DV; i++) expect(&p, i == DQ ? "dq" : i == DK ? "dk" : "dv", i, x[many][i]);
    }
    for (int i = DQ; i <= DV && is_cut(index); i++)
        ck_assert_mem_eq(x[0][i], x[1][i], 4 * (size_t)p.count[i]);
    for (int many = 0; many <= is_cut(index); many++) test_args_free(&grad[many]);
    problem_free(&p);
}

static Gen *emit_all(const Target *t, bool bf16) {
    Gen *g = gen_new(t, "test");
    for (int i = 0; i < CASES; i++) {
        char name[32];
        snprintf(name, sizeof name, "attention%d", i);
        (bf16 ? gen_attention_bf16 : gen_attention)(g, name, &cases[i]);
        for (int many = 0; many <= is_cut(i); many++) {
            const Target target = for_cores(t, many);
            snprintf(name, sizeof name, "attention_grad%d_%d", i, many);
            g->target = &target;
            (bf16 ? gen_attention_grad_bf16 : gen_attention_grad)(g, name, &cases[i]);
            g->target = t;
        }
        for (int count = 0; !bf16 && has_case(i, count); count++) {
            snprintf(name, sizeof name, "attention_decode%d_%d", i, count);
            AttnDecodeDesc decode = decode_case(i, count);
            gen_attention_decode(g, name, &decode);
        }
    }
    return g;
}

START_TEST(attention_and_gradients) {
    const Target *t = test_tier(_i % 2 ? "sapphirerapids" : NULL);
    bool bf16 = _i / 2;
    void *so = test_load(emit_all(t, bf16));
    for (int i = 0; i < CASES; i++) check_case(so, i, bf16, t);
    dlclose(so);
}
END_TEST

START_TEST(compiles_for_avx512) {
    char *text =
        test_compile(emit_all(test_target("sapphirerapids"), false)); /* LLVM would rather use half */
    ck_assert_msg(strstr(text, "zmm"), "no 512-bit registers");
    free(text);
}
END_TEST

/* Scratch is blocks, not S x S. */
START_TEST(scratch_does_not_grow_with_length) {
    const Target *t = test_target(NULL);
    AttnDesc small = {1, 256, 2, 1, 128, 1, 0}, large = {1, 65536, 2, 1, 128, 1, 0};
    ck_assert_uint_eq(attention_scratch(&small, t), attention_scratch(&large, t));
    ck_assert_uint_eq(attention_grad_scratch(&small, t), attention_grad_scratch(&large, t));
    ck_assert_uint_le(attention_grad_scratch(&large, t), 2 << 20);
}
END_TEST

int main(void) {
    Suite *s = suite_create("attention");
    TCase *c = tcase_create("attention");
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, attention_and_gradients, 0, 4);
    tcase_add_test(c, compiles_for_avx512);
    tcase_add_test(c, scratch_does_not_grow_with_length);
    suite_add_tcase(s, c);
    return run_suite(s);
}
