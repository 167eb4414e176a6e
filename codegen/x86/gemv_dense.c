/* Products of one row x[k] with a matrix of f32 w[n,k], as in decoding with full-precision weights: a pass
 * over w. */
#include "../rows.h"

enum { SUMS = 4 };

typedef struct Dot {
    LLVMValueRef x, w, sum[SUMS]; /* w: a row; sums in lanes */
} Dot;

static void add_products(Gen *g, void *context, const Lanes *at, int count) {
    const Dot *dot = context;
    LLVMTypeRef type = gen_vec(g, g->f32, g->target->vl);
    for (int u = 0; u < count; u++) {
        LLVMValueRef sum = gen_load(g, type, dot->sum[u]);
        sum = gen_fma(g, lanes_load(g, dot->w, &at[u]), lanes_load(g, dot->x, &at[u]), sum);
        gen_store(g, sum, dot->sum[u]);
    }
}

void gemv_dense(Gen *g, const GemvDesc *d, const Tiling *tiling) {
    LLVMTypeRef type = gen_vec(g, g->f32, g->target->vl);
    Dot dot = {.x = gen_buffer(g, 0)};
    LLVMValueRef w = gen_buffer(g, 1), y = gen_buffer(g, 2), lo, n;
    for (int u = 0; u < SUMS; u++) dot.sum[u] = gen_alloca(g, type, "sum");
    gen_piece(g, tiling, &lo, &n);
    Loop row = gen_loop(g, lo, gen_add(g, lo, n), 1, "row");
    dot.w = gen_at(g, g->f32, w, gen_mul(g, row.i, d->k));
    for (int u = 0; u < SUMS; u++) gen_store(g, LLVMConstNull(type), dot.sum[u]);
    gen_lanes(g, gen_i64(g, 0), gen_i64(g, d->k), SUMS, add_products, &dot);
    LLVMValueRef all = LLVMConstNull(type);
    for (int u = 0; u < SUMS; u++) all = LLVMBuildFAdd(g->b, all, gen_load(g, type, dot.sum[u]), "");
    gen_store(g, gen_reduce_add(g, all), gen_at(g, g->f32, y, row.i));
    gen_loop_end(g, &row);
}
