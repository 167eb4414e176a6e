/* Packed codes as operand B of the product in bf16 (see gemm_bf16.c): their way to shared memory and to
 * fragments, and their scales. */
#include "gemm_bf16.h"
#include "../rows.h"

/* ---- copies */

/* Bytes of a step's codes in shared memory: an odd number of 16, so that four steps begin in different banks,
 * neighbours or each second one. */
int bf16_step_bytes(const GemmBf16 *p) {
    return (p->shape->cols / 4 + 16) | 16;
}

/* A slot: f32 [column], or of dX bf16 [step][column / SPAN]. */
int64_t bf16_slot_bytes(const GemmBf16 *p) {
    if (is_code_rows(p->d)) return 4 * p->shape->cols;
    return is_code_steps(p->d) ? 2 * p->turn * p->shape->cols / SPAN : 0;
}

/* Codes from a line of the matrix and a number along it on to `lines` lines of `bytes`, `stride` apart. What
 * lies behind its end meets zeros of A, or makes columns that are dropped: any codes will do, zeros do. */
static void copy_lines(const GemmBf16 *p, LLVMValueRef to, LLVMValueRef line0, LLVMValueRef at0,
                       int64_t exist, int lines, int bytes, int stride) {
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

void bf16_copy_codes(const GemmBf16 *p, LLVMValueRef to, LLVMValueRef k) {
    if (is_code_rows(p->d))
        copy_lines(p, to, p->j0, k, p->d->n, p->shape->cols, p->turn / 4, p->turn / 4);
    else
        copy_lines(p, to, k, p->j0, p->d->k, p->turn, p->shape->cols / 4, bf16_step_bytes(p));
}

/* ---- scales */

/* Where the turn's scales are. */
static LLVMValueRef slot(const GemmBf16 *p, LLVMValueRef k) {
    Gen *g = p->g;
    LLVMValueRef turn = gen_mod(g, gen_div(g, k, p->turn), 2);
    return gen_at(g, g->i8, p->slots, gen_mul(g, turn, bf16_slot_bytes(p)));
}

static LLVMValueRef scale_at(const GemmBf16 *p, LLVMValueRef row, LLVMValueRef group) {
    Gen *g = p->g;
    return ternary_load_scale(g, ternary_scales(g, gen_buffer(g, 1), row, &p->layout), group);
}

/* The scale of a column of C in a group: the unit of its sums; 1 for a group of zeros, where any will do. */
static LLVMValueRef unit_of(const GemmBf16 *p, LLVMValueRef column, LLVMValueRef group) {
    Gen *g = p->g;
    LLVMValueRef scale = scale_at(p, gen_min(g, column, gen_i64(g, p->d->n - 1)), group);
    LLVMValueRef zero = LLVMBuildFCmp(g->b, LLVMRealOEQ, scale, gen_f32(g, 0), "");
    return LLVMBuildSelect(g->b, zero, gen_f32(g, 1), scale, "");
}

/* Does a group of a forward product begin at k, other than the first? */
static LLVMValueRef group_begins(const GemmBf16 *p, LLVMValueRef k) {
    Gen *g = p->g;
    LLVMValueRef begins = LLVMBuildICmp(g->b, LLVMIntEQ, gen_mod(g, k, p->d->group), gen_i64(g, 0), "");
    LLVMValueRef later = LLVMBuildICmp(g->b, LLVMIntSGT, k, gen_i64(g, 0), "");
    return LLVMBuildAnd(g->b, LLVMBuildAnd(g->b, begins, later, ""), below(p, k, p->d->k), "");
}

void bf16_load_scales(const GemmBf16 *p, LLVMValueRef k) {
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

void bf16_store_scales(const GemmBf16 *p, LLVMValueRef k) {
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

static void scale_column(const GemmBf16 *p, int j, int l, LLVMValueRef factor) {
    for (int i = 0; i < p->mt; i++)
        for (int half = 0; half < 4; half += 2) {
            LLVMValueRef at = p->sum[i][j][half + l];
            gen_store(p->g, LLVMBuildFMul(p->g->b, gen_load(p->g, p->g->f32, at), factor, ""), at);
        }
}

void bf16_finish_groups(const GemmBf16 *p) {
    Gen *g = p->g;
    for (int j = 0; j < p->nt; j++)
        for (int l = 0; l < 2; l++) {
            LLVMValueRef column = gen_add(g, p->j0, bf16_column_of(p, j, l));
            scale_column(p, j, l, unit_of(p, column, gen_i64(g, p->layout.groups - 1)));
        }
}

void bf16_begin_group(const GemmBf16 *p, LLVMValueRef k) {
    Gen *g = p->g;
    If begins = gen_if(g, group_begins(p, k));
    for (int j = 0; j < p->nt; j += 4) /* whose columns are neighbours */
        for (int l = 0; l < 2; l++) {
            LLVMValueRef ratios = tile_load(g, gen_at(g, g->f32, slot(p, k), bf16_column_of(p, j, l)), 4);
            for (int i = 0; i < 4; i++)
                scale_column(p, j + i, l, LLVMBuildExtractElement(g->b, ratios, gen_i32(g, i), ""));
        }
    gen_if_end(g, &begins);
}

/* ---- fragments */

/* The lane's two pairs of a word's codes, in the low bits of the halves of i32s. */
static void pairs_of_codes(const GemmBf16 *p, LLVMValueRef word, Slice out) {
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
static void slices_of_words(const GemmBf16 *p, LLVMValueRef tile, int step, Slice *out) {
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
static void slices_of_bytes(const GemmBf16 *p, LLVMValueRef tile, LLVMValueRef scales, int step, Slice *out) {
    Gen *g = p->g;
    int ld = bf16_step_bytes(p), scales_ld = p->shape->cols / SPAN;
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

void bf16_slices_of_codes(const GemmBf16 *p, LLVMValueRef tile, LLVMValueRef k, int step, Slice *out) {
    if (is_code_rows(p->d))
        slices_of_words(p, tile, step, out);
    else
        slices_of_bytes(p, tile, slot(p, k), step, out);
}
