/* bar and barrier: a warp arrives as a whole (all its lanes that have not exited), then waits for the other
 * warps. bar.warp.sync, and the orders of memory that all of them make. */
#include "ptx.h"
#include "warp.h"
#include <string.h>

enum { BAR_SYNC, BAR_ARRIVE, BAR_POPC, BAR_AND, BAR_OR };

static u32 clock_tick(Warp *w) {
    if (w->block->clock < w->clock + 1) w->block->clock = w->clock + 1;
    return w->clock++;
}

static void release(Block *b, Barrier *bar) {
    for (u32 k = 0; k < b->nwarps; k++) {
        Warp *w = &b->warps[k];
        if (!(bar->waiting >> k & 1)) continue;
        for (u32 v = 0; v < b->nwarps; v++)
            if (w->seen[v] < bar->clocks[v]) w->seen[v] = bar->clocks[v];
        w->converged = w->clock;
        sync_seen(w);
        const Ins *i = w->barrier_ins;
        u32 value = i->op == BAR_POPC ? bar->count : i->op == BAR_AND ? bar->all : bar->any;
        if (i->op == BAR_POPC)
            for (u32 m = w->barrier_mask; m; m &= m - 1) set_lane(w, i->d, __builtin_ctz(m), value, false);
        else if (i->op >= BAR_AND)
            set_pred(w, i->d, w->barrier_mask, value ? FULL : 0, 0);
        w->at_barrier = -1;
    }
    *bar = (Barrier){0};
}

void barrier_check(Block *b, u32 id) {
    Barrier *bar = &b->barriers[id];
    if (!bar->arrived) return;
    u32 expected = bar->expected == FULL ? b->live_warps : bar->expected;
    if (bar->arrived >= expected) release(b, bar);
}

static void act_barrier(Warp *w, const Ins *i, u32 mask) {
    Block *b = w->block;
    int lane = __builtin_ctz(mask);
    u32 id = (u32)src_lane(w, &i->s[0], lane), threads = (u32)src_lane(w, &i->s[1], lane);
    u32 expected = i->size ? threads / LANES : FULL;
    if (id >= BARRIERS) fault(w, i, lane, ERR_ILLEGAL_INSTRUCTION, "barrier %u: there are 16", id);
    if (i->size && (threads % LANES || !threads || expected > (b->nwarps + 0u)))
        fault(w, i, lane, ERR_ILLEGAL_INSTRUCTION,
              "a barrier for %u threads: not a multiple of 32 in the block", threads);
    for (u32 m = mask; m; m &= m - 1)
        if (src_lane(w, &i->s[0], __builtin_ctz(m)) != id ||
            (i->size && src_lane(w, &i->s[1], __builtin_ctz(m)) != threads))
            fault(w, i, __builtin_ctz(m), ERR_LAUNCH_FAILED,
                  "barrier divergence: lanes of a warp name different barriers or counts");
    Barrier *bar = &b->barriers[id];
    if (bar->arrived && bar->expected != expected)
        fault(w, i, lane, ERR_LAUNCH_FAILED,
              "barrier divergence: warps arrive at barrier %u with different thread counts", id);
    if (bar->waiting >> w->index & 1)
        fault(w, i, lane, ERR_LAUNCH_FAILED, "barrier %u: the warp arrives twice", id);
    bar->expected = expected;
    bar->arrived++;
    for (u32 v = 0; v < b->nwarps; v++)
        if (bar->clocks[v] < w->seen[v]) bar->clocks[v] = w->seen[v];
    bar->clocks[w->index] = clock_tick(w) + 1;
    if (i->op >= BAR_POPC) {
        u32 votes = src_pred(w, &i->s[2]) & mask;
        if (src_poison(w, &i->s[2]) & mask)
            suspect(w, i, lane, "the predicate depends on a value that was never written");
        bar->all = (bar->arrived > 1 ? bar->all : 1) && votes == mask;
        bar->any |= votes != 0;
        bar->count += (u32)__builtin_popcount(votes);
    }
    if (i->op != BAR_ARRIVE) {
        bar->waiting |= 1u << w->index;
        w->at_barrier = (int)id;
        w->barrier_ins = i;
        w->barrier_mask = mask;
        w->stop = true;
    }
    barrier_check(b, id);
}

static void act_warp_sync(Warp *w, const Ins *i, u32 mask) {
    (void)i;
    sync_lanes(w, mask);
}

static void decode_warp_sync(Parser *p, Stmt *s) {
    if (!mod(s, "sync")) ptx_fail(p, s->line, "bar.warp.sync is meant");
    operands_are(p, s, 1, 1);
    Opnd mask = source(p, s, &s->operands[0], T_U32);
    Ins *i = new_ins(p, s);
    i->exec = exec_sync;
    i->act = act_warp_sync;
    i->anywhere = true;
    set_sources(p, i, &mask, 1);
}

static void decode_bar(Parser *p, Stmt *s) {
    static const char *const kinds[] = {"sync", "arrive", "red", NULL}, *const ops[] = {"popc", "and", "or",
                                                                                        NULL};
    if (mod(s, "warp")) {
        decode_warp_sync(p, s);
        return;
    }
    bool old = !strcmp(s->op, "bar");
    mod(s, "cta");
    int kind = mod_of(s, kinds), op = kind;
    if (kind < 0) ptx_fail(p, s->line, "'%s' lacks .sync, .arrive or .red", s->op);
    bool aligned = mod(s, "aligned") || old;
    u32 at = 0;
    Opnd d = {0}, src3[3];
    if (kind == 2) {
        int k = mod_of(s, ops);
        if (k < 0 || !mod(s, k ? "pred" : "u32"))
            ptx_fail(p, s->line, "'%s.red' is .popc.u32, .and.pred or .or.pred", s->op);
        op = BAR_POPC + k;
        operands_are(p, s, 3, 4);
        d = dest(p, s, &s->operands[at++], k ? T_PRED : T_U32, false);
    } else
        operands_are(p, s, kind == 1 ? 2 : 1, 2);
    u32 last = s->noperands - (kind == 2);
    bool counted = last - at == 2;
    src3[0] = source(p, s, &s->operands[at], T_U32);
    src3[1] = counted ? source(p, s, &s->operands[at + 1], T_U32) : constant(p, T_U32, 0);
    src3[2] = kind == 2 ? predicate(p, s, &s->operands[last]) : constant(p, T_U32, FULL);
    Ins *i = new_ins(p, s);
    i->exec = exec_sync;
    i->act = act_barrier;
    i->aligned = true; /* a warp arrives as a whole either way */
    i->anywhere = !aligned;
    i->op = (u8)op;
    i->size = counted;
    set_dests(p, i, &d, kind == 2);
    set_sources(p, i, src3, 3);
}

const Special decoders_barrier[] = {{"bar", decode_bar}, {"barrier", decode_bar}, {0}};
