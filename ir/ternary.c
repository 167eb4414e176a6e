/* Numbers of the ternary format: f16 conversions and the absmean projection of one group. */
#include "ir.h"

#include <math.h>
#include <string.h>

uint16_t f16_from_f32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);  /* NaN */
    if (magnitude >= 0x47800000u) return (uint16_t)(sign | 0x7c00u); /* 2^16 and above, infinity */
    /* The significand, with its leading one, and how many of its low bits f16 has no room for: 13, and
     * below 2^-14 (subnormals, fixed point in units of 2^-24) one more for each halving. */
    uint32_t exponent = magnitude >> 23, drop = exponent < 113 ? 126 - exponent : 13;
    if (drop > 24) return (uint16_t)sign; /* below half of the smallest subnormal */
    uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
    uint32_t kept = significand >> drop, rest = significand & ((1u << drop) - 1), half = 1u << (drop - 1);
    if (exponent >= 113) kept += (exponent - 113) << 10;     /* the leading one adds the last unit */
    if (rest > half || (rest == half && (kept & 1))) kept++; /* may carry into the exponent, up to infinity */
    return (uint16_t)(sign | kept);
}

float f32_from_f16(uint16_t half) {
    uint32_t exponent = half >> 10 & 0x1fu, fraction = half & 0x3ffu;
    float magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                      : exponent     ? ldexpf((float)(fraction | 0x400u), (int)exponent - 25)
                                     : ldexpf((float)fraction, -24);
    return half & 0x8000u ? -magnitude : magnitude;
}

float ternary_group(const float *w, int64_t n, int8_t *codes) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += fabs((double)w[i]);
    float scale = f32_from_f16(f16_from_f32((float)(sum / (double)n)));
    for (int64_t i = 0; i < n; i++) {
        float q = scale > 0 ? rintf(w[i] / scale) : 0; /* to nearest, ties to even */
        codes[i] = q >= 1 ? 1 : q <= -1 ? -1 : 0;      /* NaN, from inf/inf: 0 */
    }
    return scale;
}
