/* The one LLVM context: types, memory, loops, and whole modules from IR to object code. */
#include "gen.h"
#include <llvm-c/Analysis.h>
#include <llvm-c/ErrorHandling.h>
#include <llvm-c/Support.h>
#include <llvm-c/Target.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <stdlib.h>
#include <string.h>

/* ---- modules */

static void fatal(const char *message) {
    ice("LLVM: %s", message);
}

static LLVMTargetMachineRef new_machine(const Target *t) {
#define INITIALIZE(name)                                                                                     \
    (LLVMInitialize##name##TargetInfo(), LLVMInitialize##name##Target(), LLVMInitialize##name##TargetMC(),   \
     LLVMInitialize##name##AsmPrinter())
    INITIALIZE(X86);
    INITIALIZE(NVPTX);
#undef INITIALIZE
    LLVMTargetRef target;
    char *message = NULL;
    if (LLVMGetTargetFromTriple(t->triple, &target, &message)) ice("LLVM: %s", message);
    const char *level = t->expansion ? t->expansion->level : t->level,
               *features = t->expansion ? t->expansion->features : t->features;
    return LLVMCreateTargetMachine(target, t->triple, level, features, LLVMCodeGenLevelAggressive,
                                   LLVMRelocPIC, LLVMCodeModelDefault);
}

Gen *gen_new(const Target *target, const char *module_name) {
    LLVMInstallFatalErrorHandler(fatal); /* "Cannot select" and the like are bugs of ours */
    Gen *g = xcalloc(1, sizeof *g);
    g->target = target;
    g->ctx = LLVMContextCreate();
    g->mod = LLVMModuleCreateWithNameInContext(module_name, g->ctx);
    g->b = LLVMCreateBuilderInContext(g->ctx);
    g->machine = new_machine(target);
    LLVMSetTarget(g->mod, target->triple);
    LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(g->machine);
    LLVMSetModuleDataLayout(g->mod, layout);
    LLVMDisposeTargetData(layout);
    g->void_ = LLVMVoidTypeInContext(g->ctx);
    g->i1 = LLVMInt1TypeInContext(g->ctx);
    g->i8 = LLVMInt8TypeInContext(g->ctx);
    g->i16 = LLVMInt16TypeInContext(g->ctx);
    g->i32 = LLVMInt32TypeInContext(g->ctx);
    g->i64 = LLVMInt64TypeInContext(g->ctx);
    g->f16 = LLVMHalfTypeInContext(g->ctx);
    g->f32 = LLVMFloatTypeInContext(g->ctx);
    g->ptr = LLVMPointerTypeInContext(g->ctx, 0);
    return g;
}

void gen_free(Gen *g) {
    if (!g) return;
    LLVMDisposeBuilder(g->b);
    LLVMDisposeModule(g->mod);
    LLVMDisposeTargetMachine(g->machine);
    LLVMContextDispose(g->ctx);
    free(g);
}

/* On a GPU a vector is loaded by one instruction: LLVM's pass vector-combine may not look for loads whose lanes
 * it could load one by one, which takes four times as long, and as much again for conflicts of shared memory's
 * banks. A setting of the whole process. */
static void keep_vector_loads(void) {
    static bool done;
    const char *const args[] = {"tbc", "-vector-combine-max-scan-instrs=0"};
    if (!done) LLVMParseCommandLineOptions(2, args, NULL);
    done = true;
}

void gen_optimize(Gen *g) {
    char *message = NULL;
    if (g->target->sm) keep_vector_loads();
    if (LLVMVerifyModule(g->mod, LLVMReturnStatusAction, &message))
        ice("generated LLVM IR is broken: %s", message);
    LLVMDisposeMessage(message);
    /* Kernels come vectorised and unrolled as they should be: those passes would only grow the tails. */
    LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
    LLVMPassBuilderOptionsSetLoopVectorization(options, false);
    LLVMPassBuilderOptionsSetSLPVectorization(options, false);
    LLVMPassBuilderOptionsSetLoopUnrolling(options, false);
    LLVMErrorRef error = LLVMRunPasses(g->mod, "default<O2>", g->machine, options);
    if (error) ice("LLVM: %s", LLVMGetErrorMessage(error));
    LLVMDisposePassBuilderOptions(options);
}

LLVMMemoryBufferRef gen_assemble(Gen *g, bool text, Diag *diag) {
    LLVMMemoryBufferRef out = NULL;
    char *message = NULL;
    if (LLVMTargetMachineEmitToMemoryBuffer(g->machine, g->mod, text ? LLVMAssemblyFile : LLVMObjectFile,
                                            &message, &out)) {
        diag_error(diag, NULL, 0, 0, "LLVM cannot emit code: %s", message);
        LLVMDisposeMessage(message);
        return NULL;
    }
    return out;
}

/* ---- functions */

static void set_attribute(Gen *g, LLVMValueRef fn, const char *key, const char *value) {
    LLVMAddAttributeAtIndex(
        fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
        LLVMCreateStringAttribute(g->ctx, key, (unsigned)strlen(key), value, (unsigned)strlen(value)));
}

LLVMValueRef gen_define(Gen *g, const char *name, LLVMTypeRef type) {
    LLVMValueRef fn = LLVMAddFunction(g->mod, name, type);
    if (!g->target->sm) set_attribute(g, fn, "tune-cpu", g->target->cpu);
    if (g->target->vl == 16) { /* or LLVM halves our vectors where it thinks that 512 bits cost clock speed */
        set_attribute(g, fn, "prefer-vector-width", "512");
        set_attribute(g, fn, "min-legal-vector-width", "512");
    }
    unsigned nounwind = LLVMGetEnumAttributeKindForName("nounwind", 8);
    LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                            LLVMCreateEnumAttribute(g->ctx, nounwind, 0));
    g->fn = fn;
    LLVMPositionBuilderAtEnd(g->b, LLVMAppendBasicBlockInContext(g->ctx, fn, "entry"));
    LLVMBasicBlockRef body = LLVMAppendBasicBlockInContext(g->ctx, fn, "body");
    LLVMPositionBuilderAtEnd(g->b, body); /* entry holds the allocas; gen_end closes it */
    return fn;
}

