/* insert-ste: every use of a ternary parameter w (attribute group) becomes a use of
 * ste(ternary(w), w): its projected value forward, the identity backward. One projection per parameter
 * and function. Uses that want the latent weights themselves (takes_latent) stay.
 *
 * In a function with an input "lambda", f32[1], the use becomes w + lambda*(ste(ternary(w), w) - w). */
#include "pass.h"

#include <string.h>

static bool takes_latent(Op op) {
    return op == OP_ternary || op == OP_ste || op == OP_ste_clip || op == OP_adamw;
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

/* The function's input "lambda", VAL_NONE if it has none. */
static Val find_lambda(const Graph *g) {
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (g->nodes.at[i].op == OP_input && strcmp(g->nodes.at[i].attrs.name, "lambda") == 0 &&
            val_type(g, g->nodes.at[i].out)->dtype == DT_F32 && type_count(val_type(g, g->nodes.at[i].out)) == 1)
            return g->nodes.at[i].out;
    return VAL_NONE;
}

/* The projected value of w, or VAL_NONE after a reported error (w is not a matrix, a bad group). */
static Val wrap_param(PassCtx *ctx, Graph *g, Val w, Val lambda) {
    const Node n = *val_node(g, w);
    const Attrs clip = {.set = n.attrs.set & A(clip), .clip = n.attrs.clip};
    Val t = graph_add(g, ctx->module, ctx->diag, n.loc, OP_ternary, NULL, &w, 1, ATTRS(group, n.attrs.group));
    if (t == VAL_NONE) return t;
    Val projected = graph_add(g, NULL, NULL, n.loc, OP_ste, NULL, (Val[]){t, w}, 2, &clip);
    if (lambda == VAL_NONE) return projected;
    /* The gradients of w and ste(t, w) add up to 1 where both are the identity: no need to compute that. */
    Val way = ir_binary(g, n.loc, OP_sub, projected, w);
    if (!clip.clip) way = ir_unary(g, n.loc, OP_stop, way);
    return ir_binary(g, n.loc, OP_add, w, ir_binary(g, n.loc, OP_mul, lambda, way));
}

/* Projections are made where their parameters are first used, so declarations stay together. */
static Graph *insert_graph(PassCtx *ctx, const Graph *from) {
    Graph *to = pass_begin(from);
    Val *map = pass_map(ctx, from), *latent = pass_map(ctx, from);
    bool *wrap = find_wrapped(ctx, from);
    const Val lambda = find_lambda(from);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        Val *use = takes_latent(n->op) ? latent : map;
        for (uint32_t k = 0; use == map && k < n->nin; k++) {
            Val w = n->in[k];
            if (!wrap[w]) continue;
            map[w] = wrap_param(ctx, to, latent[w], lambda == VAL_NONE ? lambda : map[lambda]);
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
