/* Products of a few rows x[m,k] with a ternary matrix w[n,k], as in decoding: one pass over the codes, which
 * are all that memory has to deliver. One row, with groups of whole blocks, is gemv_fixed.c's, weights in f32
 * are gemv_dense.c's; here is the rest:
 *
 *     y = sum over groups of s * (sum of code * x)
 *
 * A word of 16 codes is broadcast and shifted so that lane i has code i in its low two bits; those select one of
 * {-1, 0, 1} by vpermilps, which looks at nothing else. So 8 (or 16) weights cost a shift, a permutation and a
 * multiply-add. Several rows of w at a time share x and keep the sums independent. */
#include "rows.h"
#include <string.h>

enum { WORD = 16, MAX_M = 4, SUMS = 4 /* rows of w times rows of x at a time */ };

typedef struct Gemv {
    Gen *g;
    const GemvDesc *d;
    int lanes, vectors, rows; /* of a vector; vectors of a word; rows of w at a time */
    LLVMValueRef x;
    LLVMValueRef table, shift[2];
    LLVMValueRef codes[SUMS], scales[SUMS];            /* of each row of w */
    LLVMValueRef sum[SUMS][MAX_M], total[SUMS][MAX_M]; /* row of w, row of x: of a group, of all */
} Gemv;

bool gemv_fits(const GemvDesc *d) {
    if (!d->group) return d->m == 1;
    return d->m <= MAX_M && (d->group % WORD == 0 || d->group >= d->k);
}

static LLVMTypeRef vector(const Gemv *v) {
    return gen_vec(v->g, v->g->f32, v->lanes);
}

/* The elements of {-1, 0, 1, 0} that the low two bits of each lane select. */
static LLVMValueRef select_codes(const Gemv *v, LLVMValueRef bits) {
    const char *name =
        v->lanes == 16 ? "llvm.x86.avx512.vpermilvar.ps.512" : "llvm.x86.avx.vpermilvar.ps.256";
    LLVMValueRef fn =
        LLVMGetIntrinsicDeclaration(v->g->mod, LLVMLookupIntrinsicID(name, strlen(name)), NULL, 0);
    return gen_call(v->g, fn, (LLVMValueRef[]){v->table, bits}, 2);
}

static void make_constants(Gemv *v) {
    Gen *g = v->g;
    static const double value[] = {-1, 0, 1, 0};
    LLVMValueRef table[16], shift[16];
    for (int i = 0; i < v->lanes; i++) table[i] = gen_f32(g, value[i % 4]);
    v->table = LLVMConstVector(table, (unsigned)v->lanes);
    for (int u = 0; u < v->vectors; u++) {
        for (int i = 0; i < v->lanes; i++) shift[i] = gen_i32(g, 2 * (u * v->lanes + i));
        v->shift[u] = LLVMConstVector(shift, (unsigned)v->lanes);
    }
}

/* Vector u of word `word` of row i of x; `count` < WORD: the number of elements that exist. */
static LLVMValueRef load_x(const Gemv *v, int i, LLVMValueRef word, int u, int64_t count) {
    Gen *g = v->g;
    LLVMValueRef row = gen_at(g, g->f32, v->x, gen_i64(g, i * v->d->k));
    Lanes at = {.col = gen_add(g, gen_mul(g, word, WORD), gen_i64(g, u * v->lanes))};
    if (count == WORD) return gen_load(g, vector(v), gen_at(g, g->f32, row, at.col));
    LLVMValueRef left = gen_splat(g, gen_i32(g, count - u * v->lanes), v->lanes);
    at.mask = LLVMBuildICmp(g->b, LLVMIntSLT, gen_iota(g, g->i32, v->lanes), left, "");
    return lanes_load(g, row, &at);
}

static void add_word(const Gemv *v, LLVMValueRef word, int64_t count) {
    Gen *g = v->g;
    for (int u = 0; u < v->vectors; u++) {
        LLVMValueRef x[MAX_M];
        for (int i = 0; i < v->d->m; i++) x[i] = load_x(v, i, word, u, count);
        for (int r = 0; r < v->rows; r++) {
            LLVMValueRef bits = gen_load(g, g->i32, gen_at(g, g->i32, v->codes[r], word));
            bits = LLVMBuildLShr(g->b, gen_splat(g, bits, v->lanes), v->shift[u], "");
            LLVMValueRef w = select_codes(v, bits);
            for (int i = 0; i < v->d->m; i++) {
                LLVMValueRef at = v->sum[r][i];
                gen_store(g, gen_fma(g, w, x[i], gen_load(g, vector(v), at)), at);
            }
        }
    }
}

