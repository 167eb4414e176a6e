/* The passes up to fuse-ternary-matmul on random models (random_graph.h): the interpreter gives the same
 * results before and after each, and the module stays well-formed. What a pass is for, beyond changing
 * nothing, is tested by its golden files; what is asked of the driver is tested here. */
#include "../passes/pass.h"
#include "random_graph.h"
#include "seeds.h"
#include "suite.h"

#include <sys/stat.h>
#include <unistd.h>

enum { SEEDS = SEEDS_OF(200) };

static const PassOptions plain = {.verify = true}, buffer = {.verify = true, .grads_buffer = true},
                         blocks = {.verify = true, .update_block = 128};

/* Runs the named passes, NULL-terminated; they must succeed. */
static void run(Module *m, const PassOptions *options, const char *const *names) {
    Diag diag = {0};
    for (; *names; names++) {
        const PassInfo *p = pass_find(*names);
        ck_assert_msg(p != NULL, "no pass %s", *names);
        ck_assert_msg(passes_run(m, &diag, options, &p, 1), "%s: %s", *names, diag.text.at);
    }
}
#define RUN(m, options, ...) run(m, options, (const char *const[]){__VA_ARGS__, NULL})

/* The module as it is, against what one more pass makes of it. */
static void check_pass(Module *m, const char *name, const PassOptions *options, uint64_t seed) {
    Module *before = module_copy(m);
    Buf why = {0};
    RUN(m, options, name);
    ck_assert_msg(modules_agree(before, m, seed, 1e-9, &why), "seed %llu, %s: %s", (unsigned long long)seed,
                  name, why.at);
    module_free(before);
}

static void check_valid(const Module *m, uint64_t seed) {
    Diag diag = {0};
    ck_assert_msg(verify(m, &diag), "seed %llu: %s", (unsigned long long)seed, diag.text.at);
}

/* Every pass of the pipeline that may not change results, after every other. */
static void check_pipeline(uint64_t seed, const PassOptions *options) {
    Module *m = random_module(seed);
    check_valid(m, seed);
    check_pass(m, "simplify", options, seed);
    RUN(m, options, "insert-ste", "autodiff");
    check_pass(m, "cse", options, seed);
    check_pass(m, "simplify", options, seed);
    RUN(m, options, "optimizer");
    static const char *const rest[] = {"simplify", "cse",      "dce", "fuse-ternary-matmul",
                                       "cse",      "simplify", "dce"};
    for (uint32_t i = 0; i < sizeof rest / sizeof *rest; i++) check_pass(m, rest[i], options, seed);
    RUN(m, options, "keep-codes");
    check_pass(m, "fuse-update", options, seed);
    module_free(m);
}

START_TEST(pipeline_keeps_results) {
    check_pipeline((uint64_t)_i, _i % 2 ? &buffer : &plain);
}
END_TEST

/* ---- insert-ste */

static uint32_t count(const Graph *g, Op op) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) n += g->nodes.at[i].op == op;
    return n;
}

/* The values of a random model's ternary parameters, projected by hand, as full-precision ones. */
static void project(Bindings *in, const Graph *g) {
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (n->op != OP_param || !n->attrs.group) continue;
        Tensor *t = (Tensor *)find_tensor(in, n->attrs.name);
        int64_t cols = type_cols(&t->type), group = n->attrs.group;
        for (int64_t at = 0, len; at < type_count(&t->type); at += len) {
            float w[64];
            int8_t codes[64];
            len = group < cols - at % cols ? group : cols - at % cols;
            for (int64_t k = 0; k < len; k++) w[k] = (float)t->at[at + k];
            float scale = ternary_group(w, len, codes);
            for (int64_t k = 0; k < len; k++) t->at[at + k] = codes[k] * (double)scale;
        }
    }
}

