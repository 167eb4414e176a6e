/* Data races, by happens-before. Each warp has a clock that advances at every synchronisation; an access
 * carries the clock at which it was made. Another access of the same byte is ordered after it if the later
 * thread has seen a higher clock of that warp, by a barrier, a bar.warp.sync, or a fence, a strong write, and
 * a strong read of it. Two accesses that are not ordered, of which one writes, are a race unless both are
 * strong (atomic, volatile, relaxed, ...). Lanes of one warp are ordered only by synchronisation too, as
 * independent thread scheduling has it: a shuffle or vote orders nothing. Several lanes may write the same
 * value to the same place in one instruction.
 *
 * Shared memory has a cell a word, and one a byte where accesses are narrower. Global memory has a cell a
 * word that keeps the last write and the last read with their byte masks: never a false report, now and then
 * a race unseen. */
#include "memory.h"
#include "warp.h"
#include <string.h>
#include <sys/mman.h>

static bool lanes_ordered(const Warp *w, int lane, u32 other, u32 clock) {
    if (clock < w->converged || (u32)lane == other) return true;
    return w->lane_seen && clock < w->lane_seen[lane][other];
}

static bool ordered(const Warp *w, int lane, Stamp s) {
    u32 v = s.thread / LANES;
    if (s.clock < w->seen[v] || !s.clock) return true;
    return v == w->index && lanes_ordered(w, lane, s.thread % LANES, s.clock);
}

/* Two lanes of this very instruction write the same bytes there: value for value equal? */
static bool same_value(Warp *w, const Ins *i, u32 other, u64 address, u32 size) {
    if (!w->now || w->now != i || other / LANES != w->index || i->ns < 2 || i->vec > 1) return false;
    u32 o = other % LANES;
    if (w->addr[o] > address || w->addr[o] + i->size <= address) return false;
    (void)size;
    int lane = -1;
    for (int l = 0; l < LANES; l++)
        if (w->addr[l] == w->addr[o] && (u32)l != o) lane = l;
    if (lane < 0) return false;
    for (int l = 0; l < LANES; l++)
        if (w->addr[l] == w->addr[o] && src_lane(w, &i->s[1], l) != src_lane(w, &i->s[1], (int)o))
            return false;
    return true;
}

static void report(Warp *w, const Ins *i, int lane, const char *space, u64 address, Stamp s,
                   bool other_writes, enum Touch how) {
    u32 t = s.thread, *n = w->block->launch->dim;
    suspect(w, i, lane,
            "race: %s of %s address 0x%llx, %s by thread (%u,%u,%u) without synchronisation in between",
            how == READ     ? "read"
            : how == ATOMIC ? "atomic access"
                            : "write",
            space, (unsigned long long)address, other_writes ? "written" : "read", t % n[0], t / n[0] % n[1],
            t / n[0] / n[1]);
}

static void visit(Warp *w, const Ins *i, int lane, Cell *c, u32 address, u32 size, enum Touch how,
                  bool strong) {
    Stamp me = {w->clock, (u16)(w->index * LANES + (u32)lane), strong};
    if (!ordered(w, lane, c->w) && !(strong && c->w.strong) &&
        !(how == WRITE && same_value(w, i, c->w.thread, address, size)))
        report(w, i, lane, "shared", address, c->w, true, how);
    if (how == READ) {
        if (c->r.thread == me.thread || ordered(w, lane, c->r))
            c->r = me;
        else if (c->r2.thread == me.thread || ordered(w, lane, c->r2) ||
                 (c->r2.thread / LANES == c->r.thread / LANES && c->r.thread / LANES != w->index))
            c->r2 = me;
        return;
    }
    if (!ordered(w, lane, c->r) && !(strong && c->r.strong))
        report(w, i, lane, "shared", address, c->r, false, how);
    if (!ordered(w, lane, c->r2) && !(strong && c->r2.strong))
        report(w, i, lane, "shared", address, c->r2, false, how);
    *c = (Cell){.w = me};
    if (how == ATOMIC) c->r = me;
}

void sync_seen(Warp *w) {
    w->floor = w->converged;
    for (u32 v = 0; v < w->block->nwarps; v++)
        if (w->floor > w->seen[v] && v != w->index) w->floor = w->seen[v];
}

