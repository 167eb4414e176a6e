/* A train.so written by hand, to test the runtime without the compiler: a ternary bigram model,
 *
 *     logits of the next token = codes*scales row of the token + bias
 *
 * over the 256 bytes, with groups of 100 so that the last one of a row is shorter. Built as a shared object
 * and closed with the trailer (seal.c). -DBUFFER makes the tables backward and update instead of train;
 * -DNEEDS='"..."' other CPU features; -DARENA=n another arena size; -DSEQ=n another window; -DRACE a kernel whose
 * tiles collide; -DBAD_GRADIENT a gradient that is not finite; -DGPU a module for a GPU, whose kernels only the
 * driver in fake_cuda.c can run: it finds them as host_kernels. */
#include "../runtime/tbc_module.h"
#include <math.h>
#include <string.h>

#ifndef NEEDS
#define NEEDS "sse2,fpu"
#endif
#ifndef SEQ
#define SEQ 16
#endif
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
enum { B = 3, S = SEQ, V = 256, GROUP = 100, GROUPS = 3, ROW_BYTES = V / 4 };

/* The arena: what only training needs comes last. */
enum {
    W = 0,
    MATRIX = V * V * 4,
    VECTOR = V * 4,
    BIAS = W + MATRIX,
    CODES = BIAS + VECTOR,
    CODES_BYTES = V * ROW_BYTES + V * GROUPS * 2,
    TOKENS = CODES + CODES_BYTES,
    TARGETS = TOKENS + B * S * 4,
    HYPER = TARGETS + B * S * 4,
    FAULT = HYPER + 64,
    LOSS = FAULT + 64,
    NLL = LOSS + 64,
    DLOGITS = NLL + B * S * 4,
    LOGITS = DLOGITS + B * S * VECTOR,
    POS = LOGITS + VECTOR,
    ONE = POS + 64,
    W_M = ONE + 64,
    W_V = W_M + MATRIX,
    W_GRAD = W_V + MATRIX,
    BIAS_M = W_GRAD + MATRIX,
    BIAS_V = BIAS_M + VECTOR,
    BIAS_GRAD = BIAS_V + VECTOR,
    END = BIAS_GRAD + VECTOR
};
#ifndef ARENA
#define ARENA END
#endif

static float f32(uint16_t h) {
    int e = h >> 10 & 31;
    return (float)(e ? ldexp(1024 + (h & 1023), e - 25) : ldexp(h & 1023, -24));
}

static uint16_t f16(float x) { /* nearest even; what does not occur here is left out */
    int e = x >= 0x1p-14f ? ilogbf(x) : -14;
    return (uint16_t)((int)nearbyint(ldexp((double)x, 10 - e)) + (e + 14) * 1024);
}

static void ternary(char *arena, const uint64_t *args, uint64_t row, char *scratch) { /* w, codes */
    (void)scratch;
    const float *w = (float *)(arena + args[0]) + row * V;
    uint8_t *codes = (uint8_t *)arena + args[1] + row * ROW_BYTES;
    uint16_t *scales = (uint16_t *)(arena + args[1] + V * ROW_BYTES) + row * GROUPS;
    memset(codes, 0, ROW_BYTES);
    for (int g = 0; g < GROUPS; g++) {
        int end = (g + 1) * GROUP < V ? (g + 1) * GROUP : V;
        float sum = 0;
        for (int j = g * GROUP; j < end; j++) sum += fabsf(w[j]);
        scales[g] = f16(sum / (float)(end - g * GROUP));
        for (int j = g * GROUP; j < end; j++) {
            float q = scales[g] ? rintf(w[j] / f32(scales[g])) : 0;
            codes[j / 4] |= (uint8_t)((q > 0 ? 2 : q < 0 ? 0 : 1) << 2 * (j % 4));
        }
    }
}

static void logits_of(const char *arena, int token, float *out) {
    const uint8_t *codes = (const uint8_t *)arena + CODES + token * ROW_BYTES;
    const uint16_t *scales = (const uint16_t *)(arena + CODES + V * ROW_BYTES) + token * GROUPS;
    const float *bias = (const float *)(arena + BIAS), *one = (const float *)(arena + ONE);
    for (int j = 0; j < V; j++)
        out[j] = (float)((codes[j / 4] >> 2 * (j % 4) & 3) - 1) * f32(scales[j / GROUP]) + *one * bias[j];
}

static void forward(char *arena, const uint64_t *args, uint64_t i, char *scratch) { /* nll */
    float *logits = (float *)scratch, *d = (float *)(arena + DLOGITS) + i * V;
    logits_of(arena, ((int32_t *)(arena + TOKENS))[i], logits);
    int target = ((int32_t *)(arena + TARGETS))[i];
    double sum = 0;
    for (int j = 0; j < V; j++) sum += exp((double)logits[j]);
    for (int j = 0; j < V; j++) d[j] = (float)((exp((double)logits[j]) / sum - (j == target)) / (B * S));
    ((float *)(arena + args[0]))[i] = (float)(log(sum) - (double)logits[target]);
#ifdef RACE
    ((float *)(arena + LOSS))[1] += 1;
#endif
}

