/* `tbc inspect`: what is in a train.so. */
#ifndef TBC_INSPECT_H
#define TBC_INSPECT_H

#include "../ir/diag.h"

/* Prints the module in the file `path` to `out`: facts, parameters, the memory plan and the launches of
 * each table; with `json` as one JSON object. Nothing of the file is mapped before its size and hash
 * are checked. False after a reported error. */
bool inspect_module(const char *path, bool json, FILE *out, Diag *);

#endif
