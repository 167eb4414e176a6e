/* Words of panels (gen.h), an f32 or a pair of bf16 or int16: making pairs, and multiplying words. */
#include "gemm.h"
#include <string.h>

LLVMValueRef i16_multiply_pairs(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    int lanes = (int)LLVMGetVectorSize(LLVMTypeOf(a));
    bool avx512 = strcmp(g->target->level, "x86-64-v4") == 0;
    if (lanes == 8 || (lanes == 16 && avx512)) {
        LLVMTypeRef shorts = gen_vec(g, g->i16, 2 * lanes);
        LLVMValueRef args[] = {LLVMBuildBitCast(g->b, a, shorts, ""), LLVMBuildBitCast(g->b, b, shorts, "")};
        return gen_intrinsic(g, lanes == 8 ? "llvm.x86.avx2.pmadd.wd" : "llvm.x86.avx512.pmaddw.d.512", NULL,
                             args, 2);
    }
    LLVMValueRef low = gen_iota(g, g->i32, lanes / 2), none = LLVMGetPoison(LLVMTypeOf(a));
    LLVMValueRef high = LLVMBuildAdd(g->b, low, gen_splat(g, gen_i32(g, lanes / 2), lanes / 2), "");
    LLVMValueRef sums[2];
    for (int i = 0; i < 2; i++) {
        LLVMValueRef half = i ? high : low;
        sums[i] = i16_multiply_pairs(g, LLVMBuildShuffleVector(g->b, a, none, half, ""),
                                     LLVMBuildShuffleVector(g->b, b, none, half, ""));
    }
    return LLVMBuildShuffleVector(g->b, sums[0], sums[1], gen_iota(g, g->i32, lanes), "");
}

/* The bits of x (f32, any number of lanes) with the upper 16 rounded to a bf16; the lower 16 are anything. */
static LLVMValueRef round_bits(Gen *g, LLVMValueRef x) {
    bool vector = LLVMGetTypeKind(LLVMTypeOf(x)) == LLVMVectorTypeKind;
    int lanes = vector ? (int)LLVMGetVectorSize(LLVMTypeOf(x)) : 1;
    LLVMValueRef bits = LLVMBuildBitCast(g->b, x, gen_vec(g, g->i32, lanes), "");
    LLVMValueRef odd = LLVMBuildLShr(g->b, bits, gen_splat(g, gen_i32(g, 16), lanes), "");
    odd = LLVMBuildAnd(g->b, odd, gen_splat(g, gen_i32(g, 1), lanes), "");
    LLVMValueRef up = LLVMBuildAdd(g->b, odd, gen_splat(g, gen_i32(g, 0x7fff), lanes), "");
    LLVMValueRef quiet = LLVMBuildOr(g->b, bits, gen_splat(g, gen_i32(g, 0x400000), lanes), "");
    LLVMValueRef is_nan = LLVMBuildFCmp(g->b, LLVMRealUNO, x, x, "");
    return LLVMBuildSelect(g->b, is_nan, quiet, LLVMBuildAdd(g->b, bits, up, ""), "");
}

LLVMValueRef bf16_pairs(Gen *g, LLVMValueRef low, LLVMValueRef high) {
    LLVMValueRef bits[] = {round_bits(g, low), round_bits(g, high)};
    LLVMTypeRef type = LLVMTypeOf(bits[0]);
    bool vector = LLVMGetTypeKind(type) == LLVMVectorTypeKind;
    int lanes = vector ? (int)LLVMGetVectorSize(type) : 1;
    LLVMValueRef upper = gen_splat(g, LLVMConstInt(g->i32, 0xffff0000u, false), lanes);
    bits[0] = LLVMBuildLShr(g->b, bits[0], gen_splat(g, gen_i32(g, 16), lanes), "");
    return LLVMBuildOr(g->b, bits[0], LLVMBuildAnd(g->b, bits[1], upper, ""), "");
}

/* Without an instruction for it, the two halves of a pair of bf16 are multiplied one after the other. */
int pairs_parts(Gen *g, PanelType type) {
    (void)g;
    return type == PANELS_BF16 ? 2 : 1;
}

/* A bf16 is the high half of an f32. */
LLVMValueRef pairs_part(Gen *g, PanelType type, LLVMValueRef words, int part) {
    if (pairs_parts(g, type) == 1) return words;
    int lanes = (int)LLVMGetVectorSize(LLVMTypeOf(words));
    LLVMValueRef high = gen_splat(g, LLVMConstInt(g->i32, 0xffff0000u, false), lanes);
    words = part ? LLVMBuildAnd(g->b, words, high, "")
                 : LLVMBuildShl(g->b, words, gen_splat(g, gen_i32(g, 16), lanes), "");
    return LLVMBuildBitCast(g->b, words, gen_vec(g, g->f32, lanes), "");
}

LLVMValueRef pairs_add(Gen *g, PanelType type, LLVMValueRef sum, LLVMValueRef a, LLVMValueRef b) {
    if (type == PANELS_I16) return LLVMBuildAdd(g->b, sum, i16_multiply_pairs(g, a, b), "");
    return gen_fma(g, a, b, sum);
}
