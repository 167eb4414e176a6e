/* Gradients against finite differences, in f64: of every op that has a rule, of random models, and of a
 * whole one-layer model. The straight-through estimator is compared with its stated surrogate: the same
 * function with ste taken as the identity, at the projected weights. */
#include "../passes/pass.h"
#include "random_graph.h"
#include "seeds.h"
#include "suite.h"

static const PassOptions options = {.verify = true};

static void run(Module *m, const char *name) {
    const PassInfo *p = pass_find(name);
    Diag diag = {0};
    ck_assert_msg(passes_run(m, &diag, &options, &p, 1), "%s: %s", name, diag.text.at);
}

/* ---- finite differences */

static double loss_of(const Graph *g, const Bindings *in) {
    Arena *arena = arena_new();
    Bindings out = {0};
    Diag diag = {0};
    ck_assert_msg(eval_graph(g, EVAL_F64, in->at, in->n, arena, &out, &diag), "%s", diag.text.at);
    double loss = find_tensor(&out, "loss")->at[0];
    vec_free(&out);
    arena_free(arena);
    return loss;
}

/* (L(w+h) - L(w-h)) / 2h for element i of t, one of in's tensors. */
static double difference(const Graph *g, const Bindings *in, const Tensor *t, int64_t i) {
    const double h = 1e-5, w = t->at[i];
    t->at[i] = w + h;
    double up = loss_of(g, in);
    t->at[i] = w - h;
    double down = loss_of(g, in);
    t->at[i] = w;
    return (up - down) / (2 * h);
}

/* The outputs NAME.grad of `differentiated` against differences of `loss`, both on `in`; `what` is for
 * messages. At most 24 elements of each parameter are tried. */
static void compare(const Graph *loss, const Graph *differentiated, const Bindings *in, const char *what) {
    Arena *arena = arena_new();
    Bindings out = {0};
    Diag diag = {0};
    ck_assert_msg(eval_graph(differentiated, EVAL_F64, in->at, in->n, arena, &out, &diag), "%s",
                  diag.text.at);
    for (uint32_t k = 0; k < loss->nodes.n; k++) {
        const Node *n = &loss->nodes.at[k];
        if (n->op != OP_param) continue;
        char name[64];
        snprintf(name, sizeof name, "%s.grad", n->attrs.name);
        const Tensor *w = find_tensor(in, n->attrs.name), *grad = find_tensor(&out, name);
        ck_assert_msg(grad != NULL, "%s: no output %s", what, name);
        int64_t count = type_count(&w->type), step = 1 + count / 24;
        for (int64_t i = 0; i < count; i += step) {
            double expected = difference(loss, in, w, i);
            ck_assert_msg(fabs(grad->at[i] - expected) <= 1e-6 * (1 + fabs(expected)),
                          "%s: %s[%lld] is %.9g, by differences %.9g", what, name, (long long)i, grad->at[i],
                          expected);
        }
    }
    vec_free(&out);
    arena_free(arena);
}

/* Differentiates @train of m and compares. */
static void check_gradients(Module *m, Bindings *in, const char *what) {
    Module *before = module_copy(m);
    m->props |= P(ste); /* so that nothing is projected: autodiff of the graph as it stands */
    run(m, "autodiff");
    compare(module_graph(before, "train"), module_graph(m, "train"), in, what);
    module_free(before);
}

/* ---- one op at a time */

typedef struct Sample {
    Op op;
    const char *in[3]; /* operand types; "+" in front: positive values */
    const char *out;   /* of TYPED ops */
    Attrs attrs;
} Sample;

