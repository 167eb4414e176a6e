/* Two config.json compared: weights run with another rope_theta or rms_norm_eps give a model that is worse
 * for no visible reason. */
#include "same_config.h"
#include "error.h"
#include "files/files.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>

static const cJSON *get(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* The number under `key`; of theta, which has moved about, the one that Transformers takes. NULL: none. */
static const cJSON *number(const cJSON *config, const char *key) {
    static const char *const holders[] = {"rope_scaling", "rope_parameters"};
    for (size_t i = 0; i < sizeof holders / sizeof *holders; i++) {
        const cJSON *nested = get(get(config, holders[i]), key);
        if (cJSON_IsNumber(nested)) return nested;
    }
    const cJSON *own = get(config, key);
    return cJSON_IsNumber(own) ? own : NULL;
}

static bool compare(const char *path, const cJSON *theirs, const cJSON *ours) {
    static const char *const keys[] = {"rope_theta", "rms_norm_eps"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cJSON *a = number(theirs, keys[i]), *b = number(ours, keys[i]);
        if (!a || !b || fabs(a->valuedouble - b->valuedouble) <= 1e-6 * fabs(b->valuedouble)) continue;
        return rt_error(path, "%s is %g, but %g in the module (compile with this file, or change it here)",
                        keys[i], a->valuedouble, b->valuedouble);
    }
    return true;
}

bool same_config(const char *model, const char *module_config) {
    char *path = file_beside(model, "config.json");
    FileMap map = {0};
    bool ok = true;
    if (file_exists(path) && (ok = file_map(&map, path))) {
        cJSON *theirs = cJSON_ParseWithLength((const char *)map.at, map.size),
              *ours = cJSON_Parse(module_config);
        ok = cJSON_IsObject(theirs) ? compare(path, theirs, ours) : rt_error(path, "not a JSON object");
        cJSON_Delete(theirs), cJSON_Delete(ours);
    }
    file_unmap(&map);
    free(path);
    return ok;
}
