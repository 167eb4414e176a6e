/* Building graphs: a node at a time, each checked and typed as it is added. */
#include "ir.h"
#include "shape.h"

#include <stdlib.h>
#include <string.h>

Module *module_new(void) {
    Module *m = xcalloc(1, sizeof *m);
    m->arena = arena_new();
    m->meta = "{}";
    m->arena_bytes = -1;
    return m;
}

void module_free(Module *m) {
    if (!m) return;
    for (uint32_t i = 0; i < m->graphs.n; i++) graph_free(m->graphs.at[i]);
    vec_free(&m->graphs);
    vec_free(&m->files);
    arena_free(m->arena);
    free(m);
}

Graph *module_graph(const Module *m, const char *name) {
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        if (strcmp(m->graphs.at[i]->name, name) == 0) return m->graphs.at[i];
    }
    return NULL;
}

Graph *graph_new(const char *name) {
    Graph *g = xcalloc(1, sizeof *g);
    g->arena = arena_new();
    g->name = arena_strdup(g->arena, name);
    return g;
}

void graph_free(Graph *g) {
    if (!g) return;
    for (uint32_t i = 0; i < g->nodes.n; i++) graph_free(g->nodes.at[i].body);
    vec_free(&g->nodes);
    vec_free(&g->values);
    arena_free(g->arena);
    free(g);
}

/* ---- adding nodes */

static bool attr_keep_bool(bool v) {
    return v;
}
static bool attr_keep_i64(int64_t v) {
    return (void)v, true;
}
static bool attr_keep_f64(double v) {
    return (void)v, true;
}
static bool attr_keep_str(const char *v) {
    return (void)v, true;
}

static bool attr_copy_bool(Arena *a, bool v) {
    return (void)a, v;
}
static int64_t attr_copy_i64(Arena *a, int64_t v) {
    return (void)a, v;
}
static double attr_copy_f64(Arena *a, double v) {
    return (void)a, v;
}
static const char *attr_copy_str(Arena *a, const char *v) {
    return v ? arena_strdup(a, v) : NULL;
}

/* One form for equal attributes: false bools and fields not set are absent and zero. */
static Attrs attrs_copy(Arena *arena, const Attrs *from) {
    Attrs to = {0};
#define ATTR(name, kind, help)                                                                               \
    if ((from->set & A(name)) && attr_keep_##kind(from->name)) {                                             \
        to.set |= A(name);                                                                                   \
        to.name = attr_copy_##kind(arena, from->name);                                                       \
    }
#include "attrs.def"
#undef ATTR
    return to;
}

/* Checks, types and appends; takes over body. Returns the node's index, or UINT32_MAX with *why filled. */
static uint32_t append(Graph *g, Loc loc, const NodeShape *shape, Buf *why) {
    for (uint32_t i = 0; i < shape->nin; i++) {
        if (shape->in[i] >= g->values.n)
            ice("%s: operand %u of graph '%s' is not a value", op_info[shape->op].name, i, g->name);
    }
    bool yields = shape->op == OP_region && shape->body->nodes.n;
    uint32_t nout = yields ? shape_results(shape) : 4; /* no other op has more than 4 results */
    Type *types = arena_array(g->arena, Type, nout);
    if (!shape_infer(shape, types, why)) return UINT32_MAX;
    nout = shape_results(shape);

    Val *in = arena_array(g->arena, Val, shape->nin);
    if (shape->nin) memcpy(in, shape->in, shape->nin * sizeof *in);
    Node node = {.op = shape->op,
                 .nin = shape->nin,
                 .nout = nout,
                 .in = in,
                 .out = nout ? g->values.n : VAL_NONE,
                 .attrs = *shape->attrs,
                 .body = (Graph *)shape->body,
                 .loc = loc.line ? loc : (Loc){0}};
    for (uint32_t i = 0; i < nout; i++) {
        Value v = {.type = types[i], .node = g->nodes.n, .result = i, .offset = -1};
        vec_push(&g->values, v);
    }
    vec_push(&g->nodes, node);
    return g->nodes.n - 1;
}

