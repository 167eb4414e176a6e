/* From statements to instructions: modifiers, operands, and which decoder an opcode has. A modifier that no
 * decoder takes, an operand of the wrong kind or width, an opcode that is not known: all refuse the module.
 */
#include "alu.h"
#include "warp.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- modifiers ---- */
bool mod(Stmt *s, const char *word) {
    for (u32 i = 0; i < s->nmods; i++)
        if (!s->used[i] && !strcmp(s->mods[i], word)) return s->used[i] = true;
    return false;
}

int mod_of(Stmt *s, const char *const *words) {
    for (int i = 0; words[i]; i++)
        if (mod(s, words[i])) return i;
    return -1;
}

Type mod_type_opt(Stmt *s) {
    for (u32 i = 0; i < s->nmods; i++) {
        Type t = s->used[i] ? T_NONE : type_of(s->mods[i]);
        if (t == T_NONE) continue;
        s->used[i] = true;
        return t;
    }
    return T_NONE;
}

Type mod_type(Parser *p, Stmt *s) {
    Type t = mod_type_opt(s);
    if (t == T_NONE) ptx_fail(p, s->line, "'%s' lacks a type", s->op);
    return t;
}

int mod_rounding(Stmt *s) {
    static const char *const words[] = {"rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi", NULL};
    return mod_of(s, words) + 1;
}

void mods_done(Parser *p, Stmt *s) {
    for (u32 i = 0; i < s->nmods; i++)
        if (!s->used[i])
            ptx_fail(p, s->line, "unknown or unsupported modifier '.%s' of '%s'", s->mods[i], s->op);
}

void operands_are(Parser *p, Stmt *s, u32 least, u32 most) {
    if (s->noperands < least || s->noperands > most)
        ptx_fail(p, s->line, "'%s' takes %u%s operands, not %u", s->op, least,
                 least == most ? "" : " or more", s->noperands);
}

Space mod_space(Stmt *s, Space otherwise) {
    static const char *const words[] = {"const",       "global",       "local",       "param", "shared",
                                        "shared::cta", "param::entry", "param::func", NULL};
    static const u8 spaces[] = {S_CONST, S_GLOBAL, S_LOCAL, S_PARAM, S_SHARED, S_SHARED, S_PARAM, S_PARAM};
    int k = mod_of(s, words);
    return k < 0 ? otherwise : (Space)spaces[k];
}

/* SSE's control word, all exceptions masked: rounding in bits 13-14; flush to zero (15) and denormals are
 * zero (6). */
u16 csr_of(int rounding, bool ftz) {
    static const u16 bits[] = {[R_RM] = 0x2000, [R_RP] = 0x4000, [R_RZ] = 0x6000, [R_RPI] = 0};
    u16 csr = (u16)((ftz ? 0x8040 : 0) | bits[rounding]);
    return csr ? csr | 0x1f80 : 0;
}

/* ---- operands ---- */
Opnd constant(Parser *p, Type type, u64 bits) {
    if (type == T_PRED) {
        u32 *mask = pool_alloc(&p->m->pool, sizeof *mask);
        *mask = bits ? FULL : 0;
        return (Opnd){.imm = mask, .type = T_PRED};
    }
    u32 size = type_size(type);
    void *values = pool_alloc(&p->m->pool, LANES * 8);
    for (int l = 0; l < LANES; l++) {
        if (size == 8)
            ((u64 *)values)[l] = bits;
        else
            ((u32 *)values)[l] = (u32)(size == 4 ? bits : size == 2 ? (u16)bits : (u8)bits);
    }
    return (Opnd){.imm = values, .type = (u8)type};
}

static void count_shared(Parser *p, Var *v) {
    if (v->space != S_SHARED || !v->module || v->external || !p->func || v->used_by == p->func->index + 1)
        return;
    v->used_by = p->func->index + 1;
    p->func->shared_bytes = (u32)((p->func->shared_bytes + v->align - 1) / v->align * v->align + v->size);
}

static u64 symbol_address(Parser *p, Stmt *s, const Sym *y) {
    if (y->kind == Y_FUNC) return CODE_WINDOW + y->func->index * 16;
    if (y->kind != Y_VAR) ptx_fail(p, s->line, "'%s' has no address", y->name);
    count_shared(p, y->var);
    return y->var->address;
}

