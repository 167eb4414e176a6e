/* Sliced activations, for products with 2-bit codes in integers that lose no more than f32.
 *
 * In a block of 128, x stands for scale * q with |q| < 2^23 and three signed digits of 8 bits:
 *
 *     q = 65536 h + 256 m + l       h, m, l in -128 .. 127
 *
 * or, in int16, |q| <= I16_MAX and two digits.
 *
 * A byte has the codes u of four neighbours. Shifted and masked, 32 bytes have 32 codes of one of the four
 * places (a phase), and vpmaddubsw multiplies those with a digit of each x that they meet: x is stored in
 * that order, a plane for each phase and digit. Sums of a block fit 16 bits; in 32 bits those of the digits
 * are put together. Codes are 1 larger than what they stand for, so that the sum of q is subtracted in the
 * end. All of it is exact but q itself, which is rounded to the last of 24 bits (int16: of 16) of the largest
 * x in the block. */
#include "slices.h"
#include "gemm.h"

enum { PHASES = 4, MOST = SLICES_F32 };
enum {
    VECTORS = SLICES_BLOCK / SLICES_LANES,
    BYTES = 32 /* of a vector */,
    DIGITS = 4 /* bytes of a word */
};
#define SLICE_MAX 0x7f7f00 /* a little less than the digits can say, 0x7f7f7f: quotients are rounded */

/* Vectors of a block: plane digits * phase + digit, the lowest digit first; then the sum of q of each lane
 * (i32), and the scale in all lanes (f32). */
static int planes(int digits) {
    return PHASES * digits;
}
static int at_scale(int digits) {
    return planes(digits) + 1; /* the sum is at planes(digits) */
}
static int64_t block_bytes(int digits) {
    return (planes(digits) + 2) * BYTES;
}

static LLVMTypeRef words(Gen *g) {
    return gen_vec(g, g->i32, SLICES_LANES);
}

static LLVMTypeRef floats(Gen *g) {
    return gen_vec(g, g->f32, SLICES_LANES);
}

static LLVMValueRef splat_word(Gen *g, int64_t x) {
    return gen_splat(g, gen_i32(g, x), SLICES_LANES);
}

static LLVMValueRef vector_at(Gen *g, LLVMValueRef block, int i) {
    return gen_at(g, words(g), block, gen_i64(g, i));
}

int64_t slices_bytes(int64_t n, int digits) {
    return (n + SLICES_BLOCK - 1) / SLICES_BLOCK * block_bytes(digits);
}

LLVMValueRef slices_block(Gen *g, int digits, LLVMValueRef sliced, LLVMValueRef block) {
    return gen_at(g, g->i8, sliced, gen_mul(g, block, block_bytes(digits)));
}

/* ---- products */

/* The codes of a phase, one in each byte. */
static LLVMValueRef codes_of(Gen *g, LLVMValueRef codes, int phase) {
    codes = LLVMBuildLShr(g->b, codes, splat_word(g, 2 * phase), "");
    return LLVMBuildAnd(g->b, codes, splat_word(g, 0x03030303), "");
}

/* sum + codes * digits: with VNNI sums of four in words, else sums of two in halves of words. */
static LLVMValueRef add_products(Gen *g, LLVMValueRef sum, LLVMValueRef codes, LLVMValueRef digits) {
    if (g->target->vnni) {
        LLVMValueRef args[] = {sum, codes, digits};
        return gen_intrinsic(g, "llvm.x86.avx512.vpdpbusd.256", NULL, args, 3);
    }
    LLVMTypeRef bytes = gen_vec(g, g->i8, BYTES), halves = gen_vec(g, g->i16, 2 * SLICES_LANES);
    LLVMValueRef args[] = {LLVMBuildBitCast(g->b, codes, bytes, ""),
                           LLVMBuildBitCast(g->b, digits, bytes, "")};
    LLVMValueRef two = gen_intrinsic(g, "llvm.x86.avx2.pmadd.ub.sw", NULL, args, 2);
    sum = LLVMBuildAdd(g->b, LLVMBuildBitCast(g->b, sum, halves, ""), two, "");
    return LLVMBuildBitCast(g->b, sum, words(g), "");
}

/* times * the sum of each lane; times: 1 or 256. */
static LLVMValueRef lane_sums(Gen *g, LLVMValueRef sum, int times) {
    if (!g->target->vnni) return i16_multiply_pairs(g, sum, splat_word(g, times << 16 | times));
    return times == 1 ? sum : LLVMBuildShl(g->b, sum, splat_word(g, 8), "");
}

