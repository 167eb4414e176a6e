/* A block of the int16 product's operands, from memory to bytes in shared memory (see gemm_i16.c).
 *
 * Bytes lie row by row (A) and column by column (B), in both operands every 16 steps as 0 4 8 12, 1 5 9 13,
 * ..: that is how codes come out of a word by one shift and one mask. */
#include "gemm_i16.h"
#include "../rows.h"

enum { MOST_WORDS = 8 /* words of codes of a thread in a block */ };

int64_t i16_raw_bytes(const GemmI16 *p) {
    return (int64_t)4 * p->side * p->raw_ld;
}
int64_t i16_words_bytes(void) {
    return (int64_t)4 * MOST_WORDS * MMA_THREADS;
}

/* ---- activations */

LLVMValueRef i16_scale_at(const GemmI16 *p, LLVMValueRef row, LLVMValueRef group) {
    Gen *g = p->g;
    return ternary_load_scale(g, ternary_scales(g, gen_buffer(g, 1), row, &p->layout), group);
}

/* The scale of the weights' row base + thread in the tile's group of columns, and from its register to
 * fold[thread]. */
static void load_fold(const GemmI16 *p) {
    Gen *g = p->g;
    LLVMValueRef row = gen_min(g, gen_add(g, p->base, nv_thread(g)), gen_i64(g, p->d->k - 1));
    gen_store(g, i16_scale_at(p, row, gen_div(g, p->j0, p->d->group)), p->next_fold);
}
void i16_store_fold(const GemmI16 *p) {
    Gen *g = p->g;
    If one = gen_if(g, gen_less(g, nv_thread(g), gen_i64(g, p->depth)));
    gen_store(g, gen_load(g, g->f32, p->next_fold), gen_at(g, g->f32, p->fold, nv_thread(g)));
    gen_if_end(g, &one);
}

/* Where step kk of a row of the block waits. */
static LLVMValueRef raw_at(const GemmI16 *p, LLVMValueRef row, LLVMValueRef kk) {
    Gen *g = p->g;
    LLVMValueRef at = gen_add(g, kk, gen_mul(g, gen_div(g, kk, WORD), WORD_PAD));
    return gen_at(g, g->f32, p->raw, gen_add(g, gen_mul(g, row, p->raw_ld), at));
}

/* Starts to copy the block's activations; 0 for what does not exist. */
static void fetch_steps(const GemmI16 *p) {
    Gen *g = p->g;
    int64_t k = p->d->k;
    int n = k % 4 ? 1 : 4, across = p->depth / n;
    for (int first = 0; first < p->side * across; first += MMA_THREADS) {
        LLVMValueRef unit = gen_add(g, nv_thread(g), gen_i64(g, first));
        LLVMValueRef row = gen_div(g, unit, across), kk = gen_mul(g, gen_mod(g, unit, across), n);
        LLVMValueRef to = raw_at(p, row, kk), step = gen_add(g, p->base, kk);
        row = gen_add(g, p->i0, row);
        LLVMValueRef inside =
            LLVMBuildAnd(g->b, gen_less(g, row, gen_i64(g, p->d->m)), gen_less(g, step, gen_i64(g, k)), "");
        LLVMValueRef from = gen_at(g, g->f32, gen_buffer(g, 0), gen_add(g, gen_mul(g, row, k), step));
        nv_copy(g, to, from, 4 * n, inside);
    }
}

