/* The product with AdamW and projection as its epilogue: every bit of the new weights, moments, codes and
 * scales is that of the three kernels that it replaces, which have tests of their own; on CPUs and on the
 * emulated GPU. */
#include "nvptx_test.h"
#include "seeds.h"

static const GemmAdamwDesc cases[] = {
    /* m, n, k, group: all of a row in one tile */
    {.m = 1, .n = 1, .k = 1, .group = 128},
    {.m = 37, .n = 100, .k = 19, .group = 128},
    {.m = 129, .n = 260, .k = 770, .group = 128}, /* several steps of k */
    /* several tiles along the row, with a last one that is shorter, and a last group */
    {.m = 300, .n = 1000, .k = 40, .group = 128},
    {.m = 200, .n = 1240, .k = 33, .group = 100},
    {.m = 64, .n = 900, .k = 50, .group = 20},
    {.m = 3, .n = 1500, .k = 5, .group = 32},
    {.m = 20, .n = 1029, .k = 9, .group = 1},
    /* one group a row, wider than blocks are */
    {.m = 70, .n = 2100, .k = 17, .group = 4096},
    {.m = 33, .n = 1300, .k = 20, .group = 650},
    {.m = 130, .n = 513, .k = 400, .group = 64, .bf16 = true},
    {.m = 20, .n = 300, .k = 35, .group = 0, .bf16 = true},
    {.m = 130, .n = 513, .k = 900, .group = 64, .b_bf16 = true},
    {.m = 37, .n = 300, .k = 35, .group = 128, .bf16 = true, .a_bf16 = true, .b_bf16 = true},
    /* moments as bf16 */
    {.m = 70, .n = 1000, .k = 40, .group = 128, .moments_bf16 = true},
    {.m = 64, .n = 300, .k = 35, .group = 0, .bf16 = true, .a_bf16 = true, .moments_bf16 = true},
    /* full precision */
    {.m = 200, .n = 700, .k = 400, .group = 0},
    {.m = 13, .n = 5, .k = 3, .group = 0},
    /* 6 x 13 of a GPU's 192 x 128 */
    {.m = 1100, .n = 1544, .k = 20, .group = 128, .bf16 = true, .a_bf16 = true, .b_bf16 = true},
};
enum { CASES = sizeof cases / sizeof *cases };

static GemmAdamwDesc with_betas(const GemmAdamwDesc *c) {
    GemmAdamwDesc d = *c;
    d.beta1 = 0.9, d.beta2 = 0.95, d.eps = 1e-8;
    return d;
}

typedef struct Sizes {
    KernelSize fused, gemm, adamw, ternary;
} Sizes;

static Sizes emit(Gen *g, int i, bool parts) {
    GemmAdamwDesc d = with_betas(&cases[i]);
    AdamwDesc update = {d.m * d.n, d.beta1, d.beta2, d.eps, d.moments_bf16};
    Sizes size = {0};
    char name[32];
    snprintf(name, sizeof name, "fused%d", i);
    size.fused = TEST_EMIT(g, name, gemm_adamw, d);
    if (!parts) return size;
    snprintf(name, sizeof name, "gemm%d", i);
    size.gemm =
        d.bf16 ? TEST_EMIT(g, name, gemm_bf16, gemm_adamw_product(&d)) : TEST_EMIT(g, name, gemm, gemm_adamw_product(&d));
    snprintf(name, sizeof name, "adamw%d", i);
    size.adamw = TEST_EMIT(g, name, adamw, update);
    snprintf(name, sizeof name, "ternary%d", i);
    if (d.group) size.ternary = TEST_EMIT(g, name, ternary, {d.m, d.n, d.group});
    return size;
}

typedef struct Buffers {
    TestArgs args;
    float *w, *m, *v, *hyper;
    unsigned char *codes;
} Buffers;

enum { A, B, W, M, V, HYPER, CODES, GRAD, KEY }; /* of the arguments */

