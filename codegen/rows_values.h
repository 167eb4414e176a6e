/* The values of a row region as LLVM code, for the loops of any target (rows_values.c). Private to the
 * generators of rows.
 *
 * Expressions are emitted on demand from the results down. A *site* is where in the row they are evaluated;
 * it remembers what it has computed. */
#ifndef TBC_ROWS_VALUES_H
#define TBC_ROWS_VALUES_H

#include "rows.h"

typedef struct Rows {
    Gen *g;
    const RowPlan *plan;
    LLVMValueRef *buffer; /* of the operands, then of the results */
    LLVMValueRef row;     /* index of the current row */
    int phase;            /* the loop being emitted */
    /* by value of the body */
    LLVMValueRef *base;   /* of column arguments: address of the current row */
    LLVMValueRef *scalar; /* scalars known so far, else NULL */
} Rows;

/* `lanes` consecutive columns from at.col on; lanes that at.mask says are not there load as 0. */
typedef struct Site {
    Lanes at;
    int lanes;
    unsigned align;       /* bytes that loads and stores here can rely on */
    bool single;          /* a column by itself, of a pick */
    LLVMValueRef lower;   /* i1: in the first half of the row? */
    LLVMValueRef there;   /* i1: do the columns exist? NULL: yes; if not, they load as 0 */
    struct Site *partner; /* the same columns of the other half, if the region has a rotate_half */
    LLVMValueRef *memo;   /* by value: what was computed here */
} Site;

/* For a kernel that has been begun; nothing is known yet. */
Rows rows_begin(Gen *, const RowPlan *);
/* The rows that follow are emitted for this row. */
void rows_set_row(Rows *, LLVMValueRef row);

Site *rows_site(Rows *, Lanes at, int lanes, unsigned align);
/* The sites are the same columns of different halves; lower: is the first of them in the lower half? */
void rows_pair(Rows *, Site *, Site *, LLVMValueRef lower);

/* The columns in an array of that type; values of bf16 are handed about as f32 that are rounded already. */
LLVMValueRef rows_load(Rows *, const Site *, LLVMValueRef base, DType);
void rows_store(Rows *, LLVMValueRef, const Site *, LLVMValueRef base, DType);
/* Value v at the columns of the site; all scalars that it takes must be known. */
LLVMValueRef rows_value(Rows *, Site *, Val v);

/* Computes the scalars that can be known before loop r->phase. */
void rows_scalars(Rows *);
/* The reductions of the current loop, one after the other from *i (0) on; NULL at the end. A loop starts each
 * from rows_identity, takes sites in with rows_reduce, and ends by setting r->scalar of the node's value. */
const Node *rows_next_reduction(const Rows *, uint32_t *i);
LLVMValueRef rows_identity(const Rows *, const Node *);
/* sum + (or the maximum of it and) the columns of the site; what is masked out does not count. A sum of
 * products is one chain of fused multiply-adds. */
LLVMValueRef rows_reduce(Rows *, Site *, const Node *, LLVMValueRef sum);

/* What result k is the sum of over the rows of a tile, else the result itself. */
Val rows_summand(const Rows *, uint32_t k, bool *summed);
/* Where result k of the current row (or, summed, of the tile) goes. */
LLVMValueRef rows_result_address(Rows *, uint32_t k, bool summed);
DType rows_result_dtype(const Rows *, uint32_t k);
/* Stores result k, a scalar, at that address. */
void rows_store_scalar(Rows *, LLVMValueRef, uint32_t k, LLVMValueRef at);

#endif
