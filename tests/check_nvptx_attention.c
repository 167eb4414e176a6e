/* Attention of a GPU, forward, backward and one step of decoding, on the emulated device against the
 * interpreter, in f32 and in bf16; and what ptxas makes of that of Qwen3-0.6B. */
#include "nvptx_test.h"

enum { OUT_BIT = 1 << 3, DV_BIT = 1 << 8 /* of half: out, dv */ };

/* half is that of the gradient; with DV_BIT out is bf16 as well. */
static const AttnDesc cases[] = {
    /* b, s, h, g, d, scale, half */
    {1, 1, 1, 1, 2, 0.7, 0},       {2, 5, 2, 1, 10, 0.3, 0},        {2, 45, 4, 2, 16, 0.25, 0},
    {1, 130, 2, 1, 64, 0.125, 0},  {3, 17, 3, 3, 34, -0.17, 0},     {1, 67, 2, 1, 128, 0.0884, 0},
    {1, 66, 1, 1, 140, 0.1, 0},    {2, 45, 4, 2, 16, 0.25, 7},      {1, 130, 2, 1, 128, 0.0884, 7},
    {2, 70, 2, 1, 40, 0.2, 0x17},  {1, 130, 4, 2, 64, 0.125, 0x17}, {1, 97, 2, 1, 8, 0.3, 0x11},
    {1, 40, 2, 2, 104, 0.0884, 6}, {2, 45, 4, 2, 40, 0.2, 0x100},   {1, 130, 2, 1, 128, 0.0884, 0x117},
};
enum { CASES = sizeof cases / sizeof *cases };
enum { F32, BF16, PRECISIONS };

/* Heads in bf16 are for kernels in bf16. */
static bool has_kernel(const AttnDesc *d, int precision) {
    return precision == BF16 || !d->half;
}
static AttnDesc forward_of(AttnDesc d) {
    d.half = (d.half & 7) | (d.half & DV_BIT ? OUT_BIT : 0);
    return d;
}

/* Random scores are of the size of 1, whatever the width; where a case is not at the mercy of rounding,
 * errors are far below what operands lose in bf16. */
static Type heads_type(const AttnDesc *d, int64_t positions, int64_t heads, int64_t width) {
    return type_make(DT_F32, 4, (int64_t[]){d->b, positions, heads, width});
}

static Type operand_type(const AttnDesc *d, int i, int64_t heads) {
    Type t = heads_type(d, d->s, heads, d->d);
    if (d->half >> i & 1) t.dtype = DT_BF16;
    return t;
}

static Attrs attrs_of(const AttnDesc *d, int precision) {
    Attrs a = {.set = A(c), .c = d->scale};
    if (precision == BF16) a.set |= A(precision), a.precision = "bf16";
    if (d->half & DV_BIT) a.set |= A(narrow), a.narrow = true;
    return a;
}

static NodeTest inputs(const AttnDesc *d, uint64_t *rng) {
    NodeTest t = node_test(1 << 22);
    for (int i = 0; i < 3; i++) node_operand(&t, operand_type(d, i, i ? d->g : d->h), rng);
    return t;
}

static NodeTest forward(const AttnDesc *d, int precision) {
    uint64_t rng = (uint64_t)(d->s * 1009 + d->d);
    NodeTest t = inputs(d, &rng);
    node_results(&t, OP_attention, attrs_of(d, precision));
    return t;
}

