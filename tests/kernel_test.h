/* For tests and benches of generated kernels: build them into a throw-away shared object, run them on
 * guarded buffers.
 *
 *     Gen *g = test_gen(NULL);                      // for the host; a name: only to compile
 *     gen_copy(g, "copy", &desc);
 *     void *so = test_load(g);                      // frees g
 *     TestArgs a = test_args(1 << 20);
 *     float *src = test_arg(&a, 256), *dst = test_arg(&a, 256);
 *     test_run(so, "copy", &a, tiles, scratch_bytes);
 *     test_args_free(&a); dlclose(so);
 *
 * test_run aborts with a message if a kernel wrote behind a buffer or behind its scratch. It runs tiles
 * in reverse order and fills scratch with NaN before each, so that a kernel that relies on either fails. */
#ifndef TBC_KERNEL_TEST_H
#define TBC_KERNEL_TEST_H

#include "../codegen/gen.h"
#include "../runtime/tbc_module.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEST_GUARD 256 /* guard bytes behind every buffer */

/* A target for the CPU of that name (NULL: the host); lives until the process ends. */
static inline const Target *test_target(const char *cpu) {
    Diag diag = {.out = stderr};
    static Arena *arena; /* reachable until the end, so that it is no leak */
    if (!arena) arena = arena_new();
    Target *t = arena_alloc(arena, sizeof *t);
    if (!target_init(t, cpu, 0, arena, &diag)) abort();
    return t;
}

static inline Gen *test_gen(const char *cpu) {
    return gen_new(test_target(cpu), "test");
}

/* Verifies, optimises and assembles the module, for CPUs that we may not have; frees g. Returns the
 * assembly as a heap string. */
static inline char *test_compile(Gen *g) {
    Diag diag = {.out = stderr};
    gen_optimize(g);
    LLVMMemoryBufferRef code = gen_assemble(g, true, &diag);
    if (!code) abort();
    char *text = strndup(LLVMGetBufferStart(code), LLVMGetBufferSize(code));
    LLVMDisposeMemoryBuffer(code);
    gen_free(g);
    return text;
}

/* How often an instruction stands in a function of the assembly; -1, printed, if a vector of it goes to the stack
 * or comes back from it, or there is no such function. Writes into text. */
static inline int test_count(char *text, const char *function, const char *instruction) {
    char label[64], *rest = NULL;
    snprintf(label, sizeof label, "\n%s:", function);
    char *body = strstr(text, label);
    int count = body ? 0 : -1;
    for (char *line = strtok_r(body, "\n", &rest); body && line; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, ".Lfunc_end", 10) == 0) break;
        count += strstr(line, instruction) != NULL;
        if (!strstr(line, "(%rsp)") || !strstr(line, "mm")) continue;
        fprintf(stderr, "%s spills: %.80s\n", function, line);
        return -1;
    }
    return count;
}

/* Links the module and loads it; frees g. */
static inline void *test_load(Gen *g) {
    Diag diag = {.out = stderr};
    char path[] = "/tmp/tbc-kernel-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || close(fd) || !gen_link(g, path, &diag)) abort();
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!so) fprintf(stderr, "%s\n", dlerror()), abort();
    unlink(path);
    gen_free(g);
    return so;
}

/* The buffers of one launch, in order, within one arena. */
typedef struct TestArgs {
    char *arena;
    uint64_t used, room;
    uint64_t at[16], bytes[16];
    uint32_t n;
} TestArgs;

static inline TestArgs test_args(uint64_t room) {
    TestArgs a = {.arena = aligned_alloc(64, room / 64 * 64 + 64), .room = room / 64 * 64 + 64};
    if (!a.arena) abort();
    return a;
}

/* The next argument: `bytes` zeroed bytes, 64-byte aligned. */
static inline void *test_arg(TestArgs *a, uint64_t bytes) {
    if (a->n == 16 || a->used + bytes + TEST_GUARD + 64 > a->room) abort();
    char *p = a->arena + a->used;
    a->at[a->n] = a->used;
    a->bytes[a->n++] = bytes;
    memset(p, 0, bytes);
    memset(p + bytes, 0xa5, TEST_GUARD);
    a->used = (a->used + bytes + TEST_GUARD + 63) / 64 * 64;
    return p;
}

