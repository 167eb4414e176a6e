/* A table of words with open addressing, at most half full. */
#include "word_cache.h"
#include "../error.h"
#include "hash.h"
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 64, FIRST_BITS = 12, LAST_BITS = 19 }; /* at most 2^18 words, some tens of MB */

typedef struct CachedWord {
    uint64_t hash;
    uint32_t at;      /* in the pool: the ids, then the word; 4-byte aligned */
    uint8_t bytes, n; /* bytes 0: an empty slot */
} CachedWord;

void word_cache_free(WordCache *c) {
    free(c->slots), free(c->pool);
    *c = (WordCache){0};
}

static const char *text_of(const WordCache *c, const CachedWord *w) {
    return c->pool + w->at + w->n * sizeof(int32_t);
}

/* Where the word is, or would be. */
static CachedWord *slot_of(const WordCache *c, uint64_t hash, const char *word, size_t bytes) {
    size_t mask = ((size_t)1 << c->bits) - 1;
    for (size_t i = hash_slot(hash, c->bits);; i = (i + 1) & mask) {
        CachedWord *w = &c->slots[i];
        if (!w->bytes || (w->hash == hash && w->bytes == bytes && !memcmp(text_of(c, w), word, bytes)))
            return w;
    }
}

const int32_t *word_cache_find(const WordCache *c, const char *word, size_t bytes, size_t *n) {
    if (!c->slots || bytes > LONGEST) return NULL;
    const CachedWord *w = slot_of(c, tbc_hash(word, bytes), word, bytes);
    *n = w->n;
    return w->bytes ? (const int32_t *)(const void *)(c->pool + w->at) : NULL;
}

/* Makes the table twice as large, or, where it may not be, empty. */
static void make_room(WordCache *c) {
    CachedWord *old = c->slots;
    size_t old_n = old ? (size_t)1 << c->bits : 0;
    if (c->bits == LAST_BITS) {
        memset(old, 0, old_n * sizeof *old);
        c->words = c->pool_n = 0;
        return;
    }
    c->bits = old ? c->bits + 1 : FIRST_BITS;
    c->slots = rt_calloc((size_t)1 << c->bits, sizeof *c->slots);
    for (size_t i = 0; i < old_n; i++)
        if (old[i].bytes) *slot_of(c, old[i].hash, text_of(c, &old[i]), old[i].bytes) = old[i];
    free(old);
}

void word_cache_add(WordCache *c, const char *word, size_t bytes, const int32_t *ids, size_t n) {
    if (bytes > LONGEST) return;
    if (!c->slots || 2 * (c->words + 1) > (size_t)1 << c->bits) make_room(c);
    size_t ids_bytes = n * sizeof *ids, need = (ids_bytes + bytes + 3) & ~(size_t)3;
    if (c->pool_n + need > c->pool_room) {
        c->pool_room = 2 * (c->pool_n + need);
        c->pool = rt_realloc(c->pool, c->pool_room);
    }
    uint64_t hash = tbc_hash(word, bytes);
    CachedWord *w = slot_of(c, hash, word, bytes);
    *w = (CachedWord){hash, (uint32_t)c->pool_n, (uint8_t)bytes, (uint8_t)n};
    memcpy(c->pool + c->pool_n, ids, ids_bytes);
    memcpy(c->pool + c->pool_n + ids_bytes, word, bytes);
    c->pool_n += need;
    c->words++;
}
