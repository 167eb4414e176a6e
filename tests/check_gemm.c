/* Matrix products in f32 and bf16: every storage of A and B, sizes around every block edge, against sums in f64
 * of what bf16 rounds its operands to (ir/eval_bf16.c). */
#include "suite.h"
#include "tier_test.h"

/* clang-format off */
static const GemmDesc cases[] = {
    /* m, n, k, a_cols, b, group, accumulate, a_bf16 */
    {1, 1, 1, false, GEMM_B_KN, 0, false, false},
    {1, 151, 45, false, GEMM_B_T2_NK, 128, false, false},
    {1, 1000, 576, false, GEMM_B_T2_NK, 128, false, false},
    {45, 151, 33, false, GEMM_B_KN, 0, false, false},
    {45, 151, 33, true, GEMM_B_KN, 0, true, false},
    {129, 17, 300, false, GEMM_B_NK, 0, false, false},
    {7, 15, 513, true, GEMM_B_NK, 0, true, false},
    {6, 16, 4, false, GEMM_B_KN, 0, true, false},
    {14, 32, 256, false, GEMM_B_NK, 0, false, false},
    {257, 301, 129, false, GEMM_B_KN, 0, false, false},
    {257, 301, 129, true, GEMM_B_KN, 0, false, false},
    {300, 40, 600, true, GEMM_B_KN, 0, true, false},
    {600, 1100, 40, false, GEMM_B_KN, 0, false, false},
    {45, 151, 33, true, GEMM_B_BF16_KN, 0, true, false},
    {257, 301, 129, true, GEMM_B_BF16_KN, 0, false, true},
    {1100, 24, 20, false, GEMM_B_NK, 0, true, false},
    {45, 151, 256, false, GEMM_B_T2_NK, 128, false, false},
    {45, 151, 256, false, GEMM_B_T2_NK, 128, true, false},
    {45, 256, 151, false, GEMM_B_T2_KN, 128, false, false},
    {129, 200, 576, false, GEMM_B_T2_NK, 128, false, false},
    {129, 576, 200, false, GEMM_B_T2_KN, 128, true, false},
    {50, 60, 250, false, GEMM_B_T2_NK, 100, false, false},
    {50, 250, 60, false, GEMM_B_T2_KN, 100, false, false},
    {33, 47, 330, false, GEMM_B_T2_NK, 48, false, false},
    {33, 330, 47, false, GEMM_B_T2_KN, 48, false, false},
    {20, 35, 77, false, GEMM_B_T2_NK, 7, false, false},
    {20, 77, 35, false, GEMM_B_T2_KN, 7, false, false},
    {20, 40, 70, false, GEMM_B_T2_NK, 1000, false, false},
    {20, 70, 40, true, GEMM_B_T2_KN, 1000, false, false},
    {2, 700, 17, false, GEMM_B_T2_KN, 8, false, false},
    {500, 530, 520, false, GEMM_B_T2_NK, 128, false, false},
    {500, 530, 520, false, GEMM_B_T2_KN, 64, false, false},
    /* by look-up, and just not */
    {16, 128, 32, false, GEMM_B_T2_NK, 32, false, false},
    {16, 128, 32, false, GEMM_B_T2_KN, 128, true, false},
    {15, 128, 32, false, GEMM_B_T2_NK, 32, false, false},
    {35, 200, 70, false, GEMM_B_T2_NK, 1000, true, false},
    {35, 200, 70, false, GEMM_B_T2_KN, 1000, false, false},
    {33, 400, 47, true, GEMM_B_T2_KN, 128, false, false},
    {17, 129, 65, true, GEMM_B_T2_NK, 64, false, false},
    {40, 1100, 1400, false, GEMM_B_T2_NK, 96, false, false},
    {40, 1400, 1100, false, GEMM_B_T2_KN, 256, true, false},
    {129, 200, 590, false, GEMM_B_T2_NK, 128, false, true},
    {33, 140, 330, false, GEMM_B_T2_KN, 128, false, true},
    {100, 700, 64, false, GEMM_B_T2_KN, 256, false, false}, /* groups of more than one span: tiles end with them */
};
/* clang-format on */
enum { CASES = sizeof cases / sizeof *cases };