static Buffers make_buffers(const GemmAdamwDesc *d, uint64_t code_bytes) {
    static const float hyper[] = {0.995f, 0.02f, 1.5f, 0.25f};
    static const int32_t key[] = {-5, 1234567};
    int64_t count = d->m * d->n;
    uint64_t bytes = (uint64_t)count * 4, state = (uint64_t)(d->m * 131 + d->n), room;
    room = (uint64_t)(d->m + d->n) * (uint64_t)d->k * 4 + 4 * bytes + code_bytes + 8192;
    Buffers x = {.args = test_args(room)};
    float *a = test_arg(&x.args, (uint64_t)(d->k * d->m) * 4);
    test_fill(a, d->k * d->m, &state);
    if (d->a_bf16) test_to_bf16(a, d->k * d->m);
    float *b = test_arg(&x.args, (uint64_t)(d->k * d->n) * 4);
    test_fill(b, d->k * d->n, &state);
    if (d->b_bf16) test_to_bf16(b, d->k * d->n);
    test_fill(x.w = test_arg(&x.args, bytes), count, &state);
    test_fill(x.m = test_arg(&x.args, bytes), count, &state);
    test_fill(x.v = test_arg(&x.args, bytes), count, &state);
    for (int64_t i = 0; i < count; i++) x.v[i] = fabsf(x.v[i]);
    if (d->moments_bf16) test_to_bf16(x.m, count), test_to_bf16(x.v, count);
    memcpy(x.hyper = test_arg(&x.args, sizeof hyper), hyper, sizeof hyper);
    x.codes = test_arg(&x.args, code_bytes);
    memset(x.codes, 0xee, code_bytes);
    test_arg(&x.args, bytes);
    memcpy(test_arg(&x.args, sizeof key), key, sizeof key);
    return x;
}

/* The arguments of one of the three kernels, chosen from all. */
static TestArgs choose(const Buffers *x, const int *which, uint32_t n) {
    TestArgs a = x->args;
    a.n = n;
    for (uint32_t i = 0; i < n; i++) a.at[i] = x->args.at[which[i]], a.bytes[i] = x->args.bytes[which[i]];
    return a;
}

static TestArgs fused_args(const Buffers *x, const GemmAdamwDesc *d) {
    int which[] = {A, B, W, M, V, HYPER, CODES, KEY};
    uint32_t n = d->group ? 7 : 6;
    if (d->moments_bf16) which[n++] = KEY;
    return choose(x, which, n);
}

static void run_parts(const TestModule *m, int i, const Sizes *size, const Buffers *x) {
    TestArgs gemm = choose(x, (const int[]){A, B, GRAD}, 3),
             adamw = choose(x, (const int[]){W, GRAD, M, V, HYPER, KEY}, cases[i].moments_bf16 ? 6 : 5),
             ternary = choose(x, (const int[]){W, CODES}, 2);
    char name[32];
    snprintf(name, sizeof name, "gemm%d", i);
    test_launch(m, name, &gemm, size->gemm);
    snprintf(name, sizeof name, "adamw%d", i);
    test_launch(m, name, &adamw, size->adamw);
    snprintf(name, sizeof name, "ternary%d", i);
    if (cases[i].group) test_launch(m, name, &ternary, size->ternary);
}

static void check_case(const TestModule *m, int i, const Sizes *size) {
    const GemmAdamwDesc *d = &cases[i];
    uint64_t bytes = (uint64_t)(d->m * d->n) * 4, code_bytes = 64;
    if (d->group) code_bytes = (uint64_t)ternary_layout(d->m, d->n, d->group).bytes;
    Buffers fused = make_buffers(d, code_bytes), parts = make_buffers(d, code_bytes);
    TestArgs args = fused_args(&fused, d);
    char name[32];
    snprintf(name, sizeof name, "fused%d", i);
    test_launch(m, name, &args, size->fused);
    run_parts(m, i, size, &parts);
    ck_assert_msg(memcmp(fused.w, parts.w, bytes) == 0, "case %d: weights", i);
    ck_assert_msg(memcmp(fused.m, parts.m, bytes) == 0, "case %d: first moments", i);
    ck_assert_msg(memcmp(fused.v, parts.v, bytes) == 0, "case %d: second moments", i);
    ck_assert_msg(memcmp(fused.codes, parts.codes, code_bytes) == 0, "case %d: codes", i);
    test_args_free(&fused.args), test_args_free(&parts.args);
}

/* Where hyper is NaN, there is no update: the kernel leaves what it finds. */
static void check_no_update(const TestModule *m, int i, const Sizes *size) {
    const GemmAdamwDesc *d = &cases[i];
    uint64_t bytes = (uint64_t)(d->m * d->n) * 4, code_bytes = 64;
    if (d->group) code_bytes = (uint64_t)ternary_layout(d->m, d->n, d->group).bytes;
    Buffers x = make_buffers(d, code_bytes), before = make_buffers(d, code_bytes);
    TestArgs args = fused_args(&x, d);
    x.hyper[0] = NAN;
    char name[32];
    snprintf(name, sizeof name, "fused%d", i);
    test_launch(m, name, &args, size->fused);
    ck_assert_msg(!memcmp(x.w, before.w, bytes) && !memcmp(x.m, before.m, bytes) && !memcmp(x.v, before.v, bytes) &&
                      !memcmp(x.codes, before.codes, code_bytes),
                  "case %d: updated", i);
    test_args_free(&x.args), test_args_free(&before.args);
}

