/* Running a spec's statements: once to collect the parameters, then once for each function.
 *
 * A function's graph begins with all parameters, the same in each function, and its inputs. Names are one
 * flat environment in which `let` may give a name a new value, so that layers can carry x along. */
#include "build.h"
#include "emit.h"
#include "suggest.h"

#include <stdlib.h>
#include <string.h>

#define MAX_STEPS 20000

enum { PREFILL_TOKENS = 64 /* at a time, as many as a sequence has at most */ };

/* What a reader of an error must know besides its place. */
static const char *context(const Builder *b) {
    if (!b->g || !takes_pos(b->fn)) return "";
    return b->fn == FN_DECODE ? " (in decode, where batch and seq are 1)"
                              : " (in prefill, where batch is 1 and seq a part of it)";
}

Val stmt_error(Builder *b, Stmt *st, const Json *at, const char *fmt, ...) {
    if (!st->failed) {
        Buf text = {0};
        va_list ap;
        va_start(ap, fmt);
        buf_vprintf(&text, fmt, ap);
        va_end(ap);
        json_error(b->spec->src, at, "%s%s", text.at, context(b));
        buf_free(&text);
    }
    st->failed = true;
    return VAL_NONE;
}

/* ---- expressions */

static bool evaluate(Builder *b, Stmt *st, const Json *v, int64_t *out) {
    if (v->kind == JSON_BOOL) {
        *out = v->boolean;
        return true;
    }
    if (v->kind == JSON_NUMBER) {
        if (st->failed || json_int(b->spec->src, v, 0, (int64_t)1 << 53, out)) return !st->failed;
        st->failed = true;
        return false;
    }
    if (v->kind != JSON_STRING) {
        stmt_error(b, st, v, "expected an integer or an expression, found %s", json_kind_name(v));
        return false;
    }
    Buf error = {0};
    size_t at;
    bool ok = expr_eval(v->string, &b->scope, out, &error, &at);
    if (!ok && !st->failed) json_string_error(b->spec->src, v, at, "%s%s", error.at, context(b));
    if (!ok) st->failed = true;
    buf_free(&error);
    return ok;
}

bool stmt_shape(Builder *b, Stmt *st, uint32_t min_rank, uint32_t max_rank, Type *out) {
    const Json *shape = st->shape;
    if (shape->count < min_rank || shape->count > max_rank) {
        stmt_error(b, st, shape, "%u dims (%u to %u were expected)", shape->count, min_rank, max_rank);
        return false;
    }
    int64_t dim[MAX_RANK], count = 1;
    uint32_t rank = 0;
    for (const Json *v = shape->first; v; v = v->next) {
        if (!evaluate(b, st, v, &dim[rank])) return false;
        if (dim[rank] < 1) {
            stmt_error(b, st, v, "a dim of %lld (1 at least was expected)", (long long)dim[rank]);
            return false;
        }
        if (dim[rank] > MAX_ELEMENTS / count) {
            stmt_error(b, st, shape, "a tensor of more than 2^40 elements");
            return false;
        }
        count *= dim[rank++];
    }
    *out = type_make(DT_F32, rank, dim);
    return true;
}

/* ---- parameters */

/* The weight's name with each {expression} replaced by its value. NULL after an error. */
static const char *param_name(Builder *b, Stmt *st) {
    const char *text = st->weight->string;
    Arena *arena = b->spec->src->arena;
    Buf name = {0};
    const char *open;
    for (const char *c = text; *c; c = open) {
        open = c + strcspn(c, "{");
        buf_add(&name, c, (size_t)(open - c));
        if (!*open) break;
        const char *close = strchr(open, '}');
        if (!close) {
            stmt_error(b, st, st->weight, "'{' without '}'");
            break;
        }
        Json inner = *st->weight;
        inner.string = arena_printf(arena, "%.*s", (int)(close - open - 1), open + 1);
        inner.loc.col = (uint16_t)(inner.loc.col + (open + 1 - text));
        int64_t value;
        if (!evaluate(b, st, &inner, &value)) break;
        buf_printf(&name, "%lld", (long long)value);
        open = close + 1;
    }
    if (!st->failed && (name.n == 0 || name.n > 200))
        stmt_error(b, st, st->weight, "a name has 1 to 200 characters");
    const char *result = st->failed ? NULL : arena_strdup(arena, name.at);
    buf_free(&name);
    return result;
}

static Param *find_param(Builder *b, const char *name) {
    for (uint32_t i = 0; i < b->params.n; i++) {
        if (strcmp(b->params.at[i].name, name) == 0) return &b->params.at[i];
    }
    return NULL;
}

static bool taken(const char *name) {
    static const char *const whole[] = {"tokens", "targets", "hyper", "key",    "pos",
                                        "lambda", "loss",    "nll",   "logits", "fault"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        if (strcmp(name, whole[i]) == 0) return true;
    }
    /* NAME.m, NAME.v, NAME.grad are the optimizer's, NAME.codes and NAME.cache are decode's */
    static const char *const ends[] = {".m", ".v", ".grad", ".codes", ".cache"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof ends / sizeof *ends; i++) {
        if (strcmp(dot, ends[i]) == 0) return true;
    }
    return false;
}

