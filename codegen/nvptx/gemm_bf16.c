/* Matrix products with operands rounded to bf16, on the tensor cores (mma.h).
 *
 *     tile of C      warps          of C a warp     steps of k a turn
 *     128 x 256      2 x 4          64 x 64         32, or 16 where B is f32
 *     192 x 128      2 x 4          96 x 32         the same; cuts 3072 x 1024 into one tile for each of 128
 *     128 x 128      2 x 2 x 2      64 x 64         32; of operands stored as bf16
 *      64 x 128      1 x 2 x 4      64 x 64         64; the same
 *     128 x 128      2 x 4          64 x 32         32 or 16
 *      64 x  64      2 x 2          32 x 32         32 or 16
 *      64 x 128      2 x 4          32 x 32         32 or 16; where 64 columns are too few
 *
 * Small products are cut into small tiles, so that there is one for each multiprocessor. Warps that took
 * small parts of them would read shared memory more often than it can serve. So they take large parts for
 * some of the steps instead (sliced k): slice s of n has steps 16 (s + n i) and on, and at the end the
 * slices' sums are added by pairs, through shared memory.
 *
 * Operands come to shared memory as they are, two turns ahead of their use (cp.async), and become bf16
 * fragments on their way to the registers (panel.h). One of f32 takes twice the room and the shared
 * bandwidth of a rounded one; to round it in a pass of its own would read and write all of it once more.
 *
 *     turn        0    1    2    3    4               stage = turn % 3; a barrier in front of a turn
 *     multiply    s0   s1   s2   s0   s1              - its copies are there, for every thread
 *     copy        s2   s0   s1   s2   ..              - nobody reads the stage that is copied to any more
 *
 * Packed codes of a forward product meet A as -1, 0, 1. Their scales hold for a group of k. Sums are kept in
 * units of the current group's scale, so that there is one set of them:
 *
 *     at the start of a group   sum *= scale of the group before / its scale
 *     at the end                c = sum * scale
 *
 * For dX they meet A as -scale, 0 and scale in bf16. What a turn needs of the scales, the ratios or the
 * rounded scales, is computed once for the block during the turn before. Groups that do not fit into turns
 * (32 columns, for dX) are left to the FMA units, with operands rounded the same. */
#include "../rows.h"
#include "gemm.h"
#include "panel.h"

enum { STAGES = 3, WORD = 16, MAX_DOWN = 6, MAX_ACROSS = 8, SPAN = 32 /* columns with one scale in dX */ };

typedef struct TileShape {
    int rows, cols, down, across,
        slices;  /* of C; warps down and across it, and a power of two of slices of k */
    double cost; /* of a number of C, relative: how much shared memory has to do for it */
} TileShape;

