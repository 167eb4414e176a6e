/* bf16, the upper half of an f32: rounding to it, taking it out and putting it back; scalars and vectors, any
 * target. */
#include "gen.h"

int gen_width(LLVMValueRef v) {
    LLVMTypeRef type = LLVMTypeOf(v);
    return LLVMGetTypeKind(type) == LLVMVectorTypeKind ? (int)LLVMGetVectorSize(type) : 1;
}

static LLVMValueRef sixteen(Gen *g, LLVMValueRef like) {
    return gen_splat(g, gen_i32(g, 16), gen_width(like));
}

LLVMValueRef gen_bf16_bits(Gen *g, LLVMValueRef x) {
    int lanes = gen_width(x);
    LLVMTypeRef words = gen_vec(g, g->i32, lanes);
    if (g->target->bf16 && (lanes == 8 || lanes == 16)) {
        const char *name =
            lanes == 8 ? "llvm.x86.avx512bf16.cvtneps2bf16.256" : "llvm.x86.avx512bf16.cvtneps2bf16.512";
        LLVMValueRef rounded = gen_intrinsic(g, name, NULL, &x, 1);
        return LLVMBuildZExt(g->b, LLVMBuildBitCast(g->b, rounded, gen_vec(g, g->i16, lanes), ""), words, "");
    }
    LLVMValueRef bits = LLVMBuildBitCast(g->b, x, words, ""), half = sixteen(g, x);
    LLVMValueRef odd =
        LLVMBuildAnd(g->b, LLVMBuildLShr(g->b, bits, half, ""), gen_splat(g, gen_i32(g, 1), lanes), "");
    LLVMValueRef up = LLVMBuildAdd(g->b, odd, gen_splat(g, gen_i32(g, 0x7fff), lanes), "");
    LLVMValueRef quiet = LLVMBuildOr(g->b, bits, gen_splat(g, gen_i32(g, 0x400000), lanes), "");
    LLVMValueRef is_nan = LLVMBuildFCmp(g->b, LLVMRealUNO, x, x, "");
    bits = LLVMBuildSelect(g->b, is_nan, quiet, LLVMBuildAdd(g->b, bits, up, ""), "");
    return LLVMBuildLShr(g->b, bits, half, "");
}

LLVMValueRef gen_upper(Gen *g, LLVMValueRef x) {
    LLVMValueRef bits = LLVMBuildBitCast(g->b, x, gen_vec(g, g->i32, gen_width(x)), "");
    return LLVMBuildTrunc(g->b, LLVMBuildLShr(g->b, bits, sixteen(g, x), ""),
                          gen_vec(g, g->i16, gen_width(x)), "");
}

LLVMValueRef gen_widen(Gen *g, LLVMValueRef upper) {
    LLVMValueRef bits = LLVMBuildZExt(g->b, upper, gen_vec(g, g->i32, gen_width(upper)), "");
    bits = LLVMBuildShl(g->b, bits, sixteen(g, upper), "");
    return LLVMBuildBitCast(g->b, bits, gen_vec(g, g->f32, gen_width(upper)), "");
}

LLVMValueRef gen_round_bf16(Gen *g, LLVMValueRef x) {
    LLVMValueRef bits = LLVMBuildShl(g->b, gen_bf16_bits(g, x), sixteen(g, x), "");
    return LLVMBuildBitCast(g->b, bits, LLVMTypeOf(x), "");
}
