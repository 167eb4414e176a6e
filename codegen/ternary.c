/* Projection of weights to packed ternary codes and f16 scales, and back (see ternary_layout in ir.h), and the
 * gradient of the clipped straight-through estimator.
 *
 *     s = f16(mean |w|) of a group,  q = clip(roundeven(w / s), -1, 1),  0 where s is 0
 *
 * No division is needed for q: the f32 quotient rounds to more than 1/2 exactly if |w| > s/2, and a
 * quotient of 1/2 goes to the even 0. Groups that are a multiple of 16 (or the whole row) are worked on in
 * vectors; any other group size takes one weight at a time. */
#include "rows.h"
#include <stdio.h>

#define WORD 16 /* weights in the 4 bytes that rows of codes are padded to */

LLVMValueRef ternary_codes(Gen *g, LLVMValueRef t2, LLVMValueRef row, const TernaryLayout *layout) {
    return gen_at(g, g->i8, t2, gen_mul(g, row, layout->row_bytes));
}

LLVMValueRef ternary_scales(Gen *g, LLVMValueRef t2, LLVMValueRef row, const TernaryLayout *layout) {
    return gen_at(g, g->i8, t2,
                  gen_add(g, gen_mul(g, row, layout->groups * 2), gen_i64(g, layout->scales_at)));
}

bool ternary_by_vectors(int64_t cols, int64_t group) {
    return group % WORD == 0 || group >= cols;
}

static LLVMValueRef absolute(Gen *g, LLVMValueRef x) {
    return gen_intrinsic(g, "llvm.fabs", LLVMTypeOf(x), &x, 1);
}

LLVMValueRef ternary_scale(Gen *g, LLVMValueRef sum, LLVMValueRef n) {
    LLVMValueRef mean = LLVMBuildFDiv(g->b, sum, LLVMBuildSIToFP(g->b, n, LLVMTypeOf(sum), ""), "");
    mean = LLVMBuildFPTrunc(g->b, mean, g->f32, ""); /* the mean is an f32 before it is an f16 */
    return LLVMBuildFPTrunc(g->b, mean, g->f16, "");
}

/* Stores the scale of group `index`, given the sum (f64) of |w| over its n weights. */
static void store_scale(const TernaryRow *r, LLVMValueRef index, LLVMValueRef sum, LLVMValueRef n) {
    Gen *g = r->g;
    gen_store(g, ternary_scale(g, sum, n), gen_at(g, g->f16, r->scales, index));
}

LLVMValueRef ternary_load_scale(Gen *g, LLVMValueRef scales, LLVMValueRef group) {
    return LLVMBuildFPExt(g->b, gen_load(g, g->f16, gen_at(g, g->f16, scales, group)), g->f32, "");
}

LLVMValueRef ternary_bound(Gen *g, LLVMValueRef scale) {
    LLVMValueRef some = LLVMBuildFCmp(g->b, LLVMRealOGT, scale, gen_f32(g, 0), "");
    LLVMValueRef bound = LLVMBuildFMul(g->b, scale, gen_f32(g, 0.5), "");
    return LLVMBuildSelect(g->b, some, bound, gen_f32(g, __builtin_inf()), "");
}

/* The bound of group `index`, whose scale has been stored. */
static LLVMValueRef bound_of(const TernaryRow *r, LLVMValueRef index) {
    return ternary_bound(r->g, ternary_load_scale(r->g, r->scales, index));
}

LLVMValueRef ternary_code(Gen *g, LLVMValueRef w, LLVMValueRef bound, int lanes) {
    LLVMTypeRef type = gen_vec(g, g->i8, lanes);
    LLVMValueRef above = LLVMBuildFCmp(g->b, LLVMRealOGT, w, bound, "");
    LLVMValueRef below = LLVMBuildFCmp(g->b, LLVMRealOLT, w, LLVMBuildFNeg(g->b, bound, ""), "");
    LLVMValueRef one = gen_splat(g, LLVMConstInt(g->i8, 1, false), lanes);
    LLVMValueRef code = LLVMBuildAdd(g->b, one, LLVMBuildZExt(g->b, above, type, ""), "");
    return LLVMBuildSub(g->b, code, LLVMBuildZExt(g->b, below, type, ""), "");
}

