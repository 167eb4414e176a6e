/* An NVIDIA GPU as a device, through the driver API. One allocation is the arena; everything goes through one
 * stream, so it happens in the order asked for. What crosses passes through pinned staging memory, so the
 * host may write its own copy again at once. Staging memory is filled half by half, and a half again once
 * what was asked for before the host left it is done: inputs of many steps fit, so the device always has
 * work. The host waits for downloads; numbers to be read later wait, pinned too, for whatever the host waits
 * for next.
 *
 * The launches of a table, or of a part of it, are captured into a graph the first time and replayed from
 * then on: a step costs the host a few calls, however many kernels it has. With --profile there are no
 * graphs: each launch is timed by events and waited for, which also tells which one fails. */
#include "cuda_driver.h"
#include "cuda_norm.h"
#include "cuda_roofline.h"
#include "device.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HALF         (UINT64_C(2) << 20) /* of the staging memory */
#define PART         (HALF / 4)          /* of a large upload, so that copying and transferring overlap */
#define NUMBERS      64                  /* that may wait to be read */
#define PLAIN_SHARED (48u << 10)         /* shared memory that a launch may have without asking */

typedef struct Graph {
    uint32_t first, count; /* launches */
    CUgraphExec replay;
} Graph;

typedef struct Cuda {
    CudaDriver cu;
    CUdevice device;
    uint32_t sm;       /* its compute capability, 10 * major + minor */
    CUcontext context; /* the primary one */
    CUstream stream;
    CUmodule module;
    CUfunction *kernels; /* one for each of the module's */
    CUdeviceptr arena;
    CUdeviceptr *addresses; /* the module's args, as addresses */
    void **params;          /* of each address, as launches want them */
    char *staging;          /* two halves */
    int half;               /* the one being filled, of which `staged` bytes may be in use */
    uint64_t staged;
    CUevent left[2]; /* when the host went on to the other half */
    float *numbers;  /* pinned; read_to says where the first nnumbers of them go */
    double *read_to[NUMBERS];
    int nnumbers;
    Graph *graphs;
    size_t ngraphs;
    CUevent before, after;
    CudaNorm norm;
    CUdeviceptr sums; /* room for nsums doubles */
    uint64_t nsums;
    const char *running; /* the table that was run last */
    bool failed;
} Cuda;

static double gib(uint64_t bytes) {
    return (double)bytes / (1024.0 * 1024 * 1024);
}

/* ---- opening: driver, GPU, memory */

static bool find_gpu(Device *d, Cuda *c) {
    const CudaDriver *cu = &c->cu;
    const uint32_t needed = d->module->desc->gpu->sm;
    int count = 0, major = 0, minor = 0;
    char name[56] = "";
    CUresult result = cu->cuDeviceGetCount(&count);
    if (!result && count == 0) return rt_error(NULL, "--device cuda: there is no NVIDIA GPU");
    if (!result) result = cu->cuDeviceGet(&c->device, 0);
    if (!result) result = cu->cuDeviceGetName(name, sizeof name, c->device);
    if (!result)
        result = cu->cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, c->device);
    if (!result)
        result = cu->cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, c->device);
    if (result) return cuda_error(cu, NULL, result, "--device cuda: the GPU cannot be asked what it is");
    c->sm = (uint32_t)(10 * major + minor);
    snprintf(d->name, sizeof d->name, "%s (sm_%u)", name, c->sm);
    if (c->sm < needed)
        return rt_error(d->module->path, "needs a GPU of sm_%u or newer, this is %s", needed, d->name);
    return true;
}

static bool open_context(Device *d, Cuda *c) {
    const CudaDriver *cu = &c->cu;
    CUresult result = cu->cuDevicePrimaryCtxRetain(&c->context, c->device);
    if (!result) result = cu->cuCtxSetCurrent(c->context);
    if (!result) result = cu->cuStreamCreate(&c->stream, CU_STREAM_NON_BLOCKING);
    if (!result) result = cu->cuEventCreate(&c->before, 0);
    if (!result) result = cu->cuEventCreate(&c->after, 0);
    for (int i = 0; i < 2 && !result; i++) result = cu->cuEventCreate(&c->left[i], 0);
    if (!result) result = cu->cuMemAllocHost_v2((void **)&c->staging, 2 * HALF);
    if (!result) result = cu->cuMemAllocHost_v2((void **)&c->numbers, NUMBERS * sizeof *c->numbers);
    return !result || cuda_error(cu, NULL, result, "--device cuda: %s cannot be used", d->name);
}

