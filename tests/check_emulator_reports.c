/* The emulated device (tests/emulator) is strict: every report comes, and correct code brings none. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "emulator/api.h"
#include "suite.h"

/* A kernel's body, run with 64 threads in each of two blocks over p (256 u32, all written) and q (256 u32,
 * not written). report NULL: correct. */
typedef struct Strict {
    const char *name, *report, *body;
} Strict;
#define REGISTERS                                                                                            \
    "{ .reg .u32 t, r, s, w, l, n; .reg .u64 p, q, a, b; .reg .pred c, d; .shared .align 16 .b8 x[256]; "    \
    ".shared .align 16 .b8 y[256];\n"                                                                        \
    ".shared .align 8 .b64 bar; ld.param.u64 p, [pp]; ld.param.u64 q, [qq]; mov.u32 t, %tid.x; mov.u32 w, "  \
    "%warpid; mov.u32 l, %laneid;\n"                                                                         \
    "mov.u32 n, %ctaid.x; mul.wide.u32 a, t, 4; add.u64 b, q, a; add.u64 a, p, a; mov.u32 s, x; mad.lo.u32 " \
    "s, t, 4, s;\n"
static const Strict stricts[] = {
    {"correct", NULL,
     "ld.global.u32 r, [a]; st.shared.u32 [s], r; bar.sync 0; xor.b32 r, s, 128; ld.shared.u32 r, [r]; "
     "setp.ne.u32 c, n, 0; @c exit; st.global.u32 [b], r;"},
    {"out of bounds", "out of bounds", "st.global.u32 [p+1024], 1;"},
    {"before", "out of bounds", "ld.global.u32 r, [p+-4];"},
    {"null", "out of bounds", "mov.u64 a, 0; ld.global.u32 r, [a];"},
    {"shared bounds", "out of bounds", "mov.u32 s, x; st.shared.u32 [s+256], 1;"},
    {"misaligned", "misaligned", "ld.global.v2.u32 {r, s}, [p+4];"},
    {"parameter", "parameter", "mov.u64 a, pp; cvta.param.u64 a, a; st.u32 [a], 1;"},
    {"unwritten store", "never written", "ld.global.u32 r, [b]; st.global.u32 [a], r;"},
    {"unwritten register", "never written", "st.global.u32 [a], r;"},
    {"unwritten predicate", "never written",
     "ld.shared.u32 r, [s]; setp.eq.u32 c, r, 0; @c st.global.u32 [a], 1;"},
    {"unwritten address", "never written", "ld.shared.u32 r, [s]; ld.shared.u32 r, [r];"},
    {"unwritten copy", NULL, "ld.global.u32 r, [b]; st.shared.u32 [s], r; ld.shared.u32 r, [s];"},
    {"race between warps", "race", "st.shared.u32 [s], 1; xor.b32 r, s, 128; ld.shared.u32 r, [r];"},
    {"race in a warp", "race", "st.shared.u32 [s], 1; xor.b32 r, s, 4; ld.shared.u32 r, [r];"},
    {"shuffle is no barrier", "race",
     "st.shared.u32 [s], 1; shfl.sync.idx.b32 r, t, 0, 31, -1; xor.b32 r, s, 4; ld.shared.u32 r, [r];"},
    {"bar.warp.sync", NULL, "st.shared.u32 [s], 1; bar.warp.sync -1; xor.b32 r, s, 4; ld.shared.u32 r, [r];"},
    {"half a warp", NULL,
     "setp.lt.u32 c, l, 16; @!c bra E; st.shared.u32 [s], 1; bar.warp.sync 0xffff; xor.b32 r, s, 4; "
     "ld.shared.u32 r, [r]; E:"},
    {"half a warp, others", "race",
     "setp.lt.u32 c, l, 16; @!c bra E; st.shared.u32 [s], 1; bar.warp.sync 0xffff; E: xor.b32 r, s, 64; @!c "
     "ld.shared.u32 r, [r];"},
    {"write after read", "race",
     "st.shared.u32 [s], 1; bar.sync 0; xor.b32 r, s, 128; ld.shared.u32 r, [r]; st.shared.u32 [s], 2;"},
    {"write after read of two", "race",
     "setp.eq.u32 c, t, 0; @c st.shared.u32 [x], 1; bar.sync 0; ld.shared.u32 r, [x]; @c st.shared.u32 [x], "
     "2;"},
    {"same value", NULL, "setp.eq.u32 c, w, 0; @c st.shared.u32 [x], n; bar.sync 0; ld.shared.u32 r, [x];"},
    {"two values", "race", "setp.eq.u32 c, w, 0; @c st.shared.u32 [x], t;"},
    {"bytes apart", NULL,
     "mov.u32 r, x; add.u32 r, r, t; st.shared.u8 [r], t; bar.sync 0; ld.shared.u8 r, [r+1]; "},
    {"bytes", "race", "mov.u32 r, x; add.u32 r, r, t; st.shared.u8 [r], t; ld.shared.u8 r, [r+1];"},
    {"atomics", NULL,
     "setp.eq.u32 c, t, 0; @c st.shared.u32 [x], 0; bar.sync 0; red.shared.add.u32 [x], 1; "
     "atom.shared.add.u32 r, [x], 1;"},
    {"atomic and plain", "race",
     "setp.eq.u32 c, t, 0; @c st.shared.u32 [x], 0; bar.sync 0; red.shared.add.u32 [x], 1; ld.shared.u32 r, "
     "[x];"},
    {"race between blocks", "race", "st.global.u32 [b], t; st.global.u32 [a], n;"},
    {"blocks and atomics", NULL, "red.global.add.u32 [p], 1;"},
    {"blocks, atomics and reads", "race", "red.global.add.u32 [p], 1; ld.global.u32 r, [p];"},
    {"global race in a block", "race",
     "setp.ne.u32 c, n, 0; @c exit; st.global.u32 [a], t; ld.global.u32 r, [p+128];"},
    {"global in a block", NULL,
     "setp.ne.u32 c, n, 0; @c exit; st.global.u32 [a], t; bar.sync 0; ld.global.u32 r, [p+128];"},
    {"divergent barrier", "deadlock", "setp.lt.u32 c, l, 5; @c bra A; bar.sync 0; bra E; A: bar.sync 1; E:"},
    {"missing warp", "deadlock", "setp.eq.u32 c, w, 0; @c bar.sync 0; @!c bar.sync 1;"},
    {"exited warp", NULL, "setp.eq.u32 c, w, 0; @c exit; bar.sync 0;"},
    {"missing lanes", "deadlock",
     "setp.lt.u32 c, l, 5; @c bra A; shfl.sync.idx.b32 r, t, 0, 31, -1; bra E; A: bar.warp.sync 0x1f; "
     "shfl.sync.idx.b32 r, t, 0, 31, -1; E:"},
    {"not in the mask", "member mask", "shfl.sync.idx.b32 r, t, 0, 31, 0xff;"},
    {"mask of some", NULL,
     "setp.lt.u32 c, l, 5; @c shfl.sync.idx.b32 r, t, 0, 31, 0x1f; @!c shfl.sync.idx.b32 r, t, 6, 31, "
     "0xffffffe0;"},
    {"lane outside of the mask", "never written",
     "setp.lt.u32 c, l, 5; @!c bra E; shfl.sync.idx.b32 r, t, 9, 31, 0x1f; st.global.u32 [b], r; E:"},
    {"counts", "divergence", "setp.eq.u32 c, w, 0; @c bar.sync 0, 64; @!c bar.sync 0, 32;"},
    {"producer and consumer", NULL,
     "setp.eq.u32 c, w, 0; @c st.shared.u32 [s], t; @c bar.arrive 1, 64; @c exit; bar.sync 1, 64; xor.b32 r, "
     "s, 128; ld.shared.u32 r, [r];"},
    {"copy not waited for", "cp.async",
     "cp.async.ca.shared.global [s], [a], 4; cp.async.commit_group; ld.shared.u32 r, [s];"},
    {"copy, one group too few", "cp.async",
     "cp.async.ca.shared.global [s], [a], 4; cp.async.commit_group; cp.async.wait_group 1; ld.shared.u32 r, "
     "[s];"},
    {"copy without barrier", "race",
     "cp.async.ca.shared.global [s], [a], 4; cp.async.wait_all; xor.b32 r, s, 128; ld.shared.u32 r, [r];"},
    {"copy", NULL,
     "cp.async.ca.shared.global [s], [a], 4; cp.async.wait_all; bar.sync 0; xor.b32 r, s, 128; ld.shared.u32 "
     "r, [r];"},
    {"copy over what is read", "race",
     "st.shared.u32 [s], 1; bar.sync 0; xor.b32 r, s, 128; ld.shared.u32 r, [r]; cp.async.ca.shared.global "
     "[s], [a], 4; cp.async.wait_all;"},
    {"mbarrier", NULL,
     "setp.eq.u32 c, t, 0; @c mbarrier.init.shared.b64 [bar], 64; bar.sync 0; st.shared.u32 [s], t; "
     "mbarrier.arrive.shared.b64 a, [bar];\n"
     "W: mbarrier.test_wait.shared.b64 d, [bar], a; @!d bra W; xor.b32 r, s, 128; ld.shared.u32 r, [r];"},
    {"trap", "trap", "setp.eq.u32 c, t, 40; @c trap;"},
};

