/* What is read from the text of kernels: the loop with most FLOPs, and its bytes of shared memory for each.
 */
#include "../frontend/ptx_loop.h"
#include "suite.h"

static const char ptx[] =
    ".visible .entry first(\n\t.param .u64 p0\n)\n{\n"
    "\tadd.rn.f32 \t%f1, %f2, %f3;\n" /* no loop: 32 FLOPs */
    "\tld.shared.u8 \t%rs1, [%r1];\n" /* 128 bytes: as long as 32 lanes of four */
    "\tret;\n}\n"
    ".visible .entry second(\n)\n{\n"
    "\tld.shared.v4.f32 \t{%f1, %f2, %f3, %f4}, [%r1];\n"
    "$L__BB1_1:\n" /* the outer loop */
    "\tst.shared.v4.b32 \t[%r1], {%r2, %r3, %r4, %r5};\n"
    "\tbra.uni \t$L__BB1_3;\n"
    "$L__BB1_2:\n" /* the inner one: its condition is behind it */
    "\tldmatrix.sync.aligned.m8n8.x4.shared.b16 \t{%r2, %r3, %r4, %r5}, [%r6];\n"           /* 512 */
    "\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 \t{%f1}, {%r2}, {%r3}, {%f4};\n" /* 4096 FLOPs */
    "$L__BB1_3:\n"
    "\t@%p1 bra \t$L__BB1_2;\n"
    "\tcp.async.cg.shared.global [%r1], [%rd1], 16, %r2;\n" /* 512 */
    "\tcp.async.ca.shared.global [%r1], [%rd1], 4;\n"       /* 128 */
    "\t@!%p1 bra \t$L__BB1_2;\n"
    "\t@%p2 bra \t$L__BB1_1;\n"
    "\tret;\n}\n";

START_TEST(loops) {
    PtxWork none = ptx_work(ptx, "fir"), first = ptx_work(ptx, "first"), second = ptx_work(ptx, "second");
    ck_assert(!none.asynchronous && none.shared_bytes_flop == 0);
    ck_assert(!first.asynchronous && second.asynchronous);
    ck_assert_double_eq(first.shared_bytes_flop, 128. / 32);
    ck_assert_double_eq(second.shared_bytes_flop, (512. + 512 + 128) / 4096);
}
END_TEST

int main(void) {
    Suite *s = suite_create("ptx_loop");
    TCase *c = tcase_create("ptx_loop");
    tcase_add_test(c, loops);
    suite_add_tcase(s, c);
    return run_suite(s);
}
