/* Operands on their way to shared memory, and products of what lies there
 * (tile.h). */
#include "../rows.h"
#include "tile.h"

TilePlace tile_place(Gen *g) {
    LLVMValueRef thread = nv_thread(g);
    return (TilePlace){thread, gen_div(g, thread, 16), gen_mod(g, thread, 16)};
}

LLVMValueRef tile_at(Gen *g, LLVMValueRef ty_or_tx, int i) {
    return gen_add(g, gen_mul(g, ty_or_tx, 4), gen_i64(g, i / 4 * 64 + i % 4));
}

LLVMValueRef tile_load(Gen *g, LLVMValueRef at, int n) {
    return nv_load(g, gen_vec(g, g->f32, n), at, (unsigned)(4 * n));
}

void tile_store(Gen *g, LLVMValueRef value, LLVMValueRef at, int n) {
    nv_store(g, value, at, (unsigned)(4 * n));
}

LLVMValueRef tile_round(Gen *g, LLVMValueRef x) {
    LLVMValueRef halves[] = {x, gen_f32(g, 0)}; /* high, low */
    return LLVMBuildBitCast(g->b, gen_intrinsic(g, "llvm.nvvm.ff2bf16x2.rn", NULL, halves, 2), g->f32, "");
}

LLVMValueRef tile_vector(Gen *g, LLVMValueRef *x, int n) {
    if (n == 1) return x[0];
    LLVMValueRef v = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(x[0]), (unsigned)n));
    for (int i = 0; i < n; i++) v = LLVMBuildInsertElement(g->b, v, x[i], gen_i32(g, i), "");
    return v;
}

static LLVMValueRef lane(Gen *g, LLVMValueRef v, int n, int i) {
    return n == 1 ? v : LLVMBuildExtractElement(g->b, v, gen_i32(g, i), "");
}

/* ---- operands */

static bool is_codes(const Operand *o) {
    return o->storage == STORED_CODE_ROWS || o->storage == STORED_CODE_STEPS;
}
/* Numbers of 16 steps that a thread has: loads of vec floats, or consecutive
 * codes of one row or step. */
static int share(const Operand *o) {
    return o->width * TILE_DEPTH / TILE_THREADS;
}
/* Scales that a thread's codes have. */
static int scales(const Operand *o) {
    return o->group % share(o) == 0 ? 1 : share(o);
}

void operand_begin(Gen *g, Operand *o) {
    if (is_codes(o)) {
        bool rows = o->storage == STORED_CODE_ROWS;
        o->layout = ternary_layout(rows ? o->rows : o->depth, rows ? o->depth : o->rows, o->group);
        o->bits = gen_alloca(g, g->i32, "bits");
        for (int i = 0; i < scales(o); i++) o->scale[i] = gen_alloca(g, g->f32, "scale");
        return;
    }
    int64_t run = o->storage == STORED_ROWS ? o->depth : o->rows;
    o->vec = o->ld % 4 == 0 && run % 4 == 0 ? 4 : 1;
    for (int i = 0; i < share(o) / o->vec; i++)
        o->value[i] = gen_alloca(g, gen_vec(g, g->f32, o->vec), "next");
}

/* Where load i of the thread is: its row within the tile and its step within
 * the 16. Its loads differ by a constant number of rows (or steps), so that
 * they share one address. */
static void place_of(Gen *g, const TilePlace *p, const Operand *o, int i, LLVMValueRef *row,
                     LLVMValueRef *step) {
    bool by_rows = o->storage == STORED_ROWS;
    int run = (by_rows ? TILE_DEPTH : o->width) / o->vec; /* threads along a row (or step) */
    LLVMValueRef across = gen_add(g, gen_div(g, p->thread, run), gen_i64(g, i * (TILE_THREADS / run)));
    LLVMValueRef along = gen_mul(g, gen_mod(g, p->thread, run), o->vec);
    *row = by_rows ? across : along;
    *step = by_rows ? along : across;
}
/* The same for the thread's codes: the first of `share` along the row or step.
 */
