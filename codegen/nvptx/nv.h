/* Kernels for NVIDIA GPUs: what their generators share, and the generators.
 *
 * A generator turns the same descriptor as on a CPU (gen.h) into one PTX entry
 *     .entry name(.param .u64 p0, .param .u64 p1, ..)
 * with a device address for each argument of the launch. A launch has one block a tile; next to each
 * generator stands <kind>_grid, which says how many blocks and of what size. The helpers of gen.h for
 * indices, memory, loops and arithmetic serve here too: they emit scalar code of one thread, and pointers
 * carry their address space. Arithmetic rounds like that of a CPU (add.rn, fma.rn, div.rn, no flush of
 * subnormals) unless it is one of the approximate functions below.
 *
 * Results must not depend on which warp comes first: an element is written by one fixed thread, sums have a
 * fixed order, and there are no atomics. */
#ifndef TBC_NV_H
#define TBC_NV_H

#include "../gen.h"

enum { NV_WARP = 32 };
/* Address spaces. Parameters and what gen_at makes of them are global. */
enum { NV_GLOBAL = 1, NV_SHARED = 3 };

/* What a launch takes: blocks of `threads` threads with `shared` bytes of dynamic shared memory each. */
typedef struct NvGrid {
    uint32_t blocks, threads, shared;
} NvGrid;

/* ---- a kernel */

/* Begins a kernel of `nargs` parameters and blocks of `threads`: creates the entry and leaves the builder in
 * its body; gen_end ends it. gen_buffer(g, i) is parameter i, 64-byte aligned, in global memory; g->tile is
 * the block's index (i64). */
void nv_kernel(Gen *, const char *name, unsigned nargs, uint32_t threads);
/* Promises that no element that the kernel writes is reached through two parameters, so that loads may go
 * before stores and through the read-only cache. */
void nv_noalias(Gen *);
/* Asks for registers few enough that `blocks` blocks fit on a multiprocessor. */
void nv_min_blocks(Gen *, uint32_t blocks);

/* i64: the thread's index in the block; its lane, and its warp's index. */
LLVMValueRef nv_thread(Gen *), nv_lane(Gen *), nv_warp(Gen *);
LLVMValueRef nv_is_thread(Gen *, int64_t index); /* i1 */

/* ---- memory */

/* Loads and stores that may rely on more than the element's alignment: 16 for four f32 at once. */
LLVMValueRef nv_load(Gen *, LLVMTypeRef, LLVMValueRef ptr, unsigned align);
void nv_store(Gen *, LLVMValueRef value, LLVMValueRef ptr, unsigned align);
/* Static shared memory of the kernel, uninitialised. At most 48 KB in all. */
LLVMValueRef nv_shared(Gen *, int64_t bytes, unsigned align, const char *name);
/* The dynamic shared memory of NvGrid.shared bytes, 128-byte aligned. */
LLVMValueRef nv_dynamic_shared(Gen *);

/* ---- asynchronous copies, cp.async
 *
 * A thread's copies since its last commit are a group; a group is there for that thread when it has waited,
 * and for the others after a barrier as well. */

/* Starts to copy 4, 8 or 16 bytes (aligned to that) from global to shared memory; zeros where the i1 `inside`
 * is false: then `from` is not read. NULL: it never is. */
void nv_copy(Gen *, LLVMValueRef to, LLVMValueRef from, int bytes, LLVMValueRef inside);
void nv_copies_commit(Gen *);
/* Waits until at most the `running` last groups of the thread are on their way. */
void nv_copies_wait(Gen *, int running);

/* ---- threads together */

/* All threads of the block get here before any goes on, and see what was written before. All must come. */
void nv_barrier(Gen *);
/* The same for the 32 lanes of a warp. */
void nv_warp_barrier(Gen *);
/* The value (f32, f64 or i32) of lane (own lane xor mask), mask < 32. All 32 lanes must come. */
LLVMValueRef nv_shuffle_xor(Gen *, LLVMValueRef value, unsigned mask);

/* i32: bit l is set where lane l has a true i1. All 32 lanes must come. */
LLVMValueRef nv_ballot(Gen *, LLVMValueRef);

typedef enum NvFold { NV_ADD, NV_MAX } NvFold;
LLVMValueRef nv_fold(Gen *, NvFold, LLVMValueRef a, LLVMValueRef b);
/* The values (f32 or f64) of `width` neighbouring lanes, a power of two up to 32, folded pairwise: distance
 * width/2 first, then half of that, .. Each of the lanes gets the result. All 32 lanes must come. */
LLVMValueRef nv_warp_fold(Gen *, NvFold, LLVMValueRef value, unsigned width);

/* Threads that work together: `width` neighbours in a block of `threads`. A power of two up to 32, or a
 * multiple of 32 that divides `threads` and leaves at most 15 groups. The groups of a block need not do the
 * same. */
typedef struct NvGroup {
    uint32_t width, threads;
    LLVMValueRef index, member; /* i64: of the group in its block; of this thread in its group */
    bool repeats;               /* its folds stand in a loop */
} NvGroup;
NvGroup nv_group(Gen *, uint32_t width, uint32_t threads);
/* nv_barrier among the members of the group. */
void nv_group_barrier(Gen *, const NvGroup *);
/* Folds n values (f32 or f64) over the group: within warps as nv_warp_fold does, then over the warps. Each
 * member gets the results; all must come. */
void nv_group_fold(Gen *, const NvGroup *, const NvFold *, LLVMValueRef *values, unsigned n);

/* ---- arrays
 *
 * Element by element, four neighbours a thread. */

/* Emits the work on elements i .. i+width-1; width is 4 (and i a multiple of it) or 1. */
typedef void NvElements(Gen *, void *context, LLVMValueRef i, int width);
/* In a launch of nv_element_blocks(count) blocks of NV_ELEMENT_THREADS: the work on all `count` elements. The
 * body is emitted a second time for the last ones, if count is no multiple of 4. */
enum { NV_ELEMENT_THREADS = 256 };
uint32_t nv_element_blocks(int64_t count);
void nv_elements(Gen *, int64_t count, NvElements *, void *context);
/* Loads or stores `width` f32 or i32 (the value's type says which) from element i of an array of them on. */
LLVMValueRef nv_load_elements(Gen *, LLVMTypeRef elem, LLVMValueRef base, LLVMValueRef i, int width);
/* The same of an array of bf16, as f32. */
LLVMValueRef nv_load_bf16(Gen *, LLVMValueRef base, LLVMValueRef i, int width);
void nv_store_elements(Gen *, LLVMValueRef value, LLVMValueRef base, LLVMValueRef i);

/* ---- approximate functions of f32 scalars: an instruction or two, errors as the PTX ISA documents them */

LLVMValueRef nv_ex2(Gen *, LLVMValueRef), nv_lg2(Gen *, LLVMValueRef); /* 2^x, log2 x */
LLVMValueRef nv_rcp(Gen *, LLVMValueRef), nv_rsqrt(Gen *, LLVMValueRef);

/* ---- generators */

#define NV_GENERATOR(kind, Desc)                                                                             \
    void nv_gen_##kind(Gen *, const char *name, const Desc *);                                               \
    NvGrid nv_##kind##_grid(const Desc *, const Target *);
COMMON_KINDS(NV_GENERATOR)
#undef NV_GENERATOR

#endif
