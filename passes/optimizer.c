/* optimizer: turns the gradients of @train into AdamW updates, and those of @warmup, if there is one, likewise.
 *
 * Fused (the default), one function does a whole step:
 *     train     params, states NAME.m, NAME.v and fault, inputs, hyper; output loss; stores NAME and all states
 * With --grads buffer there are two, so that gradients can be accumulated, clipped and exchanged:
 *     backward  params, states NAME.grad, inputs; output loss; stores NAME.grad = NAME.grad + gradient
 *     update    params, states NAME.grad, NAME.m, NAME.v, hyper; stores NAME, NAME.m, NAME.v
 * @warmup then becomes a second backward, under its own name. The runtime zeroes the gradients between updates. Every function declares parameters first, then states,
 * then inputs, in one order.
 *
 * A fused step guards its updates itself, so that nobody has to look at the loss between forward part and updates:
 *
 *     fault' = fault + (loss - loss)     0, and NaN from the first step on whose loss is not finite
 *     adamw(.., hyper + fault')          which leaves everything as it is where hyper is NaN */
#include "pass.h"

#include <stdlib.h>
#include <string.h>

/* One trained tensor: where it is declared in @train, and ids in the graph being built. */
typedef struct Trained {
    const char *name;
    Loc loc;
    Type type;
    Val param;      /* in @train */
    Val grad;       /* in @train, what NAME.grad outputs */
    Val w, g, m, v; /* in the new graph */
} Trained;

typedef struct Optimizer {
    PassCtx *ctx;
    const Graph *from;
    uint32_t loss; /* node of @train: the output of that name */
    VEC(Trained) trained;
} Optimizer;

static const char *join(const Optimizer *o, const Trained *t, const char *suffix) {
    return arena_printf(o->ctx->scratch, "%s.%s", t->name, suffix);
}

TBC_PRINTF(2, 3) static bool fail(const Optimizer *o, const char *fmt, ...) {
    const Module *m = o->ctx->module;
    va_list ap;
    va_start(ap, fmt);
    diag_verror(o->ctx->diag, m->files.n ? m->files.at[0] : NULL, 0, 0, fmt, ap);
    va_end(ap);
    return false;
}

static bool is_grad_of(const Node *n, const Trained *t) {
    size_t len = strlen(t->name);
    return n->op == OP_output && strncmp(n->attrs.name, t->name, len) == 0 &&
           strcmp(n->attrs.name + len, ".grad") == 0;
}

/* Finds parameters and their gradients; both come in the same order. */
static bool find_trained(Optimizer *o) {
    for (uint32_t i = 0; i < o->from->nodes.n; i++) {
        const Node *n = &o->from->nodes.at[i];
        if (n->op == OP_state || n->op == OP_store)
            return fail(o, "function '%s' has a %s already (run the passes on a module without)", o->from->name,
                        op_info[n->op].name);
        if (n->op != OP_param) continue;
        Trained t = {.name = n->attrs.name,
                     .loc = n->loc,
                     .type = *val_type(o->from, n->out),
                     .param = n->out,
                     .grad = VAL_NONE};
        vec_push(&o->trained, t);
    }
    uint32_t next = 0;
    for (uint32_t i = 0; i < o->from->nodes.n && next < o->trained.n; i++) {
        const Node *n = &o->from->nodes.at[i];
        if (is_grad_of(n, &o->trained.at[next])) o->trained.at[next++].grad = n->in[0];
    }
    return next == o->trained.n ||
           fail(o, "function '%s' has no output '%s.grad', or not in the order of the parameters", o->from->name,
                o->trained.at[next].name);
}

static bool find_loss(Optimizer *o) {
    const Type number = type_make(DT_F32, 1, (int64_t[]){1});
    for (uint32_t i = 0; i < o->from->nodes.n; i++) {
        const Node *n = &o->from->nodes.at[i];
        if (n->op != OP_output || strcmp(n->attrs.name, "loss") != 0) continue;
        o->loss = i;
        if (type_equal(val_type(o->from, n->in[0]), &number)) return true;
    }
    return fail(o, "function '%s' has no output 'loss' of type f32[1]", o->from->name);
}

/* ---- parts of the new functions */

static Val declare(Graph *g, Loc loc, Op op, const Type *type, const char *name) {
    return graph_add(g, NULL, NULL, loc, op, type, NULL, 0, ATTRS(name, name));
}

