/* Continuing a text. */
#ifndef TBC_RT_GENERATE_H
#define TBC_RT_GENERATE_H

#include "session.h"

/* Prints --generate's text and its continuation to stdout as it comes, until --max-tokens or one of the
 * config's eos_token_id, which is not printed; then speeds to stderr. False: an error was printed. */
bool generate(Session *);

#endif
