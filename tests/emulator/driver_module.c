/* Modules, functions, launches: PTX is compiled when it is loaded, with the JIT's log; limits are enforced.
 */
#include "driver.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Loaded {
    Module *m;
    const Context *context;
    struct Loaded *next;
} Loaded;
static Loaded *modules;

static Loaded *module_of(const void *handle) {
    for (Loaded *l = modules; l; l = l->next)
        if (l == handle) return l;
    return NULL;
}
static Func *func_of(const void *handle) {
    for (Loaded *l = modules; l; l = l->next)
        for (u32 k = 0; k < l->m->nfuncs; k++)
            if (l->m->funcs[k] == handle) return l->m->funcs[k];
    return NULL;
}

bool func_loaded(const Func *f) {
    return func_of(f) != NULL;
}

/* ---- loading ---- */
static void write_initialisers(Module *m) {
    for (u32 k = 0; k < m->nvars; k++) {
        Var *v = m->vars[k];
        if (v->external) continue;
        u8 *p = mem_bytes(v->address), *state = mem_state(v->address);
        memset(p, 0, v->size); /* variables without one are zero */
        if (v->init) memcpy(p, v->init, v->size);
        for (struct Reloc *r = v->relocs; r; r = r->next) {
            const struct Sym *s = r->sym;
            u64 a = ptx_symbol_address(s) + (u64)r->add;
            memcpy(p + r->at, &a, 8);
        }
        for (u64 b = 0; b < v->size; b++) state[b] |= ST_INIT;
        if (v->space == S_CONST) mem_const(v->address, v->size);
        race_forget(v->address, v->size);
    }
}

enum { JIT_MAX_REGISTERS = 0, JIT_INFO_LOG = 3, JIT_INFO_SIZE = 4, JIT_ERROR_LOG = 5, JIT_ERROR_SIZE = 6 };

static int load(Loaded **out, const void *image, unsigned n, const int *options, void **values) {
    int r = ready();
    if (r) return r;
    if (!out || !image || (n && (!options || !values))) return INVALID_VALUE;
    *out = NULL;
    char *log_to = NULL, *info = NULL;
    size_t log_size = 0, info_size = 0;
    for (unsigned k = 0; k < n; k++) {
        if (options[k] == JIT_ERROR_LOG) log_to = values[k];
        if (options[k] == JIT_ERROR_SIZE) log_size = (size_t)(uintptr_t)values[k];
        if (options[k] == JIT_INFO_LOG) info = values[k];
        if (options[k] == JIT_INFO_SIZE) info_size = (size_t)(uintptr_t)values[k];
    }
    if (info && info_size) *info = 0;
    if (log_to && log_size) *log_to = 0;
    const u8 *bytes = image;
    if (!strncmp(image, "\177ELF", 4)) return NO_BINARY_FOR_GPU; /* a cubin */
    if (bytes[0] == 0x50 && bytes[1] == 0xed && bytes[2] == 0x55 && bytes[3] == 0xba)
        return NO_BINARY_FOR_GPU; /* a fat binary */
    Log *log = malloc(sizeof *log);
    if (!log) abort();
    Module *m = ptx_load(image, log);
    int code = INVALID_PTX;
    if (m && m->sm > settings.sm) {
        snprintf(log->text, LOG_BYTES, "the PTX is for sm_%u, the device is sm_%u\n", m->sm, settings.sm);
        module_free(m);
        m = NULL;
        code = NO_BINARY_FOR_GPU;
    }
    if (!m) {
        fprintf(stderr, "tbc-emulator: %s", log->text);
        if (log_to && log_size) snprintf(log_to, log_size, "%s", log->text);
        for (unsigned k = 0; k < n; k++)
            if (options[k] == JIT_ERROR_SIZE) values[k] = (void *)(uintptr_t)(log_to ? strlen(log_to) : 0);
        free(log);
        return code;
    }
    free(log);
    write_initialisers(m);
    Loaded *l = malloc(sizeof *l);
    if (!l) abort();
    *l = (Loaded){m, current_context(), modules};
    *out = modules = l;
    return OK;
}

