/* The AdamW update, in place, with decoupled weight decay (see adamw in ir/ops.def). */
#include "rows.h"

/* Constants and buffers, splat to vectors where they are numbers. */
typedef struct Update {
    LLVMValueRef w, grad, m, v;
    LLVMValueRef decay, step, vscale, gradscale;
    LLVMValueRef beta1, rest1, beta2, rest2, eps; /* rest = 1 - beta */
} Update;

static void update_vector(Gen *g, const Update *u, const Lanes *at) {
    LLVMBuilderRef b = g->b;
    LLVMValueRef w = lanes_load(g, u->w, at), m = lanes_load(g, u->m, at), v = lanes_load(g, u->v, at);
    LLVMValueRef grad = LLVMBuildFMul(b, lanes_load(g, u->grad, at), u->gradscale, "");
    m = gen_fma(g, u->rest1, grad, LLVMBuildFMul(b, u->beta1, m, ""));
    v = gen_fma(g, u->rest2, LLVMBuildFMul(b, grad, grad, ""), LLVMBuildFMul(b, u->beta2, v, ""));
    LLVMValueRef vhat = LLVMBuildFMul(b, v, u->vscale, "");
    LLVMValueRef root = gen_intrinsic(g, "llvm.sqrt", LLVMTypeOf(vhat), &vhat, 1);
    LLVMValueRef change = LLVMBuildFMul(b, u->step, m, "");
    change = LLVMBuildFDiv(b, change, LLVMBuildFAdd(b, root, u->eps, ""), "");
    lanes_store(g, LLVMBuildFSub(b, LLVMBuildFMul(b, w, u->decay, ""), change, ""), u->w, at);
    lanes_store(g, m, u->m, at);
    lanes_store(g, v, u->v, at);
}

static void update_lanes(Gen *g, void *context, const Lanes *at, int count) {
    for (int i = 0; i < count; i++) update_vector(g, context, &at[i]);
}

static Tiling element_tiling(const AdamwDesc *d) {
    return tiling_of(d->count, 16384, 64);
}

void gen_adamw(Gen *g, const char *name, const AdamwDesc *d) {
    Tiling tiling = element_tiling(d);
    int vl = g->target->vl;
    gen_kernel(g, name);
    Update u = {
        .w = gen_buffer(g, 0), .grad = gen_buffer(g, 1), .m = gen_buffer(g, 2), .v = gen_buffer(g, 3)};
    LLVMValueRef hyper[4], at = gen_buffer(g, 4), lo, n;
    for (int i = 0; i < 4; i++)
        hyper[i] = gen_splat(g, gen_load(g, g->f32, gen_at(g, g->f32, at, gen_i64(g, i))), vl);
    u.decay = hyper[0], u.step = hyper[1], u.vscale = hyper[2], u.gradscale = hyper[3];
    u.beta1 = gen_splat(g, gen_f32(g, d->beta1), vl), u.rest1 = gen_splat(g, gen_f32(g, 1 - d->beta1), vl);
    u.beta2 = gen_splat(g, gen_f32(g, d->beta2), vl), u.rest2 = gen_splat(g, gen_f32(g, 1 - d->beta2), vl);
    u.eps = gen_splat(g, gen_f32(g, d->eps), vl);
    gen_piece(g, &tiling, &lo, &n);
    gen_lanes(g, lo, n, 2, update_lanes, &u);
    gen_end(g);
}

uint32_t adamw_tiles(const AdamwDesc *d, const Target *target) {
    (void)target;
    return element_tiling(d).tiles;
}

uint64_t adamw_scratch(const AdamwDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}
