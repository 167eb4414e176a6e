/* Products of packed panels: the register-tiled micro-kernel and the loops around it, after BLIS.
 *
 *     product      c[m,n] from packed A and B: for each panel of B, for each panel of A:
 *       microkernel  one mr x nr tile of c, all of it in registers while k runs
 *
 * A panel of B stays in the first-level cache while the panels of A stream past it from the second. Both are
 * functions of their own: every GEMM and attention kernel of a module shares them. What differs from one type
 * of panels to another (panels.h) is how a word of A is multiplied with a word of B (pairs.c), and what
 * becomes of the sums at the end of a block. */
#include "gemm.h"
#include <stdio.h>

enum { MAX_UNROLL = 4, MAX_ACC = 32 };

/* Words of a panel, by its width, for k steps: those of whole blocks, and of the rest. */
static LLVMValueRef words_of(Gen *g, const Panels *p, LLVMValueRef k) {
    int64_t steps = p->block.steps, pairs = p->block.pairs;
    if (!steps) return gen_panel_words(g, p->type, k);
    LLVMValueRef words = gen_panel_words(g, p->type, gen_mod(g, k, steps));
    return gen_add(g, gen_mul(g, gen_div(g, k, steps), pairs), words);
}

/* The register tile, and where the words of its operands are. */
typedef struct Tile {
    const Panels *panels;
    int rows, vectors, vl;
    LLVMTypeRef word, sum;     /* vectors */
    LLVMValueRef acc[MAX_ACC]; /* of row i and vector j: i*vectors + j */
    LLVMValueRef a, b;         /* of the block at work */
} Tile;

/* Word number `at` of row i of A's panel; int16 panels hold a row's words one after the other. */
static LLVMValueRef word_of_a(Gen *g, const Tile *t, LLVMValueRef at, int i) {
    LLVMValueRef index = t->panels->type == PANELS_I16
                             ? gen_add(g, at, gen_i64(g, (int64_t)i * t->panels->block.pairs))
                             : gen_add(g, gen_mul(g, at, t->rows), gen_i64(g, i));
    LLVMTypeRef word = LLVMGetElementType(t->word);
    return gen_load(g, word, gen_at(g, word, t->a, index));
}

/* acc[i][j] += a[i] * b[j*vl ..] for the words number `at`. */
static void add_products(Gen *g, const Tile *t, LLVMValueRef at) {
    LLVMTypeRef word = LLVMGetElementType(t->word);
    LLVMValueRef words = gen_at(g, word, t->b, gen_mul(g, at, (int64_t)t->vectors * t->vl)), row[MAX_ACC];
    for (int j = 0; j < t->vectors; j++)
        row[j] = gen_load(g, t->word, gen_at(g, word, words, gen_i64(g, (int64_t)j * t->vl)));
    for (int i = 0; i < t->rows; i++) {
        LLVMValueRef x = gen_splat(g, word_of_a(g, t, at, i), t->vl);
        for (int j = 0; j < t->vectors; j++) {
            LLVMValueRef slot = t->acc[i * t->vectors + j];
            gen_store(g, pairs_add(g, t->panels->type, gen_load(g, t->sum, slot), x, row[j]), slot);
        }
    }
}

/* The products of words lo .. hi-1; the sums live in the phis that allocas become. */
static void product_loop(Gen *g, const Tile *t, LLVMValueRef lo, LLVMValueRef hi, int unroll) {
    Loop at = gen_loop(g, lo, hi, unroll, "k");
    for (int u = 0; u < unroll; u++) add_products(g, t, gen_add(g, at.i, gen_i64(g, u)));
    gen_loop_end(g, &at);
}

/* The sums over n words. Pairs come in eights; two at a time where that does not make LLVM spill sums. */
static void sum_words(Gen *g, const Tile *t, LLVMValueRef n) {
    for (int i = 0; i < t->rows * t->vectors; i++) gen_store(g, LLVMConstNull(t->sum), t->acc[i]);
    if (panels_of_pairs(t->panels->type)) {
        product_loop(g, t, gen_i64(g, 0), n, t->vl == 8 ? 2 : 1);
        return;
    }
    LLVMValueRef whole = gen_sub(g, n, gen_mod(g, n, MAX_UNROLL));
    product_loop(g, t, gen_i64(g, 0), whole, MAX_UNROLL);
    product_loop(g, t, whole, n, 1);
}

/* The factor of the sums of row i and vector j: scales behind the words of a block, of its columns and, of
 * int16 panels, its rows. NULL: there is none. */
