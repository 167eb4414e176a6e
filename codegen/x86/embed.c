/* Embedding lookup, and its gradient: rows of dy added up by token. */
#include "../rows.h"

/* Token number t, as an i64. */
static LLVMValueRef load_token(Gen *g, LLVMValueRef tokens, LLVMValueRef t) {
    return LLVMBuildZExt(g->b, gen_load(g, g->i32, gen_at(g, g->i32, tokens, t)), g->i64, "");
}

static LLVMValueRef row_of(Gen *g, LLVMValueRef matrix, LLVMValueRef row, int64_t n) {
    return gen_at(g, g->f32, matrix, gen_mul(g, row, n));
}

typedef struct RowPair {
    LLVMValueRef from, to;
} RowPair;

static void copy_lanes(Gen *g, void *context, const Lanes *at, int count) {
    const RowPair *r = context;
    for (int u = 0; u < count; u++) lanes_store(g, lanes_load(g, r->from, &at[u]), r->to, &at[u]);
}

static void add_lanes(Gen *g, void *context, const Lanes *at, int count) {
    const RowPair *r = context;
    for (int u = 0; u < count; u++) {
        LLVMValueRef sum =
            LLVMBuildFAdd(g->b, lanes_load(g, r->to, &at[u]), lanes_load(g, r->from, &at[u]), "");
        lanes_store(g, sum, r->to, &at[u]);
    }
}

/* ---- lookup: tiles are runs of tokens */

#define TILE_ELEMENTS 16384

static Tiling token_tiling(const EmbedDesc *d) {
    return tiling_of(d->tokens, (TILE_ELEMENTS + d->n - 1) / d->n, 1);
}

void gen_embed(Gen *g, const char *name, const EmbedDesc *d) {
    Tiling tiling = token_tiling(d);
    gen_kernel(g, name);
    LLVMValueRef tokens = gen_buffer(g, 0), table = gen_buffer(g, 1), out = gen_buffer(g, 2), lo, n;
    gen_piece(g, &tiling, &lo, &n);
    Loop t = gen_loop(g, lo, gen_add(g, lo, n), 1, "token");
    LLVMValueRef token = load_token(g, tokens, t.i), dst = row_of(g, out, t.i, d->n);
    if (d->group) {
        TernaryLayout layout = ternary_layout(d->vocab, d->n, d->group);
        gen_decode_row(g, ternary_codes(g, table, token, &layout), ternary_scales(g, table, token, &layout),
                       dst, d->n, d->group);
    } else {
        RowPair rows = {.from = row_of(g, table, token, d->n), .to = dst};
        gen_lanes(g, gen_i64(g, 0), gen_i64(g, d->n), 4, copy_lanes, &rows);
    }
    gen_loop_end(g, &t);
    gen_end(g);
}

uint32_t embed_tiles(const EmbedDesc *d, const Target *target) {
    (void)target;
    return token_tiling(d).tiles;
}

uint64_t embed_scratch(const EmbedDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}

/* ---- gradient: tile i owns the table's rows i, i + tiles, i + 2 tiles .. and goes through all tokens in
 * order. Frequent tokens have neighbouring ids, so interleaving spreads them; a power of two makes the
 * test of ownership cheap. */

uint32_t embed_grad_tiles(const EmbedGradDesc *d, const Target *target) {
    (void)target;
    uint32_t tiles = 1;
    while (tiles < 64 && tiles * 2 <= d->vocab && tiles * 2 * (int64_t)TILE_ELEMENTS <= d->tokens * d->n)
        tiles *= 2;
    return tiles;
}

uint64_t embed_grad_scratch(const EmbedGradDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}

void gen_embed_grad(Gen *g, const char *name, const EmbedGradDesc *d) {
    int64_t tiles = embed_grad_tiles(d, g->target);
    gen_kernel(g, name);
    LLVMValueRef tokens = gen_buffer(g, 0), dy = gen_buffer(g, 1), out = gen_buffer(g, 2);
    Loop t = gen_loop(g, gen_i64(g, 0), gen_i64(g, d->tokens), 1, "token");
    LLVMValueRef token = load_token(g, tokens, t.i);
    If own = gen_if(g, LLVMBuildICmp(g->b, LLVMIntEQ, gen_mod(g, token, tiles), g->tile, ""));
    RowPair rows = {.from = row_of(g, dy, t.i, d->n), .to = row_of(g, out, token, d->n)};
    gen_lanes(g, gen_i64(g, 0), gen_i64(g, d->n), 4, add_lanes, &rows);
    gen_if_end(g, &own);
    gen_loop_end(g, &t);
    gen_end(g);
}
