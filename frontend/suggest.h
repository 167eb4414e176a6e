/* "Did you mean": the nearest of some known words. */
#ifndef TBC_SUGGEST_H
#define TBC_SUGGEST_H

#include <stdint.h>

/* The one of n words that is fewest edits from `word`, NULL if none is close (1 edit in a
 * short word, 3 in a long one). */
const char *suggest(const char *word, const char *const *words, uint32_t n);

#endif