API cuModuleLoadData(Loaded **out, const void *image) {
    return load(out, image, 0, NULL, NULL);
}
API cuModuleLoadDataEx(Loaded **out, const void *image, unsigned n, const int *options, void **values) {
    return load(out, image, n, options, values);
}
API cuModuleLoadFatBinary(Loaded **out, const void *image) {
    return load(out, image, 0, NULL, NULL);
}
API cuModuleLoad(Loaded **out, const char *path) {
    int r = ready();
    if (r) return r;
    FILE *f = path ? fopen(path, "rb") : NULL;
    if (!f) return FILE_NOT_FOUND;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    char *text = calloc((size_t)size + 8, 1);
    if (!text || fread(text, 1, (size_t)size, f) != (size_t)size) r = INVALID_IMAGE;
    fclose(f);
    if (!r) r = load(out, text, 0, NULL, NULL);
    free(text);
    return r;
}
static void unload(Loaded *l) {
    for (Loaded **p = &modules; *p; p = &(*p)->next)
        if (*p == l) {
            *p = l->next;
            break;
        }
    module_free(l->m);
    free(l);
}
API cuModuleUnload(Loaded *l) {
    int r = ready();
    if (r) return r;
    if (!module_of(l)) return INVALID_HANDLE;
    r = finish_all();
    unload(l);
    return r;
}
void modules_end(const Context *c) {
    for (Loaded *l = modules, *next; l; l = next) {
        next = l->next;
        if (l->context == c) unload(l);
    }
}
API cuModuleGetFunction(Func **out, Loaded *l, const char *name) {
    int r = ready();
    if (r) return r;
    if (!out || !name) return INVALID_VALUE;
    if (!module_of(l)) return INVALID_HANDLE;
    for (u32 k = 0; k < l->m->nfuncs; k++)
        if (l->m->funcs[k]->entry && l->m->funcs[k]->defined && !strcmp(l->m->funcs[k]->name, name)) {
            *out = l->m->funcs[k];
            return OK;
        }
    return NOT_FOUND;
}
static u32 kernels_of(const Module *m, Func **out, u32 most) {
    u32 n = 0;
    for (u32 k = 0; k < m->nfuncs; k++) {
        if (!m->funcs[k]->entry || !m->funcs[k]->defined) continue;
        if (n < most) out[n] = m->funcs[k];
        n++;
    }
    return n;
}
API cuModuleGetFunctionCount(unsigned *count, Loaded *l) {
    if (!count) return INVALID_VALUE;
    if (!module_of(l)) return INVALID_HANDLE;
    *count = kernels_of(l->m, NULL, 0);
    return ready();
}
API cuModuleEnumerateFunctions(Func **out, unsigned n, Loaded *l) {
    if (!out) return INVALID_VALUE;
    if (!module_of(l)) return INVALID_HANDLE;
    kernels_of(l->m, out, n);
    return ready();
}
API cuModuleGetLoadingMode(int *mode) {
    if (!mode) return INVALID_VALUE;
    *mode = 1; /* eager */
    return ready();
}
API cuModuleGetGlobal_v2(CUdeviceptr *p, size_t *bytes, Loaded *l, const char *name) {
    int r = ready();
    if (r) return r;
    if (!module_of(l)) return INVALID_HANDLE;
    if (!name) return INVALID_VALUE;
    for (u32 k = 0; k < l->m->nvars; k++)
        if (!strcmp(l->m->vars[k]->name, name)) {
            if (p) *p = l->m->vars[k]->address;
            if (bytes) *bytes = l->m->vars[k]->size;
            return OK;
        }
    return NOT_FOUND;
}

/* ---- functions ---- */
enum { STATIC_LIMIT = 48 << 10 };
static u32 shared_limit(void) {
    return settings.sm == 80 ? 163 << 10 : settings.sm >= 90 && settings.sm < 120 ? 227 << 10 : 99 << 10;
}
static u32 block_limit(const Func *f) {
    u32 limit = f->max_threads && f->max_threads < 1024 ? f->max_threads : 1024;
    return limit;
}

