/* recompute: what the backward part needs of the forward part is computed again where that pays, rather than
 * kept in memory in between (rerun.h has how).
 *
 * With a budget (options.memory) the first drops of the ranking are made, as few as a plan within the budget
 * needs; if even all of them are not enough, that is an error. Without one, row regions and lookups are
 * computed again, which only move bytes, if that takes 1 % of the step's time at most and makes the plan
 * smaller: large models save a tenth of their memory, and small ones, whose products take no longer than
 * their row regions and which fit anyhow, stay as they are.
 *
 * How much memory a choice takes is found by scheduling and planning it. */
#include "rerun.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FREE_SHARE 0.01 /* of the step's time, that may be spent unasked */
#define SAMPLES    8    /* numbers of drops to look at for the least memory */

/* One function with a backward part. */
typedef struct Search {
    PassCtx *ctx;
    const Module *m;
    const Module *others; /* the functions without one, as they will be planned */
    const Graph *g;       /* scheduled */
    Rerun rerun;
    Drops drops;
    int64_t time; /* of the function as it is */
} Search;

/* The function as it will be planned. */
static Graph *finish(PassCtx *ctx, const Graph *g) {
    Graph *narrowed = narrow_graph(ctx, g), *ordered = schedule_graph(ctx, narrowed);
    graph_free(narrowed);
    return ordered;
}

/* Bytes that the function needs with the first n drops, and the module beside the arena; -1 after a reported
 * error. */
static int64_t planned_bytes(Search *s, uint32_t n) {
    PassCtx ctx = *s->ctx;
    ctx.scratch = arena_new();
    s->rerun.scratch = ctx.scratch;
    RerunCost cost;
    Graph *g = rerun_build(&s->rerun, &s->drops, n, &cost), *ordered = finish(&ctx, g);
    Module trial = *s->m;
    trial.graphs.n = 0;
    trial.graphs.at = arena_array(ctx.scratch, Graph *, s->others->graphs.n + 1);
    trial.graphs.at[trial.graphs.n++] = ordered;
    for (uint32_t i = 0; i < s->others->graphs.n; i++)
        trial.graphs.at[trial.graphs.n++] = s->others->graphs.at[i];
    int64_t bytes = pass_plan_memory(&ctx, &trial) ? trial.arena_bytes : -1;
    const MemoryBudget *budget = &ctx.options->memory;
    if (bytes >= 0 && budget->beside) bytes += budget->beside(&trial, budget->context);
    graph_free(g);
    graph_free(ordered);
    arena_free(ctx.scratch);
    return bytes;
}

/* ---- choosing how many to drop */

typedef struct Choice {
    uint32_t drops;
    int64_t before, after; /* bytes needed without drops, and with them; -1: an error was reported */
} Choice;

/* What moves bytes only, if that is next to free. */
static Choice choose_free(Search *s) {
    uint32_t n = 0;
    int64_t time = 0;
    for (; n < s->drops.at.n && !s->drops.at.at[n].heavy; n++) time += s->drops.at.at[n].time;
    if (n == 0 || (double)time > FREE_SHARE * (double)s->time) return (Choice){0};
    Choice c = {n, planned_bytes(s, 0), planned_bytes(s, n)};
    if (c.after >= c.before) c.drops = 0;
    return c;
}

/* Rounded up, so that what is said to be enough is. */
static const char *size_text(PassCtx *ctx, int64_t bytes) {
    const double mib = 1024 * 1024, gib = 1024 * mib;
    bool large = (double)bytes >= gib;
    double value = (double)bytes / (large ? gib : mib);
    return arena_printf(ctx->scratch, "%.2f %s", ceil(100 * value - 1e-3) / 100, large ? "GiB" : "MiB");
}

static void report_too_small(Search *s, int64_t least) {
    PassCtx *ctx = s->ctx;
    int64_t lasting = 0, budget = ctx->options->memory.bytes;
    for (uint32_t i = 0; i < s->g->nodes.n; i++) {
        const Node *n = &s->g->nodes.at[i];
        if (n->op == OP_param || n->op == OP_state) lasting += type_bytes(val_type(s->g, n->out));
    }
    const char *advice = lasting < budget ? "compile with a smaller --batch or --seq, or more --memory"
                                          : "a smaller model or more --memory would do";
    diag_error(ctx->diag, s->m->files.n ? s->m->files.at[0] : NULL, 0, 0,
               "@%s does not fit %s of memory: with all recomputed that can be it needs %s, of them %s for "
               "weights and optimizer (%s)",
               s->g->name, size_text(ctx, budget), size_text(ctx, least), size_text(ctx, lasting), advice);
}

