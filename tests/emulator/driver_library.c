/* Libraries and kernels: with one context, what modules and functions are. And pools of memory, which all
 * stand for the device's. */
#include "driver.h"
#include <stdlib.h>

typedef struct Loaded Loaded;
API cuModuleLoadDataEx(Loaded **, const void *, unsigned, const int *, void **);
API cuModuleLoad(Loaded **, const char *);
API cuModuleUnload(Loaded *);
API cuModuleGetFunction(Func **, Loaded *, const char *);
API cuModuleGetGlobal_v2(CUdeviceptr *, size_t *, Loaded *, const char *);
API cuModuleGetFunctionCount(unsigned *, Loaded *);
API cuModuleEnumerateFunctions(Func **, unsigned, Loaded *);
API cuFuncGetAttribute(int *, int, const Func *);
API cuFuncSetAttribute(Func *, int, int);
API cuFuncSetCacheConfig(const Func *, int);
API cuFuncGetName(const char **, const Func *);
API cuFuncGetModule(Loaded **, const Func *);
API cuFuncGetParamInfo(const Func *, size_t, size_t *, size_t *);
API cuMemAllocAsync(CUdeviceptr *, size_t, void *);

/* ---- libraries ---- */
enum { BINARY_IS_PRESERVED = 1 };

static bool options_known(const int *options, unsigned n) {
    for (unsigned k = 0; k < n; k++)
        if (options[k] != BINARY_IS_PRESERVED) return false;
    return true;
}
API cuLibraryLoadData(Loaded **out, const void *code, const int *jit, void **jit_values, unsigned njit,
                      const int *options, void **values, unsigned n) {
    (void)values;
    return options_known(options, n) ? cuModuleLoadDataEx(out, code, njit, jit, jit_values) : NOT_SUPPORTED;
}
API cuLibraryLoadFromFile(Loaded **out, const char *path, const int *jit, void **jit_values, unsigned njit,
                          const int *options, void **values, unsigned n) {
    (void)values, (void)jit, (void)jit_values;
    return options_known(options, n) && !njit ? cuModuleLoad(out, path) : NOT_SUPPORTED;
}
API cuLibraryUnload(Loaded *l) {
    return cuModuleUnload(l);
}
API cuLibraryGetModule(Loaded **out, Loaded *l) {
    unsigned n;
    int r = cuModuleGetFunctionCount(&n, l);
    if (!out) return INVALID_VALUE;
    *out = l;
    return r;
}
API cuLibraryGetKernel(Func **out, Loaded *l, const char *name) {
    return cuModuleGetFunction(out, l, name);
}
API cuLibraryGetKernelCount(unsigned *count, Loaded *l) {
    return cuModuleGetFunctionCount(count, l);
}
API cuLibraryEnumerateKernels(Func **out, unsigned n, Loaded *l) {
    return cuModuleEnumerateFunctions(out, n, l);
}
API cuLibraryGetGlobal(CUdeviceptr *p, size_t *bytes, Loaded *l, const char *name) {
    return cuModuleGetGlobal_v2(p, bytes, l, name);
}

/* ---- kernels ---- */
API cuKernelGetFunction(Func **out, Func *kernel) {
    const char *name;
    int r = cuFuncGetName(&name, kernel);
    if (!out) return INVALID_VALUE;
    *out = kernel;
    return r;
}
API cuKernelGetLibrary(Loaded **out, const Func *kernel) {
    return cuFuncGetModule(out, kernel);
}
API cuKernelGetName(const char **out, const Func *kernel) {
    return cuFuncGetName(out, kernel);
}
API cuKernelGetParamInfo(const Func *kernel, size_t index, size_t *offset, size_t *size) {
    return cuFuncGetParamInfo(kernel, index, offset, size);
}
API cuKernelGetAttribute(int *out, int attribute, const Func *kernel, CUdevice device) {
    return device ? INVALID_DEVICE : cuFuncGetAttribute(out, attribute, kernel);
}
API cuKernelSetAttribute(int attribute, int value, Func *kernel, CUdevice device) {
    return device ? INVALID_DEVICE : cuFuncSetAttribute(kernel, attribute, value);
}
API cuKernelSetCacheConfig(const Func *kernel, int config, CUdevice device) {
    return device ? INVALID_DEVICE : cuFuncSetCacheConfig(kernel, config);
}

