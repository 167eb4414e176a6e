/* Ternary products in f32 without multiplications: faster than the CPU's peak of multiply-adds.
 *
 * Three steps of k add one of 27 sums +-a0 +-a1 +-a2 to an element of C, whatever its column's codes are. So
 * for 16 rows of A at a time, the 27 are added up once (lut.h), and each column of B finds its own by a load
 * and an add: two thirds less than an add for each step, and no code is ever decoded to a number. A tile owns
 * a block of C:
 *
 *     for each kc steps of k:             records of its columns packed (pack_lut.c)
 *       for each 16 rows:                 A packed, step by step
 *         for each slab of 32 steps:      tables, 18 KB in the first-level cache
 *           for each column:              sum [column, 16 rows] += eleven entries
 *         C = or += the sums, transposed
 *
 * Scales: those of B stored [n,k] multiply what a slab adds to a column; those of [k,n] (dX) the steps before
 * the tables are made, which hold for the columns of one group. A NaN or an infinity in A meets only codes
 * that are not 0.
 *
 * After T-MAC and LUT-GEMM (arXiv 2407.00088, 2206.09557), which look sums up for the few rows of inference. */
#include "../rows.h"
#include "gemm.h"
#include "lut.h"

typedef struct Plan {
    Blocking cut;
    PanelType type; /* of A: f32, or rounded to bf16 */
    bool nk;
    int64_t columns;                          /* of a tile that have records: whole spans */
    int64_t span;                             /* columns that share tables */
    int64_t a_at, sums_at, records_at, bytes; /* scratch, behind the tables */
} Plan;

bool gemm_lut_fits(const GemmDesc *d, PanelType type) {
    bool nk = d->b == GEMM_B_T2_NK;
    if ((!nk && d->b != GEMM_B_T2_KN) || panels_of_pairs(type)) return false;
    if (d->m < LUT_ROWS || d->n < LUT_SPAN || d->k < LUT_STEPS) return false;
    return d->group >= (nk ? d->k : d->n) || d->group % (nk ? LUT_STEPS : LUT_SPAN) == 0;
}

static Plan plan(const GemmDesc *d, const Target *t, PanelType type) {
    Plan p = {.type = type, .nk = d->b == GEMM_B_T2_NK};
    const bool grouped = !p.nk && d->group < d->n; /* tables hold for a group of columns: tiles end with one */
    /* Making the tables takes as long as looking up 36 columns. */
    p.cut = gemm_cut(d, t, grouped ? d->group : LUT_SPAN, p.nk ? 2 * GEMM_COLS : GEMM_COLS);
    p.cut.rows = gemm_part(d->m, p.cut.row_tiles, LUT_ROWS);
    p.cut.row_tiles = gemm_ceil_div(d->m, p.cut.rows);
    p.columns = p.cut.cols;
    p.span = grouped ? d->group : p.columns;
    /* Records of the widest tile take half of L2: how many columns this one has may not change how k is cut. */
    int64_t kc = max64(t->l2 / 2 / (LUT_RECORD * GEMM_MAX_COLS), 1) * LUT_STEPS;
    p.cut.kc = gemm_part(d->k, gemm_ceil_div(d->k, kc), LUT_STEPS);
    p.a_at = 4 * LUT_ENTRIES * LUT_ROWS;
    p.sums_at = p.a_at + 4 * LUT_ROWS * p.cut.kc;
    p.records_at = p.sums_at + 4 * LUT_ROWS * p.columns;
    p.bytes = p.records_at + LUT_RECORD * p.columns * (p.cut.kc / LUT_STEPS);
    return p;
}

uint32_t gemm_lut_tiles(const GemmDesc *d, const Target *t) {
    Plan p = plan(d, t, PANELS_F32);
    return (uint32_t)(p.cut.row_tiles * p.cut.col_tiles);
}

uint64_t gemm_lut_scratch(const GemmDesc *d, const Target *t) {
    return (uint64_t)plan(d, t, PANELS_F32).bytes;
}

/* A step of 16 rows, an entry of a table, the sums of a column. */
static LLVMTypeRef row_type(Gen *g) {
    return gen_vec(g, g->f32, LUT_ROWS);
}
static LLVMValueRef row_at(Gen *g, LLVMValueRef rows, LLVMValueRef i) {
    return gen_at(g, row_type(g), rows, i);
}

static LLVMValueRef scratch_at(Gen *g, int64_t bytes) {
    return gen_at(g, g->i8, g->scratch, gen_i64(g, bytes));
}

