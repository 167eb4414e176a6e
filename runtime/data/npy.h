/* 1-D and 2-D integer arrays in NumPy's .npy format (versions 1, 2, 3; '<u2', '<i4', '<u4' and '<i8'; C
 * order), mapped, not read. */
#ifndef TBC_RT_NPY_H
#define TBC_RT_NPY_H

#include "../files/files.h"
#include "stream.h"

typedef struct Npy {
    FileMap map;
    unsigned rank;      /* 1 or 2 */
    int64_t rows, cols; /* 1-D: cols is 1 */
    IdType type;
    const unsigned char *data; /* rows*cols elements, row by row, inside map; perhaps unaligned */
} Npy;

/* Prints an error and returns false for anything that is not exactly such a file. */
bool npy_open(Npy *, const char *path);
void npy_close(Npy *); /* zeroed is allowed */

#endif
