/* Kernels around the big ones: ternary projection and decoding (bit for bit), embedding and its gradient,
 * AdamW, sums over rows, copies. */
#include "device_test.h"
#include "suite.h"

/* Loop tests come once for each device. */

/* ---- ternary: codes and scales are exactly ternary_group's, padding included */

typedef struct Matrix {
    int64_t rows, cols, group;
} Matrix;

static const Matrix matrices[] = {
    {1, 1, 128},  {3, 16, 16},     {2, 15, 128},    {5, 128, 128}, {7, 576, 128}, {4, 200, 64},
    {3, 100, 48}, {3, 100, 7},     {2, 33, 1},      {5, 256, 250}, {2, 64, 100},  {9, 37, 5},
    {3, 48, 32},  {300, 384, 128}, {64, 1000, 128}, {3, 129, 128}, {2, 97, 96},   {11, 12, 4},
};
enum { MATRICES = sizeof matrices / sizeof *matrices };

/* Weights of all magnitudes, with groups of zeros, tiny and huge values, and ties of w/s = 1/2. */
static void fill_weights(float *w, const Matrix *m, uint64_t *rng) {
    static const float magnitude[] = {1,      0.02f,  1e-3f, 3e-5f, 1e-7f, 2e-8f,
                                      1e-20f, 1e-42f, 0,     4e4f,  1e6f,  1e30f};
    for (int64_t i = 0; i < m->rows * m->cols; i++) {
        int64_t row = i / m->cols, col = i % m->cols;
        uint64_t kind = (uint64_t)(row + col / m->group) % 14;
        float x = test_random(rng);
        if (kind < 12)
            w[i] = x * magnitude[kind];
        else if (kind == 12) /* all of the same size: s is that, or what f16 makes of it */
            w[i] = x < 0 ? -0.625f : 0.625f;
        else /* the mean is 1/2 exactly, and many weights are 1/4 */
            w[i] = (col % 2 ? 0.25f : 0.75f) * (x < 0 ? -1 : 1);
    }
}

static void pack_reference(const float *w, const Matrix *m, unsigned char *t2, float *decoded) {
    TernaryLayout layout = ternary_layout(m->rows, m->cols, m->group);
    int8_t *codes = calloc((size_t)m->cols, 1);
    for (int64_t r = 0; r < m->rows; r++) {
        memset(t2 + r * layout.row_bytes, 0x55, (size_t)layout.row_bytes);
        for (int64_t k = 0; k < layout.groups; k++) {
            int64_t first = k * m->group, n = m->cols - first < m->group ? m->cols - first : m->group;
            float s = ternary_group(w + r * m->cols + first, n, codes);
            uint16_t half = f16_from_f32(s);
            memcpy(t2 + layout.scales_at + (r * layout.groups + k) * 2, &half, 2);
            for (int64_t j = first; j < first + n; j++) {
                int shift = 2 * (int)(j % 4);
                unsigned char *byte = &t2[r * layout.row_bytes + j / 4];
                *byte = (unsigned char)((*byte & ~(3 << shift)) | (codes[j - first] + 1) << shift);
                decoded[r * m->cols + j] = codes[j - first] * s;
            }
        }
    }
    free(codes);
}

static bool same_floats(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!(a[i] == b[i]) && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}

START_TEST(test_ternary) {
    const Matrix *m = &matrices[_i % MATRICES];
    Gen *g = test_device_gen((TestDevice)(_i / MATRICES));
    KernelSize pack = TEST_EMIT(g, "pack", ternary, {m->rows, m->cols, m->group});
    KernelSize unpack = TEST_EMIT(g, "unpack", decode, {m->rows, m->cols, m->group});
    TestModule module = test_module(g);
    TernaryLayout layout = ternary_layout(m->rows, m->cols, m->group);
    uint64_t floats = (uint64_t)(m->rows * m->cols) * 4, bytes = (uint64_t)layout.bytes, rng = 3;
    TestArgs a = test_args(floats + bytes + 4096), b = test_args(floats + bytes + 4096);
    float *w = test_arg(&a, floats);
    unsigned char *t2 = test_arg(&a, bytes), *packed = test_arg(&b, bytes);
    float *out = test_arg(&b, floats), *expected = malloc(floats);
    fill_weights(w, m, &rng);
    test_launch(&module, "pack", &a, pack);
    pack_reference(w, m, packed, expected);
    uint64_t codes = (uint64_t)(m->rows * layout.row_bytes), scales = (uint64_t)(m->rows * layout.groups * 2);
    ck_assert_msg(memcmp(t2, packed, codes) == 0, "codes differ");
    ck_assert_msg(memcmp(t2 + layout.scales_at, packed + layout.scales_at, scales) == 0, "scales differ");
    test_launch(&module, "unpack", &b, unpack);
    ck_assert_msg(same_floats(out, expected, m->rows * m->cols), "decoded values differ");
    free(expected);
    test_args_free(&a), test_args_free(&b);
    test_module_free(&module);
}
END_TEST

