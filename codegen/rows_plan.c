/* Plans the kernel of a row region: domain, loops, what is kept between them, tiles. No LLVM here. */
#include "rows.h"
#include <string.h>

static bool is_index(const RowPlan *p, Val v) {
    return val_type(p->body, v)->dtype == DT_I32;
}

bool row_is_column(const RowPlan *p, Val v) {
    if (is_index(p, v) || p->n == 1) return false;
    const Type *t = val_type(p->body, v);
    return p->flat ? type_count(t) == p->n : type_cols(t) == p->n;
}

int64_t row_slot_bytes(const RowPlan *p) {
    return (p->n * 4 + 63) / 64 * 64;
}

/* ---- the domain */

static void mark_live(RowPlan *p) {
    for (uint32_t i = p->body->nodes.n; i-- > 0;) {
        const Node *n = &p->body->nodes.at[i];
        if (n->op == OP_arg && n->attrs.index >= p->operands) p->operands = (uint32_t)n->attrs.index + 1;
        if (n->op != OP_yield && !p->live[n->out]) continue;
        for (uint32_t k = 0; k < n->nin; k++) p->live[n->in[k]] = true;
    }
}

/* Does node i compute (or read) something that lies in the domain? */
static bool in_domain(const RowPlan *p, const Node *n) {
    return n->op != OP_yield && n->op != OP_partial_sum && p->live[n->out] && !is_index(p, n->out);
}

static void find_domain(RowPlan *p) {
    Type *d = &p->domain;
    int64_t dim[MAX_RANK] = {1, 1, 1, 1}; /* aligned at the end */
    uint32_t rank = 1;
    for (uint32_t i = 0; i < p->body->nodes.n; i++) {
        const Node *n = &p->body->nodes.at[i];
        if (!in_domain(p, n)) continue;
        const Type *t = val_type(p->body, n->out);
        if (t->rank > rank) rank = t->rank;
        for (uint32_t k = 1; k <= t->rank; k++)
            if (t->dim[t->rank - k] > dim[MAX_RANK - k]) dim[MAX_RANK - k] = t->dim[t->rank - k];
    }
    *d = type_make(DT_F32, rank, dim + MAX_RANK - rank);
    p->rows = type_rows(d);
    p->n = type_cols(d);
}

/* One row of all elements, if no op looks across columns, every value is full or a single number, and every result
 * full: one number might share its buffer with an operand that all tiles read. */
static void find_flat(RowPlan *p) {
    int64_t count = type_count(&p->domain);
    if (count == 1) return;
    for (uint32_t i = 0; i < p->body->nodes.n; i++) {
        const Node *n = &p->body->nodes.at[i];
        for (uint32_t k = 0; n->op == OP_yield && k < n->nin; k++)
            if (type_count(val_type(p->body, n->in[k])) != count) return;
        if (n->op == OP_yield || !p->live[n->out]) continue;
        if (n->op == OP_partial_sum || is_index(p, n->out)) return;
        bool across = (op_info[n->op].flags & (EW | SOURCE)) == 0;
        int64_t size = type_count(val_type(p->body, n->out));
        if ((across && p->n > 1) || (size != count && size != 1)) return;
    }
    p->flat = true;
    p->rows = 1;
    p->n = count;
}

/* ---- loops */

static void at_least(int *x, int y) {
    if (*x < y) *x = y;
}

static bool is_reduction(const RowPlan *p, const Node *n) {
    return !p->flat && (n->op == OP_sum || n->op == OP_max) && row_is_column(p, n->in[0]);
}

static void find_phases(RowPlan *p) {
    int pick = 0;
    for (uint32_t i = 0; i + 1 < p->body->nodes.n; i++) {
        const Node *n = &p->body->nodes.at[i];
        if (!p->live[n->out]) continue;
        int *level = &p->level[n->out];
        for (uint32_t k = 0; k < n->nin; k++) at_least(level, p->level[n->in[k]]);
        if (is_reduction(p, n)) at_least(&p->phases, ++*level);
        if (n->op == OP_pick && row_is_column(p, n->in[0])) at_least(&pick, *level + 1);
        if (n->op == OP_rotate_half) p->halves = 2;
    }
    bool stores = false;
    for (uint32_t k = 0; k < p->yield->nin; k++) {
        Val v = p->yield->in[k];
        if (val_is(p->body, v, OP_partial_sum)) v = val_node(p->body, v)->in[0];
        if (!row_is_column(p, v)) continue;
        stores = true;
        at_least(&p->phases, p->level[v] + 1);
    }
    if (stores) at_least(&p->phases, pick); /* a pick reads operands, so it comes before the stores */
}

