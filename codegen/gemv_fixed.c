/* Products of one row x[k] with a ternary matrix w[n,k] whose groups are whole multiples of 128, as in
 * decoding, by byte products: three times the weights an instruction that f32 gives.
 *
 * A block of 128 activations becomes fixed point, its largest magnitude 2^22, in three signed digits of 8
 * bits:
 *
 *     x = step * (d0 + 2^8 d1 + 2^16 d2),   an error of at most 2^-23 of the block's largest |x|
 *
 * which is what f32 loses in summing up. 128 codes are 32 bytes; shifted by 0, 2, 4 and 6 bits and masked,
 * they are four vectors of code + 1, which `vpmaddubsw` multiplies by the digits of every fourth activation
 * (`vpdpbusd` where the CPU has it). Sums are exact integers up to the end of the block:
 *
 *     y = sum over blocks of s * step * (sum of (code + 1) * q - sum of q)
 *
 * Each tile converts x in scratch; its rows of w then need nothing but codes and scales. */
#include "rows.h"

enum {
    BLOCK = 128,
    BYTES = 32, /* of a vector, and of a block's codes */
    LANES = 8,  /* i32 */
    PARTS = 4,  /* codes of a byte */
    DIGITS = 3,
    SUM = DIGITS * PARTS * BYTES, /* where a block has its sums of q, behind its digits */
    BLOCK_BYTES = SUM + LANES * 4
};
#define LARGEST 0x1p22
#define TINY    0x1p-100 /* taken for the largest of a block of zeros */

bool gemv_fits_fixed(const GemvDesc *d) {
    return d->m == 1 && d->group && d->k % BLOCK == 0 && (d->group % BLOCK == 0 || d->group >= d->k);
}

uint64_t gemv_fixed_scratch(const GemvDesc *d) {
    return (uint64_t)(d->k / BLOCK) * (BLOCK_BYTES + sizeof(float));
}

/* ---- activations */

/* Digit by digit: the low byte of q, as a signed number, and what is left of q above it. */
static LLVMValueRef take_digit(Gen *g, LLVMValueRef *q) {
    LLVMValueRef digit = LLVMBuildTrunc(g->b, *q, gen_vec(g, g->i8, BLOCK), "");
    LLVMValueRef low = LLVMBuildSExt(g->b, digit, gen_vec(g, g->i32, BLOCK), "");
    LLVMValueRef eight = gen_splat(g, gen_i32(g, 8), BLOCK);
    *q = LLVMBuildAShr(g->b, LLVMBuildSub(g->b, *q, low, ""), eight, "");
    return digit;
}

/* Every stride-th element from `first` on. */
static LLVMValueRef every(Gen *g, LLVMValueRef v, int first, int stride) {
    LLVMValueRef index[BLOCK];
    int n = (int)LLVMGetVectorSize(LLVMTypeOf(v)) / stride;
    for (int i = 0; i < n; i++) index[i] = gen_i32(g, first + i * stride);
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(index, (unsigned)n),
                                  "");
}

/* max(|x|, TINY) over the block. As bits, magnitudes are in order and NaN is above all. */
static LLVMValueRef largest(Gen *g, LLVMValueRef x) {
    LLVMTypeRef bits = gen_vec(g, g->i32, BLOCK);
    LLVMValueRef magnitude = LLVMBuildAnd(g->b, LLVMBuildBitCast(g->b, x, bits, ""),
                                          gen_splat(g, gen_i32(g, 0x7fffffff), BLOCK), "");
    LLVMValueRef tiny = LLVMBuildBitCast(g->b, gen_splat(g, gen_f32(g, TINY), BLOCK), bits, "");
    LLVMValueRef all = gen_intrinsic(g, "llvm.umax", bits, (LLVMValueRef[]){magnitude, tiny}, 2);
    return LLVMBuildBitCast(g->b, gen_intrinsic(g, "llvm.vector.reduce.umax", bits, &all, 1), g->f32, "");
}

/* One block of x as digits and sums at `to`; returns its step, which is NaN or infinite if anything in it is.
 */
