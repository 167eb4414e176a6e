/* What runs: a launch, its resident blocks, their warps. */
#ifndef WARP_H
#define WARP_H
#include "emu.h"

typedef struct Block Block;
typedef struct Launch Launch;

enum { BARRIERS = 16, MAX_WARPS = 32, MAX_CALLS = 4096 };

typedef struct Room {
    void *at;
    u64 bytes;
} Room; /* memory that is kept for the next launch */
enum { BLOCK_ROOMS = 5, WARP_ROOMS = 4 };

/* ---- races.c: who touched a byte last ---- */
typedef struct Stamp {
    u32 clock;
    u16 thread;
    u16 strong;
} Stamp;
typedef struct Cell {
    Stamp w, r, r2;
} Cell; /* last write; reads by two threads, of different warps if there were such */

typedef struct Copy {
    u32 lane, dst, size, copied, group;
    u64 src;
    u32 line;
} Copy; /* a cp.async on its way */

typedef struct Return {
    u32 pc, func; /* where a call goes on, and the function called */
    u32 sp;       /* of the caller */
} Return;
typedef struct Frame { /* what a function held that was called again */
    struct Frame *below;
    const Func *func;
    u32 depth; /* of the call */
    u8 bytes[];
} Frame;

struct Warp {
    Block *block;
    u8 *regs;
    u32 *poison;
    u32 index; /* in its block */
    /* Lanes that stand at the same instruction run together: the group (pc, mask). The others are at lane_pc.
     */
    u32 pc, mask, other_pc;
    u32 lane_pc[LANES];
    u32 live;           /* lanes that have not exited */
    u32 parked;         /* lanes that wait in a .sync instruction at lane_pc */
    u32 members[LANES]; /* whom each of them waits for */
    bool stop;          /* leaves the loop: at a barrier, or nothing can run */
    int at_barrier;     /* -1: none */
    const Ins *barrier_ins;
    u32 barrier_mask;
    u64 executed; /* instructions, for clocks and reports */
    u32 carry;    /* the condition-code flag of each lane */
    u32 carry_poison;
    Return *calls; /* [depth][lane] */
    u32 calls_cap, depth[LANES];
    u32 sp[LANES]; /* the stack's first free byte in local memory */
    Frame *frames[LANES];
    u8 *passing; /* values on their way from a caller or back (calls.c); goes with the frames */
    u64 passing_bytes;
    u8 *local, *local_state; /* [lane][local_bytes] */
    /* happens-before: accesses of warp v with a clock below seen[v] come before whatever this warp does now
     */
    u32 clock, seen[MAX_WARPS];
    u32 floor;     /* the least of what it has seen of anybody, itself included: older accesses need no second
                      look */
    u32 converged; /* accesses of this warp below it are ordered between all its lanes */
    u32 (*lane_seen)[LANES]; /* [lane][other]: after a bar.warp.sync of some lanes; NULL: none yet */
    u32 fenced;              /* clock at the last fence, +1; 0: none since ... */
    Copy *copies;            /* pending cp.async of the warp's lanes */
    u32 ncopies, copies_cap;
    u32 group[LANES]; /* groups that each lane has committed */
    const Ins *now;   /* being executed, and the addresses it touches: for races inside one instruction */
    u64 addr[LANES];
    Room rooms[WARP_ROOMS];
    u32 resume_min; /* instructions until groups are scheduled by the lowest pc again */
};

typedef struct Barrier {
    u32 arrived, expected; /* warps; expected 0: unused, ~0: all of the block */
    u32 waiting;           /* warps that wait */
    u32 clocks[MAX_WARPS]; /* what the arrivals have seen */
    u32 count, all, any;   /* bar.red */
} Barrier;

struct Block {
    Launch *launch;
    u32 index, id[3];
    Warp warps[MAX_WARPS];
    Room rooms[BLOCK_ROOMS];
    u32 nwarps, live_warps;
    bool busy; /* the slot holds a block */
    u8 *shared, *shared_state;
    Cell *words, *bytes; /* of shared memory; bytes count where split is set */
    u8 *split;
    u32 clock; /* the highest a warp of this slot has had */
    Barrier barriers[BARRIERS];
    u32 released[MAX_WARPS]; /* clocks that strong writes after a fence have made visible */
    u32 acquired;            /* global time up to which this block has acquired what others released */
    u32 fence_time, release_time;
    u64 executed;
};

