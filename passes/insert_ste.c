/* insert-ste: every use of a ternary parameter w (attribute group) becomes a use of
 * ste(ternary(w), w): its projected value forward, the identity backward. One projection per parameter
 * and function. Uses that want the latent weights themselves (takes_latent) stay. */
#include "pass.h"

static bool takes_latent(Op op) {
    return op == OP_ternary || op == OP_ste || op == OP_adamw;
}

/* Which values are ternary parameters with a use to wrap. */
static bool *find_wrapped(PassCtx *ctx, const Graph *g) {
    bool *wrap = arena_array(ctx->scratch, bool, g->values.n);
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        for (uint32_t k = 0; k < n->nin; k++) {
            const Node *def = val_node(g, n->in[k]);
            if (def->op == OP_param && def->attrs.set & A(group) && !takes_latent(n->op))
                wrap[n->in[k]] = true;
        }
    }
    return wrap;
}

/* ste(ternary(w), w), or VAL_NONE after a reported error (w is not a matrix, a bad group). */
static Val wrap_param(PassCtx *ctx, Graph *g, Val w) {
    const Node n = *val_node(g, w);
    Val t = graph_add(g, ctx->module, ctx->diag, n.loc, OP_ternary, NULL, &w, 1, ATTRS(group, n.attrs.group));
    return t == VAL_NONE ? t : ir_binary(g, n.loc, OP_ste, t, w);
}

/* Projections are made where their parameters are first used, so declarations stay together. */
static Graph *insert_graph(PassCtx *ctx, const Graph *from) {
    Graph *to = pass_begin(from);
    Val *map = pass_map(ctx, from), *latent = pass_map(ctx, from);
    bool *wrap = find_wrapped(ctx, from);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        Val *use = takes_latent(n->op) ? latent : map;
        for (uint32_t k = 0; use == map && k < n->nin; k++) {
            Val w = n->in[k];
            if (!wrap[w]) continue;
            map[w] = wrap_param(ctx, to, latent[w]);
            if (map[w] == VAL_NONE) return graph_free(to), NULL;
            wrap[w] = false;
        }
        graph_copy_node(to, from, n, use);
        for (uint32_t r = 0; r < n->nout; r++) map[n->out + r] = latent[n->out + r] = use[n->out + r];
    }
    return to;
}

bool pass_insert_ste(PassCtx *ctx, Module *m) {
    return m->props & P(ste) || pass_each_graph(ctx, m, insert_graph);
}