static bool is_ternary(const GemmDesc *d) {
    return d->b == GEMM_B_T2_KN || d->b == GEMM_B_T2_NK;
}

static bool is_nk(const GemmDesc *d) {
    return d->b == GEMM_B_NK || d->b == GEMM_B_T2_NK;
}

/* c += a b in f64, all plain row-major [m,k], and b as stored. */
static void reference(const GemmDesc *d, const float *a, const double *b, double *c) {
    for (int64_t i = 0; i < d->m; i++)
        for (int64_t p = 0; p < d->k; p++) {
            double x = d->a_cols ? a[p * d->m + i] : a[i * d->k + p];
            for (int64_t j = 0; j < d->n; j++)
                c[i * d->n + j] += x * (is_nk(d) ? b[j * d->k + p] : b[p * d->n + j]);
        }
}

/* What is left of the operands in bf16: weights stored [n,k] are codes and scales apart, and exact. */
static void round_operands(const GemmDesc *d, float *a, double *b) {
    for (int64_t i = 0; i < d->m * d->k; i++) a[i] = bf16_round(a[i]);
    for (int64_t i = 0; d->b != GEMM_B_T2_NK && i < d->k * d->n; i++) b[i] = bf16_round((float)b[i]);
}

static void check_case(void *so, const char *name, const GemmDesc *d, bool bf16, uint32_t tiles,
                       uint64_t scratch) {
    uint64_t state = (uint64_t)(d->m * 1000003 + d->n * 1009 + d->k);
    int64_t rows = is_nk(d) ? d->n : d->k, cols = is_nk(d) ? d->k : d->n;
    int64_t b_bytes = is_ternary(d) ? ternary_layout(rows, cols, d->group).bytes : 4 * rows * cols;
    TestArgs args = test_args((uint64_t)(4 * d->m * d->k + b_bytes + 4 * d->m * d->n) + 4096);
    float *a = test_arg(&args, (uint64_t)(4 * d->m * d->k));
    void *b = test_arg(&args, (uint64_t)b_bytes);
    float *c = test_arg(&args, (uint64_t)(4 * d->m * d->n));
    float *from = xcalloc((size_t)(d->m * d->k), sizeof *from);
    double *w = xcalloc((size_t)(rows * cols), sizeof *w),
           *want = xcalloc((size_t)(d->m * d->n), sizeof *want);
    test_fill(from, d->m * d->k, &state);
    memcpy(a, from, sizeof *from * (size_t)(d->m * d->k));
    if (d->a_bf16) test_to_bf16(a, d->m * d->k);
    test_fill(c, d->m * d->n, &state);
    if (is_ternary(d)) {
        test_fill_ternary(b, w, rows, cols, d->group, &state);
    } else {
        test_fill(b, rows * cols, &state);
        for (int64_t i = 0; i < rows * cols; i++) {
            float x = ((float *)b)[i];
            w[i] = d->b == GEMM_B_BF16_KN ? bf16_round(x) : x;
        }
        if (d->b == GEMM_B_BF16_KN) test_to_bf16(b, rows * cols);
    }
    for (int64_t i = 0; i < d->m * d->n; i++) want[i] = d->accumulate ? c[i] : 0;
    test_run(so, name, &args, tiles, scratch);
    if (bf16) round_operands(d, from, w);
    reference(d, from, w, want);
    double error = test_error(c, want, d->m * d->n);
    ck_assert_msg(error < 1e-6, "%s %lldx%lldx%lld: error %g", name, (long long)d->m, (long long)d->n,
                  (long long)d->k, error);
    free(from), free(w), free(want);
    test_args_free(&args);
}

/* Every step-th case. */
static Gen *emit_cases(const Target *t, bool bf16, int step) {
    Gen *g = gen_new(t, "test");
    for (int i = 0; i < CASES; i += step) {
        char name[16];
        snprintf(name, sizeof name, "gemm%d", i);
        (bf16 ? gen_gemm_bf16 : gen_gemm)(g, name, &cases[i]);
    }
    return g;
}

