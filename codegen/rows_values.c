/* Expressions of a row region: values at columns, scalars of the row, and what reductions and results are
 * made of. The loops around them are in rows.c and, for GPUs, in nvptx/rows.c. */
#include "rows_values.h"

Rows rows_begin(Gen *g, const RowPlan *p) {
    uint32_t values = p->body->values.n, buffers = p->operands + p->yield->nin;
    Rows r = {.g = g, .plan = p, .row = gen_i64(g, 0)};
    r.buffer = arena_array(p->arena, LLVMValueRef, buffers);
    r.base = arena_array(p->arena, LLVMValueRef, values);
    r.scalar = arena_array(p->arena, LLVMValueRef, values);
    for (uint32_t i = 0; i < buffers; i++) r.buffer[i] = gen_buffer(g, i);
    return r;
}

Site *rows_site(Rows *r, Lanes at, int lanes, unsigned align) {
    Site *s = arena_array(r->plan->arena, Site, 1);
    *s = (Site){.at = at, .lanes = lanes, .align = align};
    s->memo = arena_array(r->plan->arena, LLVMValueRef, r->plan->body->values.n);
    return s;
}

void rows_pair(Rows *r, Site *s, Site *other, LLVMValueRef lower) {
    s->partner = other;
    other->partner = s;
    s->lower = lower;
    other->lower = LLVMBuildNot(r->g->b, lower, "");
}

/* ---- expressions */

