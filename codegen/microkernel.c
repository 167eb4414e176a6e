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

void gen_noinline(Gen *g, LLVMValueRef fn) {
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
void gen_prefetch_tile(Gen *g, LLVMValueRef c, LLVMValueRef ldc) {
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
    gen_noinline(g, fn);
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
    gen_prefetch_tile(g, c, ldc);
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

void gen_write_corner(Gen *g, LLVMValueRef tile, LLVMValueRef rows, LLVMValueRef cols, LLVMValueRef c,
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

/* The arguments of product, and the tile at work. */
typedef struct Product {
    LLVMValueRef m, n, k, a, a_depth, b, b_depth, c, ldc, add, diagonal;
    LLVMValueRef i, j, corner; /* first row and column of the tile; a buffer for one tile */
} Product;

/* Keys that the last query of a panel sees which begins with query i. */
static LLVMValueRef seen(Gen *g, const Product *p) {
    return gen_add(g, gen_add(g, p->i, gen_i64(g, g->target->mr - 1)), p->diagonal);
}

static LLVMValueRef clamp(Gen *g, LLVMValueRef x, LLVMValueRef hi) {
    return gen_min(g, gen_max(g, x, gen_i64(g, 0)), hi);
}

/* One tile of c, over the steps of k for which the panel of A may be other than 0. */
static void product_tile(Gen *g, const Product *p, Band band) {
    int mr = g->target->mr, nr = g->target->nr;
    LLVMValueRef lo = gen_i64(g, 0), hi = p->k;
    if (band == BAND_AK) hi = clamp(g, seen(g, p), p->k);
    if (band == BAND_KA) lo = clamp(g, gen_add(g, gen_sub(g, p->i, p->diagonal), gen_i64(g, 1)), p->k);
    LLVMValueRef steps = gen_sub(g, hi, lo);
    LLVMValueRef a = gen_add(g, LLVMBuildMul(g->b, p->i, p->a_depth, ""), gen_mul(g, lo, mr));
    LLVMValueRef b = gen_add(g, LLVMBuildMul(g->b, p->j, p->b_depth, ""), gen_mul(g, lo, nr));
    a = gen_at(g, g->f32, p->a, a);
    b = gen_at(g, g->f32, p->b, b);
    LLVMValueRef c = gen_at(g, g->f32, p->c, gen_add(g, LLVMBuildMul(g->b, p->i, p->ldc, ""), p->j));
    LLVMValueRef rows = gen_min(g, gen_sub(g, p->m, p->i), gen_i64(g, mr));
    LLVMValueRef cols = gen_min(g, gen_sub(g, p->n, p->j), gen_i64(g, nr));
    LLVMValueRef full = LLVMBuildAnd(g->b, LLVMBuildICmp(g->b, LLVMIntEQ, rows, gen_i64(g, mr), ""),
                                     LLVMBuildICmp(g->b, LLVMIntEQ, cols, gen_i64(g, nr), ""), "");
    LLVMValueRef kernel = gen_microkernel(g);
    If inside = gen_if(g, full);
    gen_call(g, kernel, (LLVMValueRef[]){steps, a, b, c, p->ldc, p->add}, 6);
    gen_else(g, &inside);
    gen_call(g, kernel, (LLVMValueRef[]){steps, a, b, p->corner, gen_i64(g, nr), LLVMConstNull(g->i1)}, 6);
    gen_write_corner(g, p->corner, rows, cols, c, p->ldc, p->add);
    gen_if_end(g, &inside);
}

LLVMValueRef gen_product(Gen *g, Band band) {
    static const char *const names[] = {"product", "product_band_c", "product_band_ak", "product_band_ka"};
    LLVMTypeRef params[] = {g->i64, g->i64, g->i64, g->ptr, g->i64, g->ptr,
                            g->i64, g->ptr, g->i64, g->i1,  g->i64};
    bool exists;
    Gen saved;
    LLVMValueRef fn =
        gen_function(g, names[band], LLVMFunctionType(g->void_, params, 11, false), &exists, &saved);
    if (exists) return fn;
    gen_noinline(g, fn);
    LLVMValueRef v[11];
    LLVMGetParams(fn, v);
    Product p = {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], NULL, NULL, NULL};
    p.corner = gen_alloca(g, LLVMArrayType2(g->f32, (uint64_t)(g->target->mr * g->target->nr)), "corner");
    Loop j = gen_loop(g, gen_i64(g, 0), p.n, g->target->nr, "j");
    Loop i = gen_loop(g, gen_i64(g, 0), p.m, g->target->mr, "i");
    p.j = j.i;
    p.i = i.i;
    if (band == BAND_C) {
        If needed = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLT, p.j, seen(g, &p), ""));
        product_tile(g, &p, band);
        gen_if_end(g, &needed);
    } else {
        product_tile(g, &p, band);
    }
    gen_loop_end(g, &i);
    gen_loop_end(g, &j);
    gen_function_end(g, &saved);
    return fn;
}
