/* Layered layout (Sugiyama, Tagawa, Toda 1981), one cluster at a time, inner ones first: an inner cluster is
 * a box of the cluster around it. Edges that cross a cluster's border pass through ports, points at its top
 * or bottom, one for each value. graph_order.c does the first three steps:
 *
 *     layers    longest path from the top; what has no input moves down to its use
 *     dummies   a point in each layer that a value passes, shared by all who take it further down
 *     order     barycenters of the neighbours, sweeping down and up; the order with fewest crossings stays
 *     x         near the neighbours' x under the order: least squares by pooling adjacent violators,
 *               reweighted by 1/|bend| so that sums of bends become small and most edges straight */
#include "graph.h"
#include "graph_level.h"

#include <math.h>
#include <stdlib.h>

static const double LAYER_GAP = 40, BOX_GAP = 22, WIRE_GAP = 12, PAD = 18, TITLE = 30, LOOP = 22;
enum { PLACE_SWEEPS = 60 };

typedef struct Layout {
    Drawing *d;
    Level *level;   /* of each cluster, by item */
    uint32_t *spot; /* of each item in its cluster's level */
} Layout;

/* ---- text and box sizes */

static double text_width(const char *text, double size) {
    double n = 0;
    for (const char *c = text; *c; c++) n += ((unsigned char)*c & 0xc0) != 0x80; /* characters of UTF-8 */
    return 0.61 * size * n;
}

static void size_box(DrawItem *item) {
    double w = text_width(item->title, 13);
    for (uint32_t i = 0; i < item->nlines; i++) w = fmax(w, text_width(item->line[i], 11));
    item->w = fmax(64, ceil(w + 24));
    item->h = 30 + 15 * item->nlines;
}

/* ---- spots and links */

static uint32_t port(Level *l, SpotKind kind, uint32_t value) {
    for (uint32_t i = l->spots.n; i-- > 0;) {
        if (l->spots.at[i].kind == kind && l->spots.at[i].value == value) return i;
    }
    return level_add_spot(l, (Spot){.kind = kind, .value = value});
}

static void add_link(Level *l, uint32_t value, uint32_t from, uint32_t to) {
    for (uint32_t i = l->links.n; i-- > 0;) {
        const Link *k = &l->links.at[i];
        if (k->value == value && k->from == from && k->to == to) return;
    }
    Link link = {.value = value, .from = from, .to = to};
    vec_push(&l->links, link);
}

static bool is_inside(const Drawing *d, uint32_t item, uint32_t cluster) {
    while (item > cluster) item = d->items.at[item].cluster;
    return item == cluster;
}

/* An edge becomes a link in every cluster that it passes. */
static void add_edge(Layout *lay, const DrawEdge *e) {
    const Drawing *d = lay->d;
    uint32_t from = d->values.at[e->value].item, to = e->to;
    uint32_t home = d->items.at[from].cluster;
    while (!is_inside(d, to, home)) { /* up and out */
        Level *l = &lay->level[home];
        add_link(l, e->value, lay->spot[from], port(l, SPOT_OUT, e->value));
        from = home;
        home = d->items.at[home].cluster;
    }
    while (d->items.at[to].cluster != home) { /* from inside, up to the common cluster */
        uint32_t cluster = d->items.at[to].cluster;
        Level *l = &lay->level[cluster];
        add_link(l, e->value, port(l, SPOT_IN, e->value), lay->spot[to]);
        to = cluster;
    }
    add_link(&lay->level[home], e->value, lay->spot[from], lay->spot[to]);
}

/* ---- x */

static double separation(const Spot *a, const Spot *b) {
    bool wires = a->kind != SPOT_ITEM && b->kind != SPOT_ITEM;
    return (a->w + b->w) / 2 + (wires ? WIRE_GAP : BOX_GAP);
}

/* Puts the row's spots as near to want[] as their order and sizes allow, weighted least squares: with the
 * separations taken off, x must not decrease, so neighbours that want to overlap are pooled to their mean. */
