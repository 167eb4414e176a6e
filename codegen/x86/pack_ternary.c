/* Packing of ternary matrices into panels of B (see panels.h): 2-bit codes and f16 scales are decoded on the
 * way, so the f32 weights exist only as the panels of the block at work.
 *
 * A code u = code+1 becomes the weight fma(u, s, -s), which is exact. Which lanes share a scale depends on
 * the way the matrix is stored:
 *
 *   [n,k] (forward)  a vector spans rows, each with its own scale, which holds for a group of steps of k
 *   [k,n] (dX)       a vector lies within one row; lanes share a scale where `group` is a multiple of it */
#include "../rows.h"
#include "gemm.h"
#include <stdio.h>

enum { WORD = 16 /* codes in 32 bits */, MAX_LANES = 16 };

/* The matrix, and the part of it that is packed. */
typedef struct Source {
    int64_t rows, cols, group;
    TernaryLayout layout;
    bool rounded;            /* scales to bf16 */
    LLVMValueRef at;         /* ptr */
    LLVMValueRef j0, nj;     /* columns of B */
    LLVMValueRef k0, k;      /* steps */
    LLVMValueRef dst, panel; /* of the current panel: where it goes, its first column less j0 */
} Source;

/* A vector with lane i loaded from at[i]. */
static LLVMValueRef gather(Gen *g, LLVMTypeRef elem, LLVMValueRef *at, int n) {
    LLVMValueRef v = LLVMGetPoison(gen_vec(g, elem, n));
    for (int i = 0; i < n; i++)
        v = LLVMBuildInsertElement(g->b, v, gen_load(g, elem, at[i]), gen_i32(g, i), "");
    return v;
}

/* (code+1) * scale - scale, for codes in the low two bits of each lane (the others are ignored). */
static LLVMValueRef weights(Gen *g, LLVMValueRef codes, LLVMValueRef scales) {
    int vl = g->target->vl;
    LLVMValueRef u = LLVMBuildAnd(g->b, codes, gen_splat(g, gen_i32(g, 3), vl), "");
    u = LLVMBuildSIToFP(g->b, u, LLVMTypeOf(scales), "");
    return gen_fma(g, u, scales, LLVMBuildFNeg(g->b, scales, ""));
}

static LLVMValueRef widen(Gen *g, LLVMValueRef half) {
    return LLVMBuildFPExt(g->b, half, gen_vec(g, g->f32, g->target->vl), "");
}

static void store_step(Gen *g, const Source *s, LLVMValueRef step, int first, LLVMValueRef v) {
    LLVMValueRef at = gen_add(g, gen_mul(g, step, g->target->nr), gen_i64(g, first));
    gen_store(g, v, gen_at(g, g->f32, s->dst, at));
}

/* ---- stored [n,k] */

/* The scales of vl rows at the group of step k. */
static LLVMValueRef scales_at(Gen *g, const Source *s, LLVMValueRef *scales, LLVMValueRef k) {
    LLVMValueRef at[MAX_LANES], group = gen_div(g, k, s->group);
    for (int i = 0; i < g->target->vl; i++) at[i] = gen_at(g, g->f16, scales[i], group);
    return widen(g, gather(g, g->f16, at, g->target->vl));
}

/* vl columns of B, from `first` on within the panel. Reads whole words, so up to 15 steps past the end are
 * packed too: depth must have room for them, and k0 must be a multiple of 16. `clamp`: rows may end. */
static void pack_nk_vector(Gen *g, const Source *s, int first, bool clamp) {
    int vl = g->target->vl;
    LLVMValueRef codes[MAX_LANES], scales[MAX_LANES];
    LLVMValueRef row0 = gen_add(g, gen_add(g, s->j0, s->panel), gen_i64(g, first));
    for (int i = 0; i < vl; i++) {
        LLVMValueRef row = gen_add(g, row0, gen_i64(g, i));
        if (clamp) row = gen_min(g, row, gen_i64(g, s->rows - 1));
        codes[i] = ternary_codes(g, s->at, row, &s->layout);
        scales[i] = ternary_scales(g, s->at, row, &s->layout);
    }
    Loop step = gen_loop(g, gen_i64(g, 0), s->k, WORD, "word");
    LLVMValueRef at[MAX_LANES], k = gen_add(g, s->k0, step.i), word = gen_div(g, k, WORD);
    for (int i = 0; i < vl; i++) at[i] = gen_at(g, g->i32, codes[i], word);
    LLVMValueRef bits = gather(g, g->i32, at, vl);
    if (s->group % WORD == 0) {
        LLVMValueRef scale = scales_at(g, s, scales, k);
        for (int t = 0; t < WORD; t++) {
            LLVMValueRef u = LLVMBuildLShr(g->b, bits, gen_splat(g, gen_i32(g, 2 * t), vl), "");
            store_step(g, s, gen_add(g, step.i, gen_i64(g, t)), first, weights(g, u, scale));
        }
    } else {
        Loop t = gen_loop(g, gen_i64(g, 0), gen_i64(g, WORD), 1, "code");
        LLVMValueRef shift = LLVMBuildTrunc(g->b, gen_mul(g, t.i, 2), g->i32, "");
        LLVMValueRef kt = gen_min(g, gen_add(g, k, t.i), gen_i64(g, s->cols - 1));
        LLVMValueRef u = LLVMBuildLShr(g->b, bits, gen_splat(g, shift, vl), "");
        store_step(g, s, gen_add(g, step.i, t.i), first, weights(g, u, scales_at(g, s, scales, kt)));
        gen_loop_end(g, &t);
    }
    gen_loop_end(g, &step);
}

