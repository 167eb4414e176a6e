/* The emulated driver and programs that use it wrongly: null pointers, sizes that overflow, handles that were
 * destroyed, modules that go before their graphs, contexts that end. The codes are those that the driver API
 * documents; nothing may crash. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "emulator/api.h"
#include "suite.h"

int cuDevicePrimaryCtxRelease_v2(int), cuDevicePrimaryCtxReset_v2(int),
    cuCtxCreate_v2(Handle *, unsigned, int), cuCtxDestroy_v2(Handle), cuCtxGetCurrent(Handle *),
    cuCtxPushCurrent_v2(Handle), cuCtxPopCurrent_v2(Handle *), cuDeviceGetUuid_v2(char *, int),
    cuDeviceGet(int *, int);
int cuMemAllocPitch_v2(CUdeviceptr *, size_t *, size_t, size_t, unsigned),
    cuMemAllocHost_v2(Handle *, size_t), cuMemFreeHost(Handle), cuMemsetD32_v2(CUdeviceptr, unsigned, size_t),
    cuMemsetD2D8_v2(CUdeviceptr, size_t, unsigned char, size_t, size_t), cuMemGetInfo_v2(size_t *, size_t *),
    cuMemcpy2D_v2(const void *), cuMemPoolDestroy(Handle), cuMemPoolTrimTo(Handle, size_t),
    cuMemcpyDtoDAsync_v2(CUdeviceptr, CUdeviceptr, size_t, Handle);
int cuEventQuery(Handle), cuEventElapsedTime(float *, Handle, Handle), cuStreamQuery(Handle);
int cuGraphNodeGetType(Handle, int *), cuGraphKernelNodeSetParams_v2(Handle, const void *);

enum {
    VALUE = 1,
    MEMORY = 2,
    NO_INIT = 3,
    DEVICE = 101,
    CONTEXT = 201,
    HANDLE = 400,
    NOT_FOUND = 500,
    DESTROYED = 709,
    ISOLATION = 905,
    CAPTURED_EVENT = 907
};
#define GIVES(code, call) ck_assert_int_eq((call), code)

static const char text[] =
    HEAD ".visible .global .align 4 .u32 where;\n.entry k(.param .u64 a) { .reg .u64 p; "
         "ld.param.u64 p, [a]; st.global.u32 [p], 7; exit; }";

START_TEST(before_anything) {
    int d;
    Handle h;
    CUdeviceptr p;
    GIVES(NO_INIT, cuDeviceGet(&d, 0));
    GIVES(NO_INIT, cuMemAlloc_v2(&p, 4));
    GIVES(NO_INIT, cuCtxSynchronize());
    GIVES(VALUE, cuInit(1));
    CHECK(cuInit(0));
    GIVES(DEVICE, cuDeviceGet(&d, 1));
    GIVES(VALUE, cuDeviceGetUuid_v2(NULL, 0));
    GIVES(CONTEXT, cuMemAlloc_v2(&p, 4));
    GIVES(VALUE, cuDevicePrimaryCtxRetain(NULL, 0));
    GIVES(CONTEXT, cuDevicePrimaryCtxRelease_v2(0));
    GIVES(CONTEXT, cuCtxPopCurrent_v2(&h));
    GIVES(CONTEXT, cuCtxSetCurrent(&d));
}
END_TEST

START_TEST(memory_sizes) {
    device();
    CUdeviceptr a;
    size_t pitch;
    Handle host;
    static char bytes[64];
    GIVES(VALUE, cuMemAlloc_v2(&a, 0));
    GIVES(VALUE, cuMemAlloc_v2(NULL, 4));
    GIVES(MEMORY, cuMemAlloc_v2(&a, SIZE_MAX));
    GIVES(MEMORY, cuMemAlloc_v2(&a, SIZE_MAX / 2));
    GIVES(MEMORY, cuMemAllocPitch_v2(&a, &pitch, SIZE_MAX - 3, 2, 4));
    GIVES(MEMORY, cuMemAllocPitch_v2(&a, &pitch, (size_t)1 << 40, (size_t)1 << 30, 4));
    GIVES(MEMORY, cuMemAllocHost_v2(&host, (size_t)1 << 45));
    CHECK(cuMemAlloc_v2(&a, 64));
    GIVES(VALUE, cuMemcpyHtoD_v2(a, bytes, 65));
    GIVES(VALUE, cuMemcpyHtoD_v2(a + 60, bytes, 5));
    GIVES(VALUE, cuMemcpyHtoD_v2(a, NULL, 4));
    GIVES(VALUE, cuMemcpyHtoD_v2(0, bytes, 4));
    GIVES(VALUE, cuMemcpyDtoH_v2(bytes, a, SIZE_MAX));
    GIVES(VALUE, cuMemcpyDtoH_v2(bytes, a + 1, SIZE_MAX - 1));
    CHECK(cuMemcpyDtoH_v2(NULL, a, 0));
    GIVES(VALUE, cuMemsetD32_v2(a, 1, 17));
    GIVES(VALUE, cuMemsetD32_v2(a + 2, 1, 1));
    GIVES(VALUE, cuMemsetD32_v2(a, 1, ((size_t)1 << 62) + 1));
    GIVES(VALUE, cuMemsetD2D8_v2(a, (size_t)1 << 63, 1, 8, 3));
    GIVES(VALUE, cuMemsetD2D8_v2(a, 4, 1, 8, 3));
    CHECK(cuMemsetD2D8_v2(a, 16, 1, 8, 4));
    GIVES(VALUE, cuMemFree_v2(a + 4));
    CHECK(cuMemFree_v2(a));
    GIVES(VALUE, cuMemFree_v2(a));
    CHECK(cuMemFree_v2(0));
    GIVES(VALUE, cuMemsetD8_v2(a, 1, 1));
    CHECK(cuMemAllocManaged(&a, 64, 1)); /* sizes that wrap around the end of addresses */
    GIVES(VALUE, cuMemsetD8_v2(a + 8, 1, SIZE_MAX - 7));
    GIVES(VALUE, cuMemcpyHtoD_v2(a + 8, bytes, (size_t)0 - a));
    CHECK(cuMemFree_v2(a));
    GIVES(VALUE, cuMemcpy2D_v2(NULL));
    GIVES(VALUE, cuMemFreeHost(bytes));
}
END_TEST

