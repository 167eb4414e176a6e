/* Matrix products with operands rounded to bf16, on the tensor cores (mma.h).
 *
 *     tile of C      8 warps, 2 x 4      in turns of 32 steps of k. The next 32 are on their way from global
 *     128 x 128      64 x 32 a warp      memory in registers while the current ones are multiplied, and are
 *      64 x  64      32 x 16             rounded as they go to the other stage of shared memory.
 *
 * Packed codes of a forward product stay packed up to the registers: a lane takes the two words of 16 codes
 * that its column has in a turn, and fragments come out by shifts and masks. Their scales hold for a group of
 * k. Sums are kept in units of the current group's scale, so that there is one set of them:
 *
 *     at the start of a group   sum *= scale of the group before / its scale
 *     at the end                c = sum * scale
 *
 * For dX codes become -scale, 0 and scale in bf16 on their way to shared memory. Groups that do not fit into
 * turns (words, for dX) are left to the FMA units, with operands rounded the same. */
#include "gemm.h"
#include "mma.h"

enum { TURN = 32 /* steps */, WORD = 16, MAX_TILES = 4, WAVE = 108 };

typedef struct Product {
    Gen *g;
    const GemmDesc *d;
    int side, mt, nt; /* fragments of a warp: mt down, nt across */
    Plane a, b;
    TernaryLayout layout;
    LLVMValueRef i0, j0, row0, col0;           /* of the block in C; of the warp in the block */
    LLVMValueRef codes, scale;                 /* in flight, allocas: a word; of dX the scale's bits */
    LLVMValueRef sum[MAX_TILES][MAX_TILES][4]; /* allocas */
} Product;

static bool is_code_rows(const GemmDesc *d) {
    return d->b == GEMM_B_T2_NK;
}
static bool is_code_steps(const GemmDesc *d) {
    return d->b == GEMM_B_T2_KN;
}

static bool fits(const GemmDesc *d) {
    if (is_code_rows(d)) return d->group % TURN == 0 || d->group >= d->k;
    if (is_code_steps(d)) return d->group % WORD == 0 || d->group >= d->n;
    return true;
}

static int side_of(const GemmDesc *d) {
    return nv_gemm_blocks(d, 128, 128) >= WAVE ? 128 : 64;
}

NvGrid nv_gemm_bf16_grid(const GemmDesc *d, const Target *t) {
    if (!fits(d)) return nv_gemm_grid(d, t);
    return (NvGrid){(uint32_t)nv_gemm_blocks(d, side_of(d), side_of(d)), MMA_THREADS, 0};
}

static bool a_steps(const Product *p) {
    return p->d->a_cols;
}
static bool b_steps(const Product *p) {
    return p->d->b == GEMM_B_KN || is_code_steps(p->d);
}

/* ---- operands */

/* A plane of an operand with n rows and k steps. */
static Plane plane_of(Product *p, unsigned arg, bool steps, int64_t n) {
    int64_t k = p->d->k;
    Plane x = {.base = gen_buffer(p->g, arg),
               .lines = steps ? k : n,
               .run = steps ? n : k,
               .ld = steps ? n : k,
               .tile_lines = steps ? TURN : p->side,
               .tile_run = steps ? p->side : TURN,
               .paired = !steps && is_code_rows(p->d)};
    plane_begin(p->g, &x);
    return x;
}

static void load_plane(Product *p, Plane *x, bool steps, LLVMValueRef first, LLVMValueRef k) {
    plane_load(p->g, x, steps ? k : first, steps ? first : k);
}

static LLVMValueRef scale_at(Product *p, LLVMValueRef row, LLVMValueRef group) {
    Gen *g = p->g;
    LLVMValueRef scales = gen_at(g, g->i8, gen_buffer(g, 1), gen_i64(g, p->layout.scales_at));
    LLVMValueRef at = gen_add(g, gen_mul(g, row, p->layout.groups), group);
    return LLVMBuildFPExt(g->b, gen_load(g, g->f16, gen_at(g, g->f16, scales, at)), g->f32, "");
}

static LLVMValueRef code_word(Product *p, LLVMValueRef row, LLVMValueRef word) {
    Gen *g = p->g;
    LLVMValueRef at = gen_add(g, gen_mul(g, row, p->layout.row_bytes / 4),
                              gen_min(g, word, gen_i64(g, p->layout.row_bytes / 4 - 1)));
    return gen_load(g, g->i32, gen_at(g, g->i32, gen_buffer(g, 1), at));
}

/* The thread's word: of rows, thread / 2 and one of the two of a turn; of steps, one of the words of side
 * columns. */
static void word_at(Product *p, LLVMValueRef *line, LLVMValueRef *word) {
    int across = is_code_rows(p->d) ? TURN / WORD : p->side / WORD;
    *line = gen_div(p->g, nv_thread(p->g), across);
    *word = gen_mod(p->g, nv_thread(p->g), across);
}

