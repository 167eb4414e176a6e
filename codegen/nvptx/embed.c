/* Embedding lookup, and its gradient: rows of dy added up by token. */
#include "../rows.h"
#include "nv.h"
#include "ternary.h"

enum { THREADS = 256 };

/* Token number t, as an i64. */
static LLVMValueRef load_token(Gen *g, LLVMValueRef tokens, LLVMValueRef t) {
    return LLVMBuildZExt(g->b, gen_load(g, g->i32, gen_at(g, g->i32, tokens, t)), g->i64, "");
}

static LLVMValueRef row_of(Gen *g, LLVMValueRef matrix, LLVMValueRef row, int64_t n) {
    return gen_at(g, g->f32, matrix, gen_mul(g, row, n));
}

/* ---- lookup: four columns a thread */

static int64_t quarters(int64_t n) {
    return (n + 3) / 4;
}

NvGrid nv_embed_grid(const EmbedDesc *d, const Target *target) {
    (void)target;
    return (NvGrid){.blocks = (uint32_t)((d->tokens * quarters(d->n) + THREADS - 1) / THREADS),
                    .threads = THREADS};
}

/* Columns 4i .. of an f32 row. */
static void copy_columns(Gen *g, LLVMValueRef src, LLVMValueRef dst, LLVMValueRef i, int64_t n) {
    LLVMValueRef col = gen_mul(g, i, 4);
    if (n % 4 == 0) {
        nv_store_elements(g, nv_load_elements(g, g->f32, src, col, 4), dst, col);
        return;
    }
    Loop c = gen_loop(g, col, gen_min(g, gen_add(g, col, gen_i64(g, 4)), gen_i64(g, n)), 1, "col");
    nv_store_elements(g, nv_load_elements(g, g->f32, src, c.i, 1), dst, c.i);
    gen_loop_end(g, &c);
}

void nv_gen_embed(Gen *g, const char *name, const EmbedDesc *d) {
    int64_t each = quarters(d->n);
    nv_kernel(g, name, 3, THREADS);
    nv_noalias(g);
    LLVMValueRef tokens = gen_buffer(g, 0), table = gen_buffer(g, 1), out = gen_buffer(g, 2);
    LLVMValueRef thread = gen_add(g, gen_mul(g, g->tile, THREADS), nv_thread(g));
    If there = gen_if(g, gen_less(g, thread, gen_i64(g, d->tokens * each)));
    LLVMValueRef t = gen_div(g, thread, each), i = gen_mod(g, thread, each);
    LLVMValueRef token = load_token(g, tokens, t), dst = row_of(g, out, t, d->n);
    if (d->group) {
        TernaryLayout layout = ternary_layout(d->vocab, d->n, d->group);
        nv_decode_byte(g, ternary_codes(g, table, token, &layout), ternary_scales(g, table, token, &layout),
                       dst, i, d->n, d->group);
    } else {
        copy_columns(g, row_of(g, table, token, d->n), dst, i, d->n);
    }
    gen_if_end(g, &there);
    gen_end(g);
}

/* ---- gradient
 *
 * A block has one of the tokens, by its place in the sequence, and up to THREADS vectors of columns. If the
 * token occurred before, that place's block has its row of the table; else this one adds the rows of dy at
 * all places of the token to it, in their order. Rows without a token stay as they are: where they must be 0,
 * a launch before this one clears them (lower.c). */

static int64_t column_blocks(const EmbedGradDesc *d) {
    int64_t each = THREADS * (d->n % 4 ? 1 : 4);
    return (d->n + each - 1) / each;
}

NvGrid nv_embed_grad_grid(const EmbedGradDesc *d, const Target *target) {
    (void)target;
    return (NvGrid){.blocks = (uint32_t)(d->tokens * column_blocks(d)), .threads = THREADS};
}

typedef struct Columns { /* of this thread */
    LLVMTypeRef type;
    LLVMValueRef first, dy, sum; /* sum: an alloca */
    int width;
} Columns;

static LLVMValueRef load_columns(Gen *g, const Columns *c, LLVMValueRef row) {
    return nv_load_elements(g, g->f32, row, c->first, c->width);
}

/* i32: which of the 32 tokens from t on are `token`, bit by bit. All lanes of the warp get it. */
static LLVMValueRef places_of(Gen *g, const EmbedGradDesc *d, LLVMValueRef t, LLVMValueRef token) {
    LLVMValueRef at = gen_add(g, t, nv_lane(g)), last = gen_i64(g, d->tokens - 1);
    LLVMValueRef there = LLVMBuildICmp(g->b, LLVMIntSLE, at, last, "");
    LLVMValueRef other = load_token(g, gen_buffer(g, 0), gen_min(g, at, last));
    LLVMValueRef same = LLVMBuildICmp(g->b, LLVMIntEQ, other, token, "");
    return nv_ballot(g, LLVMBuildAnd(g->b, there, same, ""));
}

