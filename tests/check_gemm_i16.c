/* Ternary products in block-scaled int16: sizes and groups around every block edge, against the interpreter
 * (the same rounding of activations, so nearly equal) and against exact products (so much is lost by it);
 * activations with outliers, zeros, subnormals, NaN and infinity. */
#include "suite.h"
#include "tier_test.h"

/* clang-format off */
static const GemmDesc cases[] = {
    /* m, n, k, a_cols, b, group, accumulate, a_bf16 */
    {1, 1, 1, false, GEMM_B_T2_NK, 128, false, false},
    {1, 1, 1, false, GEMM_B_T2_KN, 128, false, false},
    {1, 1000, 576, false, GEMM_B_T2_NK, 128, false, false},
    {45, 151, 256, false, GEMM_B_T2_NK, 128, false, false},
    {45, 256, 151, false, GEMM_B_T2_KN, 128, false, false},
    {129, 200, 576, false, GEMM_B_T2_NK, 128, false, false},
    {129, 576, 200, false, GEMM_B_T2_KN, 128, false, false},
    {50, 60, 250, false, GEMM_B_T2_NK, 100, false, false},
    {50, 250, 60, false, GEMM_B_T2_KN, 100, false, false},
    {33, 47, 330, false, GEMM_B_T2_NK, 48, false, false},
    {33, 330, 47, false, GEMM_B_T2_KN, 48, false, false},
    {20, 35, 77, false, GEMM_B_T2_NK, 7, false, false},
    {20, 77, 35, false, GEMM_B_T2_KN, 7, false, false},
    {13, 35, 70, false, GEMM_B_T2_NK, 1, false, false},
    {13, 70, 35, false, GEMM_B_T2_KN, 1, false, false},
    {20, 40, 70, false, GEMM_B_T2_NK, 1000, false, false},
    {20, 70, 40, false, GEMM_B_T2_KN, 1000, false, false},
    {20, 40, 700, false, GEMM_B_T2_NK, 300, false, false},
    {20, 700, 40, false, GEMM_B_T2_KN, 300, false, false},
    {7, 33, 1300, false, GEMM_B_T2_NK, 2000, false, false},
    {5, 20, 1200, false, GEMM_B_T2_NK, 512, false, false},
    {2, 700, 17, false, GEMM_B_T2_KN, 8, false, false},
    {300, 130, 530, false, GEMM_B_T2_NK, 64, false, false},
    {300, 530, 650, false, GEMM_B_T2_KN, 64, false, false},
    {500, 530, 520, false, GEMM_B_T2_NK, 128, false, false},
    {500, 1100, 130, false, GEMM_B_T2_KN, 128, false, false},
};
/* And as gemv: few rows, groups that are whole blocks. */
static const GemmDesc few[] = {
    {1, 1, 1, false, GEMM_B_T2_NK, 128, false, false},
    {1, 1000, 576, false, GEMM_B_T2_NK, 128, false, false},
    {1, 5, 129, false, GEMM_B_T2_NK, 128, false, false},
    {1, 33, 1300, false, GEMM_B_T2_NK, 2000, false, false},
    {2, 20, 1200, false, GEMM_B_T2_NK, 512, false, false},
    {3, 9, 128, false, GEMM_B_T2_NK, 128, false, false},
    {4, 7, 77, false, GEMM_B_T2_NK, 100, false, false},
};
/* clang-format on */
enum { CASES = sizeof cases / sizeof *cases, FEW = sizeof few / sizeof *few };

/* One product: its buffers, and the weights as numbers, as stored. */
typedef struct Product {
    const GemmDesc *d;
    bool few;           /* by gemv */
    int64_t rows, cols; /* of the stored weights */
    TestArgs args;
    float *a, *c;
    double *w;
} Product;