/* 16 steps of a row of the tile from kk on within the block; 0 outside of its steps. */
static void load_steps(const GemmI16 *p, LLVMValueRef row, LLVMValueRef kk, LLVMValueRef x[WORD]) {
    Gen *g = p->g;
    kk = gen_min(g, kk, gen_i64(g, p->depth - WORD)); /* of lanes that have no word */
    for (int l = 0; l < WORD; l += 4) {
        LLVMValueRef v = tile_load(g, gen_at(g, g->f32, raw_at(p, row, kk), gen_i64(g, l)), 4);
        for (int j = 0; j < 4; j++) {
            LLVMValueRef at = gen_add(g, kk, gen_i64(g, l + j)), here = gen_add(g, p->base, at);
            LLVMValueRef inside = LLVMBuildAnd(g->b, LLVMBuildICmp(g->b, LLVMIntSGE, here, p->k0, ""),
                                               gen_less(g, here, p->k1), "");
            LLVMValueRef y = LLVMBuildExtractElement(g->b, v, gen_i32(g, j), "");
            if (!p->nk) y = LLVMBuildFMul(g->b, y, gen_load(g, g->f32, gen_at(g, g->f32, p->fold, at)), "");
            x[l + j] = LLVMBuildSelect(g->b, inside, y, gen_f32(g, 0), "");
        }
    }
}

/* The largest magnitude of the row, among `lanes` neighbours. As bits: NaN is above infinity. */
static LLVMValueRef largest(Gen *g, LLVMValueRef x[WORD], int lanes) {
    float tiny = (float)I16_TINY;
    LLVMValueRef max = LLVMBuildBitCast(g->b, gen_f32(g, tiny), g->i32, "");
    for (int i = 0; i < WORD; i++) {
        LLVMValueRef bits = LLVMBuildBitCast(g->b, x[i], g->i32, "");
        max = gen_max(g, LLVMBuildAnd(g->b, bits, gen_i32(g, 0x7fffffff), ""), max);
    }
    for (int mask = lanes / 2; mask; mask /= 2) max = gen_max(g, nv_shuffle_xor(g, max, (unsigned)mask), max);
    return LLVMBuildBitCast(g->b, max, g->f32, "");
}

static LLVMValueRef permute(Gen *g, LLVMValueRef a, LLVMValueRef b, int selector) {
    LLVMValueRef args[] = {a, b, gen_i32(g, selector)};
    return gen_intrinsic(g, "llvm.nvvm.prmt", NULL, args, 3);
}

/* The bytes of q[16], in the low halves of words: words c of hi and lo have steps c, c+4, c+8, c+12. */
static void split_bytes(const GemmI16 *p, LLVMValueRef q[WORD], LLVMValueRef at) {
    Gen *g = p->g;
    LLVMValueRef hi[4], lo[4];
    for (int c = 0; c < 4; c++) {
        LLVMValueRef low = permute(g, q[c], q[c + 4], 0x5410), high = permute(g, q[c + 8], q[c + 12], 0x5410);
        lo[c] = permute(g, low, high, 0x6420);
        hi[c] = permute(g, low, high, 0x7531);
    }
    nv_store(g, tile_vector(g, hi, 4), gen_at(g, g->i8, p->hi, at), 16);
    nv_store(g, tile_vector(g, lo, 4), gen_at(g, g->i8, p->lo, at), 16);
}

/* Quantises the block of the tile's rows, with their scales. */
void i16_quantise(const GemmI16 *p) {
    Gen *g = p->g;
    int units = p->depth / WORD, lanes = units > 8 ? 16 : 8, rows = MMA_THREADS / lanes;
    LLVMValueRef unit = gen_mod(g, nv_thread(g), lanes), kk = gen_mul(g, unit, WORD);
    for (int first = 0; first < p->side; first += rows) {
        LLVMValueRef row = gen_add(g, gen_div(g, nv_thread(g), lanes), gen_i64(g, first)), x[WORD], q[WORD];
        load_steps(p, row, kk, x);
        LLVMValueRef max = largest(g, x, lanes), limit = gen_f32(g, I16_MAX);
        LLVMValueRef scale = LLVMBuildFDiv(g->b, max, limit, ""),
                     inverse = LLVMBuildFDiv(g->b, limit, max, "");
        for (int i = 0; i < WORD; i++) { /* + 1.5 * 2^23 leaves the rounded integer in the low bits */
            LLVMValueRef t = gen_fma(g, x[i], inverse, gen_f32(g, 0x1.8p23));
            q[i] = LLVMBuildBitCast(g->b, t, g->i32, "");
        }
        If some = gen_if(g, gen_less(g, unit, gen_i64(g, units)));
        split_bytes(p, q, gen_add(g, gen_mul(g, row, p->ld), kk));
        gen_if_end(g, &some);
        If leads = gen_if(g, LLVMBuildICmp(g->b, LLVMIntEQ, unit, gen_i64(g, 0), ""));
        scale = gen_fma(g, scale, gen_f32(g, 0), scale); /* infinity makes the block NaN, as NaN does */
        gen_store(g, scale, gen_at(g, g->f32, p->scales, row));
        gen_if_end(g, &leads);
    }
}