static LLVMValueRef element_wise(Gen *g, const Node *n, LLVMValueRef a, LLVMValueRef b) {
    LLVMValueRef c = gen_splat(g, gen_f32(g, n->attrs.c), gen_width(a));
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
    case OP_narrow:
        return gen_round_bf16(g, a);
    case OP_widen:
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

/* A bf16 is computed with as the f32 that it is the upper half of. */
static LLVMTypeRef storage_type(const Gen *g, DType dtype) {
    return dtype == DT_BF16 ? g->i16 : g->f32;
}

static LLVMValueRef load_all(Rows *r, const Site *s, LLVMValueRef base, DType dtype) {
    Gen *g = r->g;
    LLVMTypeRef elem = storage_type(g, dtype);
    LLVMValueRef x = gen_load(g, gen_vec(g, elem, s->lanes), gen_at(g, elem, base, s->at.col));
    LLVMSetAlignment(x, dtype == DT_BF16 ? s->align / 2 : s->align);
    return dtype == DT_BF16 ? gen_widen(g, x) : x;
}

LLVMValueRef rows_load(Rows *r, const Site *s, LLVMValueRef base, DType dtype) {
    Gen *g = r->g;
    if (s->at.mask) return dtype == DT_BF16 ? lanes_load_bf16(g, base, &s->at) : lanes_load(g, base, &s->at);
    if (!s->there) return load_all(r, s, base, dtype);
    LLVMTypeRef type = gen_vec(g, g->f32, s->lanes);
    LLVMValueRef x = gen_alloca(g, type, "columns");
    gen_store(g, LLVMConstNull(type), x);
    If there = gen_if(g, s->there);
    gen_store(g, load_all(r, s, base, dtype), x);
    gen_if_end(g, &there);
    return gen_load(g, type, x);
}

void rows_store(Rows *r, LLVMValueRef value, const Site *s, LLVMValueRef base, DType dtype) {
    Gen *g = r->g;
    bool half = dtype == DT_BF16;
    if (half) value = gen_upper(g, value);
    if (s->at.mask) {
        (half ? lanes_store_bf16 : lanes_store)(g, value, base, &s->at);
        return;
    }
    LLVMValueRef at = gen_at(g, storage_type(g, dtype), base, s->at.col);
    LLVMSetAlignment(LLVMBuildStore(g->b, value, at), half ? s->align / 2 : s->align);
}

static LLVMValueRef slot_of(Rows *r, Val v) {
    return gen_at(r->g, r->g->i8, r->g->scratch, gen_i64(r->g, r->plan->slot[v] * row_slot_bytes(r->plan)));
}

static LLVMValueRef compute_at(Rows *r, Site *s, Val v) {
    Gen *g = r->g;
    const Node *n = val_node(r->plan->body, v);
    switch (n->op) {
    case OP_arg:
        return rows_load(r, s, r->base[v], val_type(r->plan->body, v)->dtype);
    case OP_splat:
        return gen_splat(g, gen_f32(g, n->attrs.c), s->lanes);
    case OP_onehot:
        return one_hot(r, r->scalar[n->in[0]], s->at.col, s->lanes);
    case OP_rotate_half: {
        LLVMValueRef x = rows_value(r, s->partner, n->in[0]);
        return LLVMBuildSelect(g->b, s->lower, LLVMBuildFNeg(g->b, x, ""), x, "");
    }
    default:
        break;
    }
    LLVMValueRef a = rows_value(r, s, n->in[0]);
    return element_wise(g, n, a, n->nin > 1 ? rows_value(r, s, n->in[1]) : a);
}

LLVMValueRef rows_value(Rows *r, Site *s, Val v) {
    const RowPlan *p = r->plan;
    if (!row_is_column(p, v)) return gen_splat(r->g, r->scalar[v], s->lanes);
    if (s->memo[v]) return s->memo[v];
    bool keep = p->slot[v] >= 0 && !s->single;
    if (keep && p->kept[v] < r->phase) return s->memo[v] = rows_load(r, s, slot_of(r, v), DT_F32);
    s->memo[v] = compute_at(r, s, v);
    if (keep) rows_store(r, s->memo[v], s, slot_of(r, v), DT_F32);
    return s->memo[v];
}

/* Value v of the row at one column, an i32. */
static LLVMValueRef value_at_index(Rows *r, Val v, LLVMValueRef index) {
    Gen *g = r->g;
    LLVMValueRef col = LLVMBuildSExt(g->b, index, g->i64, ""), half = gen_i64(g, r->plan->n / 2);
    LLVMValueRef lower = LLVMBuildICmp(g->b, LLVMIntSLT, col, half, "");
    LLVMValueRef other = LLVMBuildSelect(g->b, lower, gen_add(g, col, half), gen_sub(g, col, half), "");
    Site *s = rows_site(r, (Lanes){.col = col}, 1, 4), *partner = rows_site(r, (Lanes){.col = other}, 1, 4);
    s->single = partner->single = true;
    rows_pair(r, s, partner, lower);
    return rows_value(r, s, v);
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
    return gen_at(r->g, storage_type(r->g, t->dtype), r->buffer[buffer], row_offset(r, t));
}

void rows_set_row(Rows *r, LLVMValueRef row) {
    const Graph *body = r->plan->body;
    r->row = row;
    for (uint32_t i = 0; i + 1 < body->nodes.n; i++) {
        const Node *n = &body->nodes.at[i];
        if (n->op == OP_arg && r->plan->live[n->out] && row_is_column(r->plan, n->out))
            r->base[n->out] = row_address(r, (unsigned)n->attrs.index, val_type(body, n->out));
    }
}

static LLVMValueRef load_argument(Rows *r, Val v) {
    const Node *n = val_node(r->plan->body, v);
    const Type *t = val_type(r->plan->body, v);
    unsigned buffer = (unsigned)n->attrs.index;
    if (t->dtype == DT_BF16) return gen_widen(r->g, gen_load(r->g, r->g->i16, row_address(r, buffer, t)));
    if (t->dtype == DT_F32) return gen_load(r->g, r->g->f32, row_address(r, buffer, t));
    if (type_count(t) != r->plan->rows) ice("row region: indices for other rows");
    return gen_load(r->g, r->g->i32, gen_at(r->g, r->g->i32, r->buffer[buffer], r->row));
}

/* ---- reductions */

static bool reduces_column(const Rows *r, const Node *n) {
    return !r->plan->flat && (n->op == OP_sum || n->op == OP_max) && row_is_column(r->plan, n->in[0]);
}

const Node *rows_next_reduction(const Rows *r, uint32_t *i) {
    const Graph *body = r->plan->body;
    while (*i + 1 < body->nodes.n) {
        const Node *n = &body->nodes.at[(*i)++];
        if (r->plan->live[n->out] && reduces_column(r, n) && r->plan->level[n->in[0]] == r->phase) return n;
    }
    return NULL;
}

LLVMValueRef rows_identity(const Rows *r, const Node *n) {
    return gen_f32(r->g, n->op == OP_sum ? 0 : -__builtin_inf());
}

LLVMValueRef rows_reduce(Rows *r, Site *s, const Node *n, LLVMValueRef old) {
    Gen *g = r->g;
    const Node *x = val_node(r->plan->body, n->in[0]);
    LLVMValueRef sum;
    if (n->op == OP_max)
        sum = gen_fmax(g, old, rows_value(r, s, n->in[0]));
    else if (x->op == OP_mul)
        sum = gen_fma(g, rows_value(r, s, x->in[0]), rows_value(r, s, x->in[1]), old);
    else
        sum = LLVMBuildFAdd(g->b, old, rows_value(r, s, n->in[0]), "");
    return s->at.mask ? LLVMBuildSelect(g->b, s->at.mask, sum, old, "") : sum;
}

/* ---- scalars */

static LLVMValueRef compute_scalar(Rows *r, Val v) {
    const Node *n = val_node(r->plan->body, v);
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

void rows_scalars(Rows *r) {
    const Graph *body = r->plan->body;
    for (uint32_t i = 0; i + 1 < body->nodes.n; i++) {
        const Node *n = &body->nodes.at[i];
        Val v = n->out;
        if (!r->plan->live[v] || r->scalar[v] || n->op == OP_partial_sum) continue;
        if (!row_is_column(r->plan, v) && r->plan->level[v] <= r->phase) r->scalar[v] = compute_scalar(r, v);
    }
}

/* ---- results */

Val rows_summand(const Rows *r, uint32_t k, bool *summed) {
    const Node *n = val_node(r->plan->body, r->plan->yield->in[k]);
    *summed = n->op == OP_partial_sum;
    return *summed ? n->in[0] : r->plan->yield->in[k];
}

DType rows_result_dtype(const Rows *r, uint32_t k) {
    return val_type(r->plan->body, r->plan->yield->in[k])->dtype;
}

void rows_store_scalar(Rows *r, LLVMValueRef value, uint32_t k, LLVMValueRef at) {
    gen_store(r->g, rows_result_dtype(r, k) == DT_BF16 ? gen_upper(r->g, value) : value, at);
}

LLVMValueRef rows_result_address(Rows *r, uint32_t k, bool summed) {
    unsigned buffer = r->plan->operands + k;
    const Type *t = val_type(r->plan->body, r->plan->yield->in[k]);
    if (!summed) return row_address(r, buffer, t);
    return gen_at(r->g, r->g->f32, r->buffer[buffer], gen_mul(r->g, r->g->tile, type_cols(t)));
}
