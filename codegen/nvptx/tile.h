/* f32 products of tiles on the FMA units, which the matrix products and attention of the NVPTX back end are
 * made of.
 *
 * A block of 256 threads, 16 x 16 of them, makes a tile of C in registers: 64 or 128 rows by 64 or 128
 * columns, tm x tn numbers a thread (4 or 8). Thread (ty, tx), ty = thread / 16, has rows 4 ty .. 4 ty+3 and,
 * of a tile of 128, 64 + 4 ty .. as well; the same for columns with tx. So the threads of a row are half a
 * warp, and vectors of four are read from shared memory without conflicts.
 *
 *                B [16][cols]
 *               +------------+      k goes on in steps of 16. While they are multiplied, the next ones come
 * to A        |            |      the other stage of shared memory: numbers by cp.async, transposed where a
 *    [16][rows] |  C [rows,  |      row's lie together; codes through registers, decoded. One barrier in 16
 *               |     cols]  |      steps.
 *               +------------+
 *
 * In shared memory an operand lies step by step, whatever its storage. Every sum is one chain of fma in the
 * order of k, so results do not depend on tiles. */
#ifndef TBC_NVPTX_TILE_H
#define TBC_NVPTX_TILE_H

#include "nv.h"

enum {
    TILE_THREADS = 256,
    TILE_DEPTH = 16,
    TILE_MAX = 8,
    TILE_PAD = 4 /* floats: fewer bank conflicts */
};

/* A thread's place: thread / 16 and thread % 16, i64. */
typedef struct TilePlace {
    LLVMValueRef thread, ty, tx;
} TilePlace;
TilePlace tile_place(Gen *);
/* The thread's row (of ty) or column (of tx) number i < tm or tn within the tile. */
LLVMValueRef tile_at(Gen *, LLVMValueRef ty_or_tx, int i);

typedef enum Storage {
    STORED_ROWS,       /* f32 [row, k], row stride ld */
    STORED_STEPS,      /* f32 [k, row], step stride ld */
    STORED_CODE_ROWS,  /* ternary [row, k] */
    STORED_CODE_STEPS, /* ternary [k, row] */
} Storage;

/* One operand of a product (rows of A, columns of B: both are "rows" here) on its way to shared memory. The
 * caller fills in what comes first, operand_begin the rest. Steps past the end are 0; rows past the end may
 * be anything, and what they make must be dropped. */
typedef struct Operand {
    Storage storage;
    LLVMValueRef base;   /* f32: row 0, step 0; ternary: the matrix */
    int64_t rows, depth; /* that exist */
    int64_t ld;          /* numbers; not of codes */
    bool half;           /* stored as bf16 instead of f32: not copied asynchronously */
    int64_t group;       /* of codes */
    LLVMValueRef first;  /* the tile's first row, a multiple of width */
    int width;           /* rows of the tile: 64 or 128 */
    bool rounded;        /* f32, and scales that vary along k (CODE_STEPS), are rounded to bf16 */

    TernaryLayout layout;
    LLVMValueRef bits, scale[TILE_MAX]; /* of this thread's codes, in flight */
} Operand;
void operand_begin(Gen *, Operand *);

/* The sums of a tile. */
typedef struct Sums {
    int tm, tn;
    LLVMValueRef at[TILE_MAX][TILE_MAX]; /* allocas */
} Sums;
void sums_begin(Gen *, Sums *, int tm, int tn);
void sums_clear(Gen *, const Sums *);

/* Floats of shared memory that tile_product needs. */
int64_t tile_stages(int a_width, int b_width);
/* sums += A B over k in begin .. end, begin a multiple of 16. All threads must come here, when nobody uses
 * `stages` any more; these are free again after a barrier. */
void tile_product(Gen *, const TilePlace *, const Sums *, Operand *a, Operand *b, LLVMValueRef begin,
                  LLVMValueRef end, LLVMValueRef stages);
/* The same where A[k, row] lies in shared memory already, steps a_ld floats apart, from step 0 for k = begin
 * on: what threads wrote there before they came. */
void tile_product_shared(Gen *, const TilePlace *, const Sums *, LLVMValueRef a, int64_t a_ld, Operand *b,
                         LLVMValueRef begin, LLVMValueRef end, LLVMValueRef stages);

/* n numbers as a vector (as itself for n == 1). */
LLVMValueRef tile_vector(Gen *, LLVMValueRef *x, int n);
/* f32 rounded to the nearest bf16. */
LLVMValueRef tile_round(Gen *, LLVMValueRef);
/* A vector of n f32 (aligned to all of it) in shared or global memory, or one f32. */
LLVMValueRef tile_load(Gen *, LLVMValueRef at, int n);
void tile_store(Gen *, LLVMValueRef value, LLVMValueRef at, int n);

#endif