/* ---- groups by vectors */

/* `width` weights from column col on, of which only the first n exist; the others are 0. */
static LLVMValueRef load_weights(const TernaryRow *r, LLVMValueRef col, int width, int64_t n) {
    Gen *g = r->g;
    if (n >= width) return gen_load(g, gen_vec(g, g->f32, width), gen_at(g, g->f32, r->w, col));
    LLVMValueRef count = gen_splat(g, gen_i32(g, n), width);
    Lanes at = {col, LLVMBuildICmp(g->b, LLVMIntSLT, gen_iota(g, g->i32, width), count, "")};
    return lanes_load(g, r->w, &at);
}

/* Adds |w| of these columns to the f64 lanes of `sum`. */
static void add_magnitudes(const TernaryRow *r, LLVMValueRef sum, LLVMValueRef w, int width) {
    Gen *g = r->g;
    LLVMTypeRef type = gen_vec(g, LLVMDoubleTypeInContext(g->ctx), width);
    LLVMValueRef more = LLVMBuildFPExt(g->b, absolute(g, w), type, "");
    gen_store(g, LLVMBuildFAdd(g->b, gen_load(g, type, sum), more, ""), sum);
}

/* Packs four codes a byte: lane 4i+k goes to bits 2k of byte i. */
static void store_codes(const TernaryRow *r, LLVMValueRef col, LLVMValueRef w, LLVMValueRef bound, int width) {
    static const int shift[] = {6, 12, 18}; /* from byte k of a word to bits 2k */
    Gen *g = r->g;
    LLVMTypeRef words = gen_vec(g, g->i32, width / 4);
    LLVMValueRef code = ternary_code(g, w, gen_splat(g, bound, width), width);
    code = LLVMBuildBitCast(g->b, code, words, "");
    LLVMValueRef packed = code;
    for (int k = 0; k < 3; k++) {
        LLVMValueRef down = LLVMBuildLShr(g->b, code, gen_splat(g, gen_i32(g, shift[k]), width / 4), "");
        packed = LLVMBuildOr(g->b, packed, down, "");
    }
    packed = LLVMBuildTrunc(g->b, packed, gen_vec(g, g->i8, width / 4), "");
    gen_store(g, packed, gen_at(g, g->i8, r->codes, gen_div(g, col, 4)));
}

int ternary_lanes(int64_t n) {
    return n % (2 * WORD) == 0 ? 2 * WORD : WORD;
}

/* The scale of group `index`, of n weights. */
static void scale_group(const TernaryRow *r, LLVMValueRef index, int64_t n) {
    Gen *g = r->g;
    int width = ternary_lanes(n);
    LLVMTypeRef type = gen_vec(g, LLVMDoubleTypeInContext(g->ctx), width);
    LLVMValueRef first = gen_mul(g, index, r->group), sum = gen_alloca(g, type, "sum");
    LLVMValueRef end = gen_add(g, first, gen_i64(g, n / width * width));
    gen_store(g, LLVMConstNull(type), sum);
    Loop add = gen_loop(g, first, end, width, "add");
    add_magnitudes(r, sum, load_weights(r, add.i, width, width), width);
    gen_loop_end(g, &add);
    if (n % width) add_magnitudes(r, sum, load_weights(r, end, width, n % width), width);
    store_scale(r, index, gen_reduce_add(g, gen_load(g, type, sum)), gen_i64(g, n));
}

static void pack_group(const TernaryRow *r, LLVMValueRef index, int64_t n) {
    Gen *g = r->g;
    int width = ternary_lanes(n);
    LLVMValueRef first = gen_mul(g, index, r->group), bound = bound_of(r, index);
    LLVMValueRef end = gen_add(g, first, gen_i64(g, n / width * width));
    Loop pack = gen_loop(g, first, end, width, "pack");
    store_codes(r, pack.i, load_weights(r, pack.i, width, width), bound, width);
    gen_loop_end(g, &pack);
    if (n % width) store_codes(r, end, load_weights(r, end, width, n % width), bound, width);
}

