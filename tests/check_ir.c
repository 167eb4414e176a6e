/* The IR: building graphs, the verifier, sizes and costs of types and ops, and memory and files below it. */
#include "ir_cases.h"
#include "ir_text.h"
#include "suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- graphs */

static const Loc at = {.file = 0, .line = 3, .col = 5};

START_TEST(graph_add_reports_shape_errors) {
    Module *m = module_new();
    vec_push(&m->files, "spec.json");
    Graph *g = graph_new("t");
    vec_push(&m->graphs, g);
    Type t = type_make(DT_F32, 2, (int64_t[]){4, 6});
    Val a = graph_add(g, m, NULL, at, OP_input, &t, NULL, 0, ATTRS(name, "a"));
    Diag d = {0};
    ck_assert_uint_eq(graph_add(g, m, &d, at, OP_matmul, NULL, (Val[]){a, a}, 2, NULL), VAL_NONE);
    ck_assert_str_eq(d.text.at,
                     "tbc: spec.json:3:5: error: matmul: f32[4,6] x f32[4,6]: inner dims 6 and 4 differ\n");
    ck_assert_uint_eq(g->nodes.n, 1);
    buf_free(&d.text);
    module_free(m);
}
END_TEST

START_TEST(attributes_have_one_form) {
    Graph *g = graph_new("t");
    Type t = type_make(DT_F32, 2, (int64_t[]){4, 4});
    char name[] = "a";
    Val a = graph_add(g, NULL, NULL, at, OP_input, &t, NULL, 0, ATTRS(name, name));
    name[0] = 'b'; /* the graph has its own copy */
    ck_assert_str_eq(val_node(g, a)->attrs.name, "a");
    Val b = graph_add(g, NULL, NULL, at, OP_matmul, NULL, (Val[]){a, a}, 2,
                      &(Attrs){.set = A(ta) | A(tb), .tb = true, .c = 7});
    const Attrs *attrs = &val_node(g, b)->attrs;
    ck_assert(attrs->set == A(tb) && attrs->tb && !attrs->ta && attrs->c == 0);
    Val c = graph_add(g, NULL, NULL, (Loc){.col = 3}, OP_neg, NULL, &a, 1, NULL);
    ck_assert_uint_eq(val_node(g, c)->loc.col, 0);
    graph_free(g);
}
END_TEST

START_TEST(shorthands_build_what_they_say) {
    Graph *g = graph_new("t");
    Type t = type_make(DT_F32, 2, (int64_t[]){2, 6}), flat = type_make(DT_F32, 1, (int64_t[]){12});
    Val x = ir_splat(g, at, &t, 2);
    Val y = ir_binary(g, at, OP_add, ir_scale(g, at, x, 3), ir_offset(g, at, ir_unary(g, at, OP_exp, x), 1));
    ck_assert_uint_eq(ir_reshape(g, at, y, &t), y);
    ck_assert(type_equal(val_type(g, ir_reshape(g, at, y, &flat)), &flat));
    ck_assert_int_eq(val_type(g, ir_matmul(g, at, x, y, false, true))->dim[1], 2);
    ck_assert_int_eq(val_type(g, ir_matmul(g, at, x, y, true, false))->dim[0], 6);
    Arena *scratch = arena_new();
    uint32_t *uses = graph_uses(g, scratch);
    ck_assert_uint_eq(uses[x], 4);
    ck_assert_uint_eq(uses[y], 3);
    arena_free(scratch);
    graph_free(g);
}
END_TEST

START_TEST(copied_nodes_are_equal) {
    Module *m = parse_ok(full_text);
    const Graph *from = m->graphs.at[0];
    Graph *to = graph_new("copy");
    Val map[16];
    for (uint32_t i = 0; i < from->nodes.n; i++) graph_copy_node(to, from, &from->nodes.at[i], map);
    for (uint32_t v = 0; v < from->values.n; v++) {
        ck_assert_uint_eq(map[v], v);
        ck_assert_int_eq(to->values.at[v].offset, -1);
    }
    ck_assert_ptr_ne(val_node(to, 4)->body, val_node(from, 4)->body);
    for (uint32_t i = 0; i < m->graphs.at[0]->values.n; i++) m->graphs.at[0]->values.at[i].offset = -1;
    to->name = from->name;
    to->attrs = from->attrs;
    Buf a = {0}, b = {0};
    print_graph(from, &a);
    print_graph(to, &b);
    ck_assert_str_eq(a.at, b.at);
    buf_free(&a);
    buf_free(&b);
    graph_free(to);
    module_free(m);
}
END_TEST

