/* How fast the generated kernels are on this machine, against the peaks measured in the same run.
 *
 *     bench [--json] [--threads N] [--gemm M,K,N]... [--attention B,S,H,G,D]...
 *
 * --gemm M,K,N: the three products of a ternary linear layer with M tokens, K inputs and N outputs:
 * tmatmul-fwd y = x w^T, tmatmul-dx = dy w (both decode packed 2-bit weights; also in int16, whose share is
 * that of the peak of int16 products) and matmul-dw = dy^T x (f32). Up to four tokens also as decoding does
 * it (gemv), whose share is that of reading memory. Names are WHAT/PRECISION/MxKxN of the product. Times are
 * the best of several runs.
 * --json: one object a line: what, seconds, gflops or gb_per_s, peak_share (0 .. 1); run.sh says what they
 * mean. */
#include "../../codegen/gemm.h"
#include "../kernel_test.h"
#include <getopt.h>
#include <omp.h>
#include <time.h>

enum { MAX_SHAPES = 32, MIN_RUNS = 3, PEAK_STEPS = 1 << 18 };
static const double min_seconds = 0.5;

typedef struct Shape {
    bool attention;
    int64_t v[5];
} Shape;

typedef struct Options {
    bool json;
    int threads;
    int shapes;
    Shape shape[MAX_SHAPES];
} Options;

typedef struct Report {
    const Options *options;
    double peak, peak_i16; /* FLOP/s of all threads: FMA; products of int16 added up in 32 bits */
    double bandwidth;      /* bytes/s of all threads reading memory */
} Report;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Best seconds of a launch, its tiles shared by `threads` threads. */
static double time_launch(tbc_kernel_fn *fn, const TestArgs *a, uint32_t tiles, uint64_t scratch,
                          int threads) {
    double best = INFINITY, begin = now();
    for (int run = 0; run < MIN_RUNS || now() - begin < min_seconds; run++) {
        double start = now();
#pragma omp parallel num_threads(threads)
        {
            char *memory = aligned_alloc(64, scratch / 64 * 64 + 64);
#pragma omp for schedule(dynamic, 1)
            for (uint32_t tile = 0; tile < tiles; tile++) fn(a->arena, a->at, tile, memory);
            free(memory);
        }
        best = fmin(best, now() - start);
    }
    return best;
}

/* One measured thing: its work (FLOP, or bytes of memory) a run, and the peak that it is a share of, 0: is
 * one. */
static void report(const Report *r, const char *what, bool bytes, double work, double seconds, double peak) {
    double rate = work / seconds / 1e9, share = peak ? work / seconds / peak : 1;
    if (r->options->json)
        printf("{\"what\": \"%s\", \"seconds\": %.6g, \"%s\": %.2f, \"peak_share\": %.4f}\n", what, seconds,
               bytes ? "gb_per_s" : "gflops", rate, share);
    else
        printf("%-44s %10.3f ms %8.1f %s %6.1f %%\n", what, seconds * 1e3, rate,
               bytes ? "GB/s   " : "GFLOP/s", 100 * share);
    fflush(stdout);
}

/* A kernel that does nothing but PEAK_STEPS fused multiply-adds on each of as many accumulators as the
 * micro-kernel has; or as many products of pairs of int16 and additions. */