API cuFuncGetAttribute(int *out, int attribute, const Func *handle) {
    int r = ready();
    const Func *f = func_of(handle);
    if (r) return r;
    if (!out) return INVALID_VALUE;
    if (!f) return INVALID_HANDLE;
    switch (attribute) {
    case 0:
        *out = (int)block_limit(f);
        return OK;
    case 1:
        *out = (int)f->shared_bytes;
        return OK;
    case 2:
        *out = (int)f->module->const_bytes;
        return OK;
    case 3:
        *out = (int)(f->module->stacked ? f->module->stack_begin : f->module->local_bytes);
        return OK;
    case 4:
        *out = (int)f->live_regs;
        return OK;
    case 5:
    case 6:
        *out = (int)(f->module->sm);
        return OK;
    case 7:
        *out = 0;
        return OK;
    case 8:
        *out = (int)(f->max_dynamic_shared ? f->max_dynamic_shared : STATIC_LIMIT - f->shared_bytes);
        return OK;
    case 9:
        *out = -1;
        return OK;
    default:
        return INVALID_VALUE;
    }
}
API cuFuncSetAttribute(Func *handle, int attribute, int value) {
    int r = ready();
    Func *f = func_of(handle);
    if (r) return r;
    if (!f) return INVALID_HANDLE;
    if (attribute == 9) return value < -1 || value > 100 ? INVALID_VALUE : OK;
    if (attribute != 8 || value < 0 || (u32)value + f->shared_bytes > shared_limit()) return INVALID_VALUE;
    f->max_dynamic_shared = (u32)value;
    return OK;
}
API cuFuncSetCacheConfig(const Func *f, int config) {
    return func_of(f) && config >= 0 && config < 4 ? ready() : INVALID_HANDLE;
}
API cuFuncGetName(const char **out, const Func *handle) {
    const Func *f = func_of(handle);
    if (!out || !f) return INVALID_VALUE;
    *out = f->name;
    return ready();
}
API cuFuncGetParamInfo(const Func *handle, size_t index, size_t *offset, size_t *size) {
    const Func *f = func_of(handle);
    if (!f) return INVALID_HANDLE;
    if (!offset || index >= f->nparams) return INVALID_VALUE;
    *offset = f->params[index].offset;
    if (size) *size = f->params[index].size;
    return ready();
}
API cuFuncIsLoaded(int *state, const Func *f) {
    if (!state || !func_of(f)) return INVALID_VALUE;
    *state = 1;
    return ready();
}
API cuFuncLoad(const Func *f) {
    return func_of(f) ? ready() : INVALID_HANDLE;
}
API cuFuncGetModule(Loaded **out, const Func *f) {
    if (!out || !func_of(f)) return INVALID_HANDLE;
    for (*out = modules; (*out)->m != f->module;) *out = (*out)->next;
    return ready();
}

static int blocks_per_sm(const Func *f, u32 threads, size_t dynamic) {
    u32 warps = (threads + LANES - 1) / LANES;
    u64 regs = (u64)(f->live_regs + 7) / 8 * 8 * LANES * warps, shared = f->shared_bytes + dynamic + 1024,
        n = 64 / warps;
    if (n > 65536 / (regs ? regs : 1)) n = 65536 / (regs ? regs : 1);
    u64 whole = (u64)shared_limit() + 1024;
    if (n > whole / shared) n = whole / shared;
    return (int)(n > 32 ? 32 : n);
}
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *out, const Func *f, int threads, size_t dynamic) {
    int r = ready();
    if (r) return r;
    if (!out || threads < 1 || !func_of(f)) return INVALID_VALUE;
    *out = threads > (int)block_limit(f) ? 0 : blocks_per_sm(f, (u32)threads, dynamic);
    return OK;
}
API cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *out, const Func *f, int threads, size_t dynamic,
                                                         unsigned flags) {
    (void)flags;
    return cuOccupancyMaxActiveBlocksPerMultiprocessor(out, f, threads, dynamic);
}
API cuOccupancyMaxPotentialBlockSize(int *grid, int *block, const Func *f, size_t (*dynamic)(int),
                                     size_t fixed, int limit) {
    int r = ready();
    if (r) return r;
    if (!grid || !block || !func_of(f)) return INVALID_VALUE;
    int most = (int)block_limit(f), best = 0;
    if (limit > 0 && limit < most) most = limit;
    *grid = *block = 0;
    for (int t = (most + LANES - 1) / LANES * LANES; t > 0; t -= LANES) {
        int size = t < most ? t : most, n = blocks_per_sm(f, (u32)size, dynamic ? dynamic(size) : fixed);
        if (n * size > best) best = n * size, *block = size, *grid = n * 108;
    }
    return OK;
}

API cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, const Func *f, size_t (*dynamic)(int),
                                              size_t fixed, int limit, unsigned flags) {
    return flags > 1 ? INVALID_VALUE
                     : cuOccupancyMaxPotentialBlockSize(grid, block, f, dynamic, fixed, limit);
}

/* ---- launches ---- */
static int refuse(const Func *f, int code, const char *why) {
    fprintf(stderr, "tbc-emulator: launch of %s refused: %s\n", f->name, why);
    return code;
}