/* Weights of ste_clip are those of test_ternary; where w/s is large, f16 has made s of it or infinity. */
START_TEST(test_ste_clip) {
    const Matrix *m = &matrices[_i % MATRICES];
    Gen *g = test_device_gen((TestDevice)(_i / MATRICES));
    KernelSize size = TEST_EMIT(g, "clip", ste_clip, {m->rows, m->cols, m->group});
    TestModule module = test_module(g);
    TernaryLayout layout = ternary_layout(m->rows, m->cols, m->group);
    int64_t n = m->rows * m->cols;
    uint64_t bytes = (uint64_t)layout.bytes, rng = 5;
    TestArgs a = test_args(bytes + 2 * (uint64_t)n * 4 + 4096);
    unsigned char *t2 = test_arg(&a, bytes);
    float *w = test_arg(&a, (uint64_t)n * 4), *dy = test_arg(&a, (uint64_t)n * 4);
    float *expected = malloc((size_t)n * 4);
    fill_weights(w, m, &rng);
    pack_reference(w, m, t2, expected);
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, t2 + layout.scales_at + (i / m->cols * layout.groups + i % m->cols / m->group) * 2, 2);
        if (i % 5 == 0) w[i] = f32_from_f16(half); /* at the bound */
        dy[i] = test_random(&rng);
        expected[i] = fabsf(w[i]) <= f32_from_f16(half) ? dy[i] : 0;
    }
    test_launch(&module, "clip", &a, size);
    ck_assert(memcmp(dy, expected, (size_t)n * 4) == 0);
    free(expected);
    test_args_free(&a);
    test_module_free(&module);
}
END_TEST

/* Around the bound |w| = s/2, for every f16 scale: the kernel's comparison is the rounded division. */
START_TEST(test_ties) {
    enum { SCALES = 0x7c00, COLS = 16 };
    static const Matrix m = {SCALES, COLS, COLS};
    Gen *g = test_device_gen((TestDevice)_i);
    KernelSize size = TEST_EMIT(g, "pack", ternary, {m.rows, m.cols, m.group});
    TestModule module = test_module(g);
    TernaryLayout layout = ternary_layout(m.rows, m.cols, m.group);
    uint64_t bytes = (uint64_t)layout.bytes;
    TestArgs a = test_args(SCALES * COLS * 4 + bytes + 4096);
    float *w = test_arg(&a, SCALES * COLS * 4), *decoded = malloc(SCALES * COLS * 4);
    unsigned char *t2 = test_arg(&a, bytes), *packed = calloc(bytes, 1);
    for (int i = 0; i < SCALES; i++) {
        float s = f32_from_f16((uint16_t)i), *x = w + (int64_t)i * COLS, half = s / 2;
        /* Ten near s/2 and six that bring the mean back to about s. */
        for (int j = 0; j < COLS; j++) x[j] = (j % 2 ? -1 : 1) * (j < 10 ? half : s * 11 / 6);
        x[0] = half, x[1] = -half;
        x[2] = nextafterf(half, 2 * half), x[3] = -x[2];
        x[4] = nextafterf(half, 0), x[5] = -x[4];
    }
    test_launch(&module, "pack", &a, size);
    pack_reference(w, &m, packed, decoded);
    ck_assert(memcmp(t2, packed, (size_t)(m.rows * layout.row_bytes)) == 0);
    free(decoded), free(packed);
    test_args_free(&a);
    test_module_free(&module);
}
END_TEST

/* ---- embedding */

enum { TOKENS = 150 };

static void fill_tokens(int32_t *tokens, int64_t vocab, uint64_t *rng) {
    for (int i = 0; i < TOKENS; i++) tokens[i] = (int32_t)((test_random(rng) + 1) / 2.001f * (float)vocab);
}

static const EmbedDesc embeddings[] = {
    {TOKENS, 11, 1, 0},   {TOKENS, 300, 100, 0}, {TOKENS, 300, 64, 0},    {TOKENS, 17, 3, 128},
    {TOKENS, 64, 96, 48}, {TOKENS, 64, 96, 7},   {TOKENS, 151, 200, 128},
};
enum { EMBEDDINGS = sizeof embeddings / sizeof *embeddings };

