/* cvt: between integers and floats of every width, with rounding, saturation, relu; and the packed forms. */
#include "alu.h"
#include "real.h"
#include "warp.h"
#include <math.h>
#include <string.h>

static i64 read_int(const void *a, int l, Type t) {
    switch (t) {
    case T_S8:
        return (int8_t)((const u32 *)a)[l];
    case T_U8:
    case T_B8:
        return (u8)((const u32 *)a)[l];
    case T_S16:
        return (i16)((const u32 *)a)[l];
    case T_U16:
    case T_B16:
        return (u16)((const u32 *)a)[l];
    case T_S32:
        return (i32)((const u32 *)a)[l];
    case T_U32:
    case T_B32:
        return ((const u32 *)a)[l];
    default:
        return ((const i64 *)a)[l];
    }
}
static u32 bits_of(Type t) {
    return type_size(t) * 8;
}
static i64 lowest(Type t) {
    return !type_signed(t) ? 0 : bits_of(t) == 64 ? INT64_MIN : -(1ll << (bits_of(t) - 1));
}
static u64 highest(Type t) {
    return type_signed(t)     ? (1ull << (bits_of(t) - 1)) - 1
           : bits_of(t) == 64 ? UINT64_MAX
                              : (1ull << bits_of(t)) - 1;
}

/* a value into a register of rn bytes: the type's low bits, extended by its sign when the register is wider
 */
static void put(void *d, const Ins *i, int l, u64 v) {
    Type t = (Type)i->type;
    if (bits_of(t) < 64) {
        v &= (1ull << bits_of(t)) - 1;
        if (type_signed(t) && v >> (bits_of(t) - 1)) v |= ~((1ull << bits_of(t)) - 1);
    }
    if (wide(i->d))
        ((u64 *)d)[l] = v;
    else if (type_size((Type)i->d->type) == 2)
        ((u32 *)d)[l] = (u16)v;
    else if (type_size((Type)i->d->type) == 1)
        ((u32 *)d)[l] = (u8)v;
    else
        ((u32 *)d)[l] = (u32)v;
}

KERNEL(int_to_int) {
    (void)B_, (void)C_;
    Type from = (Type)ins->type2, to = (Type)ins->type;
    for (int l = 0; l < LANES; l++) {
        i64 v = read_int(A_, l, from);
        bool big = !type_signed(from) && v < 0; /* beyond INT64_MAX */
        if (ins->sat) {
            if (!big && v < lowest(to))
                v = lowest(to);
            else if ((big || v > 0) && (u64)v > highest(to))
                v = (i64)highest(to);
        }
        put(D, ins, l, (u64)v);
    }
}

static double integral(double v, int rounding) {
    switch (rounding) {
    case R_RZI:
        return trunc(v);
    case R_RMI:
        return floor(v);
    case R_RPI:
        return ceil(v);
    default:
        return nearbyint(v); /* the processor rounds to nearest even */
    }
}

static double read_float(const void *a, int l, const Ins *i) {
    double v;
    switch (i->type2) {
    case T_F64:
        return ((const double *)a)[l];
    case T_F16:
        v = f16_to_double(((const u32 *)a)[l]);
        break;
    case T_BF16:
        v = bf16_to_float(((const u32 *)a)[l] & 0xffff);
        break;
    default:
        v = ((const float *)a)[l];
    }
    return i->ftz && i->type2 == T_F32 && fabs(v) < 0x1p-126 ? copysign(0, v) : v;
}

KERNEL(float_to_int) { /* always saturates; a NaN of or to 64 bits becomes the top bit, others 0 */
    (void)B_, (void)C_;
    Type to = (Type)ins->type;
    double top = type_signed(to) ? ldexp(1, (int)bits_of(to) - 1) : ldexp(1, (int)bits_of(to));
    for (int l = 0; l < LANES; l++) {
        double v = integral(read_float(A_, l, ins), ins->rnd);
        u64 r;
        if (v != v)
            r = ins->type2 == T_F64 || bits_of(to) == 64 ? 1ull << (bits_of(to) - 1) : 0;
        else if (v >= top)
            r = highest(to);
        else if (v < (double)lowest(to))
            r = (u64)lowest(to);
        else
            r = type_signed(to) ? (u64)(i64)v : (u64)v;
        put(D, ins, l, r);
    }
}

