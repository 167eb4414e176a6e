/* Philox4x32-10, and what is drawn with it: fractions, initial weights, the order of the examples. */
#include "rng.h"
#include <math.h>

uint64_t rng_stream(const char *name) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

/* A round on the counter c; the key is what the seed has become after that many rounds. */
static inline void philox_round(uint64_t seed, uint32_t round, uint32_t c[4]) {
    uint32_t k0 = (uint32_t)seed + round * 0x9E3779B9u, k1 = (uint32_t)(seed >> 32) + round * 0xBB67AE85u;
    uint64_t p0 = (uint64_t)c[0] * 0xD2511F53u, p1 = (uint64_t)c[2] * 0xCD9E8D57u;
    c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
    c[1] = (uint32_t)p1;
    c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
    c[3] = (uint32_t)p0;
}

static inline void philox_counter(uint64_t stream, uint64_t counter, uint32_t c[4]) {
    c[0] = (uint32_t)counter, c[1] = (uint32_t)(counter >> 32);
    c[2] = (uint32_t)stream, c[3] = (uint32_t)(stream >> 32);
}

enum { ROUNDS = 10 };

void rng_block(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]) {
    philox_counter(stream, counter, out);
    for (uint32_t round = 0; round < ROUNDS; round++) philox_round(seed, round, out);
}

void rng_blocks(uint64_t seed, uint64_t stream, uint64_t first, uint32_t out[4][RNG_BLOCKS]) {
    for (uint64_t i = 0; i < RNG_BLOCKS; i++) {
        uint32_t c[4];
        philox_counter(stream, first + i, c);
        for (int j = 0; j < 4; j++) out[j][i] = c[j];
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < RNG_BLOCKS; i++) { /* vector code */
            uint32_t c[4] = {out[0][i], out[1][i], out[2][i], out[3][i]};
            philox_round(seed, round, c);
            for (int j = 0; j < 4; j++) out[j][i] = c[j];
        }
    }
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
    enum { SWAPS = 90 };
    uint64_t pivots = rng_stream("order pivot"), swaps = rng_stream("order swap") + epoch;
    for (uint64_t round = 0; round < SWAPS; round++) {
        uint64_t pivot = rng_bits(seed, pivots, epoch * SWAPS + round) % rows;
        uint64_t partner = (pivot + rows - x) % rows;
        uint64_t pair = x > partner ? x : partner;
        if (rng_bits(seed, swaps, pair * SWAPS + round) >> 63) x = partner;
    }
    return x;
}

int64_t order_at(uint64_t seed, bool shuffle, int64_t rows, int64_t k) {
    int64_t epoch = k / rows, position = k % rows;
    return shuffle ? (int64_t)shuffled(seed, (uint64_t)epoch, (uint64_t)rows, (uint64_t)position) : position;
}
