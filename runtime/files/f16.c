/* Rounding to half precision. */
#include "f16.h"
#include <math.h>

uint16_t f16_from_f64(double value) {
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double x = fabs(value);
    if (isnan(x)) return 0x7e00;
    if (x >= 65520) return sign | 0x7c00; /* rounds to infinity */
    int exponent = -14;                   /* of subnormals too: they share the smallest step */
    if (x >= ldexp(1, -14)) exponent = ilogb(x);
    int steps = (int)nearbyint(ldexp(x, 10 - exponent)); /* 1024..2048, below 1024 for subnormals */
    return sign | (uint16_t)(steps + (exponent + 14) * 1024);
}
