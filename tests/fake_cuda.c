/* A libcuda.so.1 for tests of the runtime without a GPU and without PTX: it has the entry points that
 * runtime/cuda_driver.h lists, memory of its own, and runs the C kernels of fake_module.c, built with -DGPU,
 * in place of PTX. Work is put off until something waits for it, as a GPU may, so that data that are read or
 * overwritten too early are wrong.
 *
 * $FAKE_CUDA_MODULE is the module's path. $FAKE_CUDA_FAULT names something that goes wrong: no_device,
 * no_start, old (driver), sm_75, memory, image (a cubin is refused; PTX is taken), ptx (both are), kernel
 * (one is missing), shared, launch, run (the kernel `forward` fails when it runs), wrong (`mean` gives
 * another result). $FAKE_CUDA_STATS is a file that gets one line about what was done when the process ends.
 */
#include "../runtime/device/cuda_driver.h"
#include "../runtime/tbc_module.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT(name, parameters)                                                                             \
    CUresult name parameters;                                                                                \
    CUresult name parameters
#define TOTAL (UINT64_C(1) << 30)

enum {
    INVALID_VALUE = 1,
    NO_BINARY = 209,
    INVALID_PTX = 218,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    OUT_OF_RESOURCES = 701
};

static bool fault(const char *name) {
    const char *set = getenv("FAKE_CUDA_FAULT");
    return set && !strcmp(set, name);
}

/* ---- work: a list of operations, done when something waits */

typedef struct Operation {
    enum { COPY, FILL, LAUNCH, STAMP } kind;
    void *to;
    const void *from;
    size_t bytes; /* FILL: with value; LAUNCH: of the grid */
    int value;
    const char *kernel;
    uint64_t params[8];
} Operation;

typedef struct CUgraph_st {
    Operation *list;
    size_t n;
} Work;

static Work queue, *capturing;
static CUdeviceptr arena; /* the first allocation */
static CUresult sticky;   /* after a kernel has failed, so does everything */
static struct { int launches, graphs, replays, waits, images; } stats;

static CUresult add(Operation op) {
    Work *to = capturing ? capturing : &queue;
    to->list = realloc(to->list, (to->n + 1) * sizeof op);
    to->list[to->n++] = op;
    return sticky;
}

static void sum_squares(const uint64_t *params, uint64_t block) {
    const float *in = (const float *)params[0];
    double sum = 0;
    for (uint64_t i = block << 16; i < params[1] && i < (block + 1) << 16; i++)
        sum += (double)in[i] * (double)in[i];
    ((double *)params[2])[block] = sum;
}

/* Kernels want offsets into the arena, launches have addresses. */
static void run_kernel(const Operation *op) {
    static char scratch[1 << 16];
    if (fault("run") && !strcmp(op->kernel, "forward")) sticky = ILLEGAL_ADDRESS;
    if (fault("update") && !strcmp(op->kernel, "adamw")) sticky = ILLEGAL_ADDRESS;
    if (fault("project") && !strcmp(op->kernel, "ternary")) sticky = ILLEGAL_ADDRESS;
    if (sticky) return;
    if (!strcmp(op->kernel, "tbc_sum_squares")) {
        for (uint64_t block = 0; block < op->bytes; block++) sum_squares(op->params, block);
        return;
    }
    void *module = dlopen(getenv("FAKE_CUDA_MODULE"), RTLD_NOW | RTLD_NOLOAD);
    const tbc_kernel *k = module ? dlsym(module, "host_kernels") : NULL;
    uint64_t args[8];
    for (int i = 0; i < 8; i++) args[i] = op->params[i] - arena;
    while (k && k->name && strcmp(k->name, op->kernel)) k++;
    for (uint64_t block = op->bytes; k && k->name && block-- > 0;)
        k->run((char *)arena, args, block, scratch);
    if (!k || !k->name) sticky = NOT_FOUND;
    if (fault("wrong") && !strcmp(op->kernel, "mean")) *(float *)op->params[1] *= 1.001f;
    if (module) dlclose(module);
}

static CUresult catch_up(void) {
    for (size_t i = 0; i < queue.n; i++) {
        const Operation *op = &queue.list[i];
        if (op->kind == COPY) memcpy(op->to, op->from, op->bytes);
        if (op->kind == FILL) memset(op->to, op->value, op->bytes);
        if (op->kind == STAMP) *(double *)op->to = (double)clock() / CLOCKS_PER_SEC;
        if (op->kind == LAUNCH) run_kernel(op);
    }
    queue.n = 0;
    stats.waits++;
    return sticky;
}

