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

/* About so many columns of B are packed at a time, if A is packed several times. */
enum { SPAN_COLUMNS = 512 };

/* A product's blocking, and how scales cut it up. */
typedef struct Plan {
    Blocking cut;
    PairBlock block;
    int64_t k_span; /* of this many steps blocks begin anew */
    int64_t n_span; /* of this many columns A is quantised anew */
    int64_t spans;  /* of columns, whose panels of B are packed at a time */
    bool nk;
    int64_t blocks;               /* of k in a packed block of A or B */
    int64_t a_bytes, b_bytes;     /* of the packed A and B of a span */
    int64_t b_at, fold_at, bytes; /* scratch: A, B and folds of all spans that are packed at a time */
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
    p.cut = gemm_cut(d, t, whole_spans ? p.n_span : t->nr, GEMM_COLS);
    int64_t kc = min64(max64(t->l1 / 2 / (2 * t->nr), I16_BLOCK), 512); /* a panel of B: half of L1 */
    p.cut.kc = max64(gemm_part(p.k_span, gemm_ceil_div(p.k_span, kc), steps), steps);
    p.spans = nk ? 1 : max64(SPAN_COLUMNS / max64(p.n_span, t->nr), 1);
    int64_t a_room = t->l2 / (nk ? 2 : 4); /* of packed A in L2; several spans of B take more of it */
    p.cut.mc = max64(a_room / (2 * p.spans * p.cut.kc), t->mr);
    p.cut.mc = gemm_part(p.cut.rows, gemm_ceil_div(p.cut.rows, p.cut.mc), t->mr);

    p.blocks = p.cut.kc / steps;
    p.b_bytes = aligned(4 * gemm_part(min64(p.cut.cols, p.n_span), 1, t->nr) * depth(&p));
    p.a_bytes = aligned(4 * p.cut.mc * depth(&p));
    p.b_at = p.spans * p.a_bytes;
    p.fold_at = p.b_at + p.spans * p.b_bytes;
    p.bytes = p.fold_at + (nk ? 0 : 4 * p.spans * fold_steps(&p));
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

/* The part of C at work: rows i0 .. i1-1, columns j0 .. j1-1 of the tile, of which those of a few spans from
 * `first` on, and k steps from k0 on. */
typedef struct Part {
    LLVMValueRef i0, i1, j0, j1, first, k0, k;
} Part;

/* A span of columns: n of them from j on, its panels of A and B and its factors of A. */
typedef struct Span {
    Loop loop;
    LLVMValueRef j, n, packed_a, packed_b, fold;
} Span;

static Span begin_span(Gen *g, const Plan *p, const Part *c) {
    LLVMValueRef end = gen_min(g, gen_add(g, c->first, gen_i64(g, p->spans * p->n_span)), c->j1);
    Span s = {.loop = gen_loop(g, c->first, end, p->n_span, "span")};
    LLVMValueRef slot = gen_div(g, gen_sub(g, s.loop.i, c->first), p->n_span);
    LLVMValueRef to = gen_min(g, gen_add(g, s.loop.i, gen_i64(g, p->n_span)), c->j1);
    s.j = gen_max(g, s.loop.i, c->j0); /* spans begin at multiples of their length, tiles may not */
    s.n = gen_sub(g, to, s.j);
    s.packed_a = gen_at(g, g->i8, g->scratch, gen_mul(g, slot, p->a_bytes));
    s.packed_b = gen_at(g, g->i8, g->scratch, gen_add(g, gen_mul(g, slot, p->b_bytes), gen_i64(g, p->b_at)));
    LLVMValueRef fold_at = gen_add(g, gen_mul(g, slot, 4 * fold_steps(p)), gen_i64(g, p->fold_at));
    s.fold = p->nk ? LLVMConstNull(g->ptr) : gen_at(g, g->i8, g->scratch, fold_at);
    return s;
}

static void pack_spans(Gen *g, const GemmDesc *d, const Plan *p, const Part *c) {
    const Panels panels = {PANELS_I16, p->block};
    LLVMValueRef fn = gen_pack_codes(g, &panels, p->nk ? d->n : d->k, p->nk ? d->k : d->n, d->group, p->nk);
    LLVMValueRef blocks = gen_i64(g, p->blocks);
    Span s = begin_span(g, p, c);
    gen_call(g, fn, (LLVMValueRef[]){s.j, s.n, c->k0, c->k, gen_buffer(g, 1), s.packed_b, blocks}, 7);
    if (!p->nk) fill_fold(g, d, p, gen_div(g, s.j, d->group), c->k0, c->k, s.fold);
    gen_loop_end(g, &s.loop);
}

/* Packs m rows of A from row i on, for all spans: each row stays in the first-level cache meanwhile. */
static void pack_rows(Gen *g, const GemmDesc *d, const Plan *p, const Part *c, LLVMValueRef i,
                      LLVMValueRef m) {
    Loop row = gen_loop(g, gen_i64(g, 0), m, 1, "row");
    LLVMValueRef a = gemm_element(g, gen_buffer(g, 0), gen_add(g, i, row.i), c->k0, d->k);
    Span s = begin_span(g, p, c);
    LLVMValueRef args[] = {row.i, c->k, a, gen_i64(g, d->k), s.fold, s.packed_a, gen_i64(g, p->blocks)};
    gen_call(g, gen_pack_i16(g, p->block, !p->nk), args, 7);
    gen_loop_end(g, &s.loop);
    gen_loop_end(g, &row);
}

/* Rows i .. of C += or, where k0 is 0, = those steps. */
static void multiply_spans(Gen *g, const GemmDesc *d, const Plan *p, const Part *c, LLVMValueRef i) {
    const Panels panels = {PANELS_I16, p->block};
    LLVMValueRef m = gen_min(g, gen_sub(g, c->i1, i), gen_i64(g, p->cut.mc)), words = gen_i64(g, depth(p));
    pack_rows(g, d, p, c, i, m);
    Span s = begin_span(g, p, c);
    LLVMValueRef to = gemm_element(g, gen_buffer(g, 2), i, s.j, d->n), ldc = gen_i64(g, d->n);
    LLVMValueRef add = LLVMBuildICmp(g->b, LLVMIntSGT, c->k0, gen_i64(g, 0), "");
    LLVMValueRef args[] = {m, s.n, c->k, s.packed_a, words, s.packed_b, words, to, ldc, add, gen_i64(g, 0)};
    gen_call(g, gen_product(g, BAND_NONE, &panels), args, 11);
    gen_loop_end(g, &s.loop);
}

void gen_gemm_i16(Gen *g, const char *name, const GemmDesc *d) {
    Plan p = plan(d, g->target);
    gen_kernel(g, name);
    Part c = {.i0 = gen_mul(g, gen_mod(g, g->tile, p.cut.row_tiles), p.cut.rows),
              .j0 = gen_mul(g, gen_div(g, g->tile, p.cut.row_tiles), p.cut.cols)};
    c.i1 = gen_min(g, gen_add(g, c.i0, gen_i64(g, p.cut.rows)), gen_i64(g, d->m));
    c.j1 = gen_min(g, gen_add(g, c.j0, gen_i64(g, p.cut.cols)), gen_i64(g, d->n));

    Loop span = gen_loop(g, gen_i64(g, 0), gen_i64(g, d->k), p.k_span, "k_span");
    LLVMValueRef end = gen_min(g, gen_add(g, span.i, gen_i64(g, p.k_span)), gen_i64(g, d->k));
    Loop k0 = gen_loop(g, span.i, end, p.cut.kc, "kc");
    c.k0 = k0.i;
    c.k = gen_min(g, gen_sub(g, end, k0.i), gen_i64(g, p.cut.kc));
    LLVMValueRef first = gen_mul(g, gen_div(g, c.j0, p.n_span), p.n_span);
    Loop columns = gen_loop(g, first, c.j1, p.spans * p.n_span, "columns");
    c.first = columns.i;
    pack_spans(g, d, &p, &c);
    Loop i = gen_loop(g, c.i0, c.i1, p.cut.mc, "mc");
    multiply_spans(g, d, &p, &c, i.i);
    gen_loop_end(g, &i);
    gen_loop_end(g, &columns);
    gen_loop_end(g, &k0);
    gen_loop_end(g, &span);
    gen_end(g);
}
