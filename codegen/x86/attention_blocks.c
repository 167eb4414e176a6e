/* The parts that forward and backward attention share (attention.h). */
#include "attention.h"

/* A block of scores and the panels of its operands fit into the second-level cache. */
enum { QUERIES = 96, KEYS = 128 };

int64_t attention_round(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

int64_t attention_queries(const AttnDesc *d, const Target *t) {
    return attention_round(d->s < QUERIES ? d->s : QUERIES, t->mr);
}

int64_t attention_keys(const AttnDesc *d, const Target *t) {
    return attention_round(d->s < KEYS ? d->s : KEYS, t->nr);
}

int64_t attention_plan(const int64_t *floats, int n, int64_t *at) {
    int64_t bytes = 0;
    for (int i = 0; i < n; i++) {
        at[i] = bytes;
        bytes += attention_round(4 * floats[i], 64);
    }
    return bytes;
}

LLVMValueRef attention_stat(Gen *g, const AttnDesc *d, unsigned arg, LLVMValueRef batch, LLVMValueRef pos,
                            LLVMValueRef head) {
    LLVMValueRef row = gen_add(g, gen_mul(g, batch, d->s), pos);
    return gen_at(g, g->f32, gen_buffer(g, arg), gen_add(g, gen_mul(g, row, d->h), head));
}

LLVMValueRef attention_head(Gen *g, const AttnDesc *d, unsigned arg, LLVMValueRef batch, LLVMValueRef pos,
                            LLVMValueRef head, int64_t heads) {
    LLVMValueRef row = gen_add(g, gen_mul(g, batch, d->s), pos);
    LLVMValueRef vector = gen_add(g, gen_mul(g, row, heads), head);
    return gen_at(g, g->f32, gen_buffer(g, arg), gen_mul(g, vector, d->d));
}

LLVMValueRef attention_mask(Gen *g, LLVMValueRef c, LLVMValueRef seen) {
    int vl = g->target->vl;
    LLVMValueRef left = LLVMBuildTrunc(g->b, gen_sub(g, seen, c), g->i32, "");
    return LLVMBuildICmp(g->b, LLVMIntSLT, gen_iota(g, g->i32, vl), gen_splat(g, left, vl), "");
}

LLVMValueRef attention_whole(Gen *g, LLVMValueRef seen) {
    int vl = g->target->vl;
    LLVMValueRef up = gen_add(g, gen_max(g, seen, gen_i64(g, 0)), gen_i64(g, vl - 1));
    return gen_mul(g, gen_div(g, up, vl), vl);
}

LLVMValueRef attention_weights(Gen *g, double scale, LLVMValueRef scores, LLVMValueRef shift, LLVMValueRef c,
                               LLVMValueRef seen) {
    int vl = g->target->vl;
    LLVMTypeRef vec = gen_vec(g, g->f32, vl);
    LLVMValueRef s = gen_load(g, vec, scores);
    LLVMValueRef p = gen_exp(g, gen_fma(g, s, gen_splat(g, gen_f32(g, scale), vl), shift));
    return LLVMBuildSelect(g->b, attention_mask(g, c, seen), p, LLVMConstNull(vec), "");
}

LLVMValueRef attention_max(Gen *g, double scale, LLVMValueRef row, LLVMValueRef seen, LLVMValueRef before) {
    int vl = g->target->vl;
    LLVMTypeRef vec = gen_vec(g, g->f32, vl);
    LLVMValueRef best = gen_alloca(g, vec, "max"), none = gen_splat(g, gen_f32(g, -1e30), vl);
    gen_store(g, none, best);
    Loop c = gen_loop(g, gen_i64(g, 0), seen, vl, "max");
    LLVMValueRef s = gen_load(g, vec, gen_at(g, g->f32, row, c.i));
    s = LLVMBuildFMul(g->b, s, gen_splat(g, gen_f32(g, scale), vl), "");
    s = LLVMBuildSelect(g->b, attention_mask(g, c.i, seen), s, none, "");
    gen_store(g, gen_fmax(g, s, gen_load(g, vec, best)), best);
    gen_loop_end(g, &c);
    return gen_fmax(g, gen_reduce_max(g, gen_load(g, vec, best)), before);
}

LLVMValueRef attention_exp(Gen *g, double scale, LLVMValueRef row, LLVMValueRef seen, LLVMValueRef max) {
    int vl = g->target->vl;
    LLVMTypeRef vec = gen_vec(g, g->f32, vl);
    LLVMValueRef sum = gen_alloca(g, vec, "sum"), shift = gen_splat(g, LLVMBuildFNeg(g->b, max, ""), vl);
    gen_store(g, LLVMConstNull(vec), sum);
    Loop c = gen_loop(g, gen_i64(g, 0), seen, vl, "exp");
    LLVMValueRef p = attention_weights(g, scale, gen_at(g, g->f32, row, c.i), shift, c.i, seen);
    gen_store(g, p, gen_at(g, g->f32, row, c.i));
    gen_store(g, LLVMBuildFAdd(g->b, gen_load(g, vec, sum), p, ""), sum);
    gen_loop_end(g, &c);
    return gen_reduce_add(g, gen_load(g, vec, sum));
}

void attention_pack(Gen *g, PanelType type, int width, bool rows, LLVMValueRef n, LLVMValueRef k,
                    LLVMValueRef src, int64_t ld, LLVMValueRef dst, int64_t depth) {
    LLVMValueRef args[] = {n, k, src, gen_i64(g, ld), dst, gen_i64(g, panel_words(type, depth))};
    gen_call(g, gen_pack(g, width, rows ? PACK_ROWS : PACK_COLS, type), args, 6);
}

void attention_product(Gen *g, PanelType type, Band band, LLVMValueRef diagonal, LLVMValueRef m,
                       LLVMValueRef n, LLVMValueRef k, LLVMValueRef a, int64_t a_depth, LLVMValueRef b,
                       int64_t b_depth, LLVMValueRef c, int64_t ldc, LLVMValueRef add) {
    LLVMValueRef a_words = gen_i64(g, panel_words(type, a_depth)),
                 b_words = gen_i64(g, panel_words(type, b_depth));
    LLVMValueRef args[] = {m, n, k, a, a_words, b, b_words, c, gen_i64(g, ldc), add, diagonal};
    gen_call(g, gen_product(g, band, &(Panels){.type = type}), args, 11);
}
