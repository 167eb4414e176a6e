/* The kernel of a row region on a GPU.
 *
 * A row belongs to a group of threads, a power of two that suits its length; a block is one or more groups.
 * Each thread has a few vectors of the row's columns, `width` (1, 2 or 4) columns each:
 *
 *     vector u of member m of the group: columns (u*members + m) * width ..
 *
 * Rows of up to some thousand columns are worked on straight through: a thread holds its vectors in registers
 * from loop to loop of the plan (rows_plan.c). Longer rows are walked in real loops, and loaded again in
 * each. Sums and maxima are folded over the group.
 *
 * Members that have no columns left work on zeros and store nothing, so that all come to the barriers.
 * Partial sums: a block has the rows of one part, its groups take them in turn, and at the end the groups'
 * sums are added. */
#include "../rows_values.h"
#include "nv.h"

enum {
    MAX_VECTORS = 8,  /* of a thread, in each half */
    MAX_NUMBERS = 96, /* f32 of a thread in registers, about */
    MAX_MEMBERS = 512 /* threads of a group */
};

/* How rows are shared out. vectors 0: the row is walked in loops. */
typedef struct Shape {
    int width, vectors;
    int64_t half; /* columns in each half */
    uint32_t members, groups, threads, blocks;
} Shape;

static uint32_t ceil_div(int64_t a, int64_t b) {
    return (uint32_t)((a + b - 1) / b);
}

/* Columns that a thread must hold at once: operands and results. */
static int columns_held(const RowPlan *p) {
    int held = 0;
    for (uint32_t i = 0; i + 1 < p->body->nodes.n; i++) {
        const Node *n = &p->body->nodes.at[i];
        held += n->op == OP_arg && p->live[n->out] && row_is_column(p, n->out);
    }
    for (uint32_t k = 0; k < p->yield->nin; k++)
        held += type_cols(val_type(p->body, p->yield->in[k])) == p->n;
    return held;
}

static Shape shape_of(const RowPlan *p) {
    Shape s = {.half = p->n / p->halves};
    if (p->flat) {
        s.threads = NV_ELEMENT_THREADS;
        s.blocks = nv_element_blocks(p->n);
        return s;
    }
    s.width = s.half % 4 == 0 ? 4 : s.half % 2 == 0 ? 2 : 1;
    int64_t columns = s.half / s.width; /* vectors of them */
    int numbers = columns_held(p) * s.width * p->halves;
    s.members = 1;
    while (s.members < 256 && s.members * 2 < columns) s.members *= 2;
    while (s.members < MAX_MEMBERS && s.members < columns &&
           ceil_div(columns, s.members) * (uint32_t)numbers > MAX_NUMBERS)
        s.members *= 2;
    uint32_t vectors = ceil_div(columns, s.members);
    bool fits = vectors == 1 || (vectors <= MAX_VECTORS && vectors * (uint32_t)numbers <= MAX_NUMBERS);
    s.vectors = fits ? (int)vectors : 0;
    int64_t rows = p->parts ? p->tiling.piece : p->rows;
    uint32_t wanted = p->parts ? 512 : 128; /* threads */
    s.groups = 1;
    while (fits && s.groups * 2 <= rows && s.groups * 2 * s.members <= wanted) s.groups *= 2;
    while (s.groups * s.members < NV_WARP) s.groups *= 2;
    s.threads = s.groups * s.members;
    s.blocks = p->parts ? (uint32_t)p->parts : ceil_div(p->rows, s.groups);
    return s;
}

typedef struct Walk {
    Rows r;
    Shape shape;
    NvGroup group;
    LLVMValueRef *sums;    /* accumulators of reductions, by value */
    LLVMValueRef *partial; /* of summed results, by result: one for each of MAX_VECTORS in each half */
    LLVMValueRef exchange; /* shared memory: a vector of each thread */
    bool exchanged;        /* it has been used */
} Walk;

/* Vectors of this thread at the same place in each half. inside: do they exist? NULL: yes. */
typedef struct Place {
    Site *site[2];
    LLVMValueRef inside;
} Place;