static const TileShape shapes[] = {
    {128, 256, 2, 4, 1, 1},    {192, 128, 2, 4, 1, 1.1}, {128, 128, 2, 2, 2, 1.05}, {64, 128, 1, 2, 4, 1.15},
    {128, 128, 2, 4, 1, 1.25}, {64, 64, 2, 2, 1, 1.6},   {64, 128, 2, 4, 1, 1.6},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct Product {
    Gen *g;
    const GemmDesc *d;
    const TileShape *shape;
    int turn, mt, nt; /* fragments of a warp: mt down, nt across */
    bool b_spread;    /* columns of C are dealt out as panel_row does by vectors */
    Panel a, b;
    TernaryLayout layout;
    LLVMValueRef i0, j0, row0, col0; /* of the block in C; of the warp in the block */
    LLVMValueRef slice;              /* of k, that the warp takes */
    LLVMValueRef slots, stages;      /* shared: two turns' scales, STAGES turns' operands */
    LLVMValueRef scale;              /* alloca, in flight: f32, of dX the bits of a bf16 with its sign set */
    LLVMValueRef sum[MAX_DOWN][MAX_ACROSS][4]; /* allocas */
} Product;

static bool is_code_rows(const GemmDesc *d) {
    return d->b == GEMM_B_T2_NK;
}
static bool is_code_steps(const GemmDesc *d) {
    return d->b == GEMM_B_T2_KN;
}

/* ---- how a product is cut up */

static bool fits(const GemmDesc *d) {
    if (is_code_rows(d)) return d->group % 32 == 0 || d->group >= d->k;
    return !is_code_steps(d) || d->group % SPAN == 0 || d->group >= d->n;
}

static bool may_slice(const GemmDesc *d) {
    return d->a_bf16 && d->b == GEMM_B_BF16_KN;
}

static int threads_of(const TileShape *s) {
    return NV_WARP * s->down * s->across * s->slices;
}

/* The tiles with which the multiprocessors are done first, when each takes one after the other; the first of
 * those with equal times. */
static const TileShape *shape_of(const GemmDesc *d, int64_t unit, const Target *t) {
    const int64_t multiprocessors = t->sm >= 90 ? 132 : 108; /* of an H100, an A100 */
    const TileShape *best = NULL;
    double least = 0;
    for (const TileShape *s = shapes; s < shapes + SHAPES; s++) {
        if ((s->cols < unit && s->cols < d->n) || (s->slices > 1 && !may_slice(d))) continue;
        int64_t each = (nv_gemm_blocks(d, s->rows, s->cols) + multiprocessors - 1) / multiprocessors;
        double cost = (double)each * s->rows * s->cols * s->cost;
        if (!best || cost < least) best = s, least = cost;
    }
    return best;
}

static Product plan(const GemmDesc *d, int64_t unit, const Target *t) {
    const TileShape *s = shape_of(d, unit, t);
    bool half = d->b == GEMM_B_BF16_KN, b_steps = d->b == GEMM_B_KN || half || is_code_steps(d);
    Product p = {.d = d, .shape = s, .turn = s->slices > 2 ? 64 : d->group || half || d->a_bf16 ? 32 : 16};
    p.mt = s->rows / s->down / 16;
    p.nt = s->cols / s->across / 8;
    p.a = (Panel){NULL, d->a_cols, d->a_bf16, d->m, d->k, s->rows, p.turn, threads_of(s)};
    p.b = (Panel){NULL, b_steps, half, d->n, d->k, s->cols, p.turn, threads_of(s)};
    p.b_spread = d->group || panel_by_vectors(&p.b);
    if (d->group) p.layout = ternary_layout(b_steps ? d->k : d->n, b_steps ? d->n : d->k, d->group);
    return p;
}

/* Bytes of a step's codes in shared memory: an odd number of 16, so that four steps begin in different banks,
 * neighbours or each second one. */
static int step_bytes(const Product *p) {
    return (p->shape->cols / 4 + 16) | 16;
}

static int64_t b_bytes(const Product *p) {
    if (is_code_rows(p->d)) return p->shape->cols * p->turn / 4;
    return is_code_steps(p->d) ? p->turn * step_bytes(p) : panel_bytes(&p->b);
}

static int64_t stage_bytes(const Product *p) {
    return panel_bytes(&p->a) + b_bytes(p);
}

/* A slot: f32 [column], or of dX bf16 [step][column / SPAN]. */
static int64_t slot_bytes(const Product *p) {
    if (is_code_rows(p->d)) return 4 * p->shape->cols;
    return is_code_steps(p->d) ? 2 * p->turn * p->shape->cols / SPAN : 0;
}

NvGrid nv_gemm_bf16_tile_grid(const GemmDesc *d, int64_t unit, const Target *t) {
    Product p = plan(d, unit, t);
    return (NvGrid){(uint32_t)nv_gemm_blocks(d, p.shape->rows, p.shape->cols), (uint32_t)threads_of(p.shape),
                    (uint32_t)(2 * slot_bytes(&p) + STAGES * stage_bytes(&p))};
}

NvGrid nv_gemm_bf16_grid(const GemmDesc *d, const Target *t) {
    return fits(d) ? nv_gemm_bf16_tile_grid(d, ANY_UNIT, t) : nv_gemm_grid(d, t);
}

/* ---- copies */

static LLVMValueRef below(const Product *p, LLVMValueRef x, int64_t end) {
    return gen_less(p->g, x, gen_i64(p->g, end));
}

/* Codes from a line of the matrix and a number along it on to `lines` lines of `bytes`, `stride` apart. What
 * lies behind its end meets zeros of A, or makes columns that are dropped: any codes will do, zeros do. */
static void copy_codes(const Product *p, LLVMValueRef to, LLVMValueRef line0, LLVMValueRef at0, int64_t exist,
                       int lines, int bytes, int stride) {
    Gen *g = p->g;
    int64_t row_bytes = p->layout.row_bytes;
    int each = bytes < 16 ? bytes : 16;
    while (row_bytes % each) each /= 2;
    int across = bytes / each, threads = threads_of(p->shape);
    for (int first = 0; first < lines * across; first += threads) {
        LLVMValueRef unit = gen_add(g, nv_thread(g), gen_i64(g, first));
        LLVMValueRef line = gen_div(g, unit, across), at = gen_mul(g, gen_mod(g, unit, across), each);
        LLVMValueRef place = gen_add(g, gen_mul(g, line, stride), at);
        If needed = {0};
        bool some = first + threads > lines * across;
        if (some) needed = gen_if(g, below(p, unit, lines * across));
        line = gen_add(g, line0, line);
        at = gen_add(g, gen_div(g, at0, 4), at);
        LLVMValueRef inside = NULL;
        if (exist % lines || row_bytes % bytes)
            inside = LLVMBuildAnd(g->b, below(p, line, exist), below(p, at, row_bytes), "");
        LLVMValueRef from = gen_at(g, g->i8, gen_buffer(g, 1), gen_add(g, gen_mul(g, line, row_bytes), at));
        nv_copy(g, gen_at(g, g->i8, to, place), from, each, inside);
        if (some) gen_if_end(g, &needed);
    }
}

static LLVMValueRef turn_at(const Product *p, LLVMValueRef base, LLVMValueRef k, int64_t bytes, int n) {
    LLVMValueRef turn = gen_mod(p->g, gen_div(p->g, k, p->turn), n);
    return gen_at(p->g, p->g->i8, base, gen_mul(p->g, turn, bytes));
}
static LLVMValueRef stage_a(const Product *p, LLVMValueRef k) {
    return turn_at(p, p->stages, k, stage_bytes(p), STAGES);
}
static LLVMValueRef stage_b(const Product *p, LLVMValueRef k) {
    return gen_at(p->g, p->g->i8, stage_a(p, k), gen_i64(p->g, panel_bytes(&p->a)));
}
static LLVMValueRef slot(const Product *p, LLVMValueRef k) {
    return turn_at(p, p->slots, k, slot_bytes(p), 2);
}

static void copy_turn(const Product *p, LLVMValueRef k) {
    panel_copy(p->g, &p->a, stage_a(p, k), p->i0, k);
    if (is_code_rows(p->d))
        copy_codes(p, stage_b(p, k), p->j0, k, p->d->n, p->shape->cols, p->turn / 4, p->turn / 4);
    else if (is_code_steps(p->d))
        copy_codes(p, stage_b(p, k), k, p->j0, p->d->k, p->turn, p->shape->cols / 4, step_bytes(p));
    else
        panel_copy(p->g, &p->b, stage_b(p, k), p->j0, k);
}

/* ---- scales */

static LLVMValueRef scale_at(const Product *p, LLVMValueRef row, LLVMValueRef group) {
    Gen *g = p->g;
    return ternary_load_scale(g, ternary_scales(g, gen_buffer(g, 1), row, &p->layout), group);
}

/* The scale of a column of C in a group: the unit of its sums; 1 for a group of zeros, where any will do. */
static LLVMValueRef unit_of(const Product *p, LLVMValueRef column, LLVMValueRef group) {
    Gen *g = p->g;
    LLVMValueRef scale = scale_at(p, gen_min(g, column, gen_i64(g, p->d->n - 1)), group);
    LLVMValueRef zero = LLVMBuildFCmp(g->b, LLVMRealOEQ, scale, gen_f32(g, 0), "");
    return LLVMBuildSelect(g->b, zero, gen_f32(g, 1), scale, "");
}

/* Does a group of a forward product begin at k, other than the first? */
static LLVMValueRef group_begins(const Product *p, LLVMValueRef k) {
    Gen *g = p->g;
    LLVMValueRef begins = LLVMBuildICmp(g->b, LLVMIntEQ, gen_mod(g, k, p->d->group), gen_i64(g, 0), "");
    LLVMValueRef later = LLVMBuildICmp(g->b, LLVMIntSGT, k, gen_i64(g, 0), "");
    return LLVMBuildAnd(g->b, LLVMBuildAnd(g->b, begins, later, ""), below(p, k, p->d->k), "");
}

/* Loads what the thread is to compute for the turn at k. */
static void load_scales(const Product *p, LLVMValueRef k) {
    Gen *g = p->g;
    LLVMValueRef thread = nv_thread(g);
    if (is_code_rows(p->d)) {
        If begins = gen_if(g, group_begins(p, k));
        LLVMValueRef column = gen_add(g, p->j0, thread), group = gen_div(g, k, p->d->group);
        LLVMValueRef before = unit_of(p, column, gen_sub(g, group, gen_i64(g, 1)));
        gen_store(g, LLVMBuildFDiv(g->b, before, unit_of(p, column, group), ""), p->scale);
        gen_if_end(g, &begins);
    } else if (is_code_steps(p->d)) {
        int across = p->shape->cols / SPAN;
        LLVMValueRef row = gen_add(g, k, gen_div(g, thread, across));
        LLVMValueRef column = gen_add(g, p->j0, gen_mul(g, gen_mod(g, thread, across), SPAN));
        LLVMValueRef group = gen_min(g, gen_div(g, column, p->d->group), gen_i64(g, p->layout.groups - 1));
        LLVMValueRef scale = mma_round(g, scale_at(p, gen_min(g, row, gen_i64(g, p->d->k - 1)), group));
        gen_store(g, LLVMBuildOr(g->b, scale, LLVMConstInt(g->i16, 0x8000, 0), ""), p->scale);
    }
}

static void store_scales(const Product *p, LLVMValueRef k) {
    Gen *g = p->g;
    LLVMValueRef thread = nv_thread(g);
    if (!p->d->group) return;
    LLVMTypeRef type = is_code_rows(p->d) ? g->f32 : g->i16;
    int64_t count = is_code_rows(p->d) ? p->shape->cols : p->turn * p->shape->cols / SPAN;
    LLVMValueRef wanted = below(p, thread, count);
    if (is_code_rows(p->d)) wanted = LLVMBuildAnd(g->b, wanted, group_begins(p, k), "");
    If needed = gen_if(g, wanted);
    gen_store(g, gen_load(g, type, p->scale), gen_at(g, type, slot(p, k), thread));
    gen_if_end(g, &needed);
}

/* ---- sums */

/* Column l of the lane's two of fragment j, within the tile. */
static LLVMValueRef column_of(const Product *p, int j, int l) {
    Gen *g = p->g;
    LLVMValueRef c = gen_add(g, gen_mul(g, gen_mod(g, nv_lane(g), 4), 2), gen_i64(g, l));
    return gen_add(g, p->col0, panel_row(g, p->b_spread, j, c));
}
/* The row of C of the lane in half 0 or 1 of fragment i. */
static LLVMValueRef row_of(const Product *p, int i, int half) {
    Gen *g = p->g;
    LLVMValueRef in_warp = panel_row(g, panel_by_vectors(&p->a), 2 * i + half, gen_div(g, nv_lane(g), 4));
    return gen_add(g, gen_add(g, p->i0, p->row0), in_warp);
}

static void scale_column(const Product *p, int j, int l, LLVMValueRef factor) {
    for (int i = 0; i < p->mt; i++)
        for (int half = 0; half < 4; half += 2) {
            LLVMValueRef at = p->sum[i][j][half + l];
            gen_store(p->g, LLVMBuildFMul(p->g->b, gen_load(p->g, p->g->f32, at), factor, ""), at);
        }
}

/* Brings the sums from the units of the last group to those of C. */
static void finish_groups(const Product *p) {
    Gen *g = p->g;
    for (int j = 0; j < p->nt; j++)
        for (int l = 0; l < 2; l++) {
            LLVMValueRef column = gen_add(g, p->j0, column_of(p, j, l));
            scale_column(p, j, l, unit_of(p, column, gen_i64(g, p->layout.groups - 1)));
        }
}

/* Brings the sums from the units of the group before k to those of the group that begins there. */
static void begin_group(const Product *p, LLVMValueRef k) {
    Gen *g = p->g;
    If begins = gen_if(g, group_begins(p, k));
    for (int j = 0; j < p->nt; j += 4) /* whose columns are neighbours */
        for (int l = 0; l < 2; l++) {
            LLVMValueRef ratios = tile_load(g, gen_at(g, g->f32, slot(p, k), column_of(p, j, l)), 4);
            for (int i = 0; i < 4; i++)
                scale_column(p, j + i, l, LLVMBuildExtractElement(g->b, ratios, gen_i32(g, i), ""));
        }
    gen_if_end(g, &begins);
}

/* The lane's two pairs of a word's codes, in the low bits of the halves of i32s. */
static void pairs_of_codes(const Product *p, LLVMValueRef word, Slice out) {
    Gen *g = p->g;
    LLVMValueRef t = LLVMBuildTrunc(g->b, gen_mod(g, nv_lane(g), 4), g->i32, "");
    if (!panel_of_neighbours(&p->a)) {
        out[0] = LLVMBuildLShr(g->b, word, LLVMBuildMul(g->b, t, gen_i32(g, 2), ""), "");
        out[1] = LLVMBuildLShr(g->b, out[0], gen_i32(g, 8), "");
        return;
    }
    LLVMValueRef even = LLVMBuildLShr(g->b, word, LLVMBuildMul(g->b, t, gen_i32(g, 4), ""), "");
    LLVMValueRef odd = LLVMBuildLShr(g->b, even, gen_i32(g, 2), "");
    for (int r = 0; r < 2; r++) { /* the low halves of both, the high halves */
        LLVMValueRef args[] = {even, odd, gen_i32(g, r ? 0x7632 : 0x5410)};
        out[r] = gen_intrinsic(g, "llvm.nvvm.prmt", NULL, args, 3);
    }
}

/* The slices of 16 steps of columns whose codes lie [column][turn / WORD]. */
static void slices_of_words(const Product *p, LLVMValueRef tile, int step, Slice *out) {
    Gen *g = p->g;
    int words = p->turn / WORD;
    LLVMValueRef c = gen_div(g, nv_lane(g), 4);
    for (int j = 0; j < p->nt; j++) {
        LLVMValueRef column = gen_add(g, p->col0, panel_row(g, true, j, c));
        LLVMValueRef at = gen_add(g, gen_mul(g, column, words), gen_i64(g, step / WORD));
        pairs_of_codes(p, gen_load(g, g->i32, gen_at(g, g->i32, tile, at)), out[j]);
        for (int r = 0; r < 2; r++) out[j][r] = mma_codes(g, out[j][r]);
    }
}

/* A pair of numbers as wide as `type`, `apart` from each other, in the halves of an i32. */
static LLVMValueRef halves(Gen *g, LLVMTypeRef type, LLVMValueRef at, int64_t offset, int64_t apart) {
    LLVMValueRef low = gen_load(g, type, gen_at(g, type, at, gen_i64(g, offset)));
    LLVMValueRef high = gen_load(g, type, gen_at(g, type, at, gen_i64(g, offset + apart)));
    high = LLVMBuildShl(g->b, LLVMBuildZExt(g->b, high, g->i32, ""), gen_i32(g, 16), "");
    return LLVMBuildOr(g->b, LLVMBuildZExt(g->b, low, g->i32, ""), high, "");
}

/* The same of codes that lie step by step, a byte for four columns, times their scales. */
static void slices_of_bytes(const Product *p, LLVMValueRef tile, LLVMValueRef scales, int step, Slice *out) {
    Gen *g = p->g;
    int ld = step_bytes(p), scales_ld = p->shape->cols / SPAN;
    bool neighbours = panel_of_neighbours(&p->a);
    int apart = neighbours ? 1 : 8, next = neighbours ? 8 : 4; /* steps of a pair; pairs */
    LLVMValueRef t = gen_mul(g, gen_mod(g, nv_lane(g), 4), neighbours ? 2 : 1), c = gen_div(g, nv_lane(g), 4);
    tile = gen_at(g, g->i8, tile, gen_add(g, gen_mul(g, t, ld), gen_add(g, gen_div(g, p->col0, 4), c)));
    scales = gen_at(g, g->i16, scales, gen_add(g, gen_mul(g, t, scales_ld), gen_div(g, p->col0, SPAN)));
    for (int j = 0; j < p->nt; j += 4)
        for (int r = 0; r < 2; r++) {
            int at = step + next * r;
            LLVMValueRef codes = halves(g, g->i8, tile, at * ld + 2 * j, apart * ld);
            LLVMValueRef factors = halves(g, g->i16, scales, at * scales_ld + j / 4, apart * scales_ld);
            for (int i = 0; i < 4; i++)
                out[j + i][r] =
                    mma_scaled_codes(g, LLVMBuildLShr(g->b, codes, gen_i32(g, 2 * i), ""), factors);
        }
}

/* sums += the turn at k, which is there. */
static void multiply(const Product *p, LLVMValueRef k) {
    Gen *g = p->g;
    LLVMValueRef sum[MAX_DOWN][MAX_ACROSS][4], a = stage_a(p, k), b = stage_b(p, k);
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) sum[i][j][l] = gen_load(g, g->f32, p->sum[i][j][l]);
    if (p->shape->slices > 1) {
        LLVMValueRef first = gen_mul(g, p->slice, 16);
        a = panel_from(g, &p->a, a, first), b = panel_from(g, &p->b, b, first);
    }
    for (int step = 0; step < p->turn; step += 16 * p->shape->slices) {
        Slice x[2 * MAX_DOWN], y[MAX_ACROSS];
        panel_slices(g, &p->a, a, p->row0, step, 2 * p->mt, x);
        if (is_code_rows(p->d))
            slices_of_words(p, b, step, y);
        else if (is_code_steps(p->d))
            slices_of_bytes(p, b, slot(p, k), step, y);
        else
            panel_slices(g, &p->b, b, p->col0, step, p->nt, y);
        for (int i = 0; i < p->mt; i++)
            for (int j = 0; j < p->nt; j++) {
                Slice *half = &x[2 * i];
                LLVMValueRef rows[4] = {half[0][0], half[1][0], half[0][1], half[1][1]};
                mma_add(g, sum[i][j], rows, y[j]);
            }
    }
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) gen_store(g, sum[i][j][l], p->sum[i][j][l]);
}

