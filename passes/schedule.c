/* schedule: an order of the nodes that needs little memory and in which memory can be taken over.
 *
 * Declarations stay first, and computation keeps its order (forward, then backward), except that
 *   - every reader of a value comes before the node that takes its storage over (adamw takes w, m and v;
 *     products and embedding_grad the sum so far), that stores into the same param or state, or that projects
 *     what is stored there. A reader
 *     that cannot gets a copy, a concat of one operand; so do outputs and stores, whose values must last;
 *   - gradients of parameters and updates run as soon as they can, so that neither the gradient nor what
 *     it is made from waits in memory; likewise whatever frees more than it fills;
 *   - views, and nodes that keep nothing alive by running late, run just before their first reader. */
#include "order.h"

#include <stdlib.h>

/* ---- constraints: data, and readers before whoever overwrites what they read */

typedef struct Edge {
    uint32_t to, next; /* next: of the same node, NONE ends */
} Edge;

typedef enum Copying { AS_IS, COPY, OWN_COPY } Copying; /* a COPY may be shared, an OWN_COPY is overwritten */

typedef struct Sched {
    const Graph *g;
    Arena *scratch;
    Readers readers;
    uint32_t *succ; /* first edge of each node */
    VEC(Edge) edges;
    uint32_t *mark, marks; /* nodes visited in the marks-th search */
    uint32_t *slot;        /* of each node: its first operand's index in copying */
    uint8_t *copying;      /* Copying of each operand */
    bool copies;           /* any */
} Sched;

static bool is_declaration(Op op) {
    return op == OP_param || op == OP_state || op == OP_input;
}
static bool is_constant(Op op) {
    return op == OP_rope_cos || op == OP_rope_sin;
}
static bool is_view(const Node *n) {
    return op_info[n->op].flags & VIEW;
}

static void add_edge(Sched *s, uint32_t from, uint32_t to) {
    Edge e = {to, s->succ[from]};
    s->succ[from] = s->edges.n;
    vec_push(&s->edges, e);
}

static Sched sched_new(const Graph *g, Arena *scratch) {
    Sched s = {.g = g, .scratch = scratch, .readers = graph_readers(g, scratch)};
    s.succ = arena_array(scratch, uint32_t, g->nodes.n);
    s.mark = arena_array(scratch, uint32_t, g->nodes.n);
    s.slot = arena_array(scratch, uint32_t, g->nodes.n + 1);
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        s.succ[i] = NONE;
        s.slot[i + 1] = s.slot[i] + g->nodes.at[i].nin;
    }
    s.copying = arena_array(scratch, uint8_t, s.slot[g->nodes.n]);
    for (uint32_t i = 0; i < g->nodes.n; i++)
        for (uint32_t k = 0; k < g->nodes.at[i].nin; k++)
            add_edge(&s, g->values.at[g->nodes.at[i].in[k]].node, i);
    return s;
}

/* Marks all that must come after `node`. */
static void mark_after(Sched *s, uint32_t node) {
    if (s->mark[node] == s->marks) return;
    s->mark[node] = s->marks;
    for (uint32_t e = s->succ[node]; e != NONE; e = s->edges.at[e].next) mark_after(s, s->edges.at[e].to);
}

typedef struct Nodes {
    VEC(uint32_t) list;
} Nodes;

/* All nodes that read the storage of v (no view) directly or through views; one entry for each operand. */
static void storage_readers(const Sched *s, Val v, Nodes *out) {
    for (uint32_t k = s->readers.first[v]; k < s->readers.first[v + 1]; k++) {
        const Node *n = &s->g->nodes.at[s->readers.at[k]];
        if (is_view(n))
            storage_readers(s, n->out, out);
        else
            vec_push(&out->list, s->readers.at[k]);
    }
}

static void set_copying(Sched *s, uint32_t node, uint32_t operand, Copying c) {
    s->copying[s->slot[node] + operand] = (uint8_t)c;
    s->copies = true;
}

/* Whoever reads the storage of `root`, but for operand `own` of `taker`, comes before taker or reads a copy.
 */
