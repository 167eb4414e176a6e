/* Products of packed panels: the register-tiled micro-kernel and the loops around it, after BLIS.
 *
 *     product      c[m,n] from packed A and B: for each panel of B, for each panel of A:
 *       microkernel  one mr x nr tile of c, all of it in registers while k runs
 *
 * A panel of B (nr*k floats) stays in the first-level cache while the panels of A stream past it from the
 * second. Both are functions of their own: every GEMM and attention kernel of a module shares them. */
#include "gen.h"
#include <string.h>

enum { UNROLL = 4, MAX_ACC = 32 };

static void set_noinline(Gen *g, LLVMValueRef fn) {
    unsigned kind = LLVMGetEnumAttributeKindForName("noinline", strlen("noinline"));
    LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                            LLVMCreateEnumAttribute(g->ctx, kind, 0));
}

/* acc[i][j] += a[i] * b[j*vl ..] for one k; a and b point at the k's numbers. */
static void rank_one_update(Gen *g, LLVMValueRef a, LLVMValueRef b, LLVMValueRef *acc) {
    int vl = g->target->vl, vectors = g->target->nr / vl;
    LLVMTypeRef vec = gen_vec(g, g->f32, vl);
    LLVMValueRef row[MAX_ACC];
    for (int j = 0; j < vectors; j++) row[j] = gen_load(g, vec, gen_at(g, g->f32, b, gen_i64(g, j * vl)));
    for (int i = 0; i < g->target->mr; i++) {
        LLVMValueRef x = gen_splat(g, gen_load(g, g->f32, gen_at(g, g->f32, a, gen_i64(g, i))), vl);
        for (int j = 0; j < vectors; j++) {
            LLVMValueRef slot = acc[i * vectors + j];
            gen_store(g, gen_fma(g, x, row[j], gen_load(g, vec, slot)), slot);
        }
    }
}

/* for (kk = lo; kk < hi; kk += unroll) rank-one updates; the sums live in the phis that allocas become. */
static void update_loop(Gen *g, LLVMValueRef lo, LLVMValueRef hi, int unroll, LLVMValueRef a, LLVMValueRef b,
                        LLVMValueRef *acc) {
    Loop kk = gen_loop(g, lo, hi, unroll, "k");
    for (int u = 0; u < unroll; u++) {
        LLVMValueRef at = gen_add(g, kk.i, gen_i64(g, u));
        rank_one_update(g, gen_at(g, g->f32, a, gen_mul(g, at, g->target->mr)),
                        gen_at(g, g->f32, b, gen_mul(g, at, g->target->nr)), acc);
    }
    gen_loop_end(g, &kk);
}

/* Writes the sums to c, on top of what is there or instead of it. */
static void write_tile(Gen *g, LLVMValueRef c, LLVMValueRef ldc, LLVMValueRef *acc, bool add) {
    int vl = g->target->vl, vectors = g->target->nr / vl;
    LLVMTypeRef vec = gen_vec(g, g->f32, vl);
    for (int i = 0; i < g->target->mr; i++) {
        LLVMValueRef row = gen_at(g, g->f32, c, LLVMBuildMul(g->b, ldc, gen_i64(g, i), ""));
        for (int j = 0; j < vectors; j++) {
            LLVMValueRef at = gen_at(g, g->f32, row, gen_i64(g, j * vl));
            LLVMValueRef sum = gen_load(g, vec, acc[i * vectors + j]);
            gen_store(g, add ? LLVMBuildFAdd(g->b, gen_load(g, vec, at), sum, "") : sum, at);
        }
    }
}

/* c is needed only at the end, by when it has come from memory. */
static void prefetch_tile(Gen *g, LLVMValueRef c, LLVMValueRef ldc) {
    for (int i = 0; i < g->target->mr; i++) {
        LLVMValueRef row = gen_at(g, g->f32, c, LLVMBuildMul(g->b, ldc, gen_i64(g, i), ""));
        LLVMValueRef args[] = {row, gen_i32(g, 1), gen_i32(g, 3), gen_i32(g, 1)}; /* to write, keep, data */
        gen_intrinsic(g, "llvm.prefetch", g->ptr, args, 4);
    }
}

/* void f(i64 k, ptr a, ptr b, ptr c, i64 ldc, i1 add): c[mr,nr] = or += sum over k of one panel of A times
 * one of B. */
