/* The inline exp, log, rsqrt and sigmoid against libm in double precision, over all of f32's range: every
 * STRIDE-th bit pattern and the special values, as vectors and as scalars. */
#include "kernel_test.h"
#include "suite.h"

#define STRIDE 509 /* of the 2^32 patterns: prime, so that mantissas vary with every exponent */

typedef LLVMValueRef MathFn(Gen *, LLVMValueRef);

/* A kernel out[i] = fn(in[i]) for n elements, `lanes` at a time. */
static void gen_map(Gen *g, const char *name, MathFn *fn, int64_t n, int lanes) {
    LLVMTypeRef type = gen_vec(g, g->f32, lanes);
    gen_kernel(g, name);
    LLVMValueRef in = gen_buffer(g, 0), out = gen_buffer(g, 1);
    Loop loop = gen_loop(g, gen_i64(g, 0), gen_i64(g, n), lanes, "i");
    LLVMValueRef x = gen_load(g, type, gen_at(g, g->f32, in, loop.i));
    gen_store(g, fn(g, x), gen_at(g, g->f32, out, loop.i));
    gen_loop_end(g, &loop);
    gen_end(g);
}

static double exact_rsqrt(double x) {
    return 1 / sqrt(x);
}
static double exact_sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static const struct {
    const char *name;
    MathFn *fn;
    double (*exact)(double);
    double ulps;
} cases[] = {
    {"exp", gen_exp, exp, 1.2},
    {"log", gen_log, log, 1.2},
    {"rsqrt", gen_rsqrt, exact_rsqrt, 1.5},
    {"sigmoid", gen_sigmoid, exact_sigmoid, 2.5},
};

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* |got - exact| in units of the last place of an f32 of exact's size. */
static double error_ulps(float got, double exact) {
    if (isnan(exact)) return isnan(got) ? 0 : INFINITY;
    if ((float)exact == got) return 0;                   /* also infinities, and what rounds to them */
    if (fabs(exact) < 0x1p-126 && fabs(got) <= 0x1p-126) /* subnormals may be flushed */
        return got == 0 ? 0 : fabs(got - exact) * 0x1p149;
    int exponent;
    frexp(exact, &exponent);
    return fabs(got - exact) * ldexp(1, 24 - (exponent < -125 ? -125 : exponent));
}

enum { CHUNK = 1 << 16 };

static void check_case(int which, int lanes) {
    Gen *g = test_gen(NULL);
    gen_map(g, "map", cases[which].fn, CHUNK, lanes);
    void *so = test_load(g);
    TestArgs args = test_args(2 * CHUNK * 4 + 4096);
    float *in = test_arg(&args, CHUNK * 4), *out = test_arg(&args, CHUNK * 4);
    double worst = 0;
    float at = 0;
    uint64_t stride = lanes == 1 ? (uint64_t)STRIDE * 31 : STRIDE;
    for (uint64_t bits = 0; bits < 1ull << 32; bits += stride * CHUNK) {
        for (uint64_t i = 0; i < CHUNK; i++) in[i] = from_bits((uint32_t)(bits + i * stride));
        test_run(so, "map", &args, 1, 0);
        for (int i = 0; i < CHUNK; i++) {
            double e = error_ulps(out[i], cases[which].exact(in[i]));
            if (e > worst) worst = e, at = in[i];
        }
    }
    ck_assert_msg(worst <= cases[which].ulps, "%s(%.9g) is off by %g ulp", cases[which].name, at, worst);
    test_args_free(&args);
    dlclose(so);
}

START_TEST(test_vectors) {
    check_case(_i, test_target(NULL)->vl);
}
END_TEST
START_TEST(test_scalars) {
    check_case(_i, 1);
}
END_TEST

/* Values at which something changes: ends of the range, ties of the argument reduction, signs. */
static const float specials[] = {
    0.0f,        -0.0f,       1.0f,        -1.0f,       INFINITY,    -INFINITY,  NAN,         88.7228394f,
    88.722847f,  88.73f,      89.0f,       1e30f,       -87.3365f,   -87.34f,    -103.97f,    -103.98f,
    -104.1f,     -1e30f,      0x1p-126f,   0x1p-149f,   0x1.8p-140f, 3e38f,      0.34657359f, -0.34657359f,
    0.70710677f, 0.70710683f, 1.41421354f, 1.41421366f, 0.99999994f, 1.0000001f, 1e-7f,       -1e-7f};

START_TEST(test_specials) {
    enum { N = sizeof specials / sizeof *specials };
    ck_assert_int_eq(N % 16, 0);
    Gen *g = test_gen(NULL);
    gen_map(g, "map", cases[_i].fn, N, g->target->vl);
    void *so = test_load(g);
    TestArgs args = test_args(4096);
    float *in = test_arg(&args, sizeof specials), *out = test_arg(&args, sizeof specials);
    memcpy(in, specials, sizeof specials);
    test_run(so, "map", &args, 1, 0);
    for (int i = 0; i < N; i++) {
        double exact = cases[_i].exact(in[i]);
        ck_assert_msg(error_ulps(out[i], exact) <= cases[_i].ulps, "%s(%.9g) = %.9g, expected %.9g",
                      cases[_i].name, in[i], out[i], exact);
    }
    test_args_free(&args);
    dlclose(so);
}
END_TEST

START_TEST(test_wide) {
    Gen *g = test_gen("x86-64-v4");
    for (int lanes = 1; lanes <= 16; lanes *= 16) {
        char name[16];
        snprintf(name, sizeof name, "map%d", lanes);
        gen_map(g, name, cases[_i].fn, 64, lanes);
    }
    char *assembly = test_compile(g);
    ck_assert_msg(strstr(assembly, "zmm") != NULL, "no 512-bit vectors in %s", cases[_i].name);
    ck_assert_msg(strstr(assembly, "call") == NULL, "a call in %s", cases[_i].name);
    free(assembly);
}
END_TEST

int main(void) {
    enum { N = sizeof cases / sizeof *cases };
    Suite *suite = suite_create("math");
    TCase *t = tcase_create("math");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, test_vectors, 0, N);
    tcase_add_loop_test(t, test_scalars, 0, N);
    tcase_add_loop_test(t, test_specials, 0, N);
    tcase_add_loop_test(t, test_wide, 0, N);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
