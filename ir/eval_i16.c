/* tmatmul with precision "i16", as generated code computes it but for the rounding of f32 sums.
 *
 * A block of a row of activations x, taken as f32, has
 *
 *     scale = max(max |x|, I16_TINY) / I16_MAX       and stands for
 *     x'    = scale * q,   q = roundeven(x * (I16_MAX / max(max |x|, I16_TINY)))
 *
 * With tb (forward) a block lies within one group of the weights, at most I16_BLOCK steps of it. Without
 * (dX), scales of the weights vary along k: what is quantised, in blocks of I16_BLOCK, is x times the
 * scale that its row of weights has for the group of columns at work, and the codes are multiplied. */
#include "eval.h"

#include <math.h>

/* Replaces n activations by what they are rounded to. NaN and infinity spread over the block. */
static void round_block(double *x, int64_t n) {
    float max = (float)I16_TINY;
    for (int64_t i = 0; i < n; i++) {
        float magnitude = fabsf((float)x[i]);
        if (!(magnitude <= max) && !isnan(max)) max = magnitude;
    }
    float scale = max / I16_MAX, inverse = I16_MAX / max;
    for (int64_t i = 0; i < n; i++) {
        /* The product of two floats is exact in f64: one rounding, as of a fused multiply-add. */
        double q = isfinite(scale) ? nearbyint((double)(float)x[i] * (double)inverse) : NAN;
        x[i] = q * (double)scale;
    }
}

/* Rounds k activations; blocks begin anew at each multiple of span. */
static void round_row(double *x, int64_t k, int64_t span) {
    for (int64_t s = 0; s < k; s += span) {
        int64_t n = k - s < span ? k - s : span;
        for (int64_t b = 0; b < n; b += I16_BLOCK)
            round_block(x + s + b, n - b < I16_BLOCK ? n - b : I16_BLOCK);
    }
}

static double sign(double w) {
    return (w > 0) - (w < 0);
}

/* y[n] = x[k] t2[n,k]^T; row: room for k numbers. */
static void forward_row(const Tensor *w, const double *x, double *row, double *y) {
    int64_t n = type_rows(&w->type), k = type_cols(&w->type);
    for (int64_t l = 0; l < k; l++) row[l] = x[l];
    round_row(row, k, w->type.group);
    for (int64_t j = 0; j < n; j++)
        for (int64_t l = 0; l < k; l++) y[j] += row[l] * w->at[j * k + l];
}

/* y[n] = x[k] t2[k,n] for the columns from j0 to j1, which are a group. */
static void backward_row(const Tensor *w, const double *x, double *row, double *y, int64_t j0, int64_t j1) {
    int64_t k = type_rows(&w->type), n = type_cols(&w->type);
    for (int64_t l = 0; l < k; l++) {
        double scale = 0; /* of the group; where all codes are 0 it does not matter */
        for (int64_t j = j0; j < j1; j++) scale = fmax(scale, fabs(w->at[l * n + j]));
        row[l] = (float)x[l] * (float)scale;
    }
    round_row(row, k, k);
    for (int64_t l = 0; l < k; l++)
        for (int64_t j = j0; j < j1; j++) y[j] += row[l] * sign(w->at[l * n + j]);
}

void eval_tmatmul_i16(Eval *e) {
    const Tensor *a = &e->in[0], *w = &e->in[1];
    bool tb = e->n->attrs.tb;
    int64_t rows = type_rows(&a->type), k = type_cols(&a->type), group = w->type.group;
    int64_t n = tb ? type_rows(&w->type) : type_cols(&w->type);
    double *row = arena_array(e->arena, double, k);
    for (int64_t i = 0; i < rows; i++) {
        const double *x = a->at + i * k;
        double *y = e->out[0].at + i * n;
        if (tb) forward_row(w, x, row, y);
        for (int64_t j = 0; !tb && j < n; j += group)
            backward_row(w, x, row, y, j, n - j < group ? n : j + group);
    }
}
