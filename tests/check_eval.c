/* The interpreter: every op on worked examples, attention's gradient by differences, errors in what is
 * bound, and the numbers of the ternary format. */
#include "ir_cases.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>

/* ---- helpers */

static Module *parse_ok(const char *text) {
    Diag d = {0};
    Module *m = parse_module(text, "t.tir", &d);
    ck_assert_msg(m != NULL, "%s\nin:\n%s", d.text.at, text);
    return m;
}

static Type source_type(const Graph *g, const char *name) {
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if ((op_info[n->op].flags & SOURCE) && (n->attrs.set & A(name)) && strcmp(n->attrs.name, name) == 0)
            return *val_type(g, n->out);
    }
    ck_abort_msg("no source '%s'", name);
}

/* Binds the tensors by name with the types that the graph states; runs. */
static bool run(const Graph *g, EvalPrecision precision, CaseTensor *in, Arena *arena, Bindings *out,
                Diag *d) {
    Binding bound[CASE_TENSORS];
    uint32_t n = 0;
    for (; n < CASE_TENSORS && in[n].name; n++)
        bound[n] = (Binding){in[n].name, {source_type(g, in[n].name), in[n].at}};
    return eval_graph(g, precision, bound, n, arena, out, d);
}

static void check_close(double found, double expected, const char *what, int64_t i) {
    double error = fabs(found - expected);
    ck_assert_msg(found == expected || error <= 1e-12 * (1 + fabs(expected)),
                  "%s[%lld] is %.17g, expected %.17g", what, (long long)i, found, expected);
}

/* ---- worked examples */

static void check_case(const IrCase *c) {
    Buf text = case_text(c);
    Module *m = parse_ok(text.at);
    Arena *arena = arena_new();
    Bindings out = {0};
    Diag d = {.out = stderr};
    CaseTensor in[CASE_TENSORS];
    memcpy(in, c->in, sizeof in);
    ck_assert(run(m->graphs.at[0], EVAL_F64, in, arena, &out, &d));
    uint32_t expected = 0;
    while (expected < CASE_TENSORS && c->out[expected].name) expected++;
    ck_assert_uint_eq(out.n, expected);
    for (uint32_t i = 0; i < out.n; i++) {
        ck_assert_str_eq(out.at[i].name, c->out[i].name);
        int64_t count = type_count(&out.at[i].tensor.type);
        ck_assert_int_le(count, CASE_VALUES);
        for (int64_t j = 0; j < count; j++) check_close(out.at[i].tensor.at[j], c->out[i].at[j], c->body, j);
    }
    vec_free(&out);
    arena_free(arena);
    module_free(m);
    buf_free(&text);
}

START_TEST(op_gives_worked_results) {
    uint32_t cases = 0;
    for (uint32_t i = 0; i < IR_CASES; i++) {
        if (ir_cases[i].op != (Op)_i) continue;
        check_case(&ir_cases[i]);
        cases++;
    }
    ck_assert_msg(cases > 0, "op '%s' has no example in ir_cases.h", op_info[_i].name);
}
END_TEST

START_TEST(f32_rounds_every_result) {
    Module *m =
        parse_ok("tbc_ir 1\nfunc @t {\n%0: f32[1] = input {name=\"a\"}\n%1: f32[1] = scale %0 {c=3}\n"
                 "%2: f32[1] = scale %1 {c=0.1}\n output %0 {name=\"x\"}\noutput %2 {name=\"y\"}\n}\n");
    Arena *arena = arena_new();
    Bindings out = {0};
    Diag d = {0};
    ck_assert(run(m->graphs.at[0], EVAL_F32, (CaseTensor[CASE_TENSORS]){{"a", {0.1}}}, arena, &out, &d));
    ck_assert(out.at[0].tensor.at[0] == 0.1f);
    ck_assert(out.at[1].tensor.at[0] == (float)(0.1 * (float)(3.0 * 0.1f)));
    ck_assert(run(m->graphs.at[0], EVAL_F64, (CaseTensor[CASE_TENSORS]){{"a", {0.1}}}, arena, &out, &d));
    ck_assert(out.at[2].tensor.at[0] == 0.1 && out.at[3].tensor.at[0] == 0.1 * (3.0 * 0.1));
    vec_free(&out);
    arena_free(arena);
    module_free(m);
}
END_TEST

