/* Packing of matrices of f32, or bf16, into panels of f32, rounded or not, or of pairs of bf16 (see
 * panels.h): by copying rows, or by transposing square blocks of vector-length in registers. Past the
 * operand's end its last row or column is repeated. */
#include "gemm.h"
#include <stdio.h>

enum { COLUMN_WORDS = 8 };

/* Transposes v[n][n] held in n vectors of n lanes: for each power of two, lane bit and vector bit change
 * places. */
void gen_transpose(Gen *g, LLVMValueRef *v, int n) {
    LLVMValueRef first[16], second[16]; /* shuffle masks over the lanes of a pair */
    for (int s = 1; s < n; s *= 2) {
        for (int lane = 0; lane < n; lane++) {
            first[lane] = gen_i32(g, lane & s ? n + lane - s : lane);
            second[lane] = gen_i32(g, lane & s ? n + lane : lane + s);
        }
        LLVMValueRef low = LLVMConstVector(first, (unsigned)n), high = LLVMConstVector(second, (unsigned)n);
        for (int i = 0; i < n; i++) {
            if (i & s) continue;
            LLVMValueRef a = v[i], b = v[i + s];
            v[i] = LLVMBuildShuffleVector(g->b, a, b, low, "");
            v[i + s] = LLVMBuildShuffleVector(g->b, a, b, high, "");
        }
    }
}

/* The first n lanes of v. */
static LLVMValueRef head(Gen *g, LLVMValueRef v, int n) {
    LLVMValueRef lanes[16];
    for (int i = 0; i < n; i++) lanes[i] = gen_i32(g, i);
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(lanes, (unsigned)n),
                                  "");
}

int64_t panel_words(PanelType type, int64_t k) {
    return panels_of_pairs(type) ? (k + 15) / 16 * 8 : k;
}

LLVMValueRef gen_panel_words(Gen *g, PanelType type, LLVMValueRef k) {
    if (!panels_of_pairs(type)) return k;
    return gen_mul(g, gen_div(g, gen_add(g, k, gen_i64(g, 15)), 16), 8);
}

/* Where numbers come from and go. */
typedef struct Pack {
    int width;
    PanelType type;
    bool half; /* they come as bf16 */
    LLVMValueRef n, k, src, ld;
    LLVMValueRef first, dst; /* of the panel at work */
} Pack;

static LLVMTypeRef word_type(Gen *g, const Pack *p) {
    return panels_of_pairs(p->type) ? g->i32 : g->f32;
}

/* The first step of word w of a pair; the second is 8 further on. */
static LLVMValueRef first_step(Gen *g, LLVMValueRef w) {
    return gen_add(g, gen_mul(g, gen_div(g, w, 8), 16), gen_mod(g, w, 8));
}

static LLVMTypeRef source_type(Gen *g, const Pack *p) {
    return p->half ? g->i16 : g->f32;
}

/* Asks for row[width*ld + k], which the next panel will read. */
static void prefetch_next(Gen *g, const Pack *p, LLVMValueRef row, LLVMValueRef k) {
    LLVMValueRef offset = gen_add(g, gen_mul(g, p->ld, p->width), k);
    LLVMValueRef next = LLVMBuildGEP2(g->b, source_type(g, p), row, &offset, 1, "");
    gen_prefetch(g, next, false); /* may lie past the end */
}

/* Numbers at an address, as f32; as they are packed if they are not packed in pairs. */
static LLVMValueRef load_numbers(Gen *g, const Pack *p, int lanes, LLVMValueRef at) {
    LLVMValueRef v = gen_load(g, gen_vec(g, source_type(g, p), lanes), at);
    if (p->half) return gen_widen(g, v);
    return p->type == PANELS_ROUNDED ? gen_round_bf16(g, v) : v;
}

/* Those at src[step*stride ..]. */
static LLVMValueRef load_at(Gen *g, const Pack *p, int lanes, LLVMValueRef src, LLVMValueRef step,
                            LLVMValueRef stride) {
    return load_numbers(g, p, lanes, gen_at(g, source_type(g, p), src, LLVMBuildMul(g->b, step, stride, "")));
}

/* The same, or 0 from k on. */
static LLVMValueRef load_step(Gen *g, const Pack *p, int lanes, LLVMValueRef src, LLVMValueRef step,
                              LLVMValueRef stride) {
    LLVMValueRef inside = LLVMBuildICmp(g->b, LLVMIntSLT, step, p->k, "");
    LLVMValueRef at = gen_min(g, step, gen_sub(g, p->k, gen_i64(g, 1)));
    LLVMValueRef v = load_at(g, p, lanes, src, at, stride);
    return LLVMBuildSelect(g->b, inside, v, LLVMConstNull(LLVMTypeOf(v)), "");
}

