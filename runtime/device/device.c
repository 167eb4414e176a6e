/* What all kinds of devices share: whether device and module go together, memory of the host, constants. */
#include "device.h"
#include "../error.h"
#include <string.h>
#include <sys/mman.h>

static bool for_this_device(const LoadedModule *m, const DeviceKind *kind) {
    if (kind == &device_cpu && m->desc->gpu)
        return rt_error(m->path,
                        "is compiled for a GPU (use --device cuda, or compile it without --target nvptx64)");
    if (kind == &device_cuda && !m->desc->gpu)
        return rt_error(m->path,
                        "is compiled for the CPU (use --device cpu, or compile it with --target nvptx64)");
    return true;
}

void *device_map(uint64_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

bool device_open(Device *d, const LoadedModule *m, const char *which, int threads) {
    *d = (Device){.kind = strcmp(which, "cuda") ? &device_cpu : &device_cuda, .module = m};
    d->arena_bytes = (module_memory(m) + 64) / 64 * 64;
    if (!for_this_device(m, d->kind)) return false;
    if (!d->kind->open(d, threads)) {
        device_close(d);
        return false;
    }
    for (uint32_t i = 0; i < m->desc->nconsts; i++) {
        const tbc_const *c = &m->desc->consts[i];
        memcpy(d->arena + c->offset, c->data, c->bytes);
        d->kind->upload(d, c->offset, c->bytes);
    }
    return true;
}

void device_close(Device *d) {
    if (d->self) d->kind->close(d);
    if (d->arena) munmap(d->arena, d->arena_bytes);
    *d = (Device){0};
}
