/* The emulated device runs what nvcc makes of CUDA (emulator/cuda/kernels.cu): every kernel against the same
 * sum in C. Skipped where there is no nvcc. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "emulator/api.h"
#include "suite.h"

enum { PTX_BYTES = 1 << 20 };
static char *ptx;

static bool compile(void) {
    static const char *const compilers[] = {"nvcc", "/usr/local/cuda/bin/nvcc"};
    const char *source = getenv("TBC_SOURCE");
    char folder[] = "/tmp/check_emulator_XXXXXX", command[1024];
    if (!mkdtemp(folder)) return false;
    for (int k = 0; k < 2 && !ptx; k++) {
        snprintf(command, sizeof command,
                 "%s -arch=sm_80 -ptx -o %s/kernels.ptx %s/tests/emulator/cuda/kernels.cu 2>%s/log",
                 compilers[k], folder, source ? source : "..", folder);
        if (system(command)) continue;
        snprintf(command, sizeof command, "%s/kernels.ptx", folder);
        FILE *f = fopen(command, "r");
        if (!f || !(ptx = calloc(1, PTX_BYTES)) || !fread(ptx, 1, PTX_BYTES - 1, f)) return false;
        fclose(f);
    }
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return !system(command) && ptx;
}

static CUdeviceptr upload(const void *data, size_t bytes) {
    CUdeviceptr p;
    CHECK(cuMemAlloc_v2(&p, bytes));
    CHECK(cuMemcpyHtoD_v2(p, data, bytes));
    return p;
}
static CUdeviceptr room(size_t bytes) {
    CUdeviceptr p;
    CHECK(cuMemAlloc_v2(&p, bytes));
    CHECK(cuMemsetD8_v2(p, 0, bytes));
    return p;
}
static void run(const char *name, unsigned gx, unsigned gy, unsigned bx, unsigned by, void **params) {
    Handle f;
    CHECK(cuModuleGetFunction(&f, module(ptx), name));
    CHECK(cuLaunchKernel(f, gx, gy, 1, bx, by, 1, 0, NULL, params, NULL));
    CHECK(cuCtxSynchronize());
}
#define RUN(name, gx, gy, bx, by, ...) run(name, gx, gy, bx, by, (void *[]){__VA_ARGS__})

static float noise(unsigned k) {
    return (float)((k * 2654435761u) >> 8 & 0xffff) / 32768 - 1;
}

START_TEST(reductions) { /* reduce, sum_all */
    device();
    enum { N = 1000 };
    float in[N], out[4], total;
    double sums[4] = {0}, all = 0;
    for (int k = 0; k < N; k++) in[k] = noise((unsigned)k), sums[k / 256] += in[k], all += in[k];
    CUdeviceptr a = upload(in, sizeof in), b = room(64), c = room(64);
    int n = N;
    RUN("reduce", 4, 1, 256, 1, &a, &b, &n);
    CHECK(cuMemcpyDtoH_v2(out, b, sizeof out));
    for (int k = 0; k < 4; k++) ck_assert_double_eq_tol(out[k], sums[k], 1e-4);
    RUN("sum_all", 7, 1, 128, 1, &a, &b, &c, &n);
    CHECK(cuMemcpyDtoH_v2(&total, c, 4));
    ck_assert_double_eq_tol(total, all, 1e-4);
}
END_TEST

START_TEST(matmul) {
    device();
    enum { M = 45, N = 37, K = 50 };
    static float a[M * K], b[K * N], c[M * N];
    for (unsigned k = 0; k < M * K; k++) a[k] = noise(k);
    for (unsigned k = 0; k < K * N; k++) b[k] = noise(k + 9999);
    CUdeviceptr pa = upload(a, sizeof a), pb = upload(b, sizeof b), pc = room(sizeof c);
    int m = M, n = N, k = K;
    RUN("matmul", 3, 3, 16, 16, &pa, &pb, &pc, &m, &n, &k);
    CHECK(cuMemcpyDtoH_v2(c, pc, sizeof c));
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            float sum = 0;
            for (int q = 0; q < K; q++) sum = fmaf(a[i * K + q], b[q * N + j], sum);
            ck_assert_float_eq(c[i * N + j], sum);
        }
}
END_TEST

