/* keep-codes: a parameter is projected once after each change, and its codes are kept in a state of their
 * own. Every function reads them there, a function that stores a new value stores its codes as well, and a
 * function of its own makes them of parameters that came from outside.
 *
 *     t = ternary(w)        ->   t = state {name="w.codes"}
 *     store(w') {name="w"}  ->   store(w') {name="w"}; store(ternary(w')) {name="w.codes"}
 *                                @project  store(ternary(w)) {name="w.codes"}
 */
#include "order.h"

#include <stdlib.h>
#include <string.h>

/* A parameter whose codes are kept. */
typedef struct Kept {
    const char *param, *codes;
    const Graph *g; /* where it is projected first, and how */
    const Node *projection;
} Kept;

typedef VEC(Kept) KeptList;

static const Kept *find_kept(const KeptList *kept, const char *param) {
    for (uint32_t i = 0; i < kept->n; i++)
        if (strcmp(kept->at[i].param, param) == 0) return &kept->at[i];
    return NULL;
}

static const Type *codes_type(const Kept *k) {
    return val_type(k->g, k->projection->out);
}

/* What n is the projection of; NULL: of no parameter. */
static const char *projected(const Graph *g, const Node *n) {
    return n->op == OP_ternary && val_is(g, n->in[0], OP_param) ? val_node(g, n->in[0])->attrs.name : NULL;
}

/* n projects a parameter as its kept codes do; any other projection stays. */
static const Kept *kept_projection(const KeptList *kept, const Graph *g, const Node *n) {
    const char *param = projected(g, n);
    const Kept *k = param ? find_kept(kept, param) : NULL;
    return k && type_equal(codes_type(k), val_type(g, n->out)) ? k : NULL;
}

static bool is_declared(const Module *m, const char *name) {
    bool found = false;
    for (uint32_t j = 0; j < m->graphs.n; j++) found |= declared_value(m->graphs.at[j], name) != VAL_NONE;
    return found;
}

/* False: a diagnostic was reported. */
static bool find_projections(PassCtx *ctx, const Module *m, const Graph *g, KeptList *kept) {
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        const char *param = projected(g, n);
        if (!param || find_kept(kept, param)) continue;
        Kept k = {.param = param, .g = g, .projection = n};
        k.codes = arena_printf(ctx->scratch, "%s.codes", param);
        if (is_declared(m, k.codes)) {
            const char *file = n->loc.line && n->loc.file < m->files.n ? m->files.at[n->loc.file] : NULL;
            diag_error(ctx->diag, file, n->loc.line, n->loc.col,
                       "the name '%s' is the compiler's (rename the tensor)", k.codes);
            return false;
        }
        vec_push(kept, k);
    }
    return true;
}

static Val add_state(Graph *to, const Kept *k) {
    return graph_add(to, NULL, NULL, k->projection->loc, OP_state, codes_type(k), NULL, 0,
                     ATTRS(name, k->codes));
}

/* The new codes, of value v of the parameter. */
static void store_codes(Graph *to, const Kept *k, Loc loc, Val v) {
    Val codes = graph_add(to, NULL, NULL, loc, OP_ternary, NULL, &v, 1, &k->projection->attrs);
    graph_add(to, NULL, NULL, loc, OP_store, NULL, &codes, 1, ATTRS(name, k->codes));
}

/* ---- functions: declarations in the order that all have, params, states, inputs */

static Graph *project_graph(PassCtx *ctx, const Module *m, const KeptList *kept) {
    Graph *to = graph_new("project");
    for (uint32_t j = 0; j < m->graphs.n; j++) {
        const Graph *g = m->graphs.at[j];
        Val *map = pass_map(ctx, g);
        for (uint32_t i = 0; i < g->nodes.n; i++) {
            const Node *n = &g->nodes.at[i];
            if (n->op == OP_param && declared_value(to, n->attrs.name) == VAL_NONE)
                graph_copy_node(to, g, n, map);
        }
    }
    for (uint32_t i = 0; i < kept->n; i++) add_state(to, &kept->at[i]);
    for (uint32_t i = 0; i < kept->n; i++)
        store_codes(to, &kept->at[i], kept->at[i].projection->loc, declared_value(to, kept->at[i].param));
    return to;
}

/* Declares the codes that the function reads or stores. */
static void declare_codes(PassCtx *ctx, Graph *to, const Graph *from, const KeptList *kept) {
    bool *used = arena_array(ctx->scratch, bool, kept->n);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        const Kept *k = n->op == OP_store ? find_kept(kept, n->attrs.name) : kept_projection(kept, from, n);
        if (k) used[k - kept->at] = true;
    }
    for (uint32_t i = 0; i < kept->n; i++)
        if (used[i]) add_state(to, &kept->at[i]);
}

static Graph *keeping_graph(PassCtx *ctx, const Graph *from, const KeptList *kept) {
    Graph *to = pass_begin(from);
    Val *map = pass_map(ctx, from);
    uint32_t i = 0;
    for (; i < from->nodes.n && (from->nodes.at[i].op == OP_param || from->nodes.at[i].op == OP_state); i++)
        graph_copy_node(to, from, &from->nodes.at[i], map);
    declare_codes(ctx, to, from, kept);
    for (; i < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        const Kept *k = kept_projection(kept, from, n);
        if (k) {
            map[n->out] = declared_value(to, k->codes);
            continue;
        }
        graph_copy_node(to, from, n, map);
        k = n->op == OP_store ? find_kept(kept, n->attrs.name) : NULL;
        if (k) store_codes(to, k, n->loc, map[n->in[0]]);
    }
    return to;
}

bool pass_keep_codes(PassCtx *ctx, Module *m) {
    if (module_graph(m, "project")) return true;
    KeptList kept = {0};
    bool ok = true;
    for (uint32_t j = 0; ok && j < m->graphs.n; j++) ok = find_projections(ctx, m, m->graphs.at[j], &kept);
    if (ok && kept.n) {
        Graph *project = project_graph(ctx, m, &kept);
        VEC(Graph *) old = {0};
        for (uint32_t j = 0; j < m->graphs.n; j++) {
            vec_push(&old, m->graphs.at[j]);
            m->graphs.at[j] = keeping_graph(ctx, old.at[j], &kept);
        }
        for (uint32_t j = 0; j < old.n; j++) graph_free(old.at[j]); /* kept looks into them */
        vec_free(&old);
        vec_push(&m->graphs, project);
    }
    vec_free(&kept);
    return ok;
}
