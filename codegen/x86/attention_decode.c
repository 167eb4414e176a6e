/* Attention of new positions to a cache of keys and values. Many go through attention.c; of a few, a tile for each
 * position's query head:
 *
 *     s_j = q_i k_j, j = 0 .. pos + i;  p = exp(scale s - max);  out_i = sum_j p_j v_j / sum_j p_j
 *
 * Scores are a row of scratch, so the softmax is exact, not online. */
#include "attention.h"

enum {
    KEYS = 4,   /* scores at a time */
    CHAINS = 4, /* vectors of the output at a time */
    BLOCK = 8   /* so many queries and more are worth packing the keys */
};

typedef struct Head {
    Gen *g;
    const AttnDesc *d;
    int lanes;                         /* of a vector along the head's dim, which is a multiple of it */
    LLVMValueRef q, k, v, out, scores; /* k, v: position 0 */
    LLVMValueRef seen;                 /* positions */
} Head;

static Head begin(Gen *g, const AttnDecodeDesc *decode) {
    const AttnDesc *d = &decode->at;
    Head h = {.g = g, .d = d, .lanes = g->target->vl, .scores = g->scratch};
    while (d->d % h.lanes) h.lanes /= 2;
    LLVMValueRef query = gen_div(g, g->tile, d->h), head = gen_mod(g, g->tile, d->h);
    LLVMValueRef batch = gen_div(g, query, decode->queries), i = gen_mod(g, query, decode->queries);
    LLVMValueRef group = gen_div(g, head, d->h / d->g), row = gen_mul(g, g->tile, d->d);
    LLVMValueRef pos = gen_load(g, g->i32, gen_at(g, g->i32, gen_buffer(g, 3), batch));
    h.seen = gen_add(g, LLVMBuildZExt(g->b, pos, g->i64, ""), gen_add(g, i, gen_i64(g, 1)));
    h.q = gen_at(g, g->f32, gen_buffer(g, 0), row);
    h.k = attention_head(g, d, 1, batch, gen_i64(g, 0), group, d->g);
    h.v = attention_head(g, d, 2, batch, gen_i64(g, 0), group, d->g);
    h.out = gen_at(g, g->f32, gen_buffer(g, 4), row);
    return h;
}

/* Elements from `col` on of the vector at position j of a cache. */
static LLVMValueRef cached(const Head *h, LLVMValueRef cache, LLVMValueRef j, LLVMValueRef col) {
    LLVMValueRef at = gen_add(h->g, gen_mul(h->g, j, h->d->g * h->d->d), col);
    return gen_load(h->g, gen_vec(h->g, h->g->f32, h->lanes), gen_at(h->g, h->g->f32, cache, at));
}

/* The scores of KEYS positions from j.i on; those not seen repeat the last. */
static void scores(const Head *h) {
    Gen *g = h->g;
    LLVMTypeRef vec = gen_vec(g, g->f32, h->lanes);
    LLVMValueRef sum[KEYS], at[KEYS], last = gen_sub(g, h->seen, gen_i64(g, 1));
    for (int u = 0; u < KEYS; u++) sum[u] = gen_alloca(g, vec, "score");
    Loop j = gen_loop(g, gen_i64(g, 0), h->seen, KEYS, "keys");
    for (int u = 0; u < KEYS; u++) {
        at[u] = gen_min(g, gen_add(g, j.i, gen_i64(g, u)), last);
        gen_store(g, LLVMConstNull(vec), sum[u]);
    }
    Loop c = gen_loop(g, gen_i64(g, 0), gen_i64(g, h->d->d), h->lanes, "dim");
    LLVMValueRef q = gen_load(g, vec, gen_at(g, g->f32, h->q, c.i));
    for (int u = 0; u < KEYS; u++)
        gen_store(g, gen_fma(g, q, cached(h, h->k, at[u], c.i), gen_load(g, vec, sum[u])), sum[u]);
    gen_loop_end(g, &c);
    for (int u = 0; u < KEYS; u++)
        gen_store(g, gen_reduce_add(g, gen_load(g, vec, sum[u])),
                  gen_at(g, g->f32, h->scores, gen_add(g, j.i, gen_i64(g, u))));
    gen_loop_end(g, &j);
}

/* out = the values weighted by the scores' row, times factor. */
static void values(const Head *h, LLVMValueRef factor) {
    Gen *g = h->g;
    int chains = CHAINS;
    while (h->d->d % (chains * h->lanes)) chains /= 2;
    LLVMTypeRef vec = gen_vec(g, g->f32, h->lanes);
    LLVMValueRef sum[CHAINS], col[CHAINS];
    for (int u = 0; u < chains; u++) sum[u] = gen_alloca(g, vec, "value");
    Loop c = gen_loop(g, gen_i64(g, 0), gen_i64(g, h->d->d), (int64_t)chains * h->lanes, "dim");
    for (int u = 0; u < chains; u++) {
        col[u] = gen_add(g, c.i, gen_i64(g, (int64_t)u * h->lanes));
        gen_store(g, LLVMConstNull(vec), sum[u]);
    }
    Loop j = gen_loop(g, gen_i64(g, 0), h->seen, 1, "keys");
    LLVMValueRef p = gen_splat(g, gen_load(g, g->f32, gen_at(g, g->f32, h->scores, j.i)), h->lanes);
    for (int u = 0; u < chains; u++)
        gen_store(g, gen_fma(g, p, cached(h, h->v, j.i, col[u]), gen_load(g, vec, sum[u])), sum[u]);
    gen_loop_end(g, &j);
    for (int u = 0; u < chains; u++) {
        LLVMValueRef x = LLVMBuildFMul(g->b, gen_load(g, vec, sum[u]), gen_splat(g, factor, h->lanes), "");
        gen_store(g, x, gen_at(g, g->f32, h->out, col[u]));
    }
    gen_loop_end(g, &c);
}

void gen_attention_decode(Gen *g, const char *name, const AttnDecodeDesc *d) {
    if (d->queries >= BLOCK) {
        gen_attention_cached(g, name, d);
        return;
    }
    gen_kernel(g, name);
    Head h = begin(g, d);
    scores(&h);
    LLVMValueRef max = attention_max(g, d->at.scale, h.scores, h.seen, gen_f32(g, -1e30));
    LLVMValueRef sum = attention_exp(g, d->at.scale, h.scores, h.seen, max);
    values(&h, LLVMBuildFDiv(g->b, gen_f32(g, 1), sum, ""));
    gen_end(g);
}

uint32_t attention_decode_tiles(const AttnDecodeDesc *d, const Target *t) {
    if (d->queries >= BLOCK) return attention_cached_tiles(d, t);
    return (uint32_t)(d->at.b * d->queries * d->at.h);
}

uint64_t attention_decode_scratch(const AttnDecodeDesc *d, const Target *t) {
    if (d->queries >= BLOCK) return attention_cached_scratch(d, t);
    return (uint64_t)attention_round(4 * attention_round(d->at.s, t->vl > KEYS ? t->vl : KEYS), 64);
}