static void place_row(Level *l, int layer, const double *want, const double *weight) {
    typedef struct Pool {
        double sum, weight;
        uint32_t n;
    } Pool;
    uint32_t n = l->row[layer].n, pools = 0;
    Pool *pool = xcalloc(n + 1, sizeof *pool);
    double *offset = xcalloc(n + 1, sizeof *offset);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t s = l->row[layer].at[i];
        if (i) offset[i] = offset[i - 1] + separation(&l->spots.at[l->row[layer].at[i - 1]], &l->spots.at[s]);
        pool[pools++] = (Pool){(want[s] - offset[i]) * weight[s], weight[s], 1};
        while (pools > 1 &&
               pool[pools - 1].sum / pool[pools - 1].weight < pool[pools - 2].sum / pool[pools - 2].weight) {
            pools--;
            pool[pools - 1].sum += pool[pools].sum;
            pool[pools - 1].weight += pool[pools].weight;
            pool[pools - 1].n += pool[pools].n;
        }
    }
    for (uint32_t p = 0, i = 0; p < pools; p++) {
        for (uint32_t end = i + pool[p].n; i < end; i++)
            l->spots.at[l->row[layer].at[i]].x = pool[p].sum / pool[p].weight + offset[i];
    }
    free(pool), free(offset);
}

/* Moves the layers one by one towards their neighbours above (down), below (up), or both. */
static void place_sweep(Level *l, bool above, bool below) {
    double *want = xcalloc(l->spots.n + 1, sizeof *want), *weight = xcalloc(l->spots.n + 1, sizeof *weight);
    for (int step = 0; step < l->layers; step++) {
        int layer = below && !above ? l->layers - 1 - step : step;
        for (uint32_t i = 0; i < l->row[layer].n; i++)
            want[l->row[layer].at[i]] = weight[l->row[layer].at[i]] = 0;
        for (uint32_t k = 0; k < l->links.n; k++) {
            const Link *link = &l->links.at[k];
            const Spot *from = &l->spots.at[link->from], *to = &l->spots.at[link->to];
            double bend = from->x + link->from_dx - to->x - link->to_dx;
            double straight = (from->kind != SPOT_ITEM && to->kind != SPOT_ITEM ? 8 : 1) / (2 + fabs(bend));
            if (above && to->layer == layer) {
                want[link->to] += straight * (from->x + link->from_dx - link->to_dx);
                weight[link->to] += straight;
            }
            if (below && from->layer == layer) {
                want[link->from] += straight * (to->x + link->to_dx - link->from_dx);
                weight[link->from] += straight;
            }
        }
        for (uint32_t i = 0; i < l->row[layer].n; i++) {
            uint32_t s = l->row[layer].at[i];
            want[s] = weight[s] > 0 ? want[s] / weight[s] : l->spots.at[s].x;
            if (weight[s] == 0) weight[s] = 1e-4;
        }
        place_row(l, layer, want, weight);
    }
    free(want), free(weight);
}

static void place_spots(Level *l) {
    for (int layer = 0; layer < l->layers; layer++) {
        double x = 0;
        for (uint32_t i = 0; i < l->row[layer].n; i++) {
            Spot *s = &l->spots.at[l->row[layer].at[i]];
            if (i) x += separation(&l->spots.at[l->row[layer].at[i - 1]], s);
            s->x = x;
        }
    }
    for (int i = 0; i < PLACE_SWEEPS; i++) place_sweep(l, i % 2 == 0, i % 2 == 1);
    for (int i = 0; i < PLACE_SWEEPS; i++) place_sweep(l, true, true);
}

/* ---- a cluster as a whole */

static double port_dx(const Layout *lay, uint32_t item, SpotKind kind, uint32_t value) {
    const Level *l = &lay->level[item];
    for (uint32_t i = 0; i < l->spots.n; i++) {
        if (l->spots.at[i].kind == kind && l->spots.at[i].value == value)
            return l->spots.at[i].x - lay->d->items.at[item].w / 2;
    }
    return 0;
}

