/* Products of packed int16 panels (layout: gemm.h), on the model of microkernel.c: one instruction
 * multiplies two pairs of steps and adds them up to 32 bits. Sums are exact within a block, at most
 * I16_BLOCK * I16_MAX < 2^22; after each block they go into the f32 numbers of C, times both scales. */
#include "gemm.h"
#include <stdio.h>
#include <string.h>

enum { UNROLL = 1, MAX_ROWS = 16, MAX_VECTORS = 4 };

LLVMValueRef i16_multiply_pairs(Gen *g, LLVMValueRef a, LLVMValueRef b) {
    int lanes = (int)LLVMGetVectorSize(LLVMTypeOf(a));
    bool avx512 = strcmp(g->target->level, "x86-64-v4") == 0;
    if (lanes == 8 || (lanes == 16 && avx512)) {
        LLVMTypeRef shorts = gen_vec(g, g->i16, 2 * lanes);
        LLVMValueRef args[] = {LLVMBuildBitCast(g->b, a, shorts, ""), LLVMBuildBitCast(g->b, b, shorts, "")};
        return gen_intrinsic(g, lanes == 8 ? "llvm.x86.avx2.pmadd.wd" : "llvm.x86.avx512.pmaddw.d.512", NULL,
                             args, 2);
    }
    LLVMValueRef low = gen_iota(g, g->i32, lanes / 2), none = LLVMGetPoison(LLVMTypeOf(a));
    LLVMValueRef high = LLVMBuildAdd(g->b, low, gen_splat(g, gen_i32(g, lanes / 2), lanes / 2), "");
    LLVMValueRef sums[2];
    for (int i = 0; i < 2; i++) {
        LLVMValueRef half = i ? high : low;
        sums[i] = i16_multiply_pairs(g, LLVMBuildShuffleVector(g->b, a, none, half, ""),
                                     LLVMBuildShuffleVector(g->b, b, none, half, ""));
    }
    return LLVMBuildShuffleVector(g->b, sums[0], sums[1], gen_iota(g, g->i32, lanes), "");
}

/* The register tile, and where its operands are. */
typedef struct Tile {
    I16Block block;
    int rows, vectors, vl;
    LLVMValueRef acc[MAX_ROWS][MAX_VECTORS];
    LLVMValueRef a, b; /* of the block at work */
} Tile;

/* The sums of one block: pairs 0 .. n-1, n a multiple of 8. */
static void add_pairs(Gen *g, Tile *t, LLVMValueRef n) {
    LLVMTypeRef vec = gen_vec(g, g->i32, t->vl);
    for (int i = 0; i < t->rows; i++)
        for (int j = 0; j < t->vectors; j++) gen_store(g, LLVMConstNull(vec), t->acc[i][j]);
    Loop p = gen_loop(g, gen_i64(g, 0), n, UNROLL, "pair");
    for (int u = 0; u < UNROLL; u++) {
        LLVMValueRef at = gen_add(g, p.i, gen_i64(g, u)), row[MAX_VECTORS];
        LLVMValueRef words = gen_at(g, g->i32, t->b, gen_mul(g, at, t->vectors * t->vl));
        for (int j = 0; j < t->vectors; j++)
            row[j] = gen_load(g, vec, gen_at(g, g->i32, words, gen_i64(g, j * t->vl)));
        for (int i = 0; i < t->rows; i++) {
            LLVMValueRef word = gen_at(g, g->i32, t->a, gen_add(g, at, gen_i64(g, i * t->block.pairs)));
            LLVMValueRef x = gen_splat(g, gen_load(g, g->i32, word), t->vl);
            for (int j = 0; j < t->vectors; j++) {
                LLVMValueRef sum = gen_load(g, vec, t->acc[i][j]);
                gen_store(g, LLVMBuildAdd(g->b, sum, i16_multiply_pairs(g, x, row[j]), ""), t->acc[i][j]);
            }
        }
    }
    gen_loop_end(g, &p);
}

/* c = or += the sums of a block times its scales. */
static void write_tile(Gen *g, const Tile *t, LLVMValueRef c, LLVMValueRef ldc, bool add) {
    LLVMTypeRef vec = gen_vec(g, g->f32, t->vl), ints = gen_vec(g, g->i32, t->vl);
    LLVMValueRef a_scales = gen_at(g, g->f32, t->a, gen_i64(g, t->rows * t->block.pairs));
    LLVMValueRef b_scales = gen_at(g, g->f32, t->b, gen_i64(g, t->vectors * t->vl * t->block.pairs));
    for (int i = 0; i < t->rows; i++) {
        LLVMValueRef row = gen_at(g, g->f32, c, LLVMBuildMul(g->b, ldc, gen_i64(g, i), ""));
        LLVMValueRef x = gen_load(g, g->f32, gen_at(g, g->f32, a_scales, gen_i64(g, i)));
        for (int j = 0; j < t->vectors; j++) {
            LLVMValueRef lane = gen_i64(g, j * t->vl), at = gen_at(g, g->f32, row, lane);
            LLVMValueRef scale = gen_load(g, vec, gen_at(g, g->f32, b_scales, lane));
            scale = LLVMBuildFMul(g->b, scale, gen_splat(g, x, t->vl), "");
            LLVMValueRef sum = LLVMBuildSIToFP(g->b, gen_load(g, ints, t->acc[i][j]), vec, "");
            gen_store(
                g, add ? gen_fma(g, sum, scale, gen_load(g, vec, at)) : LLVMBuildFMul(g->b, sum, scale, ""),
                at);
        }
    }
}