struct Launch {
    const Func *func;
    Module *module;
    u32 grid[3], dim[3], threads, nwarps, dynamic;
    u64 blocks;
    u8 *params;
    u32 id;
    u32 start_time; /* of global accesses: what is older belongs to earlier launches */
    jmp_buf fail;
    int error;
    u64 rng;
    u64 executed;
    bool cooperative;
    u64 workspace; /* of a cooperative launch: memory by which cooperative_groups makes its blocks meet */
    Block *slots;
    u32 nslots;
};

/* ---- operands ---- */
static inline const void *src(const Warp *w, const Opnd *o) {
    return o->imm ? o->imm : w->regs + o->off;
}
static inline u32 src_poison(const Warp *w, const Opnd *o) {
    return o->imm ? 0 : w->poison[o->poison];
}
static inline u32 src_pred(const Warp *w, const Opnd *o) {
    u32 v = *(const u32 *)src(w, o);
    return o->neg ? ~v : v;
}
static inline bool wide(const Opnd *o) {
    return o->type == T_B64 || o->type == T_U64 || o->type == T_S64 || o->type == T_F64;
}
static inline u64 src_lane(const Warp *w, const Opnd *o, int lane) {
    const void *v = src(w, o);
    return wide(o) ? ((const u64 *)v)[lane] : ((const u32 *)v)[lane];
}
static inline void set_lane(Warp *w, const Opnd *o, int lane, u64 value, bool poisoned) {
    if (o->sink) return;
    if (wide(o))
        ((u64 *)(w->regs + o->off))[lane] = value;
    else
        ((u32 *)(w->regs + o->off))[lane] = (u32)value;
    u32 bit = 1u << lane, *p = &w->poison[o->poison];
    *p = poisoned ? *p | bit : *p & ~bit;
}
void set_pred(Warp *w, const Opnd *o, u32 mask, u32 value, u32 poison);

/* ---- errors: CUresult codes ---- */
enum {
    ERR_ILLEGAL_ADDRESS = 700,
    ERR_TIMEOUT = 702,
    ERR_ASSERT = 710,
    ERR_MISALIGNED = 716,
    ERR_ADDRESS_SPACE = 717,
    ERR_ILLEGAL_INSTRUCTION = 715,
    ERR_LAUNCH_FAILED = 719
};
/* Prints the report and ends the launch. */
_Noreturn void fault(Warp *w, const Ins *i, int lane, int code, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* The same for what TBC_EMU_STRICT=0 lets pass. */
void suspect(Warp *w, const Ins *i, int lane, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* ---- settings ---- */
typedef struct Settings {
    bool strict, perturb, defer, trace;
    u32 sm, resident;
    const char *omit;
    u64 seed, memory, slice, timeout;
} Settings;
extern Settings settings;
void settings_read(void);
u64 random_next(u64 *state);

/* ---- memory as kernels see it (access.c) ---- */
enum Touch { READ = 1, WRITE = 2, ATOMIC = 3, START_COPY = 4 };
/* Checks one lane's access and returns where the bytes are; *state their state. */
u8 *touch(Warp *w, const Ins *i, int lane, Space space, u64 address, u32 size, enum Touch how, bool strong,
          u8 **state);
Space window_of(u64 address, u64 *offset);
void sync_seen(Warp *w); /* after seen or converged have changed */
void race_shared(Warp *w, const Ins *i, int lane, u32 address, u32 size, enum Touch how, bool strong);
/* Of these lanes' reads of size (4, 8 or 16) bytes of shared memory at w->addr: the lanes whose words are
 * mapped, written and no race. For the others touch() has the last word. */
u32 race_quick_reads(Warp *w, u32 mask, u32 size);
void race_global(Warp *w, const Ins *i, int lane, u64 address, u32 size, enum Touch how, bool strong);
bool race_open(u64 bytes);
void race_forget(u64 address, u64 bytes); /* memory is given to somebody else */
u32 race_time(void);
void sync_lanes(Warp *w, u32 mask); /* bar.warp.sync */
void sync_fence(Warp *w, bool gpu);
void sync_strong(Warp *w, enum Touch how);

/* ---- control (warp.c, flow.c) ---- */
void warp_run(Warp *w, u64 instructions);
void warp_jump(Warp *w, u32 mask, u32 pc); /* lanes of the group go elsewhere */
void warp_regroup(Warp *w);
void warp_exit(Warp *w, u32 mask);
void park(Warp *w, const Ins *i, u32 mask); /* .sync: until all members are there; then i->act */
void frames_free(Warp *w);
void barrier_check(Block *b, u32 id);
int launch_run(Launch *l); /* CUresult */

Exec exec_clock, exec_sync;
#endif
