/* How fast the generated kernels are on this machine, against the peaks measured in the same run.
 *
 *     bench [--json] [--threads N] [--gemm M,K,N]... [--attention B,S,H,G,D]...
 *
 * --gemm M,K,N: the three products of a ternary linear layer with M tokens, K inputs and N outputs:
 * tmatmul-fwd y = x w^T and tmatmul-dx = dy w (both from packed 2-bit weights) in f32, bf16 and int16, and
 * matmul-dw = dy^T x in f32 and bf16, also with AdamW and new codes as its epilogue (matmul-dw-adamw; -apart:
 * in three kernels instead), each as a share of the peak of such multiply-adds, which products by look-up may
 * exceed. Up to four tokens as decoding
 * does it (gemv), as a share of reading memory. Names are WHAT/PRECISION/MxKxN of the product. Times are the
 * best of several runs, in two rounds over everything: what else the machine does for some seconds passes by.
 * --json: one object a line: what, seconds, gflops or gb_per_s, peak_share (0 .. 1); run.sh says what they
 * mean. */
#include "../../codegen/x86/gemm.h"
#include "../kernel_test.h"
#include <getopt.h>
#include <omp.h>
#include <sys/mman.h>
#include <time.h>

enum { MAX_SHAPES = 32, MAX_RESULTS = 1024, ROUNDS = 2, MIN_RUNS = 2, MAX_THREADS = 256 };
static const double min_seconds = 0.25;

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
    double peak[PANELS_I16 + 1]; /* FLOP/s of all threads, by type of products */
    double bandwidth;            /* bytes/s of all threads reading memory */
    int round, results;          /* of this round so far */
    double seconds[MAX_RESULTS]; /* the best of each until now; results come in the same order in each round */
} Report;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Memory in huge pages, where there are any, as tbc-run has it. */
static char *room_for(uint64_t bytes) {
    const uint64_t page = 2u << 20, size = (bytes / page + 1) * page;
    char *at = aligned_alloc(page, size);
    if (!at) abort();
    madvise(at, size, MADV_HUGEPAGE);
    return at;
}

static TestArgs args(uint64_t bytes) {
    return (TestArgs){.arena = room_for(bytes), .room = bytes};
}

typedef struct Launch {
    tbc_kernel_fn *fn;
    const TestArgs *args;
    uint32_t tiles;
    uint64_t scratch;
} Launch;

/* Best seconds of n launches in a row, the tiles of each shared by `threads` threads. */
static double time_launches(const Launch *launches, int n, int threads) {
    double best = INFINITY, begin = now();
    uint64_t scratch = 0;
    char *memory[MAX_THREADS];
    for (int i = 0; i < n; i++) scratch = launches[i].scratch > scratch ? launches[i].scratch : scratch;
    for (int i = 0; i < threads; i++) memory[i] = room_for(scratch);
    for (int run = 0; run < MIN_RUNS || now() - begin < min_seconds; run++) {
        double start = now();
        for (const Launch *l = launches; l < launches + n; l++) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
            for (uint32_t tile = 0; tile < l->tiles; tile++)
                l->fn(l->args->arena, l->args->at, tile, memory[omp_get_thread_num()]);
        }
        best = fmin(best, now() - start);
    }
    for (int i = 0; i < threads; i++) free(memory[i]);
    return best;
}

static double time_launch(tbc_kernel_fn *fn, const TestArgs *a, uint32_t tiles, uint64_t scratch,
                          int threads) {
    return time_launches(&(Launch){fn, a, tiles, scratch}, 1, threads);
}

/* One measured thing: its work (FLOP, or bytes of memory) a run, and the peak that it is a share of, 0: is
 * one. Printed in the last round. Returns the work a second. */
