/* The emulated device and the parts of a program around its instructions: initialisers of variables, calls,
 * functions that call themselves. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "emulator/api.h"
#include "suite.h"

/* ---- variables ---- */
static const struct {
    const char *text;
    uint32_t bytes, words[6];
} variables[] = {{"u32 x[2][3] = {{1}, {4, 5, 6}};", 24, {1, 0, 0, 4, 5, 6}},
                 {"u32 x[][2] = {{1, 2}, {3, 4}};", 16, {1, 2, 3, 4}},
                 {"b32 x[] = {1 | 6, 3 > 2 ? 8 : 9, -1};", 12, {7, 8, 0xffffffff}},
                 {"v2 .u32 x[2] = {{1}, {3, 4}};", 16, {1, 0, 3, 4}},
                 {"f32 x[2] = {-1.5, 0d4000000000000000};", 8, {0xbfc00000, 0x40000000}},
                 {"f64 x = 0f3f800000;", 8, {0, 0x3ff00000}},
                 {"f64 x = 18446744073709551616.0;", 8, {0, 0x43f00000}},
                 {"b8 x[4] = {1, 2, 3};", 4, {0x00030201}},
                 /* refused */
                 {"u32 x = 1.0;", 0, {0}},
                 {"f32 x = 1;", 0, {0}},
                 {"f16 x = 1.0;", 0, {0}},
                 {"b32 x = 1.0;", 0, {0}},
                 {"u32 x[2][2] = {{1, 2, 3}};", 0, {0}},
                 {"u32 x[2][2] = {1, {2, 3}};", 0, {0}},
                 {"u32 x[2] = {1, 2, 3};", 0, {0}},
                 {"u32 x[2] = {{1}, {2}};", 0, {0}}};

START_TEST(initialisers) {
    device();
    capture();
    char text[256];
    Handle m;
    CUdeviceptr p;
    size_t bytes;
    uint32_t got[6];
    snprintf(text, sizeof text, HEAD ".visible .global .align 8 .%s\n.entry k() { exit; }",
             variables[_i].text);
    if (!variables[_i].bytes) {
        ck_assert_int_eq(cuModuleLoadDataEx(&m, text, 0, NULL, NULL), 218);
        return;
    }
    CHECK(cuModuleGetGlobal_v2(&p, &bytes, module(text), "x"));
    ck_assert_uint_eq(bytes, variables[_i].bytes);
    CHECK(cuMemcpyDtoH_v2(got, p, bytes));
    ck_assert_mem_eq(got, variables[_i].words, bytes);
}
END_TEST

