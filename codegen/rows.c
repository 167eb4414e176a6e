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
 * share its buffer with an operand. Expressions are emitted on demand from the results down; a turn
 * remembers what it has computed. */
#include "rows.h"

#define MAX_VECTORS 8 /* of a turn: unroll <= 4, in two halves */

typedef struct Rows {
    Gen *g;
    const RowPlan *plan;
    Arena *arena;
    LLVMValueRef *buffer; /* of the operands, then of the results */
    LLVMValueRef row;     /* index of the current row */
    int phase;            /* the loop being emitted */
    /* by value of the body */
    LLVMValueRef *base;   /* of column arguments: address of the current row */
    LLVMValueRef *scalar; /* scalars known so far, else NULL */
    LLVMValueRef *sums;   /* of reductions: `unroll` accumulators each */
} Rows;

/* Columns at which values are computed: a vector in a loop, or a single column. */
typedef struct Site {
    Lanes at;
    bool single;
    LLVMValueRef lower;   /* i1: in the first half of the row? */
    struct Site *partner; /* the same columns of the other half, if the region has a rotate_half */
    LLVMValueRef *memo;   /* by value: what was computed here */
} Site;

static int lanes_at(const Rows *r, const Site *s) {
    return s->single ? 1 : r->g->target->vl;
}

static Site *new_site(Rows *r, Lanes at, bool single, LLVMValueRef lower) {
    Site *s = arena_array(r->arena, Site, 1);
    *s = (Site){.at = at, .single = single, .lower = lower};
    s->memo = arena_array(r->arena, LLVMValueRef, r->plan->body->values.n);
    return s;
}

static void make_partners(Site *a, Site *b) {
    a->partner = b;
    b->partner = a;
}

/* ---- expressions */

static LLVMValueRef element_wise(Gen *g, const Node *n, LLVMValueRef a, LLVMValueRef b) {
    LLVMTypeRef type = LLVMTypeOf(a);
    int lanes = LLVMGetTypeKind(type) == LLVMVectorTypeKind ? (int)LLVMGetVectorSize(type) : 1;
    LLVMValueRef c = gen_splat(g, gen_f32(g, n->attrs.c), lanes);
    switch (n->op) {
    case OP_add:
        return LLVMBuildFAdd(g->b, a, b, "");
    case OP_sub:
        return LLVMBuildFSub(g->b, a, b, "");
    case OP_mul:
        return LLVMBuildFMul(g->b, a, b, "");
    case OP_div:
        return LLVMBuildFDiv(g->b, a, b, "");
    case OP_neg:
        return LLVMBuildFNeg(g->b, a, "");
    case OP_scale:
        return LLVMBuildFMul(g->b, a, c, "");
    case OP_offset:
        return LLVMBuildFAdd(g->b, a, c, "");
    case OP_exp:
        return gen_exp(g, a);
    case OP_log:
        return gen_log(g, a);
    case OP_rsqrt:
        return gen_rsqrt(g, a);
    case OP_sigmoid:
        return gen_sigmoid(g, a);
    case OP_stop:
    case OP_broadcast:
    case OP_sum: /* of one element, like the next two */
    case OP_max:
    case OP_pick:
        return a;
    default:
        ice("row region: no rule for %s", op_info[n->op].name);
    }
}

/* 1 where the column is the row's index, else 0. */
static LLVMValueRef one_hot(Rows *r, LLVMValueRef index, LLVMValueRef first_column, int lanes) {
    Gen *g = r->g;
    LLVMValueRef column = gen_splat(g, LLVMBuildTrunc(g->b, first_column, g->i32, ""), lanes);
    column = gen_add(g, column, gen_iota(g, g->i32, lanes));
    LLVMValueRef hit = LLVMBuildICmp(g->b, LLVMIntEQ, column, gen_splat(g, index, lanes), "");
    return LLVMBuildUIToFP(g->b, hit, gen_vec(g, g->f32, lanes), "");
}

static LLVMValueRef load_at(Rows *r, const Site *s, LLVMValueRef base) {
    Gen *g = r->g;
    return s->single ? gen_load(g, g->f32, gen_at(g, g->f32, base, s->at.col)) : lanes_load(g, base, &s->at);
}

static LLVMValueRef slot_of(Rows *r, Val v) {
    return gen_at(r->g, r->g->i8, r->g->scratch, gen_i64(r->g, r->plan->slot[v] * row_slot_bytes(r->plan)));
}

static LLVMValueRef value_at(Rows *r, Site *s, Val v);