static void mean(char *arena, const uint64_t *args, uint64_t tile, char *scratch) { /* nll, loss */
    (void)tile, (void)scratch;
    float sum = 0;
    for (int i = 0; i < B * S; i++) sum += ((float *)(arena + args[0]))[i];
    *(float *)(arena + args[1]) = sum / (B * S);
}

static void gradient(char *arena, const uint64_t *args, uint64_t row, char *scratch) { /* grad */
    (void)scratch;
    float *grad = (float *)(arena + args[0]) + row * V;
    for (int i = 0; i < B * S; i++)
        if (((int32_t *)(arena + TOKENS))[i] == (int)row)
            for (int j = 0; j < V; j++) grad[j] += ((float *)(arena + DLOGITS))[i * V + j];
}

static void gradient_bias(char *arena, const uint64_t *args, uint64_t tile, char *scratch) { /* grad */
    (void)tile, (void)scratch;
    for (int i = 0; i < B * S; i++)
        for (int j = 0; j < V; j++)
            ((float *)(arena + args[0]))[j] += ((float *)(arena + DLOGITS))[i * V + j];
#ifdef BAD_GRADIENT
    ((float *)(arena + args[0]))[7] = INFINITY;
#endif
}

static void adamw(char *arena, const uint64_t *args, uint64_t row, char *scratch) { /* w, g, m, v, hyper */
    (void)scratch;
    float *w = (float *)(arena + args[0]) + row * V, *g = (float *)(arena + args[1]) + row * V;
    float *m = (float *)(arena + args[2]) + row * V, *v = (float *)(arena + args[3]) + row * V;
    const float *hyper = (float *)(arena + args[4]);
    if (isnan(hyper[0])) return;
    for (int j = 0; j < V; j++) {
        float d = g[j] * hyper[3];
        m[j] = 0.9f * m[j] + 0.1f * d;
        v[j] = 0.95f * v[j] + 0.05f * d * d;
        w[j] = w[j] * hyper[0] - hyper[1] * m[j] / (sqrtf(v[j] * hyper[2]) + 1e-8f);
    }
}

static void guard(char *arena, const uint64_t *args, uint64_t tile, char *scratch) { /* loss, fault, hyper */
    (void)tile, (void)scratch;
    float loss = *(float *)(arena + args[0]), *fault = (float *)(arena + args[1]);
    float *hyper = (float *)(arena + args[2]);
    *fault += loss - loss;
    for (int j = 0; j < 4; j++) hyper[j] += *fault;
}

static void clear(char *arena, const uint64_t *args, uint64_t row, char *scratch) { /* out */
    (void)scratch;
    memset(arena + args[0] + row * VECTOR, 0, VECTOR);
}

static void decode(char *arena, const uint64_t *args, uint64_t tile, char *scratch) { /* logits */
    (void)tile, (void)scratch;
    logits_of(arena, *(int32_t *)(arena + TOKENS), (float *)(arena + args[0]));
}

#define KERNELS                                                                                              \
    K(ternary), K(forward), K(mean), K(gradient), K(gradient_bias), K(adamw), K(clear), K(decode), K(guard), {NULL, NULL, 0}
#define K(name) {#name, name, 0}
extern const tbc_kernel host_kernels[];
const tbc_kernel host_kernels[] = {KERNELS}; /* to the end mark */
#ifdef GPU
#undef K
#define K(name) {#name, NULL, 0}
static const tbc_kernel kernels[] = {KERNELS};
static const tbc_gpu_kernel gpu_kernels[] = {{32, 0}, {64, 0}, {32, 0}, {32, 0}, {32, 0}, {32, 65536}, {32, 0}, {32, 0}, {32, 0}};
static const tbc_gpu_image images[] = {{75, 5, "sm_75"}, {80, 5, "sm_80"}, {86, 5, "sm_86"}, {90, 5, "sm_90"}};
static const tbc_gpu gpu = {"// PTX", 80, 4, images, gpu_kernels};
#define TARGET "nvptx64"
#else
#define kernels host_kernels
#define TARGET "x86-64"
#endif
enum { TERNARY, FORWARD, MEAN, GRADIENT, GRADIENT_BIAS, ADAMW, CLEAR, DECODE, GUARD };

static const uint64_t args[] = {
    W,    CODES,     NLL,    LOSS,   W_GRAD, BIAS_GRAD, LOGITS, /* 0: one after the other */
    W,    W_GRAD,    W_M,    W_V,    HYPER,                     /* 7 */
    BIAS, BIAS_GRAD, BIAS_M, BIAS_V, HYPER,                     /* 12 */
    LOSS, FAULT,     HYPER                                      /* 17 */
};
#define FLOPS 1000, 4096
static const tbc_launch launches[] = {
    {CLEAR, V, 4, 1, FLOPS, "w.grad"},    {CLEAR, 1, 5, 1, FLOPS, "bias.grad"},    /* 0 */
    {FORWARD, B *S, 2, 1, FLOPS, "loss"}, {MEAN, 1, 2, 2, FLOPS, "mean"},          /* 2 */
    {GRADIENT, V, 4, 1, FLOPS, "w"},      {GRADIENT_BIAS, 1, 5, 1, FLOPS, "bias"}, /* 4 */
    {GUARD, 1, 17, 3, FLOPS, "fault"},    {ADAMW, V, 7, 5, FLOPS, "w"},            /* 6 */
    {TERNARY, V, 0, 2, FLOPS, "w"},       {ADAMW, 1, 12, 5, FLOPS, "bias"},        /* 8 */
    {DECODE, 1, 6, 1, FLOPS, "decode"},                                            /* 10 */
};
#ifdef BUFFER
static const tbc_table tables[] = {
    {"backward", 2, 4}, {"update", 7, 3}, {"eval", 2, 2}, {"decode", 10, 1}, {"project", 8, 1}};
