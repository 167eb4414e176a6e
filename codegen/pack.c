/* Packing of f32 matrices into panels (see gen.h): by copying rows, or by transposing square blocks of
 * vector-length in registers. Past the operand's end its last row or column is repeated. */
#include "gen.h"
#include <stdio.h>

enum { COLUMN_STEPS = 8 };

/* Transposes v[n][n] held in n vectors of n lanes: for each power of two, lane bit and vector bit change
 * places. */
static void transpose(Gen *g, LLVMValueRef *v, int n) {
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

/* Asks for row[width*ld + k], which the next panel will read. */
static void prefetch_next(Gen *g, LLVMValueRef row, LLVMValueRef ld, int width, LLVMValueRef k) {
    LLVMValueRef offset = gen_add(g, gen_mul(g, ld, width), k);
    LLVMValueRef at = LLVMBuildGEP2(g->b, g->f32, row, &offset, 1, "");      /* may lie past the end */
    LLVMValueRef args[] = {at, gen_i32(g, 0), gen_i32(g, 3), gen_i32(g, 1)}; /* to read, keep, data */
    gen_intrinsic(g, "llvm.prefetch", g->ptr, args, 4);
}

/* One panel from src[n,k]: dst[kk*width + i] = src[min(first + i, n-1)*ld + kk], `lanes` rows at a time. */
static void pack_rows(Gen *g, int width, LLVMValueRef first, LLVMValueRef n, LLVMValueRef k, LLVMValueRef src,
                      LLVMValueRef ld, LLVMValueRef dst) {
    int vl = g->target->vl;
    LLVMTypeRef vec = gen_vec(g, g->f32, vl);
    LLVMValueRef last = gen_sub(g, n, gen_i64(g, 1)), whole = gen_sub(g, k, gen_mod(g, k, vl));
    for (int i0 = 0; i0 < width; i0 += vl) {
        int lanes = width - i0 < vl ? width - i0 : vl;
        LLVMValueRef row[16], v[16];
        for (int i = 0; i < lanes; i++) {
            LLVMValueRef at = gen_min(g, gen_add(g, first, gen_i64(g, i0 + i)), last);
            row[i] = gen_at(g, g->f32, src, LLVMBuildMul(g->b, at, ld, ""));
        }
        Loop kk = gen_loop(g, gen_i64(g, 0), whole, vl, "k");
        for (int i = 0; i < lanes; i++) prefetch_next(g, row[i], ld, width, kk.i);
        for (int i = 0; i < vl; i++)
            v[i] = i < lanes ? gen_load(g, vec, gen_at(g, g->f32, row[i], kk.i)) : LLVMGetPoison(vec);
        transpose(g, v, vl);
        for (int t = 0; t < vl; t++) {
            LLVMValueRef to = gen_add(g, gen_mul(g, gen_add(g, kk.i, gen_i64(g, t)), width), gen_i64(g, i0));
            gen_store(g, lanes < vl ? head(g, v[t], lanes) : v[t], gen_at(g, g->f32, dst, to));
        }
        gen_loop_end(g, &kk);
        Loop rest = gen_loop(g, whole, k, 1, "k_rest");
        LLVMValueRef to = gen_at(g, g->f32, dst, gen_mul(g, rest.i, width));
        for (int i = 0; i < lanes; i++)
            gen_store(g, gen_load(g, g->f32, gen_at(g, g->f32, row[i], rest.i)),
                      gen_at(g, g->f32, to, gen_i64(g, i0 + i)));
        gen_loop_end(g, &rest);
    }
}

/* Steps k0 .. k1-1 of one panel from src[k,n]: dst[kk*width + j] = src[kk*ld + min(first + j, n-1)]. */
static void pack_cols(Gen *g, int width, LLVMValueRef first, LLVMValueRef n, LLVMValueRef k0, LLVMValueRef k1,
                      LLVMValueRef src, LLVMValueRef ld, LLVMValueRef dst) {
    LLVMValueRef last = gen_sub(g, n, gen_i64(g, 1)), end = gen_add(g, first, gen_i64(g, width));
    LLVMTypeRef vec = gen_vec(g, g->f32, width);
    If full = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLE, end, n, ""));
    Loop kk = gen_loop(g, k0, k1, 1, "k");
    LLVMValueRef from = gen_add(g, LLVMBuildMul(g->b, kk.i, ld, ""), first);
    gen_store(g, gen_load(g, vec, gen_at(g, g->f32, src, from)),
              gen_at(g, g->f32, dst, gen_mul(g, kk.i, width)));
    gen_loop_end(g, &kk);
    gen_else(g, &full);
    Loop part = gen_loop(g, k0, k1, 1, "k_part");
    LLVMValueRef row = gen_at(g, g->f32, src, LLVMBuildMul(g->b, part.i, ld, ""));
    LLVMValueRef to = gen_at(g, g->f32, dst, gen_mul(g, part.i, width));
    Loop j = gen_loop(g, gen_i64(g, 0), gen_i64(g, width), 1, "j");
    LLVMValueRef at = gen_min(g, gen_add(g, first, j.i), last);
    gen_store(g, gen_load(g, g->f32, gen_at(g, g->f32, row, at)), gen_at(g, g->f32, to, j.i));
    gen_loop_end(g, &j);
    gen_loop_end(g, &part);
    gen_if_end(g, &full);
}

LLVMValueRef gen_pack(Gen *g, int width, bool rows) {
    if (width > 4 * g->target->vl || g->target->vl > 16) ice("panel width %d", width);
    char name[32];
    snprintf(name, sizeof name, rows ? "pack_rows_%d" : "pack_cols_%d", width);
    LLVMTypeRef params[] = {g->i64, g->i64, g->ptr, g->i64, g->ptr, g->i64};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 6, false), &exists, &saved);
    if (exists) return fn;
    LLVMValueRef p[6];
    LLVMGetParams(fn, p);
    LLVMValueRef n = p[0], k = p[1], src = p[2], ld = p[3];
    /* Rows are read as long as they are. Of columns a few steps at a time: lines that several panels share
     * must not fall out of the cache in between, and at strides of powers of two few lines fit. */
    Loop k0 = gen_loop(g, gen_i64(g, 0), rows ? gen_i64(g, 1) : k, COLUMN_STEPS, "steps");
    Loop first = gen_loop(g, gen_i64(g, 0), n, width, "panel");
    LLVMValueRef dst = gen_at(g, g->f32, p[4], LLVMBuildMul(g->b, first.i, p[5], ""));
    if (rows)
        pack_rows(g, width, first.i, n, k, src, ld, dst);
    else
        pack_cols(g, width, first.i, n, k0.i, gen_min(g, gen_add(g, k0.i, gen_i64(g, COLUMN_STEPS)), k), src,
                  ld, dst);
    gen_loop_end(g, &first);
    gen_loop_end(g, &k0);
    gen_function_end(g, &saved);
    return fn;
}