static void gen_peak(Gen *g, bool i16) {
    int count = g->target->mr * g->target->nr / g->target->vl;
    LLVMTypeRef elem = i16 ? g->i32 : g->f32, vec = gen_vec(g, elem, g->target->vl);
    LLVMValueRef acc[64];
    gen_kernel(g, "peak");
    LLVMValueRef out = gen_buffer(g, 0), x = gen_load(g, vec, out);
    for (int i = 0; i < count; i++) gen_store(g, x, acc[i] = gen_alloca(g, vec, "acc"));
    Loop loop = gen_loop(g, gen_i64(g, 0), gen_i64(g, PEAK_STEPS), 1, "step");
    for (int i = 0; i < count; i++) {
        LLVMValueRef sum = gen_load(g, vec, acc[i]);
        gen_store(g, i16 ? LLVMBuildAdd(g->b, sum, i16_multiply_pairs(g, sum, x), "") : gen_fma(g, x, x, sum),
                  acc[i]);
    }
    gen_loop_end(g, &loop);
    for (int i = 1; i < count; i++) {
        LLVMValueRef a = gen_load(g, vec, acc[0]), b = gen_load(g, vec, acc[i]);
        gen_store(g, i16 ? LLVMBuildAdd(g->b, a, b, "") : LLVMBuildFAdd(g->b, a, b, ""), acc[0]);
    }
    LLVMValueRef lane = gen_mul(g, gen_add(g, g->tile, gen_i64(g, 1)), g->target->vl);
    gen_store(g, gen_load(g, vec, acc[0]), gen_at(g, elem, out, lane));
    gen_end(g);
}

/* FLOP/s of all threads. */
static double bench_peak(const Report *r, const Target *t, int threads, bool i16) {
    Gen *g = gen_new(t, "bench");
    gen_peak(g, i16);
    void *so = test_load(g);
    TestArgs a = test_args(1 << 16);
    test_arg(&a, (uint64_t)(4 * t->vl * (threads + 1)));
    double seconds = time_launch(test_kernel(so, "peak"), &a, (uint32_t)threads, 0, threads);
    test_args_free(&a);
    dlclose(so);
    double flops = (i16 ? 4.0 : 2.0) * t->mr * t->nr * PEAK_STEPS * threads;
    char what[32];
    snprintf(what, sizeof what, "peak/%s/%d-thread%s", i16 ? "i16" : "f32", threads, threads > 1 ? "s" : "");
    report(r, what, false, flops, seconds, 0);
    return flops / seconds;
}

/* Bytes/s of all threads summing an array that no cache holds. */
static double bench_bandwidth(const Report *r, int threads) {
    const int64_t n = INT64_C(1) << 26;
    float *at = aligned_alloc(64, (size_t)n * sizeof *at);
    double best = INFINITY;
    float sum = 0;
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) at[i] = 1;
    for (int run = 0; run < MIN_RUNS; run++) {
        double start = now();
#pragma omp parallel for simd num_threads(threads) reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += at[i];
        best = fmin(best, now() - start);
    }
    if (sum == 0) abort(); /* or the loop could go */
    free(at);
    report(r, "peak/memory-read", true, 4.0 * (double)n, best, 0);
    return 4.0 * (double)n / best;
}

/* Fills the buffer with random numbers; as packed ternary weights where `group` is not 0. */
static void add_matrix(TestArgs *a, int64_t rows, int64_t cols, int64_t group, uint64_t *state) {
    if (!group) {
        test_fill(test_arg(a, (uint64_t)(4 * rows * cols)), rows * cols, state);
        return;
    }
    TernaryLayout l = ternary_layout(rows, cols, group);
    unsigned char *at = test_arg(a, (uint64_t)l.bytes);
    for (int64_t i = 0; i < rows * l.row_bytes; i++) at[i] = 0x98; /* codes -1, 1, 0, 1 */
    uint16_t half = 0x2c00;                                        /* 1/16 */
    for (int64_t i = 0; i < rows * l.groups; i++) memcpy(at + l.scales_at + 2 * i, &half, 2);
}

