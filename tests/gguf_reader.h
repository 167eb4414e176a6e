/* A reader of GGUF version 3 for tests, written from its description and apart from the writer: pairs and
 * tensors by name, every length checked against the file, tensors as f32. Fails by ck_ assertions. */
#ifndef TBC_GGUF_READER_H
#define TBC_GGUF_READER_H

#include "suite.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { GGUF_U32 = 4, GGUF_I32 = 5, GGUF_F32 = 6, GGUF_BOOL = 7, GGUF_TEXT = 8, GGUF_ARRAY = 9 };

typedef struct GgufPair {
    char key[128];
    uint32_t type, element; /* of an array's elements */
    uint64_t n;             /* elements, or bytes of a text */
    const unsigned char *at;
} GgufPair;

typedef struct GgufTensor {
    char name[128];
    uint32_t rank, type;
    uint64_t dim[4], n; /* innermost first; weights in all */
    uint64_t offset;    /* in the data */
    const unsigned char *data;
} GgufTensor;

typedef struct GgufFile {
    const unsigned char *bytes, *end, *next;
    GgufPair pairs[64];
    GgufTensor tensors[256];
    uint64_t npairs, ntensors;
} GgufFile;

static inline const unsigned char *gguf_take(GgufFile *f, uint64_t n) {
    ck_assert_uint_le(n, (uint64_t)(f->end - f->next));
    f->next += n;
    return f->next - n;
}

static inline uint64_t gguf_number(GgufFile *f, int bytes) {
    const unsigned char *at = gguf_take(f, (uint64_t)bytes);
    uint64_t x = 0;
    for (int i = 0; i < bytes; i++) x |= (uint64_t)at[i] << 8 * i;
    return x;
}

static inline void gguf_take_name(GgufFile *f, char out[128]) {
    uint64_t n = gguf_number(f, 8);
    ck_assert_uint_lt(n, 128);
    memcpy(out, gguf_take(f, n), n);
    out[n] = 0;
}

static inline void gguf_skip_value(GgufFile *f, uint32_t type) {
    switch (type) {
    case GGUF_TEXT:
        gguf_take(f, gguf_number(f, 8));
        break;
    case GGUF_BOOL:
        ck_assert_uint_le(gguf_number(f, 1), 1);
        break;
    default:
        ck_assert(type == GGUF_U32 || type == GGUF_I32 || type == GGUF_F32);
        gguf_take(f, 4);
    }
}

static inline void gguf_read_pair(GgufFile *f, GgufPair *p) {
    gguf_take_name(f, p->key);
    p->type = (uint32_t)gguf_number(f, 4);
    if (p->type == GGUF_ARRAY) {
        p->element = (uint32_t)gguf_number(f, 4);
        p->n = gguf_number(f, 8);
    }
    p->at = f->next;
    for (uint64_t i = 0; p->type == GGUF_ARRAY && i < p->n; i++) gguf_skip_value(f, p->element);
    if (p->type != GGUF_ARRAY) gguf_skip_value(f, p->type);
}

static inline uint64_t gguf_tensor_bytes(const GgufTensor *t) {
    static const struct {
        uint32_t type, weights, bytes;
    } blocks[] = {{0, 1, 4}, {1, 1, 2}, {42, 64, 18}, {142, 128, 34}};
    for (size_t i = 0; i < 4; i++)
        if (blocks[i].type == t->type) {
            ck_assert_uint_eq(t->dim[0] % blocks[i].weights, 0);
            return t->n / blocks[i].weights * blocks[i].bytes;
        }
    ck_abort_msg("type %u", t->type);
    return 0;
}

