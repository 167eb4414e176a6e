/* Causal attention with grouped heads, forward, by tiles with online softmax: the S x S scores exist only
 * as one block at a time.
 *
 * A tile is one block of queries of one head. It goes over the blocks of keys up to the diagonal:
 *
 *     S = Q K^T;  m' = max(m, rowmax S);  P = exp(S - m');  a = exp(m - m')
 *     l = a l + rowsum P;  O = a O + P V
 *
 * and ends with out = O / l, lse = m + log l. Products run over packed panels (microkernel.c).
 * In bf16 (ir/eval_bf16.c) Q, K, V and P are rounded while they are packed.
 *
 * Queries may be those of a prompt's part, with keys and values in caches and positions from `pos` on: the same but
 * that query 0 already sees pos keys, and without lse. */
#include "attention.h"

enum { PACKED_Q, PACKED_K, PACKED_V, PACKED_P, SCORES, OUT, MAX, TOTAL, REGIONS };

typedef struct Variant {
    AttnDesc q, kv; /* of q and out, and of k and v: they differ in s where those are caches */
    PanelType type;
    bool cached; /* operands are AttnDecodeDesc's */
} Variant;

typedef struct Tile {
    Gen *g;
    const Variant *v;
    const AttnDesc *d;     /* of q */
    int64_t queries, keys; /* of a block */
    LLVMValueRef before;   /* keys that query 0 sees besides its own */
    LLVMValueRef at[REGIONS];
    LLVMValueRef batch, head, q0, nq; /* this tile's: first query, number of queries */
    LLVMValueRef k0, nk;              /* the block of keys at work */
    LLVMValueRef diagonal;            /* query i of the block sees keys j < i + diagonal */
} Tile;

/* Bytes from the start of scratch of each region; returns the bytes of all. */
static int64_t plan(const Variant *v, const Target *t, int64_t *at) {
    const AttnDesc *d = &v->q;
    int64_t queries = attention_queries(d, t), keys = attention_keys(&v->kv, t);
    int64_t dim_words = panel_words(v->type, d->d), key_words = panel_words(v->type, keys);
    int64_t floats[REGIONS] = {[PACKED_Q] = queries * dim_words,
                               [PACKED_K] = keys * dim_words,
                               [PACKED_V] = attention_round(d->d, t->nr) * key_words,
                               [PACKED_P] = queries * key_words,
                               [SCORES] = queries * keys,
                               [OUT] = queries * d->d,
                               [MAX] = queries,
                               [TOTAL] = queries};
    return attention_plan(floats, REGIONS, at);
}

static Variant variant(const AttnDesc *d, PanelType type) {
    return (Variant){.q = *d, .kv = *d, .type = type};
}

static Variant cached_variant(const AttnDecodeDesc *d) {
    Variant v = {.q = d->at, .kv = d->at, .type = PANELS_F32, .cached = true};
    v.q.s = d->queries;
    return v;
}

static uint64_t scratch(Variant v, const Target *t) {
    int64_t at[REGIONS];
    return (uint64_t)plan(&v, t, at);
}
uint64_t attention_scratch(const AttnDesc *d, const Target *t) {
    return scratch(variant(d, PANELS_F32), t);
}
uint64_t attention_bf16_scratch(const AttnDesc *d, const Target *t) {
    return scratch(variant(d, panels_in_bf16(t)), t);
}
uint64_t attention_cached_scratch(const AttnDecodeDesc *d, const Target *t) {
    return scratch(cached_variant(d), t);
}

static int64_t query_blocks(const AttnDesc *d, const Target *t) {
    int64_t queries = attention_queries(d, t);
    return (d->s + queries - 1) / queries;
}

uint32_t attention_tiles(const AttnDesc *d, const Target *t) {
    return (uint32_t)(query_blocks(d, t) * d->b * d->h);
}
uint32_t attention_bf16_tiles(const AttnDesc *d, const Target *t) {
    return attention_tiles(d, t);
}
uint32_t attention_cached_tiles(const AttnDecodeDesc *d, const Target *t) {
    Variant v = cached_variant(d);
    return attention_tiles(&v.q, t);
}

