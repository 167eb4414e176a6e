/* Kernels that only move data: copy, fill, picking or replacing rows of each sequence. */
#include "../rows.h"

/* ---- copy: tiles are runs of bytes */

static Tiling byte_tiling(const CopyDesc *d) {
    return tiling_of(d->bytes, 1 << 18, 64);
}

void gen_copy(Gen *g, const char *name, const CopyDesc *d) {
    Tiling tiling = byte_tiling(d);
    gen_kernel(g, name);
    LLVMValueRef src = gen_buffer(g, 0), dst = gen_buffer(g, 1), lo, n;
    gen_piece(g, &tiling, &lo, &n);
    LLVMBuildMemCpy(g->b, gen_at(g, g->i8, dst, lo), 1, gen_at(g, g->i8, src, lo), 1, n);
    gen_end(g);
}

uint32_t copy_tiles(const CopyDesc *d, const Target *target) {
    (void)target;
    return byte_tiling(d).tiles;
}

uint64_t copy_scratch(const CopyDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}

/* ---- fill */

typedef struct Fill {
    LLVMValueRef out, value;
} Fill;

static void fill_lanes(Gen *g, void *context, const Lanes *at, int count) {
    const Fill *f = context;
    for (int u = 0; u < count; u++) lanes_store(g, f->value, f->out, &at[u]);
}

static Tiling element_tiling(const FillDesc *d) {
    return tiling_of(d->count, 1 << 16, 64);
}

void gen_fill(Gen *g, const char *name, const FillDesc *d) {
    Tiling tiling = element_tiling(d);
    gen_kernel(g, name);
    Fill f = {.out = gen_buffer(g, 0), .value = gen_splat(g, gen_f32(g, d->c), g->target->vl)};
    LLVMValueRef lo, n;
    gen_piece(g, &tiling, &lo, &n);
    gen_lanes(g, lo, n, 4, fill_lanes, &f);
    gen_end(g);
}

uint32_t fill_tiles(const FillDesc *d, const Target *target) {
    (void)target;
    return element_tiling(d).tiles;
}

uint64_t fill_scratch(const FillDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}

/* ---- cache_row: a tile for each sequence */

void gen_cache_row(Gen *g, const char *name, const CacheRowDesc *d) {
    gen_kernel(g, name);
    LLVMValueRef row = gen_buffer(g, 0), pos = gen_buffer(g, 1), cache = gen_buffer(g, 2);
    LLVMValueRef at = LLVMBuildZExt(g->b, gen_load(g, g->i32, gen_at(g, g->i32, pos, g->tile)), g->i64, "");
    at = gen_add(g, gen_mul(g, g->tile, d->s), at);
    LLVMValueRef src = gen_at(g, g->f32, row, gen_mul(g, g->tile, d->rows * d->n));
    LLVMValueRef dst = gen_at(g, g->f32, cache, gen_mul(g, at, d->n));
    LLVMBuildMemCpy(g->b, dst, 4, src, 4, gen_i64(g, d->rows * d->n * 4));
    gen_end(g);
}

uint32_t cache_row_tiles(const CacheRowDesc *d, const Target *target) {
    (void)target;
    return (uint32_t)d->b;
}

uint64_t cache_row_scratch(const CacheRowDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}

/* ---- take_row: a tile for each sequence */

void gen_take_row(Gen *g, const char *name, const TakeRowDesc *d) {
    gen_kernel(g, name);
    LLVMValueRef x = gen_buffer(g, 0), pos = gen_buffer(g, 1), out = gen_buffer(g, 2);
    LLVMValueRef row = LLVMBuildZExt(g->b, gen_load(g, g->i32, gen_at(g, g->i32, pos, g->tile)), g->i64, "");
    row = gen_add(g, gen_mul(g, g->tile, d->s), row);
    LLVMValueRef src = gen_at(g, g->f32, x, gen_mul(g, row, d->n));
    LLVMValueRef dst = gen_at(g, g->f32, out, gen_mul(g, g->tile, d->rows * d->n));
    LLVMBuildMemCpy(g->b, dst, 4, src, 4, gen_i64(g, d->rows * d->n * 4));
    gen_end(g);
}

uint32_t take_row_tiles(const TakeRowDesc *d, const Target *target) {
    (void)target;
    return (uint32_t)d->b;
}

uint64_t take_row_scratch(const TakeRowDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}