static LLVMValueRef is_set(Gen *g, LLVMValueRef bits) {
    return LLVMBuildICmp(g->b, LLVMIntNE, bits, gen_i32(g, 0), "");
}

/* Adds the rows of dy at those of the 32 places from t on whose bits are set. */
static void add_places(Gen *g, const EmbedGradDesc *d, const Columns *c, LLVMValueRef t,
                       LLVMValueRef places) {
    Loop k = gen_loop(g, gen_i64(g, 0), gen_i64(g, NV_WARP), 1, "place");
    LLVMValueRef bit = LLVMBuildLShr(g->b, places, LLVMBuildTrunc(g->b, k.i, g->i32, ""), "");
    If here = gen_if(g, is_set(g, LLVMBuildAnd(g->b, bit, gen_i32(g, 1), "")));
    LLVMValueRef more = load_columns(g, c, row_of(g, c->dy, gen_add(g, t, k.i), d->n));
    gen_store(g, LLVMBuildFAdd(g->b, gen_load(g, c->type, c->sum), more, ""), c->sum);
    gen_if_end(g, &here);
    gen_loop_end(g, &k);
}

/* i1: is `token` among those before place `own`? All threads of the block get it. */
static LLVMValueRef occurred_before(Gen *g, LLVMValueRef own, LLVMValueRef token) {
    LLVMValueRef found = gen_alloca(g, g->f32, "found"), none = gen_f32(g, 0);
    gen_store(g, none, found);
    Loop t = gen_loop(g, nv_thread(g), own, THREADS, "before");
    LLVMValueRef same = LLVMBuildICmp(g->b, LLVMIntEQ, load_token(g, gen_buffer(g, 0), t.i), token, "");
    gen_store(g, LLVMBuildSelect(g->b, same, gen_f32(g, 1), gen_load(g, g->f32, found), ""), found);
    gen_loop_end(g, &t);
    NvGroup block = nv_group(g, THREADS, THREADS);
    LLVMValueRef most = gen_load(g, g->f32, found);
    nv_group_fold(g, &block, (NvFold[]){NV_MAX}, &most, 1);
    return LLVMBuildFCmp(g->b, LLVMRealOGT, most, none, "");
}

void nv_gen_embed_grad(Gen *g, const char *name, const EmbedGradDesc *d) {
    int64_t blocks = column_blocks(d);
    Columns c = {.width = d->n % 4 ? 1 : 4};
    nv_kernel(g, name, 3, THREADS);
    nv_noalias(g);
    c.type = gen_vec(g, g->f32, c.width);
    c.dy = gen_buffer(g, 1);
    LLVMValueRef own = gen_div(g, g->tile, blocks), token = load_token(g, gen_buffer(g, 0), own);
    LLVMValueRef vector = gen_add(g, gen_mul(g, gen_mod(g, g->tile, blocks), THREADS), nv_thread(g));
    LLVMValueRef col = gen_mul(g, vector, c.width);
    LLVMValueRef inside = gen_less(g, col, gen_i64(g, d->n));
    LLVMValueRef row = row_of(g, gen_buffer(g, 2), token, d->n);
    c.first = col;
    If mine = gen_if(g, LLVMBuildNot(g->b, occurred_before(g, own, token), ""));
    c.sum = gen_alloca(g, c.type, "sum");
    gen_store(g, LLVMConstNull(c.type), c.sum);
    If begin = gen_if(g, inside);
    gen_store(g, load_columns(g, &c, row), c.sum);
    gen_if_end(g, &begin);
    Loop t =
        gen_loop(g, gen_mul(g, gen_div(g, own, NV_WARP), NV_WARP), gen_i64(g, d->tokens), NV_WARP, "tokens");
    LLVMValueRef places = places_of(g, d, t.i, token);
    If some = gen_if(g, LLVMBuildAnd(g->b, inside, is_set(g, places), ""));
    add_places(g, d, &c, t.i, places);
    gen_if_end(g, &some);
    gen_loop_end(g, &t);
    If there = gen_if(g, inside);
    nv_store_elements(g, gen_load(g, c.type, c.sum), row, c.first);
    gen_if_end(g, &there);
    gen_if_end(g, &mine);
    gen_end(g);
}
