/* The back end, as the rest of the compiler sees it: a planned module in, a file out. */
#ifndef TBC_CODEGEN_H
#define TBC_CODEGEN_H

#include "../ir/ir.h"

/* What kernels are generated for. Cache sizes in bytes, per core for l1 and l2. */
typedef struct Target {
    const char *triple, *cpu, *features; /* LLVM's names */
    const char *needs;     /* CPU features the code will use, /proc/cpuinfo names, comma-separated */
    int vl;                /* f32 lanes of a vector register: 8 or 16 */
    int mr, nr;            /* GEMM register tile: rows, columns (a multiple of vl) */
    int64_t l1, l2, l3;
} Target;

/* cpu NULL: the host. False, reported, if LLVM does not know the CPU or it lacks AVX2, FMA and F16C. */
bool target_init(Target *, const char *cpu, Arena *, Diag *);

typedef enum EmitKind { EMIT_SO, EMIT_LL, EMIT_ASM } EmitKind;

/* Generates the kernels and tables of m (which must be planned) and writes them to path; through a
 * temporary file, so that a failure leaves nothing behind. False after a reported error. */
bool codegen_emit(const Module *m, const Target *, EmitKind, const char *path, Diag *);

#endif