/* Words behind the end meet steps of A that are 0, or make columns that are dropped. */
static void load_codes(Product *p, LLVMValueRef k) {
    Gen *g = p->g;
    LLVMValueRef line, word;
    word_at(p, &line, &word);
    if (is_code_rows(p->d)) {
        LLVMValueRef row = gen_min(g, gen_add(g, p->j0, line), gen_i64(g, p->d->n - 1));
        gen_store(g, code_word(p, row, gen_add(g, gen_div(g, k, WORD), word)), p->codes);
        return;
    }
    LLVMValueRef row = gen_min(g, gen_add(g, k, line), gen_i64(g, p->d->k - 1));
    word = gen_add(g, gen_div(g, p->j0, WORD), word);
    LLVMValueRef group = gen_div(g, gen_mul(g, word, WORD), p->d->group);
    LLVMValueRef scale = scale_at(p, row, gen_min(g, group, gen_i64(g, p->layout.groups - 1)));
    scale = LLVMBuildZExt(g->b, mma_round(g, scale), g->i32, "");
    gen_store(g, code_word(p, row, word), p->codes);
    gen_store(g, LLVMBuildOr(g->b, scale, gen_i32(g, 0x8000), ""), p->scale);
}

/* Words of rows as they are, [side][2]. */
static void store_words(Product *p, LLVMValueRef to) {
    Gen *g = p->g;
    If needed = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLT, nv_thread(g), gen_i64(g, 2 * p->side), ""));
    gen_store(g, gen_load(g, g->i32, p->codes), gen_at(g, g->i32, to, nv_thread(g)));
    gen_if_end(g, &needed);
}

/* A word of a step as 16 bf16: codes 2j and 2j+1, bits 4j .. 4j+3, are spread over the halves of a word. */
static void store_decoded(Product *p, LLVMValueRef to) {
    Gen *g = p->g;
    LLVMValueRef line, word, codes = gen_load(g, g->i32, p->codes), scale = gen_load(g, g->i32, p->scale);
    word_at(p, &line, &word);
    If needed = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLT, line, gen_i64(g, TURN), ""));
    LLVMValueRef at = gen_add(g, gen_mul(g, line, p->side + PLANE_PAD), gen_mul(g, word, WORD));
    for (int half = 0; half < 2; half++) {
        LLVMValueRef four = LLVMGetPoison(gen_vec(g, g->i32, 4));
        for (int j = 0; j < 4; j++) {
            LLVMValueRef two = LLVMBuildLShr(g->b, codes, gen_i32(g, 16 * half + 4 * j), "");
            two = LLVMBuildAnd(g->b, two, gen_i32(g, 15), "");
            two = LLVMBuildOr(g->b, two, LLVMBuildShl(g->b, two, gen_i32(g, 14), ""), "");
            four = LLVMBuildInsertElement(g->b, four, mma_codes(g, two, scale), gen_i32(g, j), "");
        }
        nv_store(g, four, gen_at(g, g->i16, to, gen_add(g, at, gen_i64(g, 8 * half))), 16);
    }
    gen_if_end(g, &needed);
}

static void load_turn(Product *p, LLVMValueRef k) {
    load_plane(p, &p->a, a_steps(p), p->i0, k);
    if (p->d->group)
        load_codes(p, k);
    else
        load_plane(p, &p->b, b_steps(p), p->j0, k);
}

static int64_t operand_bytes(const Product *p, bool steps) {
    return steps ? plane_bytes(TURN, p->side) : plane_bytes(p->side, TURN);
}

static LLVMValueRef stage_b(Product *p, LLVMValueRef stage) {
    return gen_at(p->g, p->g->i8, stage, gen_i64(p->g, operand_bytes(p, a_steps(p))));
}

static void store_turn(Product *p, LLVMValueRef stage) {
    plane_store(p->g, &p->a, stage);
    if (is_code_rows(p->d))
        store_words(p, stage_b(p, stage));
    else if (is_code_steps(p->d))
        store_decoded(p, stage_b(p, stage));
    else
        plane_store(p->g, &p->b, stage_b(p, stage));
}

/* ---- sums */

typedef LLVMValueRef Tile[4];

