/* Integer arithmetic: PTX ISA 9.7.1 and 9.7.2 (extended precision is in exec_carry.c). */
#include "alu.h"

/* ---- every width: U unsigned, S signed, C container, W one that holds the product ---- */
#define ALL_WIDTHS(bits, C, U, S)                                                                            \
    K2(add_##bits, C, U, (U)(a + b))                                                                         \
    K2(sub_##bits, C, U, (U)(a - b))                                                                         \
    K2(mul_lo_##bits, C, U, (U)((u64)a * b))                                                                 \
    K3(mad_lo_##bits, C, U, (U)((u64)a * b + c))                                                             \
    K2(div_u##bits, C, U, (U)(b ? a / b : (U)-1))                                                            \
    K2(rem_u##bits, C, U, (U)(b ? a % b : a))                                                                \
    K2(div_s##bits, C, S, (U)(!b ? (S)-1 : b == -1 ? (S)(0 - (U)a) : a / b))                                 \
    K2(rem_s##bits, C, S, (U)(!b ? a : b == -1 ? 0 : a % b))                                                 \
    K1(abs_s##bits, C, S, (U)(a < 0 ? (U)(0 - (U)a) : (U)a))                                                 \
    K1(neg_s##bits, C, U, (U)(0 - a))                                                                        \
    K2(min_u##bits, C, U, a < b ? a : b)                                                                     \
    K2(max_u##bits, C, U, a > b ? a : b)                                                                     \
    K2(min_s##bits, C, S, (U)(a < b ? a : b))                                                                \
    K2(max_s##bits, C, S, (U)(a > b ? a : b))                                                                \
    K3(sad_u##bits, C, U, (U)(c + (a < b ? b - a : a - b)))                                                  \
    K3(sad_s##bits, C, S, (U)((U)c + (a < b ? (U)b - (U)a : (U)a - (U)b)))
ALL_WIDTHS(16, u32, u16, i16)
ALL_WIDTHS(32, u32, u32, i32)
ALL_WIDTHS(64, u64, u64, i64)

K2(min_relu_s32, u32, i32, (a < b ? a : b) < 0 ? 0 : (a < b ? a : b))
K2(max_relu_s32, u32, i32, (a > b ? a : b) < 0 ? 0 : (a > b ? a : b))

/* ---- products ---- */
static u64 high_u64(u64 a, u64 b) {
    return (u64)((__uint128_t)a * b >> 64);
}
__extension__ typedef __int128 wide_int;
static u64 high_s64(u64 a, u64 b) {
    return (u64)((wide_int)(i64)a * (i64)b >> 64);
}
K2(mul_hi_u16, u32, u16, (u16)((u32)a *b >> 16))
K2(mul_hi_s16, u32, i16, (u16)((i32)a *b >> 16))
K2(mul_hi_u32, u32, u32, (u64)a *b >> 32)
K2(mul_hi_s32, u32, i32, (u64)((i64)a *b) >> 32)
K2(mul_hi_u64, u64, u64, high_u64(a, b))
K2(mul_hi_s64, u64, u64, high_s64(a, b))
K3(mad_hi_u16, u32, u16, (u16)(((u32)a * b >> 16) + c))
K3(mad_hi_s16, u32, i16, (u16)(((i32)a * b >> 16) + c))
K3(mad_hi_u32, u32, u32, (u32)((u64)a *b >> 32) + c)
K3(mad_hi_s32, u32, i32, (u32)((u64)((i64)a *b) >> 32) + (u32)c)
K3(mad_hi_u64, u64, u64, high_u64(a, b) + c)
K3(mad_hi_s64, u64, u64, high_s64(a, b) + c)
static i64 clamp_s32(i64 v) {
    return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v;
}
K3(mad_hi_sat_s32, u32, i32, (u32)clamp_s32(((i64)a * b >> 32) + c))
K2(mul_wide_u16, u32, u16, (u32)a *b)
K2(mul_wide_s16, u32, i16, (i32)a *b)
K2X(mul_wide_u32, u64, u32, u32, (u64)a *b)
K2X(mul_wide_s32, u64, i32, i32, (i64)a *b)
K3X(mad_wide_u16, u32, u32, u32, u32, (u32)(u16)a *(u16)b + c)
K3X(mad_wide_s16, u32, u32, u32, u32, (u32)((i32)(i16)a *(i16)b) + c)
K3X(mad_wide_u32, u64, u32, u32, u64, (u64)a *b + c)
K3X(mad_wide_s32, u64, i32, i32, u64, (u64)((i64)a *b) + c)
K2(add_sat_s32, u32, i32, clamp_s32((i64)a + b))
K2(sub_sat_s32, u32, i32, clamp_s32((i64)a - b))
#define LOW24(v)    ((v)&0xffffffu)
#define SIGNED24(v) ((i64)((i32)((u32)(v) << 8) >> 8))
K2(mul24_lo_u32, u32, u32, (u64)LOW24(a) * LOW24(b))
K2(mul24_lo_s32, u32, u32, SIGNED24(a) * SIGNED24(b))
K2(mul24_hi_u32, u32, u32, (u64)LOW24(a) * LOW24(b) >> 16)
K2(mul24_hi_s32, u32, u32, SIGNED24(a) * SIGNED24(b) >> 16)
K3(mad24_lo_u32, u32, u32, (u64)LOW24(a) * LOW24(b) + c)
K3(mad24_lo_s32, u32, u32, (u64)(SIGNED24(a) * SIGNED24(b)) + c)
K3(mad24_hi_u32, u32, u32, ((u64)LOW24(a) * LOW24(b) >> 16) + c)
K3(mad24_hi_s32, u32, u32, (u64)(SIGNED24(a) * SIGNED24(b) >> 16) + c)
K3(mad24_hi_sat_s32, u32, u32, clamp_s32((SIGNED24(a) * SIGNED24(b) >> 16) + (i32)c))

/* ---- bits ---- */
static u32 reverse32(u32 v) {
    v = (v >> 1 & 0x55555555u) | (v & 0x55555555u) << 1;
    v = (v >> 2 & 0x33333333u) | (v & 0x33333333u) << 2;
    v = (v >> 4 & 0x0f0f0f0fu) | (v & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(v);
}
static u64 reverse64(u64 v) {
    return (u64)reverse32((u32)v) << 32 | reverse32((u32)(v >> 32));
}
static u32 clz64(u64 v) {
    return v ? (u32)__builtin_clzll(v) : 64;
}
static u32 clz32(u32 v) {
    return v ? (u32)__builtin_clz(v) : 32;
}
K1X(popc_32, u32, u32, __builtin_popcount(a))
K1X(popc_64, u32, u64, __builtin_popcountll(a))
K1X(clz_32, u32, u32, clz32(a))
K1X(clz_64, u32, u64, clz64(a))
K1(brev_32, u32, u32, reverse32(a))
K1(brev_64, u64, u64, reverse64(a))
/* the most significant bit that is not the sign */
static u32 find32(u32 v) {
    return v ? 31 - clz32(v) : FULL;
}
static u32 find64(u64 v) {
    return v ? 63 - clz64(v) : FULL;
}
static u32 flip32(u32 v) {
    return v >> 31 ? ~v : v;
}
static u64 flip64(u64 v) {
    return v >> 63 ? ~v : v;
}
static u32 amount(u32 position, u32 top) {
    return position == FULL ? FULL : top - position;
}
K1X(bfind_u32, u32, u32, find32(a))
K1X(bfind_s32, u32, u32, find32(flip32(a)))
K1X(bfind_u64, u32, u64, find64(a))
K1X(bfind_s64, u32, u64, find64(flip64(a)))
K1X(bfind_shift_u32, u32, u32, amount(find32(a), 31))
K1X(bfind_shift_s32, u32, u32, amount(find32(flip32(a)), 31))
K1X(bfind_shift_u64, u32, u64, amount(find64(a), 63))
K1X(bfind_shift_s64, u32, u64, amount(find64(flip64(a)), 63))

/* The text of bfe: bits pos.. of a, the sign (or 0) beyond the field and beyond the word. */
static u64 extract(u64 a, u32 pos, u32 length, u32 width, bool is_signed) {
    pos &= 0xff, length &= 0xff;
    u32 msb = width - 1;
    u64 sign = !is_signed || !length ? 0 : a >> (pos + length - 1 < msb ? pos + length - 1 : msb) & 1;
    u64 mask = length >= 64 ? UINT64_MAX : (1ull << length) - 1;
    u64 in_word = pos > msb ? 0 : width - pos >= 64 ? UINT64_MAX : (1ull << (width - pos)) - 1;
    u64 v = (pos > msb ? 0 : a >> pos) & mask & in_word;
    return sign ? v | ~(mask & in_word) : v;
}
K3(bfe_u32, u32, u32, extract(a, b, c, 32, false))
K3(bfe_s32, u32, u32, extract(a, b, c, 32, true))
K3X(bfe_u64, u64, u64, u32, u32, extract(a, b, c, 64, false))
K3X(bfe_s64, u64, u64, u32, u32, extract(a, b, c, 64, true))

/* (mask of the field, b) */
static u64 field(u32 pos, u32 length, u32 width) {
    pos &= 0xff, length &= 0xff;
    if (pos >= width || !length) return 0;
    u64 mask = length >= 64 ? UINT64_MAX : (1ull << length) - 1;
    return mask << pos;
}
static u64 shift_left(u64 v, u32 n) {
    return n > 63 ? 0 : v << n;
}
K2X(bmsk_clamp, u32, u32, u32, (u32)field(a > 255 ? 255 : a, b > 32 ? 32 : b, 32))
K2X(bmsk_wrap, u32, u32, u32, (u32)field(a & 31, b & 31, 32))
static u32 extend(u32 a, u32 bits, bool is_signed) {
    if (bits >= 32) return a;
    if (!bits) return 0;
    u32 v = a << (32 - bits);
    return is_signed ? (u32)((i32)v >> (32 - bits)) : v >> (32 - bits);
}
K2(szext_clamp_u32, u32, u32, extend(a, b, false))
K2(szext_clamp_s32, u32, u32, extend(a, b, true))
K2(szext_wrap_u32, u32, u32, extend(a, b & 31, false))
K2(szext_wrap_s32, u32, u32, extend(a, b & 31, true))

#define BFI(name, C, width)                                                                                  \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        C *d = D;                                                                                            \
        const C *pa = A_, *pb = B_;                                                                          \
        const u32 *const *rest = C_; /* of four sources the last two */                                      \
        const u32 *pc = rest[0], *pe = rest[1];                                                              \
        LANE_LOOP {                                                                                          \
            u64 m = field(pc[l], pe[l], width);                                                              \
            d[l] = (C)((pb[l] & ~m) | (shift_left(pa[l], pc[l] & 0xff) & m));                                \
        }                                                                                                    \
    }
BFI(bfi_32, u32, 32)
BFI(bfi_64, u64, 64)

/* ---- dot products of bytes and halves ---- */
static u32 dot4(u32 a, u32 b, bool sa, bool sb) {
    u32 sum = 0;
    for (int k = 0; k < 32; k += 8) {
        i32 x = sa ? (int8_t)(a >> k) : (u8)(a >> k), y = sb ? (int8_t)(b >> k) : (u8)(b >> k);
        sum += (u32)(x * y);
    }
    return sum;
}
static u32 dot2(u32 a, u32 b, bool sa, bool sb, int high) {
    u32 sum = 0;
    for (int k = 0; k < 2; k++) {
        i32 x = sa ? (i16)(a >> 16 * k) : (u16)(a >> 16 * k);
        u8 byte = (u8)(b >> (8 * k + 16 * high));
        sum += (u32)x * (u32)(sb ? (int8_t)byte : byte);
    }
    return sum;
}
#define DOT(su, sv, x, y)                                                                                    \
    K3(dp4a_##su##_##sv, u32, u32, c + dot4(a, b, x, y))                                                     \
    K3(dp2a_lo_##su##_##sv, u32, u32, c + dot2(a, b, x, y, 0))                                               \
    K3(dp2a_hi_##su##_##sv, u32, u32, c + dot2(a, b, x, y, 1))
DOT(u, u, false, false)
DOT(u, s, false, true)
DOT(s, u, true, false)
DOT(s, s, true, true)

/* two halves of a word at a time */
#define HALVES(name, T, expr)                                                                                \
    static u32 name##_half(u32 va, u32 vb) {                                                                 \
        T a = (T)va, b = (T)vb;                                                                              \
        return (u16)(expr);                                                                                  \
    }                                                                                                        \
    K2(name, u32, u32, name##_half(a, b) | name##_half(a >> 16, b >> 16) << 16)
HALVES(add_16x2, u16, a + b)
HALVES(min_u16x2, u16, a < b ? a : b)
HALVES(max_u16x2, u16, a > b ? a : b)
HALVES(min_s16x2, i16, a < b ? a : b)
HALVES(max_s16x2, i16, a > b ? a : b)
HALVES(min_relu_s16x2, i16, (a < b ? a : b) < 0 ? 0 : a < b ? a : b)
HALVES(max_relu_s16x2, i16, (a > b ? a : b) < 0 ? 0 : a > b ? a : b)

/* of an mbarrier's state, as async.c lays it out */
K1X(pending_count, u32, u64, a & 0xfffff)

/* cvt.pack: a and b, saturated, above one another; narrower than 16 bits, c is shifted up to make room */
static u32 between(i32 v, i32 low, i32 high) {
    return (u32)(v < low ? low : v > high ? high : v);
}
#define PACK(bits, below)                                                                                    \
    K3(pack_s##bits, u32, i32,                                                                               \
       (u32)c << 2 * bits | (between(a, -below, below - 1) & (2 * below - 1)) << bits |                      \
           (between(b, -below, below - 1) & (2 * below - 1)))                                                \
    K3(pack_u##bits, u32, i32,                                                                               \
       (u32)c << 2 * bits | between(a, 0, 2 * below - 1) << bits | between(b, 0, 2 * below - 1))
PACK(8, 128)
PACK(4, 8)
PACK(2, 2)
K2(pack_s16, u32, i32, between(a, -32768, 32767) << 16 | (between(b, -32768, 32767) & 0xffff))
K2(pack_u16, u32, i32, between(a, 0, 65535) << 16 | between(b, 0, 65535))

#define ROWS3(name, k16, k32, k64, A, B, C, sig)                                                             \
    {name, "", A, sig, k16}, {name, "", B, sig, k32}, {                                                      \
        name, "", C, sig, k64                                                                                \
    }
#define ROWS6(name, base, sig)                                                                               \
    ROWS3(name, base##16, base##32, base##64, T_U16, T_U32, T_U64, sig),                                     \
        ROWS3(name, base##16, base##32, base##64, T_S16, T_S32, T_S64, sig)
#define ROWS_US(name, u, s, sig)                                                                             \
    ROWS3(name, u##16, u##32, u##64, T_U16, T_U32, T_U64, sig),                                              \
        ROWS3(name, s##16, s##32, s##64, T_S16, T_S32, T_S64, sig)
#define ROWS_WIDE(name, base, sig)                                                                           \
    {name, "", T_U16, sig, base##u16}, {name, "", T_S16, sig, base##s16}, {name, "", T_U32, sig, base##u32}, \
    {                                                                                                        \
        name, "", T_S32, sig, base##s32                                                                      \
    }

const Row rows_int[] = {ROWS6("add", add_, "dxy"),
                        {"add.sat", "", T_S32, "dxy", add_sat_s32},
                        ROWS6("sub", sub_, "dxy"),
                        {"sub.sat", "", T_S32, "dxy", sub_sat_s32},
                        ROWS6("mul.lo", mul_lo_, "dxy"),
                        ROWS_US("mul.hi", mul_hi_u, mul_hi_s, "dxy"),
                        ROWS_WIDE("mul.wide", mul_wide_, "wxy"),
                        ROWS6("mad.lo", mad_lo_, "dxyz"),
                        ROWS_US("mad.hi", mad_hi_u, mad_hi_s, "dxyz"),
                        {"mad.hi.sat", "", T_S32, "dxyz", mad_hi_sat_s32},
                        ROWS_WIDE("mad.wide", mad_wide_, "wxyw"),
                        {"mul24.lo", "", T_U32, "dxy", mul24_lo_u32},
                        {"mul24.lo", "", T_S32, "dxy", mul24_lo_s32},
                        {"mul24.hi", "", T_U32, "dxy", mul24_hi_u32},
                        {"mul24.hi", "", T_S32, "dxy", mul24_hi_s32},
                        {"mad24.lo", "", T_U32, "dxyz", mad24_lo_u32},
                        {"mad24.lo", "", T_S32, "dxyz", mad24_lo_s32},
                        {"mad24.hi", "", T_U32, "dxyz", mad24_hi_u32},
                        {"mad24.hi", "", T_S32, "dxyz", mad24_hi_s32},
                        {"mad24.hi.sat", "", T_S32, "dxyz", mad24_hi_sat_s32},
                        ROWS_US("div", div_u, div_s, "dxy"),
                        ROWS_US("rem", rem_u, rem_s, "dxy"),
                        ROWS3("abs", abs_s16, abs_s32, abs_s64, T_S16, T_S32, T_S64, "dx"),
                        ROWS3("neg", neg_s16, neg_s32, neg_s64, T_S16, T_S32, T_S64, "dx"),
                        ROWS_US("min", min_u, min_s, "dxy"),
                        ROWS_US("max", max_u, max_s, "dxy"),
                        {"min.relu", "", T_S32, "dxy", min_relu_s32},
                        {"max.relu", "", T_S32, "dxy", max_relu_s32},
                        ROWS_US("sad", sad_u, sad_s, "dxyz"),
                        {"popc", "", T_B32, "ux", popc_32},
                        {"popc", "", T_B64, "ux", popc_64},
                        {"clz", "", T_B32, "ux", clz_32},
                        {"clz", "", T_B64, "ux", clz_64},
                        {"brev", "", T_B32, "dx", brev_32},
                        {"brev", "", T_B64, "dx", brev_64},
                        {"bfind", "", T_U32, "ux", bfind_u32},
                        {"bfind", "", T_S32, "ux", bfind_s32},
                        {"bfind", "", T_U64, "ux", bfind_u64},
                        {"bfind", "", T_S64, "ux", bfind_s64},
                        {"bfind.shiftamt", "", T_U32, "ux", bfind_shift_u32},
                        {"bfind.shiftamt", "", T_S32, "ux", bfind_shift_s32},
                        {"bfind.shiftamt", "", T_U64, "ux", bfind_shift_u64},
                        {"bfind.shiftamt", "", T_S64, "ux", bfind_shift_s64},
                        {"bfe", "", T_U32, "dxuu", bfe_u32},
                        {"bfe", "", T_S32, "dxuu", bfe_s32},
                        {"bfe", "", T_U64, "dxuu", bfe_u64},
                        {"bfe", "", T_S64, "dxuu", bfe_s64},
                        {"bfi", "", T_B32, "dxyuu", bfi_32},
                        {"bfi", "", T_B64, "dxyuu", bfi_64},
                        {"bmsk.clamp", "", T_B32, "dxy", bmsk_clamp},
                        {"bmsk.wrap", "", T_B32, "dxy", bmsk_wrap},
                        {"szext.clamp", "", T_U32, "dxu", szext_clamp_u32},
                        {"szext.clamp", "", T_S32, "dxu", szext_clamp_s32},
                        {"szext.wrap", "", T_U32, "dxu", szext_wrap_u32},
                        {"szext.wrap", "", T_S32, "dxu", szext_wrap_s32},
                        {"add.u16x2", "", T_NONE, "bbb", add_16x2},
                        {"add.s16x2", "", T_NONE, "bbb", add_16x2},
                        {"min.u16x2", "", T_NONE, "bbb", min_u16x2},
                        {"max.u16x2", "", T_NONE, "bbb", max_u16x2},
                        {"min.s16x2", "", T_NONE, "bbb", min_s16x2},
                        {"max.s16x2", "", T_NONE, "bbb", max_s16x2},
                        {"min.relu.s16x2", "", T_NONE, "bbb", min_relu_s16x2},
                        {"max.relu.s16x2", "", T_NONE, "bbb", max_relu_s16x2},
                        {"cvt.pack.sat.s16.s32", "", T_NONE, "bss", pack_s16},
                        {"cvt.pack.sat.u16.s32", "", T_NONE, "bss", pack_u16},
                        {"cvt.pack.sat.s8.s32.b32", "", T_NONE, "bssb", pack_s8},
                        {"cvt.pack.sat.u8.s32.b32", "", T_NONE, "bssb", pack_u8},
                        {"cvt.pack.sat.s4.s32.b32", "", T_NONE, "bssb", pack_s4},
                        {"cvt.pack.sat.u4.s32.b32", "", T_NONE, "bssb", pack_u4},
                        {"cvt.pack.sat.s2.s32.b32", "", T_NONE, "bssb", pack_s2},
                        {"cvt.pack.sat.u2.s32.b32", "", T_NONE, "bssb", pack_u2},
                        {"mbarrier.pending_count.b64", "", T_NONE, "uq", pending_count},
                        {"dp4a.u32.u32", "", T_NONE, "bbbb", dp4a_u_u},
                        {"dp4a.s32.s32", "", T_NONE, "bbbb", dp4a_s_s},
                        {"dp4a.u32.s32", "", T_NONE, "bbbb", dp4a_u_s},
                        {"dp4a.s32.u32", "", T_NONE, "bbbb", dp4a_s_u},
                        {"dp2a.lo.u32.u32", "", T_NONE, "bbbb", dp2a_lo_u_u},
                        {"dp2a.lo.s32.s32", "", T_NONE, "bbbb", dp2a_lo_s_s},
                        {"dp2a.lo.u32.s32", "", T_NONE, "bbbb", dp2a_lo_u_s},
                        {"dp2a.lo.s32.u32", "", T_NONE, "bbbb", dp2a_lo_s_u},
                        {"dp2a.hi.u32.u32", "", T_NONE, "bbbb", dp2a_hi_u_u},
                        {"dp2a.hi.s32.s32", "", T_NONE, "bbbb", dp2a_hi_s_s},
                        {"dp2a.hi.u32.s32", "", T_NONE, "bbbb", dp2a_hi_u_s},
                        {"dp2a.hi.s32.u32", "", T_NONE, "bbbb", dp2a_hi_s_u},
                        {0}};
