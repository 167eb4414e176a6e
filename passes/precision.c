/* precision: products carry the option precision, and are computed in it (ir/eval_i16.c, ir/eval_bf16.c):
 *
 *     i16    tmatmul
 *     bf16   matmul, tmatmul, attention, attention_grad
 *
 * Those of decode, one row each, gain nothing by bf16 and stay f32. i16 takes those whose blocks of activations are
 * whole: no block meets two groups of weights. */
#include "pass.h"

#include <string.h>

static bool takes(Op op, const char *precision) {
    if (strcmp(precision, "i16") == 0) return op == OP_tmatmul;
    return (op_info[op].attrs | op_info[op].optional) & A(precision);
}

static bool whole_blocks(const Type *weights) {
    return weights->group % I16_BLOCK == 0 || weights->group >= type_cols(weights);
}

static bool takes_in_decode(PassCtx *ctx, const Graph *g, const Node *n) {
    if (strcmp(ctx->options->precision, "i16") != 0 || ctx->options->f32_decode) return false;
    return n->attrs.tb && whole_blocks(val_type(g, n->in[1]));
}

static Graph *set_graph(PassCtx *ctx, const Graph *from) {
    const char *precision = ctx->options->precision;
    bool decode = strcmp(from->name, "decode") == 0;
    Graph *to = pass_begin(from);
    Val *map = pass_map(ctx, from);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        Node n = from->nodes.at[i];
        if (takes(n.op, precision) && (!decode || takes_in_decode(ctx, from, &n)))
            n.attrs.set |= A(precision), n.attrs.precision = precision;
        graph_copy_node(to, from, &n, map);
    }
    return to;
}

bool pass_precision(PassCtx *ctx, Module *m) {
    return !ctx->options->precision || pass_each_graph(ctx, m, set_graph);
}