static Product product_new(const GemmDesc *d, uint64_t seed) {
    bool nk = d->b == GEMM_B_T2_NK;
    Product p = {.d = d, .rows = nk ? d->n : d->k, .cols = nk ? d->k : d->n};
    int64_t b_bytes = ternary_layout(p.rows, p.cols, d->group).bytes;
    p.args = test_args((uint64_t)(4 * d->m * d->k + b_bytes + 4 * d->m * d->n) + 4096);
    p.a = test_arg(&p.args, (uint64_t)(4 * d->m * d->k));
    void *b = test_arg(&p.args, (uint64_t)b_bytes);
    p.c = test_arg(&p.args, (uint64_t)(4 * d->m * d->n));
    p.w = xcalloc((size_t)(p.rows * p.cols), sizeof *p.w);
    test_fill(p.a, d->m * d->k, &seed);
    test_fill(p.c, d->m * d->n, &seed);
    test_fill_ternary(b, p.w, p.rows, p.cols, d->group, &seed);
    return p;
}

static void product_free(Product *p) {
    test_args_free(&p->args);
    free(p->w);
}

static GemvDesc few_of(const GemmDesc *d) {
    return (GemvDesc){d->m, d->n, d->k, d->group, true};
}

static void run(const Product *p, void *so, const char *name, const Target *t) {
    GemvDesc g = few_of(p->d);
    if (p->few)
        test_run(so, name, &p->args, gemv_tiles(&g, t), gemv_scratch(&g, t));
    else
        test_run(so, name, &p->args, gemm_i16_tiles(p->d, t), gemm_i16_scratch(p->d, t));
}

/* What the interpreter makes of it, rounding activations or (exact) not. Memory of the arena. */
static const double *evaluate(const Product *p, bool exact, Arena *arena) {
    const GemmDesc *d = p->d;
    Graph *g = graph_new("f");
    Type x = type_make(DT_F32, 2, (int64_t[]){d->m, d->k}),
         w = type_make(DT_F32, 2, (int64_t[]){p->rows, p->cols});
    Val in[2] = {graph_add(g, NULL, NULL, (Loc){0}, OP_input, &x, NULL, 0, ATTRS(name, "x")),
                 graph_add(g, NULL, NULL, (Loc){0}, OP_param, &w, NULL, 0, ATTRS(name, "w"))};
    in[1] = graph_add(g, NULL, NULL, (Loc){0}, OP_ternary, NULL, &in[1], 1, ATTRS(group, d->group));
    Attrs attrs = {.set = A(tb), .tb = d->b == GEMM_B_T2_NK};
    if (!exact) attrs.set |= A(precision), attrs.precision = "i16";
    Val y = graph_add(g, NULL, NULL, (Loc){0}, OP_tmatmul, NULL, in, 2, &attrs);
    Tensor operands[2] = {{x, arena_array(arena, double, d->m * d->k)}, {*val_type(g, in[1]), p->w}}, out;
    for (int64_t i = 0; i < d->m * d->k; i++) operands[0].at[i] = p->a[i];
    eval_node(g, val_node(g, y), EVAL_F64, operands, &out, arena);
    graph_free(g);
    return out.at;
}

static void name_of(int i, char name[16]) {
    snprintf(name, 16, "gemm%d", i);
}

/* Every step-th case. */
static Gen *emit_cases(const Target *t, int step) {
    Gen *g = gen_new(t, "test");
    for (int i = 0; i < CASES; i += step) {
        char name[16];
        name_of(i, name);
        gen_gemm_i16(g, name, &cases[i]);
    }
    return g;
}

/* Runs the product and compares with the interpreter, and with the exact product. */
static void check_product(const Product *p, void *so, const char *name, const Target *t, double loss) {
    Arena *arena = arena_new();
    const GemmDesc *d = p->d;
    run(p, so, name, t);
    double rounding = test_error(p->c, evaluate(p, false, arena), d->m * d->n);
    double error = test_error(p->c, evaluate(p, true, arena), d->m * d->n);
    ck_assert_msg(rounding < 1e-6, "%s %lldx%lldx%lld: %g from the interpreter", name, (long long)d->m,
                  (long long)d->n, (long long)d->k, rounding);
    ck_assert_msg(error < loss, "%s %lldx%lldx%lld: %g from the exact product", name, (long long)d->m,
                  (long long)d->n, (long long)d->k, error);
    arena_free(arena);
}

/* With and without VNNI, in vectors of 8 and of 16 words. */
static const struct {
    const char *cpu;
    int step;
} runs[] = {{NULL, 1}, {"sapphirerapids", 1}, {"x86-64-v4", 3}, {"alderlake", 3}};
enum { RUNS = sizeof runs / sizeof *runs };

