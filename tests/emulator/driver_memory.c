/* Memory: allocation, copies, memset, pinned host memory. */
#include "driver.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

API cuMemGetInfo_v2(size_t *free_, size_t *total) {
    int r = ready();
    if (r) return r;
    if (free_) *free_ = mem_total() - mem_used();
    if (total) *total = mem_total();
    return OK;
}
API cuMemAlloc_v2(CUdeviceptr *out, size_t bytes) {
    int r = ready();
    if (r) return r;
    if (!out || !bytes) return INVALID_VALUE;
    *out = mem_alloc(bytes, 256);
    if (!*out) return OUT_OF_MEMORY;
    mem_own(*out, current_context());
    race_forget(*out, bytes);
    return OK;
}
API cuMemAllocPitch_v2(CUdeviceptr *out, size_t *pitch, size_t width, size_t height, unsigned element) {
    size_t bytes;
    if (!out || !pitch || !width || (element != 4 && element != 8 && element != 16)) return INVALID_VALUE;
    if (width > SIZE_MAX - 511 || __builtin_mul_overflow((width + 511) / 512 * 512, height, &bytes))
        return OUT_OF_MEMORY;
    *pitch = (width + 511) / 512 * 512;
    return cuMemAlloc_v2(out, bytes);
}
API cuMemFree_v2(CUdeviceptr p) {
    int r = ready();
    if (r || !p) return r;
    if ((r = finish_all())) return r;
    if (mem_free(p)) return OK;
    if (!host_unregister((void *)(uintptr_t)p)) return INVALID_VALUE; /* managed */
    free((void *)(uintptr_t)p);
    return OK;
}
API cuMemAllocAsync(CUdeviceptr *out, size_t bytes, void *stream) {
    return stream_of(stream) ? cuMemAlloc_v2(out, bytes) : INVALID_HANDLE;
}
API cuMemFreeAsync(CUdeviceptr p, void *stream) {
    return stream_of(stream) ? cuMemFree_v2(p) : INVALID_HANDLE;
}
API cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr p) {
    u64 b, n;
    int r = ready();
    if (r) return r;
    if (!mem_range(p, &b, &n)) return NOT_FOUND;
    if (base) *base = b;
    if (size) *size = n;
    return OK;
}

/* ---- host ---- */
API cuMemHostAlloc(void **out, size_t bytes, unsigned flags) {
    (void)flags;
    int r = ready();
    if (r) return r;
    if (!out || !bytes) return INVALID_VALUE;
    u64 most = (u64)sysconf(_SC_PHYS_PAGES) * (u64)sysconf(_SC_PAGESIZE) / 2; /* it is written at once */
    if (bytes > most || posix_memalign(out, 4096, bytes)) return OUT_OF_MEMORY;
    memset(*out, 0xdb, bytes);
    host_register(*out, bytes);
    return OK;
}
API cuMemAllocHost_v2(void **out, size_t bytes) {
    return cuMemHostAlloc(out, bytes, 0);
}
/* Managed memory is host memory that kernels use under the same address. */
API cuMemAllocManaged(CUdeviceptr *out, size_t bytes, unsigned flags) {
    void *p;
    if (!out || (flags != 1 && flags != 2)) return INVALID_VALUE;
    int r = cuMemHostAlloc(&p, bytes, 0);
    if (!r) *out = (uintptr_t)p;
    return r;
}
API cuMemAdvise(CUdeviceptr p, size_t bytes, int advice, CUdevice d) {
    (void)d;
    return advice < 1 || advice > 6 || !host_bytes(p, bytes) ? INVALID_VALUE : ready();
}
API cuMemPrefetchAsync(CUdeviceptr p, size_t bytes, CUdevice d, void *stream) {
    (void)d;
    return !host_bytes(p, bytes) || !stream_of(stream) ? INVALID_VALUE : ready();
}
API cuMemFreeHost(void *p) {
    int r = ready();
    if (r) return r;
    if ((r = finish_all())) return r;
    if (!host_unregister(p)) return INVALID_VALUE;
    free(p);
    return OK;
}
API cuMemHostRegister_v2(void *p, size_t bytes, unsigned flags) {
    (void)flags;
    int r = ready();
    if (r) return r;
    if (!p || !bytes) return INVALID_VALUE;
    if (host_size(p)) return HOST_MEMORY_ALREADY_REGISTERED;
    host_register(p, bytes);
    return OK;
}
API cuMemHostUnregister(void *p) {
    int r = ready();
    if (r) return r;
    return host_unregister(p) ? OK : HOST_MEMORY_NOT_REGISTERED;
}
API cuMemHostGetDevicePointer_v2(CUdeviceptr *out, void *p, unsigned flags) {
    int r = ready();
    if (r) return r;
    if (!out || flags || !host_bytes((u64)(uintptr_t)p, 1)) return INVALID_VALUE;
    *out = (u64)(uintptr_t)p;
    return OK;
}

