/* Attention of new positions to a cache of keys and values, a block for each position's
 * query head:
 *
 *     s_j = q_i k_j, j = 0 .. pos + i;  p = exp(scale s - max);  out_i = sum_j p_j v_j / sum_j p_j
 *
 * Each warp goes over every 16th position, four at a time, with its lanes along
 * the head's dim, and keeps an online softmax of its own. At the end the warps'
 * sums are brought to their common maximum and added up in the order of the
 * warps. */
#include "tile.h"
#include <stdlib.h>

enum {
    KEYS = 4 /* positions at a time */,
    MAX_WARPS = 16,
    MAX_SHARED = 8192 /* floats */
};
enum { Q, K, V, POS, OUT }; /* args */

typedef struct DecodeHead {
    Gen *g;
    const AttnDesc *d;
    int warps, parts; /* parts: of the dim, one number a lane each */
    LLVMValueRef lane, warp, seen;
    LLVMValueRef k, v, out;  /* position 0; the result */
    LLVMValueRef *q, *sum;   /* q of the lane; allocas of its weighted values */
    LLVMValueRef max, total; /* allocas */
    LLVMValueRef shared;     /* [warps][d] sums, [warps] maxima, [warps] totals */
} DecodeHead;

static int warps_of(const AttnDesc *d) {
    int warps = MAX_WARPS;
    while (warps > 1 && warps * (d->d + 2) > MAX_SHARED) warps /= 2;
    return warps;
}

NvGrid nv_attention_decode_grid(const AttnDecodeDesc *d, const Target *t) {
    (void)t;
    return (NvGrid){(uint32_t)(d->at.b * d->queries * d->at.h), (uint32_t)(NV_WARP * warps_of(&d->at)), 0};
}

/* The lane's number of part i of a vector, and whether there is one. */
static LLVMValueRef column(const DecodeHead *h, int i) {
    return gen_add(h->g, h->lane, gen_i64(h->g, i * NV_WARP));
}
static bool is_whole(const DecodeHead *h, int i) {
    return (i + 1) * NV_WARP <= h->d->d;
}
static LLVMValueRef has_column(const DecodeHead *h, int i) {
    return LLVMBuildICmp(h->g->b, LLVMIntSLT, column(h, i), gen_i64(h->g, h->d->d), "");
}

/* Part i of the vector at `at`; 0 behind its end. */
static LLVMValueRef load_part(const DecodeHead *h, LLVMValueRef at, int i) {
    Gen *g = h->g;
    LLVMValueRef col = column(h, i);
    if (is_whole(h, i)) return gen_load(g, g->f32, gen_at(g, g->f32, at, col));
    LLVMValueRef x = gen_load(g, g->f32, gen_at(g, g->f32, at, gen_min(g, col, gen_i64(g, h->d->d - 1))));
    return LLVMBuildSelect(g->b, has_column(h, i), x, gen_f32(g, 0), "");
}

static LLVMValueRef cached(const DecodeHead *h, LLVMValueRef cache, LLVMValueRef pos) {
    return gen_at(h->g, h->g->f32, cache, gen_mul(h->g, pos, h->d->g * h->d->d));
}

static void begin(DecodeHead *h, int64_t queries) {
    Gen *g = h->g;
    const AttnDesc *d = h->d;
    LLVMValueRef query = gen_div(g, g->tile, d->h), head = gen_mod(g, g->tile, d->h);
    LLVMValueRef batch = gen_div(g, query, queries), i = gen_mod(g, query, queries);
    h->lane = nv_lane(g), h->warp = nv_warp(g);
    LLVMValueRef pos = gen_load(g, g->i32, gen_at(g, g->i32, gen_buffer(g, POS), batch));
    h->seen = gen_add(g, LLVMBuildZExt(g->b, pos, g->i64, ""), gen_add(g, i, gen_i64(g, 1)));
    LLVMValueRef group = gen_div(g, head, d->h / d->g), row = gen_mul(g, g->tile, d->d);
    LLVMValueRef first = gen_mul(g, gen_add(g, gen_mul(g, batch, d->s * d->g), group), d->d);
    h->k = gen_at(g, g->f32, gen_buffer(g, K), first);
    h->v = gen_at(g, g->f32, gen_buffer(g, V), first);
    h->out = gen_at(g, g->f32, gen_buffer(g, OUT), row);
    h->max = gen_alloca(g, g->f32, "max"), h->total = gen_alloca(g, g->f32, "total");
    gen_store(g, gen_f32(g, -1e30), h->max);
    gen_store(g, gen_f32(g, 0), h->total);
    for (int part = 0; part < h->parts; part++) {
        h->q[part] = load_part(h, gen_at(g, g->f32, gen_buffer(g, Q), row), part);
        h->sum[part] = gen_alloca(g, g->f32, "sum");
        gen_store(g, gen_f32(g, 0), h->sum[part]);
    }
}

/* KEYS positions, `warps` apart from j0 on; those after the last count nothing.
 */