/* ---- scratch */

static bool is_expensive(Op op) {
    return op == OP_exp || op == OP_log || op == OP_sigmoid;
}

/* Notes what computing v in loop `phase` takes; seen[] holds the last loop that visited a value. */
static void visit(RowPlan *p, int *seen, Val v, int phase) {
    if (!row_is_column(p, v) || seen[v] == phase) return;
    seen[v] = phase;
    const Node *n = val_node(p->body, v);
    if (is_expensive(n->op)) {
        if (p->kept[v] >= 0) {
            if (p->slot[v] < 0) p->slot[v] = p->slots++;
            return;
        }
        p->kept[v] = phase;
    }
    for (uint32_t k = 0; k < n->nin; k++) visit(p, seen, n->in[k], phase);
}

static void find_slots(RowPlan *p, const Target *target) {
    int *seen = arena_array(p->arena, int, p->body->values.n);
    for (uint32_t i = 0; i < p->body->values.n; i++) seen[i] = p->slot[i] = p->kept[i] = -1;
    if (target->sm) return;
    for (int phase = 0; phase < p->phases; phase++) {
        for (uint32_t i = 0; i + 1 < p->body->nodes.n; i++) {
            const Node *n = &p->body->nodes.at[i];
            if (p->live[n->out] && is_reduction(p, n) && p->level[n->in[0]] == phase)
                visit(p, seen, n->in[0], phase);
        }
        if (phase + 1 < p->phases) continue;
        for (uint32_t k = 0; k < p->yield->nin; k++) {
            Val v = p->yield->in[k];
            visit(p, seen, val_is(p->body, v, OP_partial_sum) ? val_node(p->body, v)->in[0] : v, phase);
        }
    }
}

/* ---- sizes */

/* Several vectors a turn hide latencies, but only as far as registers last. */
static void find_unroll(RowPlan *p, const Target *target) {
    int work = 0;
    for (uint32_t i = 0; i + 1 < p->body->nodes.n; i++) {
        const Node *n = &p->body->nodes.at[i];
        if (in_domain(p, n) && row_is_column(p, n->out)) work += is_expensive(n->op) ? 12 : 1;
    }
    work *= p->halves;
    int unroll = work <= 12 ? 4 : work <= 40 ? 2 : 1;
    int64_t vectors = p->n / p->halves / target->vl;
    p->unroll = vectors < 1 ? 1 : vectors < unroll ? (int)vectors : unroll;
}

#define TILE_ELEMENTS 16384

static void find_tiling(RowPlan *p) {
    for (uint32_t k = 0; k < p->yield->nin; k++) {
        const Node *n = val_node(p->body, p->yield->in[k]);
        if (n->op != OP_partial_sum) continue;
        int64_t here = val_type(p->body, n->out)->dim[0];
        if ((p->parts && here != p->parts) || type_rows(val_type(p->body, n->in[0])) != p->rows)
            ice("row region: partial sums of different parts or rows");
        p->parts = here;
    }
    if (p->flat)
        p->tiling = tiling_of(p->n, TILE_ELEMENTS, 64);
    else if (p->parts)
        p->tiling =
            (Tiling){.count = p->rows, .piece = (p->rows + p->parts - 1) / p->parts, .tiles = (uint32_t)p->parts};
    else
        p->tiling = tiling_of(p->rows, (TILE_ELEMENTS + p->n - 1) / p->n, 1);
}

RowPlan *row_plan(const Graph *body, const Target *target) {
    Arena *arena = arena_new();
    RowPlan *p = arena_array(arena, RowPlan, 1);
    uint32_t values = body->values.n;
    *p = (RowPlan){.arena = arena,
                   .body = body,
                   .yield = &body->nodes.at[body->nodes.n - 1],
                   .halves = 1,
                   .live = arena_array(arena, bool, values),
                   .level = arena_array(arena, int, values),
                   .slot = arena_array(arena, int, values),
                   .kept = arena_array(arena, int, values)};
    mark_live(p);
    find_domain(p);
    find_flat(p);
    find_phases(p);
    find_slots(p, target);
    find_unroll(p, target);
    find_tiling(p);
    return p;
}

void row_plan_free(RowPlan *p) {
    arena_free(p->arena);
}