/* ---- attention_grad is the gradient of attention */

enum { B = 2, S = 5, H = 4, G = 2, D = 3, Q = B * S * H * D, K = B * S * G * D };

typedef struct AttentionInputs {
    double at[3][Q]; /* q, k, v */
} AttentionInputs;

/* sum(out * weight), and if asked for dq, dk, dv of that sum. */
static double attention_sum(const AttentionInputs *x, const double *weight, double *grads[3]) {
    Arena *arena = arena_new();
    Graph *g = graph_new("t");
    Type q = type_make(DT_F32, 4, (int64_t[]){B, S, H, D}), k = type_make(DT_F32, 4, (int64_t[]){B, S, G, D});
    Val in[3];
    Tensor t[6];
    for (int i = 0; i < 3; i++) {
        in[i] = graph_add(g, NULL, NULL, (Loc){0}, OP_input, i ? &k : &q, NULL, 0, ATTRS(name, "x"));
        t[i] = (Tensor){i ? k : q, (double *)x->at[i]};
    }
    Val out = graph_add(g, NULL, NULL, (Loc){0}, OP_attention, NULL, in, 3, ATTRS(c, 0.7));
    Tensor forward[2], backward[3];
    eval_node(g, val_node(g, out), EVAL_F64, t, forward, arena);
    double sum = 0;
    for (int i = 0; i < Q; i++) sum += forward[0].at[i] * weight[i];
    if (grads) {
        double delta[B * S * H] = {0};
        for (int i = 0; i < Q; i++) delta[i / D] += forward[0].at[i] * weight[i];
        t[3] = forward[1];
        t[4] = (Tensor){q, (double *)weight};
        t[5] = (Tensor){forward[1].type, delta};
        Val more[6] = {in[0], in[1], in[2], out + 1, out, out + 1};
        Val dq = graph_add(g, NULL, NULL, (Loc){0}, OP_attention_grad, NULL, more, 6, ATTRS(c, 0.7));
        eval_node(g, val_node(g, dq), EVAL_F64, t, backward, arena);
        for (int i = 0; i < 3; i++) memcpy(grads[i], backward[i].at, sizeof(double) * (i ? K : Q));
    }
    graph_free(g);
    arena_free(arena);
    return sum;
}

START_TEST(attention_grad_is_the_difference_quotient) {
    AttentionInputs x;
    double weight[Q], dq[Q], dk[K], dv[K], *grads[3] = {dq, dk, dv};
    for (int i = 0; i < Q; i++) {
        weight[i] = sin(i * 1.3);
        for (int j = 0; j < 3; j++) x.at[j][i] = cos(i * 0.7 + j);
    }
    attention_sum(&x, weight, grads);
    const double h = 1e-5;
    for (int j = 0; j < 3; j++) {
        for (int i = 0; i < (j ? K : Q); i++) {
            double saved = x.at[j][i];
            x.at[j][i] = saved + h;
            double up = attention_sum(&x, weight, NULL);
            x.at[j][i] = saved - h;
            double quotient = (up - attention_sum(&x, weight, NULL)) / (2 * h);
            x.at[j][i] = saved;
            ck_assert_msg(fabs(quotient - grads[j][i]) < 1e-8, "operand %d, element %d: %g and %g", j, i,
                          grads[j][i], quotient);
        }
    }
}
END_TEST

/* ---- errors of what is bound */

static void check_eval_error(const char *body, CaseTensor *in, const char *message) {
    Buf text = {0};
    buf_printf(&text, "tbc_ir 1\nfunc @t {\n%s}\n", body);
    Module *m = parse_ok(text.at);
    Arena *arena = arena_new();
    Bindings out = {0};
    Diag d = {0};
    ck_assert(!run(m->graphs.at[0], EVAL_F64, in, arena, &out, &d));
    ck_assert_msg(strstr(d.text.at, message) != NULL, "%s", d.text.at);
    vec_free(&out);
    arena_free(arena);
    module_free(m);
    buf_free(&d.text);
    buf_free(&text);
}

