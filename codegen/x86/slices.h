/* Sliced activations: an operand of products with 2-bit codes on integer instructions (slices.c). */
#ifndef TBC_SLICES_H
#define TBC_SLICES_H

#include "../gen.h"

/* Numbers of a block: those that meet 32 bytes of codes, SLICES_WORD neighbours in each of 8 lanes. */
enum { SLICES_BLOCK = 128, SLICES_LANES = 8, SLICES_WORD = SLICES_BLOCK / SLICES_LANES };
enum { SLICES_MAX_M = 4 /* rows of x at a time */ };
/* Digits of a number: what f32 has, or int16, rounded as eval_i16.c does. */
enum { SLICES_F32 = 3, SLICES_I16 = 2 };

/* Bytes of n numbers in slices. */
int64_t slices_bytes(int64_t n, int digits);
/* void f(ptr x, i64 n, ptr sliced): slices n > 0 numbers (f32); those behind the end of the last block are 0.
 */
LLVMValueRef gen_slice(Gen *, int digits);

/* total[i] += scale * sum of code * x[i], lane by lane, for one vector of 128 codes and m blocks of x.
 * `codes`: i32 lanes of packed codes; `scale`: f32 lanes; `total`: addresses of f32 lanes. */
void slices_multiply(Gen *, int digits, LLVMValueRef codes, LLVMValueRef scale, int m, LLVMValueRef *x,
                     LLVMValueRef *total);
/* The address of a block (i64) of what gen_slice wrote. */
LLVMValueRef slices_block(Gen *, int digits, LLVMValueRef sliced, LLVMValueRef block);

#endif
