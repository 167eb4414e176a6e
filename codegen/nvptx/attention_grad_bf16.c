/* Gradients of causal attention with operands in bf16 on the tensor cores. As in attention_grad.c some blocks
 * make dK and dV of 128 keys, the others dQ of 128 queries. Both go over the other side 32 positions at a
 * time, or 16 where shared memory has room for no more, and differ in what stays and what passes:
 *
 *              stays (128)   passes (32)    16 x 32 a warp                  adds
 *     keys     K, V          Q, dO          S^T = K Q^T, dP^T = V dO^T      dV += P^T dO, dK += dS^T Q
 *     queries  Q, dO         K, V           S = Q K^T,   dP = dO V^T        dQ += dS K
 *
 * What stays and what passes lies in shared memory as rows for the scores; what passes is read again as steps
 * for the sums. P and dS go from the fragments of C to those of A within the registers.
 *
 * What passes next is copied during a turn (cp.async): bf16 to the other of two stages, f32 to where each
 * thread will round its own part of it, as turns of 32 leave no registers for it to wait in. */
#include "attention_mma.h"

enum { MOST = 32 /* positions that pass in a turn */, MOST_TILES = MOST / 8 };
enum { Q, K, V, LSE, DOUT, DELTA, DQ, DK, DV }; /* args */
#define LOG2E 1.44269504088896341

typedef struct Side {
    Head q_or_k, dout_or_v;
    LLVMValueRef at[2]; /* in shared memory; of what passes, the turn's stage */
    Plane next[2];      /* of what passes: on its way there */
} Side;

typedef struct Backward {
    Gen *g;
    const AttnDesc *d;
    int turn;  /* positions that pass at a time */
    bool keys; /* the block's rows are keys */
    Side stays, passes;
    LLVMValueRef row0; /* the warp's first row's position */
    HeadSums dqk, dv;  /* dv: of keys */
} Backward;

static int64_t key_tiles(const AttnDesc *d) {
    return nv_attention_mma_blocks(d) * d->b * d->g;
}

static int64_t stays_bytes(const AttnDesc *d) {
    return plane_bytes(HEAD_ROWS, nv_attention_run(d));
}
static int64_t passes_bytes(const AttnDesc *d, int turn) {
    return plane_bytes(turn, nv_attention_run(d));
}
/* Of argument `arg`, which passes: where it waits to be rounded; 0: in registers, or nowhere. */
static int64_t next_bytes(const AttnDesc *d, int turn, unsigned arg) {
    return d->half >> arg & 1 || turn < MOST ? 0 : plane_ahead_bytes(turn, nv_attention_run(d));
}

static int64_t shared_bytes(const AttnDesc *d, int turn) {
    int64_t of_keys = next_bytes(d, turn, Q) + next_bytes(d, turn, DOUT),
            of_queries = next_bytes(d, turn, K) + next_bytes(d, turn, V);
    return 2 * stays_bytes(d) + 4 * passes_bytes(d, turn) + (of_keys > of_queries ? of_keys : of_queries);
}

/* Positions that pass at a time. 0: there is no room for any, or the head is too wide. */
static int turn_of(const AttnDesc *d, const Target *t) {
    for (int turn = MOST; turn >= 16 && nv_attention_mma_fits(d); turn /= 2)
        if (shared_bytes(d, turn) <= t->shared) return turn;
    return 0;
}

NvGrid nv_attention_grad_bf16_grid(const AttnDesc *d, const Target *t) {
    const int turn = turn_of(d, t);
    if (!turn) return nv_attention_grad_grid(d, t);
    return (NvGrid){(uint32_t)(key_tiles(d) + nv_attention_mma_blocks(d) * d->b * d->h), MMA_THREADS,
                    (uint32_t)shared_bytes(d, turn)};
}

static Side side_of(const Backward *b, bool keys, LLVMValueRef batch, LLVMValueRef head) {
    int64_t heads = keys ? b->d->g : b->d->h;
    return (Side){.q_or_k = {.arg = keys ? K : Q, .batch = batch, .head = head, .heads = heads},
                  .dout_or_v = {.arg = keys ? V : DOUT, .batch = batch, .head = head, .heads = heads}};
}

/* Bytes from `at` on of the block's shared memory: what stays, two stages of what passes, and what passes
 * next and has to be rounded. */
static LLVMValueRef shared_at(const Backward *b, int64_t at) {
    return gen_at(b->g, b->g->i8, nv_dynamic_shared(b->g), gen_i64(b->g, at));
}

static void place_stays(Backward *b, LLVMValueRef first) {
    const Side *s = &b->stays;
    for (int i = 0; i < 2; i++) {
        b->stays.at[i] = shared_at(b, i * stays_bytes(b->d));
        nv_attention_stage(b->g, b->d, i ? &s->dout_or_v : &s->q_or_k, first, HEAD_ROWS, s->at[i]);
    }
}

