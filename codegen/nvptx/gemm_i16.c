/* Products with ternary weights and activations in block-scaled int16 on the tensor cores: exact within a
 * block of up to 128 steps of k (ir/eval_i16.c says what is rounded).
 *
 *     q = 256 hi + lo, hi in -128 .. 127, lo in 0 .. 255      sum q code = 256 sum hi code + sum lo code
 *
 * Both are 8-bit products with 32-bit sums (mma.m16n8k32, s8 and u8 by s8), one after the other into the same
 * sums. A block has two phases with a barrier in front of each:
 *
 *     quantise   16 steps of a row a thread, the largest magnitude of the row's by shuffles; codes to bytes
 *     multiply   C += scale of the row * scale of the column * sum
 *
 * For dX a step is folded before with its weights' scale for the tile's group of columns. What the next block
 * needs, activations, words of codes and these scales, is on its way during the second phase (cp.async).
 *
 * Bytes lie row by row (A) and column by column (B), in both operands every 16 steps as 0 4 8 12, 1 5 9 13,
 * ..: that is how codes come out of a word by one shift and one mask. A tile's columns lie within one group
 * for dX, a block's steps within one group forward; where those do not begin with a word, the block begins
 * with the word before. */
#include "../rows.h"
#include "gemm.h"
#include "mma.h"

enum {
    WORD = 16,
    MAX_TILES = 4,
    WAVE = 108,
    ROW_PAD = 16,  /* bytes */
    WORD_PAD = 4,  /* floats between words of activations: eight lanes' vectors lie in different banks */
    MOST_WORDS = 8 /* words of codes of a thread in a block */
};

typedef struct Product {
    Gen *g;
    const GemmDesc *d;
    bool nk;
    int side, mt, nt;
    int64_t n_span, k_span; /* tiles begin anew with each n_span columns, blocks with each k_span steps */
    int depth, ld;          /* steps that a block has room for; bytes of a row in shared memory */
    int raw_ld;             /* floats of a row of activations that are still to be quantised */
    TernaryLayout layout;
    LLVMValueRef i0, j0, j1, row0, col0; /* the tile in C: its columns are j0 .. j1-1; the warp in the tile */
    LLVMValueRef k0, k1, base;           /* the block at work: its steps, and where its words begin */
    LLVMValueRef raw, words, hi, lo, codes, scales, fold; /* in shared memory */
    LLVMValueRef next_fold;                               /* alloca: of this thread's step */
    LLVMValueRef sum[MAX_TILES][MAX_TILES][4];
} Product;

/* Pieces of at most `piece` in n, when each `span` begins a new one. */
static int64_t pieces(int64_t n, int64_t span, int64_t piece) {
    int64_t each = (span + piece - 1) / piece;
    return n / span * each + (n % span + piece - 1) / piece;
}
/* Piece i: begin .. end. */
static void piece_at(Gen *g, LLVMValueRef i, int64_t n, int64_t span, int64_t piece, LLVMValueRef *begin,
                     LLVMValueRef *end) {
    int64_t each = (span + piece - 1) / piece;
    LLVMValueRef first = gen_mul(g, gen_div(g, i, each), span);
    LLVMValueRef last = gen_min(g, gen_add(g, first, gen_i64(g, span)), gen_i64(g, n));
    *begin = gen_add(g, first, gen_mul(g, gen_mod(g, i, each), piece));
    *end = gen_min(g, gen_add(g, *begin, gen_i64(g, piece)), last);
}

static Product plan(const GemmDesc *d) {
    bool nk = d->b == GEMM_B_T2_NK;
    if ((!nk && d->b != GEMM_B_T2_KN) || d->a_cols || d->accumulate)
        ice("int16 product that is not a plain ternary one");
    Product p = {.d = d, .nk = nk, .layout = ternary_layout(nk ? d->n : d->k, nk ? d->k : d->n, d->group)};
    p.n_span = nk ? d->n : min64(d->group, d->n);
    p.k_span = nk ? min64(d->group, d->k) : d->k;
    bool words = p.k_span % WORD == 0 || p.k_span == d->k;
    p.depth = words ? I16_BLOCK : I16_BLOCK + 32;
    p.ld = p.depth + ROW_PAD;
    p.raw_ld = p.depth / WORD * (WORD + WORD_PAD);
    int64_t large = (d->m + 127) / 128 * pieces(d->n, p.n_span, 128);
    p.side = words && large >= WAVE ? 128 : 64; /* an A100 has no room for more steps of 128 rows */
    p.mt = p.nt = p.side / 32;
    return p;
}

