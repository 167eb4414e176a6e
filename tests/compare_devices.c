/* compare_devices CPU.so GPU.so [TOLERANCE]: does every kernel of a GPU do what that of the CPU does?
 *
 * The modules are of one model, compiled for the two targets with --grads buffer, so that launches and memory
 * are the same. Each launch of every table is run on both devices from the memory that the CPU has then, and
 * what it wrote is compared: numbers by |a - b| / |a|, at most TOLERANCE (1e-4); integers and packed
 * projections by the share of bytes that differ, at most 1e-3 (means may round to either side). Prints one
 * line a kernel, its worst launch; exits 1 if one is above. */
#include "../runtime/device/device.h"
#include "../runtime/error.h"
#include "../runtime/data/rng.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_MAY_DIFFER 1e-3

typedef struct Side {
    LoadedModule module;
    Device device;
} Side;

typedef struct Worst {
    uint32_t launches;
    double error; /* of numbers */
    double bytes; /* share that differs */
    const char *label;
} Worst;

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "compare_devices: %s\n", what);
    exit(1);
}

/* Do two tables do the same with the same memory? */
static bool same_table(const tbc_module_t *a, const tbc_table *x, const tbc_module_t *b, const tbc_table *y) {
    for (uint32_t i = 0; i < x->count && i < y->count; i++) {
        const tbc_launch *l = &a->launches[x->first + i], *m = &b->launches[y->first + i];
        if (l->nargs != m->nargs || strcmp(l->label, m->label) != 0 ||
            memcmp(a->args + l->args, b->args + m->args, l->nargs * sizeof *a->args) != 0)
            return false;
    }
    return x->count == y->count;
}

/* ---- values to begin with */

static void fill_input(const LoadedModule *m, const tbc_tensor *t, void *at, uint64_t stream) {
    static const float hyper[4] = {0.999f, 1e-3f, 2, 0.5f};
    if (!strcmp(t->name, "hyper")) memcpy(at, hyper, sizeof hyper);
    if (!strcmp(t->name, "lambda")) *(float *)at = 0.25f;
    if (!strcmp(t->name, "pos")) *(int32_t *)at = (int32_t)(m->seq / 2);
    if (!strcmp(t->name, "tokens") || !strcmp(t->name, "targets"))
        for (int64_t i = 0; i < tensor_values(t); i++)
            ((int32_t *)at)[i] = (int32_t)(rng_bits(3, stream, (uint64_t)i) % (uint64_t)m->vocab);
}

static void fill(const Side *s) {
    const tbc_module_t *d = s->module.desc;
    for (uint32_t i = 0; i < d->ntensors; i++) {
        const tbc_tensor *t = &d->tensors[i];
        float *at = device_at(&s->device, t);
        if (t->dtype != TBC_F32) continue; /* moments as bf16 begin at zero */
        if (t->kind == TBC_PARAM) rng_init_tensor(5, t->name, t->rank, t->dim, at);
        if (t->kind == TBC_CACHE || (t->kind == TBC_STATE && !strcmp(t->name + strlen(t->name) - 2, ".m")))
            for (int64_t j = 0; j < tensor_values(t); j++)
                at[j] = (float)(1e-2 * (rng_uniform(6, i, (uint64_t)j) - 0.5));
        if (t->kind == TBC_STATE && !strcmp(t->name + strlen(t->name) - 2, ".v"))
            for (int64_t j = 0; j < tensor_values(t); j++)
                at[j] = (float)(1e-4 * rng_uniform(7, i, (uint64_t)j));
    }
}

/* ---- one launch */

static double number_error(const float *a, const float *b, int64_t n) {
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        error += d * d, norm += (double)a[i] * (double)a[i];
    }
    double e = sqrt(error / (norm > 0 ? norm : 1));
    return isnan(e) ? INFINITY : e;
}

static double byte_error(const char *a, const char *b, uint64_t n) {
    uint64_t differ = 0;
    for (uint64_t i = 0; i < n; i++) differ += a[i] != b[i];
    return (double)differ / (double)n;
}

