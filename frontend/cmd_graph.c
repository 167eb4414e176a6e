/* tbc graph: spec or .tir -> a picture. */
#include "cmd.h"
#include "graph.h"

#include <string.h>

typedef void DrawFormat(const Drawing *, Buf *);

/* By the name of the output; NULL: none of them. */
static DrawFormat *draw_format(const char *out) {
    const char *dot = strrchr(out, '.');
    if (!dot || strcmp(dot, ".svg") == 0) return dot || strcmp(out, "-") == 0 ? draw_svg : NULL;
    return strcmp(dot, ".dot") == 0 ? draw_dot : strcmp(dot, ".html") == 0 ? draw_html : NULL;
}

static Drawing *draw_model(const char *name, Diag *diag) {
    SpecModule s;
    Drawing *d = spec_open(&s, name, &(SpecOptions){0}, diag) ? draw_spec(s.spec, s.module) : NULL;
    spec_close(&s);
    return d;
}

static Drawing *draw_tir(const char *path, const char *function, Diag *diag) {
    Module *m = load_tir(path, diag);
    Drawing *d = NULL;
    const Graph *g = m && function ? module_graph(m, function) : m && m->graphs.n ? m->graphs.at[0] : NULL;
    if (g)
        d = draw_function(m, g, path, diag);
    else if (m)
        diag_error(diag, path, 0, 0, "there is no function '%s' in it", function ? function : "train");
    module_free(m);
    return d;
}

int cmd_graph(int argc, char **argv, Diag *diag) {
    const char *input, *out = "-", *function = NULL;
    const ArgOption options[] = {{"-o", ARG_TEXT, &out, NULL},
                                 {"--function", ARG_TEXT, &function, NULL},
                                 {NULL, ARG_FLAG, NULL, NULL}};
    int status = cmd_parse(argc, argv, options, &input, "a model spec or a .tir file");
    if (status) return status;
    DrawFormat *format = draw_format(out);
    if (!format) return usage_error("-o %s: a name that ends in .svg, .dot or .html was expected", out);
    bool tir = is_tir(input);
    if (function && !tir) return usage_error("--function needs a .tir file (a spec is drawn as it is)");
    Drawing *d = tir ? draw_tir(input, function, diag) : draw_model(input, diag);
    if (!d) return FAILED;
    Buf text = {0};
    if (format != draw_dot) draw_layout(d);
    format(d, &text);
    bool ok = write_text(out, text.at, text.n, diag);
    buf_free(&text);
    draw_free(d);
    return ok ? DONE : FAILED;
}