/* AVX-512 without bf16 takes the rounded panels of the host, in its own tiles. */
static const struct {
    const char *cpu;
    bool bf16;
    int step;
} runs[] = {{NULL, false, 1},
            {"sapphirerapids", false, 1},
            {NULL, true, 1},
            {"sapphirerapids", true, 1},
            {"x86-64-v4", true, 3}};
enum { RUNS = sizeof runs / sizeof *runs };

START_TEST(products) {
    const Target *t = test_tier(runs[_i].cpu);
    bool bf16 = runs[_i].bf16; /* a stored as bf16 is for those */
    void *so = test_load(emit_cases(t, bf16, runs[_i].step));
    for (int i = 0; i < CASES; i += runs[_i].step) {
        char name[16];
        if (cases[i].a_bf16 && !bf16) continue;
        snprintf(name, sizeof name, "gemm%d", i);
        check_case(so, name, &cases[i], bf16, (bf16 ? gemm_bf16_tiles : gemm_tiles)(&cases[i], t),
                   (bf16 ? gemm_bf16_scratch : gemm_scratch)(&cases[i], t));
    }
    dlclose(so);
}
END_TEST

/* A NaN whose low bits alone say that it is one, and what rounds up to infinity. */
START_TEST(bf16_keeps_what_is_not_finite) {
    const GemmDesc d = {.m = 1, .n = 1, .k = 1};
    static const uint32_t bits[] = {0x7f800001, 0xffffffff, 0x7f7fffff};
    const Target *t = test_tier(_i ? "sapphirerapids" : NULL);
    Gen *g = gen_new(t, "test");
    gen_gemm_bf16(g, "gemm", &d);
    void *so = test_load(g);
    for (int i = 0; i < 3; i++) {
        TestArgs args = test_args(4096);
        memcpy(test_arg(&args, 4), &bits[i], 4);
        *(float *)test_arg(&args, 4) = 1;
        float *c = test_arg(&args, 4);
        test_run(so, "gemm", &args, 1, gemm_bf16_scratch(&d, t));
        ck_assert(i < 2 ? isnan(*c) : isinf(*c));
        test_args_free(&args);
    }
    dlclose(so);
}
END_TEST

/* ---- few rows */

static const GemvDesc few[] = {
    /* m, n, k, group, i16 */
    {1, 1, 1, 128, false}, {1, 151, 45, 128, false}, {1, 1000, 576, 128, false}, {1, 3, 16, 16, false},
    {1, 7, 200, 64, false}, {1, 130, 1024, 16, false}, {1, 9, 96, 48, false}, {1, 5, 7, 100, false},
    {1, 260, 3072, 128, false}, {1, 64, 1000, 1000, false}, {1, 1, 128, 128, false}, {1, 37, 512, 256, false},
    {1, 9, 640, 4096, false}, {1, 1, 1, 0, false}, {1, 67, 77, 0, false}, {1, 33, 1024, 0, false},
    {2, 151, 200, 128, false}, {3, 77, 330, 32, false}, {4, 75, 129, 128, false}, {4, 1, 17, 64, false},
    {2, 6, 4096, 4096, false},
};
enum { FEW = sizeof few / sizeof *few };

static Gen *emit_few(const Target *t) {
    Gen *g = gen_new(t, "test");
    for (int i = 0; i < FEW; i++) {
        char name[16];
        snprintf(name, sizeof name, "gemv%d", i);
        gen_gemv(g, name, &few[i]);
    }
    return g;
}

START_TEST(few_rows) {
    const Target *t = test_tier(_i ? "sapphirerapids" : NULL);
    void *so = test_load(emit_few(t));
    for (int i = 0; i < FEW; i++) {
        char name[16];
        snprintf(name, sizeof name, "gemv%d", i);
        GemmDesc d = {.m = few[i].m, .n = few[i].n, .k = few[i].k, .group = few[i].group};
        d.b = d.group ? GEMM_B_T2_NK : GEMM_B_NK;
        ck_assert(gemv_fits(&few[i]));
        check_case(so, name, &d, false, gemv_tiles(&few[i], t), gemv_scratch(&few[i], t));
    }
    dlclose(so);
    ck_assert(!gemv_fits(&(GemvDesc){5, 64, 64, 16, false}));
    ck_assert(!gemv_fits(&(GemvDesc){2, 64, 64, 0, false}));
    ck_assert(!gemv_fits(&(GemvDesc){1, 64, 64, 24, false})); /* a word of codes with two scales */
}
END_TEST