/* Bytes of activations, and of words of codes, as they come from memory. */
static int64_t raw_bytes(const Product *p) {
    return (int64_t)4 * p->side * p->raw_ld;
}
static int64_t words_bytes(void) {
    return (int64_t)4 * MOST_WORDS * MMA_THREADS;
}

NvGrid nv_gemm_i16_grid(const GemmDesc *d, const Target *t) {
    (void)t;
    Product p = plan(d);
    int64_t down = (d->m + p.side - 1) / p.side;
    return (NvGrid){(uint32_t)(down * pieces(d->n, p.n_span, p.side)), MMA_THREADS,
                    (uint32_t)(raw_bytes(&p) + words_bytes() + 3 * p.side * p.ld + 4 * p.side + 4 * p.depth)};
}

/* ---- activations */

static LLVMValueRef scale_at(const Product *p, LLVMValueRef row, LLVMValueRef group) {
    Gen *g = p->g;
    return ternary_load_scale(g, ternary_scales(g, gen_buffer(g, 1), row, &p->layout), group);
}

/* The scale of the weights' row base + thread in the tile's group of columns, and from its register to
 * fold[thread]. */
static void load_fold(const Product *p) {
    Gen *g = p->g;
    LLVMValueRef row = gen_min(g, gen_add(g, p->base, nv_thread(g)), gen_i64(g, p->d->k - 1));
    gen_store(g, scale_at(p, row, gen_div(g, p->j0, p->d->group)), p->next_fold);
}
static void store_fold(const Product *p) {
    Gen *g = p->g;
    If one = gen_if(g, gen_less(g, nv_thread(g), gen_i64(g, p->depth)));
    gen_store(g, gen_load(g, g->f32, p->next_fold), gen_at(g, g->f32, p->fold, nv_thread(g)));
    gen_if_end(g, &one);
}

/* Where step kk of a row of the block waits. */
static LLVMValueRef raw_at(const Product *p, LLVMValueRef row, LLVMValueRef kk) {
    Gen *g = p->g;
    LLVMValueRef at = gen_add(g, kk, gen_mul(g, gen_div(g, kk, WORD), WORD_PAD));
    return gen_at(g, g->f32, p->raw, gen_add(g, gen_mul(g, row, p->raw_ld), at));
}

