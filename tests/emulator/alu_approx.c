/* Approximate instructions: computed in double, rounded once, and moved within the error that the ISA
 * documents when perturbation is on. Flushing of denormals follows .ftz. */
#include "alu.h"
#include "real.h"
#include <math.h>

static float in(float a, const Ins *i) {
    return i->ftz ? flush(a) : a;
}
static float out(float a, const Ins *i) {
    return i->ftz ? flush(a) : a;
}
#define ULP 0x1p-23 /* of a float: at most this, relatively */

#define APPROX(name, exact, relative, absolute)                                                              \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        float *d = D;                                                                                        \
        const float *pa = A_;                                                                                \
        for (int l = 0; l < LANES; l++) {                                                                    \
            double a = in(pa[l], ins);                                                                       \
            bool special = a == 0 || isinf(a); /* the ISA has a table of these */                            \
            d[l] = out(special ? canon((float)(exact))                                                       \
                               : approximate(exact, relative, absolute, float_to_bits(pa[l])),               \
                       ins);                                                                                 \
        }                                                                                                    \
    }
APPROX(rcp_approx, 1 / a, 0.5 * ULP, 0)
APPROX(sqrt_approx, sqrt(a), ULP, 0)
APPROX(rsqrt_approx, 1 / sqrt(a), 0x1p-22 * 0.53588673, 0) /* 2^-22.9 */
APPROX(ex2_approx, exp2(a), ULP, 0)
APPROX(lg2_approx, log2(a), a > 0.5 && a < 2 ? 0 : 0x1p-22, a > 0.5 && a < 2 ? 0x1p-22 : 0)
APPROX(sin_approx, sin(a), 0, 0x1p-21) /* 2^-20.9 at best */
APPROX(cos_approx, cos(a), 0, 0x1p-21)
APPROX(tanh_approx, tanh(a), 0x1p-11, 0)

/* 2 ulp; .approx gives 0 where |b| is so large that 1/b is a denormal */
#define DIVIDE(name, quotient)                                                                               \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        float *d = D;                                                                                        \
        const float *pa = A_, *pb = B_;                                                                      \
        for (int l = 0; l < LANES; l++) {                                                                    \
            double a = in(pa[l], ins), b = in(pb[l], ins), size = fabs(b);                                   \
            (void)size;                                                                                      \
            d[l] =                                                                                           \
                out(approximate(quotient, ULP, 0, float_to_bits(pa[l]) * 31 + float_to_bits(pb[l])), ins);   \
        }                                                                                                    \
    }
DIVIDE(div_full, a / b)
DIVIDE(div_approx,
       size > 0x1p126 && size < 0x1p128 ? (isinf(a) ? NAN : copysign(0, a) * copysign(1, b)) : a / b)

/* f64 with .ftz: the upper 32 bits of the operand count, the lower 32 bits of the result are 0; without,
 * rsqrt is as exact as a library's */
static double high_word(double a) {
    return bits_to_double(double_to_bits(a) & 0xffffffff00000000ull);
}
static double flush64(double a) {
    return fabs(a) < 0x1p-1022 ? copysign(0, a) : a;
}
K1(rcp_approx_f64, double, double, flush64(high_word(1 / flush64(high_word(a)))))
K1(rsqrt_ftz_f64, double, double, flush64(high_word(1 / sqrt(flush64(high_word(a))))))
K1(rsqrt_approx_f64, double, double, (double)(1 / sqrtl((long double)a)))

const Row rows_approx[] = {
    {"rcp.approx", "f", T_F32, "dx", rcp_approx},         {"sqrt.approx", "f", T_F32, "dx", sqrt_approx},
    {"rsqrt.approx", "f", T_F32, "dx", rsqrt_approx},     {"ex2.approx", "f", T_F32, "dx", ex2_approx},
    {"lg2.approx", "f", T_F32, "dx", lg2_approx},         {"sin.approx", "f", T_F32, "dx", sin_approx},
    {"cos.approx", "f", T_F32, "dx", cos_approx},         {"tanh.approx", "", T_F32, "dx", tanh_approx},
    {"div.approx", "f", T_F32, "dxy", div_approx},        {"div.full", "f", T_F32, "dxy", div_full},
    {"rcp.approx.ftz", "", T_F64, "dx", rcp_approx_f64},  {"rsqrt.approx", "", T_F64, "dx", rsqrt_approx_f64},
    {"rsqrt.approx.ftz", "", T_F64, "dx", rsqrt_ftz_f64}, {0}};
