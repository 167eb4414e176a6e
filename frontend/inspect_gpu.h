/* What `tbc inspect` says of a module for a GPU beyond its tables. */
#ifndef TBC_INSPECT_GPU_H
#define TBC_INSPECT_GPU_H

#include "../runtime/tbc_module.h"
#include <stdbool.h>
#include <stdio.h>

/* The code that is there, and for the GPUs that it can be modelled on: what each kernel takes of a
 * multiprocessor, how much of it that fills, and the time of its launches in `train` (or `backward`); then
 * the time of each table, and of the training step the share of the peak (MFU). */
void inspect_gpu(const tbc_module_t *, FILE *out);

#endif
