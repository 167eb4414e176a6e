/* The gradient of a weight with the AdamW update, and the projection of the new weight, as its epilogue; the
 * same bits as the product, the update and the projection one after the other.
 *
 * A block's tile of the gradient goes from registers to the shared memory that the product has done with, as
 * many rows at a time as it holds. There a warp takes a row of them:
 *
 *     gradient (shared), w, m, v   ->   w', m', v' (global), w' in place of the gradient (shared)
 *     w' (shared)                  ->   scales and codes
 *
 * Groups lie within a tile: fuse-update leaves others alone. */
#include "adamw.h"
#include "gemm.h"
#include "ternary.h"

enum { PAD = 4 /* floats: fewer bank conflicts */ };

typedef struct Epilogue {
    const GemmAdamwDesc *d;
    const NvTile *tile;
    AdamwUpdate update;
    LLVMValueRef codes; /* NULL: none */
    LLVMValueRef first; /* of the rows of the tile that are in shared memory now */
    int rows;           /* so many */
} Epilogue;

static int64_t unit_of(const GemmAdamwDesc *d) {
    return d->group ? d->group : ANY_UNIT;
}

/* The gradient at a row and column of those in shared memory. */
static LLVMValueRef gradient_at(Gen *g, const Epilogue *e, LLVMValueRef row, LLVMValueRef col) {
    LLVMValueRef at = gen_add(g, gen_mul(g, row, e->tile->cols + PAD), col);
    return gen_at(g, g->f32, e->tile->shared, at);
}

static void put_gradient(Gen *g, void *context, LLVMValueRef row, LLVMValueRef col, LLVMValueRef *sum,
                         int n) {
    const Epilogue *e = context;
    row = gen_sub(g, gen_sub(g, row, e->tile->i0), e->first);
    LLVMValueRef not_before = LLVMBuildICmp(g->b, LLVMIntSGE, row, gen_i64(g, 0), "");
    If here = gen_if(g, LLVMBuildAnd(g->b, not_before, gen_less(g, row, gen_i64(g, e->rows)), ""));
    tile_store(g, tile_vector(g, sum, n), gradient_at(g, e, row, gen_sub(g, col, e->tile->j0)), n);
    gen_if_end(g, &here);
}

/* Updates `width` weights from column j0 + col on in a row of w, whose gradient is `grad`. */
static void update_weights(Gen *g, const Epilogue *e, LLVMValueRef row, LLVMValueRef col, LLVMValueRef grad,
                           int width) {
    LLVMValueRef at = gen_add(g, gen_mul(g, row, e->d->n), gen_add(g, e->tile->j0, col));
    LLVMValueRef w = nv_adamw_elements(g, &e->update, tile_load(g, grad, width), at, width);
    if (e->codes) tile_store(g, w, grad, width);
}

/* A warp's work on a row of w, which is row `in_shared` of those in shared memory. */
static void update_row(Gen *g, const Epilogue *e, LLVMValueRef row, LLVMValueRef in_shared) {
    const GemmAdamwDesc *d = e->d;
    int width = d->n % 4 ? 1 : 4;
    LLVMValueRef rest = gen_sub(g, gen_i64(g, d->n), e->tile->j0);
    LLVMValueRef end = gen_min(g, rest, gen_i64(g, e->tile->cols));
    Loop part = gen_loop(g, gen_mul(g, nv_lane(g), width), end, NV_WARP * width, "part");
    update_weights(g, e, row, part.i, gradient_at(g, e, in_shared, part.i), width);
    gen_loop_end(g, &part);
    if (!e->codes) return;
    nv_warp_barrier(g);
    TernaryRow r = nv_ternary_row(g, &(TernaryDesc){d->m, d->n, d->group}, row, e->codes);
    Loop group = gen_loop(g, gen_i64(g, 0), end, d->group, "group");
    LLVMValueRef index = gen_div(g, gen_add(g, e->tile->j0, group.i), d->group);
    nv_project_group(&r, gradient_at(g, e, in_shared, group.i), index);
    gen_loop_end(g, &group);
}

static void update_tile(Gen *g, void *context, const NvTile *tile) {
    Epilogue *e = context;
    int64_t row_bytes = 4 * (tile->cols + PAD);
    e->tile = tile;
    for (e->rows = tile->rows; e->rows * row_bytes > tile->shared_bytes;) e->rows /= 2;
    Loop part = gen_loop(g, gen_i64(g, 0), gen_i64(g, tile->rows), e->rows, "rows");
    e->first = part.i;
    nv_barrier(g); /* nobody reads what was there any more */
    tile->each(g, tile, put_gradient, e);
    nv_barrier(g);
    LLVMValueRef row0 = gen_add(g, tile->i0, part.i), rest = gen_sub(g, gen_i64(g, e->d->m), row0);
    Loop row = gen_loop(g, nv_warp(g), gen_min(g, rest, gen_i64(g, e->rows)), tile->threads / NV_WARP, "row");
    update_row(g, e, gen_add(g, row0, row.i), row.i);
    gen_loop_end(g, &row);
    gen_loop_end(g, &part);
}

NvGrid nv_gemm_adamw_grid(const GemmAdamwDesc *d, const Target *t) {
    GemmDesc product = gemm_adamw_product(d);
    return d->bf16 ? nv_gemm_bf16_tile_grid(&product, unit_of(d), t)
                   : nv_gemm_tile_grid(&product, unit_of(d));
}

void nv_gen_gemm_adamw(Gen *g, const char *name, const GemmAdamwDesc *d) {
    GemmDesc product = gemm_adamw_product(d);
    int buffers = d->group ? 7 : 6;
    nv_kernel(g, name, buffers + d->moments_bf16, nv_gemm_adamw_grid(d, g->target).threads);
    nv_min_blocks(g, 1); /* or ptxas may spill a little to make room for more */
    nv_noalias(g);
    Epilogue e = {.d = d, .codes = d->group ? gen_buffer(g, 6) : NULL};
    AdamwUpdate *u = &e.update;
    u->desc = (AdamwDesc){.beta1 = d->beta1, .beta2 = d->beta2, .eps = d->eps, .bf16 = d->moments_bf16};
    u->w = gen_buffer(g, 2), u->m = gen_buffer(g, 3), u->v = gen_buffer(g, 4);
    gen_adamw_hyper(g, gen_buffer(g, 5), u->hyper);
    if (d->moments_bf16) u->key = adamw_key(g, gen_buffer(g, buffers));
    if (d->bf16)
        nv_gemm_bf16_tile(g, &product, unit_of(d), update_tile, &e);
    else
        nv_gemm_tile(g, &product, unit_of(d), false, update_tile, &e);
    gen_end(g);
}
