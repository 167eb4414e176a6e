/* The AdamW update, in place, element by element, with moments as f32 or bf16; bit for bit what a CPU
 * computes. */
#include "adamw.h"
#include "nv.h"

static LLVMValueRef load_moment(Gen *g, const AdamwUpdate *u, LLVMValueRef base, LLVMValueRef i, int width) {
    return u->desc.bf16 ? nv_load_bf16(g, base, i, width) : nv_load_elements(g, g->f32, base, i, width);
}

static void store_moments(Gen *g, const AdamwUpdate *u, const AdamwState *s, LLVMValueRef i, int width) {
    if (!u->desc.bf16) {
        nv_store_elements(g, s->m, u->m, i);
        nv_store_elements(g, s->v, u->v, i);
        return;
    }
    AdamwRandom random = adamw_random(g, u->key, i, width);
    nv_store(g, adamw_round(g, s->m, random.m), gen_at(g, g->i16, u->m, i), (unsigned)width * 2);
    nv_store(g, adamw_round(g, s->v, random.v), gen_at(g, g->i16, u->v, i), (unsigned)width * 2);
}

LLVMValueRef nv_adamw_elements(Gen *g, const AdamwUpdate *u, LLVMValueRef grad, LLVMValueRef i, int width) {
    AdamwState s = {nv_load_elements(g, g->f32, u->w, i, width), grad, load_moment(g, u, u->m, i, width),
                    load_moment(g, u, u->v, i, width)};
    s = gen_adamw_step(g, &u->desc, u->hyper, s);
    nv_store_elements(g, s.w, u->w, i);
    store_moments(g, u, &s, i, width);
    return s.w;
}

static void update_elements(Gen *g, void *context, LLVMValueRef i, int width) {
    const AdamwUpdate *u = context;
    nv_adamw_elements(g, u, nv_load_elements(g, g->f32, u->grad, i, width), i, width);
}

NvGrid nv_adamw_grid(const AdamwDesc *d, const Target *target) {
    (void)target;
    return (NvGrid){.blocks = nv_element_blocks(d->count), .threads = NV_ELEMENT_THREADS};
}

void nv_gen_adamw(Gen *g, const char *name, const AdamwDesc *d) {
    nv_kernel(g, name, d->bf16 ? 6 : 5, NV_ELEMENT_THREADS);
    nv_noalias(g);
    AdamwUpdate u = {.desc = *d,
                     .w = gen_buffer(g, 0),
                     .grad = gen_buffer(g, 1),
                     .m = gen_buffer(g, 2),
                     .v = gen_buffer(g, 3)};
    gen_adamw_hyper(g, gen_buffer(g, 4), u.hyper);
    if (d->bf16) u.key = adamw_key(g, gen_buffer(g, 5));
    nv_elements(g, d->count, update_elements, &u);
    gen_end(g);
}
