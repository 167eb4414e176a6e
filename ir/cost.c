/* What a node costs: floating-point operations and bytes moved, for `tbc inspect` and for rooflines.
 * One rule for each name in the `cost` column of ops.def gives the FLOPs; bytes are operands read once
 * and results written once, except where storage is shared or only partly touched. */
#include "ir.h"

typedef int64_t FlopRule(const Graph *, const Node *);

static const Type *operand(const Graph *g, const Node *n, uint32_t i) {
    return val_type(g, n->in[i]);
}

static int64_t flops_free(const Graph *g, const Node *n) {
    (void)g, (void)n;
    return 0;
}

static int64_t flops_copy(const Graph *g, const Node *n) {
    return flops_free(g, n);
}

/* One for each element, except where the op is a series of its own. */
static int64_t flops_ew(const Graph *g, const Node *n) {
    int64_t out = type_count(val_type(g, n->out)), per = 1;
    if (n->op == OP_exp || n->op == OP_log || n->op == OP_sigmoid) per = 10;
    if (n->op == OP_rsqrt) per = 2;
    if (n->op == OP_sum || n->op == OP_max || n->op == OP_sum_rows || n->op == OP_partial_sum)
        out = type_count(operand(g, n, 0));
    if (n->op == OP_embedding_grad) out = type_count(operand(g, n, 1));
    if (n->op == OP_ternary) per = 4; /* absolute value, sum, division, rounding */
    return out * per;
}

static int64_t flops_gemm(const Graph *g, const Node *n) {
    const Type *a = operand(g, n, 0);
    int64_t k = n->attrs.ta ? type_rows(a) : type_cols(a);
    return 2 * k * type_count(val_type(g, n->out));
}

/* Pairs of a query and a key that is not after it, times multiply and add over the head's width. */
static int64_t attention_product(const Graph *g, const Node *n) {
    const int64_t *q = operand(g, n, 0)->dim;
    return q[0] * q[2] * (q[1] * (q[1] + 1) / 2) * 2 * q[3];
}

static int64_t flops_attention(const Graph *g, const Node *n) {
    return 2 * attention_product(g, n);
}
static int64_t flops_attention_grad(const Graph *g, const Node *n) {
    return 5 * attention_product(g, n);
}
/* As at the last positions, where the cache is full. */
static int64_t flops_attention_decode(const Graph *g, const Node *n) {
    const int64_t *q = operand(g, n, 0)->dim;
    return q[0] * q[1] * q[2] * operand(g, n, 1)->dim[1] * 4 * q[3];
}
static int64_t flops_adamw(const Graph *g, const Node *n) {
    return 14 * type_count(val_type(g, n->out));
}

static int64_t flops_matmul_adamw(const Graph *g, const Node *n) {
    int64_t count = type_count(val_type(g, n->out)), project = n->nout > 3 ? 4 : 0;
    return (2 * type_rows(operand(g, n, 0)) + project) * count + flops_adamw(g, n);
}

static int64_t flops_region(const Graph *g, const Node *n) {
    (void)g;
    int64_t sum = 0;
    for (uint32_t i = 0; i < n->body->nodes.n; i++) sum += node_cost(n->body, &n->body->nodes.at[i]).flops;
    return sum;
}

static FlopRule *const rules[OP_COUNT] = {
#define OP(name, min, max, results, attrs, optional, flags, shape, grad, cost, help) flops_##cost,
#include "ops.def"
#undef OP
};

static int64_t bytes_of(const Graph *g, const Node *n) {
    uint32_t flags = op_info[n->op].flags;
    if ((flags & (SOURCE | VIEW)) || n->op == OP_output || n->op == OP_yield) return 0;
    int64_t bytes = 0;
    for (uint32_t i = 0; i < n->nin; i++) bytes += type_bytes(operand(g, n, i));
    for (uint32_t i = 0; i < n->nout; i++) bytes += type_bytes(val_type(g, n->out + i));
    if (n->op == OP_store) bytes *= 2; /* read and written */
    if (n->op == OP_matmul_adamw && n->nout > 3) bytes -= type_bytes(operand(g, n, 6)); /* written only */
    if (n->op == OP_cache_row) bytes = 2 * type_bytes(operand(g, n, 1));
    if (n->op == OP_embedding || n->op == OP_take_row) {
        /* Of the table only the rows that are looked up, as large as the result's. */
        const Type *table = operand(g, n, n->op == OP_embedding ? 1 : 0);
        int64_t rows = type_rows(val_type(g, n->out));
        bytes += type_bytes(table) / type_rows(table) * rows - type_bytes(table);
    }
    if (n->op == OP_embedding_grad && n->nin > 2) /* of the sum so far only the rows that are added to */
        bytes += 2 * (type_bytes(operand(g, n, 1)) - type_bytes(operand(g, n, 2)));
    return bytes;
}

Cost node_cost(const Graph *g, const Node *n) {
    return (Cost){.flops = rules[n->op](g, n), .bytes = bytes_of(g, n)};
}