static void store(Graph *g, Loc loc, Val v, const char *name) {
    graph_add(g, NULL, NULL, loc, OP_store, NULL, &v, 1, ATTRS(name, name));
}

static bool has_bf16_moments(const Optimizer *o) {
    return o->from->attrs.set & A(moments) && strcmp(o->from->attrs.moments, "bf16") == 0;
}

/* What updates need beside gradients: the numbers of the step, and a key for rounding where it is random. */
typedef struct StepInputs {
    Val hyper, key;
} StepInputs;

static StepInputs declare_step(const Optimizer *o, Graph *g) {
    Type hyper = type_make(DT_F32, 1, (int64_t[]){4}), key = type_make(DT_I32, 1, (int64_t[]){2});
    StepInputs in = {declare(g, (Loc){0}, OP_input, &hyper, "hyper"), VAL_NONE};
    if (has_bf16_moments(o)) in.key = declare(g, (Loc){0}, OP_input, &key, "key");
    return in;
}

static void declare_params(Optimizer *o, Graph *g, Val *map) {
    for (uint32_t i = 0; i < o->trained.n; i++) {
        Trained *t = &o->trained.at[i];
        t->w = graph_copy_node(g, o->from, val_node(o->from, t->param), map);
    }
}

static void declare_grads(Optimizer *o, Graph *g) {
    for (uint32_t i = 0; i < o->trained.n; i++) {
        Trained *t = &o->trained.at[i];
        t->g = declare(g, t->loc, OP_state, &t->type, join(o, t, "grad"));
    }
}

static void declare_moments(Optimizer *o, Graph *g) {
    for (uint32_t i = 0; i < o->trained.n; i++) {
        Trained *t = &o->trained.at[i];
        Type type = t->type;
        if (has_bf16_moments(o)) type.dtype = DT_BF16;
        t->m = declare(g, t->loc, OP_state, &type, join(o, t, "m"));
        t->v = declare(g, t->loc, OP_state, &type, join(o, t, "v"));
    }
}

static void copy_inputs(const Optimizer *o, Graph *g, Val *map) {
    for (uint32_t i = 0; i < o->from->nodes.n; i++)
        if (o->from->nodes.at[i].op == OP_input) graph_copy_node(g, o->from, &o->from->nodes.at[i], map);
}

/* hyper becomes NaN if this loss or an earlier one was not finite. */
static void guard(Graph *g, Val loss, Val fault, StepInputs *step) {
    const Loc none = {0};
    Val now = ir_binary(g, none, OP_add, fault, ir_binary(g, none, OP_sub, loss, loss));
    store(g, none, now, "fault");
    step->hyper = ir_binary(g, none, OP_add, step->hyper, now);
}

/* The computation itself, without the outputs of gradients; they come in the parameters' order. What updates take is
 * guarded as soon as the loss is there, so that they can be early; step NULL: there are none here. */
static void copy_body(const Optimizer *o, Graph *g, Val *map, Val fault, StepInputs *step) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < o->from->nodes.n; i++) {
        const Node *n = &o->from->nodes.at[i];
        if (n->op == OP_param || n->op == OP_input) continue;
        if (next < o->trained.n && is_grad_of(n, &o->trained.at[next]))
            next++;
        else
            graph_copy_node(g, o->from, n, map);
        if (step && i == o->loss) guard(g, map[n->in[0]], fault, step);
    }
}

/* AdamW on every parameter, from w, g, m, v of each. */
static void add_updates(const Optimizer *o, Graph *g, StepInputs step) {
    const Attrs *given = &o->from->attrs;
    Attrs attrs = {.set = A(beta1) | A(beta2) | A(eps),
                   .beta1 = given->set & A(beta1) ? given->beta1 : 0.9,
                   .beta2 = given->set & A(beta2) ? given->beta2 : 0.95,
                   .eps = given->set & A(eps) ? given->eps : 1e-8};
    for (uint32_t i = 0; i < o->trained.n; i++) {
        const Trained *t = &o->trained.at[i];
        Val in[6] = {t->w, t->g, t->m, t->v, step.hyper, step.key};
        Val w = graph_add(g, NULL, NULL, t->loc, OP_adamw, NULL, in, step.key == VAL_NONE ? 5 : 6, &attrs);
        store(g, t->loc, w, t->name);
        store(g, t->loc, w + 1, join(o, t, "m"));
        store(g, t->loc, w + 2, join(o, t, "v"));
    }
}