static double read_exact(const void *a, int l, Type t,
                         double *rest) { /* an integer as the sum of two doubles */
    i64 v = read_int(a, l, t);
    bool big = t == T_U64 && v < 0;
    double high = big ? (double)((u64)v >> 11 << 11) : (double)(v / 2048 * 2048);
    *rest = big ? (double)((u64)v & 2047) : (double)(v % 2048);
    return high;
}

/* To .f16 and .bf16: to double first, rounded to odd so that the second rounding is exact. */
static double odd_sum(double high, double rest) {
    return fma_odd(high, 1, rest);
}

static u32 store_small(double v, const Ins *i, Type to) {
    const Format *f = to == T_BF16 ? &bf16_format : to == T_TF32 ? &tf32_format : &f16_format;
    int rounding = i->rnd == R_RZ ? R_RZ : i->rnd == R_RNA ? R_RNA : R_RN;
    if (i->bits & 1 && !(v > 0) && v == v) v = 0; /* relu */
    if (i->sat) v = v > 0 ? (v < 1 ? v : 1) : 0;
    u32 r = narrow(v, f, rounding, i->bits & 2);
    if (i->rnd == R_RM || i->rnd == R_RP) { /* directed: the neighbour that lies there */
        double got = widen(r = narrow(v, f, R_RZ, false), f);
        if ((i->rnd == R_RM && got > v) || (i->rnd == R_RP && got < v)) r++;
    }
    return to == T_TF32 ? r << 13 : r;
}

static void store_float(void *d, int l, double v, const Ins *i) {
    switch (i->type) {
    case T_F64:
        ((double *)d)[l] = i->sat ? (v > 0 ? (v < 1 ? v : 1) : 0) : v;
        return;
    case T_F32: {
        float f = canon((float)v); /* rounded as the control word says */
        if (i->ftz) f = flush(f);
        if (i->bits & 1) f = f < 0 ? 0 : f;
        ((float *)d)[l] = f; /* .sat: by the caller */
        return;
    }
    default:
        ((u32 *)d)[l] = store_small(v, i, (Type)i->type);
    }
}

KERNEL(int_to_float) {
    (void)B_, (void)C_;
    Type from = (Type)ins->type2;
    for (int l = 0; l < LANES; l++) {
        i64 v = read_int(A_, l, from);
        if (ins->type == T_F32)
            ((float *)D)[l] = from == T_U64 ? (float)(u64)v : (float)v;
        else if (ins->type == T_F64)
            store_float(D, l, from == T_U64 ? (double)(u64)v : (double)v, ins);
        else {
            double rest, high = read_exact(A_, l, from, &rest);
            store_float(D, l, odd_sum(high, rest), ins);
        }
    }
}

KERNEL(float_to_float) {
    (void)B_, (void)C_;
    bool whole = ins->rnd >= R_RNI;
    for (int l = 0; l < LANES; l++) {
        double v = read_float(A_, l, ins);
        store_float(D, l, whole ? integral(v, ins->rnd) : v, ins);
    }
}

/* the common ones */
K1X(f32_to_bf16, u32, float, float_to_bf16(a))
K1X(bf16_to_f32, float, u32, bf16_to_float(a & 0xffff))
K1X(s32_to_f32, float, i32, (float)a)
K1X(u32_to_f32, float, u32, (float)a)
K1X(u32_to_u64, u64, u32, a)
K1X(s32_to_s64, u64, i32, (i64)a)
K1X(u64_to_u32, u32, u64, a)
K2X(pair_to_bf16x2, u32, float, float, float_to_bf16(a) << 16 | float_to_bf16(b))