/* Reads n bytes, which stay in use. The tensors must follow each other, each padded to 32, up to the end. */
static inline GgufFile *gguf_read(const void *bytes, size_t n) {
    GgufFile *f = calloc(1, sizeof *f);
    f->bytes = f->next = bytes;
    f->end = f->bytes + n;
    ck_assert_mem_eq(gguf_take(f, 4), "GGUF", 4);
    ck_assert_uint_eq(gguf_number(f, 4), 3);
    f->ntensors = gguf_number(f, 8);
    f->npairs = gguf_number(f, 8);
    ck_assert(f->ntensors <= 256 && f->npairs <= 64);
    for (uint64_t i = 0; i < f->npairs; i++) gguf_read_pair(f, &f->pairs[i]);
    for (uint64_t i = 0; i < f->ntensors; i++) {
        GgufTensor *t = &f->tensors[i];
        gguf_take_name(f, t->name);
        t->rank = (uint32_t)gguf_number(f, 4);
        ck_assert_uint_le(t->rank, 4);
        t->n = 1;
        for (uint32_t d = 0; d < t->rank; d++) t->n *= t->dim[d] = gguf_number(f, 8);
        t->type = (uint32_t)gguf_number(f, 4);
        t->offset = gguf_number(f, 8);
    }
    while ((f->next - f->bytes) % 32) ck_assert_uint_eq(gguf_number(f, 1), 0);
    const unsigned char *data = f->next;
    for (uint64_t i = 0; i < f->ntensors; i++) {
        GgufTensor *t = &f->tensors[i];
        ck_assert_uint_eq(t->offset, (uint64_t)(f->next - data));
        t->data = gguf_take(f, gguf_tensor_bytes(t));
        while ((f->next - data) % 32) ck_assert_uint_eq(gguf_number(f, 1), 0);
    }
    ck_assert(f->next == f->end);
    return f;
}

/* NULL: not there. */
static inline const GgufPair *gguf_pair(const GgufFile *f, const char *key) {
    for (uint64_t i = 0; i < f->npairs; i++)
        if (!strcmp(f->pairs[i].key, key)) return &f->pairs[i];
    return NULL;
}

static inline uint32_t gguf_u32(const GgufFile *f, const char *key) {
    const GgufPair *p = gguf_pair(f, key);
    ck_assert_msg(p && p->type == GGUF_U32, "%s", key);
    uint32_t x;
    memcpy(&x, p->at, 4);
    return x;
}

static inline float gguf_f32(const GgufFile *f, const char *key) {
    const GgufPair *p = gguf_pair(f, key);
    ck_assert_msg(p && p->type == GGUF_F32, "%s", key);
    float x;
    memcpy(&x, p->at, 4);
    return x;
}

/* Is text i of an array, or the text that is no array, this one? */
static inline int gguf_text_is(const GgufFile *f, const char *key, uint64_t i, const char *want) {
    const GgufPair *p = gguf_pair(f, key);
    ck_assert_msg(p && (p->type == GGUF_TEXT || (p->element == GGUF_TEXT && i < p->n)), "%s", key);
    const unsigned char *at = p->at;
    uint64_t n;
    for (memcpy(&n, at, 8); i > 0; i--, memcpy(&n, at, 8)) at += 8 + n;
    return n == strlen(want) && !memcmp(at + 8, want, n);
}

static inline int32_t gguf_i32_at(const GgufFile *f, const char *key, uint64_t i) {
    const GgufPair *p = gguf_pair(f, key);
    ck_assert_msg(p && p->element == GGUF_I32 && i < p->n, "%s", key);
    int32_t x;
    memcpy(&x, p->at + 4 * i, 4);
    return x;
}

static inline const GgufTensor *gguf_tensor(const GgufFile *f, const char *name) {
    for (uint64_t i = 0; i < f->ntensors; i++)
        if (!strcmp(f->tensors[i].name, name)) return &f->tensors[i];
    ck_abort_msg("no tensor %s", name);
    return NULL;
}

static inline double gguf_half(const unsigned char *at) {
    int bits = at[0] | at[1] << 8, exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double x = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return bits & 0x8000 ? -x : x;
}

/* Weight i of a tensor, in memory order. */
static inline float gguf_weight(const GgufTensor *t, uint64_t i) {
    if (t->type == 0) {
        float x;
        memcpy(&x, t->data + 4 * i, 4);
        return x;
    }
    if (t->type == 1) return (float)gguf_half(t->data + 2 * i);
    uint64_t block = t->type == 42 ? 64 : 128, j = i % block;
    const unsigned char *at = t->data + i / block * (2 + block / 4);
    return (float)(((at[2 + j / 4] >> 2 * (j % 4) & 3) - 1) * gguf_half(at));
}

#endif
