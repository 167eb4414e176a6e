/* Projection of weights to packed ternary codes and f16 scales, and back; bit for bit what a CPU computes
 * (../ternary.c), so sums are taken in its order. */
#include "ternary.h"

enum { THREADS = 256, WARPS = THREADS / NV_WARP };

static LLVMValueRef f32_at(Gen *g, LLVMValueRef base, LLVMValueRef i) {
    return gen_load(g, g->f32, gen_at(g, g->f32, base, i));
}

TernaryRow nv_ternary_row(Gen *g, const TernaryDesc *d, LLVMValueRef row, LLVMValueRef t2) {
    TernaryLayout layout = ternary_layout(d->rows, d->cols, d->group);
    return (TernaryRow){.g = g,
                        .codes = ternary_codes(g, t2, row, &layout),
                        .scales = ternary_scales(g, t2, row, &layout),
                        .cols = d->cols,
                        .group = d->group < d->cols ? d->group : d->cols,
                        .bytes = layout.row_bytes};
}

/* A row of the two arguments. */
static TernaryRow row_of(Gen *g, const TernaryDesc *d, LLVMValueRef row) {
    TernaryRow r = nv_ternary_row(g, d, row, gen_buffer(g, 1));
    r.w = gen_at(g, g->f32, gen_buffer(g, 0), gen_mul(g, row, d->cols));
    return r;
}

/* ---- groups of whole words: a warp for each */

/* The sum of |w| over n weights; lanes behind the 16 of a narrow sum add nothing. */
static LLVMValueRef sum_of_group(Gen *g, LLVMValueRef w, int64_t n) {
    int64_t lanes = ternary_lanes(n);
    LLVMTypeRef f64 = LLVMDoubleTypeInContext(g->ctx);
    LLVMValueRef sum = gen_alloca(g, f64, "sum"), lane = nv_lane(g);
    LLVMValueRef end = lanes == NV_WARP ? gen_i64(g, n)
                                        : LLVMBuildSelect(g->b, gen_less(g, lane, gen_i64(g, lanes)),
                                                          gen_i64(g, n), gen_i64(g, 0), "");
    gen_store(g, LLVMConstNull(f64), sum);
    Loop add = gen_loop(g, lane, end, lanes, "add");
    LLVMValueRef x = f32_at(g, w, add.i), size = gen_intrinsic(g, "llvm.fabs", g->f32, &x, 1);
    gen_store(g, LLVMBuildFAdd(g->b, gen_load(g, f64, sum), LLVMBuildFPExt(g->b, size, f64, ""), ""), sum);
    gen_loop_end(g, &add);
    /* Lanes 16 .. 31 of a narrow sum hold 0, which changes nothing. */
    return nv_warp_fold(g, NV_ADD, gen_load(g, f64, sum), NV_WARP);
}

/* Weights 4*i .. 4*i+3 of a group of n; those that do not exist are 0. */
static void four_weights(Gen *g, LLVMValueRef group, LLVMValueRef i, int64_t n, LLVMValueRef *w) {
    LLVMValueRef last = gen_i64(g, n - 1);
    for (int k = 0; k < 4; k++) {
        LLVMValueRef at = gen_add(g, gen_mul(g, i, 4), gen_i64(g, k));
        LLVMValueRef there = LLVMBuildICmp(g->b, LLVMIntSLE, at, last, "");
        LLVMValueRef x = f32_at(g, group, gen_min(g, at, last));
        w[k] = LLVMBuildSelect(g->b, there, x, gen_f32(g, 0), "");
    }
}

/* Packs the n weights of a group at `group` to the codes at `to`. */
static void pack_group(const TernaryRow *r, LLVMValueRef group, int64_t n, LLVMValueRef bound,
                       LLVMValueRef to) {
    Gen *g = r->g;
    LLVMTypeRef four = gen_vec(g, g->f32, 4);
    bool aligned = n % 4 == 0 && r->cols % 4 == 0; /* and so is r->group, a multiple of 16 */
    int64_t bytes = (n + 15) / 16 * 4;             /* with the padding of the row's last word */
    Loop byte = gen_loop(g, nv_lane(g), gen_i64(g, bytes), NV_WARP, "pack");
    LLVMValueRef w[4], packed = LLVMConstNull(g->i8);
    if (aligned && n % 16 == 0) {
        LLVMValueRef all = nv_load(g, four, gen_at(g, g->f32, group, gen_mul(g, byte.i, 4)), 16);
        for (int k = 0; k < 4; k++) w[k] = LLVMBuildExtractElement(g->b, all, gen_i32(g, k), "");
    } else {
        four_weights(g, group, byte.i, n, w);
    }
    for (unsigned k = 0; k < 4; k++) {
        LLVMValueRef code = ternary_code(g, w[k], bound, 1);
        packed =
            LLVMBuildOr(g->b, packed, LLVMBuildShl(g->b, code, LLVMConstInt(g->i8, 2 * k, false), ""), "");
    }
    gen_store(g, packed, gen_at(g, g->i8, to, byte.i));
    gen_loop_end(g, &byte);
}