START_TEST(test_embed) {
    const EmbedDesc *d = &embeddings[_i % EMBEDDINGS];
    const Matrix m = {d->vocab, d->n, d->group};
    Gen *g = test_device_gen((TestDevice)(_i / EMBEDDINGS));
    KernelSize size = TEST_EMIT(g, "embed", embed, *d);
    TestModule module = test_module(g);
    uint64_t floats = (uint64_t)(d->vocab * d->n) * 4, bytes = floats, rng = 5;
    if (d->group) bytes = (uint64_t)ternary_layout(d->vocab, d->n, d->group).bytes;
    TestArgs a = test_args(bytes + TOKENS * 4 * (uint64_t)(d->n + 1) + 4096);
    int32_t *tokens = test_arg(&a, TOKENS * 4);
    void *table = test_arg(&a, bytes);
    float *out = test_arg(&a, TOKENS * (uint64_t)d->n * 4), *values = malloc(floats), *w = malloc(floats);
    fill_tokens(tokens, d->vocab, &rng);
    test_fill(w, d->vocab * d->n, &rng);
    memcpy(d->group ? values : table, w, floats);
    if (d->group)
        pack_reference(w, &m, table, values);
    else
        memcpy(values, w, floats);
    test_launch(&module, "embed", &a, size);
    for (int t = 0; t < TOKENS; t++)
        ck_assert_msg(same_floats(out + t * d->n, values + tokens[t] * d->n, d->n), "token %d", t);
    free(values), free(w);
    test_args_free(&a);
    test_module_free(&module);
}
END_TEST

static const EmbedGradDesc embed_grads[] = {
    {TOKENS, 11, 1},   {TOKENS, 300, 100}, {TOKENS, 17, 64},
    {TOKENS, 900, 33}, {TOKENS, 1, 700},   {TOKENS, 4000, 256},
};
enum { EMBED_GRADS = sizeof embed_grads / sizeof *embed_grads };

START_TEST(test_embed_grad) {
    const EmbedGradDesc *d = &embed_grads[_i % EMBED_GRADS];
    Gen *g = test_device_gen((TestDevice)(_i / EMBED_GRADS));
    KernelSize size = TEST_EMIT(g, "embed_grad", embed_grad, *d);
    TestModule module = test_module(g);
    uint64_t floats = (uint64_t)(d->vocab * d->n) * 4, rng = 7;
    TestArgs a = test_args(floats + TOKENS * 4 * (uint64_t)(d->n + 1) + 4096);
    int32_t *tokens = test_arg(&a, TOKENS * 4);
    float *dy = test_arg(&a, TOKENS * (uint64_t)d->n * 4), *out = test_arg(&a, floats);
    float *expected = malloc(floats);
    fill_tokens(tokens, d->vocab, &rng);
    test_fill(dy, TOKENS * d->n, &rng);
    test_fill(out, d->vocab * d->n, &rng);
    memcpy(expected, out, floats);
    for (int t = 0; t < TOKENS; t++)
        for (int64_t j = 0; j < d->n; j++) expected[tokens[t] * d->n + j] += dy[t * d->n + j];
    test_launch(&module, "embed_grad", &a, size);
    ck_assert(memcmp(out, expected, floats) == 0); /* the order of additions is fixed */
    free(expected);
    test_args_free(&a);
    test_module_free(&module);
}
END_TEST

/* ---- AdamW */

static const int64_t counts[] = {1, 7, 64, 1000, 100003, 1 << 18};
enum { COUNTS = sizeof counts / sizeof *counts };

