/* Calls: arguments and results, also of functions that call themselves; the stack; printf and assert. */
#include "ptx.h"
#include "warp.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An argument or result on the caller's side: a .param variable, or a register or constant. */
typedef struct Passed {
    Opnd reg;
    const Var *var;
} Passed;
typedef struct Call {
    Passed *args, *rets;
    u32 nargs, nrets;
} Call;

/* Copies a lane's argument or result: registers and .param variables on either side. */
static void read_value(Warp *w, const Opnd *o, int lane, u8 *bytes, u8 *state) {
    u64 v = src_lane(w, o, lane);
    memcpy(bytes, &v, 8);
    memset(state, src_poison(w, o) >> lane & 1 ? ST_MAPPED : ST_MAPPED | ST_INIT, 8);
}

static void write_value(Warp *w, const Opnd *o, int lane, const u8 *bytes, const u8 *state, u32 size) {
    u64 x = 0;
    bool clean = true;
    memcpy(&x, bytes, size);
    for (u32 k = 0; k < size; k++) clean &= (state[k] & ST_INIT) != 0;
    set_lane(w, o, lane, x, !clean);
}

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

/* ---- recursion ---- */
/* A function has one set of registers and parameters. Where a lane calls one that it is in already, what that
 * holds is put aside until the call is over. */
static Return *return_of(const Warp *w, u32 depth, int l) {
    return &w->calls[depth * LANES + (u32)l];
}

static bool is_within(const Warp *w, const Func *f, int l) {
    if (w->pc - 1 >= f->begin && w->pc - 1 < f->end) return true;
    for (u32 d = 0; d < w->depth[l]; d++)
        if (return_of(w, d, l)->pc >= f->begin && return_of(w, d, l)->pc < f->end) return true;
    return false;
}

static u64 frame_bytes(const Func *f) {
    return f->reg_bytes / LANES + f->regs + 2ull * (f->local_end - f->local_begin);
}
static void move_bytes(u8 **frame, void *at, u64 n, bool save) {
    memcpy(save ? *frame : at, save ? at : *frame, n);
    *frame += n;
}
static void move_bit(u8 **frame, u32 *word, int l, bool save) {
    if (save)
        **frame = *word >> l & 1;
    else
        *word = (*word & ~(1u << l)) | (u32)(**frame & 1) << l;
    ++*frame;
}
/* A lane's registers and parameters of f into its frame, or back. */
static void move_frame(Warp *w, const Func *f, int l, u8 *frame, bool save) {
    u8 *reg = w->regs + f->reg_begin;
    for (u32 k = 0; k < f->regs; k++) {
        bool pred = f->reg_types[k] == T_PRED;
        u32 size = type_size((Type)f->reg_types[k]) == 8 ? 8 : 4;
        if (pred)
            move_bit(&frame, (u32 *)(void *)reg, l, save);
        else
            move_bytes(&frame, reg + size * (u32)l, size, save);
        reg += size * LANES;
        move_bit(&frame, &w->poison[f->poison_begin + k + 1], l, save);
    }
    u64 lane = (u64)l * w->block->launch->module->local_bytes;
    for (u32 k = 0, at = f->local_begin; k <= f->nlocals; k++) { /* what lies around its .local variables */
        u32 end = k < f->nlocals ? f->locals[k].begin : f->local_end;
        move_bytes(&frame, w->local + lane + at, end - at, save);
        move_bytes(&frame, w->local_state + lane + at, end - at, save);
        if (save) memset(w->local_state + lane + at, ST_MAPPED, end - at);
        if (k < f->nlocals) at = f->locals[k].end;
    }
}

static void put_aside(Warp *w, const Ins *i, const Func *f, int l) {
    if (f->shares)
        fault(w, i, l, ERR_ILLEGAL_INSTRUCTION,
              "'%s' calls itself and takes the address of a parameter: not supported", f->name);
    Frame *frame = malloc(sizeof *frame + frame_bytes(f));
    if (!frame) abort();
    *frame = (Frame){.below = w->frames[l], .func = f, .depth = w->depth[l]};
    w->frames[l] = frame;
    move_frame(w, f, l, frame->bytes, true);
    for (u32 k = 0; k < f->regs; k++) w->poison[f->poison_begin + k + 1] |= 1u << l;
}
static void take_back(Warp *w, int l) {
    Frame *frame = w->frames[l];
    w->frames[l] = frame->below;
    move_frame(w, frame->func, l, frame->bytes, false);
    free(frame);
}
void frames_free(Warp *w) {
    for (int l = 0; l < LANES; l++)
        for (Frame *f; (f = w->frames[l]); free(f)) w->frames[l] = f->below;
    free(w->passing);
    w->passing = NULL, w->passing_bytes = 0;
}