/* Joins the block of allocas to the body, once all allocas are known. */
static void close_entry(Gen *g) {
    LLVMBasicBlockRef here = LLVMGetInsertBlock(g->b), entry = LLVMGetEntryBasicBlock(g->fn);
    LLVMPositionBuilderAtEnd(g->b, entry);
    LLVMBuildBr(g->b, LLVMGetNextBasicBlock(entry));
    LLVMPositionBuilderAtEnd(g->b, here);
}

void gen_kernel(Gen *g, const char *name) {
    LLVMTypeRef params[] = {g->ptr, g->ptr, g->i64, g->ptr};
    LLVMValueRef fn = gen_define(g, name, LLVMFunctionType(g->void_, params, 4, false));
    g->arena = LLVMGetParam(fn, 0);
    g->args = LLVMGetParam(fn, 1);
    g->tile = LLVMGetParam(fn, 2);
    g->scratch = LLVMGetParam(fn, 3);
}

void gen_end(Gen *g) {
    close_entry(g);
    LLVMBuildRetVoid(g->b);
    LLVMClearInsertionPosition(g->b);
}

LLVMValueRef gen_function(Gen *g, const char *name, LLVMTypeRef type, bool *exists, Gen *saved) {
    LLVMValueRef fn = LLVMGetNamedFunction(g->mod, name);
    *exists = fn != NULL;
    if (fn) return fn;
    *saved = *g;
    saved->resume = LLVMGetInsertBlock(g->b);
    fn = gen_define(g, name, type);
    LLVMSetLinkage(fn, LLVMInternalLinkage);
    return fn;
}

void gen_function_end(Gen *g, const Gen *saved) {
    gen_end(g);
    *g = *saved;
    if (saved->resume) LLVMPositionBuilderAtEnd(g->b, saved->resume);
}

void gen_noinline(Gen *g, LLVMValueRef fn) {
    unsigned kind = LLVMGetEnumAttributeKindForName("noinline", strlen("noinline"));
    LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                            LLVMCreateEnumAttribute(g->ctx, kind, 0));
}

LLVMValueRef gen_call(Gen *g, LLVMValueRef fn, LLVMValueRef *args, unsigned n) {
    return LLVMBuildCall2(g->b, LLVMGlobalGetValueType(fn), fn, args, n, "");
}

/* ---- constants and vectors */

LLVMValueRef gen_i32(Gen *g, int64_t x) {
    return LLVMConstInt(g->i32, (uint64_t)x, true);
}
LLVMValueRef gen_i64(Gen *g, int64_t x) {
    return LLVMConstInt(g->i64, (uint64_t)x, true);
}
LLVMValueRef gen_f32(Gen *g, double x) {
    return LLVMConstReal(g->f32, (float)x);
}

LLVMTypeRef gen_vec(Gen *g, LLVMTypeRef elem, int n) {
    (void)g;
    return n == 1 ? elem : LLVMVectorType(elem, (unsigned)n);
}

LLVMValueRef gen_splat(Gen *g, LLVMValueRef scalar, int n) {
    if (n == 1) return scalar;
    LLVMTypeRef type = LLVMVectorType(LLVMTypeOf(scalar), (unsigned)n);
    LLVMValueRef v = LLVMBuildInsertElement(g->b, LLVMGetPoison(type), scalar, gen_i32(g, 0), "");
    LLVMValueRef zeros = LLVMConstNull(LLVMVectorType(g->i32, (unsigned)n));
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(type), zeros, "");
}

