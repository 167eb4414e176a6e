/* AdamW with moments as bf16: the kernel keeps exactly what the interpreter's rounding makes of the new moments,
 * for sizes with odd ends; and that rounding is right on average, and another one in each step. */
#include "../codegen/gen.h"
#include "../ir/ir.h"
#include "device_test.h"
#include "suite.h"

static const int64_t counts[] = {1, 7, 33, 64, 1003, 100003};
enum { COUNTS = sizeof counts / sizeof *counts };

static float from_bf16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* One run of the kernel on random weights; every number is compared. */
static void check_kernel(Gen *g, int64_t n) {
    static const float hyper[] = {0.995f, 0.02f, 1.5f, 0.25f};
    static const int32_t key[] = {-5, 1234567};
    AdamwDesc d = {n, 0.9, 0.95, 1e-8, true};
    uint64_t rng = 3, half = (uint64_t)n * 2;
    KernelSize size = TEST_EMIT(g, "adamw", adamw, d);
    TestModule module = test_module(g);
    TestArgs a = test_args((uint64_t)n * 16 + 8192);
    float *w = test_arg(&a, (uint64_t)n * 4), *grad = test_arg(&a, (uint64_t)n * 4);
    uint16_t *m = test_arg(&a, half), *v = test_arg(&a, half), *m0 = malloc(half), *v0 = malloc(half);
    float *w0 = malloc((size_t)n * 4);
    test_fill(w, n, &rng), test_fill(grad, n, &rng);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits[2];
        float x[2] = {test_random(&rng), fabsf(test_random(&rng))};
        memcpy(bits, x, sizeof bits);
        m[i] = (uint16_t)(bits[0] >> 16), v[i] = (uint16_t)(bits[1] >> 16);
    }
    memcpy(m0, m, half), memcpy(v0, v, half), memcpy(w0, w, (size_t)n * 4);
    float *given = test_arg(&a, sizeof hyper);
    given[0] = NAN; /* no update */
    memcpy(test_arg(&a, sizeof key), key, sizeof key);
    test_launch(&module, "adamw", &a, size);
    ck_assert(!memcmp(m, m0, half) && !memcmp(v, v0, half) && !memcmp(w, w0, (size_t)n * 4));
    memcpy(given, hyper, sizeof hyper);
    test_launch(&module, "adamw", &a, size);
    uint32_t random = random_key(key[0], key[1]);
    for (int64_t i = 0; i < n; i++) {
        float scaled = grad[i] * hyper[3], rest1 = (float)(1 - d.beta1), rest2 = (float)(1 - d.beta2);
        float new_m = fmaf(rest1, scaled, (float)d.beta1 * from_bf16(m0[i]));
        float new_v = fmaf(rest2, scaled * scaled, (float)d.beta2 * from_bf16(v0[i]));
        uint32_t bits = random_bits(random, (uint32_t)i);
        ck_assert(from_bf16(m[i]) == bf16_round_stochastic(new_m, bits & 0xffff));
        ck_assert(from_bf16(v[i]) == bf16_round_stochastic(new_v, bits >> 16));
        double change = hyper[1] * (double)new_m / (sqrt((double)new_v * hyper[2]) + d.eps);
        double want = (double)w0[i] * hyper[0] - change;
        ck_assert_double_le(fabs(w[i] - want), 1e-6 * (fabs(w0[i]) + fabs(change)));
    }
    free(m0), free(v0), free(w0);
    test_args_free(&a);
    test_module_free(&module);
}

START_TEST(kernel_rounds_as_the_interpreter) {
    check_kernel(test_device_gen((TestDevice)(_i / COUNTS)), counts[_i % COUNTS]);
}
END_TEST

/* A third of the way to the next bf16, a third of the numbers go there; 65536 of them, so within 4 sigma. */
START_TEST(rounding_is_right_on_average) {
    const float low = 1, step = 0x1p-7f, x = low + step / 3;
    const double n = 65536, sigma = sqrt(1 / 3.0 * (2 / 3.0) / n);
    double up = 0, high = 0, same = 0;
    uint32_t first = random_key(_i, 1), second = random_key(_i, 2);
    for (uint32_t i = 0; i < 65536; i++) {
        uint32_t bits = random_bits(first, i), next = random_bits(second, i);
        float y = bf16_round_stochastic(x, bits & 0xffff), z = bf16_round_stochastic(x, bits >> 16);
        ck_assert((y == low || y == low + step) && (z == low || z == low + step));
        up += y > low, high += z > low, same += (y > low) == (bf16_round_stochastic(x, next & 0xffff) > low);
    }
    ck_assert_double_le(fabs(up / n - 1 / 3.0), 4 * sigma);
    ck_assert_double_le(fabs(high / n - 1 / 3.0), 4 * sigma);
    ck_assert_double_le(fabs(same / n - 5 / 9.0), 4 * sqrt(5 / 9.0 * (4 / 9.0) / n));
}
END_TEST

START_TEST(some_numbers_are_not_rounded) {
    static const float exact[] = {0, -0.0f, 1, -3, INFINITY, -INFINITY, 0x1p-126f};
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        ck_assert(bf16_round_stochastic(exact[i], 0xffff) == exact[i]);
    ck_assert(isnan(bf16_round_stochastic(NAN, 0xffff)));
}
END_TEST

int main(void) {
    int devices = test_devices();
    Suite *s = suite_create("moments");
    TCase *t = tcase_create("moments");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, kernel_rounds_as_the_interpreter, 0, devices * COUNTS);
    tcase_add_loop_test(t, rounding_is_right_on_average, 0, 3);
    tcase_add_test(t, some_numbers_are_not_rounded);
    suite_add_tcase(s, t);
    return run_suite(s);
}
