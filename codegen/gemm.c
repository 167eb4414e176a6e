/* Matrix products, after BLIS. A tile owns a block of C and runs over all of k:
 *
 *     for each kc steps of k:                      B block [kc, cols] packed (decoded, where ternary)
 *         for each mc rows of the block of C:      A block [mc, kc] packed, half of the L2 cache
 *             product of the panels into C         (microkernel.c)
 *
 * The order in which a sum is added up depends on the sizes and the target only. */
#include "gemm.h"

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
int64_t gemm_ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
int64_t gemm_part(int64_t n, int64_t parts, int64_t unit) {
    return gemm_ceil_div(gemm_ceil_div(n, parts), unit) * unit;
}

enum { MAX_ROWS = 1024, MAX_COLS = 1024 }; /* of C in a tile: bounds scratch */

/* Halves the block of a tile, its longer side first, until there are `tiles` of them or it is down to
 * min_rows x min_cols. */
static void split(const GemmDesc *d, Blocking *b, int64_t tiles, int64_t min_rows, int64_t min_cols) {
    while (b->row_tiles * b->col_tiles < tiles) {
        int64_t rows = d->m / b->row_tiles, cols = d->n / b->col_tiles;
        bool can_rows = rows >= 2 * min_rows, can_cols = cols >= 2 * min_cols;
        if (can_rows && (rows >= cols || !can_cols))
            b->row_tiles *= 2;
        else if (can_cols)
            b->col_tiles *= 2;
        else
            break;
    }
}

Blocking gemm_cut(const GemmDesc *d, const Target *t, int64_t unit) {
    Blocking b = {.row_tiles = gemm_ceil_div(d->m, MAX_ROWS), .col_tiles = gemm_ceil_div(d->n, MAX_COLS)};
    split(d, &b, 64, 192, 384);        /* packing costs a few per cent of the product */
    split(d, &b, 16, 96, 192);         /* more, but 16 cores share even a small product */
    split(d, &b, 16, d->m, 4 * t->nr); /* a few rows (decoding): packing B is all, and is shared by columns */
    b.rows = gemm_part(d->m, b.row_tiles, t->mr);
    b.cols = gemm_part(d->n, b.col_tiles, unit);
    b.row_tiles = gemm_ceil_div(d->m, b.rows);
    b.col_tiles = gemm_ceil_div(d->n, b.cols);
    return b;
}

/* kc is a multiple of 16 (a word of ternary codes), mc of mr. */
static Blocking blocking(const GemmDesc *d, const Target *t) {
    Blocking b = gemm_cut(d, t, t->nr);
    int64_t kc = min64(max64(t->l1 / 2 / (4 * t->nr), 256), 384); /* a panel of B: half of L1 */
    b.kc = gemm_part(d->k, gemm_ceil_div(d->k, kc), 16);
    int64_t mc = max64(t->l2 / 2 / (4 * b.kc), t->mr);
    b.mc = gemm_part(b.rows, gemm_ceil_div(b.rows, mc), t->mr);
    return b;
}

static int64_t packed_a_bytes(const Blocking *b) {
    return gemm_ceil_div(b->mc * b->kc * 4, 64) * 64;
}

uint32_t gemm_tiles(const GemmDesc *d, const Target *t) {
    Blocking b = blocking(d, t);
    return (uint32_t)(b.row_tiles * b.col_tiles);
}

uint64_t gemm_scratch(const GemmDesc *d, const Target *t) {
    Blocking b = blocking(d, t);
    return (uint64_t)(packed_a_bytes(&b) + b.kc * b.cols * 4);
}

LLVMValueRef gemm_element(Gen *g, LLVMValueRef base, LLVMValueRef row, LLVMValueRef col, int64_t ld) {
    return gen_at(g, g->f32, base, gen_add(g, gen_mul(g, row, ld), col));
}

