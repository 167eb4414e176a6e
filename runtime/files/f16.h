/* IEEE 754 half precision, and bf16, the upper half of an f32, as bits. */
#ifndef TBC_RT_F16_H
#define TBC_RT_F16_H

#include <stdint.h>
#include <string.h>

static inline float f32_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31, mantissa = h & 1023u;
    if (exponent == 31) return f32_of_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent) return f32_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float subnormal = (float)mantissa * 0x1p-24f;
    return sign ? -subnormal : subnormal;
}

/* To nearest, ties to even; a NaN stays one. */
static inline uint16_t bf16_from_f32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t f16_from_f64(double); /* to nearest, ties to even */

#endif
