/* tbc compile: spec, config.json or .tir -> frontend -> passes -> codegen -> train.so. */
#include "../codegen/codegen.h"
#include "build.h"
#include "cmd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

/* Do both names stand for one file? Then what is written would replace what was read. */
static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && S_ISREG(x.st_mode) && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
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
    int status = cmd_parse(argc, argv, options, &c->input, "a model spec");
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
    if (tir) return load_tir(c->input, diag);
    SpecModule s;
    spec_open(&s, c->input, &c->spec, diag);
    Module *m = s.module;
    s.module = NULL;
    spec_close(&s);
    return m;
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
        diag_error(diag, c->input, 0, 0, "--precision %s: the module is past the precision pass and has %s",
                   wanted, found);
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
    const char *const pairs[] = {"grads",     buffer ? "buffer" : "fused",
                                 "precision", precision,
                                 "target",    is_gpu(c) ? "nvptx64" : "x86-64",
                                 "compiler",  "tbc " TBC_VERSION,
                                 "cpu",       t->cpu,
                                 NULL};
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
    c->passes.precision = option_precision(c->precision);
    c->passes.bf16_heads = is_gpu(c);
    c->passes.f32_products = is_gpu(c) && !(c->precision && strcmp(c->precision, "bf16") == 0);
    c->passes.f32_decode = is_gpu(c);
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

int cmd_compile(int argc, char **argv, Diag *diag) {
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
