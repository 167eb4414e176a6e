/* A module as one JSON object. Internal to `tbc inspect`. */
#ifndef TBC_INSPECT_JSON_H
#define TBC_INSPECT_JSON_H

#include "../ir/base.h"
#include "../runtime/tbc_module.h"
#include <stdio.h>

#define INSPECT_KINDS 7
extern const char *const inspect_kind[INSPECT_KINDS]; /* names of enum tbc_kind */

void inspect_json(const tbc_module_t *, FILE *out);

#endif
