/* Fragments, their products, and packed codes as bf16 (mma.h). */
#include "mma.h"

LLVMValueRef mma_pair(Gen *g, LLVMValueRef low, LLVMValueRef high) {
    LLVMValueRef args[] = {high, low};
    return LLVMBuildBitCast(g->b, gen_intrinsic(g, "llvm.nvvm.ff2bf16x2.rn", NULL, args, 2), g->i32, "");
}

LLVMValueRef mma_round(Gen *g, LLVMValueRef x) {
    return LLVMBuildTrunc(g->b, mma_pair(g, x, gen_f32(g, 0)), g->i16, "");
}

/* A code is u = 0, 1 or 2 for -1, 0, 1: it is not 0 where the low bit is 0, and not negative where the high
 * bit is 1. */
static LLVMValueRef nonzero(Gen *g, LLVMValueRef codes) { /* 0 or 1 in each half */
    return LLVMBuildAnd(g->b, LLVMBuildNot(g->b, codes, ""), gen_i32(g, 0x00010001), "");
}
static LLVMValueRef turn_signs(Gen *g, LLVMValueRef codes, LLVMValueRef numbers) {
    LLVMValueRef sign = LLVMBuildShl(g->b, codes, gen_i32(g, 14), "");
    return LLVMBuildXor(g->b, numbers, LLVMBuildAnd(g->b, sign, gen_i32(g, 0x80008000), ""), "");
}

LLVMValueRef mma_codes(Gen *g, LLVMValueRef codes) {
    const int minus_one = 0xbf80; /* times 1 or 0: halves do not carry */
    return turn_signs(g, codes, LLVMBuildMul(g->b, nonzero(g, codes), gen_i32(g, minus_one), ""));
}

LLVMValueRef mma_scaled_codes(Gen *g, LLVMValueRef codes, LLVMValueRef factors) {
    LLVMValueRef ones = LLVMBuildMul(g->b, nonzero(g, codes), gen_i32(g, 0xffff), "");
    return turn_signs(g, codes, LLVMBuildAnd(g->b, ones, factors, ""));
}

/* Lanes 8i .. 8i+7 give the lines of matrix i, which are in A (rows 0, steps 0), (8, 0), (0, 8), (8, 8) and
 * in B (0, 0), (0, 8), (8, 0), (8, 8). */
LLVMValueRef mma_lane_offset(Gen *g, const Source *s, bool is_a) {
    LLVMValueRef lane = nv_lane(g), j = gen_mod(g, lane, 8), i = gen_div(g, lane, 8);
    LLVMValueRef odd = gen_mod(g, i, 2), half = gen_div(g, i, 2);
    LLVMValueRef row = is_a ? odd : half, step = is_a ? half : odd;
    if (s->steps)
        return gen_add(g, gen_mul(g, gen_add(g, gen_mul(g, step, 8), j), s->ld), gen_mul(g, row, 8));
    return gen_add(g, gen_mul(g, gen_add(g, gen_mul(g, row, 8), j), s->ld), gen_mul(g, step, 8));
}

void mma_load(Gen *g, const Source *s, int row, int step, LLVMValueRef out[4]) {
    int64_t offset = s->steps ? (int64_t)step * s->ld + row : (int64_t)row * s->ld + step;
    LLVMValueRef at = gen_at(g, g->i16, s->at, gen_i64(g, offset));
    const char *name = s->steps ? "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.trans.b16"
                                : "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16";
    LLVMValueRef four = gen_intrinsic(g, name, LLVMTypeOf(at), &at, 1);
    for (unsigned i = 0; i < 4; i++) out[i] = LLVMBuildExtractValue(g->b, four, i, "");
}

void mma_add(Gen *g, LLVMValueRef sum[4], LLVMValueRef a[4], LLVMValueRef b[2]) {
    LLVMValueRef args[] = {a[0], a[1], a[2], a[3], b[0], b[1], sum[0], sum[1], sum[2], sum[3]};
    LLVMValueRef four = gen_intrinsic(g, "llvm.nvvm.mma.m16n8k16.row.col.bf16", NULL, args, 10);
    for (unsigned i = 0; i < 4; i++) sum[i] = LLVMBuildExtractValue(g->b, four, i, "");
}
