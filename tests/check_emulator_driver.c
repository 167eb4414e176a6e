/* The emulated device's driver API (tests/emulator) in correct use: memory, streams, graphs, linking, limits.
 * check_emulator_api.c has the wrong uses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "emulator/api.h"
#include "suite.h"

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

/* The parameters of nodes, as cuda.h lays them out. */
typedef struct KernelNode {
    Handle function;
    unsigned grid[3], block[3], dynamic;
    void **params, **extra;
    Handle kernel, context;
} KernelNode;
typedef struct MemsetNode {
    CUdeviceptr dst;
    size_t pitch;
    unsigned value, element;
    size_t width, height;
} MemsetNode;

/* Three vectors in memory of a pool, a kernel of a library, and a graph in which a = 7 comes before
 * b = a + 1, though its node was added behind. */
typedef struct Nodes {
    Handle library, function, graph, set, copy;
    CUdeviceptr a, b, c;
} Nodes;

/* to = from + 1; the node keeps its own copy of the values. */
static KernelNode copy_node(Handle function, void *params[2], CUdeviceptr *to, CUdeviceptr *from) {
    params[0] = to, params[1] = from;
    return (KernelNode){.function = function, .grid = {1, 1, 1}, .block = {64, 1, 1}, .params = params};
}

static void nodes_new(Nodes *n) {
    Handle kernel, pool;
    void *params[2];
    device();
    CHECK(cuLibraryLoadData(&n->library, copy_kernel, NULL, NULL, 0, NULL, NULL, 0));
    CHECK(cuLibraryGetKernel(&kernel, n->library, "copy"));
    CHECK(cuKernelGetFunction(&n->function, kernel));
    CHECK(cuDeviceGetDefaultMemPool(&pool, 0));
    CHECK(cuMemAllocFromPoolAsync(&n->a, 256, pool, NULL));
    CHECK(cuMemAllocFromPoolAsync(&n->b, 256, pool, NULL));
    CHECK(cuMemAllocFromPoolAsync(&n->c, 256, pool, NULL));
    KernelNode work = copy_node(n->function, params, &n->b, &n->a);
    MemsetNode seven = {n->a, 0, 7, 4, 64, 1};
    CHECK(cuGraphCreate(&n->graph, 0));
    CHECK(cuGraphAddKernelNode_v2(&n->copy, n->graph, NULL, 0, &work));
    CHECK(cuGraphAddMemsetNode(&n->set, n->graph, NULL, 0, &seven, NULL));
    CHECK(cuGraphAddDependencies(n->graph, &n->set, &n->copy, 1));
}

static void nodes_free(Nodes *n) {
    CHECK(cuGraphDestroy(n->graph));
    CHECK(cuMemFreeAsync(n->a, NULL));
    CHECK(cuLibraryUnload(n->library));
}

static uint32_t first_of(CUdeviceptr vector) {
    uint32_t x;
    CHECK(cuMemcpyDtoH_v2(&x, vector, 4));
    return x;
}

START_TEST(graph_of_nodes) {
    Nodes n;
    Handle exec, nodes[4];
    void *params[2];
    unsigned kernels;
    size_t count = 4;
    nodes_new(&n);
    CHECK(cuLibraryGetKernelCount(&kernels, n.library));
    ck_assert_uint_eq(kernels, 1);
    CHECK(cuGraphGetNodes(n.graph, nodes, &count));
    ck_assert(count == 2 && nodes[0] == n.copy && nodes[1] == n.set);
    CHECK(cuGraphInstantiateWithFlags(&exec, n.graph, 0));
    CHECK(cuGraphLaunch(exec, NULL));
    KernelNode work = copy_node(n.function, params, &n.c, &n.b);
    CHECK(cuGraphExecKernelNodeSetParams_v2(exec, n.copy, &work)); /* the launch before keeps its own */
    CHECK(cuGraphLaunch(exec, NULL));
    ck_assert_uint_eq(first_of(n.b), 8);
    ck_assert_uint_eq(first_of(n.c), 9);
    CHECK(cuGraphExecDestroy(exec));
    CHECK(cuGraphAddDependencies(n.graph, &n.copy, &n.set, 1)); /* a circle */
    ck_assert_int_eq(cuGraphInstantiateWithFlags(&exec, n.graph, 0), 1);
    nodes_free(&n);
}
END_TEST

/* The same as a child: c = b + 1 comes after all of it; its nodes can be changed; captured, it is copied. */
START_TEST(child_graph) {
    Nodes n;
    Handle outer, child, last, inner, first, exec, stream, copy;
    void *params[2];
    size_t one = 1;
    nodes_new(&n);
    KernelNode work = copy_node(n.function, params, &n.c, &n.b);
    CHECK(cuGraphCreate(&outer, 0));
    CHECK(cuGraphAddChildGraphNode(&child, outer, NULL, 0, n.graph));
    CHECK(cuGraphAddKernelNode_v2(&last, outer, &child, 1, &work));
    CHECK(cuGraphInstantiateWithFlags(&exec, outer, 0));
    CHECK(cuMemsetD8_v2(n.b, 0, 256));
    CHECK(cuGraphLaunch(exec, NULL));
    ck_assert_uint_eq(first_of(n.c), 9);
    CHECK(cuGraphChildGraphNodeGetGraph(child, &inner));
    ck_assert_int_eq(cuGraphDestroy(inner), 1); /* it is the node's */
    CHECK(cuGraphGetNodes(inner, &first, &one));
    work = copy_node(n.function, params, &n.b, &n.b);
    CHECK(cuGraphExecKernelNodeSetParams_v2(exec, first, &work));
    CHECK(cuStreamCreate(&stream, 1));
    CHECK(cuStreamBeginCapture_v2(stream, 0));
    CHECK(cuGraphLaunch(exec, stream));
    CHECK(cuGraphDestroy(outer));
    CHECK(cuStreamEndCapture(stream, &copy));
    CHECK(cuGraphClone(&outer, copy));
    CHECK(cuGraphDestroy(copy));
    CHECK(cuGraphExecDestroy(exec));
    CHECK(cuGraphInstantiateWithFlags(&exec, outer, 0));
    for (int k = 0; k < 2; k++) CHECK(cuGraphLaunch(exec, stream));
    CHECK(cuStreamSynchronize(stream));
    ck_assert_uint_eq(first_of(n.c), 11); /* b was 8, and is one more twice */
    CHECK(cuGraphExecDestroy(exec));
    CHECK(cuGraphDestroy(outer));
    nodes_free(&n);
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

START_TEST(captured_graph) {
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
    setenv("TBC_EMU_SEED", "1", 1);
    Suite *suite = suite_create("emulator_driver");
    TCase *t = tcase_create("emulator_driver");
    suite_add_tcase(suite, t);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, use_after_free);
    tcase_add_test(t, work_is_late);
    tcase_add_test(t, managed_memory);
    tcase_add_test(t, graph_of_nodes);
    tcase_add_test(t, child_graph);
    tcase_add_test(t, captured_graph);
    tcase_add_loop_test(t, linking, 0, 2);
    tcase_add_test(t, limits);
    return run_suite(suite);
}
