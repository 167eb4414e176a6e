/* --export: gathers the parameters with their projection, and has them written in the form asked for. */
#include "export.h"
#include "../error.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool export_check(const Session *s) {
    return options_export_gguf(s->options) ? export_gguf_check(s) : export_hf_check(s);
}

static bool is_finite(const Exported *e) {
    int64_t n = tensor_values(e->param);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(e->latent[i])) return rt_error(NULL, "%s is not finite; not exported", e->param->name);
    return true;
}

/* Fills list, which has room for all. */
static bool gather(Session *s, Exported *list, size_t *n) {
    bool ok = session_download_weights(s);
    for (uint32_t i = 0; ok && i < s->module.desc->ntensors; i++) {
        const tbc_tensor *t = &s->module.desc->tensors[i];
        if (t->kind != TBC_PARAM) continue;
        Exported *e = &list[(*n)++];
        *e = (Exported){.param = t, .latent = device_at(&s->device, t)};
        ok = is_finite(e) && (t->group == 0 || codes_of(s, t, &e->codes));
    }
    return ok;
}

bool export_model(Session *s) {
    size_t n = 0;
    Exported *list = rt_calloc(s->module.desc->ntensors, sizeof *list);
    bool ok = gather(s, list, &n) &&
              (options_export_gguf(s->options) ? export_gguf(s, list, n) : export_hf(s, list, n));
    if (ok) printf("exported %s\n", s->options->export);
    free(list);
    return ok;
}