START_TEST(destroyed_handles) {
    device();
    Handle e, f, s, g, x, node, m, l;
    float ms;
    int type;
    size_t n = 1;
    CUdeviceptr a;
    CHECK(cuMemAlloc_v2(&a, 64));
    CHECK(cuEventCreate(&e, 0));
    CHECK(cuEventCreate(&f, 0));
    GIVES(HANDLE, cuEventRecord(NULL, NULL));
    CHECK(cuStreamCreate(&s, 1));
    CHECK(cuEventRecord(e, s)); /* two records wait in two streams when it goes */
    CHECK(cuEventRecord(e, NULL));
    CHECK(cuEventDestroy_v2(e));
    CHECK(cuCtxSynchronize());
    GIVES(HANDLE, cuEventDestroy_v2(e));
    GIVES(HANDLE, cuEventQuery(e));
    GIVES(HANDLE, cuEventRecord(e, s));
    GIVES(HANDLE, cuStreamWaitEvent(s, e, 0));
    GIVES(VALUE, cuEventElapsedTime(NULL, f, f));
    GIVES(HANDLE, cuEventElapsedTime(&ms, f, e));
    GIVES(HANDLE, cuEventElapsedTime(&ms, f, f)); /* never recorded */
    CHECK(cuGraphCreate(&g, 0));
    CHECK(cuGraphAddMemsetNode(&node, g, NULL, 0, &(struct {
        CUdeviceptr to;
        size_t pitch;
        unsigned value, element;
        size_t width, height;
    }){a, 0, 7, 4, 4, 1},
                               NULL));
    CHECK(cuGraphNodeGetType(node, &type));
    CHECK(cuGraphInstantiateWithFlags(&x, g, 0));
    GIVES(VALUE, cuGraphLaunch(g, s)); /* not the executable one */
    GIVES(VALUE, cuGraphDestroy(x));
    CHECK(cuGraphDestroy(g));
    GIVES(VALUE, cuGraphDestroy(g));
    GIVES(VALUE, cuGraphInstantiateWithFlags(&l, g, 0));
    GIVES(VALUE, cuGraphGetNodes(g, NULL, &n));
    GIVES(VALUE, cuGraphNodeGetType(node, &type));
    CHECK(cuGraphExecDestroy(x));
    GIVES(VALUE, cuGraphLaunch(x, s));
    GIVES(VALUE, cuGraphExecDestroy(x));
    CHECK(cuStreamDestroy_v2(s));
    GIVES(HANDLE, cuStreamDestroy_v2(s));
    GIVES(HANDLE, cuStreamSynchronize(s));
    GIVES(HANDLE, cuStreamQuery(&type));
    GIVES(HANDLE, cuMemcpyHtoDAsync_v2(a, &type, 4, s));
    GIVES(HANDLE, cuStreamDestroy_v2(NULL));
    GIVES(VALUE, cuMemPoolDestroy(&type));
    GIVES(VALUE, cuMemPoolTrimTo(&type, 0));
    GIVES(HANDLE, cuModuleGetFunction(&l, &type, "k"));
    m = module(text);
    CHECK(cuModuleUnload(m));
    GIVES(HANDLE, cuModuleUnload(m));
}
END_TEST