START_TEST(test_adamw) {
    static const float hyper[] = {0.995f, 0.02f, 1.5f, 0.25f};
    AdamwDesc d = {counts[_i % COUNTS], 0.9, 0.95, 1e-8, false};
    int64_t n = d.count;
    uint64_t bytes = (uint64_t)n * 4, rng = 11;
    Gen *g = test_device_gen((TestDevice)(_i / COUNTS));
    KernelSize size = TEST_EMIT(g, "adamw", adamw, d);
    TestModule module = test_module(g);
    TestArgs a = test_args(4 * bytes + 8192);
    float *buffer[4], *before[4]; /* w, g, m, v */
    for (int i = 0; i < 4; i++) {
        buffer[i] = test_arg(&a, bytes);
        test_fill(buffer[i], n, &rng);
        for (int64_t j = 0; i == 3 && j < n; j++) buffer[i][j] = fabsf(buffer[i][j]);
        if (i > 0) buffer[i][n / 2] = 0; /* no gradient yet: no change but the decay */
        before[i] = malloc(bytes);
        memcpy(before[i], buffer[i], bytes);
    }
    float *given = test_arg(&a, 16);
    given[0] = NAN; /* no update */
    test_launch(&module, "adamw", &a, size);
    for (int i = 0; i < 4; i++) ck_assert(memcmp(buffer[i], before[i], bytes) == 0);
    memcpy(given, hyper, 16);
    test_launch(&module, "adamw", &a, size);
    for (int64_t j = 0; j < n; j++) {
        double grad = (double)before[1][j] * hyper[3];
        double m = 0.9 * before[2][j] + (1 - 0.9) * grad, v = 0.95 * before[3][j] + (1 - 0.95) * grad * grad;
        double w = (double)before[0][j] * hyper[0] - hyper[1] * m / (sqrt(v * hyper[2]) + 1e-8);
        double scale = fabs(before[0][j]) + fabs(hyper[1] * m / (sqrt(v * hyper[2]) + 1e-8));
        ck_assert_double_le(fabs(buffer[2][j] - m), 3e-7 * (fabs(before[2][j]) + fabs(grad)));
        ck_assert_double_le(fabs(buffer[3][j] - v), 3e-7 * v);
        ck_assert_double_le(fabs(buffer[0][j] - w), 1e-6 * scale);
    }
    ck_assert(memcmp(buffer[1], before[1], bytes) == 0);
    for (int i = 0; i < 4; i++) free(before[i]);
    test_args_free(&a);
    test_module_free(&module);
}
END_TEST

/* ---- sums, rows, copies */

static const SumRowsDesc sums[] = {{1, 1}, {5, 1}, {100000, 1}, {32, 100}, {3, 1000}, {64, 1024}, {2000, 17}};
enum { SUMS = sizeof sums / sizeof *sums };

START_TEST(test_sum_rows) {
    const SumRowsDesc *d = &sums[_i % SUMS];
    Gen *g = test_device_gen((TestDevice)(_i / SUMS));
    KernelSize size = TEST_EMIT(g, "sum", sum_rows, *d);
    TestModule module = test_module(g);
    uint64_t rng = 13;
    TestArgs a = test_args((uint64_t)(d->rows * d->cols + d->cols) * 4 + 4096);
    float *x = test_arg(&a, (uint64_t)(d->rows * d->cols) * 4), *out = test_arg(&a, (uint64_t)d->cols * 4);
    test_fill(x, d->rows * d->cols, &rng);
    test_launch(&module, "sum", &a, size);
    for (int64_t j = 0; j < d->cols; j++) {
        double sum = 0;
        for (int64_t r = 0; r < d->rows; r++) sum += x[r * d->cols + j];
        ck_assert_msg(out[j] == (float)sum, "column %lld: %.9g, expected %.9g", (long long)j, (double)out[j],
                      sum);
    }
    test_args_free(&a);
    test_module_free(&module);
}
END_TEST

/* Rows at a position; of the second kind several together are whole vectors, but a row is not. */
static const TakeRowDesc picks[] = {{3, 5, 37, 2}, {3, 5, 6, 2}};
enum { PICKS = sizeof picks / sizeof *picks };
static const int32_t pick_position[3] = {3, 0, 2};

START_TEST(test_take_row) {
    const TakeRowDesc *d = &picks[_i % PICKS];
    const int64_t n = d->rows * d->n, all = d->b * d->s * d->n;
    Gen *g = test_device_gen((TestDevice)(_i / PICKS));
    KernelSize size = TEST_EMIT(g, "take", take_row, *d);
    TestModule module = test_module(g);
    uint64_t rng = 17;
    TestArgs a = test_args(8192);
    float *x = test_arg(&a, (uint64_t)all * 4);
    memcpy(test_arg(&a, sizeof pick_position), pick_position, sizeof pick_position);
    float *out = test_arg(&a, (uint64_t)(d->b * n) * 4);
    test_fill(x, all, &rng);
    test_launch(&module, "take", &a, size);
    for (int64_t b = 0; b < d->b; b++)
        ck_assert(same_floats(out + b * n, x + (b * d->s + pick_position[b]) * d->n, n));
    test_args_free(&a);
    test_module_free(&module);
}
END_TEST