/* Puts a fragment, or adds what another thread has put there. */
static void exchange(const Product *p, const LLVMValueRef *fragment, LLVMValueRef place, bool take) {
    Gen *g = p->g;
    LLVMValueRef sum[4];
    for (int l = 0; l < 4; l++) sum[l] = gen_load(g, g->f32, fragment[l]);
    if (!take) {
        tile_store(g, tile_vector(g, sum, 4), place, 4);
        return;
    }
    LLVMValueRef other = tile_load(g, place, 4);
    for (int l = 0; l < 4; l++) {
        LLVMValueRef x = LLVMBuildExtractElement(g->b, other, gen_i32(g, l), "");
        gen_store(g, LLVMBuildFAdd(g->b, sum[l], x, ""), fragment[l]);
    }
}

/* The fragments of rows i0 and i0 + 1, which half of the slices puts and the other takes. */
static void join_rows(const Product *p, int i0, int half, bool take) {
    Gen *g = p->g;
    const int threads = NV_WARP * p->shape->down * p->shape->across; /* of a slice */
    LLVMValueRef slice = gen_sub(g, p->slice, gen_i64(g, take ? 0 : half));
    LLVMValueRef not_below = LLVMBuildICmp(g->b, LLVMIntSGE, slice, gen_i64(g, 0), "");
    LLVMValueRef at = gen_add(g, gen_mul(g, slice, threads), gen_mod(g, nv_thread(g), threads));
    If mine = gen_if(g, LLVMBuildAnd(g->b, not_below, gen_less(g, slice, gen_i64(g, half)), ""));
    for (int f = 0; f < 2 * p->nt; f++) {
        LLVMValueRef place = gen_mul(g, gen_add(g, at, gen_i64(g, f * half * threads)), 4);
        exchange(p, p->sum[i0 + f / p->nt][f % p->nt], gen_at(g, g->f32, p->stages, place), take);
    }
    gen_if_end(g, &mine);
}