/* A graph is captured in a stream that another joined; both are free when it ends, and the event is none to
 * wait for. */
START_TEST(end_of_capture) {
    device();
    Handle s, t, e, g;
    CUdeviceptr a;
    CHECK(cuMemAlloc_v2(&a, 64));
    CHECK(cuStreamCreate(&s, 1));
    CHECK(cuStreamCreate(&t, 1));
    CHECK(cuEventCreate(&e, 0));
    CHECK(cuStreamBeginCapture_v2(s, 0));
    CHECK(cuEventRecord(e, s));
    CHECK(cuStreamWaitEvent(t, e, 0));
    CHECK(cuMemsetD32Async(a, 7, 16, t));
    CHECK(cuEventRecord(e, t));
    CHECK(cuStreamWaitEvent(s, e, 0));
    GIVES(CAPTURED_EVENT, cuEventQuery(e));
    GIVES(CAPTURED_EVENT, cuEventSynchronize(e));
    CHECK(cuStreamEndCapture(s, &g));
    CHECK(cuGraphDestroy(g));
    GIVES(ISOLATION, cuStreamWaitEvent(t, e, 0));
    CHECK(cuMemsetD32Async(a, 7, 16, t));
    CHECK(cuStreamSynchronize(t));
    CHECK(cuEventRecord(e, t));
    CHECK(cuEventSynchronize(e));
    CHECK(cuStreamBeginCapture_v2(s, 0)); /* and one that is never ended */
    CHECK(cuStreamDestroy_v2(s));
    CHECK(cuCtxSynchronize());
}
END_TEST

START_TEST(modules_and_launches) {
    device();
    Handle m = module(text), f, s, g, x, none;
    CUdeviceptr a, where;
    uint32_t got;
    size_t size, bad = 4;
    GIVES(VALUE, cuModuleLoadDataEx(&none, NULL, 0, NULL, NULL));
    GIVES(VALUE, cuModuleLoadDataEx(NULL, text, 0, NULL, NULL));
    GIVES(VALUE, cuModuleLoadDataEx(&none, text, 1, NULL, NULL));
    GIVES(NOT_FOUND, cuModuleGetFunction(&none, m, "where"));
    GIVES(VALUE, cuModuleGetFunction(&none, m, NULL));
    GIVES(NOT_FOUND, cuModuleGetGlobal_v2(&where, &size, m, "k"));
    CHECK(cuModuleGetGlobal_v2(&where, NULL, m, "where"));
    CHECK(cuModuleGetFunction(&f, m, "k"));
    CHECK(cuMemAlloc_v2(&a, 64));
    GIVES(HANDLE, cuLaunchKernel(NULL, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
    GIVES(VALUE, cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, (void *[]){NULL}, NULL));
    GIVES(VALUE, cuLaunchKernel(f, 1, 65536, 1, 1, 1, 1, 0, NULL, (void *[]){&a}, NULL));
    GIVES(VALUE, cuLaunchKernel(f, 1, 1, 1, 1u << 31, 2, 1, 0, NULL, (void *[]){&a}, NULL));
    GIVES(VALUE, cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL,
                                (void *[]){(void *)1, NULL, (void *)2, &(size_t){8}, NULL}));
    GIVES(VALUE, cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL,
                                (void *[]){(void *)1, &a, (void *)2, &bad, NULL}));
    GIVES(VALUE, cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, (void *[]){&a}, (void *[]){NULL}));
    CHECK(cuStreamCreate(&s, 1));
    CHECK(cuStreamBeginCapture_v2(s, 0));
    CHECK(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, (void *[]){&a}, NULL));
    CHECK(cuStreamEndCapture(s, &g));
    CHECK(cuGraphInstantiateWithFlags(&x, g, 0));
    CHECK(cuGraphLaunch(x, s));
    CHECK(cuModuleUnload(m)); /* after the launch that waits, before the others */
    CHECK(cuMemcpyDtoH_v2(&got, a, 4));
    ck_assert_uint_eq(got, 7);
    GIVES(HANDLE, cuGraphLaunch(x, s));
    GIVES(HANDLE, cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, (void *[]){&a}, NULL));
    CHECK(cuGraphClone(&none, g));
    GIVES(VALUE, cuMemFree_v2(where));
    CHECK(cuGraphExecDestroy(x));
    CHECK(cuGraphDestroy(g));
    CHECK(cuCtxSynchronize());
}
END_TEST

