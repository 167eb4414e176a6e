/* What the matrix products of both precisions share: how C is cut into tiles (gemm.c), and the packed
 * operands of block-scaled int16 products (pack_i16.c, microkernel_i16.c, gemm_i16.c). */
#ifndef TBC_GEMM_H
#define TBC_GEMM_H

#include "gen.h"

/* How a product is cut up: steps of k and rows of A that are packed at a time, and C into tiles. */
typedef struct Blocking {
    int64_t kc, mc;
    int64_t rows, cols; /* block of C of one tile */
    int64_t row_tiles, col_tiles;
} Blocking;

int64_t gemm_ceil_div(int64_t a, int64_t b);
/* n cut into `parts` equal parts, rounded up to a multiple of unit. */
int64_t gemm_part(int64_t n, int64_t parts, int64_t unit);
/* Tiles of a product: rows in multiples of mr, columns of `unit`; kc and mc are left 0. */
Blocking gemm_cut(const GemmDesc *, const Target *, int64_t unit);

/* Element (row, col) of an f32 matrix with `ld` columns. */
LLVMValueRef gemm_element(Gen *, LLVMValueRef base, LLVMValueRef row, LLVMValueRef col, int64_t ld);

/* ---- int16
 *
 * k is cut into blocks of `steps`; each has one scale per row of A and per column of B. Steps l and l+8 of
 * every 16 are a pair, two int16 in one word of 32 bits: so pairs come out of 16 codes of 2 bits, and out
 * of two vectors of f32, by shifts and masks alone. A block is packed as
 *
 *     A  mr x pairs words, row by row, then mr scales (f32)
 *     B  pairs x nr words, pair by pair, then nr scales
 *
 * and a panel as its blocks one after the other; it has room for `blocks` of them. Words of steps past the
 * end of k are 0 in A and anything in B. */
typedef struct I16Block {
    int steps, pairs; /* pairs: a multiple of 8 */
} I16Block;

/* Words of a packed block of an operand whose panels are `width` wide. */
int64_t i16_block_words(I16Block, int64_t width);

/* void f(i64 n, i64 k, ptr src, i64 ld, ptr fold, ptr dst, i64 blocks): quantises and packs n rows of
 * src[n,k]. With `folded`, step kk is multiplied by fold[kk] first; fold must reach to the end of the last
 * block. */
LLVMValueRef gen_pack_i16(Gen *, I16Block, bool folded);
/* void f(i64 j0, i64 n, i64 k0, i64 k, ptr t2, ptr dst, i64 blocks): decodes and packs n columns from j0 on
 * of B[k,n], steps k0 .. k0+k-1, as gen_pack_ternary does. The scales are the weights' (nk) or 1. */
LLVMValueRef gen_pack_ternary_i16(Gen *, I16Block, int64_t rows, int64_t cols, int64_t group, bool nk);
/* void f(i64 m, i64 n, i64 k, ptr a, ptr b, i64 blocks, ptr c, i64 ldc, i1 add): c[m,n] = A B or c += A B. */
LLVMValueRef gen_product_i16(Gen *, I16Block);
/* a[2i]*b[2i] + a[2i+1]*b[2i+1], for each pair of int16 in the words of two vectors of i32. */
LLVMValueRef i16_multiply_pairs(Gen *, LLVMValueRef a, LLVMValueRef b);

#endif
