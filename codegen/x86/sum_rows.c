/* The sum over all rows of a matrix, in row order. Sums are kept in f64, so that many rows do no harm. */
#include "../rows.h"

typedef struct SumRows {
    const SumRowsDesc *desc;
    LLVMValueRef x, out;
} SumRows;

static void sum_lanes(Gen *g, void *context, const Lanes *at, int count) {
    const SumRows *s = context;
    LLVMTypeRef type = gen_vec(g, LLVMDoubleTypeInContext(g->ctx), g->target->vl);
    LLVMValueRef sums[4];
    for (int u = 0; u < count; u++) {
        sums[u] = gen_alloca(g, type, "sum");
        gen_store(g, LLVMConstNull(type), sums[u]);
    }
    Loop row = gen_loop(g, gen_i64(g, 0), gen_i64(g, s->desc->rows), 1, "row");
    LLVMValueRef base = gen_at(g, g->f32, s->x, gen_mul(g, row.i, s->desc->cols));
    for (int u = 0; u < count; u++) {
        LLVMValueRef x = LLVMBuildFPExt(g->b, lanes_load(g, base, &at[u]), type, "");
        gen_store(g, LLVMBuildFAdd(g->b, gen_load(g, type, sums[u]), x, ""), sums[u]);
    }
    gen_loop_end(g, &row);
    for (int u = 0; u < count; u++) {
        LLVMTypeRef narrow = gen_vec(g, g->f32, g->target->vl);
        lanes_store(g, LLVMBuildFPTrunc(g->b, gen_load(g, type, sums[u]), narrow, ""), s->out, &at[u]);
    }
}

/* Tiles are blocks of columns, whole cache lines of 16. */
static Tiling column_tiling(const SumRowsDesc *d) {
    int64_t least = 16384 / d->rows;
    return tiling_of(d->cols, least < 64 ? 64 : least, 16);
}

void gen_sum_rows(Gen *g, const char *name, const SumRowsDesc *d) {
    Tiling tiling = column_tiling(d);
    gen_kernel(g, name);
    SumRows s = {.desc = d, .x = gen_buffer(g, 0), .out = gen_buffer(g, 1)};
    LLVMValueRef lo, n;
    gen_piece(g, &tiling, &lo, &n);
    gen_lanes(g, lo, n, 4, sum_lanes, &s);
    gen_end(g);
}

uint32_t sum_rows_tiles(const SumRowsDesc *d, const Target *target) {
    (void)target;
    return column_tiling(d).tiles;
}

uint64_t sum_rows_scratch(const SumRowsDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}