/* Where the tile is; late blocks see most keys and come first, so that threads finish together. */
static Tile begin(Gen *g, const Variant *v) {
    const AttnDesc *d = &v->q;
    Tile t = {.g = g, .v = v, .d = d};
    t.queries = attention_queries(d, g->target);
    t.keys = attention_keys(&v->kv, g->target);
    int64_t at[REGIONS], heads = d->b * d->h;
    plan(v, g->target, at);
    for (int i = 0; i < REGIONS; i++) t.at[i] = gen_at(g, g->i8, g->scratch, gen_i64(g, at[i]));
    LLVMValueRef last = gen_i64(g, query_blocks(d, g->target) - 1), of = gen_mod(g, g->tile, heads);
    t.batch = gen_div(g, of, d->h);
    t.head = gen_mod(g, of, d->h);
    t.q0 = gen_mul(g, gen_sub(g, last, gen_div(g, g->tile, heads)), t.queries);
    t.nq = gen_min(g, gen_sub(g, gen_i64(g, d->s), t.q0), gen_i64(g, t.queries));
    t.before = gen_i64(g, 0);
    if (v->cached) {
        LLVMValueRef pos = gen_load(g, g->i32, gen_at(g, g->i32, gen_buffer(g, 3), t.batch));
        t.before = LLVMBuildZExt(g->b, pos, g->i64, "");
    }
    return t;
}

/* to[d] = factor * from[d]. */
static void scale_row(const Tile *t, LLVMValueRef to, LLVMValueRef from, LLVMValueRef factor) {
    Gen *g = t->g;
    int lanes = g->target->vl;
    while (t->d->d % lanes) lanes /= 2;
    LLVMTypeRef vec = gen_vec(g, g->f32, lanes);
    Loop c = gen_loop(g, gen_i64(g, 0), gen_i64(g, t->d->d), lanes, "d");
    LLVMValueRef x = gen_load(g, vec, gen_at(g, g->f32, from, c.i));
    gen_store(g, LLVMBuildFMul(g->b, x, gen_splat(g, factor, lanes), ""), gen_at(g, g->f32, to, c.i));
    gen_loop_end(g, &c);
}

/* Scores become weights relative to the new maximum; sums so far are brought to it. */
static void softmax(const Tile *t) {
    Gen *g = t->g;
    Loop i = gen_loop(g, gen_i64(g, 0), t->nq, 1, "row");
    LLVMValueRef row = gen_at(g, g->f32, t->at[SCORES], gen_mul(g, i.i, t->keys));
    LLVMValueRef seen = gen_min(g, gen_add(g, t->diagonal, i.i), t->nk);
    LLVMValueRef max_at = gen_at(g, g->f32, t->at[MAX], i.i), before = gen_load(g, g->f32, max_at);
    LLVMValueRef total_at = gen_at(g, g->f32, t->at[TOTAL], i.i);
    LLVMValueRef max = attention_max(g, t->d->scale, row, seen, before);
    LLVMValueRef sum = attention_exp(g, t->d->scale, row, seen, max);
    Loop rest = gen_loop(g, attention_whole(g, seen), t->nk, g->target->vl, "unseen");
    gen_store(g, LLVMConstNull(gen_vec(g, g->f32, g->target->vl)), gen_at(g, g->f32, row, rest.i));
    gen_loop_end(g, &rest);
    LLVMValueRef alpha = gen_exp(g, LLVMBuildFSub(g->b, before, max, ""));
    gen_store(g, max, max_at);
    gen_store(g, gen_fma(g, gen_load(g, g->f32, total_at), alpha, sum), total_at);
    LLVMValueRef out = gen_at(g, g->f32, t->at[OUT], gen_mul(g, i.i, t->d->d));
    scale_row(t, out, out, alpha);
    gen_loop_end(g, &i);
}

static void clear(const Tile *t) {
    Gen *g = t->g;
    gen_zero(g, t->at[OUT], gen_i64(g, 4 * t->queries * t->d->d));
    gen_zero(g, t->at[TOTAL], gen_i64(g, 4 * t->queries));
    Loop i = gen_loop(g, gen_i64(g, 0), t->nq, 1, "clear");
    gen_store(g, gen_f32(g, -1e30), gen_at(g, g->f32, t->at[MAX], i.i));
    gen_loop_end(g, &i);
}

