/* mov with packing and unpacking, cvta, isspacep, activemask, selections of a destination's parts; carry
 * arithmetic. */
#include "alu.h"
#include "memory.h"
#include "warp.h"
#include <string.h>

K1(copy_32, u32, u32, a)
K1(copy_64, u64, u64, a)
KERNEL(copy_pred) {
    UNUSED_ARGS;
    *(u32 *)D = *(const u32 *)A_;
}
static Kernel *copier(Type t) {
    return t == T_PRED ? copy_pred : type_size(t) == 8 ? copy_64 : copy_32;
}

/* Elements into a word, the first one lowest; or a word into elements. */
static void exec_pack(Warp *w, const Ins *i, u32 mask) {
    u32 bits = type_size((Type)i->type) * 8 / i->ns;
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u64 v = 0;
        bool poison = false;
        for (u32 k = 0; k < i->ns; k++) {
            u64 part = src_lane(w, &i->s[k], l);
            if (bits < 64) part &= (1ull << bits) - 1;
            v |= part << bits * k;
            poison |= src_poison(w, &i->s[k]) >> l & 1;
        }
        set_lane(w, i->d, l, v, poison);
    }
}
static void exec_unpack(Warp *w, const Ins *i, u32 mask) {
    u32 bits = type_size((Type)i->type) * 8 / i->nd;
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u64 v = src_lane(w, i->s, l);
        bool poison = src_poison(w, i->s) >> l & 1;
        for (u32 k = 0; k < i->nd; k++) {
            u64 part = v >> bits * k;
            if (bits < 64) part &= (1ull << bits) - 1;
            set_lane(w, &i->d[k], l, part, poison);
        }
    }
}

/* mov.v2 and .v4: all elements are read before one is written. */
static void exec_elements(Warp *w, const Ins *i, u32 mask) {
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u64 v[4];
        for (u32 k = 0; k < i->ns; k++) v[k] = src_lane(w, &i->s[k], l);
        u32 bad = 0;
        for (u32 k = 0; k < i->ns; k++) bad |= (src_poison(w, &i->s[k]) >> l & 1) << k;
        for (u32 k = 0; k < i->nd; k++) set_lane(w, &i->d[k], l, v[k], bad >> k & 1);
    }
}
static void decode_elements(Parser *p, Stmt *s, u32 n) {
    Type t = mod_type(p, s);
    operands_are(p, s, 2, 2);
    Operand *to, *from;
    if (vector_of(p, s, &s->operands[0], &to) != n || vector_of(p, s, &s->operands[1], &from) != n)
        ptx_fail(p, s->line, "mov.v%u moves vectors of %u elements", n, n);
    Opnd d[4], a[4];
    for (u32 k = 0; k < n; k++) d[k] = dest(p, s, &to[k], t, false), a[k] = source(p, s, &from[k], t);
    Ins *i = new_ins(p, s);
    i->exec = exec_elements;
    set_dests(p, i, d, n);
    set_sources(p, i, a, n);
}

static void check_parts(Parser *p, Stmt *s, u32 n, Type type) {
    if (n < 2 || type_size(type) % n || (type_size(type) / n < 1))
        ptx_fail(p, s->line, "a vector of %u for .%s", n, type_name(type));
}
static Type part_type(Type type, u32 n) {
    static const u8 of_size[] = {[1] = T_B8, [2] = T_B16, [4] = T_B32};
    return (Type)of_size[type_size(type) / n];
}

static bool bytes(Type type, u32 n) { /* these lie in wider registers */
    return type_size(type) == n;
}

