/* Video instructions (PTX ISA 9.7.15 and 9.7.16): on a part of a word, on both halves or on all four bytes;
 * the result is merged into c, or adds to it, or is compared with it. */
#include "alu.h"
#include <string.h>

enum { V_ADD, V_SUB, V_ABSDIFF, V_MIN, V_MAX, V_SHL, V_SHR, V_AVRG, V_SET, V_MAD };
enum { S_NO_SECOND, SECOND_ADD, SECOND_MIN, SECOND_MAX };
enum { EQ, NE, LT, LE, GT, GE };

typedef struct Video {
    u8 op, second, cmp;
    u8 bits, count; /* of an element, and how many there are: 32 1, 16 2, 8 4; what is merged is narrower */
    u8 a_bits, b_bits;   /* of a source's part */
    u8 a[4], b[4];       /* element k is this part; SIMD: of a and b together */
    u8 mask;             /* elements of the result; the others are c's */
    u8 part;             /* scalar: which part of c the result replaces */
    u8 part_bits, shift; /* 32: no merge; .shr7, .shr15 of vmad */
    bool sat, wrap, po, d_signed, a_signed, b_signed;
} Video;

static i64 extract(u64 word, u32 part, u32 bits, bool is_signed) {
    u64 v = word >> bits * part << (64 - bits);
    return is_signed ? (i64)v >> (64 - bits) : (i64)(v >> (64 - bits));
}
static i64 clamp(i64 v, u32 bits, bool is_signed) {
    i64 low = is_signed ? -(1ll << (bits - 1)) : 0, high = (1ll << (is_signed ? bits - 1 : bits)) - 1;
    return v < low ? low : v > high ? high : v;
}
static bool compare(i64 a, i64 b, u32 cmp) {
    switch (cmp) {
    case EQ:
        return a == b;
    case NE:
        return a != b;
    case LT:
        return a < b;
    case LE:
        return a <= b;
    case GT:
        return a > b;
    default:
        return a >= b;
    }
}

static i64 element(const Video *v, i64 a, i64 b) {
    i64 n = v->wrap ? b & 31 : b > 32 ? 32 : b;
    switch (v->op) {
    case V_ADD:
        return a + b;
    case V_SUB:
        return a - b;
    case V_ABSDIFF:
        return a < b ? b - a : a - b;
    case V_MIN:
        return a < b ? a : b;
    case V_MAX:
        return a > b ? a : b;
    case V_SHL:
        return (i64)((u64)a << n);
    case V_SHR:
        return a >> n;
    case V_AVRG:
        return (a + b + (a + b >= 0)) >> 1;
    default:
        return compare(a, b, v->cmp);
    }
}

static u32 scalar(const Video *v, u32 a, u32 b, u32 c) {
    i64 t =
        element(v, extract(a, v->a[0], v->a_bits, v->a_signed), extract(b, v->b[0], v->b_bits, v->b_signed));
    if (v->sat) t = clamp(t, v->part_bits, v->d_signed);
    u32 r = (u32)t, shift = v->part_bits * v->part;
    bool less = v->d_signed ? (i32)r < (i32)c : r < c;
    switch (v->second) {
    case SECOND_ADD:
        return r + c;
    case SECOND_MIN:
        return less ? r : c;
    case SECOND_MAX:
        return less ? c : r;
    default:
        if (v->part_bits == 32) return r;
        u32 place = ((1u << v->part_bits) - 1) << shift;
        return (r << shift & place) | (c & ~place);
    }
}

static u32 parallel(const Video *v, u32 a, u32 b, u32 c) {
    u64 both = (u64)b << 32 | a;
    u32 ones = (u32)((1ull << v->bits) - 1), r = v->second ? c : 0;
    for (u32 k = 0; k < v->count; k++) {
        u32 shift = v->bits * k;
        bool chosen = v->mask >> k & 1;
        i64 t = element(v, extract(both, v->a[k], v->bits, v->a_signed),
                        extract(both, v->b[k], v->bits, v->b_signed));
        if (v->sat) t = clamp(t, v->bits, v->d_signed);
        if (v->second)
            r += chosen ? (u32)t : 0;
        else
            r |= chosen ? ((u32)t & ones) << shift : c & ones << shift;
    }
    return r;
}