/* What is not finite stays so, in whole blocks and in the last one; and what is tiny beside it is not lost. */
START_TEST(few_rows_of_extremes) {
    const GemvDesc d = {1, 1, 200, 128, false};
    const Target *t = test_tier(_i ? "sapphirerapids" : NULL);
    Gen *g = gen_new(t, "test");
    gen_gemv(g, "gemv", &d);
    void *so = test_load(g);
    static const struct {
        int at;
        float x;
    } one[] = {{3, NAN}, {3, INFINITY}, {199, -INFINITY}, {199, NAN}, {5, 1e30f}, {150, 1e-30f}, {7, 0}};
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        TestArgs args = test_args(8192);
        uint64_t state = 1;
        double w[200], want = 0;
        float *x = test_arg(&args, sizeof(float) * 200);
        test_fill_ternary(test_arg(&args, (uint64_t)ternary_layout(1, 200, 128).bytes), w, 1, 200, 128, &state);
        float *y = test_arg(&args, sizeof *y);
        for (int k = 0; k < 200; k++) x[k] = 0;
        x[one[i].at] = one[i].x, x[100] = 1e-3f;
        for (int k = 0; k < 200; k++) want += w[k] * x[k];
        test_run(so, "gemv", &args, gemv_tiles(&d, t), gemv_scratch(&d, t));
        ck_assert(isfinite(one[i].x) ? fabs(*y - want) <= 1e-6 * fabs(want) : !isfinite(*y));
        test_args_free(&args);
    }
    dlclose(so);
}
END_TEST

START_TEST(few_rows_take_vnni) {
    char *text = test_compile(emit_few(test_target("znver4")));
    ck_assert_msg(strstr(text, "vpdpbusd"), "no sums of four products of bytes");
    free(text);
}
END_TEST

START_TEST(compiles_for_avx512) {
    static const char *const cpus[] = {"znver4", "sapphirerapids"};
    char *text = test_compile(emit_cases(test_target(cpus[_i]), false, 4));
    ck_assert_msg(strstr(text, "zmm"), "no 512-bit registers for %s", cpus[_i]);
    free(text);
}
END_TEST

START_TEST(bf16_takes_its_instructions) {
    static const struct {
        const char *cpu;
        bool pairs;
    } targets[] = {{"cooperlake", true}, {"icelake-server", false}, {"alderlake", false}};
    char *text = test_compile(emit_cases(test_target(targets[_i].cpu), true, 4));
    ck_assert(targets[_i].pairs == (strstr(text, "vdpbf16ps") && strstr(text, "vcvtneps2bf16")));
    ck_assert(targets[_i].pairs || !strstr(text, "bf16ps"));
    free(text);
}
END_TEST

/* The sums must stay in registers: no vector goes to the stack or comes back from it. */
START_TEST(microkernel_does_not_spill) {
    static const struct {
        const char *cpu, *kernel, *multiply;
        void (*generate)(Gen *, const char *, const GemmDesc *);
    } kernels[] = {{"x86-64-v3", "microkernel", "vfmadd", gen_gemm},
                   {"x86-64-v4", "microkernel", "vfmadd", gen_gemm},
                   {"znver4", "microkernel_bf16", "vdpbf16ps", gen_gemm_bf16},
                   {"znver4", "microkernel_bf16_64", "vdpbf16ps", gen_gemm_bf16}};
    const char *cpu = kernels[_i].cpu, *name = kernels[_i].kernel;
    bool ternary = strstr(name, "_64");
    GemmDesc d = {.m = 64, .n = 64, .k = 64, .b = ternary ? GEMM_B_T2_NK : GEMM_B_KN, .group = ternary ? 64 : 0};
    Gen *g = test_gen(cpu);
    kernels[_i].generate(g, "gemm", &d);
    char *text = test_compile(g);
    ck_assert_int_ge(test_count(text, name, kernels[_i].multiply), 12);
    free(text);
}
END_TEST

