/* Decoding of packed ternary rows, which a decode and an embedding share (ternary.c). */
#ifndef TBC_NV_TERNARY_H
#define TBC_NV_TERNARY_H

#include "nv.h"

/* dst[4i .. 4i+3] = code * scale, as far as there are columns, from byte i of a row's codes. dst is
 * f32[cols], 16-byte aligned if cols is a multiple of 4. */
void nv_decode_byte(Gen *, LLVMValueRef codes, LLVMValueRef scales, LLVMValueRef dst, LLVMValueRef i,
                    int64_t cols, int64_t group);

#endif
