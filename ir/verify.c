/* The verifier: everything that ir.h promises about a module, checked.
 *
 * Runs after every pass and on every parsed file. It trusts nothing but the arrays' lengths, so that a
 * pass's mistake ends in a message rather than in a crash later on. */
#include "ir.h"
#include "shape.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64 /* of planned offsets */

typedef struct Name {
    const char *name;
    uint32_t node;
} Name;
typedef VEC(Name) Names;

typedef struct Checker {
    const Module *m;           /* may be NULL */
    const Graph *function, *g; /* g: the function itself, or a region's body in it */
    Diag *diag;
    bool ok;
} Checker;

/* Always false. */
TBC_PRINTF(3, 4) static bool report(Checker *c, const Node *n, const char *fmt, ...) {
    Buf text = {0};
    buf_printf(&text, "@%s: ", c->function->name);
    if (n && n->nout) buf_printf(&text, "%%%u: ", n->out);
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    Loc loc = n ? n->loc : (Loc){0};
    const char *file = c->m && n && loc.line && loc.file < c->m->files.n ? c->m->files.at[loc.file] : NULL;
    diag_error(c->diag, file, loc.line, loc.col, "%s", text.at);
    buf_free(&text);
    return c->ok = false;
}

/* ---- one node */

/* Ids first: only a node that passes is looked at any further. `next` is the first id not yet defined. */
static bool check_ids(Checker *c, uint32_t index, const Node *n, uint32_t next) {
    if ((unsigned)n->op >= OP_COUNT) return report(c, NULL, "node %u has no op", index);
    const char *op = op_info[n->op].name;
    for (uint32_t i = 0; i < n->nin; i++) {
        if (n->in[i] >= next)
            return report(c, n, "%s: operand %%%u is not defined before its use", op, n->in[i]);
    }
    if (n->nout > c->g->values.n - next || (n->nout ? n->out != next : n->out != VAL_NONE))
        return report(c, n, "%s: result ids are not dense and in order", op);
    for (uint32_t i = 0; i < n->nout; i++) {
        const Value *v = &c->g->values.at[next + i];
        if (v->node != index || v->result != i)
            return report(c, n, "%s: value %%%u does not point back to its node", op, next + i);
    }
    return true;
}

static bool check_placement(Checker *c, uint32_t index, const Node *n) {
    const OpInfo *op = &op_info[n->op];
    bool in_body = c->g != c->function;
    bool last = index + 1 == c->g->nodes.n;
    if ((n->op == OP_region) != (n->body != NULL))
        return report(c, n, "%s: only a region has a body, and it must have one", op->name);
    if (in_body && !(op->flags & ROW) && n->op != OP_arg && n->op != OP_splat && n->op != OP_yield)
        return report(c, n, "%s: not allowed in a region (row ops, arg, splat and yield are)", op->name);
    if (!in_body && (op->flags & ROW) && c->m && c->m->props & P(regions))
        return report(c, n, "%s: only allowed in a region, by the property 'regions'", op->name);
    if (!in_body && (n->op == OP_arg || n->op == OP_yield))
        return report(c, n, "%s: only allowed in a region", op->name);
    if (in_body && (n->op == OP_yield) != last)
        return report(c, n, "%s: a region must end in its only yield", op->name);
    return true;
}

/* ---- rows: a body's values lie in one domain, so that one kernel can walk its rows */

static bool in_domain(const Graph *body, Val v) {
    return val_type(body, v)->dtype == DT_F32 && !val_is(body, v, OP_partial_sum);
}

/* The shape that all f32 values broadcast to, but for partial sums. */
static bool find_domain(Checker *c, Type *domain) {
    *domain = type_make(DT_F32, 0, NULL);
    for (uint32_t v = 0; v < c->g->values.n; v++) {
        if (!in_domain(c->g, v)) continue;
        if (shape_broadcast(domain, val_type(c->g, v), domain) && !type_problem(domain)) continue;
        const Node *n = val_node(c->g, v);
        return report(c, n, "%s: not on the same rows as the region's other values", op_info[n->op].name);
    }
    return true;
}

