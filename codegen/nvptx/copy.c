/* Kernels that only move data: fill. */
#include "nv.h"

enum { THREADS = 256 };

/* A thread an element; the last block may have some to spare. */
static NvGrid thread_each(int64_t count) {
    return (NvGrid){.blocks = (uint32_t)((count + THREADS - 1) / THREADS), .threads = THREADS};
}

/* ---- fill */

NvGrid nv_fill_grid(const FillDesc *d, const Target *target) {
    (void)target;
    return thread_each(d->count);
}

void nv_gen_fill(Gen *g, const char *name, const FillDesc *d) {
    nv_kernel(g, name, 1, THREADS);
    LLVMValueRef i = gen_add(g, gen_mul(g, g->tile, THREADS), nv_thread(g));
    If inside = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLT, i, gen_i64(g, d->count), ""));
    gen_store(g, gen_f32(g, d->c), gen_at(g, g->f32, gen_buffer(g, 0), i));
    gen_if_end(g, &inside);
    gen_end(g);
}
