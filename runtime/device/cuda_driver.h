/* The CUDA driver API, as far as the runtime uses it: types and entry points declared after NVIDIA's "CUDA
 * Driver API" reference, so that nothing of CUDA is needed to build, and found in libcuda.so.1 when a GPU is
 * asked for.
 *
 * Entry points carry the versions that drivers have had since CUDA 11.8 and still have; names without a
 * version in cuda.h stand for others in newer toolkits. */
#ifndef TBC_RT_CUDA_DRIVER_H
#define TBC_RT_CUDA_DRIVER_H

#include "../error.h"
#include <stdint.h>

typedef int CUresult; /* 0: success */
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

enum { /* CUresult */
       CUDA_ERROR_OUT_OF_MEMORY = 2,
       CUDA_ERROR_NO_DEVICE = 100
};
enum { /* CUdevice_attribute; clocks in kHz, the bus in bits */
       CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13,
       CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
       CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE = 36,
       CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH = 37,
       CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
       CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76
};
enum { CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8 };             /* CUfunction_attribute */
enum { CU_JIT_ERROR_LOG_BUFFER = 5, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES }; /* CUjit_option */
enum { CU_STREAM_NON_BLOCKING = 1 };
enum { CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1 };

#define CUDA_ENTRY_POINTS(F)                                                                                 \
    F(cuInit, (unsigned flags))                                                                              \
    F(cuDriverGetVersion, (int *))                                                                           \
    F(cuGetErrorName, (CUresult, const char **))                                                             \
    F(cuGetErrorString, (CUresult, const char **))                                                           \
    F(cuDeviceGetCount, (int *))                                                                             \
    F(cuDeviceGet, (CUdevice *, int ordinal))                                                                \
    F(cuDeviceGetName, (char *, int bytes, CUdevice))                                                        \
    F(cuDeviceGetAttribute, (int *, int attribute, CUdevice))                                                \
    F(cuDevicePrimaryCtxRetain, (CUcontext *, CUdevice))                                                     \
    F(cuDevicePrimaryCtxRelease_v2, (CUdevice))                                                              \
    F(cuCtxSetCurrent, (CUcontext))                                                                          \
    F(cuMemGetInfo_v2, (size_t * available, size_t * total))                                                 \
    F(cuMemAlloc_v2, (CUdeviceptr *, size_t bytes))                                                          \
    F(cuMemFree_v2, (CUdeviceptr))                                                                           \
    F(cuMemAllocHost_v2, (void **, size_t bytes))                                                            \
    F(cuMemFreeHost, (void *))                                                                               \
    F(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream))                      \
    F(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream))                            \
    F(cuMemsetD8Async, (CUdeviceptr, unsigned char value, size_t n, CUstream))                               \
    F(cuModuleLoadData, (CUmodule *, const void *image))                                                     \
    F(cuModuleLoadDataEx, (CUmodule *, const void *image, unsigned n, int *options, void **values))          \
    F(cuModuleUnload, (CUmodule))                                                                            \
    F(cuModuleGetFunction, (CUfunction *, CUmodule, const char *name))                                       \
    F(cuFuncSetAttribute, (CUfunction, int attribute, int value))                                            \
    F(cuLaunchKernel,                                                                                        \
      (CUfunction, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,    \
       unsigned block_z, unsigned shared_bytes, CUstream, void **params, void **extra))                      \
    F(cuStreamCreate, (CUstream *, unsigned flags))                                                          \
    F(cuStreamDestroy_v2, (CUstream))                                                                        \
    F(cuStreamSynchronize, (CUstream))                                                                       \
    F(cuStreamBeginCapture_v2, (CUstream, int mode))                                                         \
    F(cuStreamEndCapture, (CUstream, CUgraph *))                                                             \
    F(cuGraphInstantiateWithFlags, (CUgraphExec *, CUgraph, unsigned long long flags))                       \
    F(cuGraphLaunch, (CUgraphExec, CUstream))                                                                \
    F(cuGraphExecDestroy, (CUgraphExec))                                                                     \
    F(cuGraphDestroy, (CUgraph))                                                                             \
    F(cuEventCreate, (CUevent *, unsigned flags))                                                            \
    F(cuEventRecord, (CUevent, CUstream))                                                                    \
    F(cuEventSynchronize, (CUevent))                                                                         \
    F(cuEventElapsedTime, (float *milliseconds, CUevent, CUevent))                                           \
    F(cuEventDestroy_v2, (CUevent))

typedef struct CudaDriver {
#define DECLARE(name, parameters) CUresult(*name) parameters;
    CUDA_ENTRY_POINTS(DECLARE)
#undef DECLARE
} CudaDriver;

/* Loads the driver, finds the entry points and initialises it. False: an error was printed. The library stays
 * loaded until the process ends: drivers are not made to be unloaded. */
bool cuda_driver_load(CudaDriver *);

/* rt_error with what went wrong at the end: `...: CUDA_ERROR_NAME (what that means)`. Always returns false.
 */
bool cuda_error(const CudaDriver *, const char *path, CUresult, const char *fmt, ...) RT_PRINTF(4, 5);

#endif
