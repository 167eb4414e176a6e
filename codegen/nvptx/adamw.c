/* The AdamW update, in place, element by element; bit for bit what a CPU computes. */
#include "../rows.h"
#include "nv.h"

typedef struct Update {
    const AdamwDesc *desc;
    LLVMValueRef w, grad, m, v, hyper[4];
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
    Update u = {d, gen_buffer(g, 0), gen_buffer(g, 1), gen_buffer(g, 2), gen_buffer(g, 3), {NULL}};
    gen_adamw_hyper(g, gen_buffer(g, 4), u.hyper);
    nv_elements(g, d->count, update_elements, &u);
    gen_end(g);
}
