/* Continuing a text. */
#ifndef TBC_RT_GENERATE_H
#define TBC_RT_GENERATE_H

#include "session.h"

/* The token that a temperature and a number u in [0, 1) pick from n logits; temperature 0: the largest, the
 * first of equals. -1: the logits are not finite. */
int64_t sample(const float *logits, int64_t n, double temperature, double u);

/* Prints --generate's text and its continuation to stdout as it comes. False: an error was printed. */
bool generate(Session *);

#endif
