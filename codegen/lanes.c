/* Vector loops over columns, and the pieces of work that tiles take. */
#include "rows.h"

LLVMValueRef gen_masked(Gen *g, const char *name, LLVMTypeRef *types, LLVMValueRef *args,
                                  unsigned n) {
    unsigned id = LLVMLookupIntrinsicID(name, __builtin_strlen(name));
    return gen_call(g, LLVMGetIntrinsicDeclaration(g->mod, id, types, 2), args, n);
}

/* Columns of an array of `elem`. */
static LLVMValueRef load(Gen *g, LLVMTypeRef elem, int bytes, LLVMValueRef base, const Lanes *at) {
    LLVMValueRef p = gen_at(g, elem, base, at->col);
    if (!at->mask) return gen_load(g, gen_vec(g, elem, g->target->vl), p);
    LLVMTypeRef type = gen_vec(g, elem, (int)LLVMGetVectorSize(LLVMTypeOf(at->mask)));
    LLVMValueRef args[] = {p, gen_i32(g, bytes), at->mask, LLVMConstNull(type)};
    return gen_masked(g, "llvm.masked.load", (LLVMTypeRef[]){type, g->ptr}, args, 4);
}

static void store(Gen *g, LLVMTypeRef elem, int bytes, LLVMValueRef value, LLVMValueRef base, const Lanes *at) {
    LLVMValueRef p = gen_at(g, elem, base, at->col);
    if (!at->mask) {
        gen_store(g, value, p);
        return;
    }
    LLVMValueRef args[] = {value, p, gen_i32(g, bytes), at->mask};
    gen_masked(g, "llvm.masked.store", (LLVMTypeRef[]){LLVMTypeOf(value), g->ptr}, args, 4);
}

LLVMValueRef lanes_load(Gen *g, LLVMValueRef base, const Lanes *at) {
    return load(g, g->f32, 4, base, at);
}
void lanes_store(Gen *g, LLVMValueRef value, LLVMValueRef base, const Lanes *at) {
    store(g, g->f32, 4, value, base, at);
}

LLVMValueRef lanes_load_bf16(Gen *g, LLVMValueRef base, const Lanes *at) {
    return gen_widen(g, load(g, g->i16, 2, base, at));
}
void lanes_store_bf16(Gen *g, LLVMValueRef upper, LLVMValueRef base, const Lanes *at) {
    store(g, g->i16, 2, upper, base, at);
}

/* ---- loops */

/* Columns begin .. end-1, which are whole vectors, `count` vectors a turn. */
static void whole_vectors(Gen *g, LLVMValueRef begin, LLVMValueRef end, int count, LanesBody *body,
                          void *context) {
    int vl = g->target->vl;
    Lanes at[8] = {{0}};
    Loop loop = gen_loop(g, begin, end, (int64_t)count * vl, "col");
    for (int u = 0; u < count; u++) at[u].col = gen_add(g, loop.i, gen_i64(g, (int64_t)u * vl));
    body(g, context, at, count);
    gen_loop_end(g, &loop);
}

static void tail(Gen *g, LLVMValueRef col, LLVMValueRef left, LanesBody *body, void *context) {
    int vl = g->target->vl;
    LLVMValueRef lanes = gen_splat(g, LLVMBuildTrunc(g->b, left, g->i32, ""), vl);
    Lanes at = {.col = col};
    at.mask = LLVMBuildICmp(g->b, LLVMIntSLT, gen_iota(g, g->i32, vl), lanes, "");
    body(g, context, &at, 1);
}

void gen_lanes(Gen *g, LLVMValueRef lo, LLVMValueRef n, int unroll, LanesBody *body, void *context) {
    int64_t vl = g->target->vl, step = unroll * vl;
    LLVMValueRef many = gen_mul(g, gen_div(g, n, step), step);
    LLVMValueRef whole = gen_mul(g, gen_div(g, n, vl), vl);
    LLVMValueRef left = gen_sub(g, n, whole);
    bool fixed = LLVMIsConstant(n);
    int64_t size = fixed ? LLVMConstIntGetSExtValue(n) : 0;
    LLVMValueRef middle = gen_add(g, lo, many), end = gen_add(g, lo, whole);
    if (!fixed || size >= step) whole_vectors(g, lo, middle, unroll, body, context);
    if (unroll > 1 && (!fixed || size % step >= vl)) whole_vectors(g, middle, end, 1, body, context);
    if (fixed) {
        if (size % vl) tail(g, end, left, body, context);
        return;
    }
    If some = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSGT, left, gen_i64(g, 0), ""));
    tail(g, end, left, body, context);
    gen_if_end(g, &some);
}

/* ---- tiles */

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

Tiling tiling_of(int64_t count, int64_t least, int64_t unit) {
    int64_t tiles = count / (least < 1 ? 1 : least);
    tiles = tiles < 1 ? 1 : tiles > 64 ? 64 : tiles;
    int64_t piece = ceil_div(ceil_div(count, tiles), unit) * unit;
    return (Tiling){.count = count, .piece = piece, .tiles = (uint32_t)ceil_div(count, piece)};
}

void gen_piece(Gen *g, const Tiling *t, LLVMValueRef *lo, LLVMValueRef *n) {
    if (t->tiles == 1) {
        *lo = gen_i64(g, 0);
        *n = gen_i64(g, t->count);
        return;
    }
    *lo = gen_mul(g, g->tile, t->piece);
    *n = gen_i64(g, t->piece);
    if (t->piece * t->tiles == t->count) return;
    LLVMValueRef rest = gen_max(g, gen_i64(g, 0), gen_sub(g, gen_i64(g, t->count), *lo));
    *n = gen_min(g, *n, rest);
}
