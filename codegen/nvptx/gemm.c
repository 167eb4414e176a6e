/* Matrix products in f32 on the FMA units: exact in what they multiply, one
 * chain of sums over all of k.
 *
 *      rows x cols   threads    numbers a thread
 *        128 x 128     256        8 x 8             where that makes a wave of blocks on a large GPU
 *         64 x  64     256        4 x 4             otherwise
 *         64 x 128     256        4 x 8             where 64 columns are less than must stay together
 *
 * A block makes one tile of C (tile.h); packed codes are decoded and scaled on
 * their way to shared memory. Blocks are numbered so that those that run at the
 * same time share rows of A and columns of B:
 *
 *         columns ->       8 rows of tiles, column by column,
 *      rows 0 8 16  ..     then the next 8 rows
 *       |   1 9 17  ..
 *       v   .. */
#include "gemm.h"

enum { WAVE = 108 /* multiprocessors of an A100, the smallest of the large */ };

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

int64_t nv_gemm_blocks(const GemmDesc *d, int rows, int cols) {
    return ceil_div(d->m, rows) * ceil_div(d->n, cols);
}

void nv_gemm_place(Gen *g, const GemmDesc *d, int rows, int cols, LLVMValueRef *i0, LLVMValueRef *j0) {
    int64_t down = ceil_div(d->m, rows), across = ceil_div(d->n, cols);
    LLVMValueRef band = gen_div(g, g->tile, 8 * across), in_band = gen_mod(g, g->tile, 8 * across);
    LLVMValueRef first = gen_mul(g, band, 8);
    LLVMValueRef high = gen_min(g, gen_sub(g, gen_i64(g, down), first), gen_i64(g, 8));
    LLVMValueRef i = gen_add(g, first, LLVMBuildURem(g->b, in_band, high, ""));
    *i0 = gen_mul(g, i, rows);
    *j0 = gen_mul(g, LLVMBuildUDiv(g->b, in_band, high, ""), cols);
}

static int tile_rows(const GemmDesc *d) {
    return nv_gemm_blocks(d, 128, 128) >= WAVE ? 128 : 64;
}
static int tile_cols(const GemmDesc *d, int64_t unit) {
    return unit > 64 && d->n > 64 ? 128 : tile_rows(d);
}

NvGrid nv_gemm_tile_grid(const GemmDesc *d, int64_t unit) {
    return (NvGrid){(uint32_t)nv_gemm_blocks(d, tile_rows(d), tile_cols(d, unit)), TILE_THREADS, 0};
}

NvGrid nv_gemm_grid(const GemmDesc *d, const Target *t) {
    (void)t;
    return nv_gemm_tile_grid(d, ANY_UNIT);
}

static Operand operand_a(Gen *g, const GemmDesc *d, LLVMValueRef i0) {
    return (Operand){.storage = d->a_cols ? STORED_STEPS : STORED_ROWS,
                     .half = d->a_bf16,
                     .base = gen_buffer(g, 0),
                     .rows = d->m,
                     .depth = d->k,
                     .ld = d->a_cols ? d->m : d->k,
                     .first = i0,
                     .width = tile_rows(d)};
}

static Operand operand_b(Gen *g, const GemmDesc *d, LLVMValueRef j0, int width) {
    static const Storage storage[] = {[GEMM_B_KN] = STORED_STEPS,
                                      [GEMM_B_NK] = STORED_ROWS,
                                      [GEMM_B_T2_KN] = STORED_CODE_STEPS,
                                      [GEMM_B_T2_NK] = STORED_CODE_ROWS,
                                      [GEMM_B_BF16_KN] = STORED_STEPS};
    return (Operand){.storage = storage[d->b],
                     .half = d->b == GEMM_B_BF16_KN,
                     .base = gen_buffer(g, 1),
                     .rows = d->n,
                     .depth = d->k,
                     .ld = d->b == GEMM_B_NK ? d->k : d->n,
                     .group = d->group,
                     .first = j0,
                     .width = width};
}

