/* Products of a few rows x[m,k] with a ternary matrix w[n,k], as in decoding:
 * one pass over the codes.
 *
 * A warp takes 4 rows of w (fewer where that would leave multiprocessors idle),
 * its lanes words of 16 codes 32 words apart, and each word x 4 vectors of x
 * that its rows share:
 *
 *     y = sum over words of scale * (sum of code * x),  then over the lanes by
 * shuffles
 *
 * A code costs three instructions. The two bits of code u at bit 2i of a word,
 * OR'ed into the bits of 2^23, are the float 2^23 + 4^i u; less 2^23 + 4^i that
 * is 4^i (u - 1), and it meets x / 4^i. All of it is exact. */
#include "../rows.h"
#include "tile.h"

enum {
    WORD = 16,
    HALF = 8,
    WARPS = 4,
    MAX_M = 4,
    MAX_ROWS = 4,
    WAVE = 2 * 108 /* blocks */
};

typedef struct Gemv {
    Gen *g;
    const GemvDesc *d;
    TernaryLayout layout;
    int rows; /* of w that a warp takes */
    LLVMValueRef lane, row[MAX_ROWS], total[MAX_ROWS][MAX_M];
} Gemv;

static int rows_of(const GemvDesc *d) {
    int rows = MAX_ROWS;
    while (rows > 1 && (d->n + WARPS * rows - 1) / (WARPS * rows) < WAVE) rows /= 2;
    return rows;
}

NvGrid nv_gemv_grid(const GemvDesc *d, const Target *t) {
    (void)t;
    int rows = WARPS * rows_of(d);
    return (NvGrid){(uint32_t)((d->n + rows - 1) / rows), NV_WARP * WARPS, 0};
}

/* x[i, 16 word ..], number l divided by 4^(l % 8); 0 behind the end. */
static void load_x(const Gemv *v, int i, LLVMValueRef word, LLVMValueRef *x) {
    Gen *g = v->g;
    int64_t k = v->d->k;
    int n = k % 4 ? 1 : 4;
    for (int l = 0; l < WORD; l += n) {
        LLVMValueRef col = gen_add(g, gen_mul(g, word, WORD), gen_i64(g, l)), inside = NULL;
        if (k % WORD) {
            inside = gen_less(g, col, gen_i64(g, k));
            col = gen_min(g, col, gen_i64(g, k - n));
        }
        LLVMValueRef at = gen_at(g, g->f32, gen_buffer(g, 0), gen_add(g, gen_i64(g, i * k), col));
        LLVMValueRef vec = tile_load(g, at, n);
        for (int j = 0; j < n; j++) {
            LLVMValueRef y = n == 1 ? vec : LLVMBuildExtractElement(g->b, vec, gen_i32(g, j), "");
            if (inside) y = LLVMBuildSelect(g->b, inside, y, gen_f32(g, 0), "");
            x[l + j] = LLVMBuildFMul(g->b, y, gen_f32(g, 1.0 / (double)(1 << 2 * ((l + j) % HALF))), "");
        }
    }
}

/* 4^i (code i - 1) of 8 codes. */
static LLVMValueRef code_at(Gen *g, LLVMValueRef codes, int i) {
    LLVMValueRef bits = LLVMBuildAnd(g->b, codes, gen_i32(g, 3 << 2 * i), "");
    bits = LLVMBuildOr(g->b, bits, gen_i32(g, 0x4b000000), "");
    return LLVMBuildFSub(g->b, LLVMBuildBitCast(g->b, bits, g->f32, ""), gen_f32(g, 0x1p23 + (1 << 2 * i)),
                         "");
}

static LLVMValueRef load_codes(const Gemv *v, LLVMValueRef row, LLVMValueRef word) {
    Gen *g = v->g;
    LLVMValueRef codes = ternary_codes(g, gen_buffer(g, 1), row, &v->layout);
    return gen_load(g, g->i32, gen_at(g, g->i32, codes, word));
}

static LLVMValueRef load_scale(const Gemv *v, LLVMValueRef row, LLVMValueRef word) {
    Gen *g = v->g;
    LLVMValueRef group = gen_div(g, gen_mul(g, word, WORD), v->d->group);
    return ternary_load_scale(g, ternary_scales(g, gen_buffer(g, 1), row, &v->layout), group);
}

static void add_word(const Gemv *v, LLVMValueRef word) {
    Gen *g = v->g;
    LLVMValueRef half[MAX_ROWS][2], scale[MAX_ROWS], x[WORD];
    for (int r = 0; r < v->rows; r++) {
        half[r][0] = load_codes(v, v->row[r], word);
        half[r][1] = LLVMBuildLShr(g->b, half[r][0], gen_i32(g, 2 * HALF), "");
        scale[r] = load_scale(v, v->row[r], word);
    }
    for (int i = 0; i < v->d->m; i++) {
        load_x(v, i, word, x);
        for (int r = 0; r < v->rows; r++) {
            LLVMValueRef sum = gen_f32(g, 0), total = gen_load(g, g->f32, v->total[r][i]);
            for (int l = 0; l < WORD; l++)
                sum = gen_fma(g, code_at(g, half[r][l / HALF], l % HALF), x[l], sum);
            gen_store(g, gen_fma(g, scale[r], sum, total), v->total[r][i]);
        }
    }
}

static void write_sums(const Gemv *v, LLVMValueRef first) {
    Gen *g = v->g;
    LLVMValueRef leads = LLVMBuildICmp(g->b, LLVMIntEQ, v->lane, gen_i64(g, 0), "");
    for (int r = 0; r < v->rows; r++) {
        LLVMValueRef row = gen_add(g, first, gen_i64(g, r)), sum[MAX_M];
        for (int i = 0; i < v->d->m; i++)
            sum[i] = nv_warp_fold(g, NV_ADD, gen_load(g, g->f32, v->total[r][i]), NV_WARP);
        LLVMValueRef exists = gen_less(g, row, gen_i64(g, v->d->n));
        If write = gen_if(g, LLVMBuildAnd(g->b, leads, exists, ""));
        for (int i = 0; i < v->d->m; i++)
            gen_store(g, sum[i],
                      gen_at(g, g->f32, gen_buffer(g, 2), gen_add(g, gen_i64(g, i * v->d->n), row)));
        gen_if_end(g, &write);
    }
}

void nv_gen_gemv(Gen *g, const char *name, const GemvDesc *d) {
    nv_kernel(g, name, 3, NV_WARP * WARPS);
    nv_noalias(g);
    Gemv v = {.g = g, .d = d, .layout = ternary_layout(d->n, d->k, d->group), .rows = rows_of(d)};
    v.lane = nv_lane(g);
    LLVMValueRef first = gen_mul(g, gen_add(g, gen_mul(g, g->tile, WARPS), nv_warp(g)), v.rows);
    for (int r = 0; r < v.rows; r++) {
        v.row[r] = gen_min(g, gen_add(g, first, gen_i64(g, r)), gen_i64(g, d->n - 1));
        for (int i = 0; i < d->m; i++) {
            v.total[r][i] = gen_alloca(g, g->f32, "total");
            gen_store(g, gen_f32(g, 0), v.total[r][i]);
        }
    }
    Loop word = gen_loop(g, v.lane, gen_i64(g, (d->k + WORD - 1) / WORD), NV_WARP, "word");
    add_word(&v, word.i);
    gen_loop_end(g, &word);
    write_sums(&v, first);
    gen_end(g);
}