/* The warp's, as a fault in the midst of a call does not come back to free it. */
static u8 *room_to_pass(Warp *w, u64 bytes) {
    if (bytes > w->passing_bytes) {
        if (!(w->passing = realloc(w->passing, bytes))) abort();
        w->passing_bytes = bytes;
    }
    return w->passing;
}

/* One lane's arguments, or (back) results: all are read before one is written, and before the frame of an f that the
 * lane is in already (again) is put aside or taken back. */
static void pass(Warp *w, const Passed *args, const Param *params, u32 n, int l, bool back, bool again, const Ins *i,
                 const Func *f) {
    u64 bytes = 0, local = w->block->launch->module->local_bytes;
    for (u32 k = 0; k < n; k++) bytes += params[k].size + 8;
    u8 *values = room_to_pass(w, 2 * bytes), *v = values;
    for (int step = 0; step < 2; step++, v = values) {
        for (u32 k = 0; k < n; k++) {
            bool formal = (step == 1) != back; /* the arguments are read first, or the results */
            const Sym *y = params[k].sym;
            const Var *var = formal ? (y->kind == Y_VAR ? y->var : NULL) : args[k].var;
            const Opnd *reg = formal ? &y->reg : &args[k].reg;
            u32 size = params[k].size;
            u8 *state = v + bytes;
            u64 at = var ? (u64)l * local + var->address : 0;
            if (step == 0 && var)
                memcpy(v, w->local + at, size), memcpy(state, w->local_state + at, size);
            else if (step == 0)
                read_value(w, reg, l, v, state);
            else if (var)
                memcpy(w->local + at, v, size), memcpy(w->local_state + at, state, size);
            else
                write_value(w, reg, l, v, state, size);
            v += size + 8;
        }
        if (step == 0 && again && back) take_back(w, l);
        if (step == 0 && again && !back) put_aside(w, i, f, l);
    }
}

/* ---- the stack ---- */
static u32 take_stack(Warp *w, const Ins *i, int l, u64 at, u64 size) {
    u32 room = w->block->launch->module->local_bytes;
    if (at > room || size > room - at)
        fault(w, i, l, ERR_ILLEGAL_ADDRESS, "the stack is full: %llu bytes more", (unsigned long long)size);
    memset(w->local_state + (u64)l * room + at, ST_MAPPED, size);
    w->sp[l] = (u32)(at + size);
    return (u32)at;
}

/* Where this activation's .local variables are: the first one's where they were declared. */
static void place_locals(Warp *w, const Ins *i, const Func *f, int l, bool again) {
    enum { ALIGN = 256 };
    u64 shift = again ? ((u64)w->sp[l] - f->local_begin + ALIGN - 1) / ALIGN * ALIGN : 0;
    if (again) take_stack(w, i, l, f->local_begin + shift, f->local_end - f->local_begin);
    set_lane(w, &f->shift, l, shift, false);
}

static void exec_alloca(Warp *w, const Ins *i, u32 mask) {
    if (src_poison(w, i->s) & mask)
        suspect(w, i, __builtin_ctz(src_poison(w, i->s) & mask), "a size that was never written");
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u64 align = (u64)i->imm, at = (w->sp[l] + align - 1) / align * align;
        set_lane(w, i->d, l, take_stack(w, i, l, at, src_lane(w, i->s, l)), false);
    }
}
static void decode_alloca(Parser *p, Stmt *s) { /* alloca.u64 d, size, alignment */
    Type t = mod_type(p, s);
    operands_are(p, s, 2, 3);
    i64 align = s->noperands == 3 ? integer(p, s, &s->operands[2]) : 8;
    if ((t != T_U32 && t != T_U64) || align < 1 || align > 4096 || align & (align - 1))
        ptx_fail(p, s->line, "this form of alloca is not known");
    Opnd d = dest(p, s, &s->operands[0], t, false), a = source(p, s, &s->operands[1], t);
    Ins *i = new_ins(p, s);
    i->exec = exec_alloca;
    i->imm = align < 8 ? 8 : align;
    set_dests(p, i, &d, 1);
    set_sources(p, i, &a, 1);
    p->m->stacked = true;
}

