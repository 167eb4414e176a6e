/* The emulated device (tests/emulator): each instruction against results derived by hand from the PTX ISA
 * (emulator/vectors.def), exchange between different lanes, refusals of what is not known, and every report
 * of the strict device: that it comes, and that correct code brings none. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "emulator/api.h"
#include "suite.h"

/* ---- vectors ---- */
typedef struct Vector {
    const char *text;
    uint64_t a, b, c, result;
} Vector;
static const Vector vectors[] = {
#define V(text, a, b, c, result) {text, a, b, c, result},
#include "emulator/vectors.def"
#undef V
};
enum { VECTORS = sizeof vectors / sizeof *vectors };

static const char prelude[] =
    ".version 8.3\n.target sm_90\n.address_size 64\n.const .align 4 .b8 constants[8] = {0x22, 0x11, 0x44, "
    "0x33, 0, 0, 0xc0, 0x3f};\n"
    ".global .align 8 .u64 pointer = generic(constants) + 2;\n"
    ".func (.reg .u32 r) twice_plus (.param .b32 x, .reg .u32 y) { .reg .u32 t; ld.param.u32 t, [x]; "
    "mad.lo.u32 r, t, 2, y; ret; }\n";

/* A kernel for vector k: loads a, b and c, runs the text, stores the result of whichever width it has. */
static void write_kernel(FILE *f, int k) {
    static const char registers[] = "{ .reg .b32 ra, rb, rc, rd, rx, mine, first, t; .reg .b64 qa, qb, qc, "
                                    "qd, qz, out; .reg .b16 ha, hb, hc, hd; .reg .pred p, p0, p1;\n"
                                    ".shared .align 16 .b8 space[2048]; .local .align 8 .b8 stack[16];\n"
                                    "ld.param.u64 qz, [in]; ld.param.u64 out, [to]; ld.global.u64 qa, [qz]; "
                                    "ld.global.u64 qb, [qz+8]; ld.global.u64 qc, [qz+16];\n"
                                    "cvt.u32.u64 ra, qa; cvt.u32.u64 rb, qb; cvt.u32.u64 rc, qc; cvt.u16.u64 "
                                    "ha, qa; cvt.u16.u64 hb, qb; cvt.u16.u64 hc, qc;\n"
                                    "setp.ne.u32 p0, 0, 0; setp.eq.u32 p1, 0, 0; mov.u32 first, space; "
                                    "mov.u32 mine, %tid.x; mad.lo.u32 mine, mine, 64, first;\n"
                                    "mad.lo.u32 first, %laneid, 64, first; mov.u32 rx, 0x3f803f80; mov.u64 "
                                    "qd, 0; mov.u32 rd, 0; mov.u16 hd, 0;\n";
    const char *v = vectors[k].text;
    char kind = strstr(v, "qd")                        ? 'q'
                : strstr(v, " hd")                     ? 'h'
                : strstr(v, " p,") || strstr(v, "|p,") ? 'p'
                                                       : 'r';
    fprintf(f, ".entry v%d(.param .u64 in, .param .u64 to) %s\n%s\n", k, registers, v);
    if (kind == 'p') fprintf(f, "selp.u64 qd, 1, 0, p;");
    if (kind == 'r') fprintf(f, "cvt.u64.u32 qd, rd;");
    if (kind == 'h') fprintf(f, "cvt.u64.u16 qd, hd;");
    fprintf(f, "mov.u32 t, %%tid.x; mad.wide.u32 out, t, 8, out; st.global.u64 [out], qd; exit; }\n");
}

START_TEST(instructions) {
    setenv("TBC_EMU_DEVICE", "sm_90", 1); /* some of them need it */
    device();
    char *text;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    fputs(prelude, f);
    for (int k = 0; k < VECTORS; k++) write_kernel(f, k);
    fclose(f);
    Handle m = module(text);
    CUdeviceptr in, out;
    CHECK(cuMemAlloc_v2(&in, 32));
    CHECK(cuMemAlloc_v2(&out, 32 * 8));
    for (int k = 0; k < VECTORS; k++) {
        const Vector *v = &vectors[k];
        uint64_t values[4] = {v->a, v->b, v->c, 0}, got[32];
        char name[16];
        snprintf(name, sizeof name, "v%d", k);
        CHECK(cuMemcpyHtoD_v2(in, values, sizeof values));
        int r = launch(m, name, 1, 32, in, out);
        ck_assert_msg(!r, "%s: error %d", v->text, r);
        CHECK(cuMemcpyDtoH_v2(got, out, sizeof got));
        for (int l = 0; l < 32; l++)
            ck_assert_msg(got[l] == v->result, "%s (%llx, %llx, %llx) is %llx in lane %d, not %llx", v->text,
                          (unsigned long long)v->a, (unsigned long long)v->b, (unsigned long long)v->c,
                          (unsigned long long)got[l], l, (unsigned long long)v->result);
    }
    CHECK(cuModuleUnload(m));
    free(text);
}
END_TEST