static inline void test_args_free(TestArgs *a) {
    free(a->arena);
    *a = (TestArgs){0};
}

static inline void test_guard(const char *name, const char *what, unsigned i, const char *end) {
    for (unsigned j = 0; j < TEST_GUARD; j++)
        if ((unsigned char)end[j] != 0xa5) {
            fprintf(stderr, "%s: wrote %u bytes behind %s %u\n", name, j, what, i);
            abort();
        }
}

static inline tbc_kernel_fn *test_kernel(void *so, const char *name) {
    tbc_kernel_fn *fn;
    *(void **)&fn = dlsym(so, name);
    if (!fn) fprintf(stderr, "no kernel %s\n", name), abort();
    return fn;
}

static inline void test_run(void *so, const char *name, const TestArgs *a, uint32_t tiles, uint64_t scratch) {
    tbc_kernel_fn *fn = test_kernel(so, name);
    char *memory = aligned_alloc(64, (scratch + TEST_GUARD) / 64 * 64 + 64);
    if (!memory) abort();
    memset(memory + scratch, 0xa5, TEST_GUARD);
    for (uint32_t tile = tiles; tile-- > 0;) {
        memset(memory, 0xff, scratch);
        fn(a->arena, a->at, tile, memory);
    }
    test_guard(name, "scratch", 0, memory + scratch);
    for (uint32_t i = 0; i < a->n; i++) test_guard(name, "argument", i, a->arena + a->at[i] + a->bytes[i]);
    free(memory);
}

/* Uniform in [-1, 1), a stream per state. */
static inline float test_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (float)((double)((z ^ (z >> 31)) >> 40) * 0x1p-23 - 1);
}

static inline void test_fill(float *x, int64_t n, uint64_t *state) {
    for (int64_t i = 0; i < n; i++) x[i] = test_random(state);
}

/* Turns n f32 into an array of bf16 in their place. */
static inline void test_to_bf16(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float rounded = bf16_round(x[i]);
        memcpy((char *)x + 2 * i, (char *)&rounded + 2, 2);
    }
}

/* The other way, into the same room. */
static inline void test_from_bf16(float *x, int64_t n) {
    for (int64_t i = n; i-- > 0;) {
        float wide = 0;
        memcpy((char *)&wide + 2, (char *)x + 2 * i, 2);
        x[i] = wide;
    }
}

/* Random codes and scales of t2[rows,cols] into `at`, their weights into w[rows,cols]. No group is all 0: its
 * scale could not be told from the weights. */
static inline void test_fill_ternary(unsigned char *at, double *w, int64_t rows, int64_t cols, int64_t group,
                         uint64_t *state) {
    TernaryLayout l = ternary_layout(rows, cols, group);
    memset(at, 0x55, (size_t)(rows * l.row_bytes));
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < l.groups; i++) {
            unsigned fraction = (unsigned)((test_random(state) + 1) * 512),
                     exponent = 9 + (unsigned)((r + i) % 3);
            uint16_t half = (uint16_t)(exponent << 10 | fraction);
            memcpy(at + l.scales_at + 2 * (r * l.groups + i), &half, 2);
            for (int64_t j = i * group; j < cols && j < (i + 1) * group; j++) {
                int code = j == i * group ? 1 : (int)floorf((test_random(state) + 1) * 1.5f) - 1;
                unsigned char *byte = at + r * l.row_bytes + j / 4;
                *byte = (unsigned char)((*byte & ~(3 << 2 * (j % 4))) | (code + 1) << 2 * (j % 4));
                w[r * cols + j] = code * ldexp(1024 + fraction, (int)exponent - 25);
            }
        }
    }
}

/* |x - ref| / |ref| in the 2-norm; NaN where x has one. */
static inline double test_error(const float *x, const double *ref, int64_t n) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += (x[i] - ref[i]) * (x[i] - ref[i]);
        norm += ref[i] * ref[i];
    }
    return norm > 0 ? sqrt(diff / norm) : sqrt(diff);
}

#endif
