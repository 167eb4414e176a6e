/* What attention on the tensor cores shares, forward and backward: heads in shared memory as bf16, and
 * fragments of what a warp has computed.
 *
 * A tile of a head is lines of positions, the head's width along them, filled up with zeros to 16, 32, 64 or
 * 128. As rows of a product over the width its fragments come straight, as steps of a product over positions
 * transposed. */
#ifndef TBC_NVPTX_ATTENTION_MMA_H
#define TBC_NVPTX_ATTENTION_MMA_H

#include "attention.h"
#include "mma.h"

enum { HEAD_WIDTH = 128 /* wider heads go to the FMA units */, HEAD_TILES = HEAD_WIDTH / 8, HEAD_ROWS = 128 };

typedef LLVMValueRef Tile[4]; /* a fragment of C, 16 x 8, or of A, or two of B */

bool nv_attention_mma_fits(const AttnDesc *);
/* The width of a tile's lines, and what of it is used: a multiple of 16. */
int nv_attention_run(const AttnDesc *);
int nv_attention_used(const AttnDesc *);
/* Blocks of 128 positions. */
int64_t nv_attention_mma_blocks(const AttnDesc *);

/* `lines` positions of a head, at most 64, on their way to shared memory; they wait at `ahead` (Plane). */
Plane nv_attention_plane(Gen *, const AttnDesc *, const Head *, int lines, LLVMValueRef ahead);
/* A head's positions from `first` on to shared memory: `lines` of them, in pieces of at most 64; 0 behind the
 * end. */
void nv_attention_stage(Gen *, const AttnDesc *, const Head *, LLVMValueRef first, int lines,
                        LLVMValueRef to);
/* The tile at `at` from line `line` on as a source of fragments: of A or B, lines as rows or as steps. */
Source nv_attention_source(Gen *, const AttnDesc *, LLVMValueRef at, LLVMValueRef line, bool steps,
                           bool is_a);

/* sum[n] = A B^T over the width, for 16 rows of A and 8 n rows of B. a: fragments already loaded, or NULL. */
void nv_attention_mma_scores(Gen *, const AttnDesc *, const Source *a, Tile *loaded, const Source *b, int n,
                             Tile *sum);
/* Sums of 16 rows and the head's width, kept in allocas. */
typedef struct HeadSums {
    Tile at[HEAD_TILES];
} HeadSums;
void nv_attention_sums(Gen *, const AttnDesc *, HeadSums *);
/* sums += P B for P of 16 rows and 8 n steps, in fragments of C, rounded to bf16; b has steps. */
void nv_attention_mma_add(Gen *, const AttnDesc *, const HeadSums *, Tile *p, int n, const Source *b);
/* Writes the sums, the rows lane / 4 and + 8 times factor[0] and [1] (NULL: 1), to positions from pos0 on. */
void nv_attention_mma_write(Gen *, const AttnDesc *, const HeadSums *, const LLVMValueRef *factor,
                            const Head *, LLVMValueRef pos0);

/* Row and column of number l of fragment n of C: lane / 4 (+ 8), 8n + 2 (lane % 4) (+ 1). */
LLVMValueRef nv_attention_row(Gen *, int l);
LLVMValueRef nv_attention_col(Gen *, int n, int l);

#endif
