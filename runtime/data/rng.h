/* Random numbers as a pure function of (seed, stream, counter): Philox4x32-10 (Salmon, Moraes, Dror, Shaw:
 * "Parallel random numbers: as easy as 1, 2, 3", SC 2011). There is no hidden state, so the same seed gives
 * the same weights and the same data order for any number of threads, on any device, and after a resume.
 *
 * A stream is named by a string (a tensor's name, "order", "sample"): rng_stream hashes it. */
#ifndef TBC_RT_RNG_H
#define TBC_RT_RNG_H

#include <stdbool.h>
#include <stdint.h>

uint64_t rng_stream(const char *name); /* 64-bit FNV-1a */

/* One block: 128 random bits. counter is the low half of Philox's counter, stream the high half, seed the
 * key. */
void rng_block(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);
enum { RNG_BLOCKS = 64 };
/* Blocks of counters first, first + 1, ..: word j of block i in out[j][i]. Several times as fast as one by
 * one. */
void rng_blocks(uint64_t seed, uint64_t stream, uint64_t first, uint32_t out[4][RNG_BLOCKS]);

uint64_t rng_bits(uint64_t seed, uint64_t stream, uint64_t counter);  /* 64 bits */
double rng_uniform(uint64_t seed, uint64_t stream, uint64_t counter); /* in [0, 1), 53 bits */

/* Fills out[0..n) with N(0, std^2); value i depends on (seed, stream, i, std) alone, bit for bit. Block i of
 * the stream, with words a, b, c, d, gives values 4i .. 4i+3, after Box and Muller (rng_normals.c):
 *
 *     std sqrt(-2 ln(((a >> 1) + 1/2) / 2^31)) * (cos, sin)(2 pi b / 2^32), and the same of c and d
 *
 * So they are within 6.7 std of 0. Runs on all threads that the process may use. */
void rng_normals(uint64_t seed, uint64_t stream, double std, float *out, int64_t n);

/* The initial value of a parameter: rank >= 2: N(0, fan_in^-0.5) with fan_in its last dimension, stream its
 * name; rank 0 and 1 (norms): 1. */
void rng_init_tensor(uint64_t seed, const char *name, uint32_t rank, const int64_t *dim, float *out);

/* Which of `rows` examples is the k-th since the start of training (k >= 0, rows >= 1). Epoch e = k / rows
 * visits every row once: in order, or with shuffle in a permutation drawn from (seed, e). Nothing else is
 * needed to resume. Fewer rows than a batch simply repeat. */
int64_t order_at(uint64_t seed, bool shuffle, int64_t rows, int64_t k);

#endif