/* What the kernel is at: k steps from k0 on of a tile of C. */
typedef struct Work {
    const GemmDesc *d;
    Plan p;
    TernaryLayout layout; /* of B */
    GemmTile tile;
    LLVMValueRef k0, k;
} Work;

/* ---- tables */

/* Stores `sum` less x, itself, and more x as entries first .. first+2. */
static void store_three(Gen *g, LLVMValueRef sum, LLVMValueRef x, LLVMValueRef table, int first) {
    LLVMValueRef three[] = {LLVMBuildFSub(g->b, sum, x, ""), sum, LLVMBuildFAdd(g->b, sum, x, "")};
    for (int i = 0; i < 3; i++) gen_store(g, three[i], row_at(g, table, gen_i64(g, first + i)));
}

/* The nine entries of two steps, each with `rest` (NULL: nothing) added. */
static void store_nine(Gen *g, const LLVMValueRef *x, LLVMValueRef rest, LLVMValueRef table, int first) {
    LLVMValueRef zero = LLVMConstNull(row_type(g));
    LLVMValueRef less = rest ? LLVMBuildFSub(g->b, rest, x[1], "") : LLVMBuildFNeg(g->b, x[1], "");
    LLVMValueRef more = rest ? LLVMBuildFAdd(g->b, rest, x[1], "") : x[1];
    store_three(g, less, x[0], table, first);
    store_three(g, rest ? rest : zero, x[0], table, first + 3);
    store_three(g, more, x[0], table, first + 6);
}

/* The slab at work: its first step, and of t2[k,n] the scales of its group of columns. */
typedef struct Slab {
    const Work *work;
    LLVMValueRef step, scales;
} Slab;

/* Step number i of the slab: 16 rows of A, times the scales of B's row if those are t2[k,n]'s. */
static LLVMValueRef load_step(Gen *g, const Slab *s, LLVMValueRef i) {
    const Work *w = s->work;
    LLVMValueRef step = gen_add(g, s->step, i);
    LLVMValueRef x = gen_load(g, row_type(g), row_at(g, scratch_at(g, w->p.a_at), step));
    if (w->p.nk) return x;
    LLVMValueRef row = gen_min(g, gen_add(g, w->k0, step), gen_i64(g, w->d->k - 1)); /* past the end x is 0 */
    LLVMValueRef scale = ternary_load_scale(g, s->scales, gen_mul(g, row, w->layout.groups));
    if (w->p.type == PANELS_ROUNDED) scale = gen_round_bf16(g, scale);
    return LLVMBuildFMul(g->b, x, gen_splat(g, scale, LUT_ROWS), "");
}

/* The table of three steps from `first` on. */
static void make_triple(Gen *g, const Slab *s, LLVMValueRef first, LLVMValueRef table) {
    LLVMValueRef x[3], at = row_at(g, g->scratch, gen_mul(g, table, LUT_TABLE));
    for (int i = 0; i < 3; i++) x[i] = load_step(g, s, gen_add(g, first, gen_i64(g, i)));
    store_nine(g, x, LLVMBuildFNeg(g->b, x[2], ""), at, 0);
    store_nine(g, x, NULL, at, 9);
    store_nine(g, x, x[2], at, 18);
}

static void make_tables(Gen *g, const Slab *s) {
    Loop half = gen_loop(g, gen_i64(g, 0), gen_i64(g, 2), 1, "half");
    LLVMValueRef first = gen_mul(g, half.i, LUT_STEPS / 2), table = gen_mul(g, half.i, 4);
    Loop triple = gen_loop(g, gen_i64(g, 0), gen_i64(g, 4), 1, "triple");
    make_triple(g, s, gen_add(g, first, gen_mul(g, triple.i, 3)), gen_add(g, table, triple.i));
    gen_loop_end(g, &triple);
    make_triple(g, s, gen_add(g, first, gen_i64(g, 12)), gen_add(g, half.i, gen_i64(g, 8)));
    gen_loop_end(g, &half);
    LLVMValueRef pair[] = {load_step(g, s, gen_i64(g, 15)), load_step(g, s, gen_i64(g, 31))};
    store_nine(g, pair, NULL, row_at(g, g->scratch, gen_i64(g, 10 * LUT_TABLE)), 0);
}

/* ---- look-ups */

/* The entry of table j that the byte of `bytes` says. */
static LLVMValueRef look_up(Gen *g, int j, LLVMValueRef bytes, int byte) {
    LLVMTypeRef type = LLVMTypeOf(bytes);
    LLVMValueRef index = LLVMBuildLShr(g->b, bytes, LLVMConstInt(type, (unsigned)(8 * byte), false), "");
    index = LLVMBuildAnd(g->b, index, LLVMConstInt(type, 0xff, false), "");
    LLVMValueRef table = row_at(g, g->scratch, gen_i64(g, j * LUT_TABLE));
    return gen_load(g, row_type(g), gen_at(g, g->i64, table, LLVMBuildZExt(g->b, index, g->i64, "")));
}

