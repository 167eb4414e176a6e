/* Gradients of causal attention (attention.c), by blocks; the weights P are computed again from the saved
 * log-sum-exp. With delta = rowsum(dout * out):
 *
 *     P  = exp(c Q K^T - lse)         dV += P^T dO
 *     dS = c P (dO V^T - delta)       dK += dS^T Q       dQ += dS K
 *
 * A tile is one head of keys and values of one sequence with all heads of queries that use it, so no two
 * tiles add to the same gradient. It goes over blocks of keys, and for each over the blocks of queries
 * that see them: those from the diagonal on.
 *
 * Where that gives too few tiles for the cores, some tiles take dK and dV of one block of keys, and others dQ
 * of one block of queries of one head. Both compute P and dS: 7 products instead of 5. The order in which
 * blocks are added up, and so the result, is the same.
 *
 * In bf16 (ir/eval_bf16.c) Q, K, V, dO, P and dS are rounded while they are packed. */
#include "attention.h"

enum {
    ROWS_Q,
    ROWS_DOUT, /* the block's queries as rows of A .. */
    COLS_Q,
    COLS_DOUT, /* .. and as columns of B */
    ROWS_K,
    ROWS_V, /* keys, transposed, as columns of B */
    COLS_K, /* keys as columns of B */
    LEFT,   /* P^T, dS^T, dS as A, one after the other */
    WEIGHTS,
    DSCORES, /* P (first S) and dS (first dP) */
    REGIONS
};
enum { Q, K, V, LSE, DOUT, DELTA, DQ, DK, DV }; /* args */

typedef struct Tile {
    Gen *g;
    const AttnDesc *d;
    PanelType type;
    int64_t queries, keys; /* of a block */
    LLVMValueRef at[REGIONS];
    bool of_keys, of_queries; /* which gradients the tile is for */
    LLVMValueRef batch, group;
    LLVMValueRef k0, nk;       /* the block of keys */
    LLVMValueRef head, q0, nq; /* the block of queries */
    LLVMValueRef near;         /* of the nk keys those that some query of the block sees */
    LLVMValueRef diagonal;     /* query i of the block sees keys j < i + diagonal */
} Tile;

static int64_t plan(const AttnDesc *d, const Target *t, PanelType type, int64_t *at) {
    int64_t queries = attention_queries(d, t), keys = attention_keys(d, t),
            dim = attention_round(d->d, t->nr);
    int64_t dim_words = panel_words(type, d->d), query_words = panel_words(type, queries),
            key_words = panel_words(type, keys);
    int64_t floats[REGIONS] = {[ROWS_Q] = queries * dim_words,
                               [ROWS_DOUT] = queries * dim_words,
                               [COLS_Q] = dim * query_words,
                               [COLS_DOUT] = dim * query_words,
                               [ROWS_K] = keys * dim_words,
                               [ROWS_V] = keys * dim_words,
                               [COLS_K] = dim * key_words,
                               [LEFT] =
                                   max64(queries * key_words, attention_round(keys, t->mr) * query_words),
                               [WEIGHTS] = queries * keys,
                               [DSCORES] = queries * keys};
    return attention_plan(floats, REGIONS, at);
}

uint64_t attention_grad_scratch(const AttnDesc *d, const Target *t) {
    int64_t at[REGIONS];
    return (uint64_t)plan(d, t, PANELS_F32, at);
}
uint64_t attention_grad_bf16_scratch(const AttnDesc *d, const Target *t) {
    int64_t at[REGIONS];
    return (uint64_t)plan(d, t, panels_in_bf16(t), at);
}

static int64_t blocks(int64_t n, int64_t of) {
    return (n + of - 1) / of;
}

static int64_t key_tiles(const AttnDesc *d, const Target *t) {
    return d->b * d->g * blocks(d->s, attention_keys(d, t));
}
static int64_t query_tiles(const AttnDesc *d, const Target *t) {
    return d->b * d->h * blocks(d->s, attention_queries(d, t));
}

/* Do 7 products shared by all cores take less time than 5 in whole tiles? */
static bool is_split(const AttnDesc *d, const Target *t) {
    int64_t whole = d->b * d->g, split = key_tiles(d, t) + query_tiles(d, t);
    return 7 * blocks(split, t->cores) * whole < 5 * blocks(whole, t->cores) * split;
}

