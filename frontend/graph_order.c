/* The first half of the layout of a cluster (graph_layout.c): layers, dummies, and the order in each layer.
 */
#include "graph_level.h"

#include <stdlib.h>
#include <string.h>

enum { ORDER_SWEEPS = 12 };

static int max_int(int a, int b) {
    return a > b ? a : b;
}
static int min_int(int a, int b) {
    return a < b ? a : b;
}

/* ---- layers */

/* Items were added in an order in which links lead forwards. */
static void assign_layers(Level *l) {
    bool *has_input = xcalloc(l->spots.n + 1, sizeof *has_input);
    int ports = 0, last = 0;
    for (uint32_t i = 0; i < l->spots.n; i++) ports |= l->spots.at[i].kind == SPOT_IN;
    for (uint32_t i = 0; i < l->spots.n; i++)
        l->spots.at[i].layer = l->spots.at[i].kind == SPOT_ITEM ? ports : 0;
    for (uint32_t i = 0; i < l->spots.n; i++) {
        if (l->spots.at[i].kind != SPOT_ITEM) continue;
        for (uint32_t k = 0; k < l->links.n; k++) {
            const Link *link = &l->links.at[k];
            if (link->to != i) continue;
            has_input[i] = true;
            l->spots.at[i].layer = max_int(l->spots.at[i].layer, l->spots.at[link->from].layer + 1);
        }
        if (l->spots.at[i].layer > last) last = l->spots.at[i].layer;
    }
    for (uint32_t i = 0; i < l->spots.n; i++) {
        Spot *s = &l->spots.at[i];
        if (s->kind == SPOT_OUT) s->layer = last + 1;
        if (s->kind != SPOT_ITEM || has_input[i]) continue;
        int down = INT32_MAX;
        for (uint32_t k = 0; k < l->links.n; k++) {
            const Spot *to = &l->spots.at[l->links.at[k].to];
            if (l->links.at[k].from == i) down = min_int(down, to->kind == SPOT_OUT ? last + 1 : to->layer);
        }
        if (down < INT32_MAX) s->layer = down - 1;
    }
    free(has_input);
    l->layers = 0;
    for (uint32_t i = 0; i < l->spots.n; i++) l->layers = max_int(l->layers, l->spots.at[i].layer + 1);
}

/* Where value `value` passes layer `layer`, coming from spot `from` (with `from_dx`). */
static uint32_t pass(Level *l, uint32_t value, uint32_t from, double from_dx, int layer, uint32_t *dummy) {
    if (layer == l->spots.at[from].layer) return from;
    if (dummy[layer] != UINT32_MAX) return dummy[layer];
    uint32_t above = pass(l, value, from, from_dx, layer - 1, dummy);
    uint32_t spot = level_add_spot(l, (Spot){.kind = SPOT_DUMMY, .value = value, .layer = layer});
    Link link = {value, above, spot, above == from ? from_dx : 0, 0};
    vec_push(&l->links, link);
    return dummy[layer] = spot;
}

static void add_dummies(Level *l) {
    uint32_t n = l->links.n;
    Link *long_links = xcalloc(n + 1, sizeof *long_links);
    uint32_t *dummy = xcalloc((size_t)l->layers + 1, sizeof *dummy);
    if (n) memcpy(long_links, l->links.at, n * sizeof *long_links);
    l->links.n = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool first = true; /* of its value and start: the links before it have not been here */
        for (uint32_t j = 0; j < i && first; j++)
            first = long_links[j].value != long_links[i].value || long_links[j].from != long_links[i].from;
        if (!first) continue;
        memset(dummy, 0xff, ((size_t)l->layers + 1) * sizeof *dummy);
        for (uint32_t j = i; j < n; j++) {
            Link link = long_links[j];
            if (link.value != long_links[i].value || link.from != long_links[i].from) continue;
            uint32_t above =
                pass(l, link.value, link.from, link.from_dx, l->spots.at[link.to].layer - 1, dummy);
            if (above != link.from) link.from = above, link.from_dx = 0;
            vec_push(&l->links, link);
        }
    }
    free(long_links), free(dummy);
}