/* Adds the slab to the sums of n columns. Two chains of adds: the latency of eleven in one is too long. */
static void add_slab(Gen *g, bool nk, LLVMValueRef records, LLVMValueRef sums, LLVMValueRef n) {
    Loop c = gen_loop(g, gen_i64(g, 0), n, 1, "column");
    LLVMValueRef record = gen_at(g, g->i8, records, gen_mul(g, c.i, LUT_RECORD)), chain[2];
    LLVMValueRef first = gen_load(g, g->i64, record),
                 last = gen_load(g, g->i32, gen_at(g, g->i64, record, gen_i64(g, 1)));
    for (int j = 0; j < LUT_TABLES; j++) {
        LLVMValueRef x = j < 8 ? look_up(g, j, first, j) : look_up(g, j, last, j - 8);
        chain[j % 2] = j < 2 ? x : LLVMBuildFAdd(g->b, chain[j % 2], x, "");
    }
    LLVMValueRef at = row_at(g, sums, c.i), sum = gen_load(g, row_type(g), at);
    LLVMValueRef slab = LLVMBuildFAdd(g->b, chain[0], chain[1], "");
    if (nk) {
        LLVMValueRef scale = gen_load(g, g->f32, gen_at(g, g->f32, record, gen_i64(g, 3)));
        sum = gen_fma(g, gen_splat(g, scale, LUT_ROWS), slab, sum);
    } else {
        sum = LLVMBuildFAdd(g->b, sum, slab, "");
    }
    gen_store(g, sum, at);
    gen_loop_end(g, &c);
}

/* The sums of the packed rows over the steps at work. */
static void add_slabs(Gen *g, const Work *w) {
    const Plan *p = &w->p;
    LLVMValueRef n = w->tile.n, sums = scratch_at(g, p->sums_at);
    if (!p->nk) n = gen_mul(g, gen_div(g, gen_add(g, n, gen_i64(g, LUT_SPAN - 1)), LUT_SPAN), LUT_SPAN);
    gen_zero(g, sums, gen_mul(g, n, 4 * LUT_ROWS));
    Loop span = gen_loop(g, gen_i64(g, 0), n, p->span, "span");
    LLVMValueRef left = gen_min(g, gen_sub(g, n, span.i), gen_i64(g, p->span));
    LLVMValueRef group = gen_div(g, gen_add(g, w->tile.j0, span.i), w->d->group);
    LLVMValueRef scales = gen_at(g, g->i8, gen_buffer(g, 1), gen_i64(g, w->layout.scales_at));
    Loop slab = gen_loop(g, gen_i64(g, 0), w->k, LUT_STEPS, "slab");
    make_tables(g, &(Slab){w, slab.i, gen_at(g, g->f16, scales, group)});
    LLVMValueRef record = gen_add(g, gen_mul(g, gen_div(g, slab.i, LUT_STEPS), p->columns), span.i);
    LLVMValueRef records = gen_at(g, g->i8, scratch_at(g, p->records_at), gen_mul(g, record, LUT_RECORD));
    add_slab(g, p->nk, records, row_at(g, sums, span.i), left);
    gen_loop_end(g, &slab);
    gen_loop_end(g, &span);
}

/* ---- C */

/* What is done to C: m rows and n columns of it from c on, with row stride ldc. */
typedef struct Write {
    LLVMValueRef sums, c, m, n, add;
    int64_t ldc;
    bool nk;
} Write;

static void write_to(Gen *g, const Write *w, LLVMValueRef value, LLVMValueRef row, LLVMValueRef col) {
    LLVMValueRef at = gemm_element(g, w->c, row, col, w->ldc);
    LLVMValueRef sum = LLVMBuildFAdd(g->b, gen_load(g, LLVMTypeOf(value), at), value, "");
    gen_store(g, LLVMBuildSelect(g->b, w->add, sum, value, ""), at);
}

/* Rows and columns one by one. */
static void write_some(Gen *g, const Write *w, LLVMValueRef col, LLVMValueRef end) {
    Loop j = gen_loop(g, col, end, 1, "col");
    LLVMValueRef from = row_at(g, w->sums, lut_record(g, j.i, w->nk));
    Loop i = gen_loop(g, gen_i64(g, 0), w->m, 1, "row");
    write_to(g, w, gen_load(g, g->f32, gen_at(g, g->f32, from, i.i)), i.i, j.i);
    gen_loop_end(g, &i);
    gen_loop_end(g, &j);
}

