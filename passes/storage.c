/* Storage: which values share memory.
 *
 * Every value starts as a block of its own and joins another's where it can stand there:
 *   views       reshape, after, and slice at an aligned offset, in what they view
 *   in place    results of adamw, of products and embedding_grad with a sum so far, in what they take over
 *   concat      operands in the result, so that the pieces are built in place
 *   store       the value in the param or state itself, if the old content has no reader any more
 *   region      a result in an operand of the same type that dies there
 * Where one cannot join, the code generator copies, so joining is never needed for correctness. */
#include "storage.h"

#define ALIGNMENT 64

/* ---- blocks */

static Storage singletons(const Graph *g, const int64_t *at, Arena *scratch) {
    uint32_t n = g->values.n;
    Storage s = {.g = g,
                 .root = arena_array(scratch, Val, n),
                 .delta = arena_array(scratch, int64_t, n),
                 .next = arena_array(scratch, Val, n),
                 .block = arena_array(scratch, Block, n)};
    for (Val v = 0; v < n; v++) {
        const Value *value = &g->values.at[v];
        bool input = val_is(g, v, OP_input);
        bool whole = value->type.dtype == DT_T2 && !val_is(g, v, OP_state); /* to be looked at afterwards */
        s.root[v] = s.next[v] = v;
        s.block[v] = (Block){.bytes = type_bytes(&value->type),
                             .first = whole || input ? 0 : value->node,
                             .last = whole ? g->nodes.n : value->node,
                             .at = at[v]};
    }
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *node = &g->nodes.at[i];
        uint32_t end = node->op == OP_output ? g->nodes.n : i;
        for (uint32_t k = 0; k < operands_read(node); k++)
            if (s.block[node->in[k]].last < end) s.block[node->in[k]].last = end;
    }
    return s;
}

static Block *block_of(const Storage *s, Val v) {
    return &s->block[s->root[v]];
}

/* The block of v becomes a part of u's, with v standing delta bytes behind u. */
static void join(Storage *s, Val v, Val u, int64_t delta) {
    Val from = s->root[v], to = s->root[u];
    int64_t shift = s->delta[u] + delta - s->delta[v];
    Val m = from;
    do {
        s->root[m] = to;
        s->delta[m] += shift;
    } while ((m = s->next[m]) != from);
    m = s->next[from], s->next[from] = s->next[to], s->next[to] = m;
    Block *b = &s->block[to], *a = &s->block[from];
    if (a->first < b->first) b->first = a->first;
    if (a->last > b->last) b->last = a->last;
}

/* v has a block to itself, not bound to a place, that may be moved into another. */
static bool is_movable(const Storage *s, Val v) {
    const Block *b = block_of(s, v);
    return s->delta[v] == 0 && b->at < 0 && b->bytes == type_bytes(val_type(s->g, v)) &&
           !val_is(s->g, s->root[v], OP_input) && val_type(s->g, v)->dtype != DT_T2;
}

/* Nothing is written into v's block after v. */
static bool is_last_content(const Storage *s, Val v) {
    Val m = v;
    uint32_t node = s->g->values.at[view_root(s->g, v)].node;
    do {
        const Value *value = &s->g->values.at[m];
        if (!(op_info[s->g->nodes.at[value->node].op].flags & VIEW) && value->node > node) return false;
    } while ((m = s->next[m]) != v);
    return true;
}

/* ---- views and in place */

static void join_view(Storage *s, const Node *n) {
    int64_t delta = 0;
    if (n->op == OP_slice) {
        const Type *t = val_type(s->g, n->out);
        delta = n->attrs.begin * (type_bytes(t) / t->dim[0]);
    }
    if (delta % ALIGNMENT == 0) join(s, n->out, n->in[0], delta);
}

static bool reads_elsewhere(const Storage *s, const Node *n, uint32_t operand) {
    for (uint32_t k = 0; k < n->nin; k++)
        if (k != operand && s->root[n->in[k]] == s->root[n->in[operand]]) return true;
    return false;
}