/* What a faulty pass could do to a graph; each is found. */
static void fault_operand(Graph *g) {
    ((Val *)g->nodes.at[2].in)[0] = 99;
}
static void fault_order(Graph *g) {
    ((Val *)g->nodes.at[3].in)[0] = 3;
}
static void fault_result(Graph *g) {
    g->nodes.at[3].out = 2;
}
static void fault_back(Graph *g) {
    g->values.at[3].node = 1;
}
static void fault_op(Graph *g) {
    g->nodes.at[3].op = OP_COUNT;
}
static void fault_type(Graph *g) {
    g->values.at[3].type.dim[0] = 7;
}
static void fault_typed(Graph *g) {
    g->values.at[0].type.dim[0] = 0;
}
static void fault_attr(Graph *g) {
    g->nodes.at[2].attrs.set = 0;
}
static void fault_count(Graph *g) {
    g->nodes.at[3].nin = 1;
}
static void fault_nout(Graph *g) {
    g->nodes.at[0].nout = 0, g->nodes.at[0].out = VAL_NONE;
}
static void fault_body(Graph *g) {
    graph_free(g->nodes.at[4].body), g->nodes.at[4].body = NULL;
}
static void fault_yield(Graph *g) {
    g->nodes.at[4].body->nodes.n--;
}
static void fault_inner(Graph *g) {
    g->nodes.at[4].body->values.at[2].type.rank = 1;
}
static void fault_offset(Graph *g) {
    g->values.at[3].offset = 8128;
}
static void fault_unplanned(Graph *g) {
    g->values.at[3].offset = -1;
}
static void fault_file(Graph *g) {
    g->nodes.at[2].loc.file = 2;
}
static void fault_value(Graph *g) {
    g->values.n++;
}
static void fault_infinite(Graph *g) {
    g->nodes.at[4].body->nodes.at[1].attrs.c = HUGE_VAL;
}
static void fault_name(Graph *g) {
    g->name = "no name";
}

static const struct {
    void (*damage)(Graph *);
    const char *message;
} faults[] = {
    {fault_operand, "operand %99 is not defined before its use"},
    {fault_order, "operand %3 is not defined before its use"},
    {fault_result, "result ids are not dense and in order"},
    {fault_back, "value %3 does not point back to its node"},
    {fault_op, "node 3 has no op"},
    {fault_type, "has type f32[7,3,6] instead of f32[2,3,6]"},
    {fault_typed, "the result has a dim below 1"},
    {fault_attr, "attribute 'group' is missing"},
    {fault_count, "takes 2 operands, not 1"},
    {fault_nout, "result ids are not dense and in order"},
    {fault_body, "only a region has a body, and it must have one"},
    {fault_yield, "a region must end in its only yield"},
    {fault_inner, "instead of f32[2,3,6]"},
    {fault_offset, "144 bytes do not fit the arena of 8192"},
    {fault_unplanned, "%3 has no offset in a planned module"},
    {fault_file, "location in file 2 of 2"},
    {fault_value, "8 values, but nodes define 7"},
    {fault_infinite, "attribute 'c' must be finite"},
    {fault_name, "the function's name is not an identifier"},
};

START_TEST(verifier_finds_faults) {
    Module *m = parse_ok(full_text);
    Diag d = {0};
    ck_assert(verify(m, &d));
    vec_push(&m->graphs.at[0]->values, (Value){0}); /* room for fault_value */
    m->graphs.at[0]->values.n--;
    faults[_i].damage(m->graphs.at[0]);
    ck_assert(!verify_graph(m, m->graphs.at[0], &d));
    ck_assert_msg(strstr(d.text.at, faults[_i].message) != NULL, "%s", d.text.at);
    buf_free(&d.text);
    module_free(m);
}
END_TEST