static double report(Report *r, const char *what, bool bytes, double work, double seconds, double peak) {
    if (r->results == MAX_RESULTS) abort();
    double *best = &r->seconds[r->results++];
    if (r->round == 0 || seconds < *best) *best = seconds;
    double speed = work / *best, rate = speed / 1e9, share = peak ? speed / peak : 1;
    if (r->round < ROUNDS - 1) return speed;
    if (r->options->json)
        printf("{\"what\": \"%s\", \"seconds\": %.6g, \"%s\": %.2f, \"peak_share\": %.4f}\n", what, *best,
               bytes ? "gb_per_s" : "gflops", rate, share);
    else
        printf("%-44s %10.3f ms %8.1f %s %6.1f %%\n", what, *best * 1e3, rate, bytes ? "GB/s   " : "GFLOP/s",
               100 * share);
    fflush(stdout);
    return speed;
}

/* FLOP/s of all threads. */
static double bench_peak(Report *r, const Target *t, int threads, PanelType type) {
    static const char *const name[] = {"f32", "bf16", "i16"};
    const PeakDesc d = {.type = type};
    Gen *g = gen_new(t, "bench");
    gen_peak(g, "peak", &d);
    void *so = test_load(g);
    TestArgs a = args(64);
    double seconds =
        time_launch(test_kernel(so, "peak"), &a, peak_tiles(&d, t), peak_scratch(&d, t), threads);
    test_args_free(&a);
    dlclose(so);
    char what[32];
    snprintf(what, sizeof what, "peak/%s/%d-thread%s", name[type], threads, threads > 1 ? "s" : "");
    return report(r, what, false, (double)peak_flops(&d, t), seconds, 0);
}

/* Bytes/s of all threads summing an array that no cache holds. */
static double bench_bandwidth(Report *r, int threads) {
    const int64_t n = INT64_C(1) << 26;
    float *at = aligned_alloc(64, (size_t)n * sizeof *at);
    double best = INFINITY;
    float sum = 0;
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) at[i] = 1;
    for (int run = 0; run < 2 * MIN_RUNS; run++) {
        double start = now();
#pragma omp parallel for simd num_threads(threads) reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += at[i];
        best = fmin(best, now() - start);
    }
    if (sum == 0) abort(); /* or the loop could go */
    free(at);
    return report(r, "peak/memory-read", true, 4.0 * (double)n, best, 0);
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

/* The three forms of a product. */
static const struct {
    const char *name;
    void (*generate)(Gen *, const char *, const GemmDesc *);
    uint32_t (*tiles)(const GemmDesc *, const Target *);
    uint64_t (*scratch)(const GemmDesc *, const Target *);
} forms[] = {[PANELS_F32] = {"f32", gen_gemm, gemm_tiles, gemm_scratch},
             [PANELS_BF16] = {"bf16", gen_gemm_bf16, gemm_bf16_tiles, gemm_bf16_scratch},
             [PANELS_I16] = {"i16", gen_gemm_i16, gemm_i16_tiles, gemm_i16_scratch}};

static void bench_gemm(Report *r, const Target *t, const char *what, const GemmDesc *d,
                       PanelType type) {
    Gen *g = gen_new(t, "bench");
    forms[type].generate(g, "gemm", d);
    void *so = test_load(g);
    bool nk = d->b == GEMM_B_T2_NK;
    uint64_t state = 1;
    TestArgs a = args((uint64_t)(4 * (d->m * d->k + d->k * d->n + d->m * d->n) + (1 << 16)));
    add_matrix(&a, d->m, d->k, 0, &state);
    add_matrix(&a, nk ? d->n : d->k, nk ? d->k : d->n, d->group, &state);
    add_matrix(&a, d->m, d->n, 0, &state);
    double seconds = time_launch(test_kernel(so, "gemm"), &a, forms[type].tiles(d, t),
                                 forms[type].scratch(d, t), r->options->threads);
    char name[96];
    snprintf(name, sizeof name, "%s/%s/%lldx%lldx%lld", what, forms[type].name, (long long)d->m,
             (long long)d->k, (long long)d->n);
    report(r, name, false, 2.0 * (double)d->m * (double)d->n * (double)d->k, seconds, r->peak[type]);
    test_args_free(&a);
    dlclose(so);
}

