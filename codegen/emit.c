/* Emission: all kernels of a lowered module, and its tables as constant data behind the one exported
 * symbol, tbc_module. The structs here mirror runtime/tbc_module.h field by field. */
#include "lower.h"
#include "nvptx/assemble.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- constant data */

static LLVMValueRef data(Gen *g, LLVMValueRef init) {
    LLVMValueRef global = LLVMAddGlobal(g->mod, LLVMTypeOf(init), "");
    LLVMSetInitializer(global, init);
    LLVMSetLinkage(global, LLVMPrivateLinkage);
    LLVMSetGlobalConstant(global, true);
    return global;
}

static LLVMValueRef bytes(Gen *g, const void *at, size_t n) {
    return data(g, LLVMConstStringInContext2(g->ctx, at, n, true));
}

static LLVMValueRef text(Gen *g, const char *s) {
    return bytes(g, s, strlen(s) + 1);
}
static LLVMValueRef u32(Gen *g, uint32_t x) {
    return LLVMConstInt(g->i32, x, false);
}
static LLVMValueRef u64(Gen *g, uint64_t x) {
    return LLVMConstInt(g->i64, x, false);
}

#define STRUCT(g, ...)                                                                                       \
    LLVMConstStructInContext((g)->ctx, (LLVMValueRef[]){__VA_ARGS__},                                        \
                             sizeof((LLVMValueRef[]){__VA_ARGS__}) / sizeof(LLVMValueRef), false)

/* One row of each kind of table, from the element of Lowered that it mirrors. */
typedef LLVMValueRef RowFn(Gen *, const void *);

static LLVMValueRef tensor_row(Gen *g, const void *element) {
    const tbc_tensor *t = element;
    LLVMValueRef dim[TBC_MAX_RANK];
    for (int i = 0; i < TBC_MAX_RANK; i++) dim[i] = u64(g, (uint64_t)t->dim[i]);
    return STRUCT(g, text(g, t->name), u32(g, t->kind), u32(g, t->dtype), u32(g, (uint32_t)t->table),
                  u32(g, t->group), u32(g, t->rank), LLVMConstArray2(g->i64, dim, TBC_MAX_RANK),
                  u64(g, t->offset), u64(g, t->bytes), u32(g, t->live_first), u32(g, t->live_last));
}

static LLVMValueRef kernel_row(Gen *g, const void *element) {
    const Kernel *k = element;
    LLVMValueRef run = LLVMGetNamedFunction(g->mod, k->name); /* not there if it runs on a GPU */
    return STRUCT(g, text(g, k->name), run ? run : LLVMConstNull(g->ptr), u32(g, k->math));
}

static LLVMValueRef launch_row(Gen *g, const void *element) {
    const tbc_launch *l = element;
    return STRUCT(g, u32(g, l->kernel), u32(g, l->tiles), u32(g, l->args), u32(g, l->nargs), u64(g, l->flops),
                  u64(g, l->bytes), text(g, l->label));
}

static LLVMValueRef table_row(Gen *g, const void *element) {
    const tbc_table *t = element;
    return STRUCT(g, text(g, t->name), u32(g, t->first), u32(g, t->count));
}

static LLVMValueRef const_row(Gen *g, const void *element) {
    const tbc_const *c = element;
    return STRUCT(g, u64(g, c->offset), u64(g, c->bytes), bytes(g, c->data, c->bytes));
}

static LLVMValueRef gpu_kernel_row(Gen *g, const void *element) {
    const Kernel *k = element;
    return STRUCT(g, u32(g, k->size.threads), u32(g, k->size.shared));
}

static LLVMValueRef usage_row(Gen *g, const void *element) {
    const tbc_gpu_usage *u = element;
    return STRUCT(g, u32(g, u->registers), u32(g, u->shared_bytes), u32(g, u->spill_bytes));
}

static LLVMValueRef arg_row(Gen *g, const void *element) {
    return u64(g, *(const uint64_t *)element);
}

