/* PTX to machine code, where NVIDIA's assembler is at hand. */
#ifndef TBC_NV_ASSEMBLE_H
#define TBC_NV_ASSEMBLE_H

#include "../../runtime/tbc_module.h"
#include "../gen.h"

/* A cubin, and what ptxas said about its kernels; both on the heap. */
typedef struct NvImage {
    uint32_t sm; /* the compute capability it is made for, 80 for sm_80 */
    uint64_t bytes;
    char *data;
    Buf said;
} NvImage;

typedef VEC(NvImage) NvImages;

/* Assembles PTX for each of the architectures in use from its own on, with the `ptxas` in PATH or
 * /usr/local/cuda/bin, through temporary files beside `path`. Without ptxas, or for architectures that it
 * does not know, there is no image. False after a reported error: ptxas refused the PTX. */
bool nv_assemble(const char *ptx, size_t n, int sm, const char *path, NvImages *, Diag *);
void nv_images_free(NvImages *);
/* What the kernel of that name takes of a multiprocessor, as ptxas said; zeros if it did not. */
tbc_gpu_usage nv_usage(const NvImage *, const char *kernel);

#endif