static void join_inplace(Storage *s, uint32_t i) {
    const Node *n = &s->g->nodes.at[i];
    for (uint32_t r = 0; r < n->nout; r++) {
        uint32_t k = inplace_operand(n, r);
        if (k == NONE || block_of(s, n->in[k])->last > i || reads_elsewhere(s, n, k)) continue;
        if (may_overwrite(s->g, s->root[n->in[k]], n->out + r)) join(s, n->out + r, n->in[k], 0);
    }
}

/* ---- concat and store */

/* May v, an operand of concat n at node i, be built in the result? Neither must be overwritten by what comes
 * to stand there later while the other is still read. */
static bool may_be_piece(const Storage *s, uint32_t i, Val v) {
    Val out = s->g->nodes.at[i].out;
    return is_movable(s, v) && s->root[v] != s->root[out] && is_last_content(s, v) &&
           (block_of(s, v)->last <= i || is_last_content(s, out));
}

static void join_concat(Storage *s, uint32_t i) {
    const Node *n = &s->g->nodes.at[i];
    int64_t at = 0;
    for (uint32_t k = 0; k < n->nin; k++) {
        if (at % ALIGNMENT == 0 && may_be_piece(s, i, n->in[k])) join(s, n->in[k], n->out, at);
        at += type_bytes(val_type(s->g, n->in[k]));
    }
}

static void join_store(Storage *s, const Node *n) {
    Val v = n->in[0], old = declared_value(s->g, n->attrs.name);
    if (old == VAL_NONE) return;
    if (val_is(s->g, v, OP_ternary) && s->root[v] == v) { /* its block lasts from the start */
        if (block_of(s, old)->last < s->g->values.at[v].node) join(s, v, old, 0);
        return;
    }
    if (!is_movable(s, v) || !is_last_content(s, v)) return;
    if (block_of(s, old)->last < block_of(s, v)->first) join(s, v, old, 0);
}

/* ---- regions */

bool region_takes_over(const Node *region, uint32_t operand, uint32_t result) {
    const Graph *body = region->body;
    Val out = body->nodes.at[body->nodes.n - 1].in[result];
    int64_t rows = 1; /* of the whole region */
    for (Val v = 0; v < body->values.n; v++) {
        const Type *t = val_type(body, v);
        if (t->dtype == DT_F32 && type_rows(t) > rows && !val_is(body, v, OP_partial_sum))
            rows = type_rows(t);
    }
    for (uint32_t i = 0; i < body->nodes.n; i++) {
        const Node *n = &body->nodes.at[i];
        if (n->op != OP_arg || n->attrs.index != operand) continue;
        const Type *t = val_type(body, out);
        return type_equal(val_type(body, n->out), t) && type_rows(t) == rows &&
               !val_is(body, out, OP_partial_sum);
    }
    return false;
}

static bool written_at(const Storage *s, Val root, uint32_t node) {
    Val m = root;
    do
        if (s->g->values.at[m].node == node) return true;
    while ((m = s->next[m]) != root);
    return false;
}

static void join_region(Storage *s, uint32_t i) {
    const Node *n = &s->g->nodes.at[i];
    for (uint32_t r = 0; r < n->nout; r++) {
        Val v = n->out + r;
        for (uint32_t k = 0; k < n->nin && s->root[v] == v && is_movable(s, v); k++) {
            Val x = n->in[k];
            if (!is_movable(s, x) || block_of(s, x)->last != i || reads_elsewhere(s, n, k) ||
                written_at(s, s->root[x], i))
                continue;
            if (region_takes_over(n, k, r)) join(s, v, x, 0);
        }
    }
}

Storage storage_of(const Graph *g, const int64_t *at, Arena *scratch) {
    Storage s = singletons(g, at, scratch);
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (op_info[g->nodes.at[i].op].flags & VIEW) join_view(&s, &g->nodes.at[i]);
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (op_info[g->nodes.at[i].op].flags & INPLACE) join_inplace(&s, i);
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (g->nodes.at[i].op == OP_concat) join_concat(&s, i);
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (g->nodes.at[i].op == OP_store) join_store(&s, &g->nodes.at[i]);
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (g->nodes.at[i].op == OP_region) join_region(&s, i);
    return s;
}
