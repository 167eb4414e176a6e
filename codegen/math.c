/* exp, log, rsqrt and sigmoid of f32 scalars and vectors, emitted inline.
 *
 * exp and log follow Cephes (expf, logf by S. Moshier): an argument reduction after Cody and Waite, which
 * subtracts a multiple of ln 2 in two parts so that no bits are lost, then a minimax polynomial on the small
 * remainder. Exponents are taken apart and put together with integer operations. There is no branch and no
 * table, so a vector costs what a scalar does. Results are within about 1 ulp of the exact ones. */
#include "gen.h"

/* ln 2 as a part with few bits, whose product with an exponent is exact, and the rest. */
#define LN2_HI 0.693359375
#define LN2_LO (-2.12194440e-4)

/* Of the value being worked on: its lanes, its type, and the integer type of the same shape. */
typedef struct Lane {
    Gen *g;
    int n;
    LLVMTypeRef f, i;
} Lane;

static Lane lane_of(Gen *g, LLVMValueRef x) {
    int n = gen_width(x);
    return (Lane){.g = g, .n = n, .f = LLVMTypeOf(x), .i = gen_vec(g, g->i32, n)};
}

static LLVMValueRef real(Lane l, double c) {
    return gen_splat(l.g, gen_f32(l.g, c), l.n);
}
static LLVMValueRef integer(Lane l, int64_t c) {
    return gen_splat(l.g, gen_i32(l.g, c), l.n);
}
static LLVMValueRef bits_of(Lane l, LLVMValueRef x) {
    return LLVMBuildBitCast(l.g->b, x, l.i, "");
}
static LLVMValueRef from_bits(Lane l, LLVMValueRef x) {
    return LLVMBuildBitCast(l.g->b, x, l.f, "");
}

/* c[0] x^(n-1) + ... + c[n-1], by Horner's rule. */
static LLVMValueRef polynomial(Lane l, LLVMValueRef x, const double *c, int n) {
    LLVMValueRef y = real(l, c[0]);
    for (int i = 1; i < n; i++) y = gen_fma(l.g, y, x, real(l, c[i]));
    return y;
}

/* 2^k for -126 <= k <= 127. */
static LLVMValueRef power_of_two(Lane l, LLVMValueRef k) {
    LLVMBuilderRef b = l.g->b;
    return from_bits(l, LLVMBuildShl(b, LLVMBuildAdd(b, k, integer(l, 127), ""), integer(l, 23), ""));
}

LLVMValueRef gen_exp(Gen *g, LLVMValueRef x) {
    static const double c[] = {1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3,
                               4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1};
    LLVMBuilderRef b = g->b;
    Lane l = lane_of(g, x);
    /* Beyond these the result is 0 or infinity anyway. A NaN fails both comparisons and stays. */
    x = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOGT, x, real(l, 89), ""), real(l, 89), x, "");
    x = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOLT, x, real(l, -105), ""), real(l, -105), x, "");
    /* k = round(x / ln 2): adding 1.5 * 2^23 leaves the rounded integer in the low bits. */
    LLVMValueRef magic = real(l, 0x1.8p23);
    LLVMValueRef t = gen_fma(g, x, real(l, 1.44269504088896341), magic);
    LLVMValueRef k = LLVMBuildSub(b, bits_of(l, t), bits_of(l, magic), "");
    t = LLVMBuildFSub(b, t, magic, "");
    LLVMValueRef r = gen_fma(g, t, real(l, -LN2_HI), x);
    r = gen_fma(g, t, real(l, -LN2_LO), r);
    LLVMValueRef y = polynomial(l, r, c, 6);
    y = gen_fma(g, y, LLVMBuildFMul(b, r, r, ""), r);
    y = LLVMBuildFAdd(b, y, real(l, 1), "");
    /* Two factors, as 2^k itself may be out of range where the result is not (subnormal, or near the top). */
    LLVMValueRef half = LLVMBuildAShr(b, k, integer(l, 1), "");
    y = LLVMBuildFMul(b, y, power_of_two(l, half), "");
    return LLVMBuildFMul(b, y, power_of_two(l, LLVMBuildSub(b, k, half, "")), "");
}

LLVMValueRef gen_log(Gen *g, LLVMValueRef x) {
    static const double c[] = {7.0376836292e-2,  -1.1514610310e-1, 1.1676998740e-1,
                               -1.2420140846e-1, 1.4249322787e-1,  -1.6668057665e-1,
                               2.0000714765e-1,  -2.4999993993e-1, 3.3333331174e-1};
    const int64_t sqrt_half = 0x3f3504f3; /* the bits of sqrt(1/2) */
    LLVMBuilderRef b = g->b;
    Lane l = lane_of(g, x);
    LLVMValueRef small = LLVMBuildFCmp(b, LLVMRealOLT, x, real(l, 0x1p-126), "");
    LLVMValueRef normal = LLVMBuildSelect(b, small, LLVMBuildFMul(b, x, real(l, 0x1p23), ""), x, "");
    /* x = m 2^e with sqrt(1/2) <= m < sqrt(2) */
    LLVMValueRef bits = LLVMBuildSub(b, bits_of(l, normal), integer(l, sqrt_half), "");
    LLVMValueRef e = LLVMBuildAShr(b, bits, integer(l, 23), "");
    e = LLVMBuildSub(b, e, LLVMBuildSelect(b, small, integer(l, 23), integer(l, 0), ""), "");
    e = LLVMBuildSIToFP(b, e, l.f, "");
    bits = LLVMBuildAdd(b, LLVMBuildAnd(b, bits, integer(l, 0x7fffff), ""), integer(l, sqrt_half), "");
    LLVMValueRef m = LLVMBuildFSub(b, from_bits(l, bits), real(l, 1), "");
    LLVMValueRef z = LLVMBuildFMul(b, m, m, "");
    LLVMValueRef y = LLVMBuildFMul(b, polynomial(l, m, c, 9), LLVMBuildFMul(b, m, z, ""), "");
    y = gen_fma(g, e, real(l, LN2_LO), y);
    y = gen_fma(g, z, real(l, -0.5), y);
    y = gen_fma(g, e, real(l, LN2_HI), LLVMBuildFAdd(b, m, y, ""));
    /* log 0 = -inf, log inf = inf, and NaN of NaN and of what is below 0 */
    LLVMValueRef infinite = real(l, __builtin_inf()), zero = real(l, 0);
    y = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOEQ, x, infinite, ""), infinite, y, "");
    y = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOEQ, x, zero, ""), real(l, -__builtin_inf()), y, "");
    LLVMValueRef in_domain = LLVMBuildFCmp(b, LLVMRealOGE, x, zero, "");
    return LLVMBuildSelect(b, in_domain, y, real(l, __builtin_nan("")), "");
}

LLVMValueRef gen_rsqrt(Gen *g, LLVMValueRef x) {
    LLVMValueRef root = gen_intrinsic(g, "llvm.sqrt", LLVMTypeOf(x), &x, 1);
    return LLVMBuildFDiv(g->b, real(lane_of(g, x), 1), root, "");
}

/* The exponential may overflow to infinity: 1 / (1 + inf) is the 0 it should be. */
LLVMValueRef gen_sigmoid(Gen *g, LLVMValueRef x) {
    LLVMValueRef one = real(lane_of(g, x), 1);
    LLVMValueRef e = gen_exp(g, LLVMBuildFNeg(g->b, x, ""));
    return LLVMBuildFDiv(g->b, one, LLVMBuildFAdd(g->b, one, e, ""), "");
}