static void each_group(const TernaryRow *r, void (*work)(const TernaryRow *, LLVMValueRef index, int64_t n)) {
    int64_t whole = r->cols / r->group;
    Loop group = gen_loop(r->g, gen_i64(r->g, 0), gen_i64(r->g, whole), 1, "group");
    work(r, group.i, r->group);
    gen_loop_end(r->g, &group);
    if (r->cols % r->group) work(r, gen_i64(r->g, whole), r->cols % r->group);
}

/* ---- any other group size, weight by weight */

void ternary_scale_serially(const TernaryRow *r, LLVMValueRef index, int64_t n) {
    Gen *g = r->g;
    LLVMTypeRef f64 = LLVMDoubleTypeInContext(g->ctx);
    LLVMValueRef first = gen_mul(g, index, r->group), sum = gen_alloca(g, f64, "sum");
    gen_store(g, LLVMConstNull(f64), sum);
    Loop add = gen_loop(g, first, gen_add(g, first, gen_i64(g, n)), 1, "add");
    add_magnitudes(r, sum, gen_load(g, g->f32, gen_at(g, g->f32, r->w, add.i)), 1);
    gen_loop_end(g, &add);
    store_scale(r, index, gen_load(g, f64, sum), gen_i64(g, n));
}

LLVMValueRef ternary_pack_byte(const TernaryRow *r, LLVMValueRef i) {
    Gen *g = r->g;
    LLVMValueRef packed = LLVMConstNull(g->i8), padding = LLVMConstInt(g->i8, 1, false);
    for (int k = 0; k < 4; k++) {
        LLVMValueRef col = gen_add(g, gen_mul(g, i, 4), gen_i64(g, k)), last = gen_i64(g, r->cols - 1);
        LLVMValueRef outside = LLVMBuildICmp(g->b, LLVMIntSGT, col, last, "");
        col = gen_min(g, col, last);
        LLVMValueRef w = gen_load(g, g->f32, gen_at(g, g->f32, r->w, col));
        LLVMValueRef code = ternary_code(g, w, bound_of(r, gen_div(g, col, r->group)), 1);
        code = LLVMBuildSelect(g->b, outside, padding, code, "");
        code = LLVMBuildShl(g->b, code, LLVMConstInt(g->i8, (unsigned)(2 * k), false), "");
        packed = LLVMBuildOr(g->b, packed, code, "");
    }
    return packed;
}

/* All scales first: then no group waits for the sum and the division of the one before. */
static void pack_row(const TernaryRow *r, bool fast) {
    Gen *g = r->g;
    each_group(r, fast ? scale_group : ternary_scale_serially);
    if (fast) {
        each_group(r, pack_group);
        return;
    }
    Loop byte = gen_loop(g, gen_i64(g, 0), gen_i64(g, r->bytes), 1, "byte");
    gen_store(g, ternary_pack_byte(r, byte.i), gen_at(g, g->i8, r->codes, byte.i));
    gen_loop_end(g, &byte);
}

LLVMValueRef gen_project_part(Gen *g, int64_t part, int64_t cols, int64_t group) {
    char name[96];
    snprintf(name, sizeof name, "project_%lld_of_%lld_g%lld", (long long)part, (long long)cols,
             (long long)group);
    LLVMTypeRef params[] = {g->ptr, g->ptr, g->ptr};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 3, false), &exists, &saved);
    if (exists) return fn;
    gen_noinline(g, fn);
    TernaryRow r = {.g = g, .cols = part, .group = group, .bytes = (part + WORD - 1) / WORD * 4};
    r.w = LLVMGetParam(fn, 0), r.codes = LLVMGetParam(fn, 1), r.scales = LLVMGetParam(fn, 2);
    pack_row(&r, ternary_by_vectors(cols, group));
    gen_function_end(g, &saved);
    return fn;
}

