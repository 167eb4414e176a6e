/* After a loss or gradient that is not finite: the table is run again, launch by launch, and all that a
 * launch worked on is looked at before and after it. Only tensors that the module lists can be looked at, so
 * the launch's arguments, offsets into the arena, are matched with those that are alive at that launch. Slow,
 * but it happens once.
 *
 * Of a packed projection, the scales are looked at: its codes are always finite. */
#include "diagnose.h"
#include "codes.h"
#include "error.h"
#include "files/f16.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NOTES = 8 }; /* parameters that are named */

/* ---- ranges */

typedef struct Range {
    int64_t n, bad;  /* values, and how many of them are not finite */
    double min, max; /* of those that are */
    uint64_t hash;   /* of all, to see whether a launch wrote here */
} Range;

static void range_add(Range *r, double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    r->hash = (r->hash ^ bits) * 0x100000001b3u;
    r->n++;
    if (!isfinite(x)) {
        r->bad++;
    } else {
        r->min = fmin(r->min, x);
        r->max = fmax(r->max, x);
    }
}

static Range range_of_tensor(const NamedTensor *t) {
    Range r = {.min = INFINITY, .max = -INFINITY};
    int64_t n = tensor_count(t->rank, t->dim);
    for (int64_t i = 0; i < n; i++) range_add(&r, (double)tensor_value(t, i));
    return r;
}

/* n is 0 for what cannot be other than finite. */
static Range range_of(const Session *s, const tbc_tensor *t) {
    device_download(&s->device, t);
    void *at = device_at(&s->device, t);
    Range r = {.min = INFINITY, .max = -INFINITY};
    NamedTensor flat = {.rank = 1, .dim = {tensor_values(t)}};
    if (t->dtype == TBC_F32) flat.data = at;
    if (t->dtype == TBC_BF16) flat.bf16 = at;
    if (flat.data || flat.bf16) return range_of_tensor(&flat);
    if (t->dtype != TBC_T2) return r;
    Codes codes = codes_at(t, at);
    for (int64_t row = 0; row < codes.rows; row++)
        for (int64_t g = 0; g < codes.groups; g++)
            range_add(&r, (double)f16_to_f32(codes_scale(&codes, row, g)));
    return r;
}

static void note_range(const char *role, const char *name, const Range *r) {
    if (r->bad == r->n)
        rt_note("  %s %s: none of its %" PRId64 " values is finite", role, name, r->n);
    else
        rt_note("  %s %s: %.6g to %.6g, %" PRId64 " of %" PRId64 " values not finite", role, name, r->min,
                r->max, r->bad, r->n);
}

/* ---- weights */

bool diagnose_weights(const Session *s, const char *when) {
    int64_t found = 0;
    if (!session_download_weights(s)) return true; /* the error is printed */
    for (size_t i = 0; i < s->nparams + s->nmoments; i++) {
        bool moment = i >= s->nparams;
        const NamedTensor *t = moment ? &s->moments[i - s->nparams] : &s->params[i];
        Range r = range_of_tensor(t);
        if (r.bad == 0 || found++ >= NOTES) continue;
        if (found == 1) rt_note("not finite %s:", when);
        note_range(moment ? "moment" : "parameter", t->name, &r);
    }
    if (found > NOTES) rt_note("  and %" PRId64 " more", found - NOTES);
    return found > 0;
}

/* ---- launches and the tensors they work on */

static bool within(const tbc_tensor *t, uint64_t at) {
    return at >= t->offset && at - t->offset < t->bytes;
}

/* Does it update parameters, that is, work on their moments? */
static bool launch_updates(const LoadedModule *m, const tbc_launch *l) {
    const tbc_module_t *d = m->desc;
    for (uint32_t t = 0; t < d->ntensors; t++) {
        if (!tensor_is_moment(&d->tensors[t])) continue;
        for (uint32_t i = 0; i < l->nargs; i++)
            if (within(&d->tensors[t], d->args[l->args + i])) return true;
    }
    return false;
}

typedef struct Argument {
    const tbc_tensor *tensor; /* NULL: nothing that the module lists, or nothing yet */
    Range range;
} Argument;

static void look(const Session *s, const tbc_table *table, uint32_t i, const tbc_launch *l, bool after,
                 Argument *out) {
    for (uint32_t j = 0; j < l->nargs; j++) {
        const tbc_tensor *t = module_tensor_at(&s->module, table, i, s->module.desc->args[l->args + j], after);
        out[j] = (Argument){t, t ? range_of(s, t) : (Range){0}};
    }
}

/* Temporaries that this launch begins to write: what lies there is of no one, and may look like a NaN. */
static void clear_results(Session *s, const tbc_table *table, uint32_t i, const tbc_launch *l,
                          const Argument *before) {
    for (uint32_t j = 0; j < l->nargs; j++) {
        const tbc_tensor *t = module_tensor_at(&s->module, table, i, s->module.desc->args[l->args + j], true);
        if (!before[j].tensor && t && t->kind == TBC_TEMP) device_zero(&s->device, t);
    }
}

/* Up to here all operands were finite, so what was not is a result of a run before; and so is an output or
 * projection that the launch wrote over. */
static bool is_operand(const Argument *before, const Argument *now) {
    if (!before->tensor || before->range.n == 0 || before->range.bad) return false;
    bool written = before->range.hash != now->range.hash;
    return !written || (before->tensor->kind != TBC_OUTPUT && before->tensor->kind != TBC_CODES);
}

static void note_argument(const char *role, const Argument *a) {
    char *name = rt_printf("%s%s", a->tensor->dtype == TBC_T2 ? "scales of " : "", a->tensor->name);
    note_range(role, name, &a->range);
    free(name);
}

static void note_launch(const Session *s, const tbc_table *table, uint32_t i, const Argument *before,
                        const Argument *now) {
    const tbc_launch *l = &s->module.desc->launches[table->first + i];
    rt_note("first in launch %u of table %s: %s (kernel %s)", i, table->name, l->label,
            s->module.desc->kernels[l->kernel].name);
    for (uint32_t j = 0; j < l->nargs; j++)
        if (is_operand(&before[j], &now[j])) note_argument("operand", &before[j]);
    for (uint32_t j = 0; j < l->nargs; j++)
        if (now[j].range.bad) note_argument("result", &now[j]);
}

/* Runs launch i. True: it left something that is not finite; it was noted. */
static bool diagnose_launch(Session *s, const tbc_table *table, uint32_t i) {
    const tbc_launch *l = &s->module.desc->launches[table->first + i];
    Argument *before = rt_calloc(2 * (size_t)l->nargs, sizeof *before), *now = before + l->nargs;
    look(s, table, i, l, false, before);
    clear_results(s, table, i, l, before);
    device_run(&s->device, &(tbc_table){table->name, table->first + i, 1});
    look(s, table, i, l, true, now);
    bool bad = false;
    for (uint32_t j = 0; j < l->nargs; j++) bad |= now[j].range.bad > 0;
    if (bad) note_launch(s, table, i, before, now);
    free(before);
    return bad;
}

static bool diagnose_launches(Session *s, const tbc_table *table) {
    for (uint32_t i = 0; i < table->count; i++)
        if (!launch_updates(&s->module, &s->module.desc->launches[table->first + i]) &&
            diagnose_launch(s, table, i))
            return true;
    return false;
}

/* What the table reads codes of is projected once more, so that a bad scale is found where it is made. */
bool diagnose_table(Session *s, const tbc_table *table) {
    const tbc_table *project = module_table(&s->module, "project");
    return (project && diagnose_launches(s, project)) || diagnose_launches(s, table);
}
