/* Words of panels (gen.h), an f32 or a pair of bf16 or int16: making pairs, and multiplying words. */
#include "gemm.h"

static int lanes_of(LLVMValueRef v) {
    LLVMTypeRef type = LLVMTypeOf(v);
    return LLVMGetTypeKind(type) == LLVMVectorTypeKind ? (int)LLVMGetVectorSize(type) : 1;
}

LLVMValueRef i16_multiply_pairs(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    int lanes = lanes_of(a);
    LLVMTypeRef shorts = gen_vec(g, g->i16, 2 * lanes);
    LLVMValueRef args[] = {LLVMBuildBitCast(g->b, a, shorts, ""), LLVMBuildBitCast(g->b, b, shorts, "")};
    const char *name = lanes == 16 ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd";
    return gen_intrinsic(g, name, NULL, args, 2);
}

/* x (f32, any number of lanes) rounded to bf16, in the lower 16 bits of i32. */
static LLVMValueRef round_bits(Gen *g, LLVMValueRef x) {
    int lanes = lanes_of(x);
    LLVMTypeRef words = gen_vec(g, g->i32, lanes);
    if (g->target->bf16 && (lanes == 8 || lanes == 16)) {
        const char *name =
            lanes == 8 ? "llvm.x86.avx512bf16.cvtneps2bf16.256" : "llvm.x86.avx512bf16.cvtneps2bf16.512";
        LLVMValueRef rounded = gen_intrinsic(g, name, NULL, &x, 1);
        return LLVMBuildZExt(g->b, LLVMBuildBitCast(g->b, rounded, gen_vec(g, g->i16, lanes), ""), words, "");
    }
    LLVMValueRef bits = LLVMBuildBitCast(g->b, x, words, ""), half = gen_splat(g, gen_i32(g, 16), lanes);
    LLVMValueRef odd =
        LLVMBuildAnd(g->b, LLVMBuildLShr(g->b, bits, half, ""), gen_splat(g, gen_i32(g, 1), lanes), "");
    LLVMValueRef up = LLVMBuildAdd(g->b, odd, gen_splat(g, gen_i32(g, 0x7fff), lanes), "");
    LLVMValueRef quiet = LLVMBuildOr(g->b, bits, gen_splat(g, gen_i32(g, 0x400000), lanes), "");
    LLVMValueRef is_nan = LLVMBuildFCmp(g->b, LLVMRealUNO, x, x, "");
    bits = LLVMBuildSelect(g->b, is_nan, quiet, LLVMBuildAdd(g->b, bits, up, ""), "");
    return LLVMBuildLShr(g->b, bits, half, "");
}

static LLVMValueRef sixteen(Gen *g, LLVMValueRef like) {
    return gen_splat(g, gen_i32(g, 16), lanes_of(like));
}

LLVMValueRef gen_upper(Gen *g, LLVMValueRef x) {
    LLVMValueRef bits = LLVMBuildBitCast(g->b, x, gen_vec(g, g->i32, lanes_of(x)), "");
    return LLVMBuildTrunc(g->b, LLVMBuildLShr(g->b, bits, sixteen(g, x), ""), gen_vec(g, g->i16, lanes_of(x)),
                          "");
}

LLVMValueRef gen_widen(Gen *g, LLVMValueRef upper) {
    LLVMValueRef bits = LLVMBuildZExt(g->b, upper, gen_vec(g, g->i32, lanes_of(upper)), "");
    bits = LLVMBuildShl(g->b, bits, sixteen(g, upper), "");
    return LLVMBuildBitCast(g->b, bits, gen_vec(g, g->f32, lanes_of(upper)), "");
}

LLVMValueRef gen_round_bf16(Gen *g, LLVMValueRef x) {
    LLVMValueRef bits = LLVMBuildShl(g->b, round_bits(g, x), sixteen(g, x), "");
    return LLVMBuildBitCast(g->b, bits, LLVMTypeOf(x), "");
}

LLVMValueRef bf16_pairs(Gen *g, LLVMValueRef low, LLVMValueRef high) {
    LLVMValueRef upper =
        LLVMBuildShl(g->b, round_bits(g, high), gen_splat(g, gen_i32(g, 16), lanes_of(low)), "");
    return LLVMBuildOr(g->b, round_bits(g, low), upper, "");
}

LLVMValueRef bf16_join(Gen *g, LLVMValueRef low, LLVMValueRef high) {
    LLVMTypeRef words = gen_vec(g, g->i32, lanes_of(low));
    LLVMValueRef lower = LLVMBuildLShr(g->b, LLVMBuildBitCast(g->b, low, words, ""), sixteen(g, low), "");
    return LLVMBuildOr(g->b, lower, LLVMBuildBitCast(g->b, high, words, ""), "");
}

PanelType panels_in_bf16(const Target *t) {
    return t->bf16 ? PANELS_BF16 : PANELS_ROUNDED;
}

LLVMValueRef pairs_add(Gen *g, PanelType type, LLVMValueRef sum, LLVMValueRef a, LLVMValueRef b) {
    bool wide = lanes_of(sum) == 16;
    if (type == PANELS_I16 && g->target->vnni) {
        LLVMValueRef args[] = {sum, a, b};
        return gen_intrinsic(g, wide ? "llvm.x86.avx512.vpdpwssd.512" : "llvm.x86.avx512.vpdpwssd.256", NULL,
                             args, 3);
    }
    if (type == PANELS_I16) return LLVMBuildAdd(g->b, sum, i16_multiply_pairs(g, a, b), "");
    if (!panels_of_pairs(type)) return gen_fma(g, a, b, sum);
    LLVMTypeRef pairs = gen_vec(g, LLVMBFloatTypeInContext(g->ctx), 2 * lanes_of(sum));
    LLVMValueRef args[] = {sum, LLVMBuildBitCast(g->b, a, pairs, ""), LLVMBuildBitCast(g->b, b, pairs, "")};
    return gen_intrinsic(g, wide ? "llvm.x86.avx512bf16.dpbf16ps.512" : "llvm.x86.avx512bf16.dpbf16ps.256",
                         NULL, args, 3);
}
