/* --verify: is the model ternary, and exactly as it trains? */
#ifndef TBC_RT_VERIFY_H
#define TBC_RT_VERIFY_H

#include "files/f16.h"
#include "session.h"

/* A group of n weights against its stored f16 scale and codes (2 bits each, packed as in tbc_module.h,
 * starting at code `first` of the row). Adds the codes to count[0..2] (-1, 0, +1). */
bool verify_group(const float *w, int64_t n, uint16_t scale, const uint8_t *row_codes, int64_t first,
                  int64_t count[3]);

/* Runs a forward pass, prints to stdout how often each ternary parameter is -1, 0 and +1, and compares every
 * code and scale with the projection of the latent weights. False: something differs; it was printed. */
bool verify_codes(Session *);

#endif