/* Walks the columns of a row group by group; *scale, of the context, is the group's. */
static void lanes_by_group(Gen *g, LLVMValueRef scales, int64_t cols, int64_t group, LLVMValueRef *scale,
                           LanesBody *body, void *context) {
    int64_t whole = cols / group, rest = cols % group;
    Loop each = gen_loop(g, gen_i64(g, 0), gen_i64(g, whole), 1, "group");
    *scale = ternary_load_scale(g, scales, each.i);
    gen_lanes(g, gen_mul(g, each.i, group), gen_i64(g, group), 2, body, context);
    gen_loop_end(g, &each);
    if (!rest) return;
    *scale = ternary_load_scale(g, scales, gen_i64(g, whole));
    gen_lanes(g, gen_i64(g, whole * group), gen_i64(g, rest), 2, body, context);
}

/* ---- decoding */

typedef struct Decode {
    LLVMValueRef codes, dst, scale;
} Decode;

/* Columns of one group. A vector's codes stand in 2 (or 4) whole bytes, padding included. */
static void decode_vectors(Gen *g, void *context, const Lanes *at, int count) {
    const Decode *d = context;
    int vl = g->target->vl;
    LLVMValueRef shift = LLVMBuildMul(g->b, gen_iota(g, g->i32, vl), gen_splat(g, gen_i32(g, 2), vl), "");
    for (int u = 0; u < count; u++) {
        LLVMValueRef word = gen_at(g, g->i8, d->codes, gen_div(g, at[u].col, 4));
        word = LLVMBuildZExt(g->b, gen_load(g, LLVMIntTypeInContext(g->ctx, (unsigned)vl * 2), word), g->i32,
                             "");
        LLVMValueRef code = LLVMBuildLShr(g->b, gen_splat(g, word, vl), shift, "");
        code = LLVMBuildAnd(g->b, code, gen_splat(g, gen_i32(g, 3), vl), "");
        code = LLVMBuildSub(g->b, code, gen_splat(g, gen_i32(g, 1), vl), "");
        LLVMValueRef value = LLVMBuildSIToFP(g->b, code, gen_vec(g, g->f32, vl), "");
        lanes_store(g, LLVMBuildFMul(g->b, value, gen_splat(g, d->scale, vl), ""), d->dst, &at[u]);
    }
}

static void decode_slowly(Gen *g, LLVMValueRef codes, LLVMValueRef scales, LLVMValueRef dst, int64_t cols,
                          int64_t group) {
    Loop col = gen_loop(g, gen_i64(g, 0), gen_i64(g, cols), 1, "col");
    LLVMValueRef byte = gen_load(g, g->i8, gen_at(g, g->i8, codes, gen_div(g, col.i, 4)));
    LLVMValueRef shift = LLVMBuildTrunc(g->b, gen_mul(g, gen_mod(g, col.i, 4), 2), g->i8, "");
    LLVMValueRef code = LLVMBuildLShr(g->b, byte, shift, "");
    code = LLVMBuildAnd(g->b, code, LLVMConstInt(g->i8, 3, false), "");
    code = LLVMBuildSub(g->b, code, LLVMConstInt(g->i8, 1, false), "");
    LLVMValueRef value = LLVMBuildSIToFP(g->b, code, g->f32, "");
    value = LLVMBuildFMul(g->b, value, ternary_load_scale(g, scales, gen_div(g, col.i, group)), "");
    gen_store(g, value, gen_at(g, g->f32, dst, col.i));
    gen_loop_end(g, &col);
}

void gen_decode_row(Gen *g, LLVMValueRef codes, LLVMValueRef scales, LLVMValueRef dst, int64_t cols,
                    int64_t group) {
    if (!ternary_by_vectors(cols, group)) {
        decode_slowly(g, codes, scales, dst, cols, group);
        return;
    }
    Decode d = {.codes = codes, .dst = dst};
    lanes_by_group(g, scales, cols, group, &d.scale, decode_vectors, &d);
}

/* ---- the clipped gradient */

typedef struct Clip {
    LLVMValueRef w, dy, scale;
} Clip;

LLVMValueRef ternary_clip(Gen *g, LLVMValueRef w, LLVMValueRef dy, LLVMValueRef scale) {
    LLVMValueRef inside = LLVMBuildFCmp(g->b, LLVMRealOLE, absolute(g, w), scale, "");
    return LLVMBuildSelect(g->b, inside, dy, LLVMConstNull(LLVMTypeOf(dy)), "");
}

