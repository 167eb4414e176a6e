/* The picture of an IR function: a node a box, a region the cluster of its body, layers once.
 *
 * Sources (parameters, states, constants) and stores are lines in the boxes that use or make them, so that
 * what remains as edges is what flows. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

typedef struct Reader {
    Drawing *d;
    const Graph *g;
    bool closed;        /* regions as boxes */
    uint32_t *item;     /* of each node; that of the first turn for those of the turns after it */
    uint32_t *standing; /* the node that is drawn for each node */
    uint32_t *turn;     /* of each node in its repeat, else 0 */
    uint32_t *repeat;   /* the repeat that each node is in, from 1; 0: none */
    uint32_t **body;    /* of each drawn region: the items of its body's nodes */
    Repeats repeats;
} Reader;

static DrawKind kind_of(const Node *n) {
    const OpInfo *op = &op_info[n->op];
    if (n->op == OP_input || n->op == OP_output) return DRAW_io;
    if (n->op == OP_ternary || n->op == OP_ste) return DRAW_ternary;
    if (n->op == OP_adamw) return DRAW_optimizer;
    if (strncmp(op->cost, "attention", 9) == 0) return DRAW_attention;
    if (strcmp(op->cost, "gemm") == 0) return DRAW_matmul;
    if (op->flags & VIEW) return DRAW_view;
    if (op->flags & EW) return DRAW_elementwise;
    if (strcmp(op->cost, "copy") == 0 || n->op == OP_embedding_grad) return DRAW_lookup;
    return DRAW_row;
}

/* Not a box of its own: a line in another's, or nothing. */
static bool is_line(const Node *n) {
    bool source = (op_info[n->op].flags & SOURCE) && n->op != OP_input;
    return source || n->op == OP_store || n->op == OP_yield;
}

/* ---- equal layers */

static uint64_t signature_of(const Graph *g, const Node *n) {
    uint64_t h = fnv1a(FNV_INIT, &n->op, sizeof n->op);
    h = fnv1a(h, &n->loc.line, sizeof n->loc.line);
    h = fnv1a(h, &n->loc.col, sizeof n->loc.col);
    h = fnv1a(h, &n->nin, sizeof n->nin);
    for (uint32_t i = 0; i < n->nout; i++) {
        const Type *t = val_type(g, n->out + i);
        h = fnv1a(h, &t->dtype, sizeof t->dtype);
        h = fnv1a(h, t->dim, t->rank * sizeof *t->dim);
    }
    for (uint32_t i = 0; n->body && i < n->body->nodes.n; i++) {
        const Node *inner = &n->body->nodes.at[i];
        uint64_t s = signature_of(n->body, inner);
        h = fnv1a(h, &s, sizeof s);
        h = fnv1a(h, inner->in, inner->nin * sizeof *inner->in);
    }
    return h;
}

/* Fills standing, turn and repeat. */
static void fold(Reader *r) {
    const Graph *g = r->g;
    uint64_t *signature = xcalloc(g->nodes.n + 1, sizeof *signature);
    uint32_t *boxes = xcalloc(g->nodes.n + 1, sizeof *boxes), n = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        r->standing[i] = i;
        if (is_line(&g->nodes.at[i])) continue;
        signature[n] = signature_of(g, &g->nodes.at[i]);
        boxes[n++] = i;
    }
    find_repeats(signature, n, &r->repeats);
    for (uint32_t k = 0; k < r->repeats.n; k++) {
        const Repeat *p = &r->repeats.at[k];
        for (uint32_t i = 0; i < p->period * p->count; i++) {
            uint32_t node = boxes[p->first + i];
            r->standing[node] = boxes[p->first + i % p->period];
            r->turn[node] = i / p->period;
            r->repeat[node] = k + 1;
        }
    }
    free(signature), free(boxes);
}

/* ---- boxes */

static void add_source_line(Reader *r, uint32_t item, const Graph *g, const Node *n) {
    const char *shape = draw_shape(r->d, val_type(g, n->out));
    if (n->op == OP_splat)
        draw_line(r->d, item, arena_printf(r->d->arena, "%g", n->attrs.c));
    else if (n->attrs.set & A(name))
        draw_line(r->d, item, arena_printf(r->d->arena, "%s %s", n->attrs.name, shape));
    else
        draw_line(r->d, item, arena_printf(r->d->arena, "%s %s", op_info[n->op].name, shape));
}