/* Tiles for one core and for many: the same bits. With a second-level cache this small k is cut as well. */
START_TEST(cores_change_nothing) {
    const GemmDesc d = {.m = 128, .n = 900, .k = 300, .b = _i ? GEMM_B_T2_NK : GEMM_B_T2_KN, .group = 128};
    const uint64_t a_bytes = (uint64_t)(4 * d.m * d.k), c_bytes = (uint64_t)(4 * d.m * d.n);
    const int64_t rows = _i ? d.n : d.k, cols = _i ? d.k : d.n;
    const uint64_t b_bytes = (uint64_t)ternary_layout(rows, cols, d.group).bytes;
    double *w = xcalloc((size_t)(rows * cols), sizeof *w);
    float *c[2];
    TestArgs args[2];
    for (int i = 0; i < 2; i++) {
        Target t = *test_target(NULL);
        t.cores = i ? 64 : 1, t.l2 = 64 << 10;
        Gen *g = gen_new(&t, "test");
        gen_gemm(g, "gemm", &d);
        void *so = test_load(g);
        uint64_t state = 1;
        args[i] = test_args(a_bytes + b_bytes + c_bytes + 4096);
        test_fill(test_arg(&args[i], a_bytes), d.m * d.k, &state);
        test_fill_ternary(test_arg(&args[i], b_bytes), w, rows, cols, d.group, &state);
        c[i] = test_arg(&args[i], c_bytes);
        test_run(so, "gemm", &args[i], gemm_tiles(&d, &t), gemm_scratch(&d, &t));
        dlclose(so);
    }
    ck_assert_mem_eq(c[0], c[1], c_bytes);
    test_args_free(&args[0]), test_args_free(&args[1]), free(w);
}
END_TEST

/* Problems are cut into enough tiles to share, small ones too where there are many cores, and scratch stays
 * small whatever the size. */
START_TEST(tiles_and_scratch_are_bounded) {
    const Target *t = test_target(NULL);
    GemmDesc layer = {.m = 1024, .n = 3072, .k = 1024, .b = GEMM_B_T2_NK, .group = 128};
    GemmDesc head = {.m = 256, .n = 151936, .k = 1024, .b = GEMM_B_T2_NK, .group = 128};
    GemmDesc deep = {.m = 1024, .n = 1024, .k = 151936};
    ck_assert_uint_ge(gemm_tiles(&layer, t), 8);
    ck_assert_uint_ge(gemm_tiles(&head, t), 64);
    Target many = *t;
    many.cores = 64;
    ck_assert_uint_ge(gemm_tiles(&layer, &many), 64);
    ck_assert_uint_ge(gemm_tiles(&(GemmDesc){.m = 1024, .n = 512, .k = 512, .b = GEMM_B_NK}, &many), 64);
    ck_assert_uint_le(gemm_scratch(&head, t), 4 << 20);
    ck_assert_uint_le(gemm_scratch(&deep, t), 4 << 20);
}
END_TEST

int main(void) {
    Suite *s = suite_create("gemm");
    TCase *c = tcase_create("gemm");
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, products, 0, RUNS);
    tcase_add_loop_test(c, bf16_keeps_what_is_not_finite, 0, 2);
    tcase_add_loop_test(c, compiles_for_avx512, 0, 2);
    tcase_add_loop_test(c, bf16_takes_its_instructions, 0, 3);
    tcase_add_loop_test(c, few_rows, 0, 2);
    tcase_add_loop_test(c, few_rows_of_extremes, 0, 2);
    tcase_add_test(c, few_rows_take_vnni);
    tcase_add_loop_test(c, microkernel_does_not_spill, 0, 4);
    tcase_add_loop_test(c, cores_change_nothing, 0, 2);
    tcase_add_test(c, tiles_and_scratch_are_bounded);
    suite_add_tcase(s, c);
    return run_suite(s);
}
