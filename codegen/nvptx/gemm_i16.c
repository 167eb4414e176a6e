/* Products with ternary weights and activations in block-scaled int16 on the tensor cores: exact within a
 * block of up to 128 steps of k (ir/eval_i16.c says what is rounded).
 *
 *     q = 256 hi + lo, hi in -128 .. 127, lo in 0 .. 255      sum q code = 256 sum hi code + sum lo code
 *
 * Both are 8-bit products with 32-bit sums (mma.m16n8k32, s8 and u8 by s8), one after the other into the same
 * sums. A block has two phases with a barrier in front of each:
 *
 *     quantise   16 steps of a row a thread, the largest magnitude of the row's by shuffles; codes to bytes
 *     multiply   C += scale of the row * scale of the column * sum
 *
 * For dX a step is folded before with its weights' scale for the tile's group of columns. What the next block
 * needs, activations, words of codes and these scales, is on its way during the second phase (cp.async).
 *
 * A tile's columns lie within one group for dX, a block's steps within one group forward; where those do not
 * begin with a word of codes, the block begins with the word before. gemm_i16_block.c does what comes before
 * the products. */
#include "gemm_i16.h"
#include "../rows.h"

enum {
    MULTIPROCESSORS = 108, /* of an A100 */
    ROW_PAD = 16           /* bytes */
};

/* Pieces of at most `piece` in n, when each `span` begins a new one. */
static int64_t pieces(int64_t n, int64_t span, int64_t piece) {
    int64_t each = (span + piece - 1) / piece;
    return n / span * each + (n % span + piece - 1) / piece;
}
/* Piece i: begin .. end. */
static void piece_at(Gen *g, LLVMValueRef i, int64_t n, int64_t span, int64_t piece, LLVMValueRef *begin,
                     LLVMValueRef *end) {
    int64_t each = (span + piece - 1) / piece;
    LLVMValueRef first = gen_mul(g, gen_div(g, i, each), span);
    LLVMValueRef last = gen_min(g, gen_add(g, first, gen_i64(g, span)), gen_i64(g, n));
    *begin = gen_add(g, first, gen_mul(g, gen_mod(g, i, each), piece));
    *end = gen_min(g, gen_add(g, *begin, gen_i64(g, piece)), last);
}

static GemmI16 plan_as(const GemmDesc *d, int side) {
    bool nk = d->b == GEMM_B_T2_NK;
    if ((!nk && d->b != GEMM_B_T2_KN) || d->a_cols || d->accumulate)
        ice("int16 product that is not a plain ternary one");
    GemmI16 p = {.d = d, .nk = nk, .layout = ternary_layout(nk ? d->n : d->k, nk ? d->k : d->n, d->group)};
    p.n_span = nk ? d->n : min64(d->group, d->n);
    p.k_span = nk ? min64(d->group, d->k) : d->k;
    bool words = p.k_span % WORD == 0 || p.k_span == d->k;
    p.depth = words ? I16_BLOCK : I16_BLOCK + 32;
    p.ld = p.depth + ROW_PAD;
    p.raw_ld = p.depth / WORD * (WORD + WORD_PAD);
    p.side = side;
    p.mt = p.nt = side / 32;
    return p;
}

static int64_t tiles(const GemmI16 *p) {
    return (p->d->m + p->side - 1) / p->side * pieces(p->d->n, p->n_span, p->side);
}

static int64_t shared_bytes(const GemmI16 *p) {
    return i16_raw_bytes(p) + i16_words_bytes() + 3 * p->side * p->ld + 4 * p->side + 4 * p->depth;
}

/* Large tiles, where there is room for them and one for each multiprocessor. */
static GemmI16 plan(const GemmDesc *d, const Target *t) {
    const GemmI16 large = plan_as(d, 128);
    return tiles(&large) >= MULTIPROCESSORS && shared_bytes(&large) <= t->shared ? large : plan_as(d, 64);
}

NvGrid nv_gemm_i16_grid(const GemmDesc *d, const Target *t) {
    const GemmI16 p = plan(d, t);
    return (NvGrid){(uint32_t)tiles(&p), MMA_THREADS, (uint32_t)shared_bytes(&p)};
}

