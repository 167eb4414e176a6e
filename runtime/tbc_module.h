/* The contract between the compiler and whoever runs a train.so: plain C, nothing else needed.
 *
 * A module exports one symbol, `tbc_module`. It describes one flat memory, the arena, in which every
 * parameter, optimizer state, input, result and temporary has a fixed offset, and tables of launches
 * that work on it. To run a table:
 *
 *     for each launch l of the table, in order:
 *         for each tile t in 0 .. l.tiles-1, in any order and on any thread:
 *             module.kernels[l.kernel].run(arena, module.args + l.args, t, scratch);
 *
 * where scratch is at least module.scratch_bytes, one per thread. Results do not depend on the order of
 * tiles or the number of threads. arena and scratch are 64-byte aligned; the arena starts zeroed, then
 * every entry of `consts` is copied in, parameters are written, and inputs before each run.
 *
 * A module for a GPU (`gpu` is there, every kernel's `run` is NULL) has the same tables. Its arena is one
 * allocation on the device, 256-byte aligned, and launch l runs kernel number l.kernel on l.tiles blocks of
 * gpu->kernels[l.kernel].threads threads; see tbc_gpu. Launches of a table run one after the other.
 *
 * Tables, as far as the module has them:
 *   train     inputs tokens, targets i32[B,S], hyper f32[4]; output loss f32[1]; updates parameters and moments,
 *             but only if state fault is 0 and the loss is finite; if it is not, fault becomes NaN and remains it
 *   backward  inputs tokens, targets; output loss; adds each gradient into state NAME.grad  } --grads
 *   update    input hyper; takes NAME.grad, updates parameters and moments                  } buffer
 *   warmup    train (backward, where it is that) with weights w + lambda*(q - w) in the place of their ternary
 *             values q; one input more, lambda f32[1]; only of a spec with "lambda_warmup"
 *   eval      inputs tokens, targets i32[B,S]; output nll f32[B,S,1], nats per target
 *   project   no inputs; makes the codes of the ternary parameters; absent where none are ternary
 *   decode    inputs tokens i32[1,1], pos i32[1]; output logits f32[1,1,V] of the token after that one
 *   prefill   inputs tokens i32[1,C], pos i32[1], C <= S; no output; may be absent
 *   roofline  no inputs, no results: a launch for each tbc_math that kernels of the module do, and one without FLOPs
 *             that reads memory; timed, they say what the machine can do at most. Not on a GPU
 * decode takes one token at position pos, which must be in 0 .. S-1. It adds the token's keys and values to the
 * caches as row pos and attends to rows 0 .. pos, so positions come in order from 0; an earlier position
 * overwrites, and nothing has to be cleared. prefill does to the caches what decode of C tokens at pos .. pos+C-1 does,
 * which must be in 0 .. S-1 too.
 * All tables read ternary parameters as codes, which outlive their runs. Tables that update parameters leave the
 * codes of the new ones; project is to be run before any other table, and after each change of the parameters from
 * outside. Other tables leave codes and caches as they are.
 * hyper = {1 - lr*weight_decay, lr/(1-beta1^t), 1/(1-beta2^t), gradient factor}; t counts from 1;
 * without bias correction {.., lr, 1, ..}. Where moments are bf16, what takes hyper takes key i32[2] = {seed, t} too, by
 * which they are rounded at random. Token ids must be in 0 .. vocab-1: kernels do not check. */
#ifndef TBC_MODULE_H
#define TBC_MODULE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TBC_MAGIC "tbc-mod"
#define TBC_ABI   2u
#define TBC_MAX_RANK 4

/* A kernel runs one tile. args are the launch's: byte offsets into the arena. */
typedef void tbc_kernel_fn(char *arena, const uint64_t *args, uint64_t tile, char *scratch);

/* The arithmetic that a kernel does most of: f32, products of int16 added up in 32 bits, products of bf16, f32 sums looked
 * up in tables in the place of ternary products. */
enum tbc_math { TBC_MATH_F32 = 0, TBC_MATH_I16 = 1, TBC_MATH_BF16 = 2, TBC_MATH_LUT = 3, TBC_MATHS = 4 };

typedef struct tbc_kernel {
    const char *name; /* unique, spells out the descriptor */
    tbc_kernel_fn *run; /* NULL in a module for a GPU */
    uint32_t math;      /* enum tbc_math: what bounds its speed where memory does not */
} tbc_kernel;

typedef struct tbc_launch {
    uint32_t kernel; /* index into kernels */
    uint32_t tiles;
    uint32_t args;  /* index of its first argument in module.args */
    uint32_t nargs;
    uint64_t flops; /* arithmetic of the whole launch, a multiply-add counts two */
    uint64_t bytes; /* operands read once plus results written once */
    const char *label; /* what it does in the model: op, and parameter or spec location where known */
} tbc_launch;

typedef struct tbc_table {
    const char *name;
    uint32_t first, count; /* range of module.launches */
} tbc_table;