static void readers_first(Sched *s, Val root, uint32_t taker, uint32_t own) {
    Nodes readers = {0};
    storage_readers(s, root, &readers);
    if (readers.list.n > (own != NONE)) s->marks++, mark_after(s, taker);
    for (uint32_t i = 0; readers.list.n > (own != NONE) && i < readers.list.n; i++) {
        uint32_t r = readers.list.at[i];
        const Node *n = &s->g->nodes.at[r];
        bool kept = n->op == OP_output || (n->op == OP_store && own != NONE); /* to the end */
        if (!kept && s->mark[r] != s->marks) {
            add_edge(s, r, taker);
            continue;
        }
        for (uint32_t k = 0; k < n->nin; k++)
            if (view_root(s->g, n->in[k]) == root && !(r == taker && k == own)) set_copying(s, r, k, COPY);
    }
    vec_free(&readers.list);
}

/* Each storage is taken over by one node at most, and what must last by none. */
static void order_takers(Sched *s) {
    const Graph *g = s->g;
    bool *taken = arena_array(s->scratch, bool, g->values.n);
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (!(op_info[n->op].flags & INPLACE)) continue;
        for (uint32_t r = 0; r < n->nout; r++) {
            uint32_t k = inplace_operand(n, r);
            if (k == NONE) continue;
            Val root = view_root(g, n->in[k]);
            if (taken[root] || !may_overwrite(g, root, n->out + r)) {
                set_copying(s, i, k, OWN_COPY);
            } else {
                taken[root] = true;
                readers_first(s, root, i, k);
            }
        }
    }
}

/* New codes are made where they are stored: readers of the old ones should come before the projection. */
static void order_projection(Sched *s, Val old, uint32_t projection) {
    Nodes readers = {0};
    storage_readers(s, old, &readers);
    s->marks++, mark_after(s, projection);
    bool possible = true;
    for (uint32_t i = 0; i < readers.list.n; i++) possible &= s->mark[readers.list.at[i]] != s->marks;
    for (uint32_t i = 0; possible && i < readers.list.n; i++) add_edge(s, readers.list.at[i], projection);
    vec_free(&readers.list);
}

static void order_stores(Sched *s) {
    for (uint32_t i = 0; i < s->g->nodes.n; i++) {
        const Node *n = &s->g->nodes.at[i];
        if (n->op != OP_store) continue;
        Val root = declared_value(s->g, n->attrs.name);
        if (root == VAL_NONE || view_root(s->g, n->in[0]) == root) continue;
        readers_first(s, root, i, NONE);
        if (val_is(s->g, n->in[0], OP_ternary)) order_projection(s, root, s->g->values.at[n->in[0]].node);
    }
}

static Val copy_of(Graph *to, Loc loc, Val v) {
    return ir_unary(to, loc, OP_concat, v);
}

/* The graph with operands copied as s->copying says. */
static Graph *with_copies(PassCtx *ctx, const Sched *s) {
    const Graph *from = s->g;
    Graph *to = pass_begin(from);
    Val *shared = pass_map(ctx, from), *map = pass_map(ctx, from);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        Val *in = arena_array(ctx->scratch, Val, n->nin);
        for (uint32_t k = 0; k < n->nin; k++) {
            Val v = n->in[k];
            Copying c = (Copying)s->copying[s->slot[i] + k];
            if (c == COPY && shared[v] == VAL_NONE) shared[v] = copy_of(to, n->loc, map[v]);
            in[k] = c == AS_IS ? map[v] : c == COPY ? shared[v] : copy_of(to, n->loc, map[v]);
        }
        Val out = graph_copy_on(to, from, n, in);
        for (uint32_t r = 0; r < n->nout; r++) map[n->out + r] = out + r;
    }
    return to;
}

/* ---- the order */

typedef struct Order {
    Sched *s;
    const Graph *g;
    bool *lasting;       /* of each value: its storage is not freed within the function */
    bool *drain, *lazy;  /* of each node, see below */
    uint32_t *rank;      /* of each node: its place if nothing else were to be considered */
    uint32_t *waits;     /* of each node: edges into it from nodes not yet placed */
    uint32_t *remaining; /* of each value that is no view: operands that still read its storage */
    Nodes ready, placed;
} Order;

static int64_t freed_bytes(const Order *o, Val root) {
    return o->lasting[root] ? 0 : type_bytes(val_type(o->g, root));
}