/* Adds the slices' sums to those of slice 0: each of the upper half to one below, while there are two. */
static void join_slices(const Product *p) {
    for (int half = p->shape->slices / 2; half > 0; half /= 2)
        for (int i = 0; i < p->mt; i += 2)
            for (int take = 0; take < 2; take++) {
                nv_barrier(p->g);
                join_rows(p, i, half, take);
            }
}

/* Neighbours in a row of C: the same sum of four fragments where columns are dealt out so, else two of one.
 */
static void each_sum(Gen *g, const NvTile *t, NvTilePut *put, void *context) {
    const Product *p = t->sums;
    int n = p->b_spread ? 4 : 2;
    If whole = {0};
    if (p->shape->slices > 1) whole = gen_if(g, gen_less(g, p->slice, gen_i64(g, 1)));
    for (int i = 0; i < p->mt; i++)
        for (int half = 0; half < 2; half++)
            for (int x = 0; x < 2 * p->nt; x += n) {
                int j = p->b_spread ? x / 8 * 4 : x / 2, l = p->b_spread ? x / 4 % 2 : 0;
                LLVMValueRef next[4];
                for (int y = 0; y < n; y++) {
                    LLVMValueRef at = p->sum[i][p->b_spread ? j + y : j][2 * half + (p->b_spread ? l : y)];
                    next[y] = gen_load(g, g->f32, at);
                }
                put(g, context, row_of(p, i, half), gen_add(g, p->j0, column_of(p, j, l)), next, n);
            }
    if (p->shape->slices > 1) gen_if_end(g, &whole);
}

