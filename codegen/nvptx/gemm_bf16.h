/* The product in bf16: gemm_bf16.c cuts it up and sums, gemm_bf16_codes.c has what is different with packed
 * codes. */
#ifndef TBC_NVPTX_GEMM_BF16_H
#define TBC_NVPTX_GEMM_BF16_H

#include "gemm.h"
#include "panel.h"

enum { STAGES = 3, WORD = 16, MAX_DOWN = 6, MAX_ACROSS = 8, SPAN = 32 /* columns with one scale in dX */ };

typedef struct TileShape {
    int rows, cols, down, across,
        slices;  /* of C; warps down and across it, and a power of two of slices of k */
    double cost; /* of a number of C, relative: how much shared memory has to do for it */
} TileShape;

typedef struct GemmBf16 {
    Gen *g;
    const GemmDesc *d;
    const TileShape *shape;
    int turn, mt, nt; /* fragments of a warp: mt down, nt across */
    bool b_spread;    /* columns of C are dealt out as panel_row does by vectors */
    Panel a, b;
    TernaryLayout layout;
    LLVMValueRef i0, j0, row0, col0; /* of the block in C; of the warp in the block */
    LLVMValueRef slice;              /* of k, that the warp takes */
    LLVMValueRef slots, stages;      /* shared: two turns' scales, STAGES turns' operands */
    LLVMValueRef scale;              /* alloca, in flight: f32, of dX the bits of a bf16 with its sign set */
    LLVMValueRef sum[MAX_DOWN][MAX_ACROSS][4]; /* allocas */
} GemmBf16;

static inline bool is_code_rows(const GemmDesc *d) {
    return d->b == GEMM_B_T2_NK;
}
static inline bool is_code_steps(const GemmDesc *d) {
    return d->b == GEMM_B_T2_KN;
}

static inline int threads_of(const TileShape *s) {
    return NV_WARP * s->down * s->across * s->slices;
}

static inline LLVMValueRef below(const GemmBf16 *p, LLVMValueRef x, int64_t end) {
    return gen_less(p->g, x, gen_i64(p->g, end));
}

/* The column within the tile that is number l of the lane's two in fragment j. */
LLVMValueRef bf16_column_of(const GemmBf16 *, int j, int l);

/* Bytes of the codes of a step of dX in shared memory, and of a turn's scales. */
int bf16_step_bytes(const GemmBf16 *);
int64_t bf16_slot_bytes(const GemmBf16 *);
/* Starts to copy the codes of the turn at k to its stage. */
void bf16_copy_codes(const GemmBf16 *, LLVMValueRef to, LLVMValueRef k);
/* Loads what the thread is to compute of the scales for the turn at k, and puts it into the turn's slot. */
void bf16_load_scales(const GemmBf16 *, LLVMValueRef k);
void bf16_store_scales(const GemmBf16 *, LLVMValueRef k);
/* Brings the sums of a forward product from the units of the group before k to those of the group that begins
 * there, if one does; and from those of the last group to those of C. */
void bf16_begin_group(const GemmBf16 *, LLVMValueRef k);
void bf16_finish_groups(const GemmBf16 *);
/* The slices of B for 16 steps from `step` on in the turn at k, from the codes at `tile`. */
void bf16_slices_of_codes(const GemmBf16 *, LLVMValueRef tile, LLVMValueRef k, int step, Slice *out);

#endif
