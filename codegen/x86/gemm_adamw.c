/* The gradient of a weight with the AdamW update, and the projection of the new weight, as its epilogue.
 *
 * A tile builds its block of the gradient in scratch, as gemm.c does. Rows of it that are complete update w,
 * m and v and leave new codes: each is read and written once, and the gradient is read out of the cache.
 * Blocks are cut between groups, so that a tile has all the weights of each of its scales. */
#include "gemm.h"
#include "../rows.h"

static int64_t common_divisor(int64_t a, int64_t b) {
    return b ? common_divisor(b, a % b) : a;
}

/* Columns at which blocks may end: those of whole panels, words of codes (nr is a multiple) and groups. */
static int64_t column_unit(const GemmAdamwDesc *d, const Target *t) {
    int64_t row = gemm_part(d->n, 1, t->nr);
    if (!d->group) return t->nr;
    if (d->group >= d->n) return row;
    int64_t unit = d->group / common_divisor(d->group, t->nr) * t->nr;
    return unit < row ? unit : row;
}

static GemmPlan plan(const GemmAdamwDesc *d, const Target *t) {
    GemmDesc product = gemm_adamw_product(d);
    return gemm_plan(&product, t, d->bf16 ? panels_in_bf16(t) : PANELS_F32, column_unit(d, t));
}

static int64_t block_bytes(const GemmPlan *p) {
    return gemm_ceil_div(p->cut.rows * p->cut.cols * 4, 64) * 64;
}

uint32_t gemm_adamw_tiles(const GemmAdamwDesc *d, const Target *t) {
    GemmPlan p = plan(d, t);
    return (uint32_t)(p.cut.row_tiles * p.cut.col_tiles);
}

uint64_t gemm_adamw_scratch(const GemmAdamwDesc *d, const Target *t) {
    GemmPlan p = plan(d, t);
    return (uint64_t)(block_bytes(&p) + gemm_packed_bytes(&p));
}

typedef struct Epilogue {
    const GemmAdamwDesc *d;
    Blocking cut;
    AdamwUpdate update;
    LLVMValueRef w, m, v, codes; /* whole matrices */
    LLVMValueRef block;          /* of the gradient; cut.cols a row */
} Epilogue;

/* Projects the tile's columns of one row of w. The last tile's may be fewer than the others'. */
static void project_row(Gen *g, const Epilogue *e, const GemmTile *t, LLVMValueRef row, LLVMValueRef w) {
    const GemmAdamwDesc *d = e->d;
    TernaryLayout layout = ternary_layout(d->m, d->n, d->group);
    int64_t last = d->n - (e->cut.col_tiles - 1) * e->cut.cols;
    LLVMValueRef codes = gen_at(g, g->i8, ternary_codes(g, e->codes, row, &layout), gen_div(g, t->j0, 4));
    LLVMValueRef scales =
        gen_at(g, g->f16, ternary_scales(g, e->codes, row, &layout), gen_div(g, t->j0, d->group));
    LLVMValueRef args[] = {w, codes, scales};
    if (last == e->cut.cols) {
        gen_call(g, gen_project_part(g, last, d->n, d->group), args, 3);
        return;
    }
    If whole = gen_if(g, LLVMBuildICmp(g->b, LLVMIntEQ, t->n, gen_i64(g, e->cut.cols), ""));
    gen_call(g, gen_project_part(g, e->cut.cols, d->n, d->group), args, 3);
    gen_else(g, &whole);
    gen_call(g, gen_project_part(g, last, d->n, d->group), args, 3);
    gen_if_end(g, &whole);
}

static void update_rows(Gen *g, void *context, const GemmTile *t, LLVMValueRef first, LLVMValueRef end) {
    const Epilogue *e = context;
    Loop row = gen_loop(g, first, end, 1, "row");
    LLVMValueRef in_block = gen_mul(g, gen_sub(g, row.i, t->i0), e->cut.cols);
    AdamwUpdate u = e->update;
    LLVMTypeRef moment = u.desc.bf16 ? g->i16 : g->f32;
    u.index = gen_add(g, gen_mul(g, row.i, e->d->n), t->j0);
    u.w = gen_at(g, g->f32, e->w, u.index);
    u.m = gen_at(g, moment, e->m, u.index);
    u.v = gen_at(g, moment, e->v, u.index);
    u.grad = gen_at(g, g->f32, e->block, in_block);
    u.next = e->d->n;
    gen_adamw_elements(g, &u, gen_i64(g, 0), t->n);
    if (e->d->group) project_row(g, e, t, row.i, u.w);
    gen_loop_end(g, &row);
}

void gen_gemm_adamw(Gen *g, const char *name, const GemmAdamwDesc *d) {
    GemmDesc product = gemm_adamw_product(d);
    GemmPlan p = plan(d, g->target);
    Epilogue e = {.d = d, .cut = p.cut};
    gen_kernel(g, name);
    e.block = g->scratch;
    e.w = gen_buffer(g, 2), e.m = gen_buffer(g, 3), e.v = gen_buffer(g, 4);
    e.update.desc = (AdamwDesc){.beta1 = d->beta1, .beta2 = d->beta2, .eps = d->eps, .bf16 = d->moments_bf16};
    gen_adamw_hyper(g, gen_buffer(g, 5), e.update.hyper);
    if (d->group) e.codes = gen_buffer(g, 6);
    if (d->moments_bf16) e.update.key = adamw_key(g, gen_buffer(g, d->group ? 7 : 6));
    LLVMValueRef packed = gen_at(g, g->i8, g->scratch, gen_i64(g, block_bytes(&p)));
    GemmTile tile = gemm_tile(g, &product, &p.cut);
    gemm_product(g, &product, &p, &tile, packed, e.block, p.cut.cols, update_rows, &e);
    gen_end(g);
}
