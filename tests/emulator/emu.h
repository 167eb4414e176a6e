/* The emulated device: PTX text is parsed and decoded once into instructions whose operands are resolved
 * (Ins), then run warp by warp, each instruction over its 32 lanes. A register is an array of 32 values,
 * [reg][lane]; values of up to 32 bits take four bytes a lane (16-bit ones zero-extended), 64-bit ones eight;
 * a predicate is one word, a bit a lane. Beside each register lies one word of poison: the lanes whose value
 * depends on something never written.
 *
 *     ptx_*.c                            text -> symbols and statements
 *     decode.c decode_*.c target.c       statement -> Ins; every modifier is known or refused
 *     alu_*.c                            the instructions without side effects: plain loops over the lanes
 *     flow.c calls.c atomic.c ...        the others
 *     memory.c races.c                   device memory, shadow state, data races
 *     schedule.c warp.c                  blocks and warps in seeded random order
 *     driver_*.c                         the driver API
 */
#ifndef EMU_H
#define EMU_H
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;

enum { LANES = 32 };
#define FULL 0xffffffffu

/* ---- types ---- */
typedef enum Type {
    T_NONE,
    T_PRED,
    T_B8,
    T_U8,
    T_S8,
    T_B16,
    T_U16,
    T_S16,
    T_B32,
    T_U32,
    T_S32,
    T_B64,
    T_U64,
    T_S64,
    T_B128,
    T_F16,
    T_BF16,
    T_F16X2,
    T_BF16X2,
    T_TF32,
    T_F32,
    T_F64,
    T_E4M3,
    T_E5M2,
    T_E4M3X2,
    T_E5M2X2,
    T_U4,
    T_S4,
    T_B1,
    T_COUNT
} Type;
typedef struct TypeInfo {
    const char *name;
    u8 size; /* bytes; 0 for predicates and what is narrower than a byte */
    char kind;
} TypeInfo;
extern const TypeInfo types[T_COUNT];
static inline unsigned type_size(Type t) {
    return types[t].size;
}
static inline bool type_signed(Type t) {
    return types[t].kind == 's';
}
static inline bool type_float(Type t) {
    return types[t].kind == 'f';
}
static inline bool type_untyped(Type t) {
    return types[t].kind == 'b';
} /* .bN */
static inline const char *type_name(Type t) {
    return types[t].name;
}
Type type_of(const char *word); /* "f32"; T_NONE: not a type */

typedef enum Space { S_NONE, S_GENERIC, S_REG, S_CONST, S_GLOBAL, S_LOCAL, S_PARAM, S_SHARED } Space;
/* Where the windows of the generic address space begin. Global addresses are generic addresses; shared and
 * local ones count from 0 inside their windows. */
#define GLOBAL_WINDOW  0x700000000000ull
#define SHARED_WINDOW  0x710000000000ull
#define LOCAL_WINDOW   0x720000000000ull
#define PARAM_WINDOW   0x730000000000ull
#define CODE_WINDOW    0x740000000000ull
#define DYNAMIC_SHARED 0x400u   /* dynamic shared memory begins here, whatever the kernel */
#define STATIC_SHARED  0x40000u /* static shared variables from here on */

/* ---- memory that lives as long as its owner ---- */
typedef struct Pool {
    struct PoolBlock *blocks;
} Pool;
void *pool_alloc(Pool *pool, u64 bytes); /* zeroed, 64-byte aligned */
char *pool_string(Pool *pool, const char *text, u64 length);
void pool_free(Pool *pool);

/* ---- program ---- */
typedef struct Func Func;
typedef struct Ins Ins;
typedef struct Warp Warp;

typedef struct Opnd {
    const void *imm; /* 32 copies of a constant; NULL: the register at off */
    u32 off;         /* of the register's values in the warp's register file */
    u32 poison;      /* its index in the warp's poison words */
    u8 type;
    bool neg;  /* !p */
    bool sink; /* _ */
} Opnd;

typedef void Kernel(void *d, const void *a, const void *b, const void *c, const Ins *i);
typedef void Exec(Warp *w, const Ins *i, u32 mask);

enum Rounding { R_NONE, R_RN, R_RZ, R_RM, R_RP, R_RNA, R_RNI, R_RZI, R_RMI, R_RPI };
enum Strength { WEAK, RELAXED, VOLATILE, ACQUIRE, RELEASE, ACQ_REL, MMIO };

struct Ins {
    Kernel *kernel; /* pure instructions: d = kernel(s...) */
    Exec *exec;     /* all others */
    Exec *act;      /* of .sync instructions: what happens when all members are there */
    Opnd *d, *s;
    u8 nd, ns;
    bool guarded, guard_neg;
    u32 guard, guard_poison;
    u16 csr; /* control and status register while it runs (rounding, flush to zero); 0: the ordinary one */
    bool sat, ftz;
    u8 rnd, type, type2, space, space2, vec, size, op, strength, bits;
    bool aligned, anywhere; /* .sync: all lanes at this instruction; members may meet at different ones */
    bool words;             /* ld of shared memory into registers of 32 bits, word by word */
    u32 target;             /* a branch's destination, an index into the code */
    const u32 *targets;
    u32 ntargets;
    i64 imm; /* displacement of an address, or a constant of the instruction's own */
    Func *callee;
    u32 line;
};

