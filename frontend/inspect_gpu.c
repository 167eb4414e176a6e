/* Occupancy and a model of the time that kernels take on known GPUs, from what ptxas said of them.
 *
 * A launch takes the longest of its arithmetic, its memory traffic and its traffic to shared memory (128
 * bytes a cycle and multiprocessor; how much for each FLOP, its PTX says), and LAUNCH_TIME. None gets the
 * whole of its peak:
 *
 *     hidden   arithmetic: warps that are resident on average, of the 8 a multiprocessor that it takes to
 *              hide latencies; memory: bytes that are on their way, of the 16 KB a multiprocessor that it
 *              takes to move at full speed (bandwidth times some 600 ns). At most 1
 *     waves    arithmetic and shared memory: the last wave of blocks may be short: blocks / (waves * blocks
 *              at a time), and one wave may leave multiprocessors idle
 *
 * On its way are two loads of 16 bytes for each lane, or what a kernel copies asynchronously: all of dynamic
 * shared memory but the stage at work, a third.
 *
 * Caches, and how well the instructions are scheduled, are not modelled: the times are what could be had, not
 * what will be measured. */
#include "inspect_gpu.h"
#include "ptx_loop.h"
#include <stdlib.h>
#include <string.h>

#define LAUNCH_TIME        2e-6 /* of one node of a CUDA graph, seconds */
#define SHARED_BYTES_CYCLE 128. /* of a multiprocessor's shared memory */

/* Figures of NVIDIA's data sheets and of the CUDA C Programming Guide, "Technical Specifications per Compute
 * Capability". Products of int16 are two of int8 each. From Hopper on, the whole peak takes instructions of
 * single architectures (wgmma, tcgen05), which these kernels do not use; mma.sync gets 63 % on an H100 (Luo
 * et al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture via Microbenchmarking", 2024), and
 * is taken to get as much on a B200. */
typedef struct Gpu {
    const char *name;
    uint32_t sm;                                                      /* whose image it runs */
    uint32_t multiprocessors, registers, shared_bytes, warps, blocks; /* of a multiprocessor: the last four */
    double peak[TBC_MATHS], bandwidth, clock; /* FLOP/s, B/s, Hz of that peak in bf16 */
    double mma;                               /* share of the tensor cores' peak that mma.sync gets */
} Gpu;

static const Gpu gpus[] = {
    {"A100", 80, 108, 65536, 164 << 10, 64, 32, {19.5e12, 312e12, 312e12}, 2.04e12, 1.41e9, 1},
    {"H100", 90, 132, 65536, 228 << 10, 64, 32, {66.9e12, 989.5e12, 989.5e12}, 3.35e12, 1.83e9, .63},
    {"B200", 100, 148, 65536, 228 << 10, 64, 32, {75e12, 2250e12, 2250e12}, 8e12, 1.86e9, .63},
};
enum { GPUS = sizeof gpus / sizeof *gpus };

static uint32_t round_up(uint32_t n, uint32_t to) {
    return (n + to - 1) / to * to;
}

static double least(double a, double b) {
    return a < b ? a : b;
}
static double most(double a, double b) {
    return a > b ? a : b;
}

static const tbc_gpu_image *image_for(const tbc_module_t *m, const Gpu *gpu) {
    for (uint32_t i = 0; i < m->gpu->nimages; i++)
        if (m->gpu->images[i].sm == gpu->sm && m->gpu->images[i].usage) return &m->gpu->images[i];
    return NULL;
}

/* Blocks of the kernel that a multiprocessor holds at a time. A warp's registers are given out by 256, and a
 * block takes 1 KB of shared memory for the system. */
static uint32_t blocks_at_a_time(const Gpu *gpu, const tbc_gpu_kernel *k, const tbc_gpu_usage *u) {
    uint32_t warps = (k->threads + 31) / 32, most = gpu->blocks;
    uint32_t registers = warps * round_up(u->registers * 32, 256);
    uint32_t shared = round_up(k->shared_bytes + u->shared_bytes + 1024, 128);
    if (most > gpu->warps / warps) most = gpu->warps / warps;
    if (registers && most > gpu->registers / registers) most = gpu->registers / registers;
    if (most > gpu->shared_bytes / shared) most = gpu->shared_bytes / shared;
    return most;
}

/* Of each kernel, what its PTX says. The caller frees it; NULL: no memory. */
static PtxWork *work_of_kernels(const tbc_module_t *m) {
    PtxWork *work = calloc(m->nkernels + 1, sizeof *work);
    for (uint32_t k = 0; work && k < m->nkernels; k++) work[k] = ptx_work(m->gpu->ptx, m->kernels[k].name);
    return work;
}

/* Bytes that a multiprocessor needs on their way to move at full speed. */
#define MOST_IN_FLIGHT 16384.

