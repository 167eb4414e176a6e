/* A stream of token ids that lie in pieces: parts of mapped files, read where they are and never copied
 * whole. Multi-byte elements are little-endian and need not be aligned. */
#ifndef TBC_RT_STREAM_H
#define TBC_RT_STREAM_H

#include <stddef.h>
#include <stdint.h>

typedef enum IdType { ID_U8, ID_U16, ID_I32, ID_U32, ID_I64, ID_TYPES } IdType;

typedef struct Piece {
    const unsigned char *at; /* the owner keeps it mapped */
    IdType type;
    int64_t first, n; /* position in the stream of its first id; how many */
} Piece;

/* Starts zeroed. */
typedef struct Stream {
    Piece *pieces;
    size_t npieces;
    int64_t n; /* ids in all */
} Stream;

size_t id_bytes(IdType);

/* Appends n ids; empty pieces are left out. */
void stream_append(Stream *, const void *at, IdType, int64_t n);
void stream_free(Stream *); /* leaves what the pieces point to alone */

/* Copies ids first .. first+n-1, which must be in the stream; what does not fit into int32 is
 * clipped to its range. */
void stream_read(const Stream *, int64_t first, int64_t n, int32_t *out);

/* Position of the first id outside 0 .. vocab-1 among those from `first` on, itself in *id; -1: there is
 * none. */
int64_t stream_find_invalid(const Stream *, int64_t first, int64_t vocab, int32_t *id);

#endif
