/* The AdamW update, in place, with decoupled weight decay (see adamw in ir/ops.def), and moments as f32 or
 * bf16. */
#include "rows.h"

GemmDesc gemm_adamw_product(const GemmAdamwDesc *d) {
    return (GemmDesc){.m = d->m,
                      .n = d->n,
                      .k = d->k,
                      .a_cols = true,
                      .b = d->b_bf16 ? GEMM_B_BF16_KN : GEMM_B_KN,
                      .a_bf16 = d->a_bf16};
}

AdamwState gen_adamw_step(Gen *g, const AdamwDesc *d, const LLVMValueRef *hyper, AdamwState s) {
    LLVMBuilderRef b = g->b;
    LLVMTypeRef type = LLVMTypeOf(s.w);
    int n = gen_width(s.w);
    LLVMValueRef decay = gen_splat(g, hyper[0], n), step = gen_splat(g, hyper[1], n),
                 vscale = gen_splat(g, hyper[2], n), gradscale = gen_splat(g, hyper[3], n);
    LLVMValueRef beta1 = gen_splat(g, gen_f32(g, d->beta1), n),
                 rest1 = gen_splat(g, gen_f32(g, 1 - d->beta1), n),
                 beta2 = gen_splat(g, gen_f32(g, d->beta2), n),
                 rest2 = gen_splat(g, gen_f32(g, 1 - d->beta2), n);
    LLVMValueRef grad = LLVMBuildFMul(b, s.grad, gradscale, "");
    s.m = gen_fma(g, rest1, grad, LLVMBuildFMul(b, beta1, s.m, ""));
    s.v = gen_fma(g, rest2, LLVMBuildFMul(b, grad, grad, ""), LLVMBuildFMul(b, beta2, s.v, ""));
    LLVMValueRef vhat = LLVMBuildFMul(b, s.v, vscale, "");
    LLVMValueRef root = gen_intrinsic(g, "llvm.sqrt", type, &vhat, 1);
    LLVMValueRef change = LLVMBuildFMul(b, step, s.m, "");
    change = LLVMBuildFDiv(b, change, LLVMBuildFAdd(b, root, gen_splat(g, gen_f32(g, d->eps), n), ""), "");
    s.w = LLVMBuildFSub(b, LLVMBuildFMul(b, s.w, decay, ""), change, "");
    return s;
}

void gen_adamw_hyper(Gen *g, LLVMValueRef at, LLVMValueRef *hyper) {
    for (int i = 0; i < 4; i++) hyper[i] = gen_load(g, g->f32, gen_at(g, g->f32, at, gen_i64(g, i)));
    LLVMBasicBlockRef none = LLVMAppendBasicBlockInContext(g->ctx, g->fn, "no_update");
    LLVMBasicBlockRef update = LLVMAppendBasicBlockInContext(g->ctx, g->fn, "update");
    LLVMBuildCondBr(g->b, LLVMBuildFCmp(g->b, LLVMRealUNO, hyper[0], hyper[0], ""), none, update);
    LLVMPositionBuilderAtEnd(g->b, none);
    LLVMBuildRetVoid(g->b);
    LLVMPositionBuilderAtEnd(g->b, update);
}

/* Asks for what stands `next` numbers behind these lanes in w, m and v. */
static void prefetch_next(Gen *g, const AdamwUpdate *u, const Lanes *at) {
    const LLVMValueRef arrays[] = {u->w, u->m, u->v};
    LLVMValueRef to = gen_add(g, at->col, gen_i64(g, u->next));
    for (int i = 0; i < 3; i++) {
        LLVMTypeRef type = i && u->desc.bf16 ? g->i16 : g->f32;
        LLVMValueRef p = LLVMBuildGEP2(g->b, type, arrays[i], &to, 1, ""); /* may lie past the end */
        gen_prefetch(g, p, true);
    }
}

static void store_moments(Gen *g, const AdamwUpdate *u, const AdamwState *s, const Lanes *at) {
    if (!u->desc.bf16) {
        lanes_store(g, s->m, u->m, at);
        lanes_store(g, s->v, u->v, at);
        return;
    }
    LLVMValueRef first = u->index ? gen_add(g, u->index, at->col) : at->col;
    AdamwRandom random = adamw_random(g, u->key, first, gen_width(s->w));
    lanes_store_bf16(g, adamw_round(g, s->m, random.m), u->m, at);
    lanes_store_bf16(g, adamw_round(g, s->v, random.v), u->v, at);
}

static void update_lanes(Gen *g, void *context, const Lanes *at, int count) {
    const AdamwUpdate *u = context;
    const int line = 16; /* floats */
    for (int i = 0; i < count; i++) {
        if (u->next && i * g->target->vl % line == 0) prefetch_next(g, u, &at[i]);
        AdamwState s = {.w = lanes_load(g, u->w, &at[i]), .grad = lanes_load(g, u->grad, &at[i])};
        s.m = (u->desc.bf16 ? lanes_load_bf16 : lanes_load)(g, u->m, &at[i]);
        s.v = (u->desc.bf16 ? lanes_load_bf16 : lanes_load)(g, u->v, &at[i]);
        s = gen_adamw_step(g, &u->desc, u->hyper, s);
        lanes_store(g, s.w, u->w, &at[i]);
        store_moments(g, u, &s, &at[i]);
    }
}

void gen_adamw_elements(Gen *g, const AdamwUpdate *u, LLVMValueRef lo, LLVMValueRef n) {
    gen_lanes(g, lo, n, 2, update_lanes, (void *)u);
}

Tiling adamw_tiling(const AdamwDesc *d) {
    return tiling_of(d->count, 16384, 64);
}

void gen_adamw(Gen *g, const char *name, const AdamwDesc *d) {
    Tiling tiling = adamw_tiling(d);
    gen_kernel(g, name);
    AdamwUpdate u = {.desc = *d,
                     .w = gen_buffer(g, 0),
                     .grad = gen_buffer(g, 1),
                     .m = gen_buffer(g, 2),
                     .v = gen_buffer(g, 3)};
    LLVMValueRef lo, n;
    gen_adamw_hyper(g, gen_buffer(g, 4), u.hyper);
    if (d->bf16) u.key = adamw_key(g, gen_buffer(g, 5));
    gen_piece(g, &tiling, &lo, &n);
    gen_adamw_elements(g, &u, lo, n);
    gen_end(g);
}

uint32_t adamw_tiles(const AdamwDesc *d, const Target *target) {
    (void)target;
    return adamw_tiling(d).tiles;
}

uint64_t adamw_scratch(const AdamwDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}