uint32_t attention_grad_tiles(const AttnDesc *d, const Target *t) {
    return (uint32_t)(is_split(d, t) ? key_tiles(d, t) + query_tiles(d, t) : d->b * d->g);
}
uint32_t attention_grad_bf16_tiles(const AttnDesc *d, const Target *t) {
    return attention_grad_tiles(d, t);
}

static Tile begin(Gen *g, const AttnDesc *d, PanelType type) {
    Tile t = {.g = g, .d = d, .type = type};
    t.queries = attention_queries(d, g->target);
    t.keys = attention_keys(d, g->target);
    int64_t at[REGIONS];
    plan(d, g->target, type, at);
    for (int i = 0; i < REGIONS; i++) t.at[i] = gen_at(g, g->i8, g->scratch, gen_i64(g, at[i]));
    return t;
}

/* Number `of` of batch x heads, of keys or of queries. */
static void take_group(Tile *t, LLVMValueRef of) {
    t->batch = gen_div(t->g, of, t->d->g);
    t->group = gen_mod(t->g, of, t->d->g);
}
static void take_head(Tile *t, LLVMValueRef of) {
    t->batch = gen_div(t->g, of, t->d->h);
    t->head = gen_mod(t->g, of, t->d->h);
    t->group = gen_div(t->g, t->head, t->d->h / t->d->g);
}

static void take_keys(Tile *t, LLVMValueRef k0) {
    t->k0 = k0;
    t->nk = gen_min(t->g, gen_sub(t->g, gen_i64(t->g, t->d->s), k0), gen_i64(t->g, t->keys));
}
static void take_queries(Tile *t, LLVMValueRef q0) {
    t->q0 = q0;
    t->nq = gen_min(t->g, gen_sub(t->g, gen_i64(t->g, t->d->s), q0), gen_i64(t->g, t->queries));
}

/* Row of the block at work in q, dout, dq (of queries) or k, v, dk, dv (of keys). */
static LLVMValueRef queries_of(const Tile *t, unsigned arg) {
    return attention_head(t->g, t->d, arg, t->batch, t->q0, t->head, t->d->h);
}
static LLVMValueRef keys_of(const Tile *t, unsigned arg) {
    return attention_head(t->g, t->d, arg, t->batch, t->k0, t->group, t->d->g);
}

/* dk and dv of the block are added up query block by query block. */
static void clear_keys(const Tile *t, unsigned arg) {
    Gen *g = t->g;
    Loop i = gen_loop(g, gen_i64(g, 0), t->nk, 1, "clear");
    gen_zero(g, gen_at(g, g->f32, keys_of(t, arg), gen_mul(g, i.i, t->d->g * t->d->d)),
             gen_i64(g, 4 * t->d->d));
    gen_loop_end(g, &i);
}

static void pack_keys(const Tile *t) {
    Gen *g = t->g;
    int64_t dim = t->d->d, ld = t->d->g * dim;
    int nr = g->target->nr;
    attention_pack(g, t->type, nr, true, t->nk, gen_i64(g, dim), keys_of(t, K), ld, t->at[ROWS_K], dim);
    attention_pack(g, t->type, nr, true, t->nk, gen_i64(g, dim), keys_of(t, V), ld, t->at[ROWS_V], dim);
    if (!t->of_queries) return;
    attention_pack(g, t->type, nr, false, gen_i64(g, dim), t->nk, keys_of(t, K), ld, t->at[COLS_K], t->keys);
}

static void pack_queries(const Tile *t, unsigned arg, int rows, int cols) {
    Gen *g = t->g;
    int64_t dim = t->d->d, ld = t->d->h * dim;
    attention_pack(g, t->type, g->target->mr, true, t->nq, gen_i64(g, dim), queries_of(t, arg), ld,
                   t->at[rows], dim);
    if (!t->of_keys) return;
    attention_pack(g, t->type, g->target->nr, false, gen_i64(g, dim), t->nq, queries_of(t, arg), ld,
                   t->at[cols], t->queries);
}

