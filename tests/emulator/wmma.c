/* wmma: load, mma, store. Which lane holds what of a fragment is the device's secret, so it is a plain one
 * here: with E elements a register, register r of lane l holds elements E*(32*r + l) .. of the matrix in row
 * order, modulo its size. */
#include "ptx.h"
#include "warp.h"
#include "real.h"
#include <math.h>
#include <string.h>

typedef struct Shape {
    const char *name;
    u8 m, n, k;
} Shape;
static const Shape shapes[] = {{"m16n16k16", 16, 16, 16},
                               {"m32n8k16", 32, 8, 16},
                               {"m8n32k16", 8, 32, 16},
                               {"m16n16k8", 16, 16, 8},
                               {"m8n8k4", 8, 8, 4}};
enum { MOST = 32 * 32 };
typedef union Value {
    float f;
    double d;
    i32 i;
} Value;

static u32 element_bytes(Type t) {
    return t == T_TF32 ? 4 : type_size(t);
}
static u32 per_register(Type t) {
    return t == T_F64 ? 1 : 4 / element_bytes(t);
}

/* Rows and columns of matrix a, b, c or d. */
static void extent(const Shape *s, char which, u32 *rows, u32 *columns) {
    *rows = which == 'b' ? s->k : s->m;
    *columns = which == 'a' ? s->k : s->n;
}
static u32 registers(const Shape *s, char which, Type t) {
    u32 rows, columns;
    extent(s, which, &rows, &columns);
    if (t == T_F16 && which != 'c' && which != 'd') return 8; /* every element twice */
    return rows * columns / LANES / per_register(t);
}

static u64 place_of(const Ins *i, u32 row, u32 column, u32 stride, u32 size) {
    return (u64)(i->bits ? column * stride + row : row * stride + column) * size; /* bits: column-major */
}

static void act_move(Warp *w, const Ins *i, u32 mask) {
    if (mask != FULL)
        fault(w, i, __builtin_ctz(mask), ERR_LAUNCH_FAILED, "wmma by a warp of which lanes have exited");
    bool store = i->rnd;
    Type t = (Type)i->type;
    u32 rows, columns, size = element_bytes(t), per = per_register(t), n = store ? i->ns - 2u : i->nd;
    extent(&shapes[i->op], (char)i->vec, &rows, &columns);
    w->now = NULL;
    if ((src_poison(w, &i->s[0]) | src_poison(w, &i->s[1])) & mask)
        suspect(w, i, 0, "the address depends on a value that was never written");
    for (u32 r = 0; r < n; r++)
        for (u32 l = 0; l < LANES; l++) {
            u64 v = 0, bits;
            u32 stride = (u32)src_lane(w, &i->s[1], (int)l);
            bool bad = false;
            for (u32 e = 0; e < per; e++) {
                u32 k = (per * (LANES * r + l) + e) % (rows * columns);
                u64 a = src_lane(w, &i->s[0], (int)l) + (u64)i->imm +
                        place_of(i, k / columns, k % columns, stride, size);
                u8 *state,
                    *p = touch(w, i, (int)l, (Space)i->space, a, size, store ? WRITE : READ, false, &state);
                if (store) {
                    bits = src_lane(w, &i->s[2 + r], (int)l) >> 8 * size * e % 32;
                    if (src_poison(w, &i->s[2 + r]) >> l & 1)
                        suspect(w, i, (int)l, "a fragment with values that were never written is stored");
                    memcpy(p, &bits, size);
                    memset(state, ST_MAPPED | ST_INIT, size);
                } else {
                    bits = 0;
                    memcpy(&bits, p, size);
                    for (u32 b = 0; b < size; b++) bad |= !(state[b] & ST_INIT);
                    v |= bits << 8 * size * e % 32;
                }
            }
            if (!store) set_lane(w, &i->d[r], (int)l, v, bad);
        }
}

static Value element(u64 register_bits, u32 e, Type t) {
    u32 v = (u32)register_bits;
    switch (t) {
    case T_F64:
        return (Value){.d = bits_to_double(register_bits)};
    case T_F16:
        return (Value){.f = (float)f16_to_double(v >> 16 * e)};
    case T_BF16:
        return (Value){.f = bf16_to_float(v >> 16 * e & 0xffff)};
    case T_TF32:
        return (Value){.f = bits_to_float(v & 0xffffe000u)};
    case T_F32:
        return (Value){.f = bits_to_float(v)};
    case T_S8:
        return (Value){.i = (int8_t)(v >> 8 * e)};
    case T_U8:
        return (Value){.i = (u8)(v >> 8 * e)};
    default:
        return (Value){.i = (i32)v};
    }
}

