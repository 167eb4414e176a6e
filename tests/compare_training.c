/* compare_training GOLDEN LOG STEP1 AFTER [FIRST LOSSES GRADIENTS WEIGHTS]: does a training run equal
 * PyTorch's?
 *
 *   GOLDEN  directory with expected.json (losses), model, grads and after.safetensors
 *   LOG     --log of the run over all steps
 *   STEP1   checkpoint saved after one step: its first moments are 0.1 * gradient
 *   AFTER   checkpoint saved after all steps
 *
 * Prints the largest relative errors, exits 1 above the tolerances: FIRST (1e-5) for the first loss, LOSSES
 * (1e-5) for all of them, GRADIENTS (1e-4) of the tensor's norm, WEIGHTS (1e-2) of the norm of the final
 * weights' change. */
#include "../runtime/error.h"
#include "../runtime/files/safetensors.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "compare_training: %s\n", what);
    exit(1);
}

static SafeTensors *open_in(const char *dir, const char *file) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    SafeTensors *st = st_open(path);
    if (!st) exit(1);
    return st;
}

static float *values(const SafeTensors *st, const char *name, int64_t *n) {
    const StTensor *t = st_find(st, name);
    if (!t) fail(name);
    *n = tensor_count(t->rank, t->dim);
    float *out = rt_calloc((size_t)*n, sizeof *out);
    if (!st_read_f32(t, out)) exit(1);
    return out;
}

/* |scale*a - b| / |b - origin|, origin NULL meaning zero. NaN counts as infinite. */
static double relative_error(const float *a, double scale, const float *b, const float *origin, int64_t n) {
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = scale * a[i] - b[i], r = b[i] - (origin ? origin[i] : 0);
        error += d * d, norm += r * r;
    }
    double e = sqrt(error / (norm > 0 ? norm : 1));
    return isnan(e) ? INFINITY : e;
}

/* Of the first step in error[0], of the worst one in error[1]. */
static void loss_errors(const char *golden, const char *log_path, double error[2]) {
    char path[4096], line[4096];
    snprintf(path, sizeof path, "%s/expected.json", golden);
    FILE *f = fopen(path, "rb");
    static char text[1 << 20];
    if (!f || !fread(text, 1, sizeof text - 1, f)) fail(path);
    fclose(f);
    cJSON *expected = cJSON_Parse(text), *losses = cJSON_GetObjectItemCaseSensitive(expected, "losses");
    FILE *log = fopen(log_path, "r");
    if (!losses || !log) fail("no losses to compare");
    int steps = 0;
    while (fgets(line, sizeof line, log)) {
        cJSON *row = cJSON_Parse(line), *loss = cJSON_GetObjectItemCaseSensitive(row, "loss");
        if (loss) {
            double want = cJSON_GetArrayItem(losses, steps++)->valuedouble;
            double e = fabs(loss->valuedouble - want) / want;
            if (steps == 1) error[0] = e;
            error[1] = fmax(error[1], e);
        }
        cJSON_Delete(row);
    }
    if (steps != cJSON_GetArraySize(losses)) fail("the log has another number of steps than expected.json");
    fclose(log);
    cJSON_Delete(expected);
}

int main(int argc, char **argv) {
    if (argc != 5 && argc != 9)
        fail("usage: compare_training GOLDEN LOG STEP1 AFTER [FIRST LOSSES GRADIENTS WEIGHTS]");
    double tolerance[4] = {1e-5, 1e-5, 1e-4, 1e-2};
    for (int i = 5; i < argc; i++) tolerance[i - 5] = strtod(argv[i], NULL);
    double loss[2] = {INFINITY, 0}, gradient = 0, weight = 0;
    loss_errors(argv[1], argv[2], loss);
    SafeTensors *model = open_in(argv[1], "model.safetensors"),
                *grads = open_in(argv[1], "grads.safetensors");
    SafeTensors *after = open_in(argv[1], "after.safetensors"), *got = open_in(argv[4], "model.safetensors");
    SafeTensors *moments = open_in(argv[3], "optimizer.safetensors");
    for (size_t i = 0; i < st_count(model); i++) {
        const char *name = st_at(model, i)->name;
        char moment[512];
        snprintf(moment, sizeof moment, "%s.m", name);
        int64_t n, check;
        float *start = values(model, name, &n), *want = values(grads, name, &check),
              *m = values(moments, moment, &check);
        if (check != n) fail(name);
        float *end = values(after, name, &check), *w = values(got, name, &check);
        if (check != n) fail(name);
        gradient = fmax(gradient, relative_error(m, 10, want, NULL, n));
        weight = fmax(weight, relative_error(w, 1, end, start, n));
        free(start), free(want), free(m), free(end), free(w);
    }
    printf("largest relative error: first loss %.1e, losses %.1e, gradients %.1e, weights %.1e\n", loss[0],
           loss[1], gradient, weight);
    st_close(model), st_close(grads), st_close(after), st_close(got), st_close(moments);
    return !(loss[0] <= tolerance[0] && loss[1] <= tolerance[1] && gradient <= tolerance[2] &&
             weight <= tolerance[3]);
}