static void exec_stack(Warp *w, const Ins *i, u32 mask) {
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (i->nd) {
            set_lane(w, i->d, l, w->sp[l], false);
            continue;
        }
        u64 at = src_lane(w, i->s, l);
        if (at < w->block->launch->module->stack_begin || at > w->sp[l])
            fault(w, i, l, ERR_ILLEGAL_ADDRESS, "stackrestore of what no stacksave gave");
        w->sp[l] = (u32)at;
    }
}
static void decode_stack(Parser *p, Stmt *s) {
    bool save = !strcmp(s->op, "stacksave");
    Type t = mod_type(p, s);
    if (t != T_U32 && t != T_U64) ptx_fail(p, s->line, "%s.u64 is meant", s->op);
    operands_are(p, s, 1, 1);
    Opnd one = save ? dest(p, s, &s->operands[0], t, false) : source(p, s, &s->operands[0], t);
    Ins *i = new_ins(p, s);
    i->exec = exec_stack;
    set_dests(p, i, &one, save);
    set_sources(p, i, &one, !save);
}

static void more_calls(Warp *w) {
    w->calls_cap = w->calls_cap ? 2 * w->calls_cap : 16;
    if (!(w->calls = realloc(w->calls, w->calls_cap * LANES * sizeof *w->calls))) abort();
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
    u32 again = 0; /* lanes that are in it already */
    if (!i->callee || f->recursive || m->indirect)
        for (u32 r = mask; r; r &= r - 1) again |= is_within(w, f, __builtin_ctz(r)) ? r & -r : 0;
    for (u32 r = mask; r; r &= r - 1) {
        int l = __builtin_ctz(r);
        pass(w, c->args, f->params, c->nargs, l, false, again >> l & 1, i, f);
        if (w->depth[l] == MAX_CALLS) fault(w, i, l, ERR_ILLEGAL_INSTRUCTION, "calls are nested too deeply");
        if (w->depth[l] == w->calls_cap) more_calls(w);
        *return_of(w, w->depth[l]++, l) = (Return){back, f->index, w->sp[l]};
        if (f->shifted) place_locals(w, i, f, l, again >> l & 1);
    }
    warp_jump(w, mask, f->begin);
}

/* Behind the call: the results, and what was put aside. */
static void exec_results(Warp *w, const Ins *i, u32 mask) {
    const Call *c = (const Call *)i->targets;
    const Module *m = w->block->launch->module;
    u32 framed = 0;
    for (u32 r = mask; r; r &= r - 1) {
        int l = __builtin_ctz(r);
        if (w->frames[l] && w->frames[l]->depth == w->depth[l]) framed |= 1u << l;
    }
    while (mask && (c->nrets || framed)) {
        int first = __builtin_ctz(mask);
        u32 f = i->callee ? i->callee->index : return_of(w, w->depth[first], first)->func, same = 0;
        for (u32 r = mask; r; r &= r - 1) {
            int l = __builtin_ctz(r);
            if (i->callee || return_of(w, w->depth[l], l)->func == f) same |= 1u << l;
        }
        const Param *rets = m->funcs[f]->rets;
        for (u32 r = same; r; r &= r - 1) {
            int l = __builtin_ctz(r);
            pass(w, c->rets, rets, c->nrets, l, true, framed >> l & 1, i, NULL);
        }
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
        else {
            const Return *r = return_of(w, --w->depth[l], l);
            w->lane_pc[l] = r->pc, w->sp[l] = r->sp;
        }
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
    p->m->indirect |= !f;
    Opnd pointer = f ? (Opnd){0} : source(p, s, target, T_B64);
    for (int step = 0; step < 2; step++) {
        Ins *i = new_ins(p, s);
        i->exec = step ? exec_results : exec_call;
        i->callee = (Func *)(uintptr_t)f;
        i->targets = (const u32 *)c;
        set_sources(p, i, &pointer, f ? 0 : 1);
    }
}

/* place_functions moves a function's registers; these are in no instruction's operands. */
void calls_move(const Ins *i, u32 bytes, u32 poison) {
    const Call *c = (const Call *)i->targets;
    if (i->exec != exec_call) return;
    for (u32 k = 0; k < c->nargs + c->nrets; k++) {
        Passed *one = k < c->nargs ? &c->args[k] : &c->rets[k - c->nargs];
        if (!one->var && !one->reg.imm && !one->reg.sink && one->reg.poison)
            one->reg.off += bytes, one->reg.poison += poison;
    }
}

const Special decoders_calls[] = {{"call", decode_call},          {"ret", decode_ret},
                                  {"alloca", decode_alloca},      {"stacksave", decode_stack},
                                  {"stackrestore", decode_stack}, {0}};
