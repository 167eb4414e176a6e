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
#include "gemm_bf16.h"
#include "../rows.h"

static const TileShape shapes[] = {
    {128, 256, 2, 4, 1, 1},    {192, 128, 2, 4, 1, 1.1}, {128, 128, 2, 2, 2, 1.05}, {64, 128, 1, 2, 4, 1.15},
    {128, 128, 2, 4, 1, 1.25}, {64, 64, 2, 2, 1, 1.6},   {64, 128, 2, 4, 1, 1.6},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* ---- how a product is cut up */

static bool fits(const GemmDesc *d) {
    if (is_code_rows(d)) return d->group % 32 == 0 || d->group >= d->k;
    return !is_code_steps(d) || d->group % SPAN == 0 || d->group >= d->n;
}

static bool may_slice(const GemmDesc *d) {
    return d->a_bf16 && d->b == GEMM_B_BF16_KN;
}

static GemmBf16 plan_as(const GemmDesc *d, const TileShape *s) {
    bool half = d->b == GEMM_B_BF16_KN, b_steps = d->b == GEMM_B_KN || half || is_code_steps(d);
    GemmBf16 p = {.d = d, .shape = s, .turn = s->slices > 2 ? 64 : d->group || half || d->a_bf16 ? 32 : 16};
    p.mt = s->rows / s->down / 16;
    p.nt = s->cols / s->across / 8;
    p.a = (Panel){NULL, d->a_cols, d->a_bf16, d->m, d->k, s->rows, p.turn, threads_of(s)};
    p.b = (Panel){NULL, b_steps, half, d->n, d->k, s->cols, p.turn, threads_of(s)};
    p.b_spread = d->group || panel_by_vectors(&p.b);
    if (d->group) p.layout = ternary_layout(b_steps ? d->k : d->n, b_steps ? d->n : d->k, d->group);
    return p;
}

static int64_t b_bytes(const GemmBf16 *p) {
    if (is_code_rows(p->d)) return p->shape->cols * p->turn / 4;
    return is_code_steps(p->d) ? p->turn * bf16_step_bytes(p) : panel_bytes(&p->b);
}

static int64_t stage_bytes(const GemmBf16 *p) {
    return panel_bytes(&p->a) + b_bytes(p);
}

static int64_t shared_bytes(const GemmBf16 *p) {
    return 2 * bf16_slot_bytes(p) + STAGES * stage_bytes(p);
}

/* The tiles with which the multiprocessors are done first, when each takes one after the other; the first of
 * those with equal times. Of those with so many slices of k; 0: with any. */
static const TileShape *fastest(const GemmDesc *d, int64_t unit, int slices, const Target *t) {
    const int64_t multiprocessors = t->sm >= 90 ? 132 : 108; /* of an H100, an A100 */
    const TileShape *best = NULL;
    double least = 0;
    for (const TileShape *s = shapes; s < shapes + SHAPES; s++) {
        if ((s->cols < unit && s->cols < d->n) || (s->slices > 1 && !may_slice(d))) continue;
        const GemmBf16 p = plan_as(d, s);
        if ((slices && s->slices != slices) || shared_bytes(&p) > t->shared) continue;
        int64_t each = (nv_gemm_blocks(d, s->rows, s->cols) + multiprocessors - 1) / multiprocessors;
        double cost = (double)each * s->rows * s->cols * s->cost;
        if (!best || cost < least) best = s, least = cost;
    }
    return best;
}

/* The slices decide in which order a sum is taken, so the unit has no say in them: a product is the same bits
 * with an epilogue that wants one and without. They are those of the widest unit, with which gradients of
 * weights are updated. */
static const TileShape *shape_of(const GemmDesc *d, int64_t unit, const Target *t) {
    return fastest(d, unit, fastest(d, WIDEST_UNIT, 0, t)->slices, t);
}

static GemmBf16 plan(const GemmDesc *d, int64_t unit, const Target *t) {
    return plan_as(d, shape_of(d, unit, t));
}

NvGrid nv_gemm_bf16_tile_grid(const GemmDesc *d, int64_t unit, const Target *t) {
    GemmBf16 p = plan(d, unit, t);
    return (NvGrid){(uint32_t)nv_gemm_blocks(d, p.shape->rows, p.shape->cols), (uint32_t)threads_of(p.shape),
                    (uint32_t)shared_bytes(&p)};
}

NvGrid nv_gemm_bf16_grid(const GemmDesc *d, const Target *t) {
    return fits(d) ? nv_gemm_bf16_tile_grid(d, ANY_UNIT, t) : nv_gemm_grid(d, t);
}

/* ---- copies */

static LLVMValueRef turn_at(const GemmBf16 *p, LLVMValueRef base, LLVMValueRef k, int64_t bytes, int n) {
    LLVMValueRef turn = gen_mod(p->g, gen_div(p->g, k, p->turn), n);
    return gen_at(p->g, p->g->i8, base, gen_mul(p->g, turn, bytes));
}
static LLVMValueRef stage_a(const GemmBf16 *p, LLVMValueRef k) {
    return turn_at(p, p->stages, k, stage_bytes(p), STAGES);
}
static LLVMValueRef stage_b(const GemmBf16 *p, LLVMValueRef k) {
    return gen_at(p->g, p->g->i8, stage_a(p, k), gen_i64(p->g, panel_bytes(&p->a)));
}

static void copy_turn(const GemmBf16 *p, LLVMValueRef k) {
    panel_copy(p->g, &p->a, stage_a(p, k), p->i0, k);
    if (p->d->group)
        bf16_copy_codes(p, stage_b(p, k), k);
    else
        panel_copy(p->g, &p->b, stage_b(p, k), p->j0, k);
}

/* ---- sums */

LLVMValueRef bf16_column_of(const GemmBf16 *p, int j, int l) {
    Gen *g = p->g;
    LLVMValueRef c = gen_add(g, gen_mul(g, gen_mod(g, nv_lane(g), 4), 2), gen_i64(g, l));
    return gen_add(g, p->col0, panel_row(g, p->b_spread, j, c));
}
/* The row of C of the lane in half 0 or 1 of fragment i. */
static LLVMValueRef row_of(const GemmBf16 *p, int i, int half) {
    Gen *g = p->g;
    LLVMValueRef in_warp = panel_row(g, panel_by_vectors(&p->a), 2 * i + half, gen_div(g, nv_lane(g), 4));
    return gen_add(g, gen_add(g, p->i0, p->row0), in_warp);
}

/* sums += the turn at k, which is there. */
static void multiply(const GemmBf16 *p, LLVMValueRef k) {
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
        if (p->d->group)
            bf16_slices_of_codes(p, b, k, step, y);
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
static void exchange(const GemmBf16 *p, const LLVMValueRef *fragment, LLVMValueRef place, bool take) {
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
static void join_rows(const GemmBf16 *p, int i0, int half, bool take) {
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
static void join_slices(const GemmBf16 *p) {
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
    const GemmBf16 *p = t->sums;
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
                put(g, context, row_of(p, i, half), gen_add(g, p->j0, bf16_column_of(p, j, l)), next, n);
            }
    if (p->shape->slices > 1) gen_if_end(g, &whole);
}

/* ---- the kernel */

static void begin(GemmBf16 *p) {
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
    p->stages = gen_at(g, g->i8, p->slots, gen_i64(g, 2 * bf16_slot_bytes(p)));
    p->scale = gen_alloca(g, is_code_steps(p->d) ? g->i16 : g->f32, "scale");
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) {
                p->sum[i][j][l] = gen_alloca(g, g->f32, "sum");
                gen_store(g, gen_f32(g, 0), p->sum[i][j][l]);
            }
}

static void turns(const GemmBf16 *p) {
    Gen *g = p->g;
    const int ahead = STAGES - 1;
    for (int i = 0; i < ahead; i++) {
        if (i * p->turn < p->d->k) copy_turn(p, gen_i64(g, i * p->turn));
        nv_copies_commit(g);
    }
    bf16_load_scales(p, gen_i64(g, 0));
    bf16_store_scales(p, gen_i64(g, 0));
    Loop k = gen_loop(g, gen_i64(g, 0), gen_i64(g, p->d->k), p->turn, "k");
    nv_copies_wait(g, ahead - 1);
    nv_barrier(g);
    LLVMValueRef copied = gen_add(g, k.i, gen_i64(g, ahead * p->turn)),
                 next = gen_add(g, k.i, gen_i64(g, p->turn));
    If more = gen_if(g, below(p, copied, p->d->k));
    copy_turn(p, copied);
    gen_if_end(g, &more);
    nv_copies_commit(g); /* the last groups are empty, so that the same number is on its way in each turn */
    bf16_load_scales(p, next);
    if (is_code_rows(p->d)) bf16_begin_group(p, k.i);
    multiply(p, k.i);
    bf16_store_scales(p, next);
    gen_loop_end(g, &k);
}

void nv_gemm_bf16_tile(Gen *g, const GemmDesc *d, int64_t unit, NvTileEnd *end, void *context) {
    GemmBf16 p = plan(d, unit, g->target);
    p.g = g;
    begin(&p);
    turns(&p);
    if (is_code_rows(d)) bf16_finish_groups(&p);
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
