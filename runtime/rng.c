/* Philox4x32-10, and what is drawn with it: initial weights and the order of the examples. */
#include "rng.h"
#include "parallel.h"
#include <math.h>

uint64_t rng_stream(const char *name) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

void rng_block(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)c0 * 0xD2511F53u, p1 = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint64_t rng_bits(uint64_t seed, uint64_t stream, uint64_t counter) {
    uint32_t b[4];
    rng_block(seed, stream, counter, b);
    return (uint64_t)b[1] << 32 | b[0];
}

/* The upper 53 of 64 bits as a fraction in [0, 1). */
static double fraction(uint32_t low, uint32_t high) {
    return (double)(((uint64_t)high << 32 | low) >> 11) * 0x1p-53;
}

double rng_uniform(uint64_t seed, uint64_t stream, uint64_t counter) {
    uint64_t bits = rng_bits(seed, stream, counter);
    return fraction((uint32_t)bits, (uint32_t)(bits >> 32));
}

typedef struct Normals {
    uint64_t seed, stream;
    double std;
    float *out;
    int64_t n;
} Normals;

enum { TILE = 1 << 14 }; /* values; even */

/* Block i gives values 2i and 2i+1. */
static void normals_tile(void *context, uint64_t tile, int thread) {
    (void)thread;
    const Normals *to = context;
    int64_t begin = (int64_t)tile * TILE, end = to->n - begin < TILE ? to->n : begin + TILE;
    for (int64_t i = begin; i < end; i += 2) {
        uint32_t b[4];
        rng_block(to->seed, to->stream, (uint64_t)i / 2, b);
        double radius = to->std * sqrt(-2.0 * log(1.0 - fraction(b[0], b[1]))); /* 1 - u is never 0 */
        double angle = 2.0 * M_PI * fraction(b[2], b[3]);
        to->out[i] = (float)(radius * cos(angle));
        if (i + 1 < end) to->out[i + 1] = (float)(radius * sin(angle));
    }
}

void rng_normals(uint64_t seed, uint64_t stream, double std, float *out, int64_t n) {
    Normals to = {seed, stream, std, out, n};
    parallel_tiles(0, (uint64_t)(n + TILE - 1) / TILE, normals_tile, &to);
}

void rng_init_tensor(uint64_t seed, const char *name, uint32_t rank, const int64_t *dim, float *out) {
    int64_t n = 1;
    for (uint32_t i = 0; i < rank; i++) n *= dim[i];
    if (rank >= 2)
        rng_normals(seed, rng_stream(name), 1.0 / sqrt((double)dim[rank - 1]), out, n);
    else
        for (int64_t i = 0; i < n; i++) out[i] = 1.0f;
}

/* The swap-or-not shuffle (Hoang, Morris, Rogaway: "An enciphering scheme based on a card shuffle", CRYPTO
 * 2012): a permutation of any number of rows that is evaluated at one place, without a table. Each round
 * pairs x with pivot - x and a random bit of the pair says whether the two change places. 90 rounds, as in
 * Ethereum's use of it. */
static uint64_t shuffled(uint64_t seed, uint64_t epoch, uint64_t rows, uint64_t x) {
    enum { ROUNDS = 90 };
    uint64_t pivots = rng_stream("order pivot"), swaps = rng_stream("order swap") + epoch;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint64_t pivot = rng_bits(seed, pivots, epoch * ROUNDS + round) % rows;
        uint64_t partner = (pivot + rows - x) % rows;
        uint64_t pair = x > partner ? x : partner;
        if (rng_bits(seed, swaps, pair * ROUNDS + round) >> 63) x = partner;
    }
    return x;
}

int64_t order_at(uint64_t seed, bool shuffle, int64_t rows, int64_t k) {
    int64_t epoch = k / rows, position = k % rows;
    return shuffle ? (int64_t)shuffled(seed, (uint64_t)epoch, (uint64_t)rows, (uint64_t)position) : position;
}