/* Perturbed approximate instructions keep to the ISA's tables of special values. */
START_TEST(perturbed) {
    static const struct {
        const char *text;
        uint32_t a, result;
    } exact[] = {{"cos.approx.f32", 0, 0x3f800000},
                 {"cos.approx.ftz.f32", 0x80000001, 0x3f800000},
                 {"ex2.approx.f32", 0x80000000, 0x3f800000},
                 {"tanh.approx.f32", 0xff800000, 0xbf800000},
                 {"ex2.approx.ftz.f32", 1, 0x3f800000},
                 {"tanh.approx.f32", 0x80000000, 0x80000000},
                 {"tanh.approx.f16x2", 0x7c00fc00, 0x3c00bc00},
                 {"ex2.approx.f16x2", 0x8000, 0x3c003c00}};
    setenv("TBC_EMU_PERTURB", "1", 1);
    device();
    CUdeviceptr out;
    CHECK(cuMemAlloc_v2(&out, 4));
    for (size_t k = 0; k < sizeof exact / sizeof *exact; k++) {
        char text[512];
        uint32_t got;
        snprintf(text, sizeof text,
                 HEAD
                 ".entry k(.param .u64 to, .param .u64 a) { .reg .b64 p; .reg .b32 r; ld.param.u64 p, [to]; "
                 "ld.param.b32 r, [a];\n%s r, r; st.global.b32 [p], r; exit; }",
                 exact[k].text);
        CHECK(launch(module(text), "k", 1, 1, out, exact[k].a));
        CHECK(cuMemcpyDtoH_v2(&got, out, 4));
        ck_assert_msg(got == exact[k].result, "%s of %x is %x", exact[k].text, exact[k].a, got);
    }
}
END_TEST

/* ---- what is refused ---- */
static const char *const refused[] = {
    "add.s32.foo rd, ra, rb;",
    "frob.b32 rd, ra;",
    "add.s32 rd, ra;",
    "add.f32 rd, ra, 1;",
    "fma.f32 rd, ra, ra, ra;",
    "mul.s32 rd, ra, rb;",
    "add.s32 rd, ra, qa;",
    "add.u32 fa, ra, rb;",
    "ld.global.f16 rd, [qa];",
    "cvt.f32.s32 rd, ra;",
    "cvt.rn.s32.f32 rd, ra;",
    "shfl.idx.b32 rd, ra, rb, 31;",
    "bra nowhere;",
    "mov.u32 rd, %nothing;",
    "ld.shared.v4.u64 {qa, qa, qa, qa}, [ra];",
    "ld.global.v2.u32 rd, [qa];",
    "setp.lo.s32 p, ra, rb;",
    "atom.global.add.s64 qa, [qa], qa;",
    "st.const.u32 [qa], ra;",
    "mma.sync.aligned.m16n8k16.row.row.f32.bf16.bf16.f32 {ra}, {ra}, {ra}, {ra};",
    "ld.relaxed.global.u32 rd, [qa];",
    "membar;",
    "wgmma.fence.sync.aligned;",
    "min.rn.f32 rd, ra, rb;",
    "@ra bra nowhere;",
    "mov.u32 rd, ra rb;",
    "vadd.u32.u32.u32 rd.b4, ra, rb, rd;",
    "vadd4.u32.u32.u32.add.sat rd, ra, rb, rd;",
    "add.u32 rd, ra.b0, rb;",
    "setp.lt.f16 p|d, ha, ha;",
    "add.bf16 ha, ha, ha;", /* for sm_90 */
    "cvt.rn.bf16.s32 ha, ra;",
    "mov.u32 rd, %cluster_ctarank;",
    "max.xorsign.abs.f32 fa, fa, fa;",
    "lop3.xor.b32 rd|p, ra, rb, rd, 1, p;",
    "mov.b32 rd, {ra, rb};",
    "mov.b32 {ra, rb}, rd;",
    "lop3.nand.b32 rd|p, ra, rb, rd, 1, p;"};