static Place place_at(Walk *w, LLVMValueRef col, LLVMValueRef inside) {
    Gen *g = w->r.g;
    unsigned align = (unsigned)w->shape.width * 4;
    Place place = {.inside = inside};
    place.site[0] = rows_site(&w->r, (Lanes){.col = col}, w->shape.width, align);
    place.site[0]->there = inside;
    if (w->r.plan->halves == 1) return place;
    place.site[1] =
        rows_site(&w->r, (Lanes){.col = gen_add(g, col, gen_i64(g, w->shape.half))}, w->shape.width, align);
    place.site[1]->there = inside;
    rows_pair(&w->r, place.site[0], place.site[1], LLVMConstInt(g->i1, 1, false));
    return place;
}

/* Vector u of the thread. */
static Place vector_place(Walk *w, int u) {
    Gen *g = w->r.g;
    const Shape *s = &w->shape;
    int64_t first = (int64_t)u * s->members * s->width;
    LLVMValueRef col = gen_add(g, gen_i64(g, first), gen_mul(g, w->group.member, s->width));
    if (first + (int64_t)s->members * s->width <= s->half) return place_at(w, col, NULL);
    return place_at(w, col, gen_less(g, col, gen_i64(g, s->half)));
}

/* NULL counts as true. */
static LLVMValueRef both(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    return !a ? b : !b ? a : LLVMBuildAnd(g->b, a, b, "");
}

static If if_there(Gen *g, LLVMValueRef condition) {
    return gen_if(g, condition ? condition : LLVMConstInt(g->i1, 1, false));
}

static LLVMValueRef is_first_member(const Walk *w) {
    Gen *g = w->r.g;
    return w->group.width == 1 ? NULL : LLVMBuildICmp(g->b, LLVMIntEQ, w->group.member, gen_i64(g, 0), "");
}

/* ---- reductions of the current loop */

static LLVMTypeRef vector_type(const Walk *w) {
    return gen_vec(w->r.g, w->r.g->f32, w->shape.width);
}

static void begin_reductions(Walk *w) {
    Gen *g = w->r.g;
    uint32_t i = 0;
    for (const Node *n; (n = rows_next_reduction(&w->r, &i));) {
        w->sums[n->out] = gen_alloca(g, vector_type(w), "sum");
        gen_store(g, gen_splat(g, rows_identity(&w->r, n), w->shape.width), w->sums[n->out]);
    }
}

static void reduce(Walk *w, const Place *place) {
    Gen *g = w->r.g;
    uint32_t i = 0;
    for (const Node *n; (n = rows_next_reduction(&w->r, &i));)
        for (int h = 0; h < w->r.plan->halves; h++) {
            LLVMValueRef old = gen_load(g, vector_type(w), w->sums[n->out]);
            LLVMValueRef sum = rows_reduce(&w->r, place->site[h], n, old);
            if (place->inside) sum = LLVMBuildSelect(g->b, place->inside, sum, old, "");
            gen_store(g, sum, w->sums[n->out]);
        }
}

static void end_reductions(Walk *w) {
    Gen *g = w->r.g;
    uint32_t values = w->r.plan->body->values.n, i = 0;
    unsigned count = 0;
    LLVMValueRef *value = arena_array(w->r.plan->arena, LLVMValueRef, values);
    NvFold *fold = arena_array(w->r.plan->arena, NvFold, values);
    for (const Node *n; (n = rows_next_reduction(&w->r, &i)); count++) {
        LLVMValueRef x = gen_load(g, vector_type(w), w->sums[n->out]);
        fold[count] = n->op == OP_max ? NV_MAX : NV_ADD;
        value[count] = n->op == OP_max ? gen_reduce_max(g, x) : gen_reduce_add(g, x);
    }
    nv_group_fold(g, &w->group, fold, value, count);
    i = count = 0;
    for (const Node *n; (n = rows_next_reduction(&w->r, &i));) w->r.scalar[n->out] = value[count++];
}

/* ---- results */

static bool is_column_result(const Walk *w, uint32_t k, Val *v, bool *summed) {
    *v = rows_summand(&w->r, k, summed);
    return row_is_column(w->r.plan, *v);
}

/* Where a sum over the rows of a part stands: in registers, or (rows in loops) in the result itself. */
static LLVMValueRef *partial_of(Walk *w, uint32_t k, int vector, int half) {
    return &w->partial[((int)k * MAX_VECTORS + vector) * 2 + half];
}