static LLVMValueRef scale_of(Gen *g, const Tile *t, int i, int j) {
    int64_t pairs = t->panels->block.pairs, nr = (int64_t)t->vectors * t->vl;
    if (!pairs) return NULL;
    LLVMTypeRef vec = gen_vec(g, g->f32, t->vl);
    LLVMValueRef scale = gen_load(g, vec, gen_at(g, g->f32, t->b, gen_i64(g, pairs * nr + j * t->vl)));
    if (t->panels->type != PANELS_I16) return scale;
    LLVMValueRef x = gen_load(g, g->f32, gen_at(g, g->f32, t->a, gen_i64(g, pairs * t->rows + i)));
    return LLVMBuildFMul(g->b, scale, gen_splat(g, x, t->vl), "");
}

/* Writes the sums to c, on top of what is there or instead of it. */
static void write_tile(Gen *g, const Tile *t, LLVMValueRef c, LLVMValueRef ldc, bool add) {
    LLVMTypeRef vec = gen_vec(g, g->f32, t->vl);
    for (int i = 0; i < t->rows; i++) {
        LLVMValueRef row = gen_at(g, g->f32, c, LLVMBuildMul(g->b, ldc, gen_i64(g, i), ""));
        for (int j = 0; j < t->vectors; j++) {
            LLVMValueRef at = gen_at(g, g->f32, row, gen_i64(g, (int64_t)j * t->vl));
            LLVMValueRef sum = gen_load(g, t->sum, t->acc[i * t->vectors + j]), scale = scale_of(g, t, i, j);
            if (t->sum != vec) sum = LLVMBuildSIToFP(g->b, sum, vec, "");
            if (scale && add)
                sum = gen_fma(g, sum, scale, gen_load(g, vec, at));
            else if (scale)
                sum = LLVMBuildFMul(g->b, sum, scale, "");
            else if (add)
                sum = LLVMBuildFAdd(g->b, gen_load(g, vec, at), sum, "");
            gen_store(g, sum, at);
        }
    }
}

/* c is needed only at the end, by when it has come from memory. */
void gen_prefetch_tile(Gen *g, LLVMValueRef c, LLVMValueRef ldc) {
    for (int i = 0; i < g->target->mr; i++) {
        LLVMValueRef row = gen_at(g, g->f32, c, LLVMBuildMul(g->b, ldc, gen_i64(g, i), ""));
        gen_prefetch(g, row, true);
    }
}

static Tile new_tile(Gen *g, const Panels *panels) {
    Tile t = {.panels = panels, .rows = g->target->mr, .vl = g->target->vl};
    t.vectors = g->target->nr / t.vl;
    t.word = gen_vec(g, panels_of_pairs(panels->type) ? g->i32 : g->f32, t.vl);
    t.sum = gen_vec(g, panels->type == PANELS_I16 ? g->i32 : g->f32, t.vl);
    if (t.rows * t.vectors > MAX_ACC) ice("register tile of %d vectors", t.rows * t.vectors);
    for (int i = 0; i < t.rows * t.vectors; i++) t.acc[i] = gen_alloca(g, t.sum, "acc");
    return t;
}

/* "PREFIX_TYPE_STEPS" */
static void panels_name(char *name, size_t size, const char *prefix, const Panels *p) {
    /* numbers rounded to bf16 are multiplied as any f32 are */
    static const char *const types[] = {
        [PANELS_F32] = "", [PANELS_BF16] = "_bf16", [PANELS_I16] = "_i16", [PANELS_ROUNDED] = ""};
    int n = snprintf(name, size, "%s%s", prefix, types[p->type]);
    if (p->block.pairs) snprintf(name + n, size - (size_t)n, "_%d", p->block.steps);
}

/* void f(i64 words, ptr a, ptr b, ptr c, i64 ldc, i1 add): c[mr,nr] = or += the sum over the words of one
 * panel of A times one of B. */
