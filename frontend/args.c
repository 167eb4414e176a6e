/* Reading command-line arguments. */
#include "args.h"
#include "suggest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

TBC_PRINTF(2, 3) static bool wrong(Buf *error, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(error, fmt, ap);
    va_end(ap);
    return false;
}

static bool unknown(const ArgOption *options, const char *name, Buf *error) {
    VEC(const char *) known = {0};
    for (const ArgOption *o = options; o->name; o++) vec_push(&known, o->name);
    const char *near = suggest(name, known.at, known.n);
    vec_free(&known);
    if (near) return wrong(error, "unknown option '%s' (did you mean '%s'?)", name, near);
    return wrong(error, "unknown option '%s'", name);
}

static bool is_choice(const char *choices, const char *value) {
    size_t n = strlen(value);
    for (const char *c = choices; *c;) {
        size_t length = strcspn(c, "|");
        if (length == n && memcmp(c, value, n) == 0) return true;
        c += length + (c[length] == '|');
    }
    return false;
}

/* A number of bytes: digits, perhaps a fraction, and K, M, G or T, or these with iB for 1024 or B for 1000. */
static bool read_size(const char *text, int64_t *bytes) {
    static const char prefix[] = "KMGT";
    char *end;
    double value = *text >= '0' && *text <= '9' ? strtod(text, &end) : 0;
    if (!(value > 0) || end != text + strspn(text, "0123456789.")) return false; /* strtod also takes 0x10, 1e3 */
    const char *p = *end ? strchr(prefix, *end) : NULL;
    if (p) {
        bool decimal = strcmp(++end, "B") == 0;
        for (const char *c = prefix; c <= p; c++) value *= decimal ? 1000 : 1024;
        end += decimal ? 1 : strcmp(end, "iB") == 0 ? 2 : 0;
    }
    if (*end || value < 1 || value > 0x1p62) return false;
    *bytes = (int64_t)value;
    return true;
}

static bool set(const ArgOption *o, const char *value, Buf *error) {
    char *end;
    switch (o->kind) {
    case ARG_FLAG:
        *(bool *)o->to = true;
        return true;
    case ARG_TEXT:
        if (o->choices && !is_choice(o->choices, value))
            return wrong(error, "%s %s: one of %s was expected", o->name, value, o->choices);
        if (!*value) return wrong(error, "%s needs a value", o->name);
        *(const char **)o->to = value;
        return true;
    case ARG_LIST:
        vec_push((ArgList *)o->to, value);
        return true;
    case ARG_SIZE:
        if (read_size(value, o->to)) return true;
        return wrong(error, "%s %s: a size such as 512M or 8G was expected", o->name, value);
    case ARG_COUNT:
        errno = 0;
        *(int64_t *)o->to = strtoll(value, &end, 10);
        if (!errno && *value >= '0' && *value <= '9' && !*end && *(int64_t *)o->to > 0) return true;
        return wrong(error, "%s %s: a whole number above 0 was expected", o->name, value);
    }
    return false;
}

/* Argument i is an option; advances i over its value. */
static bool parse_option(int argc, char **argv, int *i, const ArgOption *options, Buf *error) {
    const char *arg = argv[*i], *equals = strncmp(arg, "--", 2) == 0 ? strchr(arg, '=') : NULL;
    size_t length = equals ? (size_t)(equals - arg) : strlen(arg);
    for (const ArgOption *o = options; o->name; o++) {
        if (strlen(o->name) != length || memcmp(o->name, arg, length) != 0) continue;
        if (o->kind == ARG_FLAG && equals) return wrong(error, "%s takes no value", o->name);
        if (o->kind == ARG_FLAG || equals) return set(o, equals ? equals + 1 : NULL, error);
        if (*i + 1 >= argc) return wrong(error, "%s needs a value", o->name);
        return set(o, argv[++*i], error);
    }
    return unknown(options, arg, error);
}

bool args_parse(int argc, char **argv, const ArgOption *options, const char **positional,
                uint32_t npositional, const char *positional_names, Buf *error) {
    uint32_t n = 0;
    bool only_positional = false;
    for (int i = 0; i < argc; i++) {
        if (!only_positional && strcmp(argv[i], "--") == 0) {
            only_positional = true;
        } else if (!only_positional && argv[i][0] == '-' && argv[i][1]) {
            if (!parse_option(argc, argv, &i, options, error)) return false;
        } else if (n == npositional) {
            return wrong(error, "unexpected argument '%s'", argv[i]);
        } else {
            positional[n++] = argv[i];
        }
    }
    return n == npositional || wrong(error, "%s is missing", positional_names);
}