/* ---- copies ---- */
static bool device_range(u64 p, u64 bytes) {
    return mem_mapped(p, bytes) || host_bytes(p, bytes);
}
/* The bytes from the first row to the last one; false: more than there are addresses. */
static bool extent(u64 width, u64 rows, u64 pitch, u64 *bytes) {
    return !__builtin_mul_overflow(rows - 1, pitch, bytes) && !__builtin_add_overflow(*bytes, width, bytes);
}

static int copy(Stream *s, u64 dst, bool dst_host, u64 src_, bool src_host, u64 bytes) {
    int r = ready();
    if (r) return r;
    if (!bytes) return OK;
    if ((dst_host && !dst) || (src_host && !src_) || (!dst_host && !device_range(dst, bytes)) ||
        (!src_host && !device_range(src_, bytes)))
        return INVALID_VALUE;
    Queued q = {.kind = OP_COPY,
                .dst = dst,
                .src = src_,
                .bytes = bytes,
                .rows = 1,
                .dst_host = dst_host,
                .src_host = src_host};
    return s ? enqueue(s, q) : synchronous(q);
}
static bool on_device(u64 p) {
    return p >= GLOBAL_WINDOW && p < GLOBAL_WINDOW + mem_total() * 2 + (64 << 20);
}
#define HOST(p) (u64)(uintptr_t)(p)
#define WITH_STREAM(s, call)                                                                                 \
    Stream *s = stream_of(handle);                                                                           \
    return s ? (call) : INVALID_HANDLE

API cuMemcpyHtoD_v2(CUdeviceptr dst, const void *p, size_t n) {
    return copy(NULL, dst, false, HOST(p), true, n);
}
API cuMemcpyDtoH_v2(void *p, CUdeviceptr from, size_t n) {
    return copy(NULL, HOST(p), true, from, false, n);
}
API cuMemcpyDtoD_v2(CUdeviceptr dst, CUdeviceptr from, size_t n) {
    return copy(stream_of(NULL), dst, false, from, false, n);
}
API cuMemcpy(CUdeviceptr dst, CUdeviceptr from, size_t n) {
    return copy(NULL, dst, !on_device(dst), from, !on_device(from), n);
}
API cuMemcpyHtoDAsync_v2(CUdeviceptr dst, const void *p, size_t n, void *handle) {
    WITH_STREAM(s, copy(s, dst, false, HOST(p), true, n));
}
API cuMemcpyDtoHAsync_v2(void *p, CUdeviceptr from, size_t n, void *handle) {
    WITH_STREAM(s, copy(s, HOST(p), true, from, false, n));
}
API cuMemcpyDtoDAsync_v2(CUdeviceptr dst, CUdeviceptr from, size_t n, void *handle) {
    WITH_STREAM(s, copy(s, dst, false, from, false, n));
}
API cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr from, size_t n, void *handle) {
    WITH_STREAM(s, copy(s, dst, !on_device(dst), from, !on_device(from), n));
}

typedef struct Copy2D { /* CUDA_MEMCPY2D */
    size_t src_x, src_y;
    unsigned src_type;
    const void *src_host;
    CUdeviceptr src_device;
    void *src_array;
    size_t src_pitch, dst_x, dst_y;
    unsigned dst_type;
    void *dst_host;
    CUdeviceptr dst_device;
    void *dst_array;
    size_t dst_pitch, width, height;
} Copy2D;