START_TEST(refusals) {
    device();
    capture();
    char text[1024], log[512], expected[32];
    snprintf(text, sizeof text,
             HEAD ".entry k() {\n.reg .b32 ra, rb, rd; .reg .f32 fa; .reg .b64 qa; .reg .b16 ha; .reg .pred "
                  "p, d;\n%s\n}",
             refused[_i]);
    snprintf(expected, sizeof expected, "ptx line 6: error: ");
    int options[] = {5, 6};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    Handle m;
    ck_assert_msg(cuModuleLoadDataEx(&m, text, 2, options, values) == 218, "%s is taken", refused[_i]);
    ck_assert_msg(!strncmp(log, expected, strlen(expected)), "%s: the log is: %s", refused[_i], log);
}
END_TEST

/* ---- reports ---- */
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

/* What only newer devices have: vectors of 32 bytes, clusters (of one block). */
START_TEST(newer_device) {
    setenv("TBC_EMU_DEVICE", "sm_100", 1);
    device();
    Handle m = module(".version 8.8\n.target sm_100\n.address_size 64\n"
                      ".entry k(.param .u64 pp, .param .u64 qq) { .reg .u64 p, q; .reg .u32 r<8>, n;\n"
                      "ld.param.u64 p, [pp]; ld.param.u64 q, [qq]; mov.u32 n, %cluster_nctarank;\n"
                      "ld.global.v8.u32 {r0, r1, r2, r3, r4, r5, r6, r7}, [p]; add.u32 r7, r7, n;\n"
                      "st.global.v8.u32 [q], {r7, r6, r5, r4, r3, r2, r1, r0}; exit; }");
    CUdeviceptr p, q;
    uint32_t in[8] = {0, 1, 2, 3, 4, 5, 6, 7}, out[8], expected[8] = {8, 6, 5, 4, 3, 2, 1, 0};
    CHECK(cuMemAlloc_v2(&p, sizeof in));
    CHECK(cuMemAlloc_v2(&q, sizeof out));
    CHECK(cuMemcpyHtoD_v2(p, in, sizeof in));
    CHECK(launch(m, "k", 1, 1, p, q));
    CHECK(cuMemcpyDtoH_v2(out, q, sizeof out));
    ck_assert_mem_eq(out, expected, sizeof out);
}
END_TEST

/* ---- the driver ---- */
static const char copy_kernel[] =
    HEAD ".entry copy(.param .u64 to, .param .u64 from) { .reg .u64 a, b, t; .reg .u32 r; ld.param.u64 a, "
         "[to]; ld.param.u64 b, [from];\n"
         "mov.u32 r, %tid.x; mul.wide.u32 t, r, 4; add.u64 a, a, t; add.u64 b, b, t; ld.global.u32 r, [b]; "
         "add.u32 r, r, 1; st.global.u32 [a], r; exit; }";

START_TEST(use_after_free) {
    device();
    capture();
    Handle m = module(copy_kernel);
    CUdeviceptr a, b;
    CHECK(cuMemAlloc_v2(&a, 256));
    CHECK(cuMemAlloc_v2(&b, 256));
    CHECK(cuMemsetD32Async(b, 7, 64, NULL));
    CHECK(cuMemFree_v2(b));
    ck_assert_int_eq(launch(m, "copy", 1, 64, a, b), 700);
    ck_assert_ptr_nonnull(strstr(captured(), "freed"));
}
END_TEST

