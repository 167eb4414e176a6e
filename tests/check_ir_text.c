/* The text form of the IR: every op and construct both ways, other spellings, and what is refused, where and why. */
#include "ir_cases.h"
#include "ir_text.h"
#include "suite.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

static Buf printed(const Module *m) {
    Buf b = {0};
    print_module(m, &b);
    return b;
}

/* print(parse(print(m))) == print(m) */
static void check_round_trip(const Module *m) {
    Buf first = printed(m);
    Module *again = parse_ok(first.at);
    Buf second = printed(again);
    ck_assert_str_eq(first.at, second.at);
    module_free(again);
    buf_free(&first);
    buf_free(&second);
}

static bool has_op(const Graph *g, Op op) {
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (n->op == op || (n->body && has_op(n->body, op))) return true;
    }
    return false;
}

/* The text is refused, and the (first) messages contain `message`. */
static void check_refused(const char *text, const char *message) {
    Diag d;
    Module *m = parse(text, &d);
    ck_assert_msg(m == NULL, "accepted:\n%s", text);
    ck_assert_msg(d.text.at && strstr(d.text.at, message), "expected: %s\nfound: %s\nin:\n%s", message,
                  d.text.at ? d.text.at : "nothing", text);
    buf_free(&d.text);
}

START_TEST(every_op_round_trips) {
    uint32_t cases = 0;
    for (uint32_t i = 0; i < IR_CASES; i++) {
        if (ir_cases[i].op != (Op)_i) continue;
        Buf text = case_text(&ir_cases[i]);
        Module *m = parse_ok(text.at);
        Diag d = {.out = stderr};
        ck_assert(verify(m, &d));
        ck_assert(has_op(m->graphs.at[0], (Op)_i));
        check_round_trip(m);
        module_free(m);
        buf_free(&text);
        cases++;
    }
    ck_assert_msg(cases > 0, "op '%s' has no example in ir_cases.h", op_info[_i].name);
}
END_TEST

START_TEST(text_is_lossless) {
    Module *m = parse_ok(full_text);
    Buf b = printed(m);
    ck_assert_str_eq(b.at, full_text);
    ck_assert_uint_eq(m->files.n, 2);
    ck_assert_str_eq(m->files.at[1], "odd \" \\ \x01\n\xc3\xa9.json");
    ck_assert_str_eq(m->meta, "{\"name\":\"x\"}");
    ck_assert_int_eq(m->arena_bytes, 8192);
    ck_assert_uint_eq(m->props, P(ste) | P(grads) | P(planned));
    const Node *ternary = val_node(m->graphs.at[0], 2);
    ck_assert(ternary->loc.file == 1 && ternary->loc.line == 20 && ternary->loc.col == 3);
    ck_assert_int_eq(m->graphs.at[0]->values.at[5].offset, 704);
    ck_assert(m->graphs.at[0]->attrs.beta2 == 0.95);
    buf_free(&b);
    module_free(m);
}
END_TEST

START_TEST(other_spellings_are_read) {
    Module *m =
        parse_ok("# a comment\ntbc_ir 1 # version\nfunc @t{%0:f32[2]=splat{c=1.50e0}@0:3:4 %1:f32[2]=neg %0\n"
                 "\toutput %1{name=\"\\u00e9\\ud83d\\ude00\\/\"}}");
    Buf b = printed(m);
    ck_assert_str_eq(b.at, "tbc_ir 1\nmeta \"{}\"\nfunc @t {\n  %0: f32[2] = splat {c=1.5} @3:4\n"
                           "  %1: f32[2] = neg %0\n  output %1 {name=\"\xc3\xa9\xf0\x9f\x98\x80/\"}\n}\n");
    buf_free(&b);
    module_free(m);
}
END_TEST

/* A module whose only node is splat {c=..}. */
static Module *splat_module(double c) {
    Module *m = module_new();
    Graph *g = graph_new("t");
    vec_push(&m->graphs, g);
    Type t = type_make(DT_F32, 0, NULL);
    ir_splat(g, (Loc){0}, &t, c);
    return m;
}

