/* The roofline of a CPU: arithmetic at full speed and memory read from end to end, the best of some runs. That
 * of a GPU is known. */
#include "roofline.h"

enum { RUNS = 20 };

static double best_seconds(Device *d, const tbc_table *one) {
    double best = 1e30;
    for (int run = 0; run < RUNS; run++) {
        double start = seconds_now();
        device_run(d, one);
        double seconds = seconds_now() - start;
        if (seconds < best) best = seconds;
    }
    return best;
}

Roofline roofline_of(Device *d) {
    Roofline r = {0};
    if (d->kind->roofline) return d->kind->roofline(d);
    const tbc_module_t *m = d->module->desc;
    const tbc_table *table = module_table(d->module, "roofline");
    Profile *profile = d->profile;
    d->profile = NULL;
    for (uint32_t i = 0; table && i < table->count; i++) {
        const tbc_launch *l = &m->launches[table->first + i];
        double seconds = best_seconds(d, &(tbc_table){table->name, table->first + i, 1});
        if (l->flops)
            r.peak[m->kernels[l->kernel].math] = (double)l->flops / seconds;
        else
            r.bandwidth = (double)l->bytes / seconds;
    }
    d->profile = profile;
    return r;
}