LLVMValueRef gen_iota(Gen *g, LLVMTypeRef elem, int n) {
    LLVMValueRef lanes[64];
    for (int i = 0; i < n; i++) lanes[i] = LLVMConstInt(elem, (uint64_t)i, false);
    (void)g;
    return n == 1 ? lanes[0] : LLVMConstVector(lanes, (unsigned)n);
}

/* ---- index arithmetic */

LLVMValueRef gen_add(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    return LLVMBuildNSWAdd(g->b, a, b, "");
}
LLVMValueRef gen_sub(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    return LLVMBuildNSWSub(g->b, a, b, "");
}
LLVMValueRef gen_mul(Gen *g, LLVMValueRef a, int64_t b) {
    return LLVMBuildNSWMul(g->b, a, gen_i64(g, b), "");
}
/* Indices are never negative, and unsigned division by a constant is the cheaper one. */
LLVMValueRef gen_div(Gen *g, LLVMValueRef a, int64_t b) {
    return LLVMBuildUDiv(g->b, a, gen_i64(g, b), "");
}
LLVMValueRef gen_mod(Gen *g, LLVMValueRef a, int64_t b) {
    return LLVMBuildURem(g->b, a, gen_i64(g, b), "");
}

LLVMValueRef gen_less(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    return LLVMBuildICmp(g->b, LLVMIntSLT, a, b, "");
}

LLVMValueRef gen_min(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    return LLVMBuildSelect(g->b, gen_less(g, a, b), a, b, "");
}

LLVMValueRef gen_max(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    return LLVMBuildSelect(g->b, LLVMBuildICmp(g->b, LLVMIntSGT, a, b, ""), a, b, "");
}

/* ---- memory */

LLVMValueRef gen_at(Gen *g, LLVMTypeRef elem, LLVMValueRef base, LLVMValueRef i) {
    return LLVMBuildInBoundsGEP2(g->b, elem, base, &i, 1, "");
}

LLVMValueRef gen_buffer(Gen *g, unsigned i) {
    if (g->target->sm) return LLVMGetParam(g->fn, i);
    LLVMValueRef offset = gen_load(g, g->i64, gen_at(g, g->i64, g->args, gen_i64(g, i)));
    unsigned invariant = LLVMGetMDKindIDInContext(g->ctx, "invariant.load", 14);
    LLVMSetMetadata(offset, invariant, LLVMMetadataAsValue(g->ctx, LLVMMDNodeInContext2(g->ctx, NULL, 0)));
    return gen_at(g, g->i8, g->arena, offset);
}

/* Bytes of one element: what a load or store of the type may rely on as alignment. */
static unsigned element_bytes(LLVMTypeRef t) {
    if (LLVMGetTypeKind(t) == LLVMVectorTypeKind) t = LLVMGetElementType(t);
    switch (LLVMGetTypeKind(t)) {
    case LLVMIntegerTypeKind:
        return (LLVMGetIntTypeWidth(t) + 7) / 8;
    case LLVMHalfTypeKind:
        return 2;
    case LLVMFloatTypeKind:
        return 4;
    default:
        return 8;
    }
}

LLVMValueRef gen_load(Gen *g, LLVMTypeRef type, LLVMValueRef ptr) {
    LLVMValueRef v = LLVMBuildLoad2(g->b, type, ptr, "");
    LLVMSetAlignment(v, element_bytes(type));
    return v;
}

void gen_store(Gen *g, LLVMValueRef value, LLVMValueRef ptr) {
    LLVMSetAlignment(LLVMBuildStore(g->b, value, ptr), element_bytes(LLVMTypeOf(value)));
}

LLVMValueRef gen_alloca(Gen *g, LLVMTypeRef type, const char *name) {
    LLVMBasicBlockRef here = LLVMGetInsertBlock(g->b);
    LLVMPositionBuilderAtEnd(g->b, LLVMGetEntryBasicBlock(g->fn));
    LLVMValueRef slot = LLVMBuildAlloca(g->b, type, name);
    LLVMPositionBuilderAtEnd(g->b, here);
    return slot;
}

void gen_prefetch(Gen *g, LLVMValueRef ptr, bool write) {
    LLVMValueRef args[] = {ptr, gen_i32(g, write), gen_i32(g, 3), gen_i32(g, 1)}; /* keep, data */
    gen_intrinsic(g, "llvm.prefetch", g->ptr, args, 4);
}

void gen_zero(Gen *g, LLVMValueRef ptr, LLVMValueRef bytes) {
    LLVMBuildMemSet(g->b, ptr, LLVMConstNull(g->i8), bytes, 4);
}

/* ---- control flow */

