/* Kernel descriptors, and the one context through which kernels are emitted.
 *
 * A generator turns a descriptor (sizes, types, epilogue; never the graph) into one LLVM function, for a CPU
 *     void name(char *arena, const uint64_t *args, uint64_t tile, char *scratch)
 * Buffers are args[i], byte offsets into the arena, 64-byte aligned. Sizes are constants in the code.
 * Next to each generator stand <kind>_tiles and <kind>_scratch: how many tiles its launch has, and how
 * many bytes of scratch one tile needs. Tiles depend on the descriptor and the target only.
 * Those for a GPU are in nvptx/nv.h; what is here between the descriptors and the generators works for both. */
#ifndef TBC_GEN_H
#define TBC_GEN_H

#include "codegen.h"
#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>

/* Of sizes, while code is generated; gen_min and gen_max are for values of the code. */
static inline int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* ---- descriptors; the comment gives the args */

typedef enum GemmB { GEMM_B_KN, GEMM_B_NK, GEMM_B_T2_KN, GEMM_B_T2_NK, GEMM_B_BF16_KN } GemmB;

typedef struct GemmDesc { /* a, b, c: c[m,n] = A b, or c += A b */
    int64_t m, n, k;
    bool a_cols;     /* a is stored [k,m] (transposed) instead of [m,k] */
    GemmB b;         /* how b is stored; T2: packed ternary, decoded while packing; else f32 or bf16 */
    int64_t group;   /* T2 only: along the stored last dim */
    bool accumulate; /* c holds a sum so far */
    bool a_bf16;     /* a is stored as bf16: gemm_bf16 of b packed, or of a_cols */
} GemmDesc;

typedef struct AttnDesc {  /* forward: q, k, v, out, lse */
    int64_t b, s, h, g, d; /* grad: q, k, v, lse, dout, delta, dq, dk, dv */
    double scale;          /* Shapes: ops.def */
    unsigned half;         /* bit i: number i of these, q, k, v, out, dout or dv, is stored as bf16: of a GPU */
} AttnDesc;

typedef struct AttnDecodeDesc { /* q, k, v, pos, out; at.s: room of the caches */
    AttnDesc at;
    int64_t queries; /* of each sequence */
} AttnDecodeDesc;

typedef struct GemvDesc { /* x, w, y: y[m,n] = x[m,k] w^T for a few rows of x and w[n,k], ternary, or f32: group 0 */
    int64_t m, n, k, group;
    bool i16; /* with x rounded to int16 by blocks of 128 */
} GemvDesc;

typedef struct RowsDesc {
    const Graph *body;
} RowsDesc; /* the region's operands, then its results */
typedef struct TernaryDesc {
    int64_t rows, cols, group;
} TernaryDesc; /* w, t2 */
typedef struct DecodeDesc {
    int64_t rows, cols, group;
} DecodeDesc; /* t2, out: codes*scales (a ste left over) */
typedef struct SteClipDesc {
    int64_t rows, cols, group;
} SteClipDesc; /* t2, w, dy: 0 where |w| is beyond its scale */
typedef struct EmbedDesc {
    int64_t tokens, vocab, n, group;
} EmbedDesc; /* tokens, table, out; group 0: f32 table */
typedef struct EmbedGradDesc {
    int64_t tokens, vocab, n;
} EmbedGradDesc; /* tokens, dy, out: rows of dy added to those of out */
typedef struct AdamwDesc {
    int64_t count;
    double beta1, beta2, eps;
    bool bf16; /* m and v are, rounded by a key */
} AdamwDesc; /* w, g, m, v, hyper (, key) */
typedef struct GemmAdamwDesc {
    int64_t m, n, k, group; /* group 0: no codes */
    bool bf16;              /* the product, as gemm_bf16 */
    bool a_bf16, b_bf16;    /* stored as bf16; a only where the product is */
    bool moments_bf16;      /* m and v are, rounded by a key */
    double beta1, beta2, eps;
} GemmAdamwDesc; /* a, b, w, m, v, hyper (, t2) (, key): the gradient of w[m,n] is a[k,m]^T b[k,n] */
GemmDesc gemm_adamw_product(const GemmAdamwDesc *); /* of that gradient */
typedef struct SumRowsDesc {
    int64_t rows, cols;
} SumRowsDesc; /* x, out */
typedef struct TakeRowDesc {
    int64_t b, s, n, rows;
} TakeRowDesc; /* x, pos, out: `rows` of the s rows of n from pos on */
typedef struct CacheRowDesc {
    int64_t b, s, n, rows;
} CacheRowDesc; /* row, pos, cache: `rows` of its s rows of n are replaced from pos on */
typedef struct CopyDesc {
    int64_t bytes;
} CopyDesc; /* src, dst */
typedef struct FillDesc {
    int64_t count;
    double c;
} FillDesc; /* out */

/* See products below. */
typedef enum PanelType { PANELS_F32, PANELS_BF16, PANELS_I16, PANELS_ROUNDED } PanelType;
typedef struct PeakDesc {
    PanelType type; /* of the products */
    bool lut;       /* f32 sums are looked up in their place */
} PeakDesc; /* no args */
typedef struct StreamDesc {
    int64_t bytes; /* read, but for what is left of the last whole piece */
} StreamDesc; /* src */

