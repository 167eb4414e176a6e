/* Kernels, threads and shared memory of NVIDIA GPUs in terms of LLVM's intrinsics. */
#include "nv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PTX_KERNEL = 71 }; /* LLVM's calling convention of an .entry */

/* ---- a kernel */

static void annotate(Gen *g, const char *key, int64_t value) {
    LLVMMetadataRef parts[] = {LLVMValueAsMetadata(g->fn), LLVMMDStringInContext2(g->ctx, key, strlen(key)),
                               LLVMValueAsMetadata(gen_i32(g, value))};
    LLVMMetadataRef node = LLVMMDNodeInContext2(g->ctx, parts, 3);
    LLVMAddNamedMetadataOperand(g->mod, "nvvm.annotations", LLVMMetadataAsValue(g->ctx, node));
}

static LLVMValueRef special(Gen *g, const char *name) {
    return LLVMBuildZExt(g->b, gen_intrinsic(g, name, NULL, NULL, 0), g->i64, "");
}

void nv_kernel(Gen *g, const char *name, unsigned nargs, uint32_t threads) {
    LLVMTypeRef *params = xcalloc(nargs + 1, sizeof *params);
    for (unsigned i = 0; i < nargs; i++) params[i] = LLVMPointerTypeInContext(g->ctx, NV_GLOBAL);
    LLVMValueRef fn = gen_define(g, name, LLVMFunctionType(g->void_, params, nargs, false));
    free(params);
    LLVMSetFunctionCallConv(fn, PTX_KERNEL);
    annotate(g, "maxntidx", threads);
    g->tile = special(g, "llvm.nvvm.read.ptx.sreg.ctaid.x");
}

void nv_noalias(Gen *g) {
    unsigned kind = LLVMGetEnumAttributeKindForName("noalias", 7);
    LLVMAttributeRef noalias = LLVMCreateEnumAttribute(g->ctx, kind, 0);
    for (unsigned i = 0; i < LLVMCountParams(g->fn); i++) LLVMAddAttributeAtIndex(g->fn, i + 1, noalias);
}

void nv_min_blocks(Gen *g, uint32_t blocks) {
    annotate(g, "minctasm", blocks);
}

LLVMValueRef nv_thread(Gen *g) {
    return special(g, "llvm.nvvm.read.ptx.sreg.tid.x");
}
LLVMValueRef nv_lane(Gen *g) {
    return gen_mod(g, nv_thread(g), NV_WARP);
}
LLVMValueRef nv_warp(Gen *g) {
    return gen_div(g, nv_thread(g), NV_WARP);
}

LLVMValueRef nv_is_thread(Gen *g, int64_t index) {
    return LLVMBuildICmp(g->b, LLVMIntEQ, nv_thread(g), gen_i64(g, index), "");
}

/* ---- memory */

LLVMValueRef nv_load(Gen *g, LLVMTypeRef type, LLVMValueRef ptr, unsigned align) {
    LLVMValueRef v = LLVMBuildLoad2(g->b, type, ptr, "");
    LLVMSetAlignment(v, align);
    return v;
}

void nv_store(Gen *g, LLVMValueRef value, LLVMValueRef ptr, unsigned align) {
    LLVMSetAlignment(LLVMBuildStore(g->b, value, ptr), align);
}

static LLVMValueRef shared_array(Gen *g, uint64_t bytes, unsigned align, const char *name) {
    LLVMValueRef at = LLVMAddGlobalInAddressSpace(g->mod, LLVMArrayType2(g->i8, bytes), name, NV_SHARED);
    LLVMSetAlignment(at, align);
    return at;
}

LLVMValueRef nv_shared(Gen *g, int64_t bytes, unsigned align, const char *name) {
    LLVMValueRef at = shared_array(g, (uint64_t)bytes, align, name);
    LLVMSetLinkage(at, LLVMInternalLinkage);
    LLVMSetInitializer(at, LLVMGetUndef(LLVMGlobalGetValueType(at)));
    return at;
}

LLVMValueRef nv_dynamic_shared(Gen *g) {
    static const char name[] = "dynamic_shared";
    LLVMValueRef at = LLVMGetNamedGlobal(g->mod, name);
    return at ? at : shared_array(g, 0, 128, name);
}

/* ---- asynchronous copies */

void nv_copy(Gen *g, LLVMValueRef to, LLVMValueRef from, int bytes, LLVMValueRef inside) {
    char name[64]; /* 16 bytes go past the first cache */
    snprintf(name, sizeof name, "llvm.nvvm.cp.async.%s.shared.global.%d%s", bytes == 16 ? "cg" : "ca", bytes,
             inside ? ".s" : "");
    LLVMValueRef args[] = {to, from, NULL};
    if (inside) args[2] = LLVMBuildSelect(g->b, inside, gen_i32(g, bytes), gen_i32(g, 0), "");
    gen_intrinsic(g, name, NULL, args, inside ? 3 : 2);
}