static void check_double(double c) {
    Module *m = splat_module(c);
    Buf b = printed(m);
    Module *again = parse_ok(b.at);
    double back = again->graphs.at[0]->nodes.at[0].attrs.c;
    ck_assert_msg(memcmp(&back, &c, sizeof c) == 0, "%.17g came back as %.17g", c, back);
    buf_free(&b);
    module_free(again);
    module_free(m);
}

START_TEST(doubles_are_exact) {
    static const double values[] = {0.0,     -0.0,    0.1,         1.0 / 3, 1e22, 1e-5,
                                    DBL_MAX, DBL_MIN, DBL_EPSILON, 5e-324,  1e100};
    for (uint32_t i = 0; i < sizeof values / sizeof *values; i++) check_double(values[i]);
    uint64_t bits = 1;
    for (int i = 0; i < 2000; i++) {
        double c;
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        memcpy(&c, &bits, sizeof c);
        if (isfinite(c)) check_double(c);
    }
    Module *m = splat_module(0.1);
    Buf b = printed(m);
    ck_assert_ptr_nonnull(strstr(b.at, "{c=0.1}"));
    buf_free(&b);
    module_free(m);
}
END_TEST

/* ---- errors in the text */

#define HEAD "tbc_ir 1\n"
#define FUNC HEAD "func @t {\n%0: f32[2,3] = input {name=\"a\"}\n"

