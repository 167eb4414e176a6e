/* 2-D integer arrays in NumPy's .npy format (versions 1, 2, 3; '<i4' and '<i8'; C order), mapped, not read.
 */
#ifndef TBC_RT_NPY_H
#define TBC_RT_NPY_H

#include "files.h"
#include <stdint.h>

typedef struct Npy {
    FileMap map;
    int64_t rows, cols;
    uint32_t width;            /* bytes of an element, 4 or 8; signed, little-endian */
    const unsigned char *data; /* rows*cols elements, row by row, inside map; perhaps unaligned */
} Npy;

/* Prints an error and returns false for anything that is not exactly such a file. */
bool npy_open(Npy *, const char *path);
void npy_close(Npy *); /* zeroed is allowed */

#endif
