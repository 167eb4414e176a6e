/* Panels: copies to shared memory, and slices from there (panel.h). */
#include "panel.h"
#include "tile.h"

static int lines(const Panel *p) {
    return p->steps ? p->turn : p->width;
}
static int run(const Panel *p) {
    return p->steps ? p->width : p->turn;
}
static int number_bytes(const Panel *p) {
    return p->half ? 2 : 4;
}

/* Numbers from line to line in shared memory. Eight lines along rows begin in different groups of four banks,
 * and four of f32 along steps (run is a multiple of 32 there) eight banks apart. */
static int stride(const Panel *p) {
    return run(p) + (p->steps || p->half ? 8 : 4);
}
/* More of them after each eight lines. Of bf16 along steps, eight neighbouring lines begin in different
 * groups of four banks; those of a matrix are t and t + 8, t = 0 .. 3 or 4 .. 7. */
static int gap(const Panel *p) {
    return p->steps && p->half ? 32 : 0;
}

int64_t panel_bytes(const Panel *p) {
    return (int64_t)number_bytes(p) * (lines(p) * stride(p) + lines(p) / 8 * gap(p));
}

static LLVMValueRef line_at(Gen *g, const Panel *p, LLVMValueRef line) {
    LLVMValueRef at = gen_mul(g, line, stride(p));
    return gap(p) ? gen_add(g, at, gen_mul(g, gen_div(g, line, 8), gap(p))) : at;
}

static LLVMValueRef below(Gen *g, LLVMValueRef inside, LLVMValueRef x, int64_t end) {
    LLVMValueRef here = gen_less(g, x, gen_i64(g, end));
    return inside ? LLVMBuildAnd(g->b, inside, here, "") : here;
}

/* A number of two bytes, which is less than can be copied asynchronously. */
static void copy_half(Gen *g, LLVMValueRef to, LLVMValueRef base, LLVMValueRef at, LLVMValueRef inside) {
    if (inside) at = LLVMBuildSelect(g->b, inside, at, gen_i64(g, 0), "");
    LLVMValueRef x = gen_load(g, g->i16, gen_at(g, g->i16, base, at));
    gen_store(g, inside ? LLVMBuildSelect(g->b, inside, x, LLVMConstNull(g->i16), "") : x, to);
}

void panel_copy(Gen *g, const Panel *p, LLVMValueRef to, LLVMValueRef row0, LLVMValueRef k0) {
    int64_t exist = p->steps ? p->depth : p->rows, ld = p->steps ? p->rows : p->depth;
    LLVMValueRef line0 = p->steps ? k0 : row0, run0 = p->steps ? row0 : k0;
    LLVMTypeRef type = p->half ? g->i16 : g->f32;
    int n = 16 / number_bytes(p); /* numbers of a copy */
    while (ld % n) n /= 2;
    int across = run(p) / n;
    for (int first = 0; first < lines(p) * across; first += p->threads) {
        LLVMValueRef unit = gen_add(g, nv_thread(g), gen_i64(g, first)), inside = NULL;
        LLVMValueRef line = gen_div(g, unit, across), at = gen_mul(g, gen_mod(g, unit, across), n);
        LLVMValueRef place = gen_at(g, type, to, gen_add(g, line_at(g, p, line), at));
        line = gen_add(g, line0, line);
        at = gen_add(g, run0, at);
        if (exist % lines(p)) inside = below(g, inside, line, exist);
        if (ld % run(p)) inside = below(g, inside, at, ld);
        at = gen_add(g, gen_mul(g, line, ld), at);
        if (n * number_bytes(p) < 4)
            copy_half(g, place, p->base, at, inside);
        else
            nv_copy(g, place, gen_at(g, type, p->base, at), n * number_bytes(p), inside);
    }
}

bool panel_of_neighbours(const Panel *p) {
    return p->half && !p->steps;
}

bool panel_by_vectors(const Panel *p) {
    return p->steps && !p->half;
}

LLVMValueRef panel_row(Gen *g, bool by_vectors, int s, LLVMValueRef c) {
    if (!by_vectors) return gen_add(g, c, gen_i64(g, 8 * s));
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

/* Two slices by one ldmatrix, a matrix for each register. */
static void load_slices(Gen *g, const char *ldmatrix, LLVMValueRef from, Slice out[2]) {
    LLVMValueRef four = gen_intrinsic(g, ldmatrix, LLVMTypeOf(from), &from, 1);
    for (unsigned m = 0; m < 4; m++) out[m / 2][m % 2] = LLVMBuildExtractValue(g->b, four, m, "");
}

/* Matrix i of four is 8 rows of slice i / 2 by steps 0 .. 7 or 8 .. 15. */
static void slices_of_half_rows(Gen *g, const Panel *p, LLVMValueRef tile, LLVMValueRef row, int step, int n,
                                Slice *out) {
    LLVMValueRef i = gen_div(g, nv_lane(g), 8), c = gen_mod(g, nv_lane(g), 8);
    row = gen_add(g, row, gen_add(g, c, gen_mul(g, gen_div(g, i, 2), 8)));
    LLVMValueRef at = gen_add(g, gen_mul(g, row, stride(p)), gen_mul(g, gen_mod(g, i, 2), 8));
    tile = gen_at(g, g->i16, tile, at);
    for (int s = 0; s < n; s += 2)
        load_slices(g, "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16",
                    gen_at(g, g->i16, tile, gen_i64(g, 8 * s * stride(p) + step)), &out[s]);
}

/* Matrix i of four is 8 steps of slice i / 2, in the order in which a lane's pairs have them. */
static void slices_of_half_steps(Gen *g, const Panel *p, LLVMValueRef tile, LLVMValueRef row, int step, int n,
                                 Slice *out) {
    LLVMValueRef i = gen_div(g, nv_lane(g), 8), j = gen_mod(g, nv_lane(g), 8);
    LLVMValueRef line = gen_add(g, gen_div(g, j, 2), gen_mul(g, gen_mod(g, j, 2), 8));
    line = gen_add(g, line, gen_mul(g, gen_mod(g, i, 2), 4));
    row = gen_add(g, row, gen_mul(g, gen_div(g, i, 2), 8));
    tile = gen_at(g, g->i16, tile, gen_add(g, line_at(g, p, gen_add(g, line, gen_i64(g, step))), row));
    for (int s = 0; s < n; s += 2)
        load_slices(g, "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.trans.b16",
                    gen_at(g, g->i16, tile, gen_i64(g, 8 * s)), &out[s]);
}

void panel_slices(Gen *g, const Panel *p, LLVMValueRef tile, LLVMValueRef row, int step, int n, Slice *out) {
    if (p->half)
        (p->steps ? slices_of_half_steps : slices_of_half_rows)(g, p, tile, row, step, n, out);
    else
        (p->steps ? slices_of_steps : slices_of_rows)(g, p, tile, row, step, n, out);
}

LLVMValueRef panel_from(Gen *g, const Panel *p, LLVMValueRef tile, LLVMValueRef step) {
    return gen_at(g, p->half ? g->i16 : g->f32, tile, p->steps ? line_at(g, p, step) : step);
}