/* With the projections in the graph, the latent weights give what projected weights gave without. */
START_TEST(insert_ste_projects_every_use) {
    Module *m = random_module((uint64_t)_i), *before = module_copy(m);
    RUN(m, &plain, "insert-ste");
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        const Graph *g = m->graphs.at[i];
        Arena *arena = arena_new();
        Diag diag = {0};
        Buf why = {0};
        Bindings latent = {0}, projected = {0}, expected = {0}, got = {0};
        bind_random(g, (uint64_t)_i, arena, &latent);
        bind_random(g, (uint64_t)_i, arena, &projected);
        project(&projected, g);
        ck_assert(
            eval_graph(before->graphs.at[i], EVAL_F64, projected.at, projected.n, arena, &expected, &diag));
        ck_assert(eval_graph(g, EVAL_F64, latent.at, latent.n, arena, &got, &diag));
        for (uint32_t k = 0; k < got.n; k++)
            ck_assert_msg(tensors_agree(&expected.at[k].tensor, &got.at[k].tensor, 1e-12, &why),
                          "seed %d: %s", _i, why.at);
        vec_free(&latent), vec_free(&projected), vec_free(&expected), vec_free(&got);
        arena_free(arena);
    }
    module_free(m);
    module_free(before);
}
END_TEST

START_TEST(insert_ste_is_idempotent) {
    Module *m = random_module((uint64_t)_i);
    RUN(m, &plain, "insert-ste");
    uint32_t n = count(m->graphs.at[0], OP_ste);
    Buf first = {0}, second = {0};
    print_module(m, &first);
    m->props = 0; /* not by its property alone */
    RUN(m, &plain, "insert-ste");
    print_module(m, &second);
    ck_assert_str_eq(first.at, second.at);
    ck_assert_uint_eq(n, count(m->graphs.at[0], OP_ste));
    buf_free(&first);
    buf_free(&second);
    module_free(m);
}
END_TEST

/* ---- optimizer */

static double at(const Bindings *b, const char *param, const char *suffix, int64_t i) {
    char name[64];
    snprintf(name, sizeof name, "%s%s", param, suffix);
    const Tensor *t = find_tensor(b, name);
    ck_assert_msg(t != NULL, "no tensor %s", name);
    return t->at[i];
}

/* What a run of @name of m stores and outputs. */
static Bindings results_of(const Module *m, const char *name, uint64_t seed, Arena *arena, Bindings *in) {
    Bindings out = {0};
    Diag diag = {0};
    const Graph *g = module_graph(m, name);
    ck_assert_msg(g != NULL, "no function %s", name);
    bind_random(g, seed, arena, in);
    ck_assert_msg(eval_graph(g, EVAL_F64, in->at, in->n, arena, &out, &diag), "%s", diag.text.at);
    return out;
}

static void near(double a, double b) {
    ck_assert_double_le(fabs(a - b), 1e-12 * (1 + fabs(b)));
}

/* new w, m and v of one element, from the definition of AdamW and from what the graph stored; fault, which is added to
 * hyper, is any number here */
static void check_update(const Bindings *in, const Bindings *out, const char *param, int64_t i, double grad) {
    const Tensor *fault = find_tensor(in, "fault");
    double hyper[4];
    for (int k = 0; k < 4; k++) hyper[k] = find_tensor(in, "hyper")->at[k] + (fault ? fault->at[0] : 0);
    double g = grad * hyper[3];
    double m = 0.9 * at(in, param, ".m", i) + 0.1 * g, v = 0.95 * at(in, param, ".v", i) + 0.05 * g * g;
    double w = at(in, param, "", i) * hyper[0] - hyper[1] * m / (sqrt(v * hyper[2]) + 1e-8);
    near(at(out, param, "", i), w);
    if (find_tensor(in, "key")) return; /* moments are rounded: check_moments.c */
    near(at(out, param, ".m", i), m);
    near(at(out, param, ".v", i), v);
}