/* ---- the LLVM context */

typedef struct Gen {
    const Target *target;
    LLVMContextRef ctx;
    LLVMModuleRef mod;
    LLVMBuilderRef b;
    LLVMTargetMachineRef machine;
    LLVMTypeRef void_, i1, i8, i16, i32, i64, f16, f32, ptr;
    /* of the kernel being emitted */
    LLVMValueRef fn, arena, args, tile, scratch;
    LLVMBasicBlockRef resume; /* in a saved Gen: where gen_function_end goes back to */
} Gen;

/* Begins a kernel: creates the function and leaves the builder in its body. */
void gen_kernel(Gen *, const char *name);
/* A new function, with the builder in its body; gen_end closes it. */
LLVMValueRef gen_define(Gen *, const char *name, LLVMTypeRef type);
/* Ends it: returns, and puts the builder nowhere. Helper functions end with it as well. */
void gen_end(Gen *);
/* An internal helper function of the module, in the middle of emitting another one. Returns it; if it is
 * new, *exists is false and the builder stands in its body: emit that and call gen_function_end, which
 * returns void there and goes back to where the builder was (*saved). */
LLVMValueRef gen_function(Gen *, const char *name, LLVMTypeRef type, bool *exists, Gen *saved);
void gen_function_end(Gen *, const Gen *saved);
LLVMValueRef gen_call(Gen *, LLVMValueRef fn, LLVMValueRef *args, unsigned n);
void gen_noinline(Gen *, LLVMValueRef fn);

LLVMValueRef gen_buffer(Gen *, unsigned i); /* pointer arena + args[i]; on a GPU parameter i */
LLVMValueRef gen_i32(Gen *, int64_t), gen_i64(Gen *, int64_t);
LLVMValueRef gen_f32(Gen *, double);
LLVMTypeRef gen_vec(Gen *, LLVMTypeRef elem, int n);       /* elem itself for n == 1 */
LLVMValueRef gen_splat(Gen *, LLVMValueRef scalar, int n); /* scalar itself for n == 1 */
LLVMValueRef gen_iota(Gen *, LLVMTypeRef elem, int n);     /* <0, 1, .. n-1> */

/* i64 arithmetic that folds constants; index math reads gen_add(g, gen_mul(g, i, 4), j). */
LLVMValueRef gen_add(Gen *, LLVMValueRef, LLVMValueRef), gen_sub(Gen *, LLVMValueRef, LLVMValueRef);
LLVMValueRef gen_mul(Gen *, LLVMValueRef, int64_t), gen_div(Gen *, LLVMValueRef, int64_t);
LLVMValueRef gen_mod(Gen *, LLVMValueRef, int64_t), gen_min(Gen *, LLVMValueRef, LLVMValueRef);
LLVMValueRef gen_max(Gen *, LLVMValueRef, LLVMValueRef);
LLVMValueRef gen_less(Gen *, LLVMValueRef, LLVMValueRef); /* signed, i1 */

/* Memory. gen_at: address of element i (i64) of an array of `elem`. Loads and stores take the type's
 * natural element alignment (vectors may be unaligned). */
LLVMValueRef gen_at(Gen *, LLVMTypeRef elem, LLVMValueRef base, LLVMValueRef i);
LLVMValueRef gen_load(Gen *, LLVMTypeRef, LLVMValueRef ptr);
void gen_store(Gen *, LLVMValueRef value, LLVMValueRef ptr);
LLVMValueRef gen_alloca(Gen *, LLVMTypeRef,
                        const char *name);                  /* in the entry block; promoted to a register */
void gen_prefetch(Gen *, LLVMValueRef ptr, bool write);     /* asks for its line; ptr may be anything */
void gen_zero(Gen *, LLVMValueRef ptr, LLVMValueRef bytes); /* memset 0, inline loop */

/* for (i = lo; i < hi; i += step): body between begin and end. Carry values in allocas or with phis. */
typedef struct Loop {
    LLVMBasicBlockRef head, body, exit;
    LLVMValueRef i; /* i64 */
    int64_t step;
} Loop;
Loop gen_loop(Gen *, LLVMValueRef lo, LLVMValueRef hi, int64_t step, const char *name);
void gen_loop_end(Gen *, Loop *);
/* if (cond) { ... } else { ... }; gen_else may be left out. */
typedef struct If {
    LLVMBasicBlockRef other, done;
    bool has_else;
} If;
If gen_if(Gen *, LLVMValueRef cond);
void gen_else(Gen *, If *);
void gen_if_end(Gen *, If *);

/* How tests run code for a CPU that they are not on: LLVM makes it for a lesser one, and in the place of each
 * intrinsic of AVX-512 and VNNI (llvm.x86.avx512..) is what `expand` builds, which the lesser CPU can do. */
typedef struct Expansion {
    const char *level, *features; /* of the lesser CPU, as in Target */
    LLVMValueRef (*expand)(Gen *, const char *intrinsic, LLVMValueRef *args);
} Expansion;

