/* Tiles of matrices on their way to shared memory as bf16 (mma.h). A unit is 8 numbers of a line, which
 * become one store of 16 bytes, or are copied as 16 bytes where they are bf16 already. */
#include "mma.h"

int64_t plane_bytes(int tile_lines, int tile_run) {
    return (int64_t)2 * tile_lines * (tile_run + PLANE_PAD);
}

static int units_of(int tile_lines, int tile_run) {
    return (tile_lines * tile_run / 8 + MMA_THREADS - 1) / MMA_THREADS;
}

int64_t plane_ahead_bytes(int tile_lines, int tile_run) {
    return (int64_t)units_of(tile_lines, tile_run) * 8 * 4 * MMA_THREADS;
}

/* A vector of p->vec numbers, and its bytes. */
static LLVMTypeRef vector(Gen *g, const Plane *p) {
    return p->half ? gen_vec(g, g->i32, 4) : gen_vec(g, g->f32, p->vec);
}
static int vector_bytes(const Plane *p) {
    return p->half ? 16 : 4 * p->vec;
}

void plane_begin(Gen *g, Plane *p) {
    p->vec = p->half ? 8 : p->ld % 4 == 0 && p->run % 4 == 0 ? 4 : 1;
    p->units = units_of(p->tile_lines, p->tile_run);
    if (p->units > PLANE_UNITS) ice("plane of %d units", p->units);
    for (int i = 0; i < p->units && !p->ahead; i++)
        for (int j = 0; j < 8 / p->vec; j++) p->value[i][j] = gen_alloca(g, vector(g, p), "next");
}

/* Line and first number of unit i of the thread, within the tile. */
static void unit_at(Gen *g, const Plane *p, int i, LLVMValueRef *line, LLVMValueRef *unit) {
    int across = p->tile_run / 8;
    LLVMValueRef thread = nv_thread(g);
    *line = gen_add(g, gen_div(g, thread, across), gen_i64(g, i * (MMA_THREADS / across)));
    *unit = gen_mod(g, thread, across);
}

static LLVMValueRef less(Gen *g, LLVMValueRef a, int64_t b) {
    return gen_less(g, a, gen_i64(g, b));
}

/* Are there fewer lines than a tile has threads for? */
static bool is_short(const Plane *p) {
    return p->tile_lines * p->tile_run / 8 < MMA_THREADS;
}

/* Where vector j of the thread's unit i waits: threads side by side. */
static LLVMValueRef ahead_at(Gen *g, const Plane *p, int i, int j) {
    LLVMValueRef place = gen_add(g, nv_thread(g), gen_i64(g, (i * (8 / p->vec) + j) * MMA_THREADS));
    return gen_at(g, vector(g, p), p->ahead, place);
}

/* Unit `unit` of a line of the tile at `tile`. */
static LLVMValueRef place_of(Gen *g, const Plane *p, LLVMValueRef tile, LLVMValueRef line,
                             LLVMValueRef unit) {
    LLVMValueRef at = gen_add(g, gen_mul(g, line, p->tile_run + PLANE_PAD), gen_mul(g, unit, 8));
    return gen_at(g, g->i16, tile, at);
}

/* The vector of the matrix at a line and a number along it, to shared memory at `to` or else to `value`. */
static void load(Gen *g, const Plane *p, LLVMValueRef line, LLVMValueRef at, LLVMValueRef to,
                 LLVMValueRef value) {
    LLVMValueRef inside = NULL;
    if (p->lines % p->tile_lines || is_short(p)) {
        inside = less(g, line, p->lines);
        line = gen_min(g, line, gen_i64(g, p->lines - 1));
    }
    if (p->run % p->tile_run) {
        LLVMValueRef before = less(g, at, p->run);
        inside = inside ? LLVMBuildAnd(g->b, inside, before, "") : before;
        at = gen_min(g, at, gen_i64(g, p->run - p->vec));
    }
    LLVMValueRef from =
        gen_at(g, p->half ? g->i16 : g->f32, p->base, gen_add(g, gen_mul(g, line, p->ld), at));
    if (to) {
        nv_copy(g, to, from, vector_bytes(p), inside);
        return;
    }
    LLVMValueRef v = nv_load(g, vector(g, p), from, (unsigned)vector_bytes(p));
    if (inside) v = LLVMBuildSelect(g->b, inside, v, LLVMConstNull(LLVMTypeOf(v)), "");
    gen_store(g, v, value);
}

/* The thread's unit i straight to its place in the tile. */
static void copy_unit(Gen *g, const Plane *p, int i, LLVMValueRef line0, LLVMValueRef run0) {
    LLVMValueRef line, unit;
    unit_at(g, p, i, &line, &unit);
    If needed = {0};
    if (is_short(p)) needed = gen_if(g, less(g, line, p->tile_lines));
    load(g, p, gen_add(g, line0, line), gen_add(g, run0, gen_mul(g, unit, 8)),
         place_of(g, p, p->ahead, line, unit), NULL);
    if (is_short(p)) gen_if_end(g, &needed);
}

void plane_load(Gen *g, Plane *p, LLVMValueRef line0, LLVMValueRef run0) {
    for (int i = 0; i < p->units; i++) {
        if (p->half && p->ahead) {
            copy_unit(g, p, i, line0, run0);
            continue;
        }
        LLVMValueRef line, unit;
        unit_at(g, p, i, &line, &unit);
        for (int j = 0; j < 8 / p->vec; j++) {
            LLVMValueRef at = gen_add(g, run0, gen_add(g, gen_mul(g, unit, 8), gen_i64(g, j * p->vec)));
            load(g, p, gen_add(g, line0, line), at, p->ahead ? ahead_at(g, p, i, j) : NULL, p->value[i][j]);
        }
    }
}

/* The thread's unit i, which is there, as 16 bytes of bf16. */
static LLVMValueRef unit_words(Gen *g, const Plane *p, int i) {
    if (p->half) return gen_load(g, vector(g, p), p->value[i][0]);
    LLVMValueRef x[8], words = LLVMGetPoison(gen_vec(g, g->i32, 4));
    for (int j = 0; j < 8; j++) {
        LLVMValueRef v = p->ahead
                             ? nv_load(g, vector(g, p), ahead_at(g, p, i, j / p->vec), (unsigned)(4 * p->vec))
                             : gen_load(g, vector(g, p), p->value[i][j / p->vec]);
        x[j] = p->vec == 1 ? v : LLVMBuildExtractElement(g->b, v, gen_i32(g, j % p->vec), "");
    }
    for (int j = 0; j < 4; j++) {
        LLVMValueRef pair = mma_pair(g, x[2 * j], x[2 * j + 1]);
        words = LLVMBuildInsertElement(g->b, words, pair, gen_i32(g, j), "");
    }
    return words;
}

void plane_store(Gen *g, const Plane *p, LLVMValueRef to) {
    for (int i = 0; i < p->units && !(p->half && p->ahead); i++) {
        LLVMValueRef line, unit, words = unit_words(g, p, i);
        unit_at(g, p, i, &line, &unit);
        If needed = {0};
        if (is_short(p)) needed = gen_if(g, less(g, line, p->tile_lines));
        nv_store(g, words, place_of(g, p, to, line, unit), 16);
        if (is_short(p)) gen_if_end(g, &needed);
    }
}
