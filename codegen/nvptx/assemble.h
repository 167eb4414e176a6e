/* PTX to machine code, where NVIDIA's assembler is at hand. */
#ifndef TBC_NV_ASSEMBLE_H
#define TBC_NV_ASSEMBLE_H

#include "../gen.h"

/* A cubin; data is on the heap. */
typedef struct NvImage {
    uint32_t sm; /* the compute capability it is made for, 80 for sm_80 */
    uint64_t bytes;
    char *data;
} NvImage;

typedef VEC(NvImage) NvImages;

/* Assembles PTX for each of the architectures in use from its own on, with the `ptxas` in PATH or
 * /usr/local/cuda/bin, through temporary files beside `path`. Without ptxas, or for architectures that it
 * does not know, there is no image. False after a reported error: ptxas refused the PTX. */
bool nv_assemble(const char *ptx, size_t n, int sm, const char *path, NvImages *, Diag *);
void nv_images_free(NvImages *);

#endif