/* Decoding: `tokens` rows in one pass over the codes. */
static void bench_gemv(Report *r, const Target *t, const GemvDesc *d) {
    Gen *g = gen_new(t, "bench");
    gen_gemv(g, "gemv", d);
    void *so = test_load(g);
    int64_t bytes = ternary_layout(d->n, d->k, d->group).bytes;
    TestArgs a = args((uint64_t)(4 * d->m * (d->n + d->k) + bytes + (1 << 16)));
    uint64_t state = 1;
    add_matrix(&a, d->m, d->k, 0, &state);
    add_matrix(&a, d->n, d->k, d->group, &state);
    add_matrix(&a, d->m, d->n, 0, &state);
    double seconds =
        time_launch(test_kernel(so, "gemv"), &a, gemv_tiles(d, t), gemv_scratch(d, t), r->options->threads);
    char name[96];
    snprintf(name, sizeof name, "gemv/%s/%lldx%lldx%lld", d->i16 ? "i16" : "f32", (long long)d->m, (long long)d->k, (long long)d->n);
    report(r, name, true, (double)bytes, seconds, r->bandwidth);
    test_args_free(&a);
    dlclose(so);
}

/* The update of a layer's weight: from activations and their gradients to new weights, moments and codes, in
 * one kernel and in the three that it replaces. Both count the FLOP of the product alone. */
static void bench_update(Report *r, const Target *t, const GemmAdamwDesc *d) {
    GemmDesc product = {d->m, d->n, d->k, true, GEMM_B_KN, 0, false, false};
    PanelType type = d->bf16 ? PANELS_BF16 : PANELS_F32;
    AdamwDesc adamw = {d->m * d->n, d->beta1, d->beta2, d->eps, false};
    TernaryDesc ternary = {d->m, d->n, d->group};
    Gen *g = gen_new(t, "bench");
    gen_gemm_adamw(g, "fused", d);
    forms[type].generate(g, "gemm", &product);
    gen_adamw(g, "adamw", &adamw);
    gen_ternary(g, "ternary", &ternary);
    void *so = test_load(g);
    int64_t count = d->m * d->n;
    TestArgs a = args((uint64_t)(4 * (d->m * d->k + d->k * d->n + 5 * count) + (1 << 16)));
    uint64_t state = 1;
    add_matrix(&a, d->k, d->m, 0, &state);
    add_matrix(&a, d->k, d->n, 0, &state);
    for (int i = 0; i < 3; i++) add_matrix(&a, d->m, d->n, 0, &state); /* w, m, v */
    float *v = (float *)(a.arena + a.at[4]), hyper[] = {1, 1e-4f, 1, 1};
    for (int64_t i = 0; i < count; i++) v[i] = v[i] * v[i] + 1e-3f;
    memcpy(test_arg(&a, sizeof hyper), hyper, sizeof hyper);
    add_matrix(&a, d->m, d->n, d->group, &state);
    add_matrix(&a, d->m, d->n, 0, &state); /* the gradient */
    TestArgs gemm_args = {.arena = a.arena, .at = {a.at[0], a.at[1], a.at[7]}};
    TestArgs adamw_args = {.arena = a.arena, .at = {a.at[2], a.at[7], a.at[3], a.at[4], a.at[5]}};
    TestArgs ternary_args = {.arena = a.arena, .at = {a.at[2], a.at[6]}};
    const Launch fused[] = {{test_kernel(so, "fused"), &a, gemm_adamw_tiles(d, t), gemm_adamw_scratch(d, t)}};
    const Launch apart[] = {{test_kernel(so, "gemm"), &gemm_args, forms[type].tiles(&product, t),
                             forms[type].scratch(&product, t)},
                            {test_kernel(so, "adamw"), &adamw_args, adamw_tiles(&adamw, t), 0},
                            {test_kernel(so, "ternary"), &ternary_args, ternary_tiles(&ternary, t), 0}};
    for (int i = 0; i < 2; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s/%s/%lldx%lldx%lld", i ? "matmul-dw-adamw-apart" : "matmul-dw-adamw",
                 forms[type].name, (long long)d->m, (long long)d->k, (long long)d->n);
        double seconds =
            i ? time_launches(apart, 3, r->options->threads) : time_launches(fused, 1, r->options->threads);
        report(r, name, false, 2.0 * (double)count * (double)d->k, seconds, r->peak[type]);
    }
    test_args_free(&a);
    dlclose(so);
}