/* Fragments of B for both halves of a turn from packed words: column lane / 4 of each tile. */
static void code_fragments(Product *p, LLVMValueRef words, Tile *b) {
    Gen *g = p->g;
    LLVMValueRef column = gen_add(g, p->col0, gen_div(g, nv_lane(g), 4));
    LLVMValueRef shift = LLVMBuildTrunc(g->b, gen_mul(g, gen_mod(g, nv_lane(g), 4), 2), g->i32, "");
    for (int j = 0; j < p->nt; j++) {
        LLVMValueRef at = gen_at(g, g->i32, words, gen_mul(g, gen_add(g, column, gen_i64(g, 8 * j)), 2));
        LLVMValueRef two = nv_load(g, gen_vec(g, g->i32, 2), at, 8);
        for (int half = 0; half < 2; half++) {
            LLVMValueRef word = LLVMBuildExtractElement(g->b, two, gen_i32(g, half), "");
            word = LLVMBuildLShr(g->b, word, shift, "");
            b[j][2 * half] = mma_codes(g, word, gen_i32(g, 0xbf80));
            b[j][2 * half + 1] =
                mma_codes(g, LLVMBuildLShr(g->b, word, gen_i32(g, 8), ""), gen_i32(g, 0xbf80));
        }
    }
}

/* sums += the 32 steps of a stage. */
static void multiply(Product *p, LLVMValueRef stage) {
    Gen *g = p->g;
    bool rows = is_code_rows(p->d);
    Source a = {.steps = a_steps(p), .paired = rows, .ld = (a_steps(p) ? p->side : TURN) + PLANE_PAD};
    Source b = {.steps = b_steps(p), .ld = (b_steps(p) ? p->side : TURN) + PLANE_PAD};
    LLVMValueRef first = gen_mul(g, p->row0, a.steps ? 1 : a.ld);
    a.at = gen_at(g, g->i16, stage, gen_add(g, first, mma_lane_offset(g, &a, true)));
    first = gen_mul(g, p->col0, b.steps ? 1 : b.ld);
    b.at = gen_at(g, g->i16, stage_b(p, stage), gen_add(g, first, mma_lane_offset(g, &b, false)));
    Tile sum[MAX_TILES][MAX_TILES], codes[MAX_TILES];
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) sum[i][j][l] = gen_load(g, g->f32, p->sum[i][j][l]);
    if (rows) code_fragments(p, stage_b(p, stage), codes);
    for (int step = 0; step < TURN; step += 16) {
        Tile x[MAX_TILES], y[MAX_TILES / 2];
        for (int i = 0; i < p->mt; i++) mma_load(g, &a, 16 * i, step, x[i]);
        for (int j = 0; j < p->nt && !rows; j += 2) mma_load(g, &b, 8 * j, step, y[j / 2]);
        for (int i = 0; i < p->mt; i++)
            for (int j = 0; j < p->nt; j++)
                mma_add(g, sum[i][j], x[i], rows ? &codes[j][step / 8] : &y[j / 2][j % 2 * 2]);
    }
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 4; l++) gen_store(g, sum[i][j][l], p->sum[i][j][l]);
}

/* Column 8j + 2 (lane % 4) + l of C, and its row 16i + lane / 4. */
static LLVMValueRef column_of(Product *p, int j, int l) {
    Gen *g = p->g;
    LLVMValueRef in_tile = gen_add(g, gen_mul(g, gen_mod(g, nv_lane(g), 4), 2), gen_i64(g, 8 * j + l));
    return gen_add(g, gen_add(g, p->j0, p->col0), in_tile);
}
static LLVMValueRef row_of(Product *p, int i) {
    Gen *g = p->g;
    LLVMValueRef in_tile = gen_add(g, gen_div(g, nv_lane(g), 4), gen_i64(g, 16 * i));
    return gen_add(g, gen_add(g, p->i0, p->row0), in_tile);
}

static void scale_sums(Product *p, int j, int l, LLVMValueRef factor) {
    for (int i = 0; i < p->mt; i++)
        for (int half = 0; half < 4; half += 2) {
            LLVMValueRef at = p->sum[i][j][half + l];
            gen_store(p->g, LLVMBuildFMul(p->g->b, gen_load(p->g, p->g->f32, at), factor, ""), at);
        }
}

/* The scale of column 8j + .. + l in a group: the unit of its sums; 1 for a group of zeros, where any will
 * do. */
static LLVMValueRef unit_of(Product *p, int j, int l, LLVMValueRef group) {
    Gen *g = p->g;
    LLVMValueRef column = gen_min(g, column_of(p, j, l), gen_i64(g, p->d->n - 1));
    LLVMValueRef scale = scale_at(p, column, group);
    LLVMValueRef zero = LLVMBuildFCmp(g->b, LLVMRealOEQ, scale, gen_f32(g, 0), "");
    return LLVMBuildSelect(g->b, zero, gen_f32(g, 1), scale, "");
}

/* Brings the sums from the units of the group before to those of this one. */
static void begin_group(Product *p, LLVMValueRef group) {
    Gen *g = p->g;
    LLVMValueRef last = gen_sub(g, group, gen_i64(g, 1));
    for (int j = 0; j < p->nt; j++)
        for (int l = 0; l < 2; l++)
            scale_sums(p, j, l, LLVMBuildFDiv(g->b, unit_of(p, j, l, last), unit_of(p, j, l, group), ""));
}