/* c = or += n sums, next to each other. */
void nv_gemm_write(Gen *g, const GemmDesc *d, LLVMValueRef row, LLVMValueRef col, LLVMValueRef *sum, int n) {
    if (d->n % n) { /* columns are not aligned */
        for (int i = 0; i < n; i++) nv_gemm_write(g, d, row, gen_add(g, col, gen_i64(g, i)), sum + i, 1);
        return;
    }
    LLVMValueRef in_rows = gen_less(g, row, gen_i64(g, d->m));
    LLVMValueRef in_cols = gen_less(g, col, gen_i64(g, d->n));
    If inside = gen_if(g, LLVMBuildAnd(g->b, in_rows, in_cols, ""));
    LLVMValueRef at = gen_at(g, g->f32, gen_buffer(g, 2), gen_add(g, gen_mul(g, row, d->n), col));
    LLVMValueRef v = tile_vector(g, sum, n);
    if (d->accumulate) v = LLVMBuildFAdd(g->b, tile_load(g, at, n), v, "");
    tile_store(g, v, at, n);
    gen_if_end(g, &inside);
}

typedef struct Place {
    TilePlace thread;
    Sums sums;
} Place;

static void each_sum(Gen *g, const NvTile *t, NvTilePut *put, void *context) {
    const Place *p = t->sums;
    const Sums *s = &p->sums;
    for (int i = 0; i < s->tm; i++)
        for (int j = 0; j < s->tn; j += 4) {
            LLVMValueRef row = gen_add(g, t->i0, tile_at(g, p->thread.ty, i)),
                         col = gen_add(g, t->j0, tile_at(g, p->thread.tx, j));
            LLVMValueRef sum[4];
            for (int l = 0; l < 4; l++) sum[l] = gen_load(g, g->f32, s->at[i][j + l]);
            put(g, context, row, col, sum, 4);
        }
}

void nv_gemm_tile(Gen *g, const GemmDesc *d, int64_t unit, bool rounded, NvTileEnd *end, void *context) {
    Place p = {.thread = tile_place(g)};
    NvTile t = {.rows = tile_rows(d),
                .cols = tile_cols(d, unit),
                .threads = TILE_THREADS,
                .each = each_sum,
                .sums = &p};
    t.shared_bytes = 4 * tile_stages(t.rows, t.cols);
    t.shared = nv_shared(g, t.shared_bytes, 16, "stages");
    nv_gemm_place(g, d, t.rows, t.cols, &t.i0, &t.j0);
    Operand a = operand_a(g, d, t.i0), b = operand_b(g, d, t.j0, t.cols);
    a.rounded = b.rounded = rounded;
    operand_begin(g, &a);
    operand_begin(g, &b);
    sums_begin(g, &p.sums, t.rows / 16, t.cols / 16);
    sums_clear(g, &p.sums);
    tile_product(g, &p.thread, &p.sums, &a, &b, gen_i64(g, 0), gen_i64(g, d->k), t.shared);
    end(g, context, &t);
}

static void put_in_c(Gen *g, void *context, LLVMValueRef row, LLVMValueRef col, LLVMValueRef *sum, int n) {
    nv_gemm_write(g, context, row, col, sum, n);
}

void nv_gemm_write_tile(Gen *g, void *context, const NvTile *t) {
    t->each(g, t, put_in_c, context);
}

static void generate(Gen *g, const char *name, const GemmDesc *d, bool rounded) {
    nv_kernel(g, name, 3, TILE_THREADS);
    nv_noalias(g);
    nv_gemm_tile(g, d, ANY_UNIT, rounded, nv_gemm_write_tile, (void *)d);
    gen_end(g);
}

void nv_gen_gemm(Gen *g, const char *name, const GemmDesc *d) {
    generate(g, name, d, false);
}

void nv_gemm_rounded(Gen *g, const char *name, const GemmDesc *d) {
    generate(g, name, d, true);
}
