/* A planned module as launches of kernels: what emit.c writes into train.so. */
#ifndef TBC_LOWER_H
#define TBC_LOWER_H

#include "../runtime/tbc_module.h"
#include "gen.h"

typedef enum KernelKind {
#define KIND(kind, Desc) KERNEL_##kind,
    KERNEL_KINDS(KIND)
#undef KIND
} KernelKind;

typedef struct KernelDesc {
    KernelKind kind;
    union {
#define KIND(kind, Desc) Desc kind;
        KERNEL_KINDS(KIND)
#undef KIND
    };
} KernelDesc;

/* What a launch takes. CPU: tiles, and bytes of scratch for each. GPU: blocks (tiles), their threads, and bytes
 * of dynamic shared memory for each. */
typedef struct KernelSize {
    uint32_t tiles, threads, shared;
    uint64_t scratch;
} KernelSize;

/* One kernel of the module; equal descriptors share it. */
typedef struct Kernel {
    const char *name; /* spells out the descriptor; an identifier */
    const char *key;  /* equal keys, equal kernels */
    KernelDesc desc;
    KernelSize size;
    enum tbc_math math;
} Kernel;

/* A kernel's name, an identifier, and what is equal for equal kernels only (names.c). */
typedef struct KernelName {
    const char *name, *key;
} KernelName;
KernelName kernel_name(const KernelDesc *, Arena *);

/* The generators of a kind for the target at hand (kinds.c). A kind may have none for a GPU: then the size is
 * all 0, and nothing may be generated. */
bool kernel_exists(const KernelDesc *, const Target *);
KernelSize kernel_size(const KernelDesc *, const Target *);
void kernel_generate(Gen *, const char *name, const KernelDesc *);

/* Everything lives in the arena given to lower_module; the vectors on the heap, see lowered_free. */
typedef struct Lowered {
    VEC(Kernel) kernels;
    VEC(tbc_launch) launches;
    VEC(uint64_t) args;
    VEC(tbc_table) tables;
    VEC(tbc_tensor) tensors;
    VEC(tbc_const) consts;
    uint64_t scratch_bytes;
} Lowered;

void lower_module(const Module *, const Target *, Arena *, Lowered *);
void lowered_free(Lowered *);

#endif