static void add_to_part(Walk *w, uint32_t k, Val v, const Place *place, int vector) {
    Gen *g = w->r.g;
    for (int h = 0; h < w->r.plan->halves; h++) {
        LLVMValueRef sum = *partial_of(w, k, vector, h), old = gen_load(g, vector_type(w), sum);
        gen_store(g, LLVMBuildFAdd(g->b, old, rows_value(&w->r, place->site[h], v), ""), sum);
    }
}

/* Stores the results at one place; in the last loop. */
static void column_results(Walk *w, const Place *place, int vector) {
    Rows *r = &w->r;
    uint32_t results = r->plan->yield->nin;
    bool summed;
    Val v;
    for (uint32_t k = 0; k < results; k++) { /* all values first: a store may hit an operand */
        if (!is_column_result(w, k, &v, &summed)) continue;
        for (int h = 0; h < r->plan->halves; h++) rows_value(r, place->site[h], v);
    }
    If there = if_there(r->g, place->inside);
    for (uint32_t k = 0; k < results; k++) {
        if (!is_column_result(w, k, &v, &summed) || (summed && w->shape.vectors)) continue;
        LLVMValueRef base = rows_result_address(r, k, summed);
        for (int h = 0; h < r->plan->halves; h++) {
            LLVMValueRef x = rows_value(r, place->site[h], v);
            if (summed) x = LLVMBuildFAdd(r->g->b, rows_load(r, place->site[h], base, DT_F32), x, "");
            rows_store(r, x, place->site[h], base, rows_result_dtype(r, k));
        }
    }
    gen_if_end(r->g, &there);
    for (uint32_t k = 0; w->shape.vectors && k < results; k++)
        if (is_column_result(w, k, &v, &summed) && summed) add_to_part(w, k, v, place, vector);
}

static void scalar_results(Walk *w) {
    Gen *g = w->r.g;
    bool summed;
    Val v;
    If there = if_there(g, is_first_member(w));
    for (uint32_t k = 0; k < w->r.plan->yield->nin; k++) {
        if (is_column_result(w, k, &v, &summed)) continue;
        LLVMValueRef x = w->r.scalar[v];
        LLVMValueRef at = summed ? *partial_of(w, k, 0, 0) : rows_result_address(&w->r, k, false);
        if (summed) x = LLVMBuildFAdd(g->b, gen_load(g, g->f32, at), x, "");
        rows_store_scalar(&w->r, x, k, at);
    }
    gen_if_end(g, &there);
}

static bool has_pick(const RowPlan *p) {
    for (uint32_t i = 0; i + 1 < p->body->nodes.n; i++) {
        const Node *n = &p->body->nodes.at[i];
        if (n->op == OP_pick && p->live[n->out] && row_is_column(p, n->in[0])) return true;
    }
    return false;
}

/* May a result, of columns or of scalars, lie where an operand is? Those of one type share memory. */
static bool overwrites_operand(const Walk *w, bool columns) {
    const RowPlan *p = w->r.plan;
    bool summed;
    Val v;
    for (uint32_t k = 0; k < p->yield->nin; k++) {
        if (is_column_result(w, k, &v, &summed) != columns || summed) continue;
        for (uint32_t i = 0; i + 1 < p->body->nodes.n; i++) {
            const Node *n = &p->body->nodes.at[i];
            if (n->op == OP_arg && type_equal(val_type(p->body, n->out), val_type(p->body, v))) return true;
        }
    }
    return false;
}

static bool has_scalar_result(const Walk *w) {
    bool summed;
    Val v;
    for (uint32_t k = 0; k < w->r.plan->yield->nin; k++)
        if (!is_column_result(w, k, &v, &summed)) return true;
    return false;
}

/* ---- a row */

static void visit(Walk *w, const Place *place, int vector) {
    reduce(w, place);
    if (w->r.phase + 1 == w->r.plan->phases) column_results(w, place, vector);
}