/* ---- codes */

/* Codes + 1 in the low bits of the bytes of a word as the bytes -1, 0, 1. */
static LLVMValueRef code_bytes(Gen *g, LLVMValueRef u) {
    u = LLVMBuildAdd(g->b, u, gen_i32(g, 0x7f7f7f7f), "");
    return LLVMBuildXor(g->b, u, gen_i32(g, 0x80808080), "");
}

/* Where the thread's word i of the block waits. */
static LLVMValueRef waiting_word(const GemmI16 *p, int i) {
    LLVMValueRef at = gen_add(p->g, nv_thread(p->g), gen_i64(p->g, i * MMA_THREADS));
    return gen_at(p->g, p->g->i32, p->words, at);
}

/* Starts to copy a word of a row of the matrix; the last one again behind the end. */
static void fetch_word(const GemmI16 *p, int i, LLVMValueRef row, LLVMValueRef word) {
    Gen *g = p->g;
    int64_t words = p->layout.row_bytes / 4;
    word = gen_min(g, word, gen_i64(g, words - 1));
    LLVMValueRef at = gen_add(g, gen_mul(g, row, words), word);
    nv_copy(g, waiting_word(p, i), gen_at(g, g->i32, gen_buffer(g, 1), at), 4, NULL);
}

/* Stored [n,k]: a word is 16 steps of a column. The thread's word i: its column, and which it is there. */
static void column_word(const GemmI16 *p, int i, LLVMValueRef *column, LLVMValueRef *in_column) {
    Gen *g = p->g;
    LLVMValueRef unit = gen_add(g, nv_thread(g), gen_i64(g, i * MMA_THREADS));
    *column = gen_div(g, unit, p->depth / WORD);
    *in_column = gen_mod(g, unit, p->depth / WORD);
}
static int column_words(const GemmI16 *p) {
    return (p->side * (p->depth / WORD) + MMA_THREADS - 1) / MMA_THREADS;
}

static void fetch_columns(const GemmI16 *p) {
    Gen *g = p->g;
    for (int i = 0; i < column_words(p); i++) {
        LLVMValueRef column, word;
        column_word(p, i, &column, &word);
        LLVMValueRef row = gen_min(g, gen_add(g, p->j0, column), gen_i64(g, p->d->n - 1));
        fetch_word(p, i, row, gen_add(g, gen_div(g, p->base, WORD), word));
    }
}

static void decode_columns(const GemmI16 *p) {
    Gen *g = p->g;
    for (int i = 0; i < column_words(p); i++) {
        LLVMValueRef column, in_column, four[4], word = gen_load(g, g->i32, waiting_word(p, i));
        column_word(p, i, &column, &in_column);
        for (int c = 0; c < 4; c++) {
            LLVMValueRef u = LLVMBuildLShr(g->b, word, gen_i32(g, 2 * c), "");
            four[c] = code_bytes(g, LLVMBuildAnd(g->b, u, gen_i32(g, 0x03030303), ""));
        }
        If exists = gen_if(g, gen_less(g, column, gen_i64(g, p->side)));
        LLVMValueRef at = gen_add(g, gen_mul(g, column, p->ld), gen_mul(g, in_column, WORD));
        nv_store(g, tile_vector(g, four, 4), gen_at(g, g->i8, p->codes, at), 16);
        gen_if_end(g, &exists);
    }
}

