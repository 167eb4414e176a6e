/* Runs a launch: a few blocks are resident at a time, and of these a random warp runs for a random number of
 * instructions, all from one seed. */
#include "memory.h"
#include "warp.h"
#include "real.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <immintrin.h>

Settings settings;

static u64 number(const char *name, u64 otherwise) {
    const char *v = getenv(name);
    return v && *v ? strtoull(v, NULL, 0) : otherwise;
}

static u64 size_setting(const char *name, u64 otherwise) {
    const char *v = getenv(name);
    if (!v || !*v) return otherwise;
    char *end;
    u64 n = strtoull(v, &end, 0);
    return *end == 'G' || *end == 'g'   ? n << 30
           : *end == 'M' || *end == 'm' ? n << 20
           : *end == 'K' || *end == 'k' ? n << 10
                                        : n;
}

void settings_read(void) {
    const char *device = getenv("TBC_EMU_DEVICE");
    settings = (Settings){.strict = number("TBC_EMU_STRICT", 1),
                          .perturb = number("TBC_EMU_PERTURB", 0),
                          .defer = number("TBC_EMU_DEFER", 1),
                          .trace = number("TBC_EMU_TRACE", 0),
                          .omit = getenv("TBC_EMU_OMIT"),
                          .seed = number("TBC_EMU_SEED", 1),
                          .slice = number("TBC_EMU_SLICE", 200),
                          .resident = (u32)number("TBC_EMU_RESIDENT", 4),
                          .memory = size_setting("TBC_EMU_MEMORY", 4ull << 30),
                          .timeout = number("TBC_EMU_TIMEOUT", 100000000000ull),
                          .sm = device && sscanf(device, "sm_%u", &settings.sm) == 1 ? settings.sm : 80};
    if (device) sscanf(device, "sm_%u", &settings.sm);
    if (settings.resident < 1) settings.resident = 1;
    if (settings.slice < 1) settings.slice = 1;
    perturb_seed = settings.perturb ? (u32)settings.seed + 1 : 0;
}