static Opnd special_register(Parser *p, Stmt *s, const char *name, Type type) {
    static const struct {
        const char *name;
        u8 slot, size;
    } table[] = {{"%tid.x", SR_TID_X, 4},
                 {"%tid.y", SR_TID_Y, 4},
                 {"%tid.z", SR_TID_Z, 4},
                 {"%tid.w", SR_ZERO, 4},
                 {"%ntid.x", SR_NTID_X, 4},
                 {"%ntid.y", SR_NTID_Y, 4},
                 {"%ntid.z", SR_NTID_Z, 4},
                 {"%ntid.w", SR_ZERO, 4},
                 {"%ctaid.x", SR_CTAID_X, 4},
                 {"%ctaid.y", SR_CTAID_Y, 4},
                 {"%ctaid.z", SR_CTAID_Z, 4},
                 {"%ctaid.w", SR_ZERO, 4},
                 {"%nctaid.x", SR_NCTAID_X, 4},
                 {"%nctaid.y", SR_NCTAID_Y, 4},
                 {"%nctaid.z", SR_NCTAID_Z, 4},
                 {"%nctaid.w", SR_ZERO, 4},
                 {"%laneid", SR_LANEID, 4},
                 {"%warpid", SR_WARPID, 4},
                 {"%nwarpid", SR_NWARPID, 4},
                 {"%smid", SR_SMID, 4},
                 {"%nsmid", SR_NSMID, 4},
                 {"%gridid", SR_GRIDID64, 8},
                 {"%lanemask_eq", SR_LM_EQ, 4},
                 {"%lanemask_le", SR_LM_LE, 4},
                 {"%lanemask_lt", SR_LM_LT, 4},
                 {"%lanemask_ge", SR_LM_GE, 4},
                 {"%lanemask_gt", SR_LM_GT, 4},
                 {"%reserved_smem_offset_begin", SR_ZERO, 4},
                 {"%reserved_smem_offset_end", SR_ZERO, 4},
                 {"%reserved_smem_offset_cap", SR_ZERO, 4},
                 {"%reserved_smem_offset_0", SR_ZERO, 4},
                 {"%reserved_smem_offset_1", SR_ZERO, 4},
                 {"%clusterid.x", SR_CTAID_X, 4}, /* a cluster is one block */
                 {"%clusterid.y", SR_CTAID_Y, 4},
                 {"%clusterid.z", SR_CTAID_Z, 4},
                 {"%nclusterid.x", SR_NCTAID_X, 4},
                 {"%nclusterid.y", SR_NCTAID_Y, 4},
                 {"%nclusterid.z", SR_NCTAID_Z, 4},
                 {"%cluster_ctaid.x", SR_ZERO, 4},
                 {"%cluster_ctaid.y", SR_ZERO, 4},
                 {"%cluster_ctaid.z", SR_ZERO, 4},
                 {"%cluster_nctaid.x", SR_ONE, 4},
                 {"%cluster_nctaid.y", SR_ONE, 4},
                 {"%cluster_nctaid.z", SR_ONE, 4},
                 {"%cluster_ctarank", SR_ZERO, 4},
                 {"%cluster_nctarank", SR_ONE, 4},
                 {"%envreg1", SR_ENVREG1, 4},
                 {"%envreg2", SR_ENVREG2, 4},
                 {"%dynamic_smem_size", SR_DYNAMIC_SMEM, 4},
                 {"%total_smem_size", SR_TOTAL_SMEM, 4},
                 {"%clock", SR_CLOCK, 4},
                 {"%clock_hi", SR_CLOCK_HI, 4},
                 {"%clock64", SR_CLOCK64, 8},
                 {"%globaltimer", SR_GLOBALTIMER, 8},
                 {"%globaltimer_lo", SR_CLOCK, 4},
                 {"%globaltimer_hi", SR_CLOCK_HI, 4}};
    for (u32 i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(name, table[i].name)) continue;
        if (!strncmp(name, "%cluster", 8)) needs_target(p, s->line, name, 90);
        u32 slot = table[i].slot;
        bool narrow = slot == SR_GRIDID64 && type_size(type) == 4;
        if (narrow)
            slot = SR_GRIDID;
        else if (type_size(type) != table[i].size && !(type_size(type) == 2 && table[i].size == 4))
            ptx_fail(p, s->line, "%s has %u bits, the instruction's type is .%s", name, table[i].size * 8,
                     type_name(type));
        if (slot >= SR_CLOCK) { /* these change: a step of its own fetches them */
            Ins *i2 = new_ins(p, &(Stmt){.line = s->line, .op = "clock"});
            i2->exec = exec_clock;
        }
        return (Opnd){.off = slot * LANES * 4, .type = (u8)type};
    }
    ptx_fail(p, s->line, "unknown or unsupported name '%s'", name);
}

static void check_register(Parser *p, Stmt *s, const Operand *o, Type have, Type want, bool wider) {
    u32 h = type_size(have), w = type_size(want);
    bool size = h == w || (wider && h > w);
    bool class = type_untyped(have) || type_untyped(want) || type_float(have) == type_float(want);
    if (have == T_PRED || want == T_PRED) size = have == want, class = true;
    if (wider && h > w && !type_untyped(want)) class = !type_float(have) || type_float(want);
    if (!size || !class)
        ptx_fail(p, s->line, "'%s' is a .%s register where '%s' takes .%s", o->name, type_name(have), s->op,
                 type_name(want));
}

