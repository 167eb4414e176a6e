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

/* The module, with one function to change. */
typedef struct Search {
    PassCtx *ctx;
    Module *m;
    uint32_t step; /* index of that function */
    Rerun rerun;
    Drops drops;
    VEC(Graph *) others; /* the other functions, scheduled; NULL in the place of the step */
} Search;

static uint32_t step_function(const Module *m) {
    for (uint32_t i = 0; i < m->graphs.n; i++)
        if (strcmp(m->graphs.at[i]->name, "train") == 0 || strcmp(m->graphs.at[i]->name, "backward") == 0)
            return i;
    return NONE;
}

/* Bytes that the module needs with the first n drops, beside the arena too; -1 after a reported error. */
static int64_t planned_bytes(Search *s, uint32_t n) {
    PassCtx ctx = *s->ctx;
    ctx.scratch = arena_new();
    s->rerun.scratch = ctx.scratch;
    Module trial = *s->m;
    RerunCost cost;
    Graph *g = rerun_build(&s->rerun, &s->drops, n, &cost), *ordered = schedule_graph(&ctx, g);
    trial.graphs.at = arena_array(ctx.scratch, Graph *, s->others.n);
    for (uint32_t i = 0; i < s->others.n; i++)
        trial.graphs.at[i] = i == s->step ? ordered : s->others.at[i];
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
static Choice choose_free(Search *s, int64_t step_time) {
    uint32_t n = 0;
    int64_t time = 0;
    for (; n < s->drops.at.n && !s->drops.at.at[n].products; n++) time += s->drops.at.at[n].time;
    if (n == 0 || (double)time > FREE_SHARE * (double)step_time) return (Choice){0};
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
    const Graph *g = s->m->graphs.at[s->step];
    int64_t lasting = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        Op op = g->nodes.at[i].op;
        if (op == OP_param || op == OP_state) lasting += type_bytes(val_type(g, g->nodes.at[i].out));
    }
    diag_error(ctx->diag, s->m->files.n ? s->m->files.at[0] : NULL, 0, 0,
               "does not fit %s of memory: with all recomputed that can be it needs %s, of them %s for weights "
               "and optimizer (%s)",
               size_text(ctx, ctx->options->memory.bytes), size_text(ctx, least), size_text(ctx, lasting),
               lasting < ctx->options->memory.bytes ? "compile with a smaller --batch or --seq, or more --memory"
                                                    : "a smaller model or more --memory would do");
}

/* The fewest drops that fit the budget. */
static Choice choose_for(Search *s, int64_t budget) {
    Choice c = {0, planned_bytes(s, 0), 0};
    c.after = c.before;
    uint32_t most = s->drops.at.n, few = 0; /* the least number that is known to fit, and one that is known not to */
    int64_t least = c.before;
    for (uint32_t i = 1; least > budget && i <= SAMPLES; i++) {
        uint32_t n = (uint32_t)((uint64_t)most * i / SAMPLES);
        int64_t bytes = planned_bytes(s, n);
        if (bytes < least) least = bytes, c.drops = n, c.after = bytes;
        if (bytes > budget) few = n;
    }
    if (least > budget) {
        report_too_small(s, least);
        c.after = -1;
    }
    while (c.after >= 0 && c.drops > few + 1) {
        uint32_t n = few + (c.drops - few) / 2;
        int64_t bytes = planned_bytes(s, n);
        if (bytes <= budget)
            c.drops = n, c.after = bytes;
        else
            few = n;
    }
    return c;
}

/* ---- the pass */

static int64_t time_of(const Graph *g) {
    int64_t time = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) time += rerun_time(g, &g->nodes.at[i]);
    return time;
}

/* "0.90 GB less memory, .." in one line. */
static void report(const Search *s, const Choice *c, const RerunCost *cost, int64_t step_time, Buf *out) {
    buf_printf(out, "%u values of the forward part are computed again (", c->drops);
    const char *comma = "";
    for (uint32_t op = 0; op < OP_COUNT; op++) {
        if (!cost->nodes[op]) continue;
        buf_printf(out, "%s%u %s", comma, cost->nodes[op], op_info[op].name);
        comma = ", ";
    }
    buf_printf(out, "): %s instead of %s, for %.3g GFLOP and %.3g GB moved, about %.1f %% of the step",
               size_text(s->ctx, c->after), size_text(s->ctx, c->before), 1e-9 * (double)cost->cost.flops,
               1e-9 * (double)cost->cost.bytes, 100 * (double)cost->time / (double)step_time);
}

static void search_new(Search *s, PassCtx *ctx, Module *m, uint32_t step) {
    *s = (Search){.ctx = ctx, .m = m, .step = step};
    for (uint32_t i = 0; i < m->graphs.n; i++)
        vec_push(&s->others, i == step ? NULL : schedule_graph(ctx, m->graphs.at[i]));
}

bool pass_recompute(PassCtx *ctx, Module *m) {
    uint32_t step = step_function(m);
    int64_t budget = ctx->options->memory.bytes;
    if (step == NONE) return true;
    Search s;
    search_new(&s, ctx, m, step);
    Graph *g = schedule_graph(ctx, m->graphs.at[step]);
    s.rerun = rerun_new(g, ctx->scratch);
    rerun_rank(&s.rerun, &s.drops);
    int64_t step_time = time_of(g);
    Choice c = budget ? choose_for(&s, budget) : choose_free(&s, step_time);
    if (c.drops && c.after >= 0) {
        RerunCost cost;
        s.rerun.scratch = ctx->scratch;
        Graph *to = rerun_build(&s.rerun, &s.drops, c.drops, &cost);
        graph_free(m->graphs.at[step]);
        m->graphs.at[step] = to;
        if (ctx->options->recomputed) report(&s, &c, &cost, step_time, ctx->options->recomputed);
    }
    graph_free(g);
    for (uint32_t i = 0; i < s.others.n; i++)
        if (s.others.at[i]) graph_free(s.others.at[i]);
    vec_free(&s.others);
    vec_free(&s.drops.at);
    return c.after >= 0;
}
