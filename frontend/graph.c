/* Drawings: boxes, clusters and edges, before they have a place. */
#include "graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const draw_kind_name[DRAW_KINDS] = {
#define DRAW_KIND(name, legend, ...) legend,
#include "graph_kinds.def"
#undef DRAW_KIND
};

Drawing *draw_new(const char *title) {
    Arena *arena = arena_new();
    Drawing *d = arena_alloc(arena, sizeof *d);
    d->arena = arena;
    d->title = arena_strdup(arena, title);
    d->subtitle = "";
    draw_item(d, 0, DRAW_io, "");
    d->items.at[0].is_cluster = true;
    return d;
}

void draw_free(Drawing *d) {
    if (!d) return;
    vec_free(&d->items);
    vec_free(&d->values);
    vec_free(&d->edges);
    vec_free(&d->wires);
    arena_free(d->arena);
}

uint32_t draw_item(Drawing *d, uint32_t cluster, DrawKind kind, const char *title) {
    DrawItem item = {.cluster = cluster, .kind = kind, .title = arena_strdup(d->arena, title), .nout = 1};
    vec_push(&d->items, item);
    return d->items.n - 1;
}

void draw_line(Drawing *d, uint32_t item, const char *text) {
    DrawItem *to = &d->items.at[item];
    if (to->nlines < DRAW_MAX_LINES)
        to->line[to->nlines++] = arena_strdup(d->arena, text);
    else
        to->line[DRAW_MAX_LINES - 1] = "…";
}

static uint32_t value_of(Drawing *d, uint32_t item, uint32_t result, const char *label) {
    for (uint32_t i = d->values.n; i-- > 0;) {
        if (d->values.at[i].item == item && d->values.at[i].result == result) return i;
    }
    DrawValue value = {item, result, label};
    vec_push(&d->values, value);
    DrawItem *from = &d->items.at[item];
    if (from->nout <= result) from->nout = result + 1;
    return d->values.n - 1;
}

void draw_edge(Drawing *d, uint32_t from, uint32_t result, const char *label, uint32_t to) {
    DrawEdge edge = {value_of(d, from, result, label), to};
    for (uint32_t i = d->edges.n; i-- > 0;) {
        if (d->edges.at[i].value == edge.value && d->edges.at[i].to == to) return;
    }
    vec_push(&d->edges, edge);
}

const char *draw_shape(Drawing *d, const Type *type) {
    if (type->rank == 0) return "scalar";
    Buf text = {0};
    for (uint32_t i = 0; i < type->rank; i++)
        buf_printf(&text, "%s%lld", i ? "×" : "", (long long)type->dim[i]);
    const char *result = arena_strdup(d->arena, text.at);
    buf_free(&text);
    return result;
}

const char *draw_count(Drawing *d, double n) {
    static const char *const unit[] = {"", " k", " M", " G", " T"};
    int i = 0;
    while (n >= 999.5 && i < 4) n /= 1000, i++;
    int decimals = i == 0 || n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2;
    return arena_printf(d->arena, "%.*f%s", decimals, n, unit[i]);
}