static const struct {
    const char *text, *message;
} syntax_errors[] = {
    {"", "t.tir:1:1: error: expected 'tbc_ir 1', found the end of the text"},
    {"{\"tbc_spec\": 1}", "t.tir:1:1: error: expected 'tbc_ir 1', found '{'"},
    {"tbc_ir", "t.tir:1:7: error: expected an integer"},
    {"tbc_ir 2\n", "t.tir:1:1: error: version 2 of the text form; this tbc reads 1"},
    {"tbc_ir 99999999999999999999", "t.tir:1:8: error: the integer is too large"},
    {HEAD "file 1 \"a\"", "t.tir:2:6: error: files are numbered in order: expected 0"},
    {HEAD "file 0 \"a", "t.tir:2:10: error: the string does not end on its line"},
    {HEAD "file 0 \"a\n\"", "the string does not end on its line"},
    {HEAD "file 0 \"\\q\"", "t.tir:2:10: error: unknown escape in a string"},
    {HEAD "file 0 \"\\u00\"", "expected four hexadecimal digits"},
    {HEAD "file 0 \"\\u0000\"", "not a character that a string can hold"},
    {HEAD "file 0 \"\\ud800\"", "not a character that a string can hold"},
    {HEAD "props ste nonsense\n", "t.tir:2:11: error: unknown prop 'nonsense'"},
    {HEAD "props ste ste\n", "prop 'ste' comes twice"},
    {HEAD "props ste, grads\n", "expected a prop, found ','"},
    {HEAD "arena -1\n", "arena -1 is not from 0 to"},
    {HEAD "meta 3\n", "expected a string, found '3'"},
    {HEAD "meta \"[]\"\n", "error: meta is not a JSON object"},
    {HEAD "props planned\n", "planned but its arena has no size"},
    {HEAD "func", "expected '@', found the end of the text"},
    {HEAD "func @1 {}", "expected a function's name, found '1'"},
    {HEAD "func @t {", "t.tir:2:10: error: expected a node or '}', found the end of the text"},
    {HEAD "func @t {} func @t {}", "t.tir:2:17: error: function @t comes twice"},
    {HEAD "func @t {beta=1} {}", "unknown attribute 'beta'"},
    {HEAD "func @t {} trailing",
     "t.tir:2:12: error: expected 'func' or the end of the text, found 'trailing'"},
    {HEAD "func @t {\x80}", "found byte 0x80"},
    {FUNC "%2: f32[2,3] = neg %0\n}", "t.tir:4:1: error: values are numbered in order: expected %1"},
    {FUNC "%99999999999: f32[2,3] = neg %0\n}", "value 99999999999 is not from 0 to 4294967294"},
    {FUNC "%1: f32[2,3] = nag %0\n}", "t.tir:4:16: error: unknown op 'nag'"},
    {FUNC "%1: f32[2,3] = neg %0 {c=1, d=2}\n}", "unknown attribute 'd'"},
    {FUNC "%1: f32[2,3] = scale %0 {c=1, c=2}\n}", "attribute 'c' comes twice"},
    {FUNC "%1: f32[2,3] = scale %0 {c=inf}\n}", "t.tir:4:28: error: expected a finite number, found 'inf'"},
    {FUNC "%1: f32[2,3] = scale %0 {c=nan}\n}", "expected a finite number, found 'nan'"},
    {FUNC "%1: f32[2,3] = scale %0 {c=1e999}\n}", "t.tir:4:28: error: the number is too large"},
    {FUNC "%1: f32[2,3] = scale %0 {c=0x10}\n}", "malformed number"},
    {FUNC "%1: f32[2,3] = scale %0 {c=1e}\n}", "malformed number"},
    {FUNC "%1: f32[2,2] = matmul %0, %0 {tb=2}\n}", "truth value 2 is not from 0 to 1"},
    {FUNC "%1: f32[2,3 = neg %0\n}", "expected ',', found '='"},
    {FUNC "%1: f16[2,3] = neg %0\n}", "expected a type (f32[..], i32[..], bf16[..] or t2/GROUP[..]), found 'f16'"},
    {FUNC "%1: f32[1,2,3,4,5] = neg %0\n}", "more than 4 dims"},
    {FUNC "%1: f32[0] = neg %0\n}", "the type has a dim below 1"},
    {FUNC "%1: f32[-3] = neg %0\n}", "the type has a dim below 1"},
    {FUNC "%1: f32[16777216,16777216,2] = neg %0\n}", "the type has more than 2^48 elements"},
    {FUNC "%1: f32[4294967296,4294967296,4294967296,4294967296] = neg %0\n}", "more than 2^48 elements"},
    {FUNC "%1: f32[9999999999999999999] = neg %0\n}", "the integer is too large"},
    {FUNC "%1: t2[2,3] = ternary %0 {group=3}\n}", "expected '/', found '['"},
    {FUNC "%1: t2/0[2,3] = ternary %0 {group=3}\n}", "needs a group from 1 to 2147483647"},
    {FUNC "%1: t2/3[2,3,4] = ternary %0 {group=3}\n}", "is ternary but not a matrix"},
    {FUNC "%1: f32[2,3] = neg %0 @5\n}", "expected a location LINE:COL or FILE:LINE:COL"},
    {FUNC "%1: f32[2,3] = neg %0 @0:1\n}", "lines count from 1"},
    {FUNC "%1: f32[2,3] = neg %0 @1:70000\n}", "column 70000 is above 65535"},
    {FUNC "%1: f32[2,3] = neg %0 @3:1:1\n}", "there is no file 3"},
    {FUNC "%1: f32[2,3] at -64 = neg %0\n}", "offset -64 is not from 0 to"},
    {FUNC "%1: f32[2,3] = neg %\n}", "expected a value's number"},
    {FUNC "%1: f32[2,3] = region %0\n}", "expected '{' and the region's body, found '}'"},
    {FUNC "%1: f32[2,3] = region %0 {\n%0: f32[2,3] = region %0 {", "regions cannot contain regions"},
};

START_TEST(syntax_errors_are_located) {
    for (uint32_t i = 0; i < sizeof syntax_errors / sizeof *syntax_errors; i++)
        check_refused(syntax_errors[i].text, syntax_errors[i].message);
}
END_TEST

/* One wrong node after inputs of useful types; line 8 is the first of the text. */
#define INPUTS                                                                                               \
    HEAD "func @t {\n" IN(0, "f32[2,3]", "a") IN(1, "f32[3,4]", "b") IN(2, "i32[2]", "i")                    \
        IN(3, "f32[2,4,2,2]", "q") IN(4, "f32[3]", "v")

/* The beginning of a region of two operands, up to its two args. */
#define REGION2(results, operands, t0, t1)                                                                   \
    results " = region " operands " {\n%0: " t0 " = arg {index=0}\n%1: " t1 " = arg {index=1}\n"

