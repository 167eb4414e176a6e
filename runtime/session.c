/* Opening a session: module, tokenizer, data, device, weights, in the order in which mistakes are cheapest
 * to find. */
#include "session.h"
#include "data/datasets.h"
#include "error.h"
#include "files/replace_dir.h"
#include "data/rng.h"
#include "device/roofline.h"
#include "same_config.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_STEPS 1000

/* ---- does the module have what is asked of it? */

static bool check_tables(const LoadedModule *m, const Options *o) {
    if (o->train && m->buffer && !(module_need(m, "backward") && module_need(m, "update"))) return false;
    if (o->train && !m->buffer && !module_need(m, "train")) return false;
    if ((o->eval_only || o->eval_every > 0) && !module_need(m, "eval")) return false;
    if (o->generate && !module_need(m, "decode")) return false;
    if (!m->buffer && (o->accumulate > 1 || o->clip > 0))
        return rt_error(m->path, "%s needs gradients in memory (compile with --grads buffer)",
                        o->clip > 0 ? "--clip" : "--accumulate");
    return true;
}

/* Can the split be evaluated as --split and --stride say? */
static bool check_protocol(const Session *s) {
    const Options *o = s->options;
    DataSplit split = dataset_eval_split(s->data, o->split);
    int64_t seq = s->module.seq;
    if (!dataset_rows(s->data, split))
        return rt_error(o->data, "there is no %s split here (expected %s.txt)", o->split, o->split);
    if (o->stride > seq)
        return rt_error(NULL,
                        "--stride %" PRId64
                        " would leave targets out (expected at most the module's seq of %" PRId64 ")",
                        o->stride, seq);
    if (o->stride > 0 && dataset_windows(s->data, split, o->stride) < 0)
        return rt_error(dataset_path(s->data, split),
                        "rows of examples are evaluated as they are (leave --stride out)");
    return true;
}

const char *session_model(const Session *s) {
    return s->options->resume ? s->options->resume : s->options->weights;
}

static bool open_data(Session *s) {
    const Options *o = s->options;
    const char *model = session_model(s);
    if (o->resume) dir_recover(o->resume); /* it may have a tokenizer */
    if (model && !same_config(model, s->module.config)) return false;
    s->tokenizer = tokenizer_choose(o->tokenizer, model, s->module.vocab);
    if (!s->tokenizer) return false;
    bool written = o->save || o->save_best || o->export;
    if (written && !companions_open(&s->companions, s->tokenizer, model)) return false;
    if (!o->data) return true;
    char *path = dataset_locate(o->data, o->quiet);
    s->data = path ? dataset_open(path, s->tokenizer, s->module.seq, s->module.vocab) : NULL;
    free(path);
    if (!s->data) return false;
    s->row = rt_calloc((size_t)s->module.seq + 1, sizeof *s->row);
    if (o->train && dataset_rows(s->data, DATA_TRAIN) == 0)
        return rt_error(o->data, "there is nothing to train on (expected train.txt)");
    return !o->eval_only || check_protocol(s);
}

/* ---- the tensors that outlive a run of a table */

static bool is_grad(const tbc_tensor *t) {
    size_t n = strlen(t->name);
    return n > 5 && !strcmp(t->name + n - 5, ".grad");
}

static void append(const Device *d, const tbc_tensor *t, NamedTensor *list, size_t *n) {
    NamedTensor *to = &list[(*n)++];
    *to = (NamedTensor){.name = t->name, .rank = t->rank};
    if (t->dtype == TBC_BF16)
        to->bf16 = device_at(d, t);
    else
        to->data = device_at(d, t);
    memcpy(to->dim, t->dim, t->rank * sizeof *t->dim);
}

static void list_tensors(Session *s) {
    const tbc_module_t *d = s->module.desc;
    s->params = rt_calloc(d->ntensors, sizeof *s->params);
    s->moments = rt_calloc(d->ntensors, sizeof *s->moments);
    s->grads = rt_calloc(d->ntensors, sizeof *s->grads);
    for (uint32_t i = 0; i < d->ntensors; i++) {
        const tbc_tensor *t = &d->tensors[i];
        if (t->kind == TBC_PARAM) append(&s->device, t, s->params, &s->nparams);
        if (t->kind != TBC_STATE || s->module.frozen) continue;
        if (is_grad(t)) s->grads[s->ngrads++] = t;
        if (tensor_is_moment(t)) append(&s->device, t, s->moments, &s->nmoments);
    }
}

static bool is_weight(const Session *s, const tbc_tensor *t) {
    return t->kind == TBC_PARAM || (tensor_is_moment(t) && !s->module.frozen);
}

/* Moments are zero, as the whole arena is, unless they come from a checkpoint. */
static bool has_moments(const Options *o) {
    return o->resume && o->train;
}

