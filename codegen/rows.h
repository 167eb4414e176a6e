/* What the kernels that walk along rows share: vector loops over columns, packed ternary rows, AdamW's
 * arithmetic, and the plan of a row region. Private to those generators. */
#ifndef TBC_ROWS_H
#define TBC_ROWS_H

#include "gen.h"

/* ---- vector loops (lanes.c) */

/* One vector's worth of consecutive columns: col .. col+vl-1, of which mask (NULL: all) says which exist. */
typedef struct Lanes {
    LLVMValueRef col, mask;
} Lanes;

/* f32 columns of the array at `base`; lanes that do not exist load as 0 and are not stored. Vectors are of
 * the target's width, masked ones of the mask's. */
LLVMValueRef lanes_load(Gen *, LLVMValueRef base, const Lanes *);
void lanes_store(Gen *, LLVMValueRef value, LLVMValueRef base, const Lanes *);
/* The same of an array of bf16: loaded as f32, stored as i16. */
LLVMValueRef lanes_load_bf16(Gen *, LLVMValueRef base, const Lanes *);
void lanes_store_bf16(Gen *, LLVMValueRef upper, LLVMValueRef base, const Lanes *);

/* llvm.masked.load or .store, overloaded on the given types of vector and pointer. */
LLVMValueRef gen_masked(Gen *, const char *name, LLVMTypeRef *types, LLVMValueRef *args, unsigned n);

/* Emits the work on `count` neighbouring vectors; at most the loop's unroll factor. */
typedef void LanesBody(Gen *, void *context, const Lanes *, int count);
/* Walks the n columns from lo on in vectors, `unroll` at a time, then one at a time, then with a mask. The
 * body is emitted up to three times; with a constant n only where it has something to do. */
void gen_lanes(Gen *, LLVMValueRef lo, LLVMValueRef n, int unroll, LanesBody *, void *context);

/* ---- tiles: 0 .. count-1 in pieces of equal size, the last one shorter (tiles after it have none) */

typedef struct Tiling {
    int64_t count, piece;
    uint32_t tiles;
} Tiling;
/* Pieces of at least about `least` elements and a multiple of `unit`, at most 64, none of them empty. */
Tiling tiling_of(int64_t count, int64_t least, int64_t unit);
/* The current tile's piece: its first element, and how many there are (a constant if all are equal). */
void gen_piece(Gen *, const Tiling *, LLVMValueRef *lo, LLVMValueRef *n);

/* ---- ternary rows (ternary.c) */

/* Addresses of a row's packed codes and f16 scales in a ternary matrix. */
LLVMValueRef ternary_codes(Gen *, LLVMValueRef t2, LLVMValueRef row, const TernaryLayout *);
LLVMValueRef ternary_scales(Gen *, LLVMValueRef t2, LLVMValueRef row, const TernaryLayout *);
/* dst[cols] = code * scale of one row. */
void gen_decode_row(Gen *, LLVMValueRef codes, LLVMValueRef scales, LLVMValueRef dst, int64_t cols,
                    int64_t group);

/* What a projection is made of. sum: of |w| over the n weights (i64) of a group, an f64 whose order decides
 * about its last bit: lane l of ternary_lanes(n) adds weights l, l + lanes, .. and the lanes are added
 * pairwise, half of them away first; or one by one in groups that are not whole words (not
 * ternary_by_vectors). */
typedef struct TernaryRow {
    Gen *g;
    LLVMValueRef w, codes, scales; /* f32[cols], packed codes, f16 scales */
    int64_t cols, group, bytes;    /* bytes of codes */
} TernaryRow;
bool ternary_by_vectors(int64_t cols, int64_t group);
int ternary_lanes(int64_t n);                                                    /* 16 or 32 */
LLVMValueRef ternary_scale(Gen *, LLVMValueRef sum, LLVMValueRef n);             /* f16 */
LLVMValueRef ternary_load_scale(Gen *, LLVMValueRef scales, LLVMValueRef group); /* as f32 */
/* What |w| must exceed for a code of 1 or -1, given the scale as f32. */
LLVMValueRef ternary_bound(Gen *, LLVMValueRef scale);
/* code + 1 as i8, for a scalar (lanes 1) or a vector. */
LLVMValueRef ternary_code(Gen *, LLVMValueRef w, LLVMValueRef bound, int lanes);
/* Stores the scale of group `index`, of n weights, added one by one. */
void ternary_scale_serially(const TernaryRow *, LLVMValueRef index, int64_t n);
/* The byte of codes of columns 4*i .. 4*i+3, some of which may not exist; the scales have been stored. */
LLVMValueRef ternary_pack_byte(const TernaryRow *, LLVMValueRef i);
/* void f(ptr w, ptr codes, ptr scales): projects `part` columns of a row of `cols`, from a whole word of
 * codes and the beginning of a group on; part ends with a group or the row. The same bits as those of the
 * whole row. */
