/* fuse-loss: the LM head and the loss run in chunks of rows, so that logits never exist whole.
 *
 *     l = tmatmul(x, W)                      for each chunk c of rows:
 *     nll, dl = region(l, targets)             l_c = tmatmul(x_c, W)
 *     dx = tmatmul(dl, W)               ->     nll_c, dl_c = region(l_c, targets_c)
 *     dW = matmul(dl, x){ta}                   dx_c = tmatmul(dl_c, W)
 *                                              dW = matmul(dl_c, x_c, dW){ta}
 *                                            nll, dx = concat of nll_c, dx_c
 *
 * What is looked for is a region that reads a product x*W which nothing else reads, and that yields row
 * scalars (nll), partial sums, and full rows (dl) used in products with W and x only: then all of it works
 * row by row, but for dW, which is a sum over rows. In @eval there is no dl. A chunk of logits aims for
 * options.logits_bytes, and there are two chunks at least, MOST_CHUNKS at most. */
#include "order.h"

#include <stdlib.h>

#define DEFAULT_BYTES ((int64_t)16 << 20)
#define FEWEST_ROWS   256 /* of a chunk: shorter ones make poor matrix products */
#define MOST_CHUNKS   256 /* however many rows: each is a handful of nodes and launches */
#define UNIT          64  /* chunks are multiples of this, so that slices stay aligned */

/* Rows of a chunk; all of them if there are too few to divide. */
static int64_t chunk_rows(int64_t rows, int64_t cols, int64_t bytes) {
    if (rows < 2 * UNIT) return rows;
    int64_t most = bytes / ((int64_t)sizeof(float) * cols), half = (rows + 1) / 2;
    if (most < FEWEST_ROWS) most = FEWEST_ROWS;
    if (most < rows / MOST_CHUNKS) most = rows / MOST_CHUNKS + UNIT;
    if (most > half) most = half;
    most = most / UNIT * UNIT;
    int64_t chunks = (rows + most - 1) / most, even = (rows + chunks - 1) / chunks;
    return (even + UNIT - 1) / UNIT * UNIT;
}

/* ---- finding it */

typedef enum ResultKind { ROW_SCALARS, FULL_ROWS, PARTIAL_SUM } ResultKind;

typedef struct Loss {
    const Graph *g;
    const Node *head, *region; /* the product, and what reads it */
    uint32_t logits;           /* which operand of the region */
    Val x, w;
    int64_t rows, chunk;
    ResultKind *kind; /* of each result of the region */
    bool *member;     /* of each node: becomes part of the chunks */
} Loss;

static bool is_matrix_product(const Node *n) {
    return n->op == OP_matmul || n->op == OP_tmatmul;
}

static bool same_matrix(const Graph *g, Val a, Val b) {
    while (val_is(g, a, OP_reshape)) a = val_node(g, a)->in[0];
    while (val_is(g, b, OP_reshape)) b = val_node(g, b)->in[0];
    return a == b;
}

/* dl x W: a row of it for each row of dl */
static bool is_row_product(const Loss *l, const Node *n, Val dl) {
    return is_matrix_product(n) && n->nin == 2 && !n->attrs.ta && n->in[0] == dl && n->in[1] == l->w;
}

/* dl^T x or x^T dl: a sum over rows, perhaps on top of a sum so far */
static bool is_sum_product(const Loss *l, const Node *n, Val dl) {
    if (n->op != OP_matmul || !n->attrs.ta || n->attrs.tb || (n->nin == 3 && n->in[2] == dl)) return false;
    const Graph *g = l->g;
    uint32_t other = n->in[0] == dl;
    if (n->in[!other] != dl || !same_matrix(g, n->in[other], l->x)) return false;
    return type_cols(val_type(g, n->in[other])) == type_cols(val_type(g, l->x));
}