static int copy_2d(Stream *s, const Copy2D *c) {
    int r = ready();
    if (r) return r;
    if (!c) return INVALID_VALUE;
    if (c->src_type == 3 || c->dst_type == 3) return NOT_SUPPORTED; /* arrays */
    u64 sp = c->src_pitch ? c->src_pitch : c->width, dp = c->dst_pitch ? c->dst_pitch : c->width;
    if (sp < c->width || dp < c->width) return INVALID_VALUE;
    if (!c->width || !c->height) return OK;
    Queued q = {.kind = OP_COPY,
                .bytes = c->width,
                .rows = c->height,
                .src_pitch = sp,
                .dst_pitch = dp,
                .src_host = c->src_type == 1,
                .dst_host = c->dst_type == 1};
    q.src = (q.src_host ? HOST(c->src_host) : c->src_device) + c->src_y * sp + c->src_x;
    q.dst = (q.dst_host ? HOST(c->dst_host) : c->dst_device) + c->dst_y * dp + c->dst_x;
    u64 n, m;
    if (!extent(c->width, c->height, sp, &n) || !extent(c->width, c->height, dp, &m)) return INVALID_VALUE;
    if ((q.src_host && !c->src_host) || (q.dst_host && !c->dst_host)) return INVALID_VALUE;
    if ((!q.src_host && !device_range(q.src, n)) || (!q.dst_host && !device_range(q.dst, m)))
        return INVALID_VALUE;
    return s ? enqueue(s, q) : synchronous(q);
}
API cuMemcpy2D_v2(const Copy2D *c) {
    return copy_2d(NULL, c);
}
API cuMemcpy2DUnaligned_v2(const Copy2D *c) {
    return copy_2d(NULL, c);
}
API cuMemcpy2DAsync_v2(const Copy2D *c, void *handle) {
    WITH_STREAM(s, copy_2d(s, c));
}

/* ---- memset: asynchronous also without a stream ---- */
static int set(void *handle, CUdeviceptr p, u64 pitch, u32 value, u32 element, u64 width, u64 height) {
    int r = ready();
    Stream *s = stream_of(handle);
    if (r) return r;
    if (!s) return INVALID_HANDLE;
    if (!width || !height) return OK;
    u64 row, all;
    if (__builtin_mul_overflow(width, element, &row) || !extent(row, height, pitch, &all))
        return INVALID_VALUE;
    if (p % element || (height > 1 && pitch < row) || !device_range(p, all)) return INVALID_VALUE;
    return enqueue(s, (Queued){.kind = OP_SET,
                               .dst = p,
                               .dst_pitch = pitch,
                               .bytes = width * element,
                               .rows = height,
                               .value = value,
                               .element = element});
}
API cuMemsetD8_v2(CUdeviceptr p, unsigned char v, size_t n) {
    return set(NULL, p, 0, v, 1, n, 1);
}
API cuMemsetD16_v2(CUdeviceptr p, unsigned short v, size_t n) {
    return set(NULL, p, 0, v, 2, n, 1);
}
API cuMemsetD32_v2(CUdeviceptr p, unsigned v, size_t n) {
    return set(NULL, p, 0, v, 4, n, 1);
}
API cuMemsetD8Async(CUdeviceptr p, unsigned char v, size_t n, void *s) {
    return set(s, p, 0, v, 1, n, 1);
}
API cuMemsetD16Async(CUdeviceptr p, unsigned short v, size_t n, void *s) {
    return set(s, p, 0, v, 2, n, 1);
}
API cuMemsetD32Async(CUdeviceptr p, unsigned v, size_t n, void *s) {
    return set(s, p, 0, v, 4, n, 1);
}
API cuMemsetD2D8_v2(CUdeviceptr p, size_t pitch, unsigned char v, size_t w, size_t h) {
    return set(NULL, p, pitch, v, 1, w, h);
}
API cuMemsetD2D32_v2(CUdeviceptr p, size_t pitch, unsigned v, size_t w, size_t h) {
    return set(NULL, p, pitch, v, 4, w, h);
}

API cuPointerGetAttribute(void *data, int attribute, CUdeviceptr p) {
    int r = ready();
    if (r) return r;
    bool device = on_device(p) && mem_mapped(p, 1), host = host_bytes(p, 1);
    if (!data || (!device && !host)) return INVALID_VALUE;
    switch (attribute) {
    case 1:
        *(void **)data = current_context();
        return OK;
    case 2:
        *(unsigned *)data = device ? 2 : 1;
        return OK;
    case 3:
        *(u64 *)data = p;
        return OK;
    case 4:
        *(void **)data = host ? (void *)(uintptr_t)p : NULL;
        return host ? OK : INVALID_VALUE;
    case 9:
        *(int *)data = 0;
        return OK;
    default:
        return NOT_SUPPORTED;
    }
}
