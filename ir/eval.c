/* The interpreter: runs a graph node by node on tensors of doubles.
 *
 * It is slow and plain on purpose: it is the definition of every op, and what passes and generated code
 * are compared with. The rules are in eval_rows.c (element by element and along rows) and eval_ops.c
 * (everything else); this file walks graphs and binds names. */
#include "eval.h"

#include <stdlib.h>
#include <string.h>

static EvalRule *const rules[OP_COUNT] = {
#define OP(name, ...) eval_##name,
#include "ops.def"
#undef OP
};

int64_t eval_index(Eval *e, const Tensor *indices, int64_t i, int64_t limit) {
    double index = indices->at[i];
    if (index >= 0 && index < (double)limit) return (int64_t)index;
    e->bad_index = true;
    return -1;
}

static Tensor tensor_new(Arena *arena, const Type *type) {
    return (Tensor){.type = *type, .at = arena_array(arena, double, type_count(type))};
}

static void round_results(Eval *e) {
    if (e->precision == EVAL_F64) return;
    for (uint32_t r = 0; r < e->n->nout; r++) {
        Tensor *t = &e->out[r];
        int64_t count = t->type.dtype == DT_I32 ? 0 : type_count(&t->type);
        for (int64_t i = 0; i < count; i++) t->at[i] = (float)t->at[i];
    }
}

/* Allocates the results, runs the rule, rounds. */
static void run_node(Eval *e) {
    for (uint32_t r = 0; r < e->n->nout; r++) e->out[r] = tensor_new(e->arena, val_type(e->g, e->n->out + r));
    rules[e->n->op](e);
    round_results(e);
}

void eval_node(const Graph *g, const Node *n, EvalPrecision precision, const Tensor *in, Tensor *out,
               Arena *arena) {
    Eval e = {.g = g, .n = n, .in = in, .out = out, .precision = precision, .arena = arena};
    run_node(&e);
}

/* An array of the node's operands, taken from the graph's values. */
static Tensor *gather(const Node *n, const Tensor *values, Arena *arena) {
    Tensor *in = arena_array(arena, Tensor, n->nin);
    for (uint32_t i = 0; i < n->nin; i++) in[i] = values[n->in[i]];
    return in;
}

/* ---- regions: the body's nodes, one after the other, on whole tensors */

void eval_arg(Eval *e) {
    ice("%s is evaluated by its region", op_info[e->n->op].name);
}
void eval_yield(Eval *e) {
    (void)e;
}

void eval_region(Eval *e) {
    const Graph *body = e->n->body;
    Tensor *values = arena_array(e->arena, Tensor, body->values.n);
    for (uint32_t i = 0; i < body->nodes.n; i++) {
        const Node *n = &body->nodes.at[i];
        if (n->op == OP_arg) {
            values[n->out] = e->in[n->attrs.index];
            continue;
        }
        Tensor *in = gather(n, values, e->arena);
        Eval inner = {.g = body, .n = n, .in = in, .precision = e->precision, .arena = e->arena};
        if (n->nout) inner.out = &values[n->out];
        run_node(&inner);
        if (inner.bad_index) e->bad_index = true;
        if (n->op == OP_yield) memcpy(e->out, in, n->nin * sizeof *in);
    }
}

/* ---- names: what is bound from outside, and what goes out */

static void bound_by_graph(const Eval *e) {
    ice("%s '%s' has a value in eval_graph only", op_info[e->n->op].name, e->n->attrs.name);
}
void eval_input(Eval *e) {
    bound_by_graph(e);
}
void eval_param(Eval *e) {
    bound_by_graph(e);
}
void eval_state(Eval *e) {
    bound_by_graph(e);
}
void eval_store(Eval *e) {
    (void)e;
}
void eval_output(Eval *e) {
    (void)e;
}

TBC_PRINTF(4, 5)
static bool fail(const Graph *g, const Node *n, Diag *diag, const char *fmt, ...) {
    Buf why = {0};
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&why, fmt, ap);
    va_end(ap);
    diag_error(diag, NULL, 0, 0, "@%s: %%%u: %s: %s", g->name, n->out, op_info[n->op].name, why.at);
    buf_free(&why);
    return false;
}

/* Copies the bound tensor into the node's result. */
static bool bind(Eval *e, const Binding *in, uint32_t nin, Diag *diag) {
    const char *name = e->n->attrs.name;
    const Type *type = val_type(e->g, e->n->out);
    uint32_t i = 0;
    while (i < nin && strcmp(in[i].name, name) != 0) i++;
    if (i == nin) return fail(e->g, e->n, diag, "no value is bound to '%s'", name);
    if (!type_equal(&in[i].tensor.type, type)) {
        Buf b = {0};
        print_type(&in[i].tensor.type, &b);
        buf_printf(&b, " instead of ");
        print_type(type, &b);
        fail(e->g, e->n, diag, "'%s' is bound to %s", name, b.at);
        buf_free(&b);
        return false;
    }
    e->out[0] = tensor_new(e->arena, type);
    memcpy(e->out[0].at, in[i].tensor.at, sizeof(double) * (size_t)type_count(type));
    round_results(e);
    return true;
}

bool eval_graph(const Graph *g, EvalPrecision precision, const Binding *in, uint32_t nin, Arena *arena,
                Bindings *out, Diag *diag) {
    Tensor *values = arena_array(arena, Tensor, g->values.n);
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        Eval e = {.g = g, .n = n, .in = gather(n, values, arena), .precision = precision, .arena = arena};
        if (n->nout) e.out = &values[n->out];
        if (n->op == OP_input || n->op == OP_param || n->op == OP_state) {
            if (!bind(&e, in, nin, diag)) return false;
            continue;
        }
        run_node(&e);
        if (e.bad_index) return fail(g, n, diag, "an index is out of range");
        if (n->op == OP_store || n->op == OP_output) {
            Binding result = {arena_strdup(arena, n->attrs.name), e.in[0]};
            vec_push(out, result);
        }
    }
    return true;
}
