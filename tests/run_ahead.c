/* run_ahead OUT.so FLAG..: is what a device does ahead of the host what it would do step by step? The flags
 * are those of tbc-run, for a training that stops being finite. It must leave parameters and moments, bit by
 * bit, as a training leaves them that ends before that step, the number of which is printed. On a GPU,
 * uploads ahead of the device are looked at, too. Exits 1 if something is wrong. */
#include "../runtime/error.h"
#include "../runtime/train.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "run_ahead: %s\n", what);
    exit(1);
}

/* A hash of each parameter, then of each moment. */
static uint64_t *hash_weights(const Session *s) {
    uint64_t *hash = rt_calloc(s->nparams + s->nmoments, sizeof *hash);
    if (!session_download_weights(s)) exit(1);
    for (size_t i = 0; i < s->nparams + s->nmoments; i++) {
        const NamedTensor *t = i < s->nparams ? &s->params[i] : &s->moments[i - s->nparams];
        const size_t values = (size_t)tensor_count(t->rank, t->dim);
        hash[i] = t->bf16 ? tbc_hash(t->bf16, 2 * values) : tbc_hash(t->data, 4 * values);
    }
    return hash;
}

static void fill(const Session *s, const tbc_tensor *t, float value) {
    float *at = device_at(&s->device, t);
    for (int64_t i = 0; i < tensor_values(t); i++) at[i] = value;
}

/* An upload, and then as many others as use all staging memory several times, before anything waits. */
static void check_uploads(Session *s) {
    const tbc_tensor *first = module_tensor(&s->module, NULL, TBC_PARAM, s->params[0].name),
                     *other = module_tensor(&s->module, NULL, TBC_PARAM, s->params[1].name);
    fill(s, first, 1);
    device_upload(&s->device, first);
    fill(s, other, 2);
    for (uint64_t bytes = 0; bytes < UINT64_C(16) << 20; bytes += other->bytes)
        device_upload(&s->device, other);
    fill(s, first, 3);
    device_download(&s->device, first);
    const float *at = device_at(&s->device, first);
    for (int64_t i = 0; i < tensor_values(first); i++)
        if (at[i] != 1) fail("staging memory was used again too early");
}

int main(int argc, char **argv) {
    static Session s;
    Options o;
    if (options_parse(&o, argc, argv) != OPTIONS_RUN || !session_open(&s, &o)) return 1;
    if (train(&s)) fail("all losses were finite");
    uint64_t *failed = hash_weights(&s);
    o.steps = s.state.step, o.log = NULL;
    session_close(&s);
    if (!session_open(&s, &o) || !train(&s)) return 1;
    uint64_t *ended = hash_weights(&s);
    if (memcmp(failed, ended, (s.nparams + s.nmoments) * sizeof *ended) != 0)
        fail("weights or moments were changed");
    printf("failed in step %" PRId64 "\n", o.steps + 1);
    if (s.device.kind == &device_cuda) check_uploads(&s);
    session_close(&s);
    free(failed), free(ended);
    return 0;
}
