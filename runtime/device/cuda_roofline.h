/* What a GPU can do at most, by what it says of itself. */
#ifndef TBC_RT_CUDA_ROOFLINE_H
#define TBC_RT_CUDA_ROOFLINE_H

#include "cuda_driver.h"
#include "profile.h"

/* Arithmetic: highest clock x multiprocessors x operations a cycle of one; memory: clock x bus width, two
 * transfers a cycle. sm: 10 x major + minor compute capability. What cannot be known is 0. */
Roofline cuda_roofline(const CudaDriver *, CUdevice, uint32_t sm);

#endif