static void codes_of(Gen *g, const TilePlace *p, const Operand *o, LLVMValueRef *row, LLVMValueRef *step) {
    if (o->storage == STORED_CODE_ROWS) {
        *row = gen_mod(g, p->thread, o->width);
        *step = gen_mul(g, gen_div(g, p->thread, o->width), share(o));
    } else {
        *step = gen_div(g, p->thread, 16);
        *row = gen_mul(g, gen_mod(g, p->thread, 16), share(o));
    }
}

/* Row within the operand of a row of the tile: one that exists, where `count`
 * from it on are read. */
static LLVMValueRef real_row(Gen *g, const Operand *o, LLVMValueRef row, int64_t count) {
    row = gen_add(g, o->first, row);
    return o->rows % o->width ? gen_min(g, row, gen_i64(g, o->rows - count)) : row;
}

static void load_floats(Gen *g, const TilePlace *p, Operand *o, LLVMValueRef k0) {
    bool by_rows = o->storage == STORED_ROWS;
    for (int i = 0; i < share(o) / o->vec; i++) {
        LLVMValueRef row, step;
        place_of(g, p, o, i, &row, &step);
        row = real_row(g, o, row, by_rows ? 1 : o->vec);
        LLVMValueRef k = gen_add(g, k0, step), inside = gen_less(g, k, gen_i64(g, o->depth));
        bool ragged = o->depth % TILE_DEPTH;
        if (ragged) k = gen_min(g, k, gen_i64(g, o->depth - (by_rows ? o->vec : 1)));
        LLVMValueRef at =
            by_rows ? gen_add(g, gen_mul(g, row, o->ld), k) : gen_add(g, gen_mul(g, k, o->ld), row);
        LLVMValueRef v = o->half ? nv_load_bf16(g, o->base, at, o->vec)
                                 : tile_load(g, gen_at(g, g->f32, o->base, at), o->vec);
        if (ragged) v = LLVMBuildSelect(g->b, inside, v, LLVMConstNull(LLVMTypeOf(v)), "");
        gen_store(g, v, o->value[i]);
    }
}

static LLVMValueRef load_scale(Gen *g, const Operand *o, LLVMValueRef row, LLVMValueRef col) {
    LLVMValueRef group = gen_min(g, gen_div(g, col, o->group), gen_i64(g, o->layout.groups - 1));
    return ternary_load_scale(g, ternary_scales(g, o->base, row, &o->layout), group);
}

/* `row` and `col` of the stored matrix. A row's codes go on up to a multiple
 * of 16. */
static void load_codes(Gen *g, const TilePlace *p, Operand *o, LLVMValueRef k0) {
    int n = share(o);
    LLVMValueRef row, col, inside = NULL;
    if (o->storage == STORED_CODE_ROWS) {
        codes_of(g, p, o, &row, &col);
        row = real_row(g, o, row, 1);
        col = gen_add(g, k0, col);
    } else {
        codes_of(g, p, o, &col, &row);
        col = gen_min(g, gen_add(g, o->first, col), gen_i64(g, 4 * o->layout.row_bytes - n));
        row = gen_add(g, k0, row);
        if (o->depth % TILE_DEPTH) {
            inside = gen_less(g, row, gen_i64(g, o->depth));
            row = gen_min(g, row, gen_i64(g, o->depth - 1));
        }
    }
    LLVMTypeRef word = n == 8 ? g->i16 : g->i8;
    LLVMValueRef at = gen_add(g, gen_mul(g, row, o->layout.row_bytes), gen_div(g, col, 4));
    LLVMValueRef bits = nv_load(g, word, gen_at(g, g->i8, o->base, at), (unsigned)n / 4);
    gen_store(g, LLVMBuildZExt(g->b, bits, g->i32, ""), o->bits);
    for (int i = 0; i < scales(o); i++) {
        LLVMValueRef scale = load_scale(g, o, row, gen_add(g, col, gen_i64(g, i)));
        if (inside) scale = LLVMBuildSelect(g->b, inside, scale, gen_f32(g, 0), "");
        if (o->rounded && o->storage == STORED_CODE_STEPS) scale = tile_round(g, scale);
        gen_store(g, scale, o->scale[i]);
    }
}