static void place_passes(Backward *b) {
    Side *s = &b->passes;
    int64_t next = 2 * stays_bytes(b->d) + 4 * passes_bytes(b->d, b->turn);
    for (int i = 0; i < 2; i++) {
        const Head *head = i ? &s->dout_or_v : &s->q_or_k;
        const bool in_registers = b->turn < MOST && !nv_attention_half(b->d, head);
        LLVMValueRef ahead = in_registers ? NULL : shared_at(b, next);
        s->next[i] = nv_attention_plane(b->g, b->d, head, b->turn, ahead);
        next += next_bytes(b->d, b->turn, head->arg);
    }
}

/* The stage, first or second side, of the positions from p0 on. */
static LLVMValueRef stage_at(const Backward *b, LLVMValueRef p0, int i) {
    Gen *g = b->g;
    int64_t bytes = passes_bytes(b->d, b->turn);
    LLVMValueRef stage = gen_mul(g, gen_mod(g, gen_div(g, p0, b->turn), 2), 2 * bytes);
    return gen_at(g, g->i8, shared_at(b, 2 * stays_bytes(b->d) + i * bytes), stage);
}

/* The positions from p0 on are on their way. */
static void fetch(Backward *b, LLVMValueRef p0) {
    for (int i = 0; i < 2; i++) {
        Plane next = b->passes.next[i];
        if (next.half) next.ahead = stage_at(b, p0, i);
        plane_load(b->g, &next, p0, gen_i64(b->g, 0));
    }
    nv_copies_commit(b->g);
}

/* The scores of the warp: what stays by what passes, both the first (i = 0) or the second of their
 * sides. */
static void scores(const Backward *b, int i, Tile *sum) {
    Gen *g = b->g;
    Source rows = nv_attention_source(g, b->d, b->stays.at[i], gen_mul(g, nv_warp(g), 16), false, true);
    Source cols = nv_attention_source(g, b->d, b->passes.at[i], gen_i64(g, 0), false, false);
    nv_attention_mma_scores(g, b->d, &rows, NULL, &cols, b->turn / 8, sum);
}

/* S and dP become P and dS, for the positions from p0 on that pass. Where a query is behind the end both are
 * 0. */
static void weights(const Backward *b, LLVMValueRef p0, Tile *s, Tile *dp) {
    Gen *g = b->g;
    const Head *queries = b->keys ? &b->passes.q_or_k : &b->stays.q_or_k;
    for (int j = 0; j < b->turn / 8; j++)
        for (int l = 0; l < 4; l++) {
            LLVMValueRef row = gen_add(g, b->row0, nv_attention_row(g, l));
            LLVMValueRef col = gen_add(g, p0, nv_attention_col(g, j, l));
            LLVMValueRef query = b->keys ? col : row, key = b->keys ? row : col;
            LLVMValueRef last = gen_i64(g, b->d->s - 1), at = gen_min(g, query, last);
            LLVMValueRef lse = gen_load(g, g->f32, nv_attention_stat(g, b->d, LSE, queries, at));
            LLVMValueRef delta = gen_load(g, g->f32, nv_attention_stat(g, b->d, DELTA, queries, at));
            LLVMValueRef seen = LLVMBuildAnd(g->b, LLVMBuildICmp(g->b, LLVMIntSLE, key, query, ""),
                                             LLVMBuildICmp(g->b, LLVMIntSLE, query, last, ""), "");
            LLVMValueRef shift = LLVMBuildFMul(g->b, lse, gen_f32(g, -LOG2E), "");
            LLVMValueRef p = nv_ex2(g, gen_fma(g, s[j][l], gen_f32(g, b->d->scale * LOG2E), shift));
            p = LLVMBuildSelect(g->b, seen, p, gen_f32(g, 0), "");
            LLVMValueRef scaled = LLVMBuildFMul(g->b, p, gen_f32(g, b->d->scale), "");
            s[j][l] = p;
            dp[j][l] = LLVMBuildFMul(g->b, scaled, LLVMBuildFSub(g->b, dp[j][l], delta, ""), "");
        }
}

/* What the positions from p0 on that pass add; a warp that sees none of them has nothing to do. */
static void add_positions(const Backward *b, LLVMValueRef p0) {
    Gen *g = b->g;
    LLVMValueRef last_query =
        b->keys ? gen_add(g, p0, gen_i64(g, b->turn - 1)) : gen_add(g, b->row0, gen_i64(g, 15));
    LLVMValueRef first_key = b->keys ? b->row0 : p0;
    If sees = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLE, first_key, last_query, ""));
    Tile s[MOST_TILES], dp[MOST_TILES];
    scores(b, 0, s);
    scores(b, 1, dp);
    weights(b, p0, s, dp);
    Source first = nv_attention_source(g, b->d, b->passes.at[0], gen_i64(g, 0), true, false);
    Source second = nv_attention_source(g, b->d, b->passes.at[1], gen_i64(g, 0), true, false);
    if (b->keys) nv_attention_mma_add(g, b->d, &b->dv, s, b->turn / 8, &second);
    nv_attention_mma_add(g, b->d, &b->dqk, dp, b->turn / 8, &first);
    gen_if_end(g, &sees);
}