static void upload_weights(const Session *s) {
    const tbc_module_t *d = s->module.desc;
    for (uint32_t i = 0; i < d->ntensors; i++)
        if (has_moments(s->options) ? is_weight(s, &d->tensors[i]) : d->tensors[i].kind == TBC_PARAM)
            device_upload(&s->device, &d->tensors[i]);
}

bool session_download_weights(const Session *s) {
    const tbc_module_t *d = s->module.desc;
    for (uint32_t i = 0; i < d->ntensors; i++)
        if (is_weight(s, &d->tensors[i])) device_download(&s->device, &d->tensors[i]);
    return device_ok(&s->device);
}

/* ---- where training stands */

/* A checkpoint goes on with the same examples in the same order, or not at all. */
static bool check_resumed(const Session *s, int64_t rows, int64_t fingerprint) {
    const Options *o = s->options;
    const TrainState *st = &s->state;
    if (!o->train) return true;
    if (o->seed >= 0 && o->seed != st->seed)
        return rt_error(o->resume, "was trained with --seed %" PRId64 " (leave --seed out)", st->seed);
    if (o->no_shuffle && st->shuffle)
        return rt_error(o->resume, "was trained on shuffled data (leave --no-shuffle out)");
    if (st->seq != s->module.seq)
        return rt_error(o->resume,
                        "was trained with --seq %" PRId64 ", the module has %" PRId64
                        " (to start anew from its weights, use --weights)",
                        st->seq, s->module.seq);
    if (st->rows != rows || st->data != fingerprint)
        return rt_error(o->resume,
                        "was trained on other data than %s (to start anew from its weights, use --weights)",
                        o->data);
    return true;
}

/* The recipe: what the flags say, else the checkpoint, else the module. */
static void take_flags(const Options *o, TrainState *st) {
    if (o->lr >= 0) st->lr = o->lr;
    if (o->warmup >= 0) st->plan.warmup = o->warmup;
    if (o->weight_decay >= 0) st->weight_decay = o->weight_decay;
    if (o->accumulate >= 0) st->accumulate = o->accumulate;
    if (o->clip >= 0) st->clip = o->clip;
    if (o->lambda_warmup >= 0) st->plan.lambda_warmup = o->lambda_warmup;
}

/* A step of the lambda warm-up is a table of its own. */
static bool check_lambda(const Session *s) {
    if (!s->options->train || plan_lambda(&s->state.plan, s->state.step + 1) >= 1 ||
        module_table(&s->module, "warmup"))
        return true;
    return rt_error(s->module.path, "--lambda-warmup needs a table 'warmup' (compile a spec with "
                                    "\"ternary\": {\"lambda_warmup\": true})");
}

/* The plan: the flags, else the checkpoint, else DEFAULT_STEPS at a constant rate. It grows when this run
 * goes beyond it. */
static bool take_plan(Session *s) {
    const Options *o = s->options;
    const TrainState *st = &s->state;
    Plan *p = &s->state.plan;
    if (o->schedule) {
        p->schedule = schedule_named(o->schedule);
        p->decay_fraction = schedule_decay_fraction(p->schedule);
    }
    if (o->decay_fraction >= 0 && p->schedule == SCHEDULE_constant)
        return rt_error(NULL, "--decay-fraction: a constant rate does not decay (give --schedule)");
    if (o->decay_fraction >= 0) p->decay_fraction = o->decay_fraction;
    if (o->weight_decay_until >= 0) p->weight_decay_until = o->weight_decay_until;
    if (o->total_steps >= 0) p->total = o->total_steps;
    bool planned = o->total_steps >= 0 || p->total > st->step;
    s->last_step = o->steps >= 0 ? st->step + o->steps : planned ? p->total : st->step + DEFAULT_STEPS;
    int64_t end = s->last_step > st->step ? s->last_step : st->step;
    if (o->total_steps >= 0 && end > o->total_steps)
        return rt_error(NULL, "--total-steps %" PRId64 ": this run ends at step %" PRId64, o->total_steps,
                        end);
    if (p->total < end) p->total = end;
    return true;
}

static bool start(Session *s) {
    const Options *o = s->options;
    const LoadedModule *m = &s->module;
    int64_t rows = o->train ? dataset_rows(s->data, DATA_TRAIN) : 0;
    int64_t fingerprint = o->train ? dataset_fingerprint(s->data, DATA_TRAIN) : 0;
    if (o->resume) {
        if (!checkpoint_load(o->resume, s->params, s->nparams, has_moments(o) ? s->moments : NULL, s->nmoments,
                             &s->state) ||
            !check_resumed(s, rows, fingerprint))
            return false;
        if (!m->buffer && (s->state.accumulate > 1 || s->state.clip > 0))
            return rt_error(o->resume,
                            "was trained with --accumulate or --clip (compile with --grads buffer)");
    } else {
        s->state = (TrainState){.seed = o->seed >= 0 ? o->seed : 0,
                                .shuffle = !o->no_shuffle,
                                .accumulate = 1,
                                .rows = rows,
                                .data = fingerprint,
                                .lr = m->lr,
                                .weight_decay = m->weight_decay,
                                .plan = {.warmup = m->warmup, .weight_decay_until = 1},
                                .best_loss = -1};
        if (o->weights && !weights_load(o->weights, s->params, s->nparams)) return false;
        for (size_t i = 0; i < s->nparams && !o->weights; i++) {
            const NamedTensor *p = &s->params[i];
            rng_init_tensor((uint64_t)s->state.seed, p->name, p->rank, p->dim, p->data);
        }
    }
    s->state.batch = m->batch;
    s->state.seq = m->seq;
    take_flags(o, &s->state);
    return check_lambda(s) && take_plan(s);
}