static void bench_gemm(Report *r, const Target *t, const char *what, const GemmDesc *d, bool i16) {
    Gen *g = gen_new(t, "bench");
    (i16 ? gen_gemm_i16 : gen_gemm)(g, "gemm", d);
    void *so = test_load(g);
    bool nk = d->b == GEMM_B_T2_NK;
    uint64_t state = 1;
    TestArgs a = test_args((uint64_t)(4 * (d->m * d->k + d->k * d->n + d->m * d->n) + (1 << 16)));
    add_matrix(&a, d->m, d->k, 0, &state);
    add_matrix(&a, nk ? d->n : d->k, nk ? d->k : d->n, d->group, &state);
    add_matrix(&a, d->m, d->n, 0, &state);
    double seconds = time_launch(test_kernel(so, "gemm"), &a, (i16 ? gemm_i16_tiles : gemm_tiles)(d, t),
                                 (i16 ? gemm_i16_scratch : gemm_scratch)(d, t), r->options->threads);
    char name[96];
    snprintf(name, sizeof name, "%s/%s/%lldx%lldx%lld", what, i16 ? "i16" : "f32", (long long)d->m,
             (long long)d->k, (long long)d->n);
    report(r, name, false, 2.0 * (double)d->m * (double)d->n * (double)d->k, seconds,
           i16 ? r->peak_i16 : r->peak);
    test_args_free(&a);
    dlclose(so);
}

/* Decoding: `tokens` rows in one pass over the codes. */
static void bench_gemv(Report *r, const Target *t, const GemvDesc *d) {
    Gen *g = gen_new(t, "bench");
    gen_gemv(g, "gemv", d);
    void *so = test_load(g);
    int64_t bytes = ternary_layout(d->n, d->k, d->group).bytes;
    TestArgs a = test_args((uint64_t)(4 * d->m * (d->n + d->k) + bytes + (1 << 16)));
    uint64_t state = 1;
    add_matrix(&a, d->m, d->k, 0, &state);
    add_matrix(&a, d->n, d->k, d->group, &state);
    add_matrix(&a, d->m, d->n, 0, &state);
    double seconds =
        time_launch(test_kernel(so, "gemv"), &a, gemv_tiles(d, t), gemv_scratch(d, t), r->options->threads);
    char name[96];
    snprintf(name, sizeof name, "gemv/f32/%lldx%lldx%lld", (long long)d->m, (long long)d->k, (long long)d->n);
    report(r, name, true, (double)bytes, seconds, r->bandwidth);
    test_args_free(&a);
    dlclose(so);
}

static void bench_layer(Report *r, const Target *t, int64_t tokens, int64_t in, int64_t out) {
    GemvDesc few = {tokens, out, in, 128};
    if (gemv_fits(&few)) bench_gemv(r, t, &few);
    GemmDesc forward = {tokens, out, in, false, GEMM_B_T2_NK, 128, false};
    GemmDesc backward = {tokens, in, out, false, GEMM_B_T2_KN, 128, false};
    bench_gemm(r, t, "tmatmul-fwd", &forward, false);
    bench_gemm(r, t, "tmatmul-fwd", &forward, true);
    bench_gemm(r, t, "tmatmul-dx", &backward, false);
    bench_gemm(r, t, "tmatmul-dx", &backward, true);
    bench_gemm(r, t, "matmul-dw", &(GemmDesc){out, in, tokens, true, GEMM_B_KN, 0, false}, false);
}

