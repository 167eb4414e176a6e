/* --verify: counts the codes of every ternary parameter and checks them against the definition,
 *
 *     s = f16(mean|w|) of a group, q = clip(roundeven(w / s), -1, 1), q = 0 where s = 0
 *
 * computed here again from the latent weights, in plain C. What is compared with are the very buffers that
 * the kernels of the forward pass have just read (TBC_CODES), so agreement means that code * scale is what
 * the forward pass used.
 *
 * The mean is computed in f64 here and in f32, in an order of its own, by the kernel. Within 1e-6 of a
 * rounding boundary of f16 the two may round differently; there, and only there, both neighbours count as
 * right, and the codes are checked against the stored scale. */
#include "verify.h"
#include "error.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- f16 */

float f16_to_f32(uint16_t h) {
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double value = exponent == 31 ? (fraction ? NAN : INFINITY)
                   : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                  : ldexp(fraction, -24);
    return (float)(h & 0x8000 ? -value : value);
}

uint16_t f16_from_f64(double value) {
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double x = fabs(value);
    if (isnan(x)) return 0x7e00;
    if (x >= 65520) return sign | 0x7c00; /* rounds to infinity */
    int exponent = -14;                   /* of subnormals too: they share the smallest step */
    if (x >= ldexp(1, -14)) exponent = ilogb(x);
    int steps = (int)nearbyint(ldexp(x, 10 - exponent)); /* 1024..2048, below 1024 for subnormals */
    return sign | (uint16_t)(steps + (exponent + 14) * 1024);
}

/* ---- one group */

/* Is `scale` f16(mean), or as good as it? */
static bool scale_is_right(uint16_t scale, double mean) {
    uint16_t expected = f16_from_f64((double)(float)mean);
    if (scale == expected) return true;
    if (scale != expected + 1 && scale != expected - 1) return false;
    double boundary = ((double)f16_to_f32(scale) + (double)f16_to_f32(expected)) / 2;
    return fabs(mean - boundary) <= 1e-6 * mean;
}

bool verify_group(const float *w, int64_t n, uint16_t scale, const uint8_t *row_codes, int64_t first,
                  int64_t count[3]) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += fabs((double)w[i]);
    bool ok = scale_is_right(scale, sum / (double)n);
    float s = f16_to_f32(scale);
    for (int64_t i = 0; i < n; i++) {
        int64_t j = first + i;
        int code = (row_codes[j / 4] >> 2 * (j % 4) & 3) - 1;
        float q = s > 0 ? rintf(w[i] / s) : 0;
        int expected = q > 1 ? 1 : q < -1 ? -1 : (int)q;
        ok &= code == expected;
        if (code <= 1) count[code + 1]++;
    }
    return ok;
}

/* ---- one parameter */

typedef struct Count {
    int64_t of[3]; /* -1, 0, +1 */
    int64_t groups;
    double scale; /* sum over the groups */
    int64_t bad;  /* groups that differ */
} Count;

static void count_parameter(const Session *s, const tbc_tensor *param, const tbc_tensor *codes, Count *c) {
    const float *w = device_at(&s->device, param);
    const uint8_t *at = device_at(&s->device, codes);
    int64_t cols = param->dim[param->rank - 1], rows = tensor_values(param) / cols;
    int64_t group = codes->group, groups = (cols + group - 1) / group, row_bytes = (cols + 15) / 16 * 4;
    const uint8_t *scales = at + (rows * row_bytes + 63) / 64 * 64;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t g = 0; g < groups; g++) {
            int64_t first = g * group, n = cols - first < group ? cols - first : group;
            uint16_t scale;
            memcpy(&scale, scales + 2 * (row * groups + g), sizeof scale);
            c->bad += !verify_group(w + row * cols + first, n, scale, at + row * row_bytes, first, c->of);
            c->scale += (double)f16_to_f32(scale);
            c->groups++;
        }
}

static void print_count(const char *name, const char *shape, const Count *c) {
    double n = (double)(c->of[0] + c->of[1] + c->of[2]);
    printf("%-48s %15s %12" PRId64 " %12" PRId64 " %12" PRId64 "  %5.2f /%6.2f /%6.2f  %.3e\n", name, shape,
           c->of[0], c->of[1], c->of[2], 100 * (double)c->of[0] / n, 100 * (double)c->of[1] / n,
           100 * (double)c->of[2] / n, c->scale / (double)c->groups);
}

static const tbc_tensor *codes_of(const LoadedModule *m, const tbc_table *table, const tbc_tensor *param) {
    const tbc_tensor *codes = module_tensor(m, table, TBC_CODES, param->name);
    if (!codes) codes = module_tensor(m, NULL, TBC_CODES, param->name); /* kept from step to step */
    if (!codes || codes->group != param->group || tensor_values(codes) != tensor_values(param) ||
        codes->dim[codes->rank - 1] != param->dim[param->rank - 1]) {
        rt_error(m->path, "the module does not show the codes of %s", param->name);
        return NULL;
    }
    return codes;
}

static bool verify_parameter(const Session *s, const tbc_table *table, const tbc_tensor *param,
                             Count *total) {
    const tbc_tensor *codes = codes_of(&s->module, table, param);
    if (!codes) return false;
    Count c = {0};
    count_parameter(s, param, codes, &c);
    char *shape = rt_printf("%s", "");
    for (uint32_t i = 0; i < param->rank; i++) {
        char *longer = rt_printf("%s%s%" PRId64, shape, i ? "x" : "", param->dim[i]);
        free(shape);
        shape = longer;
    }
    print_count(param->name, shape, &c);
    free(shape);
    for (int i = 0; i < 3; i++) total->of[i] += c.of[i];
    total->groups += c.groups;
    total->scale += c.scale;
    return c.bad == 0 ||
           rt_error(NULL, "%s: %" PRId64 " of %" PRId64 " groups differ from the projection of the weights",
                    param->name, c.bad, c.groups);
}

/* Runs eval, or decode, on zeros: what the codes are does not depend on the input. NULL: an error was
 * printed. */
static const tbc_table *run_forward(Session *s) {
    const tbc_table *table = module_table(&s->module, "eval");
    if (!table && !(table = module_need(&s->module, "decode"))) return NULL;
    for (uint32_t i = 0; i < s->module.desc->ntensors; i++) {
        const tbc_tensor *t = &s->module.desc->tensors[i];
        if (t->kind == TBC_INPUT && t->table == table - s->module.desc->tables)
            memset(device_at(&s->device, t), 0, t->bytes);
    }
    device_run(&s->device, table);
    return table;
}

bool verify_codes(Session *s) {
    const LoadedModule *m = &s->module;
    const tbc_table *table = run_forward(s);
    if (!table) return false;
    bool ok = true;
    int64_t parameters = 0;
    Count total = {0};
    for (uint32_t i = 0; i < m->desc->ntensors; i++) {
        const tbc_tensor *param = &m->desc->tensors[i];
        if (param->kind != TBC_PARAM || param->group == 0) continue;
        if (parameters++ == 0)
            printf("%-48s %15s %12s %12s %12s  %-21s  %s\n", "ternary parameter", "shape", "-1", "0", "+1",
                   "  -1 % /  0 %  / +1 %", "mean scale");
        ok &= verify_parameter(s, table, param, &total);
    }
    if (parameters == 0) {
        printf("no ternary parameters: the model is in full precision\n");
        return true;
    }
    print_count("total", "", &total);
    if (ok)
        printf("verified: %" PRId64 " parameters, %" PRId64 " weights, codes*scales equal the forward pass\n",
               parameters, total.of[0] + total.of[1] + total.of[2]);
    return ok;
}
