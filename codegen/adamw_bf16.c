/* Stochastic rounding of AdamW's moments to bf16: the random bits are a hash of the key of the step and of
 * the number of the weight (ir/eval_bf16.c), so that they are the same whoever updates it. */
#include "rows.h"

static LLVMValueRef const_like(Gen *g, LLVMValueRef x, uint32_t c) {
    return gen_splat(g, gen_i32(g, (int32_t)c), gen_width(x));
}

/* x ^ x >> shift. */
static LLVMValueRef fold(Gen *g, LLVMValueRef x, uint32_t shift) {
    return LLVMBuildXor(g->b, x, LLVMBuildLShr(g->b, x, const_like(g, x, shift), ""), "");
}

/* ir/eval_bf16.c's function of that name, of an i32 or a vector of them. */
static LLVMValueRef lowbias32(Gen *g, LLVMValueRef x) {
    x = LLVMBuildMul(g->b, fold(g, x, 16), const_like(g, x, 0x7feb352du), "");
    x = LLVMBuildMul(g->b, fold(g, x, 15), const_like(g, x, 0x846ca68bu), "");
    return fold(g, x, 16);
}

LLVMValueRef adamw_key(Gen *g, LLVMValueRef at) {
    LLVMValueRef seed = gen_load(g, g->i32, at),
                 step = gen_load(g, g->i32, gen_at(g, g->i32, at, gen_i64(g, 1)));
    return lowbias32(g, LLVMBuildAdd(g->b, lowbias32(g, seed), step, ""));
}

AdamwRandom adamw_random(Gen *g, LLVMValueRef key, LLVMValueRef i, int lanes) {
    LLVMValueRef first = gen_splat(g, LLVMBuildTrunc(g->b, i, g->i32, ""), lanes);
    LLVMValueRef bits = lanes == 1 ? first : LLVMBuildAdd(g->b, first, gen_iota(g, g->i32, lanes), "");
    bits = lowbias32(g, LLVMBuildXor(g->b, lowbias32(g, bits), gen_splat(g, key, lanes), ""));
    return (AdamwRandom){.m = LLVMBuildAnd(g->b, bits, const_like(g, bits, 0xffff), ""),
                         .v = LLVMBuildLShr(g->b, bits, const_like(g, bits, 16), "")};
}

/* 16 random bits are added behind the last bit that is kept. */
LLVMValueRef adamw_round(Gen *g, LLVMValueRef value, LLVMValueRef random) {
    LLVMValueRef x = LLVMBuildBitCast(g->b, value, LLVMTypeOf(random), "");
    return gen_upper(g, LLVMBuildBitCast(g->b, LLVMBuildAdd(g->b, x, random, ""), LLVMTypeOf(value), ""));
}