static const struct {
    const char *node, *message;
} type_errors[] = {
    {"%5: f32[2,4] = matmul %0, %0",
     "t.tir:8:1: error: matmul: f32[2,3] x f32[2,3]: inner dims 3 and 2 differ"},
    {"%5: f32[2,4] = matmul %0, %4", "the second operand must have rank 2, not 1"},
    {"%5: f32[2,4] = matmul %0, %2", "the second operand must be f32"},
    {"%5: f32[2,4] = matmul %0", "matmul: f32[2,3]: takes 2 to 3 operands, not 1"},
    {"%5: f32[2,4] = matmul %0, %1, %0", "the third operand must be f32[2,4]"},
    {"%5: f32[9,9] = matmul %0, %1", "t.tir:8:1: error: %5 is stated as f32[9,9] but matmul gives f32[2,4]"},
    {"%5: f32[2,3] = tmatmul %0, %1", "the second operand must be ternary (t2)"},
    {"%5: f32[2,3] = tmatmul %0, %1 {precision=\"i8\"}", "precision \"i8\" is not known here (i16, bf16)"},
    {"%5: f32[2,4] = matmul %0, %1 {precision=\"i16\"}", "precision \"i16\" is not known here (bf16)"},
    {"%5: f32[2,3] = add %0, %1", "add: f32[2,3] x f32[3,4]: shapes do not broadcast"},
    {"%5: f32[2,3] = add %0, %2", "the second operand must be f32"},
    {"%5: f32[2,3] = add %0, %9", "t.tir:8:24: error: %9 is not defined before its use"},
    {"%5: f32[2,3] = add %0, %5", "t.tir:8:24: error: %5 is not defined before its use"},
    {"%5: f32[2,3] = neg %0, %0", "takes 1 operand, not 2"},
    {"%5: f32[2,3] = neg %0 {c=1}", "neg: f32[2,3]: there is no attribute 'c' here"},
    {"%5: f32[2,3] = scale %0", "attribute 'c' is missing"},
    {"%5: f32[3,3], %6: f32[3,3], %7: f32[3,3] = matmul_adamw %0, %0, %1, %1, %1, %4 {eps=1, beta1=0, beta2=0}",
     "the third operand must be f32[3,3]"},
    {"%5: f32[2,3], %6: f32[2,3] = neg %0", "neg has 1 result, not 2"},
    {"neg %0", "neg has 1 result, not 0"},
    {"%5: f32[2,3] = output %0 {name=\"y\"}", "output has 0 results, not 1"},
    {"output %0", "attribute 'name' is missing"},
    {"output %0 {name=\"\"}", "attribute 'name' must not be empty"},
    {"%5: f32[2] = broadcast %0", "the operand does not broadcast to the result"},
    {"%5: f32[2,3] = rotate_half %0", "the last dim, 3, must be even"},
    {"%5: f32[2,1] = sum %2", "the first operand must be f32"},
    {"%5: f32[2,1] = pick %1, %2", "2 indices for 3 rows"},
    {"%5: f32[3,4] = onehot %2", "2 indices for 3 rows"},
    {"%5: f32[3,3] = partial_sum %0", "the result must be f32[p,3] with p from 1 to 2"},
    {"%5: f32[7] = reshape %0", "6 elements do not fit 7"},
    {"%5: i32[6] = reshape %0", "the result must have the operand's element type"},
    {"%5: f32[2,3] = slice %0 {begin=1}", "2 entries from 1 on are outside of the operand's 2"},
    {"%5: f32[2,2] = slice %0 {begin=0}", "the result may differ from the operand in the first dim only"},
    {"%5: f32[1,3] = slice %0 {begin=-1}", "attribute 'begin' must not be negative"},
    {"%5: f32[1,3] = slice %0 {begin=9223372036854775807}", "are outside of the operand's 2"},
    {"%5: f32[5,3] = concat %0, %1", "operands may differ in the first dim only"},
    {"%5: f32[5,3] = concat", "takes 1 operand at least"},
    {"%5: f32[2,1,3] = take_row %0, %2", "the first operand must have rank 3, not 2"},
    {"%5: t2/0[2,3] = ternary %0 {group=0}", "the type needs a group"},
    {"%5: t2/3[2,3] = ternary %0 {group=0}", "group 0 is not from 1 to 2147483647"},
    {"%5: t2/4[2,3] = ternary %0 {group=3}", "is stated as t2/4[2,3] but ternary gives t2/3[2,3]"},
    {"%5: f32[2,3] = ste %0, %0", "the first operand must be ternary (t2)"},
    {"%5: f32[2,4] = embedding %0, %1", "the first operand must be i32"},
    {"%5: f32[9,4] = embedding_grad %2, %0", "the result must be f32[V,3]"},
    {"%5: f32[9,4] = embedding_grad %2, %1", "2 indices for 3 rows"},
    {"%5: f32[2,4,2,2], %6: f32[2,4,2,1] = attention %3, %3, %0 {c=1}",
     "the third operand must have rank 4, not 2"},
    {"%5: f32[3,1,4] = rope_cos {theta=0}", "theta must be above 0"},
    {"%5: f32[3,4] = rope_cos {theta=10}", "the result must be f32[S,1,D] with an even D"},
    {"%5: i32[3] = splat {c=1}", "the result must be f32"},
    {"%5: i32[3] = param {name=\"w\"}", "the result must be f32"},
    {"%5: f32[2,3] = input {name=\"a\"}", "t.tir:8:1: error: @t: %5: the name 'a' comes twice"},
    {"output %0 {name=\"y\"}\noutput %0 {name=\"y\"}", "t.tir:9:1: error: @t: the output 'y' comes twice"},
    {"store %0 {name=\"w\"}", "store: there is no param or state 'w'"},
    {"store %0 {name=\"a\"}", "store: there is no param or state 'a'"},
    {"%5: f32[3] = state {name=\"m\"}\nstore %0 {name=\"m\"}", "store: 'm' has another type"},
    {"%5: f32[2,3] = arg {index=0}", "arg: only allowed in a region"},
    {"yield %0", "yield: only allowed in a region"},
    {"%5: f32[2,3] at 32 = neg %0", "%5 at 32: not a multiple of 64"},
    {"%5: f32[2,3] = region %0 {}", "region has 0 results, not 1"},
    {"%5: f32[2,3] = region %0 {\n%0: f32[2,3] = arg {index=1}\nyield %0\n}",
     "arg 1 of a region with 1 operands"},
    {"%5: f32[3,2] = region %0 {\n%0: f32[3,2] = arg {index=0}\nyield %0\n}",
     "arg 0 has type f32[3,2], the operand f32[2,3]"},
    {"%5: f32[2,3] = region %0 {\n%0: f32[2,3] = arg {index=0}\n%1: f32[2,3] = neg %0\n}",
     "the body does not end in yield"},
    {"%5: f32[2,3] = region %0 {\n%0: f32[2,3] = arg {index=0}\nyield %0\nyield %0\n}",
     "t.tir:10:1: error: @t: yield: a region must end in its only yield"},
    {"%5: f32[3,2] = region %0 {\n%0: f32[2,3] = arg {index=0}\n%1: f32[3,2] = reshape %0\nyield %1\n}",
     "t.tir:10:1: error: @t: %1: reshape: not allowed in a region"},
    {REGION2("%5: f32[2,3], %6: f32[3,4]", "%0, %1", "f32[2,3]", "f32[3,4]") "yield %0, %1\n}",
     "t.tir:10:1: error: @t: %1: arg: not on the same rows as the region's other values"},
    {REGION2("%5: f32[3]", "%4, %2", "f32[3]", "i32[2]") "yield %0\n}",
     "t.tir:10:1: error: @t: %1: arg: 2 indices in a region of 1 rows"},
    {REGION2("%5: f32[2,3], %6: f32[1,3]", "%0, %0", "f32[2,3]",
             "f32[2,3]") "%2: f32[2,3] = partial_sum %0\n%3: f32[1,3] = partial_sum %1\nyield %2, %3\n}",
     "t.tir:12:1: error: @t: %3: partial_sum: other rows or parts than in the rest of the region"},
    {REGION2("%5: f32[2,3]", "%0, %4", "f32[2,3]",
             "f32[3]") "%2: f32[1,3] = partial_sum %1\n%3: f32[2,3] = add %0, %1\nyield %3\n}",
     "partial_sum: other rows or parts"},
    {REGION2("%5: f32[1,3]", "%0, %4", "f32[2,3]",
             "f32[3]") "%2: f32[1,3] = partial_sum %0\n%3: f32[1,3] = neg %2\nyield %3\n}",
     "neg: partial sums are complete after the region only"},
    {"%5: f32[2,3] = region %0 {\n%0: f32[2,3] at 64 = arg {index=0}\nyield %0\n}",
     "%0 must not have an offset"},
};