static LLVMValueRef compute_at(Rows *r, Site *s, Val v) {
    Gen *g = r->g;
    const Node *n = val_node(r->plan->body, v);
    switch (n->op) {
    case OP_arg:
        return load_at(r, s, r->base[v]);
    case OP_splat:
        return gen_splat(g, gen_f32(g, n->attrs.c), lanes_at(r, s));
    case OP_onehot:
        return one_hot(r, r->scalar[n->in[0]], s->at.col, lanes_at(r, s));
    case OP_rotate_half: {
        LLVMValueRef x = value_at(r, s->partner, n->in[0]);
        return LLVMBuildSelect(g->b, s->lower, LLVMBuildFNeg(g->b, x, ""), x, "");
    }
    default:
        break;
    }
    LLVMValueRef a = value_at(r, s, n->in[0]);
    return element_wise(g, n, a, n->nin > 1 ? value_at(r, s, n->in[1]) : a);
}

/* Value v at the columns of s. */
static LLVMValueRef value_at(Rows *r, Site *s, Val v) {
    const RowPlan *p = r->plan;
    if (!row_is_column(p, v)) return gen_splat(r->g, r->scalar[v], lanes_at(r, s));
    if (s->memo[v]) return s->memo[v];
    bool keep = p->slot[v] >= 0 && !s->single;
    if (keep && p->kept[v] < r->phase) return s->memo[v] = load_at(r, s, slot_of(r, v));
    s->memo[v] = compute_at(r, s, v);
    if (keep) lanes_store(r->g, s->memo[v], slot_of(r, v), &s->at);
    return s->memo[v];
}

/* Value v of the row at one column, an i32. */
static LLVMValueRef value_at_index(Rows *r, Val v, LLVMValueRef index) {
    Gen *g = r->g;
    LLVMValueRef col = LLVMBuildSExt(g->b, index, g->i64, ""), half = gen_i64(g, r->plan->n / 2);
    LLVMValueRef lower = LLVMBuildICmp(g->b, LLVMIntSLT, col, half, "");
    Site *s = new_site(r, (Lanes){.col = col}, true, lower);
    LLVMValueRef other = LLVMBuildSelect(g->b, lower, gen_add(g, col, half), gen_sub(g, col, half), "");
    make_partners(s, new_site(r, (Lanes){.col = other}, true, LLVMBuildNot(g->b, lower, "")));
    return value_at(r, s, v);
}

/* ---- addresses */

/* Elements before the current row in an array of type t, which may be broadcast over some of the domain's
 * leading dims. Neighbouring dims that are all there count as one, so that few divisions are needed. */
static LLVMValueRef row_offset(Rows *r, const Type *t) {
    Gen *g = r->g;
    const Type *d = &r->plan->domain;
    LLVMValueRef offset = gen_i64(g, 0);
    int64_t inside = 1, stride = type_cols(t); /* rows of the domain, elements of the array, per index */
    if (r->plan->flat) return offset;
    for (uint32_t k = 2; k <= d->rank;) {
        int64_t first = inside, extent = 1;
        bool present = k <= t->rank && t->dim[t->rank - k] == d->dim[d->rank - k];
        for (; k <= d->rank; k++) {
            bool here = k <= t->rank && t->dim[t->rank - k] == d->dim[d->rank - k];
            if (here != present && d->dim[d->rank - k] > 1) break;
            extent *= d->dim[d->rank - k];
        }
        inside *= extent;
        if (!present) continue;
        LLVMValueRef i = first > 1 ? gen_div(g, r->row, first) : r->row;
        if (inside < r->plan->rows) i = gen_mod(g, i, extent);
        offset = gen_add(g, offset, gen_mul(g, i, stride));
        stride *= extent;
    }
    return offset;
}

static LLVMValueRef row_address(Rows *r, unsigned buffer, const Type *t) {
    return gen_at(r->g, r->g->f32, r->buffer[buffer], row_offset(r, t));
}

static LLVMValueRef load_argument(Rows *r, Val v) {
    const Node *n = val_node(r->plan->body, v);
    const Type *t = val_type(r->plan->body, v);
    unsigned buffer = (unsigned)n->attrs.index;
    if (t->dtype == DT_F32) return gen_load(r->g, r->g->f32, row_address(r, buffer, t));
    if (type_count(t) != r->plan->rows) ice("row region: indices for other rows");
    return gen_load(r->g, r->g->i32, gen_at(r->g, r->g->i32, r->buffer[buffer], r->row));
}

/* ---- reductions */

static bool reduces_column(const Rows *r, const Node *n) {
    return !r->plan->flat && (n->op == OP_sum || n->op == OP_max) && row_is_column(r->plan, n->in[0]);
}

/* The reductions of the current loop, one after the other from *i on; NULL at the end. */
static const Node *next_reduction(const Rows *r, uint32_t *i) {
    const Graph *body = r->plan->body;
    while (*i + 1 < body->nodes.n) {
        const Node *n = &body->nodes.at[(*i)++];
        if (r->plan->live[n->out] && reduces_column(r, n) && r->plan->level[n->in[0]] == r->phase) return n;
    }
    return NULL;
}

