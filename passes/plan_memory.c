/* plan-memory: an offset in the arena for every value.
 *
 *     params | states | tables | what one function needs while it runs | states of training | the same
 *
 * Params and states stand at the same place in every function, and so do tables of cosines and sines,
 * which are equal if op, angle and type are. The rest of the arena serves every function anew: its values
 * (inputs, outputs, temporaries) are gathered into blocks (storage.h), and blocks that are in use at
 * different times share memory. Blocks are placed from the largest to the smallest, each at the lowest offset
 * that is free during its time. States that only functions for training have, moments above all, begin behind
 * what all other functions need: who does not train has no use for the arena from there on. */
#include "storage.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64
#define PAGE      4096
#define BIG       ((int64_t)1 << 20) /* from which on a block starts on a page */

static int64_t align(int64_t at, int64_t bytes) {
    int64_t unit = bytes >= BIG ? PAGE : ALIGNMENT;
    return (at + unit - 1) / unit * unit;
}

/* ---- what all functions share */

typedef struct Shared {
    const Graph *g; /* the first function that has it */
    const Node *node;
    int64_t at;
} Shared;

typedef struct Layout {
    VEC(Shared) shared;
    int64_t end;
    int64_t base;   /* where functions' own memory begins */
    Block training; /* states of training, when they are laid out: always in use */
} Layout;

static bool is_training(const Graph *g) {
    return has_backward(g) || strcmp(g->name, "update") == 0;
}

static bool same_storage(const Shared *s, const Graph *g, const Node *n) {
    if (s->node->op != n->op) return false;
    if (n->op == OP_param || n->op == OP_state) return strcmp(s->node->attrs.name, n->attrs.name) == 0;
    return s->node->attrs.theta == n->attrs.theta &&
           type_equal(val_type(s->g, s->node->out), val_type(g, n->out));
}

static int64_t shared_at(const Layout *l, const Graph *g, const Node *n) {
    for (uint32_t i = 0; i < l->shared.n; i++)
        if (same_storage(&l->shared.at[i], g, n)) return l->shared.at[i].at;
    return -1;
}

/* What functions for training have, or all others, and has no place yet. */
static void lay_out(Layout *l, const Module *m, Op op, bool training) {
    for (uint32_t j = 0; j < m->graphs.n; j++) {
        const Graph *g = m->graphs.at[j];
        if (is_training(g) != training) continue;
        for (uint32_t i = 0; i < g->nodes.n; i++) {
            const Node *n = &g->nodes.at[i];
            if (n->op != op || shared_at(l, g, n) >= 0) continue;
            int64_t bytes = type_bytes(val_type(g, n->out));
            Shared s = {g, n, align(l->end, bytes)};
            vec_push(&l->shared, s);
            l->end = s.at + bytes;
        }
    }
}

static bool is_shared(Op op) {
    return op == OP_param || op == OP_state || op == OP_rope_cos || op == OP_rope_sin;
}

/* ---- what a function has to itself */

static int larger_first(const void *x, const void *y) {
    const Block *a = *(Block *const *)x, *b = *(Block *const *)y;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    return a->last < b->last ? -1 : a->last > b->last;
}

/* The lowest offset from base on at which b overlaps none of the placed blocks that are in use during its
 * time; `placed` is in order of offsets. */
static int64_t lowest_free(const Block *b, Block *const *placed, uint32_t n, int64_t base) {
    int64_t at = align(base, b->bytes);
    for (uint32_t i = 0; i < n; i++) {
        const Block *p = placed[i];
        if (p->last < b->first || b->last < p->first || p->at + p->bytes <= at) continue;
        if (p->at >= at + b->bytes) break;
        at = align(p->at + p->bytes, b->bytes);
    }
    return at;
}

/* Places the blocks that have no place yet beside `taken`; returns where the last one ends. */
static int64_t place_blocks(Storage *s, int64_t base, Block *taken, Arena *scratch) {
    uint32_t n = 0;
    Block **todo = arena_array(scratch, Block *, s->g->values.n),
          **placed = arena_array(scratch, Block *, s->g->values.n + 1);
    for (Val v = 0; v < s->g->values.n; v++)
        if (s->root[v] == v && s->block[v].at < 0) todo[n++] = &s->block[v];
    if (n) qsort(todo, n, sizeof *todo, larger_first);
    int64_t end = base;
    placed[0] = taken;
    for (uint32_t i = 0; i < n; i++) {
        Block *b = todo[i];
        b->at = lowest_free(b, placed, i + 1, base);
        if (b->at + b->bytes > end) end = b->at + b->bytes;
        uint32_t k = i + 1;
        for (; k > 0 && placed[k - 1]->at > b->at; k--) placed[k] = placed[k - 1];
        placed[k] = b;
    }
    return end;
}

/* A store writes over the old content; nobody may read that afterwards. schedule sees to it. */
static bool check_stores(PassCtx *ctx, const Storage *s) {
    const Graph *g = s->g;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        Val old = n->op == OP_store ? declared_value(g, n->attrs.name) : VAL_NONE;
        if (old == VAL_NONE || s->root[old] == s->root[n->in[0]] || s->block[s->root[old]].last <= i)
            continue;
        const Module *m = ctx->module;
        const char *file = n->loc.line && n->loc.file < m->files.n ? m->files.at[n->loc.file] : NULL;
        diag_error(ctx->diag, file, n->loc.line, n->loc.col,
                   "@%s: '%s' is read after it is stored to (run pass schedule first)", g->name,
                   n->attrs.name);
        return false;
    }
    return true;
}

/* Sets the offsets of g's values. Returns where they end, -1 after a reported error. */
static int64_t plan_graph(PassCtx *ctx, Graph *g, Layout *l) {
    int64_t *at = arena_array(ctx->scratch, int64_t, g->values.n);
    for (Val v = 0; v < g->values.n; v++) {
        const Node *n = val_node(g, v);
        at[v] = is_shared(n->op) ? shared_at(l, g, n) : -1;
    }
    Storage s = storage_of(g, at, ctx->scratch);
    if (!check_stores(ctx, &s)) return -1;
    int64_t end = place_blocks(&s, l->base, &l->training, ctx->scratch);
    for (Val v = 0; v < g->values.n; v++) g->values.at[v].offset = s.block[s.root[v]].at + s.delta[v];
    return align(end, BIG);
}

/* Plans the functions for training, or all others. False: an error was reported. */
static bool plan_graphs(PassCtx *ctx, Module *m, Layout *l, bool training) {
    int64_t most = l->end;
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        if (is_training(m->graphs.at[i]) != training) continue;
        int64_t end = plan_graph(ctx, m->graphs.at[i], l);
        if (end < 0) return false;
        if (end > most) most = end;
    }
    l->end = most;
    return true;
}

bool pass_plan_memory(PassCtx *ctx, Module *m) {
    static const Op shared[] = {OP_param, OP_state, OP_rope_cos, OP_rope_sin};
    Layout l = {0};
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        lay_out(&l, m, shared[i], false);
        if (shared[i] != OP_state) lay_out(&l, m, shared[i], true);
    }
    l.base = l.end = align(l.end, BIG);
    bool ok = plan_graphs(ctx, m, &l, false);
    if (ok) {
        l.training = (Block){.at = l.end, .last = UINT32_MAX};
        lay_out(&l, m, OP_state, true);
        l.end = align(l.end, BIG);
        l.training.bytes = l.end - l.training.at;
        ok = plan_graphs(ctx, m, &l, true);
    }
    if (ok) m->arena_bytes = l.end;
    vec_free(&l.shared);
    return ok;
}
