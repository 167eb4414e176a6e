/* tbc: the command line of the compiler, and the only file that sees all of its parts.
 *
 *     compile   spec, config.json or .tir -> frontend -> passes -> codegen -> train.so
 *     opt       .tir -> chosen passes -> .tir
 *     inspect   what is in a train.so
 *     graph     spec or .tir -> a picture
 *     ops, passes   the tables as Markdown
 *
 * Exit status: 0 done, 1 an error in the input or while working, 2 wrong usage. */
#include "../codegen/codegen.h"
#include "../passes/pass.h"
#include "args.h"
#include "build.h"
#include "graph.h"
#include "help.h"
#include "inspect.h"
#include "suggest.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DONE = 0, FAILED = 1, USAGE = 2 };

TBC_PRINTF(1, 2) static int usage_error(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("tbc: error: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs(" (tbc --help says how)\n", stderr);
    va_end(ap);
    return USAGE;
}

/* Reads a subcommand's arguments; DONE, or USAGE after a message. */
static int parse(int argc, char **argv, const ArgOption *options, const char **file, const char *file_name) {
    Buf error = {0};
    bool ok = args_parse(argc, argv, options, file, 1, file_name, &error);
    int status = ok ? DONE : usage_error("%s", error.at);
    buf_free(&error);
    return status;
}

static int unknown_pass(const char *name) {
    const char **known = xcalloc(pass_count, sizeof *known);
    for (uint32_t i = 0; i < pass_count; i++) known[i] = pass_info[i].name;
    const char *near = suggest(name, known, pass_count);
    free(known);
    if (near) return usage_error("unknown pass '%s' (did you mean '%s'?)", name, near);
    return usage_error("unknown pass '%s' (tbc passes lists them)", name);
}

/* ---- modules in and out */

/* Is the file the IR's text form? By its name, else by how it begins; a pipe, which can be read but once, is not. */
static bool is_tir(const char *path) {
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

static Module *load_tir(const char *path, Diag *diag) {
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

static Module *load_spec(const char *name, const SpecOptions *options, Diag *diag) {
    Sources src = {.arena = arena_new(), .diag = diag};
    Spec *spec = spec_load(&src, name, options);
    Module *m = spec ? build_module(spec) : NULL;
    spec_free(spec);
    vec_free(&src.files);
    arena_free(src.arena);
    return m;
}

/* Writes text to path, or to stdout if path is NULL or "-". */
static bool write_text(const char *path, const char *text, size_t n, Diag *diag) {
    if (!path || strcmp(path, "-") == 0) {
        fwrite(text, 1, n, stdout); /* main looks for errors */
        return true;
    }
    if (write_file(path, text, n)) return true;
    diag_error(diag, path, 0, 0, "cannot write the file: %s", strerror(errno));
    return false;
}

static bool write_tir(const Module *m, const char *path, Diag *diag) {
    Buf text = {0};
    print_module(m, &text);
    bool ok = write_text(path, text.at, text.n, diag);
    buf_free(&text);
    return ok;
}

/* Do both names stand for one file? Then what is written would replace what was read. */
static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && S_ISREG(x.st_mode) && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

/* ---- tbc compile */

enum { MAX_CORES = 4096 };

typedef struct Compile {
    const char *input, *out, *target, *cpu, *gpu, *precision, *grads, *emit;
    SpecOptions spec;
    int64_t cores;
    ArgList print_after;
    PassOptions passes;
} Compile;

static int check_passes(Compile *c) {
    for (uint32_t i = 0; i < c->print_after.n; i++) {
        if (!pass_find(c->print_after.at[i])) return unknown_pass(c->print_after.at[i]);
    }
    vec_push(&c->print_after, NULL);
    c->passes.print_after = c->print_after.at;
    const char *stop = c->passes.stop_after;
    if (!stop) return DONE;
    const PassInfo *pass = pass_find(stop);
    if (!pass) return unknown_pass(stop);
    if (pass == &pass_info[pass_count - 1]) return DONE;
    if (!c->emit) c->emit = "tir";
    if (strcmp(c->emit, "tir") == 0) return DONE;
    return usage_error("--emit %s needs all passes, --stop-after %s leaves some out", c->emit, stop);
}

static int parse_compile(int argc, char **argv, Compile *c) {
    const char *ternary = NULL;
    const ArgOption options[] = {
        {"-o", ARG_TEXT, &c->out, NULL},
        {"--target", ARG_TEXT, &c->target, "x86-64|nvptx64"},
        {"--cpu", ARG_TEXT, &c->cpu, NULL},
        {"--gpu", ARG_TEXT, &c->gpu, NULL},
        {"--cores", ARG_COUNT, &c->cores, NULL},
        {"--precision", ARG_TEXT, &c->precision, "f32|i16|bf16"},
        {"--batch", ARG_COUNT, &c->spec.batch, NULL},
        {"--seq", ARG_COUNT, &c->spec.seq, NULL},
        {"--ternary", ARG_TEXT, &ternary, "on|off"},
        {"--grads", ARG_TEXT, &c->grads, "fused|buffer"},
        {"--saved", ARG_TEXT, &c->passes.saved, "f32|bf16"},
        {"--memory", ARG_SIZE, &c->passes.memory.bytes, NULL},
        {"--emit", ARG_TEXT, &c->emit, "so|tir|ll|asm|ptx"},
        {"--dump-ir", ARG_TEXT, &c->passes.dump_dir, NULL},
        {"--print-after", ARG_LIST, &c->print_after, NULL},
        {"--stop-after", ARG_TEXT, &c->passes.stop_after, NULL},
        {"--time-passes", ARG_FLAG, &c->passes.time, NULL},
        {NULL, ARG_FLAG, NULL, NULL},
    };
    int status = parse(argc, argv, options, &c->input, "a model spec");
    if (!status) status = check_passes(c);
    if (status) return status;
    c->spec.full_precision = ternary && strcmp(ternary, "off") == 0;
    if (c->spec.batch > MAX_BATCH) return usage_error("--batch: %lld at most", (long long)MAX_BATCH);
    if (c->cores > MAX_CORES) return usage_error("--cores: %d at most", MAX_CORES);
    if (c->spec.seq > MAX_SEQ) return usage_error("--seq: %lld at most", (long long)MAX_SEQ);
    if (!c->emit) c->emit = "so";
    bool so = strcmp(c->emit, "so") == 0;
    if (!c->out && so) c->out = "train.so";
    if (so && c->out[0] == '-') return usage_error("-o %s: a file was expected (or ./%s)", c->out, c->out);
    if (c->out && same_file(c->input, c->out)) return usage_error("-o %s: that is the input", c->out);
    return DONE;
}

static bool is_gpu(const Compile *c) {
    return c->target && strcmp(c->target, "nvptx64") == 0;
}

/* Options that belong to one target. */
static int check_target(const Compile *c) {
    if (is_gpu(c) && c->cpu) return usage_error("--cpu %s: --target nvptx64 takes --gpu", c->cpu);
    if (is_gpu(c) && c->cores) return usage_error("--cores: --target nvptx64 is for GPUs");
    if (!is_gpu(c) && c->gpu) return usage_error("--gpu %s needs --target nvptx64", c->gpu);
    if (!is_gpu(c) && strcmp(c->emit, "ptx") == 0) return usage_error("--emit ptx needs --target nvptx64");
    return DONE;
}

static Module *load_input(const Compile *c, bool tir, Diag *diag) {
    if (!tir) return load_spec(c->input, &c->spec, diag);
    return load_tir(c->input, diag);
}

/* The first node that has an attribute; NULL: none has. */
static const Node *find_node(const Module *m, uint32_t attr) {
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        const Graph *g = m->graphs.at[i];
        for (uint32_t j = 0; j < g->nodes.n; j++)
            if (g->nodes.at[j].attrs.set & attr) return &g->nodes.at[j];
    }
    return NULL;
}

/* The precision of the module's products, asked for or, where they have one already, theirs. NULL after a
 * reported error. */
static const char *choose_precision(const Module *m, const Compile *c, Diag *diag) {
    const char *wanted = c->precision ? c->precision : "f32";
    const Node *n = find_node(m, A(precision));
    if (n || m->props & P(precision)) {
        const char *found = n ? n->attrs.precision : "f32";
        if (!c->precision || strcmp(wanted, found) == 0) return found;
        diag_error(diag, c->input, 0, 0,
                   "--precision %s: the module is past the precision pass and has %s", wanted,
                   found);
        return NULL;
    }
    if (strcmp(wanted, "i16") != 0 || find_node(m, A(group))) return wanted;
    diag_error(diag, c->input, 0, 0,
               "--precision i16: the model has no ternary weights, and other products are f32");
    return NULL;
}

/* Completes the meta of a module that is about to go through the passes. */
static bool complete_meta(Module *m, const Compile *c, const Target *t, Diag *diag) {
    bool updates = m->props & P(updates); /* a dump that has the step's form already */
    bool buffer = updates ? module_graph(m, "backward") != NULL : c->passes.grads_buffer;
    if (updates && c->grads && buffer != c->passes.grads_buffer) {
        diag_error(diag, c->input, 0, 0,
                   "--grads %s: the module is past the optimizer pass and has it otherwise", c->grads);
        return false;
    }
    const char *precision = choose_precision(m, c, diag);
    if (!precision) return false;
    const char *const pairs[] = {
        "grads",    buffer ? "buffer" : "fused", "precision", precision, "target", is_gpu(c) ? "nvptx64" : "x86-64",
        "compiler", "tbc " TBC_VERSION,          "cpu",       t->cpu,    NULL};
    if (meta_set(m, pairs)) return true;
    diag_error(diag, c->input, 0, 0, "the module's meta is no JSON object");
    return false;
}

/* The rest of the pipeline: a dump goes on after the last pass whose gifts it has. */
static bool run_passes(Module *m, const PassOptions *options, Diag *diag) {
    if (!passes_consistent(m, diag)) return false;
    uint32_t first = 0;
    for (uint32_t i = 0; i < pass_count; i++) {
        uint32_t gives = pass_info[i].gives;
        if (gives && (m->props & gives) == gives) first = i + 1;
    }
    const PassInfo **rest = xcalloc(pass_count, sizeof *rest);
    for (uint32_t i = first; i < pass_count; i++) rest[i - first] = &pass_info[i];
    bool ok = passes_run(m, diag, options, rest, pass_count - first);
    free(rest);
    return ok;
}

static bool emit(const Module *m, const Compile *c, const Target *t, Diag *diag) {
    if (strcmp(c->emit, "tir") == 0) return write_tir(m, c->out, diag);
    EmitKind kind = strcmp(c->emit, "so") == 0 ? EMIT_SO : strcmp(c->emit, "ll") == 0 ? EMIT_LL : EMIT_ASM;
    return codegen_emit(m, t, kind, c->out ? c->out : "-", diag);
}

/* What recompute did goes into the meta, and with --memory to stderr. */
static bool note_recomputed(PassCtx *ctx, Module *m, const char *what) {
    if (ctx->options->memory.bytes) fprintf(stderr, "tbc: %s\n", what);
    if (meta_set(m, (const char *const[]){"recompute", what, NULL})) return true;
    diag_error(ctx->diag, m->files.n ? m->files.at[0] : NULL, 0, 0, "the module's meta is no JSON object");
    return false;
}

/* --precision, as the passes take it. */
static const char *pass_option(const char *precision) {
    return precision && strcmp(precision, "f32") != 0 ? precision : NULL;
}

/* ---- --memory */

/* Of the program itself: code, tokenizer, text. */
#define PROGRAM_BYTES ((int64_t)64 << 20)

static int64_t beside_arena(const Module *m, const void *target) {
    const Target *t = target;
    return PROGRAM_BYTES + (t->sm ? 1 : t->cores) * (int64_t)codegen_scratch(m, t);
}

/* Was the module recomputed before it came here? Then --memory is too late. */
static bool can_fit(const Module *m, const Compile *c, Diag *diag) {
    if (!c->passes.memory.bytes || !(m->props & P(recomputed))) return true;
    diag_error(diag, c->input, 0, 0, "--memory: the module is past the recompute pass");
    return false;
}

/* Does it fit, now that it is planned? recompute saw to that, as far as it could foresee. */
static bool fits(const Module *m, const Compile *c, const Target *t, Diag *diag) {
    int64_t budget = c->passes.memory.bytes;
    if (!budget || !(m->props & P(planned))) return true;
    int64_t needed = m->arena_bytes + beside_arena(m, t);
    if (needed <= budget) return true;
    diag_error(diag, c->input, 0, 0, "needs %lld bytes, --memory allows %lld", (long long)needed,
               (long long)budget);
    return false;
}

static bool compile(Compile *c, bool tir, Diag *diag) {
    Arena *arena = arena_new();
    Target target = {0};
    Module *m = NULL;
    bool ok = is_gpu(c) ? target_init_gpu(&target, c->gpu, diag)
                        : target_init(&target, c->cpu, c->cores, arena, diag);
    ok = ok && (m = load_input(c, tir, diag)) != NULL;
    c->passes.grads_buffer = c->grads && strcmp(c->grads, "buffer") == 0;
    c->passes.precision = pass_option(c->precision);
    c->passes.f32_products = is_gpu(c) && !(c->precision && strcmp(c->precision, "bf16") == 0);
    if (is_gpu(c)) { /* large products and many tiles keep all of it at work */
        c->passes.update_block = 128;
        c->passes.logits_bytes = (int64_t)2560 << 20;
        c->passes.most_parts = 256;
    }
    c->passes.recomputed = note_recomputed;
    c->passes.memory.beside = beside_arena, c->passes.memory.context = &target;
    ok = ok && complete_meta(m, c, &target, diag) && can_fit(m, c, diag) && run_passes(m, &c->passes, diag) &&
         fits(m, c, &target, diag) && emit(m, c, &target, diag);
    module_free(m);
    arena_free(arena);
    return ok;
}

static int cmd_compile(int argc, char **argv, Diag *diag) {
    Compile c = {0};
#ifndef NDEBUG
    c.passes.verify = true;
#endif
    int status = parse_compile(argc, argv, &c);
    bool tir = !status && is_tir(c.input);
    if (!status) status = check_target(&c);
    if (!status && tir && (c.spec.batch || c.spec.seq || c.spec.full_precision))
        status = usage_error("--batch, --seq and --ternary need a spec, not a .tir file");
    if (!status && !compile(&c, tir, diag)) status = FAILED;
    vec_free(&c.print_after);
    return status;
}

/* ---- tbc opt */

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

static int cmd_opt(int argc, char **argv, Diag *diag) {
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
    int status = parse(argc, argv, table, &input, "a .tir file");
    if (!status) status = parse_passes(list, passes, MAX_PASSES, &n);
    if (status) return status;
    options.grads_buffer = grads && strcmp(grads, "buffer") == 0;
    options.precision = pass_option(precision);
    Module *m = load_tir(input, diag);
    bool ok = m && verify(m, diag) && (n == 0 || passes_run(m, diag, &options, passes, n));
    ok = ok && write_tir(m, out, diag);
    module_free(m);
    return ok ? DONE : FAILED;
}

/* ---- tbc graph */

typedef void DrawFormat(const Drawing *, Buf *);

/* By the name of the output; NULL: none of them. */
static DrawFormat *draw_format(const char *out) {
    const char *dot = strrchr(out, '.');
    if (!dot || strcmp(dot, ".svg") == 0) return dot || strcmp(out, "-") == 0 ? draw_svg : NULL;
    return strcmp(dot, ".dot") == 0 ? draw_dot : strcmp(dot, ".html") == 0 ? draw_html : NULL;
}

static Drawing *draw_model(const char *name, Diag *diag) {
    Sources src = {.arena = arena_new(), .diag = diag};
    Spec *spec = spec_load(&src, name, &(SpecOptions){0});
    Module *m = spec ? build_module(spec) : NULL;
    Drawing *d = m ? draw_spec(spec, m) : NULL;
    module_free(m);
    spec_free(spec);
    vec_free(&src.files);
    arena_free(src.arena);
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

static int cmd_graph(int argc, char **argv, Diag *diag) {
    const char *input, *out = "-", *function = NULL;
    const ArgOption options[] = {{"-o", ARG_TEXT, &out, NULL},
                                 {"--function", ARG_TEXT, &function, NULL},
                                 {NULL, ARG_FLAG, NULL, NULL}};
    int status = parse(argc, argv, options, &input, "a model spec or a .tir file");
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

/* ---- tbc inspect, ops, passes */

static int cmd_inspect(int argc, char **argv, Diag *diag) {
    const char *input;
    bool json = false;
    const ArgOption options[] = {{"--json", ARG_FLAG, &json, NULL}, {NULL, ARG_FLAG, NULL, NULL}};
    int status = parse(argc, argv, options, &input, "a compiled module");
    if (status) return status;
    return inspect_module(input, json, stdout, diag) ? DONE : FAILED;
}

static void print_props(uint32_t props) {
    for (uint32_t i = 0, first = 1; i < PROP_COUNT; i++) {
        if (!(props >> i & 1)) continue;
        printf("%s%s", first ? "" : ", ", prop_name[i]);
        first = 0;
    }
}

static void print_passes(void) {
    printf("| pass | needs | gives | breaks | what it does |\n|---|---|---|---|---|\n");
    for (uint32_t i = 0; i < pass_count; i++) {
        const PassInfo *p = &pass_info[i];
        printf("| %s | ", p->name);
        print_props(p->needs);
        printf(" | ");
        print_props(p->gives);
        printf(" | ");
        print_props(p->breaks);
        printf(" | %s |\n", p->help);
    }
}

static int cmd_table(int argc, const char *name, void (*print)(void)) {
    if (argc) return usage_error("tbc %s takes no arguments", name);
    print();
    return DONE;
}

/* ---- dispatch */

static int dispatch(int argc, char **argv, Diag *diag) {
    if (argc < 2) return usage_error("a command is missing: compile, opt, graph, inspect, ops or passes");
    const char *command = argv[1];
    int n = argc - 2;
    char **rest = argv + 2;
    if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0) return fputs(help_all, stdout), DONE;
    if (strcmp(command, "--version") == 0) return puts("tbc " TBC_VERSION), DONE;
    for (int i = 0; i < n; i++) {
        if (strcmp(rest[i], "--help") == 0 || strcmp(rest[i], "-h") == 0)
            return fputs(help_all, stdout), DONE;
    }
    if (strcmp(command, "compile") == 0) return cmd_compile(n, rest, diag);
    if (strcmp(command, "opt") == 0) return cmd_opt(n, rest, diag);
    if (strcmp(command, "graph") == 0) return cmd_graph(n, rest, diag);
    if (strcmp(command, "inspect") == 0) return cmd_inspect(n, rest, diag);
    if (strcmp(command, "ops") == 0) return cmd_table(n, "ops", print_ops);
    if (strcmp(command, "passes") == 0) return cmd_table(n, "passes", print_passes);
    return usage_error("unknown command '%s'", command);
}

int main(int argc, char **argv) {
    Diag diag = {.out = stderr};
    signal(SIGXFSZ, SIG_IGN); /* a file beyond ulimit -f is a failed write, which has its message */
    int status = dispatch(argc, argv, &diag);
    if ((fflush(stdout) || ferror(stdout)) && status == DONE) {
        diag_error(&diag, NULL, 0, 0, "cannot write to standard output: %s", strerror(errno));
        status = FAILED;
    }
    if (diag.errors > 20) fprintf(stderr, "tbc: %u errors in all, 20 shown\n", diag.errors);
    buf_free(&diag.text);
    return status;
}