START_TEST(products) {
    const Target *t = test_tier(runs[_i].cpu);
    void *so = test_load(emit_cases(t, runs[_i].step));
    for (int i = 0; i < CASES; i += runs[_i].step) {
        char name[16];
        name_of(i, name);
        Product p = product_new(&cases[i], (uint64_t)i + 1);
        check_product(&p, so, name, t, 5e-5);
        product_free(&p);
    }
    dlclose(so);
}
END_TEST

/* A NaN among them, or an infinity, shows in all columns. */
START_TEST(few_rows) {
    const Target *t = test_tier(runs[_i].cpu);
    Gen *g = gen_new(t, "test");
    for (int i = 0; i < FEW; i++) {
        char name[16];
        name_of(i, name);
        GemvDesc d = few_of(&few[i]);
        ck_assert(gemv_fits(&d));
        gen_gemv(g, name, &d);
    }
    void *so = test_load(g);
    for (int i = 0; i < FEW; i++) {
        char name[16];
        name_of(i, name);
        Product p = product_new(&few[i], (uint64_t)i + 50);
        p.few = true;
        check_product(&p, so, name, t, 5e-5);
        p.a[few[i].k - 1] = i % 2 ? NAN : INFINITY;
        run(&p, so, name, t);
        for (int64_t j = 0; j < few[i].n; j++) ck_assert(!isfinite(p.c[j]));
        product_free(&p);
    }
    dlclose(so);
    ck_assert(!gemv_fits(&(GemvDesc){1, 64, 192, 64, true}));  /* two scales of w in a block */
    ck_assert(!gemv_fits(&(GemvDesc){1, 64, 400, 200, true})); /* its blocks begin anew at 200 */
}
END_TEST

static const GemmDesc forward = {100, 600, 384, false, GEMM_B_T2_NK, 128, false, false};
static const GemmDesc backward = {100, 600, 384, false, GEMM_B_T2_KN, 128, false, false};

static void *load_both(const Target *t) {
    Gen *g = gen_new(t, "test");
    gen_gemm_i16(g, "forward", &forward);
    gen_gemm_i16(g, "backward", &backward);
    return test_load(g);
}

/* Activations of trained models: a few channels are 60 times as large as the others. Rows of zeros stay
 * zero, rows of subnormals hardly count, rows of the largest numbers do not overflow. */
START_TEST(outliers_zeros_and_subnormals) {
    const Target *t = test_target(NULL);
    void *so = load_both(t);
    const GemmDesc *d = _i ? &backward : &forward;
    Product p = product_new(d, 7);
    for (int64_t i = 0; i < d->m; i++) {
        float *row = p.a + i * d->k;
        for (int64_t j = 3; j < d->k; j += 61) row[j] *= 60;
        for (int64_t j = 0; j < d->k; j++) row[j] *= i % 4 == 1 ? 0.0f : i % 4 == 2 ? 0x1p-140f : 1.0f;
    }
    check_product(&p, so, _i ? "backward" : "forward", t, 2e-4);
    for (int64_t i = 0; i < d->m * d->n; i++) {
        int64_t kind = i / d->n % 4;
        if (kind == 1) ck_assert(p.c[i] == 0);
        if (kind == 2) ck_assert(fabsf(p.c[i]) < 0x1p-100f);
    }
    for (int64_t i = 0; i < d->m * d->k; i++) p.a[i] = test_random(&(uint64_t){(uint64_t)i}) * 0x1p120f;
    check_product(&p, so, _i ? "backward" : "forward", t, 5e-5);
    product_free(&p);
    dlclose(so);
}
END_TEST

/* A NaN or infinity spoils its own row and no other. */
START_TEST(bad_numbers_show) {
    const Target *t = test_target(NULL);
    void *so = load_both(t);
    const GemmDesc *d = _i ? &backward : &forward;
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    Product p = product_new(d, 9);
    for (int i = 0; i < 4; i++) p.a[(10 * i + 5) * d->k + 9 * i] = bad[i];
    run(&p, so, _i ? "backward" : "forward", t);
    for (int64_t i = 0; i < d->m; i++)
        for (int64_t j = 0; j < d->n; j++)
            ck_assert_msg(!isfinite(p.c[i * d->n + j]) == (i < 40 && i % 10 == 5), "row %lld", (long long)i);
    product_free(&p);
    dlclose(so);
}
END_TEST

