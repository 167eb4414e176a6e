/* What the subcommands share: wrong usage, modules in and out, options of passes. */
#include "cmd.h"
#include "build.h"
#include "suggest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int usage_error(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("tbc: error: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs(" (tbc --help says how)\n", stderr);
    va_end(ap);
    return USAGE;
}

int cmd_parse(int argc, char **argv, const ArgOption *options, const char **file, const char *file_name) {
    Buf error = {0};
    bool ok = args_parse(argc, argv, options, file, 1, file_name, &error);
    int status = ok ? DONE : usage_error("%s", error.at);
    buf_free(&error);
    return status;
}

int unknown_pass(const char *name) {
    const char **known = xcalloc(pass_count, sizeof *known);
    for (uint32_t i = 0; i < pass_count; i++) known[i] = pass_info[i].name;
    const char *near = suggest(name, known, pass_count);
    free(known);
    if (near) return usage_error("unknown pass '%s' (did you mean '%s'?)", name, near);
    return usage_error("unknown pass '%s' (tbc passes lists them)", name);
}

/* ---- modules in and out */

/* By its name, else by how it begins; a pipe, which can be read but once, is not. */
bool is_tir(const char *path) {
    const char *dot = strrchr(path, '.');
    if (dot && strcmp(dot, ".tir") == 0) return true;
    if (dot && strcmp(dot, ".json") == 0) return false;
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return false;
    char start[6] = {0};
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    size_t n = fread(start, 1, sizeof start, f);
    fclose(f);
    return n == sizeof start && memcmp(start, "tbc_ir", n) == 0;
}

Module *load_tir(const char *path, Diag *diag) {
    size_t n;
    char *text = read_file(path, &n);
    if (!text) {
        diag_error(diag, path, 0, 0, "cannot read the file: %s", strerror(errno));
        return NULL;
    }
    Module *m = NULL;
    if (memchr(text, 0, n))
        diag_error(diag, path, 0, 0, "the file is not text (IR in text form was expected)");
    else
        m = parse_module(text, path, diag);
    free(text);
    return m;
}

bool spec_open(SpecModule *s, const char *name, const SpecOptions *options, Diag *diag) {
    *s = (SpecModule){.sources = {.arena = arena_new(), .diag = diag}};
    s->spec = spec_load(&s->sources, name, options);
    s->module = s->spec ? build_module(s->spec) : NULL;
    return s->module != NULL;
}

void spec_close(SpecModule *s) {
    module_free(s->module);
    spec_free(s->spec);
    vec_free(&s->sources.files);
    arena_free(s->sources.arena);
}

bool write_text(const char *path, const char *text, size_t n, Diag *diag) {
    if (!path || strcmp(path, "-") == 0) {
        fwrite(text, 1, n, stdout); /* main looks for errors */
        return true;
    }
    if (write_file(path, text, n)) return true;
    diag_error(diag, path, 0, 0, "cannot write the file: %s", strerror(errno));
    return false;
}

bool write_tir(const Module *m, const char *path, Diag *diag) {
    Buf text = {0};
    print_module(m, &text);
    bool ok = write_text(path, text.at, text.n, diag);
    buf_free(&text);
    return ok;
}

/* ---- options of passes */

bool note_recomputed(PassCtx *ctx, Module *m, const char *what) {
    if (ctx->options->memory.bytes) fprintf(stderr, "tbc: %s\n", what);
    if (meta_set(m, (const char *const[]){"recompute", what, NULL})) return true;
    diag_error(ctx->diag, m->files.n ? m->files.at[0] : NULL, 0, 0, "the module's meta is no JSON object");
    return false;
}

const char *option_precision(const char *precision) {
    return precision && strcmp(precision, "f32") != 0 ? precision : NULL;
}
