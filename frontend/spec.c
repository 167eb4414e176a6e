/* Checking a spec: keys, types and ranges of everything in it, and its statements as structs. */
#include "spec.h"
#include "suggest.h"

#include <stdlib.h>
#include <string.h>

#define MAX_DIM ((int64_t)1 << 53) /* integers that JSON numbers hold exactly */

const char *const spec_key[SPEC_KEYS] = {"weight", "shape", "eps", "theta", "scale"};
const SpecOpInfo spec_op_info[SPEC_OP_COUNT] = {
#define SPEC_OP(name, min, max, required, optional, args, help)                                              \
    {#name, min, max, required, optional, args, help},
#include "spec_ops.def"
#undef SPEC_OP
};

const Const *spec_const(const Spec *spec, const char *name) {
    for (uint32_t i = 0; i < spec->consts.n; i++) {
        if (strcmp(spec->consts.at[i].name, name) == 0) return &spec->consts.at[i];
    }
    return NULL;
}

/* A member that must be there. */
static const Json *need(Spec *s, const Json *object, const char *key) {
    const Json *v = json_get(object, key);
    if (!v) json_error(s->src, object, "the key '%s' is missing", key);
    return v;
}

/* ---- dims and consts */

static bool reserved(const char *name) {
    return strcmp(name, "batch") == 0 || strcmp(name, "seq") == 0;
}

static bool check_name(Spec *s, const Json *member) {
    if (reserved(member->key)) {
        json_key_error(s->src, member, "'%s' is set in train, not here", member->key);
        return false;
    }
    if (is_identifier(member->key)) return true;
    json_key_error(s->src, member,
                   "not a name (letters, digits and _, not starting with a digit, were expected)");
    return false;
}

static bool dim_value(Spec *s, const Json *v, Dim *dim) {
    if (v->kind == JSON_BOOL) {
        dim->is_bool = true;
        dim->value = v->boolean;
        return true;
    }
    if (v->kind != JSON_STRING) return json_int(s->src, v, -MAX_DIM, MAX_DIM, &dim->value);
    Buf error = {0};
    size_t at;
    bool ok = expr_eval(v->string, &s->dims, &dim->value, &error, &at);
    if (!ok) json_string_error(s->src, v, at, "%s", error.at);
    buf_free(&error);
    return ok;
}

static void check_dims(Spec *s, const Json *dims) {
    if (!dims || !json_is(s->src, dims, JSON_OBJECT)) return;
    for (const Json *m = dims->first; m; m = m->next) {
        Dim dim = {.name = m->key, .value = 1};
        if (!check_name(s, m)) continue;
        dim_value(s, m, &dim);
        vec_push(&s->dims, dim); /* also after an error, so that its uses are none */
    }
}

static void check_consts(Spec *s, const Json *consts) {
    if (!consts || !json_is(s->src, consts, JSON_OBJECT)) return;
    for (const Json *m = consts->first; m; m = m->next) {
        Const c = {m->key, 1};
        if (!check_name(s, m)) continue;
        if (scope_find(&s->dims, m->key)) json_key_error(s->src, m, "there is a dim of this name");
        json_number(s->src, m, &c.value);
        vec_push(&s->consts, c);
    }
}

/* ---- ternary and train */

static void check_only(Spec *s, const Json *v, const char *only) {
    if (v && json_is(s->src, v, JSON_STRING) && strcmp(v->string, only) != 0)
        json_error(s->src, v, "'%.60s' is not known (only '%s' is)", v->string, only);
}

/* Is v the second of two names? The first is the default. */
static bool check_choice(Spec *s, const Json *v, const char *first, const char *second) {
    if (!v || !json_is(s->src, v, JSON_STRING)) return false;
    bool is_second = strcmp(v->string, second) == 0;
    if (!is_second && strcmp(v->string, first) != 0)
        json_error(s->src, v, "'%.60s' is not known ('%s' or '%s' was expected)", v->string, first, second);
    return is_second;
}

static void check_ternary(Spec *s, const Json *ternary) {
    static const char *const keys[] = {"group_size", "scale", "ste", "lambda_warmup", "comment", NULL};
    s->group = 128;
    if (!ternary) return;
    if (ternary->kind == JSON_NULL) {
        s->group = 0;
        return;
    }
    if (!json_is(s->src, ternary, JSON_OBJECT)) return;
    json_known_keys(s->src, ternary, keys);
    const Json *size = json_get(ternary, "group_size");
    if (size) json_int(s->src, size, 1, MAX_GROUP, &s->group);
    check_only(s, json_get(ternary, "scale"), "absmean");
    s->clip = check_choice(s, json_get(ternary, "ste"), "identity", "clipped");
    const Json *lambda = json_get(ternary, "lambda_warmup");
    if (lambda && json_is(s->src, lambda, JSON_BOOL)) s->lambda_warmup = lambda->boolean;
}

/* A number from lo to hi; with `open`, hi itself is out. */
static void check_range(Spec *s, const Json *v, double lo, double hi, bool open, double *out) {
    if (!v || !json_number(s->src, v, out)) return;
    if (*out >= lo && (open ? *out < hi : *out <= hi)) return;
    json_error(s->src, v, "%g is out of range (%g to %s%g)", *out, lo, open ? "below " : "", hi);
}

static void check_betas(Spec *s, const Json *optimizer) {
    Optimizer *o = &s->optimizer;
    const Json *betas = json_get(optimizer, "betas"), *beta1 = json_get(optimizer, "beta1");
    const Json *beta2 = json_get(optimizer, "beta2");
    if (betas && (beta1 || beta2)) {
        json_key_error(s->src, betas, "either betas or beta1 and beta2");
        return;
    }
    if (betas) {
        if (!json_is(s->src, betas, JSON_ARRAY)) return;
        if (betas->count != 2) {
            json_error(s->src, betas, "expected two numbers, found %u", betas->count);
            return;
        }
        beta1 = betas->first, beta2 = beta1->next;
    }
    check_range(s, beta1, 0, 1, true, &o->beta1);
    check_range(s, beta2, 0, 1, true, &o->beta2);
}

static void check_optimizer(Spec *s, const Json *optimizer) {
    static const char *const keys[] = {"type", "lr",           "warmup",          "beta1",   "beta2", "betas",
                                       "eps",  "weight_decay", "bias_correction", "moments", "comment", NULL};
    Optimizer *o = &s->optimizer;
    *o = (Optimizer){.lr = 5e-4,
                     .warmup = 50,
                     .beta1 = 0.9,
                     .beta2 = 0.95,
                     .eps = 1e-8,
                     .weight_decay = 0.01,
                     .bias_correction = true};
    if (!optimizer || !json_is(s->src, optimizer, JSON_OBJECT)) return;
    json_known_keys(s->src, optimizer, keys);
    check_only(s, json_get(optimizer, "type"), "adamw");
    check_range(s, json_get(optimizer, "lr"), 0, 1000, false, &o->lr);
    check_betas(s, optimizer);
    check_range(s, json_get(optimizer, "eps"), 1e-30, 1, false, &o->eps);
    check_range(s, json_get(optimizer, "weight_decay"), 0, 1000, false, &o->weight_decay);
    const Json *warmup = json_get(optimizer, "warmup"), *correct = json_get(optimizer, "bias_correction");
    if (warmup) json_int(s->src, warmup, 0, INT32_MAX, &o->warmup);
    if (correct && json_is(s->src, correct, JSON_BOOL)) o->bias_correction = correct->boolean;
    o->bf16_moments = check_choice(s, json_get(optimizer, "moments"), "f32", "bf16");
}

static void check_size(Spec *s, const Json *train, const char *key, int64_t max, int64_t given,
                       int64_t *out) {
    const Json *v = given ? json_get(train, key) : need(s, train, key);
    if (v) json_int(s->src, v, 1, max, out);
    if (given) *out = given;
}

static void check_train(Spec *s, const Json *root, const SpecOptions *options) {
    static const char *const keys[] = {"batch", "seq", "optimizer", "comment", NULL};
    const Json *train = need(s, root, "train");
    s->batch = s->seq = 1;
    if (!train || !json_is(s->src, train, JSON_OBJECT)) return;
    json_known_keys(s->src, train, keys);
    check_size(s, train, "batch", MAX_BATCH, options->batch, &s->batch);
    check_size(s, train, "seq", MAX_SEQ, options->seq, &s->seq);
    check_optimizer(s, json_get(train, "optimizer"));
}

/* ---- statements */

static Stmt *check_statements(Spec *s, const Json *array);

/* A number, or the name of a const. */
static bool check_const(Spec *s, const Json *v, double lo, double *out) {
    if (v->kind == JSON_STRING) {
        const Const *c = spec_const(s, v->string);
        if (!c) {
            json_error(s->src, v, "there is no const '%.60s' (a number or a name from consts was expected)",
                       v->string);
            return false;
        }
        *out = c->value;
    } else if (!json_number(s->src, v, out)) {
        return false;
    }
    if (*out > lo) return true;
    json_error(s->src, v, "%g is not above %g", *out, lo);
    return false;
}

static void check_args(Spec *s, Stmt *st) {
    const SpecOpInfo *op = &spec_op_info[st->op];
    const Json *args = need(s, st->at, "args");
    if (!args || !json_is(s->src, args, JSON_ARRAY)) {
        st->failed = true;
        return;
    }
    if (args->count < op->min || args->count > op->max) {
        json_error(s->src, args, "%s takes [%s], found %u arg%s", op->name, op->args, args->count,
                   args->count == 1 ? "" : "s");
        st->failed = true;
        return;
    }
    for (const Json *a = args->first; a; a = a->next) {
        if (!json_is(s->src, a, JSON_STRING)) st->failed = true;
        st->args[st->nargs++] = a;
    }
}

static void check_op_keys(Spec *s, Stmt *st) {
    const SpecOpInfo *op = &spec_op_info[st->op];
    const char *known[10] = {"op", "args", "comment"};
    uint32_t n = 3;
    if (st->op != SPEC_cross_entropy) known[n++] = "let";
    for (uint32_t i = 0; i < SPEC_KEYS; i++) {
        if ((op->required | op->optional) >> i & 1) known[n++] = spec_key[i];
        if ((op->required >> i & 1) && !need(s, st->at, spec_key[i])) st->failed = true;
    }
    if (!json_known_keys(s->src, st->at, known)) st->failed = true;
}

static void check_attributes(Spec *s, Stmt *st) {
    const uint32_t takes = spec_op_info[st->op].required | spec_op_info[st->op].optional;
    const Json *eps = json_get(st->at, "eps"), *theta = json_get(st->at, "theta"),
               *scale = json_get(st->at, "scale");
    st->weight = takes & K(weight) ? json_get(st->at, "weight") : NULL;
    st->shape = takes & K(shape) ? json_get(st->at, "shape") : NULL;
    bool ok = !st->weight || json_is(s->src, st->weight, JSON_STRING);
    if (st->shape && !json_is(s->src, st->shape, JSON_ARRAY)) ok = false;
    if (eps && (takes & K(eps)) && !check_const(s, eps, 0, &st->eps)) ok = false;
    if (theta && (takes & K(theta)) && !check_const(s, theta, 0, &st->theta)) ok = false;
    if (scale && (takes & K(scale)) && !check_const(s, scale, 0, &st->scale)) ok = false;
    if (!ok) st->failed = true;
}

static bool is_value_name(const Json *let) {
    return let && let->kind == JSON_STRING && is_identifier(let->string) &&
           strcmp(let->string, "tokens") != 0 && strcmp(let->string, "targets") != 0;
}

static void check_let(Spec *s, Stmt *st) {
    const Json *let = need(s, st->at, "let");
    if (is_value_name(let)) return;
    if (let && json_is(s->src, let, JSON_STRING))
        json_error(s->src, let,
                   "not a name for a value (letters, digits and _; tokens and targets are taken)");
    st->failed = true;
}

static bool find_op(const char *name, SpecOp *out) {
    for (int op = 0; op < SPEC_OP_COUNT; op++) {
        if (strcmp(spec_op_info[op].name, name) == 0) return *out = (SpecOp)op, true;
    }
    return false;
}

static void check_op(Spec *s, Stmt *st, const Json *op) {
    st->kind = STMT_OP;
    st->failed = true;
    const Json *let = json_get(st->at, "let");
    if (is_value_name(let)) st->let = let->string; /* known even if the rest is wrong */
    if (!json_is(s->src, op, JSON_STRING)) return;
    if (!find_op(op->string, &st->op)) {
        const char *names[SPEC_OP_COUNT];
        for (int i = 0; i < SPEC_OP_COUNT; i++) names[i] = spec_op_info[i].name;
        const char *near = suggest(op->string, names, SPEC_OP_COUNT);
        if (near)
            json_error(s->src, op, "unknown op '%s' (did you mean '%s'?)", op->string, near);
        else
            json_error(s->src, op, "unknown op '%.60s' (tbc ops lists them)", op->string);
        return;
    }
    st->failed = false;
    check_op_keys(s, st);
    check_args(s, st);
    check_attributes(s, st);
    if (st->op != SPEC_cross_entropy) check_let(s, st);
}

/* An expression: an integer, a boolean or a string. */
static bool check_expression(Spec *s, const Json *v) {
    if (v->kind == JSON_NUMBER || v->kind == JSON_STRING || v->kind == JSON_BOOL) return true;
    json_error(s->src, v, "expected an integer or an expression, found %s", json_kind_name(v));
    return false;
}

static void check_for(Spec *s, Stmt *st, const Json *var) {
    static const char *const keys[] = {"for", "in", "do", "comment", NULL};
    st->kind = STMT_FOR;
    json_known_keys(s->src, st->at, keys);
    st->count = need(s, st->at, "in");
    const Json *body = need(s, st->at, "do");
    st->body = body ? check_statements(s, body) : NULL;
    st->failed = !body || !st->count || !check_expression(s, st->count) || !json_is(s->src, var, JSON_STRING);
    if (st->failed) return;
    st->var = var->string;
    if (is_identifier(var->string) && !reserved(var->string) && !scope_find(&s->dims, var->string) &&
        !spec_const(s, var->string))
        return;
    json_error(s->src, var, "not a name for a loop variable (letters, digits and _, and no dim or const)");
    st->failed = true;
}

static void check_if(Spec *s, Stmt *st, const Json *condition) {
    static const char *const keys[] = {"if", "do", "else", "comment", NULL};
    st->kind = STMT_IF;
    json_known_keys(s->src, st->at, keys);
    st->count = condition;
    const Json *body = need(s, st->at, "do"), *other = json_get(st->at, "else");
    st->body = body ? check_statements(s, body) : NULL;
    st->other = other ? check_statements(s, other) : NULL;
    st->failed = !body || !check_expression(s, condition);
}

static Stmt *check_statement(Spec *s, const Json *v) {
    Stmt *st = arena_alloc(s->src->arena, sizeof *st);
    st->at = v;
    st->failed = true;
    if (!json_is(s->src, v, JSON_OBJECT)) return st;
    const Json *op = json_get(v, "op"), *var = json_get(v, "for"), *condition = json_get(v, "if");
    if (op) {
        check_op(s, st, op);
    } else if (var) {
        check_for(s, st, var);
    } else if (condition) {
        check_if(s, st, condition);
    } else {
        json_error(s->src, v, "not a statement (one of the keys op, for, if was expected)");
    }
    return st;
}

static Stmt *check_statements(Spec *s, const Json *array) {
    if (!json_is(s->src, array, JSON_ARRAY)) return NULL;
    Stmt *first = NULL, **end = &first;
    for (const Json *v = array->first; v; v = v->next) {
        *end = check_statement(s, v);
        end = &(*end)->next;
    }
    return first;
}

/* ---- the whole */

/* Does a string in the tree v hold `name` as a word? */
static bool mentions(const Json *v, const char *name) {
    if (v->kind == JSON_STRING) {
        static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
        size_t n = strlen(name);
        for (const char *c = v->string; *c; c += *c != 0) {
            size_t word = strspn(c, letters);
            if (word == n && memcmp(c, name, n) == 0) return true;
            c += word;
        }
    }
    for (const Json *child = v->first; child; child = child->next) {
        if (mentions(child, name)) return true;
    }
    return false;
}

/* A dim that nothing mentions is a typing error in a variant: it would silently leave the base's value. */
static void check_all_used(Spec *s, const Json *root, const char *section) {
    const Json *names = json_get(root, section);
    for (const Json *m = names ? names->first : NULL; m && m->key; m = m->next) {
        if (mentions(root, m->key)) continue;
        VEC(const char *) others = {0};
        for (const Json *o = names->first; o; o = o->next) {
            if (o != m) vec_push(&others, o->key);
        }
        const char *near = suggest(m->key, others.at, others.n);
        if (near)
            json_key_error(s->src, m, "nothing uses this name (did you mean '%s'?)", near);
        else
            json_key_error(s->src, m, "nothing uses this name");
        vec_free(&others);
    }
}

static void check_root(Spec *s, const Json *root, const SpecOptions *options) {
    static const char *const keys[] = {"tbc_spec", "name",   "dims",    "consts",  "ternary", "train",
                                       "graph",    "config", "extends", "$schema", "comment", NULL};
    json_known_keys(s->src, root, keys);
    uint32_t before = s->src->diag->errors;
    const Json *version = need(s, root, "tbc_spec"), *name = need(s, root, "name");
    int64_t number;
    if (version) json_int(s->src, version, 1, 1, &number);
    s->name = "";
    if (name && json_is(s->src, name, JSON_STRING)) {
        s->name = name->string;
        if (!*s->name || strlen(s->name) > 100) json_error(s->src, name, "a name has 1 to 100 characters");
    }
    check_dims(s, json_get(root, "dims"));
    check_consts(s, json_get(root, "consts"));
    check_ternary(s, json_get(root, "ternary"));
    if (options->full_precision) s->group = 0;
    check_train(s, root, options);
    s->sizes_known = s->src->diag->errors == before;
    s->config = json_get(root, "config");
    if (s->config) json_is(s->src, s->config, JSON_OBJECT);
    s->graph = need(s, root, "graph");
    if (s->graph) s->body = check_statements(s, s->graph);
    if (s->sizes_known) {
        check_all_used(s, root, "dims");
        check_all_used(s, root, "consts");
    }
}

Spec *spec_load(Sources *src, const char *name, const SpecOptions *options) {
    const Json *root = load_tree(src, name);
    if (!root) return NULL;
    Spec *s = arena_alloc(src->arena, sizeof *s);
    s->src = src;
    check_root(s, root, options);
    if (s->graph && s->graph->kind == JSON_ARRAY) return s;
    spec_free(s);
    return NULL;
}

void spec_free(Spec *s) {
    if (!s) return;
    vec_free(&s->dims);
    vec_free(&s->consts);
}