enum tbc_dtype { TBC_F32 = 0, TBC_I32 = 1, TBC_T2 = 2, TBC_BF16 = 3 };
enum tbc_kind {
    TBC_PARAM = 0,  /* trained; name as in Hugging Face checkpoints; shared by all tables */
    TBC_STATE = 1,  /* NAME.m, NAME.v (f32 or bf16), NAME.grad, fault f32[1]; shared by all tables */
    TBC_INPUT = 2,  /* of one table */
    TBC_OUTPUT = 3, /* of one table; valid until the next run of any table */
    TBC_CODES = 4,  /* t2 projection of the parameter of that name; shared by all tables */
    TBC_TEMP = 5,   /* a temporary, listed for the memory plan only */
    TBC_CACHE = 6   /* keys or values of decode, prefill f32[1,S,G,D], attention.N.k.cache, attention.N.v.cache */
};

/* t2[rows, cols] with `group`: row r's codes start at byte r*row_bytes, row_bytes = ceil(cols/16)*4;
 * weight j is bits 2(j%4)..2(j%4)+1 of byte j/4, holding code+1; padding is 1. From byte
 * scales_at = ceil(rows*row_bytes/64)*64 on: f16 scales, ceil(cols/group) a row, row by row.
 * The weight's value is code * scale. */
typedef struct tbc_tensor {
    const char *name;
    uint32_t kind, dtype;
    int32_t table;  /* index into tables; -1: shared by all */
    uint32_t group; /* t2; for a parameter the group size of its projection, 0: used in full precision */
    uint32_t rank;
    int64_t dim[TBC_MAX_RANK];
    uint64_t offset, bytes; /* in the arena */
    uint32_t live_first, live_last; /* launches of its table between which it holds (temporaries) */
} tbc_tensor;

typedef struct tbc_const {
    uint64_t offset, bytes;
    const void *data;
} tbc_const;

/* Code for a GPU. Kernel i of the module is the entry kernels[i].name of the PTX and of each image:
 *     .entry NAME(.param .u64 p0, .param .u64 p1, ..)
 * with one parameter for each argument of its launch, the device address arena + args[..]. A launch is a grid
 * {tiles,1,1} of blocks {threads,1,1}; block t does tile t. Each element is written by one fixed thread in a
 * fixed order, so results are the same in every run. */
typedef struct tbc_gpu_kernel {
    uint32_t threads;      /* of a block */
    uint32_t shared_bytes; /* dynamic shared memory of a block; what is static is not counted */
} tbc_gpu_kernel;

typedef struct tbc_gpu_usage { /* of a kernel in an image, as its assembler said */
    uint32_t registers;    /* of a thread */
    uint32_t shared_bytes; /* static shared memory of a block */
    uint32_t spill_bytes;  /* registers that a thread keeps in memory */
} tbc_gpu_usage;

typedef struct tbc_gpu_image { /* a cubin: runs on compute capability sm/10 .. of the same major number */
    uint32_t sm;
    uint64_t bytes;
    const void *data;
    const tbc_gpu_usage *usage; /* one for each kernel of the module; NULL: not known */
} tbc_gpu_image;

typedef struct tbc_gpu {
    const char *ptx; /* NUL-terminated; the driver compiles it where no image fits */
    uint32_t sm;     /* the compute capability that the PTX needs at least: 80 */
    uint32_t nimages;
    const tbc_gpu_image *images;   /* NULL if there are none */
    const tbc_gpu_kernel *kernels; /* one for each kernel of the module */
} tbc_gpu;

/* meta is one JSON object:
 *   "name" string; "batch", "seq", "vocab" integers; "config" the Hugging Face config.json of the model;
 *   "train" {"lr","warmup","weight_decay","beta1","beta2","eps","bias_correction"}; "grads" "fused"|"buffer";
 *   "precision" "f32", "i16" or "bf16" (of products); "target" "x86-64" or "nvptx64";
 *   "cpu" the LLVM CPU name, for a GPU its architecture ("sm_80"); "compiler" version string;
 *   "recompute", where forward values are computed again, a line about that. */
typedef struct tbc_module {
    char magic[8];      /* TBC_MAGIC */
    uint32_t abi;       /* TBC_ABI */
    uint32_t bytes;     /* sizeof(struct tbc_module) */
    const char *meta;
    const char *cpu_features; /* what the kernels need, comma-separated: "avx2,fma,f16c" (Linux /proc/cpuinfo names) */
    uint64_t arena_bytes, scratch_bytes;
    uint32_t nkernels, ntensors, ntables, nlaunches, nargs, nconsts;
    const tbc_kernel *kernels;
    const tbc_tensor *tensors;
    const tbc_table *tables;
    const tbc_launch *launches;
    const uint64_t *args;
    const tbc_const *consts;
    const tbc_gpu *gpu; /* NULL in a module for the CPU */
} tbc_module_t;

/* The file ends with this trailer, little-endian; it lets a reader reject a damaged or foreign file
 * before any of it is mapped. */
typedef struct tbc_trailer {
    uint64_t hash;   /* tbc_hash of all bytes before the trailer */
    uint64_t bytes;  /* of the file before the trailer */
    char magic[8];   /* "tbc-end" */
} tbc_trailer;

/* 64-bit FNV-1a, word by word: 8 bytes at a time, little-endian, the rest byte by byte. Not for use against an
 * adversary. */
static inline uint64_t tbc_hash(const void *bytes, size_t n) {
    const unsigned char *at = (const unsigned char *)bytes;
    uint64_t hash = 0xcbf29ce484222325u, word;
    for (; n >= sizeof word; at += sizeof word, n -= sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = (hash ^ word) * 0x100000001b3u;
    }
    for (; n; at++, n--) hash = (hash ^ *at) * 0x100000001b3u;
    return hash;
}

#endif