static u64 float_constant(Parser *p, Stmt *s, const Operand *o, Type type) {
    if (o->kind == O_F32) {
        if (type != T_F32 && type != T_B32 && type != T_TF32)
            ptx_fail(p, s->line, "an f32 constant where '%s' takes .%s", s->op, type_name(type));
        return o->value;
    }
    if (type_size(type) == 8) return o->value;
    double d;
    memcpy(&d, &o->value, sizeof d);
    if (type == T_F32 || type == T_B32) {
        float f = (float)d;
        u32 bits;
        memcpy(&bits, &f, sizeof bits);
        return bits;
    }
    ptx_fail(p, s->line, "a float constant where '%s' takes .%s", s->op, type_name(type));
}

KERNEL(add_shift) {
    (void)B_, (void)C_;
    const u64 *a = A_;
    if (ins->size == 8)
        for (int l = 0; l < LANES; l++) ((u64 *)D)[l] = a[l] + (u64)ins->imm;
    else
        for (int l = 0; l < LANES; l++) ((u32 *)D)[l] = (u32)(a[l] + (u64)ins->imm);
}
/* The address of a function's .local variable: of this activation's. */
static Opnd local_address(Parser *p, const Stmt *s, const Var *v, Type type, u64 displacement) {
    Opnd d = new_register(p, type_size(type) == 8 ? T_U64 : T_U32), shift = p->func->shift;
    Ins *i = new_ins(p, s);
    i->kernel = add_shift;
    i->size = (u8)type_size(type);
    i->imm = (i64)(v->address + displacement);
    set_dests(p, i, &d, 1);
    set_sources(p, i, &shift, 1);
    return d;
}

static Opnd any_source(Parser *p, Stmt *s, const Operand *o, Type type, bool wider) {
    if (o->pair) ptx_fail(p, s->line, "an operand a|b where '%s' takes one", s->op);
    if (o->part) ptx_fail(p, s->line, "'%s' takes no part of a register", s->op);
    switch (o->kind) {
    case O_INT:
        if (type == T_PRED) return constant(p, type, o->value);
        if (type_float(type))
            ptx_fail(p, s->line, "an integer constant where '%s' takes .%s", s->op, type_name(type));
        return constant(p, type, o->value);
    case O_FLOAT:
    case O_F32:
    case O_F64:
        return constant(p, type, float_constant(p, s, o, type));
    case O_NAME:
        break;
    default:
        ptx_fail(p, s->line, "'%s' takes a register or a constant here", s->op);
    }
    if (!o->sym && o->name[0] == '%') return special_register(p, s, o->name, type);
    if (!o->sym) ptx_fail(p, s->line, "unknown name '%s'", o->name);
    if (o->sym->kind != Y_REG) {
        if (type_size(type) != 8 &&
            !(type_size(type) == 4 && o->sym->kind == Y_VAR && o->sym->var->space != S_GLOBAL))
            ptx_fail(p, s->line, "the address of '%s' where '%s' takes .%s", o->name, s->op, type_name(type));
        if (o->sym->kind == Y_VAR && o->sym->var->space == S_LOCAL) {
            if (o->sym->var->owner) return local_address(p, s, o->sym->var, type, o->value);
            p->func->shares = true;
        }
        return constant(p, type, symbol_address(p, s, o->sym) + o->value);
    }
    Opnd r = o->sym->reg;
    check_register(p, s, o, (Type)r.type, type, wider);
    if (o->neg && type != T_PRED) ptx_fail(p, s->line, "'!' before something that is not a predicate");
    r.neg = o->neg;
    return r;
}

Opnd source(Parser *p, Stmt *s, const Operand *o, Type type) {
    return any_source(p, s, o, type, false);
}
Opnd source_any(Parser *p, Stmt *s, const Operand *o, Type type) {
    return any_source(p, s, o, type, true);
}
Opnd predicate(Parser *p, Stmt *s, const Operand *o) {
    return any_source(p, s, o, T_PRED, false);
}

Opnd dest(Parser *p, Stmt *s, const Operand *o, Type type, bool wider) {
    if (o->kind == O_SINK) return (Opnd){.sink = true, .type = (u8)type};
    if (o->kind != O_NAME || !o->sym || o->sym->kind != Y_REG || o->neg || o->part || o->sym->reg.imm)
        ptx_fail(p, s->line, "'%s' needs a register to write", s->op);
    check_register(p, s, o, (Type)o->sym->reg.type, type, wider);
    return o->sym->reg;
}