/* n elements of `size` bytes as constant data; a null pointer when there are none. */
static LLVMValueRef table(Gen *g, RowFn *row, const void *at, uint32_t n, size_t size) {
    if (!n) return LLVMConstNull(g->ptr);
    LLVMValueRef *rows = xcalloc(n, sizeof *rows);
    for (uint32_t i = 0; i < n; i++) rows[i] = row(g, (const char *)at + i * size);
    LLVMValueRef out = data(g, LLVMConstArray2(LLVMTypeOf(rows[0]), rows, n));
    free(rows);
    return out;
}
#define TABLE(g, row, v) table((g), (row), (v).at, (v).n, sizeof *(v).at)

static LLVMValueRef image_row(Gen *g, const NvImage *image, const Lowered *o) {
    VEC(tbc_gpu_usage) usage = {0};
    bool known = true;
    for (uint32_t k = 0; k < o->kernels.n; k++) {
        tbc_gpu_usage u = nv_usage(image, o->kernels.at[k].name);
        known &= u.registers > 0;
        vec_push(&usage, u);
    }
    LLVMValueRef row = STRUCT(g, u32(g, image->sm), u64(g, image->bytes), bytes(g, image->data, image->bytes),
                              known ? TABLE(g, usage_row, usage) : LLVMConstNull(g->ptr));
    vec_free(&usage);
    return row;
}

static LLVMValueRef images_table(Gen *g, const NvImages *images, const Lowered *o) {
    if (!images->n) return LLVMConstNull(g->ptr);
    LLVMValueRef *rows = xcalloc(images->n, sizeof *rows);
    for (uint32_t i = 0; i < images->n; i++) rows[i] = image_row(g, &images->at[i], o);
    LLVMValueRef out = data(g, LLVMConstArray2(LLVMTypeOf(rows[0]), rows, images->n));
    free(rows);
    return out;
}

/* ---- the module */

static void emit_module(Gen *g, const Module *m, const Lowered *o, LLVMValueRef gpu) {
    char magic[8] = TBC_MAGIC;
    LLVMValueRef init =
        STRUCT(g, LLVMConstStringInContext2(g->ctx, magic, sizeof magic, true), u32(g, TBC_ABI),
               u32(g, sizeof(tbc_module_t)), text(g, m->meta), text(g, g->target->needs),
               u64(g, (uint64_t)m->arena_bytes), u64(g, o->scratch_bytes), u32(g, o->kernels.n),
               u32(g, o->tensors.n), u32(g, o->tables.n), u32(g, o->launches.n), u32(g, o->args.n),
               u32(g, o->consts.n), TABLE(g, kernel_row, o->kernels), TABLE(g, tensor_row, o->tensors),
               TABLE(g, table_row, o->tables), TABLE(g, launch_row, o->launches), TABLE(g, arg_row, o->args),
               TABLE(g, const_row, o->consts), gpu);
    LLVMValueRef global = LLVMAddGlobal(g->mod, LLVMTypeOf(init), "tbc_module");
    LLVMSetInitializer(global, init);
    LLVMSetGlobalConstant(global, true);
}

/* g has the kernels, for a CPU: the tables go into the same LLVM module. */
static bool emit_cpu(Gen *g, const Module *m, const Lowered *o, const char *path, Diag *diag) {
    emit_module(g, m, o, LLVMConstNull(g->ptr));
    return gen_link(g, path, diag);
}