START_TEST(integers) { /* scan, collatz, powers, indirect, histogram */
    device();
    enum { N = 256 };
    int in[N], out[N];
    unsigned steps[N], bins[N];
    uint8_t bytes[5000];
    uint64_t powers[N];
    for (int k = 0; k < N; k++) in[k] = k * 37 % 100 + 1;
    CUdeviceptr a = upload(in, sizeof in), b = room(sizeof powers), c;
    RUN("scan", 1, 1, N, 1, &a, &b);
    CHECK(cuMemcpyDtoH_v2(out, b, sizeof out));
    for (int k = 0, sum = 0; k < N; k++) ck_assert_int_eq(out[k], sum += in[k]);
    int n = N - 3;
    RUN("collatz", 2, 1, 128, 1, &a, &b, &n);
    CHECK(cuMemcpyDtoH_v2(steps, b, sizeof steps));
    for (int k = 0; k < n; k++) {
        unsigned v = (unsigned)in[k], s = 0;
        for (; v != 1; s++) v = v & 1 ? 3 * v + 1 : v / 2;
        ck_assert_uint_eq(steps[k], s);
    }
    for (int k = 0; k < N; k++) in[k] = k % 27;
    c = upload(in, sizeof in);
    RUN("powers", 1, 1, 64, 1, &c, &b);
    CHECK(cuMemcpyDtoH_v2(powers, b, sizeof powers));
    for (int k = 0; k < 64; k++) {
        uint64_t r = 1;
        for (int e = 0; e < in[k]; e++) r *= k & 1 ? 3 : 5;
        ck_assert_uint_eq(powers[k], r + !(k & 1));
    }
    RUN("indirect", 1, 1, 64, 1, &c, &b);
    CHECK(cuMemcpyDtoH_v2(out, b, sizeof out));
    for (int k = 0; k < 64; k++)
        ck_assert_int_eq(out[k], k % 3 == 0 ? in[k] + 1 : k % 3 == 1 ? in[k] * 2 : in[k] * in[k]);
    unsigned want[N] = {0};
    for (unsigned k = 0; k < sizeof bytes; k++) want[bytes[k] = (uint8_t)(k * 2654435761u >> 24)]++;
    a = upload(bytes, sizeof bytes), b = room(sizeof bins), n = sizeof bytes;
    RUN("histogram", 6, 1, 128, 1, &a, &b, &n);
    CHECK(cuMemcpyDtoH_v2(bins, b, sizeof bins));
    ck_assert_mem_eq(bins, want, sizeof bins);
}
END_TEST

START_TEST(halves) { /* tensor: small integers, exact in f16 and in sum; halves: exact in f16 and bf16 */
    device();
    static const uint16_t of_int[] = {0x0000, 0x3c00, 0x4000, 0x4200, 0x4400}; /* 0 .. 4 */
    uint16_t a[256], b[256];
    float c[256], in[100], out[100];
    for (int k = 0; k < 256; k++) a[k] = of_int[k % 5], b[k] = of_int[k * 7 % 3];
    CUdeviceptr pa = upload(a, sizeof a), pb = upload(b, sizeof b), pc = room(sizeof c);
    RUN("tensor", 1, 1, 32, 1, &pa, &pb, &pc);
    CHECK(cuMemcpyDtoH_v2(c, pc, sizeof c));
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            int sum = 0;
            for (int q = 0; q < 16; q++) sum += (i * 16 + q) % 5 * ((j * 16 + q) * 7 % 3);
            ck_assert_float_eq(c[i * 16 + j], (float)sum);
        }
    for (int k = 0; k < 100; k++) in[k] = (float)(k % 16) / 4;
    pa = upload(in, sizeof in), pb = room(sizeof out);
    int n = 100;
    RUN("halves", 1, 1, 128, 1, &pa, &pb, &n);
    CHECK(cuMemcpyDtoH_v2(out, pb, sizeof out));
    for (int k = 0; k < n; k++)
        ck_assert_float_eq(out[k], in[k] * in[k] + 0.5f + in[n - 1 - k] * in[n - 1 - k] + 0.5f + in[k]);
}
END_TEST