/* 16 rows, as many columns from `col` on as a vector has lanes. */
static void write_block(Gen *g, const Write *w, LLVMValueRef col) {
    int vl = g->target->vl;
    for (int i = 0; i < LUT_ROWS; i += vl) {
        LLVMValueRef v[LUT_ROWS];
        for (int j = 0; j < vl; j++) {
            LLVMValueRef from = row_at(g, w->sums, lut_record(g, gen_add(g, col, gen_i64(g, j)), w->nk));
            v[j] = gen_load(g, gen_vec(g, g->f32, vl), gen_at(g, g->f32, from, gen_i64(g, i)));
        }
        gen_transpose(g, v, vl);
        for (int j = 0; j < vl; j++) write_to(g, w, v[j], gen_i64(g, i + j), col);
    }
}

static void write_rows(Gen *g, const Write *w) {
    int vl = g->target->vl;
    If whole = gen_if(g, LLVMBuildICmp(g->b, LLVMIntEQ, w->m, gen_i64(g, LUT_ROWS), ""));
    LLVMValueRef blocks = gen_mul(g, gen_div(g, w->n, vl), vl);
    Loop col = gen_loop(g, gen_i64(g, 0), blocks, vl, "block");
    write_block(g, w, col.i);
    gen_loop_end(g, &col);
    write_some(g, w, blocks, w->n);
    gen_else(g, &whole);
    write_some(g, w, gen_i64(g, 0), w->n);
    gen_if_end(g, &whole);
}

/* ---- the kernel */

/* Packs m rows of A from row i on, with steps of 0 to the end of the last slab. */
static void pack_a(Gen *g, const Work *w, LLVMValueRef i, LLVMValueRef m) {
    const GemmDesc *d = w->d;
    int64_t ld = d->a_cols ? d->m : d->k;
    LLVMValueRef to = scratch_at(g, w->p.a_at), src = gemm_a_at(g, d, gen_buffer(g, 0), i, w->k0);
    LLVMValueRef fn = gen_pack(g, LUT_ROWS, gemm_a_storage(d), w->p.type);
    gen_call(g, fn, (LLVMValueRef[]){m, w->k, src, gen_i64(g, ld), to, gen_i64(g, w->p.cut.kc)}, 6);
    LLVMValueRef rest = gen_mod(g, gen_sub(g, gen_i64(g, w->p.cut.kc), w->k), LUT_STEPS);
    gen_zero(g, row_at(g, to, w->k), gen_mul(g, rest, 4 * LUT_ROWS));
}

void gen_gemm_lut(Gen *g, const char *name, const GemmDesc *d, PanelType type) {
    Work w = {.d = d, .p = plan(d, g->target, type)};
    const Plan *p = &w.p;
    const int64_t rows = p->nk ? d->n : d->k, cols = p->nk ? d->k : d->n;
    w.layout = ternary_layout(rows, cols, d->group);
    gen_kernel(g, name);
    w.tile = gemm_tile(g, d, &p->cut);
    LLVMValueRef j0 = w.tile.j0, n = w.tile.n, records = scratch_at(g, p->records_at);
    Loop k0 = gen_loop(g, gen_i64(g, 0), gen_i64(g, d->k), p->cut.kc, "kc");
    w.k0 = k0.i, w.k = gen_min(g, gen_sub(g, gen_i64(g, d->k), k0.i), gen_i64(g, p->cut.kc));
    LLVMValueRef add =
        d->accumulate ? LLVMConstAllOnes(g->i1) : LLVMBuildICmp(g->b, LLVMIntSGT, k0.i, gen_i64(g, 0), "");
    LLVMValueRef pack[] = {j0, n, w.k0, w.k, gen_buffer(g, 1), records, gen_i64(g, p->columns)};
    gen_call(g, gen_pack_lut(g, rows, cols, d->group, p->nk), pack, 7);
    Loop i = gen_loop(g, w.tile.i0, w.tile.i1, LUT_ROWS, "rows");
    LLVMValueRef m = gen_min(g, gen_sub(g, w.tile.i1, i.i), gen_i64(g, LUT_ROWS));
    pack_a(g, &w, i.i, m);
    add_slabs(g, &w);
    LLVMValueRef c = gemm_element(g, gen_buffer(g, 2), i.i, j0, d->n);
    write_rows(g, &(Write){scratch_at(g, p->sums_at), c, m, n, add, d->n, p->nk});
    gen_loop_end(g, &i);
    gen_loop_end(g, &k0);
    gen_end(g);
}
