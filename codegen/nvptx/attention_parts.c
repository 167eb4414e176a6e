/* The parts that forward and backward attention share (attention.h). */
#include "attention.h"

int64_t nv_attention_blocks(const AttnDesc *d) {
    return (d->s + ATTENTION_SIDE - 1) / ATTENTION_SIDE;
}
int64_t nv_attention_parts(const AttnDesc *d) {
    return (d->d + 127) / 128;
}
int nv_attention_width(const AttnDesc *d) {
    return d->d <= 64 ? 64 : 128;
}

LLVMValueRef nv_attention_base(Gen *g, const AttnDesc *d, const Head *h) {
    LLVMValueRef vector = gen_add(g, gen_mul(g, h->batch, d->s * h->heads), h->head);
    return gen_at(g, nv_attention_half(d, h) ? g->i16 : g->f32, gen_buffer(g, h->arg),
                  gen_mul(g, vector, d->d));
}

bool nv_attention_half(const AttnDesc *d, const Head *h) {
    return d->half >> h->arg & 1;
}

Operand nv_attention_rows(Gen *g, const AttnDesc *d, const Head *h, LLVMValueRef first) {
    Operand o = {.storage = STORED_ROWS,
                 .base = nv_attention_base(g, d, h),
                 .rows = d->s,
                 .depth = d->d,
                 .ld = h->heads * d->d,
                 .first = first,
                 .width = ATTENTION_SIDE,
                 .rounded = h->rounded};
    operand_begin(g, &o);
    return o;
}

Operand nv_attention_steps(Gen *g, const AttnDesc *d, const Head *h, LLVMValueRef first) {
    Operand o = {.storage = STORED_STEPS,
                 .base = nv_attention_base(g, d, h),
                 .rows = d->d,
                 .depth = d->s,
                 .ld = h->heads * d->d,
                 .first = first,
                 .width = nv_attention_width(d),
                 .rounded = h->rounded};
    operand_begin(g, &o);
    return o;
}

LLVMValueRef nv_attention_stat(Gen *g, const AttnDesc *d, unsigned arg, const Head *h, LLVMValueRef pos) {
    if (d->s % ATTENTION_SIDE) pos = gen_min(g, pos, gen_i64(g, d->s - 1));
    LLVMValueRef row = gen_add(g, gen_mul(g, h->batch, d->s), pos);
    return gen_at(g, g->f32, gen_buffer(g, arg), gen_add(g, gen_mul(g, row, d->h), h->head));
}

void nv_attention_write(Gen *g, const AttnDesc *d, const TilePlace *p, const Sums *s,
                        const LLVMValueRef *factor, const Head *h, LLVMValueRef pos0, LLVMValueRef col0) {
    LLVMValueRef base = nv_attention_base(g, d, h);
    int n = d->d % 4 ? 1 : 4;
    for (int i = 0; i < s->tm; i++) {
        LLVMValueRef pos = gen_add(g, pos0, tile_at(g, p->ty, i));
        If exists = gen_if(g, gen_less(g, pos, gen_i64(g, d->s)));
        for (int j = 0; j < s->tn; j += n) {
            LLVMValueRef x[4], col = gen_add(g, col0, tile_at(g, p->tx, j));
            for (int l = 0; l < n; l++) {
                x[l] = gen_load(g, g->f32, s->at[i][j + l]);
                if (factor) x[l] = LLVMBuildFMul(g->b, x[l], factor[i], "");
            }
            If inside = gen_if(g, gen_less(g, col, gen_i64(g, d->d)));
            tile_store(g, tile_vector(g, x, n),
                       gen_at(g, g->f32, base, gen_add(g, gen_mul(g, pos, h->heads * d->d), col)), n);
            gen_if_end(g, &inside);
        }
        gen_if_end(g, &exists);
    }
}

void nv_attention_scores(Gen *g, const AttnDesc *d, const TilePlace *p, const Sums *s, Operand *a, Operand *b,
                         LLVMValueRef stages) {
    sums_clear(g, s);
    tile_product(g, p, s, a, b, gen_i64(g, 0), gen_i64(g, d->d), stages);
    nv_barrier(g);
}

LLVMValueRef nv_attention_seen(Gen *g, const TilePlace *p, LLVMValueRef q0, LLVMValueRef k0, int i, int j) {
    LLVMValueRef query = gen_add(g, q0, tile_at(g, p->ty, i)), key = gen_add(g, k0, tile_at(g, p->tx, j));
    return LLVMBuildICmp(g->b, LLVMIntSLE, key, query, "");
}

LLVMValueRef nv_attention_weight(Gen *g, double scale, LLVMValueRef score, LLVMValueRef shift,
                                 LLVMValueRef seen) {
    LLVMValueRef x = gen_fma(g, score, gen_f32(g, scale), LLVMBuildFNeg(g->b, shift, ""));
    return LLVMBuildSelect(g->b, seen, gen_exp(g, x), gen_f32(g, 0), "");
}

void nv_attention_share(Gen *g, const TilePlace *p, LLVMValueRef x[4][4], bool over_keys, bool rounded,
                        LLVMValueRef at) {
    LLVMValueRef step0 = over_keys ? p->tx : p->ty, row0 = over_keys ? p->ty : p->tx;
    for (int i = 0; i < 4; i++) {
        LLVMValueRef four[4];
        for (int j = 0; j < 4; j++) {
            four[j] = over_keys ? x[j][i] : x[i][j];
            if (rounded) four[j] = tile_round(g, four[j]);
        }
        LLVMValueRef step = tile_at(g, step0, i), row = tile_at(g, row0, 0);
        tile_store(g, tile_vector(g, four, 4),
                   gen_at(g, g->f32, at, gen_add(g, gen_mul(g, step, ATTENTION_LD), row)), 4);
    }
}