void nv_copies_commit(Gen *g) {
    gen_intrinsic(g, "llvm.nvvm.cp.async.commit.group", NULL, NULL, 0);
}

void nv_copies_wait(Gen *g, int running) {
    LLVMValueRef n = gen_i32(g, running);
    gen_intrinsic(g, "llvm.nvvm.cp.async.wait.group", NULL, &n, 1);
}

/* ---- threads together */

void nv_barrier(Gen *g) {
    gen_intrinsic(g, "llvm.nvvm.barrier0", NULL, NULL, 0);
}

static LLVMValueRef all_lanes(Gen *g) {
    return gen_i32(g, -1);
}

void nv_warp_barrier(Gen *g) {
    LLVMValueRef mask = all_lanes(g);
    gen_intrinsic(g, "llvm.nvvm.bar.warp.sync", NULL, &mask, 1);
}

LLVMValueRef nv_ballot(Gen *g, LLVMValueRef x) {
    LLVMValueRef args[] = {all_lanes(g), x};
    return gen_intrinsic(g, "llvm.nvvm.vote.ballot.sync", NULL, args, 2);
}

static LLVMValueRef shuffle_word(Gen *g, LLVMValueRef lanes, LLVMValueRef value, unsigned mask) {
    LLVMValueRef args[] = {lanes, value, gen_i32(g, mask), gen_i32(g, NV_WARP - 1)};
    bool real = LLVMTypeOf(value) == g->f32;
    return gen_intrinsic(g, real ? "llvm.nvvm.shfl.sync.bfly.f32" : "llvm.nvvm.shfl.sync.bfly.i32", NULL,
                         args, 4);
}

/* Among the lanes whose bits are set in `lanes`. */
static LLVMValueRef shuffle(Gen *g, LLVMValueRef lanes, LLVMValueRef value, unsigned mask) {
    LLVMTypeRef type = LLVMTypeOf(value), pair = gen_vec(g, g->i32, 2);
    if (LLVMGetTypeKind(type) != LLVMDoubleTypeKind) return shuffle_word(g, lanes, value, mask);
    LLVMValueRef words = LLVMBuildBitCast(g->b, value, pair, ""), out = LLVMGetPoison(pair);
    for (int i = 0; i < 2; i++) {
        LLVMValueRef word = LLVMBuildExtractElement(g->b, words, gen_i32(g, i), "");
        out = LLVMBuildInsertElement(g->b, out, shuffle_word(g, lanes, word, mask), gen_i32(g, i), "");
    }
    return LLVMBuildBitCast(g->b, out, type, "");
}

LLVMValueRef nv_shuffle_xor(Gen *g, LLVMValueRef value, unsigned mask) {
    return shuffle(g, all_lanes(g), value, mask);
}

LLVMValueRef nv_fold(Gen *g, NvFold fold, LLVMValueRef a, LLVMValueRef b) {
    return fold == NV_MAX ? gen_fmax(g, a, b) : LLVMBuildFAdd(g->b, a, b, "");
}

static LLVMValueRef fold_lanes(Gen *g, LLVMValueRef lanes, NvFold fold, LLVMValueRef value, unsigned width) {
    for (unsigned mask = width / 2; mask; mask /= 2)
        value = nv_fold(g, fold, value, shuffle(g, lanes, value, mask));
    return value;
}

LLVMValueRef nv_warp_fold(Gen *g, NvFold fold, LLVMValueRef value, unsigned width) {
    return fold_lanes(g, all_lanes(g), fold, value, width);
}

/* ---- groups */

NvGroup nv_group(Gen *g, uint32_t width, uint32_t threads) {
    LLVMValueRef thread = nv_thread(g);
    return (NvGroup){width, threads, gen_div(g, thread, width), gen_mod(g, thread, width), false};
}

/* The lanes of the group that are in this thread's warp, as bits. */
static LLVMValueRef lanes_of(Gen *g, const NvGroup *group) {
    if (group->width >= NV_WARP) return all_lanes(g);
    LLVMValueRef first = gen_mul(g, gen_mod(g, group->index, NV_WARP / group->width), group->width);
    return LLVMBuildShl(g->b, gen_i32(g, (1 << group->width) - 1), LLVMBuildTrunc(g->b, first, g->i32, ""),
                        "");
}

/* Barrier 0 is the whole block's. */
void nv_group_barrier(Gen *g, const NvGroup *group) {
    if (group->width == 1) return;
    if (group->width <= NV_WARP) {
        LLVMValueRef lanes = lanes_of(g, group);
        gen_intrinsic(g, "llvm.nvvm.bar.warp.sync", NULL, &lanes, 1);
    } else if (group->width == group->threads) {
        nv_barrier(g);
    } else {
        LLVMValueRef barrier = LLVMBuildTrunc(g->b, gen_add(g, group->index, gen_i64(g, 1)), g->i32, "");
        LLVMValueRef args[] = {barrier, gen_i32(g, group->width)};
        gen_intrinsic(g, "llvm.nvvm.barrier", NULL, args, 2);
    }
}