/* The first walk: the statement's parameter joins the list, or matches the one of its name. */
static void collect_param(Builder *b, Stmt *st) {
    Type type;
    const char *name = param_name(b, st);
    if (!name || !stmt_shape(b, st, 1, 2, &type)) return;
    if (taken(name)) {
        stmt_error(b, st, st->weight,
                   "'%.60s' is not a name for a weight (inputs, outputs, fault and *.m, *.v, *.grad, *.codes, *.cache are taken)",
                   name);
        return;
    }
    st->weight_type = type;
    const Param *p = find_param(b, name);
    if (!p) {
        Param added = {.name = name, .type = type, .first = st->weight};
        vec_push(&b->params, added);
    } else if (!type_equal(&p->type, &type)) {
        stmt_error(b, st, st->shape, "'%.60s' has another shape in line %u", name, p->first->loc.line);
    }
}

Param *stmt_param(Builder *b, Stmt *st) {
    const char *name = param_name(b, st);
    return name ? find_param(b, name) : NULL;
}

/* ---- values by name */

static Let *find_let(Builder *b, const char *name) {
    for (uint32_t i = 0; i < b->lets.n; i++) {
        if (strcmp(b->lets.at[i].name, name) == 0) return &b->lets.at[i];
    }
    return NULL;
}

static void set_let(Builder *b, const char *name, Val v) {
    Let *old = find_let(b, name);
    Let added = {name, v};
    if (old) {
        old->val = v;
    } else {
        vec_push(&b->lets, added);
    }
}

static void unknown_value(Builder *b, Stmt *st, const Json *arg) {
    const char **known = xcalloc(b->lets.n, sizeof *known);
    for (uint32_t i = 0; i < b->lets.n; i++) known[i] = b->lets.at[i].name;
    const char *near = suggest(arg->string, known, b->lets.n);
    if (near)
        stmt_error(b, st, arg, "unknown value '%s' (did you mean '%s'?)", arg->string, near);
    else
        stmt_error(b, st, arg, "unknown value '%.60s' (tokens, or a let before it, was expected)",
                   arg->string);
    free(known);
}

/* The args' values. False if one is unknown, reported unless an earlier error is why. */
static bool find_args(Builder *b, Stmt *st, Val *args) {
    bool ok = true;
    for (uint32_t i = 0; i < st->nargs; i++) {
        if (strcmp(st->args[i]->string, "targets") == 0) {
            if (st->op == SPEC_cross_entropy && i == 1) continue;
            stmt_error(b, st, st->args[i], "targets are for cross_entropy alone");
        }
        const Let *let = find_let(b, st->args[i]->string);
        if (!let && !st->failed) unknown_value(b, st, st->args[i]);
        args[i] = let ? let->val : VAL_NONE;
        ok = ok && args[i] != VAL_NONE;
    }
    return ok && !st->failed;
}

/* ---- statements */

static void run(Builder *, Stmt *);

static void run_op(Builder *b, Stmt *st) {
    Val args[3] = {VAL_NONE, VAL_NONE, VAL_NONE}, out = VAL_NONE;
    if (!b->g) {
        if (st->weight && !st->failed) collect_param(b, st);
        return;
    }
    if (b->vocab && !st->failed)
        stmt_error(b, st, st->at, "a statement after the loss (cross_entropy comes last)");
    if (!st->failed && find_args(b, st, args)) out = emit_statement(b, st, args);
    if (out != VAL_NONE && b->fn == FN_TRAIN) st->type = *val_type(b->g, out);
    if (st->let) set_let(b, st->let, out);
}

/* After an error in what holds statements: the values they would have given are unknown. */
static void poison(Builder *b, const Stmt *st) {
    for (; st; st = st->next) {
        if (st->let) set_let(b, st->let, VAL_NONE);
        poison(b, st->body);
        poison(b, st->other);
    }
}

static bool count_step(Builder *b, Stmt *st) {
    if (++b->steps <= MAX_STEPS) return true;
    if (b->steps == MAX_STEPS + 1)
        stmt_error(b, st, st->at, "the graph has more than %d operations", MAX_STEPS);
    return false;
}

static void run_for(Builder *b, Stmt *st) {
    int64_t count;
    if (st->failed || !evaluate(b, st, st->count, &count)) {
        poison(b, st->body);
        return;
    }
    uint32_t variable = b->scope.n;
    Dim dim = {.name = st->var};
    vec_push(&b->scope, dim);
    for (int64_t i = 0; i < count && count_step(b, st); i++) {
        b->scope.at[variable].value = i;
        run(b, st->body);
    }
    b->scope.n = variable;
}