static void add_attrs_line(Reader *r, uint32_t item, const Node *n) {
    Buf text = {0};
    if (n->attrs.set & A(c)) buf_printf(&text, "%g", n->attrs.c);
    if (n->attrs.set & A(group)) buf_printf(&text, "groups of %lld", (long long)n->attrs.group);
    if (n->attrs.ta) buf_printf(&text, "first transposed");
    if (n->attrs.tb) buf_printf(&text, "second transposed");
    if (n->attrs.set & A(begin)) buf_printf(&text, "from row %lld", (long long)n->attrs.begin);
    if (text.n) draw_line(r->d, item, text.at);
    buf_free(&text);
}

static uint32_t draw_box(Reader *r, const Node *n, uint32_t cluster) {
    bool named = n->op == OP_input || n->op == OP_output;
    uint32_t item = draw_item(r->d, cluster, kind_of(n), named ? n->attrs.name : op_info[n->op].name);
    add_attrs_line(r, item, n);
    return item;
}

static void draw_region(Reader *r, uint32_t node, uint32_t cluster) {
    const Node *n = &r->g->nodes.at[node];
    uint32_t inner = 0;
    for (uint32_t i = 0; i < n->body->nodes.n; i++) inner += !is_line(&n->body->nodes.at[i]);
    if (r->closed || inner < 2) {
        r->item[node] = draw_item(r->d, cluster, DRAW_row, "region");
        for (uint32_t i = 0; i < n->body->nodes.n; i++) {
            const Node *b = &n->body->nodes.at[i];
            if (inner == 1 && !is_line(b)) draw_line(r->d, r->item[node], op_info[b->op].name);
        }
        if (inner > 1) draw_line(r->d, r->item[node], arena_printf(r->d->arena, "%u ops", inner));
        return;
    }
    uint32_t item = r->item[node] = draw_item(r->d, cluster, DRAW_row, "region");
    r->d->items.at[item].is_cluster = true;
    r->body[node] = arena_array(r->d->arena, uint32_t, n->body->nodes.n);
    for (uint32_t i = 0; i < n->body->nodes.n; i++) {
        const Node *b = &n->body->nodes.at[i];
        if (!is_line(b)) r->body[node][i] = draw_box(r, b, item);
    }
}

/* ---- edges */

/* An edge, or a line, to item `to` from operand v of the drawn node `by`. */
static void connect(Reader *r, uint32_t by, Val v, uint32_t to) {
    const Value *value = &r->g->values.at[v];
    uint32_t from = value->node, drawn = r->standing[from], result = value->result, item = r->item[drawn];
    const Node *n = &r->g->nodes.at[from];
    if (is_line(n)) {
        if (r->standing[by] == by) add_source_line(r, to, r->g, n);
        return;
    }
    if (r->repeat[from] && r->repeat[from] == r->repeat[by] && r->turn[from] != r->turn[by]) {
        r->d->items.at[r->d->items.at[item].cluster].carried = true;
        return;
    }
    const char *label = draw_shape(r->d, &value->type);
    const uint32_t *body = r->body[drawn];
    if (body) { /* from the body's node that yields it; passed on as it is: from the region's operand */
        const Graph *inner = r->g->nodes.at[drawn].body;
        Val yielded = inner->nodes.at[inner->nodes.n - 1].in[result];
        const Node *maker = val_node(inner, yielded);
        if (maker->op == OP_arg) {
            connect(r, by, r->g->nodes.at[drawn].in[maker->attrs.index], to);
            return;
        }
        if (is_line(maker)) {
            add_source_line(r, to, inner, maker);
            return;
        }
        item = body[inner->values.at[yielded].node];
        result = inner->values.at[yielded].result;
    }
    draw_edge(r->d, item, result, label, to);
}

