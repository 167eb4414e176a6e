/* Nearest word by edit distance. */
#include "suggest.h"

#include <string.h>

#define MAX_WORD 64

static uint32_t min3(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein's distance; both words are at most MAX_WORD long. */
static uint32_t distance(const char *a, size_t na, const char *b, size_t nb) {
    uint32_t row[MAX_WORD + 1];
    for (uint32_t j = 0; j <= nb; j++) row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        uint32_t diagonal = row[0];
        row[0] = (uint32_t)i;
        for (size_t j = 1; j <= nb; j++) {
            uint32_t above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[nb];
}

const char *suggest(const char *word, const char *const *words, uint32_t n) {
    size_t length = strlen(word);
    if (length > MAX_WORD) return NULL;
    const char *best = NULL;
    uint32_t least = length < 5 ? 2 : length < 9 ? 3 : 4; /* a suggestion has fewer edits than this */
    for (uint32_t i = 0; i < n; i++) {
        size_t known = strlen(words[i]);
        if (known > MAX_WORD) continue;
        uint32_t d = distance(word, length, words[i], known);
        if (d < least && d < known) best = words[i], least = d;
    }
    return best;
}
