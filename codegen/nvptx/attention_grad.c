/* Gradients of causal attention (attention.c) in f32; the weights P are computed again from the saved
 * log-sum-exp. With delta = rowsum(dout * out):
 *
 *     P  = exp(c Q K^T - lse)         dV += P^T dO
 *     dS = c P (dO V^T - delta)       dK += dS^T Q       dQ += dS K
 *
 * There are two kinds of blocks, so that no two add to the same number:
 *
 *                  keys             the first      64 keys of a head of keys and values: over the heads of
 *            +-------------+                       queries that use it and the queries from the diagonal on
 *            | \     |     |                       (down), to dK and dV
 *   queries  |   \   v     |        the others     64 queries of a head: over the keys up to the diagonal
 *            | --> \       |                       (right), to dQ
 *            +-------------+ */
#include "attention.h"

enum { Q, K, V, LSE, DOUT, DELTA, DQ, DK, DV }; /* args */

typedef struct Block {
    Gen *g;
    const AttnDesc *d;
    bool rounded; /* operands, to bf16 */
    TilePlace p;
    LLVMValueRef stages, shared; /* shared: P or dS */
    Sums scores;                 /* S, then dP */
    LLVMValueRef batch, c0;      /* the first column of the results */
} Block;

static int64_t key_tiles(const AttnDesc *d) {
    return nv_attention_blocks(d) * nv_attention_parts(d) * d->b * d->g;
}

NvGrid nv_attention_grad_grid(const AttnDesc *d, const Target *t) {
    (void)t;
    return (NvGrid){(uint32_t)(key_tiles(d) + nv_attention_blocks(d) * nv_attention_parts(d) * d->b * d->h),
                    TILE_THREADS, 0};
}

static Head head_of(const Block *b, unsigned arg, LLVMValueRef head, int64_t heads) {
    return (Head){arg, b->batch, head, heads, b->rounded};
}

/* scores = rows of the heads a and b from a0 and b0 on, multiplied over D. */
static void scores(const Block *b, Head a, LLVMValueRef a0, Head c, LLVMValueRef c0) {
    Operand left = nv_attention_rows(b->g, b->d, &a, a0), right = nv_attention_rows(b->g, b->d, &c, c0);
    nv_attention_scores(b->g, b->d, &b->p, &b->scores, &left, &right, b->stages);
}

/* sums += what is shared times the vectors of a head at the positions begin ..
 * end. */
static void add_product(const Block *b, const Sums *sums, Head h, LLVMValueRef begin, LLVMValueRef end) {
    Operand steps = nv_attention_steps(b->g, b->d, &h, b->c0);
    tile_product_shared(b->g, &b->p, sums, b->shared, ATTENTION_LD, &steps, begin, end, b->stages);
    nv_barrier(b->g);
}

/* The thread's weights P, from the scores S of queries from q0 and keys from k0 on; 0 of queries behind the
 * end, for which there is no lse: products go on to whole steps, and what they meet there is 0, but times
 * infinity. */
static void weights(const Block *b, LLVMValueRef query_head, LLVMValueRef q0, LLVMValueRef k0,
                    LLVMValueRef p[4][4]) {
    Gen *g = b->g;
    Head stat = head_of(b, LSE, query_head, b->d->h);
    for (int i = 0; i < 4; i++) {
        LLVMValueRef query = gen_add(g, q0, tile_at(g, b->p.ty, i));
        LLVMValueRef lse = gen_load(g, g->f32, nv_attention_stat(g, b->d, LSE, &stat, query));
        LLVMValueRef exists = gen_less(g, query, gen_i64(g, b->d->s));
        for (int j = 0; j < 4; j++) {
            LLVMValueRef seen = nv_attention_seen(g, &b->p, q0, k0, i, j);
            if (b->d->s % ATTENTION_SIDE) seen = LLVMBuildAnd(g->b, seen, exists, "");
            p[i][j] = nv_attention_weight(g, b->d->scale, gen_load(g, g->f32, b->scores.at[i][j]), lse, seen);
        }
    }
}

/* dS from P and the scores dP. */
static void score_gradients(const Block *b, LLVMValueRef query_head, LLVMValueRef q0, LLVMValueRef p[4][4],
                            LLVMValueRef ds[4][4]) {
    Gen *g = b->g;
    Head stat = head_of(b, DELTA, query_head, b->d->h);
    for (int i = 0; i < 4; i++) {
        LLVMValueRef query = gen_add(g, q0, tile_at(g, b->p.ty, i));
        LLVMValueRef delta = gen_load(g, g->f32, nv_attention_stat(g, b->d, DELTA, &stat, query));
        for (int j = 0; j < 4; j++) {
            LLVMValueRef scaled = LLVMBuildFMul(g->b, p[i][j], gen_f32(g, b->d->scale), "");
            LLVMValueRef dp = LLVMBuildFSub(g->b, gen_load(g, g->f32, b->scores.at[i][j]), delta, "");
            ds[i][j] = LLVMBuildFMul(g->b, scaled, dp, "");
        }
    }
}

static LLVMValueRef end_of(const Block *b, LLVMValueRef begin) {
    return gen_min(b->g, gen_add(b->g, begin, gen_i64(b->g, ATTENTION_SIDE)), gen_i64(b->g, b->d->s));
}

/* What a block of queries of one head adds to dK and dV of the keys from k0 on.
 * The same threads come back to their part of what is shared only after the
 * product that reads it. */