/* Columns of one group. */
static void clip_vectors(Gen *g, void *context, const Lanes *at, int count) {
    const Clip *c = context;
    int vl = g->target->vl;
    for (int u = 0; u < count; u++) {
        LLVMValueRef w = lanes_load(g, c->w, &at[u]), dy = lanes_load(g, c->dy, &at[u]);
        lanes_store(g, ternary_clip(g, w, dy, gen_splat(g, c->scale, vl)), c->dy, &at[u]);
    }
}

/* ---- the kernels: tiles are runs of rows */

#define TILE_WEIGHTS 32768

static Tiling row_tiling(int64_t rows, int64_t cols) {
    return tiling_of(rows, (TILE_WEIGHTS + cols - 1) / cols, 1);
}

void gen_ternary(Gen *g, const char *name, const TernaryDesc *d) {
    Tiling tiling = row_tiling(d->rows, d->cols);
    TernaryLayout layout = ternary_layout(d->rows, d->cols, d->group);
    gen_kernel(g, name);
    LLVMValueRef w = gen_buffer(g, 0), t2 = gen_buffer(g, 1), lo, n;
    gen_piece(g, &tiling, &lo, &n);
    Loop row = gen_loop(g, lo, gen_add(g, lo, n), 1, "row");
    LLVMValueRef parts[] = {gen_at(g, g->f32, w, gen_mul(g, row.i, d->cols)),
                            ternary_codes(g, t2, row.i, &layout), ternary_scales(g, t2, row.i, &layout)};
    gen_call(g, gen_project_part(g, d->cols, d->cols, d->group), parts, 3);
    gen_loop_end(g, &row);
    gen_end(g);
}

uint32_t ternary_tiles(const TernaryDesc *d, const Target *target) {
    (void)target;
    return row_tiling(d->rows, d->cols).tiles;
}

uint64_t ternary_scratch(const TernaryDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}

void gen_decode(Gen *g, const char *name, const DecodeDesc *d) {
    Tiling tiling = row_tiling(d->rows, d->cols);
    TernaryLayout layout = ternary_layout(d->rows, d->cols, d->group);
    gen_kernel(g, name);
    LLVMValueRef t2 = gen_buffer(g, 0), out = gen_buffer(g, 1), lo, n;
    gen_piece(g, &tiling, &lo, &n);
    Loop row = gen_loop(g, lo, gen_add(g, lo, n), 1, "row");
    LLVMValueRef dst = gen_at(g, g->f32, out, gen_mul(g, row.i, d->cols));
    gen_decode_row(g, ternary_codes(g, t2, row.i, &layout), ternary_scales(g, t2, row.i, &layout), dst,
                   d->cols, d->group);
    gen_loop_end(g, &row);
    gen_end(g);
}

uint32_t decode_tiles(const DecodeDesc *d, const Target *target) {
    (void)target;
    return row_tiling(d->rows, d->cols).tiles;
}

uint64_t decode_scratch(const DecodeDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}

void gen_ste_clip(Gen *g, const char *name, const SteClipDesc *d) {
    Tiling tiling = row_tiling(d->rows, d->cols);
    TernaryLayout layout = ternary_layout(d->rows, d->cols, d->group);
    gen_kernel(g, name);
    LLVMValueRef t2 = gen_buffer(g, 0), w = gen_buffer(g, 1), dy = gen_buffer(g, 2), lo, n;
    gen_piece(g, &tiling, &lo, &n);
    Loop row = gen_loop(g, lo, gen_add(g, lo, n), 1, "row");
    LLVMValueRef scales = ternary_scales(g, t2, row.i, &layout), first = gen_mul(g, row.i, d->cols);
    Clip c = {.w = gen_at(g, g->f32, w, first), .dy = gen_at(g, g->f32, dy, first)};
    lanes_by_group(g, scales, d->cols, d->group, &c.scale, clip_vectors, &c);
    gen_loop_end(g, &row);
    gen_end(g);
}

uint32_t ste_clip_tiles(const SteClipDesc *d, const Target *target) {
    (void)target;
    return row_tiling(d->rows, d->cols).tiles;
}

uint64_t ste_clip_scratch(const SteClipDesc *d, const Target *target) {
    (void)d, (void)target;
    return 0;
}
