/* fuse-update: where nothing but AdamW needs the gradient of a weight, the update is made on each block of
 * the product that computes it, so that the gradient never exists in memory. New codes are made there as
 * well.
 *
 *     g = matmul(a, b) {ta}                 w', m', v', c' = matmul_adamw(a, b, w, m, v, hyper, codes)
 *     w', m', v' = adamw(w, g, m, v, hyper)
 *     c' = ternary(w')                      where c' is stored to the state codes
 *
 * Gradients of several parts (a tied head, chunks of the loss), of vectors and lookups stay as they are, and
 * so do those that --grads buffer accumulates. New codes whose groups do not lie within a block of
 * a GPU's product are made of the updated weight later. */
#include "order.h"

/* A use of a gradient that is to be fused; NONE where there is none. */
typedef struct Update {
    uint32_t product, adamw, project, store; /* nodes; project and store: of the codes */
} Update;

/* The only node that reads v, NONE if there are none or several. */
static uint32_t only_reader(const Readers *r, Val v) {
    return r->first[v + 1] - r->first[v] == 1 ? r->at[r->first[v]] : NONE;
}

static bool is_weight_gradient(const Node *n) {
    return n->op == OP_matmul && n->nin == 2 && n->attrs.ta && !n->attrs.tb;
}

/* Can a kernel whose blocks have so many columns (0: any) make these codes? */
static bool lies_in_block(const Type *codes, int64_t columns) {
    const int64_t word = 16; /* codes */
    int64_t group = codes->group, n = type_cols(codes);
    if (!columns) return true;
    return group < n ? group % word == 0 && columns % group == 0 : n <= columns;
}

/* Finds the projection of the weights that `update` makes, and where it is stored. */
static void find_codes(const Graph *g, const Readers *r, int64_t columns, Update *u) {
    Val w = g->nodes.at[u->adamw].out;
    for (uint32_t k = r->first[w]; k < r->first[w + 1]; k++) {
        const Node *n = &g->nodes.at[r->at[k]];
        uint32_t store = n->op == OP_ternary ? only_reader(r, n->out) : NONE;
        if (store == NONE || g->nodes.at[store].op != OP_store ||
            !lies_in_block(val_type(g, n->out), columns))
            continue;
        Val codes = declared_value(g, g->nodes.at[store].attrs.name);
        if (codes == VAL_NONE || !val_is(g, codes, OP_state)) continue;
        u->project = r->at[k], u->store = store;
        return;
    }
}

static Update find_update(const Graph *g, const Readers *r, uint32_t adamw, int64_t columns) {
    Update u = {NONE, NONE, NONE, NONE};
    const Node *n = &g->nodes.at[adamw];
    if (n->op != OP_adamw || !is_weight_gradient(val_node(g, n->in[1])) || only_reader(r, n->in[1]) == NONE)
        return u;
    u.product = g->values.at[n->in[1]].node;
    u.adamw = adamw;
    find_codes(g, r, columns, &u);
    return u;
}

static void add_update(Graph *to, const Graph *from, const Update *u, Val *map) {
    const Node *product = &from->nodes.at[u->product], *adamw = &from->nodes.at[u->adamw];
    const Val *old = adamw->in;
    Val in[8] = {map[product->in[0]], map[product->in[1]], map[old[0]],
                 map[old[2]],         map[old[3]],         map[old[4]]};
    uint32_t nin = 6;
    if (u->project != NONE) in[nin++] = map[declared_value(from, from->nodes.at[u->store].attrs.name)];
    if (adamw->nin > 5) in[nin++] = map[old[5]]; /* the key of moments in bf16 */
    Attrs attrs = adamw->attrs;
    attrs.set |= product->attrs.set & A(precision), attrs.precision = product->attrs.precision;
    Val out = graph_add(to, NULL, NULL, adamw->loc, OP_matmul_adamw, NULL, in, nin, &attrs);
    for (uint32_t i = 0; i < 3; i++) map[adamw->out + i] = out + i;
    if (u->project != NONE) map[from->nodes.at[u->project].out] = out + 3;
}

static Graph *fuse_updates(PassCtx *ctx, const Graph *from) {
    Graph *to = pass_begin(from);
    Val *map = pass_map(ctx, from);
    Readers readers = graph_readers(from, ctx->scratch);
    bool *fused = arena_array(ctx->scratch, bool, from->nodes.n); /* products and projections */
    Update *update = arena_array(ctx->scratch, Update, from->nodes.n);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        update[i] = find_update(from, &readers, i, ctx->options->update_block);
        if (update[i].adamw != NONE) fused[update[i].product] = true;
        if (update[i].project != NONE) fused[update[i].project] = true;
    }
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        if (update[i].adamw != NONE)
            add_update(to, from, &update[i], map);
        else if (!fused[i])
            graph_copy_node(to, from, &from->nodes.at[i], map);
    }
    return to;
}

bool pass_fuse_update(PassCtx *ctx, Module *m) {
    return pass_each_graph(ctx, m, fuse_updates);
}
