/* --profile: where the time of a run went, kernel by kernel. GFLOP/s and GB/s come from the counts that the
 * compiler put into each launch (bytes: operands read once plus results written once). */
#include "profile.h"
#include "error.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void profile_open(Profile *p, const LoadedModule *m) {
    p->nkernels = m->desc->nkernels;
    p->kernels = rt_calloc(p->nkernels + 1u, sizeof *p->kernels);
    for (uint32_t i = 0; i < p->nkernels; i++) p->kernels[i].name = m->desc->kernels[i].name;
}

void profile_close(Profile *p) {
    free(p->kernels);
    *p = (Profile){0};
}

void profile_add(Profile *p, const tbc_launch *l, double seconds) {
    KernelTime *k = &p->kernels[l->kernel];
    k->launches++;
    k->seconds += seconds;
    k->flops += (double)l->flops;
    k->bytes += (double)l->bytes;
}

static int slowest_first(const void *a, const void *b) {
    const KernelTime *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

static void print_row(const KernelTime *k, double total) {
    double per_second = k->seconds > 0 ? 1e-9 / k->seconds : 0;
    printf("%10.3f %6.1f %9llu %9.1f %8.1f  %s\n", 1e3 * k->seconds, total > 0 ? 100 * k->seconds / total : 0,
           (unsigned long long)k->launches, k->flops * per_second, k->bytes * per_second, k->name);
}

void profile_print(const Profile *p) {
    KernelTime *sorted = rt_calloc(p->nkernels + 1u, sizeof *sorted);
    KernelTime total = {.name = "total"};
    for (uint32_t i = 0; i < p->nkernels; i++) {
        sorted[i] = p->kernels[i];
        total.launches += sorted[i].launches;
        total.seconds += sorted[i].seconds;
        total.flops += sorted[i].flops;
        total.bytes += sorted[i].bytes;
    }
    qsort(sorted, p->nkernels, sizeof *sorted, slowest_first);
    printf("%10s %6s %9s %9s %8s  %s\n", "ms", "%", "launches", "GFLOP/s", "GB/s", "kernel");
    for (uint32_t i = 0; i < p->nkernels && sorted[i].launches; i++) print_row(&sorted[i], total.seconds);
    print_row(&total, total.seconds);
    free(sorted);
}