/* The current loop over vectors that are not held. */
static void walk_columns(Walk *w) {
    Gen *g = w->r.g;
    const Shape *s = &w->shape;
    Loop col = gen_loop(g, gen_mul(g, w->group.member, s->width), gen_i64(g, s->half),
                        (int64_t)s->members * s->width, "col");
    Place place = place_at(w, col.i, NULL);
    visit(w, &place, 0);
    gen_loop_end(g, &col);
}

static void emit_row(Walk *w, LLVMValueRef row) {
    Rows *r = &w->r;
    const RowPlan *p = r->plan;
    Place held[MAX_VECTORS];
    rows_set_row(r, row);
    for (int u = 0; u < w->shape.vectors; u++) held[u] = vector_place(w, u);
    bool picks_first = has_pick(p) && overwrites_operand(w, true); /* a pick reads any column */
    for (r->phase = 0; r->phase < p->phases; r->phase++) {
        rows_scalars(r);
        if (r->phase + 1 == p->phases && picks_first) nv_group_barrier(r->g, &w->group);
        begin_reductions(w);
        for (int u = 0; u < w->shape.vectors; u++) visit(w, &held[u], u);
        if (!w->shape.vectors) walk_columns(w);
        end_reductions(w);
    }
    rows_scalars(r);
    if (!has_scalar_result(w)) return;
    if (overwrites_operand(w, false)) nv_group_barrier(r->g, &w->group); /* all members have read it */
    scalar_results(w);
}

/* The block's rows, one for each group. */
static void emit_rows(Walk *w) {
    Gen *g = w->r.g;
    int64_t rows = w->r.plan->rows, groups = w->shape.groups;
    LLVMValueRef row = gen_add(g, gen_mul(g, g->tile, groups), w->group.index);
    If there = gen_if(g, gen_less(g, row, gen_i64(g, rows)));
    emit_row(w, row);
    gen_if_end(g, &there);
}

/* ---- partial sums */

static LLVMTypeRef partial_type(const Walk *w, Val v) {
    return row_is_column(w->r.plan, v) ? vector_type(w) : w->r.g->f32;
}

/* Calls f for each accumulator: of result k, which sums v, at one of the thread's vectors. */
typedef void PartialFn(Walk *, uint32_t k, Val v, int vector, int half);
static void each_partial(Walk *w, PartialFn *f) {
    bool summed;
    Val v;
    for (uint32_t k = 0; k < w->r.plan->yield->nin; k++) {
        bool column = is_column_result(w, k, &v, &summed);
        if (!summed) continue;
        for (int u = 0; u < (column ? w->shape.vectors : 1); u++)
            for (int h = 0; h < (column ? w->r.plan->halves : 1); h++) f(w, k, v, u, h);
    }
}

static void clear_partial(Walk *w, uint32_t k, Val v, int vector, int half) {
    LLVMValueRef *sum = partial_of(w, k, vector, half);
    *sum = gen_alloca(w->r.g, partial_type(w, v), "part");
    gen_store(w->r.g, LLVMConstNull(partial_type(w, v)), *sum);
}

/* Adds up the groups' accumulators, in order of the groups, and stores the sum. */
static void store_partial(Walk *w, uint32_t k, Val v, int vector, int half) {
    Gen *g = w->r.g;
    const Shape *s = &w->shape;
    LLVMTypeRef type = partial_type(w, v);
    LLVMValueRef sum = gen_load(g, type, *partial_of(w, k, vector, half));
    LLVMValueRef first =
        s->groups == 1 ? NULL : LLVMBuildICmp(g->b, LLVMIntEQ, w->group.index, gen_i64(g, 0), "");
    if (s->groups > 1) {
        if (w->exchanged) nv_barrier(g); /* those of the one before have been read */
        w->exchanged = true;
        gen_store(g, sum, gen_at(g, type, w->exchange, nv_thread(g)));
        nv_barrier(g);
        LLVMValueRef total = gen_alloca(g, type, "total");
        gen_store(g, sum, total);
        Loop other = gen_loop(g, gen_i64(g, 1), gen_i64(g, s->groups), 1, "group");
        LLVMValueRef at = gen_add(g, gen_mul(g, other.i, s->members), w->group.member);
        LLVMValueRef more = gen_load(g, type, gen_at(g, type, w->exchange, at));
        gen_store(g, LLVMBuildFAdd(g->b, gen_load(g, type, total), more, ""), total);
        gen_loop_end(g, &other);
        sum = gen_load(g, type, total);
    }
    LLVMValueRef base = rows_result_address(&w->r, k, true);
    bool column = row_is_column(w->r.plan, v);
    Place place = vector_place(w, vector);
    If there = if_there(g, both(g, first, column ? place.inside : is_first_member(w)));
    if (column)
        rows_store(&w->r, sum, place.site[half], base, DT_F32);
    else
        gen_store(g, sum, base);
    gen_if_end(g, &there);
}