/* Bytes that a block has on their way. */
static double in_flight(const tbc_gpu_kernel *k, bool asynchronous) {
    double loads = k->threads * 32., copies = asynchronous ? k->shared_bytes * 2. / 3 : 0;
    return most(loads, copies);
}

/* Seconds. */
static double launch_time(const tbc_module_t *m, const PtxWork *work, const Gpu *gpu,
                          const tbc_gpu_image *image, const tbc_launch *l) {
    const tbc_gpu_kernel *k = &m->gpu->kernels[l->kernel];
    uint32_t blocks = blocks_at_a_time(gpu, k, &image->usage[l->kernel]), warps = (k->threads + 31) / 32;
    if (!blocks || !l->tiles) return 0;
    double at_a_time = (double)blocks * gpu->multiprocessors,
           waves = (double)(uint64_t)(l->tiles / at_a_time);
    if (waves * at_a_time < l->tiles) waves++;
    double resident = least(l->tiles, at_a_time) / gpu->multiprocessors; /* blocks, on average */
    double hidden = least(1, resident * in_flight(k, work[l->kernel].asynchronous) / MOST_IN_FLIGHT);
    double full = waves > 1 ? l->tiles / (waves * at_a_time) : 1;
    enum tbc_math kind = m->kernels[l->kernel].math;
    double peak = gpu->peak[kind] * (kind == TBC_MATH_F32 ? 1 : gpu->mma);
    double math = (double)l->flops / (peak * full * least(1, resident * warps / 8));
    double memory = (double)l->bytes / (gpu->bandwidth * hidden);
    double shared = (double)l->flops * work[l->kernel].shared_bytes_flop /
                    (SHARED_BYTES_CYCLE * gpu->clock * gpu->multiprocessors * full * least(1, resident));
    return most(most(math, memory), shared) + LAUNCH_TIME;
}

static double table_time(const tbc_module_t *m, const PtxWork *work, const Gpu *gpu, const tbc_table *t,
                         uint32_t kernel) {
    const tbc_gpu_image *image = image_for(m, gpu);
    double seconds = 0;
    for (uint32_t i = 0; image && i < t->count; i++) {
        const tbc_launch *l = &m->launches[t->first + i];
        if (kernel == UINT32_MAX || l->kernel == kernel) seconds += launch_time(m, work, gpu, image, l);
    }
    return seconds;
}

/* The table of the training step, NULL if there is none. */
static const tbc_table *step_of(const tbc_module_t *m) {
    for (uint32_t i = 0; i < m->ntables; i++)
        if (!strcmp(m->tables[i].name, "train") || !strcmp(m->tables[i].name, "backward"))
            return &m->tables[i];
    return NULL;
}

static double table_flops(const tbc_module_t *m, const tbc_table *t) {
    double flops = 0;
    for (uint32_t l = 0; l < t->count; l++) flops += (double)m->launches[t->first + l].flops;
    return flops;
}

/* Of the warps that a multiprocessor has room for. */
static double occupancy(const Gpu *gpu, const tbc_gpu_kernel *k, const tbc_gpu_usage *u) {
    return (double)(blocks_at_a_time(gpu, k, u) * ((k->threads + 31) / 32)) / gpu->warps;
}

static void print_kernels(const tbc_module_t *m, const PtxWork *work, FILE *out) {
    const tbc_table *step = step_of(m);
    fprintf(out,
            "\nKernels on a GPU: registers, shared memory, spills; share of the warps that fit; modelled "
            "time in a step\n");
    for (uint32_t k = 0; k < m->nkernels; k++) {
        const tbc_gpu_kernel *kernel = &m->gpu->kernels[k];
        fprintf(out, "  %-48s %4u threads", m->kernels[k].name, kernel->threads);
        for (int i = 0; i < GPUS; i++) {
            const tbc_gpu_image *image = image_for(m, &gpus[i]);
            if (!image) continue;
            const tbc_gpu_usage *u = &image->usage[k];
            fprintf(out, "  | %s %3u r %6u B %u sp %3.0f %%", gpus[i].name, u->registers,
                    u->shared_bytes + kernel->shared_bytes, u->spill_bytes,
                    100 * occupancy(&gpus[i], kernel, u));
            double seconds = step ? table_time(m, work, &gpus[i], step, k) : 0;
            if (seconds > 0)
                fprintf(out, " %9.3f ms", 1e3 * seconds);
            else
                fprintf(out, " %12s", "");
        }
        fprintf(out, "\n");
    }
}

