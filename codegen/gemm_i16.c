/* Ternary products in block-scaled int16 (tmatmul with precision "i16"): activations are quantised per row
 * and block of k while they are packed, codes are -1, 0 and 1 in int16, sums are exact within a block.
 *
 *     B stored [n,k] (forward)   blocks lie within groups; a weight's scale is that of its column and block
 *     B stored [k,n] (dX)        scales vary along k, but for the columns of one group they can be drawn
 *                                into A: sum (a[k] s[k]) code[k,n]. So C is made in spans of columns of a
 *                                group, each with its own quantised A.
 *
 * Otherwise the loops are those of gemm.c. */
#include "gemm.h"

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* A product's blocking, and how scales cut it up. */
typedef struct Plan {
    Blocking cut;
    PairBlock block;
    int64_t k_span; /* of this many steps blocks begin anew */
    int64_t n_span; /* of this many columns A is quantised anew */
    bool nk;
    int64_t blocks, panels;       /* of k in a packed block of A or B; of columns in a packed B */
    int64_t b_at, fold_at, bytes; /* scratch: packed A, packed B, fold */
} Plan;

static int64_t fold_steps(const Plan *p) {
    return p->cut.kc + 2 * p->block.pairs - p->block.steps;
}

static int64_t aligned(int64_t bytes) {
    return gemm_ceil_div(bytes, 64) * 64;
}

/* Words of packed panels by their width. */
static int64_t depth(const Plan *p) {
    return p->blocks * (p->block.pairs + 1);
}

static Plan plan(const GemmDesc *d, const Target *t) {
    bool nk = d->b == GEMM_B_T2_NK;
    if ((!nk && d->b != GEMM_B_T2_KN) || d->a_cols || d->accumulate)
        ice("int16 product that is not a plain ternary one");
    Plan p = {.nk = nk, .k_span = d->k, .n_span = nk ? d->n : min64(d->group, d->n)};
    if (nk && d->group > I16_BLOCK) p.k_span = min64(d->group, d->k);
    int64_t steps = min64(nk ? i16_block(d->group) : I16_BLOCK, d->k);
    p.block = pair_block(steps);

    bool whole_spans = !nk && p.n_span % t->nr == 0 && p.n_span <= 512;
    p.cut = gemm_cut(d, t, whole_spans ? p.n_span : t->nr);
    int64_t kc = min64(max64(t->l1 / 2 / (2 * t->nr), I16_BLOCK), 512); /* a panel of B: half of L1 */
    p.cut.kc = max64(gemm_part(p.k_span, gemm_ceil_div(p.k_span, kc), steps), steps);
    p.cut.mc = max64(t->l2 / 2 / (2 * p.cut.kc), t->mr); /* packed A: half of L2 */
    p.cut.mc = gemm_part(p.cut.rows, gemm_ceil_div(p.cut.rows, p.cut.mc), t->mr);

    p.blocks = p.cut.kc / steps;
    p.panels = gemm_ceil_div(min64(p.cut.cols, p.n_span), t->nr);
    p.b_at = aligned(4 * p.cut.mc * depth(&p));
    p.fold_at = p.b_at + aligned(4 * p.panels * t->nr * depth(&p));
    p.bytes = p.fold_at + (nk ? 0 : 4 * fold_steps(&p));
    return p;
}

uint32_t gemm_i16_tiles(const GemmDesc *d, const Target *t) {
    Plan p = plan(d, t);
    return (uint32_t)(p.cut.row_tiles * p.cut.col_tiles);
}

uint64_t gemm_i16_scratch(const GemmDesc *d, const Target *t) {
    return (uint64_t)plan(d, t).bytes;
}

/* fold[kk] = scale of B's row k0+kk in that group of columns, for k rows; 0 up to the end of the buffer. */
static void fill_fold(Gen *g, const GemmDesc *d, const Plan *p, LLVMValueRef group, LLVMValueRef k0,
                      LLVMValueRef k, LLVMValueRef fold) {
    TernaryLayout l = ternary_layout(d->k, d->n, d->group);
    LLVMValueRef scales = gen_at(g, g->i8, gen_buffer(g, 1), gen_i64(g, l.scales_at));
    gen_zero(g, fold, gen_i64(g, 4 * fold_steps(p)));
    Loop kk = gen_loop(g, gen_i64(g, 0), k, 1, "fold");
    LLVMValueRef at = gen_add(g, gen_mul(g, gen_add(g, k0, kk.i), l.groups), group);
    LLVMValueRef scale = gen_load(g, g->f16, gen_at(g, g->f16, scales, at));
    gen_store(g, LLVMBuildFPExt(g->b, scale, g->f32, ""), gen_at(g, g->f32, fold, kk.i));
    gen_loop_end(g, &kk);
}