static LLVMValueRef convert_block(Gen *g, LLVMValueRef from, LLVMValueRef to) {
    LLVMValueRef x = gen_load(g, gen_vec(g, g->f32, BLOCK), from), max = largest(g, x);
    LLVMValueRef inverse = LLVMBuildFDiv(g->b, gen_f32(g, LARGEST), max, "");
    /* At 1.5 * 2^23 the last place of an f32 is 1: the sum rounds to an integer. */
    LLVMValueRef one_and_a_half = gen_splat(g, gen_f32(g, 0x1.8p23), BLOCK);
    LLVMValueRef q = gen_fma(g, x, gen_splat(g, inverse, BLOCK), one_and_a_half);
    LLVMTypeRef ints = gen_vec(g, g->i32, BLOCK);
    q = LLVMBuildSub(g->b, LLVMBuildBitCast(g->b, q, ints, ""),
                     LLVMBuildBitCast(g->b, one_and_a_half, ints, ""), "");
    LLVMValueRef sum = q;
    for (int n = BLOCK; n > LANES; n /= 2)
        sum = LLVMBuildAdd(g->b, every(g, sum, 0, 2), every(g, sum, 1, 2), "");
    gen_store(g, sum, gen_at(g, g->i8, to, gen_i64(g, SUM)));
    for (int d = 0; d < DIGITS; d++) {
        LLVMValueRef digit = take_digit(g, &q);
        for (int p = 0; p < PARTS; p++)
            gen_store(g, every(g, digit, p, PARTS),
                      gen_at(g, g->i8, to, gen_i64(g, (d * PARTS + p) * BYTES)));
    }
    return LLVMBuildFDiv(g->b, max, gen_f32(g, LARGEST), "");
}

static void convert(Gen *g, const GemvDesc *d, LLVMValueRef x, LLVMValueRef blocks, LLVMValueRef steps) {
    Loop b = gen_loop(g, gen_i64(g, 0), gen_i64(g, d->k / BLOCK), 1, "convert");
    LLVMValueRef from = gen_at(g, g->f32, x, gen_mul(g, b.i, BLOCK));
    LLVMValueRef step = convert_block(g, from, gen_at(g, g->i8, blocks, gen_mul(g, b.i, BLOCK_BYTES)));
    gen_store(g, step, gen_at(g, g->f32, steps, b.i));
    gen_loop_end(g, &b);
}

/* ---- products */

/* code + 1 of every fourth weight of the block, from `part` on. */
static LLVMValueRef part_of(Gen *g, LLVMValueRef codes, int part) {
    LLVMTypeRef shorts = gen_vec(g, g->i16, BYTES / 2);
    LLVMValueRef shift = gen_splat(g, LLVMConstInt(g->i16, (unsigned)(2 * part), false), BYTES / 2);
    LLVMValueRef low = LLVMBuildLShr(g->b, LLVMBuildBitCast(g->b, codes, shorts, ""), shift, "");
    LLVMValueRef mask = gen_splat(g, LLVMConstInt(g->i8, 3, false), BYTES);
    return LLVMBuildAnd(g->b, LLVMBuildBitCast(g->b, low, LLVMTypeOf(mask), ""), mask, "");
}

/* The sums, in i32 lanes, of a digit's products with all parts: at most 16 * 2 * 128. */
static LLVMValueRef multiply(Gen *g, LLVMValueRef *parts, LLVMValueRef digits) {
    LLVMTypeRef ints = gen_vec(g, g->i32, LANES), shorts = gen_vec(g, g->i16, BYTES / 2);
    LLVMValueRef sum = LLVMConstNull(g->target->vnni ? ints : shorts);
    for (int p = 0; p < PARTS; p++) {
        LLVMValueRef x =
            gen_load(g, gen_vec(g, g->i8, BYTES), gen_at(g, g->i8, digits, gen_i64(g, p * BYTES)));
        if (g->target->vnni) {
            LLVMValueRef args[] = {sum, LLVMBuildBitCast(g->b, parts[p], ints, ""),
                                   LLVMBuildBitCast(g->b, x, ints, "")};
            sum = gen_intrinsic(g, "llvm.x86.avx512.vpdpbusd.256", NULL, args, 3);
        } else {
            LLVMValueRef products =
                gen_intrinsic(g, "llvm.x86.avx2.pmadd.ub.sw", NULL, (LLVMValueRef[]){parts[p], x}, 2);
            sum = LLVMBuildAdd(g->b, sum, products, "");
        }
    }
    if (g->target->vnni) return sum;
    LLVMValueRef ones = gen_splat(g, LLVMConstInt(g->i16, 1, false), BYTES / 2);
    return gen_intrinsic(g, "llvm.x86.avx2.pmadd.wd", NULL, (LLVMValueRef[]){sum, ones}, 2);
}