/* a * b + c (+ 1), shifted; of 64 bits and a little, as the sources have 32. */
static u32 multiply(const Video *v, u32 a, u32 b, u32 c) {
    __extension__ typedef __int128 wide_int;
    bool is_signed = v->a_signed || v->b_signed;
    wide_int t =
        (wide_int)extract(a, v->a[0], v->a_bits, v->a_signed) * extract(b, v->b[0], v->b_bits, v->b_signed);
    t += is_signed ? (wide_int)(i32)c : (wide_int)c;
    i64 r = (i64)((t + v->po) >> v->shift);
    if (!v->sat) return (u32)r;
    return !is_signed && r < 0 ? UINT32_MAX : (u32)clamp(r, 32, is_signed); /* beyond INT64_MAX */
}

KERNEL(video) {
    const Video *v = (const Video *)ins->targets;
    u32 *d = D;
    const u32 *a = A_, *b = B_, *c = C_;
    for (int l = 0; l < LANES; l++) {
        u32 third = c ? c[l] : 0;
        d[l] = v->op == V_MAD ? multiply(v, a[l], b[l], third)
               : v->count > 1 ? parallel(v, a[l], b[l], third)
                              : scalar(v, a[l], b[l], third);
    }
}

/* ---- decoding ---- */
static const struct {
    const char *name;
    u8 op;
} ops[] = {{"vadd", V_ADD}, {"vsub", V_SUB}, {"vabsdiff", V_ABSDIFF}, {"vmin", V_MIN}, {"vmax", V_MAX},
           {"vshl", V_SHL}, {"vshr", V_SHR}, {"vavrg", V_AVRG},       {"vset", V_SET}, {"vmad", V_MAD}};

static bool take_sign(Parser *p, Stmt *s) {
    Type t = mod_type(p, s);
    if (t != T_U32 && t != T_S32) ptx_fail(p, s->line, "'%s' is for .u32 and .s32", s->op);
    return t == T_S32;
}

/* The digits of "b3210" or "h1", the last one first; their number. *bits: of the parts they name. */
static u32 parts_of(Parser *p, Stmt *s, const char *text, u32 most, u8 *digits, u8 *bits) {
    u32 n = (u32)strlen(text) - 1, width = text[0] == 'b' ? 8 : 16;
    if (!n || n > most) ptx_fail(p, s->line, "'%s' selects no part '.%s'", s->op, text);
    for (u32 k = 0; k < n; k++) {
        u32 digit = (u32)(text[n - k] - '0');
        if (digit >= (most > 1 ? 64 : 32) / width)
            ptx_fail(p, s->line, "'%s' selects no part '.%s'", s->op, text);
        digits[k] = (u8)digit;
    }
    *bits = (u8)width;
    return n;
}

/* Takes a part off an operand, which is an ordinary one then. */
static void take_source(Parser *p, Stmt *s, Operand *o, Video *v, u8 *digits, u8 *bits, u32 first) {
    *bits = v->bits;
    for (u32 k = 0; k < v->count; k++) digits[k] = (u8)(first + k);
    if (!o->part) return;
    u32 n = parts_of(p, s, o->part, v->count, digits, bits);
    if (v->count > 1 && (n != v->count || *bits != v->bits))
        ptx_fail(p, s->line, "'%s' needs a selection for all its parts", s->op);
    o->part = NULL;
}
static void take_destination(Parser *p, Stmt *s, Operand *o, Video *v) {
    v->part_bits = 32;
    v->mask = (u8)((1u << v->count) - 1);
    if (!o->part) return;
    u8 digits[4], bits;
    u32 n = parts_of(p, s, o->part, v->count, digits, &bits);
    o->part = NULL;
    if (v->count == 1) {
        v->part = digits[0], v->part_bits = bits;
        return;
    }
    v->mask = 0;
    for (u32 k = 0; k < n; k++) {
        if (digits[k] >= v->count || (k && digits[k] <= digits[k - 1]) || bits != v->bits)
            ptx_fail(p, s->line, "this mask of '%s' is not known", s->op);
        v->mask |= (u8)(1u << digits[k]);
    }
}