LLVMValueRef gen_project_part(Gen *, int64_t part, int64_t cols, int64_t group);
/* dy, but 0 where |w| is beyond the scale; scalars or vectors. */
LLVMValueRef ternary_clip(Gen *, LLVMValueRef w, LLVMValueRef dy, LLVMValueRef scale);

/* ---- gemv with w in f32 (gemv_dense.c): the kernel's body, for the rows of w in the current tile */

void gemv_dense(Gen *, const GemvDesc *, const Tiling *);

/* ---- the update (adamw.c) */

typedef struct AdamwState {
    LLVMValueRef w, grad, m, v; /* f32, scalars or vectors */
} AdamwState;
/* The four numbers of `hyper`. Where the first is NaN, the kernel ends here. */
void gen_adamw_hyper(Gen *, LLVMValueRef at, LLVMValueRef *hyper);
Tiling adamw_tiling(const AdamwDesc *); /* CPU: of the elements */
/* The state after one step. */
AdamwState gen_adamw_step(Gen *, const AdamwDesc *, const LLVMValueRef *hyper, AdamwState);

/* An update of arrays. */
typedef struct AdamwUpdate {
    AdamwDesc desc; /* but for the count */
    LLVMValueRef w, grad, m, v, hyper[4];
    LLVMValueRef key;   /* desc.bf16: adamw_key */
    LLVMValueRef index; /* desc.bf16: which weight the first of w is; NULL: the first */
    int64_t next;       /* not 0: how many numbers ahead w, m and v will be needed next */
} AdamwUpdate;
/* Updates n elements from lo on; CPU. */
void gen_adamw_elements(Gen *, const AdamwUpdate *, LLVMValueRef lo, LLVMValueRef n);

/* ---- moments as bf16 (adamw_bf16.c) */

typedef struct AdamwRandom {
    LLVMValueRef m, v; /* i32 with 16 random bits, a scalar or a vector */
} AdamwRandom;
LLVMValueRef adamw_key(Gen *, LLVMValueRef at); /* from the input {seed, t} */
/* For weights i .. i+lanes-1, the random bits of ir/eval_bf16.c. */
AdamwRandom adamw_random(Gen *, LLVMValueRef key, LLVMValueRef i, int lanes);
LLVMValueRef adamw_round(Gen *, LLVMValueRef value, LLVMValueRef random); /* to bf16, as i16, up or down by chance */

/* ---- the plan of a row region (rows_plan.c)
 *
 * The domain is the common shape of all values of the body: `rows` rows of n columns. A *column* value
 * differs along a row; any other is a scalar of the row (or of all rows). The kernel walks the columns of a
 * row in `phases` loops: what a sum or maximum over the row yields in one loop can be used in the next.
 *
 *   level(v)  the first loop in which v can be computed; for a scalar, the loop before which it is known
 *
 * Full results are stored in the last loop only: a result may share its buffer with an operand, which no
 * loop may read again after that. What a later loop needs again is computed again, unless it is expensive:
 * then its first loop keeps it in a row of scratch; a GPU, which has the row in registers or computes faster
 * than it loads, keeps nothing.
 *
 * A region without sums, picks and partly broadcast operands is *flat*: one row of all elements. */

typedef struct RowPlan {
    Arena *arena;
    const Graph *body;
    const Node *yield;
    Type domain;
    int64_t rows, n;
    bool flat;
    int halves;        /* 2 with a rotate_half: the loops walk both halves of the row side by side */
    int unroll;        /* vectors per turn of a loop, in each half */
    int phases, slots; /* loops, rows of scratch */
    uint32_t operands; /* buffers before the results' */
    int64_t parts;     /* of partial sums, each a tile; 0: there are none */
    Tiling tiling;     /* CPU: of the rows; of the columns if flat */
    /* by value of the body */
    bool *live;
    int *level, *slot; /* slot: row of scratch, -1: none */
    int *kept;         /* with a slot: the loop that fills it */
} RowPlan;

RowPlan *row_plan(const Graph *body, const Target *);
void row_plan_free(RowPlan *);
bool row_is_column(const RowPlan *, Val);
int64_t row_slot_bytes(const RowPlan *); /* one row of scratch */

#endif