/* A fragment as a matrix; true: something in it was never written. */
static bool gather(Warp *w, const Opnd *o, u32 n, Type t, u32 total, Value *to) {
    u32 per = per_register(t), bad = 0;
    for (u32 r = 0; r < n; r++) {
        bad |= src_poison(w, &o[r]);
        for (u32 l = 0; l < LANES; l++)
            for (u32 e = 0; e < per; e++)
                to[(per * (LANES * r + l) + e) % total] = element(src_lane(w, &o[r], (int)l), e, t);
    }
    return bad;
}

static void act_mma(Warp *w, const Ins *i, u32 mask) {
    if (mask != FULL)
        fault(w, i, __builtin_ctz(mask), ERR_LAUNCH_FAILED, "wmma by a warp of which lanes have exited");
    static Value a[MOST], b[MOST], c[MOST];
    const Shape *s = &shapes[i->op];
    Type ta = (Type)i->type, tc = (Type)i->space, td = (Type)i->space2;
    u32 na = registers(s, 'a', ta), nb = registers(s, 'b', ta), m = s->m, n = s->n, k = s->k;
    bool bad = gather(w, i->s, na, ta, m * k, a) | gather(w, i->s + na, nb, ta, k * n, b) |
               gather(w, i->s + na + nb, i->ns - na - nb, tc, m * n, c);
    for (u32 r = 0; r < m; r++)
        for (u32 j = 0; j < n; j++) {
            Value *sum = &c[r * n + j];
            i64 whole = sum->i;
            for (u32 q = 0; q < k; q++) {
                const Value *x = &a[r * k + q], *y = &b[q * n + j];
                if (td == T_S32)
                    whole += x->i * y->i;
                else if (td == T_F64)
                    sum->d = fma(x->d, y->d, sum->d);
                else
                    sum->f = fmaf(x->f, y->f, sum->f);
            }
            if (i->sat) whole = whole > INT32_MAX ? INT32_MAX : whole < INT32_MIN ? INT32_MIN : whole;
            if (td == T_S32) sum->i = (i32)(u32)(u64)whole;
        }
    u32 per = per_register(td);
    for (u32 r = 0; r < i->nd; r++)
        for (u32 l = 0; l < LANES; l++) {
            u64 v = 0;
            for (u32 e = 0; e < per; e++) {
                Value x = c[per * (LANES * r + l) + e];
                v |= td == T_F64   ? double_to_bits(x.d)
                     : td == T_S32 ? (u32)x.i
                     : td == T_F32 ? float_to_bits(canon(x.f))
                                   : (u64)double_to_f16(x.f) << 16 * e;
            }
            set_lane(w, &i->d[r], (int)l, v, bad);
        }
}

/* ---- decoding ---- */
static int shape_of(Parser *p, Stmt *s) {
    for (u32 k = 0; k < sizeof shapes / sizeof *shapes; k++)
        if (mod(s, shapes[k].name)) return (int)k;
    ptx_fail(p, s->line, "this shape of wmma is not supported");
}
static bool input_known(Type t, int shape) {
    return shape == 4   ? t == T_F64
           : shape == 3 ? t == T_TF32
                        : t == T_F16 || t == T_BF16 || t == T_S8 || t == T_U8;
}

static u32 fragment(Parser *p, Stmt *s, const Operand *o, Opnd *to, u32 want, Type t, bool write) {
    Operand *items;
    u32 n = vector_of(p, s, o, &items);
    if (n != want) ptx_fail(p, s->line, "a fragment of %u registers where wmma takes %u", n, want);
    Type reg = t == T_F32 || t == T_F64 || t == T_S32 ? t : T_B32;
    for (u32 k = 0; k < n; k++)
        to[k] = write ? dest(p, s, &items[k], reg, false) : source(p, s, &items[k], reg);
    return n;
}

