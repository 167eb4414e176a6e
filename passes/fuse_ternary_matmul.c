/* fuse-ternary-matmul: products and lookups take the packed codes of a ternary weight, so codes*scales
 * is never written to memory:
 *
 *     matmul(x, ste(t, w)){tb}   ->  tmatmul(x, t){tb}     forward and dX
 *     embedding(ids, ste(t, w))  ->  embedding(ids, t)
 *
 * A ste with another use (a weight-gradient product that contracts over it, an accumulating product)
 * stays and is decoded; one without is dropped. */
#include "pass.h"

/* The codes behind v = ste(codes, latent), else VAL_NONE. */
static Val codes_of(const Graph *g, Val v) {
    return val_is(g, v, OP_ste) ? val_node(g, v)->in[0] : VAL_NONE;
}

static Val fuse_node(Graph *to, const Node *n, const Val *map) {
    if (n->op != OP_matmul && n->op != OP_embedding) return VAL_NONE;
    if (n->nin != 2 || n->attrs.ta) return VAL_NONE;
    Val codes = codes_of(to, map[n->in[1]]);
    if (codes == VAL_NONE) return VAL_NONE;
    Val in[2] = {map[n->in[0]], codes};
    if (n->op == OP_embedding) return ir_binary(to, n->loc, OP_embedding, in[0], in[1]);
    Attrs attrs = {.set = n->attrs.set & A(tb), .tb = n->attrs.tb};
    return graph_add(to, NULL, NULL, n->loc, OP_tmatmul, NULL, in, 2, &attrs);
}

static Graph *fuse_graph(PassCtx *ctx, const Graph *from) {
    Graph *to = pass_begin(from);
    Val *map = pass_map(ctx, from);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        Val fused = fuse_node(to, n, map);
        if (fused != VAL_NONE)
            map[n->out] = fused;
        else
            graph_copy_node(to, from, n, map);
    }
    Graph *live = pass_drop_dead(ctx, to);
    graph_free(to);
    return live;
}

bool pass_fuse_ternary_matmul(PassCtx *ctx, Module *m) {
    return pass_each_graph(ctx, m, fuse_graph);
}