/* void f(i64 k, ptr a, ptr b, ptr c, i64 ldc, i1 add): c[mr,nr] = or += one panel of A times one of B. */
static LLVMValueRef gen_microkernel(Gen *g, I16Block block) {
    char name[48];
    snprintf(name, sizeof name, "microkernel_i16_%d", block.steps);
    LLVMTypeRef params[] = {g->i64, g->ptr, g->ptr, g->ptr, g->i64, g->i1};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 6, false), &exists, &saved);
    if (exists) return fn;
    gen_noinline(g, fn);
    LLVMValueRef v[6];
    LLVMGetParams(fn, v);
    LLVMValueRef k = v[0], c = v[3], ldc = v[4];

    Tile t = {.block = block, .rows = g->target->mr, .vl = g->target->vl};
    t.vectors = g->target->nr / t.vl;
    if (t.rows > MAX_ROWS || t.vectors > MAX_VECTORS) ice("register tile %dx%d", t.rows, t.vectors);
    for (int i = 0; i < t.rows; i++)
        for (int j = 0; j < t.vectors; j++) t.acc[i][j] = gen_alloca(g, gen_vec(g, g->i32, t.vl), "acc");
    gen_prefetch_tile(g, c, ldc);
    Loop b = gen_loop(g, gen_i64(g, 0), k, block.steps, "block");
    LLVMValueRef index = gen_div(g, b.i, block.steps);
    t.a = gen_at(g, g->i32, v[1], gen_mul(g, index, i16_block_words(block, t.rows)));
    t.b = gen_at(g, g->i32, v[2], gen_mul(g, index, i16_block_words(block, g->target->nr)));
    LLVMValueRef rounded = gen_mul(g, gen_div(g, gen_add(g, gen_sub(g, k, b.i), gen_i64(g, 15)), 16), 8);
    add_pairs(g, &t, gen_min(g, rounded, gen_i64(g, block.pairs)));
    LLVMValueRef more = LLVMBuildICmp(g->b, LLVMIntSGT, b.i, gen_i64(g, 0), "");
    If adding = gen_if(g, LLVMBuildOr(g->b, v[5], more, ""));
    write_tile(g, &t, c, ldc, true);
    gen_else(g, &adding);
    write_tile(g, &t, c, ldc, false);
    gen_if_end(g, &adding);
    gen_loop_end(g, &b);
    gen_function_end(g, &saved);
    return fn;
}

LLVMValueRef gen_product_i16(Gen *g, I16Block block) {
    char name[48];
    snprintf(name, sizeof name, "product_i16_%d", block.steps);
    LLVMTypeRef params[] = {g->i64, g->i64, g->i64, g->ptr, g->ptr, g->i64, g->ptr, g->i64, g->i1};
    bool exists;
    Gen saved;
    LLVMValueRef fn = gen_function(g, name, LLVMFunctionType(g->void_, params, 9, false), &exists, &saved);
    if (exists) return fn;
    gen_noinline(g, fn);
    LLVMValueRef v[9];
    LLVMGetParams(fn, v);
    LLVMValueRef m = v[0], n = v[1], k = v[2], blocks = v[5], ldc = v[7], add = v[8];
    int mr = g->target->mr, nr = g->target->nr;
    LLVMValueRef kernel = gen_microkernel(g, block);
    LLVMValueRef corner = gen_alloca(g, LLVMArrayType2(g->f32, (uint64_t)(mr * nr)), "corner");

    Loop j = gen_loop(g, gen_i64(g, 0), n, nr, "j");
    LLVMValueRef b_words = LLVMBuildMul(g->b, gen_div(g, j.i, nr), blocks, "");
    LLVMValueRef b = gen_at(g, g->i32, v[4], gen_mul(g, b_words, i16_block_words(block, nr)));
    LLVMValueRef cols = gen_min(g, gen_sub(g, n, j.i), gen_i64(g, nr));
    Loop i = gen_loop(g, gen_i64(g, 0), m, mr, "i");
    LLVMValueRef a_words = LLVMBuildMul(g->b, gen_div(g, i.i, mr), blocks, "");
    LLVMValueRef a = gen_at(g, g->i32, v[3], gen_mul(g, a_words, i16_block_words(block, mr)));
    LLVMValueRef rows = gen_min(g, gen_sub(g, m, i.i), gen_i64(g, mr));
    LLVMValueRef c = gen_at(g, g->f32, v[6], gen_add(g, LLVMBuildMul(g->b, i.i, ldc, ""), j.i));
    LLVMValueRef full = LLVMBuildAnd(g->b, LLVMBuildICmp(g->b, LLVMIntEQ, rows, gen_i64(g, mr), ""),
                                     LLVMBuildICmp(g->b, LLVMIntEQ, cols, gen_i64(g, nr), ""), "");
    If inside = gen_if(g, full);
    gen_call(g, kernel, (LLVMValueRef[]){k, a, b, c, ldc, add}, 6);
    gen_else(g, &inside);
    gen_call(g, kernel, (LLVMValueRef[]){k, a, b, corner, gen_i64(g, nr), LLVMConstNull(g->i1)}, 6);
    gen_write_corner(g, corner, rows, cols, c, ldc, add);
    gen_if_end(g, &inside);
    gen_loop_end(g, &i);
    gen_loop_end(g, &j);
    gen_function_end(g, &saved);
    return fn;
}