__attribute__((destructor)) static void write_stats(void) {
    FILE *f = getenv("FAKE_CUDA_STATS") ? fopen(getenv("FAKE_CUDA_STATS"), "w") : NULL;
    if (!f) return;
    fprintf(f, "launches %d graphs %d replays %d waits %d images %d\n", stats.launches, stats.graphs,
            stats.replays, stats.waits, stats.images);
    fclose(f);
}

/* ---- driver and device */

EXPORT(cuInit, (unsigned flags)) {
    return flags ? INVALID_VALUE : fault("no_device") ? CUDA_ERROR_NO_DEVICE : fault("no_start") ? 999 : 0;
}
EXPORT(cuDriverGetVersion, (int *version)) {
    *version = fault("old") ? 11040 : 12020;
    return 0;
}
EXPORT(cuGetErrorName, (CUresult result, const char **name)) {
    *name = result == CUDA_ERROR_NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_FAKE";
    return 0;
}
EXPORT(cuGetErrorString, (CUresult result, const char **meaning)) {
    static char text[32];
    snprintf(text, sizeof text, "fake error %d", result);
    *meaning = text;
    return 0;
}
EXPORT(cuDeviceGetCount, (int *n)) {
    *n = 1;
    return 0;
}
EXPORT(cuDeviceGet, (CUdevice * device, int ordinal)) {
    *device = 7;
    return ordinal;
}
EXPORT(cuDeviceGetName, (char *name, int bytes, CUdevice device)) {
    snprintf(name, (size_t)bytes, "Fake GPU");
    return device == 7 ? 0 : INVALID_VALUE;
}
EXPORT(cuDeviceGetAttribute, (int *value, int attribute, CUdevice device)) {
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? (fault("sm_75") ? 7 : 8)
                                                                       : (fault("sm_75") ? 5 : 6);
    return device == 7 ? 0 : INVALID_VALUE;
}
EXPORT(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device)) {
    *context = (CUcontext)&queue;
    return device == 7 ? 0 : INVALID_VALUE;
}
EXPORT(cuDevicePrimaryCtxRelease_v2, (CUdevice device)) {
    sticky = 0;
    return device == 7 ? 0 : INVALID_VALUE;
}
EXPORT(cuCtxSetCurrent, (CUcontext context)) {
    return context == (CUcontext)&queue ? 0 : INVALID_VALUE;
}

/* ---- memory */

EXPORT(cuMemGetInfo_v2, (size_t * available, size_t *total)) {
    *total = TOTAL, *available = fault("memory") ? 1000 : TOTAL / 2;
    return 0;
}
EXPORT(cuMemAlloc_v2, (CUdeviceptr * at, size_t bytes)) {
    void *memory = malloc(bytes);
    memset(memory, 0xff, bytes);
    *at = (CUdeviceptr)memory;
    if (!arena) arena = *at;
    return 0;
}
EXPORT(cuMemFree_v2, (CUdeviceptr at)) {
    catch_up();
    if (at == arena) arena = 0;
    free((void *)at);
    return sticky;
}
EXPORT(cuMemAllocHost_v2, (void **at, size_t bytes)) {
    *at = malloc(bytes);
    return 0;
}
EXPORT(cuMemFreeHost, (void *at)) {
    catch_up();
    free(at);
    return 0;
}
EXPORT(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream)) {
    return stream ? add((Operation){.kind = COPY, .to = (void *)to, .from = from, .bytes = bytes})
                  : INVALID_VALUE;
}
EXPORT(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream)) {
    return stream ? add((Operation){.kind = COPY, .to = to, .from = (void *)from, .bytes = bytes})
                  : INVALID_VALUE;
}
EXPORT(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t n, CUstream stream)) {
    return stream ? add((Operation){.kind = FILL, .to = (void *)to, .bytes = n, .value = value})
                  : INVALID_VALUE;
}

/* ---- code */