static Kernel *quick(const Ins *i) {
    Type to = (Type)i->type, from = (Type)i->type2;
    if (i->sat || i->ftz || i->bits) return NULL;
    bool same_width = type_size((Type)i->d->type) == type_size(to);
    if (to == T_BF16 && from == T_F32 && i->rnd == R_RN) return f32_to_bf16;
    if (to == T_F32 && from == T_BF16 && i->rnd < R_RNI) return bf16_to_f32;
    if (to == T_F32 && from == T_S32) return s32_to_f32;
    if (to == T_F32 && from == T_U32) return u32_to_f32;
    if (type_size(to) == 8 && from == T_U32 && !type_float(to)) return u32_to_u64;
    if (type_size(to) == 8 && from == T_S32 && !type_float(to)) return s32_to_s64;
    if (type_size(to) == 4 && same_width && type_size(from) == 8 && !type_float(to) && !type_float(from))
        return u64_to_u32;
    return NULL;
}

/* two f32 into one packed register, a above b */
KERNEL(pack_floats) {
    (void)C_;
    u32 *d = D;
    Type small = ins->type == T_F16X2 ? T_F16 : T_BF16;
    for (int l = 0; l < LANES; l++) {
        Ins one = *ins;
        u32 high = store_small(((const float *)A_)[l], &one, small),
            low = store_small(((const float *)B_)[l], &one, small);
        d[l] = high << 16 | low;
    }
}
static const Format *eighth(Type t) {
    return t == T_E4M3X2 ? &e4m3_format : &e5m2_format;
}
static double rectified(double v, const Ins *i) {
    return i->bits & 1 && v <= 0 ? 0 : v; /* -0 becomes 0 */
}
KERNEL(pack_bytes) { /* cvt.rn.satfinite.e4m3x2.f32 d, a, b */
    (void)C_;
    const Format *f = eighth((Type)ins->type);
    for (int l = 0; l < LANES; l++)
        ((u32 *)D)[l] = narrow(rectified(((const float *)A_)[l], ins), f, R_RN, true) << 8 |
                        narrow(rectified(((const float *)B_)[l], ins), f, R_RN, true);
}
KERNEL(halves_to_bytes) {
    (void)B_, (void)C_;
    const Format *f = eighth((Type)ins->type);
    for (int l = 0; l < LANES; l++) {
        u32 v = ((const u32 *)A_)[l];
        ((u32 *)D)[l] = narrow(rectified(f16_to_double(v >> 16), ins), f, R_RN, true) << 8 |
                        narrow(rectified(f16_to_double(v), ins), f, R_RN, true);
    }
}
KERNEL(bytes_to_halves) {
    (void)B_, (void)C_;
    const Format *f = eighth((Type)ins->type2);
    for (int l = 0; l < LANES; l++) {
        u32 v = ((const u32 *)A_)[l];
        ((u32 *)D)[l] = double_to_f16(rectified(widen(v >> 8 & 0xff, f), ins)) << 16 |
                        double_to_f16(rectified(widen(v & 0xff, f), ins));
    }
}

static bool packed(Type t) {
    return t == T_F16X2 || t == T_BF16X2 || t == T_E4M3X2 || t == T_E5M2X2;
}

static void decode_packed(Parser *p, Stmt *s, Ins proto) {
    Type to = (Type)proto.type, from = (Type)proto.type2;
    bool eight = to == T_E4M3X2 || to == T_E5M2X2, up = from == T_E4M3X2 || from == T_E5M2X2,
         two = from == T_F32;
    if (proto.rnd != R_RN && !(proto.rnd == R_RZ && two && !eight))
        ptx_fail(p, s->line, "this rounding of a packed cvt is not supported");
    if (!(two || (eight && from == T_F16X2) || (up && to == T_F16X2)) || proto.sat || proto.ftz ||
        (eight && !(proto.bits & 2)))
        ptx_fail(p, s->line, "cvt.%s.%s in this form is not supported", type_name(to), type_name(from));
    operands_are(p, s, two ? 3 : 2, two ? 3 : 2);
    Opnd d = dest(p, s, &s->operands[0], eight ? T_B16 : to, false), a[2];
    a[0] = source(p, s, &s->operands[1], up ? T_B16 : from);
    if (two) a[1] = source(p, s, &s->operands[2], from);
    Ins *i = new_ins(p, s);
    i->type = proto.type, i->type2 = proto.type2, i->rnd = proto.rnd, i->bits = proto.bits;
    i->kernel = up ? bytes_to_halves : !eight ? pack_floats : two ? pack_bytes : halves_to_bytes;
    if (to == T_BF16X2 && proto.rnd == R_RN && !proto.bits) i->kernel = pair_to_bf16x2;
    set_dests(p, i, &d, 1);
    set_sources(p, i, a, two ? 2 : 1);
}

