/* Matrix products, after BLIS; ternary ones in f32 are gemm_lut.c's, but for small ones. A tile owns a block
 * of C and runs over all of k:
 *
 *     for each kc steps of k:                      B block [kc, cols] packed (decoded, where ternary)
 *         for each mc rows of the block of C:      A block [mc, kc] packed, half of the L2 cache
 *             product of the panels into C         (microkernel.c)
 *
 * In bf16 (ir/eval_bf16.c) both are rounded while they are packed: to pairs or, on CPUs without instructions
 * for those, to f32. In pairs the codes of a ternary B stored [n,k] have the scales of their groups behind
 * them, which meet the sums over a group.
 *
 * The order in which a sum is added up depends on the sizes and the target only. */
#include "gemm.h"
#include "lut.h"

int64_t gemm_ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
int64_t gemm_part(int64_t n, int64_t parts, int64_t unit) {
    return gemm_ceil_div(gemm_ceil_div(n, parts), unit) * unit;
}

enum { MAX_ROWS = 1024, MAX_COLS = GEMM_MAX_COLS }; /* of C in a tile: bounds scratch */
enum { FEW_CORES = 16 };                   /* fewer get tiles for that many: none waits long for the last */

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

/* Goes on until cores that share the tiles idle for a fifth of the time at most. */
static void balance(const GemmDesc *d, Blocking *b, int64_t cores, int64_t min_rows, int64_t min_cols) {
    int64_t before = 0, tiles;
    while (tiles = b->row_tiles * b->col_tiles, tiles > before) {
        int64_t rounds = gemm_ceil_div(tiles, cores);
        if (4 * rounds * cores <= 5 * tiles) break;
        split(d, b, tiles + 1, min_rows, min_cols);
        before = tiles;
    }
}

Blocking gemm_cut(const GemmDesc *d, const Target *t, int64_t unit, int64_t wide) {
    int64_t cols = max64(MAX_COLS / unit * unit, unit), rows = min64(MAX_ROWS * MAX_COLS / cols, MAX_ROWS);
    const int64_t cores = max64(t->cores, FEW_CORES);
    Blocking b = {.row_tiles = gemm_ceil_div(d->m, rows), .col_tiles = gemm_ceil_div(d->n, cols)};
    split(d, &b, 4 * cores, 192, wide);   /* packing costs a few per cent of the product */
    split(d, &b, cores, 96, 192);         /* more, but all cores share even a small product */
    balance(d, &b, t->cores, 48, 96);     /* dear, but less than cores that have nothing to do */
    /* few rows (decoding): packing B is all, shared by columns; others only lest a core has nothing to do */
    split(d, &b, d->m < 96 ? cores : t->cores, d->m, 4 * t->nr);
    b.rows = gemm_part(d->m, b.row_tiles, t->mr);
    b.cols = gemm_part(d->n, b.col_tiles, unit);
    b.row_tiles = gemm_ceil_div(d->m, b.rows);
    b.col_tiles = gemm_ceil_div(d->n, b.cols);
    return b;
}

/* kc is a multiple of 16 (a word of ternary codes) or of whole blocks, mc of mr. */
GemmPlan gemm_plan(const GemmDesc *d, const Target *t, PanelType type, int64_t unit) {
    GemmPlan p = {.cut = gemm_cut(d, t, unit, GEMM_COLS), .panels = {.type = type}};
    if (type == PANELS_BF16 && d->b == GEMM_B_T2_NK) p.panels.block = pair_block(min64(d->group, d->k));
    int64_t words = min64(max64(t->l1 / 2 / (4 * t->nr), 256), 384); /* a panel of B: half of L1 */
    if (p.cut.cols > MAX_COLS) words = max64(words * MAX_COLS / p.cut.cols, 16);
    int64_t steps = p.panels.block.steps, pairs = p.panels.block.pairs,
            kc = panels_of_pairs(type) ? 2 * words : words;
    if (steps) kc = max64(words / (pairs + 1), 1) * steps;
    kc = p.cut.kc = gemm_part(d->k, gemm_ceil_div(d->k, kc), steps ? steps : 16);
    p.a_depth = steps ? kc / steps * pairs : panel_words(type, kc);
    p.b_depth = steps ? kc / steps * (pairs + 1) : p.a_depth;
    int64_t mc = max64(t->l2 / 2 / (4 * p.a_depth), t->mr);
    p.cut.mc = gemm_part(p.cut.rows, gemm_ceil_div(p.cut.rows, mc), t->mr);
    return p;
}

static GemmPlan plan(const GemmDesc *d, const Target *t, PanelType type) {
    return gemm_plan(d, t, type, t->nr);
}

static int64_t packed_a_bytes(const GemmPlan *p) {
    return gemm_ceil_div(p->cut.mc * p->a_depth * 4, 64) * 64;
}

int64_t gemm_packed_bytes(const GemmPlan *p) {
    return packed_a_bytes(p) + p->b_depth * p->cut.cols * 4;
}

