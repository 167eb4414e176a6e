/* Look-up tables for ternary products (gemm_lut.c), and the codes that index them (pack_lut.c).
 *
 * k is cut into slabs of 32 steps, which eleven tables of sums stand for: ten of triples of steps and one of
 * a pair. A table has an entry for each combination of its codes, entry u0 + 3*u1 + 9*u2 for codes u-1; an
 * entry is a row of 16 f32, for 16 rows of A.
 *
 *     table     0    1    2     3      4      5      6      7      8      9     10
 *     steps   0-2  3-5  6-8  9-11  16-18  19-21  22-24  25-27  12-14  28-30  15,31
 *
 * What a column of B says about a slab is a record of 16 bytes: byte j is its entry of table j, byte 11 is 0,
 * and then comes an f32 scale. Entries are times 8, so that the address of one, of 64 bytes, is an operand of
 * an x86 instruction: base + 8*byte. */
#ifndef TBC_LUT_H
#define TBC_LUT_H

#include "panels.h"

enum {
    LUT_ROWS = 16,  /* of A at a time, 64 bytes of f32 */
    LUT_STEPS = 32, /* of k in a slab */
    LUT_TABLES = 11,
    LUT_TABLE = 27, /* entries from one table to the next; the last has 9 */
    LUT_ENTRIES = 10 * LUT_TABLE + 9,
    LUT_RECORD = 16, /* bytes */
    LUT_SPAN = 128   /* columns of B[k,n] that are packed together */
};

/* void f(i64 j0, i64 n, i64 k0, i64 k, ptr t2, ptr dst, i64 room): the records of n columns from j0 on of
 * B[k,n], for the slabs of steps k0 .. k0+k-1; slab s starts at record s*room. B is the transposed of
 * t2[rows,cols] (nk) or t2 itself. nk: column j is record j, with the scale of its group. Else j0 is a
 * multiple of 128, there are no scales, and records are in the order of lut_record. Columns are packed in
 * eights (nk) or by 128; there must be room for those, and k0 is a multiple of 32. Steps past the end have
 * any codes. */
LLVMValueRef gen_pack_lut(Gen *, int64_t rows, int64_t cols, int64_t group, bool nk);

/* Products by look-up, with A in f32 or rounded to bf16 (PANELS_ROUNDED), and whether there is a kernel for
 * that one. */
bool gemm_lut_fits(const GemmDesc *, PanelType);
void gen_gemm_lut(Gen *, const char *name, const GemmDesc *, PanelType);
uint32_t gemm_lut_tiles(const GemmDesc *, const Target *);
uint64_t gemm_lut_scratch(const GemmDesc *, const Target *);

/* Which record of its slab column j of B is. */
LLVMValueRef lut_record(Gen *, LLVMValueRef j, bool nk);

#endif