static void pack_nk_panel(Gen *g, const Source *s) {
    LLVMValueRef end = gen_add(g, gen_add(g, s->j0, s->panel), gen_i64(g, g->target->nr));
    If full = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLE, end, gen_i64(g, s->rows), ""));
    for (int first = 0; first < g->target->nr; first += g->target->vl) pack_nk_vector(g, s, first, false);
    gen_else(g, &full);
    for (int first = 0; first < g->target->nr; first += g->target->vl) pack_nk_vector(g, s, first, true);
    gen_if_end(g, &full);
}

/* ---- stored [k,n] */

/* The scales of vl columns from `col` on, in one row. */
static LLVMValueRef scales_of(Gen *g, const Source *s, LLVMValueRef scales, LLVMValueRef col) {
    int vl = g->target->vl;
    LLVMValueRef at[MAX_LANES], last = gen_i64(g, s->layout.groups - 1);
    bool shared = s->group % vl == 0;
    for (int i = 0; i < (shared ? 1 : vl); i++) {
        LLVMValueRef group = gen_div(g, gen_add(g, col, gen_i64(g, i)), s->group);
        at[i] = gen_at(g, g->f16, scales, gen_min(g, group, last));
    }
    LLVMValueRef scale = shared ? LLVMBuildFPExt(g->b, gen_load(g, g->f16, at[0]), g->f32, "")
                                : widen(g, gather(g, g->f16, at, vl));
    if (s->rounded) scale = gen_round_bf16(g, scale);
    return shared ? gen_splat(g, scale, vl) : scale;
}

static void pack_kn_panel(Gen *g, const Source *s) {
    int vl = g->target->vl;
    LLVMTypeRef bits = vl == WORD ? g->i32 : g->i16; /* vl codes */
    LLVMValueRef shifts = LLVMBuildShl(g->b, gen_iota(g, g->i32, vl), gen_splat(g, gen_i32(g, 1), vl), "");
    Loop step = gen_loop(g, gen_i64(g, 0), s->k, 1, "k");
    LLVMValueRef row = gen_add(g, s->k0, step.i);
    LLVMValueRef codes = ternary_codes(g, s->at, row, &s->layout),
                 scales = ternary_scales(g, s->at, row, &s->layout);
    for (int first = 0; first < g->target->nr; first += vl) {
        LLVMValueRef col = gen_add(g, gen_add(g, s->j0, s->panel), gen_i64(g, first));
        LLVMValueRef at = gen_min(g, gen_div(g, col, vl), gen_i64(g, s->layout.row_bytes * 4 / vl - 1));
        LLVMValueRef u = LLVMBuildZExt(g->b, gen_load(g, bits, gen_at(g, bits, codes, at)), g->i32, "");
        u = LLVMBuildLShr(g->b, gen_splat(g, u, vl), shifts, "");
        store_step(g, s, step.i, first, weights(g, u, scales_of(g, s, scales, col)));
    }
    gen_loop_end(g, &step);
}

LLVMValueRef gen_pack_ternary(Gen *g, int64_t rows, int64_t cols, int64_t group, bool nk, bool rounded) {
    char name[96];
    snprintf(name, sizeof name, "pack_ternary_%s%s_%lldx%lld_%lld", nk ? "nk" : "kn",
             rounded ? "_rounded" : "", (long long)rows, (long long)cols, (long long)group);
    PackT2 p;
    if (!pack_t2_begin(g, name, &p)) return p.fn;
    Source s = {.rows = rows, .cols = cols, .group = group, .rounded = rounded};
    s.layout = ternary_layout(rows, cols, group);
    s.j0 = p.j0, s.nj = p.n, s.k0 = p.k0, s.k = p.k, s.at = p.t2;
    Loop panel = gen_loop(g, gen_i64(g, 0), s.nj, g->target->nr, "panel");
    s.panel = panel.i;
    s.dst = gen_at(g, g->f32, p.dst, LLVMBuildMul(g->b, panel.i, p.room, ""));
    (nk ? pack_nk_panel : pack_kn_panel)(g, &s);
    gen_loop_end(g, &panel);
    gen_function_end(g, &p.saved);
    return p.fn;
}
