/* Running parts of the forward computation again: see rerun.h.
 *
 * A value that is dropped is computed again from values at hand: saved ones, weights, codes, inputs. What it
 * needs beyond those is computed again too (it is `wanted`). A result of a region needs only those nodes of
 * the body that lead to it, and results of the same region that are at hand are read.
 *
 * Necks keep that short. A neck is a node such that all that the forward part goes on with after it are its
 * results: the residual stream between two blocks. Of two necks in a row at most one is computed from what is
 * before it, so at most two blocks run again at a time, however many follow each other. */
#include "rerun.h"

#include <stdlib.h>
#include <string.h>

typedef VEC(Val) Vals;

static bool is_view(const Node *n) {
    return op_info[n->op].flags & VIEW;
}
static bool is_source(const Node *n) {
    return op_info[n->op].flags & SOURCE;
}
static bool is_codes(const Graph *g, Val v) {
    return val_type(g, v)->dtype == DT_T2;
}

/* ---- forward and backward */

/* When values are read; node indices. */
typedef struct Reads {
    uint32_t *last_forward, *first_backward; /* of each value that is no view; 0 and NONE: never */
    uint32_t turn;                           /* the last forward node that computes something */
} Reads;

static Reads find_reads(Rerun *r) {
    const Graph *g = r->g;
    Reads reads = {arena_array(r->scratch, uint32_t, g->values.n),
                   arena_array(r->scratch, uint32_t, g->values.n), 0};
    for (Val v = 0; v < g->values.n; v++) reads.first_backward[v] = NONE;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (is_view(n)) continue;
        if (r->forward[i] && n->nout && !is_source(n)) reads.turn = i;
        for (uint32_t k = 0; k < n->nin; k++) {
            Val v = view_root(g, n->in[k]);
            if (r->forward[i])
                reads.last_forward[v] = i;
            else if (reads.first_backward[v] == NONE)
                reads.first_backward[v] = i;
        }
    }
    return reads;
}

static void find_saved(Rerun *r, const Reads *reads) {
    for (Val v = 0; v < r->g->values.n; v++) {
        const Node *n = val_node(r->g, v);
        r->saved[v] = r->forward[r->g->values.at[v].node] && !is_view(n) && !is_source(n) &&
                      reads->first_backward[v] != NONE;
    }
}

/* Is v made of weights and inputs alone? */
static bool is_first(const Rerun *r, Val v) {
    const Node *n = val_node(r->g, v);
    for (uint32_t k = 0; k < n->nin; k++) {
        Val from = view_root(r->g, n->in[k]);
        if (!is_source(val_node(r->g, from)) && !is_codes(r->g, from)) return false;
    }
    return true;
}

/* Numbers the necks: forward nodes after whose run nothing but their own results is still to be read by
 * forward nodes. Codes, row scalars, and what can be had at any time from weights and inputs, do not count.
 */
static void find_necks(Rerun *r, const Reads *reads) {
    const Graph *g = r->g;
    uint32_t *ends = arena_array(r->scratch, uint32_t, g->nodes.n), live = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        uint32_t own = 0;
        live -= ends[i];
        for (Val v = n->out; r->forward[i] && !is_view(n) && !is_source(n) && v < n->out + n->nout; v++) {
            if (is_codes(g, v) || type_cols(val_type(g, v)) == 1 || reads->last_forward[v] <= i ||
                is_first(r, v))
                continue;
            own++;
            ends[reads->last_forward[v]]++;
        }
        live += own;
        r->neck[i] = own && live == own ? r->necks++ : NONE;
    }
    r->open = arena_array(r->scratch, bool, r->necks + 2);
}

Rerun rerun_new(const Graph *g, Arena *scratch) {
    return (Rerun){.g = g,
                   .scratch = scratch,
                   .forward = forward_nodes(g, scratch),
                   .saved = arena_array(scratch, bool, g->values.n),
                   .dropped = arena_array(scratch, bool, g->values.n),
                   .wanted = arena_array(scratch, bool, g->values.n),
                   .neck = arena_array(scratch, uint32_t, g->nodes.n)};
}

/* ---- what a value is computed from */

/* Can the backward part read v without computing it again? */
static bool is_at_hand(const Rerun *r, Val v) {
    v = view_root(r->g, v);
    return is_source(val_node(r->g, v)) || is_codes(r->g, v) || (r->saved[v] && !r->dropped[v]);
}

