/* Packing for int16 products (see gemm.h): activations are quantised to int16 by blocks of k.
 *
 * A block of a row is scaled so that its largest element becomes 32767 (tmatmul with precision "i16", see
 * ir/eval_i16.c, says it exactly). What was NaN or infinite in it makes the scale so, and with it the
 * results. All of this works on vectors of 8 lanes, on every CPU. */
#include "gemm.h"
#include <stdio.h>

enum { LANES = 8, MAX_VECTORS = I16_BLOCK / LANES };

static LLVMTypeRef vector(Gen *g, LLVMTypeRef elem) {
    return gen_vec(g, elem, LANES);
}

static LLVMValueRef splat_bits(Gen *g, uint32_t bits) {
    return gen_splat(g, LLVMConstInt(g->i32, bits, false), LANES);
}

/* The largest of n > 0 vectors, lane by lane, as unsigned numbers. */
static LLVMValueRef largest(Gen *g, LLVMValueRef *v, int n) {
    if (n == 1) return v[0];
    LLVMValueRef half[] = {largest(g, v, n / 2), largest(g, v + n / 2, n - n / 2)};
    return gen_intrinsic(g, "llvm.umax", vector(g, g->i32), half, 2);
}

/* max(|v|, I16_TINY) over all elements. As bits, magnitudes are in order, and NaN is above infinity. */
static LLVMValueRef magnitude(Gen *g, LLVMValueRef *v, int n) {
    LLVMValueRef bits[MAX_VECTORS + 1];
    for (int i = 0; i < n; i++) {
        LLVMValueRef x = LLVMBuildBitCast(g->b, v[i], vector(g, g->i32), "");
        bits[i] = LLVMBuildAnd(g->b, x, splat_bits(g, 0x7fffffff), "");
    }
    bits[n] = LLVMBuildBitCast(g->b, gen_splat(g, gen_f32(g, I16_TINY), LANES), vector(g, g->i32), "");
    LLVMValueRef all = largest(g, bits, n + 1);
    LLVMValueRef max = gen_intrinsic(g, "llvm.vector.reduce.umax", vector(g, g->i32), &all, 1);
    return LLVMBuildBitCast(g->b, max, g->f32, "");
}

/* v * inverse, rounded to an integer, in the low 16 bits of each lane: at 1.5 * 2^23 the last place of an
 * f32 is 1. */
static LLVMValueRef quantized(Gen *g, LLVMValueRef v, LLVMValueRef inverse) {
    LLVMValueRef q = gen_fma(g, v, inverse, gen_splat(g, gen_f32(g, 0x1.8p23), LANES));
    return LLVMBuildBitCast(g->b, q, vector(g, g->i32), "");
}

/* void f(ptr src, ptr fold, ptr words, ptr scale): one block of one row, all of whose steps can be read. */
static LLVMValueRef gen_quantize(Gen *g, PairBlock block, bool folded) {
    char name[48];
    snprintf(name, sizeof name, "quantize_i16_%d%s", block.pairs, folded ? "_folded" : "");
    LLVMTypeRef params[] = {g->ptr, g->ptr, g->ptr, g->ptr};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 4, false), &exists, &saved);
    if (exists) return fn;
    LLVMValueRef src = LLVMGetParam(fn, 0), fold = LLVMGetParam(fn, 1), words = LLVMGetParam(fn, 2);
    LLVMValueRef v[MAX_VECTORS];
    int n = 2 * block.pairs / LANES;
    for (int i = 0; i < n; i++) {
        LLVMValueRef at = gen_i64(g, i * LANES);
        v[i] = gen_load(g, vector(g, g->f32), gen_at(g, g->f32, src, at));
        if (!folded) continue;
        LLVMValueRef factor = gen_load(g, vector(g, g->f32), gen_at(g, g->f32, fold, at));
        v[i] = LLVMBuildFMul(g->b, v[i], factor, "");
    }
    LLVMValueRef max = magnitude(g, v, n), most = gen_f32(g, I16_MAX);
    gen_store(g, LLVMBuildFDiv(g->b, max, most, ""), LLVMGetParam(fn, 3));
    LLVMValueRef inverse = gen_splat(g, LLVMBuildFDiv(g->b, most, max, ""), LANES);
    for (int i = 0; i < n; i += 2) {
        LLVMValueRef low = LLVMBuildAnd(g->b, quantized(g, v[i], inverse), splat_bits(g, 0xffff), "");
        LLVMValueRef high = LLVMBuildShl(g->b, quantized(g, v[i + 1], inverse), splat_bits(g, 16), "");
        gen_store(g, LLVMBuildOr(g->b, low, high, ""), gen_at(g, g->i32, words, gen_i64(g, i / 2 * LANES)));
    }
    gen_function_end(g, &saved);
    return fn;
}