static void key_block(const Tile *t) {
    Gen *g = t->g;
    const AttnDesc *d = &t->v->kv;
    PanelType type = t->v->type;
    int nr = g->target->nr;
    LLVMValueRef dim = gen_i64(g, d->d), group = gen_div(g, t->head, d->h / d->g);
    LLVMValueRef k = attention_head(g, d, 1, t->batch, t->k0, group, d->g);
    LLVMValueRef v = attention_head(g, d, 2, t->batch, t->k0, group, d->g);
    attention_pack(g, type, nr, true, t->nk, dim, k, d->g * d->d, t->at[PACKED_K], d->d);
    attention_pack(g, type, nr, false, dim, t->nk, v, d->g * d->d, t->at[PACKED_V], t->keys);
    attention_product(g, type, BAND_C, t->diagonal, t->nq, t->nk, dim, t->at[PACKED_Q], d->d,
                      t->at[PACKED_K], d->d, t->at[SCORES], t->keys, LLVMConstNull(g->i1));
    softmax(t);
    attention_pack(g, type, g->target->mr, true, t->nq, t->nk, t->at[SCORES], t->keys, t->at[PACKED_P],
                   t->keys);
    attention_product(g, type, BAND_AK, t->diagonal, t->nq, dim, t->nk, t->at[PACKED_P], t->keys,
                      t->at[PACKED_V], t->keys, t->at[OUT], d->d, LLVMConstAllOnes(g->i1));
}

static void finish(const Tile *t) {
    Gen *g = t->g;
    const AttnDesc *d = t->d;
    Loop i = gen_loop(g, gen_i64(g, 0), t->nq, 1, "out");
    LLVMValueRef query = gen_add(g, t->q0, i.i),
                 total = gen_load(g, g->f32, gen_at(g, g->f32, t->at[TOTAL], i.i));
    LLVMValueRef from = gen_at(g, g->f32, t->at[OUT], gen_mul(g, i.i, d->d));
    LLVMValueRef to = attention_head(g, d, t->v->cached ? 4 : 3, t->batch, query, t->head, d->h);
    scale_row(t, to, from, LLVMBuildFDiv(g->b, gen_f32(g, 1), total, ""));
    if (!t->v->cached) {
        LLVMValueRef max = gen_load(g, g->f32, gen_at(g, g->f32, t->at[MAX], i.i));
        gen_store(g, LLVMBuildFAdd(g->b, max, gen_log(g, total), ""),
                  attention_stat(g, d, 4, t->batch, query, t->head));
    }
    gen_loop_end(g, &i);
}

static void gen_tile(Gen *g, const char *name, Variant v) {
    gen_kernel(g, name);
    Tile t = begin(g, &v);
    const AttnDesc *d = t.d;
    clear(&t);
    LLVMValueRef q = attention_head(g, d, 0, t.batch, t.q0, t.head, d->h);
    attention_pack(g, v.type, g->target->mr, true, t.nq, gen_i64(g, d->d), q, d->h * d->d, t.at[PACKED_Q],
                   d->d);
    LLVMValueRef first = gen_add(g, t.before, t.q0), end = gen_add(g, first, t.nq);
    Loop k0 = gen_loop(g, gen_i64(g, 0), end, t.keys, "keys");
    t.k0 = k0.i;
    t.nk = gen_min(g, gen_sub(g, end, k0.i), gen_i64(g, t.keys));
    t.diagonal = gen_add(g, gen_sub(g, first, t.k0), gen_i64(g, 1));
    key_block(&t);
    gen_loop_end(g, &k0);
    finish(&t);
    gen_end(g);
}

void gen_attention(Gen *g, const char *name, const AttnDesc *d) {
    gen_tile(g, name, variant(d, PANELS_F32));
}
void gen_attention_bf16(Gen *g, const char *name, const AttnDesc *d) {
    gen_tile(g, name, variant(d, panels_in_bf16(g->target)));
}
void gen_attention_cached(Gen *g, const char *name, const AttnDecodeDesc *d) {
    gen_tile(g, name, cached_variant(d));
}
