/* What the attention kernels of the NVPTX back end share: how heads become
 * operands of tile products.
 *
 * Blocks take 64 queries and 64 keys at a time. Of the head's width, a block
 * makes up to 128 columns of its result: wider heads have several blocks, which
 * compute the same scores. */
#ifndef TBC_NVPTX_ATTENTION_H
#define TBC_NVPTX_ATTENTION_H

#include "tile.h"

enum { ATTENTION_SIDE = 64, ATTENTION_LD = ATTENTION_SIDE + TILE_PAD };

/* Blocks of positions; parts of the head's width and their columns (64 or 128).
 */
int64_t nv_attention_blocks(const AttnDesc *);
int64_t nv_attention_parts(const AttnDesc *);
int nv_attention_width(const AttnDesc *);

/* One head of a buffer f32[B,S,heads,D], or bf16. */
typedef struct Head {
    unsigned arg;
    LLVMValueRef batch, head;
    int64_t heads;
    bool rounded; /* to bf16, as an operand */
} Head;
bool nv_attention_half(const AttnDesc *, const Head *); /* stored as bf16 */
/* Its vector at position 0; positions are heads * D numbers apart. */
LLVMValueRef nv_attention_base(Gen *, const AttnDesc *, const Head *);
/* Its vectors as rows of a product over D (64 of them from `first` on), or as
 * steps of one whose columns are `width` of D from `first` on. */
Operand nv_attention_rows(Gen *, const AttnDesc *, const Head *, LLVMValueRef first);
Operand nv_attention_steps(Gen *, const AttnDesc *, const Head *, LLVMValueRef first);
/* Element [batch, pos, head] of buffer `arg`, f32[B,S,H,1]; of the last
 * position where pos is behind it. */
LLVMValueRef nv_attention_stat(Gen *, const AttnDesc *, unsigned arg, const Head *, LLVMValueRef pos);
/* Writes sums, each row i times factor[i] (NULL: 1), to the positions from pos0
 * and columns from col0 on. */
void nv_attention_write(Gen *, const AttnDesc *, const TilePlace *, const Sums *, const LLVMValueRef *factor,
                        const Head *, LLVMValueRef pos0, LLVMValueRef col0);

/* sums = rows of a times rows of b, over D. */
void nv_attention_scores(Gen *, const AttnDesc *, const TilePlace *, const Sums *, Operand *a, Operand *b,
                         LLVMValueRef stages);
/* Does the query of row i of the tile see the key of its column j? */
LLVMValueRef nv_attention_seen(Gen *, const TilePlace *, LLVMValueRef q0, LLVMValueRef k0, int i, int j);
/* exp(scale * score - shift), 0 where not seen. */
LLVMValueRef nv_attention_weight(Gen *, double scale, LLVMValueRef score, LLVMValueRef shift,
                                 LLVMValueRef seen);
/* The tile's numbers x[query][key], 4 x 4 a thread, rounded to bf16 if so, into shared memory with
 * ATTENTION_LD floats a step, as the operand A[k, row] of a product over keys
 * (row: query) or over queries (row: key). */
void nv_attention_share(Gen *, const TilePlace *, LLVMValueRef x[4][4], bool over_keys, bool rounded,
                        LLVMValueRef at);

/* Attention and its gradients on the FMA units with operands rounded to bf16; grids as those in f32. */
void nv_attention_rounded(Gen *, const char *name, const AttnDesc *);
void nv_attention_grad_rounded(Gen *, const char *name, const AttnDesc *);

#endif
