/* The picture of a model spec: statements as boxes, each loop once.
 *
 * Statements run once here, whatever their count: a name that a loop changes is then the value of the
 * loop's last turn, and a name that it also reads from the turn before marks the loop as carried. Where an
 * `if` goes both ways in different turns, both branches are drawn side by side. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

typedef struct Source {
    const char *name;
    uint32_t item;
    const char *label;
} Source;
typedef VEC(Source) Env; /* several entries of one name: it can come from either */

static void bind(Env *env, const char *name, uint32_t item, const char *label) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < env->n; i++) {
        if (strcmp(env->at[i].name, name) != 0) env->at[kept++] = env->at[i];
    }
    env->n = kept;
    Source source = {name, item, label};
    vec_push(env, source);
}

static void add_entries(Env *to, const Env *from) {
    for (uint32_t i = 0; i < from->n; i++) {
        bool there = false;
        for (uint32_t j = 0; j < to->n && !there; j++)
            there = to->at[j].item == from->at[i].item && strcmp(to->at[j].name, from->at[i].name) == 0;
        if (!there) vec_push(to, from->at[i]);
    }
}

static DrawKind kind_of(SpecOp op) {
    switch (op) {
    case SPEC_linear:
        return DRAW_matmul;
    case SPEC_attention:
        return DRAW_attention;
    case SPEC_embedding:
        return DRAW_lookup;
    case SPEC_reshape:
        return DRAW_view;
    case SPEC_cross_entropy:
        return DRAW_loss;
    case SPEC_rms_norm:
    case SPEC_rope:
        return DRAW_row;
    default:
        return DRAW_elementwise;
    }
}

/* "model.layers.{i}.mlp.up_proj.weight" -> "mlp.up_proj.weight": the loop says the rest. */
static const char *short_name(const char *name) {
    const char *brace = strrchr(name, '}');
    return brace && brace[1] == '.' && brace[2] ? brace + 2 : name;
}

static void draw_op(Drawing *d, const Spec *s, const Stmt *st, uint32_t cluster, Env *env) {
    uint32_t item = draw_item(d, cluster, kind_of(st->op), spec_op_info[st->op].name);
    if (st->weight) {
        bool ternary = s->group && st->weight_type.rank == 2;
        draw_line(d, item, short_name(st->weight->string));
        draw_line(d, item,
                  arena_printf(d->arena, "%s%s", draw_shape(d, &st->weight_type), ternary ? " ternary" : ""));
    }
    for (uint32_t i = 0; i < st->nargs; i++) {
        for (uint32_t j = 0; j < env->n; j++) {
            if (strcmp(env->at[j].name, st->args[i]->string) == 0)
                draw_edge(d, env->at[j].item, 0, env->at[j].label, item);
        }
    }
    if (st->let) bind(env, st->let, item, draw_shape(d, &st->type));
}

/* Does the list read `name` before it gives it a new value? */
static bool reads_first(const Stmt *st, const char *name, bool *bound) {
    for (; st && !*bound; st = st->next) {
        for (uint32_t i = 0; i < st->nargs; i++) {
            if (st->runs && strcmp(st->args[i]->string, name) == 0) return true;
        }
        if (reads_first(st->body, name, bound) || (!*bound && reads_first(st->other, name, bound)))
            return true;
        if (st->runs && st->let && strcmp(st->let, name) == 0) *bound = true;
    }
    return false;
}

static bool is_carried(const Stmt *body) {
    for (const Stmt *st = body; st; st = st->next) {
        bool bound = false;
        if (st->let && reads_first(body, st->let, &bound)) return true;
        if (is_carried(st->body) || is_carried(st->other)) return true;
    }
    return false;
}

static void draw_list(Drawing *, const Spec *, const Stmt *, uint32_t cluster, Env *);

static void draw_loop(Drawing *d, const Spec *s, const Stmt *st, uint32_t cluster, Env *env) {
    if (!st->body || !st->body->runs) return; /* no turns */
    int64_t turns = st->body->runs / st->runs;
    const Json *count = st->count;
    const char *title = count->kind == JSON_STRING
                            ? arena_printf(d->arena, "for %s in %s", st->var, count->string)
                            : arena_printf(d->arena, "for %s", st->var);
    uint32_t item = draw_item(d, cluster, DRAW_view, title);
    d->items.at[item].is_cluster = true;
    d->items.at[item].badge = arena_printf(d->arena, "× %lld", (long long)turns);
    d->items.at[item].carried = turns > 1 && is_carried(st->body);
    draw_list(d, s, st->body, item, env);
}

static void draw_if(Drawing *d, const Spec *s, const Stmt *st, uint32_t cluster, Env *env) {
    bool then = st->body && st->body->runs, other = st->other && st->other->runs;
    int64_t done = (then ? st->body->runs : 0) + (other ? st->other->runs : 0);
    Env before = {0};
    add_entries(&before, env);
    if (then) draw_list(d, s, st->body, cluster, env);
    if (other && then) {
        Env taken = {0};
        add_entries(&taken, &before);
        draw_list(d, s, st->other, cluster, &taken);
        add_entries(env, &taken);
        vec_free(&taken);
    } else if (other) {
        draw_list(d, s, st->other, cluster, env);
    }
    if (done < st->runs) add_entries(env, &before); /* some turns take neither */
    vec_free(&before);
}

static void draw_list(Drawing *d, const Spec *s, const Stmt *st, uint32_t cluster, Env *env) {
    for (; st; st = st->next) {
        if (!st->runs) continue;
        if (st->kind == STMT_OP) draw_op(d, s, st, cluster, env);
        if (st->kind == STMT_FOR) draw_loop(d, s, st, cluster, env);
        if (st->kind == STMT_IF) draw_if(d, s, st, cluster, env);
    }
}

Drawing *draw_spec(const Spec *s, const Module *m) {
    Drawing *d = draw_new(s->name);
    double params = 0, ternary = 0;
    const Graph *g = module_graph(m, "train");
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (n->op != OP_param) continue;
        double count = (double)type_count(val_type(g, n->out));
        params += count;
        if (n->attrs.set & A(group)) ternary += count;
    }
    Buf text = {0};
    buf_printf(&text, "%s parameters", draw_count(d, params));
    if (ternary > 0)
        buf_printf(&text, ", %.2f %% of them ternary in groups of %lld", 100 * ternary / params,
                   (long long)s->group);
    buf_printf(&text, " · batch %lld, seq %lld", (long long)s->batch, (long long)s->seq);
    d->subtitle = arena_strdup(d->arena, text.at);
    buf_free(&text);

    Env env = {0};
    static const char *const inputs[] = {"tokens", "targets"};
    Type type = type_make(DT_I32, 2, (int64_t[]){s->batch, s->seq});
    for (size_t i = 0; i < 2; i++)
        bind(&env, inputs[i], draw_item(d, 0, DRAW_io, inputs[i]), draw_shape(d, &type));
    draw_list(d, s, s->body, 0, &env);
    vec_free(&env);
    return d;
}
