/* Drawings as text for Graphviz. */
#include "graph.h"

#include <string.h>

static void put_quoted(Buf *out, const char *text) {
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\') buf_add(out, "\\", 1);
        buf_add(out, (unsigned char)*c < 32 ? "?" : c, 1);
    }
}

static void put_item(const Drawing *d, Buf *out, uint32_t i, int depth) {
    const DrawItem *item = &d->items.at[i];
    buf_printf(out, "%*s", 2 * depth, "");
    if (!item->is_cluster) {
        buf_printf(out, "n%u [label=\"", i);
        put_quoted(out, item->title);
        for (uint32_t k = 0; k < item->nlines; k++) {
            buf_printf(out, "\\n");
            put_quoted(out, item->line[k]);
        }
        buf_printf(out, "\", class=\"%s\"];\n", draw_kind_name[item->kind]);
        return;
    }
    buf_printf(out, "subgraph cluster_%u {\n%*slabel=\"", i, 2 * depth + 2, "");
    put_quoted(out, item->title);
    if (item->badge) buf_printf(out, " %s", item->badge);
    buf_printf(out, "\";\n");
    for (uint32_t k = i + 1; k < d->items.n; k++) {
        if (d->items.at[k].cluster == i) put_item(d, out, k, depth + 1);
    }
    buf_printf(out, "%*s}\n", 2 * depth, "");
}

void draw_dot(const Drawing *d, Buf *out) {
    buf_printf(out, "digraph \"");
    put_quoted(out, d->title);
    buf_printf(out, "\" {\n  node [shape=box, style=rounded, fontname=monospace];\n");
    for (uint32_t i = 1; i < d->items.n; i++) {
        if (d->items.at[i].cluster == 0) put_item(d, out, i, 1);
    }
    for (uint32_t i = 0; i < d->edges.n; i++) {
        const DrawValue *v = &d->values.at[d->edges.at[i].value];
        buf_printf(out, "  n%u -> n%u [label=\"", v->item, d->edges.at[i].to);
        put_quoted(out, v->label);
        buf_printf(out, "\"];\n");
    }
    buf_printf(out, "}\n");
}
