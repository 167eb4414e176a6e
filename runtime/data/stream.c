/* Streams of ids in pieces. */
#include "stream.h"
#include "../error.h"
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096 }; /* ids looked at together */

size_t id_bytes(IdType type) {
    static const size_t bytes[ID_TYPES] = {
        [ID_U8] = 1, [ID_U16] = 2, [ID_I32] = 4, [ID_U32] = 4, [ID_I64] = 8};
    return bytes[type];
}

void stream_append(Stream *s, const void *at, IdType type, int64_t n) {
    if (n == 0) return;
    s->pieces = rt_realloc(s->pieces, (s->npieces + 1) * sizeof *s->pieces);
    s->pieces[s->npieces++] = (Piece){at, type, s->n, n};
    s->n += n;
}

void stream_free(Stream *s) {
    free(s->pieces);
    *s = (Stream){0};
}

/* The piece with the id at a position. */
static const Piece *piece_at(const Stream *s, int64_t position) {
    size_t low = 0, high = s->npieces;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (s->pieces[middle].first <= position)
            low = middle;
        else
            high = middle;
    }
    return &s->pieces[low];
}

static int32_t narrow(int64_t id) {
    return id > INT32_MAX ? INT32_MAX : id < INT32_MIN ? INT32_MIN : (int32_t)id;
}

#define READ(type)                                                                                           \
    for (int64_t i = 0; i < n; i++) {                                                                        \
        type id;                                                                                             \
        memcpy(&id, at + (size_t)i * sizeof id, sizeof id);                                                  \
        out[i] = narrow((int64_t)id);                                                                        \
    }                                                                                                        \
    return

static void read_piece(const Piece *p, int64_t first, int64_t n, int32_t *out) {
    const unsigned char *at = p->at + (size_t)first * id_bytes(p->type);
    switch (p->type) {
    case ID_U8:
        READ(uint8_t);
    case ID_U16:
        READ(uint16_t);
    case ID_I32:
        READ(int32_t);
    case ID_U32:
        READ(uint32_t);
    case ID_I64:
        READ(int64_t);
    case ID_TYPES:
        return;
    }
}

void stream_read(const Stream *s, int64_t first, int64_t n, int32_t *out) {
    for (const Piece *p = n ? piece_at(s, first) : NULL; n; p++) {
        int64_t skip = first - p->first, take = p->n - skip < n ? p->n - skip : n;
        read_piece(p, skip, take, out);
        first += take, n -= take, out += take;
    }
}

int64_t stream_find_invalid(const Stream *s, int64_t first, int64_t vocab, int32_t *id) {
    int32_t block[BLOCK];
    for (int64_t at = first; at < s->n; at += BLOCK) {
        int64_t n = s->n - at < BLOCK ? s->n - at : BLOCK;
        stream_read(s, at, n, block);
        for (int64_t i = 0; i < n; i++)
            if (block[i] < 0 || block[i] >= vocab) {
                *id = block[i];
                return at + i;
            }
    }
    return -1;
}
