/* Operands on their way to shared memory, and products of what lies there (tile.h). */
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
/* Numbers of 16 steps that a thread brings: consecutive codes of one row or step. */
static int share(const Operand *o) {
    return o->width * TILE_DEPTH / TILE_THREADS;
}
/* Scales that a thread's codes have. */
static int scales(const Operand *o) {
    return o->group % share(o) == 0 ? 1 : share(o);
}

void operand_begin(Gen *g, Operand *o) {
    if (!is_codes(o)) return;
    bool rows = o->storage == STORED_CODE_ROWS;
    o->layout = ternary_layout(rows ? o->rows : o->depth, rows ? o->depth : o->rows, o->group);
    o->bits = gen_alloca(g, g->i32, "bits");
    for (int i = 0; i < scales(o); i++) o->scale[i] = gen_alloca(g, g->f32, "scale");
}

static LLVMValueRef stage_at(Gen *g, const Operand *o, LLVMValueRef stage, LLVMValueRef step,
                             LLVMValueRef row) {
    return gen_at(g, g->f32, stage, gen_add(g, gen_mul(g, step, o->width + TILE_PAD), row));
}

/* Floats of a copy: one where it transposes. */
static int floats_of_copy(const Operand *o) {
    return o->storage == STORED_STEPS && o->ld % 4 == 0 && o->rows % 4 == 0 ? 4 : 1;
}

/* Where copy i of the thread is: its row within the tile and its step within the 16. Along rows, a warp takes
 * 8 steps of 4 rows, a sector of memory each and all banks; along steps, what is next to each other. */
static void place_of(Gen *g, const TilePlace *p, const Operand *o, int i, LLVMValueRef *row,
                     LLVMValueRef *step) {
    if (o->storage == STORED_ROWS) {
        *row = gen_add(g, gen_div(g, p->thread, 8), gen_i64(g, i / 2 * (TILE_THREADS / 8)));
        *step = gen_add(g, gen_mod(g, p->thread, 8), gen_i64(g, i % 2 * 8));
        return;
    }
    int n = floats_of_copy(o), across = o->width / n;
    *step = gen_add(g, gen_div(g, p->thread, across), gen_i64(g, i * (TILE_THREADS / across)));
    *row = gen_mul(g, gen_mod(g, p->thread, across), n);
}

/* Copies steps k0 .. k0+15 to a stage; 0 for what does not exist. */
static void copy_numbers(Gen *g, const TilePlace *p, const Operand *o, LLVMValueRef k0, LLVMValueRef stage) {
    int n = floats_of_copy(o);
    for (int i = 0; i < share(o) / n; i++) {
        LLVMValueRef row, step, inside = NULL;
        place_of(g, p, o, i, &row, &step);
        LLVMValueRef to = stage_at(g, o, stage, step, row), k = gen_add(g, k0, step);
        row = gen_add(g, o->first, row);
        if (o->rows % o->width) inside = gen_less(g, row, gen_i64(g, o->rows));
        if (o->depth % TILE_DEPTH) {
            LLVMValueRef before = gen_less(g, k, gen_i64(g, o->depth));
            inside = inside ? LLVMBuildAnd(g->b, inside, before, "") : before;
        }
        LLVMValueRef at = o->storage == STORED_ROWS ? gen_add(g, gen_mul(g, row, o->ld), k)
                                                    : gen_add(g, gen_mul(g, k, o->ld), row);
        if (!o->half) {
            nv_copy(g, to, gen_at(g, g->f32, o->base, at), 4 * n, inside);
            continue;
        }
        if (inside) at = LLVMBuildSelect(g->b, inside, at, gen_i64(g, 0), "");
        LLVMValueRef v = nv_load_bf16(g, o->base, at, n);
        if (inside) v = LLVMBuildSelect(g->b, inside, v, LLVMConstNull(LLVMTypeOf(v)), "");
        tile_store(g, v, to, n);
    }
}

/* The same for the thread's codes: the first of `share` along the row or step. */
static void codes_of(Gen *g, const TilePlace *p, const Operand *o, LLVMValueRef *row, LLVMValueRef *step) {
    if (o->storage == STORED_CODE_ROWS) {
        *row = gen_mod(g, p->thread, o->width);
        *step = gen_mul(g, gen_div(g, p->thread, o->width), share(o));
    } else {
        *step = gen_div(g, p->thread, 16);
        *row = gen_mul(g, gen_mod(g, p->thread, 16), share(o));
    }
}

static LLVMValueRef load_scale(Gen *g, const Operand *o, LLVMValueRef row, LLVMValueRef col) {
    LLVMValueRef group = gen_min(g, gen_div(g, col, o->group), gen_i64(g, o->layout.groups - 1));
    return ternary_load_scale(g, ternary_scales(g, o->base, row, &o->layout), group);
}

/* The codes of steps k0 .. k0+15 into registers; rows past the end repeat the last one. `row` and `col` are
 * of the stored matrix, where a row's codes go on up to a multiple of 16. */