static bool allocate(Device *d, Cuda *c) {
    const CudaDriver *cu = &c->cu;
    size_t available = 0, total = 0;
    CUresult result = cu->cuMemGetInfo_v2(&available, &total);
    if (!result && d->arena_bytes <= available) result = cu->cuMemAlloc_v2(&c->arena, d->arena_bytes);
    if (result == CUDA_ERROR_OUT_OF_MEMORY || (!result && !c->arena))
        return rt_error(
            d->module->path,
            "needs %.2f GiB of memory on the GPU, %.2f of %.2f GiB are free (compile with a smaller "
            "--batch or --seq)",
            gib(d->arena_bytes), gib(available), gib(total));
    if (!result) result = cu->cuMemsetD8Async(c->arena, 0, d->arena_bytes, c->stream);
    if (result) return cuda_error(cu, d->module->path, result, "cannot get memory on the GPU");
    d->arena = device_map(d->arena_bytes);
    return d->arena ||
           rt_error_errno(d->module->path, "cannot map %.2f GiB for the host's copy", gib(d->arena_bytes));
}

/* ---- opening: kernels */

/* The newest image that runs on the GPU: one for the same major number, and a minor one not above its own. */
static const tbc_gpu_image *fitting_image(const tbc_gpu *gpu, uint32_t sm) {
    const tbc_gpu_image *best = NULL;
    for (uint32_t i = 0; i < gpu->nimages; i++) {
        const tbc_gpu_image *image = &gpu->images[i];
        if (image->sm / 10 == sm / 10 && image->sm <= sm && (!best || image->sm > best->sm)) best = image;
    }
    return best;
}

static void note_log(char *log) {
    for (char *line = strtok(log, "\n"); line; line = strtok(NULL, "\n")) rt_note("%s", line);
}

static bool compile_ptx(Device *d, Cuda *c) {
    char log[8192] = "";
    int options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)(uintptr_t)(sizeof log - 1)};
    CUresult result = c->cu.cuModuleLoadDataEx(&c->module, d->module->desc->gpu->ptx, 2, options, values);
    if (!result) return true;
    cuda_error(&c->cu, d->module->path, result, "the driver cannot compile the kernels for %s", d->name);
    note_log(log);
    return false;
}

static bool load_code(Device *d, Cuda *c) {
    const tbc_gpu_image *image = fitting_image(d->module->desc->gpu, c->sm);
    return (image && !c->cu.cuModuleLoadData(&c->module, image->data)) || compile_ptx(d, c);
}

static bool find_kernels(Device *d, Cuda *c) {
    const tbc_module_t *m = d->module->desc;
    c->kernels = rt_calloc(m->nkernels + 1u, sizeof *c->kernels);
    for (uint32_t i = 0; i < m->nkernels; i++) {
        const uint32_t shared = m->gpu->kernels[i].shared_bytes;
        CUresult result = c->cu.cuModuleGetFunction(&c->kernels[i], c->module, m->kernels[i].name);
        if (result)
            return cuda_error(&c->cu, d->module->path, result, "the module's code lacks kernel %s",
                              m->kernels[i].name);
        if (shared > PLAIN_SHARED)
            result = c->cu.cuFuncSetAttribute(c->kernels[i], CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                              (int)shared);
        if (result)
            return cuda_error(
                &c->cu, d->module->path, result,
                "this GPU has less shared memory than the module was compiled for (without --gpu it runs "
                "on any): kernel %s wants %u bytes",
                m->kernels[i].name, shared);
    }
    return true;
}

static void place_args(Device *d, Cuda *c) {
    const tbc_module_t *m = d->module->desc;
    c->addresses = rt_calloc(m->nargs + 1u, sizeof *c->addresses);
    c->params = rt_calloc(m->nargs + 1u, sizeof *c->params);
    for (uint32_t i = 0; i < m->nargs; i++) {
        c->addresses[i] = c->arena + m->args[i];
        c->params[i] = &c->addresses[i];
    }
}

static bool cuda_open(Device *d, int threads) {
    (void)threads;
    Cuda *c = d->self = rt_calloc(1, sizeof *c);
    if (!cuda_driver_load(&c->cu) || !find_gpu(d, c) || !open_context(d, c) || !allocate(d, c)) return false;
    if (!load_code(d, c) || !find_kernels(d, c)) return false;
    place_args(d, c);
    return true;
}

static void cuda_close(Device *d) {
    Cuda *c = d->self;
    const CudaDriver *cu = &c->cu;
    for (size_t i = 0; i < c->ngraphs; i++) cu->cuGraphExecDestroy(c->graphs[i].replay);
    if (c->norm.module) cu->cuModuleUnload(c->norm.module);
    if (c->module) cu->cuModuleUnload(c->module);
    if (c->sums) cu->cuMemFree_v2(c->sums);
    if (c->arena) cu->cuMemFree_v2(c->arena);
    if (c->staging) cu->cuMemFreeHost(c->staging);
    if (c->numbers) cu->cuMemFreeHost(c->numbers);
    for (int i = 0; i < 2; i++)
        if (c->left[i]) cu->cuEventDestroy_v2(c->left[i]);
    if (c->before) cu->cuEventDestroy_v2(c->before);
    if (c->after) cu->cuEventDestroy_v2(c->after);
    if (c->stream) cu->cuStreamDestroy_v2(c->stream);
    if (c->context) cu->cuDevicePrimaryCtxRelease_v2(c->device);
    free(c->kernels), free(c->addresses), free(c->params), free(c->graphs);
    free(c);
}