START_TEST(type_errors_are_located) {
    for (uint32_t i = 0; i < sizeof type_errors / sizeof *type_errors; i++) {
        Buf text = {0};
        buf_printf(&text, "%s%s\n}\n", INPUTS, type_errors[i].node);
        check_refused(text.at, type_errors[i].message);
        buf_free(&text);
    }
}
END_TEST

START_TEST(several_type_errors_in_one_run) {
    Diag d;
    ck_assert_ptr_null(parse(FUNC
                             "%1: f32[2,2] = matmul %0, %0\n%2: f32[2,2] = neg %1\n%3: f32[2,9] = neg %0\n"
                             "%4: f32[2,1] = sum %0, %0\n}\n",
                             &d));
    ck_assert_uint_eq(d.errors, 3);
    buf_free(&d.text);
}
END_TEST

START_TEST(functions_share_storage) {
    check_refused(
        HEAD "func @a {\n%0: f32[2] = param {name=\"w\"}\n}\nfunc @b {\n%0: f32[3] = param {name=\"w\"}\n}\n",
        "'w' is of another kind or type than in @a");
    check_refused(
        HEAD "func @a {\n%0: f32[2] = param {name=\"w\"}\n}\nfunc @b {\n%0: f32[2] = state {name=\"w\"}\n}\n",
        "'w' is of another kind or type than in @a");
    check_refused(HEAD "props planned\narena 64\nfunc @a {\n%0: f32[2] = param {name=\"w\"}\n}\n",
                  "%0 has no offset in a planned module");
    check_refused(HEAD "props planned\narena 64\nfunc @a {\n%0: f32[2] at 64 = param {name=\"w\"}\n}\n",
                  "%0 at 64: 8 bytes do not fit the arena of 64");
    check_refused(HEAD "props regions\nfunc @a {\n" IN(0, "f32[2]", "x") "%1: f32[2] = neg %0\n" OUT(1) "}\n",
                  "t.tir:5:1: error: @a: %1: neg: only allowed in a region, by the property 'regions'");
}
END_TEST

