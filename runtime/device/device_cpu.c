/* The CPU as a device: a launch is a parallel loop over its tiles. Since tiles are fixed at compile time and
 * write disjoint memory, results are bit-equal for any number of threads. The host's memory is the arena, so
 * nothing has to cross and nothing can fail. */
#include "device.h"
#include "../error.h"
#include "parallel.h"
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

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

static bool out_of_memory(const LoadedModule *m, uint64_t needed, uint64_t available) {
    const double gib = 1024.0 * 1024 * 1024;
    return rt_error(m->path,
                    "needs %.2f GiB of memory, %.2f GiB are available (compile with --memory, or a smaller "
                    "--batch or --seq)",
                    (double)needed / gib, (double)available / gib);
}

/* On a machine with several memory nodes, puts the pages on all of them in turn. Any thread takes any tile,
 * so no node is nearer to a page's users than another, and the bandwidth of all is there for each kernel.
 * Left to themselves, pages come from the node of whoever touches them first: one thread, where weights are
 * loaded. A policy that the user chose (numactl) stays; a kernel that forbids it does no harm. */
static void interleave(void *at, uint64_t bytes) {
    enum { BITS = 8 * sizeof(unsigned long), NODES = 1024 };
    unsigned long allowed[NODES / BITS] = {0};
    int policy;
    if (syscall(SYS_get_mempolicy, &policy, NULL, 0UL, NULL, 0UL) || policy != MPOL_DEFAULT) return;
    if (syscall(SYS_get_mempolicy, NULL, allowed, (unsigned long)NODES, NULL,
                (unsigned long)MPOL_F_MEMS_ALLOWED))
        return;
    syscall(SYS_mbind, at, bytes, (long)MPOL_INTERLEAVE, allowed, (unsigned long)NODES, 0UL);
}

typedef struct Cpu {
    char *scratch; /* 64-byte aligned, one slice a thread */
    uint64_t scratch_slice;
    int threads;
} Cpu;

static bool cpu_open(Device *d, int threads) {
    Cpu *cpu = d->self = rt_calloc(1, sizeof *cpu);
    cpu->threads = threads > 0 ? threads : parallel_all();
    cpu->scratch_slice = round_up(d->module->desc->scratch_bytes + 1, 64);
    snprintf(d->name, sizeof d->name, "%d thread%s", cpu->threads, cpu->threads > 1 ? "s" : "");
    uint64_t scratch = (uint64_t)cpu->threads * cpu->scratch_slice;
    uint64_t needed = d->arena_bytes + scratch, available = memory_available();
    if (needed > available) return out_of_memory(d->module, needed, available);
    d->arena = device_map(d->arena_bytes);
    cpu->scratch = device_map(scratch);
    if (!d->arena || !cpu->scratch) /* what is in use already counts towards ulimit -v too */
        return out_of_memory(d->module, d->arena_bytes + scratch, available);
    madvise(d->arena, d->arena_bytes, MADV_HUGEPAGE); /* fewer TLB misses; not having huge pages is fine */
    madvise(cpu->scratch, scratch, MADV_HUGEPAGE);
    interleave(d->arena, d->arena_bytes); /* scratch is each thread's own */
    return true;
}

static void cpu_close(Device *d) {
    Cpu *cpu = d->self;
    if (cpu->scratch) munmap(cpu->scratch, (uint64_t)cpu->threads * cpu->scratch_slice);
    free(cpu);
}

static bool cpu_ok(const Device *d) {
    (void)d;
    return true;
}

static void cpu_transfer(const Device *d, uint64_t offset, uint64_t bytes) {
    (void)d, (void)offset, (void)bytes;
}

/* ---- launches */

typedef struct Launch {
    const Cpu *cpu;
    char *arena;
    tbc_kernel_fn *run;
    const uint64_t *args;
} Launch;

static void run_tile(void *context, uint64_t tile, int thread) {
    const Launch *l = context;
    l->run(l->arena, l->args, tile, l->cpu->scratch + (uint64_t)thread * l->cpu->scratch_slice);
}

static void cpu_run(Device *d, const tbc_table *table) {
    const tbc_module_t *m = d->module->desc;
    const Cpu *cpu = d->self;
    for (uint32_t i = 0; i < table->count; i++) {
        const tbc_launch *l = &m->launches[table->first + i];
        Launch launch = {cpu, d->arena, m->kernels[l->kernel].run, m->args + l->args};
        double start = d->profile ? seconds_now() : 0;
        parallel_tiles(cpu->threads, l->tiles, run_tile, &launch);
        if (d->profile) profile_add(d->profile, l, seconds_now() - start);
    }
}

/* ---- whole tensors, in blocks of a fixed size */

#define BLOCK (UINT64_C(1) << 18) /* bytes */

typedef struct Blocks {
    char *at;
    uint64_t bytes;
    double *sums; /* one a block */
} Blocks;

static uint64_t block_bytes(const Blocks *b, uint64_t block) {
    uint64_t left = b->bytes - block * BLOCK;
    return left < BLOCK ? left : BLOCK;
}

static void zero_block(void *context, uint64_t block, int thread) {
    (void)thread;
    Blocks *b = context;
    memset(b->at + block * BLOCK, 0, block_bytes(b, block));
}

static void cpu_zero(Device *d, uint64_t offset, uint64_t bytes) {
    Blocks b = {.at = d->arena + offset, .bytes = bytes};
    parallel_tiles(((Cpu *)d->self)->threads, (bytes + BLOCK - 1) / BLOCK, zero_block, &b);
}

static void square_block(void *context, uint64_t block, int thread) {
    (void)thread;
    Blocks *b = context;
    const float *at = (const float *)(b->at + block * BLOCK);
    const uint64_t n = block_bytes(b, block) / sizeof *at;
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += (double)at[i] * (double)at[i];
    b->sums[block] = sum;
}

static double sum_squares(Device *d, const tbc_tensor *t) {
    const uint64_t bytes = (uint64_t)tensor_values(t) * sizeof(float), blocks = (bytes + BLOCK - 1) / BLOCK;
    Blocks b = {d->arena + t->offset, bytes, rt_calloc(blocks, sizeof(double))};
    parallel_tiles(((Cpu *)d->self)->threads, blocks, square_block, &b);
    double sum = 0;
    for (uint64_t i = 0; i < blocks; i++) sum += b.sums[i];
    free(b.sums);
    return sum;
}

static double cpu_sum_squares(Device *d, const tbc_tensor *const *tensors, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += sum_squares(d, tensors[i]);
    return sum;
}

static void cpu_read_later(Device *d, uint64_t offset, double *to) {
    *to = (double)*(const float *)(d->arena + offset);
}

const DeviceKind device_cpu = {
    cpu_open,     cpu_close,    cpu_ok,   cpu_ok,         cpu_run,
    cpu_transfer, cpu_transfer, cpu_zero, cpu_read_later, cpu_sum_squares,
    NULL,         1};
