/* The safetensors format (https://github.com/huggingface/safetensors): a u64 header length, a JSON header,
 * then the tensors' bytes without holes. Files are mapped; a tensor is converted only when it is read. */
#ifndef TBC_RT_SAFETENSORS_H
#define TBC_RT_SAFETENSORS_H

#include "files.h"
#include <stdint.h>

#define ST_MAX_RANK 8

/* A named tensor in memory that belongs to the caller: what is loaded into and saved from. f32, or bf16. */
typedef struct NamedTensor {
    const char *name;
    uint32_t rank;
    int64_t dim[ST_MAX_RANK];
    float *data;    /* row-major, dim[0]*..*dim[rank-1] values */
    uint16_t *bf16; /* instead of data, the upper halves of f32; NULL: it is f32 */
} NamedTensor;

int64_t tensor_count(uint32_t rank, const int64_t *dim); /* number of values */
float tensor_value(const NamedTensor *, int64_t i);

/* A tensor in a file. */
typedef struct StTensor {
    const char *name;
    const char *dtype; /* "F32", "BF16", ..: static */
    uint32_t rank;
    int64_t dim[ST_MAX_RANK];
    const unsigned char *data; /* in the map, perhaps unaligned */
    size_t bytes;
    const char *file; /* path of the file that holds it */
} StTensor;

typedef struct SafeTensors SafeTensors;

/* Opens a file, or a directory with model.safetensors or model.safetensors.index.json and its shards. All
 * headers are validated in full: lengths, JSON, dtypes, shapes against offsets, overlaps, holes, duplicate
 * names. Prints an error and returns NULL when something is wrong. */
SafeTensors *st_open(const char *path);
void st_close(SafeTensors *); /* NULL is allowed */

size_t st_count(const SafeTensors *);
const StTensor *st_at(const SafeTensors *, size_t i);           /* sorted by name */
const StTensor *st_find(const SafeTensors *, const char *name); /* NULL: not there */
const char *st_metadata(const SafeTensors *, const char *key);  /* of __metadata__; NULL: not there */

/* Converts F32, F16, BF16 or F64 to f32. Prints an error and returns false for another dtype. */
bool st_read_f32(const StTensor *, float *out);
/* Converts the same to bf16, to nearest even; BF16 stays as it is. */
bool st_read_bf16(const StTensor *, uint16_t *out);

/* Writes a file of tensors, streaming from their memory, into an opened NewFile (which the caller closes
 * and commits). metadata is NULL or {key, value, ..., NULL}. Prints an error and returns false on failure. */
bool st_write(NewFile *, const NamedTensor *, size_t n, const char *const *metadata);

/* Writes only the header, for tensors of the given dtypes ("F32", "BF16", ..; NULL: as they are), whose data are
 * not looked at: the caller writes them after it, in this order, without holes. */
bool st_write_header(NewFile *, const NamedTensor *, const char *const *dtypes, size_t n,
                     const char *const *metadata);

#endif