/* Starts to copy the block's activations; 0 for what does not exist. */
static void fetch_steps(const Product *p) {
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
static void load_steps(const Product *p, LLVMValueRef row, LLVMValueRef kk, LLVMValueRef x[WORD]) {
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
static void split_bytes(const Product *p, LLVMValueRef q[WORD], LLVMValueRef at) {
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
static void quantise(const Product *p) {
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
static LLVMValueRef waiting_word(const Product *p, int i) {
    LLVMValueRef at = gen_add(p->g, nv_thread(p->g), gen_i64(p->g, i * MMA_THREADS));
    return gen_at(p->g, p->g->i32, p->words, at);
}

/* Starts to copy a word of a row of the matrix; the last one again behind the end. */
static void fetch_word(const Product *p, int i, LLVMValueRef row, LLVMValueRef word) {
    Gen *g = p->g;
    int64_t words = p->layout.row_bytes / 4;
    word = gen_min(g, word, gen_i64(g, words - 1));
    LLVMValueRef at = gen_add(g, gen_mul(g, row, words), word);
    nv_copy(g, waiting_word(p, i), gen_at(g, g->i32, gen_buffer(g, 1), at), 4, NULL);
}

/* Stored [n,k]: a word is 16 steps of a column. The thread's word i: its column, and which it is there. */
static void column_word(const Product *p, int i, LLVMValueRef *column, LLVMValueRef *in_column) {
    Gen *g = p->g;
    LLVMValueRef unit = gen_add(g, nv_thread(g), gen_i64(g, i * MMA_THREADS));
    *column = gen_div(g, unit, p->depth / WORD);
    *in_column = gen_mod(g, unit, p->depth / WORD);
}
static int column_words(const Product *p) {
    return (p->side * (p->depth / WORD) + MMA_THREADS - 1) / MMA_THREADS;
}

static void fetch_columns(const Product *p) {
    Gen *g = p->g;
    for (int i = 0; i < column_words(p); i++) {
        LLVMValueRef column, word;
        column_word(p, i, &column, &word);
        LLVMValueRef row = gen_min(g, gen_add(g, p->j0, column), gen_i64(g, p->d->n - 1));
        fetch_word(p, i, row, gen_add(g, gen_div(g, p->base, WORD), word));
    }
}

static void decode_columns(const Product *p) {
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
static LLVMValueRef quad_of(const Product *p) {
    return gen_mod(p->g, nv_thread(p->g), I16_BLOCK / 4);
}
static LLVMValueRef quad_column(const Product *p) {
    return gen_mul(p->g, gen_div(p->g, nv_thread(p->g), I16_BLOCK / 4), WORD);
}
/* May they lie in two words? */
static bool in_two_words(const Product *p) {
    return p->n_span % WORD && p->n_span != p->d->n;
}

static void fetch_quad(const Product *p) {
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
static LLVMValueRef quad_codes(const Product *p, int i) {
    Gen *g = p->g;
    LLVMValueRef low = gen_load(g, g->i32, waiting_word(p, i));
    if (!in_two_words(p)) return low;
    LLVMValueRef column = gen_add(g, p->j0, quad_column(p));
    LLVMValueRef shift = LLVMBuildTrunc(g->b, gen_mul(g, gen_mod(g, column, WORD), 2), g->i32, "");
    LLVMValueRef args[] = {gen_load(g, g->i32, waiting_word(p, 4 + i)), low, shift};
    return gen_intrinsic(g, "llvm.fshr", g->i32, args, 3);
}

/* Turns them to bytes side by side along the steps. */
static void decode_quad(const Product *p) {
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

/* ---- sums */

static LLVMValueRef row_of(const Product *p, int i, int half) { /* in the tile */
    Gen *g = p->g;
    LLVMValueRef in_warp = gen_add(g, gen_div(g, nv_lane(g), 4), gen_i64(g, 16 * i + 8 * half));
    return gen_add(g, p->row0, in_warp);
}
static LLVMValueRef column_of(const Product *p, int j, int l) { /* in C */
    Gen *g = p->g;
    LLVMValueRef in_warp = gen_add(g, gen_mul(g, gen_mod(g, nv_lane(g), 4), 2), gen_i64(g, 8 * j + l));
    return gen_add(g, p->j0, gen_add(g, p->col0, in_warp));
}

typedef LLVMValueRef Tile[4];

static void multiply_bytes(Gen *g, bool is_signed, LLVMValueRef sum[4], LLVMValueRef a[4],
                           LLVMValueRef b[2]) {
    LLVMValueRef args[] = {a[0], a[1], a[2], a[3], b[0], b[1], sum[0], sum[1], sum[2], sum[3]};
    const char *name =
        is_signed ? "llvm.nvvm.mma.m16n8k32.row.col.s8" : "llvm.nvvm.mma.m16n8k32.row.col.u8.s8";
    LLVMValueRef four = gen_intrinsic(g, name, NULL, args, 10);
    for (unsigned i = 0; i < 4; i++) sum[i] = LLVMBuildExtractValue(g->b, four, i, "");
}

/* sum += bytes of A times codes, over the block. Fragments are those of 16-bit numbers of half the depth. */
static void multiply_half(const Product *p, LLVMValueRef bytes, bool is_signed,
                          Tile sum[MAX_TILES][MAX_TILES]) {
    Gen *g = p->g;
    Source a = {.ld = p->ld / 2}, b = {.ld = p->ld / 2};
    a.at = gen_at(g, g->i16, bytes, gen_add(g, gen_mul(g, p->row0, a.ld), mma_lane_offset(g, &a, true)));
    b.at = gen_at(g, g->i16, p->codes, gen_add(g, gen_mul(g, p->col0, b.ld), mma_lane_offset(g, &b, false)));
    for (int step = 0; step < p->depth / 2; step += 16) {
        Tile x[MAX_TILES], y[MAX_TILES / 2];
        for (int i = 0; i < p->mt; i++) mma_load(g, &a, 16 * i, step, x[i]);
        for (int j = 0; j < p->nt; j += 2) mma_load(g, &b, 8 * j, step, y[j / 2]);
        for (int i = 0; i < p->mt; i++)
            for (int j = 0; j < p->nt; j++)
                multiply_bytes(g, is_signed, sum[i][j], x[i], &y[j / 2][j % 2 * 2]);
    }
}

static void multiply(const Product *p) {
    Gen *g = p->g;
    Tile sum[MAX_TILES][MAX_TILES];
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) sum[i][j][l] = gen_i32(g, 0);
    multiply_half(p, p->hi, true, sum);
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) sum[i][j][l] = LLVMBuildShl(g->b, sum[i][j][l], gen_i32(g, 8), "");
    multiply_half(p, p->lo, false, sum);
    for (int j = 0; j < p->nt; j++)
        for (int l = 0; l < 4; l++) {
            LLVMValueRef of_column = NULL, last = gen_i64(g, p->d->n - 1);
            if (p->nk)
                of_column =
                    scale_at(p, gen_min(g, column_of(p, j, l % 2), last), gen_div(g, p->k0, p->d->group));
            for (int i = 0; i < p->mt; i++) {
                LLVMValueRef scale = gen_load(g, g->f32, gen_at(g, g->f32, p->scales, row_of(p, i, l / 2)));
                if (of_column) scale = LLVMBuildFMul(g->b, scale, of_column, "");
                LLVMValueRef x = LLVMBuildSIToFP(g->b, sum[i][j][l], g->f32, ""), at = p->sum[i][j][l];
                gen_store(g, gen_fma(g, x, scale, gen_load(g, g->f32, at)), at);
            }
        }
}

static void write(const Product *p) {
    Gen *g = p->g;
    int n = p->d->n % 2 == 0 && p->n_span % 2 == 0
                ? 2
                : 1; /* columns of a tile begin at an even one, or may not */
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l += n) {
                LLVMValueRef two[2], column = column_of(p, j, l % 2);
                for (int x = 0; x < n; x++) two[x] = gen_load(g, g->f32, p->sum[i][j][l + x]);
                If inside = gen_if(g, gen_less(g, column, p->j1));
                nv_gemm_write(g, p->d, gen_add(g, p->i0, row_of(p, i, l / 2)), column, two, n);
                gen_if_end(g, &inside);
            }
}

/* ---- the kernel */

static void begin(Product *p) {
    Gen *g = p->g;
    int64_t down = (p->d->m + p->side - 1) / p->side, tile = (int64_t)p->side * p->ld;
    p->i0 = gen_mul(g, gen_mod(g, g->tile, down), p->side);
    piece_at(g, gen_div(g, g->tile, down), p->d->n, p->n_span, p->side, &p->j0, &p->j1);
    p->row0 = gen_mul(g, gen_div(g, nv_warp(g), 4), 16 * p->mt);
    p->col0 = gen_mul(g, gen_mod(g, nv_warp(g), 4), 8 * p->nt);
    p->raw = nv_dynamic_shared(g);
    p->words = gen_at(g, g->i8, p->raw, gen_i64(g, raw_bytes(p)));
    p->hi = gen_at(g, g->i8, p->words, gen_i64(g, words_bytes()));
    p->lo = gen_at(g, g->i8, p->hi, gen_i64(g, tile));
    p->codes = gen_at(g, g->i8, p->lo, gen_i64(g, tile));
    p->scales = gen_at(g, g->i8, p->codes, gen_i64(g, tile));
    p->fold = gen_at(g, g->f32, p->scales, gen_i64(g, p->side));
    p->next_fold = gen_alloca(g, g->f32, "fold");
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) {
                p->sum[i][j][l] = gen_alloca(g, g->f32, "sum");
                gen_store(g, gen_f32(g, 0), p->sum[i][j][l]);
            }
}

/* Makes it the block at work. */
static void place(Product *p, LLVMValueRef block) {
    piece_at(p->g, block, p->d->k, p->k_span, I16_BLOCK, &p->k0, &p->k1);
    p->base = gen_mul(p->g, gen_div(p->g, p->k0, WORD), WORD);
}

/* Starts to bring a block's operands in. */
static void fetch(const Product *p, LLVMValueRef block) {
    Product next = *p;
    place(&next, block);
    fetch_steps(&next);
    (p->nk ? fetch_columns : fetch_quad)(&next);
    nv_copies_commit(p->g);
    if (!p->nk) load_fold(&next);
}

void nv_gen_gemm_i16(Gen *g, const char *name, const GemmDesc *d) {
    Product p = plan(d);
    p.g = g;
    nv_kernel(g, name, 3, MMA_THREADS);
    nv_noalias(g);
    nv_min_blocks(g, p.side == 128 ? 1 : 2);
    begin(&p);
    int64_t blocks = pieces(d->k, p.k_span, I16_BLOCK);
    fetch(&p, gen_i64(g, 0));
    if (!p.nk) store_fold(&p);
    Loop block = gen_loop(g, gen_i64(g, 0), gen_i64(g, blocks), 1, "block");
    LLVMValueRef next = gen_add(g, block.i, gen_i64(g, 1)), more = gen_less(g, next, gen_i64(g, blocks));
    place(&p, block.i);
    nv_copies_wait(g, 0);
    nv_barrier(g); /* the block is there, and nobody reads the bytes of the last one any more */
    quantise(&p);
    (p.nk ? decode_columns : decode_quad)(&p);
    nv_barrier(g);
    If copy = gen_if(g, more);
    fetch(&p, next);
    gen_if_end(g, &copy);
    multiply(&p);
    If store = gen_if(g, more);
    if (!p.nk) store_fold(&p);
    gen_if_end(g, &store);
    gen_loop_end(g, &block);
    write(&p);
    gen_end(g);
}