/* How a type of the whole looks in a chunk of `rows` rows. False: it has some other shape. */
static bool chunk_type(const Loss *l, const Type *t, int64_t rows, Type *out) {
    int64_t cols = type_cols(t);
    if (t->dtype == DT_I32) {
        *out = type_make(DT_I32, 1, &rows);
        return type_count(t) == l->rows;
    }
    *out = *t;
    if (t->rank && type_rows(t) == l->rows)
        *out = type_make(DT_F32, 2, (int64_t[]){rows, cols});
    else if (t->rank > 1)
        *out = type_make(DT_F32, 1, &cols);
    return type_rows(t) == 1 || type_rows(t) == l->rows;
}

static bool classify(const Loss *l, Val v, const Readers *readers, ResultKind *kind) {
    const Graph *g = l->g;
    const Node *n = val_node(l->region->body,
                             l->region->body->nodes.at[l->region->body->nodes.n - 1].in[v - l->region->out]);
    *kind = n->op == OP_partial_sum ? PARTIAL_SUM : type_cols(val_type(g, v)) == 1 ? ROW_SCALARS : FULL_ROWS;
    for (uint32_t k = readers->first[v]; k < readers->first[v + 1]; k++) {
        const Node *r = &g->nodes.at[readers->at[k]];
        if (*kind == PARTIAL_SUM && r->op != OP_sum_rows) return false;
        if (*kind != FULL_ROWS) continue;
        if (!is_row_product(l, r, v) && !is_sum_product(l, r, v)) return false;
        l->member[readers->at[k]] = true;
    }
    return true;
}

/* Whether the body works row by row on types that chunks can have. */
static bool divides(const Loss *l) {
    const Graph *body = l->region->body;
    for (uint32_t i = 0; i < body->nodes.n; i++) {
        const Node *n = &body->nodes.at[i];
        Type t;
        if (n->nout && n->op != OP_partial_sum && !chunk_type(l, val_type(body, n->out), 1, &t)) return false;
    }
    return true;
}

/* No path leaves the members and comes back: they can be moved to one place. */
static bool is_convex(const Loss *l, Arena *scratch) {
    bool *after = arena_array(scratch, bool, l->g->nodes.n); /* outside, and depends on a member */
    for (uint32_t i = 0; i < l->g->nodes.n; i++) {
        const Node *n = &l->g->nodes.at[i];
        for (uint32_t k = 0; k < n->nin; k++) {
            uint32_t from = l->g->values.at[n->in[k]].node;
            if (l->member[i] && after[from]) return false;
            after[i] |= !l->member[i] && (after[from] || l->member[from]);
        }
    }
    return true;
}

static bool match_operand(Loss *l, uint32_t index, int64_t bytes, const Readers *readers, Arena *scratch) {
    const Graph *g = l->g;
    Val logits = l->region->in[index];
    const Node *head = l->head = val_node(g, logits);
    if (!is_matrix_product(head) || head->nin != 2 || head->attrs.ta) return false;
    if (readers->first[logits + 1] - readers->first[logits] != 1) return false;
    l->logits = index, l->x = head->in[0], l->w = head->in[1];
    l->rows = type_rows(val_type(g, logits));
    l->chunk = chunk_rows(l->rows, type_cols(val_type(g, logits)), bytes);
    if (l->chunk >= l->rows || val_is(g, l->x, OP_slice)) return false; /* a slice: a chunk already */
    if (!divides(l)) return false;
    l->member = arena_array(scratch, bool, g->nodes.n);
    l->member[head - g->nodes.at] = l->member[l->region - g->nodes.at] = true;
    l->kind = arena_array(scratch, ResultKind, l->region->nout);
    for (uint32_t i = 0; i < l->region->nout; i++)
        if (!classify(l, l->region->out + i, readers, &l->kind[i])) return false;
    return is_convex(l, scratch);
}

static bool find_loss(Loss *l, int64_t bytes, Arena *scratch) {
    Readers readers = graph_readers(l->g, scratch);
    for (uint32_t i = 0; i < l->g->nodes.n; i++) {
        l->region = &l->g->nodes.at[i];
        if (l->region->op != OP_region) continue;
        for (uint32_t k = 0; k < l->region->nin; k++)
            if (match_operand(l, k, bytes, &readers, scratch)) return true;
    }
    return false;
}