static void decode_mov(Parser *p, Stmt *s) {
    if (mod(s, "v2") || mod(s, "v4")) {
        decode_elements(p, s, s->mods[0][1] == '2' ? 2 : 4);
        return;
    }
    Type t = mod_type(p, s);
    operands_are(p, s, 2, 2);
    const Operand *to = &s->operands[0], *from = &s->operands[1];
    if (t == T_B128 || (t != T_PRED && type_size(t) < 2))
        ptx_fail(p, s->line, "mov.%s is not supported", type_name(t));
    Opnd many[8];
    Operand *items;
    if (to->kind == O_VECTOR) {
        u32 n = vector_of(p, s, to, &items);
        if (n > 4) ptx_fail(p, s->line, "a vector of %u", n);
        check_parts(p, s, n, t);
        Opnd a = source(p, s, from, t);
        for (u32 k = 0; k < n; k++) many[k] = dest(p, s, &items[k], part_type(t, n), bytes(t, n));
        Ins *i = new_ins(p, s);
        i->exec = exec_unpack;
        i->type = (u8)t;
        set_dests(p, i, many, n);
        set_sources(p, i, &a, 1);
    } else if (from->kind == O_VECTOR) {
        u32 n = vector_of(p, s, from, &items);
        if (n > 4) ptx_fail(p, s->line, "a vector of %u", n);
        check_parts(p, s, n, t);
        Opnd d = dest(p, s, to, t, false);
        for (u32 k = 0; k < n; k++)
            many[k] =
                bytes(t, n) ? source_any(p, s, &items[k], T_B8) : source(p, s, &items[k], part_type(t, n));
        Ins *i = new_ins(p, s);
        i->exec = exec_pack;
        i->type = (u8)t;
        set_dests(p, i, &d, 1);
        set_sources(p, i, many, n);
    } else {
        Opnd d = dest(p, s, to, t, false), a;
        const Sym *y = from->kind == O_NAME ? from->sym : NULL;
        a = y && y->kind == Y_REG
                ? source(p, s, from, type_untyped((Type)y->reg.type) || t == T_PRED ? t : (Type)y->reg.type)
                : source(p, s, from, t);
        if (type_size((Type)a.type) != type_size(t))
            ptx_fail(p, s->line, "'%s' has another size than .%s", from->name ? from->name : "operand",
                     type_name(t));
        Ins *i = new_ins(p, s);
        i->kernel = copier(t);
        i->type = (u8)t;
        set_dests(p, i, &d, 1);
        set_sources(p, i, &a, 1);
    }
}

/* ---- address spaces ---- */
KERNEL(add_window) {
    (void)B_, (void)C_;
    u64 *d = D;
    const u64 *a = A_;
    LANE_LOOP d[l] = a[l] + (u64)ins->imm;
}
static u64 window(Space s) {
    return s == S_SHARED ? SHARED_WINDOW : s == S_LOCAL ? LOCAL_WINDOW : s == S_PARAM ? PARAM_WINDOW : 0;
}

static void decode_cvta(Parser *p, Stmt *s) {
    bool to = mod(s, "to");
    Space space = mod_space(s, S_NONE);
    if (space == S_NONE) ptx_fail(p, s->line, "cvta lacks its state space");
    Type t = mod_type(p, s);
    if (t != T_U64) ptx_fail(p, s->line, "cvta is for .u64 here");
    operands_are(p, s, 2, 2);
    Opnd d = dest(p, s, &s->operands[0], t, false), a = source(p, s, &s->operands[1], t);
    Ins *i = new_ins(p, s);
    i->kernel = add_window;
    i->imm = (i64)(to ? 0 - window(space) : window(space));
    set_dests(p, i, &d, 1);
    set_sources(p, i, &a, 1);
}

static bool is_const(u64 a) {
    return mem_mapped(a, 1) && *mem_state(a) & ST_CONST;
}
KERNEL(is_space) {
    (void)B_, (void)C_;
    const u64 *a = A_;
    u32 r = 0;
    for (int l = 0; l < LANES; l++) {
        u64 offset;
        Space s = is_const(a[l]) ? S_CONST : window_of(a[l], &offset);
        r |= (u32)(s == ins->space) << l;
    }
    *(u32 *)D = r;
}
static void decode_isspacep(Parser *p, Stmt *s) {
    Space space = mod_space(s, S_NONE);
    if (space == S_NONE) ptx_fail(p, s->line, "isspacep lacks its state space");
    operands_are(p, s, 2, 2);
    Opnd d = dest(p, s, &s->operands[0], T_PRED, false), a = source(p, s, &s->operands[1], T_U64);
    Ins *i = new_ins(p, s);
    i->kernel = is_space;
    i->space = (u8)space;
    set_dests(p, i, &d, 1);
    set_sources(p, i, &a, 1);
}

static void exec_activemask(Warp *w, const Ins *i, u32 mask) {
    for (u32 m = mask; m; m &= m - 1) set_lane(w, i->d, __builtin_ctz(m), mask, false);
}
static void decode_activemask(Parser *p, Stmt *s) {
    if (mod_type(p, s) != T_B32) ptx_fail(p, s->line, "activemask.b32 is meant");
    operands_are(p, s, 1, 1);
    Opnd d = dest(p, s, &s->operands[0], T_B32, false);
    Ins *i = new_ins(p, s);
    i->exec = exec_activemask;
    set_dests(p, i, &d, 1);
}

