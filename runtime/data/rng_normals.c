/* Normal numbers in bulk: a model of 600 million weights starts with as many of them.
 *
 * A block of Philox has four words. Two of them, a and b, make two numbers after Box and Muller:
 *
 *     radius sqrt(-2 ln u) with u = ((a >> 1) + 1/2) / 2^31,  angle 2 pi b / 2^32,  cosine and sine of it
 *
 * to about 1e-6, in single precision and without branches, on many blocks side by side: compilers turn the
 * loops into vector code. It is sums, products, quotients and roots alone, which round alike everywhere;
 * libm's ln and cos do not. */
#include "../device/parallel.h"
#include "rng.h"
#include <math.h>
#include <string.h>

enum { VALUES = 4 * RNG_BLOCKS, TILE = 64 * VALUES };

typedef struct Normals {
    uint64_t seed, stream;
    float std;
    float *out;
    int64_t n;
} Normals;

/* c[0] + c[1] z + .. + c[n-1] z^(n-1) */
static inline float polynomial(float z, const float *c, int n) {
    float y = c[n - 1];
    for (int i = n - 2; i >= 0; i--) y = c[i] + z * y;
    return y;
}

/* ln(((a >> 1) + 1/2) / 2^31), never above 0. With x = m 2^e, m between the roots of 1/2 and 2, and f = (m-1)
 * / (m+1): ln m = 2 (f + f^3/3 + f^5/5 ..). */
static inline float log_fraction(uint32_t a) {
    static const float c[] = {1, 1 / 3.0f, 1 / 5.0f, 1 / 7.0f, 1 / 9.0f};
    const int32_t root_half = 0x3f3504f3; /* the bits of it */
    float x = (float)(int32_t)(a >> 1) + 0.5f;
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits -= root_half;
    float e = (float)((bits >> 23) - 31), m;
    bits = (bits & 0x7fffff) + root_half;
    memcpy(&m, &bits, sizeof m);
    float f = (m - 1) / (m + 1);
    return e * (float)M_LN2 + 2 * f * polynomial(f * f, c, 5);
}

/* Cosine and sine of 2x, from Taylor's series at x = pi b / 2^32, -pi/2 <= x < pi/2. */
static inline void circle(uint32_t b, float *cosine, float *sine) {
    static const float of_sine[] = {1, -1 / 6.0f, 1 / 120.0f, -1 / 5040.0f, 1 / 362880.0f, -1 / 39916800.0f};
    static const float of_cosine[] = {
        1, -1 / 2.0f, 1 / 24.0f, -1 / 720.0f, 1 / 40320.0f, -1 / 3628800.0f, 1 / 479001600.0f};
    float x = (float)(int32_t)b * (float)(M_PI * 0x1p-32), z = x * x;
    float s = x * polynomial(z, of_sine, 6), c = polynomial(z, of_cosine, 7);
    *cosine = 1 - 2 * s * s;
    *sine = 2 * s * c;
}

/* The values of blocks first, first + 1, .. */
static void normals(const Normals *to, uint64_t first, float *out) {
    uint32_t words[4][RNG_BLOCKS];
    float radius[RNG_BLOCKS];
    rng_blocks(to->seed, to->stream, first, words);
    for (int j = 0; j < 4; j += 2) {
        for (int i = 0; i < RNG_BLOCKS; i++) radius[i] = -2 * log_fraction(words[j][i]);
        for (int i = 0; i < RNG_BLOCKS; i++) radius[i] = to->std * sqrtf(radius[i]);
        for (int i = 0; i < RNG_BLOCKS; i++) {
            float cosine, sine;
            circle(words[j + 1][i], &cosine, &sine);
            out[4 * i + j] = radius[i] * cosine;
            out[4 * i + j + 1] = radius[i] * sine;
        }
    }
}

static void normals_tile(void *context, uint64_t tile, int thread) {
    (void)thread;
    const Normals *to = context;
    int64_t begin = (int64_t)tile * TILE, end = to->n - begin < TILE ? to->n : begin + TILE;
    for (int64_t i = begin; i < end; i += VALUES) {
        float some[VALUES];
        normals(to, (uint64_t)i / 4, some);
        memcpy(to->out + i, some, sizeof *some * (size_t)(end - i < VALUES ? end - i : VALUES));
    }
}

void rng_normals(uint64_t seed, uint64_t stream, double std, float *out, int64_t n) {
    Normals to = {seed, stream, (float)std, out, n};
    parallel_tiles(0, (uint64_t)(n + TILE - 1) / TILE, normals_tile, &to);
}
