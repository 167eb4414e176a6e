/* The back end, as the rest of the compiler sees it: a planned module in, a file out. */
#ifndef TBC_CODEGEN_H
#define TBC_CODEGEN_H

#include "../ir/ir.h"

/* What kernels are generated for: a CPU, or (sm > 0) a GPU. Cache sizes in bytes, per core for l1 and l2. */
typedef struct Target {
    const char *triple;
    const char *cpu;      /* LLVM's name of the CPU to tune for, or of the GPU's architecture: sm_80 */
    const char *level;    /* the instruction set used: x86-64-v3 (AVX2), x86-64-v4 (AVX-512), or sm_80 */
    const char *features; /* LLVM's, added to those of the level */
    const char *needs;    /* its features that not every x86-64 has, /proc/cpuinfo names, comma-separated */
    bool vnni, bf16;      /* CPU: also the instructions that add up products of pairs of int16, of bf16 */
    int sm;               /* a GPU's compute capability, 80 for sm_80; 0: a CPU */
    int64_t shared;       /* bytes of shared memory that a block of it can have */
    int vl;               /* f32 lanes of a vector register: 8 or 16; of a GPU thread's widest access: 4 */
    int mr, nr;           /* CPU: GEMM register tile: rows, columns (a multiple of vl) */
    int cores;            /* CPU: that tiles are made for; results do not depend on it */
    int64_t l1, l2, l3;
    const struct Expansion *expansion; /* of tests, for a CPU that they are not on (gen.h); else NULL */
} Target;

/* cpu NULL: the host. cores 0: as many as the host has. False, reported, if the CPU is not known or is below
 * x86-64-v3. */
bool target_init(Target *, const char *cpu, int64_t cores, Arena *, Diag *);
/* The same CPU without those instructions, for a module that has no use for them. */
Target target_without(const Target *, bool vnni, bool bf16, Arena *);
/* An NVIDIA GPU: sm_80, sm_86, ..; NULL: code for sm_80 that all since then can run. False, reported, if it
 * is not known. */
bool target_init_gpu(Target *, const char *gpu, Diag *);

typedef enum EmitKind { EMIT_SO, EMIT_LL, EMIT_ASM /* PTX for a GPU */ } EmitKind;

/* Bytes of scratch that each thread needs to run m, which must be planned. */
uint64_t codegen_scratch(const Module *m, const Target *);

/* Generates the kernels and tables of m (which must be planned) and writes them to path (text also to stdout,
 * as
 * "-"), through a temporary file, so that a failure leaves nothing behind. False after a reported error. */
bool codegen_emit(const Module *m, const Target *, EmitKind, const char *path, Diag *);

#endif