static LLVMValueRef *sums_of(Rows *r, const Node *n) {
    return &r->sums[n->out * (uint32_t)r->plan->unroll];
}

static void begin_reductions(Rows *r) {
    Gen *g = r->g;
    LLVMTypeRef type = gen_vec(g, g->f32, g->target->vl);
    uint32_t i = 0;
    for (const Node *n; (n = next_reduction(r, &i));) {
        LLVMValueRef start = gen_f32(g, n->op == OP_sum ? 0 : -__builtin_inf());
        for (int u = 0; u < r->plan->unroll; u++) {
            sums_of(r, n)[u] = gen_alloca(g, type, "sum");
            gen_store(g, gen_splat(g, start, g->target->vl), sums_of(r, n)[u]);
        }
    }
}

/* Takes the columns of s into the accumulator. A sum of products is one chain of fused multiply-adds. */
static void reduce(Rows *r, Site *s, const Node *n, LLVMValueRef accumulator) {
    Gen *g = r->g;
    const Node *x = val_node(r->plan->body, n->in[0]);
    LLVMValueRef old = gen_load(g, gen_vec(g, g->f32, g->target->vl), accumulator), sum;
    if (n->op == OP_max)
        sum = gen_fmax(g, old, value_at(r, s, n->in[0]));
    else if (x->op == OP_mul)
        sum = gen_fma(g, value_at(r, s, x->in[0]), value_at(r, s, x->in[1]), old);
    else
        sum = LLVMBuildFAdd(g->b, old, value_at(r, s, n->in[0]), "");
    if (s->at.mask) sum = LLVMBuildSelect(g->b, s->at.mask, sum, old, "");
    gen_store(g, sum, accumulator);
}

static LLVMValueRef finish_reduction(Rows *r, const Node *n) {
    Gen *g = r->g;
    LLVMValueRef v[4];
    int count = r->plan->unroll;
    for (int u = 0; u < count; u++) v[u] = gen_load(g, gen_vec(g, g->f32, g->target->vl), sums_of(r, n)[u]);
    for (int step = 1; step < count; step *= 2)
        for (int u = 0; u + step < count; u += 2 * step)
            v[u] =
                n->op == OP_max ? gen_fmax(g, v[u], v[u + step]) : LLVMBuildFAdd(g->b, v[u], v[u + step], "");
    return n->op == OP_max ? gen_reduce_max(g, v[0]) : gen_reduce_add(g, v[0]);
}

/* ---- scalars */

static LLVMValueRef compute_scalar(Rows *r, Val v) {
    const Node *n = val_node(r->plan->body, v);
    if (reduces_column(r, n)) return finish_reduction(r, n);
    switch (n->op) {
    case OP_arg:
        return load_argument(r, v);
    case OP_splat:
        return gen_f32(r->g, n->attrs.c);
    case OP_onehot:
        return one_hot(r, r->scalar[n->in[0]], gen_i64(r->g, 0), 1);
    case OP_pick:
        if (row_is_column(r->plan, n->in[0])) return value_at_index(r, n->in[0], r->scalar[n->in[1]]);
        break;
    default:
        break;
    }
    return element_wise(r->g, n, r->scalar[n->in[0]], n->nin > 1 ? r->scalar[n->in[1]] : NULL);
}

/* Computes the scalars that can be known before loop r->phase. */
static void scalars(Rows *r) {
    const Graph *body = r->plan->body;
    for (uint32_t i = 0; i + 1 < body->nodes.n; i++) {
        const Node *n = &body->nodes.at[i];
        Val v = n->out;
        if (!r->plan->live[v] || r->scalar[v] || n->op == OP_partial_sum) continue;
        if (!row_is_column(r->plan, v) && r->plan->level[v] <= r->phase) r->scalar[v] = compute_scalar(r, v);
    }
}

/* ---- results */

/* What result k is the sum of over the rows of a tile, else the result itself. */
static Val summand(const Rows *r, uint32_t k, bool *summed) {
    const Node *n = val_node(r->plan->body, r->plan->yield->in[k]);
    *summed = n->op == OP_partial_sum;
    return *summed ? n->in[0] : r->plan->yield->in[k];
}

/* Where result k of the current row (or, summed, of the tile) goes. */
static LLVMValueRef result_address(Rows *r, uint32_t k, bool summed) {
    unsigned buffer = r->plan->operands + k;
    const Type *t = val_type(r->plan->body, r->plan->yield->in[k]);
    if (!summed) return row_address(r, buffer, t);
    return gen_at(r->g, r->g->f32, r->buffer[buffer], gen_mul(r->g, r->g->tile, type_cols(t)));
}