START_TEST(contexts) {
    device();
    Handle first, c, d, m, s, now;
    CUdeviceptr a, b;
    size_t before, after;
    CHECK(cuCtxGetCurrent(&first));
    CHECK(cuStreamCreate(&s, 1));
    CHECK(cuMemAlloc_v2(&a, 1 << 20));
    CHECK(cuMemGetInfo_v2(&before, NULL));
    CHECK(cuCtxCreate_v2(&c, 0, 0));
    CHECK(cuMemAlloc_v2(&b, 1 << 20));
    m = module(text);
    CHECK(cuCtxPushCurrent_v2(c)); /* twice, and another one between */
    CHECK(cuCtxPushCurrent_v2(first));
    CHECK(cuCtxPushCurrent_v2(c));
    CHECK(cuCtxPopCurrent_v2(&now));
    ck_assert_ptr_eq(now, c);
    CHECK(cuCtxPopCurrent_v2(&now));
    ck_assert_ptr_eq(now, first);
    CHECK(cuCtxPopCurrent_v2(NULL));
    CHECK(cuCtxPushCurrent_v2(first));
    CHECK(cuCtxDestroy_v2(c)); /* not the current one: what it had goes */
    GIVES(CONTEXT, cuCtxDestroy_v2(c));
    GIVES(CONTEXT, cuCtxSetCurrent(c));
    GIVES(CONTEXT, cuCtxPushCurrent_v2(c));
    GIVES(HANDLE, cuModuleUnload(m));
    GIVES(VALUE, cuMemFree_v2(b));
    CHECK(cuMemGetInfo_v2(&after, NULL));
    ck_assert_uint_eq(before, after);
    CHECK(cuMemsetD8_v2(a, 1, 1 << 20)); /* the first one's is there */
    CHECK(cuStreamSynchronize(s));
    CHECK(cuCtxPopCurrent_v2(&now));
    GIVES(DESTROYED, cuMemAlloc_v2(&b, 4)); /* now the one that was destroyed is on top */
    CHECK(cuCtxPopCurrent_v2(&now));
    CHECK(cuCtxGetCurrent(&d));
    ck_assert_ptr_eq(d, first);
    CHECK(cuDevicePrimaryCtxReset_v2(0));
    GIVES(HANDLE, cuStreamSynchronize(s));
    GIVES(VALUE, cuMemFree_v2(a));
    CHECK(cuDevicePrimaryCtxRelease_v2(0));
    GIVES(DESTROYED, cuCtxSynchronize());
    GIVES(CONTEXT, cuDevicePrimaryCtxRelease_v2(0));
    device();
    CHECK(cuMemAlloc_v2(&a, 64));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("emulator_api");
    TCase *t = tcase_create("emulator_api");
    suite_add_tcase(suite, t);
    tcase_add_test(t, before_anything);
    tcase_add_test(t, memory_sizes);
    tcase_add_test(t, destroyed_handles);
    tcase_add_test(t, end_of_capture);
    tcase_add_test(t, modules_and_launches);
    tcase_add_test(t, contexts);
    return run_suite(suite);
}