/* ---- order */

static int by_key(const void *a, const void *b) {
    const Spot *x = *(Spot *const *)a, *y = *(Spot *const *)b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static void sort_row(Level *l, int layer) {
    uint32_t n = l->row[layer].n;
    Spot **sorted = xcalloc(n + 1, sizeof *sorted);
    for (uint32_t i = 0; i < n; i++) sorted[i] = &l->spots.at[l->row[layer].at[i]];
    qsort(sorted, n, sizeof *sorted, by_key);
    for (uint32_t i = 0; i < n; i++) {
        sorted[i]->order = i;
        l->row[layer].at[i] = (uint32_t)(sorted[i] - l->spots.at);
    }
    free(sorted);
}

/* A link's end as a place in its row; where in a box it ends counts a little. */
static double place(const Spot *s, double dx) {
    return s->order + (s->w > 0 ? 0.5 * dx / s->w : 0);
}

static void sweep(Level *l, bool down) {
    double *sum = xcalloc(l->spots.n + 1, sizeof *sum), *n = xcalloc(l->spots.n + 1, sizeof *n);
    for (int step = 1; step < l->layers; step++) {
        int layer = down ? step : l->layers - 1 - step;
        for (uint32_t i = 0; i < l->row[layer].n; i++) sum[l->row[layer].at[i]] = n[l->row[layer].at[i]] = 0;
        for (uint32_t k = 0; k < l->links.n; k++) {
            const Link *link = &l->links.at[k];
            uint32_t self = down ? link->to : link->from, other = down ? link->from : link->to;
            if (l->spots.at[self].layer != layer) continue;
            sum[self] += place(&l->spots.at[other], down ? link->from_dx : link->to_dx);
            n[self]++;
        }
        for (uint32_t i = 0; i < l->row[layer].n; i++) {
            uint32_t s = l->row[layer].at[i];
            l->spots.at[s].key = n[s] > 0 ? sum[s] / n[s] : l->spots.at[s].order;
        }
        sort_row(l, layer);
    }
    free(sum), free(n);
}

static uint64_t count_crossings(const Level *l) {
    uint64_t crossings = 0;
    for (uint32_t i = 0; i < l->links.n; i++) {
        const Link *a = &l->links.at[i];
        const Spot *from = &l->spots.at[a->from], *to = &l->spots.at[a->to];
        for (uint32_t j = 0; j < i; j++) {
            const Link *b = &l->links.at[j];
            if (l->spots.at[b->from].layer != from->layer) continue;
            double top = place(from, a->from_dx) - place(&l->spots.at[b->from], b->from_dx);
            double bottom = place(to, a->to_dx) - place(&l->spots.at[b->to], b->to_dx);
            crossings += top * bottom < 0;
        }
    }
    return crossings;
}

static void order_rows(Level *l) {
    l->row = xcalloc((size_t)l->layers + 1, sizeof *l->row);
    for (uint32_t i = 0; i < l->spots.n; i++) {
        Spot *s = &l->spots.at[i];
        s->order = l->row[s->layer].n;
        vec_push(&l->row[s->layer], i);
    }
    uint32_t *best = xcalloc(l->spots.n + 1, sizeof *best);
    uint64_t fewest = UINT64_MAX;
    for (int i = 0; i <= ORDER_SWEEPS && fewest > 0; i++) {
        if (i) sweep(l, i % 2);
        uint64_t crossings = count_crossings(l);
        if (crossings >= fewest) continue;
        fewest = crossings;
        for (uint32_t s = 0; s < l->spots.n; s++) best[s] = l->spots.at[s].order;
    }
    for (uint32_t s = 0; s < l->spots.n; s++) l->spots.at[s].key = best[s];
    for (int layer = 0; layer < l->layers; layer++) sort_row(l, layer);
    free(best);
}

void level_order(Level *l) {
    assign_layers(l);
    add_dummies(l);
    order_rows(l);
}
