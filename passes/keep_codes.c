/* keep-codes: decode runs once a token, while weights change between runs at most. So it no longer projects
 * them: a function of its own does, once, into states that decode reads.
 *
 *     @decode  t = ternary(w)   ->   @decode   t = state {name="w.codes"}
 *                                    @project  store(ternary(w)) {name="w.codes"}
 */
#include "pass.h"

#include <stdlib.h>
#include <string.h>

/* Is n the projection of a parameter? */
static bool is_projection(const Graph *g, const Node *n) {
    return n->op == OP_ternary && val_is(g, n->in[0], OP_param);
}

/* The state that keeps the codes of a projection. */
static Val add_state(Graph *to, const Graph *from, const Node *n) {
    const char *name = val_node(from, n->in[0])->attrs.name;
    const char *codes = arena_printf(to->arena, "%s.codes", name);
    return graph_add(to, NULL, NULL, n->loc, OP_state, val_type(from, n->out), NULL, 0, ATTRS(name, codes));
}

/* Declarations in the order that all functions have: params, states, inputs. */
static Graph *project_graph(PassCtx *ctx, const Graph *decode) {
    Graph *to = graph_new("project");
    Val *map = pass_map(ctx, decode);
    VEC(const Node *) projections = {0};
    for (uint32_t i = 0; i < decode->nodes.n; i++) {
        const Node *n = &decode->nodes.at[i];
        if (n->op == OP_param) graph_copy_node(to, decode, n, map);
        if (is_projection(decode, n)) vec_push(&projections, n);
    }
    for (uint32_t i = 0; i < projections.n; i++) add_state(to, decode, projections.at[i]);
    for (uint32_t i = 0; i < projections.n; i++) {
        const Node *n = projections.at[i];
        Val codes = graph_copy_node(to, decode, n, map);
        const char *name = val_node(decode, n->in[0])->attrs.name;
        graph_add(to, NULL, NULL, n->loc, OP_store, NULL, &codes, 1,
                  ATTRS(name, arena_printf(to->arena, "%s.codes", name)));
    }
    vec_free(&projections);
    return to;
}

static Graph *reading_graph(PassCtx *ctx, const Graph *from) {
    Graph *to = pass_begin(from);
    Val *map = pass_map(ctx, from);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        if (is_projection(from, n))
            map[n->out] = add_state(to, from, n);
        else
            graph_copy_node(to, from, n, map);
    }
    return to;
}

bool pass_keep_codes(PassCtx *ctx, Module *m) {
    if (module_graph(m, "project")) return true;
    for (uint32_t j = 0; j < m->graphs.n; j++) {
        Graph *decode = m->graphs.at[j];
        bool some = false;
        for (uint32_t i = 0; i < decode->nodes.n; i++) some |= is_projection(decode, &decode->nodes.at[i]);
        if (strcmp(decode->name, "decode") != 0 || !some) continue;
        Graph *project = project_graph(ctx, decode);
        m->graphs.at[j] = reading_graph(ctx, decode);
        graph_free(decode);
        vec_push(&m->graphs, project);
        break;
    }
    return true;
}