/* ---- sums */

static LLVMValueRef row_of(const GemmI16 *p, int i, int half) { /* in the tile */
    Gen *g = p->g;
    LLVMValueRef in_warp = gen_add(g, gen_div(g, nv_lane(g), 4), gen_i64(g, 16 * i + 8 * half));
    return gen_add(g, p->row0, in_warp);
}
static LLVMValueRef column_of(const GemmI16 *p, int j, int l) { /* in C */
    Gen *g = p->g;
    LLVMValueRef in_warp = gen_add(g, gen_mul(g, gen_mod(g, nv_lane(g), 4), 2), gen_i64(g, 8 * j + l));
    return gen_add(g, p->j0, gen_add(g, p->col0, in_warp));
}

typedef LLVMValueRef Tile[4];

static void multiply_bytes(Gen *g, bool is_signed, LLVMValueRef sum[4], LLVMValueRef a[4],
                           LLVMValueRef b[2]) {
    LLVMValueRef args[] = {a[0], a[1], a[2], a[3], b[0], b[1], sum[0], sum[1], sum[2], sum[3]};
    const char *name =
        is_signed ? "llvm.nvvm.mma.m16n8k32.row.col.s8" : "llvm.nvvm.mma.m16n8k32.row.col.u8.s8";
    LLVMValueRef four = gen_intrinsic(g, name, NULL, args, 10);
    for (unsigned i = 0; i < 4; i++) sum[i] = LLVMBuildExtractValue(g->b, four, i, "");
}

/* sum += bytes of A times codes, over the block. Fragments are those of 16-bit numbers of half the depth. */
static void multiply_half(const GemmI16 *p, LLVMValueRef bytes, bool is_signed,
                          Tile sum[MAX_TILES][MAX_TILES]) {
    Gen *g = p->g;
    Source a = {.ld = p->ld / 2}, b = {.ld = p->ld / 2};
    a.at = gen_at(g, g->i16, bytes, gen_add(g, gen_mul(g, p->row0, a.ld), mma_lane_offset(g, &a, true)));
    b.at = gen_at(g, g->i16, p->codes, gen_add(g, gen_mul(g, p->col0, b.ld), mma_lane_offset(g, &b, false)));
    for (int step = 0; step < p->depth / 2; step += 16) {
        Tile x[MAX_TILES], y[MAX_TILES / 2];
        for (int i = 0; i < p->mt; i++) mma_load(g, &a, 16 * i, step, x[i]);
        for (int j = 0; j < p->nt; j += 2) mma_load(g, &b, 8 * j, step, y[j / 2]);
        for (int i = 0; i < p->mt; i++)
            for (int j = 0; j < p->nt; j++)
                multiply_bytes(g, is_signed, sum[i][j], x[i], &y[j / 2][j % 2 * 2]);
    }
}

static void multiply(const GemmI16 *p) {
    Gen *g = p->g;
    Tile sum[MAX_TILES][MAX_TILES];
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) sum[i][j][l] = gen_i32(g, 0);
    multiply_half(p, p->hi, true, sum);
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) sum[i][j][l] = LLVMBuildShl(g->b, sum[i][j][l], gen_i32(g, 8), "");
    multiply_half(p, p->lo, false, sum);
    for (int j = 0; j < p->nt; j++)
        for (int l = 0; l < 4; l++) {
            LLVMValueRef of_column = NULL, last = gen_i64(g, p->d->n - 1);
            if (p->nk)
                of_column =
                    i16_scale_at(p, gen_min(g, column_of(p, j, l % 2), last), gen_div(g, p->k0, p->d->group));
            for (int i = 0; i < p->mt; i++) {
                LLVMValueRef scale = gen_load(g, g->f32, gen_at(g, g->f32, p->scales, row_of(p, i, l / 2)));
                if (of_column) scale = LLVMBuildFMul(g->b, scale, of_column, "");
                LLVMValueRef x = LLVMBuildSIToFP(g->b, sum[i][j][l], g->f32, ""), at = p->sum[i][j][l];
                gen_store(g, gen_fma(g, x, scale, gen_load(g, g->f32, at)), at);
            }
        }
}