/* Sums of columns that are walked in loops stand in memory, each for the thread that walks it. */
static void clear_results(Walk *w) {
    Gen *g = w->r.g;
    bool summed;
    Val v;
    for (uint32_t k = 0; k < w->r.plan->yield->nin; k++) {
        if (!is_column_result(w, k, &v, &summed) || !summed) continue;
        LLVMValueRef base = rows_result_address(&w->r, k, true);
        Loop col = gen_loop(g, gen_mul(g, w->group.member, w->shape.width), gen_i64(g, w->shape.half),
                            (int64_t)w->shape.members * w->shape.width, "clear");
        Place place = place_at(w, col.i, NULL);
        for (int h = 0; h < w->r.plan->halves; h++)
            rows_store(&w->r, LLVMConstNull(vector_type(w)), place.site[h], base, DT_F32);
        gen_loop_end(g, &col);
    }
}

/* The rows of the block's part; group i takes rows i, i + groups, .. of them. */
static void emit_part(Walk *w) {
    Gen *g = w->r.g;
    const Shape *s = &w->shape;
    int64_t piece = w->r.plan->tiling.piece;
    LLVMValueRef lo = gen_mul(g, g->tile, piece);
    LLVMValueRef hi = gen_min(g, gen_add(g, lo, gen_i64(g, piece)), gen_i64(g, w->r.plan->rows));
    if (s->groups > 1) w->exchange = nv_shared(g, (int64_t)s->threads * s->width * 4, 16, "exchange");
    each_partial(w, clear_partial);
    if (!s->vectors) clear_results(w);
    Loop row = gen_loop(g, gen_add(g, lo, w->group.index), hi, s->groups, "row");
    emit_row(w, row.i);
    gen_loop_end(g, &row);
    each_partial(w, store_partial);
}

/* ---- one row of all elements */

/* The work on `width` elements from i on. */
static void flat_elements(Gen *g, void *context, LLVMValueRef i, int width) {
    Walk *w = context;
    w->shape.width = width;
    Place place = {.site = {rows_site(&w->r, (Lanes){.col = i}, width, (unsigned)width * 4)}};
    column_results(w, &place, 0);
    (void)g;
}

static void emit_flat(Walk *w) {
    Gen *g = w->r.g;
    rows_set_row(&w->r, gen_i64(g, 0));
    rows_scalars(&w->r);
    nv_elements(g, w->r.plan->n, flat_elements, w);
}

/* ---- the kernel */

void nv_gen_rows(Gen *g, const char *name, const RowsDesc *d) {
    RowPlan *p = row_plan(d->body, g->target);
    uint32_t results = p->yield->nin;
    Walk w = {.shape = shape_of(p)};
    nv_kernel(g, name, p->operands + results, w.shape.threads);
    nv_min_blocks(g, 1); /* or ptxas may spill a little to make room for more */
    w.r = rows_begin(g, p);
    w.sums = arena_array(p->arena, LLVMValueRef, d->body->values.n);
    w.partial = arena_array(p->arena, LLVMValueRef, results * MAX_VECTORS * 2);
    if (p->flat) {
        emit_flat(&w);
    } else {
        w.group = nv_group(g, w.shape.members, w.shape.threads);
        w.group.repeats = p->parts > 0;
        if (p->parts)
            emit_part(&w);
        else
            emit_rows(&w);
    }
    gen_end(g);
    row_plan_free(p);
}

NvGrid nv_rows_grid(const RowsDesc *d, const Target *target) {
    RowPlan *p = row_plan(d->body, target);
    Shape s = shape_of(p);
    NvGrid grid = {.blocks = s.blocks, .threads = s.threads};
    row_plan_free(p);
    return grid;
}