static const Sample samples[] = {
    {OP_add, {"f32[2,3]", "f32[2,3]"}, NULL, {0}},
    {OP_add, {"f32[2,3,4]", "f32[4]"}, NULL, {0}},   /* a bias */
    {OP_add, {"f32[3,4]", "f32[2,3,4]"}, NULL, {0}}, /* the first operand repeated */
    {OP_add, {"f32[2,3,4]", "f32[3,1]"}, NULL, {0}}, /* repeated dims on both sides */
    {OP_add, {"f32[2,3,4]", "f32[1]"}, NULL, {0}},   /* all dims repeated */
    {OP_add, {"f32[2,3]", "f32[]"}, NULL, {0}},
    {OP_add, {"f32[2,1]", "f32[1,3]"}, NULL, {0}}, /* both repeated */
    {OP_sub, {"f32[2,3]", "f32[2,3]"}, NULL, {0}},
    {OP_sub, {"f32[2,1]", "f32[2,3]"}, NULL, {0}},
    {OP_sub, {"f32[2,3]", "f32[2,1]"}, NULL, {0}},
    {OP_mul, {"f32[2,3]", "f32[2,3]"}, NULL, {0}},
    {OP_mul, {"f32[3]", "f32[2,2,3]"}, NULL, {0}},
    {OP_mul, {"f32[2,2,1]", "f32[2,2,3]"}, NULL, {0}},
    {OP_div, {"f32[2,3]", "+f32[2,3]"}, NULL, {0}},
    {OP_div, {"f32[2,3]", "+f32[2,1]"}, NULL, {0}},
    {OP_neg, {"f32[2,3]"}, NULL, {0}},
    {OP_scale, {"f32[2,3]"}, NULL, {.set = A(c), .c = 0.7}},
    {OP_offset, {"f32[2,3]"}, NULL, {.set = A(c), .c = 0.7}},
    {OP_exp, {"f32[2,3]"}, NULL, {0}},
    {OP_log, {"+f32[2,3]"}, NULL, {0}},
    {OP_rsqrt, {"+f32[2,3]"}, NULL, {0}},
    {OP_sigmoid, {"f32[2,3]"}, NULL, {0}},
    {OP_broadcast, {"f32[2,1]"}, "f32[2,3]", {0}},
    {OP_broadcast, {"f32[3]"}, "f32[2,2,3]", {0}},
    {OP_rotate_half, {"f32[2,4]"}, NULL, {0}},
    {OP_sum, {"f32[2,3,4]"}, NULL, {0}},
    {OP_pick, {"f32[2,2,5]", "i32[2,2]"}, NULL, {0}},
    {OP_sum_rows, {"f32[2,3,4]"}, NULL, {0}},
    {OP_reshape, {"f32[2,3,4]"}, "f32[6,4]", {0}},
    {OP_embedding, {"i32[2,3]", "f32[5,4]"}, NULL, {0}},
    {OP_matmul, {"f32[2,3,4]", "f32[4,5]"}, NULL, {0}},
    {OP_matmul, {"f32[2,3,4]", "f32[5,4]"}, NULL, {.set = A(tb), .tb = true}},
    {OP_matmul, {"f32[4]", "f32[4,5]"}, NULL, {0}},
    {OP_matmul, {"f32[2,3,4]", "f32[6,5]"}, NULL, {.set = A(ta), .ta = true}},
    {OP_matmul, {"f32[2,3,4]", "f32[5,6]"}, NULL, {.set = A(ta) | A(tb), .ta = true, .tb = true}},
    {OP_matmul, {"f32[2,3]", "f32[3,4]", "f32[2,4]"}, NULL, {0}},
    {OP_attention, {"f32[2,3,2,2]", "f32[2,3,1,2]", "f32[2,3,1,2]"}, NULL, {.set = A(c), .c = 0.8}},
    {OP_attention, {"f32[1,4,2,2]", "f32[1,4,2,2]", "f32[1,4,2,2]"}, NULL, {.set = A(c), .c = 0.8}},
};
enum { SAMPLES = sizeof samples / sizeof *samples };

static Type read_type(const char *text) {
    text += *text == '+';
    Type t = {.dtype = *text == 'i' ? DT_I32 : DT_F32};
    for (text += 4; *text != ']'; text += *text == ',') t.dim[t.rank++] = strtoll(text, (char **)&text, 10);
    return t;
}

/* loss = sum of y * r for an input r: every element of y gets a gradient of its own. */
static void add_loss(Graph *g, Val y) {
    Type t = *val_type(g, y);
    Val weighted = ir_binary(g, no_loc, OP_mul, y, source(g, OP_input, "r", &t));
    sink(g, OP_output, "loss", ir_scale(g, no_loc, mean_of(g, weighted), (double)type_count(&t)));
}

/* Parameters and index inputs as operands, the op, the loss. */
static Module *sample_module(const Sample *s) {
    static const char *const names[] = {"a", "b", "c"};
    Module *m = module_new();
    Graph *g = graph_new("train");
    vec_push(&m->graphs, g);
    Val in[3];
    uint32_t nin = 0;
    for (; nin < 3 && s->in[nin]; nin++) {
        Type t = read_type(s->in[nin]);
        in[nin] = source(g, t.dtype == DT_I32 ? OP_input : OP_param, names[nin], &t);
    }
    Type out = s->out ? read_type(s->out) : (Type){0};
    add_loss(g, graph_add(g, NULL, NULL, no_loc, s->op, &out, in, nin, &s->attrs));
    return m;
}