/* The fewest drops that fit the budget; -1 as bytes after a reported error. */
static Choice choose_for(Search *s, int64_t budget) {
    int64_t before = planned_bytes(s, 0);
    Choice c = {0, before, before};
    uint32_t few = 0; /* are not enough */
    for (uint32_t i = 1; c.after > budget && i <= SAMPLES; i++) {
        uint32_t n = (uint32_t)((uint64_t)s->drops.at.n * i / SAMPLES);
        int64_t bytes = planned_bytes(s, n);
        if (bytes > budget) few = n;
        if (bytes < c.after) c.drops = n, c.after = bytes;
    }
    if (c.after > budget) {
        report_too_small(s, c.after);
        return (Choice){0, before, -1};
    }
    while (c.drops > few + 1) {
        uint32_t n = few + (c.drops - few) / 2;
        int64_t bytes = planned_bytes(s, n);
        if (bytes > budget)
            few = n;
        else
            c.drops = n, c.after = bytes;
    }
    return c;
}

/* ---- the pass */

static int64_t time_of(const Graph *g) {
    int64_t time = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) time += rerun_time(g, &g->nodes.at[i]);
    return time;
}

static void report(const Search *s, const Choice *c, const RerunCost *cost, Buf *out) {
    buf_printf(out, "%s%s: %u values of the forward part are computed again (", out->n ? "; " : "",
               s->g->name, c->drops);
    const char *comma = "";
    for (uint32_t op = 0; op < OP_COUNT; op++) {
        if (!cost->nodes[op]) continue;
        buf_printf(out, "%s%u %s", comma, cost->nodes[op], op_info[op].name);
        comma = ", ";
    }
    buf_printf(out, "): %s instead of %s, for %.3g GFLOP and %.3g GB moved, about %.1f %% of the step",
               size_text(s->ctx, c->after), size_text(s->ctx, c->before), 1e-9 * (double)cost->cost.flops,
               1e-9 * (double)cost->cost.bytes, 100 * (double)cost->time / (double)s->time);
}

/* The function that takes g's place, g itself if nothing changes; NULL after a reported error. What was done is added
 * to `did`. */
static Graph *recompute(PassCtx *ctx, const Module *m, const Module *others, Graph *g, Buf *did) {
    Graph *ordered = schedule_graph(ctx, g), *to = g;
    Search s = {.ctx = ctx, .m = m, .others = others, .g = ordered, .time = time_of(ordered)};
    s.rerun = rerun_new(ordered, ctx->scratch);
    rerun_rank(&s.rerun, &s.drops);
    int64_t budget = ctx->options->memory.bytes;
    Choice c = budget ? choose_for(&s, budget) : choose_free(&s);
    if (c.after < 0) {
        to = NULL;
    } else if (c.drops) {
        RerunCost cost;
        s.rerun.scratch = ctx->scratch;
        to = rerun_build(&s.rerun, &s.drops, c.drops, &cost);
        report(&s, &c, &cost, did);
    }
    graph_free(ordered);
    vec_free(&s.drops.at);
    return to;
}

bool pass_recompute(PassCtx *ctx, Module *m) {
    Module others = {0};
    for (uint32_t i = 0; i < m->graphs.n; i++)
        if (!has_backward(m->graphs.at[i])) vec_push(&others.graphs, finish(ctx, m->graphs.at[i]));
    Buf did = {0};
    bool ok = true;
    for (uint32_t i = 0; ok && i < m->graphs.n; i++) {
        Graph *g = m->graphs.at[i], *to = has_backward(g) ? recompute(ctx, m, &others, g, &did) : g;
        ok = to != NULL;
        if (!ok || to == g) continue;
        graph_free(g);
        m->graphs.at[i] = to;
    }
    for (uint32_t i = 0; i < others.graphs.n; i++) graph_free(others.graphs.at[i]);
    vec_free(&others.graphs);
    if (ok && did.n && ctx->options->recomputed) ok = ctx->options->recomputed(ctx, m, did.at);
    buf_free(&did);
    return ok;
}