START_TEST(optimizer_updates_from_gradients) {
    bool split = _i % 2;
    Arena *arena = arena_new();
    Module *m = random_module((uint64_t)_i);
    RUN(m, &plain, "insert-ste", "autodiff");
    Module *grads = module_copy(m);
    RUN(m, split ? &buffer : &plain, "optimizer");
    ck_assert_ptr_eq(module_graph(m, split ? "train" : "update"), NULL);

    Bindings gin = {0}, in = {0}, bin = {0}, bout = {0};
    Bindings g = results_of(grads, "train", (uint64_t)_i, arena, &gin);
    Bindings out = results_of(m, split ? "update" : "train", (uint64_t)_i, arena, &in);
    if (split) bout = results_of(m, "backward", (uint64_t)_i, arena, &bin);
    near(find_tensor(split ? &bout : &out, "loss")->at[0], find_tensor(&g, "loss")->at[0]);
    const Graph *train = module_graph(grads, "train");
    for (uint32_t p = 0; p < train->nodes.n && train->nodes.at[p].op == OP_param; p++) {
        const char *name = train->nodes.at[p].attrs.name;
        for (int64_t i = 0; i < type_count(val_type(train, train->nodes.at[p].out)); i++) {
            double grad = at(&g, name, ".grad", i);
            if (split) near(at(&bout, name, ".grad", i), at(&bin, name, ".grad", i) + grad);
            check_update(&in, &out, name, i, split ? at(&in, name, ".grad", i) : grad);
        }
    }
    vec_free(&gin), vec_free(&in), vec_free(&bin), vec_free(&g), vec_free(&out), vec_free(&bout);
    module_free(m);
    module_free(grads);
    arena_free(arena);
}
END_TEST

/* After a loss that was not finite, or with one, a step stores what was there. (So do codes, if they were those of the
 * weights.) */
START_TEST(a_fault_stops_updates) {
    Arena *arena = arena_new();
    Module *m = random_module((uint64_t)_i);
    RUN(m, &plain, "insert-ste", "autodiff", "optimizer", "simplify", "cse", "dce", "fuse-ternary-matmul",
        "keep-codes", "fuse", "fuse-update");
    const Graph *g = module_graph(m, "train");
    Bindings in = {0}, out = {0};
    Diag diag = {0};
    bind_random(g, (uint64_t)_i, arena, &in);
    const char *bad = _i % 2 ? "fault" : g->nodes.at[count(g, OP_param) - 1].attrs.name;
    find_tensor(&in, bad)->at[0] = _i % 6 ? NAN : INFINITY;
    ck_assert(eval_graph(g, EVAL_F64, in.at, in.n, arena, &out, &diag));
    bool stopped = !isfinite(find_tensor(&out, "loss")->at[0]) || _i % 2;
    for (uint32_t i = 0; stopped && i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (n->op != OP_store || val_type(g, n->in[0])->dtype == DT_T2) continue;
        const Tensor *before = find_tensor(&in, n->attrs.name), *after = find_tensor(&out, n->attrs.name);
        size_t bytes = (size_t)type_count(&before->type) * sizeof *before->at;
        bool fault = strcmp(n->attrs.name, "fault") == 0;
        ck_assert_msg(fault ? isnan(after->at[0]) : memcmp(before->at, after->at, bytes) == 0, "seed %d: %s", _i,
                      n->attrs.name);
    }
    vec_free(&in), vec_free(&out);
    module_free(m);
    arena_free(arena);
}
END_TEST

/* All functions declare params, then states, then inputs. */
START_TEST(declarations_keep_their_order) {
    Module *m = random_module((uint64_t)_i);
    RUN(m, _i % 2 ? &buffer : &plain, "insert-ste", "autodiff", "optimizer", "simplify", "cse", "dce",
        "fuse-ternary-matmul");
    const Graph *first = m->graphs.at[0];
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        const Graph *g = m->graphs.at[i];
        ck_assert_uint_eq(count(g, OP_param), count(first, OP_param));
        uint32_t n = count(g, OP_param), states = count(g, OP_state);
        for (uint32_t k = 0; k < n; k++)
            ck_assert_str_eq(g->nodes.at[k].attrs.name, first->nodes.at[k].attrs.name);
        for (uint32_t k = n; k < n + states; k++) ck_assert_int_eq(g->nodes.at[k].op, OP_state);
    }
    module_free(m);
}
END_TEST