/* Stored [k,n]: a thread has 16 columns, from `column` of the tile on, of the four steps that share words. */
static LLVMValueRef quad_of(const GemmI16 *p) {
    return gen_mod(p->g, nv_thread(p->g), I16_BLOCK / 4);
}
static LLVMValueRef quad_column(const GemmI16 *p) {
    return gen_mul(p->g, gen_div(p->g, nv_thread(p->g), I16_BLOCK / 4), WORD);
}
/* May they lie in two words? */
static bool in_two_words(const GemmI16 *p) {
    return p->n_span % WORD && p->n_span != p->d->n;
}

static void fetch_quad(const GemmI16 *p) {
    Gen *g = p->g;
    LLVMValueRef quad = quad_of(p), word = gen_div(g, gen_add(g, p->j0, quad_column(p)), WORD);
    LLVMValueRef first = gen_add(g, gen_mul(g, gen_div(g, quad, 4), WORD), gen_mod(g, quad, 4));
    for (int i = 0; i < 4; i++) {
        LLVMValueRef row = gen_add(g, p->base, gen_add(g, first, gen_i64(g, 4 * i)));
        row = gen_min(g, row, gen_i64(g, p->d->k - 1));
        fetch_word(p, i, row, word);
        if (in_two_words(p)) fetch_word(p, 4 + i, row, gen_add(g, word, gen_i64(g, 1)));
    }
}

/* The columns' codes of step i of the four. */
static LLVMValueRef quad_codes(const GemmI16 *p, int i) {
    Gen *g = p->g;
    LLVMValueRef low = gen_load(g, g->i32, waiting_word(p, i));
    if (!in_two_words(p)) return low;
    LLVMValueRef column = gen_add(g, p->j0, quad_column(p));
    LLVMValueRef shift = LLVMBuildTrunc(g->b, gen_mul(g, gen_mod(g, column, WORD), 2), g->i32, "");
    LLVMValueRef args[] = {gen_load(g, g->i32, waiting_word(p, 4 + i)), low, shift};
    return gen_intrinsic(g, "llvm.fshr", g->i32, args, 3);
}

/* Turns them to bytes side by side along the steps. */
static void decode_quad(const GemmI16 *p) {
    Gen *g = p->g;
    LLVMValueRef quad = quad_of(p), column = quad_column(p), w[4];
    for (int i = 0; i < 4; i++) w[i] = quad_codes(p, i);
    If exists = gen_if(g, gen_less(g, column, gen_i64(g, p->side)));
    for (int j = 0; j < WORD; j++) {
        LLVMValueRef u = gen_i32(g, 0);
        for (int i = 0; i < 4; i++) {
            LLVMValueRef code =
                LLVMBuildAnd(g->b, LLVMBuildLShr(g->b, w[i], gen_i32(g, 2 * j), ""), gen_i32(g, 3), "");
            u = LLVMBuildOr(g->b, u, LLVMBuildShl(g->b, code, gen_i32(g, 8 * i), ""), "");
        }
        LLVMValueRef at =
            gen_add(g, gen_mul(g, gen_add(g, column, gen_i64(g, j)), p->ld), gen_mul(g, quad, 4));
        gen_store(g, code_bytes(g, u), gen_at(g, g->i8, p->codes, at));
    }
    gen_if_end(g, &exists);
}

/* ---- both */

void i16_fetch(const GemmI16 *p) {
    fetch_steps(p);
    (p->nk ? fetch_columns : fetch_quad)(p);
    nv_copies_commit(p->g);
    if (!p->nk) load_fold(p);
}

void i16_decode(const GemmI16 *p) {
    (p->nk ? decode_columns : decode_quad)(p);
}
