/* Causal attention forward with operands in bf16 on the tensor cores, after FlashAttention-2.
 *
 *     8 warps, each 16 queries; a turn has 32 keys     S = Q K^T   16 x 32 a warp, in registers
 *                                                      online softmax as in attention.c
 *        128 queries  | Q |   32 keys | K |            P V         the fragments of S are those of A
 *                                     | V |
 *
 * Q goes through shared memory to registers once; two stages of K and V then take its place. The next turn's
 * come to registers during the turn and are rounded at its end: as f32, copied by cp.async, they would
 * take 1.4 times the traffic to shared memory, which is what bounds this kernel. Weights are 2^(c S - m) with
 * the scale times log2 e in c; the maximum m is in the same units. Wide heads are left to the FMA units. */
#include "attention_mma.h"

enum { KEYS = 32, KEY_TILES = KEYS / 8 };
enum { Q, K, V, OUT, LSE }; /* args */
#define LOG2E 1.44269504088896341
#define LN2   0.693147180559945309

typedef struct Forward {
    Gen *g;
    const AttnDesc *d;
    Head q, k, v, out;
    LLVMValueRef q0, shared;       /* q0: the warp's first query */
    Tile query[HEAD_WIDTH / 16];   /* fragments of Q */
    LLVMValueRef max[2], total[2]; /* allocas: rows lane / 4 and that + 8 */
    HeadSums sums;
    Plane keys[2]; /* of K and V, for the next turn */
} Forward;

NvGrid nv_attention_bf16_grid(const AttnDesc *d, const Target *t) {
    if (!nv_attention_mma_fits(d)) return nv_attention_grid(d, t);
    return (NvGrid){(uint32_t)(nv_attention_mma_blocks(d) * d->b * d->h), MMA_THREADS, 0};
}

static void load_queries(Forward *f, LLVMValueRef block0) {
    Gen *g = f->g;
    nv_attention_stage(g, f->d, &f->q, block0, HEAD_ROWS, f->shared);
    nv_barrier(g);
    Source q = nv_attention_source(g, f->d, f->shared, gen_mul(g, nv_warp(g), 16), false, true);
    for (int step = 0; step < nv_attention_used(f->d); step += 16)
        mma_load(g, &q, 0, step, f->query[step / 16]);
    nv_barrier(g);
}

/* Scores of one half of the rows become weights; what was summed up is brought to the new maximum. */
static void softmax(Forward *f, LLVMValueRef k0, Tile *s, int half) {
    Gen *g = f->g;
    LLVMValueRef c = gen_f32(g, f->d->scale * LOG2E), none = gen_f32(g, -1e30);
    LLVMValueRef query = gen_add(g, f->q0, nv_attention_row(g, 2 * half)), seen[KEY_TILES][2];
    LLVMValueRef before = gen_load(g, g->f32, f->max[half]), max = none, sum = gen_f32(g, 0);
    for (int j = 0; j < KEY_TILES; j++)
        for (int l = 0; l < 2; l++) {
            LLVMValueRef key = gen_add(g, k0, nv_attention_col(g, j, l));
            LLVMValueRef x = LLVMBuildFMul(g->b, s[j][2 * half + l], c, "");
            seen[j][l] = LLVMBuildICmp(g->b, LLVMIntSLE, key, query, "");
            max = gen_fmax(g, LLVMBuildSelect(g->b, seen[j][l], x, none, ""), max);
        }
    max = gen_fmax(g, nv_warp_fold(g, NV_MAX, max, 4), before);
    LLVMValueRef alpha = nv_ex2(g, LLVMBuildFSub(g->b, before, max, "")),
                 shift = LLVMBuildFNeg(g->b, max, "");
    for (int j = 0; j < KEY_TILES; j++)
        for (int l = 0; l < 2; l++) {
            LLVMValueRef p = nv_ex2(g, gen_fma(g, s[j][2 * half + l], c, shift));
            p = LLVMBuildSelect(g->b, seen[j][l], p, gen_f32(g, 0), "");
            s[j][2 * half + l] = p;
            sum = LLVMBuildFAdd(g->b, sum, p, "");
        }
    LLVMValueRef total = gen_load(g, g->f32, f->total[half]);
    gen_store(g, gen_fma(g, total, alpha, nv_warp_fold(g, NV_ADD, sum, 4)), f->total[half]);
    gen_store(g, max, f->max[half]);
    for (int j = 0; j < nv_attention_used(f->d) / 8; j++)
        for (int l = 0; l < 2; l++) {
            LLVMValueRef at = f->sums.at[j][2 * half + l];
            gen_store(g, LLVMBuildFMul(g->b, gen_load(g, g->f32, at), alpha, ""), at);
        }
}

/* K (0) or V (1) of the keys from k0 on, in shared memory. */
static LLVMValueRef keys_at(const Forward *f, LLVMValueRef k0, int i) {
    Gen *g = f->g;
    int64_t bytes = plane_bytes(KEYS, nv_attention_run(f->d));
    LLVMValueRef stage = gen_mod(g, gen_div(g, k0, KEYS), 2);
    return gen_at(g, g->i8, f->shared, gen_add(g, gen_mul(g, stage, 2 * bytes), gen_i64(g, i * bytes)));
}

