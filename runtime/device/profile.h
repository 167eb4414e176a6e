/* --profile: time per kernel, summed over all launches of a run, and how much of it the machine would need.
 */
#ifndef TBC_RT_PROFILE_H
#define TBC_RT_PROFILE_H

#include "module.h"

/* What a machine can do at most; 0: unknown. */
typedef struct Roofline {
    double peak[TBC_MATHS]; /* FLOP/s, by enum tbc_math */
    double bandwidth;       /* bytes/s */
} Roofline;

typedef struct KernelTime {
    const char *name;
    uint64_t launches;
    double seconds, flops, bytes;
    double
        bound; /* seconds that the roofline allows at best: of arithmetic or of memory, whichever is longer */
} KernelTime;

typedef struct Profile {
    KernelTime *kernels; /* one for each of the module's */
    uint32_t nkernels;
    const LoadedModule *module;
    Roofline roofline;
} Profile;

void profile_open(Profile *, const LoadedModule *);
void profile_close(Profile *); /* a zeroed Profile is allowed */
void profile_add(Profile *, const tbc_launch *, double seconds);
/* The kernels that ran, the most expensive first; *n of them, and their sum. free() the result. */
KernelTime *profile_sorted(const Profile *, uint32_t *n, KernelTime *total);
/* The share of its roofline that a kernel reached, 0 .. 1 or a little above; 0: unknown. */
double profile_share(const KernelTime *);
/* Prints the table to stdout. */
void profile_print(const Profile *);

double seconds_now(void); /* a monotonic clock */

#endif
