/* A module as one JSON object. Internal to `tbc inspect`. */
#ifndef TBC_INSPECT_JSON_H
#define TBC_INSPECT_JSON_H

#include "../ir/base.h"
#include "../runtime/tbc_module.h"
#include <stdio.h>

#define INSPECT_KINDS 7
extern const char *const inspect_kind[INSPECT_KINDS]; /* names of enum tbc_kind */
const char *inspect_dtype(const tbc_tensor *);          /* "f32"; "?" for one that this tbc does not know */

/* Parameters whose AdamW update is part of the product that computes their gradient, which never is in memory;
 * and those whose gradient is there for an update of its own. By the labels of launches. */
typedef struct Updates {
    uint32_t fused, materialised;
} Updates;
Updates inspect_updates(const tbc_module_t *);

void inspect_json(const tbc_module_t *, FILE *out);

#endif