static void begin_group_at(Product *p, LLVMValueRef k) {
    Gen *g = p->g;
    LLVMValueRef begins = LLVMBuildICmp(g->b, LLVMIntEQ, gen_mod(g, k, p->d->group), gen_i64(g, 0), "");
    LLVMValueRef later = LLVMBuildICmp(g->b, LLVMIntSGT, k, gen_i64(g, 0), "");
    If next = gen_if(g, LLVMBuildAnd(g->b, begins, later, ""));
    begin_group(p, gen_div(g, k, p->d->group));
    gen_if_end(g, &next);
}

static void write(Product *p) {
    Gen *g = p->g;
    if (is_code_rows(p->d))
        for (int j = 0; j < p->nt; j++)
            for (int l = 0; l < 2; l++)
                scale_sums(p, j, l, unit_of(p, j, l, gen_i64(g, p->layout.groups - 1)));
    for (int i = 0; i < p->mt; i++)
        for (int j = 0; j < p->nt; j++)
            for (int half = 0; half < 2; half++) {
                LLVMValueRef row = gen_add(g, row_of(p, i), gen_i64(g, 8 * half)), two[2];
                for (int l = 0; l < 2; l++) two[l] = gen_load(g, g->f32, p->sum[i][j][2 * half + l]);
                nv_gemm_write(g, p->d, row, column_of(p, j, 0), two, 2);
            }
}

/* ---- the kernel */

static void begin(Product *p) {
    Gen *g = p->g;
    nv_gemm_place(g, p->d, p->side, p->side, &p->i0, &p->j0);
    p->row0 = gen_mul(g, gen_div(g, nv_warp(g), 4), 16 * p->mt);
    p->col0 = gen_mul(g, gen_mod(g, nv_warp(g), 4), 8 * p->nt);
    p->a = plane_of(p, 0, a_steps(p), p->d->m);
    if (p->d->group) {
        bool rows = is_code_rows(p->d);
        p->layout = ternary_layout(rows ? p->d->n : p->d->k, rows ? p->d->k : p->d->n, p->d->group);
        p->codes = gen_alloca(g, g->i32, "codes");
        p->scale = gen_alloca(g, g->i32, "scale");
    } else {
        p->b = plane_of(p, 1, b_steps(p), p->d->n);
    }
    for (int j = 0; j < p->nt; j++) {
        for (int i = 0; i < p->mt; i++)
            for (int l = 0; l < 4; l++) {
                p->sum[i][j][l] = gen_alloca(g, g->f32, "sum");
                gen_store(g, gen_f32(g, 0), p->sum[i][j][l]);
            }
    }
}

static void turns(Product *p) {
    Gen *g = p->g;
    int64_t bytes = operand_bytes(p, a_steps(p)) + operand_bytes(p, b_steps(p));
    if (is_code_rows(p->d)) bytes = operand_bytes(p, a_steps(p)) + 8 * p->side;
    LLVMValueRef stages = nv_shared(g, 2 * bytes, 16, "stages"), end = gen_i64(g, p->d->k);
    load_turn(p, gen_i64(g, 0));
    store_turn(p, stages);
    nv_barrier(g);
    Loop k = gen_loop(g, gen_i64(g, 0), end, TURN, "k");
    LLVMValueRef odd = gen_mod(g, gen_div(g, k.i, TURN), 2);
    LLVMValueRef now = gen_at(g, g->i8, stages, gen_mul(g, odd, bytes));
    LLVMValueRef other = gen_at(g, g->i8, stages, gen_mul(g, gen_sub(g, gen_i64(g, 1), odd), bytes));
    LLVMValueRef next = gen_add(g, k.i, gen_i64(g, TURN));
    LLVMValueRef more = LLVMBuildICmp(g->b, LLVMIntSLT, next, end, "");
    If load = gen_if(g, more);
    load_turn(p, next);
    gen_if_end(g, &load);
    if (is_code_rows(p->d)) begin_group_at(p, k.i);
    multiply(p, now);
    If store = gen_if(g, more);
    store_turn(p, other);
    gen_if_end(g, &store);
    nv_barrier(g);
    gen_loop_end(g, &k);
}

void nv_gen_gemm_bf16(Gen *g, const char *name, const GemmDesc *d) {
    if (!fits(d)) {
        nv_gemm_rounded(g, name, d);
        return;
    }
    nv_kernel(g, name, 3, MMA_THREADS);
    nv_min_blocks(g, 1); /* or ptxas may spill a little to make room for more */
    nv_noalias(g);
    int side = side_of(d);

    Product p = {.g = g, .d = d, .side = side, .mt = side / 32, .nt = side / 32};
    begin(&p);
    turns(&p);
    write(&p);
    gen_end(g);
}
