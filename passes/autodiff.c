/* autodiff: reverse-mode differentiation of @train, and of @warmup where there is one. The forward nodes stay; the
 * gradient of its output "loss" (f32[1]) follows, node by node in reverse order, by the rules of grads.c; at last come
 * the outputs NAME.grad, one for each parameter in the order of their declaration. */
#include "pass.h"

#include <string.h>

typedef struct Reverse {
    PassCtx *ctx;
    Graph *g;         /* starts as a copy of the forward graph, with the same ids */
    const bool *path; /* by forward value: depends on a parameter */
    Val *grad;        /* by forward value: its gradient so far, or VAL_NONE */
} Reverse;

TBC_PRINTF(3, 4) static bool fail(const Reverse *r, Loc loc, const char *fmt, ...) {
    const Module *m = r->ctx->module;
    va_list ap;
    va_start(ap, fmt);
    diag_verror(r->ctx->diag, loc.line && loc.file < m->files.n ? m->files.at[loc.file] : NULL, loc.line,
                loc.col, fmt, ap);
    va_end(ap);
    return false;
}

/* Values that depend on a parameter other than through an op that stops gradients. */
static bool *find_path(PassCtx *ctx, const Graph *g) {
    bool *path = arena_array(ctx->scratch, bool, g->values.n);
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        bool depends = n->op == OP_param;
        for (uint32_t k = 0; k < n->nin; k++) depends |= path[n->in[k]];
        if (strcmp(op_info[n->op].grad, "zero") == 0) depends = false;
        for (uint32_t k = 0; k < n->nout; k++) path[n->out + k] = depends;
    }
    return path;
}

static const char *advice(Op op) {
    return op == OP_ternary ? "use the weight as ste(ternary(w), w), which insert-ste does"
                            : "stop() its operand, or use ops that have one: tbc ops lists them";
}

/* The gradient of node i's results flows on to its operands. */
static bool reverse_node(Reverse *r, uint32_t i) {
    const Node n = r->g->nodes.at[i];
    const char *name = op_info[n.op].name;
    for (uint32_t k = 1; k < n.nout; k++)
        if (r->grad[n.out + k] != VAL_NONE)
            return fail(r, n.loc, "result %u of %s has no gradient (only its first result has)", k, name);
    if (n.nout == 0 || !r->path[n.out] || r->grad[n.out] == VAL_NONE) return true;

    for (uint32_t k = 0; k < n.nin; k++)
        if (n.op != OP_ste && r->path[n.in[k]] && val_type(r->g, n.in[k])->dtype == DT_T2)
            return fail(r, n.loc, "%s: no gradient flows into ternary codes (%s)", name, advice(OP_ternary));
    if (!grad_rules[n.op]) return fail(r, n.loc, "%s has no gradient (%s)", name, advice(n.op));
    Val *din = arena_array(r->ctx->scratch, Val, n.nin);
    for (uint32_t k = 0; k < n.nin; k++) din[k] = VAL_NONE;
    grad_rules[n.op](r->g, &n, r->grad[n.out], din);
    for (uint32_t k = 0; k < n.nin; k++) {
        Val x = n.in[k];
        if (din[k] == VAL_NONE || !r->path[x]) continue;
        Val dx = grad_unbroadcast(r->g, n.loc, din[k], val_type(r->g, x));
        if (dx == VAL_NONE)
            return fail(r, n.loc,
                        "%s: no gradient for a dim that is repeated between others (reshape so that "
                        "repeated dims come first or last)",
                        name);
        r->grad[x] = r->grad[x] == VAL_NONE ? dx : ir_binary(r->g, n.loc, OP_add, r->grad[x], dx);
    }
    return true;
}

/* The value of the output "loss", or VAL_NONE after an error. */
static Val find_loss(const Reverse *r) {
    for (uint32_t i = 0; i < r->g->nodes.n; i++) {
        const Node *n = &r->g->nodes.at[i];
        if (n->op != OP_output || strcmp(n->attrs.name, "loss") != 0) continue;
        const Type *t = val_type(r->g, n->in[0]);
        if (t->dtype == DT_F32 && t->rank == 1 && t->dim[0] == 1) return n->in[0];
        fail(r, n->loc, "the output 'loss' must be one number, f32[1]");
        return VAL_NONE;
    }
    fail(r, (Loc){0}, "function '%s' has no output 'loss' to differentiate", r->g->name);
    return VAL_NONE;
}

/* Differentiating twice would give two outputs of each name. */
static bool is_forward(const Reverse *r) {
    for (uint32_t i = 0; i < r->g->nodes.n; i++) {
        const Node *n = &r->g->nodes.at[i];
        const char *suffix = n->op == OP_output ? strrchr(n->attrs.name, '.') : NULL;
        if ((suffix && strcmp(suffix, ".grad") == 0) || n->op == OP_store)
            return fail(r, n->loc, "function '%s' has the %s '%s': it is differentiated already", r->g->name,
                        op_info[n->op].name, n->attrs.name);
    }
    return true;
}

static bool reverse_graph(Reverse *r, uint32_t forward) {
    Val loss = find_loss(r);
    if (loss == VAL_NONE || !is_forward(r)) return false;
    Type one = *val_type(r->g, loss);
    r->grad[loss] = ir_splat(r->g, val_node(r->g, loss)->loc, &one, 1);
    bool ok = true;
    for (uint32_t i = forward; i-- > 0;) ok = reverse_node(r, i) && ok;
    for (uint32_t i = 0; ok && i < forward; i++) {
        const Node n = r->g->nodes.at[i];
        if (n.op != OP_param) continue;
        Type type = *val_type(r->g, n.out);
        Val grad = r->grad[n.out] != VAL_NONE ? r->grad[n.out] : ir_splat(r->g, n.loc, &type, 0);
        const char *name = arena_printf(r->ctx->scratch, "%s.grad", n.attrs.name);
        graph_add(r->g, NULL, NULL, n.loc, OP_output, NULL, &grad, 1, ATTRS(name, name));
    }
    return ok;
}

static Graph *differentiate(PassCtx *ctx, const Graph *from) {
    Graph *g = pass_begin(from);
    Val *map = pass_map(ctx, from);
    for (uint32_t i = 0; i < from->nodes.n; i++) graph_copy_node(g, from, &from->nodes.at[i], map);
    Reverse r = {.ctx = ctx, .g = g, .path = find_path(ctx, from), .grad = pass_map(ctx, from)};
    /* Rules also compute gradients of operands that no parameter stands behind: those are dead. */
    Graph *live = reverse_graph(&r, from->nodes.n) ? pass_drop_dead(ctx, g) : NULL;
    graph_free(g);
    return live;
}

bool pass_autodiff(PassCtx *ctx, Module *m) {
    if (!module_graph(m, "train")) {
        diag_error(ctx->diag, m->files.n ? m->files.at[0] : NULL, 0, 0,
                   "there is no function 'train' to differentiate");
        return false;
    }
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        Graph *from = m->graphs.at[i];
        if (!pass_trains(from)) continue;
        Graph *to = differentiate(ctx, from);
        if (!to) return false;
        graph_free(from);
        m->graphs.at[i] = to;
    }
    return true;
}