/* The part of a region's body that leads to results that are not at hand. */
typedef struct Part {
    const Rerun *r;
    const Node *region;
    bool *in;  /* of each value of the body: belongs to the part */
    Val *leaf; /* of those: the value outside that is read for it; VAL_NONE: it is computed */
} Part;

static const Node *yield_of(const Node *region) {
    return &region->body->nodes.at[region->body->nodes.n - 1];
}

static Val leaf_of(const Part *p, Val inner) {
    const Node *n = val_node(p->region->body, inner), *yield = yield_of(p->region);
    if (n->op == OP_arg) return p->region->in[n->attrs.index];
    for (uint32_t i = 0; i < yield->nin; i++)
        if (yield->in[i] == inner && is_at_hand(p->r, p->region->out + i)) return p->region->out + i;
    return VAL_NONE;
}

static void take_part(Part *p, Val inner) {
    if (p->in[inner]) return;
    p->in[inner] = true;
    p->leaf[inner] = leaf_of(p, inner);
    const Node *n = val_node(p->region->body, inner);
    for (uint32_t k = 0; p->leaf[inner] == VAL_NONE && k < n->nin; k++) take_part(p, n->in[k]);
}

static Part part_new(const Rerun *r, const Node *region) {
    uint32_t n = region->body->values.n;
    return (Part){r, region, xcalloc(n, sizeof(bool)), xcalloc(n, sizeof(Val))};
}
static void part_free(Part *p) {
    free(p->in);
    free(p->leaf);
}

/* The values that are read to compute v (no view) again. */
static void find_leaves(const Rerun *r, Val v, Vals *out) {
    const Node *n = val_node(r->g, v);
    if (n->op != OP_region) {
        for (uint32_t k = 0; k < n->nin; k++) vec_push(out, view_root(r->g, n->in[k]));
        return;
    }
    Part p = part_new(r, n);
    take_part(&p, yield_of(n)->in[v - n->out]);
    for (Val inner = 0; inner < n->body->values.n; inner++)
        if (p.in[inner] && p.leaf[inner] != VAL_NONE) vec_push(out, view_root(r->g, p.leaf[inner]));
    part_free(&p);
}

/* ---- dropping one more value */

static bool is_heavy(Cost c) {
    return c.flops / RERUN_BALANCE > c.bytes;
}

int64_t rerun_time(const Graph *g, const Node *n) {
    Cost c = node_cost(g, n);
    return is_heavy(c) ? c.flops / RERUN_BALANCE : c.bytes;
}

typedef struct Step {
    Vals wanted;          /* newly */
    VEC(uint32_t) opened; /* necks, newly */
    int64_t time;
    bool heavy, impossible;
} Step;

/* To compute v again something before its node is needed: if that is a neck, it opens. */
static void pass_neck(Rerun *r, Val v, Step *s) {
    uint32_t neck = r->neck[r->g->values.at[v].node];
    if (neck == NONE || r->open[neck + 1]) return;
    s->impossible |= r->open[neck] || r->open[neck + 2];
    r->open[neck + 1] = true;
    vec_push(&s->opened, neck);
}

static void want(Rerun *r, Val v, Step *s) {
    const Graph *g = r->g;
    const Node *n = val_node(g, v);
    if (is_at_hand(r, v) || r->wanted[v] || s->impossible) return;
    s->impossible = op_info[n->op].flags & INPLACE; /* what it was written over is gone */
    r->wanted[v] = true;
    vec_push(&s->wanted, v);
    Vals leaves = {0};
    find_leaves(r, v, &leaves);
    int64_t bytes = type_bytes(val_type(g, v));
    for (uint32_t i = 0; i < leaves.n; i++) {
        const Node *leaf = val_node(g, leaves.at[i]);
        bytes += type_bytes(val_type(g, leaves.at[i]));
        if (leaf != n && !is_source(leaf) && !is_codes(g, leaves.at[i])) pass_neck(r, v, s);
        want(r, leaves.at[i], s);
    }
    vec_free(&leaves);
    s->time += n->op == OP_region ? bytes : rerun_time(g, n);
    s->heavy |= n->op != OP_region && is_heavy(node_cost(g, n));
}

static Step drop(Rerun *r, Val v) {
    Step s = {0};
    r->dropped[v] = true;
    want(r, v, &s);
    return s;
}