/* test_run goes through the tiles from the last to the first. */
START_TEST(order_of_tiles_does_not_matter) {
    const Target *t = test_target(NULL);
    void *so = load_both(t);
    const GemmDesc *d = _i ? &backward : &forward;
    const char *name = _i ? "backward" : "forward";
    Product p = product_new(d, 11);
    ck_assert_uint_gt(gemm_i16_tiles(d, t), 1);
    run(&p, so, name, t);
    size_t bytes = (size_t)(4 * d->m * d->n);
    float *first = xcalloc(1, bytes);
    memcpy(first, p.c, bytes);
    memset(p.c, 0xff, bytes);
    void *scratch = aligned_alloc(64, gemm_i16_scratch(d, t) / 64 * 64 + 64);
    for (uint32_t tile = 0; tile < gemm_i16_tiles(d, t); tile++)
        test_kernel(so, name)(p.args.arena, p.args.at, tile, scratch);
    ck_assert_mem_eq(first, p.c, bytes);
    free(scratch), free(first);
    product_free(&p);
    dlclose(so);
}
END_TEST

START_TEST(compiles_for_avx512) {
    char *text = test_compile(emit_cases(test_target(_i ? "sapphirerapids" : "x86-64-v4"), 1));
    const char *name = _i ? "vpdpwssd" : "vpmaddwd", *product = strstr(text, name);
    while (product && !memchr(product, 'z', strcspn(product, "\n"))) product = strstr(product + 1, name);
    ck_assert_msg(product, "no %s of 512 bits", name);
    free(text);
}
END_TEST

/* The sums of a block must stay in registers. */
START_TEST(microkernel_does_not_spill) {
    static const char *const cpus[] = {"x86-64-v3", "x86-64-v4", "alderlake", "icelake-server"};
    Gen *g = test_gen(cpus[_i]);
    gen_gemm_i16(g, "gemm", &(GemmDesc){64, 64, 256, false, GEMM_B_T2_NK, 128, false, false});
    char *text = test_compile(g);
    ck_assert_int_ge(test_count(text, "microkernel_i16_128", _i < 2 ? "vpmaddwd" : "vpdpwssd"), 12);
    free(text);
}
END_TEST

/* Large problems are cut into enough tiles to share, and scratch stays small whatever the size. */
START_TEST(tiles_and_scratch_are_bounded) {
    const Target *t = test_target(NULL);
    GemmDesc layer = {1024, 3072, 1024, false, GEMM_B_T2_NK, 128, false, false};
    GemmDesc head = {256, 151936, 1024, false, GEMM_B_T2_NK, 128, false, false};
    GemmDesc head_dx = {256, 1024, 151936, false, GEMM_B_T2_KN, 128, false, false};
    ck_assert_uint_ge(gemm_i16_tiles(&layer, t), 8);
    ck_assert_uint_ge(gemm_i16_tiles(&head, t), 64);
    ck_assert_uint_le(gemm_i16_scratch(&head, t), 4 << 20);
    ck_assert_uint_le(gemm_i16_scratch(&head_dx, t), 4 << 20);
}
END_TEST

int main(void) {
    Suite *s = suite_create("gemm_i16");
    TCase *c = tcase_create("gemm_i16");
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, products, 0, RUNS);
    tcase_add_loop_test(c, few_rows, 0, RUNS);
    tcase_add_loop_test(c, outliers_zeros_and_subnormals, 0, 2);
    tcase_add_loop_test(c, bad_numbers_show, 0, 2);
    tcase_add_loop_test(c, order_of_tiles_does_not_matter, 0, 2);
    tcase_add_loop_test(c, compiles_for_avx512, 0, 2);
    tcase_add_loop_test(c, microkernel_does_not_spill, 0, 4);
    tcase_add_test(c, tiles_and_scratch_are_bounded);
    suite_add_tcase(s, c);
    return run_suite(s);
}