/* to[nq,near] = A of queries times B of keys, over D. */
static void scores(const Tile *t, int a, int b, int to) {
    Gen *g = t->g;
    int64_t dim = t->d->d;
    attention_product(g, t->type, BAND_C, t->diagonal, t->nq, t->near, gen_i64(g, dim), t->at[a], dim,
                      t->at[b], dim, t->at[to], t->keys, LLVMConstNull(g->i1));
}

/* S and dP become P and dS, in place. */
static void weights(const Tile *t) {
    Gen *g = t->g;
    int vl = g->target->vl;
    LLVMTypeRef vec = gen_vec(g, g->f32, vl);
    Loop i = gen_loop(g, gen_i64(g, 0), t->nq, 1, "row");
    LLVMValueRef query = gen_add(g, t->q0, i.i), row = gen_mul(g, i.i, t->keys),
                 seen = gen_min(g, gen_add(g, t->diagonal, i.i), t->near);
    LLVMValueRef lse = gen_load(g, g->f32, attention_stat(g, t->d, LSE, t->batch, query, t->head));
    LLVMValueRef delta = gen_load(g, g->f32, attention_stat(g, t->d, DELTA, t->batch, query, t->head));
    LLVMValueRef shift = gen_splat(g, LLVMBuildFNeg(g->b, lse, ""), vl);
    Loop c = gen_loop(g, gen_i64(g, 0), seen, vl, "weights");
    LLVMValueRef at = gen_add(g, row, c.i), p_at = gen_at(g, g->f32, t->at[WEIGHTS], at);
    LLVMValueRef ds_at = gen_at(g, g->f32, t->at[DSCORES], at);
    LLVMValueRef p = attention_weights(g, t->d->scale, p_at, shift, c.i, seen);
    LLVMValueRef dp = LLVMBuildFSub(g->b, gen_load(g, vec, ds_at), gen_splat(g, delta, vl), "");
    LLVMValueRef scaled = LLVMBuildFMul(g->b, p, gen_splat(g, gen_f32(g, t->d->scale), vl), "");
    gen_store(g, p, p_at);
    LLVMValueRef ds = LLVMBuildFMul(g->b, scaled, dp, ""); /* dp is junk where not seen */
    ds = LLVMBuildSelect(g->b, attention_mask(g, c.i, seen), ds, LLVMConstNull(vec), "");
    gen_store(g, ds, ds_at);
    gen_loop_end(g, &c);
    Loop rest = gen_loop(g, attention_whole(g, seen), t->near, vl, "unseen");
    LLVMValueRef unseen = gen_add(g, row, rest.i);
    gen_store(g, LLVMConstNull(vec), gen_at(g, g->f32, t->at[WEIGHTS], unseen));
    gen_store(g, LLVMConstNull(vec), gen_at(g, g->f32, t->at[DSCORES], unseen));
    gen_loop_end(g, &rest);
    gen_loop_end(g, &i);
}

/* dk or dv += P^T or dS^T times the block's q or dout. */
static void add_to_keys(const Tile *t, int left, int right, unsigned arg) {
    Gen *g = t->g;
    int64_t dim = t->d->d;
    attention_pack(g, t->type, g->target->mr, false, t->near, t->nq, t->at[left], t->keys, t->at[LEFT],
                   t->queries);
    attention_product(g, t->type, BAND_KA, t->diagonal, t->near, gen_i64(g, dim), t->nq, t->at[LEFT],
                      t->queries, t->at[right], t->queries, keys_of(t, arg), t->d->g * dim,
                      LLVMConstAllOnes(g->i1));
}

/* dq = or += dS K; every query sees the first block of keys, which comes first. */
static void add_to_queries(const Tile *t) {
    Gen *g = t->g;
    int64_t dim = t->d->d;
    LLVMValueRef later = LLVMBuildICmp(g->b, LLVMIntSGT, t->k0, gen_i64(g, 0), "");
    attention_pack(g, t->type, g->target->mr, true, t->nq, t->near, t->at[DSCORES], t->keys, t->at[LEFT],
                   t->keys);
    attention_product(g, t->type, BAND_AK, t->diagonal, t->nq, gen_i64(g, dim), t->near, t->at[LEFT], t->keys,
                      t->at[COLS_K], t->keys, queries_of(t, DQ), t->d->h * dim, later);
}