/* A narrow value in a register of 64 bits: its low half first. */
static Opnd low_half(Parser *p, const Stmt *s, Opnd a, Type from) {
    if (a.imm || !wide(&a) || type_size(from) == 8) return a;
    Opnd low = new_register(p, T_B32);
    Ins *i = new_ins(p, s);
    i->kernel = u64_to_u32;
    set_dests(p, i, &low, 1);
    set_sources(p, i, &a, 1);
    return low;
}

static void check_rounding(Parser *p, Stmt *s, Type to, Type from, int rounding) {
    bool tf = type_float(to), ff = type_float(from);
    bool narrows =
        tf && (!ff || type_size(to) < type_size(from) || to == T_TF32 || (to != from && type_size(to) == 2));
    if (!tf && !ff && rounding) ptx_fail(p, s->line, "cvt between integers does not round");
    if (!tf && ff && rounding < R_RNI)
        ptx_fail(p, s->line, "cvt to an integer needs .rni, .rzi, .rmi or .rpi");
    if (narrows && !rounding)
        ptx_fail(p, s->line, "cvt.%s.%s needs a rounding", type_name(to), type_name(from));
    if (tf && !narrows && rounding && rounding < R_RNI)
        ptx_fail(p, s->line, "cvt.%s.%s does not round", type_name(to), type_name(from));
    if (rounding == R_RNA && to != T_TF32) ptx_fail(p, s->line, ".rna is for .tf32");
}

static void decode_cvt(Parser *p, Stmt *s) {
    Ins proto = {0};
    if (mod(s, "pack")) { /* a row of the tables */
        decode_alu(p, s);
        return;
    }
    int rounding = mod_rounding(s);
    proto.rnd = (u8)rounding;
    proto.ftz = mod(s, "ftz");
    proto.sat = mod(s, "sat");
    proto.bits = (u8)(mod(s, "relu") | mod(s, "satfinite") << 1);
    Type to = mod_type(p, s), from = mod_type(p, s);
    proto.type = (u8)to, proto.type2 = (u8)from;
    if (packed(to) || packed(from)) {
        decode_packed(p, s, proto);
        return;
    }
    if (to == T_PRED || from == T_PRED || from == T_TF32 || !type_size(to) || type_untyped(to) ||
        type_untyped(from) || type_size(to) > 8)
        ptx_fail(p, s->line, "cvt.%s.%s does not exist", type_name(to), type_name(from));
    if (proto.ftz && from != T_F32 && to != T_F32) ptx_fail(p, s->line, ".ftz is for .f32");
    if (proto.bits && type_size(to) > 2 && to != T_TF32)
        ptx_fail(p, s->line, ".relu and .satfinite are for narrow floats");
    check_rounding(p, s, to, from, rounding);
    operands_are(p, s, 2, 2);
    Opnd d = dest(p, s, &s->operands[0], to == T_TF32 ? T_B32 : to, !type_float(to)),
         a = low_half(p, s, source_any(p, s, &s->operands[1], from), from);
    Ins *i = new_ins(p, s);
    i->type = (u8)to, i->type2 = (u8)from, i->rnd = (u8)rounding, i->ftz = proto.ftz, i->sat = proto.sat,
    i->bits = proto.bits;
    set_dests(p, i, &d, 1);
    set_sources(p, i, &a, 1);
    bool tf = type_float(to), ff = type_float(from);
    i->kernel = quick(i);
    if (!i->kernel) i->kernel = tf ? (ff ? float_to_float : int_to_float) : ff ? float_to_int : int_to_int;
    if (rounding && rounding <= R_RP && (to == T_F32 || to == T_F64)) i->csr = csr_of(rounding, false);
}

const Special decoders_convert[] = {{"cvt", decode_cvt}, {0}};
