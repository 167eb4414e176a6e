/* cse: merges equal computations, by value numbering: a node whose op, attributes, type and operands
 * equal those of an earlier node is replaced by that one. Operands of add and mul compare in any order.
 * Sinks and regions stay, and so does a value that an op takes over (its storage becomes another
 * value's), because it must have no other reader. */
#include "pass.h"

#include <stdlib.h>
#include <string.h>

typedef struct Table {
    const Graph *g;  /* the new graph, whose nodes are in the table */
    uint32_t *slots; /* node index + 1, 0: free */
    uint32_t size;   /* a power of two */
} Table;

/* ---- keys */

static bool same_i64(int64_t a, int64_t b) {
    return a == b;
}
static bool same_f64(double a, double b) {
    return memcmp(&a, &b, sizeof a) == 0;
}
static bool same_bool(bool a, bool b) {
    return a == b;
}
static bool same_str(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

static bool same_attrs(const Attrs *a, const Attrs *b) {
    if (a->set != b->set) return false;
#define ATTR(name, kind, help)                                                                               \
    if (a->set & A(name) && !same_##kind(a->name, b->name)) return false;
#include "../ir/attrs.def"
#undef ATTR
    return true;
}

/* The operands in the order in which they compare; in[] has room for nin. */
static void key_operands(const Node *n, const Val *map, Val *in) {
    for (uint32_t i = 0; i < n->nin; i++) in[i] = map ? map[n->in[i]] : n->in[i];
    if ((n->op != OP_add && n->op != OP_mul) || in[0] <= in[1]) return;
    Val first = in[0];
    in[0] = in[1];
    in[1] = first;
}

static uint64_t hash_node(const Node *n, const Val *in) {
    uint64_t h = fnv1a(FNV_INIT, &n->op, sizeof n->op);
    h = fnv1a(h, in, n->nin * sizeof *in);
    h = fnv1a(h, &n->attrs.c, sizeof n->attrs.c);
    return n->attrs.set & A(name) ? fnv1a(h, n->attrs.name, strlen(n->attrs.name)) : h;
}

/* ---- the pass */

/* Values that an INPLACE op may store its result over. */
static bool *find_taken(PassCtx *ctx, const Graph *g) {
    bool *taken = arena_array(ctx->scratch, bool, g->values.n);
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (!(op_info[n->op].flags & INPLACE)) continue;
        for (uint32_t k = n->op == OP_adamw ? 0 : 2; k < n->nin; k++) taken[n->in[k]] = true;
    }
    return taken;
}

static bool may_merge(const Node *n, const bool *taken) {
    if (op_info[n->op].flags & SINK || n->body || n->op == OP_param || n->op == OP_state || n->op == OP_input)
        return false;
    for (uint32_t k = 0; k < n->nout; k++)
        if (taken[n->out + k]) return false;
    return true;
}

/* The slot of a node of the table that equals n (of graph `from`, operands in), or a free one. */
static uint32_t *find_slot(const Table *t, const Graph *from, const Node *n, const Val *in, Val *other_in) {
    for (uint64_t h = hash_node(n, in);; h++) {
        uint32_t *slot = &t->slots[h & (t->size - 1)];
        if (*slot == 0) return slot;
        const Node *other = &t->g->nodes.at[*slot - 1];
        if (other->op != n->op || other->nin != n->nin || !same_attrs(&other->attrs, &n->attrs)) continue;
        if (!type_equal(val_type(t->g, other->out), val_type(from, n->out))) continue;
        key_operands(other, NULL, other_in);
        if (memcmp(in, other_in, n->nin * sizeof *in) == 0) return slot;
    }
}

static Graph *cse_graph(PassCtx *ctx, const Graph *from) {
    Graph *to = pass_begin(from);
    Val *map = pass_map(ctx, from);
    const bool *taken = find_taken(ctx, from);
    Table t = {.g = to, .size = 16};
    uint32_t most = 2; /* operands of a node */
    while (t.size < 2 * from->nodes.n) t.size *= 2;
    t.slots = arena_array(ctx->scratch, uint32_t, t.size);
    for (uint32_t i = 0; i < from->nodes.n; i++)
        if (from->nodes.at[i].nin > most) most = from->nodes.at[i].nin;
    Val *in = arena_array(ctx->scratch, Val, most), *other_in = arena_array(ctx->scratch, Val, most);

    for (uint32_t i = 0; i < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        uint32_t *slot = NULL;
        if (may_merge(n, taken)) {
            key_operands(n, map, in);
            slot = find_slot(&t, from, n, in, other_in);
        }
        if (slot && *slot) {
            Val first = to->nodes.at[*slot - 1].out;
            for (uint32_t k = 0; k < n->nout; k++) map[n->out + k] = first + k;
        } else {
            graph_copy_node(to, from, n, map);
            if (slot) *slot = to->nodes.n;
        }
    }
    return to;
}

bool pass_cse(PassCtx *ctx, Module *m) {
    return pass_each_graph(ctx, m, cse_graph);
}
