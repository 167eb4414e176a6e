/* What the forward (attention.c) and backward (attention_grad.c) attention kernels share: block sizes,
 * addresses, and calls of packing and products. */
#ifndef TBC_ATTENTION_H
#define TBC_ATTENTION_H

#include "panels.h"

int64_t attention_round(int64_t n, int64_t unit); /* n rounded up to a multiple of unit */
/* Queries and keys in a block: multiples of mr and of nr. */
int64_t attention_queries(const AttnDesc *, const Target *);
int64_t attention_keys(const AttnDesc *, const Target *);
/* Places n regions of so many floats, each 64-byte aligned, at at[i] bytes; returns the bytes of all. */
int64_t attention_plan(const int64_t *floats, int n, int64_t *at);

/* Address of row [batch, pos, head, :] of buffer `arg`, f32[B,S,heads,D]. */
LLVMValueRef attention_head(Gen *, const AttnDesc *, unsigned arg, LLVMValueRef batch, LLVMValueRef pos,
                            LLVMValueRef head, int64_t heads);
/* Address of [batch, pos, head] of buffer `arg`, f32[B,S,H,1]. */
LLVMValueRef attention_stat(Gen *, const AttnDesc *, unsigned arg, LLVMValueRef batch, LLVMValueRef pos,
                            LLVMValueRef head);

/* Lanes i of a vector at column c with c + i < seen. */
LLVMValueRef attention_mask(Gen *, LLVMValueRef c, LLVMValueRef seen);
/* The first multiple of a vector's lanes from `seen` on; 0 if nothing is seen (seen <= 0). */
LLVMValueRef attention_whole(Gen *, LLVMValueRef seen);
/* exp(scale * scores[..] + shift) for the vector of columns from c on; 0 in columns that are not seen. */
LLVMValueRef attention_weights(Gen *, double scale, LLVMValueRef scores, LLVMValueRef shift, LLVMValueRef c,
                               LLVMValueRef seen);

/* The largest scaled score of a row's first `seen`, `before` at least. */
LLVMValueRef attention_max(Gen *, double scale, LLVMValueRef row, LLVMValueRef seen, LLVMValueRef before);
/* row = exp(scale * row - max), in whole vectors, 0 from `seen` on; returns the sum. */
LLVMValueRef attention_exp(Gen *, double scale, LLVMValueRef row, LLVMValueRef seen, LLVMValueRef max);
/* Calls of gen_pack's and gen_product's functions; depths are in steps of k. */
void attention_pack(Gen *, PanelType, int width, bool rows, LLVMValueRef n, LLVMValueRef k, LLVMValueRef src, int64_t ld,
                    LLVMValueRef dst, int64_t depth);
void attention_product(Gen *g, PanelType type, Band band, LLVMValueRef diagonal, LLVMValueRef m, LLVMValueRef n,
                       LLVMValueRef k, LLVMValueRef a, int64_t a_depth, LLVMValueRef b, int64_t b_depth,
                       LLVMValueRef c, int64_t ldc, LLVMValueRef add);

/* attention_decode for many queries of a sequence, in blocks as attention is (attention.c). */
void gen_attention_cached(Gen *, const char *name, const AttnDecodeDesc *);
uint32_t attention_cached_tiles(const AttnDecodeDesc *, const Target *);
uint64_t attention_cached_scratch(const AttnDecodeDesc *, const Target *);

#endif