/* The sums of the digits put together. */
static LLVMValueRef join(Gen *g, int digits, LLVMValueRef *sum) {
    LLVMValueRef *top = sum + digits - 2;
    LLVMValueRef high = LLVMBuildAdd(g->b, lane_sums(g, top[1], 256), lane_sums(g, top[0], 1), "");
    if (digits == SLICES_I16) return high;
    return LLVMBuildAdd(g->b, LLVMBuildShl(g->b, high, splat_word(g, 8), ""), lane_sums(g, sum[0], 1), "");
}

/* The sums of u * q of each lane, for m blocks of x. */
static void sum_products(Gen *g, int digits, LLVMValueRef codes, int m, LLVMValueRef *x, LLVMValueRef *out) {
    LLVMValueRef sum[SLICES_MAX_M][MOST];
    for (int i = 0; i < m; i++)
        for (int s = 0; s < digits; s++) sum[i][s] = LLVMConstNull(words(g));
    for (int p = 0; p < PHASES; p++) {
        LLVMValueRef u = codes_of(g, codes, p);
        for (int i = 0; i < m; i++)
            for (int s = 0; s < digits; s++) {
                LLVMValueRef plane = gen_load(g, words(g), vector_at(g, x[i], digits * p + s));
                sum[i][s] = add_products(g, sum[i][s], u, plane);
            }
    }
    for (int i = 0; i < m; i++) out[i] = join(g, digits, sum[i]);
}

void slices_multiply(Gen *g, int digits, LLVMValueRef codes, LLVMValueRef scale, int m, LLVMValueRef *x,
                     LLVMValueRef *total) {
    LLVMValueRef sum[SLICES_MAX_M];
    sum_products(g, digits, codes, m, x, sum);
    for (int i = 0; i < m; i++) {
        LLVMValueRef ones = gen_load(g, words(g), vector_at(g, x[i], planes(digits)));
        LLVMValueRef unit = gen_load(g, floats(g), vector_at(g, x[i], at_scale(digits)));
        LLVMValueRef product = LLVMBuildSIToFP(g->b, LLVMBuildSub(g->b, sum[i], ones, ""), floats(g), "");
        LLVMValueRef so_far = gen_load(g, floats(g), total[i]);
        gen_store(g, gen_fma(g, LLVMBuildFMul(g->b, scale, unit, ""), product, so_far), total[i]);
    }
}

/* ---- slicing */

/* Numbers 4i .. 4i+3 and 64+4i .. 64+4i+3: those of byte i of each half of a vector of codes. */
static LLVMValueRef load_neighbours(Gen *g, LLVMValueRef x, int i) {
    LLVMTypeRef four = gen_vec(g, g->f32, PHASES);
    LLVMValueRef low = gen_load(g, four, gen_at(g, four, x, gen_i64(g, i)));
    LLVMValueRef high = gen_load(g, four, gen_at(g, four, x, gen_i64(g, VECTORS + i)));
    return LLVMBuildShuffleVector(g->b, low, high, gen_iota(g, g->i32, SLICES_LANES), "");
}

/* q = v * inverse, at least its lower 16 bits, which are all of it in int16: at 1.5 * 2^23 the last place of
 * an f32 is 1, and a fused multiply-add rounds once. */
static LLVMValueRef quantized(Gen *g, int digits, LLVMValueRef v, LLVMValueRef inverse) {
    if (digits == SLICES_I16) {
        LLVMValueRef q = gen_fma(g, v, inverse, gen_splat(g, gen_f32(g, 0x1.8p23), SLICES_LANES));
        return LLVMBuildBitCast(g->b, q, words(g), "");
    }
    LLVMValueRef x = LLVMBuildFMul(g->b, v, inverse, "");
    return gen_intrinsic(g, "llvm.x86.avx.cvt.ps2dq.256", NULL, &x, 1);
}

/* The digits of q, those of a number in the bytes of its word from the lowest on. */
static LLVMValueRef digits_of(Gen *g, LLVMValueRef q) {
    LLVMValueRef half =
        splat_word(g, 0x808080); /* of the range of each digit: with it they are not negative */
    q = LLVMBuildXor(g->b, LLVMBuildAdd(g->b, q, half, ""), half, "");
    return LLVMBuildBitCast(g->b, q, gen_vec(g, g->i8, BYTES), "");
}

