/* The CPU as a device: the module's memory, and the walker of its launch tables.
 *
 * Memory is one anonymous map: pages that are never touched cost nothing. A launch is an OpenMP
 * parallel-for over its tiles; since tiles are fixed at compile time and write disjoint memory, results are
 * bit-equal for any number of threads. */
#ifndef TBC_RT_DEVICE_CPU_H
#define TBC_RT_DEVICE_CPU_H

#include "module.h"
#include "profile.h"

typedef struct Device {
    const LoadedModule *module;
    char *arena, *scratch; /* 64-byte aligned; scratch: one slice a thread */
    uint64_t arena_bytes, scratch_slice;
    int threads;
    Profile *profile; /* where launches are timed; NULL: nowhere */
} Device;

/* Sets up memory for a module, zeroed, with its constants in place. threads 0: as many as the process may
 * use. False: an error was printed (memory). */
bool device_open(Device *, const LoadedModule *, int threads);
void device_close(Device *); /* a zeroed Device is allowed */

/* Runs a table: all launches, in order. */
void device_run(Device *, const tbc_table *);

static inline void *device_at(const Device *d, const tbc_tensor *t) {
    return d->arena + t->offset;
}

/* Sets n floats to zero, on all threads. */
void device_zero(Device *, float *, int64_t n);
/* Sum of squares in f64, on all threads, in an order that does not depend on how many there are. */
double device_sum_squares(Device *, const float *, int64_t n);

#endif