/* Adds a group of `count` weights from word `first` on. */
static void add_group(const Gemv *v, LLVMValueRef group, LLVMValueRef first, int64_t count) {
    Gen *g = v->g;
    int64_t words = count / WORD, unroll = words % 4 == 0 ? 4 : words % 2 == 0 ? 2 : 1;
    for (int r = 0; r < v->rows; r++)
        for (int i = 0; i < v->d->m; i++) gen_store(g, LLVMConstNull(vector(v)), v->sum[r][i]);
    LLVMValueRef end = gen_add(g, first, gen_i64(g, words));
    Loop word = gen_loop(g, first, end, unroll, "word");
    for (int64_t u = 0; u < unroll; u++) add_word(v, gen_add(g, word.i, gen_i64(g, u)), WORD);
    gen_loop_end(g, &word);
    if (count % WORD) add_word(v, end, count % WORD);
    for (int r = 0; r < v->rows; r++) {
        LLVMValueRef scale = gen_load(g, g->f16, gen_at(g, g->f16, v->scales[r], group));
        scale = gen_splat(g, LLVMBuildFPExt(g->b, scale, g->f32, ""), v->lanes);
        for (int i = 0; i < v->d->m; i++) {
            LLVMValueRef sum = gen_load(g, vector(v), v->sum[r][i]), total = v->total[r][i];
            gen_store(g, gen_fma(g, scale, sum, gen_load(g, vector(v), total)), total);
        }
    }
}

static void all_groups(const Gemv *v) {
    Gen *g = v->g;
    int64_t k = v->d->k, size = v->d->group < k ? v->d->group : k, whole = k / size;
    Loop group = gen_loop(g, gen_i64(g, 0), gen_i64(g, whole), 1, "group");
    add_group(v, group.i, gen_mul(g, group.i, size / WORD), size);
    gen_loop_end(g, &group);
    if (k % size) add_group(v, gen_i64(g, whole), gen_i64(g, whole * (size / WORD)), k % size);
}

/* In fixed point each tile converts x anew, so tiles are larger. */
static Tiling row_tiling(const GemvDesc *d) {
    int64_t weights = gemv_fits_fixed(d) ? 1 << 18 : 1 << 16;
    return tiling_of(d->n, (weights + d->k - 1) / d->k, SUMS);
}

static void alloc_sums(Gemv *v) {
    for (int r = 0; r < v->rows; r++)
        for (int i = 0; i < v->d->m; i++) {
            v->total[r][i] = gen_alloca(v->g, vector(v), "total");
            v->sum[r][i] = gen_alloca(v->g, vector(v), "sum");
        }
}

static void gemv_ternary(Gen *g, const GemvDesc *d, const Tiling *tiling) {
    TernaryLayout layout = ternary_layout(d->n, d->k, d->group);
    Gemv v = {.g = g, .d = d, .lanes = strcmp(g->target->level, "x86-64-v4") == 0 ? 16 : 8};
    v.vectors = WORD / v.lanes;
    v.rows = SUMS / (int)d->m;
    v.x = gen_buffer(g, 0);
    make_constants(&v);
    alloc_sums(&v);
    LLVMValueRef w = gen_buffer(g, 1), y = gen_buffer(g, 2), lo, n, row[SUMS];
    gen_piece(g, tiling, &lo, &n);
    LLVMValueRef end = gen_add(g, lo, n), last = gen_sub(g, end, gen_i64(g, 1));
    Loop rows = gen_loop(g, lo, end, v.rows, "rows");
    for (int r = 0; r < v.rows; r++) {
        row[r] = gen_min(g, gen_add(g, rows.i, gen_i64(g, r)), last); /* at the end the last one again */
        v.codes[r] = ternary_codes(g, w, row[r], &layout);
        v.scales[r] = ternary_scales(g, w, row[r], &layout);
        for (int i = 0; i < d->m; i++) gen_store(g, LLVMConstNull(vector(&v)), v.total[r][i]);
    }
    all_groups(&v);
    for (int r = 0; r < v.rows; r++)
        for (int i = 0; i < d->m; i++)
            gen_store(g, gen_reduce_add(g, gen_load(g, vector(&v), v.total[r][i])),
                      gen_at(g, g->f32, y, gen_add(g, gen_i64(g, i * d->n), row[r])));
    gen_loop_end(g, &rows);
}

void gen_gemv(Gen *g, const char *name, const GemvDesc *d) {
    Tiling tiling = row_tiling(d);
    gen_kernel(g, name);
    (!d->group ? gemv_dense : gemv_fits_fixed(d) ? gemv_fixed : gemv_ternary)(g, d, &tiling);
    gen_end(g);
}

uint32_t gemv_tiles(const GemvDesc *d, const Target *target) {
    (void)target;
    return row_tiling(d).tiles;
}

uint64_t gemv_scratch(const GemvDesc *d, const Target *target) {
    (void)target;
    return gemv_fits_fixed(d) ? gemv_fixed_scratch(d) : 0;
}