/* Word w of `lanes` neighbours whose steps stand `stride` floats apart; w is not past the end. */
static LLVMValueRef load_word(Gen *g, const Pack *p, int lanes, LLVMValueRef src, LLVMValueRef w,
                              LLVMValueRef stride) {
    if (!panels_of_pairs(p->type)) return load_at(g, p, lanes, src, w, stride);
    LLVMValueRef step = first_step(g, w), low = load_step(g, p, lanes, src, step, stride);
    LLVMValueRef high = load_step(g, p, lanes, src, gen_add(g, step, gen_i64(g, 8)), stride);
    return p->half ? bf16_join(g, low, high) : bf16_pairs(g, low, high);
}

/* The words w .. w+vl-1 of a row; w is a multiple of vl. */
static LLVMValueRef load_words(Gen *g, const Pack *p, LLVMValueRef row, LLVMValueRef w) {
    int vl = g->target->vl;
    LLVMTypeRef type = source_type(g, p), vec = gen_vec(g, type, vl);
    if (!panels_of_pairs(p->type)) return load_numbers(g, p, vl, gen_at(g, type, row, w));
    LLVMValueRef v[2], mask[2][16], at = gen_at(g, type, row, gen_mul(g, w, 2));
    for (int i = 0; i < 2; i++) {
        v[i] = gen_load(g, vec, gen_at(g, type, at, gen_i64(g, (int64_t)i * vl)));
        for (int lane = 0; lane < vl; lane++) mask[i][lane] = gen_i32(g, lane / 8 * 16 + i * 8 + lane % 8);
    }
    LLVMValueRef low = LLVMBuildShuffleVector(g->b, v[0], v[1], LLVMConstVector(mask[0], (unsigned)vl), "");
    LLVMValueRef high = LLVMBuildShuffleVector(g->b, v[0], v[1], LLVMConstVector(mask[1], (unsigned)vl), "");
    return p->half ? bf16_join(g, gen_widen(g, low), gen_widen(g, high)) : bf16_pairs(g, low, high);
}

/* One panel from src[n,k]: in f32 dst[kk*width + i] = src[min(first + i, n-1)*ld + kk], `lanes` rows at a
 * time. */
static void pack_rows(Gen *g, const Pack *p) {
    int vl = g->target->vl, width = p->width, steps = panels_of_pairs(p->type) ? 2 * vl : vl;
    LLVMTypeRef word = word_type(g, p), vec = gen_vec(g, word, vl);
    LLVMValueRef last = gen_sub(g, p->n, gen_i64(g, 1)), whole = gen_mul(g, gen_div(g, p->k, steps), vl);
    for (int i0 = 0; i0 < width; i0 += vl) {
        int lanes = width - i0 < vl ? width - i0 : vl;
        LLVMValueRef row[16], v[16];
        for (int i = 0; i < lanes; i++) {
            LLVMValueRef at = gen_min(g, gen_add(g, p->first, gen_i64(g, i0 + i)), last);
            row[i] = gen_at(g, source_type(g, p), p->src, LLVMBuildMul(g->b, at, p->ld, ""));
        }
        Loop w = gen_loop(g, gen_i64(g, 0), whole, vl, "k");
        for (int i = 0; i < lanes; i++) prefetch_next(g, p, row[i], gen_mul(g, w.i, steps / vl));
        for (int i = 0; i < vl; i++) v[i] = i < lanes ? load_words(g, p, row[i], w.i) : LLVMGetPoison(vec);
        gen_transpose(g, v, vl);
        for (int t = 0; t < vl; t++) {
            LLVMValueRef to = gen_add(g, gen_mul(g, gen_add(g, w.i, gen_i64(g, t)), width), gen_i64(g, i0));
            gen_store(g, lanes < vl ? head(g, v[t], lanes) : v[t], gen_at(g, word, p->dst, to));
        }
        gen_loop_end(g, &w);
        Loop rest = gen_loop(g, whole, gen_panel_words(g, p->type, p->k), 1, "k_rest");
        LLVMValueRef to = gen_at(g, word, p->dst, gen_mul(g, rest.i, width));
        for (int i = 0; i < lanes; i++)
            gen_store(g, load_word(g, p, 1, row[i], rest.i, gen_i64(g, 1)),
                      gen_at(g, word, to, gen_i64(g, i0 + i)));
        gen_loop_end(g, &rest);
    }
}

/* Asks for the steps of word w from column `from` on. */
static void prefetch_word(Gen *g, const Pack *p, LLVMValueRef from, LLVMValueRef w) {
    bool pairs = panels_of_pairs(p->type);
    LLVMValueRef step = pairs ? first_step(g, w) : w;
    for (int i = 0; i < (pairs ? 2 : 1); i++) {
        LLVMValueRef offset = LLVMBuildMul(g->b, gen_add(g, step, gen_i64(g, i * 8)), p->ld, "");
        LLVMValueRef at = LLVMBuildGEP2(g->b, source_type(g, p), from, &offset, 1, "");
        gen_prefetch(g, at, false); /* may lie past the end */
    }
}

