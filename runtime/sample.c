/* Sampling. Candidates are a heap, so that only as many are sorted as are kept: a few of 150,000. */
#include "sample.h"
#include "error.h"
#include <math.h>
#include <stdlib.h>

typedef struct Candidate {
    double logit, weight; /* weight: probability relative to the likeliest */
    int64_t id;
} Candidate;

struct Sampler {
    Sampling how;
    int64_t vocab;
    bool *seen;
    Candidate *at; /* vocab of them */
};

Sampler *sampler_new(const Sampling *how, int64_t vocab) {
    Sampler *s = rt_calloc(1, sizeof *s);
    *s = (Sampler){.how = *how, .vocab = vocab};
    s->seen = rt_calloc((size_t)vocab, sizeof *s->seen);
    s->at = rt_calloc((size_t)vocab, sizeof *s->at);
    return s;
}

void sampler_free(Sampler *s) {
    if (!s) return;
    free(s->seen), free(s->at);
    free(s);
}

void sampler_see(Sampler *s, int32_t token) {
    if (token >= 0 && token < s->vocab) s->seen[token] = true;
}

/* ---- a heap with the likeliest on top */

static bool likelier(const Candidate *a, const Candidate *b) {
    return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static void swap(Candidate *a, Candidate *b) {
    Candidate c = *a;
    *a = *b, *b = c;
}

static void sift_down(Candidate *heap, int64_t n, int64_t i) {
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && likelier(&heap[child + 1], &heap[child])) child++;
        if (!likelier(&heap[child], &heap[i])) return;
        swap(&heap[child], &heap[i]);
    }
}

/* ---- the steps */

/* Fills in the candidates; returns the index of the likeliest, -1 if a logit is not finite. */
static int64_t load(Sampler *s, const float *logits) {
    const double penalty = s->how.repetition_penalty;
    int64_t best = 0;
    for (int64_t i = 0; i < s->vocab; i++) {
        double l = (double)logits[i];
        if (!isfinite(l)) return -1;
        if (s->seen[i]) l = l > 0 ? l / penalty : l * penalty;
        s->at[i] = (Candidate){.logit = l, .id = i};
        if (likelier(&s->at[i], &s->at[best])) best = i;
    }
    return best;
}

static double weigh(Sampler *s, double top) {
    double sum = 0;
    for (int64_t i = 0; i < s->vocab; i++)
        sum += s->at[i].weight = exp((s->at[i].logit - top) / s->how.temperature);
    return sum;
}

/* Takes the likeliest of the first n candidates, a heap, to the place behind the other n-1. */
static const Candidate *take(Sampler *s, int64_t n) {
    swap(&s->at[0], &s->at[n - 1]);
    sift_down(s->at, n - 1, 0);
    return &s->at[n - 1];
}

/* Sorts the candidates that are kept to the end of the list, the likeliest last. Returns how many; *sum: of
 * their weights, on entry of all. */
static int64_t keep(Sampler *s, double *sum) {
    const Sampling *how = &s->how;
    int64_t n = s->vocab, most = how->top_k > 0 && how->top_k < n ? how->top_k : n, taken = 0, kept = 0;
    for (int64_t i = n / 2; i-- > 0;) sift_down(s->at, n, i);
    double enough = 0, so_far = 0;
    if (most < n)
        for (*sum = 0; taken < most; taken++) *sum += take(s, n - taken)->weight;
    enough = how->top_p * *sum;
    for (; kept < most; kept++) {
        if (kept == taken) take(s, n - taken++);
        const double weight = s->at[n - 1 - kept].weight;
        if (kept > 0 && (so_far >= enough || weight < how->min_p)) break;
        so_far += weight;
    }
    *sum = so_far;
    return kept;
}

/* The candidate of n from `from` on, in steps, that the share u of all their weight falls on. */
static int64_t draw(const Sampler *s, int64_t from, int64_t step, int64_t n, double left) {
    int64_t last = s->at[from].id;
    for (int64_t i = 0; i < n; i++) {
        const Candidate *c = &s->at[from + i * step];
        if (c->weight > 0) last = c->id;
        if ((left -= c->weight) < 0) break;
    }
    return last; /* should rounding eat the last bit of the sum, the last that is possible */
}

int64_t sampler_pick(Sampler *s, const float *logits, double u) {
    const Sampling *how = &s->how;
    int64_t best = load(s, logits);
    if (best < 0) return -1;
    if (how->temperature == 0) return s->at[best].id;
    double sum = weigh(s, s->at[best].logit);
    if (how->top_k <= 0 && how->top_p >= 1 && how->min_p <= 0) return draw(s, 0, 1, s->vocab, u * sum);
    int64_t kept = keep(s, &sum);
    return draw(s, s->vocab - 1, -1, kept, u * sum);
}
