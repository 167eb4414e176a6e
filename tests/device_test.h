/* Kernels on whatever a test can run them on: the host, a CPU with all that tbc knows, and a GPU.
 *
 *     Gen *g = test_device_gen(TEST_GPU);
 *     KernelSize size = TEST_EMIT(g, "copy", copy, {256});
 *     TestModule m = test_module(g);                // frees g
 *     TestArgs a = ..                               // as in kernel_test.h
 *     test_launch(&m, "copy", &a, size);
 *     test_args_free(&a), test_module_free(&m);
 *
 * The GPU is the emulated one of the build, or, with TBC_TEST_GPU set, that of the installed driver. There
 * every argument is an allocation of its own, so that the emulator sees what is accessed outside. */
#ifndef TBC_DEVICE_TEST_H
#define TBC_DEVICE_TEST_H

#include "../codegen/lower.h"
#include "../runtime/device/cuda_driver.h"
#include "tier_test.h"

typedef enum TestDevice { TEST_HOST, TEST_WIDE, TEST_GPU } TestDevice;

/* Where the emulated driver is; NULL to take the installed one. */
static inline const char *test_driver(void) {
    static char path[4096];
    const char *build = getenv("TBC_BUILD");
    if (getenv("TBC_TEST_GPU")) return NULL;
    snprintf(path, sizeof path, "%s/tests/emulator/libcuda.so.1", build ? build : "");
    return path;
}

/* How many devices there are, in the order of TestDevice. Says so where the GPU is missing. */
static inline int test_devices(void) {
    const char *path = test_driver();
    if (!path || access(path, R_OK) == 0) return 3;
    printf("skipped: kernels on a GPU (TBC_BUILD does not name a build with tests/emulator)\n");
    return 2;
}

/* name: as target_init_gpu has it. */
static inline Gen *test_gpu_gen(const char *name) {
    static Target gpu;
    Diag diag = {.out = stderr};
    if (!target_init_gpu(&gpu, name, &diag)) abort();
    return gen_new(&gpu, "test");
}

static inline Gen *test_device_gen(TestDevice device) {
    if (device == TEST_GPU) return test_gpu_gen(NULL);
    return gen_new(test_tier(device == TEST_WIDE ? "sapphirerapids" : NULL), "test");
}

/* Generates the kernel and returns what a launch of it takes. */
static inline KernelSize test_emit(Gen *g, const char *name, const KernelDesc *d) {
    kernel_generate(g, name, d);
    return kernel_size(d, g->target);
}
#define TEST_EMIT(g, name, KIND, ...)                                                                        \
    test_emit((g), (name), &(KernelDesc){.kind = KERNEL_##KIND, .KIND = __VA_ARGS__})

typedef struct TestModule {
    void *so; /* of a CPU; NULL: of a GPU */
    CUmodule gpu;
} TestModule;

#define TEST_CUDA(call)                                                                                      \
    do {                                                                                                     \
        CUresult test_result = (call);                                                                       \
        if (test_result) cuda_error(test_cuda(), NULL, test_result, "%s", #call), abort();                   \
    } while (0)

/* The driver, loaded and with a context on first use; a forked test gets its own. */
static inline const CudaDriver *test_cuda(void) {
    static CudaDriver cu;
    static pid_t owner;
    if (owner == getpid()) return &cu;
    owner = getpid();
    const char *path = test_driver();
    /* Under this name the library is found again when cuda_driver_load asks for libcuda.so.1. */
    if (path && !dlopen(path, RTLD_NOW | RTLD_LOCAL)) fprintf(stderr, "%s\n", dlerror()), abort();
    if (!cuda_driver_load(&cu)) abort();
    CUdevice device;
    CUcontext context;
    TEST_CUDA(cu.cuDeviceGet(&device, 0));
    TEST_CUDA(cu.cuDevicePrimaryCtxRetain(&context, device));
    TEST_CUDA(cu.cuCtxSetCurrent(context));
    return &cu;
}

static inline TestModule test_module(Gen *g) {
    TestModule m = {0};
    if (!g->target->sm) return m.so = test_load(g), m;
    char *ptx = test_compile(g), log[4096] = "";
    int options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    const CudaDriver *cu = test_cuda();
    CUresult result = cu->cuModuleLoadDataEx(&m.gpu, ptx, 2, options, values);
    if (result) cuda_error(cu, NULL, result, "%s\n%s", ptx, log), abort();
    free(ptx);
    return m;
}

static inline void test_module_free(TestModule *m) {
    if (m->so)
        dlclose(m->so);
    else
        TEST_CUDA(test_cuda()->cuModuleUnload(m->gpu));
}

/* The argument that argument i shares its memory with: itself, or one before it. */
static inline uint32_t test_first_at(const TestArgs *a, uint32_t i) {
    uint32_t k = 0;
    while (a->at[k] != a->at[i]) k++;
    return k;
}

static inline void test_launch_gpu(CUmodule module, const char *name, const TestArgs *a, KernelSize size) {
    const CudaDriver *cu = test_cuda();
    CUdeviceptr at[16];
    void *params[16];
    CUfunction kernel;
    for (uint32_t i = 0; i < a->n; i++) {
        params[i] = &at[test_first_at(a, i)];
        if (test_first_at(a, i) < i) continue;
        TEST_CUDA(cu->cuMemAlloc_v2(&at[i], a->bytes[i]));
        TEST_CUDA(cu->cuMemcpyHtoDAsync_v2(at[i], a->arena + a->at[i], a->bytes[i], NULL));
    }
    TEST_CUDA(cu->cuModuleGetFunction(&kernel, module, name));
    if (size.shared)
        TEST_CUDA(cu->cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                         (int)size.shared));
    TEST_CUDA(
        cu->cuLaunchKernel(kernel, size.tiles, 1, 1, size.threads, 1, 1, size.shared, NULL, params, NULL));
    for (uint32_t i = 0; i < a->n; i++) {
        if (test_first_at(a, i) < i) continue;
        TEST_CUDA(cu->cuMemcpyDtoHAsync_v2(a->arena + a->at[i], at[i], a->bytes[i], NULL));
        TEST_CUDA(cu->cuStreamSynchronize(NULL));
        TEST_CUDA(cu->cuMemFree_v2(at[i]));
    }
}

/* Runs all tiles of the kernel. */
static inline void test_launch(const TestModule *m, const char *name, const TestArgs *a, KernelSize size) {
    if (m->so)
        test_run(m->so, name, a, size.tiles, size.scratch);
    else
        test_launch_gpu(m->gpu, name, a, size);
}

#endif
