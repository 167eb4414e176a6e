/* Products of packed panels, which GEMM and attention share (microkernel.c, pack*.c).
 *
 * A packed operand is cut into panels of `width` rows (of A: mr) or columns (of B: nr), made of words of 32
 * bits. A panel has room for `depth` words by its width; panel p starts at word p*width*depth. The last panel
 * may reach past the operand: what is there is computed and dropped.
 *
 * An f32 panel has a word for each step of k, the width numbers of a step side by side. A rounded panel is an
 * f32 panel of numbers rounded to bf16, for CPUs without instructions for bf16. A word of the other types is
 * a pair of 16-bit numbers, of steps l (low) and l+8 of every 16: so pairs come out of 16 codes of 2 bits,
 * and out of two vectors of f32, by shifts and masks alone. There are 8 words for every 16 steps or part of
 * them; steps past the end are 0 in A and, but for int16, in B. A bf16 panel has the words of a pair of steps
 * side by side. Codes and int16 come in blocks of k with scales, which gemm.h describes. */
#ifndef TBC_PANELS_H
#define TBC_PANELS_H

#include "../gen.h"

typedef struct PairBlock {
    int steps, pairs; /* of k; words for them, a multiple of 8 */
} PairBlock;

typedef struct Panels {
    PanelType type;
    PairBlock block; /* zeros: k is not divided, and there are no scales */
} Panels;

static inline bool panels_of_pairs(PanelType type) {
    return type == PANELS_BF16 || type == PANELS_I16;
}
/* The panels of a product in bf16. */
PanelType panels_in_bf16(const Target *);
/* Words by its width that a panel needs for k steps that are not divided into blocks. */
int64_t panel_words(PanelType, int64_t k);
LLVMValueRef gen_panel_words(Gen *, PanelType, LLVMValueRef k);
/* void f(i64 n, i64 k, ptr src, i64 ld, ptr dst, i64 depth): packs n rows of src[n,k] or n columns of src[k,n],
 * row stride ld numbers, into panels of any type but int16. */
typedef enum PackFrom { PACK_ROWS, PACK_COLS, PACK_BF16_ROWS, PACK_BF16_COLS } PackFrom;
LLVMValueRef gen_pack(Gen *, int width, PackFrom, PanelType);
/* Transposes v[n][n], n vectors of n lanes (at most 16), in place. */
void gen_transpose(Gen *, LLVMValueRef *v, int n);
/* void f(i64 j0, i64 n, i64 k0, i64 k, ptr t2, ptr dst, i64 depth): decodes and packs n columns from j0 on
 * (a multiple of nr) of B[k,n], steps k0 .. k0+k-1; B is the transposed of t2[rows,cols] (nk) or t2 itself.
 * k0 and depth are multiples of 16. With `rounded` the scales are rounded to bf16. */
LLVMValueRef gen_pack_ternary(Gen *, int64_t rows, int64_t cols, int64_t group, bool nk, bool rounded);
/* The parameters of functions that pack ternary matrices, as above: gen_pack_ternary, gen_pack_codes and
 * gen_pack_lut begin with pack_t2_begin. It is false where the module has the function already; else the builder
 * stands in its body, which gen_function_end with `saved` ends. */
typedef struct PackT2 {
    LLVMValueRef fn;
    LLVMValueRef j0, n, k0, k; /* columns of B, steps */
    LLVMValueRef t2, dst, room;
    Gen saved;
} PackT2;
bool pack_t2_begin(Gen *, const char *name, PackT2 *);
/* Which part of a product is needed, in causal attention, where query i sees keys j < i + diagonal. */
typedef enum Band {
    BAND_NONE, /* all of it */
    BAND_C,    /* of C[queries,keys] what is seen; the rest of C is left as it is, or junk */
    BAND_AK,   /* A[queries,keys] is 0 where not seen */
    BAND_KA    /* A[keys,queries] is 0 where not seen */
} Band;
/* void f(i64 m, i64 n, i64 k, ptr a, i64 a_depth, ptr b, i64 b_depth, ptr c, i64 ldc, i1 add, i64 diagonal):
 * c[m,n] (row stride ldc floats) = A B, or c += A B. */
LLVMValueRef gen_product(Gen *, Band, const Panels *);
/* For micro-kernels: asks for the tile c[mr,nr]; c[rows,cols] = or += the corner of tile[mr,nr] that lies
 * inside. */
void gen_prefetch_tile(Gen *, LLVMValueRef c, LLVMValueRef ldc);
void gen_write_corner(Gen *, LLVMValueRef tile, LLVMValueRef rows, LLVMValueRef cols, LLVMValueRef c,
                      LLVMValueRef ldc, LLVMValueRef add);

#endif