/* ---- calls ---- */
/* Each lane calls f with its number n = 0..31 (and 5) and stores the result. */
static const struct {
    const char *text;
    uint32_t of_0, of_7, of_20;
} calls[] = {
    /* like Fibonacci: two calls, a value kept over the first; deeper in some lanes than in others */
    {".func (.reg .u32 r) f(.reg .u32 n, .reg .u32 m) { .reg .u32 a, b; .reg .pred p; mov.u32 r, n; "
     "setp.lt.u32 p, n, 5; "
     "@p ret;\nsub.u32 a, n, 4; call (a), f, (a, m); sub.u32 b, n, 5; call (b), f, (b, m); add.u32 r, a, b; "
     "ret; }",
     0, 5, 32},
    /* parameters in .param space, 40 calls deep and more, exchanged at each */
    {".func (.param .b32 r) f(.param .b32 n, .param .b32 m) { .reg .u32 a, b, c; .reg .pred p; .param .b32 "
     "x, y, z;\n"
     "ld.param.u32 a, [n]; ld.param.u32 b, [m]; setp.gt.u32 p, a, 60; @p bra E; add.u32 c, a, 3; "
     "st.param.b32 [x], b;\n"
     "st.param.b32 [y], c; call (z), f, (x, y); ld.param.u32 c, [z]; add.u32 c, c, a; st.param.b32 [r], c; "
     "ret;\n"
     "E: st.param.b32 [r], b; ret; }",
     1238, 1193, 943},
    {".func (.reg .u32 r) f(.reg .u32 n, .reg .u32 m) { .reg .u32 a; .reg .pred p; mov.u32 r, m; setp.gt.u32 "
     "p, n, 40; @p "
     "ret;\nadd.u32 m, m, 1; call (a), f, (m, n); add.u32 r, a, n; ret; }",
     0, 0, 0},
    /* through each other, and through a pointer */
    {".func (.reg .u32 r) g(.reg .u32 n);\n.func (.reg .u32 r) f(.reg .u32 n, .reg .u32 m) { .reg .pred p; "
     "mov.u32 r, 1; "
     "setp.eq.u32 p, n, 0; @p ret; sub.u32 m, n, 1;\ncall (r), g, (m); ret; }\n.func (.reg .u32 r) g(.reg "
     ".u32 n) { .reg .pred "
     "p; .reg .u32 k; mov.u32 r, 0; setp.eq.u32 p, n, 0; @p ret; sub.u32 k, n, 1;\ncall (r), f, (k, k); ret; "
     "}",
     1, 0, 1},
    {".func (.reg .u32 r) f(.reg .u32 n, .reg .u32 m) { .reg .u32 a; .reg .u64 q; .reg .pred p; mov.u32 r, "
     "0; setp.eq.u32 p, "
     "n, 0; @p ret; mov.u64 q, f;\nc: .callprototype (.reg .u32 _) _ (.reg .u32 _, .reg .u32 _); sub.u32 a, "
     "n, 1; call (r), "
     "q, (a, m), c; add.u32 r, r, n; ret; }",
     0, 28, 210},
    /* .local variables: the caller's, whose address is passed on, is another one; 0 1 2 .. n are there at the
       end */
    {".func (.reg .u32 r) f(.reg .u32 n, .reg .u32 m) { .reg .u32 a, b; .reg .u64 q; .reg .pred p; .local "
     ".align 8 .b32 x[2];\n"
     "mov.u64 q, x; st.local.u32 [x+4], n; st.local.u32 [q], m; setp.eq.u32 p, n, 0; mov.u32 r, 0; @p ret; "
     "sub.u32 a, n, 1;\n"
     "call (r), f, (a, n); ld.local.u32 a, [q+4]; ld.local.u32 b, [x]; mad.lo.u32 r, b, 100, r; add.u32 r, "
     "r, a; ret; }",
     0, 28 + 100 * (7 + 6 + 5 + 4 + 3 + 2 + 5), 210 + 100 * (210 - 1 + 5)},
    {".func set(.reg .u64 q, .reg .u32 n) { .reg .u32 a; .reg .u64 s; .reg .pred p; .local .b32 x; "
     "cvta.local.u64 s, x;\n"
     "st.local.u32 [x], n; setp.eq.u32 p, n, 0; @p bra E; sub.u32 a, n, 1; call set, (s, a); E: ld.local.u32 "
     "a, [x]; ld.u32 n, [q]; "
     "add.u32 n, n, a; st.u32 [q], n; ret; }\n.func (.reg .u32 r) f(.reg .u32 n, .reg .u32 m) { .reg .u64 q; "
     ".local .b32 x;\n"
     "st.local.u32 [x], m; cvta.local.u64 q, x; call set, (q, n); ld.local.u32 r, [x]; ret; }",
     5, 33, 215},
    /* alloca: each activation's own, freed when it ends; 3 KiB in all where 40 times as much is asked for */
    {".func (.reg .u32 r) g(.reg .u32 n) { .reg .u64 a, b, c; .reg .u32 t; mov.u64 a, 3000; alloca.u64 b, a, "
     "16; mov.u64 a, 8;\n"
     "alloca.u64 c, a; st.local.u32 [b+2996], n; st.local.u32 [c+4], 1; ld.local.u32 r, [b+2996]; "
     "ld.local.u32 t, [c+4]; "
     "add.u32 r, r, t; and.b64 a, b, 15; cvt.u32.u64 t, a; add.u32 r, r, t; ret; }\n"
     ".func (.reg .u32 r) f(.reg .u32 n, .reg .u32 m) { .reg .u32 a; .reg .u64 s, b; .reg .pred p; mov.u32 "
     "m, 0; mov.u32 r, 0;\n"
     "L: stacksave.u64 s; alloca.u64 b, 3000; st.local.u32 [b], n; call (a), g, (n); add.u32 r, r, a; "
     "stackrestore.u64 s; "
     "add.u32 m, m, 1; setp.lt.u32 p, m, 40; @p bra L; ret; }",
     40, 320, 840},
    /* no recursion: registers of a function as arguments, and a call in what a pointer calls */
    {".func (.reg .u32 r) g(.reg .u32 n) { mul.lo.u32 r, n, 3; ret; }\n.func (.reg .u32 r) h(.reg .u32 n) { "
     ".reg .u32 a; call "
     "(a), g, (n); add.u32 r, a, n; ret; }\n.func (.reg .u32 r) f(.reg .u32 n, .reg .u32 m) { .reg .u64 q; "
     "mov.u64 q, h;\n"
     "c: .callprototype (.reg .u32 _) _ (.reg .u32 _); call (r), q, (n), c; add.u32 r, r, m; ret; }",
     5, 33, 85},
};

