/* Words and what they encode to: text repeats its words, so most are encoded once. */
#ifndef TBC_RT_WORD_CACHE_H
#define TBC_RT_WORD_CACHE_H

#include <stddef.h>
#include <stdint.h>

/* Starts zeroed. */
typedef struct WordCache {
    struct CachedWord *slots; /* table of 2^bits */
    unsigned bits;
    size_t words;
    char *pool; /* the words and ids */
    size_t pool_n, pool_room;
} WordCache;
void word_cache_free(WordCache *);

/* The ids of a word and how many they are, until the next call of word_cache_add; NULL: not known. */
const int32_t *word_cache_find(const WordCache *, const char *word, size_t bytes, size_t *n);

/* Adds a word that is not there, unless it is long. Bounded: forgets all words when it is full. */
void word_cache_add(WordCache *, const char *word, size_t bytes, const int32_t *ids, size_t n);

#endif