/* ---- dividing it */

typedef struct Pieces {
    VEC(Val) at;
} Pieces;

typedef struct Divide {
    const Loss *l;
    Graph *to;
    Val *map;
    Val *whole;     /* the region's operands as [rows, ..] */
    Val x;          /* [rows, k] */
    Pieces *pieces; /* by value of l->g: results of the chunks so far; of a sum product, the sum */
} Divide;

static Val slice_rows(const Divide *d, Val v, int64_t begin, int64_t rows) {
    Type t = *val_type(d->to, v);
    t.dim[0] = rows;
    return graph_add(d->to, NULL, NULL, d->l->region->loc, OP_slice, &t, &v, 1, ATTRS(begin, begin));
}

static bool has_rows(const Divide *d, Val v) {
    const Type *t = val_type(d->to, v);
    return t->dtype == DT_I32 || (t->rank == 2 && t->dim[0] == d->l->rows);
}

/* The body for a chunk: the same nodes on other types. */
static Graph *chunk_body(const Divide *d, int64_t rows) {
    const Graph *from = d->l->region->body;
    Graph *body = graph_new("");
    Val *map = xcalloc(from->values.n, sizeof *map);
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        const Node *n = &from->nodes.at[i];
        Val *in = xcalloc(n->nin, sizeof *in);
        for (uint32_t k = 0; k < n->nin; k++) in[k] = map[n->in[k]];
        Type t = {0};
        if (n->op == OP_partial_sum) {
            t = *val_type(from, n->out);
            if (t.dim[0] > rows) t.dim[0] = rows;
        } else if (n->nout)
            chunk_type(d->l, val_type(from, n->out), rows, &t);
        Val out = graph_add(body, NULL, NULL, n->loc, n->op, &t, in, n->nin, &n->attrs);
        if (n->nout) map[n->out] = out;
        free(in);
    }
    free(map);
    return body;
}

static void add_piece(const Divide *d, Val of, Val v) {
    vec_push(&d->pieces[of].at, v);
}

/* dx_c and dW of one chunk, from dl_c in place of dl. */
static void chunk_products(const Divide *d, Val dl, Val dl_c, Val x_c) {
    const Graph *g = d->l->g;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (!d->l->member[i] || n == d->l->head || n == d->l->region) continue;
        if (is_row_product(d->l, n, dl)) {
            Val in[2] = {dl_c, d->map[d->l->w]};
            add_piece(d, n->out, graph_add(d->to, NULL, NULL, n->loc, n->op, NULL, in, 2, &n->attrs));
        } else if (is_sum_product(d->l, n, dl)) {
            Pieces *sum = &d->pieces[n->out];
            bool first = n->in[0] == dl;
            Val in[3] = {first ? dl_c : x_c, first ? x_c : dl_c};
            uint32_t nin = 2;
            if (sum->at.n)
                in[nin++] = sum->at.at[0];
            else if (n->nin == 3)
                in[nin++] = d->map[n->in[2]];
            Val v = graph_add(d->to, NULL, NULL, n->loc, OP_matmul, NULL, in, nin, &n->attrs);
            if (sum->at.n)
                sum->at.at[0] = v;
            else
                add_piece(d, n->out, v);
        }
    }
}

static void build_chunk(const Divide *d, int64_t begin, int64_t rows) {
    const Node *head = d->l->head, *region = d->l->region;
    Val x_c = slice_rows(d, d->x, begin, rows), *in = xcalloc(region->nin, sizeof *in);
    Val product[2] = {x_c, d->map[d->l->w]};
    for (uint32_t k = 0; k < region->nin; k++) {
        if (k == d->l->logits)
            in[k] = graph_add(d->to, NULL, NULL, head->loc, head->op, NULL, product, 2, &head->attrs);
        else
            in[k] = has_rows(d, d->whole[k]) ? slice_rows(d, d->whole[k], begin, rows) : d->whole[k];
    }
    Val out = graph_add_region(d->to, region->loc, in, region->nin, chunk_body(d, rows));
    for (uint32_t i = 0; i < region->nout; i++) {
        if (d->l->kind[i] == FULL_ROWS)
            chunk_products(d, region->out + i, out + i, x_c);
        else
            add_piece(d, region->out + i, out + i);
    }
    free(in);
}

