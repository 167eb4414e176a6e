/* Ternary codes as indices of look-up tables (see lut.h). The 2-bit codes of 16 steps of a column are brought
 * into one word; a word becomes entries of tables by shifts and masks, four or three of them side by side in
 * its bytes.
 *
 *   [n,k] (forward)  the codes lie like that
 *   [k,n] (dX)       words of 16 rows are 16x16 matrices of codes, and are transposed */
#include "../rows.h"
#include "lut.h"
#include <stdio.h>

enum { WORD = 16 /* codes */, LANES = 8 /* columns at a time */ };

typedef struct Source {
    int64_t rows, cols, group;
    TernaryLayout layout;
    LLVMValueRef at;           /* ptr */
    LLVMValueRef j0, n, k0, k; /* columns, steps */
    LLVMValueRef dst, room;    /* records */
} Source;

static LLVMTypeRef words_type(Gen *g) {
    return gen_vec(g, g->i32, LANES);
}
static LLVMValueRef shifted(Gen *g, LLVMValueRef x, int by) { /* to the right; by < 0: to the left */
    LLVMValueRef bits = gen_splat(g, gen_i32(g, by < 0 ? -by : by), LANES);
    return by < 0 ? LLVMBuildShl(g->b, x, bits, "") : LLVMBuildLShr(g->b, x, bits, "");
}
static LLVMValueRef masked(Gen *g, LLVMValueRef x, uint32_t mask) {
    return LLVMBuildAnd(g->b, x, gen_splat(g, gen_i32(g, (int32_t)mask), LANES), "");
}
static LLVMValueRef either(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    return LLVMBuildOr(g->b, a, b, "");
}

/* Bytes u0 + 4*u1 + 16*u2 to 8 * (u0 + 3*u1 + 9*u2), for codes u of 0, 1, 2. */
static LLVMValueRef entries(Gen *g, LLVMValueRef bytes) {
    LLVMValueRef u1 = masked(g, shifted(g, bytes, 2), 0x03030303),
                 u2 = masked(g, shifted(g, bytes, 4), 0x03030303);
    LLVMValueRef seven = LLVMBuildSub(g->b, shifted(g, u2, -3), u2, "");
    LLVMValueRef entry = LLVMBuildSub(g->b, LLVMBuildSub(g->b, bytes, u1, ""), seven, "");
    return shifted(g, entry, -3);
}

/* The first four triples of a word, in a byte each. */
static LLVMValueRef four_triples(Gen *g, LLVMValueRef word) {
    LLVMValueRef x = either(g, masked(g, word, 0x00000fff), shifted(g, masked(g, word, 0x00fff000), -4));
    x = either(g, masked(g, x, 0x003f003f), shifted(g, masked(g, x, 0x0fc00fc0), -2));
    return entries(g, x);
}

/* The last triple of both words, and the pair of their last codes. */
static LLVMValueRef last_triples(Gen *g, LLVMValueRef low, LLVMValueRef high) {
    LLVMValueRef triples =
        either(g, masked(g, shifted(g, low, 24), 0x3f), masked(g, shifted(g, high, 16), 0x3f00));
    LLVMValueRef pair =
        either(g, shifted(g, shifted(g, low, 30), -16), shifted(g, shifted(g, high, 30), -18));
    return entries(g, either(g, triples, pair));
}

/* Stores 8 records: `low` and `high` are the codes of the halves of the slab. */
static void store_records(Gen *g, LLVMValueRef low, LLVMValueRef high, LLVMValueRef scales, LLVMValueRef to) {
    LLVMValueRef fields[] = {four_triples(g, low), four_triples(g, high), last_triples(g, low, high),
                             LLVMBuildBitCast(g->b, scales, words_type(g), "")};
    LLVMValueRef halves[2], both[2 * LANES], mask[4 * LANES];
    for (int i = 0; i < 2 * LANES; i++) both[i] = gen_i32(g, i);
    for (int i = 0; i < 2; i++)
        halves[i] = LLVMBuildShuffleVector(g->b, fields[2 * i], fields[2 * i + 1],
                                           LLVMConstVector(both, 2 * LANES), "");
    for (int i = 0; i < 4 * LANES; i++) mask[i] = gen_i32(g, i % 4 * LANES + i / 4);
    gen_store(g, LLVMBuildShuffleVector(g->b, halves[0], halves[1], LLVMConstVector(mask, 4 * LANES), ""),
              to);
}

static LLVMValueRef record_at(Gen *g, const Source *s, LLVMValueRef step, LLVMValueRef record) {
    LLVMValueRef slab = LLVMBuildMul(g->b, gen_div(g, step, LUT_STEPS), s->room, "");
    return gen_at(g, g->i8, s->dst, gen_mul(g, gen_add(g, slab, record), LUT_RECORD));
}

static LLVMValueRef clamped(Gen *g, LLVMValueRef i, int64_t n) {
    return gen_min(g, i, gen_i64(g, n - 1));
}