/* Calls an LLVM intrinsic overloaded on `type`, such as "llvm.fma"; NULL: it is not overloaded. */
LLVMValueRef gen_intrinsic(Gen *, const char *name, LLVMTypeRef type, LLVMValueRef *args, unsigned n);
LLVMValueRef gen_fma(Gen *, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c); /* a*b + c, one rounding */
LLVMValueRef gen_fmax(Gen *, LLVMValueRef a, LLVMValueRef b);
/* Lanes of a vector added (maximum) pairwise, in a fixed order; a scalar stays. */
LLVMValueRef gen_reduce_add(Gen *, LLVMValueRef), gen_reduce_max(Gen *, LLVMValueRef);
/* f32 scalars or vectors, inline, about 1 ulp (math.c). */
LLVMValueRef gen_exp(Gen *, LLVMValueRef), gen_log(Gen *, LLVMValueRef);
LLVMValueRef gen_rsqrt(Gen *, LLVMValueRef), gen_sigmoid(Gen *, LLVMValueRef);

/* bf16 is the upper half of an f32. Of scalars or vectors (bf16.c): x rounded to nearest even, still an f32, or in
 * the lower 16 bits of i32; the upper half, as i16; and back. */
LLVMValueRef gen_round_bf16(Gen *, LLVMValueRef x), gen_bf16_bits(Gen *, LLVMValueRef x);
LLVMValueRef gen_upper(Gen *, LLVMValueRef x), gen_widen(Gen *, LLVMValueRef upper);
int gen_width(LLVMValueRef); /* lanes of a vector; 1 of a scalar */

/* ---- generators */

/* The kinds of kernels: X(kind, descriptor). lower.c picks and names them, kinds.c calls their generators: those
 * of x86/, declared here, for a CPU, and those of nvptx/nv.h. Measuring the roofline is for CPUs only. */
#define COMMON_KINDS(X)                                                                                      \
    X(gemm, GemmDesc)                                                                                        \
    X(gemm_bf16, GemmDesc)                                                                                   \
    X(gemm_adamw, GemmAdamwDesc)                                                                             \
    X(gemm_i16, GemmDesc)                                                                                    \
    X(gemv, GemvDesc)                                                                                        \
    X(attention, AttnDesc)                                                                                   \
    X(attention_bf16, AttnDesc)                                                                              \
    X(attention_grad, AttnDesc)                                                                              \
    X(attention_grad_bf16, AttnDesc)                                                                         \
    X(attention_decode, AttnDecodeDesc)                                                                      \
    X(cache_row, CacheRowDesc)                                                                               \
    X(rows, RowsDesc)                                                                                        \
    X(ternary, TernaryDesc)                                                                                  \
    X(decode, DecodeDesc)                                                                                    \
    X(ste_clip, SteClipDesc)                                                                                 \
    X(embed, EmbedDesc)                                                                                      \
    X(embed_grad, EmbedGradDesc)                                                                             \
    X(adamw, AdamwDesc)                                                                                      \
    X(sum_rows, SumRowsDesc)                                                                                 \
    X(take_row, TakeRowDesc)                                                                                 \
    X(copy, CopyDesc)                                                                                        \
    X(fill, FillDesc)
#define KERNEL_KINDS(X)                                                                                      \
    COMMON_KINDS(X)                                                                                          \
    X(peak, PeakDesc)                                                                                        \
    X(stream, StreamDesc)
#define GENERATOR(kind, Desc)                                                                                \
    void gen_##kind(Gen *, const char *name, const Desc *);                                                  \
    uint32_t kind##_tiles(const Desc *, const Target *);                                                     \
    uint64_t kind##_scratch(const Desc *, const Target *);
KERNEL_KINDS(GENERATOR)
#undef GENERATOR

/* What a launch of peak computes; a multiply-add counts two. */
int64_t peak_flops(const PeakDesc *, const Target *);
/* Does a CPU's gemm (bf16: gemm_bf16) look sums up for such a product (x86/gemm_lut.c)? */
bool gemm_looks_up(const GemmDesc *, bool bf16, const Target *);
/* Can gemv do such a product? Groups must be whole words of codes, with i16 whole blocks, on a CPU; weights in f32
 * want one row of x. */
bool gemv_fits(const GemvDesc *);

/* ---- whole modules */

/* For the tables of a module whose kernels run on a GPU: any x86-64. */
extern const Target target_tables;

Gen *gen_new(const Target *, const char *module_name);
void gen_free(Gen *);
/* Verifies (ice if the module is broken) and optimises the module. */
void gen_optimize(Gen *);
/* The module as object or assembly text; LLVMDisposeMemoryBuffer it. NULL after a reported error. */
LLVMMemoryBufferRef gen_assemble(Gen *, bool text, Diag *);
/* Optimises, assembles and links what was built so far into a shared object (link.c), with the trailer
 * of tbc_module.h, written as a whole or not at all. False after a reported error. */
bool gen_link(Gen *, const char *path, Diag *);

#endif
