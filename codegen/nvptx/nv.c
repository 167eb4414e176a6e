/* Kernels, threads and shared memory of NVIDIA GPUs in terms of LLVM's intrinsics. */
#include "nv.h"
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

static LLVMValueRef shuffle_word(Gen *g, LLVMValueRef value, unsigned mask) {
    LLVMValueRef args[] = {all_lanes(g), value, gen_i32(g, mask), gen_i32(g, NV_WARP - 1)};
    bool real = LLVMTypeOf(value) == g->f32;
    return gen_intrinsic(g, real ? "llvm.nvvm.shfl.sync.bfly.f32" : "llvm.nvvm.shfl.sync.bfly.i32", NULL,
                         args, 4);
}

LLVMValueRef nv_shuffle_xor(Gen *g, LLVMValueRef value, unsigned mask) {
    LLVMTypeRef type = LLVMTypeOf(value), pair = gen_vec(g, g->i32, 2);
    if (LLVMGetTypeKind(type) != LLVMDoubleTypeKind) return shuffle_word(g, value, mask);
    LLVMValueRef words = LLVMBuildBitCast(g->b, value, pair, ""), out = LLVMGetPoison(pair);
    for (int i = 0; i < 2; i++) {
        LLVMValueRef word = LLVMBuildExtractElement(g->b, words, gen_i32(g, i), "");
        out = LLVMBuildInsertElement(g->b, out, shuffle_word(g, word, mask), gen_i32(g, i), "");
    }
    return LLVMBuildBitCast(g->b, out, type, "");
}

LLVMValueRef nv_fold(Gen *g, NvFold fold, LLVMValueRef a, LLVMValueRef b) {
    return fold == NV_OR    ? LLVMBuildOr(g->b, a, b, "")
           : fold == NV_MAX ? gen_fmax(g, a, b)
                            : LLVMBuildFAdd(g->b, a, b, "");
}

LLVMValueRef nv_warp_fold(Gen *g, NvFold fold, LLVMValueRef value, unsigned width) {
    for (unsigned mask = width / 2; mask; mask /= 2)
        value = nv_fold(g, fold, value, nv_shuffle_xor(g, value, mask));
    return value;
}

/* One slot of 8 bytes for each value of each warp; the barrier in front lets a second fold use them again. */
void nv_group_fold(Gen *g, const NvFold *fold, LLVMValueRef *values, unsigned n, uint32_t width,
                   uint32_t threads) {
    uint32_t warps = threads / NV_WARP, in_group = width / NV_WARP;
    for (unsigned i = 0; i < n; i++)
        values[i] = nv_warp_fold(g, fold[i], values[i], width < NV_WARP ? width : NV_WARP);
    if (n == 0 || in_group <= 1) return;
    LLVMTypeRef slot = LLVMDoubleTypeInContext(g->ctx);
    LLVMValueRef folds = nv_shared(g, (int64_t)warps * n * 8, 8, "folds"), warp = nv_warp(g);
    nv_barrier(g);
    If first = gen_if(g, LLVMBuildICmp(g->b, LLVMIntEQ, nv_lane(g), gen_i64(g, 0), ""));
    for (unsigned i = 0; i < n; i++)
        gen_store(g, values[i], gen_at(g, slot, folds, gen_add(g, warp, gen_i64(g, (int64_t)i * warps))));
    gen_if_end(g, &first);
    nv_barrier(g);
    LLVMValueRef group = gen_mul(g, gen_div(g, warp, in_group), in_group); /* its first warp */
    for (unsigned i = 0; i < n; i++) {
        LLVMTypeRef type = LLVMTypeOf(values[i]);
        LLVMValueRef part[NV_WARP];
        for (uint32_t w = 0; w < in_group; w++) {
            LLVMValueRef at = gen_add(g, group, gen_i64(g, (int64_t)(i * warps + w)));
            part[w] = gen_load(g, type, gen_at(g, slot, folds, at));
        }
        for (uint32_t step = 1; step < in_group; step *= 2)
            for (uint32_t w = 0; w + step < in_group; w += 2 * step)
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
    If whole = gen_if(g, LLVMBuildICmp(g->b, LLVMIntSLT, i, gen_i64(g, count / 4 * 4), ""));
    body(g, context, i, 4);
    if (count % 4) {
        gen_else(g, &whole);
        Loop rest = gen_loop(g, i, end, 1, "rest"); /* nothing for threads behind the end */
        body(g, context, rest.i, 1);
        gen_loop_end(g, &rest);
    }
    gen_if_end(g, &whole);
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