/* ---- errors: the first is printed, and nothing is done after it */

static bool cuda_ok(const Device *d) {
    return !((const Cuda *)d->self)->failed;
}

/* What was running when an error comes to light is all that can be said: work is done later than asked for.
 */
static bool check(const Device *d, CUresult result) {
    Cuda *c = d->self;
    if (!result || c->failed) return !c->failed;
    c->failed = true;
    if (!c->running)
        return cuda_error(&c->cu, d->module->path, result, "%s failed before any table ran", d->name);
    return cuda_error(
        &c->cu, d->module->path, result, "%s failed in table '%s'%s", d->name, c->running,
        d->profile ? "" : " (with --profile, kernels run one by one and the one that fails is named)");
}

static bool check_launch(const Device *d, const tbc_launch *l, CUresult result) {
    Cuda *c = d->self;
    if (!result || c->failed) return !c->failed;
    c->failed = true;
    return cuda_error(&c->cu, d->module->path, result, "kernel %s failed on %s (%s)",
                      d->module->desc->kernels[l->kernel].name, d->name, l->label);
}

/* Waits for everything asked for so far. */
static bool cuda_finish(const Device *d) {
    Cuda *c = d->self;
    c->staged = 0;
    bool ok = check(d, c->cu.cuStreamSynchronize(c->stream));
    for (int i = 0; ok && i < c->nnumbers; i++) *c->read_to[i] = (double)c->numbers[i];
    c->nnumbers = 0;
    return ok;
}

/* ---- transfers */

static bool take_other_half(const Device *d) {
    Cuda *c = d->self;
    if (!check(d, c->cu.cuEventRecord(c->left[c->half], c->stream))) return false;
    c->half = !c->half, c->staged = 0;
    return check(d, c->cu.cuEventSynchronize(c->left[c->half])); /* at once if it never was left */
}

/* Staging memory for at most HALF bytes. NULL: the device failed. */
static char *stage(const Device *d, uint64_t bytes) {
    Cuda *c = d->self;
    if (c->failed || (c->staged + bytes > HALF && !take_other_half(d))) return NULL;
    char *at = c->staging + (uint64_t)c->half * HALF + c->staged;
    c->staged += (bytes + 63) / 64 * 64;
    return at;
}

static void cuda_upload(const Device *d, uint64_t offset, uint64_t bytes) {
    Cuda *c = d->self;
    for (uint64_t done = 0; done < bytes; done += PART) {
        uint64_t n = bytes - done < PART ? bytes - done : PART;
        char *at = stage(d, n);
        if (!at) return;
        memcpy(at, d->arena + offset + done, n);
        check(d, c->cu.cuMemcpyHtoDAsync_v2(c->arena + offset + done, at, n, c->stream));
    }
}

static void fetch(const Device *d, void *to, CUdeviceptr from, uint64_t bytes) {
    Cuda *c = d->self;
    for (uint64_t done = 0; done < bytes; done += HALF) {
        uint64_t n = bytes - done < HALF ? bytes - done : HALF;
        char *at = stage(d, n);
        if (!at || !check(d, c->cu.cuMemcpyDtoHAsync_v2(at, from + done, n, c->stream)) || !cuda_finish(d))
            return;
        memcpy((char *)to + done, at, n);
    }
}

static void cuda_download(const Device *d, uint64_t offset, uint64_t bytes) {
    fetch(d, d->arena + offset, ((Cuda *)d->self)->arena + offset, bytes);
}

static void cuda_zero(Device *d, uint64_t offset, uint64_t bytes) {
    Cuda *c = d->self;
    if (!c->failed) check(d, c->cu.cuMemsetD8Async(c->arena + offset, 0, bytes, c->stream));
}

static void cuda_read_later(Device *d, uint64_t offset, double *to) {
    Cuda *c = d->self;
    if (c->nnumbers == NUMBERS) cuda_finish(d);
    if (c->failed) return;
    float *number = &c->numbers[c->nnumbers];
    c->read_to[c->nnumbers++] = to;
    check(d, c->cu.cuMemcpyDtoHAsync_v2(number, c->arena + offset, sizeof *number, c->stream));
}

/* ---- launches */

