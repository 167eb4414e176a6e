/* Causal attention with grouped heads, forward, in f32: flash attention with online softmax.
 *
 * A block takes 64 queries of a head and goes over blocks of 64 keys up to the diagonal:
 *
 *                  keys
 *               +--------+                S = Q K^T
 *      queries  |   S    |                m' = max(m, rowmax c S)
 *               +--------+                P = exp(c S - m')
 *                                         l = l exp(m - m') + rowsum P
 *          out += P V [keys, D]           O = O exp(m - m') + P V
 *
 * and ends with out = O / l, lse = m + log l. Of 256 threads 16 have a row of scores: sums and maxima of rows
 * are shuffles within half a warp. P goes through shared memory, S never leaves the registers. */
#include "attention.h"

enum { Q, K, V, OUT, LSE }; /* args */

typedef struct Softmax {
    LLVMValueRef max[4], total[4]; /* allocas, of the thread's rows */
} Softmax;

NvGrid nv_attention_grid(const AttnDesc *d, const Target *t) {
    (void)t;
    return (NvGrid){(uint32_t)(nv_attention_blocks(d) * nv_attention_parts(d) * d->b * d->h), TILE_THREADS,
                    0};
}

/* Scores become weights relative to the new maximum, in p; sums so far are
 * brought to it. */
static void softmax(Gen *g, const AttnDesc *d, const TilePlace *place, const Softmax *soft,
                    const Sums *scores, const Sums *out, LLVMValueRef q0, LLVMValueRef k0,
                    LLVMValueRef p[4][4]) {
    for (int i = 0; i < 4; i++) {
        LLVMValueRef before = gen_load(g, g->f32, soft->max[i]), max = gen_f32(g, -1e30), seen[4];
        for (int j = 0; j < 4; j++) {
            seen[j] = nv_attention_seen(g, place, q0, k0, i, j);
            LLVMValueRef x =
                LLVMBuildFMul(g->b, gen_load(g, g->f32, scores->at[i][j]), gen_f32(g, d->scale), "");
            max = gen_fmax(g, LLVMBuildSelect(g->b, seen[j], x, gen_f32(g, -1e30), ""), max);
        }
        max = gen_fmax(g, nv_warp_fold(g, NV_MAX, max, 16), before);
        LLVMValueRef sum = gen_f32(g, 0), alpha = gen_exp(g, LLVMBuildFSub(g->b, before, max, ""));
        for (int j = 0; j < 4; j++) {
            p[i][j] = nv_attention_weight(g, d->scale, gen_load(g, g->f32, scores->at[i][j]), max, seen[j]);
            sum = LLVMBuildFAdd(g->b, sum, p[i][j], "");
        }
        LLVMValueRef total = gen_load(g, g->f32, soft->total[i]);
        gen_store(g, gen_fma(g, total, alpha, nv_warp_fold(g, NV_ADD, sum, 16)), soft->total[i]);
        gen_store(g, max, soft->max[i]);
        for (int j = 0; j < out->tn; j++) {
            LLVMValueRef o = gen_load(g, g->f32, out->at[i][j]);
            gen_store(g, LLVMBuildFMul(g->b, o, alpha, ""), out->at[i][j]);
        }
    }
}

/* lse = m + log l, by the first thread of each row. */
static void write_lse(Gen *g, const AttnDesc *d, const TilePlace *p, const Softmax *soft, const Head *out,
                      LLVMValueRef q0) {
    for (int i = 0; i < 4; i++) {
        LLVMValueRef query = gen_add(g, q0, tile_at(g, p->ty, i));
        LLVMValueRef exists = gen_less(g, query, gen_i64(g, d->s));
        LLVMValueRef first = LLVMBuildICmp(g->b, LLVMIntEQ, p->tx, gen_i64(g, 0), "");
        If write = gen_if(g, LLVMBuildAnd(g->b, exists, first, ""));
        LLVMValueRef log = gen_log(g, gen_load(g, g->f32, soft->total[i]));
        gen_store(g, LLVMBuildFAdd(g->b, gen_load(g, g->f32, soft->max[i]), log, ""),
                  nv_attention_stat(g, d, LSE, out, query));
        gen_if_end(g, &write);
    }
}