static int check_launch(const Func *f, const unsigned g[3], const unsigned b[3], unsigned dynamic) {
    u64 threads = (u64)b[0] * b[1] * b[2];
    if (!g[0] || !g[1] || !g[2] || !threads) return refuse(f, INVALID_VALUE, "a dimension is 0");
    if (g[0] > 0x7fffffff || g[1] > 65535 || g[2] > 65535)
        return refuse(f, INVALID_VALUE, "the grid is too large");
    if (b[0] > 1024 || b[1] > 1024 || b[2] > 64 || threads > 1024)
        return refuse(f, INVALID_VALUE, "more than 1024 threads a block");
    if (f->max_threads && threads > f->max_threads)
        return refuse(f, INVALID_VALUE, "more threads a block than .maxntid or .reqntid says");
    if (f->req[0] && (b[0] != f->req[0] || b[1] != f->req[1] || b[2] != f->req[2]))
        return refuse(f, INVALID_VALUE, "the block is not .reqntid's");
    if (f->shared_bytes > STATIC_LIMIT)
        return refuse(f, INVALID_VALUE, "more than 48 KiB of static shared memory");
    u32 limit = f->max_dynamic_shared > STATIC_LIMIT - f->shared_bytes ? f->max_dynamic_shared
                                                                       : STATIC_LIMIT - f->shared_bytes;
    if (dynamic > limit)
        return refuse(f, INVALID_VALUE, "more dynamic shared memory than cuFuncSetAttribute allowed");
    if ((u64)f->live_regs * ((threads + 31) / 32 * 32) > 65536)
        return refuse(f, LAUNCH_OUT_OF_RESOURCES, "too many registers for this block");
    return OK;
}

static int pack_params(const Func *f, void **params, void **extra, u8 **out) {
    u8 *bytes = calloc(1, f->param_bytes + 16);
    if (!bytes) abort();
    *out = bytes;
    if (extra) {
        const void *buffer = NULL;
        size_t size = 0;
        for (; *extra; extra += 2) {
            if (*extra == (void *)1)
                buffer = extra[1];
            else if (*extra == (void *)2)
                size = *(const size_t *)extra[1];
            else
                return INVALID_VALUE;
        }
        if (!buffer && f->param_bytes) return refuse(f, INVALID_VALUE, "the parameters are missing");
        if (size < f->param_bytes || size > (f->param_bytes + 15u))
            return refuse(f, INVALID_VALUE, "the parameters' size is not the kernel's");
        if (buffer) memcpy(bytes, buffer, f->param_bytes);
        return OK;
    }
    if (f->nparams && !params) return refuse(f, INVALID_VALUE, "the parameters are missing");
    for (u32 k = 0; k < f->nparams; k++) {
        if (!params[k]) return refuse(f, INVALID_VALUE, "a parameter is missing");
        memcpy(bytes + f->params[k].offset, params[k], f->params[k].size);
    }
    return OK;
}

int kernel_work(Queued *q, const Func *handle, const unsigned g[3], const unsigned b[3], unsigned dynamic,
                void **params, void **extra, bool cooperative) {
    int r = ready();
    const Func *f = func_of(handle);
    if (r) return r;
    if (!f) return INVALID_HANDLE;
    if (params && extra) return INVALID_VALUE;
    if ((r = check_launch(f, g, b, dynamic))) return r;
    if (cooperative && (u64)g[0] * g[1] * g[2] > 108u * (u32)blocks_per_sm(f, b[0] * b[1] * b[2], dynamic))
        return refuse(f, COOPERATIVE_TOO_LARGE, "a cooperative launch whose blocks are not all resident");
    *q = (Queued){.kind = OP_KERNEL,
                  .func = f,
                  .dynamic = dynamic,
                  .cooperative = cooperative,
                  .param_bytes = f->param_bytes};
    memcpy(q->grid, g, sizeof q->grid);
    memcpy(q->dim, b, sizeof q->dim);
    if ((r = pack_params(f, params, extra, &q->params))) free(q->params);
    return r;
}

static int launch(const Func *f, const unsigned g[3], const unsigned b[3], unsigned dynamic, void *stream,
                  void **params, void **extra, bool cooperative) {
    Stream *s = stream_of(stream);
    Queued q;
    int r = s ? kernel_work(&q, f, g, b, dynamic, params, extra, cooperative) : INVALID_HANDLE;
    return r ? r : enqueue(s, q);
}

API cuLaunchKernel(const Func *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned dynamic, void *stream, void **params, void **extra) {
    return launch(f, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, dynamic, stream, params, extra,
                  false);
}
API cuLaunchCooperativeKernel(const Func *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                              unsigned bz, unsigned dynamic, void *stream, void **params) {
    return launch(f, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, dynamic, stream, params, NULL, true);
}
typedef struct LaunchConfig {
    unsigned grid[3], block[3], dynamic;
    void *stream, *attributes;
    unsigned count;
} LaunchConfig;
API cuLaunchKernelEx(const LaunchConfig *c, const Func *f, void **params, void **extra) {
    if (!c) return INVALID_VALUE;
    if (c->count) return NOT_SUPPORTED;
    return launch(f, c->grid, c->block, c->dynamic, c->stream, params, extra, false);
}