#define INDEXED(tail) IN(0, "i32[2]", "i") IN(1, "f32[2,3]", "x") tail
#define IDS(a, b)     ((CaseTensor[CASE_TENSORS]){{"i", {a, b}}, {"x", {1, 2, 3, 4, 5, 6}}})

START_TEST(wrong_indices_are_errors) {
    static const char range[] = "an index is out of range";
    const char *lookup = INDEXED("%2: f32[2,3] = embedding %0, %1\noutput %2 {name=\"y\"}\n");
    check_eval_error(lookup, IDS(0, 2), "@t: %2: embedding: an index is out of range");
    check_eval_error(lookup, IDS(-1, 0), range);
    check_eval_error(lookup, IDS(NAN, 0), range);
    check_eval_error(lookup, IDS(1e300, 0), range);
    check_eval_error(INDEXED("%2: f32[2,3] = embedding_grad %0, %1\n"), IDS(2, 0), range);
    check_eval_error(INDEXED("%2: f32[2,1] = pick %1, %0\n"), IDS(0, 3), range);
    check_eval_error(INDEXED("%2: f32[2,4] = onehot %0\n"), IDS(0, 4), range);
    check_eval_error(INDEXED("%2: f32[2,1,3] = reshape %1\n%3: f32[2,1,3] = take_row %2, %0\n"), IDS(0, 1),
                     range);
    check_eval_error(
        INDEXED("%2: f32[2,1] = region %1, %0 {\n%0: f32[2,3] = arg {index=0}\n%1: i32[2] = arg {index=1}\n"
                "%2: f32[2,1] = pick %0, %1\nyield %2\n}\n"),
        IDS(0, 3), "@t: %2: region: an index is out of range");
}
END_TEST

START_TEST(wrong_bindings_are_errors) {
    CaseTensor none[CASE_TENSORS] = {{0}};
    check_eval_error(IN(0, "f32[2]", "a"), none, "@t: %0: input: no value is bound to 'a'");

    Module *m = parse_ok("tbc_ir 1\nfunc @t {\n" IN(0, "f32[2]", "a") "}\n");
    Arena *arena = arena_new();
    Bindings out = {0};
    Diag d = {0};
    Binding other = {"a", {type_make(DT_I32, 1, (int64_t[]){2}), (double[]){1, 2}}};
    ck_assert(!eval_graph(m->graphs.at[0], EVAL_F64, &other, 1, arena, &out, &d));
    ck_assert_str_eq(d.text.at, "tbc: error: @t: %0: input: 'a' is bound to i32[2] instead of f32[2]\n");
    buf_free(&d.text);
    arena_free(arena);
    module_free(m);
}
END_TEST

START_TEST(results_do_not_share_the_callers_memory) {
    Module *m = parse_ok("tbc_ir 1\nfunc @t {\n" IN(0, "f32[2]", "a") OUT(0) "}\n");
    CaseTensor in[CASE_TENSORS] = {{"a", {1, 2}}};
    Arena *arena = arena_new();
    Bindings out = {0};
    Diag d = {0};
    ck_assert(run(m->graphs.at[0], EVAL_F64, in, arena, &out, &d));
    in[0].at[0] = 7;
    ck_assert(out.at[0].tensor.at[0] == 1);
    vec_free(&out);
    arena_free(arena);
    module_free(m);
}
END_TEST

/* ---- f16 and the ternary projection */

/* What the bits of a half say, by the format's definition. */
static double half_value(uint16_t h) {
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double v = exponent ? ldexp(1 + fraction / 1024.0, exponent - 15) : ldexp(fraction / 1024.0, -14);
    return h & 0x8000 ? -v : v;
}

static bool half_is_nan(uint32_t h) {
    return (h & 0x7c00) == 0x7c00 && (h & 0x3ff);
}

START_TEST(every_half_converts_exactly) {
    for (uint32_t h = 0; h <= UINT16_MAX; h++) {
        float f = f32_from_f16((uint16_t)h);
        if (half_is_nan(h)) {
            ck_assert(isnan(f) && half_is_nan(f16_from_f32(f)));
        } else {
            bool infinite = (h & 0x7fff) == 0x7c00;
            ck_assert(infinite ? isinf(f) : f == half_value((uint16_t)h));
            ck_assert((signbit(f) != 0) == (h >> 15));
            ck_assert_uint_eq(f16_from_f32(f), h);
        }
    }
}
END_TEST