void operand_load(Gen *g, const TilePlace *p, Operand *o, LLVMValueRef k0) {
    (is_codes(o) ? load_codes : load_floats)(g, p, o, k0);
}

static LLVMValueRef stage_at(Gen *g, const Operand *o, LLVMValueRef stage, LLVMValueRef step,
                             LLVMValueRef row) {
    return gen_at(g, g->f32, stage, gen_add(g, gen_mul(g, step, o->width + TILE_PAD), row));
}

static void store_floats(Gen *g, const TilePlace *p, const Operand *o, LLVMValueRef stage) {
    for (int i = 0; i < share(o) / o->vec; i++) {
        LLVMValueRef row, step, v = gen_load(g, gen_vec(g, g->f32, o->vec), o->value[i]), x[4];
        place_of(g, p, o, i, &row, &step);
        for (int j = 0; j < o->vec; j++) {
            x[j] = lane(g, v, o->vec, j);
            if (o->rounded) x[j] = tile_round(g, x[j]);
        }
        if (o->storage == STORED_STEPS) {
            tile_store(g, tile_vector(g, x, o->vec), stage_at(g, o, stage, step, row), o->vec);
            continue;
        }
        for (int j = 0; j < o->vec; j++)
            tile_store(g, x[j], stage_at(g, o, stage, gen_add(g, step, gen_i64(g, j)), row), 1);
    }
}

/* The weight of code i: (code + 1) * scale - scale, which is exact. */
static LLVMValueRef weight(Gen *g, const Operand *o, LLVMValueRef bits, int i) {
    LLVMValueRef u = LLVMBuildAnd(g->b, LLVMBuildLShr(g->b, bits, gen_i32(g, 2 * i), ""), gen_i32(g, 3), "");
    LLVMValueRef scale = gen_load(g, g->f32, o->scale[scales(o) == 1 ? 0 : i]);
    return gen_fma(g, LLVMBuildUIToFP(g->b, u, g->f32, ""), scale, LLVMBuildFNeg(g->b, scale, ""));
}

static void store_codes(Gen *g, const TilePlace *p, const Operand *o, LLVMValueRef stage) {
    LLVMValueRef row, step, bits = gen_load(g, g->i32, o->bits);
    codes_of(g, p, o, &row, &step);
    for (int i = 0; i < share(o); i += 4) {
        LLVMValueRef w[4];
        for (int j = 0; j < 4; j++) {
            LLVMValueRef next = gen_add(g, step, gen_i64(g, i + j));
            w[j] = weight(g, o, bits, i + j);
            if (o->storage == STORED_CODE_ROWS) tile_store(g, w[j], stage_at(g, o, stage, next, row), 1);
        }
        if (o->storage == STORED_CODE_STEPS)
            tile_store(g, tile_vector(g, w, 4), stage_at(g, o, stage, step, gen_add(g, row, gen_i64(g, i))),
                       4);
    }
}

void operand_store(Gen *g, const TilePlace *p, const Operand *o, LLVMValueRef stage) {
    (is_codes(o) ? store_codes : store_floats)(g, p, o, stage);
}

/* ---- products */

void sums_begin(Gen *g, Sums *s, int tm, int tn) {
    s->tm = tm, s->tn = tn;
    for (int i = 0; i < tm; i++)
        for (int j = 0; j < tn; j++) s->at[i][j] = gen_alloca(g, g->f32, "sum");
}

void sums_clear(Gen *g, const Sums *s) {
    for (int i = 0; i < s->tm; i++)
        for (int j = 0; j < s->tn; j++) gen_store(g, gen_f32(g, 0), s->at[i][j]);
}

/* The thread's n numbers of one step. */
static void fragment(Gen *g, LLVMValueRef at, int n, LLVMValueRef *out) {
    for (int i = 0; i < n; i += 4) {
        LLVMValueRef v = tile_load(g, gen_at(g, g->f32, at, gen_i64(g, i / 4 * 64)), 4);
        for (int j = 0; j < 4; j++) out[i + j] = lane(g, v, 4, j);
    }
}