static LLVMValueRef gen_microkernel(Gen *g, const Panels *panels) {
    char name[48];
    panels_name(name, sizeof name, "microkernel", panels);
    LLVMTypeRef params[] = {g->i64, g->ptr, g->ptr, g->ptr, g->i64, g->i1};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 6, false), &exists, &saved);
    if (exists) return fn;
    gen_noinline(g, fn);
    LLVMValueRef v[6];
    LLVMGetParams(fn, v);
    LLVMValueRef words = v[0], c = v[3], ldc = v[4], add = v[5];
    int64_t pairs = panels->block.pairs;

    Tile t = new_tile(g, panels);
    t.a = v[1], t.b = v[2];
    gen_prefetch_tile(g, c, ldc);
    Loop block = {0};
    if (pairs) {
        block = gen_loop(g, gen_i64(g, 0), words, pairs, "block");
        LLVMValueRef index = gen_div(g, block.i, pairs),
                     more = LLVMBuildICmp(g->b, LLVMIntSGT, block.i, gen_i64(g, 0), "");
        int64_t of_a = pairs + (panels->type == PANELS_I16);
        t.a = gen_at(g, g->i32, t.a, gen_mul(g, index, of_a * t.rows));
        t.b = gen_at(g, g->i32, t.b, gen_mul(g, index, (pairs + 1) * g->target->nr));
        words = gen_min(g, gen_sub(g, words, block.i), gen_i64(g, pairs));
        add = LLVMBuildOr(g->b, add, more, "");
    }
    sum_words(g, &t, words);
    If adding = gen_if(g, add);
    write_tile(g, &t, c, ldc, true);
    gen_else(g, &adding);
    write_tile(g, &t, c, ldc, false);
    gen_if_end(g, &adding);
    if (pairs) gen_loop_end(g, &block);
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
    const Panels *panels;
    Band band;
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
static void product_tile(Gen *g, const Product *p) {
    int mr = g->target->mr, nr = g->target->nr;
    LLVMValueRef lo = gen_i64(g, 0), hi = p->k;
    if (p->band == BAND_AK) hi = clamp(g, seen(g, p), p->k);
    if (p->band == BAND_KA) lo = clamp(g, gen_add(g, gen_sub(g, p->i, p->diagonal), gen_i64(g, 1)), p->k);
    if (panels_of_pairs(p->panels->type)) lo = gen_mul(g, gen_div(g, lo, 16), 8); /* words come in eights */
    hi = words_of(g, p->panels, hi);
    LLVMValueRef words = gen_sub(g, hi, lo);
    LLVMValueRef a = gen_add(g, LLVMBuildMul(g->b, p->i, p->a_depth, ""), gen_mul(g, lo, mr));
    LLVMValueRef b = gen_add(g, LLVMBuildMul(g->b, p->j, p->b_depth, ""), gen_mul(g, lo, nr));
    a = gen_at(g, g->f32, p->a, a);
    b = gen_at(g, g->f32, p->b, b);
    LLVMValueRef c = gen_at(g, g->f32, p->c, gen_add(g, LLVMBuildMul(g->b, p->i, p->ldc, ""), p->j));
    LLVMValueRef rows = gen_min(g, gen_sub(g, p->m, p->i), gen_i64(g, mr));
    LLVMValueRef cols = gen_min(g, gen_sub(g, p->n, p->j), gen_i64(g, nr));
    LLVMValueRef full = LLVMBuildAnd(g->b, LLVMBuildICmp(g->b, LLVMIntEQ, rows, gen_i64(g, mr), ""),
                                     LLVMBuildICmp(g->b, LLVMIntEQ, cols, gen_i64(g, nr), ""), "");
    LLVMValueRef kernel = gen_microkernel(g, p->panels);
    If inside = gen_if(g, full);
    gen_call(g, kernel, (LLVMValueRef[]){words, a, b, c, p->ldc, p->add}, 6);
    gen_else(g, &inside);
    gen_call(g, kernel, (LLVMValueRef[]){words, a, b, p->corner, gen_i64(g, nr), LLVMConstNull(g->i1)}, 6);
    gen_write_corner(g, p->corner, rows, cols, c, p->ldc, p->add);
    gen_if_end(g, &inside);
}

LLVMValueRef gen_product(Gen *g, Band band, const Panels *panels) {
    static const char *const names[] = {[BAND_NONE] = "product",
                                        [BAND_C] = "product_band_c",
                                        [BAND_AK] = "product_band_ak",
                                        [BAND_KA] = "product_band_ka"};
    char name[48];
    panels_name(name, sizeof name, names[band], panels);
    LLVMTypeRef params[] = {g->i64, g->i64, g->i64, g->ptr, g->i64, g->ptr,
                            g->i64, g->ptr, g->i64, g->i1,  g->i64};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 11, false), &exists, &saved);
    if (exists) return fn;
    gen_noinline(g, fn);
    LLVMValueRef v[11];
    LLVMGetParams(fn, v);
    Product p = {.panels = panels, .band = band, .m = v[0], .n = v[1], .k = v[2]};
    p.a = v[3], p.a_depth = v[4], p.b = v[5], p.b_depth = v[6];
    p.c = v[7], p.ldc = v[8], p.add = v[9], p.diagonal = v[10];
    p.corner = gen_alloca(g, LLVMArrayType2(g->f32, (uint64_t)(g->target->mr * g->target->nr)), "corner");
    Loop j = gen_loop(g, gen_i64(g, 0), p.n, g->target->nr, "j");
    Loop i = gen_loop(g, gen_i64(g, 0), p.m, g->target->mr, "i");
    p.j = j.i;
    p.i = i.i;
    if (band == BAND_C) {
        If needed = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLT, p.j, seen(g, &p), ""));
        product_tile(g, &p);
        gen_if_end(g, &needed);
    } else {
        product_tile(g, &p);
    }
    gen_loop_end(g, &i);
    gen_loop_end(g, &j);
    gen_function_end(g, &saved);
    return fn;
}
