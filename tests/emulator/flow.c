/* Control flow: branches, calls, exit, trap; and what else has no operands to compute. */
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

/* ---- calls ---- */
/* Copies a lane's argument or result: registers and .param variables on either side. */
static void read_value(Warp *w, const Opnd *o, int lane, u8 *bytes, u8 *state) {
    u64 v = src_lane(w, o, lane);
    memcpy(bytes, &v, 8);
    memset(state, src_poison(w, o) >> lane & 1 ? ST_MAPPED : ST_MAPPED | ST_INIT, 8);
}

static void transfer(Warp *w, const Opnd *from, const Var *from_var, const Opnd *to, const Var *to_var,
                     u32 size, u32 mask) {
    u32 bytes = w->block->launch->module->local_bytes;
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u8 value[8], state[8], *v = value, *st = state;
        if (from_var)
            v = w->local + l * bytes + from_var->address, st = w->local_state + l * bytes + from_var->address;
        else
            read_value(w, from, l, value, state);
        if (to_var) {
            memcpy(w->local + l * bytes + to_var->address, v, size);
            memcpy(w->local_state + l * bytes + to_var->address, st, size);
        } else {
            u64 x = 0;
            bool clean = true;
            memcpy(&x, v, size);
            for (u32 k = 0; k < size; k++) clean &= (st[k] & ST_INIT) != 0;
            set_lane(w, to, l, x, !clean);
        }
    }
}

/* An argument or result on the caller's side: a .param variable, or a register or constant. */
typedef struct Passed {
    Opnd reg;
    const Var *var;
} Passed;

static void pass(Warp *w, const Passed *args, const Param *params, u32 n, u32 mask, bool back) {
    for (u32 k = 0; k < n; k++) {
        const Sym *y = params[k].sym;
        const Var *formal = y->kind == Y_VAR ? y->var : NULL;
        if (back)
            transfer(w, &y->reg, formal, &args[k].reg, args[k].var, params[k].size, mask);
        else
            transfer(w, &args[k].reg, args[k].var, &y->reg, formal, params[k].size, mask);
    }
}

typedef struct Call {
    Passed *args, *rets;
    u32 nargs, nrets;
} Call;

static void print_formatted(Warp *w, const Call *c, u32 mask) { /* vprintf(format, arguments) */
    u32 bytes = w->block->launch->module->local_bytes;
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u64 p[2];
        for (int k = 0; k < 2; k++)
            if (c->args[k].var)
                memcpy(&p[k], w->local + l * bytes + c->args[k].var->address, 8);
            else
                p[k] = src_lane(w, &c->args[k].reg, l);
        u8 *state;
        char format[1024], one[64];
        u32 n = 0;
        do format[n] = *(char *)touch(w, w->now, l, S_GENERIC, p[0] + n, 1, READ, false, &state);
        while (format[n] && ++n < sizeof format - 1);
        format[n] = 0;
        u64 at = p[1];
        for (char *f = format; *f;) {
            if (*f != '%' || f[1] == '%') {
                f += *f == '%';
                putchar(*f++);
                continue;
            }
            size_t length = strspn(f + 1, "0123456789.+- #lhz") + 2;
            char kind = f[length - 1];
            bool eight = strchr("sfeEgGp", kind) || memchr(f, 'l', length);
            u64 v = 0;
            u32 size = eight ? 8 : 4;
            at = (at + size - 1) & ~(u64)(size - 1);
            memcpy(&v, touch(w, w->now, l, S_GENERIC, at, size, READ, false, &state), size);
            at += size;
            if (length >= sizeof one) length = sizeof one - 1;
            memcpy(one, f, length);
            one[length] = 0;
            double d;
            memcpy(&d, &v, sizeof d);
            if (strchr("feEgG", kind))
                printf(one, d); /* NOLINT: the program's own format */
            else if (kind == 's')
                printf("(string)");
            else
                printf(one, v);
            f += length;
        }
    }
    fflush(stdout);
}

/* A function has one set of registers: no lane may be in it already. Direct calls were looked at when the
 * module was loaded. */
static void refuse_recursion(Warp *w, const Ins *i, u32 mask, const Func *f) {
    for (u32 r = mask; r; r &= r - 1) {
        int l = __builtin_ctz(r);
        bool within = w->pc - 1 >= f->begin && w->pc - 1 < f->end;
        for (u32 d = 0; d < w->depth[l]; d++) within |= w->stack[l][d] >= f->begin && w->stack[l][d] < f->end;
        if (within)
            fault(w, i, l, ERR_ILLEGAL_INSTRUCTION, "'%s' calls itself: recursion is not supported", f->name);
    }
}

