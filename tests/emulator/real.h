/* Floating-point values of every width: bits, rounding, canonical NaNs. */
#ifndef REAL_H
#define REAL_H
#include "emu.h"
#include <string.h>

static inline u32 float_to_bits(float f) {
    u32 b;
    memcpy(&b, &f, sizeof b);
    return b;
}
static inline float bits_to_float(u32 b) {
    float f;
    memcpy(&f, &b, sizeof f);
    return f;
}
static inline u64 double_to_bits(double d) {
    u64 b;
    memcpy(&b, &d, sizeof b);
    return b;
}
static inline double bits_to_double(u64 b) {
    double d;
    memcpy(&d, &b, sizeof d);
    return d;
}
/* NaN results are canonical on these devices. */
static inline float canon(float f) {
    return f != f ? bits_to_float(0x7fffffff) : f;
}
static inline float flush(float f) {
    u32 b = float_to_bits(f);
    return b & 0x7f800000 ? f : bits_to_float(b & 0x80000000);
}

/* A small format: mantissa bits, exponent bias, the largest finite value's bits, and what stands for NaN. */
typedef struct Format {
    int mantissa, bias;
    u32 largest, infinity, nan, sign;
} Format;
extern const Format f16_format, bf16_format, e4m3_format, e5m2_format, tf32_format;
double widen(u32 bits, const Format *f);
/* Rounds to nearest even (R_RN), toward zero (R_RZ), or to nearest, ties away (R_RNA); satfinite: no
 * infinities. */
u32 narrow(double v, const Format *f, int rounding, bool satfinite);
/* a*b + c rounded to odd, so that rounding it again to a format of at most 24 bits is exact. a*b must be
 * exact. */
double fma_odd(double a, double b, double c);

static inline float bf16_to_float(u32 b) {
    return bits_to_float(b << 16);
}
static inline u32 float_to_bf16(float f) { /* nearest even */
    u32 b = float_to_bits(f);
    if (f != f) return 0x7fff;
    return (b + 0x7fff + (b >> 16 & 1)) >> 16;
}
static inline double f16_to_double(u32 b) {
    return widen(b & 0xffff, &f16_format);
}
static inline u32 double_to_f16(double d) {
    return narrow(d, &f16_format, R_RN, false);
}

/* Bounds of approximate instructions: a result within the error the ISA documents, a function of the operand
 * and the seed; exact where perturbation is off. */
float approximate(double exact, double relative, double absolute, u32 operand);
extern u32 perturb_seed; /* 0: off */
#endif
