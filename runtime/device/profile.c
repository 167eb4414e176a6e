/* --profile: where the time of a run went, kernel by kernel. GFLOP/s and GB/s come from the counts that the
 * compiler put into each launch (bytes: operands read once plus results written once); the share is that of
 * the roofline: the time that this machine would need at best for the FLOPs or for the bytes, whichever is
 * longer. Caches can lift a kernel that memory bounds above it. */
#include "profile.h"
#include "../error.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void profile_open(Profile *p, const LoadedModule *m) {
    p->module = m;
    p->nkernels = m->desc->nkernels;
    p->kernels = rt_calloc(p->nkernels + 1u, sizeof *p->kernels);
    for (uint32_t i = 0; i < p->nkernels; i++) p->kernels[i].name = m->desc->kernels[i].name;
}

void profile_close(Profile *p) {
    free(p->kernels);
    *p = (Profile){0};
}

static double bound(const Profile *p, const tbc_launch *l) {
    const Roofline *r = &p->roofline;
    double peak = r->peak[p->module->desc->kernels[l->kernel].math];
    double compute = peak > 0 ? (double)l->flops / peak : 0;
    double memory = r->bandwidth > 0 ? (double)l->bytes / r->bandwidth : 0;
    return compute > memory ? compute : memory;
}

void profile_add(Profile *p, const tbc_launch *l, double seconds) {
    KernelTime *k = &p->kernels[l->kernel];
    k->launches++;
    k->seconds += seconds;
    k->flops += (double)l->flops;
    k->bytes += (double)l->bytes;
    k->bound += bound(p, l);
}

static int slowest_first(const void *a, const void *b) {
    const KernelTime *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

KernelTime *profile_sorted(const Profile *p, uint32_t *n, KernelTime *total) {
    KernelTime *sorted = rt_calloc(p->nkernels + 1u, sizeof *sorted);
    *n = 0, *total = (KernelTime){.name = "total"};
    for (uint32_t i = 0; i < p->nkernels; i++) {
        const KernelTime *k = &p->kernels[i];
        if (!k->launches) continue;
        sorted[(*n)++] = *k;
        total->launches += k->launches;
        total->seconds += k->seconds;
        total->flops += k->flops;
        total->bytes += k->bytes;
        total->bound += k->bound;
    }
    qsort(sorted, *n, sizeof *sorted, slowest_first);
    return sorted;
}

double profile_share(const KernelTime *k) {
    return k->seconds > 0 ? k->bound / k->seconds : 0;
}

static void print_row(const KernelTime *k, double total) {
    double per_second = k->seconds > 0 ? 1e-9 / k->seconds : 0;
    char share[16] = "-";
    if (k->bound > 0) snprintf(share, sizeof share, "%.0f", 100 * profile_share(k));
    printf("%10.3f %6.1f %9llu %9.1f %8.1f %9s  %s\n", 1e3 * k->seconds,
           total > 0 ? 100 * k->seconds / total : 0, (unsigned long long)k->launches, k->flops * per_second,
           k->bytes * per_second, share, k->name);
}

void profile_print(const Profile *p) {
    static const char *const math[TBC_MATHS] = {"f32", "i16", "bf16", "look-up"};
    KernelTime total;
    uint32_t n;
    KernelTime *sorted = profile_sorted(p, &n, &total);
    if (p->roofline.bandwidth > 0) {
        printf("roofline:");
        for (int i = 0; i < TBC_MATHS; i++)
            if (p->roofline.peak[i] > 0) printf(" %s %.1f GFLOP/s,", math[i], p->roofline.peak[i] / 1e9);
        printf(" memory %.1f GB/s\n", p->roofline.bandwidth / 1e9);
    }
    printf("%10s %6s %9s %9s %8s %9s  %s\n", "ms", "%", "launches", "GFLOP/s", "GB/s", "roofline%", "kernel");
    for (uint32_t i = 0; i < n; i++) print_row(&sorted[i], total.seconds);
    print_row(&total, total.seconds);
    free(sorted);
}
