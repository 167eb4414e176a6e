/* The text form, .tir. Grammar in README.md; parse.c reads it back to an equal module. */
#include "ir.h"

#include <stdio.h>
#include <stdlib.h>

void print_type(const Type *t, Buf *b) {
    static const char *const name[] = {"f32", "i32", "t2", "bf16"};
    buf_printf(b, "%s", (unsigned)t->dtype < DT_COUNT ? name[t->dtype] : "?");
    if (t->dtype == DT_T2) buf_printf(b, "/%u", t->group);
    buf_printf(b, "[");
    for (uint32_t i = 0; i < t->rank && i < MAX_RANK; i++)
        buf_printf(b, "%s%lld", i ? "," : "", (long long)t->dim[i]);
    buf_printf(b, "]");
}

static void print_i64(int64_t v, Buf *b) {
    buf_printf(b, "%lld", (long long)v);
}

/* The shortest of the %g forms that reads back as the same double. */
static void print_f64(double v, Buf *b) {
    char text[32];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    buf_printf(b, "%s", text);
}

static void print_bool(bool v, Buf *b) {
    buf_printf(b, "%d", v);
}
static void print_str(const char *v, Buf *b) {
    buf_quote(b, v);
}

static void print_attrs(const Attrs *a, Buf *b) {
    if (!a->set) return;
    const char *sep = " {";
#define ATTR(name, kind, help)                                                                               \
    if (a->set & A(name)) {                                                                                  \
        buf_printf(b, "%s" #name "=", sep);                                                                  \
        print_##kind(a->name, b);                                                                            \
        sep = ", ";                                                                                          \
    }
#include "attrs.def"
#undef ATTR
    buf_printf(b, "}");
}

static void print_loc(Loc loc, Buf *b) {
    if (!loc.line) return;
    buf_printf(b, " @");
    if (loc.file) buf_printf(b, "%u:", loc.file);
    buf_printf(b, "%u:%u", loc.line, loc.col);
}

static void print_body(const Graph *g, int indent, Buf *b);

static void print_node(const Graph *g, const Node *n, int indent, Buf *b) {
    buf_printf(b, "%*s", indent, "");
    for (uint32_t i = 0; i < n->nout; i++) {
        const Value *v = &g->values.at[n->out + i];
        buf_printf(b, "%s%%%u: ", i ? ", " : "", n->out + i);
        print_type(&v->type, b);
        if (v->offset >= 0) buf_printf(b, " at %lld", (long long)v->offset);
    }
    buf_printf(b, "%s%s", n->nout ? " = " : "", op_info[n->op].name);
    for (uint32_t i = 0; i < n->nin; i++) buf_printf(b, "%s%%%u", i ? ", " : " ", n->in[i]);
    print_attrs(&n->attrs, b);
    print_loc(n->loc, b);
    if (n->body) {
        buf_printf(b, " {\n");
        print_body(n->body, indent + 2, b);
        buf_printf(b, "%*s}", indent, "");
    }
    buf_printf(b, "\n");
}

static void print_body(const Graph *g, int indent, Buf *b) {
    for (uint32_t i = 0; i < g->nodes.n; i++) print_node(g, &g->nodes.at[i], indent, b);
}

void print_graph(const Graph *g, Buf *b) {
    buf_printf(b, "func @%s", g->name);
    print_attrs(&g->attrs, b);
    buf_printf(b, " {\n");
    print_body(g, 2, b);
    buf_printf(b, "}\n");
}

void print_module(const Module *m, Buf *b) {
    buf_printf(b, "tbc_ir 1\n");
    for (uint32_t i = 0; i < m->files.n; i++) {
        buf_printf(b, "file %u ", i);
        buf_quote(b, m->files.at[i]);
        buf_printf(b, "\n");
    }
    if (m->props) {
        buf_printf(b, "props");
        for (int i = 0; i < PROP_COUNT; i++) {
            if (m->props & 1u << i) buf_printf(b, " %s", prop_name[i]);
        }
        buf_printf(b, "\n");
    }
    if (m->arena_bytes >= 0) buf_printf(b, "arena %lld\n", (long long)m->arena_bytes);
    buf_printf(b, "meta ");
    buf_quote(b, m->meta);
    buf_printf(b, "\n");
    for (uint32_t i = 0; i < m->graphs.n; i++) print_graph(m->graphs.at[i], b);
}
