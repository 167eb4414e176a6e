/* AdamW on a few weights of an array: the element-wise kernel's (adamw.c), and the end of a product's
 * (gemm_adamw.c). */
#ifndef TBC_NVPTX_ADAMW_H
#define TBC_NVPTX_ADAMW_H

#include "../rows.h"

/* Updates weights i .. i+width-1 (1 or 4) of u, whose gradients are `grad` (u->grad is not looked at).
 * Returns the new weights, f32 or a vector of it. */
LLVMValueRef nv_adamw_elements(Gen *, const AdamwUpdate *u, LLVMValueRef grad, LLVMValueRef i, int width);

#endif