/* Stored [n,k]: 8 columns from `col` on. */
static void pack_rows(Gen *g, const Source *s, LLVMValueRef col) {
    LLVMValueRef codes[LANES], scales[LANES];
    for (int i = 0; i < LANES; i++) {
        LLVMValueRef row = clamped(g, gen_add(g, gen_add(g, s->j0, col), gen_i64(g, i)), s->rows);
        codes[i] = ternary_codes(g, s->at, row, &s->layout);
        scales[i] = ternary_scales(g, s->at, row, &s->layout);
    }
    Loop step = gen_loop(g, gen_i64(g, 0), s->k, LUT_STEPS, "slab");
    LLVMValueRef k = gen_add(g, s->k0, step.i), half[2], scale = LLVMGetPoison(gen_vec(g, g->f16, LANES));
    for (int h = 0; h < 2; h++) {
        LLVMValueRef word =
            clamped(g, gen_add(g, gen_div(g, k, WORD), gen_i64(g, h)), s->layout.row_bytes / 4);
        half[h] = LLVMGetPoison(words_type(g));
        for (int i = 0; i < LANES; i++)
            half[h] = LLVMBuildInsertElement(
                g->b, half[h], gen_load(g, g->i32, gen_at(g, g->i32, codes[i], word)), gen_i32(g, i), "");
    }
    for (int i = 0; i < LANES; i++)
        scale = LLVMBuildInsertElement(
            g->b, scale, gen_load(g, g->f16, gen_at(g, g->f16, scales[i], gen_div(g, k, s->group))),
            gen_i32(g, i), "");
    store_records(g, half[0], half[1], LLVMBuildFPExt(g->b, scale, gen_vec(g, g->f32, LANES), ""),
                  record_at(g, s, step.i, col));
    gen_loop_end(g, &step);
}

/* Each lane of v[16] is a matrix of 16x16 codes, a row in a word: transposes it, bit by bit of the indices.
 */
static void transpose_codes(Gen *g, LLVMValueRef *v) {
    static const uint32_t first[] = {[1] = 0x33333333, [2] = 0x0f0f0f0f, [4] = 0x00ff00ff, [8] = 0x0000ffff};
    for (int s = WORD / 2; s; s /= 2)
        for (int i = 0; i < WORD; i++) {
            if (i & s) continue;
            LLVMValueRef change =
                masked(g, LLVMBuildXor(g->b, shifted(g, v[i], 2 * s), v[i + s], ""), first[s]);
            v[i + s] = LLVMBuildXor(g->b, v[i + s], change, "");
            v[i] = LLVMBuildXor(g->b, v[i], shifted(g, change, -2 * s), "");
        }
}

/* Stored [k,n]: one slab of 128 columns. A row that ends within them is read past its end, but not past that
 * of t2: there are scales behind the codes, two bytes for each of at least 32 rows. */
static void pack_columns(Gen *g, const Source *s, LLVMValueRef step, LLVMValueRef col) {
    LLVMValueRef half[2][WORD], word = gen_div(g, gen_add(g, s->j0, col), WORD);
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < WORD; i++) {
            LLVMValueRef row = gen_add(g, gen_add(g, s->k0, step), gen_i64(g, h * WORD + i));
            LLVMValueRef codes = ternary_codes(g, s->at, clamped(g, row, s->rows), &s->layout);
            half[h][i] = gen_load(g, words_type(g), gen_at(g, g->i32, codes, word));
        }
        transpose_codes(g, half[h]);
    }
    LLVMValueRef none = LLVMConstNull(gen_vec(g, g->f32, LANES));
    for (int i = 0; i < WORD; i++)
        store_records(g, half[0][i], half[1][i], none,
                      record_at(g, s, step, gen_add(g, col, gen_i64(g, i * LANES))));
}

LLVMValueRef lut_record(Gen *g, LLVMValueRef j, bool nk) {
    if (nk) return j; /* else word by word of 16 columns, 8 words in a span */
    LLVMValueRef span = gen_mul(g, gen_div(g, j, LUT_SPAN), LUT_SPAN);
    LLVMValueRef word = gen_mod(g, gen_div(g, j, WORD), LANES), at = gen_mul(g, gen_mod(g, j, WORD), LANES);
    return gen_add(g, gen_add(g, span, word), at);
}

LLVMValueRef gen_pack_lut(Gen *g, int64_t rows, int64_t cols, int64_t group, bool nk) {
    char name[96];
    snprintf(name, sizeof name, "pack_lut_%s_%lldx%lld_%lld", nk ? "nk" : "kn", (long long)rows,
             (long long)cols, (long long)group);
    PackT2 p;
    if (!pack_t2_begin(g, name, &p)) return p.fn;
    Source s = {.rows = rows, .cols = cols, .group = group, .layout = ternary_layout(rows, cols, group)};
    s.j0 = p.j0, s.n = p.n, s.k0 = p.k0, s.k = p.k, s.at = p.t2, s.dst = p.dst, s.room = p.room;
    if (nk) {
        Loop col = gen_loop(g, gen_i64(g, 0), s.n, LANES, "columns");
        pack_rows(g, &s, col.i);
        gen_loop_end(g, &col);
    } else {
        Loop step = gen_loop(g, gen_i64(g, 0), s.k, LUT_STEPS, "slab");
        Loop col = gen_loop(g, gen_i64(g, 0), s.n, LUT_SPAN, "span");
        pack_columns(g, &s, step.i, col.i);
        gen_loop_end(g, &col);
        gen_loop_end(g, &step);
    }
    gen_function_end(g, &p.saved);
    return p.fn;
}