/* ---- types */

START_TEST(types_know_their_sizes) {
    Type t = type_make(DT_F32, 3, (int64_t[]){2, 3, 5}), scalar = type_make(DT_F32, 0, NULL);
    ck_assert_int_eq(type_count(&t), 30);
    ck_assert_int_eq(type_rows(&t), 6);
    ck_assert_int_eq(type_cols(&t), 5);
    ck_assert_int_eq(type_bytes(&t), 120);
    ck_assert_int_eq(type_rows(&scalar) * type_cols(&scalar), 1);

    Type codes = type_make(DT_T2, 2, (int64_t[]){3, 130});
    codes.group = 128;
    TernaryLayout l = ternary_layout(3, 130, 128);
    ck_assert_int_eq(l.row_bytes, 36); /* 130 codes, 33 bytes, rounded up to 4 */
    ck_assert_int_eq(l.groups, 2);
    ck_assert_int_eq(l.scales_at, 128); /* 108 rounded up to 64 */
    ck_assert_int_eq(l.bytes, 128 + 3 * 2 * 2);
    ck_assert_int_eq(type_bytes(&codes), l.bytes);
    ck_assert(!type_equal(&codes, &t));
}
END_TEST

START_TEST(costs_count_flops_and_bytes) {
    Graph *g = graph_new("t");
    Type a = type_make(DT_F32, 2, (int64_t[]){8, 16}), b = type_make(DT_F32, 2, (int64_t[]){32, 16});
    Val c = ir_matmul(g, at, ir_splat(g, at, &a, 1), ir_splat(g, at, &b, 1), false, true);
    Cost cost = node_cost(g, val_node(g, c));
    ck_assert_int_eq(cost.flops, 2 * 8 * 16 * 32);
    ck_assert_int_eq(cost.bytes, 4 * (8 * 16 + 32 * 16 + 8 * 32));
    cost = node_cost(g, val_node(g, ir_unary(g, at, OP_exp, c)));
    ck_assert_int_eq(cost.flops, 10 * 8 * 32);

    const Type ids = type_make(DT_I32, 1, (int64_t[]){5}), dy = type_make(DT_F32, 2, (int64_t[]){5, 16});
    const Type table = type_make(DT_F32, 2, (int64_t[]){100, 16});
    Val in[] = {graph_add(g, NULL, NULL, at, OP_input, &ids, NULL, 0, ATTRS(name, "ids")),
                ir_splat(g, at, &dy, 1), ir_splat(g, at, &table, 0)};
    c = graph_add(g, NULL, NULL, at, OP_embedding_grad, &table, in, 2, NULL);
    ck_assert_int_eq(node_cost(g, val_node(g, c)).bytes, 4 * (5 + 5 * 16 + 100 * 16));
    c = graph_add(g, NULL, NULL, at, OP_embedding_grad, &table, in, 3, NULL);
    ck_assert_int_eq(node_cost(g, val_node(g, c)).bytes,
                     4 * (5 + 3 * 5 * 16)); /* five rows, read and written */
    graph_free(g);

    Module *m = parse_ok(full_text);
    cost = node_cost(m->graphs.at[0], val_node(m->graphs.at[0], 4));
    ck_assert_int_eq(cost.flops, 2 * 36);            /* multiply and sum */
    ck_assert_int_eq(cost.bytes, 4 * (36 + 36 + 6)); /* one operand, two results */
    module_free(m);
}
END_TEST

START_TEST(every_op_has_a_cost) {
    for (uint32_t i = 0; i < IR_CASES; i++) {
        Buf text = case_text(&ir_cases[i]);
        Module *m = parse_ok(text.at);
        const Graph *g = m->graphs.at[0];
        for (uint32_t j = 0; j < g->nodes.n; j++) {
            const Node *n = &g->nodes.at[j];
            Cost cost = node_cost(g, n);
            bool moves = !(op_info[n->op].flags & (SOURCE | VIEW)) && n->op != OP_output;
            ck_assert_msg(cost.flops >= 0 && moves == (cost.bytes > 0), "%s", op_info[n->op].name);
        }
        module_free(m);
        buf_free(&text);
    }
}
END_TEST