static void load_codes(Gen *g, const TilePlace *p, const Operand *o, LLVMValueRef k0) {
    int n = share(o);
    LLVMValueRef row, col, inside = NULL;
    if (o->storage == STORED_CODE_ROWS) {
        codes_of(g, p, o, &row, &col);
        row = gen_min(g, gen_add(g, o->first, row), gen_i64(g, o->rows - 1));
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

/* What of an operand's steps k0 .. k0+15 is on its way when `stage` is free, and what is left to do later. */
static void operand_begin_copy(Gen *g, const TilePlace *p, const Operand *o, LLVMValueRef k0,
                               LLVMValueRef stage) {
    if (is_codes(o))
        load_codes(g, p, o, k0);
    else
        copy_numbers(g, p, o, k0, stage);
}
static void operand_end_copy(Gen *g, const TilePlace *p, const Operand *o, LLVMValueRef stage) {
    if (is_codes(o)) store_codes(g, p, o, stage);
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

/* The thread's n numbers of one step, at `at` in shared memory. */
static void fragment(Gen *g, LLVMValueRef at, int n, bool rounded, LLVMValueRef *out) {
    for (int i = 0; i < n; i += 4) {
        LLVMValueRef v = tile_load(g, gen_at(g, g->f32, at, gen_i64(g, i / 4 * 64)), 4);
        for (int j = 0; j < 4; j++) {
            out[i + j] = lane(g, v, 4, j);
            if (rounded) out[i + j] = tile_round(g, out[i + j]);
        }
    }
}

/* An operand in shared memory: steps `ld` floats apart. */
typedef struct Steps {
    LLVMValueRef at;
    int64_t ld;
    bool round; /* numbers that are read to bf16 */
} Steps;

/* sums += A B over 16 steps. */
static void multiply(Gen *g, const TilePlace *p, const Sums *s, Steps a, Steps b) {
    LLVMValueRef sum[TILE_MAX][TILE_MAX], x[TILE_MAX], y[TILE_MAX];
    for (int i = 0; i < s->tm; i++)
        for (int j = 0; j < s->tn; j++) sum[i][j] = gen_load(g, g->f32, s->at[i][j]);
    a.at = gen_at(g, g->f32, a.at, gen_mul(g, p->ty, 4));
    b.at = gen_at(g, g->f32, b.at, gen_mul(g, p->tx, 4));
    for (int step = 0; step < TILE_DEPTH; step++) {
        fragment(g, gen_at(g, g->f32, a.at, gen_i64(g, step * a.ld)), s->tm, a.round, x);
        fragment(g, gen_at(g, g->f32, b.at, gen_i64(g, step * b.ld)), s->tn, b.round, y);
        for (int i = 0; i < s->tm; i++)
            for (int j = 0; j < s->tn; j++) sum[i][j] = gen_fma(g, x[i], y[j], sum[i][j]);
    }
    for (int i = 0; i < s->tm; i++)
        for (int j = 0; j < s->tn; j++) gen_store(g, sum[i][j], s->at[i][j]);
}

static int64_t stage_floats(int width) {
    return TILE_DEPTH * (width + TILE_PAD);
}

int64_t tile_stages(int a_width, int b_width) {
    return 2 * (stage_floats(a_width) + stage_floats(b_width));
}

static Steps steps_of(const Operand *o, LLVMValueRef stage) {
    return (Steps){stage, o->width + TILE_PAD, o->rounded && !is_codes(o)};
}

/* The pipeline of both products; without an operand a, A lies at `left`, from k = begin on. */
static void pipeline(Gen *g, const TilePlace *p, const Sums *s, const Operand *a, Steps left,
                     const Operand *b, LLVMValueRef begin, LLVMValueRef end, LLVMValueRef stages) {
    int64_t a_floats = a ? stage_floats(a->width) : 0, floats = a_floats + stage_floats(b->width);
    LLVMValueRef b_stages = gen_at(g, g->f32, stages, gen_i64(g, a_floats));
    if (a) operand_begin_copy(g, p, a, begin, stages);
    operand_begin_copy(g, p, b, begin, b_stages);
    nv_copies_commit(g);
    if (a) operand_end_copy(g, p, a, stages);
    operand_end_copy(g, p, b, b_stages);
    Loop k = gen_loop(g, begin, end, TILE_DEPTH, "k");
    LLVMValueRef done = gen_sub(g, k.i, begin), odd = gen_mod(g, gen_div(g, done, TILE_DEPTH), 2);
    LLVMValueRef now = gen_mul(g, odd, floats), other = gen_mul(g, gen_sub(g, gen_i64(g, 1), odd), floats);
    LLVMValueRef a_other = gen_at(g, g->f32, stages, other), b_other = gen_at(g, g->f32, b_stages, other);
    LLVMValueRef next = gen_add(g, k.i, gen_i64(g, TILE_DEPTH)), more = gen_less(g, next, end);
    nv_copies_wait(g, 0);
    nv_barrier(g); /* these steps are there, and nobody reads the other stage any more */
    If copy = gen_if(g, more);
    if (a) operand_begin_copy(g, p, a, next, a_other);
    operand_begin_copy(g, p, b, next, b_other);
    nv_copies_commit(g);
    gen_if_end(g, &copy);
    Steps at = left;
    at.at = a ? gen_at(g, g->f32, stages, now) : gen_at(g, g->f32, left.at, gen_mul(g, done, left.ld));
    multiply(g, p, s, at, steps_of(b, gen_at(g, g->f32, b_stages, now)));
    If store = gen_if(g, more);
    if (a) operand_end_copy(g, p, a, a_other);
    operand_end_copy(g, p, b, b_other);
    gen_if_end(g, &store);
    gen_loop_end(g, &k);
}

void tile_product(Gen *g, const TilePlace *p, const Sums *s, Operand *a, Operand *b, LLVMValueRef begin,
                  LLVMValueRef end, LLVMValueRef stages) {
    pipeline(g, p, s, a, steps_of(a, NULL), b, begin, end, stages);
}

void tile_product_shared(Gen *g, const TilePlace *p, const Sums *s, LLVMValueRef a, int64_t a_ld, Operand *b,
                         LLVMValueRef begin, LLVMValueRef end, LLVMValueRef stages) {
    pipeline(g, p, s, NULL, (Steps){a, a_ld, false}, b, begin, end, stages);
}
