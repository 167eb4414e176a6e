/* setp and set: comparisons of every type, combined with a predicate by .and, .or, .xor. */
#include "alu.h"
#include "real.h"
#include "warp.h"
#include <math.h>
#include <string.h>

enum Cmp { EQ, NE, LT, LE, GT, GE, LO, LS, HI, HS, EQU, NEU, LTU, LEU, GTU, GEU, NUM, NAN_ };
static const char *const cmp_words[] = {"eq",  "ne",  "lt",  "le",  "gt",  "ge",  "lo",  "ls",  "hi", "hs",
                                        "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan", NULL};

/* ---- the 32 comparisons of one instruction as a mask ---- */
#define MASK_LOOP(C, T, get, expr)                                                                           \
    {                                                                                                        \
        const C *pa = A_, *pb = B_;                                                                          \
        u32 r[LANES], mask = 0;                                                                              \
        LANE_LOOP {                                                                                          \
            T a = get(pa[l]), b = get(pb[l]);                                                                \
            r[l] = (u32) !!(expr) << l;                                                                      \
        }                                                                                                    \
        for (int l = 0; l < LANES; l++) mask |= r[l];                                                        \
        return mask;                                                                                         \
    }
#define INT_COMPARE(name, C, T)                                                                              \
    static u32 cmp_##name(const void *A_, const void *B_, int op) {                                          \
        switch (op) {                                                                                        \
        case EQ:                                                                                             \
            MASK_LOOP(C, T, (T), a == b)                                                                     \
        case NE:                                                                                             \
            MASK_LOOP(C, T, (T), a != b)                                                                     \
        case LT:                                                                                             \
            MASK_LOOP(C, T, (T), a < b)                                                                      \
        case LE:                                                                                             \
            MASK_LOOP(C, T, (T), a <= b)                                                                     \
        case GT:                                                                                             \
            MASK_LOOP(C, T, (T), a > b)                                                                      \
        default:                                                                                             \
            MASK_LOOP(C, T, (T), a >= b)                                                                     \
        }                                                                                                    \
    }
INT_COMPARE(u16, u32, u16)
INT_COMPARE(s16, u32, i16)
INT_COMPARE(u32, u32, u32)
INT_COMPARE(s32, u32, i32)
INT_COMPARE(u64, u64, u64)
INT_COMPARE(s64, u64, i64)

#define FLOAT_COMPARE(name, C, T, get)                                                                       \
    static u32 cmp_##name(const void *A_, const void *B_, int op, bool ftz) {                                \
        (void)ftz;                                                                                           \
        switch (op) {                                                                                        \
        case EQ:                                                                                             \
            MASK_LOOP(C, T, get, a == b)                                                                     \
        case NE:                                                                                             \
            MASK_LOOP(C, T, get, a<b || a> b)                                                                \
        case LT:                                                                                             \
            MASK_LOOP(C, T, get, a < b)                                                                      \
        case LE:                                                                                             \
            MASK_LOOP(C, T, get, a <= b)                                                                     \
        case GT:                                                                                             \
            MASK_LOOP(C, T, get, a > b)                                                                      \
        case GE:                                                                                             \
            MASK_LOOP(C, T, get, a >= b)                                                                     \
        case EQU:                                                                                            \
            MASK_LOOP(C, T, get, !(a < b || a > b))                                                          \
        case NEU:                                                                                            \
            MASK_LOOP(C, T, get, a != b)                                                                     \
        case LTU:                                                                                            \
            MASK_LOOP(C, T, get, !(a >= b))                                                                  \
        case LEU:                                                                                            \
            MASK_LOOP(C, T, get, !(a > b))                                                                   \
        case GTU:                                                                                            \
            MASK_LOOP(C, T, get, !(a <= b))                                                                  \
        case GEU:                                                                                            \
            MASK_LOOP(C, T, get, !(a < b))                                                                   \
        case NUM:                                                                                            \
            MASK_LOOP(C, T, get, a == a && b == b)                                                           \
        default:                                                                                             \
            MASK_LOOP(C, T, get, a != a || b != b)                                                           \
        }                                                                                                    \
    }