/* lse and delta are those of the forward pass in f32. */
static NodeTest backward(const AttnDesc *d, int precision) {
    AttnDesc wide = *d;
    wide.half = 0;
    NodeTest f = forward(&wide, F32);
    uint64_t rng = (uint64_t)(d->s * 1009 + d->d);
    NodeTest t = inputs(d, &rng);
    int64_t rows = d->b * d->s * d->h;
    float *lse = node_operand(&t, heads_type(d, d->s, d->h, 1), &rng);
    node_operand(&t, operand_type(d, 4, d->h), &rng);
    const double *dout = t.operand[4].at;
    float *delta = node_operand(&t, heads_type(d, d->s, d->h, 1), &rng);
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0;
        for (int64_t j = 0; j < d->d; j++) sum += dout[i * d->d + j] * f.result[0].at[i * d->d + j];
        lse[i] = (float)f.result[1].at[i];
        delta[i] = (float)sum;
        t.operand[3].at[i] = lse[i], t.operand[5].at[i] = delta[i];
    }
    node_results(&t, OP_attention_grad, attrs_of(d, precision));
    node_test_free(&f);
    return t;
}

/* One query or two. */
static AttnDecodeDesc decode_case(int i) {
    AttnDesc d = cases[i];
    d.half = 0;
    return (AttnDecodeDesc){d, i % 2 && cases[i].s > 1 ? 2 : 1};
}

static NodeTest decode(int i, int64_t pos) {
    const AttnDecodeDesc decode = decode_case(i);
    const AttnDesc *d = &decode.at;
    uint64_t rng = (uint64_t)(d->s * 1009 + d->d + pos);
    NodeTest t = node_test(1 << 22);
    node_operand(&t, heads_type(d, decode.queries, d->h, d->d), &rng);
    for (int kv = 0; kv < 2; kv++) node_operand(&t, heads_type(d, d->s, d->g, d->d), &rng);
    node_positions(&t, d->b, pos);
    node_results(&t, OP_attention_decode, attrs_of(d, F32));
    return t;
}

/* Results within the rounding of f32 sums; in bf16 a number at the edge may round the other way. Of one key
 * dq and dk are 0 but for rounding. */
static void compare(NodeTest *t, const TestModule *m, const char *name, KernelSize size, int precision,
                    bool one) {
    double limit = precision == BF16 ? 1e-3 : 2e-6;
    test_launch(m, name, &t->args, size);
    for (uint32_t i = 0; i < t->nout; i++) {
        double error = node_error(t, i);
        bool zero = one && t->nout == 3 && i < 2;
        ck_assert_msg(error < limit || zero, "%s %s, result %u: error %g", precision == BF16 ? "bf16" : "f32",
                      name, i, error);
    }
    node_test_free(t);
}

/* What there is no room for in a block's shared memory on every GPU, but on an sm_80. */
static bool is_large(const AttnDesc *d) {
    return d->d > 64;
}

static void forward_and_backward(int precision, const char *gpu, bool large_only) {
    Gen *g = test_gpu_gen(gpu);
    KernelSize size[CASES][2];
    char name[32];
    for (int i = 0; i < CASES; i++) {
        if (!has_kernel(&cases[i], precision) || (large_only && !is_large(&cases[i]))) continue;
        snprintf(name, sizeof name, "attention%d", i);
        size[i][0] = precision == BF16 ? TEST_EMIT(g, name, attention_bf16, forward_of(cases[i]))
                                       : TEST_EMIT(g, name, attention, cases[i]);
        snprintf(name, sizeof name, "attention_grad%d", i);
        size[i][1] = precision == BF16 ? TEST_EMIT(g, name, attention_grad_bf16, cases[i])
                                       : TEST_EMIT(g, name, attention_grad, cases[i]);
    }
    TestModule m = test_module(g);
    for (int i = 0; i < CASES; i++) {
        if (!has_kernel(&cases[i], precision) || (large_only && !is_large(&cases[i]))) continue;
        NodeTest f = forward(&cases[i], precision), b = backward(&cases[i], precision);
        snprintf(name, sizeof name, "attention%d", i);
        compare(&f, &m, name, size[i][0], precision, cases[i].s == 1);
        snprintf(name, sizeof name, "attention_grad%d", i);
        compare(&b, &m, name, size[i][1], precision, cases[i].s == 1);
    }
    test_module_free(&m);
}

START_TEST(training) {
    forward_and_backward(_i, NULL, false);
}
END_TEST