static bool launch(Device *d, const tbc_launch *l) {
    Cuda *c = d->self;
    const tbc_gpu_kernel *k = &d->module->desc->gpu->kernels[l->kernel];
    if (l->tiles == 0) return true;
    return check_launch(d, l,
                        c->cu.cuLaunchKernel(c->kernels[l->kernel], l->tiles, 1, 1, k->threads, 1, 1,
                                             k->shared_bytes, c->stream, c->params + l->args, NULL));
}

static bool launch_all(Device *d, const tbc_table *table) {
    for (uint32_t i = 0; i < table->count; i++)
        if (!launch(d, &d->module->desc->launches[table->first + i])) return false;
    return true;
}

static void launch_timed(Device *d, const tbc_launch *l) {
    Cuda *c = d->self;
    float milliseconds = 0;
    if (!check(d, c->cu.cuEventRecord(c->before, c->stream)) || !launch(d, l)) return;
    CUresult result = c->cu.cuEventRecord(c->after, c->stream);
    if (!result) result = c->cu.cuEventSynchronize(c->after);
    if (!result) result = c->cu.cuEventElapsedTime(&milliseconds, c->before, c->after);
    if (check_launch(d, l, result)) profile_add(d->profile, l, 1e-3 * (double)milliseconds);
}

/* Captures launches into a graph, which is then the last one of the list. */
static bool capture(Device *d, const tbc_table *table) {
    Cuda *c = d->self;
    CUgraph graph = NULL;
    CUgraphExec replay = NULL;
    if (!check(d, c->cu.cuStreamBeginCapture_v2(c->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)))
        return false;
    bool ok = launch_all(d, table);
    CUresult result = c->cu.cuStreamEndCapture(c->stream, &graph);
    ok = ok && check(d, result) && check(d, c->cu.cuGraphInstantiateWithFlags(&replay, graph, 0));
    if (graph) c->cu.cuGraphDestroy(graph);
    if (!ok) return false;
    c->graphs = rt_realloc(c->graphs, (c->ngraphs + 1) * sizeof *c->graphs);
    c->graphs[c->ngraphs++] = (Graph){table->first, table->count, replay};
    return true;
}

static void replay(Device *d, const tbc_table *table) {
    Cuda *c = d->self;
    size_t i = 0;
    while (i < c->ngraphs && (c->graphs[i].first != table->first || c->graphs[i].count != table->count)) i++;
    if (i < c->ngraphs || capture(d, table)) check(d, c->cu.cuGraphLaunch(c->graphs[i].replay, c->stream));
}

static void cuda_run(Device *d, const tbc_table *table) {
    Cuda *c = d->self;
    if (c->failed || table->count == 0) return;
    c->running = table->name;
    if (d->profile)
        for (uint32_t i = 0; i < table->count && !c->failed; i++)
            launch_timed(d, &d->module->desc->launches[table->first + i]);
    else if (table->count == 1) /* what diagnose runs; a graph would not make it any faster */
        launch_all(d, table);
    else
        replay(d, table);
}

/* ---- gradient norms */

/* Room for n partial sums, and the kernel. */
static bool prepare_sums(Device *d, uint64_t n) {
    Cuda *c = d->self;
    if (!c->norm.module && !check(d, cuda_norm_load(&c->norm, &c->cu))) return false;
    if (n <= c->nsums) return true;
    if (c->sums) c->cu.cuMemFree_v2(c->sums);
    c->sums = 0, c->nsums = n;
    return check(d, c->cu.cuMemAlloc_v2(&c->sums, n * sizeof(double)));
}

static double cuda_sum_squares(Device *d, const tbc_tensor *const *tensors, size_t n) {
    Cuda *c = d->self;
    uint64_t blocks = 0, block = 0;
    for (size_t i = 0; i < n; i++) blocks += cuda_norm_blocks((uint64_t)tensor_values(tensors[i]));
    if (c->failed || blocks == 0 || !prepare_sums(d, blocks)) return 0;
    for (size_t i = 0; i < n && !c->failed; i++) {
        const uint64_t values = (uint64_t)tensor_values(tensors[i]);
        check(d, cuda_norm_launch(&c->norm, &c->cu, c->stream, c->arena + tensors[i]->offset, values,
                                  c->sums + block * sizeof(double)));
        block += cuda_norm_blocks(values);
    }
    double *sums = rt_calloc(blocks, sizeof *sums), sum = 0;
    fetch(d, sums, c->sums, blocks * sizeof *sums);
    for (uint64_t i = 0; i < blocks; i++) sum += sums[i];
    free(sums);
    return sum;
}

static Roofline known_roofline(const Device *d) {
    const Cuda *c = d->self;
    return cuda_roofline(&c->cu, c->device, c->sm);
}

const DeviceKind device_cuda = {cuda_open,       cuda_close,       cuda_ok,        cuda_finish,
                                cuda_run,        cuda_upload,      cuda_download,  cuda_zero,
                                cuda_read_later, cuda_sum_squares, known_roofline, 16};
