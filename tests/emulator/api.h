/* The part of the driver API that the emulator's own tests use (values as in NVIDIA's cuda.h). */
#ifndef EMULATOR_API_H
#define EMULATOR_API_H
#include <check.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

typedef uint64_t CUdeviceptr;
typedef void *Handle;
int cuInit(unsigned), cuDevicePrimaryCtxRetain(Handle *, int), cuCtxSetCurrent(Handle),
    cuCtxSynchronize(void);
int cuMemAlloc_v2(CUdeviceptr *, size_t), cuMemAllocManaged(CUdeviceptr *, size_t, unsigned),
    cuMemFree_v2(CUdeviceptr), cuStreamDestroy_v2(Handle);
int cuMemcpyHtoD_v2(CUdeviceptr, const void *, size_t), cuMemcpyDtoH_v2(void *, CUdeviceptr, size_t);
int cuMemcpyHtoDAsync_v2(CUdeviceptr, const void *, size_t, Handle),
    cuMemsetD32Async(CUdeviceptr, unsigned, size_t, Handle),
    cuMemsetD8_v2(CUdeviceptr, unsigned char, size_t);
int cuModuleLoadDataEx(Handle *, const void *, unsigned, int *, void **),
    cuModuleGetFunction(Handle *, Handle, const char *);
int cuModuleGetGlobal_v2(CUdeviceptr *, size_t *, Handle, const char *), cuModuleUnload(Handle);
int cuLaunchKernel(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Handle,
                   void **, void **);
int cuStreamCreate(Handle *, unsigned), cuStreamSynchronize(Handle), cuStreamBeginCapture_v2(Handle, int),
    cuStreamEndCapture(Handle, Handle *);
int cuGraphInstantiateWithFlags(Handle *, Handle, unsigned long long), cuGraphLaunch(Handle, Handle),
    cuGraphExecDestroy(Handle), cuGraphDestroy(Handle);
int cuLibraryLoadData(Handle *, const void *, int *, void **, unsigned, int *, void **, unsigned),
    cuLibraryGetKernel(Handle *, Handle, const char *), cuLibraryGetKernelCount(unsigned *, Handle),
    cuKernelGetFunction(Handle *, Handle), cuLibraryUnload(Handle);
int cuDeviceGetDefaultMemPool(Handle *, int), cuMemAllocFromPoolAsync(CUdeviceptr *, size_t, Handle, Handle),
    cuMemFreeAsync(CUdeviceptr, Handle);
int cuGraphCreate(Handle *, unsigned),
    cuGraphAddKernelNode_v2(Handle *, Handle, const Handle *, size_t, const void *),
    cuGraphAddMemsetNode(Handle *, Handle, const Handle *, size_t, const void *, Handle),
    cuGraphAddDependencies(Handle, const Handle *, const Handle *, size_t), cuGraphClone(Handle *, Handle),
    cuGraphGetNodes(Handle, Handle *, size_t *),
    cuGraphExecKernelNodeSetParams_v2(Handle, Handle, const void *),
    cuGraphAddChildGraphNode(Handle *, Handle, const Handle *, size_t, Handle),
    cuGraphChildGraphNodeGetGraph(Handle, Handle *);
int cuLinkCreate_v2(unsigned, int *, void **, Handle *),
    cuLinkAddData_v2(Handle, int, const void *, size_t, const char *, unsigned, int *, void **),
    cuLinkComplete(Handle, void **, size_t *), cuLinkDestroy(Handle);
int cuEventCreate(Handle *, unsigned), cuEventDestroy_v2(Handle), cuEventRecord(Handle, Handle),
    cuEventSynchronize(Handle), cuStreamWaitEvent(Handle, Handle, unsigned);
int cuFuncSetAttribute(Handle, int, int), cuGetErrorName(int, const char **);

#define CHECK(call) ck_assert_int_eq((call), 0)
#define HEAD        ".version 7.8\n.target sm_80\n.address_size 64\n"

static inline void device(void) {
    Handle context;
    CHECK(cuInit(0));
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
}

static inline Handle module(const char *ptx) {
    Handle m;
    CHECK(cuModuleLoadDataEx(&m, ptx, 0, NULL, NULL));
    return m;
}

static inline int launch(Handle m, const char *name, unsigned blocks, unsigned threads, CUdeviceptr a,
                         CUdeviceptr b) {
    Handle f;
    CHECK(cuModuleGetFunction(&f, m, name));
    int r = cuLaunchKernel(f, blocks, 1, 1, threads, 1, 1, 0, NULL, (void *[]){&a, &b}, NULL);
    return r ? r : cuCtxSynchronize();
}

/* What is written to stderr from here on, until it is read. */
static inline void capture(void) {
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
    FILE *f = tmpfile();
    ck_assert_ptr_nonnull(f);
    dup2(fileno(f), 2);
}
static inline const char *captured(void) {
    static char text[4096];
    fflush(stderr);
    lseek(2, 0, SEEK_SET);
    ssize_t n = read(2, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    return text;
}

#endif
