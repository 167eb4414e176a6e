/* The AdamW update, in place, element by element, with moments as f32 or bf16; bit for bit what a CPU
 * computes. */
#include "../rows.h"
#include "nv.h"

typedef struct Update {
    const AdamwDesc *desc;
    LLVMValueRef w, grad, m, v, hyper[4], key;
} Update;

static void update_elements(Gen *g, void *context, LLVMValueRef i, int width) {
    const Update *u = context;
    AdamwState s = {nv_load_elements(g, g->f32, u->w, i, width),
                    nv_load_elements(g, g->f32, u->grad, i, width),
                    nv_load_elements(g, g->f32, u->m, i, width), nv_load_elements(g, g->f32, u->v, i, width)};
    s = gen_adamw_step(g, u->desc, u->hyper, s);
    nv_store_elements(g, s.w, u->w, i);
    nv_store_elements(g, s.m, u->m, i);
    nv_store_elements(g, s.v, u->v, i);
}

NvGrid nv_adamw_grid(const AdamwDesc *d, const Target *target) {
    (void)target;
    return (NvGrid){.blocks = nv_element_blocks(d->count), .threads = NV_ELEMENT_THREADS};
}

void nv_gen_adamw(Gen *g, const char *name, const AdamwDesc *d) {
    nv_kernel(g, name, 5, NV_ELEMENT_THREADS);
    nv_noalias(g);
    Update u = {d, gen_buffer(g, 0), gen_buffer(g, 1), gen_buffer(g, 2), gen_buffer(g, 3), {NULL}, NULL};
    gen_adamw_hyper(g, gen_buffer(g, 4), u.hyper);
    nv_elements(g, d->count, update_elements, &u);
    gen_end(g);
}

/* ---- moments as bf16 */

static void store_moment(Gen *g, LLVMValueRef value, LLVMValueRef random, LLVMValueRef base, LLVMValueRef i,
                         int width) {
    nv_store(g, adamw_round(g, value, random), gen_at(g, g->i16, base, i), (unsigned)width * 2);
}

static void update_bf16_elements(Gen *g, void *context, LLVMValueRef i, int width) {
    const Update *u = context;
    AdamwState s = {nv_load_elements(g, g->f32, u->w, i, width),
                    nv_load_elements(g, g->f32, u->grad, i, width), nv_load_bf16(g, u->m, i, width),
                    nv_load_bf16(g, u->v, i, width)};
    s = gen_adamw_step(g, u->desc, u->hyper, s);
    AdamwRandom random = adamw_random(g, u->key, i, width);
    nv_store_elements(g, s.w, u->w, i);
    store_moment(g, s.m, random.m, u->m, i, width);
    store_moment(g, s.v, random.v, u->v, i, width);
}

NvGrid nv_adamw_bf16_grid(const AdamwDesc *d, const Target *target) {
    return nv_adamw_grid(d, target);
}

void nv_gen_adamw_bf16(Gen *g, const char *name, const AdamwDesc *d) {
    nv_kernel(g, name, 6, NV_ELEMENT_THREADS);
    nv_noalias(g);
    Update u = {d, gen_buffer(g, 0), gen_buffer(g, 1), gen_buffer(g, 2), gen_buffer(g, 3), {NULL}, NULL};
    gen_adamw_hyper(g, gen_buffer(g, 4), u.hyper);
    u.key = adamw_key(g, gen_buffer(g, 5));
    nv_elements(g, d->count, update_bf16_elements, &u);
    gen_end(g);
}