/* A read of whole words that were last written before the last synchronisation of all: the common case. */
static inline bool quick_read(Warp *w, int lane, u32 address, u32 size) {
    Block *b = w->block;
    Stamp me = {w->clock, (u16)(w->index * LANES + (u32)lane), 0};
    if ((address | size) & 3) return false;
    for (u32 word = address / 4; word < (address + size) / 4; word++) {
        Cell *c = &b->words[word];
        if (b->split[word] || c->w.clock >= w->floor) return false;
        if (c->r.clock < w->floor || c->r.thread == me.thread)
            c->r = me;
        else if (c->r2.clock < w->floor || c->r2.thread == me.thread ||
                 (c->r2.thread / LANES == c->r.thread / LANES && c->r.thread / LANES != w->index))
            c->r2 = me;
    }
    return true;
}

u32 race_quick_reads(Warp *w, u32 mask, u32 size) {
    const Block *b = w->block;
    u64 end = b->launch->func->shared_end;
    u32 quick = 0;
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u64 a = w->addr[l];
        if (l > 1 && quick >> (l - 2) == 3 && a == w->addr[l - 1] && a == w->addr[l - 2]) {
            quick |= 1u << l; /* two readers of a warp are remembered: a third one adds nothing */
            continue;
        }
        if (a & (size - 1) || a >= end) continue;
        bool clean = true;
        for (u32 k = 0; k < size; k += 4) {
            u32 state;
            memcpy(&state, b->shared_state + a + k, 4);
            clean &= state == 0x01010101u * (ST_MAPPED | ST_INIT);
        }
        if (clean && (!settings.strict || quick_read(w, l, (u32)a, size))) quick |= 1u << l;
    }
    return quick;
}

void race_shared(Warp *w, const Ins *i, int lane, u32 address, u32 size, enum Touch how, bool strong) {
    Block *b = w->block;
    if (how == READ && !strong && quick_read(w, lane, address, size)) return;
    for (u32 at = address, end = address + size; at < end;) {
        u32 word = at / 4;
        bool whole = !(at % 4) && end - at >= 4;
        if (!b->split[word] && !whole) {
            for (u32 k = 0; k < 4; k++) b->bytes[word * 4 + k] = b->words[word];
            b->split[word] = 1;
        }
        if (!b->split[word]) {
            visit(w, i, lane, &b->words[word], at, 4, how, strong);
            at += 4;
            continue;
        }
        u32 stop = whole ? at + 4 : end < (word + 1) * 4 ? end : (word + 1) * 4;
        for (; at < stop; at++) visit(w, i, lane, &b->bytes[at], at, 1, how, strong);
        if (whole && how == WRITE) b->words[word] = b->bytes[at - 1], b->split[word] = 0;
    }
}

/* ---- global memory ---- */
typedef struct Side {
    u32 time, block, clock;
    u16 thread;
    u8 mask, strong;
} Side;
typedef struct GlobalCell {
    Side w, r;
} GlobalCell;
static GlobalCell *cells;
static u32 now_ = 1; /* advances with every release and acquire; accesses carry it */

u32 race_time(void) {
    return ++now_;
}

