/* precision: products carry the option precision, and are computed in it (ir/eval_i16.c, ir/eval_bf16.c):
 *
 *     i16    tmatmul
 *     bf16   matmul, tmatmul, attention, attention_grad
 *
 * but for those of decode, one row each, which are as fast as memory in f32. */
#include "pass.h"

#include <string.h>

static bool takes(Op op, const char *precision) {
    if (strcmp(precision, "i16") == 0) return op == OP_tmatmul;
    return (op_info[op].attrs | op_info[op].optional) & A(precision);
}

static Graph *set_graph(PassCtx *ctx, const Graph *from) {
    const char *precision = ctx->options->precision;
    Graph *to = pass_begin(from);
    Val *map = pass_map(ctx, from);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        Node n = from->nodes.at[i];
        if (strcmp(from->name, "decode") != 0 && takes(n.op, precision))
            n.attrs.set |= A(precision), n.attrs.precision = precision;
        graph_copy_node(to, from, &n, map);
    }
    return to;
}

bool pass_precision(PassCtx *ctx, Module *m) {
    return !ctx->options->precision || pass_each_graph(ctx, m, set_graph);
}