/* C of rows i0 .. i1-1 and n columns from j0 on, += or, where k0 is 0, = k steps from k0 on. */
static void add_steps(Gen *g, const GemmDesc *d, const Plan *p, LLVMValueRef i0, LLVMValueRef i1,
                      LLVMValueRef j0, LLVMValueRef n, LLVMValueRef k0, LLVMValueRef k) {
    LLVMValueRef packed_a = g->scratch, packed_b = gen_at(g, g->i8, g->scratch, gen_i64(g, p->b_at));
    LLVMValueRef fold = p->nk ? LLVMConstNull(g->ptr) : gen_at(g, g->i8, g->scratch, gen_i64(g, p->fold_at));
    LLVMValueRef blocks = gen_i64(g, p->blocks);
    const Panels panels = {PANELS_I16, p->block};
    LLVMValueRef pack_b =
        gen_pack_codes(g, &panels, p->nk ? d->n : d->k, p->nk ? d->k : d->n, d->group, p->nk);
    gen_call(g, pack_b, (LLVMValueRef[]){j0, n, k0, k, gen_buffer(g, 1), packed_b, blocks}, 7);
    if (!p->nk) fill_fold(g, d, p, gen_div(g, j0, d->group), k0, k, fold);

    Loop i = gen_loop(g, i0, i1, p->cut.mc, "mc");
    LLVMValueRef m = gen_min(g, gen_sub(g, i1, i.i), gen_i64(g, p->cut.mc));
    LLVMValueRef a = gemm_element(g, gen_buffer(g, 0), i.i, k0, d->k);
    LLVMValueRef pack_a = gen_pack_i16(g, p->block, !p->nk);
    gen_call(g, pack_a, (LLVMValueRef[]){m, k, a, gen_i64(g, d->k), fold, packed_a, blocks}, 7);
    LLVMValueRef c = gemm_element(g, gen_buffer(g, 2), i.i, j0, d->n);
    LLVMValueRef add = LLVMBuildICmp(g->b, LLVMIntSGT, k0, gen_i64(g, 0), "");
    LLVMValueRef words = gen_i64(g, depth(p));
    LLVMValueRef args[] = {
        m, n, k, packed_a, words, packed_b, words, c, gen_i64(g, d->n), add, gen_i64(g, 0)};
    gen_call(g, gen_product(g, BAND_NONE, &panels), args, 11);
    gen_loop_end(g, &i);
}

void gen_gemm_i16(Gen *g, const char *name, const GemmDesc *d) {
    Plan p = plan(d, g->target);
    gen_kernel(g, name);
    LLVMValueRef i0 = gen_mul(g, gen_mod(g, g->tile, p.cut.row_tiles), p.cut.rows);
    LLVMValueRef j0 = gen_mul(g, gen_div(g, g->tile, p.cut.row_tiles), p.cut.cols);
    LLVMValueRef i1 = gen_min(g, gen_add(g, i0, gen_i64(g, p.cut.rows)), gen_i64(g, d->m));
    LLVMValueRef j1 = gen_min(g, gen_add(g, j0, gen_i64(g, p.cut.cols)), gen_i64(g, d->n));

    Loop span = gen_loop(g, gen_i64(g, 0), gen_i64(g, d->k), p.k_span, "span");
    LLVMValueRef end = gen_min(g, gen_add(g, span.i, gen_i64(g, p.k_span)), gen_i64(g, d->k));
    Loop k0 = gen_loop(g, span.i, end, p.cut.kc, "kc");
    LLVMValueRef k = gen_min(g, gen_sub(g, end, k0.i), gen_i64(g, p.cut.kc));
    /* Spans of columns begin at multiples of their length, tiles may not. */
    LLVMValueRef first = gen_mul(g, gen_div(g, j0, p.n_span), p.n_span);
    Loop columns = gen_loop(g, first, j1, p.n_span, "columns");
    LLVMValueRef from = gen_max(g, columns.i, j0);
    LLVMValueRef to = gen_min(g, gen_add(g, columns.i, gen_i64(g, p.n_span)), j1);
    add_steps(g, d, &p, i0, i1, from, gen_sub(g, to, from), k0.i, k);
    gen_loop_end(g, &columns);
    gen_loop_end(g, &k0);
    gen_loop_end(g, &span);
    gen_end(g);
}
