/* Stretches of a sequence that repeat: a model's layers, in the order in which a function runs them.
 *
 * For every period p, the positions i with s[i] = s[i + p] form runs; a run of n positions means
 * 1 + n / p equal stretches. The one that saves most is taken, then what is left of it and right of it. */
#include "graph.h"

enum { MAX_PERIOD = 512, MIN_SAVED = 4 };

static Repeat best_repeat(const uint64_t *s, uint32_t from, uint32_t to) {
    Repeat best = {0};
    uint32_t saved = MIN_SAVED - 1, length = to - from;
    for (uint32_t p = 1; p <= length / 2 && p <= MAX_PERIOD; p++) {
        uint32_t run = 0;
        for (uint32_t i = to - p; i-- > from;) {
            run = s[i] == s[i + p] ? run + 1 : 0;
            uint32_t turns = 1 + run / p;
            if ((turns - 1) * p <= saved) continue;
            saved = (turns - 1) * p;
            best = (Repeat){i, p, turns};
        }
    }
    return best;
}

static void find_in(const uint64_t *s, uint32_t from, uint32_t to, Repeats *out) {
    while (to - from > MIN_SAVED) {
        Repeat r = best_repeat(s, from, to);
        if (!r.count) return;
        find_in(s, from, r.first, out);
        vec_push(out, r);
        from = r.first + r.period * r.count;
    }
}

void find_repeats(const uint64_t *signature, uint32_t n, Repeats *out) {
    find_in(signature, 0, n, out);
}