Val graph_add(Graph *g, const Module *m, Diag *diag, Loc loc, Op op, const Type *type, const Val *in,
              uint32_t nin, const Attrs *attrs) {
    if (op == OP_region) ice("graph_add of a region; graph_add_region builds these");
    if ((op_info[op].flags & TYPED) && !type) ice("graph_add: %s needs a type", op_info[op].name);
    Attrs copy = attrs ? attrs_copy(g->arena, attrs) : (Attrs){0};
    NodeShape shape = {.g = g, .op = op, .in = in, .nin = nin, .attrs = &copy, .given = type};
    Buf why = {0};
    uint32_t index = append(g, loc, &shape, &why);
    if (index == UINT32_MAX) {
        if (!diag) ice("%s (line %u)", why.at, loc.line);
        const char *file = m && loc.file < m->files.n ? m->files.at[loc.file] : NULL;
        diag_error(diag, file, loc.line, loc.col, "%s", why.at);
    }
    buf_free(&why);
    return index == UINT32_MAX ? VAL_NONE : g->nodes.at[index].out;
}

Val graph_add_region(Graph *g, Loc loc, const Val *in, uint32_t nin, Graph *body) {
    NodeShape shape = {.g = g, .op = OP_region, .in = in, .nin = nin, .attrs = &(Attrs){0}, .body = body};
    Buf why = {0};
    uint32_t index = append(g, loc, &shape, &why);
    if (index == UINT32_MAX) ice("%s (line %u)", why.at, loc.line);
    buf_free(&why);
    return g->nodes.at[index].out;
}

static Graph *graph_copy(const Graph *from) {
    Graph *to = graph_new(from->name);
    to->attrs = attrs_copy(to->arena, &from->attrs);
    Val *map = xcalloc(from->values.n, sizeof *map);
    for (uint32_t i = 0; i < from->nodes.n; i++) graph_copy_node(to, from, &from->nodes.at[i], map);
    free(map);
    return to;
}

Val graph_copy_on(Graph *to, const Graph *from, const Node *n, const Val *in) {
    if (n->op == OP_region) return graph_add_region(to, n->loc, in, n->nin, graph_copy(n->body));
    const Type *type = n->nout ? val_type(from, n->out) : NULL;
    return graph_add(to, NULL, NULL, n->loc, n->op, type, in, n->nin, &n->attrs);
}

Val graph_copy_node(Graph *to, const Graph *from, const Node *n, Val *map) {
    Val *in = xcalloc(n->nin, sizeof *in);
    for (uint32_t i = 0; i < n->nin; i++) in[i] = map[n->in[i]];
    Val out = graph_copy_on(to, from, n, in);
    for (uint32_t i = 0; i < n->nout; i++) map[n->out + i] = out + i;
    free(in);
    return out;
}

uint32_t *graph_uses(const Graph *g, Arena *scratch) {
    uint32_t *uses = arena_array(scratch, uint32_t, g->values.n);
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        for (uint32_t j = 0; j < n->nin; j++) uses[n->in[j]]++;
    }
    return uses;
}

/* ---- shorthands */

Val ir_unary(Graph *g, Loc loc, Op op, Val a) {
    return graph_add(g, NULL, NULL, loc, op, NULL, &a, 1, NULL);
}

Val ir_binary(Graph *g, Loc loc, Op op, Val a, Val b) {
    return graph_add(g, NULL, NULL, loc, op, NULL, (Val[]){a, b}, 2, NULL);
}

Val ir_scale(Graph *g, Loc loc, Val a, double c) {
    return graph_add(g, NULL, NULL, loc, OP_scale, NULL, &a, 1, ATTRS(c, c));
}

Val ir_offset(Graph *g, Loc loc, Val a, double c) {
    return graph_add(g, NULL, NULL, loc, OP_offset, NULL, &a, 1, ATTRS(c, c));
}

Val ir_splat(Graph *g, Loc loc, const Type *type, double c) {
    return graph_add(g, NULL, NULL, loc, OP_splat, type, NULL, 0, ATTRS(c, c));
}

Val ir_reshape(Graph *g, Loc loc, Val v, const Type *type) {
    if (type_equal(val_type(g, v), type)) return v;
    return graph_add(g, NULL, NULL, loc, OP_reshape, type, &v, 1, NULL);
}

Val ir_matmul(Graph *g, Loc loc, Val a, Val b, bool ta, bool tb) {
    Attrs attrs = {.set = A(ta) | A(tb), .ta = ta, .tb = tb};
    return graph_add(g, NULL, NULL, loc, OP_matmul, NULL, (Val[]){a, b}, 2, &attrs);
}