static void find_lasting(Order *o) {
    const Graph *g = o->g;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (n->op == OP_output) o->lasting[view_root(g, n->in[0])] = true;
        for (uint32_t r = 0; r < n->nout; r++) {
            uint32_t k = op_info[n->op].flags & INPLACE ? inplace_operand(n, r) : NONE;
            bool kept =
                is_declaration(n->op) || is_constant(n->op) || val_type(g, n->out + r)->dtype == DT_T2;
            if (kept || (k != NONE && o->lasting[view_root(g, n->in[k])])) o->lasting[n->out + r] = true;
        }
    }
}

/* r hands v on to an update, a store or an output, without computing much more. */
static bool hands_on(const Node *r, Val v) {
    bool sum_so_far = inplace_operand(r, 0) != NONE && r->in[inplace_operand(r, 0)] == v;
    return r->op == OP_adamw || r->op == OP_ternary || r->op == OP_store || r->op == OP_output ||
           r->op == OP_sum_rows || r->op == OP_concat || is_view(r) || sum_so_far;
}

/* Drains: nodes that only serve updates, stores and outputs: the sooner they run, the sooner is freed
 * what they read. */
static void find_drains(Order *o) {
    const Readers *readers = &o->s->readers;
    for (uint32_t i = o->g->nodes.n; i-- > 0;) {
        const Node *n = &o->g->nodes.at[i];
        bool drain = !(op_info[n->op].flags & SOURCE);
        for (Val v = n->out; drain && n->nout && v < n->out + n->nout; v++)
            for (uint32_t k = readers->first[v]; k < readers->first[v + 1]; k++)
                drain &= o->drain[readers->at[k]] && hands_on(&o->g->nodes.at[readers->at[k]], v);
        o->drain[i] = drain;
    }
}

static uint32_t first_reader(const Order *o, const Node *n) {
    uint32_t first = NONE;
    for (uint32_t r = 0; r < n->nout; r++) {
        uint32_t k = o->s->readers.first[n->out + r];
        if (k < o->s->readers.first[n->out + r + 1] && o->s->readers.at[k] < first)
            first = o->s->readers.at[k];
    }
    return first;
}

/* Would the storage of `root` live until node `until` without node `but`? */
static bool lives_until(const Order *o, Val root, uint32_t until, uint32_t but) {
    if (o->lasting[root]) return true;
    Nodes readers = {0};
    storage_readers(o->s, root, &readers);
    bool lives = false;
    for (uint32_t i = 0; i < readers.list.n; i++)
        lives |= readers.list.at[i] != but && readers.list.at[i] >= until;
    vec_free(&readers.list);
    return lives;
}

/* Lazy: nodes that may run as late as their first reader and keep nothing alive by that. Projections are
 * not, they belong to the beginning. */
static void find_lazy(Order *o) {
    for (uint32_t i = 0; i < o->g->nodes.n; i++) {
        const Node *n = &o->g->nodes.at[i];
        uint32_t reader = first_reader(o, n);
        if (reader == NONE || o->drain[i] || is_declaration(n->op) || n->op == OP_ternary) continue;
        o->lazy[i] = true;
        for (uint32_t k = 0; k < n->nin && !is_view(n); k++)
            o->lazy[i] &= lives_until(o, view_root(o->g, n->in[k]), reader, i);
    }
}

static uint32_t rank_node(Order *o, uint32_t i, uint32_t next) {
    if (o->rank[i] != NONE) return next;
    const Node *n = &o->g->nodes.at[i];
    for (uint32_t k = 0; k < n->nin; k++) {
        uint32_t from = o->g->values.at[n->in[k]].node;
        if (o->lazy[from]) next = rank_node(o, from, next);
    }
    o->rank[i] = next;
    return next + 1;
}

/* Declarations, then the given order with lazy nodes just before their first reader. */
static void find_ranks(Order *o) {
    const Graph *g = o->g;
    uint32_t next = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) o->rank[i] = NONE;
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (is_declaration(g->nodes.at[i].op)) next = rank_node(o, i, next);
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (!o->lazy[i]) next = rank_node(o, i, next);
}

/* Bytes freed minus bytes filled by running node i now. */
static int64_t gain(const Order *o, uint32_t i) {
    const Node *n = &o->g->nodes.at[i];
    if (is_view(n)) return 0;
    int64_t bytes = 0;
    for (uint32_t r = 0; r < n->nout; r++) bytes -= freed_bytes(o, n->out + r);
    for (uint32_t k = 0; k < n->nin; k++) {
        Val root = view_root(o->g, n->in[k]);
        uint32_t here = 0;
        bool seen = false;
        for (uint32_t j = 0; j < n->nin; j++) {
            bool same = view_root(o->g, n->in[j]) == root;
            here += same;
            seen |= same && j < k;
        }
        if (!seen && o->remaining[root] == here) bytes += freed_bytes(o, root);
    }
    return bytes;
}