static void step_free(Step *s) {
    vec_free(&s->wanted);
    vec_free(&s->opened);
}

static void take_back(Rerun *r, Val v, Step *s) {
    r->dropped[v] = false;
    for (uint32_t i = 0; i < s->wanted.n; i++) r->wanted[s->wanted.at[i]] = false;
    for (uint32_t i = 0; i < s->opened.n; i++) r->open[s->opened.at[i] + 1] = false;
    step_free(s);
}

/* ---- ranking */

static Drop weigh(Rerun *r, Val v) {
    Step s = drop(r, v);
    Drop d = {v, type_bytes(val_type(r->g, v)), s.impossible ? -1 : s.time, s.heavy};
    take_back(r, v, &s);
    return d;
}

/* Worth more: more bytes saved for each byte moved. */
static bool is_better(const Drop *a, const Drop *b) {
    return (double)a->bytes * (double)b->time > (double)b->bytes * (double)a->time;
}

/* Values that wait in memory from before the turn till after it. */
static void find_candidates(const Rerun *r, const Reads *reads, Vals *out) {
    for (Val v = 0; v < r->g->values.n; v++) {
        const Type *t = val_type(r->g, v);
        if (r->saved[v] && t->dtype == DT_F32 && type_cols(t) > 1 && reads->last_forward[v] &&
            reads->first_backward[v] > reads->turn)
            vec_push(out, v);
    }
}

void rerun_rank(Rerun *r, Drops *out) {
    Reads reads = find_reads(r);
    find_saved(r, &reads);
    find_necks(r, &reads);
    Vals candidates = {0};
    find_candidates(r, &reads, &candidates);
    for (;;) {
        Drop best = {.v = VAL_NONE};
        uint32_t at = 0;
        for (uint32_t i = 0; i < candidates.n; i++) {
            Drop d = weigh(r, candidates.at[i]);
            if (d.time >= 0 && (best.v == VAL_NONE || is_better(&d, &best))) best = d, at = i;
        }
        if (best.v == VAL_NONE) break;
        Step s = drop(r, best.v);
        step_free(&s);
        vec_push(&out->at, best);
        memmove(&candidates.at[at], &candidates.at[at + 1], (--candidates.n - at) * sizeof *candidates.at);
    }
    vec_free(&candidates);
}

/* ---- building */

typedef struct Build {
    const Rerun *r;
    Graph *to;
    Val *map;     /* of each value: itself in `to` */
    Val *again;   /* of each value: its copy in the backward part; VAL_NONE: not yet */
    Val gradient; /* of the backward part, which copies hang on */
    RerunCost *cost;
} Build;

static Val copy_of(Build *b, Val v);

static void count(Build *b) {
    const Node *n = &b->to->nodes.at[b->to->nodes.n - 1];
    Cost c = node_cost(b->to, n);
    b->cost->cost.flops += c.flops;
    b->cost->cost.bytes += c.bytes;
    b->cost->time += rerun_time(b->to, n);
    b->cost->nodes[n->op]++;
}

/* Operands of a copy: if none of them is a copy itself, the first that is computed hangs on the gradient. */
static void copy_operands(Build *b, const Val *from, uint32_t n, Loc loc, Val *in) {
    bool hangs = b->gradient == VAL_NONE;
    uint32_t hook = 0;
    for (uint32_t k = n; k-- > 0;) {
        in[k] = copy_of(b, from[k]);
        hangs |= !is_at_hand(b->r, from[k]);
        if (!is_source(val_node(b->r->g, view_root(b->r->g, from[k]))) && !is_codes(b->r->g, from[k]))
            hook = k;
    }
    if (!hangs && n)
        in[hook] = graph_add(b->to, NULL, NULL, loc, OP_after, NULL, (Val[]){in[hook], b->gradient}, 2, NULL);
}