static void bench_layer(Report *r, const Target *t, int64_t tokens, int64_t in, int64_t out) {
    GemvDesc few[] = {{tokens, out, in, 128, false}, {tokens, out, in, 128, true}};
    if (gemv_fits(few)) {
        for (int i = 0; i < 2; i++) bench_gemv(r, t, &few[i]);
        return;
    }
    GemmDesc forward = {tokens, out, in, false, GEMM_B_T2_NK, 128, false, false};
    GemmDesc backward = {tokens, in, out, false, GEMM_B_T2_KN, 128, false, false};
    const GemmDesc weights = {out, in, tokens, true, GEMM_B_KN, 0, false, false};
    for (PanelType type = PANELS_F32; type <= PANELS_I16; type++) {
        bench_gemm(r, t, "tmatmul-fwd", &forward, type);
        bench_gemm(r, t, "tmatmul-dx", &backward, type);
        if (type == PANELS_I16) continue;
        bench_gemm(r, t, "matmul-dw", &weights, type);
        bench_update(r, t, &(GemmAdamwDesc){out, in, tokens, 128, type == PANELS_BF16, false, false, false, 0.9, 0.95, 1e-8});
    }
}

/* Causal attention: half of the scores, two products forward, five backward. */
static void bench_attention(Report *r, const Target *t, const AttnDesc *d) {
    Gen *g = gen_new(t, "bench");
    gen_attention(g, "forward", d);
    gen_attention_grad(g, "grad", d);
    void *so = test_load(g);
    int64_t rows = d->b * d->s, q = rows * d->h * d->d, kv = rows * d->g * d->d, stats = rows * d->h;
    TestArgs forward = args((uint64_t)(4 * (2 * q + 2 * kv + stats) + (1 << 16)));
    TestArgs grad = args((uint64_t)(4 * (3 * q + 4 * kv + 2 * stats) + (1 << 16)));
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
        report(r, name, false, (i ? 5 : 2) * product, seconds, r->peak[PANELS_F32]);
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
    if (optind < argc || o.threads < 1 || o.threads > MAX_THREADS) usage();
    if (o.shapes == 0) {
        parse_shape(&o, false, "1024,1024,3072");
        parse_shape(&o, false, "2048,512,1536");
        parse_shape(&o, true, "2,512,16,8,128");
        parse_shape(&o, true, "8,256,8,4,64");
    }
    return o;
}

static void bench_round(Report *r, const Target *t) {
    const Options *o = r->options;
    r->results = 0;
    if (o->threads > 1) bench_peak(r, t, 1, PANELS_F32);
    for (PanelType type = PANELS_F32; type <= PANELS_I16; type++)
        r->peak[type] = bench_peak(r, t, o->threads, type);
    r->bandwidth = bench_bandwidth(r, o->threads);
    for (int i = 0; i < o->shapes; i++) {
        const int64_t *v = o->shape[i].v;
        if (o->shape[i].attention)
            bench_attention(r, t, &(AttnDesc){v[0], v[1], v[2], v[3], v[4], 1 / sqrt((double)v[4]), 0});
        else
            bench_layer(r, t, v[0], v[1], v[2]);
    }
}

int main(int argc, char **argv) {
    Options o = parse_options(argc, argv);
    const Target *t = test_target(NULL);
    Report r = {.options = &o};
    if (!o.json) printf("%s (%s), %d threads\n", t->cpu, t->level, o.threads);
    for (r.round = 0; r.round < ROUNDS; r.round++) bench_round(&r, t);
    return 0;
}
