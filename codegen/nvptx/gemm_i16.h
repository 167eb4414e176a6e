/* The product in int16: gemm_i16.c cuts it up and sums, gemm_i16_block.c makes bytes of a block's operands.
 */
#ifndef TBC_NVPTX_GEMM_I16_H
#define TBC_NVPTX_GEMM_I16_H

#include "gemm.h"
#include "mma.h"

enum {
    WORD = 16, /* codes in 32 bits, and steps that a thread quantises at a time */
    MAX_TILES = 4,
    WORD_PAD = 4 /* floats between words of activations: eight lanes' vectors lie in different banks */
};

typedef struct GemmI16 {
    Gen *g;
    const GemmDesc *d;
    bool nk;
    int side, mt, nt;
    int64_t n_span, k_span; /* tiles begin anew with each n_span columns, blocks with each k_span steps */
    int depth, ld;          /* steps that a block has room for; bytes of a row in shared memory */
    int raw_ld;             /* floats of a row of activations that are still to be quantised */
    TernaryLayout layout;
    LLVMValueRef i0, j0, j1, row0, col0; /* the tile in C: its columns are j0 .. j1-1; the warp in the tile */
    LLVMValueRef k0, k1, base;           /* the block at work: its steps, and where its words begin */
    LLVMValueRef raw, words, hi, lo, codes, scales, fold; /* in shared memory */
    LLVMValueRef next_fold;                               /* alloca: of this thread's step */
    LLVMValueRef sum[MAX_TILES][MAX_TILES][4];
} GemmI16;

/* Bytes of activations, and of words of codes, as they come from memory. */
int64_t i16_raw_bytes(const GemmI16 *);
int64_t i16_words_bytes(void);
/* The scale of the weights of a row of t2 in a group of its columns. */
LLVMValueRef i16_scale_at(const GemmI16 *, LLVMValueRef row, LLVMValueRef group);

/* Starts to bring in what the block needs. The scales that dX folds its steps with come by way of a register,
 * from which i16_store_fold takes them when nobody reads those of the block before any more. */
void i16_fetch(const GemmI16 *);
void i16_store_fold(const GemmI16 *);
/* When the copies are there, and with a barrier behind them: the block's activations and codes as bytes. */
void i16_quantise(const GemmI16 *);
void i16_decode(const GemmI16 *);

#endif
