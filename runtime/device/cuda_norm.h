/* Sums of squares on a GPU, for the norm of the gradients: one block of threads sums CUDA_NORM_BLOCK values
 * in f64, each thread every 256th in order, then by halves; so the result depends on nothing but the values.
 */
#ifndef TBC_RT_CUDA_NORM_H
#define TBC_RT_CUDA_NORM_H

#include "cuda_driver.h"

#define CUDA_NORM_BLOCK (UINT64_C(1) << 16)

typedef struct CudaNorm {
    CUmodule module;
    CUfunction sum;
} CudaNorm;

static inline uint64_t cuda_norm_blocks(uint64_t n) {
    return (n + CUDA_NORM_BLOCK - 1) / CUDA_NORM_BLOCK;
}

/* Has the driver compile the kernel, in the current context. The module is the caller's to unload. */
CUresult cuda_norm_load(CudaNorm *, const CudaDriver *);

/* Has partial sums of n > 0 floats at `in` written to out[0 .. cuda_norm_blocks(n)-1], doubles. */
CUresult cuda_norm_launch(const CudaNorm *, const CudaDriver *, CUstream, CUdeviceptr in, uint64_t n,
                          CUdeviceptr out);

#endif
