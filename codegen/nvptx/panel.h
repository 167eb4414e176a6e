/* Tiles of matrices for the tensor cores: copied to shared memory as they are, asynchronously (cp.async); f32
 * is rounded to bf16 between shared memory and the fragments.
 *
 * A panel is `width` rows of A, or columns of B (both are "rows" here), and `turn` steps of k. Its lines are
 * what is contiguous in memory:
 *
 *     along rows     f32    [row][k ..]     a slice by ldmatrix, as if a number were two of 16 bits
 *     along rows     bf16   [row][k ..]     two slices by ldmatrix
 *     along steps    f32    [k][row ..]     four slices by vectors of four
 *     along steps    bf16   [k][row ..]     two slices by ldmatrix.trans
 *
 * A slice is 8 rows by 16 steps: half a fragment of A, or one of B. Lane l has row l / 4 of it and two pairs
 * of steps. Fragments do not mind which as long as A and B agree; with t = l % 4 they are
 *
 *     of bf16 along rows     2t, 2t + 1    and    2t + 8, 2t + 9
 *     of all others          t, t + 8      and    t + 4, t + 12       as packed codes come out of their words
 *
 * Which rows of the matrix the eight of slice s are is free as well:
 *
 *     by ldmatrix    8s + c                         c = 0 .. 7
 *     by vectors     32 (s / 4) + 4c + s % 4        so that a vector is one row each of four slices
 *
 * Lines are padded so that no way has bank conflicts. */
#ifndef TBC_NVPTX_PANEL_H
#define TBC_NVPTX_PANEL_H

#include "mma.h"

typedef struct Panel {
    LLVMValueRef base;   /* row 0, step 0 */
    bool steps;          /* lines run along steps, or along rows */
    bool half;           /* stored as bf16, or as f32 */
    int64_t rows, depth; /* that exist; what lies behind them is 0 */
    int width, turn;     /* a multiple of 32; 16 or 32 */
    int threads;         /* of the block, all of which copy */
} Panel;
int64_t panel_bytes(const Panel *); /* a multiple of 16 */
/* Starts to copy the tile from row0 and step k0 on (multiples of its size) to shared memory, 16-byte aligned.
 * It is there after nv_copies_wait and a barrier. */
void panel_copy(Gen *, const Panel *, LLVMValueRef to, LLVMValueRef row0, LLVMValueRef k0);

/* The lane's two registers of a slice: its pairs of steps, the first in the low half. */
typedef LLVMValueRef Slice[2];
/* n slices (a multiple of 4) of 16 steps of a tile, from a row within it on (a multiple of 32; the same for
 * the whole warp) and a constant step. */
void panel_slices(Gen *, const Panel *, LLVMValueRef tile, LLVMValueRef row, int step, int n, Slice *out);
/* The tile without its first steps, a multiple of 16 of them, for panel_slices. */
LLVMValueRef panel_from(Gen *, const Panel *, LLVMValueRef tile, LLVMValueRef step);
/* Are a slice's pairs neighbours, 2t and 2t + 1? */
bool panel_of_neighbours(const Panel *);
/* Are slices read by vectors? */
bool panel_by_vectors(const Panel *);
/* Row c of slice s, from that row on; c i64. */
LLVMValueRef panel_row(Gen *, bool by_vectors, int s, LLVMValueRef c);

#endif