/* All positions of a head that pass. */
static void turns(Backward *b, LLVMValueRef begin, LLVMValueRef end) {
    Gen *g = b->g;
    place_passes(b);
    fetch(b, begin);
    Loop p0 = gen_loop(g, begin, end, b->turn, "positions");
    LLVMValueRef next = gen_add(g, p0.i, gen_i64(g, b->turn));
    nv_copies_wait(g, 0);
    for (int i = 0; i < 2; i++) {
        b->passes.at[i] = stage_at(b, p0.i, i);
        plane_store(g, &b->passes.next[i], b->passes.at[i]);
    }
    nv_barrier(g); /* these positions are there, and nobody reads the other stage any more */
    If more = gen_if(g, gen_less(g, next, end));
    fetch(b, next);
    gen_if_end(g, &more);
    add_positions(b, p0.i);
    gen_loop_end(g, &p0);
}

static void key_block(Backward *b, LLVMValueRef index) {
    Gen *g = b->g;
    const AttnDesc *d = b->d;
    int64_t heads = d->b * d->g, per_group = d->h / d->g;
    LLVMValueRef of = gen_mod(g, index, heads), batch = gen_div(g, of, d->g), kv = gen_mod(g, of, d->g);
    LLVMValueRef k0 = gen_mul(g, gen_div(g, index, heads), HEAD_ROWS);
    b->keys = true;
    b->row0 = gen_add(g, k0, gen_mul(g, nv_warp(g), 16));
    b->stays = side_of(b, true, batch, kv);
    place_stays(b, k0);
    nv_attention_sums(g, d, &b->dqk);
    nv_attention_sums(g, d, &b->dv);
    Loop head = gen_loop(g, gen_i64(g, 0), gen_i64(g, per_group), 1, "head");
    b->passes = side_of(b, false, batch, gen_add(g, gen_mul(g, kv, per_group), head.i));
    turns(b, k0, gen_i64(g, d->s));
    nv_barrier(g); /* nobody reads the stages any more */
    gen_loop_end(g, &head);
    Head dk = b->stays.q_or_k, dv = dk;
    dk.arg = DK, dv.arg = DV;
    nv_attention_mma_write(g, d, &b->dqk, NULL, &dk, b->row0);
    nv_attention_mma_write(g, d, &b->dv, NULL, &dv, b->row0);
}

static void query_block(Backward *b, LLVMValueRef index) {
    Gen *g = b->g;
    const AttnDesc *d = b->d;
    int64_t heads = d->b * d->h;
    LLVMValueRef of = gen_mod(g, index, heads), batch = gen_div(g, of, d->h), head = gen_mod(g, of, d->h);
    LLVMValueRef block = gen_sub(g, gen_i64(g, nv_attention_mma_blocks(d) - 1), gen_div(g, index, heads));
    LLVMValueRef q0 = gen_mul(g, block, HEAD_ROWS);
    b->keys = false;
    b->row0 = gen_add(g, q0, gen_mul(g, nv_warp(g), 16));
    b->stays = side_of(b, false, batch, head);
    b->passes = side_of(b, true, batch, gen_div(g, head, d->h / d->g));
    place_stays(b, q0);
    nv_attention_sums(g, d, &b->dqk);
    turns(b, gen_i64(g, 0), gen_min(g, gen_add(g, q0, gen_i64(g, HEAD_ROWS)), gen_i64(g, d->s)));
    Head dq = b->stays.q_or_k;
    dq.arg = DQ;
    nv_attention_mma_write(g, d, &b->dqk, NULL, &dq, b->row0);
}

void nv_gen_attention_grad_bf16(Gen *g, const char *name, const AttnDesc *d) {
    const int turn = turn_of(d, g->target);
    if (!turn) {
        nv_attention_grad_rounded(g, name, d);
        return;
    }
    nv_kernel(g, name, 9, MMA_THREADS);
    nv_noalias(g);
    Backward b = {.g = g, .d = d, .turn = turn};
    If keys = gen_if(g, gen_less(g, g->tile, gen_i64(g, key_tiles(d))));
    key_block(&b, g->tile);
    gen_else(g, &keys);
    query_block(&b, gen_sub(g, g->tile, gen_i64(g, key_tiles(d))));
    gen_if_end(g, &keys);
    gen_end(g);
}