void tile_multiply(Gen *g, const TilePlace *p, const Sums *s, LLVMValueRef a, int64_t a_ld, LLVMValueRef b,
                   int64_t b_ld) {
    LLVMValueRef sum[TILE_MAX][TILE_MAX], x[TILE_MAX], y[TILE_MAX];
    for (int i = 0; i < s->tm; i++)
        for (int j = 0; j < s->tn; j++) sum[i][j] = gen_load(g, g->f32, s->at[i][j]);
    a = gen_at(g, g->f32, a, gen_mul(g, p->ty, 4));
    b = gen_at(g, g->f32, b, gen_mul(g, p->tx, 4));
    for (int step = 0; step < TILE_DEPTH; step++) {
        fragment(g, gen_at(g, g->f32, a, gen_i64(g, step * a_ld)), s->tm, x);
        fragment(g, gen_at(g, g->f32, b, gen_i64(g, step * b_ld)), s->tn, y);
        for (int i = 0; i < s->tm; i++)
            for (int j = 0; j < s->tn; j++) sum[i][j] = gen_fma(g, x[i], y[j], sum[i][j]);
    }
    for (int i = 0; i < s->tm; i++)
        for (int j = 0; j < s->tn; j++) gen_store(g, sum[i][j], s->at[i][j]);
}

static int64_t stage_floats(int width) {
    return width ? TILE_DEPTH * (width + TILE_PAD) : 0;
}

int64_t tile_stages(int a_width, int b_width) {
    return 2 * (stage_floats(a_width) + stage_floats(b_width));
}

/* The pipeline of both products; without an operand a, A lies at a_at. */
static void pipeline(Gen *g, const TilePlace *p, const Sums *s, Operand *a, LLVMValueRef a_at, int64_t a_ld,
                     Operand *b, LLVMValueRef begin, LLVMValueRef end, LLVMValueRef stages) {
    int64_t a_floats = a ? stage_floats(a->width) : 0, floats = a_floats + stage_floats(b->width);
    if (a) operand_load(g, p, a, begin);
    operand_load(g, p, b, begin);
    if (a) operand_store(g, p, a, stages);
    operand_store(g, p, b, gen_at(g, g->f32, stages, gen_i64(g, a_floats)));
    nv_barrier(g);
    Loop k = gen_loop(g, begin, end, TILE_DEPTH, "k");
    LLVMValueRef done = gen_sub(g, k.i, begin), odd = gen_mod(g, gen_div(g, done, TILE_DEPTH), 2);
    LLVMValueRef now = gen_at(g, g->f32, stages, gen_mul(g, odd, floats));
    LLVMValueRef other = gen_at(g, g->f32, stages, gen_mul(g, gen_sub(g, gen_i64(g, 1), odd), floats));
    LLVMValueRef next = gen_add(g, k.i, gen_i64(g, TILE_DEPTH)), more = gen_less(g, next, end);
    If load = gen_if(g, more);
    if (a) operand_load(g, p, a, next);
    operand_load(g, p, b, next);
    gen_if_end(g, &load);
    LLVMValueRef left = a ? now : gen_at(g, g->f32, a_at, gen_mul(g, done, a_ld));
    tile_multiply(g, p, s, left, a_ld, gen_at(g, g->f32, now, gen_i64(g, a_floats)), b->width + TILE_PAD);
    If store = gen_if(g, more);
    if (a) operand_store(g, p, a, other);
    operand_store(g, p, b, gen_at(g, g->f32, other, gen_i64(g, a_floats)));
    gen_if_end(g, &store);
    nv_barrier(g);
    gen_loop_end(g, &k);
}

void tile_product(Gen *g, const TilePlace *p, const Sums *s, Operand *a, Operand *b, LLVMValueRef begin,
                  LLVMValueRef end, LLVMValueRef stages) {
    pipeline(g, p, s, a, NULL, a->width + TILE_PAD, b, begin, end, stages);
}

void tile_product_shared(Gen *g, const TilePlace *p, const Sums *s, LLVMValueRef a, int64_t a_ld, Operand *b,
                         LLVMValueRef begin, LLVMValueRef end, LLVMValueRef stages) {
    pipeline(g, p, s, NULL, a, a_ld, b, begin, end, stages);
}