static void query_step(const Block *b, const Sums *dk, const Sums *dv, LLVMValueRef kv, LLVMValueRef head,
                       LLVMValueRef k0, LLVMValueRef q0) {
    int64_t h = b->d->h, groups = b->d->g;
    LLVMValueRef p[4][4], ds[4][4], q1 = end_of(b, q0);
    scores(b, head_of(b, Q, head, h), q0, head_of(b, K, kv, groups), k0);
    weights(b, head, q0, k0, p);
    nv_attention_share(b->g, &b->p, p, false, b->rounded, b->shared);
    add_product(b, dv, head_of(b, DOUT, head, h), q0, q1);
    scores(b, head_of(b, DOUT, head, h), q0, head_of(b, V, kv, groups), k0);
    score_gradients(b, head, q0, p, ds);
    nv_attention_share(b->g, &b->p, ds, false, b->rounded, b->shared);
    add_product(b, dk, head_of(b, Q, head, h), q0, q1);
}

static void key_block(Block *b, LLVMValueRef index) {
    Gen *g = b->g;
    const AttnDesc *d = b->d;
    int64_t heads = d->b * d->g, parts = nv_attention_parts(d), per_group = d->h / d->g;
    LLVMValueRef of = gen_mod(g, index, heads), kv = gen_mod(g, of, d->g);
    b->batch = gen_div(g, of, d->g);
    b->c0 = gen_mul(g, gen_mod(g, gen_div(g, index, heads), parts), 128);
    LLVMValueRef k0 = gen_mul(g, gen_div(g, index, heads * parts), ATTENTION_SIDE);
    Sums dk, dv;
    sums_begin(g, &dk, 4, nv_attention_width(d) / 16);
    sums_begin(g, &dv, 4, nv_attention_width(d) / 16);
    sums_clear(g, &dk);
    sums_clear(g, &dv);
    Loop head = gen_loop(g, gen_i64(g, 0), gen_i64(g, per_group), 1, "head");
    LLVMValueRef query_head = gen_add(g, gen_mul(g, kv, per_group), head.i);
    Loop q0 = gen_loop(g, k0, gen_i64(g, d->s), ATTENTION_SIDE, "queries");
    query_step(b, &dk, &dv, kv, query_head, k0, q0.i);
    gen_loop_end(g, &q0);
    gen_loop_end(g, &head);
    Head to_dk = head_of(b, DK, kv, d->g), to_dv = head_of(b, DV, kv, d->g);
    nv_attention_write(g, d, &b->p, &dk, NULL, &to_dk, k0, b->c0);
    nv_attention_write(g, d, &b->p, &dv, NULL, &to_dv, k0, b->c0);
}

static void query_block(Block *b, LLVMValueRef index) {
    Gen *g = b->g;
    const AttnDesc *d = b->d;
    int64_t heads = d->b * d->h, parts = nv_attention_parts(d);
    LLVMValueRef of = gen_mod(g, index, heads), head = gen_mod(g, of, d->h),
                 kv = gen_div(g, head, d->h / d->g);
    LLVMValueRef block = gen_sub(g, gen_i64(g, nv_attention_blocks(d) - 1), gen_div(g, index, heads * parts));
    LLVMValueRef q0 = gen_mul(g, block, ATTENTION_SIDE), p[4][4], ds[4][4];
    b->batch = gen_div(g, of, d->h);
    b->c0 = gen_mul(g, gen_mod(g, gen_div(g, index, heads), parts), 128);
    Sums dq;
    sums_begin(g, &dq, 4, nv_attention_width(d) / 16);
    sums_clear(g, &dq);
    LLVMValueRef end = end_of(b, q0);
    Loop k0 = gen_loop(g, gen_i64(g, 0), end, ATTENTION_SIDE, "keys");
    scores(b, head_of(b, Q, head, d->h), q0, head_of(b, K, kv, d->g), k0.i);
    weights(b, head, q0, k0.i, p);
    scores(b, head_of(b, DOUT, head, d->h), q0, head_of(b, V, kv, d->g), k0.i);
    score_gradients(b, head, q0, p, ds);
    nv_attention_share(g, &b->p, ds, true, b->rounded, b->shared);
    add_product(b, &dq, head_of(b, K, kv, d->g), k0.i, end_of(b, k0.i));
    gen_loop_end(g, &k0);
    Head to_dq = head_of(b, DQ, head, d->h);
    nv_attention_write(g, d, &b->p, &dq, NULL, &to_dq, q0, b->c0);
}

static void generate(Gen *g, const char *name, const AttnDesc *d, bool rounded) {
    nv_kernel(g, name, 9, TILE_THREADS);
    nv_noalias(g);
    Block b = {.g = g, .d = d, .rounded = rounded, .p = tile_place(g)};
    b.stages = nv_shared(g, 4 * tile_stages(64, 64), 16, "stages"); /* the larger of all products */
    b.shared = nv_shared(g, (int64_t)4 * ATTENTION_SIDE * ATTENTION_LD, 16, "weights");
    sums_begin(g, &b.scores, 4, 4);
    If keys = gen_if(g, gen_less(g, g->tile, gen_i64(g, key_tiles(d))));
    key_block(&b, g->tile);
    gen_else(g, &keys);
    query_block(&b, gen_sub(g, g->tile, gen_i64(g, key_tiles(d))));
    gen_if_end(g, &keys);
    gen_end(g);
}

void nv_gen_attention_grad(Gen *g, const char *name, const AttnDesc *d) {
    generate(g, name, d, false);
}

void nv_attention_grad_rounded(Gen *g, const char *name, const AttnDesc *d) {
    generate(g, name, d, true);
}
