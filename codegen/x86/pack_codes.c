/* Packing of ternary codes into panels of pairs of int16 or bf16 (see gemm.h). Their scales stand behind each
 * block; or, in bf16 and where they vary along k, are rounded and multiplied to the codes. All of this works
 * on vectors of 8 lanes, on every CPU. */
#include "../rows.h"
#include "gemm.h"
#include <stdio.h>

enum { LANES = 8, WORD = 16 /* codes in 32 bits */ };

PairBlock pair_block(int64_t steps) {
    return (PairBlock){(int)steps, (int)((steps + WORD - 1) / WORD) * LANES};
}

static LLVMTypeRef vector(Gen *g, LLVMTypeRef elem) {
    return gen_vec(g, elem, LANES);
}

static LLVMValueRef splat_bits(Gen *g, uint32_t bits) {
    return gen_splat(g, LLVMConstInt(g->i32, bits, false), LANES);
}

/* The matrix, the part of it that is packed, and the block at work. */
typedef struct Source {
    int64_t rows, cols, group;
    TernaryLayout layout;
    const Panels *panels;
    bool nk, scaled;         /* scaled: scales stand behind each block, else they are in the numbers */
    LLVMValueRef at;         /* ptr */
    LLVMValueRef col;        /* first column of B in the panel */
    LLVMValueRef step, left; /* first step of the block, and how many there are from it on */
    LLVMValueRef words;      /* where the block goes */
} Source;

static LLVMValueRef clamped(Gen *g, LLVMValueRef x, int64_t count) {
    return gen_min(g, x, gen_i64(g, count - 1));
}

/* The scale of a row's group, as f32. */
static LLVMValueRef scale_of(Gen *g, const Source *s, LLVMValueRef row, LLVMValueRef group) {
    LLVMValueRef at = gen_add(g, gen_mul(g, row, s->layout.groups), group);
    LLVMValueRef scales = gen_at(g, g->i8, s->at, gen_i64(g, s->layout.scales_at));
    return LLVMBuildFPExt(g->b, gen_load(g, g->f16, gen_at(g, g->f16, scales, at)), g->f32, "");
}

/* Bits of a bf16 1 in both halves. */
static LLVMValueRef ones(Gen *g, int lanes) {
    return gen_splat(g, LLVMConstInt(g->i32, 0x3f803f80u, false), lanes);
}

/* Codes (0, 1, 2) in bits 0-1 and 16-17 of each lane, less 1: pairs of int16, or of bf16 times magnitudes
 * (pairs of bf16 >= 0). Other bits are ignored. */
static LLVMValueRef pairs_of(Gen *g, const Source *s, LLVMValueRef bits, LLVMValueRef magnitudes) {
    LLVMTypeRef type = LLVMTypeOf(bits);
    int lanes = type == g->i32 ? 1 : (int)LLVMGetVectorSize(type);
    LLVMTypeRef shorts = gen_vec(g, g->i16, 2 * lanes);
    LLVMValueRef one = gen_splat(g, LLVMConstInt(g->i16, 1, false), 2 * lanes);
    LLVMValueRef u = LLVMBuildAnd(g->b, bits, gen_splat(g, gen_i32(g, 0x00030003), lanes), "");
    u = LLVMBuildSub(g->b, LLVMBuildBitCast(g->b, u, shorts, ""), one, "");
    if (s->panels->type == PANELS_BF16) {
        LLVMValueRef any = LLVMBuildNeg(g->b, LLVMBuildAnd(g->b, u, one, ""), ""); /* all bits where not 0 */
        any = LLVMBuildAnd(g->b, any, LLVMBuildBitCast(g->b, magnitudes, shorts, ""), "");
        LLVMValueRef sign = gen_splat(g, LLVMConstInt(g->i16, 0x8000, false), 2 * lanes);
        u = LLVMBuildOr(g->b, any, LLVMBuildAnd(g->b, u, sign, ""), "");
    }
    return LLVMBuildBitCast(g->b, u, type, "");
}

/* What the codes of two rows of weights are multiplied with: 1, or where scales go into the numbers those of
 * the group of column `col`. */
static LLVMValueRef magnitudes_of(Gen *g, const Source *s, const LLVMValueRef *row, LLVMValueRef col) {
    if (s->scaled) return ones(g, 1);
    LLVMValueRef group = clamped(g, gen_div(g, col, s->group), s->layout.groups);
    return bf16_pairs(g, scale_of(g, s, row[0], group), scale_of(g, s, row[1], group));
}