/* Bytes 0 .. 7 (high: 8 .. 15) of the halves of a and b, in turns. */
static LLVMValueRef interleave(Gen *g, LLVMValueRef a, LLVMValueRef b, bool high) {
    LLVMValueRef from[BYTES];
    for (int i = 0; i < BYTES; i++) from[i] = gen_i32(g, i / 16 * 16 + 8 * high + i % 16 / 2 + i % 2 * BYTES);
    return LLVMBuildShuffleVector(g->b, a, b, LLVMConstVector(from, BYTES), "");
}

/* Byte j of each half of vector i becomes byte i of vector j: a step rotates the bits of (i, j) by one. */
static void transpose(Gen *g, LLVMValueRef *v) {
    for (int step = 0; step < 4; step++) {
        LLVMValueRef from[VECTORS];
        for (int i = 0; i < VECTORS; i++) from[i] = v[i];
        for (int i = 0; i < VECTORS; i++) v[i] = interleave(g, from[i / 2], from[i / 2 + VECTORS / 2], i % 2);
    }
}

/* void f(ptr x, ptr block): slices SLICES_BLOCK numbers. */
static LLVMValueRef gen_slice_block(Gen *g, int digits) {
    bool exists;
    Gen saved;
    LLVMTypeRef type = LLVMFunctionType(g->void_, (LLVMTypeRef[]){g->ptr, g->ptr}, 2, false);
    LLVMValueRef fn =
        gen_function(g, digits == SLICES_I16 ? "slice_block_i16" : "slice_block", type, &exists, &saved);
    if (exists) return fn;
    LLVMValueRef x = LLVMGetParam(fn, 0), block = LLVMGetParam(fn, 1), v[VECTORS], sum;
    for (int i = 0; i < VECTORS; i++) v[i] = load_neighbours(g, x, i);
    LLVMValueRef max = i16_magnitude(g, v, VECTORS),
                 most = gen_f32(g, digits == SLICES_I16 ? I16_MAX : SLICE_MAX);
    LLVMValueRef scale = gen_splat(g, LLVMBuildFDiv(g->b, max, most, ""), SLICES_LANES);
    LLVMValueRef inverse = gen_splat(g, LLVMBuildFDiv(g->b, most, max, ""), SLICES_LANES);
    for (int i = 0; i < VECTORS; i++) v[i] = digits_of(g, quantized(g, digits, v[i], inverse));
    transpose(g, v);
    for (int i = 0; i < planes(digits); i++)
        gen_store(g, v[i / digits * DIGITS + i % digits], vector_at(g, block, i));
    sum_products(g, digits, splat_word(g, 0x55555555), 1, &block, &sum); /* with codes of 1 */
    gen_store(g, sum, vector_at(g, block, planes(digits)));
    gen_store(g, scale, vector_at(g, block, at_scale(digits)));
    gen_function_end(g, &saved);
    return fn;
}

LLVMValueRef gen_slice(Gen *g, int digits) {
    bool exists;
    Gen saved;
    LLVMTypeRef type = LLVMFunctionType(g->void_, (LLVMTypeRef[]){g->ptr, g->i64, g->ptr}, 3, false);
    LLVMValueRef fn = gen_function(g, digits == SLICES_I16 ? "slice_i16" : "slice", type, &exists, &saved);
    if (exists) return fn;
    LLVMValueRef x = LLVMGetParam(fn, 0), n = LLVMGetParam(fn, 1), sliced = LLVMGetParam(fn, 2);
    LLVMValueRef slice_block = gen_slice_block(g, digits);
    LLVMValueRef padded = gen_alloca(g, LLVMArrayType2(g->f32, SLICES_BLOCK), "padded");
    Loop b = gen_loop(g, gen_i64(g, 0), n, SLICES_BLOCK, "block");
    LLVMValueRef from = gen_at(g, g->f32, x, b.i), left = gen_sub(g, n, b.i);
    LLVMValueRef to = slices_block(g, digits, sliced, gen_div(g, b.i, SLICES_BLOCK));
    If whole = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSGE, left, gen_i64(g, SLICES_BLOCK), ""));
    gen_call(g, slice_block, (LLVMValueRef[]){from, to}, 2);
    gen_else(g, &whole);
    gen_zero(g, padded, gen_i64(g, 4 * SLICES_BLOCK));
    Loop i = gen_loop(g, gen_i64(g, 0), left, 1, "copy");
    gen_store(g, gen_load(g, g->f32, gen_at(g, g->f32, from, i.i)), gen_at(g, g->f32, padded, i.i));
    gen_loop_end(g, &i);
    gen_call(g, slice_block, (LLVMValueRef[]){padded, to}, 2);
    gen_if_end(g, &whole);
    gen_loop_end(g, &b);
    gen_function_end(g, &saved);
    return fn;
}