static void compare_tensor(const Side *cpu, const Side *gpu, const tbc_tensor *t, const char *label,
                           Worst *w) {
    const char *a = device_at(&cpu->device, t), *b = device_at(&gpu->device, t);
    double error =
        t->dtype == TBC_F32 ? number_error((const float *)a, (const float *)b, tensor_values(t)) : 0;
    double bytes = t->dtype == TBC_F32 ? 0 : byte_error(a, b, t->bytes);
    if (error > w->error || bytes > w->bytes || !w->label) w->label = label;
    w->error = fmax(w->error, error);
    w->bytes = fmax(w->bytes, bytes);
}

static void compare_launch(Side *cpu, Side *gpu, const tbc_table *table, const tbc_table *gpu_table,
                           uint32_t i, Worst *worst) {
    const tbc_module_t *d = cpu->module.desc;
    const tbc_launch *l = &d->launches[table->first + i];
    const tbc_tensor whole = {.bytes = gpu->module.desc->arena_bytes};
    Worst *w = &worst[gpu->module.desc->launches[gpu_table->first + i].kernel];
    w->launches++;
    memcpy(gpu->device.arena, cpu->device.arena, whole.bytes);
    device_upload(&gpu->device, &whole);
    device_run(&cpu->device, &(tbc_table){table->name, table->first + i, 1});
    device_run(&gpu->device, &(tbc_table){table->name, gpu_table->first + i, 1});
    device_download(&gpu->device, &whole);
    if (!device_ok(&gpu->device)) exit(1);
    for (uint32_t j = 0; j < l->nargs; j++) {
        const tbc_tensor *t = module_tensor_at(&cpu->module, table, i, d->args[l->args + j], true);
        if (t) compare_tensor(cpu, gpu, t, l->label, w);
    }
}

static void compare_table(Side *cpu, Side *gpu, const tbc_table *gpu_table, Worst *worst) {
    const tbc_module_t *d = cpu->module.desc;
    const tbc_table *table = module_need(&cpu->module, gpu_table->name);
    if (!table || !same_table(d, table, gpu->module.desc, gpu_table))
        fail("the modules differ in more than the target");
    for (uint32_t i = 0; i < d->ntensors; i++)
        if (d->tensors[i].kind == TBC_INPUT && d->tensors[i].table == table - d->tables)
            fill_input(&cpu->module, &d->tensors[i], device_at(&cpu->device, &d->tensors[i]), i);
    for (uint32_t i = 0; i < table->count; i++) compare_launch(cpu, gpu, table, gpu_table, i, worst);
}

static bool report(const tbc_module_t *d, const Worst *worst, double tolerance) {
    bool ok = true;
    printf("%9s %9s %9s      %s (worst launch)\n", "launches", "error", "bytes", "kernel");
    for (uint32_t i = 0; i < d->nkernels; i++) {
        const Worst *w = &worst[i];
        if (!w->launches) continue;
        bool good = w->error <= tolerance && w->bytes <= BYTES_MAY_DIFFER;
        printf("%9" PRIu32 " %9.1e %9.1e %-4s %s (%s)\n", w->launches, w->error, w->bytes, good ? "" : "BAD",
               d->kernels[i].name, w->label ? w->label : "nothing of it is listed");
        ok &= good;
    }
    return ok;
}

int main(int argc, char **argv) {
    static Side cpu, gpu;
    if (argc < 3) fail("usage: compare_devices CPU.so GPU.so [TOLERANCE]");
    if (!module_load(&cpu.module, argv[1]) || !module_load(&gpu.module, argv[2])) return 1;
    if (gpu.module.desc->arena_bytes > cpu.module.desc->arena_bytes)
        fail("the modules differ in more than the target");
    if (!device_open(&cpu.device, &cpu.module, "cpu", 0) || !device_open(&gpu.device, &gpu.module, "cuda", 0))
        return 1;
    const tbc_module_t *d = gpu.module.desc;
    Worst *worst = rt_calloc(d->nkernels + 1u, sizeof *worst);
    fill(&cpu);
    for (uint32_t i = 0; i < d->ntables; i++) compare_table(&cpu, &gpu, &d->tables[i], worst);
    bool ok = report(d, worst, argc > 3 ? strtod(argv[3], NULL) : 1e-4);
    free(worst);
    device_close(&cpu.device), device_close(&gpu.device);
    module_unload(&cpu.module), module_unload(&gpu.module);
    return ok ? 0 : 1;
}