/* Address of the word of pair p, column `lane` of the panel. */
static LLVMValueRef word_at(Gen *g, const Source *s, LLVMValueRef p, LLVMValueRef lane) {
    return gen_at(g, g->i32, s->words, gen_add(g, gen_mul(g, p, g->target->nr), lane));
}

/* Pairs of the block that hold steps of k: 8 for every 16 steps. */
static LLVMValueRef used_pairs(Gen *g, const Source *s) {
    LLVMValueRef words = gen_div(g, gen_add(g, s->left, gen_i64(g, WORD - 1)), WORD);
    return gen_min(g, gen_mul(g, words, LANES), gen_i64(g, s->panels->block.pairs));
}

/* Stored [n,k], blocks of whole words: 8 columns from `lane` on, a word of each at a time. */
static void pack_rows_of_words(Gen *g, const Source *s, int lane) {
    LLVMValueRef row[LANES];
    for (int i = 0; i < LANES; i++)
        row[i] = ternary_codes(g, s->at, clamped(g, gen_add(g, s->col, gen_i64(g, lane + i)), s->rows),
                               &s->layout);
    Loop p = gen_loop(g, gen_i64(g, 0), used_pairs(g, s), LANES, "word");
    LLVMValueRef bits = LLVMGetPoison(vector(g, g->i32));
    LLVMValueRef word = gen_div(g, gen_add(g, s->step, gen_mul(g, p.i, 2)), WORD);
    for (int i = 0; i < LANES; i++)
        bits = LLVMBuildInsertElement(g->b, bits, gen_load(g, g->i32, gen_at(g, g->i32, row[i], word)),
                                      gen_i32(g, i), "");
    for (int l = 0; l < LANES; l++) {
        LLVMValueRef pair = LLVMBuildLShr(g->b, bits, splat_bits(g, (uint32_t)(2 * l)), "");
        gen_store(g, pairs_of(g, s, pair, ones(g, LANES)),
                  word_at(g, s, gen_add(g, p.i, gen_i64(g, l)), gen_i64(g, lane)));
    }
    gen_loop_end(g, &p);
}

/* The codes of 8 columns of two rows, of which `col` is the first, as pairs. */
static LLVMValueRef columns_of_rows(Gen *g, const Source *s, const LLVMValueRef *row, LLVMValueRef col) {
    LLVMValueRef at = clamped(g, gen_div(g, col, LANES), s->layout.row_bytes / 2), code[2];
    for (int i = 0; i < 2; i++) {
        LLVMValueRef bits =
            gen_load(g, g->i16, gen_at(g, g->i16, ternary_codes(g, s->at, row[i], &s->layout), at));
        code[i] = LLVMBuildZExt(g->b, bits, g->i32, "");
    }
    code[1] = LLVMBuildShl(g->b, code[1], gen_i32(g, 16), "");
    LLVMValueRef both = gen_splat(g, LLVMBuildOr(g->b, code[0], code[1], ""), LANES);
    LLVMValueRef shifts = LLVMBuildShl(g->b, gen_iota(g, g->i32, LANES), splat_bits(g, 1), "");
    LLVMValueRef magnitudes = gen_splat(g, magnitudes_of(g, s, row, col), LANES);
    return pairs_of(g, s, LLVMBuildLShr(g->b, both, shifts, ""), magnitudes);
}

/* Stored [k,n], columns from a multiple of 8 on: two rows at a time. */
static void pack_columns_of_words(Gen *g, const Source *s) {
    Loop p = gen_loop(g, gen_i64(g, 0), used_pairs(g, s), LANES, "word");
    for (int l = 0; l < LANES; l++) {
        LLVMValueRef row[2];
        for (int i = 0; i < 2; i++) {
            LLVMValueRef step = gen_add(g, gen_mul(g, p.i, 2), gen_i64(g, l + i * LANES));
            row[i] = clamped(g, gen_add(g, s->step, step), s->rows);
        }
        for (int lane = 0; lane < g->target->nr; lane += LANES) {
            LLVMValueRef pairs = columns_of_rows(g, s, row, gen_add(g, s->col, gen_i64(g, lane)));
            gen_store(g, pairs, word_at(g, s, gen_add(g, p.i, gen_i64(g, l)), gen_i64(g, lane)));
        }
    }
    gen_loop_end(g, &p);
}

