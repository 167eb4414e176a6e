/* Conversions between double and the small formats, and perturbation. */
#include "real.h"
#include <math.h>

const Format f16_format = {10, 15, 0x7bff, 0x7c00, 0x7fff, 0x8000},
             bf16_format = {7, 127, 0x7f7f, 0x7f80, 0x7fff, 0x8000},
             e4m3_format = {3, 7, 0x7e, 0x7f, 0x7f, 0x80}, e5m2_format = {2, 15, 0x7b, 0x7c, 0x7f, 0x80},
             tf32_format = {10, 127, 0x3fbff, 0x3fc00, 0x3ffff, 0x40000};

double widen(u32 bits, const Format *f) {
    u32 v = bits & (f->sign - 1), exponent = v >> f->mantissa, fraction = v & ((1u << f->mantissa) - 1);
    double r;
    if (v > f->largest)
        r = v == f->infinity && f->infinity != f->nan ? INFINITY : NAN;
    else if (exponent)
        r = ldexp(1.0 + ldexp(fraction, -f->mantissa), (int)exponent - f->bias);
    else
        r = ldexp(fraction, 1 - f->bias - f->mantissa);
    return bits & f->sign ? -r : r;
}

u32 narrow(double v, const Format *f, int rounding, bool satfinite) {
    if (v != v) return f->nan;
    u32 sign = signbit(v) ? f->sign : 0;
    double a = fabs(v);
    u32 over = satfinite || f->infinity == f->nan ? f->largest : f->infinity;
    if (isinf(a)) return sign | over;
    if (a == 0) return sign;
    int e;
    frexp(a, &e); /* a in [2^(e-1), 2^e) */
    int lowest = 1 - f->bias, exponent = e - 1 < lowest ? lowest : e - 1;
    double scaled = ldexp(a, f->mantissa - exponent), whole = floor(scaled), rest = scaled - whole;
    bool up = rounding == R_RZ    ? false
              : rounding == R_RNA ? rest >= 0.5
                                  : rest > 0.5 || (rest == 0.5 && fmod(whole, 2) == 1);
    whole += up;
    /* the encoding grows with the value: a mantissa that overflows carries into the exponent by itself */
    u64 code = (u64)whole;
    if (exponent > lowest || whole >= ldexp(1, f->mantissa))
        code += (u64)(exponent + f->bias - 1) << f->mantissa;
    if (code > f->largest) return sign | (rounding == R_RZ ? f->largest : over);
    return sign | (u32)code;
}

double fma_odd(double a, double b, double c) {
    double p = a * b, s = p + c;
    if (!isfinite(s)) return s;
    double t = s - p, error = (p - (s - t)) + (c - t);
    u64 bits = double_to_bits(s);
    if (error == 0 || bits & 1) return s;
    return bits_to_double((error > 0) == (s > 0) ? bits + 1 : bits - 1);
}

u32 perturb_seed;

static double noise(u32 operand) { /* in [-1, 1] */
    u64 h = (operand + 0x9e3779b97f4a7c15ull) * (perturb_seed * 2ull + 1);
    h = (h ^ h >> 31) * 0xbf58476d1ce4e5b9ull;
    h = (h ^ h >> 29) * 0x94d049bb133111ebull;
    return (double)(h >> 11) * 0x1p-52 - 1;
}

float approximate(double exact, double relative, double absolute, u32 operand) {
    float plain = canon((float)exact);
    if (!perturb_seed || !isfinite(plain) || plain == 0) return plain;
    double bound = relative * fabs(exact) > absolute ? relative * fabs(exact) : absolute;
    float moved = (float)(exact + bound * noise(operand));
    return fabs(moved - exact) <= bound && isfinite(moved) ? moved : plain;
}
