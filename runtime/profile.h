/* --profile: time per kernel, summed over all launches of a run. */
#ifndef TBC_RT_PROFILE_H
#define TBC_RT_PROFILE_H

#include "module.h"

typedef struct KernelTime {
    const char *name;
    uint64_t launches;
    double seconds, flops, bytes;
} KernelTime;

typedef struct Profile {
    KernelTime *kernels; /* one for each of the module's */
    uint32_t nkernels;
} Profile;

void profile_open(Profile *, const LoadedModule *);
void profile_close(Profile *); /* a zeroed Profile is allowed */
void profile_add(Profile *, const tbc_launch *, double seconds);
/* Prints the table to stdout, the most expensive kernel first. */
void profile_print(const Profile *);

double seconds_now(void); /* a monotonic clock */

#endif