static void check_rows(Checker *c) {
    Type domain;
    int64_t parts = 0;
    if (!find_domain(c, &domain)) return;
    for (uint32_t i = 0; i < c->g->nodes.n; i++) {
        const Node *n = &c->g->nodes.at[i];
        const char *op = op_info[n->op].name;
        const Type *t = n->nout ? val_type(c->g, n->out) : NULL;
        if (t && t->dtype == DT_I32 && type_count(t) != type_rows(&domain))
            report(c, n, "%s: %lld indices in a region of %lld rows", op, (long long)type_count(t),
                   (long long)type_rows(&domain));
        if (n->op == OP_partial_sum) {
            bool all = type_rows(val_type(c->g, n->in[0])) == type_rows(&domain);
            if (!all || (parts && parts != t->dim[0]))
                report(c, n, "%s: other rows or parts than in the rest of the region", op);
            parts = t->dim[0];
        }
        for (uint32_t k = 0; k < n->nin && n->op != OP_yield; k++) {
            if (val_is(c->g, n->in[k], OP_partial_sum))
                report(c, n, "%s: partial sums are complete after the region only", op);
        }
    }
}

static bool check_types(Checker *c, const Node *n) {
    NodeShape shape = {
        .g = c->g, .op = n->op, .in = n->in, .nin = n->nin, .attrs = &n->attrs, .body = n->body};
    const char *op = op_info[n->op].name;
    uint32_t nout = shape_results(&shape);
    if (nout != n->nout) return report(c, n, "%s: has %u results instead of %u", op, n->nout, nout);
    if (op_info[n->op].flags & TYPED) shape.given = val_type(c->g, n->out);

    Type *types = xcalloc(nout, sizeof *types);
    Buf why = {0};
    bool ok = shape_infer(&shape, types, &why) || report(c, n, "%s", why.at);
    for (uint32_t i = 0; i < nout && ok; i++) {
        if (type_equal(&types[i], val_type(c->g, n->out + i))) continue;
        buf_printf(&why, "%s: %%%u has type ", op, n->out + i);
        print_type(val_type(c->g, n->out + i), &why);
        buf_printf(&why, " instead of ");
        print_type(&types[i], &why);
        ok = report(c, n, "%s", why.at);
    }
    buf_free(&why);
    free(types);
    return ok;
}

/* Offsets: aligned and inside of the arena; none in bodies; all of them once the module is planned. */
static void check_offsets(Checker *c, const Node *n) {
    bool in_body = c->g != c->function, planned = c->m && (c->m->props & P(planned));
    for (uint32_t i = 0; i < n->nout; i++) {
        const Value *v = &c->g->values.at[n->out + i];
        int64_t end = c->m && c->m->arena_bytes >= 0 ? c->m->arena_bytes : INT64_MAX;
        if (v->offset < -1 || (in_body && v->offset != -1)) {
            report(c, n, "%%%u must not have an offset", n->out + i);
        } else if (v->offset == -1) {
            if (planned && !in_body) report(c, n, "%%%u has no offset in a planned module", n->out + i);
        } else if (v->offset % ALIGNMENT) {
            report(c, n, "%%%u at %lld: not a multiple of %d", n->out + i, (long long)v->offset, ALIGNMENT);
        } else if (type_bytes(&v->type) > end - v->offset) {
            report(c, n, "%%%u at %lld: %lld bytes do not fit the arena of %lld", n->out + i,
                   (long long)v->offset, (long long)type_bytes(&v->type), (long long)end);
        }
    }
}

static void check_nodes(Checker *c) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < c->g->nodes.n; i++) {
        const Node *n = &c->g->nodes.at[i];
        if (!check_ids(c, i, n, next)) return;
        next += n->nout;
        if (c->m && n->loc.line && n->loc.file && n->loc.file >= c->m->files.n)
            report(c, n, "%s: location in file %u of %u", op_info[n->op].name, n->loc.file, c->m->files.n);
        if (!check_placement(c, i, n)) continue;
        if (n->body) {
            bool before = c->ok;
            Checker inner = {.m = c->m, .function = c->function, .g = n->body, .diag = c->diag, .ok = true};
            check_nodes(&inner);
            if (inner.ok) check_rows(&inner);
            c->ok = before && inner.ok;
            if (!inner.ok) continue; /* its yield cannot be trusted */
        }
        if (check_types(c, n)) check_offsets(c, n);
    }
    if (next != c->g->values.n) report(c, NULL, "%u values, but nodes define %u", c->g->values.n, next);
}

/* ---- names */

static int by_name(const void *a, const void *b) {
    const Name *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->node > y->node) - (x->node < y->node);
}

