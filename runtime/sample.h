/* Choosing the next token from logits. In this order, as in Transformers' generate():
 *
 *   repetition penalty r   logits of tokens seen so far: l / r where l > 0, else l * r (CTRL); 1: none
 *   temperature t          p = softmax(l / t); 0: the largest logit, nothing else applies
 *   top k                  the k likeliest tokens; 0: all
 *   top p                  of these the fewest likeliest whose probabilities add up to p at least; 1: all
 *   min p                  of these the ones at least p times as likely as the likeliest; 0: all
 *
 * The likeliest token always stays. Of equal tokens the one with the lower id counts as likelier. */
#ifndef TBC_RT_SAMPLE_H
#define TBC_RT_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Sampling {
    double temperature, top_p, min_p, repetition_penalty;
    int64_t top_k;
} Sampling;

typedef struct Sampler Sampler;

/* For logits of tokens 0 .. vocab-1. Never NULL. */
Sampler *sampler_new(const Sampling *, int64_t vocab);
void sampler_free(Sampler *); /* NULL is allowed */

/* The token is a part of the text; ids outside the vocabulary are passed over. */
void sampler_see(Sampler *, int32_t token);

/* The token that a number u in [0, 1) picks. -1: the logits are not finite. */
int64_t sampler_pick(Sampler *, const float *logits, double u);

#endif
