/* Orders and storage: topological orders of groups of nodes, in-place operands, views, readers. */
#include "order.h"

#include <string.h>

/* ---- orders of groups */

typedef struct Visit {
    const Graph *g;
    const uint32_t *group;
    uint32_t *member, *next; /* first node of a group, following node of the same group */
    bool *seen;
    uint32_t *order, count;
} Visit;

static void visit(Visit *v, uint32_t group) {
    if (v->seen[group]) return;
    v->seen[group] = true;
    for (uint32_t i = v->member[group]; i != NONE; i = v->next[i]) {
        const Node *n = &v->g->nodes.at[i];
        for (uint32_t k = 0; k < n->nin; k++) visit(v, v->group[v->g->values.at[n->in[k]].node]);
    }
    v->order[v->count++] = group;
}

uint32_t *group_order(const Graph *g, const uint32_t *group, uint32_t groups, const bool *lazy,
                      Arena *scratch, uint32_t *count) {
    Visit v = {.g = g,
               .group = group,
               .member = arena_array(scratch, uint32_t, groups),
               .next = arena_array(scratch, uint32_t, g->nodes.n),
               .seen = arena_array(scratch, bool, groups),
               .order = arena_array(scratch, uint32_t, groups)};
    for (uint32_t i = 0; i < groups; i++) v.member[i] = NONE;
    for (uint32_t i = g->nodes.n; i-- > 0;) {
        v.next[i] = v.member[group[i]];
        v.member[group[i]] = i;
    }
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (!lazy[group[i]]) visit(&v, group[i]);
    *count = v.count;
    return v.order;
}

/* ---- storage */

uint32_t inplace_operand(const Node *n, uint32_t result) {
    static const uint32_t adamw[] = {0, 2, 3}, matmul_adamw[] = {2, 3, 4, 6};
    if (n->op == OP_adamw) return adamw[result];
    if (n->op == OP_matmul_adamw) return matmul_adamw[result];
    if (n->op == OP_cache_row || n->op == OP_ste_clip) return 0;
    if ((n->op == OP_matmul || n->op == OP_embedding_grad) && n->nin == 3) return 2;
    return NONE;
}

Val view_root(const Graph *g, Val v) {
    while (op_info[val_node(g, v)->op].flags & VIEW) v = val_node(g, v)->in[0];
    return v;
}

Val declared_value(const Graph *g, const char *name) {
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if ((n->op == OP_param || n->op == OP_state) && strcmp(n->attrs.name, name) == 0) return n->out;
    }
    return VAL_NONE;
}

static Val stored_value(const Graph *g, const char *name) {
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (n->op == OP_store && strcmp(n->attrs.name, name) == 0) return n->in[0];
    }
    return VAL_NONE;
}

/* The value that v is written over; VAL_NONE if it has storage of its own. */
static Val written_over(const Graph *g, Val v) {
    const Node *n = val_node(g, v);
    uint32_t k = op_info[n->op].flags & INPLACE ? inplace_operand(n, g->values.at[v].result) : NONE;
    return k == NONE ? VAL_NONE : view_root(g, n->in[k]);
}

bool may_overwrite(const Graph *g, Val root, Val result) {
    const Node *n = val_node(g, root);
    if (n->op == OP_input || n->op == OP_rope_cos || n->op == OP_rope_sin) return false;
    if (n->op != OP_param && n->op != OP_state) return true;
    Val v = stored_value(g, n->attrs.name);
    for (v = v == VAL_NONE ? v : view_root(g, v); v != VAL_NONE; v = written_over(g, v))
        if (v == result) return true;
    return false;
}

/* ---- forward and backward */

bool has_backward(const Graph *g) {
    return pass_trains(g) || strcmp(g->name, "backward") == 0;
}

bool *forward_nodes(const Graph *g, Arena *scratch) {
    bool *forward = arena_array(scratch, bool, g->nodes.n);
    for (uint32_t i = g->nodes.n; i-- > 0;) {
        const Node *n = &g->nodes.at[i];
        forward[i] |= n->op == OP_output;
        for (uint32_t k = 0; forward[i] && k < n->nin; k++) forward[g->values.at[n->in[k]].node] = true;
    }
    return forward;
}

/* ---- readers */

uint32_t operands_read(const Node *n) {
    return n->op == OP_after ? 1 : n->nin;
}

Readers graph_readers(const Graph *g, Arena *scratch) {
    uint32_t *first = arena_array(scratch, uint32_t, g->values.n + 2);
    for (uint32_t i = 0; i < g->nodes.n; i++)
        for (uint32_t k = 0; k < operands_read(&g->nodes.at[i]); k++) first[g->nodes.at[i].in[k] + 2]++;
    for (uint32_t v = 2; v < g->values.n + 2; v++) first[v] += first[v - 1];
    uint32_t *at = arena_array(scratch, uint32_t, first[g->values.n + 1]);
    for (uint32_t i = 0; i < g->nodes.n; i++)
        for (uint32_t k = 0; k < operands_read(&g->nodes.at[i]); k++) at[first[g->nodes.at[i].in[k] + 1]++] = i;
    return (Readers){first, at};
}
