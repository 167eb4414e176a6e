/* `tbc graph`: pictures of models and of the IR.
 *
 *     spec, or IR function -> Drawing (boxes in nested clusters, edges) -> layout -> SVG, HTML
 *                                                                       -> dot
 *
 * A Drawing is a tree of items. Item 0 is the cluster of everything; an item comes after its cluster, and
 * after all items that have edges to it. Lengths are in CSS pixels, y grows downwards. */
#ifndef TBC_GRAPH_H
#define TBC_GRAPH_H

#include "../ir/ir.h"
#include "spec.h"

/* What a box does: its colour, and an entry of the legend. */
typedef enum DrawKind {
#define DRAW_KIND(name, ...) DRAW_##name,
#include "graph_kinds.def"
#undef DRAW_KIND
    DRAW_KINDS
} DrawKind;

enum { DRAW_MAX_LINES = 6 };

typedef struct DrawItem {
    uint32_t cluster; /* the item it lies in */
    bool is_cluster;
    bool carried; /* a cluster whose results go into its next turn */
    DrawKind kind;
    const char *title, *badge; /* badge: of a cluster, "× 28", or NULL */
    const char *line[DRAW_MAX_LINES];
    uint32_t nlines, nout;
    double x, y, w, h; /* by draw_layout: from the top left corner of the picture */
} DrawItem;

/* What flows: result number `result` of an item, with its shape as text. */
typedef struct DrawValue {
    uint32_t item, result;
    const char *label;
} DrawValue;

typedef struct DrawEdge {
    uint32_t value, to;
} DrawEdge;

typedef struct DrawPoint {
    double x, y;
} DrawPoint;

/* A piece of an edge: down from at[0] to at[1], in a curve to at[2], down to at[3]. */
typedef struct DrawWire {
    DrawPoint at[4];
    uint32_t value;
    bool starts, arrives; /* at its value's box (where the label goes), at a box that takes the value */
} DrawWire;

typedef struct Drawing {
    Arena *arena;
    const char *title, *subtitle;
    VEC(DrawItem) items;
    VEC(DrawValue) values;
    VEC(DrawEdge) edges;
    VEC(DrawWire) wires; /* by draw_layout */
    double width, height;
} Drawing;

/* More boxes than this make no readable picture; more than DRAW_OPEN_BOXES, and regions are drawn closed. */
enum { DRAW_MAX_BOXES = 1500, DRAW_OPEN_BOXES = 500 };

/* The model as its spec says it: a statement a box, a loop once with its count. build_module has run on the
 * spec and gave `m`. */
Drawing *draw_spec(const Spec *, const Module *m);
/* A function of the IR, repeated stretches once. NULL after a reported error: too large. */
Drawing *draw_function(const Module *, const Graph *, const char *file, Diag *);
void draw_free(Drawing *);

/* For those who make drawings. Texts live in the drawing's arena. */
Drawing *draw_new(const char *title);
uint32_t draw_item(Drawing *, uint32_t cluster, DrawKind, const char *title);
void draw_line(Drawing *, uint32_t item, const char *text); /* beyond the last that fits: dropped */
/* An edge, unless it is there already. */
void draw_edge(Drawing *, uint32_t from, uint32_t result, const char *label, uint32_t to);
const char *draw_shape(Drawing *, const Type *); /* "8×256×192" */
const char *draw_count(Drawing *, double);       /* "1.53 M" */

/* A stretch of a sequence that is the same `count` times: first .. first + period*count - 1. */
typedef struct Repeat {
    uint32_t first, period, count;
} Repeat;
typedef VEC(Repeat) Repeats;
/* Appends the repeated stretches of a sequence of signatures, in order, none overlapping. */
void find_repeats(const uint64_t *signature, uint32_t n, Repeats *);

/* Places every item and routes every edge. */
void draw_layout(Drawing *);

void draw_svg(const Drawing *, Buf *);  /* after draw_layout */
void draw_html(const Drawing *, Buf *); /* after draw_layout: a page around the SVG, with pan and zoom */
void draw_dot(const Drawing *, Buf *);  /* for Graphviz; needs no layout */
extern const char *const draw_kind_name[DRAW_KINDS];

#endif