static void finish(Gen *g, const AttnDesc *d, const TilePlace *p, const Softmax *soft, const Sums *out,
                   const Head *head, LLVMValueRef q0, LLVMValueRef c0) {
    LLVMValueRef factor[4];
    for (int i = 0; i < 4; i++)
        factor[i] = LLVMBuildFDiv(g->b, gen_f32(g, 1), gen_load(g, g->f32, soft->total[i]), "");
    nv_attention_write(g, d, p, out, factor, head, q0, c0);
    If once = gen_if(g, LLVMBuildICmp(g->b, LLVMIntEQ, c0, gen_i64(g, 0), ""));
    write_lse(g, d, p, soft, head, q0);
    gen_if_end(g, &once);
}

static void generate(Gen *g, const char *name, const AttnDesc *d, bool rounded) {
    int width = nv_attention_width(d);
    int64_t heads = d->b * d->h, parts = nv_attention_parts(d);
    nv_kernel(g, name, 5, TILE_THREADS);
    nv_noalias(g);
    nv_min_blocks(g, 2);
    TilePlace p = tile_place(g);
    LLVMValueRef stages =
        nv_shared(g, 4 * tile_stages(64, 64), 16, "stages"); /* the larger of both products */
    LLVMValueRef shared_p = nv_shared(g, (int64_t)4 * ATTENTION_SIDE * ATTENTION_LD, 16, "weights");

    /* Late blocks see most keys and come first, so that multiprocessors finish
     * together. */
    LLVMValueRef of = gen_mod(g, g->tile, heads), block = gen_div(g, g->tile, heads * parts);
    LLVMValueRef c0 = gen_mul(g, gen_mod(g, gen_div(g, g->tile, heads), parts), 128);
    LLVMValueRef q0 = gen_mul(g, gen_sub(g, gen_i64(g, nv_attention_blocks(d) - 1), block), ATTENTION_SIDE);
    Head q = {Q, gen_div(g, of, d->h), gen_mod(g, of, d->h), d->h, rounded};
    Head k = {K, q.batch, gen_div(g, q.head, d->h / d->g), d->g, rounded}, v = k, out = q;
    v.arg = V, out.arg = OUT;

    Softmax soft;
    Sums scores, sums;
    sums_begin(g, &scores, 4, 4);
    sums_begin(g, &sums, 4, width / 16);
    sums_clear(g, &sums);
    for (int i = 0; i < 4; i++) {
        soft.max[i] = gen_alloca(g, g->f32, "max"), soft.total[i] = gen_alloca(g, g->f32, "total");
        gen_store(g, gen_f32(g, -1e30), soft.max[i]);
        gen_store(g, gen_f32(g, 0), soft.total[i]);
    }

    LLVMValueRef end = gen_min(g, gen_add(g, q0, gen_i64(g, ATTENTION_SIDE)), gen_i64(g, d->s));
    Loop k0 = gen_loop(g, gen_i64(g, 0), end, ATTENTION_SIDE, "keys");
    Operand rows_q = nv_attention_rows(g, d, &q, q0), rows_k = nv_attention_rows(g, d, &k, k0.i);
    Operand steps_v = nv_attention_steps(g, d, &v, c0);
    LLVMValueRef weights[4][4];
    nv_attention_scores(g, d, &p, &scores, &rows_q, &rows_k, stages);
    softmax(g, d, &p, &soft, &scores, &sums, q0, k0.i, weights);
    nv_attention_share(g, &p, weights, true, rounded, shared_p);
    LLVMValueRef k1 = gen_min(g, gen_add(g, k0.i, gen_i64(g, ATTENTION_SIDE)), end);
    tile_product_shared(g, &p, &sums, shared_p, ATTENTION_LD, &steps_v, k0.i, k1, stages);
    nv_barrier(g);
    gen_loop_end(g, &k0);
    finish(g, d, &p, &soft, &sums, &out, q0, c0);
    gen_end(g);
}

void nv_gen_attention(Gen *g, const char *name, const AttnDesc *d) {
    generate(g, name, d, false);
}

void nv_attention_rounded(Gen *g, const char *name, const AttnDesc *d) {
    generate(g, name, d, true);
}