/* ---- keep-codes */

/* The tensor is the projection of `latent`, in groups of its type. */
static void check_projection(const Tensor *codes, const Tensor *latent, uint64_t seed) {
    Tensor *w = (Tensor *)latent;
    int64_t cols = type_cols(&w->type), group = codes->type.group;
    for (int64_t at = 0, len; at < type_count(&w->type); at += len) {
        float group_of[64];
        int8_t q[64];
        len = group < cols - at % cols ? group : cols - at % cols;
        for (int64_t k = 0; k < len; k++) group_of[k] = (float)w->at[at + k];
        double scale = (double)ternary_group(group_of, len, q);
        for (int64_t k = 0; k < len; k++)
            ck_assert_msg(codes->at[at + k] == q[k] * scale, "seed %llu", (unsigned long long)seed);
    }
}

/* With the codes that project makes, every function does what it did; and codes of new weights are left. */
START_TEST(codes_are_kept_up_to_date) {
    Arena *arena = arena_new();
    Buf why = {0};
    Module *m = random_module((uint64_t)_i);
    RUN(m, _i % 2 ? &buffer : &plain, "insert-ste", "autodiff", "optimizer", "fuse-ternary-matmul");
    Module *before = module_copy(m);
    RUN(m, _i % 3 ? &plain : &blocks, "keep-codes", "fuse-update");
    for (uint32_t i = 0; module_graph(m, "project") && i < before->graphs.n; i++) {
        const Graph *g = module_graph(m, before->graphs.at[i]->name);
        Bindings old_in = {0}, in = {0}, project_in = {0}, got = {0};
        Diag diag = {0};
        Bindings expected = results_of(before, g->name, (uint64_t)_i, arena, &old_in);
        Bindings codes = results_of(m, "project", (uint64_t)_i, arena, &project_in);
        bind_random(g, (uint64_t)_i, arena, &in);
        for (uint32_t k = 0; k < codes.n; k++) {
            Tensor *state = (Tensor *)find_tensor(&in, codes.at[k].name);
            if (state) *state = codes.at[k].tensor;
        }
        ck_assert(eval_graph(g, EVAL_F64, in.at, in.n, arena, &got, &diag));
        for (uint32_t k = 0; k < expected.n; k++)
            ck_assert_msg(
                tensors_agree(&expected.at[k].tensor, find_tensor(&got, expected.at[k].name), 1e-12, &why),
                "seed %d: @%s: %s: %s", _i, g->name, expected.at[k].name, why.at);
        for (uint32_t k = 0; k < codes.n; k++) {
            char param[64];
            snprintf(param, sizeof param, "%.*s", (int)(strlen(codes.at[k].name) - 6), codes.at[k].name);
            const Tensor *w = find_tensor(&got, param), *left = find_tensor(&got, codes.at[k].name);
            ck_assert((w == NULL) == (left == NULL));
            if (w) check_projection(left, w, (uint64_t)_i);
        }
        vec_free(&old_in), vec_free(&in), vec_free(&project_in), vec_free(&got), vec_free(&expected),
            vec_free(&codes);
    }
    module_free(before);
    module_free(m);
    arena_free(arena);
}
END_TEST

/* ---- cse, simplify */