START_TEST(work_is_late) { /* a copy reads host memory when something synchronises, not before */
    device();
    Handle s, t, e;
    uint32_t v = 1, got = 0;
    CUdeviceptr a;
    CHECK(cuStreamCreate(&s, 1));
    CHECK(cuStreamCreate(&t, 1));
    CHECK(cuEventCreate(&e, 0));
    CHECK(cuMemAlloc_v2(&a, 4));
    CHECK(cuMemcpyHtoDAsync_v2(a, &v, 4, s));
    v = 2;
    CHECK(cuEventRecord(e, s));
    CHECK(cuStreamSynchronize(t)); /* another stream's business */
    v = 3;
    CHECK(cuStreamWaitEvent(t, e, 0));
    CHECK(cuStreamSynchronize(t));
    v = 4;
    CHECK(cuMemcpyDtoH_v2(&got, a, 4));
    ck_assert_uint_eq(got, 3);
    CHECK(cuStreamDestroy_v2(s));
    CHECK(cuEventSynchronize(e)); /* an event outlives its stream */
    CHECK(cuEventDestroy_v2(e));
}
END_TEST

/* A kernel's node behind that of a memset, from a library, in memory of a pool. */
START_TEST(graph_of_nodes) {
    device();
    Handle library, kernel, f, pool, g, set, copy, exec, nodes[4];
    CUdeviceptr a, b, c;
    unsigned count;
    CHECK(cuLibraryLoadData(&library, copy_kernel, NULL, NULL, 0, NULL, NULL, 0));
    CHECK(cuLibraryGetKernelCount(&count, library));
    ck_assert_uint_eq(count, 1);
    CHECK(cuLibraryGetKernel(&kernel, library, "copy"));
    CHECK(cuKernelGetFunction(&f, kernel));
    CHECK(cuDeviceGetDefaultMemPool(&pool, 0));
    CHECK(cuMemAllocFromPoolAsync(&a, 256, pool, NULL));
    CHECK(cuMemAllocFromPoolAsync(&b, 256, pool, NULL));
    CHECK(cuMemAllocFromPoolAsync(&c, 256, pool, NULL));
    struct {
        Handle function;
        unsigned grid[3], block[3], dynamic;
        void **params, **extra;
        Handle kernel, context;
    } work = {.function = f, .grid = {1, 1, 1}, .block = {64, 1, 1}, .params = (void *[]){&b, &a}};
    struct {
        CUdeviceptr dst;
        size_t pitch;
        unsigned value, element;
        size_t width, height;
    } seven = {a, 0, 7, 4, 64, 1};
    CHECK(cuGraphCreate(&g, 0));
    CHECK(cuGraphAddKernelNode_v2(&copy, g, NULL, 0, &work));
    CHECK(cuGraphAddMemsetNode(&set, g, NULL, 0, &seven, NULL));
    CHECK(cuGraphAddDependencies(g, &set, &copy, 1));
    size_t n = 4;
    CHECK(cuGraphGetNodes(g, nodes, &n));
    ck_assert(n == 2 && nodes[0] == copy && nodes[1] == set);
    CHECK(cuGraphInstantiateWithFlags(&exec, g, 0));
    CHECK(cuGraphLaunch(exec, NULL));
    work.params = (void *[]){&c, &b};
    CHECK(cuGraphExecKernelNodeSetParams_v2(exec, copy, &work)); /* the launch before keeps its own */
    CHECK(cuGraphLaunch(exec, NULL));
    uint32_t got[2];
    CHECK(cuMemcpyDtoH_v2(&got[0], b, 4));
    CHECK(cuMemcpyDtoH_v2(&got[1], c, 4));
    ck_assert(got[0] == 8 && got[1] == 9);
    CHECK(cuGraphExecDestroy(exec));
    /* the same as a child: c = b + 1 comes after all of it; its nodes can be changed; captured, it is copied
     */
    Handle outer, child, last, s;
    CHECK(cuGraphCreate(&outer, 0));
    CHECK(cuGraphAddChildGraphNode(&child, outer, NULL, 0, g));
    CHECK(cuGraphAddKernelNode_v2(&last, outer, &child, 1, &work));
    CHECK(cuGraphInstantiateWithFlags(&exec, outer, 0));
    CHECK(cuMemsetD8_v2(b, 0, 256));
    CHECK(cuGraphLaunch(exec, NULL));
    CHECK(cuMemcpyDtoH_v2(&got[1], c, 4));
    ck_assert_uint_eq(got[1], 9);
    CHECK(cuGraphChildGraphNodeGetGraph(child, &nodes[1]));
    ck_assert_int_eq(cuGraphDestroy(nodes[1]), 1); /* it is the node's */
    CHECK(cuGraphGetNodes(nodes[1], nodes, (n = 1, &n)));
    work.params = (void *[]){&b, &b};
    CHECK(cuGraphExecKernelNodeSetParams_v2(exec, nodes[0], &work)); /* b = b + 1 */
    CHECK(cuStreamCreate(&s, 1));
    CHECK(cuStreamBeginCapture_v2(s, 0));
    CHECK(cuGraphLaunch(exec, s));
    CHECK(cuGraphDestroy(outer));
    CHECK(cuStreamEndCapture(s, &nodes[1]));
    CHECK(cuGraphClone(&outer, nodes[1]));
    CHECK(cuGraphDestroy(nodes[1]));
    CHECK(cuGraphExecDestroy(exec));
    CHECK(cuGraphInstantiateWithFlags(&exec, outer, 0));
    for (int k = 0; k < 2; k++) CHECK(cuGraphLaunch(exec, s));
    CHECK(cuStreamSynchronize(s));
    CHECK(cuMemcpyDtoH_v2(&got[1], c, 4));
    ck_assert_uint_eq(got[1], 11);
    CHECK(cuGraphExecDestroy(exec));
    CHECK(cuGraphDestroy(outer));
    CHECK(cuGraphAddDependencies(g, &copy, &set, 1)); /* a circle */
    ck_assert_int_eq(cuGraphInstantiateWithFlags(&exec, g, 0), 1);
    CHECK(cuGraphDestroy(g));
    CHECK(cuMemFreeAsync(a, NULL));
    CHECK(cuLibraryUnload(library));
}
END_TEST