static void project_weights(const TernaryRow *r, LLVMValueRef w, LLVMValueRef index, int64_t n) {
    Gen *g = r->g;
    LLVMValueRef scale = ternary_scale(g, sum_of_group(g, w, n), gen_i64(g, n));
    If one = gen_if(g, LLVMBuildICmp(g->b, LLVMIntEQ, nv_lane(g), gen_i64(g, 0), ""));
    gen_store(g, scale, gen_at(g, g->f16, r->scales, index));
    gen_if_end(g, &one);
    LLVMValueRef codes = gen_at(g, g->i8, r->codes, gen_mul(g, index, r->group / 4));
    pack_group(r, w, n, ternary_bound(g, LLVMBuildFPExt(g->b, scale, g->f32, "")), codes);
}

void nv_project_group(const TernaryRow *r, LLVMValueRef w, LLVMValueRef index) {
    int64_t whole = r->cols / r->group, rest = r->cols % r->group;
    if (!rest) {
        project_weights(r, w, index, r->group);
        return;
    }
    Gen *g = r->g; /* the row's last group is shorter */
    If full = gen_if(g, gen_less(g, index, gen_i64(g, whole)));
    project_weights(r, w, index, r->group);
    gen_else(g, &full);
    project_weights(r, w, index, rest);
    gen_if_end(g, &full);
}

static int64_t groups_of(const TernaryDesc *d) {
    return d->rows * ternary_layout(d->rows, d->cols, d->group).groups;
}

static void project_by_warps(Gen *g, const TernaryDesc *d) {
    TernaryLayout layout = ternary_layout(d->rows, d->cols, d->group);
    LLVMValueRef warp = gen_add(g, gen_mul(g, g->tile, WARPS), nv_warp(g));
    If there = gen_if(g, gen_less(g, warp, gen_i64(g, groups_of(d))));
    LLVMValueRef index = gen_mod(g, warp, layout.groups);
    TernaryRow r = row_of(g, d, gen_div(g, warp, layout.groups));
    nv_project_group(&r, gen_at(g, g->f32, r.w, gen_mul(g, index, r.group)), index);
    gen_if_end(g, &there);
}

/* ---- any other group size: a block for each row; bytes hold codes of several groups */

static void project_row(Gen *g, const TernaryDesc *d) {
    TernaryRow r = row_of(g, d, g->tile);
    int64_t whole = r.cols / r.group, rest = r.cols % r.group;
    Loop group = gen_loop(g, nv_thread(g), gen_i64(g, whole), THREADS, "group");
    ternary_scale_serially(&r, group.i, r.group);
    gen_loop_end(g, &group);
    if (rest) {
        If one = gen_if(g, nv_is_thread(g, 0));
        ternary_scale_serially(&r, gen_i64(g, whole), rest);
        gen_if_end(g, &one);
    }
    nv_barrier(g);
    Loop byte = gen_loop(g, nv_thread(g), gen_i64(g, r.bytes), THREADS, "byte");
    gen_store(g, ternary_pack_byte(&r, byte.i), gen_at(g, g->i8, r.codes, byte.i));
    gen_loop_end(g, &byte);
}

NvGrid nv_ternary_grid(const TernaryDesc *d, const Target *target) {
    (void)target;
    int64_t blocks = ternary_by_vectors(d->cols, d->group) ? (groups_of(d) + WARPS - 1) / WARPS : d->rows;
    return (NvGrid){.blocks = (uint32_t)blocks, .threads = THREADS};
}

void nv_gen_ternary(Gen *g, const char *name, const TernaryDesc *d) {
    nv_kernel(g, name, 2, THREADS);
    if (ternary_by_vectors(d->cols, d->group))
        project_by_warps(g, d);
    else
        project_row(g, d);
    gen_end(g);
}

/* ---- decoding: a byte of codes a thread */