/* No two nodes of the result are equal: a second run changes nothing. */
START_TEST(cse_and_simplify_reach_a_fixpoint) {
    Module *m = random_module((uint64_t)_i);
    RUN(m, &plain, "insert-ste", "autodiff", "optimizer", "simplify", "cse", "dce");
    static const char *const again[] = {"cse", "dce", "simplify"};
    for (uint32_t i = 0; i < 2; i++) {
        Buf first = {0}, second = {0};
        print_module(m, &first);
        RUN(m, &plain, again[i]);
        print_module(m, &second);
        ck_assert_str_eq(first.at, second.at);
        buf_free(&first);
        buf_free(&second);
    }
    module_free(m);
}
END_TEST

/* A tied embedding's two gradients share one buffer; no weight gradient needs an add of its own. */
START_TEST(gradients_accumulate_in_place) {
    uint32_t merged = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        Module *m = random_module(seed);
        RUN(m, &buffer, "insert-ste", "autodiff", "optimizer", "simplify");
        const Graph *g = module_graph(m, "backward");
        for (uint32_t i = 0; i < g->nodes.n; i++) {
            const Node *n = &g->nodes.at[i];
            if ((n->op == OP_matmul || n->op == OP_embedding_grad) && n->nin == 3) merged++;
            if (n->op != OP_add) continue;
            for (uint32_t k = 0; k < 2; k++) {
                const Node *x = val_node(g, n->in[k]);
                ck_assert_msg(x->op != OP_embedding_grad, "seed %llu: add of an embedding gradient",
                              (unsigned long long)seed);
            }
        }
        module_free(m);
    }
    ck_assert_uint_gt(merged, 20);
}
END_TEST

/* ---- the driver */

/* Any pass after any prefix of the pipeline, as tbc opt allows it: it works or says what is missing; that
 * it leaves a module that verifies is checked by the driver. */
START_TEST(any_pass_at_any_level) {
    Module *m = random_module(7);
    for (uint32_t level = 0; level <= pass_count; level++) {
        if (level > 0) RUN(m, _i ? &buffer : &plain, pass_info[level - 1].name);
        for (uint32_t i = 0; i < pass_count; i++) {
            Module *copy = module_copy(m);
            const PassInfo *p = &pass_info[i];
            Diag diag = {0};
            bool ok = passes_run(copy, &diag, _i ? &buffer : &plain, &p, 1);
            ck_assert_msg(ok == (diag.errors == 0), "%s after %u passes", p->name, level);
            buf_free(&diag.text);
            module_free(copy);
        }
    }
    module_free(m);
}
END_TEST

static Module *parse(const char *text) {
    Diag diag = {0};
    Module *m = parse_module(text, "test.tir", &diag);
    ck_assert_msg(m != NULL, "%s", diag.text.at);
    return m;
}

static const char *const tiny = "tbc_ir 1\nmeta \"{}\"\n"
                                "func @train {\n"
                                "  %0: f32[2] = param {name=\"w\"}\n"
                                "  %1: f32[1] = sum %0\n"
                                "  output %1 {name=\"loss\"}\n"
                                "}\n";

/* Runs the passes on `tiny`; they must fail with one line that contains `expected`. */
static void check_fails(const PassOptions *options, const char *const *names, uint32_t n,
                        const char *expected) {
    const PassInfo *passes[8];
    for (uint32_t i = 0; i < n; i++) passes[i] = pass_find(names[i]);
    Module *m = parse(tiny);
    Diag diag = {0};
    ck_assert(!passes_run(m, &diag, options, passes, n));
    ck_assert_uint_eq(diag.errors, 1);
    ck_assert_msg(strstr(diag.text.at, expected) != NULL, "'%s' is not in: %s", expected, diag.text.at);
    buf_free(&diag.text);
    module_free(m);
}

START_TEST(needs_are_checked) {
    check_fails(&plain, (const char *const[]){"autodiff"}, 1, "insert-ste gives it");
    check_fails(&plain, (const char *const[]){"insert-ste", "optimizer"}, 2, "autodiff gives it");
    check_fails(&plain, (const char *const[]){"insert-ste", "autodiff", "autodiff"}, 3,
                "differentiated already");
    check_fails(&plain, (const char *const[]){"insert-ste", "autodiff", "optimizer", "autodiff"}, 4,
                "differentiated already");
}
END_TEST