/* Where in its spot a link starts and ends: at a result of a box, at a port of a cluster. */
static void attach(const Layout *lay, Level *l) {
    for (uint32_t k = 0; k < l->links.n; k++) {
        Link *link = &l->links.at[k];
        const Spot *from = &l->spots.at[link->from], *to = &l->spots.at[link->to];
        if (from->kind == SPOT_ITEM) {
            const DrawItem *item = &lay->d->items.at[from->item];
            uint32_t result = lay->d->values.at[link->value].result;
            link->from_dx = item->is_cluster ? port_dx(lay, from->item, SPOT_OUT, link->value)
                                             : item->w * ((result + 1.0) / (item->nout + 1.0) - 0.5);
        }
        if (to->kind == SPOT_ITEM && lay->d->items.at[to->item].is_cluster)
            link->to_dx = port_dx(lay, to->item, SPOT_IN, link->value);
    }
}

static void measure(Level *l, DrawItem *cluster, bool root) {
    double left = INFINITY, right = -INFINITY;
    for (uint32_t i = 0; i < l->spots.n; i++) {
        const Spot *s = &l->spots.at[i];
        left = fmin(left, s->x - s->w / 2);
        right = fmax(right, s->x + s->w / 2);
    }
    if (l->spots.n == 0) left = right = 0;
    double margin = root ? 0 : PAD + (cluster->carried ? LOOP : 0);
    for (uint32_t i = 0; i < l->spots.n; i++) l->spots.at[i].x += margin - left;
    double title = text_width(cluster->title, 12) + 60 + (cluster->badge ? 40 : 0);
    cluster->w = root ? right - left : fmax(right - left + margin + PAD, title);
    l->top = xcalloc((size_t)l->layers + 1, sizeof *l->top);
    l->height = xcalloc((size_t)l->layers + 1, sizeof *l->height);
    double y = root ? 0 : TITLE;
    for (int layer = 0; layer < l->layers; layer++) {
        bool ports = true;
        for (uint32_t i = 0; i < l->row[layer].n; i++) {
            const Spot *s = &l->spots.at[l->row[layer].at[i]];
            l->height[layer] = fmax(l->height[layer], s->h);
            ports = ports && (s->kind == SPOT_IN || s->kind == SPOT_OUT);
        }
        l->top[layer] = y;
        y += l->height[layer] + (ports ? PAD : LAYER_GAP);
    }
    bool ends_in_ports = l->layers > 0 && l->height[l->layers - 1] == 0;
    cluster->h = y - (l->layers ? (ends_in_ports ? PAD : LAYER_GAP) : 0) + (root || ends_in_ports ? 0 : PAD);
}

static void lay_cluster(Layout *lay, uint32_t cluster) {
    Level *l = &lay->level[cluster];
    for (uint32_t i = 0; i < l->spots.n; i++) {
        Spot *s = &l->spots.at[i];
        if (s->kind != SPOT_ITEM) continue;
        s->w = lay->d->items.at[s->item].w;
        s->h = lay->d->items.at[s->item].h;
    }
    attach(lay, l);
    level_order(l);
    place_spots(l);
    measure(l, &lay->d->items.at[cluster], cluster == 0);
}

/* ---- places and wires in the whole picture */

static void place_items(Layout *lay, uint32_t cluster) {
    const Level *l = &lay->level[cluster];
    DrawItem *home = &lay->d->items.at[cluster];
    for (uint32_t i = 0; i < l->spots.n; i++) {
        const Spot *s = &l->spots.at[i];
        if (s->kind != SPOT_ITEM) continue;
        DrawItem *item = &lay->d->items.at[s->item];
        item->x = home->x + s->x - s->w / 2;
        item->y = home->y + l->top[s->layer] + (l->height[s->layer] - s->h) / 2;
    }
}

typedef struct Arrival {
    uint32_t link;
    double from_x;
} Arrival;

static int by_from_x(const void *a, const void *b) {
    const Arrival *x = a, *y = b;
    return (x->from_x > y->from_x) - (x->from_x < y->from_x);
}

