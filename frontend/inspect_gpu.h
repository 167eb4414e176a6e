/* What `tbc inspect` says of a module for a GPU beyond its tables. */
#ifndef TBC_INSPECT_GPU_H
#define TBC_INSPECT_GPU_H

#include "../ir/base.h"
#include "../runtime/tbc_module.h"
#include <stdbool.h>
#include <stdio.h>

/* The code that is there, and for the GPUs that it can be modelled on: what each kernel takes of a
 * multiprocessor, how much of it that fills, and the time of its launches in `train` (or `backward`); then
 * the time of each table, and of the training step the share of the peak (MFU). */
void inspect_gpu(const tbc_module_t *, FILE *out);

/* The same as an object of JSON:
 *
 *     sm, ptx_bytes    the embedded PTX and the least architecture that it needs
 *     images           of cubins: sm, bytes
 *     models           one for each GPU that it can be modelled on, none where there was no ptxas
 *       name, sm, peak_flops, bytes_per_s   of the GPU: bf16 on its tensor cores, memory
 *       kernels        in order: name, threads (of a block), registers (of a thread), spill_bytes,
 *                      shared_bytes (of a block, static and dynamic), occupancy (0 .. 1: warps of those that
 *                      a multiprocessor has room for), seconds (modelled, of all its launches in a step)
 *       tables         name, seconds (modelled), flops, and of the training step mfu (0 .. 1: flops / seconds /
 *                      peak_flops) */
void inspect_gpu_json(const tbc_module_t *, Buf *);

#endif
