/* What the PTX of a kernel tells of its work. */
#ifndef TBC_PTX_LOOP_H
#define TBC_PTX_LOOP_H

#include <stdbool.h>

typedef struct PtxWork {
    bool asynchronous;        /* copies to shared memory by cp.async */
    double shared_bytes_flop; /* bytes of shared memory read and written for each FLOP, in the loop with most
                                 FLOPs */
} PtxWork;
/* Of kernel `name`; all 0 where it is not in the text. */
PtxWork ptx_work(const char *ptx, const char *name);

#endif