/* Several edges into one box come in side by side, in the order of where they come from. */
static void spread_arrivals(const Layout *lay, Level *l) {
    Arrival *arrival = xcalloc(l->links.n + 1, sizeof *arrival);
    for (uint32_t i = 0; i < l->spots.n; i++) {
        const Spot *s = &l->spots.at[i];
        if (s->kind != SPOT_ITEM || lay->d->items.at[s->item].is_cluster) continue;
        uint32_t n = 0;
        for (uint32_t k = 0; k < l->links.n; k++) {
            const Link *link = &l->links.at[k];
            if (link->to == i) arrival[n++] = (Arrival){k, l->spots.at[link->from].x + link->from_dx};
        }
        qsort(arrival, n, sizeof *arrival, by_from_x);
        double width = fmin(s->w - 16, 36.0 * (n - 1.0));
        for (uint32_t j = 0; j < n && n > 1; j++)
            l->links.at[arrival[j].link].to_dx = width * (j / (n - 1.0) - 0.5);
    }
    free(arrival);
}

static void route(const Layout *lay, uint32_t cluster) {
    Drawing *d = lay->d;
    Level *l = &lay->level[cluster];
    const DrawItem *home = &d->items.at[cluster];
    spread_arrivals(lay, l);
    for (uint32_t k = 0; k < l->links.n; k++) {
        const Link *link = &l->links.at[k];
        const Spot *from = &l->spots.at[link->from], *to = &l->spots.at[link->to];
        double x0 = home->x + from->x + link->from_dx, x1 = home->x + to->x + link->to_dx;
        double top = home->y + l->top[from->layer], bottom = top + l->height[from->layer];
        double next = home->y + l->top[to->layer], y0 = top, y1 = next;
        if (from->kind == SPOT_ITEM) y0 = d->items.at[from->item].y + from->h;
        if (to->kind == SPOT_ITEM) y1 = d->items.at[to->item].y;
        if (from->kind == SPOT_IN) y0 = bottom = home->y;
        if (to->kind == SPOT_OUT) y1 = next = home->y + home->h;
        DrawWire wire = {
            .at = {{x0, y0}, {x0, bottom}, {x1, next}, {x1, y1}},
            .value = link->value,
            .starts = from->kind == SPOT_ITEM && !d->items.at[from->item].is_cluster,
            .arrives = to->kind == SPOT_ITEM && !d->items.at[to->item].is_cluster,
        };
        vec_push(&d->wires, wire);
    }
}

static void free_level(Level *l) {
    for (int i = 0; i < l->layers; i++) vec_free(&l->row[i]);
    vec_free(&l->spots);
    vec_free(&l->links);
    free(l->row), free(l->top), free(l->height);
}

void draw_layout(Drawing *d) {
    static const double MARGIN = 24, HEADER = 84, MIN_WIDTH = 520;
    uint32_t n = d->items.n;
    Layout lay = {.d = d, .level = xcalloc(n, sizeof *lay.level), .spot = xcalloc(n, sizeof *lay.spot)};
    for (uint32_t i = 1; i < n; i++) {
        if (!d->items.at[i].is_cluster) size_box(&d->items.at[i]);
        lay.spot[i] =
            level_add_spot(&lay.level[d->items.at[i].cluster], (Spot){.kind = SPOT_ITEM, .item = i});
    }
    for (uint32_t i = 0; i < d->edges.n; i++) add_edge(&lay, &d->edges.at[i]);
    for (uint32_t i = n; i-- > 0;) {
        if (d->items.at[i].is_cluster) lay_cluster(&lay, i);
    }
    DrawItem *root = &d->items.at[0];
    d->width = fmax(root->w + 2 * MARGIN, MIN_WIDTH);
    d->height = root->h + HEADER + MARGIN;
    root->x = (d->width - root->w) / 2;
    root->y = HEADER;
    for (uint32_t i = 0; i < n; i++) {
        if (d->items.at[i].is_cluster) place_items(&lay, i);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (d->items.at[i].is_cluster) route(&lay, i);
        free_level(&lay.level[i]);
    }
    free(lay.level), free(lay.spot);
}