#define FLUSHED(v) (ftz ? flush(v) : (v))
FLOAT_COMPARE(f32, float, float, FLUSHED)
FLOAT_COMPARE(f64, double, double, +)
static double half(u32 v, bool ftz) {
    double d = f16_to_double(v);
    return ftz && fabs(d) < 0x1p-14 ? copysign(0, d) : d;
}
#define F16(v)       half(v, ftz)
#define F16_HIGH(v)  half((v) >> 16, ftz)
#define BF16(v)      bf16_to_float((v)&0xffff)
#define BF16_HIGH(v) bf16_to_float((v) >> 16)
FLOAT_COMPARE(f16, u32, double, F16)
FLOAT_COMPARE(f16_high, u32, double, F16_HIGH)
FLOAT_COMPARE(bf16, u32, float, BF16)
FLOAT_COMPARE(bf16_high, u32, float, BF16_HIGH)

static u32 compare(const Ins *i, const void *a, const void *b, bool high) {
    int op = i->op;
    switch (i->type) {
    case T_F32:
        return cmp_f32(a, b, op, i->ftz);
    case T_F64:
        return cmp_f64(a, b, op, false);
    case T_F16:
        return cmp_f16(a, b, op, i->ftz);
    case T_BF16:
        return cmp_bf16(a, b, op, false);
    case T_F16X2:
        return high ? cmp_f16_high(a, b, op, i->ftz) : cmp_f16(a, b, op, i->ftz);
    case T_BF16X2:
        return high ? cmp_bf16_high(a, b, op, false) : cmp_bf16(a, b, op, false);
    case T_S16:
        return cmp_s16(a, b, op);
    case T_S32:
        return cmp_s32(a, b, op);
    case T_S64:
        return cmp_s64(a, b, op);
    case T_U16:
    case T_B16:
        return cmp_u16(a, b, op);
    case T_U64:
    case T_B64:
        return cmp_u64(a, b, op);
    default:
        return cmp_u32(a, b, op);
    }
}

enum { NO_COMBINE, C_AND, C_OR, C_XOR };
static u32 combine(const Ins *i, u32 r, u32 c) {
    return i->bits == C_AND ? r & c : i->bits == C_OR ? r | c : i->bits == C_XOR ? r ^ c : r;
}

static void exec_setp(Warp *w, const Ins *i, u32 mask) {
    const void *a = src(w, &i->s[0]), *b = src(w, &i->s[1]);
    bool pair = i->type == T_F16X2 || i->type == T_BF16X2;
    u32 c = i->ns > 2 ? src_pred(w, &i->s[2]) : 0, poison = 0;
    for (u32 k = 0; k < i->ns; k++) poison |= src_poison(w, &i->s[k]);
    u32 r = compare(i, a, b, false);
    set_pred(w, &i->d[0], mask, combine(i, r, c), poison);
    if (i->nd > 1) set_pred(w, &i->d[1], mask, combine(i, pair ? compare(i, a, b, true) : ~r, c), poison);
}

static void exec_set(Warp *w, const Ins *i, u32 mask) {
    const void *a = src(w, &i->s[0]), *b = src(w, &i->s[1]);
    u32 c = i->ns > 2 ? src_pred(w, &i->s[2]) : 0, poison = 0;
    for (u32 k = 0; k < i->ns; k++) poison |= src_poison(w, &i->s[k]);
    u32 low = combine(i, compare(i, a, b, false), c);
    bool pair = i->type == T_F16X2 || i->type == T_BF16X2;
    u32 high = pair ? combine(i, compare(i, a, b, true), c) : 0;
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u32 x = low >> l & 1, y = high >> l & 1,
            one = i->type2 == T_F32                            ? 0x3f800000
                  : i->type2 == T_F16 || i->type2 == T_F16X2   ? 0x3c00
                  : i->type2 == T_BF16 || i->type2 == T_BF16X2 ? 0x3f80
                  : i->type2 == T_U16 || i->type2 == T_S16     ? 0xffff
                                                               : FULL;
        u32 v = x ? one : 0;
        if (pair) v = (v & 0xffff) | (y ? one & 0xffff : 0) << 16;
        set_lane(w, i->d, l, v, poison >> l & 1);
    }
}

static int take_cmp(Parser *p, Stmt *s) {
    int op = mod_of(s, cmp_words);
    if (op < 0) ptx_fail(p, s->line, "'%s' lacks its comparison", s->op);
    return op;
}