/* ---- the functions */

static Graph *make_train(Optimizer *o) {
    Graph *g = pass_begin(o->from);
    Val *map = pass_map(o->ctx, o->from);
    declare_params(o, g, map);
    declare_moments(o, g);
    Val fault = declare(g, (Loc){0}, OP_state, val_type(o->from, o->from->nodes.at[o->loss].in[0]), "fault");
    copy_inputs(o, g, map);
    StepInputs step = declare_step(o, g);
    copy_body(o, g, map, fault, &step);
    for (uint32_t i = 0; i < o->trained.n; i++) o->trained.at[i].g = map[o->trained.at[i].grad];
    add_updates(o, g, step);
    return g;
}

static Graph *make_backward(Optimizer *o, const char *name) {
    Graph *g = graph_new(name);
    Val *map = pass_map(o->ctx, o->from);
    declare_params(o, g, map);
    declare_grads(o, g);
    copy_inputs(o, g, map);
    copy_body(o, g, map, VAL_NONE, NULL);
    for (uint32_t i = 0; i < o->trained.n; i++) {
        const Trained *t = &o->trained.at[i];
        store(g, t->loc, ir_binary(g, t->loc, OP_add, t->g, map[t->grad]), join(o, t, "grad"));
    }
    return g;
}

static Graph *make_update(Optimizer *o) {
    Graph *g = graph_new("update");
    declare_params(o, g, pass_map(o->ctx, o->from));
    declare_grads(o, g);
    declare_moments(o, g);
    add_updates(o, g, declare_step(o, g));
    return g;
}

/* Whether any function declares this name. */
static bool declared(const Module *m, const char *name) {
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        const Graph *g = m->graphs.at[i];
        for (uint32_t k = 0; k < g->nodes.n; k++) {
            Op op = g->nodes.at[k].op;
            if ((op == OP_param || op == OP_state || op == OP_input) &&
                strcmp(g->nodes.at[k].attrs.name, name) == 0)
                return true;
        }
    }
    return false;
}

/* Whether the functions and storage that this pass makes are not there yet. */
static bool names_free(const Optimizer *o, const Module *m) {
    static const char *const suffixes[] = {"m", "v", "grad"}, *const names[] = {"hyper", "key", "fault"};
    const bool used[] = {true, has_bf16_moments(o), !o->ctx->options->grads_buffer};
    if (module_graph(m, "backward") || module_graph(m, "update"))
        return fail(o, "there is a function 'backward' or 'update' already");
    for (uint32_t i = 0; i < 3; i++)
        if (used[i] && declared(m, names[i]))
            return fail(o, "the name '%s' is the optimizer's (rename the tensor)", names[i]);
    for (uint32_t i = 0; i < o->trained.n; i++)
        for (uint32_t k = 0; k < 3; k++)
            if (declared(m, join(o, &o->trained.at[i], suffixes[k])))
                return fail(o, "the name '%s.%s' is the optimizer's (rename the tensor)",
                            o->trained.at[i].name, suffixes[k]);
    return true;
}

/* The functions that take the place of graph `at`, which is @train or @warmup. */
static bool replace(Optimizer *o, Module *m, uint32_t at) {
    if (!find_trained(o) || !find_loss(o)) return false;
    bool train = strcmp(o->from->name, "train") == 0;
    if (train && !names_free(o, m)) return false;
    m->graphs.at[at] = !o->ctx->options->grads_buffer ? make_train(o)
                       : train                        ? make_backward(o, "backward")
                                                      : make_backward(o, o->from->name);
    if (train && o->ctx->options->grads_buffer) vec_push(&m->graphs, make_update(o));
    return true;
}

/* @train comes first: it says whether the optimizer's names are free. */
static bool optimize(PassCtx *ctx, Module *m, const char *name) {
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        Graph *from = m->graphs.at[i];
        if (strcmp(from->name, name) != 0) continue;
        Optimizer o = {.ctx = ctx, .from = from};
        bool ok = replace(&o, m, i);
        if (ok) graph_free(from);
        vec_free(&o.trained);
        return ok;
    }
    return true;
}

bool pass_optimizer(PassCtx *ctx, Module *m) {
    if (module_graph(m, "train")) return optimize(ctx, m, "train") && optimize(ctx, m, "warmup");
    diag_error(ctx->diag, m->files.n ? m->files.at[0] : NULL, 0, 0,
               "there is no function 'train' to optimize");
    return false;
}
