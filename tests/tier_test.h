/* Runs what is generated for CPUs with AVX-512, VNNI and bf16 on any machine that can run tbc: 512-bit
 * vectors are split by LLVM, and the instructions that only such CPUs have are expanded into IR of what their
 * manual says (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, "Operation" of each).
 * So layouts, tails and scales are executed as on the CPU itself, and only the choice of machine instructions
 * differs. */
#ifndef TBC_TIER_TEST_H
#define TBC_TIER_TEST_H

#include "kernel_test.h"

static inline int tier_lanes(LLVMValueRef v) {
    return (int)LLVMGetVectorSize(LLVMTypeOf(v));
}

static inline LLVMValueRef tier_splat(Gen *g, uint32_t bits, int n) {
    return gen_splat(g, LLVMConstInt(g->i32, bits, false), n);
}

/* Bits first .. first+bits-1 of each word as a number. */
static inline LLVMValueRef tier_field(Gen *g, LLVMValueRef words, int first, int bits, bool is_signed) {
    int n = tier_lanes(words);
    LLVMValueRef top = LLVMBuildShl(g->b, words, tier_splat(g, (uint32_t)(32 - first - bits), n), "");
    LLVMValueRef by = tier_splat(g, (uint32_t)(32 - bits), n);
    return is_signed ? LLVMBuildAShr(g->b, top, by, "") : LLVMBuildLShr(g->b, top, by, "");
}

/* vpmaddwd, vpdpwssd, vpdpbusd: sum + the products of the fields of the words of a and b, modulo 2^32. */
static inline LLVMValueRef tier_dot(Gen *g, LLVMValueRef sum, LLVMValueRef a, LLVMValueRef b, int bits,
                                    bool a_signed) {
    for (int first = 0; first < 32; first += bits) {
        LLVMValueRef x = tier_field(g, a, first, bits, a_signed), y = tier_field(g, b, first, bits, true);
        sum = LLVMBuildAdd(g->b, sum, LLVMBuildMul(g->b, x, y, ""), "");
    }
    return sum;
}

/* bits (i32, of f32), subnormals as zeros of their sign. */
static inline LLVMValueRef tier_flush(Gen *g, LLVMValueRef bits) {
    int n = tier_lanes(bits);
    LLVMValueRef exponent = LLVMBuildAnd(g->b, bits, tier_splat(g, 0x7f800000, n), "");
    LLVMValueRef zero = LLVMBuildAnd(g->b, bits, tier_splat(g, 0x80000000, n), "");
    LLVMValueRef tiny = LLVMBuildICmp(g->b, LLVMIntEQ, exponent, tier_splat(g, 0, n), "");
    return LLVMBuildSelect(g->b, tiny, zero, bits, "");
}

static inline LLVMValueRef tier_cast(Gen *g, LLVMValueRef v, LLVMTypeRef elem, int n) {
    return LLVMBuildBitCast(g->b, v, gen_vec(g, elem, n), "");
}

/* vdpbf16ps: first the upper, then the lower bf16 of each word; each step rounds to nearest even once, and
 * takes and gives zeros for subnormals. */
static inline LLVMValueRef tier_dot_bf16(Gen *g, LLVMValueRef sum, LLVMValueRef a, LLVMValueRef b) {
    int n = tier_lanes(sum);
    LLVMValueRef x[] = {sum, tier_cast(g, a, g->i32, n), tier_cast(g, b, g->i32, n)};
    LLVMValueRef bits = tier_flush(g, tier_cast(g, sum, g->i32, n));
    for (int half = 1; half >= 0; half--) {
        LLVMValueRef factor[2];
        for (int i = 0; i < 2; i++) {
            LLVMValueRef field = tier_field(g, x[i + 1], 16 * half, 16, false);
            field = LLVMBuildShl(g->b, field, tier_splat(g, 16, n), "");
            factor[i] = tier_cast(g, tier_flush(g, field), g->f32, n);
        }
        LLVMValueRef next = gen_fma(g, factor[0], factor[1], tier_cast(g, bits, g->f32, n));
        bits = tier_flush(g, tier_cast(g, next, g->i32, n));
    }
    return tier_cast(g, bits, g->f32, n);
}

/* vcvtneps2bf16: to nearest even; zeros for subnormals, quiet NaNs. The result is i16. */
static inline LLVMValueRef tier_round_bf16(Gen *g, LLVMValueRef x) {
    int n = tier_lanes(x);
    LLVMValueRef bits = tier_flush(g, tier_cast(g, x, g->i32, n));
    LLVMValueRef bias = LLVMBuildAdd(g->b, tier_field(g, bits, 16, 1, false), tier_splat(g, 0x7fff, n), "");
    LLVMValueRef quiet = LLVMBuildOr(g->b, bits, tier_splat(g, 1 << 22, n), "");
    LLVMValueRef is_nan = LLVMBuildFCmp(g->b, LLVMRealUNO, x, x, "");
    bits = LLVMBuildSelect(g->b, is_nan, quiet, LLVMBuildAdd(g->b, bits, bias, ""), "");
    return LLVMBuildTrunc(g->b, tier_field(g, bits, 16, 16, false), gen_vec(g, g->i16, n), "");
}

static inline LLVMValueRef tier_expand(Gen *g, const char *intrinsic, LLVMValueRef *args) {
    const char *name = intrinsic + strlen("llvm.x86.avx512");
    if (strncmp(name, ".vpdpwssd", 9) == 0) return tier_dot(g, args[0], args[1], args[2], 16, true);
    if (strncmp(name, ".vpdpbusd", 9) == 0) return tier_dot(g, args[0], args[1], args[2], 8, false);
    if (strncmp(name, "bf16.dpbf16ps", 13) == 0) return tier_dot_bf16(g, args[0], args[1], args[2]);
    if (strncmp(name, "bf16.cvtneps2bf16", 17) == 0) return tier_round_bf16(g, args[0]);
    if (strncmp(name, ".pmaddw.d", 9) == 0) {
        int n = tier_lanes(args[0]) / 2;
        LLVMValueRef a = tier_cast(g, args[0], g->i32, n), b = tier_cast(g, args[1], g->i32, n);
        return tier_dot(g, LLVMConstNull(gen_vec(g, g->i32, n)), a, b, 16, true);
    }
    fprintf(stderr, "no expansion of %s\n", intrinsic);
    abort();
}

/* What is generated for that CPU, with many cores, in a form that the host can run. NULL: the host, as it is.
 */
static inline const Target *test_tier(const char *cpu) {
    const Target *host = test_target(NULL);
    if (!cpu) return host;
    Target *t = (Target *)test_target(cpu);
    static Expansion expansion; /* there is one host */
    expansion = (Expansion){host->level, host->features, tier_expand};
    t->expansion = &expansion;
    t->cores = 64;
    return t;
}

#endif