#define TRAIN_IO                                                                                             \
    INPUT(tokens, 0, I32, TOKENS, B, S), INPUT(targets, 0, I32, TARGETS, B, S), OUTPUT(loss, 0, LOSS, 1, 1), \
        INPUT(hyper, 1, F32, HYPER, 4, 1)
#define GRADS "buffer"
#else
static const tbc_table tables[] = {
    {"train", 0, 10}, {"unused", 0, 0}, {"eval", 2, 2}, {"decode", 10, 1}, {"project", 8, 1}};
#define TRAIN_IO                                                                                             \
    INPUT(tokens, 0, I32, TOKENS, B, S), INPUT(targets, 0, I32, TARGETS, B, S), OUTPUT(loss, 0, LOSS, 1, 1), \
        INPUT(hyper, 0, F32, HYPER, 4, 1)
#define GRADS "fused"
#endif

#define SHARED(kind, name, group, rank, rows, cols, at)                                                      \
    { name, TBC_##kind, TBC_F32, -1, group, rank, {rows, cols}, at, (rank == 2 ? MATRIX : VECTOR), 0, 0 }
#define INPUT(name, table, type, at, b, s)                                                                   \
    { #name, TBC_INPUT, TBC_##type, table, 0, 2, {b, s }, at, (b) * (s)*4, 0, 0 }
#define OUTPUT(name, table, at, b, s)                                                                        \
    { #name, TBC_OUTPUT, TBC_F32, table, 0, 2, {b, s }, at, (b) * (s)*4, 0, 0 }
static const tbc_tensor tensors[] = {
    SHARED(PARAM, "w", GROUP, 2, V, V, W),
    SHARED(PARAM, "bias", 0, 1, V, 0, BIAS),
    SHARED(STATE, "w.m", 0, 2, V, V, W_M),
    SHARED(STATE, "w.v", 0, 2, V, V, W_V),
    SHARED(STATE, "bias.m", 0, 1, V, 0, BIAS_M),
    SHARED(STATE, "bias.v", 0, 1, V, 0, BIAS_V),
#ifdef BUFFER
    SHARED(STATE, "w.grad", 0, 2, V, V, W_GRAD),
    SHARED(STATE, "bias.grad", 0, 1, V, 0, BIAS_GRAD),
#endif
    TRAIN_IO,
    INPUT(tokens, 2, I32, TOKENS, B, S),
    INPUT(targets, 2, I32, TARGETS, B, S),
    OUTPUT(nll, 2, NLL, B, S),
    INPUT(tokens, 3, I32, TOKENS, 1, 1),
    INPUT(pos, 3, I32, POS, 1, 1),
    OUTPUT(logits, 3, LOGITS, 1, V),
    {"w", TBC_CODES, TBC_T2, -1, GROUP, 2, {V, V}, CODES, CODES_BYTES, 0, 0},
    {"fault", TBC_STATE, TBC_F32, -1, 0, 1, {1}, FAULT, 4, 0, 0},
};

static const float one = 1;
static const tbc_const consts[] = {{ONE, sizeof one, &one}};

#define COUNT(list) (sizeof(list) / sizeof *(list))
extern const tbc_module_t tbc_module;
const tbc_module_t tbc_module = {
    TBC_MAGIC,
    TBC_ABI,
    sizeof(tbc_module_t),
    "{\"name\":\"bigram\",\"batch\":3,\"seq\":" TEXT(SEQ) ",\"vocab\":256,\"config\":{\"model_type\":\"bigram\"},"
    "\"train\":{\"lr\":0.02,\"warmup\":4,\"weight_decay\":0.01,\"beta1\":0.9,\"beta2\":0.95,\"eps\":1e-8,"
    "\"bias_correction\":true},\"grads\":\"" GRADS "\",\"precision\":\"f32\",\"target\":\"" TARGET "\","
    "\"cpu\":\"generic\",\"compiler\":\"by hand\"}",
    NEEDS,
    ARENA,
    VECTOR,
    GUARD + 1,
    COUNT(tensors),
    COUNT(tables),
    COUNT(launches),
    COUNT(args),
    COUNT(consts),
    kernels,
    tensors,
    tables,
    launches,
    args,
    consts,
#ifdef GPU
    &gpu,
#else
    NULL,
#endif
};