typedef struct Param {
    char *name;
    u32 offset, size, align;
    Type type;
    struct Sym *sym;
} Param;

struct Func {
    char *name;
    bool entry, defined, external;
    u32 begin, end;      /* its code in the module's */
    u32 reg_bytes, regs; /* register file and poison words it needs */
    /* of .func: where these begin, the registers' types, and its part of local memory */
    u32 reg_begin, poison_begin, local_begin, local_end;
    u8 *reg_types;
    bool recursive, shares; /* shares: somebody has the address of what recursion saves and restores */
    /* Its .local variables: an activation inside of another one has its own, at their addresses + shift. */
    bool shifted;
    Opnd shift;
    u32 nlocals;
    struct {
        u32 begin, end;
    } locals[8];
    u32 shared_bytes; /* static shared memory, as the driver counts it */
    u32 shared_end;   /* end of its static shared addresses */
    u32 param_bytes, nparams, nrets;
    Param *params, *rets; /* rets: of .func */
    u32 max_threads, req[3], max_regs, min_blocks;
    u32 line;
    struct Module *module;
    u32 max_dynamic_shared; /* cuFuncSetAttribute */
    u32 index;
    u32 live_regs; /* estimate of the hardware registers a thread needs */
};

typedef struct Var { /* a variable in memory */
    char *name;
    Space space;
    u64 address, size;
    u32 align;
    u8 *init;              /* NULL: none */
    bool external, module; /* module: declared outside of functions */
    const Func *owner;     /* of .shared: the entry it belongs to; NULL: all */
    u32 used_by;           /* the last function that counted it as shared memory */
    struct Reloc {
        u64 at;
        struct Sym *sym;
        i64 add;
        bool generic;
        u32 line;
        struct Reloc *next;
    } * relocs;
} Var;

typedef struct Module {
    Pool pool;
    Func **funcs;
    u32 nfuncs;
    Var **vars, **shared; /* .global and .const; .shared */
    u32 nvars, nshared;
    Ins *code;
    u32 ncode, cap;
    u32 entry_reg_bytes, entry_regs; /* the largest entry's; registers of .func follow */
    u32 reg_bytes, regs;             /* in all */
    u32 local_bytes, shared_next;
    u32 sm, version; /* 80, 708 */
    u64 const_bytes;
    bool indirect; /* there are calls through pointers */
    bool stacked;  /* and alloca, or such activations: each lane's local memory ends in a stack */
    u32 stack_begin;
} Module;

/* ---- parsing and decoding ---- */
enum { LOG_BYTES = 8192 };
typedef struct Log {
    char text[LOG_BYTES];
    u32 length;
} Log;
Module *ptx_load(const char *text, Log *log); /* NULL: log says why, with the line */
void module_free(Module *m);
u64 ptx_symbol_address(const struct Sym *s); /* a generic address, for initialisers */

/* ---- special registers: slots at the start of every register file ---- */
enum Sreg {
    SR_TID_X,
    SR_TID_Y,
    SR_TID_Z,
    SR_NTID_X,
    SR_NTID_Y,
    SR_NTID_Z,
    SR_CTAID_X,
    SR_CTAID_Y,
    SR_CTAID_Z,
    SR_NCTAID_X,
    SR_NCTAID_Y,
    SR_NCTAID_Z,
    SR_LANEID,
    SR_WARPID,
    SR_NWARPID,
    SR_SMID,
    SR_NSMID,
    SR_GRIDID,
    SR_LM_EQ,
    SR_LM_LE,
    SR_LM_LT,
    SR_LM_GE,
    SR_LM_GT,
    SR_DYNAMIC_SMEM,
    SR_TOTAL_SMEM,
    SR_WARPSIZE,
    SR_ZERO,
    SR_ONE,
    SR_ENVREG1, /* with the next: where the blocks of a cooperative launch meet */
    SR_ENVREG2,
    SR_GRIDID64, /* eight bytes a lane: two slots */
    SR_GRIDID64_HIGH,
    SR_CLOCK,
    SR_CLOCK_HI,
    SR_CLOCK64,
    SR_CLOCK64_HIGH,
    SR_GLOBALTIMER,
    SR_GLOBALTIMER_HIGH,
    SR_COUNT
};
enum { SREG_BYTES = SR_COUNT * LANES * 4 };

/* ---- device memory ---- */
enum { ST_MAPPED = 1, ST_INIT = 2, ST_FLIGHT = 4, ST_FREED = 8, ST_CONST = 16 };

#endif