bool gemm_looks_up(const GemmDesc *d, bool bf16, const Target *t) {
    return gemm_lut_fits(d, bf16 ? panels_in_bf16(t) : PANELS_F32);
}

static uint32_t tiles(const GemmDesc *d, const Target *t, PanelType type) {
    if (gemm_lut_fits(d, type)) return gemm_lut_tiles(d, t);
    GemmPlan p = plan(d, t, type);
    return (uint32_t)(p.cut.row_tiles * p.cut.col_tiles);
}

static uint64_t scratch(const GemmDesc *d, const Target *t, PanelType type) {
    if (gemm_lut_fits(d, type)) return gemm_lut_scratch(d, t);
    GemmPlan p = plan(d, t, type);
    return (uint64_t)gemm_packed_bytes(&p);
}

uint32_t gemm_tiles(const GemmDesc *d, const Target *t) {
    return tiles(d, t, PANELS_F32);
}
uint64_t gemm_scratch(const GemmDesc *d, const Target *t) {
    return scratch(d, t, PANELS_F32);
}
uint32_t gemm_bf16_tiles(const GemmDesc *d, const Target *t) {
    return tiles(d, t, panels_in_bf16(t));
}
uint64_t gemm_bf16_scratch(const GemmDesc *d, const Target *t) {
    return scratch(d, t, panels_in_bf16(t));
}

LLVMValueRef gemm_element(Gen *g, LLVMValueRef base, LLVMValueRef row, LLVMValueRef col, int64_t ld) {
    return gen_at(g, g->f32, base, gen_add(g, gen_mul(g, row, ld), col));
}

PackFrom gemm_a_storage(const GemmDesc *d) {
    if (d->a_cols) return d->a_bf16 ? PACK_BF16_COLS : PACK_COLS;
    return d->a_bf16 ? PACK_BF16_ROWS : PACK_ROWS;
}

LLVMValueRef gemm_a_at(Gen *g, const GemmDesc *d, LLVMValueRef a, LLVMValueRef row, LLVMValueRef step) {
    LLVMValueRef at = d->a_cols ? gen_add(g, gen_mul(g, step, d->m), row) : gen_add(g, gen_mul(g, row, d->k), step);
    return gen_at(g, d->a_bf16 ? g->i16 : g->f32, a, at);
}

/* Packs k steps from k0 on of rows i0.. (A) or columns j0.. (B), n of them. */
static void pack_a(Gen *g, const GemmDesc *d, const GemmPlan *p, LLVMValueRef i0, LLVMValueRef n, LLVMValueRef k0,
                   LLVMValueRef k, LLVMValueRef dst) {
    int64_t ld = d->a_cols ? d->m : d->k;
    LLVMValueRef a = gen_buffer(g, 0), depth = gen_i64(g, p->a_depth);
    LLVMValueRef fn = gen_pack(g, g->target->mr, gemm_a_storage(d), p->panels.type);
    int64_t steps = p->panels.block.steps;
    if (steps % 16 == 0) {
        gen_call(g, fn, (LLVMValueRef[]){n, k, gemm_a_at(g, d, a, i0, k0), gen_i64(g, ld), dst, depth}, 6);
        return;
    }
    Loop b = gen_loop(g, gen_i64(g, 0), k, steps, "block"); /* padded to 16 steps each */
    LLVMValueRef left = gen_min(g, gen_sub(g, k, b.i), gen_i64(g, steps));
    LLVMValueRef words = gen_mul(g, gen_div(g, b.i, steps), (int64_t)p->panels.block.pairs * g->target->mr);
    LLVMValueRef args[] = {n,
                           left,
                           gemm_a_at(g, d, a, i0, gen_add(g, k0, b.i)),
                           gen_i64(g, ld),
                           gen_at(g, g->i32, dst, words),
                           depth};
    gen_call(g, fn, args, 6);
    gen_loop_end(g, &b);
}

/* Ternary codes: f32 weights (of rounded scales, where they vary along k), bf16 codes with scales behind each
 * group, or bf16 weights, one block of k. */
static void pack_ternary_b(Gen *g, const GemmDesc *d, const GemmPlan *p, LLVMValueRef j0, LLVMValueRef n,
                           LLVMValueRef k0, LLVMValueRef k, LLVMValueRef dst) {
    bool nk = d->b == GEMM_B_T2_NK;
    int64_t rows = nk ? d->n : d->k, cols = nk ? d->k : d->n, room = p->b_depth;
    Panels panels = p->panels;
    if (panels.type == PANELS_BF16) {
        if (!nk) panels.block = pair_block(p->cut.kc);
        room = p->cut.kc / panels.block.steps;
    }
    bool rounded = panels.type == PANELS_ROUNDED && !nk;
    LLVMValueRef fn = panels.type == PANELS_BF16 ? gen_pack_codes(g, &panels, rows, cols, d->group, nk)
                                                 : gen_pack_ternary(g, rows, cols, d->group, nk, rounded);
    gen_call(g, fn, (LLVMValueRef[]){j0, n, k0, k, gen_buffer(g, 1), dst, gen_i64(g, room)}, 7);
}