static LLVMValueRef gen_microkernel(Gen *g) {
    LLVMTypeRef params[] = {g->i64, g->ptr, g->ptr, g->ptr, g->i64, g->i1};
    bool exists;
    Gen saved;
    LLVMValueRef fn =
        gen_function(g, "microkernel", LLVMFunctionType(g->void_, params, 6, false), &exists, &saved);
    if (exists) return fn;
    set_noinline(g, fn);
    LLVMValueRef k = LLVMGetParam(fn, 0), a = LLVMGetParam(fn, 1), b = LLVMGetParam(fn, 2);
    LLVMValueRef c = LLVMGetParam(fn, 3), ldc = LLVMGetParam(fn, 4), add = LLVMGetParam(fn, 5);

    int count = g->target->mr * (g->target->nr / g->target->vl);
    LLVMTypeRef vec = gen_vec(g, g->f32, g->target->vl);
    LLVMValueRef acc[MAX_ACC];
    if (count > MAX_ACC) ice("register tile of %d vectors", count);
    for (int i = 0; i < count; i++) {
        acc[i] = gen_alloca(g, vec, "acc");
        gen_store(g, LLVMConstNull(vec), acc[i]);
    }
    prefetch_tile(g, c, ldc);
    LLVMValueRef whole = gen_sub(g, k, gen_mod(g, k, UNROLL));
    update_loop(g, gen_i64(g, 0), whole, UNROLL, a, b, acc);
    update_loop(g, whole, k, 1, a, b, acc);
    If adding = gen_if(g, add);
    write_tile(g, c, ldc, acc, true);
    gen_else(g, &adding);
    write_tile(g, c, ldc, acc, false);
    gen_if_end(g, &adding);
    gen_function_end(g, &saved);
    return fn;
}

/* c[rows,cols] = or += the corner of tile[mr,nr] that lies inside. */
static void write_corner(Gen *g, LLVMValueRef tile, LLVMValueRef rows, LLVMValueRef cols, LLVMValueRef c,
                         LLVMValueRef ldc, LLVMValueRef add) {
    Loop i = gen_loop(g, gen_i64(g, 0), rows, 1, "row");
    LLVMValueRef to = gen_at(g, g->f32, c, LLVMBuildMul(g->b, i.i, ldc, ""));
    LLVMValueRef from = gen_at(g, g->f32, tile, gen_mul(g, i.i, g->target->nr));
    Loop j = gen_loop(g, gen_i64(g, 0), cols, 1, "col");
    LLVMValueRef at = gen_at(g, g->f32, to, j.i), sum = gen_load(g, g->f32, gen_at(g, g->f32, from, j.i));
    LLVMValueRef more = LLVMBuildFAdd(g->b, gen_load(g, g->f32, at), sum, "");
    gen_store(g, LLVMBuildSelect(g->b, add, more, sum, ""), at);
    gen_loop_end(g, &j);
    gen_loop_end(g, &i);
}

LLVMValueRef gen_product(Gen *g) {
    LLVMTypeRef params[] = {g->i64, g->i64, g->i64, g->ptr, g->i64, g->ptr, g->i64, g->ptr, g->i64, g->i1};
    bool exists;
    Gen saved;
    LLVMValueRef fn =
        gen_function(g, "product", LLVMFunctionType(g->void_, params, 10, false), &exists, &saved);
    if (exists) return fn;
    set_noinline(g, fn);
    LLVMValueRef p[10], kernel = gen_microkernel(g);
    LLVMGetParams(fn, p);
    LLVMValueRef m = p[0], n = p[1], k = p[2], c = p[7], ldc = p[8], add = p[9];
    int mr = g->target->mr, nr = g->target->nr;
    LLVMValueRef tile = gen_alloca(g, LLVMArrayType2(g->f32, (uint64_t)(mr * nr)), "tile");

    Loop j = gen_loop(g, gen_i64(g, 0), n, nr, "j");
    Loop i = gen_loop(g, gen_i64(g, 0), m, mr, "i");
    LLVMValueRef a = gen_at(g, g->f32, p[3], LLVMBuildMul(g->b, i.i, p[4], ""));
    LLVMValueRef b = gen_at(g, g->f32, p[5], LLVMBuildMul(g->b, j.i, p[6], ""));
    LLVMValueRef to = gen_at(g, g->f32, c, gen_add(g, LLVMBuildMul(g->b, i.i, ldc, ""), j.i));
    LLVMValueRef rows = gen_min(g, gen_sub(g, m, i.i), gen_i64(g, mr));
    LLVMValueRef cols = gen_min(g, gen_sub(g, n, j.i), gen_i64(g, nr));
    LLVMValueRef full = LLVMBuildAnd(g->b, LLVMBuildICmp(g->b, LLVMIntEQ, rows, gen_i64(g, mr), ""),
                                     LLVMBuildICmp(g->b, LLVMIntEQ, cols, gen_i64(g, nr), ""), "");
    If inside = gen_if(g, full);
    gen_call(g, kernel, (LLVMValueRef[]){k, a, b, to, ldc, add}, 6);
    gen_else(g, &inside);
    gen_call(g, kernel, (LLVMValueRef[]){k, a, b, tile, gen_i64(g, nr), LLVMConstNull(g->i1)}, 6);
    write_corner(g, tile, rows, cols, to, ldc, add);
    gen_if_end(g, &inside);
    gen_loop_end(g, &i);
    gen_loop_end(g, &j);
    gen_function_end(g, &saved);
    return fn;
}