/* Causal attention: half of the scores, two products forward, five backward. */
static void bench_attention(Report *r, const Target *t, const AttnDesc *d) {
    Gen *g = gen_new(t, "bench");
    gen_attention(g, "forward", d);
    gen_attention_grad(g, "grad", d);
    void *so = test_load(g);
    int64_t rows = d->b * d->s, q = rows * d->h * d->d, kv = rows * d->g * d->d, stats = rows * d->h;
    TestArgs forward = test_args((uint64_t)(4 * (2 * q + 2 * kv + stats) + (1 << 16)));
    TestArgs grad = test_args((uint64_t)(4 * (3 * q + 4 * kv + 2 * stats) + (1 << 16)));
    uint64_t state = 1;
    const int64_t sizes[] = {q, kv, kv, q, stats}, grad_sizes[] = {q, kv, kv, stats, q, stats, q, kv, kv};
    for (int i = 0; i < 5; i++) add_matrix(&forward, sizes[i], 1, 0, &state);
    for (int i = 0; i < 9; i++) add_matrix(&grad, grad_sizes[i], 1, 0, &state);
    for (int64_t i = 0; i < stats; i++) ((float *)(grad.arena + grad.at[3]))[i] = 7;
    double product = (double)(d->b * d->h * d->d) * (double)d->s * (double)(d->s + 1);
    const char *const names[] = {"attention-fwd", "attention-bwd"};
    for (int i = 0; i < 2; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s/f32/b%llds%lldh%lldg%lldd%lld", names[i], (long long)d->b,
                 (long long)d->s, (long long)d->h, (long long)d->g, (long long)d->d);
        uint32_t tiles = (i ? attention_grad_tiles : attention_tiles)(d, t);
        uint64_t scratch = (i ? attention_grad_scratch : attention_scratch)(d, t);
        double seconds = time_launch(test_kernel(so, i ? "grad" : "forward"), i ? &grad : &forward, tiles,
                                     scratch, r->options->threads);
        report(r, name, false, (i ? 5 : 2) * product, seconds, r->peak);
    }
    test_args_free(&forward);
    test_args_free(&grad);
    dlclose(so);
}

static void usage(void) {
    fprintf(stderr, "usage: bench [--json] [--threads N] [--gemm M,K,N]... [--attention B,S,H,G,D]...\n");
    exit(2);
}

/* "1,2,3" into n positive numbers. */
static void parse_shape(Options *o, bool attention, const char *text) {
    int n = attention ? 5 : 3;
    if (o->shapes == MAX_SHAPES) usage();
    Shape *s = &o->shape[o->shapes++];
    s->attention = attention;
    for (int i = 0; i < n; i++) {
        char *end;
        s->v[i] = strtol(text, &end, 10);
        if (end == text || s->v[i] < 1 || s->v[i] > 1 << 20 || *end != (i + 1 < n ? ',' : 0)) usage();
        text = end + 1;
    }
}

static Options parse_options(int argc, char **argv) {
    static const struct option table[] = {{"json", no_argument, NULL, 'j'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"gemm", required_argument, NULL, 'g'},
                                          {"attention", required_argument, NULL, 'a'},
                                          {NULL, 0, NULL, 0}};
    Options o = {.threads = omp_get_max_threads()};
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (c == 'j')
            o.json = true;
        else if (c == 't')
            o.threads = atoi(optarg);
        else if (c == 'g' || c == 'a')
            parse_shape(&o, c == 'a', optarg);
        else
            usage();
    }
    if (optind < argc || o.threads < 1 || o.threads > 256) usage();
    if (o.shapes == 0) {
        parse_shape(&o, false, "1024,1024,3072");
        parse_shape(&o, false, "2048,512,1536");
        parse_shape(&o, true, "2,512,16,8,128");
        parse_shape(&o, true, "8,256,8,4,64");
    }
    return o;
}

int main(int argc, char **argv) {
    Options o = parse_options(argc, argv);
    const Target *t = test_target(NULL);
    Report r = {.options = &o};
    if (!o.json) printf("%s (%s), %d threads\n", t->cpu, t->level, o.threads);
    if (o.threads > 1) bench_peak(&r, t, 1, false);
    r.peak = bench_peak(&r, t, o.threads, false);
    r.peak_i16 = bench_peak(&r, t, o.threads, true);
    r.bandwidth = bench_bandwidth(&r, o.threads);
    for (int i = 0; i < o.shapes; i++) {
        const int64_t *v = o.shape[i].v;
        if (o.shape[i].attention)
            bench_attention(&r, t, &(AttnDesc){v[0], v[1], v[2], v[3], v[4], 1 / sqrt((double)v[4])});
        else
            bench_layer(&r, t, v[0], v[1], v[2]);
    }
    return 0;
}