/* Name of each node whose op is in `ops` (bits), sorted; reports those that come twice. */
static Names names_of(Checker *c, uint64_t ops, const char *what) {
    Names names = {0};
    for (uint32_t i = 0; i < c->g->nodes.n; i++) {
        const Node *n = &c->g->nodes.at[i];
        if (!(ops >> n->op & 1)) continue;
        Name name = {n->attrs.name, i};
        vec_push(&names, name);
    }
    if (names.n) qsort(names.at, names.n, sizeof *names.at, by_name);
    for (uint32_t i = 1; i < names.n; i++) {
        if (strcmp(names.at[i - 1].name, names.at[i].name) == 0)
            report(c, &c->g->nodes.at[names.at[i].node], "%s '%s' comes twice", what, names.at[i].name);
    }
    return names;
}

static const Node *find_name(const Graph *g, const Names *names, const char *name) {
    for (uint32_t lo = 0, hi = names->n; lo < hi;) {
        uint32_t mid = lo + (hi - lo) / 2;
        int order = strcmp(name, names->at[mid].name);
        if (order == 0) return &g->nodes.at[names->at[mid].node];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

_Static_assert(OP_COUNT <= 64, "sets of ops are bits of a uint64_t");
#define IS(op) ((uint64_t)1 << OP_##op)

static void check_names(Checker *c) {
    Names sources = names_of(c, IS(input) | IS(param) | IS(state), "the name");
    Names stores = names_of(c, IS(store), "a store to");
    Names outputs = names_of(c, IS(output), "the output");
    for (uint32_t i = 0; i < stores.n; i++) {
        const Node *n = &c->g->nodes.at[stores.at[i].node];
        const Node *target = find_name(c->g, &sources, n->attrs.name);
        if (!target || target->op == OP_input) {
            report(c, n, "store: there is no param or state '%s'", n->attrs.name);
        } else if (!type_equal(val_type(c->g, target->out), val_type(c->g, n->in[0]))) {
            report(c, n, "store: '%s' has another type", n->attrs.name);
        }
    }
    vec_free(&sources);
    vec_free(&stores);
    vec_free(&outputs);
}

/* ---- functions and modules */

static bool is_identifier(const char *s) {
    if (!s || !(isalpha((unsigned char)*s) || *s == '_')) return false;
    for (; *s; s++) {
        if (!isalnum((unsigned char)*s) && *s != '_') return false;
    }
    return true;
}

bool verify_graph(const Module *m, const Graph *g, Diag *diag) {
    Checker c = {.m = m, .function = g, .g = g, .diag = diag, .ok = true};
    if (!is_identifier(g->name)) report(&c, NULL, "the function's name is not an identifier");
    check_nodes(&c);
    if (c.ok) check_names(&c);
    return c.ok;
}

/* A param or state is one piece of storage: all functions that name it must agree on its type. */
static bool check_shared_storage(const Module *m, Diag *diag) {
    bool ok = true;
    for (uint32_t i = 1; i < m->graphs.n; i++) {
        Checker c = {.m = m, .function = m->graphs.at[i], .g = m->graphs.at[i], .diag = diag, .ok = true};
        Names here = names_of(&c, IS(param) | IS(state), "the name");
        for (uint32_t j = 0; j < i; j++) {
            const Graph *g = m->graphs.at[j];
            for (uint32_t k = 0; k < g->nodes.n; k++) {
                const Node *n = &g->nodes.at[k];
                if (n->op != OP_param && n->op != OP_state) continue;
                const Node *other = find_name(c.g, &here, n->attrs.name);
                if (other &&
                    (other->op != n->op || !type_equal(val_type(c.g, other->out), val_type(g, n->out))))
                    report(&c, other, "'%s' is of another kind or type than in @%s", n->attrs.name, g->name);
            }
        }
        vec_free(&here);
        ok = ok && c.ok;
    }
    return ok;
}

bool verify(const Module *m, Diag *diag) {
    bool ok = true;
    if (!m->meta || m->meta[0] != '{') ok = false, diag_error(diag, NULL, 0, 0, "meta is not a JSON object");
    if ((m->props & P(planned)) && m->arena_bytes < 0)
        ok = false, diag_error(diag, NULL, 0, 0, "the module is planned but its arena has no size");
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        if (!verify_graph(m, m->graphs.at[i], diag)) ok = false;
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(m->graphs.at[i]->name, m->graphs.at[j]->name) == 0)
                ok = false, diag_error(diag, NULL, 0, 0, "function @%s comes twice", m->graphs.at[i]->name);
        }
    }
    return ok && check_shared_storage(m, diag);
}