static void write(const GemmI16 *p) {
    Gen *g = p->g;
    int n = p->d->n % 2 == 0 && p->n_span % 2 == 0
                ? 2
                : 1; /* columns of a tile begin at an even one, or may not */
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l += n) {
                LLVMValueRef two[2], column = column_of(p, j, l % 2);
                for (int x = 0; x < n; x++) two[x] = gen_load(g, g->f32, p->sum[i][j][l + x]);
                If inside = gen_if(g, gen_less(g, column, p->j1));
                nv_gemm_write(g, p->d, gen_add(g, p->i0, row_of(p, i, l / 2)), column, two, n);
                gen_if_end(g, &inside);
            }
}

/* ---- the kernel */

static void begin(GemmI16 *p) {
    Gen *g = p->g;
    int64_t down = (p->d->m + p->side - 1) / p->side, tile = (int64_t)p->side * p->ld;
    p->i0 = gen_mul(g, gen_mod(g, g->tile, down), p->side);
    piece_at(g, gen_div(g, g->tile, down), p->d->n, p->n_span, p->side, &p->j0, &p->j1);
    p->row0 = gen_mul(g, gen_div(g, nv_warp(g), 4), 16 * p->mt);
    p->col0 = gen_mul(g, gen_mod(g, nv_warp(g), 4), 8 * p->nt);
    p->raw = nv_dynamic_shared(g);
    p->words = gen_at(g, g->i8, p->raw, gen_i64(g, i16_raw_bytes(p)));
    p->hi = gen_at(g, g->i8, p->words, gen_i64(g, i16_words_bytes()));
    p->lo = gen_at(g, g->i8, p->hi, gen_i64(g, tile));
    p->codes = gen_at(g, g->i8, p->lo, gen_i64(g, tile));
    p->scales = gen_at(g, g->i8, p->codes, gen_i64(g, tile));
    p->fold = gen_at(g, g->f32, p->scales, gen_i64(g, p->side));
    p->next_fold = gen_alloca(g, g->f32, "fold");
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) {
                p->sum[i][j][l] = gen_alloca(g, g->f32, "sum");
                gen_store(g, gen_f32(g, 0), p->sum[i][j][l]);
            }
}

/* Makes it the block at work. */
static void place(GemmI16 *p, LLVMValueRef block) {
    piece_at(p->g, block, p->d->k, p->k_span, I16_BLOCK, &p->k0, &p->k1);
    p->base = gen_mul(p->g, gen_div(p->g, p->k0, WORD), WORD);
}

/* Starts to bring a block's operands in. */
static void fetch(const GemmI16 *p, LLVMValueRef block) {
    GemmI16 next = *p;
    place(&next, block);
    i16_fetch(&next);
}

void nv_gen_gemm_i16(Gen *g, const char *name, const GemmDesc *d) {
    GemmI16 p = plan(d, g->target);
    p.g = g;
    nv_kernel(g, name, 3, MMA_THREADS);
    nv_noalias(g);
    nv_min_blocks(g, p.side == 128 ? 1 : 2);
    begin(&p);
    int64_t blocks = pieces(d->k, p.k_span, I16_BLOCK);
    fetch(&p, gen_i64(g, 0));
    if (!p.nk) i16_store_fold(&p);
    Loop block = gen_loop(g, gen_i64(g, 0), gen_i64(g, blocks), 1, "block");
    LLVMValueRef next = gen_add(g, block.i, gen_i64(g, 1)), more = gen_less(g, next, gen_i64(g, blocks));
    place(&p, block.i);
    nv_copies_wait(g, 0);
    nv_barrier(g); /* the block is there, and nobody reads the bytes of the last one any more */
    i16_quantise(&p);
    i16_decode(&p);
    nv_barrier(g);
    If copy = gen_if(g, more);
    fetch(&p, next);
    gen_if_end(g, &copy);
    multiply(&p);
    If store = gen_if(g, more);
    if (!p.nk) i16_store_fold(&p);
    gen_if_end(g, &store);
    gen_loop_end(g, &block);
    write(&p);
    gen_end(g);
}