EXPORT(cuModuleLoadData, (CUmodule * module, const void *image)) {
    const char *text = image;
    *module = (CUmodule)&queue;
    if (!strncmp(text, ".version", 8)) return 0; /* the runtime's own kernel */
    if (fault("image") || fault("ptx") || strcmp(text, "sm_86")) return NO_BINARY;
    stats.images++;
    return 0;
}
EXPORT(cuModuleLoadDataEx, (CUmodule * module, const void *image, unsigned n, int *options, void **values)) {
    *module = (CUmodule)&queue;
    if (!fault("ptx")) return strcmp(image, "// PTX");
    for (unsigned i = 0; i < n; i++)
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER)
            strcpy(values[i], "ptxas fake, line 3; error : what is this\nptxas fatal");
    return INVALID_PTX;
}
EXPORT(cuModuleUnload, (CUmodule module)) {
    return module ? 0 : INVALID_VALUE;
}
EXPORT(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name)) {
    *function = (CUfunction)(uintptr_t)name;
    return fault("kernel") && !strcmp(name, "adamw") ? NOT_FOUND : module ? 0 : INVALID_VALUE;
}
EXPORT(cuFuncSetAttribute, (CUfunction function, int attribute, int value)) {
    if (fault("shared") || attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return INVALID_VALUE;
    return !strcmp((const char *)function, "adamw") && value == 65536 ? 0 : INVALID_VALUE;
}

static unsigned nparams(const char *kernel) {
    return !strcmp(kernel, "tbc_sum_squares")                      ? 3
           : !strcmp(kernel, "adamw")                              ? 5
           : !strcmp(kernel, "guard")                              ? 3
           : !strcmp(kernel, "mean") || !strcmp(kernel, "ternary") ? 2
                                                                   : 1;
}
EXPORT(cuLaunchKernel, (CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                        unsigned bz, unsigned shared, CUstream stream, void **params, void **extra)) {
    Operation op = {.kind = LAUNCH, .kernel = (const char *)function, .bytes = gx};
    if (fault("launch") && !strcmp(op.kernel, "gradient")) return OUT_OF_RESOURCES;
    if (!gx || gy != 1 || gz != 1 || !bx || by != 1 || bz != 1 || !stream || extra) return INVALID_VALUE;
    if ((!strcmp(op.kernel, "forward") && bx != 64) || (shared && strcmp(op.kernel, "adamw")))
        return INVALID_VALUE;
    for (unsigned i = 0; i < nparams(op.kernel); i++) op.params[i] = *(uint64_t *)params[i];
    stats.launches += !capturing;
    return add(op);
}

/* ---- streams, graphs, events */

EXPORT(cuStreamCreate, (CUstream * stream, unsigned flags)) {
    *stream = (CUstream)&stats;
    return flags == CU_STREAM_NON_BLOCKING ? 0 : INVALID_VALUE;
}
EXPORT(cuStreamDestroy_v2, (CUstream stream)) {
    return stream ? 0 : INVALID_VALUE;
}
EXPORT(cuStreamSynchronize, (CUstream stream)) {
    return stream && !capturing ? catch_up() : INVALID_VALUE;
}
EXPORT(cuStreamBeginCapture_v2, (CUstream stream, int mode)) {
    capturing = calloc(1, sizeof *capturing);
    return stream && mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL ? sticky : INVALID_VALUE;
}
EXPORT(cuStreamEndCapture, (CUstream stream, CUgraph *graph)) {
    *graph = capturing;
    capturing = NULL;
    return stream ? sticky : INVALID_VALUE;
}
EXPORT(cuGraphInstantiateWithFlags, (CUgraphExec * replay, CUgraph graph, unsigned long long flags)) {
    Work *copy = malloc(sizeof *copy);
    *copy = *graph;
    copy->list = memcpy(malloc(graph->n * sizeof *graph->list), graph->list, graph->n * sizeof *graph->list);
    *replay = (CUgraphExec)copy;
    stats.graphs++;
    return flags ? INVALID_VALUE : sticky;
}
EXPORT(cuGraphLaunch, (CUgraphExec replay, CUstream stream)) {
    const Work *work = (const Work *)replay;
    for (size_t i = 0; i < work->n; i++) add(work->list[i]);
    stats.replays++;
    return stream ? sticky : INVALID_VALUE;
}
EXPORT(cuGraphDestroy, (CUgraph graph)) {
    free(graph->list);
    free(graph);
    return 0;
}
EXPORT(cuGraphExecDestroy, (CUgraphExec replay)) {
    return cuGraphDestroy((CUgraph)replay);
}
EXPORT(cuEventCreate, (CUevent * event, unsigned flags)) {
    *event = calloc(1, sizeof(double));
    return flags ? INVALID_VALUE : 0;
}
EXPORT(cuEventRecord, (CUevent event, CUstream stream)) {
    return stream ? add((Operation){.kind = STAMP, .to = event}) : INVALID_VALUE;
}
EXPORT(cuEventSynchronize, (CUevent event)) {
    return event ? catch_up() : INVALID_VALUE;
}
EXPORT(cuEventElapsedTime, (float *milliseconds, CUevent before, CUevent after)) {
    *milliseconds = (float)(1e3 * (*(double *)after - *(double *)before));
    return 0;
}
EXPORT(cuEventDestroy_v2, (CUevent event)) {
    free(event);
    return 0;
}