i64 integer(Parser *p, Stmt *s, const Operand *o) {
    if (o->kind != O_INT) ptx_fail(p, s->line, "'%s' needs an integer constant here", s->op);
    return (i64)o->value;
}

void set_sources(Parser *p, Ins *i, const Opnd *s, u32 n) {
    i->s = pool_alloc(&p->m->pool, (n + !n) * sizeof *s);
    memcpy(i->s, s, n * sizeof *s);
    i->ns = (u8)n;
}

void set_dests(Parser *p, Ins *i, const Opnd *d, u32 n) {
    i->d = pool_alloc(&p->m->pool, (n + !n) * sizeof *d);
    memcpy(i->d, d, n * sizeof *d);
    i->nd = (u8)n;
}

u32 vector_of(Parser *p, Stmt *s, const Operand *o, Operand **items) {
    if (o->kind != O_VECTOR) {
        *items = (Operand *)(uintptr_t)o;
        return 1;
    }
    if (!o->nitems) ptx_fail(p, s->line, "an empty vector");
    *items = o->items;
    return o->nitems;
}

Opnd address(Parser *p, Stmt *s, const Operand *o, Space *space, i64 *displacement) {
    if (o->kind != O_ADDRESS) ptx_fail(p, s->line, "'%s' needs an address in brackets", s->op);
    *displacement = (i64)o->value;
    if (!o->name) return constant(p, T_U64, 0);
    if (!o->sym) ptx_fail(p, s->line, "unknown name '%s'", o->name);
    if (o->sym->kind == Y_REG) {
        Opnd r = o->sym->reg;
        if (type_float((Type)r.type) || type_size((Type)r.type) < 4)
            ptx_fail(p, s->line, "'%s' cannot hold an address", o->name);
        return r;
    }
    u64 a = symbol_address(p, s, o->sym);
    if (o->sym->kind == Y_VAR) {
        Space home = o->sym->var->space;
        if (*space == S_PARAM && home == S_LOCAL)
            *space = S_LOCAL;
        else if (*space == S_GENERIC) {
            if (home == S_PARAM || home == S_SHARED || home == S_LOCAL) *space = home;
        } else if (*space != home)
            ptx_fail(p, s->line, "'%s' does not lie in the state space that '%s' names", o->name, s->op);
        if (home == S_LOCAL && o->sym->var->owner) return local_address(p, s, o->sym->var, T_U64, 0);
    }
    return constant(p, T_U64, a);
}

/* ---- instructions ---- */
Ins *new_ins(Parser *p, const Stmt *s) {
    Module *m = p->m;
    if (m->ncode == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 1024;
        if (!(m->code = realloc(m->code, m->cap * sizeof *m->code))) abort();
    }
    Ins *i = &m->code[m->ncode++];
    *i = (Ins){.line = s->line};
    if (s->guarded) {
        const Sym *y = s->guard.sym;
        if (!y || y->kind != Y_REG || y->reg.type != T_PRED)
            ptx_fail(p, s->line, "'%s' is not a predicate", s->guard.name);
        i->guarded = true;
        i->guard_neg = s->guard.neg;
        i->guard = y->reg.off;
        i->guard_poison = y->reg.poison;
    }
    return i;
}

/* The mutant that TBC_EMU_OMIT asks for, by its line or its kernel: without what orders or waits there. */
static bool omitted(const Parser *p, const Stmt *s) {
    static const char *const ops[] = {"bar", "barrier", "membar", "fence", "cp"};
    if (!settings.omit) return false;
    if (strtoul(settings.omit, NULL, 10) != s->line && strcmp(settings.omit, p->func->name)) return false;
    const char *kind = s->nmods > 1 ? s->mods[1] : ""; /* of cp.async */
    if (s->op[0] == 'c' && strncmp(kind, "wait", 4) && strcmp(kind, "commit_group")) return false;
    for (u32 k = 0; k < sizeof ops / sizeof *ops; k++)
        if (!strcmp(s->op, ops[k])) return true;
    return false;
}

void decode(Parser *p, Stmt *s) {
    static const Special *const tables[] = {
        decoders_move,    decoders_flow,  decoders_memory,  decoders_warp,    decoders_matrix,
        decoders_compare, decoders_async, decoders_barrier, decoders_convert, decoders_atomic,
        decoders_wmma,    decoders_video, decoders_calls};
    if (omitted(p, s)) return;
    check_target(p, s);
    for (u32 t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const Special *d = tables[t]; d->op; d++)
            if (!strcmp(d->op, s->op)) {
                d->decode(p, s);
                mods_done(p, s);
                return;
            }
    if (!decode_alu(p, s)) ptx_fail(p, s->line, "unknown or unsupported instruction '%s'", s->op);
}