void nv_decode_byte(Gen *g, LLVMValueRef codes, LLVMValueRef scales, LLVMValueRef dst, LLVMValueRef i,
                    int64_t cols, int64_t group) {
    LLVMValueRef byte = LLVMBuildZExt(g->b, gen_load(g, g->i8, gen_at(g, g->i8, codes, i)), g->i32, "");
    LLVMValueRef scale = NULL, four = LLVMGetPoison(gen_vec(g, g->f32, 4)), col = gen_mul(g, i, 4);
    for (int k = 0; k < 4; k++) {
        LLVMValueRef at = gen_add(g, col, gen_i64(g, k));
        if (!scale || group % 4)
            scale = ternary_load_scale(g, scales, gen_div(g, gen_min(g, at, gen_i64(g, cols - 1)), group));
        LLVMValueRef code =
            LLVMBuildAnd(g->b, LLVMBuildLShr(g->b, byte, gen_i32(g, 2 * k), ""), gen_i32(g, 3), "");
        code = LLVMBuildSub(g->b, code, gen_i32(g, 1), "");
        LLVMValueRef x = LLVMBuildFMul(g->b, LLVMBuildSIToFP(g->b, code, g->f32, ""), scale, "");
        if (cols % 4 == 0) {
            four = LLVMBuildInsertElement(g->b, four, x, gen_i32(g, k), "");
            continue;
        }
        If there = gen_if(g, gen_less(g, at, gen_i64(g, cols)));
        gen_store(g, x, gen_at(g, g->f32, dst, at));
        gen_if_end(g, &there);
    }
    if (cols % 4 == 0) nv_store(g, four, gen_at(g, g->f32, dst, col), 16);
}

static int64_t bytes_in_row(int64_t cols) {
    return (cols + 3) / 4;
}

NvGrid nv_decode_grid(const DecodeDesc *d, const Target *target) {
    (void)target;
    return (NvGrid){.blocks = (uint32_t)((d->rows * bytes_in_row(d->cols) + THREADS - 1) / THREADS),
                    .threads = THREADS};
}

void nv_gen_decode(Gen *g, const char *name, const DecodeDesc *d) {
    TernaryLayout layout = ternary_layout(d->rows, d->cols, d->group);
    int64_t bytes = bytes_in_row(d->cols);
    nv_kernel(g, name, 2, THREADS);
    nv_noalias(g);
    LLVMValueRef i = gen_add(g, gen_mul(g, g->tile, THREADS), nv_thread(g));
    If there = gen_if(g, gen_less(g, i, gen_i64(g, d->rows * bytes)));
    LLVMValueRef row = gen_div(g, i, bytes), t2 = gen_buffer(g, 0);
    LLVMValueRef dst = gen_at(g, g->f32, gen_buffer(g, 1), gen_mul(g, row, d->cols));
    nv_decode_byte(g, ternary_codes(g, t2, row, &layout), ternary_scales(g, t2, row, &layout), dst,
                   gen_mod(g, i, bytes), d->cols, d->group);
    gen_if_end(g, &there);
    gen_end(g);
}

/* ---- the clipped gradient, element by element in place */

typedef struct Clip {
    const SteClipDesc *desc;
    TernaryLayout layout;
    LLVMValueRef t2, w, dy;
} Clip;

static LLVMValueRef scale_of_element(Gen *g, const Clip *c, LLVMValueRef i) {
    LLVMValueRef row = gen_div(g, i, c->desc->cols), col = gen_mod(g, i, c->desc->cols);
    LLVMValueRef scales = ternary_scales(g, c->t2, row, &c->layout);
    return ternary_load_scale(g, scales, gen_div(g, col, c->desc->group));
}

static void clip_elements(Gen *g, void *context, LLVMValueRef i, int width) {
    const Clip *c = context;
    bool together = c->desc->cols % 4 == 0 && c->desc->group % 4 == 0; /* neighbours have one scale */
    int step = together ? width : 1;
    for (int k = 0; k < width; k += step) {
        LLVMValueRef at = gen_add(g, i, gen_i64(g, k)),
                     scale = gen_splat(g, scale_of_element(g, c, at), step);
        LLVMValueRef w = nv_load_elements(g, g->f32, c->w, at, step);
        LLVMValueRef dy = nv_load_elements(g, g->f32, c->dy, at, step);
        nv_store_elements(g, ternary_clip(g, w, dy, scale), c->dy, at);
    }
}

NvGrid nv_ste_clip_grid(const SteClipDesc *d, const Target *target) {
    (void)target;
    return (NvGrid){.blocks = nv_element_blocks(d->rows * d->cols), .threads = NV_ELEMENT_THREADS};
}

void nv_gen_ste_clip(Gen *g, const char *name, const SteClipDesc *d) {
    nv_kernel(g, name, 3, NV_ELEMENT_THREADS);
    nv_noalias(g);
    Clip c = {d, ternary_layout(d->rows, d->cols, d->group), gen_buffer(g, 0), gen_buffer(g, 1),
              gen_buffer(g, 2)};
    nv_elements(g, d->rows * d->cols, clip_elements, &c);
    gen_end(g);
}