static void column_result(Rows *r, Site *const *sites, int count, uint32_t k) {
    bool summed;
    Val v = summand(r, k, &summed);
    LLVMValueRef base = result_address(r, k, summed);
    for (int i = 0; i < count; i++) {
        LLVMValueRef x = value_at(r, sites[i], v);
        if (summed) x = LLVMBuildFAdd(r->g->b, lanes_load(r->g, base, &sites[i]->at), x, "");
        lanes_store(r->g, x, base, &sites[i]->at);
    }
}

static void scalar_results(Rows *r) {
    for (uint32_t k = 0; k < r->plan->yield->nin; k++) {
        bool summed;
        Val v = summand(r, k, &summed);
        if (row_is_column(r->plan, v)) continue;
        LLVMValueRef x = r->scalar[v], at = result_address(r, k, summed);
        if (summed) x = LLVMBuildFAdd(r->g->b, gen_load(r->g, r->g->f32, at), x, "");
        gen_store(r->g, x, at);
    }
}

static void clear_partial_sums(Rows *r) {
    for (uint32_t k = 0; k < r->plan->yield->nin; k++) {
        bool summed;
        summand(r, k, &summed);
        if (!summed) continue;
        int64_t cols = type_cols(val_type(r->plan->body, r->plan->yield->in[k]));
        gen_zero(r->g, result_address(r, k, true), gen_i64(r->g, cols * 4));
    }
}

/* ---- loops */

/* One turn of the current loop, on `count` vectors (in each half). */
static void turn(Gen *g, void *context, const Lanes *at, int count) {
    Rows *r = context;
    const RowPlan *p = r->plan;
    Site *sites[MAX_VECTORS];
    for (int u = 0; u < count; u++) {
        sites[u] = new_site(r, at[u], false, LLVMConstInt(g->i1, 1, false));
        if (p->halves == 1) continue;
        Lanes upper = {gen_add(g, at[u].col, gen_i64(g, p->n / 2)), at[u].mask};
        sites[u + count] = new_site(r, upper, false, LLVMConstInt(g->i1, 0, false));
        make_partners(sites[u], sites[u + count]);
    }
    int all = count * p->halves;
    uint32_t i = 0;
    for (const Node *n; (n = next_reduction(r, &i));)
        for (int j = 0; j < all; j++) reduce(r, sites[j], n, sums_of(r, n)[j % count]);
    if (r->phase + 1 < p->phases) return;
    bool summed;
    for (uint32_t k = 0; k < p->yield->nin; k++) /* all values first: a store may hit an operand */
        for (int j = 0; j < all && row_is_column(p, summand(r, k, &summed)); j++)
            value_at(r, sites[j], summand(r, k, &summed));
    for (uint32_t k = 0; k < p->yield->nin; k++)
        if (row_is_column(p, summand(r, k, &summed))) column_result(r, sites, all, k);
}

static void emit_row(Rows *r, LLVMValueRef first_column, LLVMValueRef columns) {
    const Graph *body = r->plan->body;
    for (uint32_t i = 0; i + 1 < body->nodes.n; i++) {
        const Node *n = &body->nodes.at[i];
        if (n->op == OP_arg && r->plan->live[n->out] && row_is_column(r->plan, n->out))
            r->base[n->out] = row_address(r, (unsigned)n->attrs.index, val_type(body, n->out));
    }
    for (r->phase = 0; r->phase < r->plan->phases; r->phase++) {
        scalars(r);
        begin_reductions(r);
        gen_lanes(r->g, first_column, columns, r->plan->unroll, turn, r);
    }
    scalars(r);
    scalar_results(r);
}

void gen_rows(Gen *g, const char *name, const RowsDesc *d) {
    RowPlan *p = row_plan(d->body, g->target);
    uint32_t values = d->body->values.n, buffers = p->operands + p->yield->nin;
    Rows r = {.g = g, .plan = p, .arena = p->arena};
    r.buffer = arena_array(p->arena, LLVMValueRef, buffers);
    r.base = arena_array(p->arena, LLVMValueRef, values);
    r.scalar = arena_array(p->arena, LLVMValueRef, values);
    r.sums = arena_array(p->arena, LLVMValueRef, values * (uint32_t)p->unroll);
    gen_kernel(g, name);
    for (uint32_t i = 0; i < buffers; i++) r.buffer[i] = gen_buffer(g, i);
    LLVMValueRef lo, n;
    gen_piece(g, &p->tiling, &lo, &n);
    if (p->flat) {
        r.row = gen_i64(g, 0);
        emit_row(&r, lo, n);
    } else {
        clear_partial_sums(&r);
        Loop rows = gen_loop(g, lo, gen_add(g, lo, n), 1, "row");
        r.row = rows.i;
        emit_row(&r, gen_i64(g, 0), gen_i64(g, p->n / p->halves));
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
