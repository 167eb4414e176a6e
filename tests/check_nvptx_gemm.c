/* Matrix products of a GPU, on the emulated device against the interpreter: each storage of the operands,
 * sizes around the edges of tiles, both sizes of tiles; and what ptxas makes of those of Qwen3-0.6B. */
#include "nvptx_test.h"
#include "seeds.h"

/* clang-format off */
static const GemmDesc cases[] = {
    /* m, n, k, a_cols, b, group, accumulate, a_bf16 */
    {1, 1, 1, false, GEMM_B_KN, 0, false, false},
    {45, 151, 33, false, GEMM_B_KN, 0, false, false},
    {45, 151, 33, true, GEMM_B_KN, 0, true, false},
    {132, 140, 36, true, GEMM_B_KN, 0, false, false},
    {45, 151, 33, true, GEMM_B_BF16_KN, 0, true, false},
    {132, 140, 36, true, GEMM_B_BF16_KN, 0, false, false},
    {65, 17, 100, false, GEMM_B_NK, 0, false, false},
    {64, 64, 64, false, GEMM_B_NK, 0, true, false},
    {45, 151, 33, true, GEMM_B_BF16_KN, 0, true, true},
    {132, 140, 36, true, GEMM_B_KN, 0, false, true},
    {45, 70, 250, false, GEMM_B_T2_NK, 128, false, true},
    {45, 250, 70, false, GEMM_B_T2_KN, 128, false, true},
    {50, 60, 250, false, GEMM_B_T2_NK, 100, false, true},
    {45, 70, 256, false, GEMM_B_T2_NK, 128, false, false},
    {45, 256, 70, false, GEMM_B_T2_KN, 128, false, false},
    {50, 60, 250, false, GEMM_B_T2_NK, 100, false, false},
    {50, 250, 60, false, GEMM_B_T2_KN, 100, false, false},
    {20, 35, 77, false, GEMM_B_T2_NK, 7, false, false},
    {20, 77, 35, false, GEMM_B_T2_KN, 7, false, false},
    {20, 40, 70, false, GEMM_B_T2_NK, 1000, false, false},
    {20, 70, 40, false, GEMM_B_T2_KN, 1000, false, false},
    {30, 90, 300, false, GEMM_B_T2_NK, 150, false, false},
    {9, 301, 140, false, GEMM_B_T2_KN, 75, false, false},
    /* on tensor cores tiles of 128 x 256, then of 192 x 128 */
    {200, 7100, 40, false, GEMM_B_T2_NK, 32, false, false},
    {200, 7100, 40, false, GEMM_B_T2_KN, 64, false, false},
    {1280, 1281, 40, false, GEMM_B_T2_NK, 32, false, true},
    {1281, 1280, 40, false, GEMM_B_T2_KN, 64, false, true},
    /* of 64 x 128 with four slices of k, then of 128 x 128 with two */
    {1100, 501, 70, true, GEMM_B_BF16_KN, 0, true, true},
    {2140, 500, 200, true, GEMM_B_BF16_KN, 0, false, true},
};
static const GemvDesc few[] = {
    {1, 1, 1, 128, false}, {1, 151, 45, 128, false}, {1, 1000, 576, 128, false}, {2, 151, 200, 128, false},
    {3, 77, 330, 32, false}, {4, 75, 129, 128, false}, {1, 4000, 40, 64, false},
};
/* clang-format on */
enum { CASES = sizeof cases / sizeof *cases, FEW = sizeof few / sizeof *few };

/* The kinds that a product can have. */
static const KernelKind kinds[] = {KERNEL_gemm, KERNEL_gemm_bf16, KERNEL_gemm_i16};
static const char *const precisions[] = {NULL, "bf16", "i16"};
enum { KINDS = sizeof kinds / sizeof *kinds };

static KernelDesc kernel_of(KernelKind kind, const GemmDesc *d) {
    KernelDesc k = {.kind = kind};
    if (kind == KERNEL_gemm)
        k.gemm = *d;
    else if (kind == KERNEL_gemm_bf16)
        k.gemm_bf16 = *d;
    else
        k.gemm_i16 = *d;
    return k;
}

/* int16 is for ternary weights alone, activations stored as bf16 for products in it. */
static bool has(int kind, const GemmDesc *d) {
    return d->a_bf16 ? kinds[kind] == KERNEL_gemm_bf16 : kinds[kind] != KERNEL_gemm_i16 || d->group;
}

/* Large tiles take a second each to emulate, int16 three: one of those is enough, and under AddressSanitizer,
 * which looks at what generates them, none. */
static bool runs(int kind, const GemmDesc *d) {
    return d->m * d->n < 1000000 || (SEEDS_OF(4) == 4 && (kinds[kind] != KERNEL_gemm_i16 || d->b == GEMM_B_T2_KN));
}

