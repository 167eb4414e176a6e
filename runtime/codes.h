/* The ternary projection of the parameters, as the module's own kernels made it: what verifying compares and
 * exporting writes are the bytes that a forward pass reads. */
#ifndef TBC_RT_CODES_H
#define TBC_RT_CODES_H

#include "session.h"
#include <string.h>

/* A projected parameter in the arena; tbc_module.h describes the layout. */
typedef struct Codes {
    const uint8_t *at;     /* row r's codes begin at r*row_bytes; 2 bits each, code + 1, low bits first */
    const uint8_t *scales; /* f16, `groups` a row */
    int64_t rows, cols, group, groups, row_bytes;
} Codes;

/* A t2 tensor, which lies at `at` in the host's memory. */
Codes codes_at(const tbc_tensor *, const void *at);
/* The codes of a ternary parameter. False: an error was printed. */
bool codes_of(const Session *, const tbc_tensor *param, Codes *);

/* How many of the codes are -1, 0 and 1. */
void codes_count(const Codes *, int64_t count[3]);

static inline uint16_t codes_scale(const Codes *c, int64_t row, int64_t group) {
    uint16_t scale;
    memcpy(&scale, c->scales + 2 * (row * c->groups + group), sizeof scale);
    return scale;
}

/* The code of weight j of a row, -1, 0 or 1 (2 would be a broken one). */
static inline int code_at(const uint8_t *row_codes, int64_t j) {
    return (row_codes[j / 4] >> 2 * (j % 4) & 3) - 1;
}

#endif