static void run_if(Builder *b, Stmt *st) {
    int64_t condition;
    if (!st->failed && evaluate(b, st, st->count, &condition)) {
        run(b, condition ? st->body : st->other);
        return;
    }
    poison(b, st->body);
    poison(b, st->other);
}

static void run(Builder *b, Stmt *st) {
    for (; st && count_step(b, st); st = st->next) {
        st->runs += b->g && b->fn == FN_TRAIN;
        switch (st->kind) {
        case STMT_OP:
            run_op(b, st);
            break;
        case STMT_FOR:
            run_for(b, st);
            break;
        case STMT_IF:
            run_if(b, st);
            break;
        }
    }
}

/* ---- functions */

static void begin_walk(Builder *b, int64_t batch, int64_t seq) {
    const Spec *s = b->spec;
    Dim sizes[] = {{.name = "batch", .value = batch}, {.name = "seq", .value = seq}};
    b->scope.n = 0;
    for (uint32_t i = 0; i < s->dims.n; i++) vec_push(&b->scope, s->dims.at[i]);
    vec_push(&b->scope, sizes[0]);
    vec_push(&b->scope, sizes[1]);
    b->steps = 0;
    b->lets.n = b->ropes.n = 0;
    b->embedded = b->vocab = 0;
    b->caches = 0;
}

static void add_input(Builder *b, const char *name, DType dtype, uint32_t rank, const int64_t *dim) {
    Type t = type_make(dtype, rank, dim);
    Val v = graph_add(b->g, NULL, NULL, b->spec->graph->loc, OP_input, &t, NULL, 0, ATTRS(name, name));
    set_let(b, name, v);
}

static void add_params(Builder *b) {
    for (uint32_t i = 0; i < b->params.n; i++) {
        Param *p = &b->params.at[i];
        Attrs attrs = {.set = A(name), .name = p->name};
        if (b->spec->group && p->type.rank == 2) attrs.set |= A(group), attrs.group = b->spec->group;
        if (attrs.set & A(group) && b->spec->clip) attrs.set |= A(clip), attrs.clip = true;
        p->val = graph_add(b->g, NULL, NULL, p->first->loc, OP_param, &p->type, NULL, 0, &attrs);
    }
}

/* False after an error. */
static bool build_function(Builder *b, Function fn) {
    static const char *const name[FN_COUNT] = {"train", "warmup", "eval", "decode", "prefill"};
    const Spec *s = b->spec;
    int64_t batch = takes_pos(fn) ? 1 : s->batch, seq = fn == FN_DECODE ? 1 : s->seq;
    if (fn == FN_PREFILL && seq > PREFILL_TOKENS) seq = PREFILL_TOKENS;
    begin_walk(b, batch, seq);
    b->fn = fn, b->seq = seq;
    b->g = graph_new(name[fn]);
    vec_push(&b->m->graphs, b->g);
    add_params(b);
    add_input(b, "tokens", DT_I32, 2, (int64_t[]){batch, seq});
    if (takes_pos(fn))
        add_input(b, "pos", DT_I32, 1, (int64_t[]){1});
    else
        add_input(b, "targets", DT_I32, 2, (int64_t[]){batch, seq});
    if (fn == FN_WARMUP) add_input(b, "lambda", DT_F32, 1, (int64_t[]){1});
    if (fn == FN_TRAIN || fn == FN_WARMUP) {
        const Optimizer *o = &s->optimizer;
        b->g->attrs =
            (Attrs){.set = A(beta1) | A(beta2) | A(eps), .beta1 = o->beta1, .beta2 = o->beta2, .eps = o->eps};
        if (o->bf16_moments) b->g->attrs.set |= A(moments), b->g->attrs.moments = "bf16";
    }
    run(b, s->body);
    if (!b->vocab && !s->src->diag->errors)
        json_error(s->src, s->graph, "the graph computes no loss (a cross_entropy was expected)");
    return !s->src->diag->errors;
}

static bool build_functions(Builder *b) {
    begin_walk(b, b->spec->batch, b->spec->seq);
    run(b, b->spec->body); /* collects parameters */
    for (int fn = 0; fn < FN_COUNT; fn++) {
        if (fn == FN_WARMUP && !b->spec->lambda_warmup) continue;
        if (!build_function(b, (Function)fn)) return false;
    }
    b->m->meta = build_meta(b->spec, b->vocab, b->m->arena);
    return b->m->meta != NULL;
}

Module *build_module(Spec *spec) {
    if (!spec->sizes_known) return NULL;
    const Sources *src = spec->src;
    Builder b = {.spec = spec, .m = module_new()};
    bool ok = build_functions(&b) && !src->diag->errors;
    for (uint32_t i = 0; i < src->files.n; i++) {
        const char *file = arena_strdup(b.m->arena, src->files.at[i]);
        vec_push(&b.m->files, file);
    }
    vec_free(&b.scope);
    vec_free(&b.params);
    vec_free(&b.lets);
    vec_free(&b.ropes);
    if (ok) return b.m;
    module_free(b.m);
    return NULL;
}
