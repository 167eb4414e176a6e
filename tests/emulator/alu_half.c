/* .f16, .bf16 and their pairs (PTX ISA 9.7.4): computed in double, or rounded to odd where that is not
 * enough, and rounded once. One function of 16-bit values serves the scalar and the packed form. */
#include "alu.h"
#include "real.h"
#include <math.h>

typedef u32 Half(u32 a, u32 b, u32 c, const Format *f, const Ins *i);

static double get(u32 v, const Format *f, const Ins *i) {
    double d = widen(v & 0xffff, f);
    return i->ftz && fabs(d) < ldexp(1, 1 - f->bias) ? copysign(0, d) : d;
}
static u32 put(double v, const Format *f, const Ins *i) {
    if (i->sat) v = !(v > 0) ? 0 : v > 1 ? 1 : v; /* a NaN and -0 become 0 */
    u32 r = narrow(v, f, R_RN, false);
    return i->ftz && (r & (f->sign - 1)) < 1u << f->mantissa ? r & f->sign : r;
}
static u32 relu(u32 v, const Format *f) {
    return v == f->nan ? v : v & f->sign ? 0 : v;
}

#define A get(a, f, i)
#define B get(b, f, i)
#define C get(c, f, i)
#define HALF(name, expr)                                                                                     \
    static u32 name(u32 a, u32 b, u32 c, const Format *f, const Ins *i) {                                    \
        (void)b, (void)c, (void)i;                                                                           \
        return (expr);                                                                                       \
    }
HALF(h_add, put(A + B, f, i))
HALF(h_sub, put(A - B, f, i))
HALF(h_mul, put(A *B, f, i))
HALF(h_fma, put(fma_odd(A, B, C), f, i))
HALF(h_fma_relu, relu(put(fma_odd(A, B, C), f, i), f))
HALF(h_neg, put(A, f, &(Ins){.ftz = i->ftz}) ^ f->sign)
HALF(h_abs, put(A, f, &(Ins){.ftz = i->ftz}) & (f->sign - 1))
static double least(double x, double y) {
    return x != x ? y : y != y ? x : x < y || (x == y && signbit(x)) ? x : y;
}
static double most(double x, double y) {
    return x != x ? y : y != y ? x : x > y || (x == y && signbit(y)) ? x : y;
}
static double least_nan(double x, double y) {
    return x != x || y != y ? NAN : least(x, y);
}
static double most_nan(double x, double y) {
    return x != x || y != y ? NAN : most(x, y);
}
static double cross(double r, u32 a, u32 b) {
    return copysign(fabs(r), (a ^ b) & 0x8000 ? -1 : 1);
}
HALF(h_min, put(least(A, B), f, i))
HALF(h_max, put(most(A, B), f, i))
HALF(h_min_nan, put(least_nan(A, B), f, i))
HALF(h_max_nan, put(most_nan(A, B), f, i))
HALF(h_min_xor, put(cross(least(fabs(A), fabs(B)), a, b), f, i))
HALF(h_max_xor, put(cross(most(fabs(A), fabs(B)), a, b), f, i))
HALF(h_min_nan_xor, put(cross(least_nan(fabs(A), fabs(B)), a, b), f, i))
HALF(h_max_nan_xor, put(cross(most_nan(fabs(A), fabs(B)), a, b), f, i))
/* 0 and the infinities have exact results. */
static double near(double exact, double x, double relative, u32 operand) {
    return x == 0 || isinf(x) ? exact : approximate(exact, relative, 0, operand);
}
HALF(h_ex2, put(near(exp2(A), A, f->mantissa == 10 ? 0x1p-10 : 0x1p-7, a), f, i))
HALF(h_tanh, put(near(tanh(A), A, f->mantissa == 10 ? 0x1p-11 : 0x1p-9, a), f, i))

static void run(void *D, const void *A_, const void *B_, const void *C_, const Ins *ins, Half *op,
                const Format *f, bool pair) {
    static const u32 none[LANES];
    u32 *d = D;
    const u32 *a = A_, *b = B_ ? B_ : none, *c = C_ ? C_ : none;
    for (int l = 0; l < LANES; l++) {
        u32 r = op(a[l] & 0xffff, b[l] & 0xffff, c[l] & 0xffff, f, ins);
        if (pair) r |= op(a[l] >> 16, b[l] >> 16, c[l] >> 16, f, ins) << 16;
        d[l] = r;
    }
}
#define KERNELS(op)                                                                                          \
    KERNEL(op##_f16) {                                                                                       \
        run(D, A_, B_, C_, ins, op, &f16_format, false);                                                     \
    }                                                                                                        \
    KERNEL(op##_f16x2) {                                                                                     \
        run(D, A_, B_, C_, ins, op, &f16_format, true);                                                      \
    }                                                                                                        \
    KERNEL(op##_bf16) {                                                                                      \
        run(D, A_, B_, C_, ins, op, &bf16_format, false);                                                    \
    }                                                                                                        \
    KERNEL(op##_bf16x2) {                                                                                    \
        run(D, A_, B_, C_, ins, op, &bf16_format, true);                                                     \
    }
KERNELS(h_add)
KERNELS(h_sub)
KERNELS(h_mul) KERNELS(h_fma) KERNELS(h_fma_relu) KERNELS(h_neg) KERNELS(h_abs) KERNELS(h_min) KERNELS(h_max)
    KERNELS(h_min_nan) KERNELS(h_max_nan) KERNELS(h_min_xor) KERNELS(h_max_xor) KERNELS(h_min_nan_xor)
        KERNELS(h_max_nan_xor) KERNELS(h_ex2) KERNELS(h_tanh)

#define ROWS(name, f16, bf16, sig, op)                                                                       \
    {name, f16, T_F16, sig, op##_f16}, {name, f16, T_F16X2, sig, op##_f16x2},                                \
        {name, bf16, T_BF16, sig, op##_bf16}, {                                                              \
        name, bf16, T_BF16X2, sig, op##_bf16x2                                                               \
    }
            const Row rows_half[] = {ROWS("add", "nfs", "n", "dxy", h_add),
                                     ROWS("sub", "nfs", "n", "dxy", h_sub),
                                     ROWS("mul", "nfs", "n", "dxy", h_mul),
                                     ROWS("fma", "Nfs", "N", "dxyz", h_fma),
                                     ROWS("fma.relu", "Nf", "N", "dxyz", h_fma_relu),
                                     ROWS("neg", "f", "", "dx", h_neg),
                                     ROWS("abs", "f", "", "dx", h_abs),
                                     ROWS("min", "f", "", "dxy", h_min),
                                     ROWS("max", "f", "", "dxy", h_max),
                                     ROWS("min.NaN", "f", "", "dxy", h_min_nan),
                                     ROWS("max.NaN", "f", "", "dxy", h_max_nan),
                                     ROWS("min.xorsign.abs", "f", "", "dxy", h_min_xor),
                                     ROWS("max.xorsign.abs", "f", "", "dxy", h_max_xor),
                                     ROWS("min.NaN.xorsign.abs", "f", "", "dxy", h_min_nan_xor),
                                     ROWS("max.NaN.xorsign.abs", "f", "", "dxy", h_max_nan_xor),
                                     ROWS("ex2.approx", "f", "f", "dx", h_ex2),
                                     ROWS("tanh.approx", "", "", "dx", h_tanh),
                                     {0}};