/* Packs k steps from k0 on of rows i0.. (A) or columns j0.. (B), n of them. */
static void pack_a(Gen *g, const GemmDesc *d, LLVMValueRef i0, LLVMValueRef n, LLVMValueRef k0,
                   LLVMValueRef k, LLVMValueRef dst, int64_t depth) {
    int64_t ld = d->a_cols ? d->m : d->k;
    LLVMValueRef a = gen_buffer(g, 0),
                 src = d->a_cols ? gemm_element(g, a, k0, i0, ld) : gemm_element(g, a, i0, k0, ld);
    LLVMValueRef args[] = {n, k, src, gen_i64(g, ld), dst, gen_i64(g, depth)};
    gen_call(g, gen_pack(g, g->target->mr, !d->a_cols), args, 6);
}

static void pack_b(Gen *g, const GemmDesc *d, LLVMValueRef j0, LLVMValueRef n, LLVMValueRef k0,
                   LLVMValueRef k, LLVMValueRef dst, int64_t depth) {
    bool nk = d->b == GEMM_B_NK || d->b == GEMM_B_T2_NK;
    LLVMValueRef b = gen_buffer(g, 1);
    if (d->b == GEMM_B_T2_NK || d->b == GEMM_B_T2_KN) {
        LLVMValueRef fn = gen_pack_ternary(g, nk ? d->n : d->k, nk ? d->k : d->n, d->group, nk);
        gen_call(g, fn, (LLVMValueRef[]){j0, n, k0, k, b, dst, gen_i64(g, depth)}, 7);
        return;
    }
    int64_t ld = nk ? d->k : d->n;
    LLVMValueRef src = nk ? gemm_element(g, b, j0, k0, ld) : gemm_element(g, b, k0, j0, ld);
    LLVMValueRef args[] = {n, k, src, gen_i64(g, ld), dst, gen_i64(g, depth)};
    gen_call(g, gen_pack(g, g->target->nr, nk), args, 6);
}

void gen_gemm(Gen *g, const char *name, const GemmDesc *d) {
    Blocking b = blocking(d, g->target);
    gen_kernel(g, name);
    LLVMValueRef packed_a = g->scratch,
                 packed_b = gen_at(g, g->i8, g->scratch, gen_i64(g, packed_a_bytes(&b)));
    LLVMValueRef i0 = gen_mul(g, gen_mod(g, g->tile, b.row_tiles), b.rows);
    LLVMValueRef j0 = gen_mul(g, gen_div(g, g->tile, b.row_tiles), b.cols);
    LLVMValueRef i1 = gen_min(g, gen_add(g, i0, gen_i64(g, b.rows)), gen_i64(g, d->m));
    LLVMValueRef n = gen_min(g, gen_sub(g, gen_i64(g, d->n), j0), gen_i64(g, b.cols));

    Loop k0 = gen_loop(g, gen_i64(g, 0), gen_i64(g, d->k), b.kc, "kc");
    LLVMValueRef k = gen_min(g, gen_sub(g, gen_i64(g, d->k), k0.i), gen_i64(g, b.kc));
    pack_b(g, d, j0, n, k0.i, k, packed_b, b.kc);
    LLVMValueRef add =
        d->accumulate ? LLVMConstAllOnes(g->i1) : LLVMBuildICmp(g->b, LLVMIntSGT, k0.i, gen_i64(g, 0), "");
    Loop i = gen_loop(g, i0, i1, b.mc, "mc");
    LLVMValueRef m = gen_min(g, gen_sub(g, i1, i.i), gen_i64(g, b.mc));
    pack_a(g, d, i.i, m, k0.i, k, packed_a, b.kc);
    LLVMValueRef c = gemm_element(g, gen_buffer(g, 2), i.i, j0, d->n), depth = gen_i64(g, b.kc);
    LLVMValueRef args[] = {
        m, n, k, packed_a, depth, packed_b, depth, c, gen_i64(g, d->n), add, gen_i64(g, 0)};
    gen_call(g, gen_product(g, BAND_NONE, &(Panels){.type = PANELS_F32}), args, 11);
    gen_loop_end(g, &i);
    gen_loop_end(g, &k0);
    gen_end(g);
}
