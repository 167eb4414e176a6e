/* What the matrix products of the NVPTX back end share: how C is cut into
 * blocks, and how it is written. */
#ifndef TBC_NVPTX_GEMM_H
#define TBC_NVPTX_GEMM_H

#include "tile.h"

/* Blocks of a product whose tiles are rows x cols, and where the current one
 * begins in C. */
int64_t nv_gemm_blocks(const GemmDesc *, int rows, int cols);
void nv_gemm_place(Gen *, const GemmDesc *, int rows, int cols, LLVMValueRef *i0, LLVMValueRef *j0);
/* C at row, col .. col+n-1 = n f32, or += them; what lies outside of C is left
 * out. col is a multiple of n. */
void nv_gemm_write(Gen *, const GemmDesc *, LLVMValueRef row, LLVMValueRef col, LLVMValueRef *sum, int n);

/* A tile of C whose sums are in the registers of a block's threads. */
typedef struct NvTile NvTile;
/* Takes n sums of it: those of C at row, col .. col+n-1, which may lie outside of C; col is a multiple of n.
 */
typedef void NvTilePut(Gen *, void *context, LLVMValueRef row, LLVMValueRef col, LLVMValueRef *sum, int n);
struct NvTile {
    int rows, cols, threads;
    LLVMValueRef i0, j0;  /* its first row and column in C */
    LLVMValueRef shared;  /* memory of the block, 16-byte aligned; free when all threads have come here */
    int64_t shared_bytes; /* at least 16 rows of 4 (cols + 4) bytes */
    void (*each)(Gen *, const NvTile *, NvTilePut *, void *context); /* puts all that a thread has */
    const void *sums;
};
/* What is done with a tile. */
typedef void NvTileEnd(Gen *, void *context, const NvTile *);
/* Writes it with nv_gemm_write; the context is the GemmDesc. */
NvTileEnd nv_gemm_write_tile;

/* Columns of C that must lie in one tile, from a multiple of them on: a divisor of
 * WIDEST_UNIT, or ANY_UNIT. */
enum { ANY_UNIT = 1, WIDEST_UNIT = 128 };
/* The products a b of nv_gen_gemm and nv_gen_gemm_bf16 (where nothing is packed), in a kernel of their grids
 * that has begun and whose first parameters are a and b; each block gives its tile to `end`. With
 * `rounded` f32 operands are rounded to bf16. */
NvGrid nv_gemm_tile_grid(const GemmDesc *, int64_t unit);
NvGrid nv_gemm_bf16_tile_grid(const GemmDesc *, int64_t unit, const Target *);
void nv_gemm_tile(Gen *, const GemmDesc *, int64_t unit, bool rounded, NvTileEnd *end, void *context);
void nv_gemm_bf16_tile(Gen *, const GemmDesc *, int64_t unit, NvTileEnd *end, void *context);

/* The product on the FMA units with operands rounded to bf16; its grid is that of nv_gen_gemm. */
void nv_gemm_rounded(Gen *, const char *name, const GemmDesc *);

#endif
