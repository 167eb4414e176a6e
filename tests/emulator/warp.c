/* The inner loop: one warp, one instruction after the other, over the lanes that stand there. Divergence:
 * lanes are grouped by program counter; the group with the lowest runs until it reaches another one's, which
 * it joins. That reconverges structured code and is right for any graph; TBC_EMU_SEED also switches groups at
 * random. */
#include "warp.h"
#include "real.h"
#include <string.h>
#include <immintrin.h>

void set_pred(Warp *w, const Opnd *o, u32 mask, u32 value, u32 poison) {
    if (o->sink) return;
    u32 *d = (u32 *)(w->regs + o->off), *p = &w->poison[o->poison];
    *d = (*d & ~mask) | (value & mask);
    *p = (*p & ~mask) | (poison & mask);
}

static void saturate(float *d) {
    for (int l = 0; l < LANES; l++) d[l] = d[l] > 0 ? (d[l] < 1 ? d[l] : 1) : 0; /* NaN: 0 */
}

static void blend(const Ins *i, void *d, const void *t, u32 mask) {
    if (i->d->type == T_PRED) {
        *(u32 *)d = (*(u32 *)d & ~mask) | (*(const u32 *)t & mask);
    } else if (wide(i->d)) {
        u64 *x = d;
        const u64 *y = t;
        for (int l = 0; l < LANES; l++) x[l] = mask >> l & 1 ? y[l] : x[l];
    } else {
        u32 *x = d;
        const u32 *y = t;
        for (int l = 0; l < LANES; l++) x[l] = mask >> l & 1 ? y[l] : x[l];
    }
}

static void run_pure(Warp *w, const Ins *i, u32 mask) {
    const void *s[4] = {0};
    u32 poison = 0, flipped;
    for (u32 k = 0; k < i->ns; k++) {
        s[k] = src(w, &i->s[k]);
        poison |= src_poison(w, &i->s[k]);
        if (i->s[k].neg) flipped = ~*(const u32 *)s[k], s[k] = &flipped;
    }
    if (i->d->sink) return;
    u64 temporary[LANES];
    void *d = w->regs + i->d->off, *t = mask == FULL ? d : temporary;
    if (i->csr) _mm_setcsr(i->csr);
    i->kernel(t, s[0], s[1], i->ns > 3 ? (const void *)&s[2] : s[2], i);
    if (i->csr) _mm_setcsr(0x1f80);
    if (i->sat && i->type == T_F32) saturate(t);
    u32 *p = &w->poison[i->d->poison];
    if (mask != FULL) blend(i, d, t, mask);
    *p = (*p & ~mask) | (poison & mask);
}

/* ---- groups ---- */
static u32 waiting_elsewhere(const Warp *w) {
    return w->live & ~w->parked & ~w->mask;
}

/* Every lane that is left waits in a .sync instruction for one that does not come. */
static _Noreturn void stuck(Warp *w) {
    int first = __builtin_ctz(w->parked);
    const Ins *code = w->block->launch->module->code, *i = &code[w->lane_pc[first]];
    u32 here = 0, other = 0;
    for (u32 m = w->parked; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (w->lane_pc[l] == w->lane_pc[first] && w->members[l] == w->members[first])
            here |= 1u << l;
        else if (!other)
            other = code[w->lane_pc[l]].line;
    }
    u32 missing = w->members[first] & w->live & ~here;
    if (other)
        fault(w, i, first, ERR_LAUNCH_FAILED,
              "deadlock: lanes 0x%08x wait here for lanes 0x%08x, of which some wait at line %u%s", here,
              missing, other,
              i->aligned ? " (a barrier or .aligned instruction that the warp reaches divergently)" : "");
    fault(w, i, first, ERR_LAUNCH_FAILED, "deadlock: lanes 0x%08x wait for lanes 0x%08x, which never come",
          here, missing);
}

/* The group becomes the lanes at one of the program counters: the lowest, or a random one. */
void warp_regroup(Warp *w) {
    for (u32 m = w->mask; m; m &= m - 1) w->lane_pc[__builtin_ctz(m)] = w->pc;
    u32 ready = w->live & ~w->parked, pc = FULL, next = FULL;
    if (!ready) {
        w->mask = 0;
        w->stop = true;
        if (w->parked) stuck(w);
        return;
    }
    for (u32 m = ready; m; m &= m - 1) {
        u32 at = w->lane_pc[__builtin_ctz(m)];
        if (at < pc) pc = at;
    }
    if (settings.seed && random_next(&w->block->launch->rng) % 16 == 0) {
        u32 skip = (u32)(random_next(&w->block->launch->rng) % (u32)__builtin_popcount(ready)), m = ready;
        while (skip--) m &= m - 1;
        pc = w->lane_pc[__builtin_ctz(m)];
    }
    w->mask = 0;
    for (u32 m = ready; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (w->lane_pc[l] == pc)
            w->mask |= 1u << l;
        else if (w->lane_pc[l] > pc && w->lane_pc[l] < next)
            next = w->lane_pc[l];
    }
    w->pc = pc;
    w->other_pc = w->mask == ready ? FULL : next;
    w->resume_min = 4096; /* no group waits for ever: spinning lanes let the others in */
}

void warp_jump(Warp *w, u32 mask, u32 pc) {
    if (mask == w->mask && !waiting_elsewhere(w)) {
        w->pc = pc;
        return;
    }
    w->mask &= ~mask;
    for (u32 m = mask; m; m &= m - 1) w->lane_pc[__builtin_ctz(m)] = pc;
    warp_regroup(w);
}