/* ---- base and diag */

START_TEST(diagnostics_are_counted_and_limited) {
    Diag d = {.limit = 2};
    diag_error(&d, "a.json", 3, 4, "no %s", "heads");
    diag_error(&d, NULL, 0, 0, "second");
    diag_error(&d, "a.json", 0, 0, "third");
    ck_assert_uint_eq(d.errors, 3);
    ck_assert_str_eq(d.text.at, "tbc: a.json:3:4: error: no heads\ntbc: error: second\n");
    buf_free(&d.text);
}
END_TEST

START_TEST(buffers_and_arenas_grow) {
    Buf b = {0};
    for (int i = 0; i < 1000; i++) buf_printf(&b, "%d,", i);
    ck_assert_uint_eq(b.n, strlen(b.at));
    ck_assert_uint_eq(b.n, 3890);
    buf_free(&b);
    Arena *a = arena_new();
    for (size_t n = 0; n < 300000; n = n * 3 + 1) {
        char *p = arena_alloc(a, n);
        ck_assert_uint_eq((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++) ck_assert_int_eq(p[i], 0);
        memset(p, 1, n);
    }
    ck_assert_str_eq(arena_printf(a, "%s.%d", "x", 3), "x.3");
    arena_free(a);
    arena_free(NULL);
}
END_TEST

START_TEST(files_are_written_whole_or_not_at_all) {
    char dir[] = "/tmp/tbc-check-ir-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    Buf path = {0}, missing = {0};
    buf_printf(&path, "%s/file", dir);
    buf_printf(&missing, "%s/none/file", dir);
    ck_assert(write_file(path.at, "a\0b", 3));
    size_t n;
    char *text = read_file(path.at, &n);
    ck_assert(n == 3 && memcmp(text, "a\0b", 4) == 0);
    free(text);
    ck_assert(write_file(path.at, "", 0)); /* replaces */
    text = read_file(path.at, NULL);
    ck_assert_str_eq(text, "");
    free(text);

    errno = 0;
    ck_assert(!write_file(missing.at, "x", 1) && errno == ENOENT);
    ck_assert(read_file(missing.at, NULL) == NULL && errno == ENOENT);
    ck_assert(read_file(dir, NULL) == NULL && errno == EISDIR);
    ck_assert(!write_file(dir, "x", 1));
    ck_assert(!write_file("/dev/full", "x", 1) && errno == ENOSPC);
    struct stat st;
    ck_assert(stat("/dev/full", &st) == 0 && S_ISCHR(st.st_mode)); /* still a device */
    unlink(path.at);
    ck_assert_msg(rmdir(dir) == 0, "something was left in %s", dir);
    buf_free(&path);
    buf_free(&missing);
}
END_TEST

int main(void) {
    Suite *s = suite_create("ir");
    TCase *graphs = tcase_create("graphs"), *base = tcase_create("base");
    tcase_add_test(graphs, graph_add_reports_shape_errors);
    tcase_add_test(graphs, attributes_have_one_form);
    tcase_add_test(graphs, shorthands_build_what_they_say);
    tcase_add_test(graphs, copied_nodes_are_equal);
    tcase_add_loop_test(graphs, verifier_finds_faults, 0, sizeof faults / sizeof *faults);
    tcase_add_test(graphs, types_know_their_sizes);
    tcase_add_test(graphs, costs_count_flops_and_bytes);
    tcase_add_test(graphs, every_op_has_a_cost);
    tcase_add_test(base, diagnostics_are_counted_and_limited);
    tcase_add_test(base, buffers_and_arenas_grow);
    tcase_add_test(base, files_are_written_whole_or_not_at_all);
    suite_add_tcase(s, graphs);
    suite_add_tcase(s, base);
    return run_suite(s);
}
