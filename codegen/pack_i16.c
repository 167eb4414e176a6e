/* Packing for int16 products (see gemm.h): activations are quantised to int16 by blocks of k, ternary codes
 * become int16.
 *
 * A block of a row is scaled so that its largest element becomes 32767 (tmatmul with precision "i16", see
 * ir/eval_i16.c, says it exactly). What was NaN or infinite in it makes the scale so, and with it the
 * results. All of this works on vectors of 8 lanes, on every CPU. */
#include "gemm.h"
#include <stdio.h>

enum { LANES = 8, WORD = 16 /* codes in 32 bits */, MAX_VECTORS = I16_BLOCK / LANES };

PairBlock pair_block(int64_t steps) {
    return (PairBlock){(int)steps, (int)((steps + WORD - 1) / WORD) * LANES};
}

/* Words of a packed block, scales and all. */
static int64_t block_words(PairBlock b, int64_t width) {
    return (b.pairs + 1) * width;
}

static LLVMTypeRef vector(Gen *g, LLVMTypeRef elem) {
    return gen_vec(g, elem, LANES);
}

static LLVMValueRef splat_bits(Gen *g, uint32_t bits) {
    return gen_splat(g, LLVMConstInt(g->i32, bits, false), LANES);
}

/* ---- A: activations */

/* The largest of n > 0 vectors, lane by lane, as unsigned numbers. */
static LLVMValueRef largest(Gen *g, LLVMValueRef *v, int n) {
    if (n == 1) return v[0];
    LLVMValueRef half[] = {largest(g, v, n / 2), largest(g, v + n / 2, n - n / 2)};
    return gen_intrinsic(g, "llvm.umax", vector(g, g->i32), half, 2);
}

/* max(|v|, I16_TINY) over all elements. As bits, magnitudes are in order, and NaN is above infinity. */
static LLVMValueRef magnitude(Gen *g, LLVMValueRef *v, int n) {
    LLVMValueRef bits[MAX_VECTORS + 1];
    for (int i = 0; i < n; i++) {
        LLVMValueRef x = LLVMBuildBitCast(g->b, v[i], vector(g, g->i32), "");
        bits[i] = LLVMBuildAnd(g->b, x, splat_bits(g, 0x7fffffff), "");
    }
    bits[n] = LLVMBuildBitCast(g->b, gen_splat(g, gen_f32(g, I16_TINY), LANES), vector(g, g->i32), "");
    LLVMValueRef all = largest(g, bits, n + 1);
    LLVMValueRef max = gen_intrinsic(g, "llvm.vector.reduce.umax", vector(g, g->i32), &all, 1);
    return LLVMBuildBitCast(g->b, max, g->f32, "");
}

/* v * inverse, rounded to an integer, in the low 16 bits of each lane: at 1.5 * 2^23 the last place of an
 * f32 is 1. */
static LLVMValueRef quantized(Gen *g, LLVMValueRef v, LLVMValueRef inverse) {
    LLVMValueRef q = gen_fma(g, v, inverse, gen_splat(g, gen_f32(g, 0x1.8p23), LANES));
    return LLVMBuildBitCast(g->b, q, vector(g, g->i32), "");
}

/* void f(ptr src, ptr fold, ptr words, ptr scale): one block of one row, all of whose steps can be read. */
static LLVMValueRef gen_quantize(Gen *g, PairBlock block, bool folded) {
    char name[48];
    snprintf(name, sizeof name, "quantize_i16_%d%s", block.pairs, folded ? "_folded" : "");
    LLVMTypeRef params[] = {g->ptr, g->ptr, g->ptr, g->ptr};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 4, false), &exists, &saved);
    if (exists) return fn;
    LLVMValueRef src = LLVMGetParam(fn, 0), fold = LLVMGetParam(fn, 1), words = LLVMGetParam(fn, 2);
    LLVMValueRef v[MAX_VECTORS];
    int n = 2 * block.pairs / LANES;
    for (int i = 0; i < n; i++) {
        LLVMValueRef at = gen_i64(g, i * LANES);
        v[i] = gen_load(g, vector(g, g->f32), gen_at(g, g->f32, src, at));
        if (!folded) continue;
        LLVMValueRef factor = gen_load(g, vector(g, g->f32), gen_at(g, g->f32, fold, at));
        v[i] = LLVMBuildFMul(g->b, v[i], factor, "");
    }
    LLVMValueRef max = magnitude(g, v, n), most = gen_f32(g, I16_MAX);
    gen_store(g, LLVMBuildFDiv(g->b, max, most, ""), LLVMGetParam(fn, 3));
    LLVMValueRef inverse = gen_splat(g, LLVMBuildFDiv(g->b, most, max, ""), LANES);
    for (int i = 0; i < n; i += 2) {
        LLVMValueRef low = LLVMBuildAnd(g->b, quantized(g, v[i], inverse), splat_bits(g, 0xffff), "");
        LLVMValueRef high = LLVMBuildShl(g->b, quantized(g, v[i + 1], inverse), splat_bits(g, 16), "");
        gen_store(g, LLVMBuildOr(g->b, low, high, ""), gen_at(g, g->i32, words, gen_i64(g, i / 2 * LANES)));
    }
    gen_function_end(g, &saved);
    return fn;
}

