/* The CPU device: memory by mmap, launches by the parallel loop over their tiles. */
#include "device_cpu.h"
#include "error.h"
#include "parallel.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* ---- memory */

static uint64_t round_up(uint64_t n, uint64_t to) {
    return (n + to - 1) / to * to;
}

/* Bytes that can be had without swapping others out: what the kernel says is available, and at most what
 * the control group and `ulimit -v` allow. UINT64_MAX: unknown. */
static uint64_t memory_available(void) {
    uint64_t available = UINT64_MAX, value;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemAvailable: %" SCNu64, &value) == 1) available = value * 1024;
        if (sscanf(line, "SwapFree: %" SCNu64, &value) == 1 && available != UINT64_MAX)
            available += value * 1024;
    }
    if (file) fclose(file);
    file = fopen("/sys/fs/cgroup/memory.max", "r");
    if (file && fscanf(file, "%" SCNu64, &value) == 1 && value < available) available = value;
    if (file) fclose(file);
    struct rlimit space;
    if (!getrlimit(RLIMIT_AS, &space) && space.rlim_cur < available) available = space.rlim_cur;
    return available;
}

static void *map_zeroed(uint64_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return NULL;
    madvise(at, bytes, MADV_HUGEPAGE); /* fewer TLB misses; not having huge pages is fine */
    return at;
}

static bool out_of_memory(const LoadedModule *m, uint64_t needed, uint64_t available) {
    const double gib = 1024.0 * 1024 * 1024;
    return rt_error(
        m->path, "needs %.2f GiB of memory, %.2f GiB are available (compile with a smaller --batch or --seq)",
        (double)needed / gib, (double)available / gib);
}

bool device_open(Device *d, const LoadedModule *m, int threads) {
    const tbc_module_t *desc = m->desc;
    *d = (Device){.module = m, .threads = threads > 0 ? threads : parallel_all()};
    if (desc->gpu)
        return rt_error(m->path, "compiled for a GPU (compile with --target x86-64, or run with --device cuda)");
    d->arena_bytes = round_up(desc->arena_bytes + 1, 64);
    d->scratch_slice = round_up(desc->scratch_bytes + 1, 64);
    uint64_t scratch = (uint64_t)d->threads * d->scratch_slice;
    uint64_t needed = d->arena_bytes + scratch, available = memory_available();
    if (needed > available) return out_of_memory(m, needed, available);
    d->arena = map_zeroed(d->arena_bytes);
    d->scratch = map_zeroed(scratch);
    if (!d->arena || !d->scratch) { /* what is in use already counts towards ulimit -v too */
        device_close(d);
        return out_of_memory(m, needed, available);
    }
    for (uint32_t i = 0; i < desc->nconsts; i++)
        memcpy(d->arena + desc->consts[i].offset, desc->consts[i].data, desc->consts[i].bytes);
    return true;
}

void device_close(Device *d) {
    if (d->arena) munmap(d->arena, d->arena_bytes);
    if (d->scratch) munmap(d->scratch, (uint64_t)d->threads * d->scratch_slice);
    *d = (Device){0};
}

/* ---- launches */

typedef struct Launch {
    const Device *device;
    tbc_kernel_fn *run;
    const uint64_t *args;
} Launch;

static void run_tile(void *context, uint64_t tile, int thread) {
    const Launch *l = context;
    l->run(l->device->arena, l->args, tile, l->device->scratch + (uint64_t)thread * l->device->scratch_slice);
}

void device_run(Device *d, const tbc_table *table) {
    const tbc_module_t *m = d->module->desc;
    for (uint32_t i = 0; i < table->count; i++) {
        const tbc_launch *l = &m->launches[table->first + i];
        Launch launch = {d, m->kernels[l->kernel].run, m->args + l->args};
        double start = d->profile ? seconds_now() : 0;
        parallel_tiles(d->threads, l->tiles, run_tile, &launch);
        if (d->profile) profile_add(d->profile, l, seconds_now() - start);
    }
}

/* ---- whole tensors, in blocks of a fixed size */

#define BLOCK (INT64_C(1) << 16)

typedef struct Blocks {
    const float *in;
    float *out;
    int64_t n;
    double *sums; /* one a block */
} Blocks;

static int64_t block_end(const Blocks *b, int64_t begin) {
    return begin + BLOCK < b->n ? begin + BLOCK : b->n;
}

static void zero_block(void *context, uint64_t tile, int thread) {
    (void)thread;
    Blocks *b = context;
    int64_t begin = (int64_t)tile * BLOCK;
    memset(b->out + begin, 0, (size_t)(block_end(b, begin) - begin) * sizeof(float));
}

void device_zero(Device *d, float *at, int64_t n) {
    Blocks b = {.out = at, .n = n};
    parallel_tiles(d->threads, (uint64_t)((n + BLOCK - 1) / BLOCK), zero_block, &b);
}

static void square_block(void *context, uint64_t tile, int thread) {
    (void)thread;
    Blocks *b = context;
    int64_t begin = (int64_t)tile * BLOCK, end = block_end(b, begin);
    double sum = 0;
    for (int64_t i = begin; i < end; i++) sum += (double)b->in[i] * (double)b->in[i];
    b->sums[tile] = sum;
}

double device_sum_squares(Device *d, const float *at, int64_t n) {
    int64_t blocks = (n + BLOCK - 1) / BLOCK;
    Blocks b = {.in = at, .n = n, .sums = rt_calloc((size_t)blocks, sizeof(double))};
    parallel_tiles(d->threads, (uint64_t)blocks, square_block, &b);
    double sum = 0;
    for (int64_t i = 0; i < blocks; i++) sum += b.sums[i];
    free(b.sums);
    return sum;
}