static void add_keys(const DecodeHead *h, LLVMValueRef j0) {
    Gen *g = h->g;
    LLVMValueRef before = gen_load(g, g->f32, h->max), max = before, score[KEYS], at[KEYS], seen[KEYS];
    for (int u = 0; u < KEYS; u++) {
        LLVMValueRef j = gen_add(g, j0, gen_i64(g, u * h->warps)), dot = gen_f32(g, 0);
        seen[u] = gen_less(g, j, h->seen);
        at[u] = gen_min(g, j, gen_sub(g, h->seen, gen_i64(g, 1)));
        for (int i = 0; i < h->parts; i++)
            dot = gen_fma(g, h->q[i], load_part(h, cached(h, h->k, at[u]), i), dot);
        score[u] = LLVMBuildFMul(g->b, nv_warp_fold(g, NV_ADD, dot, NV_WARP), gen_f32(g, h->d->scale), "");
        score[u] = LLVMBuildSelect(g->b, seen[u], score[u], gen_f32(g, -1e30), "");
        max = gen_fmax(g, score[u], max);
    }
    LLVMValueRef alpha = gen_exp(g, LLVMBuildFSub(g->b, before, max, "")), p[KEYS];
    LLVMValueRef total = LLVMBuildFMul(g->b, gen_load(g, g->f32, h->total), alpha, "");
    for (int u = 0; u < KEYS; u++) {
        p[u] = gen_exp(g, LLVMBuildFSub(g->b, score[u], max, ""));
        p[u] = LLVMBuildSelect(g->b, seen[u], p[u], gen_f32(g, 0), "");
        total = LLVMBuildFAdd(g->b, total, p[u], "");
    }
    for (int i = 0; i < h->parts; i++) {
        LLVMValueRef sum = LLVMBuildFMul(g->b, gen_load(g, g->f32, h->sum[i]), alpha, "");
        for (int u = 0; u < KEYS; u++) sum = gen_fma(g, p[u], load_part(h, cached(h, h->v, at[u]), i), sum);
        gen_store(g, sum, h->sum[i]);
    }
    gen_store(g, max, h->max);
    gen_store(g, total, h->total);
}

static LLVMValueRef shared_at(const DecodeHead *h, int64_t first, LLVMValueRef i) {
    return gen_at(h->g, h->g->f32, h->shared, gen_add(h->g, i, gen_i64(h->g, first)));
}

static void share(const DecodeHead *h) {
    Gen *g = h->g;
    int64_t d = h->d->d;
    for (int i = 0; i < h->parts; i++) {
        If inside = gen_if(g, has_column(h, i));
        gen_store(g, gen_load(g, g->f32, h->sum[i]),
                  shared_at(h, 0, gen_add(g, gen_mul(g, h->warp, d), column(h, i))));
        gen_if_end(g, &inside);
    }
    If leads = gen_if(g, LLVMBuildICmp(g->b, LLVMIntEQ, h->lane, gen_i64(g, 0), ""));
    gen_store(g, gen_load(g, g->f32, h->max), shared_at(h, h->warps * d, h->warp));
    gen_store(g, gen_load(g, g->f32, h->total), shared_at(h, h->warps * (d + 1), h->warp));
    gen_if_end(g, &leads);
}

/* out = the warps' sums, a column a thread. */
static void combine(const DecodeHead *h) {
    Gen *g = h->g;
    int64_t d = h->d->d;
    LLVMValueRef max = gen_f32(g, -1e30), total = gen_f32(g, 0), factor[MAX_WARPS];
    for (int w = 0; w < h->warps; w++)
        max = gen_fmax(g, gen_load(g, g->f32, shared_at(h, h->warps * d, gen_i64(g, w))), max);
    for (int w = 0; w < h->warps; w++) {
        LLVMValueRef of = gen_load(g, g->f32, shared_at(h, h->warps * d, gen_i64(g, w)));
        factor[w] = gen_exp(g, LLVMBuildFSub(g->b, of, max, ""));
        total = gen_fma(g, factor[w], gen_load(g, g->f32, shared_at(h, h->warps * (d + 1), gen_i64(g, w))),
                        total);
    }
    Loop col = gen_loop(g, nv_thread(g), gen_i64(g, d), (int64_t)h->warps * NV_WARP, "column");
    LLVMValueRef sum = gen_f32(g, 0);
    for (int w = 0; w < h->warps; w++)
        sum = gen_fma(g, factor[w], gen_load(g, g->f32, shared_at(h, w * d, col.i)), sum);
    gen_store(g, LLVMBuildFDiv(g->b, sum, total, ""), gen_at(g, g->f32, h->out, col.i));
    gen_loop_end(g, &col);
}

void nv_gen_attention_decode(Gen *g, const char *name, const AttnDecodeDesc *decode) {
    const AttnDesc *d = &decode->at;
    DecodeHead h = {.g = g, .d = d, .warps = warps_of(d), .parts = (int)((d->d + NV_WARP - 1) / NV_WARP)};
    nv_kernel(g, name, 5, (uint32_t)(NV_WARP * h.warps));
    nv_noalias(g);
    nv_min_blocks(g, 2);
    h.q = xcalloc((size_t)h.parts, sizeof *h.q);
    h.sum = xcalloc((size_t)h.parts, sizeof *h.sum);
    h.shared = nv_shared(g, 4 * h.warps * (d->d + 2), 16, "warps");
    begin(&h, decode->queries);
    Loop j = gen_loop(g, h.warp, h.seen, (int64_t)h.warps * KEYS, "keys");
    add_keys(&h, j.i);
    gen_loop_end(g, &j);
    share(&h);
    nv_barrier(g);
    combine(&h);
    gen_end(g);
    free(h.q), free(h.sum);
}
