/* The AdamW update with moments as bf16, stochastically rounded (see adamw in ir/ops.def, and eval_bf16.c for
 * the random bits). The update itself is as adamw.c has it; only what is kept of m and v is rounded. */
#include "rows.h"

typedef struct Update {
    const AdamwDesc *desc;
    LLVMValueRef w, grad, m, v, hyper[4], key;
} Update;

static LLVMValueRef const_like(Gen *g, LLVMValueRef x, uint32_t c) {
    return gen_splat(g, gen_i32(g, (int32_t)c), gen_width(x));
}

/* x ^ x >> shift. */
static LLVMValueRef fold(Gen *g, LLVMValueRef x, uint32_t shift) {
    return LLVMBuildXor(g->b, x, LLVMBuildLShr(g->b, x, const_like(g, x, shift), ""), "");
}

/* ir/eval_bf16.c's function of that name, of an i32 or a vector of them. */
static LLVMValueRef lowbias32(Gen *g, LLVMValueRef x) {
    x = LLVMBuildMul(g->b, fold(g, x, 16), const_like(g, x, 0x7feb352du), "");
    x = LLVMBuildMul(g->b, fold(g, x, 15), const_like(g, x, 0x846ca68bu), "");
    return fold(g, x, 16);
}

LLVMValueRef adamw_key(Gen *g, LLVMValueRef at) {
    LLVMValueRef seed = gen_load(g, g->i32, at),
                 step = gen_load(g, g->i32, gen_at(g, g->i32, at, gen_i64(g, 1)));
    return lowbias32(g, LLVMBuildAdd(g->b, lowbias32(g, seed), step, ""));
}

AdamwRandom adamw_random(Gen *g, LLVMValueRef key, LLVMValueRef i, int lanes) {
    LLVMValueRef first = gen_splat(g, LLVMBuildTrunc(g->b, i, g->i32, ""), lanes);
    LLVMValueRef bits = lanes == 1 ? first : LLVMBuildAdd(g->b, first, gen_iota(g, g->i32, lanes), "");
    bits = lowbias32(g, LLVMBuildXor(g->b, lowbias32(g, bits), gen_splat(g, key, lanes), ""));
    return (AdamwRandom){.m = LLVMBuildAnd(g->b, bits, const_like(g, bits, 0xffff), ""),
                         .v = LLVMBuildLShr(g->b, bits, const_like(g, bits, 16), "")};
}

/* 16 random bits are added behind the last bit that is kept. */
LLVMValueRef adamw_round(Gen *g, LLVMValueRef value, LLVMValueRef random) {
    LLVMValueRef x = LLVMBuildBitCast(g->b, value, LLVMTypeOf(random), "");
    return gen_upper(g, LLVMBuildBitCast(g->b, LLVMBuildAdd(g->b, x, random, ""), LLVMTypeOf(value), ""));
}

static void update_lanes(Gen *g, void *context, const Lanes *at, int count) {
    const Update *u = context;
    for (int i = 0; i < count; i++) {
        AdamwState s = {.w = lanes_load(g, u->w, &at[i]), .grad = lanes_load(g, u->grad, &at[i])};
        s.m = lanes_load_bf16(g, u->m, &at[i]);
        s.v = lanes_load_bf16(g, u->v, &at[i]);
        s = gen_adamw_step(g, u->desc, u->hyper, s);
        AdamwRandom random = adamw_random(g, u->key, at[i].col, gen_width(s.w));
        lanes_store(g, s.w, u->w, &at[i]);
        lanes_store_bf16(g, adamw_round(g, s.m, random.m), u->m, &at[i]);
        lanes_store_bf16(g, adamw_round(g, s.v, random.v), u->v, &at[i]);
    }
}

void gen_adamw_bf16(Gen *g, const char *name, const AdamwDesc *d) {
    Tiling tiling = adamw_tiling(d);
    gen_kernel(g, name);
    Update u = {d, gen_buffer(g, 0), gen_buffer(g, 1), gen_buffer(g, 2), gen_buffer(g, 3), {NULL}, NULL};
    LLVMValueRef lo, n;
    gen_adamw_hyper(g, gen_buffer(g, 4), u.hyper);
    u.key = adamw_key(g, gen_buffer(g, 5));
    gen_piece(g, &tiling, &lo, &n);
    gen_lanes(g, lo, n, 1, update_lanes, &u);
    gen_end(g);
}

uint32_t adamw_bf16_tiles(const AdamwDesc *d, const Target *target) {
    return adamw_tiles(d, target);
}

uint64_t adamw_bf16_scratch(const AdamwDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}
