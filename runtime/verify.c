/* --verify: counts the codes of every ternary parameter and checks them against the definition,
 *
 *     s = f16(mean|w|) of a group, q = clip(roundeven(w / s), -1, 1), q = 0 where s = 0
 *
 * computed here again from the latent weights, in plain C. What is compared with are the very buffers that
 * the forward pass reads (TBC_CODES), as project or the last update left them, so agreement means that code *
 * scale is what it uses.
 *
 * The mean is computed in f64 here and in f32, in an order of its own, by the kernel. Within 1e-6 of a
 * rounding boundary of f16 the two may round differently; there, and only there, both neighbours count as
 * right, and the codes are checked against the stored scale. */
#include "verify.h"
#include "codes.h"
#include "error.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        int code = code_at(row_codes, j);
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

static void count_parameter(const Session *s, const tbc_tensor *param, const Codes *codes, Count *c) {
    const float *w = device_at(&s->device, param);
    for (int64_t row = 0; row < codes->rows; row++)
        for (int64_t g = 0; g < codes->groups; g++) {
            int64_t first = g * codes->group, left = codes->cols - first;
            int64_t n = left < codes->group ? left : codes->group;
            uint16_t scale = codes_scale(codes, row, g);
            c->bad += !verify_group(w + row * codes->cols + first, n, scale,
                                    codes->at + row * codes->row_bytes, first, c->of);
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

static bool verify_parameter(const Session *s, const tbc_tensor *param, Count *total) {
    Codes codes;
    if (!codes_of(s, param, &codes)) return false;
    Count c = {0};
    count_parameter(s, param, &codes, &c);
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

bool verify_codes(Session *s) {
    const LoadedModule *m = &s->module;
    if (!session_download_weights(s)) return false;
    bool ok = true;
    int64_t parameters = 0;
    Count total = {0};
    for (uint32_t i = 0; i < m->desc->ntensors; i++) {
        const tbc_tensor *param = &m->desc->tensors[i];
        if (param->kind != TBC_PARAM || param->group == 0) continue;
        if (parameters++ == 0)
            printf("%-48s %15s %12s %12s %12s  %-21s  %s\n", "ternary parameter", "shape", "-1", "0", "+1",
                   "  -1 % /  0 %  / +1 %", "mean scale");
        ok &= verify_parameter(s, param, &total);
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