/* Any bytes are either a module that round-trips or an error; run under sanitizers for what else goes wrong.
 */
static void check_any(const char *text) {
    Diag d;
    Module *m = parse(text, &d);
    ck_assert((m == NULL) == (d.errors > 0));
    if (m) check_round_trip(m);
    module_free(m);
    buf_free(&d.text);
}

START_TEST(damaged_text_is_harmless) {
    static const char pieces[] = "%{}[],:=@\"\\#/-.0123456789eE \n\tafnt\x80\x01";
    char text[sizeof full_text];
    uint64_t random = 42;
    for (int i = 0; i < 20000; i++) {
        memcpy(text, full_text, sizeof text);
        int changes = 1 + i % 3;
        for (int c = 0; c < changes; c++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            text[(random >> 33) % (sizeof text - 1)] = pieces[(random >> 24 & 0xff) % (sizeof pieces - 1)];
        }
        check_any(text);
    }
    for (size_t n = 0; n < sizeof full_text; n++) {
        memcpy(text, full_text, sizeof text);
        text[n] = 0;
        check_any(text);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("ir_text");
    TCase *text = tcase_create("text");
    tcase_set_timeout(text, 120);
    tcase_add_loop_test(text, every_op_round_trips, 0, OP_COUNT);
    tcase_add_test(text, text_is_lossless);
    tcase_add_test(text, other_spellings_are_read);
    tcase_add_test(text, doubles_are_exact);
    tcase_add_test(text, syntax_errors_are_located);
    tcase_add_test(text, type_errors_are_located);
    tcase_add_test(text, several_type_errors_in_one_run);
    tcase_add_test(text, functions_share_storage);
    tcase_add_test(text, damaged_text_is_harmless);
    suite_add_tcase(s, text);
    return run_suite(s);
}