/* What to do first among what is ready. */
typedef enum Urgency { DECLARE, FREE_BY_DRAIN, DRAIN, FREE, GO_ON } Urgency;

static Urgency urgency(const Order *o, uint32_t node) {
    if (is_declaration(o->g->nodes.at[node].op)) return DECLARE;
    int64_t bytes = gain(o, node);
    if (o->drain[node]) return bytes >= 0 ? FREE_BY_DRAIN : DRAIN;
    return bytes > 0 ? FREE : GO_ON;
}

/* The most urgent of the ready nodes, the first in rank among equals, as an index of o->ready. */
static uint32_t choose(const Order *o) {
    uint32_t best = 0;
    Urgency most = GO_ON;
    for (uint32_t i = 0; i < o->ready.list.n; i++) {
        uint32_t node = o->ready.list.at[i];
        Urgency u = urgency(o, node);
        if (u < most || (u == most && o->rank[node] < o->rank[o->ready.list.at[best]])) best = i, most = u;
    }
    return best;
}

static void place(Order *o, uint32_t node) {
    const Node *n = &o->g->nodes.at[node];
    vec_push(&o->placed.list, node);
    for (uint32_t k = 0; k < n->nin && !is_view(n); k++) o->remaining[view_root(o->g, n->in[k])]--;
    for (uint32_t e = o->s->succ[node]; e != NONE; e = o->s->edges.at[e].next) {
        uint32_t to = o->s->edges.at[e].to;
        if (--o->waits[to] == 0) vec_push(&o->ready.list, to);
    }
}

static void place_all(Order *o) {
    const Graph *g = o->g;
    for (uint32_t i = 0; i < o->s->edges.n; i++) o->waits[o->s->edges.at[i].to]++;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (!o->waits[i]) vec_push(&o->ready.list, i);
        for (uint32_t k = 0; k < n->nin && !is_view(n); k++) o->remaining[view_root(g, n->in[k])]++;
    }
    while (o->ready.list.n) {
        uint32_t i = choose(o), node = o->ready.list.at[i];
        o->ready.list.at[i] = o->ready.list.at[--o->ready.list.n];
        place(o, node);
    }
    if (o->placed.list.n != g->nodes.n)
        ice("schedule: @%s: readers and updates wait for each other", g->name);
}

static Graph *in_order(PassCtx *ctx, Sched *s) {
    const Graph *g = s->g;
    Order o = {.s = s, .g = g};
    o.lasting = arena_array(ctx->scratch, bool, g->values.n);
    o.drain = arena_array(ctx->scratch, bool, g->nodes.n);
    o.lazy = arena_array(ctx->scratch, bool, g->nodes.n);
    o.rank = arena_array(ctx->scratch, uint32_t, g->nodes.n);
    o.waits = arena_array(ctx->scratch, uint32_t, g->nodes.n);
    o.remaining = arena_array(ctx->scratch, uint32_t, g->values.n);
    find_lasting(&o);
    find_drains(&o);
    find_lazy(&o);
    find_ranks(&o);
    place_all(&o);
    Graph *to = pass_begin(g);
    Val *map = pass_map(ctx, g);
    for (uint32_t i = 0; i < g->nodes.n; i++) graph_copy_node(to, g, &g->nodes.at[o.placed.list.at[i]], map);
    vec_free(&o.ready.list);
    vec_free(&o.placed.list);
    return to;
}

Graph *schedule_graph(PassCtx *ctx, const Graph *from) {
    Graph *g = pass_drop_dead(ctx, from);
    for (;;) {
        Sched s = sched_new(g, ctx->scratch);
        order_takers(&s);
        order_stores(&s);
        Graph *to = s.copies ? with_copies(ctx, &s) : in_order(ctx, &s);
        vec_free(&s.edges);
        graph_free(g);
        g = to;
        if (!s.copies) return g;
    }
}

bool pass_schedule(PassCtx *ctx, Module *m) {
    return pass_each_graph(ctx, m, schedule_graph);
}