static void print_times(const tbc_module_t *m, const PtxWork *work, FILE *out) {
    fprintf(out, "\nModelled times (a bound from arithmetic, traffic to memory and to shared memory, and "
                 "occupancy)\n");
    for (int i = 0; i < GPUS; i++) {
        if (!image_for(m, &gpus[i])) continue;
        for (uint32_t t = 0; t < m->ntables; t++) {
            const tbc_table *table = &m->tables[t];
            double flops = table_flops(m, table), seconds = table_time(m, work, &gpus[i], table, UINT32_MAX);
            fprintf(out, "  %s %-10s %10.3f ms", gpus[i].name, table->name, 1e3 * seconds);
            if (table == step_of(m) && seconds > 0)
                fprintf(out, ", %.1f TFLOP/s, %.1f %% of the bf16 peak", flops / seconds / 1e12,
                        100 * flops / seconds / gpus[i].peak[TBC_MATH_BF16]);
            fprintf(out, "\n");
        }
    }
}

void inspect_gpu(const tbc_module_t *m, FILE *out) {
    bool known = false;
    fprintf(out, "\nGPU code: PTX for sm_%u and newer, %zu bytes", m->gpu->sm, strlen(m->gpu->ptx));
    for (uint32_t i = 0; i < m->gpu->nimages; i++)
        fprintf(out, "; cubin for sm_%u, %llu bytes", m->gpu->images[i].sm,
                (unsigned long long)m->gpu->images[i].bytes);
    for (int i = 0; i < GPUS; i++) known |= image_for(m, &gpus[i]) != NULL;
    fprintf(out, known ? "\n" : "\n  (registers and modelled times: where ptxas is there when compiling)\n");
    if (!known) return;
    PtxWork *work = work_of_kernels(m);
    if (!work) return;
    print_kernels(m, work, out);
    print_times(m, work, out);
    free(work);
}

/* ---- JSON */

static void add_kernel(const tbc_module_t *m, const PtxWork *work, const Gpu *gpu, uint32_t k, Buf *b) {
    const tbc_gpu_kernel *kernel = &m->gpu->kernels[k];
    const tbc_gpu_usage *u = &image_for(m, gpu)->usage[k];
    const tbc_table *step = step_of(m);
    buf_printf(b, "%s{\"name\":", k ? "," : "");
    buf_quote(b, m->kernels[k].name);
    buf_printf(b, ",\"threads\":%u,\"registers\":%u,\"spill_bytes\":%u,\"shared_bytes\":%u,", kernel->threads,
               u->registers, u->spill_bytes, u->shared_bytes + kernel->shared_bytes);
    buf_printf(b, "\"occupancy\":%.4f,\"seconds\":%.9f}", occupancy(gpu, kernel, u),
               step ? table_time(m, work, gpu, step, k) : 0);
}

static void add_times(const tbc_module_t *m, const PtxWork *work, const Gpu *gpu, uint32_t t, Buf *b) {
    const tbc_table *table = &m->tables[t];
    double flops = table_flops(m, table), seconds = table_time(m, work, gpu, table, UINT32_MAX);
    buf_printf(b, "%s{\"name\":", t ? "," : "");
    buf_quote(b, table->name);
    buf_printf(b, ",\"seconds\":%.9f,\"flops\":%.0f", seconds, flops);
    if (table == step_of(m) && seconds > 0)
        buf_printf(b, ",\"mfu\":%.6f", flops / seconds / gpu->peak[TBC_MATH_BF16]);
    buf_printf(b, "}");
}

static void add_model(const tbc_module_t *m, const PtxWork *work, const Gpu *gpu, Buf *b) {
    buf_printf(b, "{\"name\":\"%s\",\"sm\":%u,\"peak_flops\":%.0f,\"bytes_per_s\":%.0f,\"kernels\":[",
               gpu->name, gpu->sm, gpu->peak[TBC_MATH_BF16], gpu->bandwidth);
    for (uint32_t k = 0; k < m->nkernels; k++) add_kernel(m, work, gpu, k, b);
    buf_printf(b, "],\"tables\":[");
    for (uint32_t t = 0; t < m->ntables; t++) add_times(m, work, gpu, t, b);
    buf_printf(b, "]}");
}

void inspect_gpu_json(const tbc_module_t *m, Buf *b) {
    PtxWork *work = work_of_kernels(m);
    const char *between = "";
    buf_printf(b, "{\"sm\":%u,\"ptx_bytes\":%zu,\"images\":[", m->gpu->sm, strlen(m->gpu->ptx));
    for (uint32_t i = 0; i < m->gpu->nimages; i++)
        buf_printf(b, "%s{\"sm\":%u,\"bytes\":%llu}", i ? "," : "", m->gpu->images[i].sm,
                   (unsigned long long)m->gpu->images[i].bytes);
    buf_printf(b, "],\"models\":[");
    for (int i = 0; work && i < GPUS; i++) {
        if (!image_for(m, &gpus[i])) continue;
        buf_printf(b, "%s", between);
        add_model(m, work, &gpus[i], b);
        between = ",";
    }
    buf_printf(b, "]}");
    free(work);
}