static void others_turn(Warp *w) {
    for (u32 m = w->mask; m; m &= m - 1) w->lane_pc[__builtin_ctz(m)] = w->pc;
    u32 ready = waiting_elsewhere(w);
    if (!ready) {
        w->resume_min = 4096;
        return;
    }
    u32 pc = w->lane_pc[__builtin_ctz(ready)], next = FULL;
    w->mask = 0;
    for (u32 m = w->live & ~w->parked; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (w->lane_pc[l] == pc)
            w->mask |= 1u << l;
        else if (w->lane_pc[l] > pc && w->lane_pc[l] < next)
            next = w->lane_pc[l];
    }
    w->pc = pc;
    w->other_pc = next;
    w->resume_min = 4096;
}

void warp_run(Warp *w, u64 budget) {
    const Ins *code = w->block->launch->module->code;
    w->stop = false;
    if (!w->mask) warp_regroup(w);
    for (; budget && !w->stop; budget--) {
        if (w->other_pc != FULL) {
            if (w->pc >= w->other_pc)
                warp_regroup(w);
            else if (!--w->resume_min)
                others_turn(w);
        }
        const Ins *i = &code[w->pc];
        u32 mask = w->mask;
        w->executed++;
        if (i->guarded) {
            u32 g = *(const u32 *)(w->regs + i->guard), bad = w->poison[i->guard_poison] & mask;
            if (bad)
                suspect(w, i, __builtin_ctz(bad), "the predicate depends on a value that was never written");
            mask &= i->guard_neg ? ~g : g;
            if (!mask) {
                w->pc++;
                continue;
            }
        }
        w->pc++;
        if (i->kernel)
            run_pure(w, i, mask);
        else
            i->exec(w, i, mask);
    }
}

/* ---- .sync: lanes wait for each other ---- */
static bool same_meeting(const Warp *w, const Ins *a, u32 pc_a, const Ins *b, u32 pc_b, int la, int lb) {
    if (w->members[la] != w->members[lb]) return false;
    if (pc_a == pc_b) return true;
    return a->act == b->act && a->anywhere && b->anywhere;
}

static void try_meeting(Warp *w, int first) {
    const Ins *code = w->block->launch->module->code, *i = &code[w->lane_pc[first]];
    u32 group = 0, need = w->members[first] & w->live;
    for (u32 m = w->parked & need; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (same_meeting(w, i, w->lane_pc[first], &code[w->lane_pc[l]], w->lane_pc[l], first, l))
            group |= 1u << l;
    }
    if (group != need) return;
    w->parked &= ~group;
    for (u32 m = group; m; m &= m - 1) w->lane_pc[__builtin_ctz(m)]++;
    i->act(w, i, group);
}

static void retry_meetings(Warp *w) {
    for (u32 tried = 0, m; (m = w->parked & ~tried) != 0;) {
        int l = __builtin_ctz(m);
        tried |= 1u << l;
        try_meeting(w, l);
    }
}

void park(Warp *w, const Ins *i, u32 mask) {
    u32 want = FULL;
    if (!i->aligned) {
        const Opnd *o = &i->s[i->ns - 1];
        if (src_poison(w, o) & mask)
            suspect(w, i, __builtin_ctz(mask), "the member mask depends on a value that was never written");
        want = (u32)src_lane(w, o, __builtin_ctz(mask));
        bool uniform = true;
        for (u32 m = mask; m; m &= m - 1) {
            int l = __builtin_ctz(m);
            u32 members = (u32)src_lane(w, o, l);
            uniform &= members == want;
            w->members[l] = members;
            if (!(members >> l & 1))
                fault(w, i, l, ERR_LAUNCH_FAILED, "the executing lane is not in the member mask 0x%08x",
                      members);
        }
        if (!uniform) want = 0;
    } else
        for (u32 m = mask; m; m &= m - 1) w->members[__builtin_ctz(m)] = FULL;
    if (want && (want & w->live) == mask) {
        i->act(w, i, mask);
        return;
    }
    /* some are missing: these lanes stay at the instruction, the group goes on without them */
    u32 pc = (u32)(i - w->block->launch->module->code);
    w->mask &= ~mask;
    w->parked |= mask;
    for (u32 m = mask; m; m &= m - 1) w->lane_pc[__builtin_ctz(m)] = pc;
    for (u32 m = mask; m; m &= m - 1)
        if (w->parked >> __builtin_ctz(m) & 1) try_meeting(w, __builtin_ctz(m));
    warp_regroup(w);
}

void exec_sync(Warp *w, const Ins *i, u32 mask) {
    park(w, i, mask);
}

void warp_exit(Warp *w, u32 mask) {
    w->live &= ~mask;
    w->mask &= ~mask;
    if (w->parked && w->live) retry_meetings(w);
    if (!w->mask) warp_regroup(w);
    if (w->live) return;
    Block *b = w->block;
    b->live_warps--;
    w->stop = true;
    for (u32 id = 0; id < BARRIERS; id++) barrier_check(b, id);
}

void exec_clock(Warp *w, const Ins *i, u32 mask) {
    (void)i, (void)mask;
    u64 now = w->executed * 4 + w->block->launch->executed;
    for (int l = 0; l < LANES; l++) {
        ((u32 *)w->regs)[SR_CLOCK * LANES + l] = (u32)now;
        ((u32 *)w->regs)[SR_CLOCK_HI * LANES + l] = (u32)(now >> 32);
        ((u64 *)(w->regs + SR_CLOCK64 * LANES * 4))[l] = now;
        ((u64 *)(w->regs + SR_GLOBALTIMER * LANES * 4))[l] = now;
    }
}
