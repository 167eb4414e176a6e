/* The sum over all rows of a matrix, in f64. A thread has a column; where there are many rows, several
 * threads share it: thread l of R takes rows l, l+R, .. and their sums are added in order of l. */
#include "nv.h"

enum { THREADS = 256, FEW_ROWS = 64 };

/* Threads that share a column. */
static int64_t sharers(const SumRowsDesc *d) {
    if (d->rows <= FEW_ROWS) return 1;
    return d->cols >= 32 ? THREADS / 32 : THREADS;
}

NvGrid nv_sum_rows_grid(const SumRowsDesc *d, const Target *target) {
    (void)target;
    int64_t columns = THREADS / sharers(d); /* of a block */
    return (NvGrid){.blocks = (uint32_t)((d->cols + columns - 1) / columns), .threads = THREADS};
}

/* f64: the sum of x[row,col] over rows first, first + step, .. */
static LLVMValueRef sum_column(Gen *g, const SumRowsDesc *d, LLVMValueRef col, LLVMValueRef first,
                               int64_t step) {
    LLVMTypeRef f64 = LLVMDoubleTypeInContext(g->ctx);
    LLVMValueRef sum = gen_alloca(g, f64, "sum"), x = gen_buffer(g, 0);
    gen_store(g, LLVMConstNull(f64), sum);
    Loop row = gen_loop(g, first, gen_i64(g, d->rows), step, "row");
    LLVMValueRef at = gen_add(g, gen_mul(g, row.i, d->cols), col);
    LLVMValueRef more = LLVMBuildFPExt(g->b, gen_load(g, g->f32, gen_at(g, g->f32, x, at)), f64, "");
    gen_store(g, LLVMBuildFAdd(g->b, gen_load(g, f64, sum), more, ""), sum);
    gen_loop_end(g, &row);
    return gen_load(g, f64, sum);
}

/* Adds up the sums of the `shared` threads of each column; the first of them, l = 0, gets the total. */
static LLVMValueRef add_sharers(Gen *g, LLVMValueRef sum, LLVMValueRef in_block, int64_t columns,
                                int64_t shared) {
    LLVMTypeRef f64 = LLVMTypeOf(sum);
    LLVMValueRef sums = nv_shared(g, THREADS * 8, 8, "sums"), total = gen_alloca(g, f64, "total");
    gen_store(g, sum, gen_at(g, f64, sums, nv_thread(g)));
    nv_barrier(g);
    gen_store(g, LLVMConstNull(f64), total);
    Loop l = gen_loop(g, gen_i64(g, 0), gen_i64(g, shared), 1, "sharer");
    LLVMValueRef part =
        gen_load(g, f64, gen_at(g, f64, sums, gen_add(g, gen_mul(g, l.i, columns), in_block)));
    gen_store(g, LLVMBuildFAdd(g->b, gen_load(g, f64, total), part, ""), total);
    gen_loop_end(g, &l);
    return gen_load(g, f64, total);
}

void nv_gen_sum_rows(Gen *g, const char *name, const SumRowsDesc *d) {
    int64_t shared = sharers(d), columns = THREADS / shared;
    nv_kernel(g, name, 2, THREADS);
    LLVMValueRef in_block = gen_mod(g, nv_thread(g), columns), l = gen_div(g, nv_thread(g), columns);
    LLVMValueRef col = gen_add(g, gen_mul(g, g->tile, columns), in_block);
    LLVMValueRef inside = gen_less(g, col, gen_i64(g, d->cols));
    LLVMValueRef sum = sum_column(g, d, gen_min(g, col, gen_i64(g, d->cols - 1)), l, shared);
    if (shared > 1) sum = add_sharers(g, sum, in_block, columns, shared);
    LLVMValueRef first = LLVMBuildICmp(g->b, LLVMIntEQ, l, gen_i64(g, 0), "");
    If there = gen_if(g, LLVMBuildAnd(g->b, inside, first, ""));
    gen_store(g, LLVMBuildFPTrunc(g->b, sum, g->f32, ""), gen_at(g, g->f32, gen_buffer(g, 1), col));
    gen_if_end(g, &there);
    gen_end(g);
}