Loop gen_loop(Gen *g, LLVMValueRef lo, LLVMValueRef hi, int64_t step, const char *name) {
    Loop l = {.step = step};
    LLVMBasicBlockRef before = LLVMGetInsertBlock(g->b);
    l.head = LLVMAppendBasicBlockInContext(g->ctx, g->fn, name);
    l.body = LLVMAppendBasicBlockInContext(g->ctx, g->fn, "do");
    l.exit = LLVMAppendBasicBlockInContext(g->ctx, g->fn, "done");
    LLVMBuildBr(g->b, l.head);
    LLVMPositionBuilderAtEnd(g->b, l.head);
    l.i = LLVMBuildPhi(g->b, g->i64, name);
    LLVMAddIncoming(l.i, &lo, &before, 1);
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntSLT, l.i, hi, ""), l.body, l.exit);
    LLVMPositionBuilderAtEnd(g->b, l.body);
    return l;
}

void gen_loop_end(Gen *g, Loop *l) {
    LLVMValueRef next = gen_add(g, l->i, gen_i64(g, l->step));
    LLVMBasicBlockRef latch = LLVMGetInsertBlock(g->b);
    LLVMAddIncoming(l->i, &next, &latch, 1);
    LLVMBuildBr(g->b, l->head);
    LLVMPositionBuilderAtEnd(g->b, l->exit);
}

If gen_if(Gen *g, LLVMValueRef cond) {
    If s = {0};
    LLVMBasicBlockRef then = LLVMAppendBasicBlockInContext(g->ctx, g->fn, "then");
    s.other = LLVMAppendBasicBlockInContext(g->ctx, g->fn, "else");
    s.done = LLVMAppendBasicBlockInContext(g->ctx, g->fn, "endif");
    LLVMBuildCondBr(g->b, cond, then, s.other);
    LLVMPositionBuilderAtEnd(g->b, then);
    return s;
}

void gen_else(Gen *g, If *s) {
    s->has_else = true;
    LLVMBuildBr(g->b, s->done);
    LLVMPositionBuilderAtEnd(g->b, s->other);
}

void gen_if_end(Gen *g, If *s) {
    LLVMBuildBr(g->b, s->done);
    if (!s->has_else) {
        LLVMPositionBuilderAtEnd(g->b, s->other);
        LLVMBuildBr(g->b, s->done);
    }
    LLVMPositionBuilderAtEnd(g->b, s->done);
}

/* ---- arithmetic */

LLVMValueRef gen_intrinsic(Gen *g, const char *name, LLVMTypeRef type, LLVMValueRef *args, unsigned n) {
    const Expansion *expansion = g->target->expansion;
    if (expansion && strncmp(name, "llvm.x86.avx512", 15) == 0) return expansion->expand(g, name, args);
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    if (!id) ice("no LLVM intrinsic %s", name); /* it would become a call of an unknown function */
    LLVMValueRef fn = LLVMGetIntrinsicDeclaration(g->mod, id, &type, type ? 1 : 0);
    return gen_call(g, fn, args, n);
}

LLVMValueRef gen_fma(Gen *g, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
    LLVMValueRef args[] = {a, b, c};
    return gen_intrinsic(g, "llvm.fma", LLVMTypeOf(a), args, 3);
}

/* The comparison that maps to one vmaxps: b where either is NaN. */
LLVMValueRef gen_fmax(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    return LLVMBuildSelect(g->b, LLVMBuildFCmp(g->b, LLVMRealOGT, a, b, ""), a, b, "");
}

static LLVMValueRef reduce(Gen *g, LLVMValueRef v, bool max) {
    while (LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind) {
        unsigned half = LLVMGetVectorSize(LLVMTypeOf(v)) / 2;
        LLVMValueRef lo, hi;
        if (half == 1) {
            lo = LLVMBuildExtractElement(g->b, v, gen_i32(g, 0), "");
            hi = LLVMBuildExtractElement(g->b, v, gen_i32(g, 1), "");
        } else {
            LLVMValueRef low[32], high[32], none = LLVMGetPoison(LLVMTypeOf(v));
            for (unsigned i = 0; i < half; i++) low[i] = gen_i32(g, i), high[i] = gen_i32(g, i + half);
            lo = LLVMBuildShuffleVector(g->b, v, none, LLVMConstVector(low, half), "");
            hi = LLVMBuildShuffleVector(g->b, v, none, LLVMConstVector(high, half), "");
        }
        v = max ? gen_fmax(g, lo, hi) : LLVMBuildFAdd(g->b, lo, hi, "");
    }
    return v;
}

LLVMValueRef gen_reduce_add(Gen *g, LLVMValueRef v) {
    return reduce(g, v, false);
}
LLVMValueRef gen_reduce_max(Gen *g, LLVMValueRef v) {
    return reduce(g, v, true);
}
