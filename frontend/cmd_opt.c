/* tbc opt: .tir -> chosen passes -> .tir. */
#include "cmd.h"

#include <string.h>

/* The comma-separated names in `list`; DONE, or USAGE after a message. */
static int parse_passes(const char *list, const PassInfo **passes, uint32_t max, uint32_t *n) {
    for (const char *c = list; *c;) {
        size_t length = strcspn(c, ",");
        if (length == 0) return usage_error("a pass is missing before ',' in --passes %s", list);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(length < 63 ? length : 63), c);
        if (*n == max) return usage_error("more than %u passes", max);
        passes[*n] = pass_find(name);
        if (!passes[(*n)++]) return unknown_pass(name);
        c += length;
        if (*c == ',' && !*++c) return usage_error("a pass is missing after ',' in --passes %s", list);
    }
    return DONE;
}

int cmd_opt(int argc, char **argv, Diag *diag) {
    enum { MAX_PASSES = 100 };
    const char *input, *list = "", *out = NULL, *grads = NULL, *precision = NULL;
    PassOptions options = {.verify = true, .recomputed = note_recomputed};
    const ArgOption table[] = {{"--passes", ARG_TEXT, &list, NULL},
                               {"-o", ARG_TEXT, &out, NULL},
                               {"--grads", ARG_TEXT, &grads, "fused|buffer"},
                               {"--precision", ARG_TEXT, &precision, "f32|i16|bf16"},
                               {"--saved", ARG_TEXT, &options.saved, "f32|bf16"},
                               {"--memory", ARG_SIZE, &options.memory.bytes, NULL},
                               {"--time-passes", ARG_FLAG, &options.time, NULL},
                               {NULL, ARG_FLAG, NULL, NULL}};
    const PassInfo *passes[MAX_PASSES];
    uint32_t n = 0;
    int status = cmd_parse(argc, argv, table, &input, "a .tir file");
    if (!status) status = parse_passes(list, passes, MAX_PASSES, &n);
    if (status) return status;
    options.grads_buffer = grads && strcmp(grads, "buffer") == 0;
    options.precision = option_precision(precision);
    Module *m = load_tir(input, diag);
    bool ok = m && verify(m, diag) && (n == 0 || passes_run(m, diag, &options, passes, n));
    ok = ok && write_tir(m, out, diag);
    module_free(m);
    return ok ? DONE : FAILED;
}