/* g has the kernels, for a GPU: its PTX becomes data beside the tables. */
static bool emit_gpu(Gen *g, const Module *m, const Lowered *o, const char *path, Diag *diag) {
    gen_optimize(g);
    LLVMMemoryBufferRef ptx = gen_assemble(g, true, diag);
    if (!ptx) return false;
    NvImages images = {0};
    bool ok =
        nv_assemble(LLVMGetBufferStart(ptx), LLVMGetBufferSize(ptx), g->target->sm, path, &images, diag);
    if (ok) {
        Gen *host = gen_new(&target_tables, "train");
        LLVMValueRef gpu = STRUCT(host, text(host, LLVMGetBufferStart(ptx)),
                                  u32(host, (uint32_t)g->target->sm), u32(host, images.n),
                                  images_table(host, &images, o), TABLE(host, gpu_kernel_row, o->kernels));
        emit_module(host, m, o, data(host, gpu));
        ok = gen_link(host, path, diag);
        gen_free(host);
    }
    nv_images_free(&images);
    LLVMDisposeMemoryBuffer(ptx);
    return ok;
}

/* ---- text */

static bool write_text(const char *at, size_t n, const char *path, Diag *diag) {
    bool ok = strcmp(path, "-") == 0 ? fwrite(at, 1, n, stdout) == n && fflush(stdout) == 0
                                     : write_file(path, at, n);
    if (!ok) diag_error(diag, path, 0, 0, "cannot write: %s", strerror(errno));
    return ok;
}

static bool emit_ll(Gen *g, const char *path, Diag *diag) {
    gen_optimize(g);
    char *ll = LLVMPrintModuleToString(g->mod);
    bool ok = write_text(ll, strlen(ll), path, diag);
    LLVMDisposeMessage(ll);
    return ok;
}

static bool emit_asm(Gen *g, const char *path, Diag *diag) {
    gen_optimize(g);
    LLVMMemoryBufferRef code = gen_assemble(g, true, diag);
    bool ok = code && write_text(LLVMGetBufferStart(code), LLVMGetBufferSize(code), path, diag);
    if (code) LLVMDisposeMemoryBuffer(code);
    return ok;
}

/* ---- all of it */

/* Is there a generator for each kernel? Reported where not. */
static bool all_kernels_exist(const Lowered *o, const Target *target, Diag *diag) {
    for (uint32_t i = 0; i < o->kernels.n; i++) {
        const Kernel *k = &o->kernels.at[i];
        if (kernel_exists(&k->desc, target)) continue;
        diag_error(diag, NULL, 0, 0, "kernel %s: this version cannot generate it for %s", k->name,
                   target->cpu);
        return false;
    }
    return true;
}

static bool emit_kernels(const Module *m, const Lowered *o, const Target *target, EmitKind emit,
                         const char *path, Diag *diag) {
    Gen *g = gen_new(target, "train");
    for (uint32_t i = 0; i < o->kernels.n; i++)
        kernel_generate(g, o->kernels.at[i].name, &o->kernels.at[i].desc);
    bool ok = emit == EMIT_LL    ? emit_ll(g, path, diag)
              : emit == EMIT_ASM ? emit_asm(g, path, diag)
              : target->sm       ? emit_gpu(g, m, o, path, diag)
                                 : emit_cpu(g, m, o, path, diag);
    gen_free(g);
    return ok;
}

/* The target with such extra instructions only as the kernels use, so that the module needs no others. */
static Target trimmed(const Lowered *o, const Target *target, Arena *arena) {
    bool i16 = false, bf16 = false;
    for (uint32_t i = 0; i < o->kernels.n; i++) {
        i16 |= o->kernels.at[i].math == TBC_MATH_I16;
        bf16 |= o->kernels.at[i].math == TBC_MATH_BF16;
    }
    return target->sm ? *target : target_without(target, !i16, !bf16, arena);
}

bool codegen_emit(const Module *m, const Target *target, EmitKind emit, const char *path, Diag *diag) {
    Arena *arena = arena_new();
    Lowered lowered;
    lower_module(m, target, arena, &lowered);
    Target used = trimmed(&lowered, target, arena);
    bool ok = all_kernels_exist(&lowered, target, diag) && emit_kernels(m, &lowered, &used, emit, path, diag);
    lowered_free(&lowered);
    arena_free(arena);
    return ok;
}
