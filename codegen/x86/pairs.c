/* Words of panels (panels.h), an f32 or a pair of bf16 or int16: making pairs, and multiplying words. */
#include "gemm.h"

LLVMValueRef i16_multiply_pairs(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    int lanes = gen_width(a);
    LLVMTypeRef shorts = gen_vec(g, g->i16, 2 * lanes);
    LLVMValueRef args[] = {LLVMBuildBitCast(g->b, a, shorts, ""), LLVMBuildBitCast(g->b, b, shorts, "")};
    const char *name = lanes == 16 ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd";
    return gen_intrinsic(g, name, NULL, args, 2);
}

LLVMValueRef bf16_pairs(Gen *g, LLVMValueRef low, LLVMValueRef high) {
    LLVMValueRef upper =
        LLVMBuildShl(g->b, gen_bf16_bits(g, high), gen_splat(g, gen_i32(g, 16), gen_width(low)), "");
    return LLVMBuildOr(g->b, gen_bf16_bits(g, low), upper, "");
}

LLVMValueRef bf16_join(Gen *g, LLVMValueRef low, LLVMValueRef high) {
    LLVMTypeRef words = gen_vec(g, g->i32, gen_width(low));
    LLVMValueRef lower = LLVMBuildLShr(g->b, LLVMBuildBitCast(g->b, low, words, ""),
                                       gen_splat(g, gen_i32(g, 16), gen_width(low)), "");
    return LLVMBuildOr(g->b, lower, LLVMBuildBitCast(g->b, high, words, ""), "");
}

PanelType panels_in_bf16(const Target *t) {
    return t->bf16 ? PANELS_BF16 : PANELS_ROUNDED;
}

LLVMValueRef pairs_add(Gen *g, PanelType type, LLVMValueRef sum, LLVMValueRef a, LLVMValueRef b) {
    bool wide = gen_width(sum) == 16;
    if (type == PANELS_I16 && g->target->vnni) {
        LLVMValueRef args[] = {sum, a, b};
        return gen_intrinsic(g, wide ? "llvm.x86.avx512.vpdpwssd.512" : "llvm.x86.avx512.vpdpwssd.256", NULL,
                             args, 3);
    }
    if (type == PANELS_I16) return LLVMBuildAdd(g->b, sum, i16_multiply_pairs(g, a, b), "");
    if (!panels_of_pairs(type)) return gen_fma(g, a, b, sum);
    LLVMTypeRef pairs = gen_vec(g, LLVMBFloatTypeInContext(g->ctx), 2 * gen_width(sum));
    LLVMValueRef args[] = {sum, LLVMBuildBitCast(g->b, a, pairs, ""), LLVMBuildBitCast(g->b, b, pairs, "")};
    return gen_intrinsic(g, wide ? "llvm.x86.avx512bf16.dpbf16ps.512" : "llvm.x86.avx512bf16.dpbf16ps.256",
                         NULL, args, 3);
}
