/* Packed ternary rows as other kernels make and read them (ternary.c). */
#ifndef TBC_NV_TERNARY_H
#define TBC_NV_TERNARY_H

#include "../rows.h"
#include "nv.h"

/* dst[4i .. 4i+3] = code * scale, as far as there are columns, from byte i of a row's codes. dst is
 * f32[cols], 16-byte aligned if cols is a multiple of 4. */
void nv_decode_byte(Gen *, LLVMValueRef codes, LLVMValueRef scales, LLVMValueRef dst, LLVMValueRef i,
                    int64_t cols, int64_t group);

/* Row `row` of the codes at t2; the weights are up to the caller. */
TernaryRow nv_ternary_row(Gen *, const TernaryDesc *, LLVMValueRef row, LLVMValueRef t2);
/* A warp stores codes and scale of group `index` (i64) of the row, whose weights lie at w in global or shared
 * memory, 16-byte aligned if there are four to each 16 bytes. Groups are whole words of codes, and the last
 * one of a row may be shorter. All 32 lanes must come. */
void nv_project_group(const TernaryRow *, LLVMValueRef w, LLVMValueRef index);

#endif
