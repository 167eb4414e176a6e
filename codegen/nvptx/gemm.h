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

/* The product on the FMA units with operands rounded to bf16; its grid is that of nv_gen_gemm. */
void nv_gemm_rounded(Gen *, const char *name, const GemmDesc *);

#endif