static void connect_body(Reader *r, uint32_t node) {
    const Node *n = &r->g->nodes.at[node];
    const Graph *body = n->body;
    const uint32_t *items = r->body[r->standing[node]];
    for (uint32_t i = 0; i < body->nodes.n; i++) {
        const Node *b = &body->nodes.at[i];
        if (is_line(b)) continue;
        for (uint32_t j = 0; j < b->nin; j++) {
            const Node *maker = val_node(body, b->in[j]);
            const Value *value = &body->values.at[b->in[j]];
            if (maker->op == OP_arg)
                connect(r, node, n->in[maker->attrs.index], items[i]);
            else if (is_line(maker) && r->standing[node] == node)
                add_source_line(r, items[i], body, maker);
            else if (!is_line(maker))
                draw_edge(r->d, items[value->node], value->result, draw_shape(r->d, &value->type), items[i]);
        }
    }
}

/* A store is a line in the box that makes what it stores. */
static void add_store_line(Reader *r, const Node *store) {
    const Value *value = &r->g->values.at[store->in[0]];
    uint32_t from = value->node, item = r->item[from];
    if (is_line(&r->g->nodes.at[from]) || r->standing[from] != from) return;
    if (r->body[from]) {
        const Graph *body = r->g->nodes.at[from].body;
        const Value *inner = &body->values.at[body->nodes.at[body->nodes.n - 1].in[value->result]];
        if (is_line(&body->nodes.at[inner->node])) return;
        item = r->body[from][inner->node];
    }
    draw_line(r->d, item, arena_printf(r->d->arena, "→ %s", store->attrs.name));
}

static void draw_nodes(Reader *r) {
    const Graph *g = r->g;
    uint32_t open = 0, cluster = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (is_line(n) || r->standing[i] != i) continue;
        if (r->repeat[i] && r->repeat[i] != open) {
            open = r->repeat[i];
            cluster = draw_item(r->d, 0, DRAW_view, "repeated");
            r->d->items.at[cluster].is_cluster = true;
            r->d->items.at[cluster].badge = arena_printf(r->d->arena, "× %u", r->repeats.at[open - 1].count);
        }
        if (n->op == OP_region)
            draw_region(r, i, r->repeat[i] ? cluster : 0);
        else
            r->item[i] = draw_box(r, n, r->repeat[i] ? cluster : 0);
    }
}

static void draw_edges(Reader *r) {
    const Graph *g = r->g;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (n->op == OP_store) add_store_line(r, n);
        if (is_line(n)) continue;
        if (r->body[r->standing[i]]) {
            connect_body(r, i);
        } else {
            for (uint32_t j = 0; j < n->nin; j++) connect(r, i, n->in[j], r->item[r->standing[i]]);
        }
    }
}

static Drawing *draw(const Graph *g, bool closed) {
    Reader r = {.d = draw_new(g->name), .g = g, .closed = closed};
    r.item = arena_array(r.d->arena, uint32_t, g->nodes.n);
    r.standing = arena_array(r.d->arena, uint32_t, g->nodes.n);
    r.turn = arena_array(r.d->arena, uint32_t, g->nodes.n);
    r.repeat = arena_array(r.d->arena, uint32_t, g->nodes.n);
    r.body = arena_array(r.d->arena, uint32_t *, g->nodes.n);
    fold(&r);
    draw_nodes(&r);
    draw_edges(&r);
    vec_free(&r.repeats);
    return r.d;
}

Drawing *draw_function(const Module *m, const Graph *g, const char *file, Diag *diag) {
    Drawing *d = draw(g, false);
    if (d->items.n > DRAW_OPEN_BOXES) {
        draw_free(d);
        d = draw(g, true);
    }
    if (d->items.n > DRAW_MAX_BOXES) {
        diag_error(diag, file, 0, 0, "function '%s' makes a picture of %u boxes (%d at most)", g->name,
                   d->items.n - 1, DRAW_MAX_BOXES);
        draw_free(d);
        return NULL;
    }
    uint32_t params = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) params += g->nodes.at[i].op == OP_param;
    Buf text = {0};
    buf_printf(&text, "%u nodes, %u parameter tensors", g->nodes.n, params);
    if (m->arena_bytes >= 0) buf_printf(&text, ", arena %sB", draw_count(d, (double)m->arena_bytes));
    buf_printf(&text, " · function of %s", strrchr(file, '/') ? strrchr(file, '/') + 1 : file);
    d->subtitle = arena_strdup(d->arena, text.at);
    buf_free(&text);
    return d;
}
