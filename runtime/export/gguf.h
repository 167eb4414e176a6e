/* Writes GGUF files, version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), little-endian:
 *
 *     "GGUF", version, number of tensors, number of pairs
 *     the pairs: key, type, value
 *     the tensors: name, dimensions (innermost first), type, offset in the data
 *     padding to 32, then the data: each tensor padded to 32
 *
 * Pairs and tensors are gathered in memory, then the head is written, and the caller streams the data after
 * it, in the same order, each tensor followed by its padding. */
#ifndef TBC_RT_GGUF_H
#define TBC_RT_GGUF_H

#include "../files/files.h"
#include <stdint.h>

/* ggml's numbers of the tensor types; PQ2_0 is that of Prism's fork of llama.cpp. Blocks of both Q2_0 types:
 * an f16 scale, then the codes, 2 bits each, code + 1, low bits first; value = code * scale. */
typedef enum GgmlType { GGML_F32 = 0, GGML_F16 = 1, GGML_Q2_0 = 42, GGML_PQ2_0 = 142 } GgmlType;

int64_t ggml_block_weights(GgmlType); /* weights in a block: 1, 64, 128 */
int64_t ggml_block_bytes(GgmlType);

typedef struct Bytes {
    unsigned char *at;
    size_t n, room;
} Bytes;

/* A file in the making; starts zeroed. */
typedef struct Gguf {
    Bytes pairs, tensors;
    uint64_t npairs, ntensors;
    uint64_t data; /* bytes, padding included */
} Gguf;
void gguf_free(Gguf *);

void gguf_add_u32(Gguf *, const char *key, uint32_t);
void gguf_add_f32(Gguf *, const char *key, float);
void gguf_add_bool(Gguf *, const char *key, bool);
void gguf_add_text(Gguf *, const char *key, const char *text);

/* Arrays: begin, then push exactly n elements. */
void gguf_begin_texts(Gguf *, const char *key, uint64_t n);
void gguf_push_text(Gguf *, const char *text);
void gguf_begin_i32s(Gguf *, const char *key, uint64_t n);
void gguf_push_i32(Gguf *, int32_t);

/* dim is row-major, outermost first; the last one is a whole number of blocks. Returns the bytes of the
 * tensor's data, without padding. */
uint64_t gguf_add_tensor(Gguf *, const char *name, uint32_t rank, const int64_t *dim, GgmlType);

/* Both print an error and return false on failure. */
bool gguf_write_head(const Gguf *, NewFile *);
bool gguf_write_padding(NewFile *, uint64_t bytes); /* after a tensor of that many bytes */

#endif