static void check_cmp(Parser *p, Stmt *s, int op, Type t) {
    bool bad = type_float(t) ? op >= LO && op <= HS : op > HS;
    if (type_untyped(t)) bad = op > NE;
    if (!type_float(t) && op >= LO && type_signed(t)) bad = true;
    if (t == T_PRED || type_size(t) < 2 || t == T_B128) bad = true;
    if (bad) ptx_fail(p, s->line, "'%s.%s' does not compare .%s", s->op, cmp_words[op], type_name(t));
}

static void decode_setp(Parser *p, Stmt *s) {
    static const char *const bools[] = {"and", "or", "xor", NULL};
    bool set = !strcmp(s->op, "set");
    int op = take_cmp(p, s), with = mod_of(s, bools) + 1;
    bool ftz = mod(s, "ftz");
    Type to = set ? mod_type(p, s) : T_PRED, t = mod_type(p, s);
    check_cmp(p, s, op, t);
    bool pair = t == T_F16X2 || t == T_BF16X2;
    if (ftz && t != T_F32 && t != T_F16 && t != T_F16X2) ptx_fail(p, s->line, ".ftz of .%s", type_name(t));
    if (set && type_size(to) != 4 && !(type_size(to) == 2 && (type_size(t) == 2 || type_float(to))))
        ptx_fail(p, s->line, "set.%s is not supported", type_name(to));
    operands_are(p, s, with ? 4 : 3, with ? 4 : 3);
    Opnd d[2], a[3];
    const Operand *first = &s->operands[0];
    if (pair && !set && !first->pair) ptx_fail(p, s->line, "setp.%s needs two predicates p|q", type_name(t));
    if (!pair && first->pair && type_float(t) && type_size(t) == 2)
        ptx_fail(p, s->line, "setp.%s has one destination", type_name(t));
    if (set && first->pair) ptx_fail(p, s->line, "set has one destination");
    d[0] = dest(p, s, first, to, false);
    if (first->pair) d[1] = dest(p, s, first->pair, T_PRED, false);
    for (int k = 0; k < 2; k++) a[k] = source(p, s, &s->operands[1 + k], t);
    if (with) a[2] = predicate(p, s, &s->operands[3]);
    Ins *i = new_ins(p, s);
    i->exec = set ? exec_set : exec_setp;
    i->op = (u8)(op >= LO && op <= HS ? op - LO + LT : op);
    i->bits = (u8)with;
    i->ftz = ftz;
    i->type = (u8)t;
    i->type2 = (u8)to;
    set_dests(p, i, d, first->pair ? 2 : 1);
    set_sources(p, i, a, with ? 3 : 2);
}

/* lop3.BoolOp.b32 d|p, a, b, c, table, q: lop3, then p = (d != 0) BoolOp q. */
static void decode_lop3(Parser *p, Stmt *s) {
    static const char *const bools[] = {"and", "or", NULL};
    int with = mod_of(s, bools) + 1;
    if (!with) {
        decode_alu(p, s);
        return;
    }
    operands_are(p, s, 6, 6);
    Operand to = s->operands[0];
    if (!to.pair) ptx_fail(p, s->line, "lop3.%s needs a destination d|p", bools[with - 1]);
    if (to.kind == O_SINK) {
        to = (Operand){.kind = O_NAME, .pair = to.pair, .sym = pool_alloc(&p->m->pool, sizeof *to.sym)};
        *to.sym = (Sym){.kind = Y_REG, .type = T_B32, .reg = new_register(p, T_B32)};
    }
    Opnd pred = dest(p, s, to.pair, T_PRED, false), q = predicate(p, s, &s->operands[5]);
    Stmt plain = {.line = s->line,
                  .op = s->op,
                  .mods = {"b32"},
                  .nmods = 1,
                  .noperands = 5,
                  .guard = s->guard,
                  .guarded = s->guarded};
    memcpy(plain.operands, s->operands, 5 * sizeof *plain.operands);
    plain.operands[0] = to;
    plain.operands[0].pair = NULL;
    if (mod_type(p, s) != T_B32) ptx_fail(p, s->line, "lop3.b32 is meant");
    decode_alu(p, &plain);
    Ins *i = new_ins(p, s);
    i->exec = exec_setp;
    i->op = NE;
    i->bits = (u8)with;
    i->type = T_B32;
    set_dests(p, i, &pred, 1);
    set_sources(p, i, (Opnd[]){to.sym->reg, constant(p, T_B32, 0), q}, 3);
}

const Special decoders_compare[] = {{"setp", decode_setp}, {"set", decode_setp}, {"lop3", decode_lop3}, {0}};
