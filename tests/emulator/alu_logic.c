/* Logic and shifts (PTX ISA 9.7.8), byte permutation, selection. */
#include "alu.h"

K2(and_b, u32, u32, a &b)
K2(or_b, u32, u32, a | b)
K2(xor_b, u32, u32, a ^ b)
K2(and_b64, u64, u64, a &b)
K2(or_b64, u64, u64, a | b)
K2(xor_b64, u64, u64, a ^ b)
K1(not_b16, u32, u32, ~a & 0xffff)
K1(not_b32, u32, u32, ~a)
K1(not_b64, u64, u64, ~a)
K1(cnot_b, u32, u32, a == 0)
K1(cnot_b64, u64, u64, a == 0)

/* predicates: one word for all lanes */
#define PRED(name, expr)                                                                                     \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        u32 a = *(const u32 *)A_, b = B_ ? *(const u32 *)B_ : 0;                                             \
        (void)b;                                                                                             \
        *(u32 *)D = (expr);                                                                                  \
    }
PRED(and_p, a &b)
PRED(or_p, a | b)
PRED(xor_p, a ^ b)
PRED(not_p, ~a)

/* shift amounts are clamped to the width */
K2(shl_16, u32, u32, b > 15 ? 0 : a << b & 0xffff)
K2(shl_32, u32, u32, b > 31 ? 0 : a << b)
K2X(shl_64, u64, u64, u32, b > 63 ? 0 : a << b)
K2(shr_u16, u32, u32, b > 15 ? 0 : a >> b)
K2(shr_u32, u32, u32, b > 31 ? 0 : a >> b)
K2X(shr_u64, u64, u64, u32, b > 63 ? 0 : a >> b)
K2(shr_s16, u32, u32, (u16)((i16)a >> (b > 15 ? 15 : b)))
K2(shr_s32, u32, u32, (i32)a >> (b > 31 ? 31 : b))
K2X(shr_s64, u64, u64, u32, (i64)a >> (b > 63 ? 63 : b))
static u32 clamp32(u32 n) {
    return n > 32 ? 32 : n;
}
K3(shf_l_wrap, u32, u32, ((u64)b << 32 | a) << (c & 31) >> 32)
K3(shf_r_wrap, u32, u32, ((u64)b << 32 | a) >> (c & 31))
K3(shf_l_clamp, u32, u32, clamp32(c) == 32 ? a : ((u64)b << 32 | a) << c >> 32)
K3(shf_r_clamp, u32, u32, ((u64)b << 32 | a) >> clamp32(c))

/* lop3: bit i of the result is the table's bit (a_i, b_i, c_i) */
KERNEL(lop3) {
    UNUSED_ARGS;
    u32 *d = D, lut = (u32)ins->imm;
    const u32 *pa = A_, *pb = B_, *pc = C_;
    u32 m[8];
    for (int k = 0; k < 8; k++) m[k] = lut >> k & 1 ? FULL : 0;
    LANE_LOOP {
        u32 a = pa[l], b = pb[l], c = pc[l];
        d[l] = (m[0] & ~a & ~b & ~c) | (m[1] & ~a & ~b & c) | (m[2] & ~a & b & ~c) | (m[3] & ~a & b & c) |
               (m[4] & a & ~b & ~c) | (m[5] & a & ~b & c) | (m[6] & a & b & ~c) | (m[7] & a & b & c);
    }
}

/* ---- prmt ---- */
static u32 pick(u64 bytes, u32 selector) {
    u8 v = (u8)(bytes >> 8 * (selector & 7));
    return selector & 8 ? (v & 0x80 ? 0xff : 0) : v;
}
static u32 permute(u32 a, u32 b, u32 s) {
    u64 bytes = (u64)b << 32 | a;
    return pick(bytes, s) | pick(bytes, s >> 4) << 8 | pick(bytes, s >> 8) << 16 | pick(bytes, s >> 12) << 24;
}
/* the special modes as selectors, by the two low bits of c */
static const u16 f4e[] = {0x3210, 0x4321, 0x5432, 0x6543}, b4e[] = {0x5670, 0x6701, 0x7012, 0x0123},
                 rc8[] = {0x0000, 0x1111, 0x2222, 0x3333}, ecl[] = {0x3210, 0x3211, 0x3222, 0x3333},
                 ecr[] = {0x0000, 0x1110, 0x2210, 0x3210}, rc16[] = {0x1010, 0x3232, 0x1010, 0x3232};
K3(prmt, u32, u32, permute(a, b, c))
K3(prmt_f4e, u32, u32, permute(a, b, f4e[c & 3]))
K3(prmt_b4e, u32, u32, permute(a, b, b4e[c & 3]))
K3(prmt_rc8, u32, u32, permute(a, b, rc8[c & 3]))
K3(prmt_ecl, u32, u32, permute(a, b, ecl[c & 3]))
K3(prmt_ecr, u32, u32, permute(a, b, ecr[c & 3]))
K3(prmt_rc16, u32, u32, permute(a, b, rc16[c & 3]))