bool race_open(u64 bytes) {
    u64 range = (bytes * 2 + (64 << 20)) / 4 * sizeof *cells;
    if (!cells)
        cells = mmap(NULL, range, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return cells != MAP_FAILED;
}

void race_forget(u64 address, u64 bytes) {
    if (cells) memset(&cells[(address - GLOBAL_WINDOW) / 4], 0, (bytes + 3) / 4 * sizeof *cells);
}

static bool side_ordered(const Warp *w, int lane, const Side *s) {
    const Block *b = w->block;
    const Launch *l = b->launch;
    if (s->time < l->start_time) return true; /* an earlier launch */
    if (s->block == b->index) return ordered(w, lane, (Stamp){s->clock, s->thread, s->strong});
    if (s->time >= b->acquired) return false;
    for (u32 k = 0; k < l->nslots; k++) /* still running: only what it has released */
        if (l->slots[k].busy && l->slots[k].index == s->block) return s->time < l->slots[k].release_time;
    return true;
}

static void race_word(Warp *w, const Ins *i, int lane, GlobalCell *c, u64 address, u8 mask, enum Touch how,
                      bool strong) {
    Side me = {now_, w->block->index, w->clock, (u16)(w->index * LANES + (u32)lane), mask, strong};
    if (c->w.mask & mask && !(strong && c->w.strong) && !side_ordered(w, lane, &c->w) &&
        !(how == WRITE && c->w.block == me.block && same_value(w, i, c->w.thread, address, 4))) {
        if (c->w.block == me.block)
            report(w, i, lane, "global", address, (Stamp){c->w.clock, c->w.thread, 0}, true, how);
        else
            suspect(w, i, lane, "race: %s of global address 0x%llx, written by block %u in the same launch",
                    how == READ ? "read" : "write", (unsigned long long)address, c->w.block);
    }
    if (how == READ) {
        if (c->r.block == me.block && c->r.thread == me.thread && c->r.clock == me.clock &&
            c->r.time >= w->block->launch->start_time)
            me.mask |= c->r.mask;
        c->r = me;
        return;
    }
    if (c->r.mask & mask && !(strong && c->r.strong) && !side_ordered(w, lane, &c->r)) {
        if (c->r.block == me.block)
            report(w, i, lane, "global", address, (Stamp){c->r.clock, c->r.thread, 0}, false, how);
        else
            suspect(w, i, lane, "race: write of global address 0x%llx, read by block %u in the same launch",
                    (unsigned long long)address, c->r.block);
    }
    if (c->w.block == me.block && c->w.thread == me.thread && c->w.clock == me.clock &&
        c->w.time >= w->block->launch->start_time)
        me.mask |= c->w.mask;
    c->w = me;
}

void race_global(Warp *w, const Ins *i, int lane, u64 address, u32 size, enum Touch how, bool strong) {
    u64 a = address - GLOBAL_WINDOW;
    for (u64 at = a, end = a + size; at < end;) {
        u64 stop = (at / 4 + 1) * 4 < end ? (at / 4 + 1) * 4 : end;
        u8 mask = (u8)(((1u << (stop - at)) - 1) << at % 4);
        race_word(w, i, lane, &cells[at / 4], at + GLOBAL_WINDOW, mask, how, strong);
        at = stop;
    }
}

/* ---- synchronisation ---- */
static void tick(Warp *w) {
    w->clock++;
    if (w->block->clock < w->clock) w->block->clock = w->clock;
}

void sync_lanes(Warp *w, u32 mask) {
    tick(w);
    if ((mask & w->live) == w->live) {
        w->converged = w->clock;
        sync_seen(w);
        return;
    }
    if (!w->lane_seen) {
        static u32 pool[64][LANES][LANES]; /* one a warp of the few blocks that need it */
        static u32 used;
        w->lane_seen = pool[used++ % 64];
        memset(w->lane_seen, 0, sizeof pool[0]);
    }
    u32 most[LANES] = {0};
    for (u32 m = mask; m; m &= m - 1)
        for (int k = 0; k < LANES; k++) {
            u32 seen = w->lane_seen[__builtin_ctz(m)][k];
            if (most[k] < seen) most[k] = seen;
        }
    for (u32 m = mask; m; m &= m - 1) most[__builtin_ctz(m)] = w->clock;
    for (u32 m = mask; m; m &= m - 1) memcpy(w->lane_seen[__builtin_ctz(m)], most, sizeof most);
}

/* A fence, then a strong write: what came before is released. */
void sync_fence(Warp *w, bool gpu) {
    tick(w);
    w->fenced = w->clock;
    if (gpu) w->block->fence_time = race_time();
}

void sync_strong(Warp *w, enum Touch how) {
    Block *b = w->block;
    if (how != READ && w->fenced) {
        for (u32 v = 0; v < b->nwarps; v++) /* also what this warp had seen of others */
            if (b->released[v] < w->seen[v]) b->released[v] = w->seen[v];
        if (b->released[w->index] < w->fenced) b->released[w->index] = w->fenced;
        if (b->fence_time) b->release_time = b->fence_time;
    }
    if (how != WRITE) {
        for (u32 v = 0; v < b->nwarps; v++)
            if (w->seen[v] < b->released[v]) w->seen[v] = b->released[v];
        sync_seen(w);
        b->acquired = race_time();
    }
}