static void decode_video(Parser *p, Stmt *s) {
    static const char *const seconds[] = {"add", "min", "max", NULL}, *const cmps[] = {"eq", "ne", "lt", "le",
                                                                                       "gt", "ge", NULL};
    Video *v = pool_alloc(&p->m->pool, sizeof *v);
    size_t length = strlen(s->op);
    char last = s->op[length - 1];
    v->count = last == '2' ? 2 : last == '4' ? 4 : 1;
    v->bits = (u8)(32 / v->count);
    for (u32 k = 0; k < sizeof ops / sizeof *ops; k++)
        if (strlen(ops[k].name) == length - (v->count > 1) &&
            !strncmp(ops[k].name, s->op, length - (v->count > 1)))
            v->op = ops[k].op;
    bool shift = v->op == V_SHL || v->op == V_SHR, mad = v->op == V_MAD;
    if (v->op != V_SET) v->d_signed = take_sign(p, s);
    v->a_signed = take_sign(p, s), v->b_signed = take_sign(p, s);
    if (shift && v->b_signed) ptx_fail(p, s->line, "'%s' shifts by .u32", s->op);
    if (v->op == V_SET) {
        int cmp = mod_of(s, cmps);
        if (cmp < 0) ptx_fail(p, s->line, "'%s' lacks its comparison", s->op);
        v->cmp = (u8)cmp;
    } else
        v->sat = mod(s, "sat");
    if (shift && !(v->wrap = mod(s, "wrap")) && !mod(s, "clamp"))
        ptx_fail(p, s->line, "'%s' lacks its mode", s->op);
    if (mad) {
        v->po = mod(s, "po");
        v->shift = mod(s, "shr7") ? 7 : mod(s, "shr15") ? 15 : 0;
    } else
        v->second = (u8)(mod_of(s, seconds) + 1);
    if (v->count > 1 && (v->second > SECOND_ADD || (v->second && v->sat)))
        ptx_fail(p, s->line, "this second operation of '%s' is not known", s->op);
    operands_are(p, s, 3, 4);
    Operand *o = s->operands;
    take_destination(p, s, &o[0], v);
    take_source(p, s, &o[1], v, v->a, &v->a_bits, 0);
    take_source(p, s, &o[2], v, v->b, &v->b_bits, v->count > 1 ? v->count : 0);
    bool three = v->count > 1 || mad || v->second || v->part_bits < 32;
    if (s->noperands != (three ? 4u : 3u) || (v->part_bits < 32 && (v->second || mad)))
        ptx_fail(p, s->line, "'%s' in this form takes other operands", s->op);
    Opnd d = dest(p, s, &o[0], T_B32, false), a[3];
    for (u32 k = 1; k < s->noperands; k++) a[k - 1] = source(p, s, &o[k], T_B32);
    Ins *i = new_ins(p, s);
    i->kernel = video;
    i->targets = (const u32 *)v;
    set_dests(p, i, &d, 1);
    set_sources(p, i, a, s->noperands - 1);
}

const Special decoders_video[] = {
    {"vadd", decode_video},      {"vsub", decode_video},      {"vabsdiff", decode_video},
    {"vmin", decode_video},      {"vmax", decode_video},      {"vshl", decode_video},
    {"vshr", decode_video},      {"vset", decode_video},      {"vmad", decode_video},
    {"vadd2", decode_video},     {"vsub2", decode_video},     {"vavrg2", decode_video},
    {"vabsdiff2", decode_video}, {"vmin2", decode_video},     {"vmax2", decode_video},
    {"vset2", decode_video},     {"vadd4", decode_video},     {"vsub4", decode_video},
    {"vavrg4", decode_video},    {"vabsdiff4", decode_video}, {"vmin4", decode_video},
    {"vmax4", decode_video},     {"vset4", decode_video},     {0}};