static uint32_t third(uint32_t n, uint32_t m) { /* the C of the third one */
    return n > 40 ? m : third(m + 1, n) + n;
}

START_TEST(functions) {
    device();
    char text[2048];
    CUdeviceptr out;
    uint32_t got[64];
    snprintf(text, sizeof text,
             HEAD "%s\n.entry k(.param .u64 to, .param .u64 no) { .reg .u32 n, r, five; .reg .u64 p, a; "
                  "ld.param.u64 p, [to]; "
                  "mov.u32 n, %%tid.x; mul.wide.u32 a, n, 4;\nadd.u64 p, p, a; mov.u32 five, 5; and.b32 n, "
                  "n, 31; call (r), "
                  "f, (n, five); st.global.u32 [p], r; exit; }",
             calls[_i].text);
    CHECK(cuMemAlloc_v2(&out, sizeof got));
    CHECK(launch(module(text), "k", 1, 64, out, 0));
    CHECK(cuMemcpyDtoH_v2(got, out, sizeof got));
    bool in_c = _i == 2;
    for (unsigned k = 0; k < 64; k += 32) {
        ck_assert_uint_eq(got[k], in_c ? third(0, 5) : calls[_i].of_0);
        ck_assert_uint_eq(got[k + 7], in_c ? third(7, 5) : calls[_i].of_7);
        ck_assert_uint_eq(got[k + 20], in_c ? third(20, 5) : calls[_i].of_20);
    }
}
END_TEST

/* A function that calls itself and takes the address of a parameter is refused: when the module is loaded or,
 * through a pointer, when it happens. One that never ends is reported, and a stack that is full. */
START_TEST(recursion) {
    device();
    capture();
    char text[1024];
    const char *bodies[] =
        {".param .b32 x; mov.u64 g, x; call f, (n);",
         ".param .b32 x; mov.u64 g, x; mov.u64 g, f; c: .callprototype _ (.reg .u32 _); call g, (n), c;",
         "add.u32 n, n, 1; call f, (n);",
         ".local .b8 x[1000]; add.u32 n, n, 1; call f, (n);",
         ".local .b8 x[16000]; add.u32 n, n, 1; mov.u64 g, f; c: .callprototype _ (.reg .u32 _); call g, "
         "(n), c;",
         "mov.u64 g, 16385; alloca.u64 g, g;"},
               *said[] = {"",
                          "address of a parameter",
                          "too deeply",
                          "stack is full",
                          "stack is full",
                          "stack is full"};
    snprintf(text, sizeof text,
             HEAD
             ".func f(.reg .u32 n);\n.func f(.reg .u32 n) { .reg .u64 g; .reg .pred p;\nsetp.eq.u32 p, n, 0; "
             "@p ret; sub.u32 n, n, 1;\n%s\nret; }\n"
             ".entry k(.param .u64 pp, .param .u64 qq) { .reg .u32 n; mov.u32 n, 3; call f, (n); exit; }",
             bodies[_i]);
    Handle m;
    int r = cuModuleLoadDataEx(&m, text, 0, NULL, NULL);
    if (_i == 0)
        ck_assert_int_eq(r, 218);
    else
        ck_assert_msg(!r && launch(m, "k", 1, 1, 0, 0) && strstr(captured(), said[_i]), "%s", bodies[_i]);
}
END_TEST

int main(void) {
    setenv("TBC_EMU_SEED", "1", 1);
    Suite *suite = suite_create("emulator_program");
    TCase *t = tcase_create("emulator_program");
    suite_add_tcase(suite, t);
    tcase_add_loop_test(t, initialisers, 0, (int)(sizeof variables / sizeof *variables));
    tcase_add_loop_test(t, functions, 0, (int)(sizeof calls / sizeof *calls));
    tcase_add_loop_test(t, recursion, 0, 6);
    return run_suite(suite);
}