static void decode_move(Parser *p, Stmt *s, char which) {
    bool store = which == 'd', row = mod(s, "row"), col = mod(s, "col");
    int shape = shape_of(p, s);
    Space space = mod_space(s, S_GENERIC);
    Type t = mod_type(p, s);
    bool accumulator = which >= 'c';
    if (row == col ||
        (accumulator ? (t == T_F64) != (shape == 4) || (t != T_F64 && t != T_F32 && t != T_F16 && t != T_S32)
                     : !input_known(t, shape)))
        ptx_fail(p, s->line, "this form of wmma is not supported");
    operands_are(p, s, 2, 3);
    u32 rows, columns, n = registers(&shapes[shape], which, t);
    extent(&shapes[shape], which, &rows, &columns);
    Opnd all[20], d[16];
    i64 displacement;
    all[0] = address(p, s, &s->operands[!store], &space, &displacement);
    all[1] =
        s->noperands > 2 ? source(p, s, &s->operands[2], T_U32) : constant(p, T_U32, row ? columns : rows);
    fragment(p, s, &s->operands[store], store ? all + 2 : d, n, t, !store);
    Ins *i = new_ins(p, s);
    i->exec = exec_sync;
    i->act = act_move;
    i->aligned = true;
    i->rnd = store;
    i->vec = (u8)which;
    i->op = (u8)shape;
    i->type = (u8)t;
    i->bits = col;
    i->space = (u8)space;
    i->imm = displacement;
    set_sources(p, i, all, store ? n + 2 : 2);
    set_dests(p, i, d, store ? 0 : n);
}

static void decode_mma(Parser *p, Stmt *s) {
    for (int k = 0; k < 2; k++) /* the layouts of a and b: the fragments here are the same for both */
        if (!mod(s, "row") && !mod(s, "col")) ptx_fail(p, s->line, "wmma.mma lacks a layout");
    int shape = shape_of(p, s);
    Type t[4] = {mod_type(p, s), mod_type(p, s), mod_type_opt(s), mod_type_opt(s)}, td = t[0], ta = t[1],
         tc = t[3];
    if (t[2] == T_NONE)
        tc = t[1], ta = T_F16; /* .f16 is not named */
    else if (t[1] != t[2])
        ptx_fail(p, s->line, "wmma of two types");
    bool integer = ta == T_S8 || ta == T_U8, exact = integer || ta == T_F64, sat = mod(s, "satfinite");
    Type sum = integer ? T_S32 : T_F64; /* where there is but one */
    if (ta == T_F64) mod(s, "rn");
    if (!input_known(ta, shape) || (sat && !integer) ||
        (exact ? td != sum || tc != sum : (td != T_F32 && td != T_F16) || (tc != T_F32 && tc != T_F16)))
        ptx_fail(p, s->line, "wmma.mma of these types is not supported");
    operands_are(p, s, 4, 4);
    Opnd d[8], all[32];
    const Shape *sh = &shapes[shape];
    u32 n = 0, nd = fragment(p, s, &s->operands[0], d, registers(sh, 'd', td), td, true);
    n += fragment(p, s, &s->operands[1], all + n, registers(sh, 'a', ta), ta, false);
    n += fragment(p, s, &s->operands[2], all + n, registers(sh, 'b', ta), ta, false);
    n += fragment(p, s, &s->operands[3], all + n, registers(sh, 'c', tc), tc, false);
    Ins *i = new_ins(p, s);
    i->exec = exec_sync;
    i->act = act_mma;
    i->aligned = true;
    i->op = (u8)shape;
    i->sat = sat;
    i->type = (u8)ta, i->space = (u8)tc, i->space2 = (u8)td;
    set_dests(p, i, d, nd);
    set_sources(p, i, all, n);
}

static void decode_wmma(Parser *p, Stmt *s) {
    static const char *const matrices[] = {"a", "b", "c", "d", NULL};
    bool load = mod(s, "load"), store = !load && mod(s, "store"), multiply = !load && !store && mod(s, "mma");
    int which = multiply ? 0 : mod_of(s, matrices);
    if (!(load || store || multiply) || which < 0 || (!multiply && store != (which == 3)) ||
        !mod(s, "sync") || !mod(s, "aligned"))
        ptx_fail(p, s->line, "this form of wmma is not known");
    if (multiply)
        decode_mma(p, s);
    else
        decode_move(p, s, (char)('a' + which));
}

const Special decoders_wmma[] = {{"wmma", decode_wmma}, {0}};