START_TEST(op_gradient) {
    const Sample *s = &samples[_i];
    Arena *arena = arena_new();
    Module *m = sample_module(s);
    Bindings in = {0};
    bind_random(m->graphs.at[0], (uint64_t)_i, arena, &in);
    for (uint32_t k = 0; k < 3 && s->in[k]; k++)
        for (int64_t i = 0; s->in[k][0] == '+' && i < type_count(&in.at[k].tensor.type); i++)
            in.at[k].tensor.at[i] = 0.5 + fabs(in.at[k].tensor.at[i]);
    char what[64];
    snprintf(what, sizeof what, "sample %d, %s", _i, op_info[s->op].name);
    check_gradients(m, &in, what);
    vec_free(&in);
    module_free(m);
    arena_free(arena);
}
END_TEST

/* An op with a rule must have a sample here; ste, leaves and stops have tests of their own. */
START_TEST(every_rule_has_a_sample) {
    const char *grad = op_info[_i].grad;
    ck_assert_msg((grad_rules[_i] == NULL) == (strcmp(grad, "none") == 0), "%s", op_info[_i].name);
    if (!grad_rules[_i] || _i == OP_ste || strcmp(grad, "zero") == 0 || strcmp(grad, "leaf") == 0) return;
    for (uint32_t i = 0; i < SAMPLES; i++)
        if (samples[i].op == (Op)_i) return;
    ck_abort_msg("op %s has a gradient rule but no sample", op_info[_i].name);
}
END_TEST

START_TEST(stop_has_no_gradient) {
    Module *m = module_new();
    Graph *g = graph_new("train");
    Type t = f32_type(1, 3, 0, 0, 0);
    vec_push(&m->graphs, g);
    Val w = source(g, OP_param, "w", &t);
    add_loss(g, ir_binary(g, no_loc, OP_mul, ir_unary(g, no_loc, OP_stop, w), w)); /* gradient: w alone */
    m->props |= P(ste);
    run(m, "autodiff");
    Arena *arena = arena_new();
    Bindings in = {0}, out = {0};
    Diag diag = {0};
    bind_random(m->graphs.at[0], 1, arena, &in);
    ck_assert(eval_graph(m->graphs.at[0], EVAL_F64, in.at, in.n, arena, &out, &diag));
    for (int64_t i = 0; i < 3; i++)
        ck_assert_double_eq_tol(find_tensor(&out, "w.grad")->at[i],
                                find_tensor(&in, "w")->at[i] * find_tensor(&in, "r")->at[i], 1e-14);
    vec_free(&in), vec_free(&out);
    module_free(m);
    arena_free(arena);
}
END_TEST

/* ---- models */

/* Random models in full precision. */
START_TEST(model_gradient) {
    Arena *arena = arena_new();
    Module *m = random_smooth_module((uint64_t)_i);
    Bindings in = {0};
    bind_random(module_graph(m, "train"), (uint64_t)_i, arena, &in);
    char what[32];
    snprintf(what, sizeof what, "seed %d", _i);
    check_gradients(m, &in, what);
    vec_free(&in);
    module_free(m);
    arena_free(arena);
}
END_TEST

/* w -> codes*scales, in place, with one group a row. */
static void project_rows(Tensor *w) {
    int64_t cols = type_cols(&w->type);
    for (int64_t row = 0; row < type_rows(&w->type); row++) {
        float x[32];
        int8_t codes[32];
        ck_assert_int_le(cols, 32);
        for (int64_t i = 0; i < cols; i++) x[i] = (float)w->at[row * cols + i];
        float scale = ternary_group(x, cols, codes);
        for (int64_t i = 0; i < cols; i++) w->at[row * cols + i] = codes[i] * (double)scale;
    }
}

