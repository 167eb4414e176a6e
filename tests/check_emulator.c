/* The emulated device (tests/emulator): each instruction against results derived by hand from the PTX ISA
 * (emulator/vectors.def), exchange between different lanes, and refusals of what is not known. */
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

/* What a text may begin with. */
static const char *const heads[] = {
    ".target sm_80\n.version 7.8\n",
    ".version 9.1\n.target sm_80\n",
    ".version 99999999999999999999.0\n.target sm_80\n",
    ".version 1e30\n.target sm_80\n",
    ".version 7.8\n",
    ".version 7.8\n.target sm_80x\n",
    ".version 7.8\n.target sm_4294967376\n", /* 80 in 32 bits */
    ".version 7.8\n.target sm_\n",
    ".version 7.8\n.target sm_90a\n",
    ".version 7.8\n.target gtx_80\n",
    ".version 7.8\n.target sm_80\n.address_size 32\n",
    ".version 7.8\n.target sm_80\n.visible\n",
    ".version 7.8\n.target sm_80\n.section x {",
    HEAD ".entry k() .maxntid 4294967360 { exit; }", /* 64 in 32 bits */
};

START_TEST(refused_heads) {
    device();
    Handle m;
    ck_assert_msg(cuModuleLoadDataEx(&m, heads[_i], 0, NULL, NULL) == 218, "taken: %s", heads[_i]);
}
END_TEST

int main(void) {
    setenv("TBC_EMU_PERTURB", "0", 1);
    Suite *suite = suite_create("emulator");
    TCase *t = tcase_create("emulator");
    suite_add_tcase(suite, t);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, instructions);
    tcase_add_test(t, perturbed);
    tcase_add_test(t, newer_device);
    tcase_add_loop_test(t, refusals, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_loop_test(t, refused_heads, 0, (int)(sizeof heads / sizeof *heads));
    return run_suite(suite);
}
