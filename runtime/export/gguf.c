/* Writer of GGUF files. Numbers go out as they are in memory: like the modules it runs, tbc-run is for
 * little-endian machines. */
#include "gguf.h"
#include "../error.h"
#include <stdlib.h>
#include <string.h>

enum { VERSION = 3, ALIGNMENT = 32 };
enum { PAIR_U32 = 4, PAIR_I32 = 5, PAIR_F32 = 6, PAIR_BOOL = 7, PAIR_TEXT = 8, PAIR_ARRAY = 9 };

int64_t ggml_block_weights(GgmlType type) {
    return type == GGML_Q2_0 ? 64 : type == GGML_PQ2_0 ? 128 : 1;
}

int64_t ggml_block_bytes(GgmlType type) {
    return type == GGML_F32 ? 4 : type == GGML_F16 ? 2 : 2 + ggml_block_weights(type) / 4;
}

/* ---- growing the head */

static void put(Bytes *b, const void *bytes, size_t n) {
    if (n == 0) return;
    if (b->room - b->n < n) {
        b->room = 2 * b->room + n + 256;
        b->at = rt_realloc(b->at, b->room);
    }
    memcpy(b->at + b->n, bytes, n);
    b->n += n;
}

static void put_u32(Bytes *b, uint32_t x) {
    put(b, &x, sizeof x);
}

static void put_u64(Bytes *b, uint64_t x) {
    put(b, &x, sizeof x);
}

static void put_text(Bytes *b, const char *text) {
    size_t n = strlen(text);
    put_u64(b, n);
    put(b, text, n);
}

void gguf_free(Gguf *g) {
    free(g->pairs.at);
    free(g->tensors.at);
    *g = (Gguf){0};
}

static Bytes *add_pair(Gguf *g, const char *key, uint32_t type) {
    g->npairs++;
    put_text(&g->pairs, key);
    put_u32(&g->pairs, type);
    return &g->pairs;
}

void gguf_add_u32(Gguf *g, const char *key, uint32_t x) {
    put_u32(add_pair(g, key, PAIR_U32), x);
}

void gguf_add_f32(Gguf *g, const char *key, float x) {
    put(add_pair(g, key, PAIR_F32), &x, sizeof x);
}

void gguf_add_bool(Gguf *g, const char *key, bool x) {
    put(add_pair(g, key, PAIR_BOOL), &(char){x}, 1);
}

void gguf_add_text(Gguf *g, const char *key, const char *text) {
    put_text(add_pair(g, key, PAIR_TEXT), text);
}

static void begin_array(Gguf *g, const char *key, uint32_t type, uint64_t n) {
    Bytes *b = add_pair(g, key, PAIR_ARRAY);
    put_u32(b, type);
    put_u64(b, n);
}

void gguf_begin_texts(Gguf *g, const char *key, uint64_t n) {
    begin_array(g, key, PAIR_TEXT, n);
}

void gguf_push_text(Gguf *g, const char *text) {
    put_text(&g->pairs, text);
}

void gguf_begin_i32s(Gguf *g, const char *key, uint64_t n) {
    begin_array(g, key, PAIR_I32, n);
}

void gguf_push_i32(Gguf *g, int32_t x) {
    put(&g->pairs, &x, sizeof x);
}

uint64_t gguf_add_tensor(Gguf *g, const char *name, uint32_t rank, const int64_t *dim, GgmlType type) {
    uint64_t blocks = 1;
    g->ntensors++;
    put_text(&g->tensors, name);
    put_u32(&g->tensors, rank);
    for (uint32_t i = rank; i-- > 0;) {
        put_u64(&g->tensors, (uint64_t)dim[i]);
        blocks *= (uint64_t)(i == rank - 1 ? dim[i] / ggml_block_weights(type) : dim[i]);
    }
    put_u32(&g->tensors, type);
    put_u64(&g->tensors, g->data);
    uint64_t bytes = blocks * (uint64_t)ggml_block_bytes(type);
    g->data += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return bytes;
}

/* ---- writing */

bool gguf_write_padding(NewFile *file, uint64_t bytes) {
    static const char zeros[ALIGNMENT];
    return newfile_write(file, zeros, (size_t)((ALIGNMENT - bytes % ALIGNMENT) % ALIGNMENT));
}

bool gguf_write_head(const Gguf *g, NewFile *file) {
    Bytes start = {0};
    put(&start, "GGUF", 4);
    put_u32(&start, VERSION);
    put_u64(&start, g->ntensors);
    put_u64(&start, g->npairs);
    bool ok = newfile_write(file, start.at, start.n) && newfile_write(file, g->pairs.at, g->pairs.n) &&
              newfile_write(file, g->tensors.at, g->tensors.n) &&
              gguf_write_padding(file, start.n + g->pairs.n + g->tensors.n);
    free(start.at);
    return ok;
}