/* Between neighbours: the nearer one, and from the middle the even one. */
START_TEST(halves_round_to_nearest_even) {
    for (uint32_t h = 0; h < 0x7c00; h++) {
        double lo = half_value((uint16_t)h), hi = h == 0x7bff ? 65536 : half_value((uint16_t)(h + 1));
        float middle = (float)((lo + hi) / 2); /* exact: 12 significant bits */
        ck_assert_uint_eq(f16_from_f32(middle), h & 1 ? h + 1 : h);
        ck_assert_uint_eq(f16_from_f32(nextafterf(middle, 0)), h);
        ck_assert_uint_eq(f16_from_f32(nextafterf(middle, INFINITY)), h + 1);
        ck_assert_uint_eq(f16_from_f32(-nextafterf(middle, INFINITY)), 0x8000 | (h + 1));
    }
    ck_assert_uint_eq(f16_from_f32(1e30f), 0x7c00);
    ck_assert_uint_eq(f16_from_f32(INFINITY), 0x7c00);
    ck_assert_uint_eq(f16_from_f32(1e-30f), 0);
    ck_assert_uint_eq(f16_from_f32(-0.0f), 0x8000);
}
END_TEST

#define GROUP_MAX 8
static const struct {
    float w[GROUP_MAX];
    int64_t n;
    float scale;
    int8_t codes[GROUP_MAX];
} groups[] = {
    {{1, -1, 0.5f, 1.5f}, 4, 1, {1, -1, 0, 1}}, /* a half to even: 0; 1.5 to 2, clipped */
    {{0.5f, -0.5f, 1.5f, 1.5f}, 4, 1, {0, 0, 1, 1}},
    {{0.50000006f, -0.50000006f, 1.5f, 1.5f}, 4, 1, {1, -1, 1, 1}}, /* just above a half */
    {{-7}, 1, 7, {-1}},
    {{0, 0, 0}, 3, 0, {0, 0, 0}},
    {{1e-8f, -1e-8f}, 2, 0, {0, 0}},                  /* the scale is below f16: all codes 0 */
    {{6e-8f, 0}, 2, 0x1p-24f, {1, 0}},                /* mean 3e-8 rounds up to the smallest f16 */
    {{0.1f, 0.1f}, 2, 0.0999755859375f, {1, 1}},      /* f16(0.1) */
    {{1.00048828125f, 1.00048828125f}, 2, 1, {1, 1}}, /* halfway between two f16: the even one */
    {{INFINITY, 1}, 2, INFINITY, {0, 0}},
};

START_TEST(groups_are_projected_as_specified) {
    int8_t codes[GROUP_MAX];
    ck_assert(ternary_group(groups[_i].w, groups[_i].n, codes) == groups[_i].scale);
    for (int64_t i = 0; i < groups[_i].n; i++) ck_assert_int_eq(codes[i], groups[_i].codes[i]);
}
END_TEST

int main(void) {
    Suite *s = suite_create("eval");
    TCase *ops = tcase_create("ops"), *bindings = tcase_create("bindings"),
          *ternary = tcase_create("ternary");
    tcase_add_loop_test(ops, op_gives_worked_results, 0, OP_COUNT);
    tcase_add_test(ops, f32_rounds_every_result);
    tcase_add_test(ops, attention_grad_is_the_difference_quotient);
    tcase_add_test(bindings, wrong_indices_are_errors);
    tcase_add_test(bindings, wrong_bindings_are_errors);
    tcase_add_test(bindings, results_do_not_share_the_callers_memory);
    tcase_add_test(ternary, every_half_converts_exactly);
    tcase_add_test(ternary, halves_round_to_nearest_even);
    tcase_add_loop_test(ternary, groups_are_projected_as_specified, 0, sizeof groups / sizeof *groups);
    suite_add_tcase(s, ops);
    suite_add_tcase(s, bindings);
    suite_add_tcase(s, ternary);
    return run_suite(s);
}