/* Copies n elements to `to` and fills up with zeros to `room`. */
static void copy_padded(Gen *g, LLVMValueRef from, LLVMValueRef n, LLVMValueRef to, int64_t room) {
    gen_zero(g, to, gen_i64(g, 4 * room));
    Loop i = gen_loop(g, gen_i64(g, 0), n, 1, "copy");
    gen_store(g, gen_load(g, g->f32, gen_at(g, g->f32, from, i.i)), gen_at(g, g->f32, to, i.i));
    gen_loop_end(g, &i);
}

LLVMValueRef gen_pack_i16(Gen *g, PairBlock block, bool folded) {
    char name[64];
    snprintf(name, sizeof name, "pack_i16_%d%s", block.steps, folded ? "_folded" : "");
    LLVMTypeRef params[] = {g->i64, g->i64, g->ptr, g->i64, g->ptr, g->ptr, g->i64};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 7, false), &exists, &saved);
    if (exists) return fn;
    LLVMValueRef p[7];
    LLVMGetParams(fn, p);
    LLVMValueRef n = p[0], k = p[1], src = p[2], ld = p[3], fold = p[4], dst = p[5], blocks = p[6];
    LLVMValueRef quantize = gen_quantize(g, block, folded);
    int mr = g->target->mr, room = 2 * block.pairs;
    int64_t words = block_words(block, mr);
    LLVMValueRef padded = gen_alloca(g, LLVMArrayType2(g->f32, (uint64_t)room), "padded");

    Loop row = gen_loop(g, gen_i64(g, 0), n, 1, "row");
    LLVMValueRef from = gen_at(g, g->f32, src, LLVMBuildMul(g->b, row.i, ld, ""));
    LLVMValueRef in_panel = gen_mod(g, row.i, mr), panel = gen_div(g, row.i, mr);
    LLVMValueRef to = gen_at(g, g->i32, dst, gen_mul(g, LLVMBuildMul(g->b, panel, blocks, ""), words));
    Loop b = gen_loop(g, gen_i64(g, 0), k, block.steps, "block");
    LLVMValueRef at = gen_at(g, g->i32, to, gen_mul(g, gen_div(g, b.i, block.steps), words));
    LLVMValueRef q = gen_at(g, g->i32, at, gen_mul(g, in_panel, block.pairs));
    LLVMValueRef scale = gen_at(g, g->i32, at, gen_add(g, in_panel, gen_i64(g, block.pairs * mr)));
    LLVMValueRef x = gen_at(g, g->f32, from, b.i), left = gen_sub(g, k, b.i);
    LLVMValueRef factors = folded ? gen_at(g, g->f32, fold, b.i) : fold;
    LLVMValueRef steps = gen_min(g, left, gen_i64(g, block.steps));
    If whole = gen_if(g, LLVMBuildICmp(g->b, LLVMIntEQ, steps, gen_i64(g, room), ""));
    gen_call(g, quantize, (LLVMValueRef[]){x, factors, q, scale}, 4);
    gen_else(g, &whole);
    copy_padded(g, x, steps, padded, room);
    gen_call(g, quantize, (LLVMValueRef[]){padded, factors, q, scale}, 4);
    gen_if_end(g, &whole);
    gen_loop_end(g, &b);
    gen_loop_end(g, &row);
    gen_function_end(g, &saved);
    return fn;
}

/* ---- B: ternary codes */

/* The matrix, the part of it that is packed, and the block at work. */
typedef struct Source {
    int64_t rows, cols, group;
    TernaryLayout layout;
    PairBlock block;
    bool nk;
    LLVMValueRef at;         /* ptr */
    LLVMValueRef col;        /* first column of B in the panel */
    LLVMValueRef step, left; /* first step of the block, and how many there are from it on */
    LLVMValueRef words;      /* where the block goes */
} Source;

static LLVMValueRef row_codes(Gen *g, const Source *s, LLVMValueRef row) {
    return gen_at(g, g->i8, s->at, gen_mul(g, row, s->layout.row_bytes));
}