u64 random_next(u64 *state) { /* splitmix64 */
    u64 z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* ---- reports ---- */
static void print_report(Warp *w, const Ins *i, int lane, const char *kind, const char *text) {
    const Block *b = w->block;
    const Launch *l = b->launch;
    u32 t = w->index * LANES + (u32)lane;
    fflush(stdout);
    fprintf(stderr, "tbc-emulator: %s: %s\n    in %s, PTX line %u, block (%u,%u,%u), thread (%u,%u,%u)\n",
            kind, text, l->func->name, i ? i->line : l->func->line, b->id[0], b->id[1], b->id[2],
            t % l->dim[0], t / l->dim[0] % l->dim[1], t / l->dim[0] / l->dim[1]);
}

_Noreturn void fault(Warp *w, const Ins *i, int lane, int code, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_report(w, i, lane, "error", text);
    w->block->launch->error = code;
    _mm_setcsr(0x1f80);
    longjmp(w->block->launch->fail, 1);
}

void suspect(Warp *w, const Ins *i, int lane, const char *format, ...) {
    if (!settings.strict) return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_report(w, i, lane, "error", text);
    w->block->launch->error = ERR_LAUNCH_FAILED;
    longjmp(w->block->launch->fail, 1);
}

/* ---- blocks ---- */
static void fill(Warp *w, u32 slot, u32 v) {
    u32 *r = (u32 *)w->regs + slot * LANES;
    for (int l = 0; l < LANES; l++) r[l] = v;
}

static void special_registers(Warp *w) {
    const Block *b = w->block;
    const Launch *l = b->launch;
    u32 *r = (u32 *)w->regs;
    for (u32 k = 0; k < 3; k++) {
        fill(w, SR_NTID_X + k, l->dim[k]);
        fill(w, SR_CTAID_X + k, b->id[k]);
        fill(w, SR_NCTAID_X + k, l->grid[k]);
    }
    fill(w, SR_WARPID, w->index);
    fill(w, SR_NWARPID, MAX_WARPS * 2);
    fill(w, SR_SMID, b->index % 108);
    fill(w, SR_NSMID, 108);
    fill(w, SR_GRIDID, l->id);
    fill(w, SR_DYNAMIC_SMEM, l->dynamic);
    fill(w, SR_TOTAL_SMEM, l->dynamic + l->func->shared_bytes);
    fill(w, SR_WARPSIZE, LANES);
    fill(w, SR_ZERO, 0);
    fill(w, SR_ONE, 1);
    fill(w, SR_ENVREG1, (u32)(l->workspace >> 32));
    fill(w, SR_ENVREG2, (u32)l->workspace);
    for (u32 k = 0; k < LANES; k++) {
        u32 t = w->index * LANES + k;
        r[SR_TID_X * LANES + k] = t % l->dim[0];
        r[SR_TID_Y * LANES + k] = t / l->dim[0] % l->dim[1];
        r[SR_TID_Z * LANES + k] = t / l->dim[0] / l->dim[1];
        r[SR_LANEID * LANES + k] = k;
        r[SR_LM_EQ * LANES + k] = 1u << k;
        r[SR_LM_LT * LANES + k] = (1u << k) - 1;
        r[SR_LM_LE * LANES + k] = (2u << k) - 1;
        r[SR_LM_GE * LANES + k] = ~((1u << k) - 1);
        r[SR_LM_GT * LANES + k] = ~((2u << k) - 1);
        ((u64 *)(w->regs + SR_GRIDID64 * LANES * 4))[k] = l->id;
    }
}

static void start_warp(Block *b, u32 index) {
    Launch *l = b->launch;
    Module *m = l->module;
    Warp *w = &b->warps[index];
    frames_free(w);
    Warp old = *w;
    *w = (Warp){.block = b,
                .regs = old.regs,
                .poison = old.poison,
                .index = index,
                .local = old.local,
                .calls = old.calls,
                .calls_cap = old.calls_cap,
                .local_state = old.local_state,
                .copies = old.copies,
                .copies_cap = old.copies_cap,
                .at_barrier = -1,
                .pc = l->func->begin,
                .other_pc = FULL,
                .clock = b->clock,
                .converged = b->clock,
                .floor = b->clock,
                .resume_min = 4096};
    memcpy(w->rooms, old.rooms, sizeof w->rooms);
    u32 lanes = l->threads - index * LANES;
    w->live = w->mask = lanes >= LANES ? FULL : (1u << lanes) - 1;
    memset(w->poison, 0xff, (l->func->regs + 1) * sizeof *w->poison);
    memset(w->poison + m->entry_regs + 1, 0xff,
           (m->regs - m->entry_regs - 1) * sizeof *w->poison); /* of the .func */
    w->poison[0] = 0;
    for (u32 v = 0; v < MAX_WARPS; v++) w->seen[v] = b->clock; /* also of warps that an earlier launch had */
    for (u32 k = 0; k < LANES; k++) w->lane_pc[k] = l->func->begin, w->sp[k] = m->stack_begin;
    if (m->local_bytes) {
        memset(w->local, 0xff, (u64)LANES * m->local_bytes);
        memset(w->local_state, ST_MAPPED, (u64)LANES * m->local_bytes);
    }
    special_registers(w);
}

static void start_block(Block *b, u32 index) {
    Launch *l = b->launch;
    const Func *f = l->func;
    b->index = index;
    b->id[0] = index % l->grid[0], b->id[1] = index / l->grid[0] % l->grid[1],
    b->id[2] = index / l->grid[0] / l->grid[1];
    b->busy = true;
    b->live_warps = b->nwarps;
    b->acquired = b->fence_time = b->release_time = 0;
    b->clock++;
    memset(b->barriers, 0, sizeof b->barriers);
    memset(b->released, 0, sizeof b->released);
    if (l->dynamic) {
        memset(b->shared + DYNAMIC_SHARED, 0xff, l->dynamic);
        memset(b->shared_state + DYNAMIC_SHARED, ST_MAPPED, l->dynamic);
    }
    if (f->shared_end > STATIC_SHARED) {
        memset(b->shared + STATIC_SHARED, 0xff, f->shared_end - STATIC_SHARED);
        memset(b->shared_state + STATIC_SHARED, 0, f->shared_end - STATIC_SHARED);
        for (u32 k = 0; k < l->module->nshared; k++) { /* red zones lie between them */
            const Var *v = l->module->shared[k];
            if (!v->owner || v->owner->index == f->index)
                memset(b->shared_state + v->address, ST_MAPPED, v->size);
        }
    }
    for (u32 k = 0; k < b->nwarps; k++) start_warp(b, k);
}

static void *need(void *p) {
    if (!p) {
        fprintf(stderr, "tbc-emulator: out of memory\n");
        abort();
    }
    return p;
}

/* Slots outlive launches: making their memory anew would cost more than most launches do. What is kept in it
 * from an earlier block is older than every clock of the new one. */
enum { MAX_SLOTS = 1024 };
static Block slots[MAX_SLOTS];

static void *grow(Room *room, u64 bytes) { /* zeroed when it grows */
    if (room->bytes >= bytes) return room->at;
    free(room->at);
    bytes = (bytes + 4095) / 4096 * 4096;
    room->at = memset(need(aligned_alloc(64, bytes)), 0, bytes);
    room->bytes = bytes;
    return room->at;
}

static void make_slot(Launch *l, Block *b) {
    const Module *m = l->module;
    u32 shared = l->func->shared_end + 64;
    b->launch = l;
    b->nwarps = l->nwarps;
    if (b->clock > 0xf0000000u || shared > b->rooms[0].bytes)
        for (u32 k = 0; k < BLOCK_ROOMS;
             k++) { /* the clock begins again, or the cells move: nothing of before is kept */
            free(b->rooms[k].at);
            b->rooms[k] = (Room){0};
            b->clock = 0;
        }
    if (!b->clock) b->clock = 1;
    b->shared = grow(&b->rooms[0], shared);
    b->shared_state = grow(&b->rooms[1], shared);
    b->words = grow(&b->rooms[2], (shared / 4 + 1) * sizeof *b->words);
    b->bytes = grow(&b->rooms[3], shared * sizeof *b->bytes);
    b->split = grow(&b->rooms[4], shared / 4 + 1);
    for (u32 k = 0; k < l->nwarps; k++) {
        Warp *w = &b->warps[k];
        w->regs = grow(&w->rooms[0], m->reg_bytes);
        w->poison = grow(&w->rooms[1], m->regs * sizeof *w->poison);
        w->local = grow(&w->rooms[2], LANES * (m->local_bytes + 1ull));
        w->local_state = grow(&w->rooms[3], LANES * (m->local_bytes + 1ull));
    }
}

/* ---- the loop ---- */
static bool runnable(const Warp *w) {
    return w->live && w->at_barrier < 0;
}

static _Noreturn void deadlock(Block *b) {
    Warp *w = b->warps;
    while (!(w->live && w->at_barrier >= 0)) w++;
    u32 waiting = 0, elsewhere = 0;
    for (u32 k = 0; k < b->nwarps; k++) {
        if (b->warps[k].at_barrier == w->at_barrier)
            waiting++;
        else if (b->warps[k].live)
            elsewhere++;
    }
    fault(w, w->barrier_ins, __builtin_ctz(w->barrier_mask), ERR_LAUNCH_FAILED,
          "deadlock: %u warps wait at barrier %d, %u at other ones, %u have exited; nobody else comes",
          waiting, w->at_barrier, elsewhere, b->nwarps - waiting - elsewhere);
}

/* One slice of one warp. */
static void step_block(Launch *l, Block *b) {
    u32 ready = 0;
    for (u32 k = 0; k < b->nwarps; k++) ready += runnable(&b->warps[k]);
    if (!ready) deadlock(b);
    u32 pick = (u32)(random_next(&l->rng) % ready);
    Warp *w = b->warps;
    for (;; w++)
        if (runnable(w) && !pick--) break;
    u64 slice = settings.seed ? 1 + random_next(&l->rng) % (2 * settings.slice) : UINT32_MAX,
        before = w->executed;
    warp_run(w, slice);
    l->executed += w->executed - before;
    b->executed += w->executed - before;
    if (l->executed > settings.timeout)
        fault(w, NULL, 0, ERR_TIMEOUT, "more than %llu instructions: the launch is taken to hang",
              (unsigned long long)settings.timeout);
}

/* Blocks start in random order. */
static u32 *block_order(Launch *l) {
    u32 *order = need(malloc(l->blocks * sizeof *order));
    for (u32 k = 0; k < l->blocks; k++) order[k] = k;
    for (u64 k = l->blocks; settings.seed && k > 1; k--) {
        u64 j = random_next(&l->rng) % k;
        u32 t = order[k - 1];
        order[k - 1] = order[j], order[j] = t;
    }
    return order;
}

enum {
    PATIENCE = 5000000
}; /* instructions of the resident blocks until one more is let in: they may wait for it */

static u32 admit(Launch *l, const u32 *order, u64 *next) {
    for (u32 k = 0; k < l->nslots; k++) {
        if (l->slots[k].busy) continue;
        if (l->slots[k].launch != l) make_slot(l, &l->slots[k]);
        l->slots[k].executed = 0;
        start_block(&l->slots[k], order[(*next)++]);
        return k;
    }
    return FULL;
}

static void run_blocks(Launch *l, const u32 *order) {
    u64 next = 0, done = 0, patience = PATIENCE;
    u32 resident = 0, most = l->cooperative ? l->nslots : settings.resident;
    while (done < l->blocks) {
        while (resident < most && resident < l->nslots && next < l->blocks)
            admit(l, order, &next), resident++;
        u32 pick = (u32)(random_next(&l->rng) % resident), k = 0;
        if (!settings.seed) pick = 0;
        for (;; k++)
            if (l->slots[k].busy && !pick--) break;
        Block *b = &l->slots[k];
        u64 before = l->executed;
        step_block(l, b);
        patience = patience > l->executed - before ? patience - (l->executed - before) : 0;
        if (!b->live_warps) {
            b->busy = false;
            b->clock++;
            resident--;
            done++;
            patience = PATIENCE;
        } else if (!patience) {
            most++;
            patience = PATIENCE;
        }
    }
}

int launch_run(Launch *l) {
    u32 cap = 108 * 2048 / (l->nwarps * LANES);
    if (cap > MAX_SLOTS) cap = MAX_SLOTS;
    l->nslots = l->blocks < cap ? (u32)l->blocks : cap;
    l->rng = settings.seed * 0x2545f4914f6cdd1dull + l->id;
    l->start_time = race_time();
    l->slots = slots;
    for (u32 k = 0; k < MAX_SLOTS; k++) slots[k].launch = NULL, slots[k].busy = false;
    u32 *order = block_order(l);
    if (!setjmp(l->fail)) run_blocks(l, order);
    free(order);
    race_time();
    return l->error;
}