static void pack_b(Gen *g, const GemmDesc *d, const GemmPlan *p, LLVMValueRef j0, LLVMValueRef n, LLVMValueRef k0,
                   LLVMValueRef k, LLVMValueRef dst) {
    if (d->b == GEMM_B_T2_NK || d->b == GEMM_B_T2_KN) {
        pack_ternary_b(g, d, p, j0, n, k0, k, dst);
        return;
    }
    static const PackFrom from[] = {
        [GEMM_B_KN] = PACK_COLS, [GEMM_B_NK] = PACK_ROWS, [GEMM_B_BF16_KN] = PACK_BF16_COLS};
    bool nk = d->b == GEMM_B_NK;
    int64_t ld = nk ? d->k : d->n;
    LLVMValueRef at = nk ? gen_add(g, gen_mul(g, j0, ld), k0) : gen_add(g, gen_mul(g, k0, ld), j0);
    LLVMValueRef src = gen_at(g, d->b == GEMM_B_BF16_KN ? g->i16 : g->f32, gen_buffer(g, 1), at);
    LLVMValueRef args[] = {n, k, src, gen_i64(g, ld), dst, gen_i64(g, p->b_depth)};
    gen_call(g, gen_pack(g, g->target->nr, from[d->b], p->panels.type), args, 6);
}

GemmTile gemm_tile(Gen *g, const GemmDesc *d, const Blocking *b) {
    GemmTile t;
    t.i0 = gen_mul(g, gen_mod(g, g->tile, b->row_tiles), b->rows);
    t.j0 = gen_mul(g, gen_div(g, g->tile, b->row_tiles), b->cols);
    t.i1 = gen_min(g, gen_add(g, t.i0, gen_i64(g, b->rows)), gen_i64(g, d->m));
    t.n = gen_min(g, gen_sub(g, gen_i64(g, d->n), t.j0), gen_i64(g, b->cols));
    return t;
}

void gemm_product(Gen *g, const GemmDesc *d, const GemmPlan *p, const GemmTile *t, LLVMValueRef packed,
                  LLVMValueRef c, int64_t ldc, GemmEpilogue *epilogue, void *context) {
    LLVMValueRef packed_b = gen_at(g, g->i8, packed, gen_i64(g, packed_a_bytes(p))), kc = gen_i64(g, p->cut.kc);
    Loop k0 = gen_loop(g, gen_i64(g, 0), gen_i64(g, d->k), p->cut.kc, "kc");
    LLVMValueRef left = gen_sub(g, gen_i64(g, d->k), k0.i), k = gen_min(g, left, kc);
    pack_b(g, d, p, t->j0, t->n, k0.i, k, packed_b);
    LLVMValueRef add =
        d->accumulate ? LLVMConstAllOnes(g->i1) : LLVMBuildICmp(g->b, LLVMIntSGT, k0.i, gen_i64(g, 0), "");
    Loop i = gen_loop(g, t->i0, t->i1, p->cut.mc, "mc");
    LLVMValueRef m = gen_min(g, gen_sub(g, t->i1, i.i), gen_i64(g, p->cut.mc));
    pack_a(g, d, p, i.i, m, k0.i, k, packed);
    LLVMValueRef rows = gen_at(g, g->f32, c, gen_mul(g, gen_sub(g, i.i, t->i0), ldc)), none = gen_i64(g, 0);
    LLVMValueRef a_depth = gen_i64(g, p->a_depth), b_depth = gen_i64(g, p->b_depth), stride = gen_i64(g, ldc);
    LLVMValueRef args[] = {m, t->n, k, packed, a_depth, packed_b, b_depth, rows, stride, add, none};
    gen_call(g, gen_product(g, BAND_NONE, &p->panels), args, 11);
    if (epilogue) {
        If last = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLE, left, kc, ""));
        epilogue(g, context, t, i.i, gen_add(g, i.i, m));
        gen_if_end(g, &last);
    }
    gen_loop_end(g, &i);
    gen_loop_end(g, &k0);
}

static void gen_blocks(Gen *g, const char *name, const GemmDesc *d, PanelType type) {
    if (gemm_lut_fits(d, type)) {
        gen_gemm_lut(g, name, d, type);
        return;
    }
    GemmPlan p = plan(d, g->target, type);
    gen_kernel(g, name);
    GemmTile t = gemm_tile(g, d, &p.cut);
    LLVMValueRef c = gemm_element(g, gen_buffer(g, 2), t.i0, t.j0, d->n);
    gemm_product(g, d, &p, &t, g->scratch, c, d->n, NULL, NULL);
    gen_end(g);
}

void gen_gemm(Gen *g, const char *name, const GemmDesc *d) {
    gen_blocks(g, name, d, PANELS_F32);
}
void gen_gemm_bf16(Gen *g, const char *name, const GemmDesc *d) {
    gen_blocks(g, name, d, panels_in_bf16(g->target));
}
