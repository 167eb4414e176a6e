/* Byte pair encoding (Sennrich et al. 2016) on bytes: start from one symbol a byte, then again and again
 * merge the neighbours whose pair has the lowest rank, the leftmost of them, until no pair has a merge. */
#include "bpe.h"
#include "../error.h"
#include "hash.h"
#include <stdlib.h>
#include <string.h>

/* ---- tables, at most half full */

static unsigned table_bits(size_t n) {
    unsigned bits = 4;
    while ((size_t)1 << bits < 2 * n) bits++;
    return bits;
}

void bpe_init(Bpe *b, int32_t ids, size_t nmerges) {
    *b = (Bpe){.ids = ids, .text_bits = table_bits((size_t)ids), .merge_bits = table_bits(nmerges)};
    size_t texts = (size_t)1 << b->text_bits, merges = (size_t)1 << b->merge_bits;
    b->tokens = rt_calloc((size_t)ids, sizeof *b->tokens);
    b->by_text = rt_calloc(texts, sizeof *b->by_text);
    b->merges = rt_calloc(merges, sizeof *b->merges);
    for (size_t i = 0; i < texts; i++) b->by_text[i] = -1;
    for (size_t i = 0; i < merges; i++) b->merges[i].left = -1;
    for (int i = 0; i < 256; i++) b->byte_id[i] = -1;
}

void bpe_close(Bpe *b) {
    free(b->tokens), free(b->by_text), free(b->merges);
    *b = (Bpe){0};
}

/* Where the text is, or would be, in by_text. */
static int32_t *text_slot(const Bpe *b, const char *text, size_t bytes) {
    size_t mask = ((size_t)1 << b->text_bits) - 1;
    for (size_t i = hash_slot(tbc_hash(text, bytes), b->text_bits);; i = (i + 1) & mask) {
        int32_t id = b->by_text[i];
        if (id < 0 || (b->tokens[id].bytes == bytes && !memcmp(b->tokens[id].text, text, bytes)))
            return &b->by_text[i];
    }
}

bool bpe_add_token(Bpe *b, int32_t id, const char *text, uint32_t bytes) {
    int32_t *slot = text_slot(b, text, bytes);
    if (*slot >= 0) return false;
    *slot = id;
    b->tokens[id] = (Token){text, bytes};
    if (bytes == 1) b->byte_id[(unsigned char)*text] = id;
    return true;
}

int32_t bpe_find(const Bpe *b, const char *text, size_t bytes) {
    return *text_slot(b, text, bytes);
}

/* The slot of a pair's merge; an empty one where it has none. */
static Merge *merge_slot(const Bpe *b, int32_t left, int32_t right) {
    size_t mask = ((size_t)1 << b->merge_bits) - 1;
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t i = hash_slot(key * 0x100000001b3u, b->merge_bits);; i = (i + 1) & mask) {
        Merge *m = &b->merges[i];
        if (m->left < 0 || (m->left == left && m->right == right)) return m;
    }
}

void bpe_add_merge(Bpe *b, int32_t left, int32_t right, int32_t result, uint32_t rank) {
    *merge_slot(b, left, right) = (Merge){left, right, result, rank};
}

/* ---- one word */

typedef struct Symbol {
    int32_t id;         /* -1: merged into the one before */
    int32_t prev, next; /* -1: none */
} Symbol;

void bpe_scratch_free(BpeScratch *s) {
    free(s->symbols), free(s->heap);
    *s = (BpeScratch){0};
}

/* n symbols have n-1 pairs, and each of at most n-1 merges makes two new ones. */
static void reserve(BpeScratch *s, size_t n) {
    s->heap_n = 0;
    if (n <= s->room) return;
    s->room = 2 * n;
    s->symbols = rt_realloc(s->symbols, s->room * sizeof *s->symbols);
    s->heap = rt_realloc(s->heap, 3 * s->room * sizeof *s->heap);
}

/* The heap holds pairs as rank << 32 | place of the left symbol: least first is lowest rank, leftmost first.
 */
static void heap_push(BpeScratch *s, uint64_t item) {
    size_t i = s->heap_n++;
    for (; i && s->heap[(i - 1) / 2] > item; i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = item;
}

static uint64_t heap_pop(BpeScratch *s) {
    uint64_t top = s->heap[0], item = s->heap[--s->heap_n];
    size_t i = 0, n = s->heap_n;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && s->heap[child + 1] < s->heap[child]) child++;
        if (item <= s->heap[child]) break;
        s->heap[i] = s->heap[child];
    }
    s->heap[i] = item;
    return top;
}

/* The merge of a symbol and its next; NULL: none. */
static const Merge *merge_at(const Bpe *b, const Symbol *symbols, int32_t at) {
    if (at < 0 || symbols[at].id < 0 || symbols[at].next < 0) return NULL;
    const Merge *m = merge_slot(b, symbols[at].id, symbols[symbols[at].next].id);
    return m->left < 0 ? NULL : m;
}

static void push_pair(const Bpe *b, BpeScratch *s, int32_t at) {
    const Merge *m = merge_at(b, s->symbols, at);
    if (m) heap_push(s, (uint64_t)m->rank << 32 | (uint32_t)at);
}

size_t bpe_encode(const Bpe *b, BpeScratch *s, const char *word, size_t bytes, int32_t *ids) {
    int32_t whole = b->ignore_merges ? bpe_find(b, word, bytes) : -1, n = (int32_t)bytes;
    if (whole >= 0) {
        *ids = whole;
        return 1;
    }
    reserve(s, bytes);
    Symbol *symbols = s->symbols;
    for (int32_t i = 0; i < n; i++)
        symbols[i] = (Symbol){b->byte_id[(unsigned char)word[i]], i - 1, i + 1 < n ? i + 1 : -1};
    for (int32_t i = 0; i < n; i++) push_pair(b, s, i);
    while (s->heap_n) {
        uint64_t item = heap_pop(s);
        int32_t at = (int32_t)(uint32_t)item;
        const Merge *m = merge_at(b, symbols, at);
        if (!m || m->rank != item >> 32) continue; /* another merge took one of the two */
        Symbol *left = &symbols[at], *right = &symbols[left->next];
        left->id = m->result;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0) symbols[left->next].prev = at;
        push_pair(b, s, at);
        push_pair(b, s, left->prev);
    }
    size_t count = 0;
    for (int32_t i = 0; i >= 0; i = symbols[i].next) ids[count++] = symbols[i].id;
    return count;
}
