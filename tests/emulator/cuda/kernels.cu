// Small kernels of the usual kinds, compiled by nvcc in the test: what a compiler other than ours makes of CUDA.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

extern "C" __global__ void reduce(const float *in, float *out, int n) {
    __shared__ float s[256];
    int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    s[t] = i < n ? in[i] : 0;
    __syncthreads();
    for (int h = blockDim.x / 2; h; h >>= 1) {
        if (t < h) s[t] += s[t + h];
        __syncthreads();
    }
    if (!t) out[blockIdx.x] = s[0];
}

extern "C" __global__ void matmul(const float *a, const float *b, float *c, int m, int n, int k) {
    __shared__ float as[16][17], bs[16][17];
    int row = blockIdx.y * 16 + threadIdx.y, col = blockIdx.x * 16 + threadIdx.x;
    float sum = 0;
    for (int k0 = 0; k0 < k; k0 += 16) {
        int ac = k0 + threadIdx.x, br = k0 + threadIdx.y;
        as[threadIdx.y][threadIdx.x] = row < m && ac < k ? a[row * k + ac] : 0;
        bs[threadIdx.y][threadIdx.x] = br < k && col < n ? b[br * n + col] : 0;
        __syncthreads();
        for (int q = 0; q < 16; q++) sum = fmaf(as[threadIdx.y][q], bs[q][threadIdx.x], sum);
        __syncthreads();
    }
    if (row < m && col < n) c[row * n + col] = sum;
}

extern "C" __global__ void scan(const int *in, int *out) {
    int lane = threadIdx.x & 31, v = in[blockIdx.x * blockDim.x + threadIdx.x];
    for (int d = 1; d < 32; d <<= 1) {
        int o = __shfl_up_sync(0xffffffff, v, d);
        if (lane >= d) v += o;
    }
    __shared__ int warps[32];
    if (lane == 31) warps[threadIdx.x >> 5] = v;
    __syncthreads();
    int before = 0;
    for (unsigned w = 0; w < threadIdx.x >> 5; w++) before += warps[w];
    out[blockIdx.x * blockDim.x + threadIdx.x] = v + before;
}

// Collatz steps: every lane leaves its loop at another time.
extern "C" __global__ void collatz(const unsigned *in, unsigned *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned v = in[i], steps = 0;
    while (v != 1) {
        if (v & 1) v = 3 * v + 1;
        else v >>= 1;
        steps++;
    }
    out[i] = steps;
}

__device__ __noinline__ unsigned long long power(unsigned long long b, unsigned e) {
    unsigned long long r = 1;
    for (; e; e >>= 1, b *= b)
        if (e & 1) r *= b;
    return r;
}
extern "C" __global__ void powers(const unsigned *e, unsigned long long *out) {
    out[threadIdx.x] = threadIdx.x & 1 ? power(3, e[threadIdx.x]) : power(5, e[threadIdx.x]) + 1;
}

__device__ int add_one(int a) { return a + 1; }
__device__ int twice(int a) { return a * 2; }
__device__ int square(int a) { return a * a; }
__device__ int (*table[3])(int) = {add_one, twice, square};
extern "C" __global__ void indirect(const int *in, int *out) { out[threadIdx.x] = table[threadIdx.x % 3](in[threadIdx.x]); }

extern "C" __global__ void histogram(const unsigned char *in, unsigned *bins, int n) {
    __shared__ unsigned local[256];
    for (int k = threadIdx.x; k < 256; k += blockDim.x) local[k] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[in[i]], 1u);
    __syncthreads();
    for (int k = threadIdx.x; k < 256; k += blockDim.x) atomicAdd(&bins[k], local[k]);
}

// The last block that finishes adds up what the others left: fences and an atomic counter.
__device__ unsigned finished;
extern "C" __global__ void sum_all(const float *in, float *partial, float *out, int n) {
    __shared__ float s[128];
    __shared__ bool last;
    int t = threadIdx.x;
    float v = 0;
    for (int i = blockIdx.x * 128 + t; i < n; i += gridDim.x * 128) v += in[i];
    s[t] = v;
    __syncthreads();
    for (int h = 64; h; h >>= 1) {
        if (t < h) s[t] += s[t + h];
        __syncthreads();
    }
    if (!t) {
        partial[blockIdx.x] = s[0];
        __threadfence();
        last = atomicAdd(&finished, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && !t) {
        __threadfence();
        float sum = 0;
        for (unsigned b = 0; b < gridDim.x; b++) sum += ((volatile float *)partial)[b];
        *out = sum;
        finished = 0;
    }
}

using namespace nvcuda;
extern "C" __global__ void tensor(const half *a, const half *b, float *c) { // one 16x16x16 tile
    wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
    wmma::fill_fragment(fc, 0.0f);
    wmma::load_matrix_sync(fa, a, 16);
    wmma::load_matrix_sync(fb, b, 16);
    wmma::mma_sync(fc, fa, fb, fc);
    wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major);
}

extern "C" __global__ void halves(const float *in, float *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    half2 h = __floats2half2_rn(in[i], in[n - 1 - i]);
    h = __hfma2(h, h, __float2half2_rn(0.5f));
    __nv_bfloat16 b = __float2bfloat16(in[i]);
    out[i] = __low2float(h) + __high2float(h) + __bfloat162float(b);
}

extern "C" __global__ void maths(const float *in, float *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = expf(in[i]) + logf(fabsf(in[i]) + 1) + sqrtf(fabsf(in[i])) / (1 + in[i] * in[i]) + tanhf(in[i]) + sinf(in[i]);
}

// calls itself, and writes to the variables of its caller
__device__ __noinline__ void sort(int *a, int low, int high, int *calls) {
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
extern "C" __global__ void sorts(const int *in, int *out, int n) { // n numbers and what the calls counted
    int calls[2] = {0, 0}, *a = (int *)alloca(n * sizeof *a);
    for (int k = 0; k < n; k++) a[k] = in[(threadIdx.x + k) % 64];
    sort(a, 0, n - 1, calls);
    for (int k = 0; k < n; k++) out[threadIdx.x * (n + 2) + k] = a[k];
    for (int k = 0; k < 2; k++) out[threadIdx.x * (n + 2) + n + k] = calls[k];
}

extern "C" __global__ void wide(const int *in, unsigned long long *out) { // division of 128 bits; rsqrt of a double
    __int128 x = in[threadIdx.x];
    x = x * x * x * 1234567890123ll / 77777;
    out[threadIdx.x * 3] = (unsigned long long)x;
    out[threadIdx.x * 3 + 1] = (unsigned long long)(x >> 64);
    double r = rsqrt((double)in[threadIdx.x] * in[threadIdx.x] + 1);
    out[threadIdx.x * 3 + 2] = (unsigned long long)__double_as_longlong(r);
}