START_TEST(managed_memory) { /* one address for host and device */
    device();
    CUdeviceptr a, b;
    CHECK(cuMemAllocManaged(&a, 256, 1));
    CHECK(cuMemAllocManaged(&b, 256, 1));
    uint32_t *to = (uint32_t *)(uintptr_t)a, *from = (uint32_t *)(uintptr_t)b;
    for (uint32_t k = 0; k < 64; k++) from[k] = k;
    CHECK(launch(module(copy_kernel), "copy", 1, 64, a, b));
    for (uint32_t k = 0; k < 64; k++) ck_assert_uint_eq(to[k], k + 1);
    CHECK(cuMemFree_v2(a));
    ck_assert_int_eq(cuMemFree_v2(a), 1);
}
END_TEST

START_TEST(graphs) {
    device();
    Handle m = module(copy_kernel), s, g, x, f;
    CUdeviceptr a;
    uint32_t v[32] = {0};
    CHECK(cuMemAlloc_v2(&a, sizeof v));
    CHECK(cuMemcpyHtoD_v2(a, v, sizeof v));
    CHECK(cuStreamCreate(&s, 1));
    CHECK(cuModuleGetFunction(&f, m, "copy"));
    CHECK(cuStreamBeginCapture_v2(s, 0));
    CUdeviceptr to = a, from = a;
    for (int k = 0; k < 3; k++)
        CHECK(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, s, (void *[]){&to, &from}, NULL));
    ck_assert_int_eq(cuStreamSynchronize(s), 900);
    ck_assert_int_eq(cuStreamEndCapture(s, &g), 901);
    CHECK(cuStreamBeginCapture_v2(s, 0));
    for (int k = 0; k < 3; k++)
        CHECK(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, s, (void *[]){&to, &from}, NULL));
    to = from = 0; /* the values count that were there */
    CHECK(cuStreamEndCapture(s, &g));
    CHECK(cuGraphInstantiateWithFlags(&x, g, 0));
    CHECK(cuGraphDestroy(g));
    CHECK(cuGraphLaunch(x, s));
    CHECK(cuGraphLaunch(x, s));
    CHECK(cuStreamSynchronize(s));
    CHECK(cuMemcpyDtoH_v2(v, a, sizeof v));
    ck_assert_uint_eq(v[31], 6);
    CHECK(cuGraphExecDestroy(x));
}
END_TEST