/* The scale of a row's group, as f32. */
static LLVMValueRef scale_of(Gen *g, const Source *s, LLVMValueRef row, LLVMValueRef group) {
    LLVMValueRef at = gen_add(g, gen_mul(g, row, s->layout.groups), group);
    LLVMValueRef scales = gen_at(g, g->i8, s->at, gen_i64(g, s->layout.scales_at));
    return LLVMBuildFPExt(g->b, gen_load(g, g->f16, gen_at(g, g->f16, scales, at)), g->f32, "");
}

/* Codes (0, 1, 2) in bits 0-1 and 16-17 of each lane to pairs of -1, 0, 1; other bits are ignored. */
static LLVMValueRef pairs_of(Gen *g, LLVMValueRef bits) {
    LLVMTypeRef shorts = gen_vec(g, g->i16, 2 * LANES);
    LLVMValueRef u = LLVMBuildAnd(g->b, bits, splat_bits(g, 0x00030003), "");
    u = LLVMBuildSub(g->b, LLVMBuildBitCast(g->b, u, shorts, ""),
                     gen_splat(g, LLVMConstInt(g->i16, 1, false), 2 * LANES), "");
    return LLVMBuildBitCast(g->b, u, vector(g, g->i32), "");
}

/* Address of the word of pair p, column `lane` of the panel. */
static LLVMValueRef word_at(Gen *g, const Source *s, LLVMValueRef p, LLVMValueRef lane) {
    return gen_at(g, g->i32, s->words, gen_add(g, gen_mul(g, p, g->target->nr), lane));
}

static LLVMValueRef clamped(Gen *g, LLVMValueRef x, int64_t count) {
    return gen_min(g, x, gen_i64(g, count - 1));
}

/* Pairs of the block that hold steps of k: 8 for every 16 steps. */
static LLVMValueRef used_pairs(Gen *g, const Source *s) {
    LLVMValueRef words = gen_div(g, gen_add(g, s->left, gen_i64(g, WORD - 1)), WORD);
    return gen_min(g, gen_mul(g, words, LANES), gen_i64(g, s->block.pairs));
}

/* Stored [n,k], blocks of whole words: 8 columns from `lane` on, a word of each at a time. */
static void pack_rows_of_words(Gen *g, const Source *s, int lane) {
    LLVMValueRef row[LANES];
    for (int i = 0; i < LANES; i++)
        row[i] = row_codes(g, s, clamped(g, gen_add(g, s->col, gen_i64(g, lane + i)), s->rows));
    Loop p = gen_loop(g, gen_i64(g, 0), used_pairs(g, s), LANES, "word");
    LLVMValueRef bits = LLVMGetPoison(vector(g, g->i32));
    LLVMValueRef word = gen_div(g, gen_add(g, s->step, gen_mul(g, p.i, 2)), WORD);
    for (int i = 0; i < LANES; i++)
        bits = LLVMBuildInsertElement(g->b, bits, gen_load(g, g->i32, gen_at(g, g->i32, row[i], word)),
                                      gen_i32(g, i), "");
    for (int l = 0; l < LANES; l++) {
        LLVMValueRef pair = LLVMBuildLShr(g->b, bits, splat_bits(g, (uint32_t)(2 * l)), "");
        gen_store(g, pairs_of(g, pair), word_at(g, s, gen_add(g, p.i, gen_i64(g, l)), gen_i64(g, lane)));
    }
    gen_loop_end(g, &p);
}

/* Stored [k,n], columns from a multiple of 8 on: of two rows the codes of 8 columns at a time. */
static void pack_columns_of_words(Gen *g, const Source *s, int lane) {
    LLVMValueRef shifts = LLVMBuildShl(g->b, gen_iota(g, g->i32, LANES), splat_bits(g, 1), "");
    LLVMValueRef half = gen_div(g, gen_add(g, s->col, gen_i64(g, lane)), LANES);
    half = clamped(g, half, s->layout.row_bytes / 2);
    Loop p = gen_loop(g, gen_i64(g, 0), used_pairs(g, s), LANES, "word");
    for (int l = 0; l < LANES; l++) {
        LLVMValueRef code[2];
        for (int i = 0; i < 2; i++) {
            LLVMValueRef step = gen_add(g, gen_mul(g, p.i, 2), gen_i64(g, l + i * LANES));
            LLVMValueRef row = clamped(g, gen_add(g, s->step, step), s->rows);
            LLVMValueRef bits = gen_load(g, g->i16, gen_at(g, g->i16, row_codes(g, s, row), half));
            code[i] = LLVMBuildZExt(g->b, bits, g->i32, "");
        }
        code[1] = LLVMBuildShl(g->b, code[1], gen_i32(g, 16), "");
        LLVMValueRef both = gen_splat(g, LLVMBuildOr(g->b, code[0], code[1], ""), LANES);
        gen_store(g, pairs_of(g, LLVMBuildLShr(g->b, both, shifts, "")),
                  word_at(g, s, gen_add(g, p.i, gen_i64(g, l)), gen_i64(g, lane)));
    }
    gen_loop_end(g, &p);
}