/* On a GPU groups must lie within a tile; and products of many millions take long to emulate. */
static bool runs(TestDevice device, const GemmAdamwDesc *d) {
    if (device != TEST_GPU) return true;
    if (d->group % 16 || (d->group && 128 % d->group)) return d->group >= d->n && d->n <= 128;
    return d->m * d->n * d->k / (d->bf16 ? 2 : 1) < SEEDS_OF(32) * 1000000;
}

START_TEST(same_bits_as_the_three_kernels) {
    Gen *g = test_device_gen((TestDevice)_i);
    Sizes size[CASES] = {0};
    for (int i = 0; i < CASES; i++)
        if (runs((TestDevice)_i, &cases[i])) size[i] = emit(g, i, true);
    if (_i == TEST_GPU)
        ck_assert_uint_eq(size[CASES - 1].fused.tiles, runs(TEST_GPU, &cases[CASES - 1]) ? 6 * 13 : 0);
    TestModule m = test_module(g);
    for (int i = 0; i < CASES; i++)
        if (runs((TestDevice)_i, &cases[i])) check_case(&m, i, &size[i]);
    check_no_update(&m, 1, &size[1]);
    test_module_free(&m);
}
END_TEST

START_TEST(compiles_for_avx512) {
    Gen *g = test_gen("znver4");
    for (int i = 0; i < CASES; i++) emit(g, i, false);
    char *text = test_compile(g);
    ck_assert_msg(strstr(text, "zmm"), "no 512-bit registers");
    free(text);
}
END_TEST

/* The largest tiles: the feed-forward layer of Qwen3-0.6B at 16k tokens. */
START_TEST(nothing_spills) {
    static const GemmAdamwDesc shapes[] = {
        {.m = 3072, .n = 1024, .k = 16384, .group = 128, .bf16 = true},
        {.m = 3072, .n = 1024, .k = 16384, .group = 128, .bf16 = true, .b_bf16 = true},
        {.m = 3072, .n = 1024, .k = 16384, .group = 128, .bf16 = true, .a_bf16 = true, .b_bf16 = true},
        {.m = 2304, .n = 1024, .k = 16384, .group = 128, .bf16 = true}, /* 12 x 8 of 192 x 128 */
        {.m = 2304, .n = 1024, .k = 16384, .group = 128, .bf16 = true, .a_bf16 = true, .b_bf16 = true},
        {.m = 3072, .n = 1024, .k = 16384, .group = 128},
        {.m = 3072, .n = 1024, .k = 16384, .group = 128, .bf16 = true, .moments_bf16 = true},
    };
    Gen *g = test_device_gen(TEST_GPU);
    char name[16];
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        snprintf(name, sizeof name, "fused%zu", i);
        TEST_EMIT(g, name, gemm_adamw, with_betas(&shapes[i]));
    }
    nvptx_assemble(g, 255);
}
END_TEST

/* Weights are cut into enough tiles to share, and scratch stays small however wide the groups are. */
START_TEST(tiles_and_scratch_are_bounded) {
    const Target *t = test_target(NULL);
    GemmAdamwDesc layer = {.m = 3072, .n = 1024, .k = 1024, .group = 128};
    GemmAdamwDesc rows = {.m = 12288, .n = 4096, .k = 4096, .group = 4096};
    ck_assert_uint_ge(gemm_adamw_tiles(&layer, t), 16);
    ck_assert_uint_le(gemm_adamw_scratch(&layer, t), 3 << 20);
    ck_assert_uint_ge(gemm_adamw_tiles(&rows, t), 16);
    ck_assert_uint_le(gemm_adamw_scratch(&rows, t), 8 << 20);
}
END_TEST

int main(void) {
    Suite *s = suite_create("gemm_adamw");
    TCase *c = tcase_create("gemm_adamw");
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, same_bits_as_the_three_kernels, 0, test_devices());
    tcase_add_test(c, compiles_for_avx512);
    tcase_add_test(c, nothing_spills);
    tcase_add_test(c, tiles_and_scratch_are_bounded);
    suite_add_tcase(s, c);
    return run_suite(s);
}
