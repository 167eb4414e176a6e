/* bf16 products on the tensor cores: tiles in shared memory, fragments, and sums (mma.sync.m16n8k16, f32
 * sums).
 *
 * A plane is a matrix in f32 or bf16 of which tiles go to shared memory as bf16, line by line. Either its
 * lines are rows (of A; columns of B) and k runs along them, or they are steps of k and the rows run along
 * them: then ldmatrix transposes. Lines have 16 bytes of padding, so that the eight lines of a fragment, 16
 * bytes each, lie in different banks.
 *
 *        along rows  [row][k ..]        along steps  [k][row ..]
 *        fragment    ldmatrix           fragment     ldmatrix.trans
 *
 * Threads of a warp in the fragments of C: lane / 4 is the row (and that + 8), 2 (lane % 4) the column (and
 * the next one); lane / 4 is the column of B's fragment. */
#ifndef TBC_NVPTX_MMA_H
#define TBC_NVPTX_MMA_H

#include "nv.h"

enum { MMA_THREADS = 256, PLANE_PAD = 8 /* bf16 */, PLANE_UNITS = 4 };

/* The caller fills in what comes first, plane_begin the rest. What lies behind the end is 0. */
typedef struct Plane {
    LLVMValueRef base;  /* line 0 */
    int64_t lines, run; /* that exist; run: numbers along a line */
    int64_t ld;         /* numbers from one line to the next */
    bool half;          /* stored as bf16; lines and what lies between them are multiples of 8 numbers */
    int tile_lines;     /* a tile: at most PLANE_UNITS units of 8 numbers a thread */
    int tile_run;       /* 16, 32, 64 or 128 */
    LLVMValueRef ahead; /* shared memory, 16-byte aligned, where numbers wait, of bf16 the tile itself; NULL:
                           in registers */

    int vec, units;
    LLVMValueRef value[PLANE_UNITS][8]; /* of this thread, in flight: allocas of vectors of vec */
} Plane;
void plane_begin(Gen *, Plane *);
/* The tile from a line and a number along it on (multiples of the tile's) to where it waits, by cp.async if
 * that is shared memory; from there, when the thread has waited for its copies, rounded to
 * [tile_lines][tile_run + PLANE_PAD] bf16 in shared memory. bf16 copied to its tile needs no store. */
void plane_load(Gen *, Plane *, LLVMValueRef line0, LLVMValueRef run0);
void plane_store(Gen *, const Plane *, LLVMValueRef to);
int64_t plane_bytes(int tile_lines, int tile_run);
int64_t plane_ahead_bytes(int tile_lines, int tile_run);

/* Two f32 as a pair of bf16 (i32), `low` in the low half; one f32 as bf16 (i16). */
LLVMValueRef mma_pair(Gen *, LLVMValueRef low, LLVMValueRef high);
LLVMValueRef mma_round(Gen *, LLVMValueRef);
/* Pairs of codes in the low two bits of both halves of an i32 (other bits are ignored) as bf16: -1, 0 and 1,
 * and those times the factors in the halves of another i32, which are bf16 with the sign bit set. */
LLVMValueRef mma_codes(Gen *g, LLVMValueRef codes);
LLVMValueRef mma_scaled_codes(Gen *g, LLVMValueRef codes, LLVMValueRef factors);

/* A tile in shared memory as the fragments' source. `at` points to bf16; lines of `ld` bf16. */
typedef struct Source {
    bool steps; /* lines are steps */
    int ld;
    LLVMValueRef at; /* with the lane's offset, mma_lane_offset */
} Source;
/* The lane's offset (i64, bf16) for fragments of A or B; at = tile + offset. */
LLVMValueRef mma_lane_offset(Gen *, const Source *, bool is_a);
/* The 16 x 16 fragment of A, or two neighbouring 16 x 8 fragments of B (b[0], b[1] and b[2], b[3]), whose
 * first row and step within the tile are constants. */
void mma_load(Gen *, const Source *, int row, int step, LLVMValueRef out[4]);

/* sum[4] (SSA values) += A B. */
void mma_add(Gen *, LLVMValueRef sum[4], LLVMValueRef a[4], LLVMValueRef b[2]);

#endif
