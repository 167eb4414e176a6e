/* From a kind of kernel to its generators: those of gen.h for a CPU, those of nvptx/nv.h for a GPU. */
#include "lower.h"
#include "nvptx/nv.h"

typedef struct Generator {
    void (*generate)(Gen *, const char *name, const KernelDesc *);
    KernelSize (*size)(const KernelDesc *, const Target *);
} Generator;

/* Every generator takes its own descriptor; these pick it out of the union. */
#define CPU(kind, Desc)                                                                                      \
    static void cpu_gen_##kind(Gen *g, const char *name, const KernelDesc *d) {                              \
        gen_##kind(g, name, &d->kind);                                                                       \
    }                                                                                                        \
    static KernelSize cpu_size_##kind(const KernelDesc *d, const Target *t) {                                \
        return (KernelSize){.tiles = kind##_tiles(&d->kind, t), .scratch = kind##_scratch(&d->kind, t)};     \
    }
KERNEL_KINDS(CPU)
#undef CPU

#define GPU(kind, Desc)                                                                                      \
    static void gpu_gen_##kind(Gen *g, const char *name, const KernelDesc *d) {                              \
        nv_gen_##kind(g, name, &d->kind);                                                                    \
    }                                                                                                        \
    static KernelSize gpu_size_##kind(const KernelDesc *d, const Target *t) {                                \
        NvGrid grid = nv_##kind##_grid(&d->kind, t);                                                         \
        return (KernelSize){.tiles = grid.blocks, .threads = grid.threads, .shared = grid.shared};           \
    }
COMMON_KINDS(GPU)
#undef GPU

static const Generator *generator_of(const KernelDesc *d, const Target *t) {
#define CPU(kind, Desc) [KERNEL_##kind] = {cpu_gen_##kind, cpu_size_##kind},
#define GPU(kind, Desc) [KERNEL_##kind] = {gpu_gen_##kind, gpu_size_##kind},
    static const Generator cpu[] = {KERNEL_KINDS(CPU)};
    static const Generator gpu[sizeof cpu / sizeof *cpu] = {COMMON_KINDS(GPU)};
#undef CPU
#undef GPU
    return t->sm ? &gpu[d->kind] : &cpu[d->kind];
}

/* Heads stored as bf16 are for GPUs, which copy 8 numbers of at most 128 at a time. A CPU gets them from a .tir that
 * was planned for a GPU. */
static bool reads_heads(const AttnDesc *d, const Target *t) {
    return !d->half || (t->sm && d->d % 8 == 0 && d->d <= 128);
}

bool kernel_exists(const KernelDesc *d, const Target *t) {
    if (d->kind == KERNEL_attention_bf16 && !reads_heads(&d->attention_bf16, t)) return false;
    if (d->kind == KERNEL_attention_grad_bf16 && !reads_heads(&d->attention_grad_bf16, t)) return false;
    return generator_of(d, t)->generate != NULL;
}

KernelSize kernel_size(const KernelDesc *d, const Target *t) {
    return kernel_exists(d, t) ? generator_of(d, t)->size(d, t) : (KernelSize){0};
}

void kernel_generate(Gen *g, const char *name, const KernelDesc *d) {
    if (!kernel_exists(d, g->target)) ice("%s: no generator for this target", name);
    generator_of(d, g->target)->generate(g, name, d);
}
