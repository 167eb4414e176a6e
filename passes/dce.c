/* dce: drops nodes that no sink needs. Sinks (output, store) are what a function is for; parameters,
 * states and inputs stay too, because all functions declare the same storage in the same order. */
#include "pass.h"

static bool always_kept(Op op) {
    return op_info[op].flags & SINK || op == OP_param || op == OP_state || op == OP_input;
}

Graph *pass_drop_dead(PassCtx *ctx, const Graph *from) {
    bool *live = arena_array(ctx->scratch, bool, from->nodes.n);
    for (uint32_t i = from->nodes.n; i-- > 0;) {
        const Node *n = &from->nodes.at[i];
        live[i] |= always_kept(n->op);
        for (uint32_t k = 0; live[i] && k < n->nin; k++) live[from->values.at[n->in[k]].node] = true;
    }
    Graph *to = pass_begin(from);
    Val *map = pass_map(ctx, from);
    for (uint32_t i = 0; i < from->nodes.n; i++)
        if (live[i]) graph_copy_node(to, from, &from->nodes.at[i], map);
    return to;
}

bool pass_dce(PassCtx *ctx, Module *m) {
    return pass_each_graph(ctx, m, pass_drop_dead);
}