START_TEST(reports) {
    const Strict *s = &stricts[_i];
    device();
    capture();
    char text[4096];
    snprintf(text, sizeof text, HEAD ".entry k(.param .u64 pp, .param .u64 qq) %s%s\n exit; }", REGISTERS,
             s->body);
    Handle m = module(text);
    CUdeviceptr p, q;
    CHECK(cuMemAlloc_v2(&p, 1024));
    CHECK(cuMemAlloc_v2(&q, 1024));
    CHECK(cuMemsetD32Async(p, 7, 256, NULL));
    int r = launch(m, "k", 2, 64, p, q);
    const char *report = captured();
    if (!s->report)
        ck_assert_msg(!r, "%s: %s", s->name, report);
    else {
        ck_assert_msg(r && strstr(report, s->report) && strstr(report, "in k, PTX line"), "%s: error %d, %s",
                      s->name, r, report);
        ck_assert_int_eq(cuCtxSynchronize(), r); /* the error stays */
    }
}
END_TEST

int main(void) {
    /* one order of events: which of two reports a spoiled kernel brings depends on it */
    setenv("TBC_EMU_SEED", "1", 1);
    Suite *suite = suite_create("emulator_reports");
    TCase *t = tcase_create("emulator_reports");
    suite_add_tcase(suite, t);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, reports, 0, (int)(sizeof stricts / sizeof *stricts));
    return run_suite(suite);
}