START_TEST(training_with_much_shared_memory) {
    forward_and_backward(BF16, "sm_80", true);
}
END_TEST

/* One query, whose score of -128 is its lse too: of the queries that are only there to fill up a step nothing
 * may become infinite. */
START_TEST(nothing_behind_the_end) {
    static const float value[] = {4, -8, 1, -128, 1, 4}; /* q, k, v, lse, dout, delta; width 4 */
    const AttnDesc d = {1, 1, 1, 1, 4, 1, 0};
    uint64_t rng = 1;
    NodeTest t = node_test(1 << 16);
    for (int i = 0; i < 6; i++) {
        int64_t width = i == 3 || i == 5 ? 1 : 4;
        float *x = node_operand(&t, heads_type(&d, 1, 1, width), &rng);
        for (int64_t j = 0; j < width; j++) x[j] = value[i], t.operand[i].at[j] = (double)value[i];
    }
    node_results(&t, OP_attention_grad, attrs_of(&d, _i));
    Gen *g = test_device_gen(TEST_GPU);
    KernelSize size =
        _i == BF16 ? TEST_EMIT(g, "grad", attention_grad_bf16, d) : TEST_EMIT(g, "grad", attention_grad, d);
    TestModule m = test_module(g);
    compare(&t, &m, "grad", size, _i, true);
    test_module_free(&m);
}
END_TEST

START_TEST(decoding) {
    Gen *g = test_device_gen(TEST_GPU);
    KernelSize size[CASES];
    char name[32];
    for (int i = 0; i < CASES; i++) {
        snprintf(name, sizeof name, "attention_decode%d", i);
        size[i] = TEST_EMIT(g, name, attention_decode, decode_case(i));
    }
    TestModule m = test_module(g);
    for (int i = 0; i < CASES; i++)
        for (int64_t pos = 0; pos + decode_case(i).queries <= cases[i].s; pos += 1 + cases[i].s / 2) {
            NodeTest t = decode(i, pos);
            snprintf(name, sizeof name, "attention_decode%d", i);
            compare(&t, &m, name, size[i], F32, false);
        }
    test_module_free(&m);
}
END_TEST

static const char *const gpus[] = {NULL, "sm_80"};

START_TEST(nothing_spills) {
    AttnDesc d = {8, 2048, 16, 8, 128, 0.0884, 0}, half = d, some = d, forward = d;
    half.half = 0x117, some.half = 7, forward.half = 0xf;
    Gen *g = test_gpu_gen(gpus[_i]);
    TEST_EMIT(g, "attention", attention, d);
    TEST_EMIT(g, "attention_bf16", attention_bf16, d);
    TEST_EMIT(g, "attention_grad", attention_grad, d);
    TEST_EMIT(g, "attention_grad_bf16", attention_grad_bf16, d);
    TEST_EMIT(g, "attention_bf16_of_bf16", attention_bf16, forward);
    TEST_EMIT(g, "attention_grad_of_bf16", attention_grad_bf16, half);
    TEST_EMIT(g, "attention_grad_of_some", attention_grad_bf16, some);
    AttnDecodeDesc decode = {d, 64};
    TEST_EMIT(g, "attention_decode", attention_decode, decode);
    nvptx_assemble(g, 255);
}
END_TEST

int main(void) {
    Suite *s = suite_create("nvptx_attention");
    TCase *c = tcase_create("nvptx_attention");
    tcase_set_timeout(c, 300);
    if (test_devices() == 3) {
        tcase_add_loop_test(c, training, 0, PRECISIONS);
        tcase_add_test(c, training_with_much_shared_memory);
        tcase_add_loop_test(c, nothing_behind_the_end, 0, PRECISIONS);
        tcase_add_test(c, decoding);
    }
    tcase_add_loop_test(c, nothing_spills, 0, 2);
    suite_add_tcase(s, c);
    return run_suite(s);
}
