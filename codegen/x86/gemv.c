/* Products of a few rows x[m,k] with a ternary matrix w[n,k], as in decoding: one pass over the codes, which
 * are all that memory has to deliver.
 *
 *     y = sum over blocks of 128 of s_w * s_x * (sum of code * q),   x = s_x * q
 *
 * A tile slices x (slices.h) and then goes through its rows of w. The sum of a block is an integer and exact.
 * Each of its 8 lanes has the products of 16 neighbours, and so one scale of w: where groups are whole
 * blocks, the same. Weights in f32 are gemv_dense.c's. */
#include "../rows.h"
#include "slices.h"

/* Of a tile: less takes longer to slice x for, or else there is a tile for each core twice. */
enum { MIN_WEIGHTS = 1 << 15, MAX_WEIGHTS = 1 << 18 };

typedef struct Gemv {
    Gen *g;
    const GemvDesc *d;
    TernaryLayout layout;
    int digits; /* of x */
    LLVMValueRef x[SLICES_MAX_M], total[SLICES_MAX_M]; /* of each row: its slices; f32 lanes */
    LLVMValueRef codes, scales;                        /* of the row of w */
} Gemv;

bool gemv_fits(const GemvDesc *d) {
    if (!d->group) return d->m == 1;
    return d->m <= SLICES_MAX_M && (d->group % (d->i16 ? SLICES_BLOCK : SLICES_WORD) == 0 || d->group >= d->k);
}

static LLVMTypeRef vector(const Gemv *v, LLVMTypeRef elem) {
    return gen_vec(v->g, elem, SLICES_LANES);
}

/* The codes of a block that has `lanes` lanes of them; 0 for others, which meet x of 0. */
static LLVMValueRef load_codes(const Gemv *v, LLVMValueRef block, int64_t lanes) {
    Gen *g = v->g;
    LLVMTypeRef type = vector(v, g->i32);
    LLVMValueRef at = gen_at(g, type, v->codes, block);
    if (lanes == SLICES_LANES) return gen_load(g, type, at);
    LLVMValueRef count = gen_splat(g, gen_i32(g, lanes), SLICES_LANES);
    LLVMValueRef exist = LLVMBuildICmp(g->b, LLVMIntSLT, gen_iota(g, g->i32, SLICES_LANES), count, "");
    LLVMValueRef args[] = {at, gen_i32(g, 4), exist, LLVMConstNull(type)};
    return gen_masked(g, "llvm.masked.load", (LLVMTypeRef[]){type, g->ptr}, args, 4);
}

/* The scale of w in each lane. */
static LLVMValueRef load_scales(const Gemv *v, LLVMValueRef block) {
    Gen *g = v->g;
    LLVMValueRef col = gen_mul(g, block, SLICES_BLOCK), last = gen_i64(g, v->layout.groups - 1);
    LLVMValueRef lanes = LLVMGetPoison(vector(v, g->f16));
    bool same = v->d->group % SLICES_BLOCK == 0 || v->layout.groups == 1;
    for (int l = 0; l < (same ? 1 : SLICES_LANES); l++) {
        LLVMValueRef group = gen_div(g, gen_add(g, col, gen_i64(g, l * SLICES_WORD)), v->d->group);
        LLVMValueRef scale = gen_load(g, g->f16, gen_at(g, g->f16, v->scales, gen_min(g, group, last)));
        lanes = same ? gen_splat(g, scale, SLICES_LANES)
                     : LLVMBuildInsertElement(g->b, lanes, scale, gen_i32(g, l), "");
    }
    return LLVMBuildFPExt(g->b, lanes, vector(v, g->f32), "");
}

static void add_block(Gemv *v, LLVMValueRef block, int64_t lanes) {
    LLVMValueRef x[SLICES_MAX_M];
    for (int i = 0; i < v->d->m; i++) x[i] = slices_block(v->g, v->digits, v->x[i], block);
    slices_multiply(v->g, v->digits, load_codes(v, block, lanes), load_scales(v, block), (int)v->d->m, x, v->total);
}

/* y[:,row]. */
static void multiply_row(Gemv *v, LLVMValueRef row) {
    Gen *g = v->g;
    int64_t whole = v->d->k / SLICES_BLOCK, left = v->d->k % SLICES_BLOCK;
    LLVMValueRef w = gen_buffer(g, 1), y = gen_buffer(g, 2);
    v->codes = ternary_codes(g, w, row, &v->layout);
    v->scales = ternary_scales(g, w, row, &v->layout);
    for (int i = 0; i < v->d->m; i++) gen_store(g, LLVMConstNull(vector(v, g->f32)), v->total[i]);
    Loop block = gen_loop(g, gen_i64(g, 0), gen_i64(g, whole), 1, "block");
    add_block(v, block.i, SLICES_LANES);
    gen_loop_end(g, &block);
    if (left) add_block(v, gen_i64(g, whole), (left + SLICES_WORD - 1) / SLICES_WORD);
    for (int i = 0; i < v->d->m; i++) {
        LLVMValueRef sum = gen_reduce_add(g, gen_load(g, vector(v, g->f32), v->total[i]));
        gen_store(g, sum, gen_at(g, g->f32, y, gen_add(g, gen_i64(g, i * v->d->n), row)));
    }
}

static Tiling row_tiling(const GemvDesc *d, const Target *t) {
    int64_t fair = d->n / (2 * t->cores), least = MIN_WEIGHTS / d->k, most = MAX_WEIGHTS / d->k;
    return tiling_of(d->n, fair < least ? least : fair > most ? most : fair, 1);
}

static int digits_of(const GemvDesc *d) {
    return d->i16 ? SLICES_I16 : SLICES_F32;
}

static void gemv_ternary(Gen *g, const GemvDesc *d, const Tiling *tiling) {
    Gemv v = {.g = g, .d = d, .layout = ternary_layout(d->n, d->k, d->group), .digits = digits_of(d)};
    LLVMValueRef slice = gen_slice(g, v.digits), x = gen_buffer(g, 0), lo, n;
    for (int i = 0; i < d->m; i++) {
        v.x[i] = gen_at(g, g->i8, g->scratch, gen_i64(g, i * slices_bytes(d->k, v.digits)));
        v.total[i] = gen_alloca(g, vector(&v, g->f32), "total");
        LLVMValueRef row = gen_at(g, g->f32, x, gen_i64(g, i * d->k));
        gen_call(g, slice, (LLVMValueRef[]){row, gen_i64(g, d->k), v.x[i]}, 3);
    }
    gen_piece(g, tiling, &lo, &n);
    Loop row = gen_loop(g, lo, gen_add(g, lo, n), 1, "row");
    multiply_row(&v, row.i);
    gen_loop_end(g, &row);
}

void gen_gemv(Gen *g, const char *name, const GemvDesc *d) {
    Tiling tiling = row_tiling(d, g->target);
    gen_kernel(g, name);
    (d->group ? gemv_ternary : gemv_dense)(g, d, &tiling);
    gen_end(g);
}

uint32_t gemv_tiles(const GemvDesc *d, const Target *t) {
    return row_tiling(d, t).tiles;
}

uint64_t gemv_scratch(const GemvDesc *d, const Target *t) {
    (void)t;
    return d->group ? (uint64_t)(d->m * slices_bytes(d->k, digits_of(d))) : 0;
}
