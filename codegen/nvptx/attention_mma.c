/* The parts of attention on the tensor cores (attention_mma.h). */
#include "attention_mma.h"

bool nv_attention_mma_fits(const AttnDesc *d) {
    return d->d <= HEAD_WIDTH;
}

int nv_attention_run(const AttnDesc *d) {
    int run = 16;
    while (run < d->d) run *= 2;
    return run;
}

int nv_attention_used(const AttnDesc *d) {
    return (int)(d->d + 15) / 16 * 16;
}

int64_t nv_attention_mma_blocks(const AttnDesc *d) {
    return (d->s + HEAD_ROWS - 1) / HEAD_ROWS;
}

Plane nv_attention_plane(Gen *g, const AttnDesc *d, const Head *h, int lines, LLVMValueRef ahead) {
    Plane p = {.base = nv_attention_base(g, d, h),
               .lines = d->s,
               .run = d->d,
               .ld = h->heads * d->d,
               .half = nv_attention_half(d, h),
               .tile_lines = lines,
               .tile_run = nv_attention_run(d),
               .ahead = ahead};
    plane_begin(g, &p);
    return p;
}

void nv_attention_stage(Gen *g, const AttnDesc *d, const Head *h, LLVMValueRef first, int lines,
                        LLVMValueRef to) {
    int piece = lines < 64 ? lines : 64;
    Plane p = nv_attention_plane(g, d, h, piece, NULL);
    for (int line = 0; line < lines; line += piece) {
        plane_load(g, &p, gen_add(g, first, gen_i64(g, line)), gen_i64(g, 0));
        plane_store(g, &p, gen_at(g, g->i8, to, gen_i64(g, plane_bytes(line, p.tile_run))));
    }
}

Source nv_attention_source(Gen *g, const AttnDesc *d, LLVMValueRef at, LLVMValueRef line, bool steps,
                           bool is_a) {
    Source s = {.steps = steps, .ld = nv_attention_run(d) + PLANE_PAD};
    s.at = gen_at(g, g->i16, at, gen_add(g, gen_mul(g, line, s.ld), mma_lane_offset(g, &s, is_a)));
    return s;
}

void nv_attention_mma_scores(Gen *g, const AttnDesc *d, const Source *a, Tile *loaded, const Source *b, int n,
                             Tile *sum) {
    for (int j = 0; j < n; j++)
        for (int l = 0; l < 4; l++) sum[j][l] = gen_f32(g, 0);
    for (int step = 0; step < nv_attention_used(d); step += 16) {
        Tile x, y;
        if (!loaded) mma_load(g, a, 0, step, x);
        for (int j = 0; j < n; j += 2) {
            mma_load(g, b, 8 * j, step, y);
            mma_add(g, sum[j], loaded ? loaded[step / 16] : x, &y[0]);
            mma_add(g, sum[j + 1], loaded ? loaded[step / 16] : x, &y[2]);
        }
    }
}

void nv_attention_sums(Gen *g, const AttnDesc *d, HeadSums *s) {
    for (int j = 0; j < nv_attention_used(d) / 8; j++)
        for (int l = 0; l < 4; l++) {
            s->at[j][l] = gen_alloca(g, g->f32, "sum");
            gen_store(g, gen_f32(g, 0), s->at[j][l]);
        }
}

void nv_attention_mma_add(Gen *g, const AttnDesc *d, const HeadSums *s, Tile *p, int n, const Source *b) {
    int tiles = nv_attention_used(d) / 8;
    Tile sum[HEAD_TILES];
    for (int j = 0; j < tiles; j++)
        for (int l = 0; l < 4; l++) sum[j][l] = gen_load(g, g->f32, s->at[j][l]);
    for (int i = 0; i < n; i += 2) { /* two fragments of C make one of A */
        Tile a, y;
        for (int half = 0; half < 2; half++) {
            a[2 * half] = mma_pair(g, p[i + half][0], p[i + half][1]);
            a[2 * half + 1] = mma_pair(g, p[i + half][2], p[i + half][3]);
        }
        for (int j = 0; j < tiles; j += 2) {
            mma_load(g, b, 8 * j, 8 * i, y);
            mma_add(g, sum[j], a, &y[0]);
            mma_add(g, sum[j + 1], a, &y[2]);
        }
    }
    for (int j = 0; j < tiles; j++)
        for (int l = 0; l < 4; l++) gen_store(g, sum[j][l], s->at[j][l]);
}

LLVMValueRef nv_attention_row(Gen *g, int l) {
    return gen_add(g, gen_div(g, nv_lane(g), 4), gen_i64(g, l / 2 * 8));
}

LLVMValueRef nv_attention_col(Gen *g, int n, int l) {
    return gen_add(g, gen_mul(g, gen_mod(g, nv_lane(g), 4), 2), gen_i64(g, 8 * n + l % 2));
}

void nv_attention_mma_write(Gen *g, const AttnDesc *d, const HeadSums *s, const LLVMValueRef *factor,
                            const Head *h, LLVMValueRef pos0) {
    LLVMValueRef base = nv_attention_base(g, d, h);
    const bool narrow = nv_attention_half(d, h); /* of heads of an even width */
    int n = d->d % 2 ? 1 : 2;
    for (int half = 0; half < 2; half++) {
        LLVMValueRef pos = gen_add(g, pos0, nv_attention_row(g, 2 * half));
        If exists = gen_if(g, gen_less(g, pos, gen_i64(g, d->s)));
        for (int i = 0; i < nv_attention_used(d) / 8 * 2; i += n) {
            LLVMValueRef x[2], col = nv_attention_col(g, i / 2, i % 2);
            for (int l = 0; l < n; l++) {
                x[l] = gen_load(g, g->f32, s->at[i / 2][2 * half + i % 2 + l]);
                if (factor) x[l] = LLVMBuildFMul(g->b, x[l], factor[half], "");
            }
            If inside = gen_if(g, gen_less(g, col, gen_i64(g, d->d)));
            LLVMValueRef at = gen_add(g, gen_mul(g, pos, h->heads * d->d), col);
            if (narrow)
                gen_store(g, mma_pair(g, x[0], x[1]), gen_at(g, g->i16, base, at));
            else
                tile_store(g, tile_vector(g, x, n), gen_at(g, g->f32, base, at), n);
            gen_if_end(g, &inside);
        }
        gen_if_end(g, &exists);
    }
}