/* The block's products with 128 weights, in f32 lanes, in units of its step. */
static LLVMValueRef block_product(Gen *g, LLVMValueRef codes, LLVMValueRef block) {
    LLVMValueRef parts[PARTS], sum = NULL;
    for (int p = 0; p < PARTS; p++) parts[p] = part_of(g, codes, p);
    for (int d = DIGITS - 1; d >= 0; d--) {
        LLVMValueRef products = multiply(g, parts, gen_at(g, g->i8, block, gen_i64(g, d * PARTS * BYTES)));
        LLVMValueRef eight = gen_splat(g, gen_i32(g, 8), LANES);
        sum = sum ? LLVMBuildAdd(g->b, LLVMBuildShl(g->b, sum, eight, ""), products, "") : products;
    }
    LLVMValueRef ones = gen_load(g, LLVMTypeOf(sum), gen_at(g, g->i8, block, gen_i64(g, SUM)));
    return LLVMBuildSIToFP(g->b, LLVMBuildSub(g->b, sum, ones, ""), gen_vec(g, g->f32, LANES), "");
}

/* The product of x with a row of w, given by its codes and scales. */
static LLVMValueRef row_product(Gen *g, const GemvDesc *d, LLVMValueRef codes, LLVMValueRef scales,
                                LLVMValueRef blocks, LLVMValueRef steps) {
    LLVMTypeRef floats = gen_vec(g, g->f32, LANES);
    LLVMValueRef total = gen_alloca(g, floats, "total");
    gen_store(g, LLVMConstNull(floats), total);
    int64_t group = (d->group < d->k ? d->group : d->k) / BLOCK;
    Loop b = gen_loop(g, gen_i64(g, 0), gen_i64(g, d->k / BLOCK), 1, "block");
    LLVMValueRef block = gen_at(g, g->i8, blocks, gen_mul(g, b.i, BLOCK_BYTES));
    LLVMValueRef bits =
        gen_load(g, gen_vec(g, g->i8, BYTES), gen_at(g, g->i8, codes, gen_mul(g, b.i, BYTES)));
    LLVMValueRef scale = ternary_load_scale(g, scales, gen_div(g, b.i, group));
    LLVMValueRef step = gen_load(g, g->f32, gen_at(g, g->f32, steps, b.i));
    scale = gen_splat(g, LLVMBuildFMul(g->b, scale, step, ""), LANES);
    gen_store(g, gen_fma(g, scale, block_product(g, bits, block), gen_load(g, floats, total)), total);
    gen_loop_end(g, &b);
    return gen_reduce_add(g, gen_load(g, floats, total));
}

void gemv_fixed(Gen *g, const GemvDesc *d, const Tiling *tiling) {
    TernaryLayout layout = ternary_layout(d->n, d->k, d->group);
    LLVMValueRef x = gen_buffer(g, 0), w = gen_buffer(g, 1), y = gen_buffer(g, 2), blocks = g->scratch;
    LLVMValueRef steps = gen_at(g, g->i8, blocks, gen_i64(g, d->k / BLOCK * BLOCK_BYTES)), lo, n;
    convert(g, d, x, blocks, steps);
    gen_piece(g, tiling, &lo, &n);
    Loop row = gen_loop(g, lo, gen_add(g, lo, n), 1, "row");
    LLVMValueRef codes = ternary_codes(g, w, row.i, &layout), scales = ternary_scales(g, w, row.i, &layout);
    gen_store(g, row_product(g, d, codes, scales, blocks, steps), gen_at(g, g->f32, y, row.i));
    gen_loop_end(g, &row);
}
