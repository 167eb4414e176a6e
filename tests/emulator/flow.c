/* Control flow: branches, exit, trap; and what else has no operands to compute. */
#include "ptx.h"
#include "warp.h"
#include <stdio.h>
#include <string.h>

/* ---- branches ---- */
static void exec_bra(Warp *w, const Ins *i, u32 mask) {
    warp_jump(w, mask, i->target);
}

static void decode_bra(Parser *p, Stmt *s) {
    mod(s, "uni");
    operands_are(p, s, 1, 1);
    Ins *i = new_ins(p, s);
    i->exec = exec_bra;
    branch_target(p, i, NO_SLOT, &s->operands[0], s->line);
}

static void exec_brx(Warp *w, const Ins *i, u32 mask) {
    u32 bad = src_poison(w, i->s) & mask;
    if (bad)
        suspect(w, i, __builtin_ctz(bad), "the index of a branch depends on a value that was never written");
    u32 where[LANES];
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u32 k = (u32)src_lane(w, i->s, l);
        if (k >= i->ntargets)
            fault(w, i, l, ERR_ILLEGAL_INSTRUCTION, "branch index %u of %u targets", k, i->ntargets);
        where[l] = i->targets[k];
    }
    w->mask &= ~mask;
    for (u32 m = mask; m; m &= m - 1) w->lane_pc[__builtin_ctz(m)] = where[__builtin_ctz(m)];
    warp_regroup(w);
}

static void decode_brx(Parser *p, Stmt *s) {
    if (!mod(s, "idx")) ptx_fail(p, s->line, "only brx.idx is known");
    mod(s, "uni");
    operands_are(p, s, 2, 2);
    Opnd index = source(p, s, &s->operands[0], T_U32);
    const Sym *y = s->operands[1].sym;
    if (!y || y->kind != Y_TARGETS) ptx_fail(p, s->line, "brx.idx needs a list of .branchtargets");
    Ins *i = new_ins(p, s);
    i->exec = exec_brx;
    set_sources(p, i, &index, 1);
    i->ntargets = y->nnames;
    i->targets = pool_alloc(&p->m->pool, y->nnames * sizeof(u32));
    for (u32 k = 0; k < y->nnames; k++)
        branch_target(p, i, k, &(Operand){.kind = O_NAME, .name = y->names[k]}, s->line);
}

static void exec_exit(Warp *w, const Ins *i, u32 mask) {
    (void)i;
    warp_exit(w, mask);
}
static void decode_exit(Parser *p, Stmt *s) {
    operands_are(p, s, 0, 0);
    new_ins(p, s)->exec = exec_exit;
}

static void exec_trap(Warp *w, const Ins *i, u32 mask) {
    fault(w, i, __builtin_ctz(mask), ERR_LAUNCH_FAILED, "trap");
}
static void decode_trap(Parser *p, Stmt *s) {
    operands_are(p, s, 0, 0);
    new_ins(p, s)->exec = exec_trap;
}

static void exec_nothing(Warp *w, const Ins *i, u32 mask) {
    (void)w, (void)i, (void)mask;
}
static void exec_pause(Warp *w, const Ins *i, u32 mask) {
    (void)i, (void)mask;
    w->resume_min = 1;
    w->stop = true;
}
static void decode_nanosleep(Parser *p, Stmt *s) {
    mod(s, "u32");
    operands_are(p, s, 1, 1);
    Opnd t = source(p, s, &s->operands[0], T_U32);
    Ins *i = new_ins(p, s);
    i->exec = exec_pause;
    set_sources(p, i, &t, 1);
}
static void decode_griddepcontrol(Parser *p, Stmt *s) { /* launches do not overlap here */
    if (!mod(s, "wait") && !mod(s, "launch_dependents"))
        ptx_fail(p, s->line, "griddepcontrol.wait or .launch_dependents is meant");
    operands_are(p, s, 0, 0);
    new_ins(p, s)->exec = exec_nothing;
}
static void decode_pmevent(Parser *p, Stmt *s) {
    mod(s, "mask");
    operands_are(p, s, 1, 1);
    integer(p, s, &s->operands[0]);
    new_ins(p, s)->exec = exec_nothing;
}

/* ---- fences ---- */
static void exec_fence(Warp *w, const Ins *i, u32 mask) {
    (void)mask;
    sync_fence(w, i->op);
}
static void decode_membar(Parser *p, Stmt *s) {
    static const char *const sems[] = {"sc", "acq_rel", NULL}, *const scopes[] = {"cta", "cluster", "gpu",
                                                                                  "sys", "gl",      NULL};
    static const char *const proxies[] = {"alias", "async", "async.global", "async.shared::cta", NULL};
    bool fence = !strcmp(s->op, "fence");
    if (mod(s, "proxy")) { /* memory has one path here */
        if (mod_of(s, proxies) < 0) ptx_fail(p, s->line, "this proxy of '%s' is not known", s->op);
        operands_are(p, s, 0, 0);
        new_ins(p, s)->exec = exec_nothing;
        return;
    }
    if (fence) mod_of(s, sems);
    int scope = mod_of(s, scopes);
    if (scope < 0 || (fence && scope == 4) || (!fence && (scope == 1 || scope == 2)))
        ptx_fail(p, s->line, "'%s' lacks its scope", s->op);
    operands_are(p, s, 0, 0);
    Ins *i = new_ins(p, s);
    i->exec = exec_fence;
    i->op = scope > 1;
}

const Special decoders_flow[] = {{"bra", decode_bra},
                                 {"brx", decode_brx},
                                 {"exit", decode_exit},
                                 {"trap", decode_trap},
                                 {"brkpt", decode_trap},
                                 {"nanosleep", decode_nanosleep},
                                 {"pmevent", decode_pmevent},
                                 {"griddepcontrol", decode_griddepcontrol},
                                 {"membar", decode_membar},
                                 {"fence", decode_membar},
                                 {0}};
