/* Tiles of f32 matrices on their way to shared memory as bf16 (mma.h). A unit is 8 numbers of a line, which
 * become one store of 16 bytes. */
#include "mma.h"

int64_t plane_bytes(int tile_lines, int tile_run) {
    return (int64_t)2 * tile_lines * (tile_run + PLANE_PAD);
}

void plane_begin(Gen *g, Plane *p) {
    p->vec = p->ld % 4 == 0 && p->run % 4 == 0 ? 4 : 1;
    p->units = (p->tile_lines * p->tile_run / 8 + MMA_THREADS - 1) / MMA_THREADS;
    if (p->units > PLANE_UNITS) ice("plane of %d units", p->units);
    for (int i = 0; i < p->units; i++)
        for (int j = 0; j < 8 / p->vec; j++)
            p->value[i][j] = gen_alloca(g, gen_vec(g, g->f32, p->vec), "next");
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

static LLVMValueRef load(Gen *g, const Plane *p, LLVMValueRef line, LLVMValueRef at) {
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
    LLVMValueRef from = gen_at(g, g->f32, p->base, gen_add(g, gen_mul(g, line, p->ld), at));
    LLVMValueRef v = nv_load(g, gen_vec(g, g->f32, p->vec), from, (unsigned)(4 * p->vec));
    return inside ? LLVMBuildSelect(g->b, inside, v, LLVMConstNull(LLVMTypeOf(v)), "") : v;
}

void plane_load(Gen *g, Plane *p, LLVMValueRef line0, LLVMValueRef run0) {
    for (int i = 0; i < p->units; i++) {
        LLVMValueRef line, unit;
        unit_at(g, p, i, &line, &unit);
        for (int j = 0; j < 8; j += p->vec) {
            LLVMValueRef at = gen_add(g, run0, gen_add(g, gen_mul(g, unit, 8), gen_i64(g, j)));
            gen_store(g, load(g, p, gen_add(g, line0, line), at), p->value[i][j / p->vec]);
        }
    }
}

void plane_store(Gen *g, const Plane *p, LLVMValueRef to) {
    for (int i = 0; i < p->units; i++) {
        LLVMValueRef line, unit, x[8], words = LLVMGetPoison(gen_vec(g, g->i32, 4));
        unit_at(g, p, i, &line, &unit);
        for (int j = 0; j < 8; j++) {
            LLVMValueRef v = gen_load(g, gen_vec(g, g->f32, p->vec), p->value[i][j / p->vec]);
            x[j] = p->vec == 1 ? v : LLVMBuildExtractElement(g->b, v, gen_i32(g, j % p->vec), "");
        }
        for (int j = 0; j < 4; j++) {
            LLVMValueRef pair = mma_pair(g, x[2 * j], x[2 * j + 1]);
            words = LLVMBuildInsertElement(g->b, words, pair, gen_i32(g, j), "");
        }
        LLVMValueRef at = gen_add(g, gen_mul(g, line, p->tile_run + PLANE_PAD), gen_mul(g, unit, 8));
        If needed = {0};
        if (is_short(p)) needed = gen_if(g, less(g, line, p->tile_lines));
        nv_store(g, words, gen_at(g, g->i16, to, at), 16);
        if (is_short(p)) gen_if_end(g, &needed);
    }
}