/* The block of queries with the block of keys, both packed. */
static void block_pair(Tile *t) {
    Gen *g = t->g;
    t->near = gen_min(g, gen_sub(g, gen_add(g, t->q0, t->nq), t->k0), t->nk);
    t->diagonal = gen_add(g, gen_sub(g, t->q0, t->k0), gen_i64(g, 1));
    scores(t, ROWS_Q, ROWS_K, WEIGHTS);
    scores(t, ROWS_DOUT, ROWS_V, DSCORES);
    weights(t);
    if (t->of_keys) {
        add_to_keys(t, WEIGHTS, COLS_DOUT, DV);
        add_to_keys(t, DSCORES, COLS_Q, DK);
    }
    if (t->of_queries) add_to_queries(t);
}

/* A block of keys with all queries that see it. */
static void key_block(Tile *t, LLVMValueRef k0) {
    Gen *g = t->g;
    int64_t group_heads = t->d->h / t->d->g;
    take_keys(t, k0);
    clear_keys(t, DK);
    clear_keys(t, DV);
    pack_keys(t);
    Loop head = gen_loop(g, gen_i64(g, 0), gen_i64(g, group_heads), 1, "head");
    t->head = gen_add(g, gen_mul(g, t->group, group_heads), head.i);
    LLVMValueRef diagonal = gen_mul(g, gen_div(g, k0, t->queries), t->queries);
    Loop q0 = gen_loop(g, diagonal, gen_i64(g, t->d->s), t->queries, "queries");
    take_queries(t, q0.i);
    pack_queries(t, Q, ROWS_Q, COLS_Q);
    pack_queries(t, DOUT, ROWS_DOUT, COLS_DOUT);
    block_pair(t);
    gen_loop_end(g, &q0);
    gen_loop_end(g, &head);
}

/* A block of queries with all keys that it sees. */
static void query_block(Tile *t, LLVMValueRef q0) {
    Gen *g = t->g;
    take_queries(t, q0);
    pack_queries(t, Q, ROWS_Q, COLS_Q);
    pack_queries(t, DOUT, ROWS_DOUT, COLS_DOUT);
    Loop k0 = gen_loop(g, gen_i64(g, 0), gen_add(g, t->q0, t->nq), t->keys, "keys");
    take_keys(t, k0.i);
    pack_keys(t);
    block_pair(t);
    gen_loop_end(g, &k0);
}

static void whole_tile(Tile *t) {
    Gen *g = t->g;
    t->of_keys = t->of_queries = true;
    take_group(t, g->tile);
    Loop k0 = gen_loop(g, gen_i64(g, 0), gen_i64(g, t->d->s), t->keys, "blocks");
    key_block(t, k0.i);
    gen_loop_end(g, &k0);
}

/* Blocks that have most to do come first: early ones of keys, then late ones of queries. */
static void split_tile(Tile *t) {
    Gen *g = t->g;
    const AttnDesc *d = t->d;
    int64_t first_query = key_tiles(d, g->target), last = blocks(d->s, t->queries) - 1;
    If keys = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLT, g->tile, gen_i64(g, first_query), ""));
    t->of_keys = true, t->of_queries = false;
    take_group(t, gen_mod(g, g->tile, d->b * d->g));
    key_block(t, gen_mul(g, gen_div(g, g->tile, d->b * d->g), t->keys));
    gen_else(g, &keys);
    t->of_keys = false, t->of_queries = true;
    LLVMValueRef tile = gen_sub(g, g->tile, gen_i64(g, first_query));
    take_head(t, gen_mod(g, tile, d->b * d->h));
    query_block(t, gen_mul(g, gen_sub(g, gen_i64(g, last), gen_div(g, tile, d->b * d->h)), t->queries));
    gen_if_end(g, &keys);
}

static void gen_tile(Gen *g, const char *name, const AttnDesc *d, PanelType type) {
    gen_kernel(g, name);
    Tile t = begin(g, d, type);
    if (is_split(d, g->target))
        split_tile(&t);
    else
        whole_tile(&t);
    gen_end(g);
}

void gen_attention_grad(Gen *g, const char *name, const AttnDesc *d) {
    gen_tile(g, name, d, PANELS_F32);
}
void gen_attention_grad_bf16(Gen *g, const char *name, const AttnDesc *d) {
    gen_tile(g, name, d, panels_in_bf16(g->target));
}