/* ---- pools ---- */
typedef struct MemPool {
    int reuse[3]; /* attributes 1 to 3, which change nothing here */
    u64 threshold;
} MemPool;
static MemPool default_pool = {.reuse = {1, 1, 1}}, *device_pool = &default_pool;
enum { POOL_THRESHOLD = 4, POOL_RESERVED, POOL_RESERVED_HIGH, POOL_USED, POOL_USED_HIGH };

static bool is_pool(const MemPool *pool) {
    return pool == &default_pool || is_handle(pool, A_POOL);
}

API cuDeviceGetDefaultMemPool(MemPool **out, CUdevice device) {
    if (!out) return INVALID_VALUE;
    *out = &default_pool;
    return device ? INVALID_DEVICE : OK;
}
API cuDeviceGetMemPool(MemPool **out, CUdevice device) {
    if (!out) return INVALID_VALUE;
    *out = device_pool;
    return device ? INVALID_DEVICE : OK;
}
API cuDeviceSetMemPool(CUdevice device, MemPool *pool) {
    if (!is_pool(pool)) return INVALID_VALUE;
    device_pool = pool;
    return device ? INVALID_DEVICE : OK;
}
API cuMemPoolCreate(MemPool **out, const void *properties) {
    int r = ready();
    if (r) return r;
    if (!out || !properties) return INVALID_VALUE;
    if (!(*out = malloc(sizeof **out))) return OUT_OF_MEMORY;
    **out = (MemPool){.reuse = {1, 1, 1}};
    handle_add(*out, A_POOL);
    return OK;
}
API cuMemPoolDestroy(MemPool *pool) {
    if (!is_handle(pool, A_POOL)) return INVALID_VALUE;
    if (device_pool == pool) device_pool = &default_pool;
    handle_end(pool);
    free(pool);
    return ready();
}
API cuMemPoolSetAttribute(MemPool *pool, int attribute, const void *value) {
    if (!is_pool(pool) || !value || attribute < 1 || attribute > POOL_USED_HIGH) return INVALID_VALUE;
    if (attribute < POOL_THRESHOLD)
        pool->reuse[attribute - 1] = *(const int *)value;
    else if (attribute == POOL_THRESHOLD)
        pool->threshold = *(const u64 *)value;
    else if (attribute == POOL_RESERVED || attribute == POOL_USED || *(const u64 *)value)
        return INVALID_VALUE; /* the high marks can be set to 0 */
    return ready();
}
API cuMemPoolGetAttribute(MemPool *pool, int attribute, void *value) {
    if (!is_pool(pool) || !value || attribute < 1 || attribute > POOL_USED_HIGH) return INVALID_VALUE;
    if (attribute < POOL_THRESHOLD)
        *(int *)value = pool->reuse[attribute - 1];
    else
        *(u64 *)value = attribute == POOL_THRESHOLD ? pool->threshold : mem_used();
    return ready();
}
API cuMemPoolTrimTo(MemPool *pool, size_t bytes) {
    (void)bytes;
    return is_pool(pool) ? ready() : INVALID_VALUE;
}
API cuMemPoolSetAccess(MemPool *pool, const void *access, size_t count) {
    return is_pool(pool) && (access || !count) ? ready() : INVALID_VALUE;
}
API cuMemAllocFromPoolAsync(CUdeviceptr *out, size_t bytes, MemPool *pool, void *stream) {
    return is_pool(pool) ? cuMemAllocAsync(out, bytes, stream) : INVALID_VALUE;
}