START_TEST(maths) { /* expf, logf, sqrtf, tanhf, sinf as nvcc expands them */
    device();
    enum { N = 200 };
    float in[N], out[N];
    for (unsigned k = 0; k < N; k++) in[k] = 6 * noise(k);
    CUdeviceptr a = upload(in, sizeof in), b = room(sizeof out);
    int n = N;
    RUN("maths", 2, 1, 128, 1, &a, &b, &n);
    CHECK(cuMemcpyDtoH_v2(out, b, sizeof out));
    for (int k = 0; k < N; k++) {
        double x = in[k], y = exp(x) + log(fabs(x) + 1) + sqrt(fabs(x)) / (1 + x * x) + tanh(x) + sin(x);
        ck_assert_double_eq_tol(out[k], y, 2e-6 * (fabs(y) + 1));
    }
}
END_TEST

static void sort(int *a, int low, int high, int *calls) { /* the kernel's */
    if (low >= high) return;
    int mine[2] = {1, 0}, pivot = a[(low + high) / 2], i = low, j = high;
    while (i <= j) {
        while (a[i] < pivot) i++;
        while (a[j] > pivot) j--;
        if (i > j) break;
        int t = a[i];
        a[i++] = a[j];
        a[j--] = t;
    }
    sort(a, low, j, mine);
    sort(a, i, high, mine);
    calls[0] += mine[0];
    calls[1] += low + mine[1];
}

START_TEST(recursion) { /* each lane sorts another window of the numbers, as deep as that takes */
    device();
    enum { N = 17 };
    int in[64], out[64][N + 2], n = N;
    for (unsigned k = 0; k < 64; k++) in[k] = (int)(100 * noise(k));
    CUdeviceptr a = upload(in, sizeof in), b = room(sizeof out);
    RUN("sorts", 1, 1, 64, 1, &a, &b, &n);
    CHECK(cuMemcpyDtoH_v2(out, b, sizeof out));
    for (int t = 0; t < 64; t++) {
        int want[N + 2] = {0};
        for (int k = 0; k < N; k++) want[k] = in[(t + k) % 64];
        sort(want, 0, N - 1, want + N);
        ck_assert_mem_eq(out[t], want, sizeof want);
    }
}
END_TEST

__extension__ typedef __int128 wide_int;
START_TEST(wide) {
    device();
    int in[64];
    uint64_t out[64][3];
    for (unsigned k = 0; k < 64; k++) in[k] = (int)(100000 * noise(k));
    CUdeviceptr a = upload(in, sizeof in), b = room(sizeof out);
    RUN("wide", 1, 1, 64, 1, &a, &b);
    CHECK(cuMemcpyDtoH_v2(out, b, sizeof out));
    for (int t = 0; t < 64; t++) {
        wide_int x = in[t];
        x = x * x * x * 1234567890123ll / 77777;
        ck_assert(out[t][0] == (uint64_t)x && out[t][1] == (uint64_t)(x >> 64));
        double r;
        memcpy(&r, &out[t][2], sizeof r);
        ck_assert_double_eq_tol(r * sqrt((double)in[t] * in[t] + 1), 1, 1e-15);
    }
}
END_TEST

int main(void) {
    if (!compile()) {
        printf("skipped: no nvcc\n");
        return 77;
    }
    Suite *suite = suite_create("emulator_cuda");
    TCase *t = tcase_create("cuda");
    suite_add_tcase(suite, t);
    tcase_add_test(t, reductions);
    tcase_add_test(t, matmul);
    tcase_add_test(t, integers);
    tcase_add_test(t, halves);
    tcase_add_test(t, maths);
    tcase_add_test(t, recursion);
    tcase_add_test(t, wide);
    int failed = run_suite(suite);
    free(ptx);
    return failed;
}
