/* Kernels that only move data: copy, fill, picking or replacing rows of each sequence. */
#include "nv.h"

/* ---- copy: 16 bytes a thread */

enum { COPY_BYTES = 16, COPY_THREADS = 256 };

NvGrid nv_copy_grid(const CopyDesc *d, const Target *target) {
    (void)target;
    const int64_t each = COPY_BYTES * COPY_THREADS;
    return (NvGrid){.blocks = (uint32_t)((d->bytes + each - 1) / each), .threads = COPY_THREADS};
}

/* i1: may both addresses be accessed 16 bytes at a time? A piece of a concatenation starts anywhere. */
static LLVMValueRef both_aligned(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    a = LLVMBuildPtrToInt(g->b, a, g->i64, ""), b = LLVMBuildPtrToInt(g->b, b, g->i64, "");
    LLVMValueRef low = LLVMBuildAnd(g->b, LLVMBuildOr(g->b, a, b, ""), gen_i64(g, COPY_BYTES - 1), "");
    return LLVMBuildICmp(g->b, LLVMIntEQ, low, gen_i64(g, 0), "");
}

void nv_gen_copy(Gen *g, const char *name, const CopyDesc *d) {
    nv_kernel(g, name, 2, COPY_THREADS);
    LLVMTypeRef words = gen_vec(g, g->i32, COPY_BYTES / 4);
    LLVMValueRef src = gen_buffer(g, 0), dst = gen_buffer(g, 1), end = gen_i64(g, d->bytes);
    LLVMValueRef thread = gen_add(g, gen_mul(g, g->tile, COPY_THREADS), nv_thread(g));
    LLVMValueRef i = gen_mul(g, thread, COPY_BYTES), next = gen_add(g, i, gen_i64(g, COPY_BYTES));
    LLVMValueRef whole = LLVMBuildICmp(g->b, LLVMIntSLE, next, end, "");
    If fast = gen_if(g, LLVMBuildAnd(g->b, whole, both_aligned(g, src, dst), ""));
    nv_store(g, nv_load(g, words, gen_at(g, g->i8, src, i), COPY_BYTES), gen_at(g, g->i8, dst, i),
             COPY_BYTES);
    gen_else(g, &fast);
    Loop byte = gen_loop(g, i, gen_min(g, next, end), 1, "byte");
    gen_store(g, gen_load(g, g->i8, gen_at(g, g->i8, src, byte.i)), gen_at(g, g->i8, dst, byte.i));
    gen_loop_end(g, &byte);
    gen_if_end(g, &fast);
    gen_end(g);
}

/* ---- fill */

typedef struct Fill {
    LLVMValueRef out;
    double c;
} Fill;

static void fill_elements(Gen *g, void *context, LLVMValueRef i, int width) {
    const Fill *f = context;
    nv_store_elements(g, gen_splat(g, gen_f32(g, f->c), width), f->out, i);
}

NvGrid nv_fill_grid(const FillDesc *d, const Target *target) {
    (void)target;
    return (NvGrid){.blocks = nv_element_blocks(d->count), .threads = NV_ELEMENT_THREADS};
}

void nv_gen_fill(Gen *g, const char *name, const FillDesc *d) {
    nv_kernel(g, name, 1, NV_ELEMENT_THREADS);
    Fill f = {gen_buffer(g, 0), d->c};
    nv_elements(g, d->count, fill_elements, &f);
    gen_end(g);
}

/* ---- take_row, cache_row: a block for each sequence */

enum { ROW_THREADS = 256 };

/* dst = src, rows of n floats, by all threads of the block. By vectors where each row begins with a whole
 * one: it is not enough that all rows together are whole, as they may begin with any. */
static void move_rows(Gen *g, LLVMValueRef src, LLVMValueRef dst, int64_t rows, int64_t n) {
    int width = n % 4 == 0 ? 4 : 1;
    Loop i = gen_loop(g, gen_mul(g, nv_thread(g), width), gen_i64(g, rows * n), (int64_t)ROW_THREADS * width,
                      "col");
    nv_store_elements(g, nv_load_elements(g, g->f32, src, i.i, width), dst, i.i);
    gen_loop_end(g, &i);
}

/* Row pos[tile] of s rows of n columns of sequence number `tile`. */
static LLVMValueRef row_at_pos(Gen *g, LLVMValueRef base, LLVMValueRef pos, int64_t s, int64_t n) {
    LLVMValueRef row = LLVMBuildZExt(g->b, gen_load(g, g->i32, gen_at(g, g->i32, pos, g->tile)), g->i64, "");
    return gen_at(g, g->f32, base, gen_mul(g, gen_add(g, gen_mul(g, g->tile, s), row), n));
}

static LLVMValueRef floats_of_tile(Gen *g, LLVMValueRef base, int64_t n) {
    return gen_at(g, g->f32, base, gen_mul(g, g->tile, n));
}

NvGrid nv_take_row_grid(const TakeRowDesc *d, const Target *target) {
    (void)target;
    return (NvGrid){.blocks = (uint32_t)d->b, .threads = ROW_THREADS};
}

void nv_gen_take_row(Gen *g, const char *name, const TakeRowDesc *d) {
    nv_kernel(g, name, 3, ROW_THREADS);
    LLVMValueRef src = row_at_pos(g, gen_buffer(g, 0), gen_buffer(g, 1), d->s, d->n);
    move_rows(g, src, floats_of_tile(g, gen_buffer(g, 2), d->rows * d->n), d->rows, d->n);
    gen_end(g);
}

NvGrid nv_cache_row_grid(const CacheRowDesc *d, const Target *target) {
    (void)target;
    return (NvGrid){.blocks = (uint32_t)d->b, .threads = ROW_THREADS};
}

void nv_gen_cache_row(Gen *g, const char *name, const CacheRowDesc *d) {
    nv_kernel(g, name, 3, ROW_THREADS);
    LLVMValueRef dst = row_at_pos(g, gen_buffer(g, 2), gen_buffer(g, 1), d->s, d->n);
    move_rows(g, floats_of_tile(g, gen_buffer(g, 0), d->rows * d->n), dst, d->rows, d->n);
    gen_end(g);
}
