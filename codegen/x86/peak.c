/* What the machine can do at most, for others to be compared with: as many products as the micro-kernel keeps
 * in flight and nothing else, or as many additions of numbers from the first-level cache, and reading memory and
 * nothing else. */
#include "gemm.h"
#include "lut.h"

enum {
    STEPS = 1 << 13,
    PEAK_TILES = 256,
    TABLE = 8,       /* lines of entries, one for each of so many steps */
    PIECE = 1 << 18, /* bytes */
    STREAMS = 8      /* vectors in flight */
};

/* ---- arithmetic */

static int accumulators(const Target *t) {
    return t->mr * t->nr / t->vl;
}

/* The same small numbers in every lane, and not known before the kernel runs. */
static LLVMValueRef operand(Gen *g, PanelType type) {
    LLVMValueRef one = LLVMBuildAnd(g->b, LLVMBuildTrunc(g->b, g->tile, g->i32, ""), gen_i32(g, 1), "");
    LLVMValueRef pair = LLVMBuildMul(g->b, one, gen_i32(g, 0x00010001), "");
    LLVMValueRef words = gen_splat(g, pair, g->target->vl);
    return panels_of_pairs(type) ? words
                                 : LLVMBuildUIToFP(g->b, words, gen_vec(g, g->f32, g->target->vl), "");
}

/* The next sum, given the one so far: an entry more, of a table where each step has its line of entries. */
static LLVMValueRef look_up(Gen *g, LLVMValueRef step, int entry, LLVMValueRef sum) {
    LLVMTypeRef vec = LLVMTypeOf(sum);
    LLVMValueRef line = gen_mul(g, gen_mod(g, step, TABLE), accumulators(g->target));
    LLVMValueRef x = gen_load(g, vec, gen_at(g, vec, g->scratch, gen_add(g, line, gen_i64(g, entry))));
    return LLVMBuildFAdd(g->b, sum, x, "");
}

static PanelType panels(const PeakDesc *d, const Target *t) {
    return d->type == PANELS_BF16 ? panels_in_bf16(t) : d->type;
}

void gen_peak(Gen *g, const char *name, const PeakDesc *d) {
    int count = accumulators(g->target);
    PanelType type = panels(d, g->target);
    LLVMTypeRef vec = gen_vec(g, type == PANELS_I16 ? g->i32 : g->f32, g->target->vl);
    LLVMValueRef sum[64];
    gen_kernel(g, name);
    LLVMValueRef x = operand(g, type);
    gen_zero(g, g->scratch, gen_i64(g, (int64_t)peak_scratch(d, g->target)));
    for (int i = 0; i < count; i++) gen_store(g, LLVMConstNull(vec), sum[i] = gen_alloca(g, vec, "sum"));
    Loop loop = gen_loop(g, gen_i64(g, 0), gen_i64(g, STEPS), 1, "step");
    for (int i = 0; i < count; i++) {
        LLVMValueRef so_far = gen_load(g, vec, sum[i]);
        LLVMValueRef a = type == PANELS_I16 ? so_far : x; /* or the product would leave the loop */
        gen_store(g, d->lut ? look_up(g, loop.i, i, so_far) : pairs_add(g, type, so_far, a, x), sum[i]);
    }
    gen_loop_end(g, &loop);
    for (int i = 0; i < count; i++)
        gen_store(g, gen_load(g, vec, sum[i]), gen_at(g, vec, g->scratch, gen_i64(g, i)));
    gen_end(g);
}

uint32_t peak_tiles(const PeakDesc *d, const Target *t) {
    (void)d, (void)t;
    return PEAK_TILES;
}

uint64_t peak_scratch(const PeakDesc *d, const Target *t) {
    return 4u * (uint64_t)(accumulators(t) * t->vl) * (d->lut ? TABLE : 1);
}

int64_t peak_flops(const PeakDesc *d, const Target *t) {
    int64_t each = (int64_t)PEAK_TILES * STEPS * t->mr * t->nr * 2; /* a product in each lane */
    if (d->lut) return each * LUT_STEPS / LUT_TABLES;
    return panels_of_pairs(panels(d, t)) ? 2 * each : each;
}

/* ---- memory */

void gen_stream(Gen *g, const char *name, const StreamDesc *d) {
    LLVMTypeRef vec = gen_vec(g, g->i32, g->target->vl);
    LLVMValueRef seen[STREAMS];
    gen_kernel(g, name);
    LLVMValueRef at = gen_at(g, g->i8, gen_buffer(g, 0), gen_mul(g, g->tile, PIECE));
    for (int i = 0; i < STREAMS; i++) gen_store(g, LLVMConstNull(vec), seen[i] = gen_alloca(g, vec, "seen"));
    int64_t piece = d->bytes < PIECE ? d->bytes : PIECE, step = STREAMS * 4 * g->target->vl;
    Loop loop = gen_loop(g, gen_i64(g, 0), gen_i64(g, piece / step * step), step, "read");
    for (int i = 0; i < STREAMS; i++) {
        LLVMValueRef x = gen_load(g, vec, gen_at(g, vec, gen_at(g, g->i8, at, loop.i), gen_i64(g, i)));
        gen_store(g, LLVMBuildXor(g->b, gen_load(g, vec, seen[i]), x, ""), seen[i]);
    }
    gen_loop_end(g, &loop);
    for (int i = 0; i < STREAMS; i++)
        gen_store(g, gen_load(g, vec, seen[i]), gen_at(g, vec, g->scratch, gen_i64(g, i)));
    gen_end(g);
}

uint32_t stream_tiles(const StreamDesc *d, const Target *t) {
    (void)t;
    return d->bytes < PIECE ? 1 : (uint32_t)(d->bytes / PIECE);
}

uint64_t stream_scratch(const StreamDesc *d, const Target *t) {
    (void)d;
    return STREAMS * 4u * (uint64_t)t->vl;
}
