/* Byte pair encoding: the tokens with their texts, the ranked merges, and the encoding of one word.
 *
 * A token's text is bytes, not characters: the printable stand-ins that tokenizer.json has for bytes are
 * undone by its reader. Every byte has a token, so that every word can be encoded. */
#ifndef TBC_RT_BPE_H
#define TBC_RT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Token {
    const char *text; /* NULL: no token has this id */
    uint32_t bytes;
} Token;

typedef struct Merge {
    int32_t left, right; /* left -1: an empty slot */
    int32_t result;
    uint32_t rank; /* lower ones are merged first */
} Merge;

typedef struct Bpe {
    Token *tokens;
    int32_t ids;          /* of tokens: 0 .. ids-1 */
    int32_t byte_id[256]; /* the token of one byte */
    int32_t *by_text;     /* table of 2^text_bits ids, -1: an empty slot */
    unsigned text_bits;
    Merge *merges; /* table of 2^merge_bits */
    unsigned merge_bits;
    bool ignore_merges; /* a word that is a token is that token, whatever the merges say */
} Bpe;

/* Room for ids tokens and nmerges merges; then add them all. Texts stay the caller's and must outlive it. */
void bpe_init(Bpe *, int32_t ids, size_t nmerges);
void bpe_close(Bpe *);

/* False: the text already has a token. The id is free and in range. */
bool bpe_add_token(Bpe *, int32_t id, const char *text, uint32_t bytes);
int32_t bpe_find(const Bpe *, const char *text, size_t bytes); /* the token with this text; -1: none */

/* Merges come in order of rank. Where a pair comes twice, the later rank holds. */
void bpe_add_merge(Bpe *, int32_t left, int32_t right, int32_t result, uint32_t rank);

/* What encoding one word needs, kept from word to word. Starts zeroed. */
typedef struct BpeScratch {
    struct Symbol *symbols;
    uint64_t *heap;
    size_t room; /* symbols; the heap has three times as many */
    size_t heap_n;
} BpeScratch;
void bpe_scratch_free(BpeScratch *);

/* Encodes a word of 0 < bytes <= BPE_MAX_WORD. Writes at most `bytes` ids and returns how many. Takes
 * O(bytes log bytes). */
#define BPE_MAX_WORD ((size_t)INT32_MAX / 4)
size_t bpe_encode(const Bpe *, BpeScratch *, const char *word, size_t bytes, int32_t *ids);

#endif
