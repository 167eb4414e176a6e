/* Products with precision "bf16": what is rounded. Their operands are taken as f32 and rounded to bf16, to
 * nearest even; products of two of those are exact, and they are added up in f32 or wider, in any order.
 * Results and all that is not listed here are not rounded.
 *
 *     matmul           both operands; a sum so far is not one
 *     tmatmul, tb      x: y[j] = sum over groups of scale[j,group] * (sum of bf16(x[k]) * code[j,k])
 *     tmatmul          x and the scales of weights: y[j] = sum of bf16(x[k]) * bf16(scale[k]) * code[k,j]
 *     attention        q, k, v, and p = exp(c q.k - max) before it meets v. What the sums are divided by
 *                      at the end is the sum of p as it was before. max may be that of the scores so far:
 *                      it changes results within the rounding of p
 *     attention_grad   q, k, v, dout; p = exp(c q.k - lse) in p^T dout, though not in ds;
 *                      ds = c * p * (dout.v - delta) in ds k and ds^T q
 *
 * Numbers below the smallest normal f32, 2^-126, may count as 0. */
#include "eval.h"

#include <math.h>
#include <string.h>

float bf16_round(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) return x;
    bits += 0x7fff + (bits >> 16 & 1); /* a carry into the exponent is right, up to infinity */
    bits &= 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- stochastic rounding, of adamw's moments */

static uint32_t lowbias32(uint32_t x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

uint32_t random_key(int32_t seed, int32_t step) {
    return lowbias32(lowbias32((uint32_t)seed) + (uint32_t)step);
}

uint32_t random_bits(uint32_t key, uint32_t i) {
    return lowbias32(lowbias32(i) ^ key);
}

float bf16_round_stochastic(float x, uint32_t random) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + random) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- precision */

bool eval_is_bf16(const Eval *e) {
    return e->n->attrs.set & A(precision) && strcmp(e->n->attrs.precision, "bf16") == 0;
}

double eval_rounded(const Eval *e, double x) {
    return eval_is_bf16(e) ? (double)bf16_round((float)x) : x;
}

const double *eval_factor(const Eval *e, uint32_t i) {
    const Tensor *in = &e->in[i];
    if (!eval_is_bf16(e)) return in->at;
    int64_t count = type_count(&in->type);
    double *rounded = arena_array(e->arena, double, count);
    for (int64_t j = 0; j < count; j++) rounded[j] = eval_rounded(e, in->at[j]);
    return rounded;
}
