/* Panels: copies to shared memory, and slices from there (panel.h). */
#include "panel.h"
#include "tile.h"

enum { CHUNK = 4 /* floats of a copy: 16 bytes */ };

static int lines(const Panel *p) {
    return p->steps ? p->turn : p->width;
}
static int run(const Panel *p) {
    return p->steps ? p->width : p->turn;
}
/* Floats from line to line in shared memory. Eight lines begin in different groups of four banks, or (of
 * width: a multiple of 32) four lines eight banks apart. */
static int stride(const Panel *p) {
    return run(p) + (p->steps ? 8 : 4);
}

int64_t panel_bytes(const Panel *p) {
    return (int64_t)4 * lines(p) * stride(p);
}

static LLVMValueRef below(Gen *g, LLVMValueRef inside, LLVMValueRef x, int64_t end) {
    LLVMValueRef here = gen_less(g, x, gen_i64(g, end));
    return inside ? LLVMBuildAnd(g->b, inside, here, "") : here;
}

void panel_copy(Gen *g, const Panel *p, LLVMValueRef to, LLVMValueRef row0, LLVMValueRef k0) {
    int64_t exist = p->steps ? p->depth : p->rows, ld = p->steps ? p->rows : p->depth;
    LLVMValueRef line0 = p->steps ? k0 : row0, run0 = p->steps ? row0 : k0;
    int n = ld % CHUNK ? 1 : CHUNK, across = run(p) / n; /* floats of a copy; copies of a line */
    for (int first = 0; first < lines(p) * across; first += p->threads) {
        LLVMValueRef unit = gen_add(g, nv_thread(g), gen_i64(g, first)), inside = NULL;
        LLVMValueRef line = gen_div(g, unit, across), at = gen_mul(g, gen_mod(g, unit, across), n);
        LLVMValueRef place = gen_add(g, gen_mul(g, line, stride(p)), at);
        line = gen_add(g, line0, line);
        at = gen_add(g, run0, at);
        if (exist % lines(p)) inside = below(g, inside, line, exist);
        if (ld % run(p)) inside = below(g, inside, at, ld);
        LLVMValueRef from = gen_at(g, g->f32, p->base, gen_add(g, gen_mul(g, line, ld), at));
        nv_copy(g, gen_at(g, g->f32, to, place), from, 4 * n, inside);
    }
}

LLVMValueRef panel_row(Gen *g, bool steps, int s, LLVMValueRef c) {
    if (!steps) return gen_add(g, c, gen_i64(g, 8 * s));
    return gen_add(g, gen_mul(g, c, 4), gen_i64(g, s / 4 * 32 + s % 4));
}

/* Where among 16 steps number i of a lane's four is, but for its t. */
static int step_of(int i) {
    return i % 2 * 8 + i / 2 * 4;
}

/* Matrix i of four is 8 rows by the 4 steps from step_of(i) on, whose lines its 8 lanes point at. */
static void slices_of_rows(Gen *g, const Panel *p, LLVMValueRef tile, LLVMValueRef row, int step, int n,
                           Slice *out) {
    LLVMValueRef i = gen_div(g, nv_lane(g), 8), c = gen_mod(g, nv_lane(g), 8);
    LLVMValueRef at = gen_mul(g, gen_add(g, row, c), stride(p));
    at = gen_add(g, at, gen_add(g, gen_mul(g, gen_mod(g, i, 2), 8), gen_mul(g, gen_div(g, i, 2), 4)));
    tile = gen_at(g, g->f32, tile, at);
    for (int s = 0; s < n; s++) {
        LLVMValueRef from = gen_at(g, g->f32, tile, gen_i64(g, 8 * s * stride(p) + step)), x[4];
        LLVMValueRef four =
            gen_intrinsic(g, "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16", LLVMTypeOf(from), &from, 1);
        for (unsigned j = 0; j < 4; j++)
            x[j] = LLVMBuildBitCast(g->b, LLVMBuildExtractValue(g->b, four, j, ""), g->f32, "");
        for (int r = 0; r < 2; r++) out[s][r] = mma_pair(g, x[2 * r], x[2 * r + 1]);
    }
}

static void slices_of_steps(Gen *g, const Panel *p, LLVMValueRef tile, LLVMValueRef row, int step, int n,
                            Slice *out) {
    LLVMValueRef t = gen_mod(g, nv_lane(g), 4), c = gen_div(g, nv_lane(g), 4);
    LLVMValueRef at = gen_add(g, gen_mul(g, t, stride(p)), gen_add(g, row, gen_mul(g, c, 4)));
    tile = gen_at(g, g->f32, tile, at);
    for (int s = 0; s < n; s += 4) {
        LLVMValueRef v[4];
        for (int i = 0; i < 4; i++) {
            int64_t offset = (int64_t)(step + step_of(i)) * stride(p) + 8 * s;
            v[i] = tile_load(g, gen_at(g, g->f32, tile, gen_i64(g, offset)), 4);
        }
        for (int j = 0; j < 4; j++) {
            LLVMValueRef x[4];
            for (int i = 0; i < 4; i++) x[i] = LLVMBuildExtractElement(g->b, v[i], gen_i32(g, j), "");
            for (int r = 0; r < 2; r++) out[s + j][r] = mma_pair(g, x[2 * r], x[2 * r + 1]);
        }
    }
}

void panel_slices(Gen *g, const Panel *p, LLVMValueRef tile, LLVMValueRef row, int step, int n, Slice *out) {
    (p->steps ? slices_of_steps : slices_of_rows)(g, p, tile, row, step, n, out);
}