static void load_keys(Forward *f, LLVMValueRef k0) {
    for (int i = 0; i < 2; i++) plane_load(f->g, &f->keys[i], k0, gen_i64(f->g, 0));
}
static void store_keys(Forward *f, LLVMValueRef k0) {
    for (int i = 0; i < 2; i++) plane_store(f->g, &f->keys[i], keys_at(f, k0, i));
}

/* What the keys k0 .. k0+31 add. A warp whose queries see none of them has nothing to do. */
static void add_keys(Forward *f, LLVMValueRef k0) {
    Gen *g = f->g;
    const AttnDesc *d = f->d;
    LLVMValueRef first = gen_i64(g, 0), last = gen_add(g, f->q0, gen_i64(g, 15));
    If sees = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLE, k0, last, ""));
    Source k = nv_attention_source(g, d, keys_at(f, k0, 0), first, false, false);
    Source v = nv_attention_source(g, d, keys_at(f, k0, 1), first, true, false);
    Tile s[KEY_TILES];
    nv_attention_mma_scores(g, d, NULL, f->query, &k, KEY_TILES, s);
    for (int half = 0; half < 2; half++) softmax(f, k0, s, half);
    nv_attention_mma_add(g, d, &f->sums, s, KEY_TILES, &v);
    gen_if_end(g, &sees);
}

static void turns(Forward *f, LLVMValueRef end) {
    Gen *g = f->g;
    load_keys(f, gen_i64(g, 0));
    store_keys(f, gen_i64(g, 0));
    Loop k0 = gen_loop(g, gen_i64(g, 0), end, KEYS, "keys");
    LLVMValueRef next = gen_add(g, k0.i, gen_i64(g, KEYS)), more = gen_less(g, next, end);
    nv_barrier(g); /* these keys are there, and nobody reads the other stage any more */
    If load = gen_if(g, more);
    load_keys(f, next);
    gen_if_end(g, &load);
    add_keys(f, k0.i);
    If store = gen_if(g, more);
    store_keys(f, next);
    gen_if_end(g, &store);
    gen_loop_end(g, &k0);
}

/* out = O / l, lse = m + log l. */
static void finish(Forward *f) {
    Gen *g = f->g;
    LLVMValueRef factor[2], total[2], lane = gen_mod(g, nv_lane(g), 4);
    for (int half = 0; half < 2; half++) {
        total[half] = gen_load(g, g->f32, f->total[half]);
        factor[half] = LLVMBuildFDiv(g->b, gen_f32(g, 1), total[half], "");
    }
    nv_attention_mma_write(g, f->d, &f->sums, factor, &f->out, f->q0);
    for (int half = 0; half < 2; half++) {
        LLVMValueRef query = gen_add(g, f->q0, nv_attention_row(g, 2 * half));
        LLVMValueRef exists = gen_less(g, query, gen_i64(g, f->d->s));
        LLVMValueRef leads = LLVMBuildICmp(g->b, LLVMIntEQ, lane, gen_i64(g, 0), "");
        If write = gen_if(g, LLVMBuildAnd(g->b, exists, leads, ""));
        LLVMValueRef max = gen_load(g, g->f32, f->max[half]);
        gen_store(g, gen_fma(g, max, gen_f32(g, LN2), gen_log(g, total[half])),
                  nv_attention_stat(g, f->d, LSE, &f->out, query));
        gen_if_end(g, &write);
    }
}

void nv_gen_attention_bf16(Gen *g, const char *name, const AttnDesc *d) {
    if (!nv_attention_mma_fits(d)) {
        nv_attention_rounded(g, name, d);
        return;
    }
    nv_kernel(g, name, 5, MMA_THREADS);
    nv_min_blocks(g, 1); /* or ptxas may spill a little to make room for more */
    nv_noalias(g);
    int64_t heads = d->b * d->h;
    LLVMValueRef of = gen_mod(g, g->tile, heads), block = gen_div(g, g->tile, heads);
    LLVMValueRef block0 =
        gen_mul(g, gen_sub(g, gen_i64(g, nv_attention_mma_blocks(d) - 1), block), HEAD_ROWS);
    Forward f = {.g = g, .d = d};
    f.q = (Head){.arg = Q, .batch = gen_div(g, of, d->h), .head = gen_mod(g, of, d->h), .heads = d->h};
    f.k = (Head){.arg = K, .batch = f.q.batch, .head = gen_div(g, f.q.head, d->h / d->g), .heads = d->g};
    f.v = f.k, f.out = f.q;
    f.v.arg = V, f.out.arg = OUT;
    f.q0 = gen_add(g, block0, gen_mul(g, nv_warp(g), 16));
    f.shared = nv_shared(g, plane_bytes(HEAD_ROWS, nv_attention_run(d)), 16, "heads");
    nv_attention_sums(g, d, &f.sums);
    for (int half = 0; half < 2; half++) {
        f.max[half] = gen_alloca(g, g->f32, "max"), f.total[half] = gen_alloca(g, g->f32, "total");
        gen_store(g, gen_f32(g, -1e30), f.max[half]);
        gen_store(g, gen_f32(g, 0), f.total[half]);
    }
    load_queries(&f, block0);
    LLVMValueRef end = gen_min(g, gen_add(g, block0, gen_i64(g, HEAD_ROWS)), gen_i64(g, d->s));
    f.keys[0] = nv_attention_plane(g, d, &f.k, KEYS, NULL);
    f.keys[1] = nv_attention_plane(g, d, &f.v, KEYS, NULL);
    turns(&f, end);
    finish(&f);
    gen_end(g);
}
