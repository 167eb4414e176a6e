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

/* As bits, magnitudes are in order, and NaN is above infinity. */
LLVMValueRef i16_magnitude(Gen *g, LLVMValueRef *v, int n) {
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

/* One block of a row; all of its steps can be read. */
typedef struct Block {
    int vectors;
    LLVMValueRef x, fold;      /* the numbers; what they are multiplied by first, or NULL */
    LLVMValueRef words, scale; /* where it goes */
} Block;

static LLVMValueRef load(Gen *g, const Block *b, int i) {
    LLVMValueRef at = gen_i64(g, (int64_t)i * LANES);
    LLVMValueRef v = gen_load(g, vector(g, g->f32), gen_at(g, g->f32, b->x, at));
    if (!b->fold) return v;
    return LLVMBuildFMul(g->b, v, gen_load(g, vector(g, g->f32), gen_at(g, g->f32, b->fold, at)), "");
}

/* Its scale; the factor for quantize waits where the first word will be. */
static void find_scale(Gen *g, const Block *b) {
    LLVMValueRef v[MAX_VECTORS], most = gen_f32(g, I16_MAX);
    for (int i = 0; i < b->vectors; i++) v[i] = load(g, b, i);
    LLVMValueRef max = i16_magnitude(g, v, b->vectors);
    gen_store(g, LLVMBuildFDiv(g->b, max, most, ""), b->scale);
    gen_store(g, LLVMBuildFDiv(g->b, most, max, ""), b->words);
}

static void quantize(Gen *g, const Block *b) {
    LLVMValueRef factor = gen_splat(g, gen_load(g, g->f32, b->words), LANES);
    for (int i = 0; i < b->vectors; i += 2) {
        LLVMValueRef low = quantized(g, load(g, b, i), factor),
                     high = quantized(g, load(g, b, i + 1), factor);
        low = LLVMBuildAnd(g->b, low, splat_bits(g, 0xffff), "");
        high = LLVMBuildShl(g->b, high, splat_bits(g, 16), "");
        LLVMValueRef to = gen_at(g, g->i32, b->words, gen_i64(g, (int64_t)i / 2 * LANES));
        gen_store(g, LLVMBuildOr(g->b, low, high, ""), to);
    }
}

/* Copies n elements to `to` and fills up with zeros to `room`. */
static void copy_padded(Gen *g, LLVMValueRef from, LLVMValueRef n, LLVMValueRef to, int64_t room) {
    gen_zero(g, to, gen_i64(g, 4 * room));
    Loop i = gen_loop(g, gen_i64(g, 0), n, 1, "copy");
    gen_store(g, gen_load(g, g->f32, gen_at(g, g->f32, from, i.i)), gen_at(g, g->f32, to, i.i));
    gen_loop_end(g, &i);
}

/* The row at work. */
typedef struct Row {
    PairBlock block;
    LLVMValueRef src, ld, fold; /* ld: to the next row; fold: or NULL */
    LLVMValueRef words, scales; /* of its first block */
} Row;

/* The block of it that begins with step l. */
static Block block_at(Gen *g, const Row *r, LLVMValueRef l) {
    int mr = g->target->mr;
    LLVMValueRef at = gen_mul(g, gen_div(g, l, r->block.steps), (int64_t)(r->block.pairs + 1) * mr);
    return (Block){.vectors = 2 * r->block.pairs / LANES,
                   .x = gen_at(g, g->f32, r->src, l),
                   .fold = r->fold ? gen_at(g, g->f32, r->fold, l) : NULL,
                   .words = gen_at(g, g->i32, r->words, at),
                   .scale = gen_at(g, g->i32, r->scales, at)};
}

/* Asks for the same block of the next row, which may lie past the end. */
static void prefetch_next(Gen *g, const Row *r, const Block *b) {
    LLVMValueRef next = LLVMBuildGEP2(g->b, g->f32, b->x, (LLVMValueRef[]){r->ld}, 1, "");
    for (int line = 0; line < b->vectors * LANES; line += 16)
        gen_prefetch(g, gen_at(g, g->f32, next, gen_i64(g, line)), false);
}

/* Blocks that are whole words, from memory; first all scales, so that none waits for another's divisions. */
static void pack_whole(Gen *g, const Row *r, LLVMValueRef end) {
    Loop scales = gen_loop(g, gen_i64(g, 0), end, r->block.steps, "scales");
    Block b = block_at(g, r, scales.i);
    prefetch_next(g, r, &b);
    find_scale(g, &b);
    gen_loop_end(g, &scales);
    Loop words = gen_loop(g, gen_i64(g, 0), end, r->block.steps, "words");
    b = block_at(g, r, words.i);
    quantize(g, &b);
    gen_loop_end(g, &words);
}

/* Other blocks, from a copy that is filled up with zeros. */
static void pack_padded(Gen *g, const Row *r, LLVMValueRef begin, LLVMValueRef end, LLVMValueRef padded) {
    Loop l = gen_loop(g, begin, end, r->block.steps, "padded");
    Block b = block_at(g, r, l.i);
    LLVMValueRef steps = gen_min(g, gen_sub(g, end, l.i), gen_i64(g, r->block.steps));
    copy_padded(g, b.x, steps, padded, 2 * r->block.pairs);
    b.x = padded;
    find_scale(g, &b);
    quantize(g, &b);
    gen_loop_end(g, &l);
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
    LLVMValueRef i = p[0], k = p[1], dst = p[5], blocks = p[6];
    int mr = g->target->mr, room = 2 * block.pairs;
    LLVMValueRef in_panel = gen_mod(g, i, mr), first = LLVMBuildMul(g->b, gen_div(g, i, mr), blocks, "");
    LLVMValueRef panel = gen_at(g, g->i32, dst, gen_mul(g, first, (int64_t)(block.pairs + 1) * mr));
    Row r = {.block = block, .ld = p[3], .src = p[2], .fold = folded ? p[4] : NULL};
    r.words = gen_at(g, g->i32, panel, gen_mul(g, in_panel, block.pairs));
    r.scales = gen_at(g, g->i32, panel, gen_add(g, in_panel, gen_i64(g, (int64_t)block.pairs * mr)));
    LLVMValueRef whole = room == block.steps ? gen_sub(g, k, gen_mod(g, k, room)) : gen_i64(g, 0);
    pack_whole(g, &r, whole);
    pack_padded(g, &r, whole, k, gen_alloca(g, LLVMArrayType2(g->f32, (uint64_t)room), "padded"));
    gen_function_end(g, &saved);
    return fn;
}
