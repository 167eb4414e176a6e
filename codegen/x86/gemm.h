/* What the matrix products of all precisions share: how C is cut into tiles (gemm.c), panels of pairs of 16-bit
 * numbers (pack_i16.c) and their products (pairs.c). */
#ifndef TBC_GEMM_H
#define TBC_GEMM_H

#include "panels.h"

/* How a product is cut up: steps of k and rows of A that are packed at a time, and C into tiles. */
typedef struct Blocking {
    int64_t kc, mc;
    int64_t rows, cols; /* block of C of one tile */
    int64_t row_tiles, col_tiles;
} Blocking;

int64_t gemm_ceil_div(int64_t a, int64_t b);
/* n cut into `parts` equal parts, rounded up to a multiple of unit. */
int64_t gemm_part(int64_t n, int64_t parts, int64_t unit);
enum { GEMM_MAX_COLS = 1024 }; /* of a tile, unless a unit is wider */
enum { GEMM_COLS = 384 }; /* share packed rows of A so well that packing costs a few per cent */
/* Tiles of a product: rows in multiples of mr, columns of `unit`, at least `wide` while there are tiles enough;
 * kc and mc are left 0. */
Blocking gemm_cut(const GemmDesc *, const Target *, int64_t unit, int64_t wide);
/* A product's blocking, and what it is packed into. Columns of a tile are a multiple of `unit`. */
typedef struct GemmPlan {
    Blocking cut;
    Panels panels;
    int64_t a_depth, b_depth; /* words of a panel by its width */
} GemmPlan;
GemmPlan gemm_plan(const GemmDesc *, const Target *, PanelType, int64_t unit);
int64_t gemm_packed_bytes(const GemmPlan *); /* scratch for packed operands */

/* The block of C that is the current tile's: rows i0 .. i1-1, n columns from j0 on. */
typedef struct GemmTile {
    LLVMValueRef i0, i1, j0, n;
} GemmTile;
GemmTile gemm_tile(Gen *, const GemmDesc *, const Blocking *);
/* Emits work on rows first .. end-1 of the tile's block, which are complete. */
typedef void GemmEpilogue(Gen *, void *context, const GemmTile *, LLVMValueRef first, LLVMValueRef end);
/* Emits the product of the tile's block: buffers 0 and 1 of the kernel are A and B, c its first element with
 * row stride ldc. With an epilogue, complete rows are handed to it while they are in the cache. */
void gemm_product(Gen *, const GemmDesc *, const GemmPlan *, const GemmTile *, LLVMValueRef packed,
                  LLVMValueRef c, int64_t ldc, GemmEpilogue *, void *context);

/* How A is stored, for gen_pack, and where its element of a row and a step of k is. */
PackFrom gemm_a_storage(const GemmDesc *);
LLVMValueRef gemm_a_at(Gen *, const GemmDesc *, LLVMValueRef a, LLVMValueRef row, LLVMValueRef step);
/* Element (row, col) of an f32 matrix with `ld` columns. */
LLVMValueRef gemm_element(Gen *, LLVMValueRef base, LLVMValueRef row, LLVMValueRef col, int64_t ld);

/* ---- pairs
 *
 * Panels of ternary codes, and of int16 activations, divide k into blocks of `steps`, each with one scale per
 * column of B and, of int16, per row of A. A block is packed as
 *
 *     A of int16   mr x pairs words, row by row, then mr scales (f32)
 *     A of bf16    pairs x mr words, pair by pair
 *     B            pairs x nr words, pair by pair, then nr scales
 *
 * and a panel as its blocks one after the other. */

PairBlock pair_block(int64_t steps);

/* void f(i64 i, i64 k, ptr src, i64 ld, ptr fold, ptr dst, i64 blocks): quantises and packs row i of A, the k
 * numbers at src; the row at src + ld is likely to be next. With `folded`, step kk is multiplied by fold[kk]
 * first; fold must reach to the end of the last block. */
LLVMValueRef gen_pack_i16(Gen *, PairBlock, bool folded);
/* max(|v|, I16_TINY) over n vectors of 8 lanes of f32, at most I16_BLOCK numbers; NaN if one is. */
LLVMValueRef i16_magnitude(Gen *, LLVMValueRef *v, int n);
/* void f(i64 j0, i64 n, i64 k0, i64 k, ptr t2, ptr dst, i64 blocks): decodes and packs n columns from j0 on
 * of B[k,n], steps k0 .. k0+k-1, as gen_pack_ternary does, as codes and scales. The scales are the weights' (nk)
 * or 1. But in bf16 those of [k,n] are rounded to bf16 and multiplied to the codes, without scales behind. */
LLVMValueRef gen_pack_codes(Gen *, const Panels *, int64_t rows, int64_t cols, int64_t group, bool nk);

/* Pairs of bf16, rounded to nearest even, in words of i32: of two f32 scalars or vectors. */
LLVMValueRef bf16_pairs(Gen *, LLVMValueRef low, LLVMValueRef high);
/* The same of f32 that are rounded already. */
LLVMValueRef bf16_join(Gen *, LLVMValueRef low, LLVMValueRef high);

/* What the micro-kernel does with vectors of words: sum + the products of a and b. Sums are i32 of int16,
 * exact within a block (at most I16_BLOCK * I16_MAX < 2^22), else f32. */
LLVMValueRef pairs_add(Gen *, PanelType, LLVMValueRef sum, LLVMValueRef a, LLVMValueRef b);
/* a[2i]*b[2i] + a[2i+1]*b[2i+1], for each pair of int16 in the words of two vectors of i32. */
LLVMValueRef i16_multiply_pairs(Gen *, LLVMValueRef a, LLVMValueRef b);

#endif