/* A function and a variable of another text, which comes behind (0) or before (1). */
START_TEST(linking) {
    static const char *const texts[] = {
        HEAD ".extern .func (.param .b32 y) next(.param .b32 x);\n.extern .global .align 4 .u32 step;\n"
             ".visible .entry k(.param .u64 to) { .reg .u64 a, s; .reg .u32 r; ld.param.u64 a, [to]; mov.u64 "
             "s, step;\n"
             "ld.global.u32 r, [s]; { .param .b32 x; .param .b32 y; st.param.b32 [x], r; call.uni (y), next, "
             "(x);\n"
             "ld.param.b32 r, [y]; } st.global.u32 [a], r; exit; }",
        HEAD
        ".visible .global .align 4 .u32 step = 41;\n.visible .func (.param .b32 y) next(.param .b32 x) {\n"
        ".reg .u32 r; ld.param.b32 r, [x]; add.u32 r, r, 1; st.param.b32 [y], r; ret; }"};
    device();
    capture();
    Handle link, m;
    void *program;
    size_t size;
    CUdeviceptr p;
    uint32_t got;
    CHECK(cuLinkCreate_v2(0, NULL, NULL, &link));
    ck_assert_int_eq(cuLinkComplete(link, &program, &size), 200);
    for (int i = 0; i < 2; i++)
        CHECK(cuLinkAddData_v2(link, 1, texts[i ^ _i], strlen(texts[i ^ _i]) + (size_t)i, "", 0, NULL, NULL));
    ck_assert_int_eq(cuLinkAddData_v2(link, 0, "\177ELF", 4, "", 0, NULL, NULL), 209);
    CHECK(cuLinkComplete(link, &program, &size));
    CHECK(cuModuleLoadDataEx(&m, program, 0, NULL, NULL));
    CHECK(cuLinkDestroy(link));
    ck_assert_int_eq(cuLinkDestroy(link), 400);
    CHECK(cuMemAlloc_v2(&p, 4));
    CHECK(launch(m, "k", 1, 1, p, 0));
    CHECK(cuMemcpyDtoH_v2(&got, p, 4));
    ck_assert_uint_eq(got, 42);
    ck_assert_int_eq(cuModuleLoadDataEx(&m, texts[0], 0, NULL, NULL), 218); /* alone: nowhere defined */
}
END_TEST

START_TEST(limits) {
    device();
    capture();
    Handle m = module(HEAD ".entry k() .maxntid 64 { exit; } .entry g(.param .u32 a) { exit; }"), f, g;
    CHECK(cuModuleGetFunction(&f, m, "k"));
    CHECK(cuModuleGetFunction(&g, m, "g"));
    ck_assert_int_eq(cuLaunchKernel(f, 1, 1, 1, 65, 1, 1, 0, NULL, NULL, NULL), 1);
    ck_assert_int_eq(cuLaunchKernel(f, 0, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL), 1);
    ck_assert_int_eq(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 50000, NULL, NULL, NULL), 1);
    ck_assert_int_eq(cuLaunchKernel(g, 1, 1, 1, 1025, 1, 1, 0, NULL, (void *[]){&(int){0}}, NULL), 1);
    ck_assert_int_eq(cuLaunchKernel(g, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL), 1);
    CHECK(cuFuncSetAttribute(f, 8, 100000));
    CHECK(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 100000, NULL, NULL, NULL));
    CHECK(cuCtxSynchronize());
    Handle none;
    ck_assert_int_eq(cuModuleGetFunction(&none, m, "h"), 500);
    ck_assert_int_eq(cuModuleLoadDataEx(&none, "\177ELF....", 0, NULL, NULL), 209);
}
END_TEST

int main(void) {
    /* one order of events: which of two reports a spoiled kernel brings depends on it */
    setenv("TBC_EMU_SEED", "1", 1);
    setenv("TBC_EMU_PERTURB", "0", 1);
    Suite *suite = suite_create("emulator");
    TCase *t = tcase_create("emulator");
    suite_add_tcase(suite, t);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, instructions);
    tcase_add_test(t, perturbed);
    tcase_add_loop_test(t, refusals, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_loop_test(t, reports, 0, (int)(sizeof stricts / sizeof *stricts));
    tcase_add_test(t, newer_device);
    tcase_add_test(t, use_after_free);
    tcase_add_test(t, work_is_late);
    tcase_add_test(t, managed_memory);
    tcase_add_test(t, graph_of_nodes);
    tcase_add_test(t, graphs);
    tcase_add_loop_test(t, linking, 0, 2);
    tcase_add_test(t, limits);
    return run_suite(suite);
}