START_TEST(stop_after_must_be_in_the_run) {
    PassOptions o = {.stop_after = "fuse"};
    check_fails(&o, (const char *const[]){"cse", "dce"}, 2, "'fuse'");
}
END_TEST

START_TEST(stop_after_stops) {
    Module *m = parse(tiny);
    Diag diag = {0};
    PassOptions o = {.stop_after = "autodiff", .verify = true};
    ck_assert(passes_run_all(m, &diag, &o));
    ck_assert_uint_eq(m->props, P(ste) | P(grads));
    module_free(m);
}
END_TEST

START_TEST(dump_errors_are_diagnostics) {
    PassOptions missing = {.dump_dir = "/nonexistent/dir/dump"}, file = {.dump_dir = "/dev/null"};
    check_fails(&missing, (const char *const[]){"cse"}, 1, "No such file or directory");
    check_fails(&file, (const char *const[]){"cse"}, 1, "/dev/null");
}
END_TEST

/* 00-frontend.tir is the input, NN-PASS.tir what each pass made; each reads back as it was. */
START_TEST(dumps_are_complete) {
    char dir[] = "/tmp/check_passes_XXXXXX";
    ck_assert_ptr_ne(mkdtemp(dir), NULL);
    const PassInfo *passes[] = {pass_find("insert-ste"), pass_find("autodiff")};
    PassOptions o = {.dump_dir = dir, .verify = true};
    Module *m = parse(tiny);
    Diag diag = {0};
    ck_assert(passes_run(m, &diag, &o, passes, 2));
    static const char *const names[] = {"00-frontend.tir", "01-insert-ste.tir", "02-autodiff.tir"};
    for (uint32_t i = 0; i < 3; i++) {
        Buf path = {0}, again = {0};
        buf_printf(&path, "%s/%s", dir, names[i]);
        char *text = read_file(path.at, NULL);
        ck_assert_msg(text != NULL, "no %s", path.at);
        Module *back = parse(text);
        print_module(back, &again);
        ck_assert_str_eq(text, again.at);
        ck_assert(i > 0 || strcmp(text, tiny) == 0);
        unlink(path.at);
        module_free(back), buf_free(&path), buf_free(&again), free(text);
    }
    ck_assert_int_eq(rmdir(dir), 0); /* nothing else is left in it */
    module_free(m);
}
END_TEST

int main(void) {
    Suite *s = suite_create("passes");
    TCase *t = tcase_create("random models");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, pipeline_keeps_results, 0, SEEDS);
    tcase_add_loop_test(t, insert_ste_projects_every_use, 0, SEEDS);
    tcase_add_loop_test(t, insert_ste_is_idempotent, 0, 20);
    tcase_add_loop_test(t, optimizer_updates_from_gradients, 0, SEEDS);
    tcase_add_loop_test(t, a_fault_stops_updates, 0, 40);
    tcase_add_loop_test(t, declarations_keep_their_order, 0, 20);
    tcase_add_loop_test(t, codes_are_kept_up_to_date, 0, SEEDS_OF(60));
    tcase_add_loop_test(t, cse_and_simplify_reach_a_fixpoint, 0, SEEDS_OF(50));
    tcase_add_test(t, gradients_accumulate_in_place);
    suite_add_tcase(s, t);
    TCase *d = tcase_create("driver");
    tcase_add_loop_test(d, any_pass_at_any_level, 0, 2);
    tcase_add_test(d, needs_are_checked);
    tcase_add_test(d, stop_after_must_be_in_the_run);
    tcase_add_test(d, stop_after_stops);
    tcase_add_test(d, dump_errors_are_diagnostics);
    tcase_add_test(d, dumps_are_complete);
    suite_add_tcase(s, d);
    return run_suite(s);
}
