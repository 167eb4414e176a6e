/* Arithmetic of .f32 and .f64 (PTX ISA 9.7.3) that is exactly specified. Rounding and flushing of denormals
 * are the processor's own, set by the instruction's control word; NaN results of .f32 are canonical. */
#include "alu.h"
#include "real.h"
#include <math.h>

K2(add_f32, float, float, canon(a + b))
K2(sub_f32, float, float, canon(a - b))
K2(mul_f32, float, float, canon(a *b))
K2(div_f32, float, float, canon(a / b))
K3(fma_f32, float, float, canon(fmaf(a, b, c)))
K1(rcp_f32, float, float, canon(1.0f / a))
K1(sqrt_f32, float, float, canon(sqrtf(a)))
K2(add_f64, double, double, a + b)
K2(sub_f64, double, double, a - b)
K2(mul_f64, double, double, a *b)
K2(div_f64, double, double, a / b)
K3(fma_f64, double, double, fma(a, b, c))
K1(rcp_f64, double, double, 1.0 / a)
K1(sqrt_f64, double, double, sqrt(a))

/* a number wins over a NaN, and -0 is less than +0 */
#define LESS(a, b, sign) ((a) < (b) || ((a) == (b) && (sign)))
static float least(float a, float b) {
    return a != a ? b : b != b ? a : LESS(a, b, signbit(a)) ? a : b;
}
static float most(float a, float b) {
    return a != a ? b : b != b ? a : LESS(b, a, signbit(b)) ? a : b;
}
static double least64(double a, double b) {
    return a != a ? b : b != b ? a : LESS(a, b, signbit(a)) ? a : b;
}
static double most64(double a, double b) {
    return a != a ? b : b != b ? a : LESS(b, a, signbit(b)) ? a : b;
}
static float least_nan(float a, float b) {
    return a != a || b != b ? NAN : least(a, b);
}
static float most_nan(float a, float b) {
    return a != a || b != b ? NAN : most(a, b);
}
static float maybe(float f, const Ins *i) {
    return i->ftz ? flush(f) : f;
}
static float xorsign(float r, float a, float b) {
    return copysignf(fabsf(r), signbit(a) != signbit(b) ? -1.0f : 1.0f);
}
#define F(x) maybe(x, ins)
K2(min_f32, float, float, canon(least(F(a), F(b))))
K2(max_f32, float, float, canon(most(F(a), F(b))))
K2(min_nan_f32, float, float, canon(least_nan(F(a), F(b))))
K2(max_nan_f32, float, float, canon(most_nan(F(a), F(b))))
K2(min_xor_f32, float, float, canon(xorsign(least(fabsf(F(a)), fabsf(F(b))), a, b)))
K2(max_xor_f32, float, float, canon(xorsign(most(fabsf(F(a)), fabsf(F(b))), a, b)))
K2(min_nan_xor_f32, float, float, canon(xorsign(least_nan(fabsf(F(a)), fabsf(F(b))), a, b)))
K2(max_nan_xor_f32, float, float, canon(xorsign(most_nan(fabsf(F(a)), fabsf(F(b))), a, b)))
K2(min_f64, double, double, least64(a, b))
K2(max_f64, double, double, most64(a, b))
K1(abs_f32, float, float, fabsf(F(a)))
K1(neg_f32, float, float, -F(a))
K1(abs_f64, double, double, fabs(a))
K1(neg_f64, double, double, -a)
K2(copysign_f32, u32, u32, (a & 0x80000000u) | (b & 0x7fffffffu))
K2(copysign_f64, u64, u64, (a & 1ull << 63) | (b & ~(1ull << 63)))

/* testp */
#define TEST(name, C, expr)                                                                                  \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        const C *pa = A_;                                                                                    \
        u32 r = 0;                                                                                           \
        for (int l = 0; l < LANES; l++) {                                                                    \
            C a = pa[l];                                                                                     \
            r |= (u32) !!(expr) << l;                                                                        \
        }                                                                                                    \
        *(u32 *)D = r;                                                                                       \
    }
#define TESTS(C, s)                                                                                          \
    TEST(finite_##s, C, isfinite(a))                                                                         \
    TEST(infinite_##s, C, isinf(a))                                                                          \
    TEST(number_##s, C, !isnan(a))                                                                           \
    TEST(notanumber_##s, C, isnan(a))                                                                        \
    TEST(normal_##s, C, isnormal(a) || a == 0) /* zeros count as normal */                                   \
    TEST(subnormal_##s, C, fpclassify(a) == FP_SUBNORMAL)
TESTS(float, f32)
TESTS(double, f64)
#define TESTP(name, k)                                                                                       \
    {"testp." name, "", T_F32, "px", k##_f32}, {                                                             \
        "testp." name, "", T_F64, "px", k##_f64                                                              \
    }

const Row rows_float[] = {{"add", "rfs", T_F32, "dxy", add_f32},
                          {"add", "r", T_F64, "dxy", add_f64},
                          {"sub", "rfs", T_F32, "dxy", sub_f32},
                          {"sub", "r", T_F64, "dxy", sub_f64},
                          {"mul", "rfs", T_F32, "dxy", mul_f32},
                          {"mul", "r", T_F64, "dxy", mul_f64},
                          {"fma", "Rfs", T_F32, "dxyz", fma_f32},
                          {"fma", "R", T_F64, "dxyz", fma_f64},
                          {"mad", "Rfs", T_F32, "dxyz", fma_f32},
                          {"mad", "R", T_F64, "dxyz", fma_f64},
                          {"div", "Rf", T_F32, "dxy", div_f32},
                          {"div", "R", T_F64, "dxy", div_f64},
                          {"rcp", "Rf", T_F32, "dx", rcp_f32},
                          {"rcp", "R", T_F64, "dx", rcp_f64},
                          {"sqrt", "Rf", T_F32, "dx", sqrt_f32},
                          {"sqrt", "R", T_F64, "dx", sqrt_f64},
                          {"min", "f", T_F32, "dxy", min_f32},
                          {"max", "f", T_F32, "dxy", max_f32},
                          {"min.NaN", "f", T_F32, "dxy", min_nan_f32},
                          {"max.NaN", "f", T_F32, "dxy", max_nan_f32},
                          {"min.xorsign.abs", "f", T_F32, "dxy", min_xor_f32},
                          {"max.xorsign.abs", "f", T_F32, "dxy", max_xor_f32},
                          {"min.NaN.xorsign.abs", "f", T_F32, "dxy", min_nan_xor_f32},
                          {"max.NaN.xorsign.abs", "f", T_F32, "dxy", max_nan_xor_f32},
                          {"min", "", T_F64, "dxy", min_f64},
                          {"max", "", T_F64, "dxy", max_f64},
                          {"abs", "f", T_F32, "dx", abs_f32},
                          {"abs", "", T_F64, "dx", abs_f64},
                          {"neg", "f", T_F32, "dx", neg_f32},
                          {"neg", "", T_F64, "dx", neg_f64},
                          {"copysign", "", T_F32, "dxy", copysign_f32},
                          {"copysign", "", T_F64, "dxy", copysign_f64},
                          TESTP("finite", finite),
                          TESTP("infinite", infinite),
                          TESTP("number", number),
                          TESTP("notanumber", notanumber),
                          TESTP("normal", normal),
                          TESTP("subnormal", subnormal),
                          {0}};