/* Each warp has a slot of 8 bytes for each value; a fold that comes again waits until its slots have been
 * read. */
void nv_group_fold(Gen *g, const NvGroup *group, const NvFold *fold, LLVMValueRef *values, unsigned n) {
    LLVMValueRef lanes = lanes_of(g, group);
    uint32_t all = group->threads / NV_WARP, warps = group->width / NV_WARP;
    for (unsigned i = 0; i < n; i++)
        values[i] = fold_lanes(g, lanes, fold[i], values[i], group->width < NV_WARP ? group->width : NV_WARP);
    if (n == 0 || warps <= 1) return;
    LLVMTypeRef slot = LLVMDoubleTypeInContext(g->ctx);
    LLVMValueRef slots = nv_shared(g, (int64_t)all * n * 8, 8, "folds"), warp = nv_warp(g);
    if (group->repeats) nv_group_barrier(g, group);
    If first = gen_if(g, LLVMBuildICmp(g->b, LLVMIntEQ, nv_lane(g), gen_i64(g, 0), ""));
    for (unsigned i = 0; i < n; i++)
        gen_store(g, values[i], gen_at(g, slot, slots, gen_add(g, warp, gen_i64(g, (int64_t)i * all))));
    gen_if_end(g, &first);
    nv_group_barrier(g, group);
    for (unsigned i = 0; i < n; i++) {
        LLVMTypeRef type = LLVMTypeOf(values[i]);
        LLVMValueRef part[NV_WARP], start = gen_mul(g, group->index, warps);
        for (uint32_t w = 0; w < warps; w++) {
            LLVMValueRef at = gen_add(g, start, gen_i64(g, (int64_t)(i * all + w)));
            part[w] = gen_load(g, type, gen_at(g, slot, slots, at));
        }
        for (uint32_t step = 1; step < warps; step *= 2)
            for (uint32_t w = 0; w + step < warps; w += 2 * step)
                part[w] = nv_fold(g, fold[i], part[w], part[w + step]);
        values[i] = part[0];
    }
}

/* ---- arrays */

uint32_t nv_element_blocks(int64_t count) {
    const int64_t each = 4 * NV_ELEMENT_THREADS;
    return (uint32_t)((count + each - 1) / each);
}

void nv_elements(Gen *g, int64_t count, NvElements *body, void *context) {
    LLVMValueRef thread = gen_add(g, gen_mul(g, g->tile, NV_ELEMENT_THREADS), nv_thread(g));
    LLVMValueRef i = gen_mul(g, thread, 4), end = gen_i64(g, count);
    If whole = gen_if(g, gen_less(g, i, gen_i64(g, count / 4 * 4)));
    body(g, context, i, 4);
    if (count % 4) {
        gen_else(g, &whole);
        Loop rest = gen_loop(g, i, end, 1, "rest"); /* nothing for threads behind the end */
        body(g, context, rest.i, 1);
        gen_loop_end(g, &rest);
    }
    gen_if_end(g, &whole);
}

LLVMValueRef nv_load_bf16(Gen *g, LLVMValueRef base, LLVMValueRef i, int width) {
    return gen_widen(g,
                     nv_load(g, gen_vec(g, g->i16, width), gen_at(g, g->i16, base, i), (unsigned)width * 2));
}

LLVMValueRef nv_load_elements(Gen *g, LLVMTypeRef elem, LLVMValueRef base, LLVMValueRef i, int width) {
    return nv_load(g, gen_vec(g, elem, width), gen_at(g, elem, base, i), (unsigned)width * 4);
}

void nv_store_elements(Gen *g, LLVMValueRef value, LLVMValueRef base, LLVMValueRef i) {
    LLVMTypeRef type = LLVMTypeOf(value), elem = type;
    unsigned width = 1;
    if (LLVMGetTypeKind(type) == LLVMVectorTypeKind)
        elem = LLVMGetElementType(type), width = LLVMGetVectorSize(type);
    nv_store(g, value, gen_at(g, elem, base, i), width * 4);
}

/* ---- approximate functions */

LLVMValueRef nv_ex2(Gen *g, LLVMValueRef x) {
    return gen_intrinsic(g, "llvm.nvvm.ex2.approx.f", NULL, &x, 1);
}
LLVMValueRef nv_lg2(Gen *g, LLVMValueRef x) {
    return gen_intrinsic(g, "llvm.nvvm.lg2.approx.f", NULL, &x, 1);
}
LLVMValueRef nv_rcp(Gen *g, LLVMValueRef x) {
    return gen_intrinsic(g, "llvm.nvvm.rcp.approx.ftz.f", NULL, &x, 1);
}
LLVMValueRef nv_rsqrt(Gen *g, LLVMValueRef x) {
    return gen_intrinsic(g, "llvm.nvvm.rsqrt.approx.f", NULL, &x, 1);
}
