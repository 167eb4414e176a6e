/* The pass driver: checks that a module has what a pass needs, runs it, updates the module's
 * properties, verifies the result, dumps it and takes the time. Passes are listed in passes.def. */
#include "pass.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

const PassInfo pass_info[] = {
#define PASS(fn, name, needs, gives, breaks, help) {name, pass_##fn, needs, gives, breaks, help},
#include "passes.def"
#undef PASS
};
const uint32_t pass_count = sizeof pass_info / sizeof *pass_info;

const PassInfo *pass_find(const char *name) {
    for (uint32_t i = 0; i < pass_count; i++)
        if (strcmp(pass_info[i].name, name) == 0) return &pass_info[i];
    return NULL;
}

/* ---- steps that passes share */

bool pass_trains(const Graph *g) {
    return strcmp(g->name, "train") == 0 || strcmp(g->name, "warmup") == 0;
}

bool pass_each_graph(PassCtx *ctx, Module *m, GraphFn *fn) {
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        Graph *to = fn(ctx, m->graphs.at[i]);
        if (!to) return false;
        graph_free(m->graphs.at[i]);
        m->graphs.at[i] = to;
    }
    return true;
}

Graph *pass_begin(const Graph *from) {
    Graph *to = graph_new(from->name);
    to->attrs = from->attrs;
    return to;
}

Val *pass_map(PassCtx *ctx, const Graph *from) {
    Val *map = arena_array(ctx->scratch, Val, from->values.n);
    for (uint32_t i = 0; i < from->values.n; i++) map[i] = VAL_NONE;
    return map;
}

/* ---- the driver */

/* One run of the driver. */
typedef struct Run {
    Module *m;
    Diag *diag;
    const PassOptions *options;
    uint32_t dumps;
    char *last_dump; /* path of the last dump, heap, NULL if there is none */
} Run;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t count_nodes(const Module *m) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->graphs.n; i++) n += m->graphs.at[i]->nodes.n;
    return n;
}

static bool named(const char *const *names, const char *name) {
    for (; names && *names; names++)
        if (strcmp(*names, name) == 0) return true;
    return false;
}

/* Writes DIR/NN-name.tir. The directory itself is made when it is missing, its parents are not. */
static bool dump(Run *r, const char *name) {
    const char *dir = r->options->dump_dir;
    if (!dir) return true;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) {
        diag_error(r->diag, dir, 0, 0,
                   "cannot make the directory for IR dumps: %s (name one that can be written)",
                   strerror(errno));
        return false;
    }
    Buf path = {0}, text = {0};
    buf_printf(&path, "%s/%02u-%s.tir", dir, r->dumps++, name);
    print_module(r->m, &text);
    bool ok = write_file(path.at, text.at, text.n);
    if (!ok) diag_error(r->diag, path.at, 0, 0, "cannot write the IR dump: %s", strerror(errno));
    buf_free(&text);
    free(r->last_dump);
    r->last_dump = path.at;
    return ok;
}

/* Has the module all `needs` of the pass? */
static bool has_needs(const Module *m, Diag *diag, const PassInfo *p, uint32_t needs) {
    uint32_t missing = needs & ~m->props;
    for (uint32_t prop = 0; prop < PROP_COUNT; prop++) {
        if (!(missing & 1u << prop)) continue;
        const char *giver = "no pass";
        for (uint32_t i = 0; i < pass_count; i++)
            if (pass_info[i].gives & 1u << prop) giver = pass_info[i].name;
        diag_error(diag, NULL, 0, 0,
                   "pass '%s' needs the property '%s', which the module does not have (%s gives it)", p->name,
                   prop_name[prop], giver);
    }
    return !missing;
}

bool passes_consistent(const Module *m, Diag *diag) {
    bool ok = true;
    for (uint32_t i = 0; i < pass_count; i++) {
        const PassInfo *p = &pass_info[i];
        if (m->props & p->gives && !has_needs(m, diag, p, p->needs & ~p->breaks)) ok = false;
    }
    return ok;
}

/* A pass that leaves a module that does not verify is a bug of the compiler. */
static void check(Run *r, const char *pass) {
    if (r->options->verify && !verify(r->m, r->diag))
        ice("pass '%s' left a module that does not verify; the last good dump: %s", pass,
            r->last_dump ? r->last_dump : "none (--dump-ir DIR makes them)");
}

static bool run_one(Run *r, const PassInfo *p) {
    if (!has_needs(r->m, r->diag, p, p->needs)) return false;
    PassCtx ctx = {.diag = r->diag, .options = r->options, .module = r->m, .scratch = arena_new()};
    bool ok = p->run(&ctx, r->m);
    arena_free(ctx.scratch);
    if (!ok) return false;
    r->m->props = (r->m->props & ~p->breaks) | p->gives;
    if (!(r->m->props & P(planned))) r->m->arena_bytes = -1;
    check(r, p->name);
    return dump(r, p->name);
}

static void print_after(const Module *m) {
    Buf text = {0};
    print_module(m, &text);
    fwrite(text.at, 1, text.n, stdout);
    buf_free(&text);
}

/* --stop-after must name a pass of this run, or it would silently have no effect. */
static bool stops_somewhere(Diag *diag, const PassOptions *o, const PassInfo *const *passes, uint32_t n) {
    if (!o->stop_after) return true;
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(passes[i]->name, o->stop_after) == 0) return true;
    diag_error(diag, NULL, 0, 0, "there is no pass '%s' to stop after in this run (tbc passes lists them)",
               o->stop_after);
    return false;
}

bool passes_run(Module *m, Diag *diag, const PassOptions *o, const PassInfo *const *passes, uint32_t n) {
    if (!stops_somewhere(diag, o, passes, n)) return false;
    Run r = {.m = m, .diag = diag, .options = o};
    double total = seconds();
    bool ok = dump(&r, "frontend");
    if (o->time) fprintf(stderr, "%-22s %10s %10s\n", "pass", "ms", "nodes");
    for (uint32_t i = 0; ok && i < n; i++) {
        double start = seconds();
        ok = run_one(&r, passes[i]);
        if (!ok) break;
        if (o->time)
            fprintf(stderr, "%-22s %10.2f %10u\n", passes[i]->name, 1e3 * (seconds() - start),
                    count_nodes(m));
        if (named(o->print_after, passes[i]->name)) print_after(m);
        if (o->stop_after && strcmp(o->stop_after, passes[i]->name) == 0) break;
    }
    if (o->time) fprintf(stderr, "%-22s %10.2f %10u\n", "total", 1e3 * (seconds() - total), count_nodes(m));
    free(r.last_dump);
    return ok;
}

bool passes_run_all(Module *m, Diag *diag, const PassOptions *o) {
    const PassInfo *all[sizeof pass_info / sizeof *pass_info];
    for (uint32_t i = 0; i < pass_count; i++) all[i] = &pass_info[i];
    return passes_run(m, diag, o, all, pass_count);
}
