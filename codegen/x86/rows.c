/* The kernel of a row region, generated from the region's body.
 *
 *     for each row of the tile:
 *         for each loop of the plan (rows_plan.c):
 *             scalars of the row that are known by now
 *             for columns, a few vectors at a time: what the sums and maxima of this loop need;
 *                                                   in the last loop also the results
 *         scalars that come from the last loop, and results that are scalars
 *
 * Within one turn of a loop everything is loaded and computed before anything is stored, as a result may
 * share its buffer with an operand. */
#include "../rows_values.h"

#define MAX_VECTORS 8 /* of a turn: unroll <= 4, in two halves */

typedef struct Walk {
    Rows r;
    LLVMValueRef *sums; /* of reductions, by value: `unroll` accumulators each */
} Walk;

/* ---- reductions */

static LLVMValueRef *sums_of(Walk *w, const Node *n) {
    return &w->sums[n->out * (uint32_t)w->r.plan->unroll];
}

static void begin_reductions(Walk *w) {
    Gen *g = w->r.g;
    LLVMTypeRef type = gen_vec(g, g->f32, g->target->vl);
    uint32_t i = 0;
    for (const Node *n; (n = rows_next_reduction(&w->r, &i));) {
        for (int u = 0; u < w->r.plan->unroll; u++) {
            sums_of(w, n)[u] = gen_alloca(g, type, "sum");
            gen_store(g, gen_splat(g, rows_identity(&w->r, n), g->target->vl), sums_of(w, n)[u]);
        }
    }
}

/* Takes the columns of s into the accumulator. */
static void reduce(Walk *w, Site *s, const Node *n, LLVMValueRef accumulator) {
    Gen *g = w->r.g;
    LLVMValueRef old = gen_load(g, gen_vec(g, g->f32, g->target->vl), accumulator);
    gen_store(g, rows_reduce(&w->r, s, n, old), accumulator);
}

static void end_reductions(Walk *w) {
    Gen *g = w->r.g;
    int count = w->r.plan->unroll;
    uint32_t i = 0;
    for (const Node *n; (n = rows_next_reduction(&w->r, &i));) {
        LLVMValueRef v[4];
        for (int u = 0; u < count; u++)
            v[u] = gen_load(g, gen_vec(g, g->f32, g->target->vl), sums_of(w, n)[u]);
        for (int step = 1; step < count; step *= 2)
            for (int u = 0; u + step < count; u += 2 * step)
                v[u] = n->op == OP_max ? gen_fmax(g, v[u], v[u + step])
                                       : LLVMBuildFAdd(g->b, v[u], v[u + step], "");
        w->r.scalar[n->out] = n->op == OP_max ? gen_reduce_max(g, v[0]) : gen_reduce_add(g, v[0]);
    }
}

/* ---- results */

static void column_result(Rows *r, Site *const *sites, int count, uint32_t k) {
    bool summed;
    Val v = rows_summand(r, k, &summed);
    LLVMValueRef base = rows_result_address(r, k, summed);
    for (int i = 0; i < count; i++) {
        LLVMValueRef x = rows_value(r, sites[i], v);
        if (summed) x = LLVMBuildFAdd(r->g->b, rows_load(r, sites[i], base, DT_F32), x, "");
        rows_store(r, x, sites[i], base, rows_result_dtype(r, k));
    }
}

static void scalar_results(Rows *r) {
    for (uint32_t k = 0; k < r->plan->yield->nin; k++) {
        bool summed;
        Val v = rows_summand(r, k, &summed);
        if (row_is_column(r->plan, v)) continue;
        LLVMValueRef x = r->scalar[v], at = rows_result_address(r, k, summed);
        if (summed) x = LLVMBuildFAdd(r->g->b, gen_load(r->g, r->g->f32, at), x, "");
        rows_store_scalar(r, x, k, at);
    }
}

static void clear_partial_sums(Rows *r) {
    for (uint32_t k = 0; k < r->plan->yield->nin; k++) {
        bool summed;
        rows_summand(r, k, &summed);
        if (!summed) continue;
        int64_t cols = type_cols(val_type(r->plan->body, r->plan->yield->in[k]));
        gen_zero(r->g, rows_result_address(r, k, true), gen_i64(r->g, cols * 4));
    }
}

/* ---- loops */

/* One turn of the current loop, on `count` vectors (in each half). */
static void turn(Gen *g, void *context, const Lanes *at, int count) {
    Walk *w = context;
    Rows *r = &w->r;
    const RowPlan *p = r->plan;
    Site *sites[MAX_VECTORS];
    for (int u = 0; u < count; u++) {
        sites[u] = rows_site(r, at[u], g->target->vl, 4);
        if (p->halves == 1) continue;
        Lanes upper = {gen_add(g, at[u].col, gen_i64(g, p->n / 2)), at[u].mask};
        sites[u + count] = rows_site(r, upper, g->target->vl, 4);
        rows_pair(r, sites[u], sites[u + count], LLVMConstInt(g->i1, 1, false));
    }
    int all = count * p->halves;
    uint32_t i = 0;
    for (const Node *n; (n = rows_next_reduction(r, &i));)
        for (int j = 0; j < all; j++) reduce(w, sites[j], n, sums_of(w, n)[j % count]);
    if (r->phase + 1 < p->phases) return;
    bool summed;
    for (uint32_t k = 0; k < p->yield->nin; k++) /* all values first: a store may hit an operand */
        for (int j = 0; j < all && row_is_column(p, rows_summand(r, k, &summed)); j++)
            rows_value(r, sites[j], rows_summand(r, k, &summed));
    for (uint32_t k = 0; k < p->yield->nin; k++)
        if (row_is_column(p, rows_summand(r, k, &summed))) column_result(r, sites, all, k);
}

static void emit_row(Walk *w, LLVMValueRef row, LLVMValueRef first_column, LLVMValueRef columns) {
    Rows *r = &w->r;
    rows_set_row(r, row);
    for (r->phase = 0; r->phase < r->plan->phases; r->phase++) {
        rows_scalars(r);
        begin_reductions(w);
        gen_lanes(r->g, first_column, columns, r->plan->unroll, turn, w);
        end_reductions(w);
    }
    rows_scalars(r);
    scalar_results(r);
}

void gen_rows(Gen *g, const char *name, const RowsDesc *d) {
    RowPlan *p = row_plan(d->body, g->target);
    gen_kernel(g, name);
    Walk w = {.r = rows_begin(g, p)};
    w.sums = arena_array(p->arena, LLVMValueRef, d->body->values.n * (uint32_t)p->unroll);
    LLVMValueRef lo, n;
    gen_piece(g, &p->tiling, &lo, &n);
    if (p->flat) {
        emit_row(&w, gen_i64(g, 0), lo, n);
    } else {
        clear_partial_sums(&w.r);
        Loop rows = gen_loop(g, lo, gen_add(g, lo, n), 1, "row");
        emit_row(&w, rows.i, gen_i64(g, 0), gen_i64(g, p->n / p->halves));
        gen_loop_end(g, &rows);
    }
    gen_end(g);
    row_plan_free(p);
}

uint32_t rows_tiles(const RowsDesc *d, const Target *target) {
    RowPlan *p = row_plan(d->body, target);
    uint32_t tiles = p->tiling.tiles;
    row_plan_free(p);
    return tiles;
}

uint64_t rows_scratch(const RowsDesc *d, const Target *target) {
    RowPlan *p = row_plan(d->body, target);
    uint64_t bytes = (uint64_t)p->slots * (uint64_t)row_slot_bytes(p);
    row_plan_free(p);
    return bytes;
}