/* ---- the kernel */

static void begin(Product *p) {
    Gen *g = p->g;
    const int across = p->shape->across, warps = p->shape->down * across;
    LLVMValueRef warp = gen_mod(g, nv_warp(g), warps);
    nv_gemm_place(g, p->d, p->shape->rows, p->shape->cols, &p->i0, &p->j0);
    p->slice = gen_div(g, nv_warp(g), warps);
    p->row0 = gen_mul(g, gen_div(g, warp, across), 16 * p->mt);
    p->col0 = gen_mul(g, gen_mod(g, warp, across), 8 * p->nt);
    p->a.base = gen_buffer(g, 0);
    p->b.base = gen_buffer(g, 1);
    p->slots = nv_dynamic_shared(g);
    p->stages = gen_at(g, g->i8, p->slots, gen_i64(g, 2 * slot_bytes(p)));
    p->scale = gen_alloca(g, is_code_steps(p->d) ? g->i16 : g->f32, "scale");
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) {
                p->sum[i][j][l] = gen_alloca(g, g->f32, "sum");
                gen_store(g, gen_f32(g, 0), p->sum[i][j][l]);
            }
}

static void turns(const Product *p) {
    Gen *g = p->g;
    const int ahead = STAGES - 1;
    for (int i = 0; i < ahead; i++) {
        if (i * p->turn < p->d->k) copy_turn(p, gen_i64(g, i * p->turn));
        nv_copies_commit(g);
    }
    load_scales(p, gen_i64(g, 0));
    store_scales(p, gen_i64(g, 0));
    Loop k = gen_loop(g, gen_i64(g, 0), gen_i64(g, p->d->k), p->turn, "k");
    nv_copies_wait(g, ahead - 1);
    nv_barrier(g);
    LLVMValueRef copied = gen_add(g, k.i, gen_i64(g, ahead * p->turn)),
                 next = gen_add(g, k.i, gen_i64(g, p->turn));
    If more = gen_if(g, below(p, copied, p->d->k));
    copy_turn(p, copied);
    gen_if_end(g, &more);
    nv_copies_commit(g); /* the last groups are empty, so that the same number is on its way in each turn */
    load_scales(p, next);
    if (is_code_rows(p->d)) begin_group(p, k.i);
    multiply(p, k.i);
    store_scales(p, next);
    gen_loop_end(g, &k);
}

void nv_gemm_bf16_tile(Gen *g, const GemmDesc *d, int64_t unit, NvTileEnd *end, void *context) {
    Product p = plan(d, unit, g->target);
    p.g = g;
    begin(&p);
    turns(&p);
    if (is_code_rows(d)) finish_groups(&p);
    join_slices(&p);
    end(g, context,
        &(NvTile){.rows = p.shape->rows,
                  .cols = p.shape->cols,
                  .threads = threads_of(p.shape),
                  .i0 = p.i0,
                  .j0 = p.j0,
                  .shared = p.stages,
                  .shared_bytes = STAGES * stage_bytes(&p),
                  .each = each_sum,
                  .sums = &p});
}

void nv_gen_gemm_bf16(Gen *g, const char *name, const GemmDesc *d) {
    if (!fits(d)) {
        nv_gemm_rounded(g, name, d);
        return;
    }
    nv_kernel(g, name, 3, (uint32_t)threads_of(shape_of(d, ANY_UNIT, g->target)));
    nv_min_blocks(g, 1); /* or ptxas may spill a little to make room for more */
    nv_noalias(g);
    nv_gemm_bf16_tile(g, d, ANY_UNIT, nv_gemm_write_tile, (void *)d);
    gen_end(g);
}