/* Copies n elements to `to` and fills up with zeros to `room`. */
static void copy_padded(Gen *g, LLVMValueRef from, LLVMValueRef n, LLVMValueRef to, int64_t room) {
    gen_zero(g, to, gen_i64(g, 4 * room));
    Loop i = gen_loop(g, gen_i64(g, 0), n, 1, "copy");
    gen_store(g, gen_load(g, g->f32, gen_at(g, g->f32, from, i.i)), gen_at(g, g->f32, to, i.i));
    gen_loop_end(g, &i);
}

LLVMValueRef gen_pack_i16(Gen *g, PairBlock block, bool folded) {
    char name[64];
    snprintf(name, sizeof name, "pack_i16_%d%s", block.steps, folded ? "_folded" : "");
    LLVMTypeRef params[] = {g->i64, g->i64, g->ptr, g->i64, g->ptr, g->ptr, g->i64};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 7, false), &exists, &saved);
    if (exists) return fn;
    LLVMValueRef p[7];
    LLVMGetParams(fn, p);
    LLVMValueRef n = p[0], k = p[1], src = p[2], ld = p[3], fold = p[4], dst = p[5], blocks = p[6];
    LLVMValueRef quantize = gen_quantize(g, block, folded);
    int mr = g->target->mr, room = 2 * block.pairs;
    int64_t words = (block.pairs + 1) * mr; /* of a block, scales and all */
    LLVMValueRef padded = gen_alloca(g, LLVMArrayType2(g->f32, (uint64_t)room), "padded");

    Loop row = gen_loop(g, gen_i64(g, 0), n, 1, "row");
    LLVMValueRef from = gen_at(g, g->f32, src, LLVMBuildMul(g->b, row.i, ld, ""));
    LLVMValueRef in_panel = gen_mod(g, row.i, mr), panel = gen_div(g, row.i, mr);
    LLVMValueRef to = gen_at(g, g->i32, dst, gen_mul(g, LLVMBuildMul(g->b, panel, blocks, ""), words));
    Loop b = gen_loop(g, gen_i64(g, 0), k, block.steps, "block");
    LLVMValueRef at = gen_at(g, g->i32, to, gen_mul(g, gen_div(g, b.i, block.steps), words));
    LLVMValueRef q = gen_at(g, g->i32, at, gen_mul(g, in_panel, block.pairs));
    LLVMValueRef scale = gen_at(g, g->i32, at, gen_add(g, in_panel, gen_i64(g, block.pairs * mr)));
    LLVMValueRef x = gen_at(g, g->f32, from, b.i), left = gen_sub(g, k, b.i);
    LLVMValueRef factors = folded ? gen_at(g, g->f32, fold, b.i) : fold;
    LLVMValueRef steps = gen_min(g, left, gen_i64(g, block.steps));
    LLVMValueRef next = LLVMBuildGEP2(g->b, g->f32, x, &ld, 1, ""); /* row; it may lie past the end */
    for (int line = 0; line < room; line += 16)
        gen_prefetch(g, gen_at(g, g->f32, next, gen_i64(g, line)), false);
    If whole = gen_if(g, LLVMBuildICmp(g->b, LLVMIntEQ, steps, gen_i64(g, room), ""));
    gen_call(g, quantize, (LLVMValueRef[]){x, factors, q, scale}, 4);
    gen_else(g, &whole);
    copy_padded(g, x, steps, padded, room);
    gen_call(g, quantize, (LLVMValueRef[]){padded, factors, q, scale}, 4);
    gen_if_end(g, &whole);
    gen_loop_end(g, &b);
    gen_loop_end(g, &row);
    gen_function_end(g, &saved);
    return fn;
}
