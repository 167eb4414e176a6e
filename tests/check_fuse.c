/* fuse and fuse-loss on random models: the interpreter's results stay, and what the passes promise holds. */
#include "../passes/pass.h"
#include "random_graph.h"
#include "suite.h"

#define MODELS    300
#define LONG      40 /* with enough rows for several chunks of logits */
#define BATCH     10 /* models that one test runs through */
#define TOLERANCE 1e-9

static const char *const before_fuse[] = {"insert-ste", "autodiff", "optimizer",          "simplify",
                                          "cse",        "dce",      "fuse-ternary-matmul"};
enum { BEFORE_FUSE = sizeof before_fuse / sizeof *before_fuse };

static void run(Module *m, const char *const *names, uint32_t n, const PassOptions *options) {
    Diag diag = {0};
    const PassInfo *passes[16];
    for (uint32_t i = 0; i < n; i++) passes[i] = pass_find(names[i]);
    bool ok = passes_run(m, &diag, options, passes, n);
    ck_assert_msg(ok, "%s", diag.text.at);
    buf_free(&diag.text);
}

static void run_one(Module *m, const char *name, const PassOptions *options) {
    run(m, &name, 1, options);
}

static void check_same(const Module *before, const Module *after, uint64_t seed) {
    Buf why = {0};
    bool same = modules_agree(before, after, seed, TOLERANCE, &why);
    ck_assert_msg(same, "model %llu: %s", (unsigned long long)seed, why.at);
    buf_free(&why);
}

static PassOptions options_of(uint64_t seed) {
    return (PassOptions){.verify = true, .grads_buffer = seed % 3 == 0};
}

/* ---- fuse */

static void check_no_row_ops(const Module *m) {
    for (uint32_t j = 0; j < m->graphs.n; j++)
        for (uint32_t i = 0; i < m->graphs.at[j]->nodes.n; i++)
            ck_assert(!(op_info[m->graphs.at[j]->nodes.at[i].op].flags & ROW));
}

static void check_fuse(uint64_t seed) {
    PassOptions options = options_of(seed);
    Module *m = random_module(seed);
    run(m, before_fuse, BEFORE_FUSE, &options);
    Module *before = module_copy(m);
    run_one(m, "fuse", &options);
    check_no_row_ops(m);
    check_same(before, m, seed);
    Buf once = {0}, twice = {0};
    print_module(m, &once);
    run_one(m, "fuse", &options);
    print_module(m, &twice);
    ck_assert_str_eq(once.at, twice.at);
    buf_free(&once), buf_free(&twice);
    module_free(before), module_free(m);
}

/* ---- fuse-loss */

/* A model with enough rows to be divided. */
static Module *long_module(uint64_t seed) {
    static const int64_t seqs[] = {64, 65, 77, 100};
    RandomModel model = {.rng = {seed * 0x9e3779b97f4a7c15u + 1}};
    random_params(&model);
    model.batch = 2 + rng_below(&model.rng, 2);
    model.seq = seqs[rng_below(&model.rng, 4)];
    Module *m = module_new();
    uint32_t steps = rng_below(&model.rng, 3);
    vec_push(&m->graphs, random_train(&model, steps));
    vec_push(&m->graphs, random_eval(&model, steps));
    return m;
}

static bool is_product(Op op) {
    return op == OP_matmul || op == OP_tmatmul;
}

static int64_t count_tokens(const Graph *g) {
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (n->op == OP_input && strcmp(n->attrs.name, "tokens") == 0) return type_count(val_type(g, n->out));
    }
    return 0;
}

/* Products with a row for every token that a loss reads: no other rows are as short as random logits. */
static uint32_t count_whole_logits(const Graph *g) {
    uint32_t n = 0;
    int64_t rows = count_tokens(g);
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *r = &g->nodes.at[i];
        for (uint32_t k = 0; r->op == OP_region && k < r->nin; k++) {
            const Type *t = val_type(g, r->in[k]);
            n += is_product(val_node(g, r->in[k])->op) && type_cols(t) == INDEX_LIMIT && type_rows(t) == rows;
        }
    }
    return n;
}

static void check_fuse_loss(uint64_t seed) {
    PassOptions options = options_of(seed);
    Module *m = long_module(seed);
    run(m, before_fuse, BEFORE_FUSE, &options);
    run_one(m, "fuse", &options);
    Module *before = module_copy(m);
    run_one(m, "fuse-loss", &options);
    for (uint32_t j = 0; j < m->graphs.n; j++) {
        const Graph *g = m->graphs.at[j];
        if (strcmp(g->name, "update") == 0) continue;
        ck_assert_uint_eq(count_whole_logits(before->graphs.at[j]), 1);
        ck_assert_uint_eq(count_whole_logits(g), 0);
    }
    check_same(before, m, seed);
    module_free(before), module_free(m);
}

/* However many rows, the graph stays small. */
START_TEST(chunks_are_not_too_many) {
    static const char text[] = "tbc_ir 1\nprops regions\nmeta \"{}\"\nfunc @eval {\n"
                               "  %0: f32[2,8] = param {name=\"W\"}\n"
                               "  %1: f32[1000000007,8] = input {name=\"x\"}\n"
                               "  %2: f32[1000000007,2] = matmul %1, %0 {tb=1}\n"
                               "  %3: f32[1000000007,1] = region %2 {\n"
                               "    %0: f32[1000000007,2] = arg {index=0}\n"
                               "    %1: f32[1000000007,1] = sum %0\n"
                               "    yield %1\n"
                               "  }\n"
                               "  output %3 {name=\"nll\"}\n"
                               "}\n";
    Diag diag = {0};
    Module *m = parse_module(text, "text", &diag);
    ck_assert_msg(m != NULL, "%s", diag.text.at);
    run_one(m, "fuse-loss", &(PassOptions){.verify = true});
    uint32_t nodes = m->graphs.at[0]->nodes.n, chunks = (nodes - 4) / 3; /* each a slice, product and region */
    ck_assert_msg(200 < chunks && chunks <= 256, "%u nodes", nodes);
    module_free(m);
}
END_TEST

START_TEST(fuse_keeps_results) {
    for (int i = 0; i < BATCH; i++) check_fuse((uint64_t)(_i * BATCH + i));
}
END_TEST

START_TEST(fuse_loss_keeps_results) {
    for (int i = 0; i < BATCH; i++) check_fuse_loss((uint64_t)(_i * BATCH + i));
}
END_TEST

int main(void) {
    Suite *s = suite_create("fuse");
    TCase *t = tcase_create("fuse");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, chunks_are_not_too_many);
    tcase_add_loop_test(t, fuse_keeps_results, 0, MODELS / BATCH);
    tcase_add_loop_test(t, fuse_loss_keeps_results, 0, LONG / BATCH);
    suite_add_tcase(s, t);
    return run_suite(s);
}