/* The code (0, 1, 2) of B at (step, col), as an i32; the nearest one where there is none. */
static LLVMValueRef code_at(Gen *g, const Source *s, LLVMValueRef step, LLVMValueRef col) {
    LLVMValueRef row = clamped(g, s->nk ? col : step, s->rows), at = clamped(g, s->nk ? step : col, s->cols);
    LLVMValueRef codes = ternary_codes(g, s->at, row, &s->layout);
    LLVMValueRef byte = gen_load(g, g->i8, gen_at(g, g->i8, codes, gen_div(g, at, 4)));
    LLVMValueRef shift = LLVMBuildTrunc(g->b, gen_mul(g, gen_mod(g, at, 4), 2), g->i8, "");
    LLVMValueRef u =
        LLVMBuildAnd(g->b, LLVMBuildLShr(g->b, byte, shift, ""), LLVMConstInt(g->i8, 3, false), "");
    return LLVMBuildZExt(g->b, u, g->i32, "");
}

/* Groups of any size, code by code. */
static void pack_pairs(Gen *g, const Source *s) {
    Loop p = gen_loop(g, gen_i64(g, 0), used_pairs(g, s), 1, "pair");
    LLVMValueRef first = gen_add(g, gen_mul(g, gen_div(g, p.i, LANES), WORD), gen_mod(g, p.i, LANES));
    LLVMValueRef step[] = {gen_add(g, s->step, first),
                           gen_add(g, s->step, gen_add(g, first, gen_i64(g, LANES)))};
    Loop j = gen_loop(g, gen_i64(g, 0), gen_i64(g, g->target->nr), 1, "col");
    LLVMValueRef col = gen_add(g, s->col, j.i);
    LLVMValueRef high = LLVMBuildShl(g->b, code_at(g, s, step[1], col), gen_i32(g, 16), "");
    LLVMValueRef row[] = {clamped(g, step[0], s->rows), clamped(g, step[1], s->rows)}; /* if stored [k,n] */
    LLVMValueRef word = pairs_of(g, s, LLVMBuildOr(g->b, code_at(g, s, step[0], col), high, ""),
                                 magnitudes_of(g, s, row, col));
    gen_store(g, word, word_at(g, s, p.i, j.i));
    gen_loop_end(g, &j);
    gen_loop_end(g, &p);
}

static void pack_scales(Gen *g, const Source *s) {
    Loop j = gen_loop(g, gen_i64(g, 0), gen_i64(g, g->target->nr), 1, "scale");
    LLVMValueRef row = clamped(g, gen_add(g, s->col, j.i), s->rows);
    LLVMValueRef scale = s->nk ? scale_of(g, s, row, gen_div(g, s->step, s->group)) : gen_f32(g, 1);
    gen_store(g, scale, word_at(g, s, gen_i64(g, s->panels->block.pairs), j.i));
    gen_loop_end(g, &j);
}

LLVMValueRef gen_pack_codes(Gen *g, const Panels *panels, int64_t rows, int64_t cols, int64_t group,
                            bool nk) {
    char name[96];
    snprintf(name, sizeof name, "pack_codes_%s_%d_%s_%lldx%lld_%lld",
             panels->type == PANELS_BF16 ? "bf16" : "i16", panels->block.steps, nk ? "nk" : "kn",
             (long long)rows, (long long)cols, (long long)group);
    PackT2 p;
    if (!pack_t2_begin(g, name, &p)) return p.fn;
    Source s = {.rows = rows, .cols = cols, .group = group, .layout = ternary_layout(rows, cols, group)};
    s.panels = panels, s.nk = nk, s.scaled = nk || panels->type == PANELS_I16, s.at = p.t2;
    int nr = g->target->nr, steps = panels->block.steps;
    int64_t words = (int64_t)(panels->block.pairs + s.scaled) * nr; /* of a block */

    Loop panel = gen_loop(g, gen_i64(g, 0), p.n, nr, "panel");
    s.col = gen_add(g, p.j0, panel.i);
    LLVMValueRef to = LLVMBuildMul(g->b, gen_div(g, panel.i, nr), p.room, "");
    Loop b = gen_loop(g, gen_i64(g, 0), p.k, steps, "block");
    s.step = gen_add(g, p.k0, b.i), s.left = gen_sub(g, p.k, b.i);
    to = gen_mul(g, gen_add(g, to, gen_div(g, b.i, steps)), words);
    s.words = gen_at(g, g->i32, p.dst, to);
    bool by_words = group >= cols || (nk ? group % WORD == 0 : group % LANES == 0);
    for (int lane = 0; by_words && nk && lane < nr; lane += LANES) pack_rows_of_words(g, &s, lane);
    if (by_words && !nk) pack_columns_of_words(g, &s);
    if (!by_words) pack_pairs(g, &s);
    if (s.scaled) pack_scales(g, &s);
    gen_loop_end(g, &b);
    gen_loop_end(g, &panel);
    gen_function_end(g, &p.saved);
    return p.fn;
}