/* Operands and what the interpreter makes of them; c is a result only. */
static NodeTest node_of(const GemmDesc *d, const char *precision) {
    uint64_t rng = (uint64_t)(d->m * 1000003 + d->n * 1009 + d->k);
    bool nk = d->b == GEMM_B_NK || d->b == GEMM_B_T2_NK;
    int64_t rows = nk ? d->n : d->k, cols = nk ? d->k : d->n;
    NodeTest t = node_test((uint64_t)(4 * (d->m * d->k + rows * cols + d->m * d->n)) + 8192);
    Type a = type_make(d->a_bf16 ? DT_BF16 : DT_F32, 2, d->a_cols ? (int64_t[]){d->k, d->m} : (int64_t[]){d->m, d->k});
    Attrs attrs = {0};
    if (nk) attrs.set |= A(tb), attrs.tb = true;
    if (d->a_cols) attrs.set |= A(ta), attrs.ta = true;
    if (precision) attrs.set |= A(precision), attrs.precision = precision;
    node_operand(&t, a, &rng);
    if (d->group)
        node_ternary(&t, rows, cols, d->group, &rng);
    else
        node_operand(&t, type_make(d->b == GEMM_B_BF16_KN ? DT_BF16 : DT_F32, 2, (int64_t[]){rows, cols}), &rng);
    if (!d->accumulate) {
        node_results(&t, d->group ? OP_tmatmul : OP_matmul, attrs);
    } else { /* c is the third operand, and the result in its place */
        t.made[0] = node_operand(&t, type_make(DT_F32, 2, (int64_t[]){d->m, d->n}), &rng);
        node_evaluate(&t, OP_matmul, attrs);
    }
    return t;
}

START_TEST(products) {
    Gen *g = test_gpu_gen("sm_80");
    KernelSize size[CASES];
    char name[16];
    for (int i = 0; i < CASES; i++) {
        if (!has(_i, &cases[i])) continue;
        snprintf(name, sizeof name, "gemm%d", i);
        KernelDesc k = kernel_of(kinds[_i], &cases[i]);
        size[i] = test_emit(g, name, &k);
    }
    TestModule m = test_module(g);
    for (int i = 0; i < CASES; i++) {
        const GemmDesc *d = &cases[i];
        if (!has(_i, d) || !runs(_i, d)) continue;
        NodeTest t = node_of(d, precisions[_i]);
        snprintf(name, sizeof name, "gemm%d", i);
        test_launch(&m, name, &t.args, size[i]);
        double error = node_error(&t, 0);
        ck_assert_msg(error < 1e-6, "%s %s %dx%dx%d: error %g", precisions[_i] ? precisions[_i] : "f32", name,
                      (int)d->m, (int)d->n, (int)d->k, error);
        node_test_free(&t);
    }
    test_module_free(&m);
}
END_TEST

START_TEST(few_rows) {
    Gen *g = test_gpu_gen("sm_80");
    KernelSize size[FEW];
    char name[16];
    for (int i = 0; i < FEW; i++) {
        snprintf(name, sizeof name, "gemv%d", i);
        size[i] = TEST_EMIT(g, name, gemv, few[i]);
    }
    TestModule m = test_module(g);
    for (int i = 0; i < FEW; i++) {
        const GemvDesc *d = &few[i];
        NodeTest t = node_of(&(GemmDesc){d->m, d->n, d->k, false, GEMM_B_T2_NK, d->group, false, false}, NULL);
        snprintf(name, sizeof name, "gemv%d", i);
        test_launch(&m, name, &t.args, size[i]);
        double error = node_error(&t, 0);
        ck_assert_msg(error < 1e-6, "%s %dx%dx%d: error %g", name, (int)d->m, (int)d->n, (int)d->k, error);
        node_test_free(&t);
    }
    test_module_free(&m);
}
END_TEST

/* Forward, dX and dW of the feed-forward layer at 16k tokens and at 1k. */
START_TEST(nothing_spills) {
    Gen *g = test_gpu_gen("sm_80");
    static const GemmDesc shapes[] = {
        {16384, 3072, 1024, false, GEMM_B_T2_NK, 128, false, false},
        {16384, 1024, 3072, false, GEMM_B_T2_KN, 128, false, false},
        {3072, 1024, 16384, true, GEMM_B_KN, 0, true, false},
        {3072, 1024, 16384, true, GEMM_B_BF16_KN, 0, true, false},
        {16384, 3072, 1024, false, GEMM_B_T2_NK, 128, false, true},
        {16384, 1024, 3072, false, GEMM_B_T2_KN, 128, false, true},
        {3072, 1024, 16384, true, GEMM_B_KN, 0, true, true},
        {3072, 1024, 16384, true, GEMM_B_BF16_KN, 0, true, true},
        {2048, 1024, 16384, true, GEMM_B_BF16_KN, 0, true, true},
        {1024, 1024, 16384, true, GEMM_B_BF16_KN, 0, true, true},
        {2304, 1024, 1024, false, GEMM_B_T2_NK, 128, false, false}, /* 12 x 8 of 192 x 128 */
        {2304, 1024, 1024, false, GEMM_B_T2_KN, 128, false, false},
        {1024, 1024, 1024, false, GEMM_B_T2_NK, 128, false, false},
    };
    char name[16];
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (!has(_i, &shapes[i])) continue;
        KernelDesc k = kernel_of(kinds[_i], &shapes[i]);
        snprintf(name, sizeof name, "gemm%zu", i);
        test_emit(g, name, &k);
    }
    if (_i == 0) TEST_EMIT(g, "gemv", gemv, {1, 151936, 1024, 128, false});
    nvptx_assemble(g, 255);
}
END_TEST

int main(void) {
    Suite *s = suite_create("nvptx_gemm");
    TCase *c = tcase_create("nvptx_gemm");
    tcase_set_timeout(c, 300);
    if (test_devices() == 3) {
        tcase_add_loop_test(c, products, 0, KINDS);
        tcase_add_test(c, few_rows);
    }
    tcase_add_loop_test(c, nothing_spills, 0, KINDS);
    suite_add_tcase(s, c);
    return run_suite(s);
}
