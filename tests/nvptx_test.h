/* For tests of the big kernels of a GPU: what ptxas makes of them, and how they compare with the interpreter.
 *
 *     nvptx_assemble(kernels, n, 255)           no spills for any architecture, so many registers at most
 *     NodeTest t = node_test(room);             one node, its operands, and what the kernel should make of
 * them Val x = node_operand(&t, type, values);   in the order of the kernel's arguments node_results(&t, op,
 * attrs);              evaluates; results become arguments too, full of NaN test_launch(..., &t.args, size);
 *     node_error(&t, i)                         result i: |kernel - interpreter| / |interpreter|
 *     node_test_free(&t); */
#ifndef TBC_NVPTX_TEST_H
#define TBC_NVPTX_TEST_H

#include "../codegen/tool.h"
#include "device_test.h"
#include "suite.h"

/* ---- against the interpreter */

typedef struct NodeTest {
    Graph *g;
    Arena *arena;
    TestArgs args;
    Val in[8];
    Tensor operand[8], result[4];
    float *made[4]; /* by the kernel */
    uint32_t nin, nout;
} NodeTest;

static inline NodeTest node_test(uint64_t room) {
    return (NodeTest){.g = graph_new("f"), .arena = arena_new(), .args = test_args(room)};
}

static inline void node_test_free(NodeTest *t) {
    graph_free(t->g);
    test_args_free(&t->args);
    arena_free(t->arena);
}

/* An f32 or bf16 operand of random numbers in [-1, 1); whoever changes them changes t->operand[i] too. */
static inline float *node_operand(NodeTest *t, Type type, uint64_t *rng) {
    int64_t n = type_count(&type);
    float *x = test_arg(&t->args, (uint64_t)(4 * n));
    test_fill(x, n, rng);
    t->in[t->nin] = graph_add(t->g, NULL, NULL, (Loc){0}, OP_input, &type, NULL, 0, ATTRS(name, "x"));
    t->operand[t->nin] = (Tensor){type, arena_array(t->arena, double, n)};
    for (int64_t i = 0; i < n; i++)
        t->operand[t->nin].at[i] = type.dtype == DT_BF16 ? bf16_round(x[i]) : x[i];
    if (type.dtype == DT_BF16) test_to_bf16(x, n);
    t->nin++;
    return x;
}

/* i32[b], all `pos`. */
static inline void node_positions(NodeTest *t, int64_t b, int64_t pos) {
    Type type = type_make(DT_I32, 1, &b);
    int32_t *x = test_arg(&t->args, (uint64_t)(4 * b));
    t->in[t->nin] = graph_add(t->g, NULL, NULL, (Loc){0}, OP_input, &type, NULL, 0, ATTRS(name, "pos"));
    t->operand[t->nin] = (Tensor){type, arena_array(t->arena, double, b)};
    for (int64_t i = 0; i < b; i++) x[i] = (int32_t)pos, t->operand[t->nin].at[i] = (double)pos;
    t->nin++;
}

/* A ternary one of that shape with random codes and scales. */
static inline void node_ternary(NodeTest *t, int64_t rows, int64_t cols, int64_t group, uint64_t *rng) {
    Type type = type_make(DT_F32, 2, (int64_t[]){rows, cols});
    Val w = graph_add(t->g, NULL, NULL, (Loc){0}, OP_param, &type, NULL, 0, ATTRS(name, "w"));
    w = graph_add(t->g, NULL, NULL, (Loc){0}, OP_ternary, NULL, &w, 1, ATTRS(group, group));
    t->in[t->nin] = w;
    t->operand[t->nin] = (Tensor){*val_type(t->g, w), arena_array(t->arena, double, rows *cols)};
    void *at = test_arg(&t->args, (uint64_t)ternary_layout(rows, cols, group).bytes);
    test_fill_ternary(at, t->operand[t->nin].at, rows, cols, group, rng);
    t->nin++;
}

/* Adds the node and evaluates it. */
static inline void node_evaluate(NodeTest *t, Op op, Attrs attrs) {
    Val out = graph_add(t->g, NULL, NULL, (Loc){0}, op, NULL, t->in, t->nin, &attrs);
    const Node *n = val_node(t->g, out);
    t->nout = n->nout;
    eval_node(t->g, n, EVAL_F64, t->operand, t->result, t->arena);
}

/* Makes the results arguments, after the operands. */
static inline void node_results(NodeTest *t, Op op, Attrs attrs) {
    node_evaluate(t, op, attrs);
    for (uint32_t i = 0; i < t->nout; i++) {
        int64_t n = type_count(&t->result[i].type);
        t->made[i] = test_arg(&t->args, (uint64_t)(4 * n));
        for (int64_t j = 0; j < n; j++) t->made[i][j] = NAN;
    }
}

/* To be called once for each result. */
static inline double node_error(const NodeTest *t, uint32_t i) {
    const Type *type = &t->result[i].type;
    if (type->dtype == DT_BF16) test_from_bf16(t->made[i], type_count(type));
    return test_error(t->made[i], t->result[i].at, type_count(type));
}

/* ---- ptxas */

/* Assembles the kernels in g (which it frees) for each architecture. False, printed, where there is no ptxas.
 */
static inline bool nvptx_assemble(Gen *g, int max_registers) {
    static const char *const architectures[] = {"-arch=sm_80", "-arch=sm_90", "-arch=sm_100"};
    static const char *const tools[] = {"ptxas", "/usr/local/cuda/bin/ptxas"};
    char path[] = "/tmp/tbc-ptx-XXXXXX", *ptx = test_compile(g);
    int fd = mkstemp(path);
    ck_assert(fd >= 0 && close(fd) == 0 && write_file(path, ptx, strlen(ptx)));
    free(ptx);
    bool found = false;
    for (int i = 0; i < 2 && !found; i++)
        for (int a = 0; a < 3; a++) {
            Buf said = {0};
            char *argv[] = {(char *)tools[i], (char *)architectures[a], "-v", path, "-o", "/dev/null", NULL};
            int status = run_tool(argv, &said);
            if (status == -1 || status == 127) {
                buf_free(&said);
                break;
            }
            found = true;
            ck_assert_msg(status == 0, "%s: %s", architectures[a], said.at);
            char *rest = NULL, kernel[256] = "";
            for (char *line = strtok_r(said.at, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                int registers, spills;
                char *used = strstr(line, "Used "), *stack = strstr(line, "bytes stack frame, ");
                sscanf(line, "ptxas info : Compiling entry function %255s", kernel);
                if (stack && sscanf(stack, "bytes stack frame, %d", &spills) == 1)
                    ck_assert_msg(spills == 0, "%s %s spills: %s", architectures[a], kernel, line);
                if (used && sscanf(used, "Used %d", &registers) == 1)
                    ck_assert_msg(registers <= max_registers, "%s %s: %s", architectures[a], kernel, line);
            }
            buf_free(&said);
        }
    unlink(path);
    if (!found) printf("skipped: assembling for GPUs (no ptxas)\n");
    return found;
}

#endif