/* ---- selp, slct ---- */
#define SELP(name, T)                                                                                        \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        T *d = D;                                                                                            \
        const T *pa = A_, *pb = B_;                                                                          \
        u32 m = *(const u32 *)C_;                                                                            \
        LANE_LOOP d[l] = m >> l & 1 ? pa[l] : pb[l];                                                         \
    }
SELP(selp_32, u32)
SELP(selp_64, u64)
K3X(slct_s32, u32, u32, u32, i32, c >= 0 ? a : b)
K3X(slct_s64, u64, u64, u64, i32, c >= 0 ? a : b)
K3X(slct_f32, u32, u32, u32, float, c >= 0 ? a : b) /* -0 is not less than 0; a NaN selects b */
K3X(slct_f64, u64, u64, u64, float, c >= 0 ? a : b)
K3X(slct_ftz_f32, u32, u32, u32, float, c > -0x1p-126f ? a : b)
K3X(slct_ftz_f64, u64, u64, u64, float, c > -0x1p-126f ? a : b)

/* fns: the position of the n-th bit set, from base upwards (n > 0) or downwards (n < 0) */
static u32 nth_bit(u32 mask, u32 base, i32 n) {
    base &= 31;
    if (n == 0) return mask >> base & 1 ? base : FULL;
    i32 step = n > 0 ? 1 : -1;
    i64 left = n > 0 ? n : -(i64)n;
    for (i32 k = (i32)base; k >= 0 && k < 32; k += step)
        if (mask >> k & 1 && --left == 0) return (u32)k;
    return FULL;
}
K3(fns, u32, u32, nth_bit(a, b, (i32)c))

#define BITS(name, k, k64, kp)                                                                               \
    {name, "", T_B16, "dxy", k}, {name, "", T_B32, "dxy", k}, {name, "", T_B64, "dxy", k64}, {               \
        name, "", T_PRED, "dxy", kp                                                                          \
    }
#define SELECT(name, k, k64, c)                                                                              \
    {name, "", T_B16, c, k}, {name, "", T_U16, c, k}, {name, "", T_S16, c, k}, {name, "", T_B32, c, k},      \
        {name, "", T_U32, c, k}, {name, "", T_S32, c, k}, {name, "", T_F32, c, k},                           \
        {name, "", T_B64, c, k64}, {name, "", T_U64, c, k64}, {name, "", T_S64, c, k64}, {                   \
        name, "", T_F64, c, k64                                                                              \
    }

const Row rows_logic[] = {BITS("and", and_b, and_b64, and_p),
                          BITS("or", or_b, or_b64, or_p),
                          BITS("xor", xor_b, xor_b64, xor_p),
                          {"not", "", T_B16, "dx", not_b16},
                          {"not", "", T_B32, "dx", not_b32},
                          {"not", "", T_B64, "dx", not_b64},
                          {"not", "", T_PRED, "dx", not_p},
                          {"cnot", "", T_B16, "dx", cnot_b},
                          {"cnot", "", T_B32, "dx", cnot_b},
                          {"cnot", "", T_B64, "dx", cnot_b64},
                          {"shl", "", T_B16, "dxu", shl_16},
                          {"shl", "", T_B32, "dxu", shl_32},
                          {"shl", "", T_B64, "dxu", shl_64},
                          {"shr", "", T_B16, "dxu", shr_u16},
                          {"shr", "", T_B32, "dxu", shr_u32},
                          {"shr", "", T_B64, "dxu", shr_u64},
                          {"shr", "", T_U16, "dxu", shr_u16},
                          {"shr", "", T_U32, "dxu", shr_u32},
                          {"shr", "", T_U64, "dxu", shr_u64},
                          {"shr", "", T_S16, "dxu", shr_s16},
                          {"shr", "", T_S32, "dxu", shr_s32},
                          {"shr", "", T_S64, "dxu", shr_s64},
                          {"shf.l.wrap", "", T_B32, "dxyu", shf_l_wrap},
                          {"shf.r.wrap", "", T_B32, "dxyu", shf_r_wrap},
                          {"shf.l.clamp", "", T_B32, "dxyu", shf_l_clamp},
                          {"shf.r.clamp", "", T_B32, "dxyu", shf_r_clamp},
                          {"lop3", "", T_B32, "dxyzi", lop3},
                          {"prmt", "", T_B32, "dxyu", prmt},
                          {"prmt.f4e", "", T_B32, "dxyu", prmt_f4e},
                          {"prmt.b4e", "", T_B32, "dxyu", prmt_b4e},
                          {"prmt.rc8", "", T_B32, "dxyu", prmt_rc8},
                          {"prmt.ecl", "", T_B32, "dxyu", prmt_ecl},
                          {"prmt.ecr", "", T_B32, "dxyu", prmt_ecr},
                          {"prmt.rc16", "", T_B32, "dxyu", prmt_rc16},
                          SELECT("selp", selp_32, selp_64, "dxyp"),
                          SELECT("slct.s32", slct_s32, slct_s64, "dxys"),
                          SELECT("slct.f32", slct_f32, slct_f64, "dxyf"),
                          SELECT("slct.ftz.f32", slct_ftz_f32, slct_ftz_f64, "dxyf"),
                          {"fns", "", T_B32, "dxus", fns},
                          {0}};