/* One pre-norm Qwen3 layer with a tied head; group 0: full precision. */
static Module *one_layer(int64_t group) {
    enum { B = 2, S = 3, H = 2, G = 1, D = 4, N = 6, F = 10, V = INDEX_LIMIT };
    static const struct {
        const char *name;
        int64_t rows, cols;
    } shapes[] = {{"embed", V, N}, {"norm1", N, 0}, {"q", H * D, N}, {"k", G * D, N}, {"v", G * D, N},
                  {"qnorm", D, 0}, {"knorm", D, 0}, {"o", N, H * D}, {"norm2", N, 0}, {"gate", F, N},
                  {"up", F, N},    {"down", N, F},  {"norm", N, 0}};
    enum { EMBED, NORM1, Q, K, W_V, QNORM, KNORM, O, NORM2, GATE, UP, DOWN, NORM, PARAMS };
    Module *m = module_new();
    Graph *g = graph_new("train");
    vec_push(&m->graphs, g);
    Val p[PARAMS];
    for (uint32_t i = 0; i < PARAMS; i++) {
        bool matrix = shapes[i].cols > 0;
        Type t = f32_type(matrix ? 2 : 1, shapes[i].rows, shapes[i].cols, 0, 0);
        Attrs attrs = {
            .set = A(name) | (matrix && group ? A(group) : 0), .name = shapes[i].name, .group = group};
        p[i] = graph_add(g, NULL, NULL, no_loc, OP_param, &t, NULL, 0, &attrs);
    }
    Type ids = type_make(DT_I32, 2, (int64_t[]){B, S});
    Type qt = f32_type(4, B, S, H, D), kt = f32_type(4, B, S, G, D), flat = f32_type(3, B, S, H * D, 0);
    Val tokens = source(g, OP_input, "tokens", &ids), targets = source(g, OP_input, "targets", &ids);
    Val x = ir_binary(g, no_loc, OP_embedding, tokens, p[EMBED]);
    Val h = rms_norm(g, x, p[NORM1]);
    Val q = rotary(g, rms_norm(g, ir_reshape(g, no_loc, linear(g, h, p[Q]), &qt), p[QNORM]));
    Val k = rotary(g, rms_norm(g, ir_reshape(g, no_loc, linear(g, h, p[K]), &kt), p[KNORM]));
    Val a = attend(g, q, k, ir_reshape(g, no_loc, linear(g, h, p[W_V]), &kt), 0.5);
    x = ir_binary(g, no_loc, OP_add, x, linear(g, ir_reshape(g, no_loc, a, &flat), p[O]));
    h = rms_norm(g, x, p[NORM2]);
    Val gate = linear(g, h, p[GATE]);
    Val silu = ir_binary(g, no_loc, OP_mul, gate, ir_unary(g, no_loc, OP_sigmoid, gate));
    x = ir_binary(g, no_loc, OP_add, x,
                  linear(g, ir_binary(g, no_loc, OP_mul, silu, linear(g, h, p[UP])), p[DOWN]));
    Val logits = linear(g, rms_norm(g, x, p[NORM]), p[EMBED]);
    sink(g, OP_output, "loss", mean_of(g, cross_entropy(g, logits, targets)));
    return m;
}

START_TEST(whole_layer) {
    Arena *arena = arena_new();
    Module *m = one_layer(0);
    Bindings in = {0};
    bind_random(m->graphs.at[0], (uint64_t)_i, arena, &in);
    check_gradients(m, &in, "one layer");
    vec_free(&in);
    module_free(m);
    arena_free(arena);
}
END_TEST

/* Ternary: gradients at latent w are those of the full-precision function at the projection of w. */
START_TEST(straight_through) {
    Arena *arena = arena_new();
    Module *ternary = one_layer(32), *full = one_layer(0);
    run(ternary, "insert-ste");
    run(ternary, "autodiff");
    Bindings latent = {0}, projected = {0}, out = {0}, expected = {0};
    Diag diag = {0};
    const Graph *g = full->graphs.at[0];
    bind_random(g, (uint64_t)_i, arena, &latent);
    bind_random(g, (uint64_t)_i, arena, &projected);
    for (uint32_t k = 0; k < projected.n; k++)
        if (projected.at[k].tensor.type.rank == 2 && projected.at[k].tensor.type.dtype == DT_F32)
            project_rows(&projected.at[k].tensor);
    check_gradients(full, &projected, "surrogate");
    ck_assert(eval_graph(full->graphs.at[0], EVAL_F64, projected.at, projected.n, arena, &expected, &diag));
    ck_assert(eval_graph(ternary->graphs.at[0], EVAL_F64, latent.at, latent.n, arena, &out, &diag));
    ck_assert_uint_eq(out.n, expected.n);
    for (uint32_t k = 0; k < out.n; k++) {
        Buf why = {0};
        ck_assert_str_eq(out.at[k].name, expected.at[k].name);
        ck_assert_msg(tensors_agree(&expected.at[k].tensor, &out.at[k].tensor, 1e-10, &why), "%s: %s",
                      out.at[k].name, why.at);
    }
    vec_free(&latent), vec_free(&projected), vec_free(&out), vec_free(&expected);
    module_free(ternary), module_free(full);
    arena_free(arena);
}
END_TEST

int main(void) {
    Suite *s = suite_create("grads");
    TCase *t = tcase_create("grads");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, every_rule_has_a_sample, 0, OP_COUNT);
    tcase_add_loop_test(t, op_gradient, 0, SAMPLES);
    tcase_add_test(t, stop_has_no_gradient);
    tcase_add_loop_test(t, model_gradient, 0, SEEDS_OF(200));
    tcase_add_loop_test(t, whole_layer, 0, 3);
    tcase_add_loop_test(t, straight_through, 0, 10);
    suite_add_tcase(s, t);
    return run_suite(s);
}