/* The code of B at (step, col) less 1, as 16 bits in an i32; the nearest one where there is none. */
static LLVMValueRef code_at(Gen *g, const Source *s, LLVMValueRef step, LLVMValueRef col) {
    LLVMValueRef row = clamped(g, s->nk ? col : step, s->rows), at = clamped(g, s->nk ? step : col, s->cols);
    LLVMValueRef byte = gen_load(g, g->i8, gen_at(g, g->i8, row_codes(g, s, row), gen_div(g, at, 4)));
    LLVMValueRef shift = LLVMBuildTrunc(g->b, gen_mul(g, gen_mod(g, at, 4), 2), g->i8, "");
    LLVMValueRef u =
        LLVMBuildAnd(g->b, LLVMBuildLShr(g->b, byte, shift, ""), LLVMConstInt(g->i8, 3, false), "");
    u = LLVMBuildSub(g->b, LLVMBuildZExt(g->b, u, g->i32, ""), gen_i32(g, 1), "");
    return LLVMBuildAnd(g->b, u, gen_i32(g, 0xffff), "");
}

/* Groups of any size, code by code. */
static void pack_codes(Gen *g, const Source *s) {
    Loop p = gen_loop(g, gen_i64(g, 0), used_pairs(g, s), 1, "pair");
    LLVMValueRef first = gen_add(g, gen_mul(g, gen_div(g, p.i, LANES), WORD), gen_mod(g, p.i, LANES));
    LLVMValueRef step = gen_add(g, s->step, first);
    Loop j = gen_loop(g, gen_i64(g, 0), gen_i64(g, g->target->nr), 1, "col");
    LLVMValueRef col = gen_add(g, s->col, j.i);
    LLVMValueRef high = code_at(g, s, gen_add(g, step, gen_i64(g, LANES)), col);
    high = LLVMBuildShl(g->b, high, gen_i32(g, 16), "");
    gen_store(g, LLVMBuildOr(g->b, code_at(g, s, step, col), high, ""), word_at(g, s, p.i, j.i));
    gen_loop_end(g, &j);
    gen_loop_end(g, &p);
}

static void pack_scales(Gen *g, const Source *s) {
    Loop j = gen_loop(g, gen_i64(g, 0), gen_i64(g, g->target->nr), 1, "scale");
    LLVMValueRef row = clamped(g, gen_add(g, s->col, j.i), s->rows);
    LLVMValueRef scale = s->nk ? scale_of(g, s, row, gen_div(g, s->step, s->group)) : gen_f32(g, 1);
    gen_store(g, scale, word_at(g, s, gen_i64(g, s->block.pairs), j.i));
    gen_loop_end(g, &j);
}

LLVMValueRef gen_pack_ternary_i16(Gen *g, PairBlock block, int64_t rows, int64_t cols, int64_t group,
                                  bool nk) {
    char name[96];
    snprintf(name, sizeof name, "pack_ternary_i16_%s_%lldx%lld_%lld", nk ? "nk" : "kn", (long long)rows,
             (long long)cols, (long long)group);
    LLVMTypeRef params[] = {g->i64, g->i64, g->i64, g->i64, g->ptr, g->ptr, g->i64};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 7, false), &exists, &saved);
    if (exists) return fn;
    LLVMValueRef p[7];
    LLVMGetParams(fn, p);
    int nr = g->target->nr;
    int64_t words = block_words(block, nr);
    Source s = {.rows = rows, .cols = cols, .group = group, .layout = ternary_layout(rows, cols, group)};
    s.block = block, s.nk = nk, s.at = p[4];

    Loop panel = gen_loop(g, gen_i64(g, 0), p[1], nr, "panel");
    s.col = gen_add(g, p[0], panel.i);
    LLVMValueRef to = LLVMBuildMul(g->b, gen_div(g, panel.i, nr), p[6], "");
    Loop b = gen_loop(g, gen_i64(g, 0), p[3], block.steps, "block");
    s.step = gen_add(g, p[2], b.i), s.left = gen_sub(g, p[3], b.i);
    to = gen_mul(g, gen_add(g, to, gen_div(g, b.i, block.steps)), words);
    s.words = gen_at(g, g->i32, p[5], to);
    bool by_words = nk ? group % WORD == 0 : group % LANES == 0 || group >= cols;
    for (int lane = 0; by_words && lane < nr; lane += LANES)
        (nk ? pack_rows_of_words : pack_columns_of_words)(g, &s, lane);
    if (!by_words) pack_codes(g, &s);
    pack_scales(g, &s);
    gen_loop_end(g, &b);
    gen_loop_end(g, &panel);
    gen_function_end(g, &saved);
    return fn;
}
