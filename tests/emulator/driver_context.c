/* Contexts: a stack of them in each thread, the primary one and those that a program creates. Its streams,
 * modules and memory go with a context. */
#include "driver.h"
#include <stdlib.h>

enum { DEPTH = 64 };
static Context primary = {.primary = true};
static __thread Context *stack[DEPTH];
static __thread u32 depth;

Context *current_context(void) {
    return depth ? stack[depth - 1] : NULL;
}
static bool alive(const Context *c) {
    return c == &primary ? primary.references > 0 : is_handle(c, A_CONTEXT);
}
int ready(void) {
    const Context *c = current_context();
    if (device_ok(0)) return NOT_INITIALIZED;
    if (!c) return INVALID_CONTEXT;
    if (!alive(c)) return CONTEXT_IS_DESTROYED;
    return sticky;
}

static void end(const Context *c) {
    finish_all();
    streams_end(c);
    modules_end(c);
    mem_free_of(c);
}

/* ---- the primary one ---- */
API cuDevicePrimaryCtxRetain(Context **out, CUdevice d) {
    int r = device_ok(d);
    if (r) return r;
    if (!out) return INVALID_VALUE;
    primary.references++;
    *out = &primary;
    return OK;
}
API cuDevicePrimaryCtxRelease_v2(CUdevice d) {
    int r = device_ok(d);
    if (r) return r;
    if (!primary.references) return INVALID_CONTEXT;
    if (!--primary.references) end(&primary);
    return OK;
}
API cuDevicePrimaryCtxReset_v2(CUdevice d) {
    int r = device_ok(d);
    if (!r) end(&primary);
    return r;
}
API cuDevicePrimaryCtxSetFlags_v2(CUdevice d, unsigned flags) {
    return flags > 63 ? INVALID_VALUE : device_ok(d);
}
API cuDevicePrimaryCtxGetState(CUdevice d, unsigned *flags, int *active) {
    if (flags) *flags = 0;
    if (active) *active = primary.references > 0;
    return device_ok(d);
}

/* ---- others, and which one is current ---- */
static int push(Context *c) {
    if (depth == DEPTH) return INVALID_VALUE;
    stack[depth++] = c;
    return OK;
}
static bool is_context(const Context *c) {
    return c == &primary || is_handle(c, A_CONTEXT);
}

API cuCtxCreate_v2(Context **out, unsigned flags, CUdevice d) {
    (void)flags;
    int r = device_ok(d);
    if (r) return r;
    if (!out) return INVALID_VALUE;
    Context *c = calloc(1, sizeof *c);
    if (!c) return OUT_OF_MEMORY;
    if ((r = push(c))) {
        free(c);
        return r;
    }
    handle_add(c, A_CONTEXT);
    *out = c;
    return OK;
}
API cuCtxCreate_v3(Context **out, void *affinity, int n, unsigned flags, CUdevice d) {
    return affinity || n ? NOT_SUPPORTED : cuCtxCreate_v2(out, flags, d);
}
API cuCtxCreate_v4(Context **out, void *params, unsigned flags, CUdevice d) {
    return params ? NOT_SUPPORTED : cuCtxCreate_v2(out, flags, d);
}
/* Its memory is kept: a thread that has it current learns that it is destroyed, not that another one came to
 * lie there. */
API cuCtxDestroy_v2(Context *c) {
    if (!is_handle(c, A_CONTEXT)) return INVALID_CONTEXT;
    end(c);
    if (current_context() == c) depth--;
    handle_end(c);
    return OK;
}
API cuCtxSetCurrent(Context *c) {
    if (device_ok(0)) return NOT_INITIALIZED;
    if (c && !is_context(c)) return INVALID_CONTEXT;
    if (depth) depth--;
    return c ? push(c) : OK;
}
API cuCtxGetCurrent(Context **out) {
    if (!out) return INVALID_VALUE;
    *out = current_context();
    return device_ok(0);
}
API cuCtxPushCurrent_v2(Context *c) {
    return is_context(c) ? push(c) : INVALID_CONTEXT;
}
API cuCtxPopCurrent_v2(Context **out) {
    if (!depth) return INVALID_CONTEXT;
    depth--;
    if (out) *out = stack[depth];
    return OK;
}
API cuCtxGetDevice(CUdevice *d) {
    if (!d) return INVALID_VALUE;
    *d = 0;
    return current_context() ? OK : device_ok(0) ? device_ok(0) : INVALID_CONTEXT;
}
API cuCtxGetFlags(unsigned *flags) {
    if (!flags) return INVALID_VALUE;
    *flags = 0;
    return ready();
}
API cuCtxGetApiVersion(Context *c, unsigned *v) {
    (void)c;
    if (!v) return INVALID_VALUE;
    *v = 3020;
    return OK;
}
API cuCtxSynchronize(void) {
    int r = ready();
    return r ? r : finish_all();
}
API cuCtxGetLimit(size_t *value, int limit) {
    static const size_t limits[] = {1024, 1 << 20, 8 << 20, 2, 2048, 128, 0};
    if (!value || limit < 0 || limit > 6) return INVALID_VALUE;
    *value = limits[limit];
    return ready();
}
API cuCtxSetLimit(int limit, size_t value) {
    (void)value;
    return limit < 0 || limit > 6 ? INVALID_VALUE : ready();
}
API cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = 0;
    return ready();
}
API cuCtxSetCacheConfig(int config) {
    return config < 0 || config > 3 ? INVALID_VALUE : ready();
}