/* Words w0 .. w1-1 of one panel from src[k,n]: in f32 dst[kk*width + j] = src[kk*ld + min(first + j, n-1)].
 */
static void pack_cols(Gen *g, const Pack *p, LLVMValueRef w0, LLVMValueRef w1) {
    int width = p->width;
    LLVMTypeRef word = word_type(g, p);
    LLVMValueRef last = gen_sub(g, p->n, gen_i64(g, 1)), end = gen_add(g, p->first, gen_i64(g, width));
    If full = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLE, end, p->n, ""));
    Loop w = gen_loop(g, w0, w1, 1, "k");
    LLVMValueRef from = gen_at(g, source_type(g, p), p->src, p->first);
    /* rows of a tile end before the CPU sees that they are being read */
    prefetch_word(g, p, from, gen_add(g, w.i, gen_i64(g, COLUMN_WORDS)));
    gen_store(g, load_word(g, p, width, from, w.i, p->ld), gen_at(g, word, p->dst, gen_mul(g, w.i, width)));
    gen_loop_end(g, &w);
    gen_else(g, &full);
    Loop part = gen_loop(g, w0, w1, 1, "k_part");
    LLVMValueRef to = gen_at(g, word, p->dst, gen_mul(g, part.i, width));
    Loop j = gen_loop(g, gen_i64(g, 0), gen_i64(g, width), 1, "j");
    LLVMValueRef at = gen_at(g, source_type(g, p), p->src, gen_min(g, gen_add(g, p->first, j.i), last));
    gen_store(g, load_word(g, p, 1, at, part.i, p->ld), gen_at(g, word, to, j.i));
    gen_loop_end(g, &j);
    gen_loop_end(g, &part);
    gen_if_end(g, &full);
}

LLVMValueRef gen_pack(Gen *g, int width, PackFrom from, PanelType type) {
    static const char *const from_name[] = {"rows", "cols", "bf16_rows", "bf16_cols"};
    bool rows = from == PACK_ROWS || from == PACK_BF16_ROWS;
    if (width > 4 * g->target->vl || g->target->vl > 16) ice("panel width %d", width);
    char name[32];
    static const char *const types[] = {
        [PANELS_F32] = "", [PANELS_BF16] = "_bf16", [PANELS_ROUNDED] = "_rounded"};
    snprintf(name, sizeof name, "pack_%s%s_%d", from_name[from], types[type], width);
    LLVMTypeRef params[] = {g->i64, g->i64, g->ptr, g->i64, g->ptr, g->i64};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 6, false), &exists, &saved);
    if (exists) return fn;
    LLVMValueRef v[6];
    LLVMGetParams(fn, v);
    Pack p = {.width = width,
              .type = type,
              .half = from == PACK_BF16_ROWS || from == PACK_BF16_COLS,
              .n = v[0],
              .k = v[1],
              .src = v[2],
              .ld = v[3]};
    LLVMValueRef words = gen_panel_words(g, type, p.k);
    /* Rows are read as long as they are. Of columns a few steps at a time: lines that several panels share
     * must not fall out of the cache in between, and at strides of powers of two few lines fit. */
    Loop w0 = gen_loop(g, gen_i64(g, 0), rows ? gen_i64(g, 1) : words, COLUMN_WORDS, "words");
    Loop first = gen_loop(g, gen_i64(g, 0), p.n, width, "panel");
    p.first = first.i;
    p.dst = gen_at(g, word_type(g, &p), v[4], LLVMBuildMul(g->b, first.i, v[5], ""));
    if (rows)
        pack_rows(g, &p);
    else
        pack_cols(g, &p, w0.i, gen_min(g, gen_add(g, w0.i, gen_i64(g, COLUMN_WORDS)), words));
    gen_loop_end(g, &first);
    gen_loop_end(g, &w0);
    gen_function_end(g, &saved);
    return fn;
}

bool pack_t2_begin(Gen *g, const char *name, PackT2 *p) {
    LLVMTypeRef params[] = {g->i64, g->i64, g->i64, g->i64, g->ptr, g->ptr, g->i64};
    bool exists;
    p->fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 7, false), &exists, &p->saved);
    if (exists) return false;
    LLVMValueRef v[7];
    LLVMGetParams(p->fn, v);
    p->j0 = v[0], p->n = v[1], p->k0 = v[2], p->k = v[3], p->t2 = v[4], p->dst = v[5], p->room = v[6];
    return true;
}