/* What the rest of the graph sees: pieces joined, in the original's shape if it counts rows. */
static void finish(const Divide *d, Val v, Loc loc) {
    Pieces *p = &d->pieces[v];
    if (!p->at.n) return;
    const Type *t = val_type(d->l->g, v);
    Val whole = p->at.at[0];
    if (p->at.n > 1) whole = graph_add(d->to, NULL, NULL, loc, OP_concat, NULL, p->at.at, p->at.n, NULL);
    d->map[v] =
        type_count(val_type(d->to, whole)) == type_count(t) ? ir_reshape(d->to, loc, whole, t) : whole;
    vec_free(&p->at);
}

static void divide(Divide *d, Arena *scratch) {
    const Loss *l = d->l;
    const Type *x = val_type(l->g, l->x);
    Type flat = type_make(DT_F32, 2, (int64_t[]){l->rows, type_cols(x)});
    d->x = ir_reshape(d->to, l->head->loc, d->map[l->x], &flat);
    d->whole = arena_array(scratch, Val, l->region->nin);
    for (uint32_t k = 0; k < l->region->nin; k++) {
        if (k == l->logits) continue;
        chunk_type(l, val_type(l->g, l->region->in[k]), l->rows, &flat);
        d->whole[k] = ir_reshape(d->to, l->region->loc, d->map[l->region->in[k]], &flat);
    }
    for (int64_t begin = 0; begin < l->rows; begin += l->chunk)
        build_chunk(d, begin, l->rows - begin < l->chunk ? l->rows - begin : l->chunk);
    for (uint32_t i = 0; i < l->g->nodes.n; i++) {
        const Node *n = &l->g->nodes.at[i];
        for (uint32_t r = 0; l->member[i] && r < n->nout; r++) finish(d, n->out + r, n->loc);
    }
}

/* A copy of the graph with that loss divided; the members come where the region was, or earlier. */
static Graph *without_whole_logits(PassCtx *ctx, const Loss *l) {
    const Graph *g = l->g;
    uint32_t *group = arena_array(ctx->scratch, uint32_t, g->nodes.n), count;
    uint32_t leader = (uint32_t)(l->region - g->nodes.at);
    bool *lazy = arena_array(ctx->scratch, bool, g->nodes.n);
    for (uint32_t i = 0; i < g->nodes.n; i++) group[i] = l->member[i] ? leader : i;
    uint32_t *order = group_order(g, group, g->nodes.n, lazy, ctx->scratch, &count);
    Divide d = {.l = l, .to = pass_begin(g), .map = pass_map(ctx, g)};
    d.pieces = arena_array(ctx->scratch, Pieces, g->values.n);
    for (uint32_t i = 0; i < count; i++) {
        if (order[i] == leader)
            divide(&d, ctx->scratch);
        else
            graph_copy_node(d.to, g, &g->nodes.at[order[i]], d.map);
    }
    return d.to;
}

static Graph *divide_losses(PassCtx *ctx, const Graph *from) {
    int64_t bytes = ctx->options->logits_bytes ? ctx->options->logits_bytes : DEFAULT_BYTES;
    Graph *g = pass_drop_dead(ctx, from);
    for (Loss l = {.g = g}; find_loss(&l, bytes, ctx->scratch); l = (Loss){.g = g}) {
        Graph *to = without_whole_logits(ctx, &l);
        graph_free(g);
        g = to;
    }
    return g;
}

bool pass_fuse_loss(PassCtx *ctx, Module *m) {
    return pass_each_graph(ctx, m, divide_losses);
}
