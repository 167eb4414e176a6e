/* One cluster while it is laid out: what graph_order.c puts in order and graph_layout.c puts in place. */
#ifndef TBC_GRAPH_LEVEL_H
#define TBC_GRAPH_LEVEL_H

#include "../ir/base.h"

/* A place in a layer: an item, a port of the cluster, or a point that a value passes. */
typedef enum SpotKind { SPOT_ITEM, SPOT_IN, SPOT_OUT, SPOT_DUMMY } SpotKind;

typedef struct Spot {
    SpotKind kind;
    uint32_t item;  /* SPOT_ITEM */
    uint32_t value; /* else */
    int layer;
    uint32_t order;
    double x, w, h, key; /* x: of its middle, in the cluster */
} Spot;

/* Between spots of neighbouring layers, once dummies are in; dx from a spot's middle. */
typedef struct Link {
    uint32_t value, from, to;
    double from_dx, to_dx;
} Link;

typedef VEC(uint32_t) Row;
typedef struct Level {
    VEC(Spot) spots;
    VEC(Link) links;
    int layers;
    Row *row; /* spots of each layer in order */
    double *top, *height;
} Level;

static inline uint32_t level_add_spot(Level *l, Spot spot) {
    vec_push(&l->spots, spot);
    return l->spots.n - 1;
}

/* Gives every spot its layer, every value a spot in each layer that it passes, and every layer its order.
 * Sizes of spots, and where links start and end in them, must be known. */
void level_order(Level *);

#endif