/* All wanted results of a region, by the part of it that leads to them. */
static void copy_region(Build *b, const Node *n) {
    const Graph *from = n->body;
    const Node *yield = yield_of(n);
    Part p = part_new(b->r, n);
    for (uint32_t i = 0; i < n->nout; i++)
        if (b->r->wanted[n->out + i]) take_part(&p, yield->in[i]);
    Graph *body = graph_new("");
    Val *inner = xcalloc(from->values.n, sizeof *inner);
    Vals leaves = {0}, yields = {0};
    for (Val v = 0; v < from->values.n; v++) {
        if (p.in[v] && p.leaf[v] != VAL_NONE) {
            inner[v] = graph_add(body, NULL, NULL, (Loc){0}, OP_arg, val_type(from, v), NULL, 0,
                                 ATTRS(index, leaves.n));
            vec_push(&leaves, p.leaf[v]);
        } else if (p.in[v]) {
            graph_copy_node(body, from, val_node(from, v), inner);
        }
    }
    for (uint32_t i = 0; i < n->nout; i++)
        if (b->r->wanted[n->out + i]) vec_push(&yields, inner[yield->in[i]]);
    graph_add(body, NULL, NULL, yield->loc, OP_yield, NULL, yields.at, yields.n, NULL);
    Val *in = xcalloc(leaves.n, sizeof *in);
    copy_operands(b, leaves.at, leaves.n, n->loc, in);
    Val out = graph_add_region(b->to, n->loc, in, leaves.n, body);
    for (uint32_t i = 0; i < n->nout; i++)
        if (b->r->wanted[n->out + i]) b->again[n->out + i] = out++;
    part_free(&p);
    vec_free(&leaves), vec_free(&yields);
    free(inner), free(in);
}

/* Node n on other operands; results[] gets its results, by their ids in the function. */
static void add_node(Build *b, const Node *n, const Val *in, Val *results) {
    Val out = graph_copy_on(b->to, b->r->g, n, in);
    for (uint32_t i = 0; i < n->nout; i++) results[n->out + i] = out + i;
}

/* v as the backward part reads it. */
static Val copy_of(Build *b, Val v) {
    const Node *n = val_node(b->r->g, v);
    if (is_at_hand(b->r, v)) return b->map[v];
    if (b->again[v] != VAL_NONE) return b->again[v];
    if (n->op == OP_region) {
        copy_region(b, n);
    } else {
        Val *in = xcalloc(n->nin, sizeof *in);
        if (is_view(n))
            in[0] = copy_of(b, n->in[0]);
        else
            copy_operands(b, n->in, n->nin, n->loc, in);
        add_node(b, n, in, b->again);
        free(in);
    }
    if (!is_view(n)) count(b);
    return b->again[v];
}

/* A backward node, reading copies of what was dropped. They hang on the gradient that it reads, or else on
 * what the backward part computed last. */
static void build_backward(Build *b, const Node *n) {
    const Rerun *r = b->r;
    Val latest = b->gradient, *in = xcalloc(n->nin, sizeof *in);
    for (uint32_t k = n->nin; k-- > 0;) {
        uint32_t from = r->g->values.at[n->in[k]].node;
        if (!r->forward[from] && !is_source(&r->g->nodes.at[from])) b->gradient = b->map[n->in[k]];
    }
    for (uint32_t k = 0; k < n->nin; k++)
        in[k] = r->forward[r->g->values.at[n->in[k]].node] ? copy_of(b, n->in[k]) : b->map[n->in[k]];
    add_node(b, n, in, b->map);
    b->gradient = n->nout && !is_source(n) ? b->map[n->out] : latest;
    free(in);
}

/* `dropped` and `wanted` as after the first n drops. */
static void redo(Rerun *r, const Drops *drops, uint32_t n) {
    memset(r->dropped, 0, r->g->values.n * sizeof *r->dropped);
    memset(r->wanted, 0, r->g->values.n * sizeof *r->wanted);
    memset(r->open, 0, (r->necks + 2) * sizeof *r->open);
    for (uint32_t i = 0; i < n; i++) {
        Step s = drop(r, drops->at.at[i].v);
        step_free(&s);
    }
}

Graph *rerun_build(Rerun *r, const Drops *drops, uint32_t n, RerunCost *cost) {
    const Graph *g = r->g;
    *cost = (RerunCost){0};
    redo(r, drops, n);
    Build b = {.r = r, .to = graph_new(g->name), .gradient = VAL_NONE, .cost = cost};
    b.to->attrs = g->attrs;
    b.map = arena_array(r->scratch, Val, g->values.n);
    b.again = arena_array(r->scratch, Val, g->values.n);
    for (Val v = 0; v < g->values.n; v++) b.map[v] = b.again[v] = VAL_NONE;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        if (r->forward[i])
            graph_copy_node(b.to, g, &g->nodes.at[i], b.map);
        else
            build_backward(&b, &g->nodes.at[i]);
    }
    return b.to;
}