/* ---- extended precision: the carry of each lane ---- */
/* A subtraction adds the complement, so that a carry after it says that nothing was borrowed: what devices
 * do, and what nvcc's division of 128 bits, which reads it with addc, builds on. */
enum { C_ADD, C_SUB, C_MAD_LO, C_MAD_HI };
static void exec_carry(Warp *w, const Ins *i, u32 mask) {
    bool eight = type_size((Type)i->type) == 8, in = i->bits & 1, out = i->bits & 2;
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u64 a = src_lane(w, &i->s[0], l), b = src_lane(w, &i->s[1], l), carry = in ? w->carry >> l & 1 : 0;
        bool poison =
            (src_poison(w, &i->s[0]) | src_poison(w, &i->s[1]) | (in ? w->carry_poison : 0)) >> l & 1;
        if (i->op >= C_MAD_LO) {
            bool sign = type_signed((Type)i->type);
            __extension__ typedef __int128 wide_int;
            wide_int x = eight  ? (sign ? (wide_int)(i64)a : (wide_int)a)
                         : sign ? (wide_int)(i32)a
                                : (wide_int)(u32)a;
            wide_int y = eight  ? (sign ? (wide_int)(i64)b : (wide_int)b)
                         : sign ? (wide_int)(i32)b
                                : (wide_int)(u32)b;
            wide_int product =
                (wide_int)((__extension__(unsigned __int128) x) * (__extension__(unsigned __int128) y));
            a = (u64)(i->op == C_MAD_LO ? product : product >> (eight ? 64 : 32));
            b = src_lane(w, &i->s[2], l);
            poison |= src_poison(w, &i->s[2]) >> l & 1;
        }
        if (!eight) a = (u32)a, b = (u32)b;
        __extension__ typedef unsigned __int128 wide_unsigned;
        if (i->op == C_SUB) {
            b = eight ? ~b : (u32)~b;
            if (!in) carry = 1;
        }
        wide_unsigned r = (wide_unsigned)a + b + carry;
        bool over = r >> (eight ? 64 : 32) & 1;
        if (out) {
            w->carry = over ? w->carry | 1u << l : w->carry & ~(1u << l);
            w->carry_poison = poison ? w->carry_poison | 1u << l : w->carry_poison & ~(1u << l);
        }
        set_lane(w, i->d, l, (u64)r, poison);
    }
}

/* add.cc, addc{.cc}, sub.cc, subc{.cc}, mad{c}.lo/hi.cc; the forms without carry are rows of the tables */
static void decode_carry(Parser *p, Stmt *s) {
    bool mad = s->op[0] == 'm', in = s->op[3] == 'c', cc = mod(s, "cc");
    if (!in && !cc) {
        memset(s->used, 0, sizeof s->used);
        if (!decode_alu(p, s)) ptx_fail(p, s->line, "unknown instruction");
        return;
    }
    int op = s->op[0] == 'a' ? C_ADD : C_SUB;
    if (mad) op = mod(s, "lo") ? C_MAD_LO : mod(s, "hi") ? C_MAD_HI : -1;
    Type t = mod_type(p, s);
    if (op < 0 || type_float(t) || type_untyped(t) || type_size(t) < 4)
        ptx_fail(p, s->line, "this form of '%s' with carry is not known", s->op);
    operands_are(p, s, mad ? 4 : 3, mad ? 4 : 3);
    Opnd d = dest(p, s, &s->operands[0], t, false), a[3];
    for (u32 k = 1; k < s->noperands; k++) a[k - 1] = source(p, s, &s->operands[k], t);
    Ins *i = new_ins(p, s);
    i->exec = exec_carry;
    i->op = (u8)op;
    i->type = (u8)t;
    i->bits = (u8)(in | cc << 1);
    set_dests(p, i, &d, 1);
    set_sources(p, i, a, s->noperands - 1);
}

const Special decoders_move[] = {{"mov", decode_mov},
                                 {"cvta", decode_cvta},
                                 {"isspacep", decode_isspacep},
                                 {"activemask", decode_activemask},
                                 {"add", decode_carry},
                                 {"addc", decode_carry},
                                 {"sub", decode_carry},
                                 {"subc", decode_carry},
                                 {"mad", decode_carry},
                                 {"madc", decode_carry},
                                 {0}};