/* Which tokenizer it is goes without a word only where no text comes in. */
static void announce(const Session *s) {
    const Options *o = s->options;
    if (!o->quiet && strcmp(o->device, "cpu")) fprintf(stderr, "device: %s\n", s->device.name);
    if (!o->quiet && (o->data || o->generate))
        fprintf(stderr, "tokenizer: %s (%" PRId64 " tokens)\n", tokenizer_name(s->tokenizer),
                tokenizer_vocab(s->tokenizer));
}

bool session_open(Session *s, const Options *o) {
    *s = (Session){.options = o};
    if (!module_load(&s->module, o->module) || !check_tables(&s->module, o)) return false;
    if (o->save && !checkpoint_can_save(o->save)) return false;
    if (o->save_best && !checkpoint_can_save(o->save_best)) return false;
    if (!open_data(s)) return false;
    s->module.frozen = !o->train;
    if (!device_open(&s->device, &s->module, o->device, o->threads > 0 ? (int)o->threads : 0)) return false;
    list_tensors(s);
    if (!start(s)) return false;
    upload_weights(s);
    if (o->profile) { /* now: memory that nobody has written yet is read from a cache */
        profile_open(&s->profile, &s->module);
        s->profile.roofline = roofline_of(&s->device);
        s->device.profile = &s->profile;
    }
    const tbc_table *project = module_table(&s->module, "project");
    if (project) device_run(&s->device, project);
    announce(s);
    return true;
}

void session_close(Session *s) {
    free(s->params), free(s->moments), free(s->grads), free(s->row);
    profile_close(&s->profile);
    device_close(&s->device);
    dataset_close(s->data);
    companions_close(&s->companions);
    tokenizer_close(s->tokenizer);
    module_unload(&s->module);
}

/* ---- for train, evaluate, verify, generate */

void *session_input(const Session *s, const tbc_table *table, const char *name) {
    return device_at(&s->device, module_tensor(&s->module, table, TBC_INPUT, name));
}

void session_upload_inputs(const Session *s, const tbc_table *table) {
    const tbc_module_t *d = s->module.desc;
    for (uint32_t i = 0; i < d->ntensors; i++)
        if (d->tensors[i].kind == TBC_INPUT && d->tensors[i].table == table - d->tables)
            device_upload(&s->device, &d->tensors[i]);
}

const void *session_output(const Session *s, const tbc_table *table, const char *name) {
    const tbc_tensor *t = module_tensor(&s->module, table, TBC_OUTPUT, name);
    device_download(&s->device, t);
    return device_at(&s->device, t);
}

/* Copies s->row into place b of the table's inputs. */
static void feed(Session *s, const tbc_table *table, int64_t b) {
    int32_t *tokens = session_input(s, table, "tokens");
    int32_t *targets = session_input(s, table, "targets");
    size_t seq = (size_t)s->module.seq;
    memcpy(tokens + (size_t)b * seq, s->row, seq * sizeof *tokens);
    memcpy(targets + (size_t)b * seq, s->row + 1, seq * sizeof *targets);
}

void session_feed(Session *s, const tbc_table *table, DataSplit split, int64_t row, int64_t b) {
    dataset_row(s->data, split, row, s->row);
    feed(s, table, b);
}

void session_feed_window(Session *s, const tbc_table *table, DataSplit split, int64_t stride, int64_t window,
                         int64_t b) {
    dataset_window(s->data, split, stride, window, s->row);
    feed(s, table, b);
}

static bool all_finite(const NamedTensor *tensors, size_t n, int64_t step) {
    for (size_t i = 0; i < n; i++) {
        const NamedTensor *t = &tensors[i];
        int64_t count = tensor_count(t->rank, t->dim);
        for (int64_t j = 0; j < count; j++)
            if (!isfinite(tensor_value(t, j)))
                return rt_error(NULL,
                                "%s is no longer finite after step %" PRId64 "; not saved (a lower --lr?)",
                                t->name, step);
    }
    return true;
}

bool session_save(const Session *s, const char *dir) {
    return session_download_weights(s) && all_finite(s->params, s->nparams, s->state.step) &&
           all_finite(s->moments, s->nmoments, s->state.step) &&
           checkpoint_save(dir, s->module.config, s->params, s->nparams, s->moments, s->nmoments, &s->state,
                           &s->companions);
}