static void exec_call(Warp *w, const Ins *i, u32 mask) {
    const Call *c = (const Call *)i->targets;
    const Module *m = w->block->launch->module;
    u32 back = w->pc;
    const Func *f = i->callee;
    w->now = i;
    if (!f) { /* indirect: the lanes with the first one's target now, the others later */
        u32 same = 0;
        u64 target = src_lane(w, i->s, __builtin_ctz(mask));
        if (src_poison(w, i->s) & mask)
            suspect(w, i, __builtin_ctz(mask), "a call through a pointer that was never written");
        u64 k = (target - CODE_WINDOW) / 16;
        if (target < CODE_WINDOW || target % 16 || k >= m->nfuncs || !m->funcs[k]->defined ||
            m->funcs[k]->entry)
            fault(w, i, __builtin_ctz(mask), ERR_ILLEGAL_INSTRUCTION,
                  "a call through a pointer to no function, 0x%llx", (unsigned long long)target);
        f = m->funcs[k];
        refuse_recursion(w, i, mask, f);
        if (f->nparams != c->nargs || f->nrets != c->nrets)
            fault(w, i, __builtin_ctz(mask), ERR_ILLEGAL_INSTRUCTION, "'%s' takes other parameters", f->name);
        for (u32 r = mask; r; r &= r - 1)
            if (src_lane(w, i->s, __builtin_ctz(r)) == target) same |= r & -r;
        if (same != mask) {
            for (u32 r = mask & ~same; r; r &= r - 1) w->lane_pc[__builtin_ctz(r)] = back - 1;
            w->mask &= ~(mask & ~same);
            mask = same;
            w->other_pc = 0;
        }
    }
    if (!strcmp(f->name, "vprintf")) {
        print_formatted(w, c, mask);
        return;
    }
    if (!strcmp(f->name, "__assertfail"))
        fault(w, i, __builtin_ctz(mask), ERR_ASSERT, "a device-side assertion failed");
    pass(w, c->args, f->params, c->nargs, mask, false);
    for (u32 r = mask; r; r &= r - 1) {
        int l = __builtin_ctz(r);
        if (w->depth[l] == MAX_CALLS) fault(w, i, l, ERR_ILLEGAL_INSTRUCTION, "calls are nested too deeply");
        w->stack[l][w->depth[l]++] = back;
        w->called[l] = f->index;
    }
    warp_jump(w, mask, f->begin);
}

/* Behind the call: the results. */
static void exec_results(Warp *w, const Ins *i, u32 mask) {
    const Call *c = (const Call *)i->targets;
    const Module *m = w->block->launch->module;
    while (mask) {
        u32 f = i->callee ? i->callee->index : w->called[__builtin_ctz(mask)], same = 0;
        for (u32 r = mask; r; r &= r - 1)
            if (i->callee || w->called[__builtin_ctz(r)] == f) same |= r & -r;
        pass(w, c->rets, m->funcs[f]->rets, c->nrets, same, true);
        mask &= ~same;
    }
}

static void exec_ret(Warp *w, const Ins *i, u32 mask) {
    (void)i;
    w->mask &= ~mask;
    u32 done = 0;
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (!w->depth[l])
            done |= 1u << l;
        else
            w->lane_pc[l] = w->stack[l][--w->depth[l]];
    }
    if (done) warp_exit(w, done);
    if (w->live) warp_regroup(w);
}
static void decode_ret(Parser *p, Stmt *s) {
    mod(s, "uni");
    operands_are(p, s, 0, 0);
    new_ins(p, s)->exec = exec_ret;
}

static Passed passed(Parser *p, Stmt *s, const Operand *o, const Param *formal, bool result) {
    const Sym *y = o->kind == O_NAME ? o->sym : NULL;
    if (y && y->kind == Y_VAR && y->var->space == S_LOCAL) {
        if (formal && y->var->size < formal->size)
            ptx_fail(p, s->line, "'%s' is smaller than the parameter", o->name);
        return (Passed){.var = y->var};
    }
    Type t = formal ? formal->type : y && y->kind == Y_REG ? (Type)y->reg.type : T_B64;
    if (result) return (Passed){.reg = dest(p, s, o, t, false)};
    return (Passed){.reg = source(p, s, o, t)};
}

static Passed *pass_list(Parser *p, Stmt *s, const Operand *list, const Func *f, bool result) {
    u32 n = list ? list->nitems : 0;
    if (f && n != (result ? f->nrets : f->nparams))
        ptx_fail(p, s->line, "'%s' takes another number of %s", f->name, result ? "results" : "arguments");
    Passed *all = pool_alloc(&p->m->pool, (n + 1) * sizeof *all);
    for (u32 k = 0; k < n; k++)
        all[k] = passed(p, s, &list->items[k], f ? (result ? &f->rets[k] : &f->params[k]) : NULL, result);
    return all;
}

static void decode_call(Parser *p, Stmt *s) { /* call (rets), f, (args), prototype; */
    mod(s, "uni");
    operands_are(p, s, 1, 4);
    u32 k = 0;
    const Operand *rets = s->operands[0].kind == O_LIST ? &s->operands[k++] : NULL;
    if (k == s->noperands) ptx_fail(p, s->line, "a call of nothing");
    const Operand *target = &s->operands[k++],
                  *args = k < s->noperands && s->operands[k].kind == O_LIST ? &s->operands[k] : NULL;
    const Func *f = target->sym && target->sym->kind == Y_FUNC ? target->sym->func : NULL;
    if (f && f->entry) ptx_fail(p, s->line, "'%s' is a kernel", f->name);
    if (!f && !(target->sym && target->sym->kind == Y_REG))
        ptx_fail(p, s->line, "unknown function '%s'", target->name ? target->name : "?");
    Call *c = pool_alloc(&p->m->pool, sizeof *c);
    *c = (Call){pass_list(p, s, args, f, false), pass_list(p, s, rets, f, true), args ? args->nitems : 0,
                rets ? rets->nitems : 0};
    Opnd pointer = f ? (Opnd){0} : source(p, s, target, T_B64);
    for (int step = 0; step < (c->nrets ? 2 : 1); step++) {
        Ins *i = new_ins(p, s);
        i->exec = step ? exec_results : exec_call;
        i->callee = (Func *)(uintptr_t)f;
        i->targets = (const u32 *)c;
        set_sources(p, i, &pointer, f ? 0 : 1);
    }
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
                                 {"ret", decode_ret},
                                 {"call", decode_call},
                                 {"trap", decode_trap},
                                 {"brkpt", decode_trap},
                                 {"nanosleep", decode_nanosleep},
                                 {"pmevent", decode_pmevent},
                                 {"griddepcontrol", decode_griddepcontrol},
                                 {"membar", decode_membar},
                                 {"fence", decode_membar},
                                 {0}};