START_TEST(test_cache_row) {
    const TakeRowDesc *p = &picks[_i % PICKS];
    const CacheRowDesc d = {p->b, p->s, p->n, p->rows};
    const int64_t n = d.rows * d.n, all = d.b * d.s * d.n;
    Gen *g = test_device_gen((TestDevice)(_i / PICKS));
    KernelSize size = TEST_EMIT(g, "put", cache_row, d);
    TestModule module = test_module(g);
    uint64_t rng = 18;
    TestArgs a = test_args(8192);
    float *row = test_arg(&a, (uint64_t)(d.b * n) * 4), expected[3 * 5 * 37];
    memcpy(test_arg(&a, sizeof pick_position), pick_position, sizeof pick_position);
    float *cache = test_arg(&a, (uint64_t)all * 4);
    test_fill(row, d.b * n, &rng), test_fill(cache, all, &rng);
    memcpy(expected, cache, (size_t)all * 4);
    for (int64_t b = 0; b < d.b; b++)
        memcpy(expected + (b * d.s + pick_position[b]) * d.n, row + b * n, (size_t)n * 4);
    test_launch(&module, "put", &a, size);
    ck_assert(same_floats(cache, expected, all));
    test_args_free(&a);
    test_module_free(&module);
}
END_TEST

START_TEST(test_copy_fill) {
    CopyDesc copy = {counts[_i % COUNTS] * 4 + 3};
    FillDesc fill = {counts[_i % COUNTS], -1.25};
    Gen *g = test_device_gen((TestDevice)(_i / COUNTS));
    KernelSize copies = TEST_EMIT(g, "copy", copy, copy), fills = TEST_EMIT(g, "fill", fill, fill);
    TestModule module = test_module(g);
    uint64_t rng = 19, bytes = (uint64_t)copy.bytes;
    TestArgs a = test_args(2 * bytes + 4096), b = test_args(bytes + 4096);
    char *src = test_arg(&a, bytes), *dst = test_arg(&a, bytes);
    float *out = test_arg(&b, (uint64_t)fill.count * 4);
    for (uint64_t i = 0; i < bytes; i++) src[i] = (char)(test_random(&rng) * 127);
    test_launch(&module, "copy", &a, copies);
    ck_assert(memcmp(src, dst, bytes) == 0);
    test_launch(&module, "fill", &b, fills);
    for (int64_t i = 0; i < fill.count; i++) ck_assert(out[i] == -1.25f);
    test_args_free(&a), test_args_free(&b);
    test_module_free(&module);
}
END_TEST

/* ---- all of them for CPUs that we may not have */

START_TEST(test_wide) {
    Gen *g = test_gen(_i ? "sapphirerapids" : "znver4");
    char name[32];
#define ALL(kind, Desc, n, ...)                                                                              \
    for (int i = 0; i < (n); i++) {                                                                          \
        Desc d = __VA_ARGS__;                                                                                \
        snprintf(name, sizeof name, #kind "_%d", i);                                                         \
        gen_##kind(g, name, &d);                                                                             \
    }
    ALL(ternary, TernaryDesc, MATRICES, {matrices[i].rows, matrices[i].cols, matrices[i].group})
    ALL(decode, DecodeDesc, MATRICES, {matrices[i].rows, matrices[i].cols, matrices[i].group})
    ALL(embed, EmbedDesc, EMBEDDINGS, embeddings[i])
    ALL(embed_grad, EmbedGradDesc, EMBED_GRADS, embed_grads[i])
    ALL(adamw, AdamwDesc, COUNTS, {counts[i], 0.9, 0.95, 1e-8, false})
    ALL(sum_rows, SumRowsDesc, SUMS, sums[i])
    ALL(take_row, TakeRowDesc, 1, {3, 5, 37, 2})
    ALL(cache_row, CacheRowDesc, 1, {3, 5, 37, 2})
    ALL(copy, CopyDesc, COUNTS, {counts[i]})
    ALL(fill, FillDesc, COUNTS, {counts[i], 0.5})
#undef ALL
    char *assembly = test_compile(g);
    ck_assert(strstr(assembly, "zmm") != NULL);
    free(assembly);
}
END_TEST

int main(void) {
    int devices = test_devices();
    Suite *suite = suite_create("small kernels");
    TCase *t = tcase_create("small kernels");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_ternary, 0, devices * MATRICES);
    tcase_add_loop_test(t, test_ste_clip, 0, devices * MATRICES);
    tcase_add_loop_test(t, test_ties, 0, devices);
    tcase_add_loop_test(t, test_embed, 0, devices * EMBEDDINGS);
    tcase_add_loop_test(t, test_embed_grad, 0, devices * EMBED_GRADS);
    tcase_add_loop_test(t, test_adamw, 0, devices * COUNTS);
    tcase_add_loop_test(t, test_sum_rows, 0, devices * SUMS);
    tcase_add_loop_test(t, test_take_row, 0, devices * PICKS);
    tcase_add_loop_test(t, test_cache_row, 0, devices * PICKS);
    tcase_add_loop_test(t, test_copy_fill, 0, devices * COUNTS);
    tcase_add_loop_test(t, test_wide, 0, 2);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
