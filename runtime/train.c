/* The training loop: feed a batch, run the step's table, look at the loss; now and then evaluate and save.
 *
 * A module made with --grads fused has one table, train, that does the whole step. One made with --grads
 * buffer has two: backward, which adds a micro-batch's gradients to NAME.grad, and update. Between them is
 * where accumulation and clipping happen:
 *
 *     g = mean of the micro-batches' gradients;  g *= min(1, clip / |g|);  AdamW(g)
 *
 * both as one factor that update multiplies into the gradients.
 *
 * For the steps of a lambda warm-up, table warmup takes the place of train or backward.
 *
 * Table train guards its updates itself: from the first loss on that is not finite, they do nothing (state fault of
 * tbc_module.h). So steps are asked for ahead, on a GPU without waiting for any of them, and looked at together:
 * after --log-every of them, and whenever weights are to be read. If one of them failed, it is as if those after it
 * had not been asked for. With --grads buffer each step is looked at on its way, for the norm of its gradients. */
#include "train.h"
#include "diagnose.h"
#include "error.h"
#include "evaluate.h"
#include "interrupt.h"
#include "report/report.h"
#include "data/rng.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EVAL_MAX_BATCHES 64 /* of an evaluation during training */
#define RECENT           20 /* steps whose mean loss the summary gives */

double learning_rate(const TrainState *st, int64_t step) {
    return st->lr * plan_learning_rate(&st->plan, step);
}

double weight_decay(const TrainState *st, int64_t step) {
    return st->weight_decay * plan_weight_decay(&st->plan, step);
}

void hyper_at(const TrainState *st, const LoadedModule *m, int64_t step, double grad_factor, float hyper[4]) {
    double lr = learning_rate(st, step), t = (double)step;
    double first = m->bias_correction ? 1 - pow(m->beta1, t) : 1;
    double second = m->bias_correction ? 1 - pow(m->beta2, t) : 1;
    hyper[0] = (float)(1 - lr * weight_decay(st, step));
    hyper[1] = (float)(lr / first);
    hyper[2] = (float)(1 / second);
    hyper[3] = (float)grad_factor;
}

/* ---- one step */

/* What the updates of the step to come take beside gradients. */
static void feed_updates(const Session *s, const tbc_table *table, double grad_factor) {
    int64_t step = s->state.step + 1;
    hyper_at(&s->state, &s->module, step, grad_factor, session_input(s, table, "hyper"));
    if (!module_tensor(&s->module, table, TBC_INPUT, "key")) return;
    int32_t key[2] = {(int32_t)s->state.seed, (int32_t)step};
    memcpy(session_input(s, table, "key"), key, sizeof key);
}

typedef struct Step {
    int64_t number, first_example; /* of the step, and where its examples begin */
    double loss, grad_norm;        /* grad_norm -1: not known, the gradients never were in memory */
} Step;

static bool step_finite(const Step *step) {
    return isfinite(step->loss) && isfinite(step->grad_norm);
}

/* The part of the way to their ternary values at which the step to come takes the weights. */
static double next_lambda(const Session *s) {
    return plan_lambda(&s->state.plan, s->state.step + 1);
}

/* The table that computes the loss of the step to come. */
static const tbc_table *next_table(const Session *s) {
    const char *name = s->module.buffer ? "backward" : "train";
    return module_table(&s->module, next_lambda(s) < 1 ? "warmup" : name);
}

/* The inputs of next_table. */
static void feed_next(Session *s, const tbc_table *table) {
    TrainState *st = &s->state;
    if (next_lambda(s) < 1) *(float *)session_input(s, table, "lambda") = (float)next_lambda(s);
    for (int64_t b = 0; b < st->batch; b++) {
        int64_t row = order_at((uint64_t)st->seed, st->shuffle, st->rows, st->examples++);
        session_feed(s, table, DATA_TRAIN, row, b);
    }
}

static double run_loss(Session *s, const tbc_table *table) {
    feed_next(s, table);
    session_upload_inputs(s, table);
    device_run(&s->device, table);
    return (double)*(const float *)session_output(s, table, "loss");
}

/* The loss comes later (device_read_later). Leaves the weights as they were if it is not finite. */
static void fused_step(Session *s, const tbc_table *table, Step *step) {
    feed_updates(s, table, 1);
    feed_next(s, table);
    session_upload_inputs(s, table);
    device_run(&s->device, table);
    device_read_later(&s->device, module_tensor(&s->module, table, TBC_OUTPUT, "loss"), &step->loss);
    step->grad_norm = -1;
}

static void zero_grads(Session *s) {
    for (size_t i = 0; i < s->ngrads; i++) device_zero(&s->device, s->grads[i]);
}

/* Leaves the weights as they were if loss or gradients are not finite. */
static void buffered_step(Session *s, const tbc_table *backward, Step *step) {
    const tbc_table *update = module_table(&s->module, "update");
    const double parts = (double)s->state.accumulate, clip = s->state.clip;
    zero_grads(s);
    for (int64_t i = 0; i < s->state.accumulate; i++) step->loss += run_loss(s, backward) / parts;
    step->grad_norm = sqrt(device_sum_squares(&s->device, s->grads, s->ngrads)) / parts;
    if (!step_finite(step)) return;
    double factor = clip > 0 && step->grad_norm > clip ? clip / step->grad_norm / parts : 1 / parts;
    feed_updates(s, update, factor);
    session_upload_inputs(s, update);
    device_run(&s->device, update);
}

/* Says where the step to come stops being finite. */
static void explain_next(Session *s) {
    const tbc_table *table = next_table(s);
    const tbc_tensor *fault = module_tensor(&s->module, NULL, TBC_STATE, "fault");
    if (diagnose_weights(s, "before this step")) return;
    zero_grads(s);
    if (fault) device_zero(&s->device, fault);
    for (int64_t i = 0; i < s->state.accumulate; i++) {
        feed_next(s, table);
        session_upload_inputs(s, table);
        if (diagnose_table(s, table)) return;
    }
    rt_note("the same step, run again, gives finite values");
}

/* ---- the run */

typedef struct Run {
    Session *s;
    Progress progress;
    RunLog log;
    int64_t first;       /* steps done before this run */
    int64_t saved;       /* step of the checkpoint that this run wrote last, -1: none */
    Step *ahead;         /* steps that were asked for and not looked at yet: nahead, log_every at most */
    int64_t nahead, log_every;
    double asked;        /* when the first of them was */
    double began, busy;  /* start of the run; seconds spent in steps */
    double recent[RECENT];
} Run;

static double tokens_of_step(const TrainState *st) {
    return (double)(st->batch * st->seq * st->accumulate);
}

static void show(Run *r, const Step *step) {
    const TrainState *st = &r->s->state;
    const int64_t last = r->s->last_step;
    if (!progress_due(&r->progress) && step->number != r->first + 1 && step->number != last) return;
    double done = (double)(step->number - r->first), left = (double)(last - step->number);
    const double lambda = plan_lambda(&st->plan, step->number);
    char memory[32], time_left[32], part[32] = "";
    if (lambda < 1) snprintf(part, sizeof part, "  lambda %.2f", lambda);
    progress_show(&r->progress,
                  "step %" PRId64 "/%" PRId64
                  "  loss %.3f  ppl %.2f  lr %.2g%s  %.0f tok/s  %s  %s left",
                  step->number, last, step->loss, exp(step->loss), learning_rate(st, step->number), part,
                  done * tokens_of_step(st) / r->busy, memory_text(memory),
                  duration_text((seconds_now() - r->began) / done * left, time_left));
}

static bool save(Run *r) {
    if (r->saved == r->s->state.step) return true;
    progress_clear(&r->progress);
    r->saved = r->s->state.step;
    return session_save(r->s, r->s->options->save);
}

/* ---- evaluations */

/* An evaluation at the start of a resumed run was counted, if it was due, by the run before. */
static bool count_evaluation(Run *r, double loss) {
    TrainState *st = &r->s->state;
    bool trained = st->step > r->first;
    if (!trained && st->step > 0) return true;
    if (st->best_loss >= 0 && loss >= st->best_loss) {
        st->evals_since_best++;
        return true;
    }
    st->best_loss = loss;
    st->best_step = st->step;
    st->evals_since_best = 0;
    const char *dir = r->s->options->save_best;
    if (!dir || !trained) return true;
    if (!session_save(r->s, dir)) return false;
    printf("saved %s, the best so far\n", dir);
    fflush(stdout);
    return true;
}

static bool evaluate_now(Run *r) {
    progress_clear(&r->progress);
    Evaluation e;
    return evaluate_and_report(r->s, EVAL_MAX_BATCHES, &r->progress, &r->log, &e) &&
           (e.interrupted || count_evaluation(r, e.loss));
}

static bool out_of_patience(const Run *r) {
    const int64_t patience = r->s->options->patience;
    return patience > 0 && r->s->state.evals_since_best >= patience && r->s->state.step > r->first;
}

/* ---- steps */

/* Goes back to where the step began, the weights of which are still there. */
static bool not_finite(Run *r, const Step *step) {
    TrainState *st = &r->s->state;
    progress_clear(&r->progress);
    rt_error(NULL, "step %" PRId64 ": the %s is not finite; stopped without saving (a lower --lr?)", step->number,
             isfinite(step->loss) ? "gradient" : "loss");
    st->step = step->number - 1;
    st->examples = step->first_example;
    explain_next(r->s);
    return false;
}

static bool look_at(Run *r, const Step *step, double seconds) {
    const TrainState *st = &r->s->state;
    if (!step_finite(step)) return not_finite(r, step);
    r->recent[step->number % RECENT] = step->loss;
    return runlog_step(&r->log, step->number, step->loss, learning_rate(st, step->number),
                       tokens_of_step(st) / seconds, step->grad_norm, plan_lambda(&st->plan, step->number));
}

/* Waits for the losses of the steps ahead, and looks at them. Those of buffered steps are there already. */
static bool look(Run *r) {
    const Device *d = &r->s->device;
    if (r->s->module.buffer ? !device_ok(d) : !device_finish(d)) return false;
    const int64_t n = r->nahead;
    const double seconds = seconds_now() - r->asked;
    r->nahead = 0;
    if (n == 0) return true;
    r->busy += seconds;
    for (int64_t i = 0; i < n; i++)
        if (!look_at(r, &r->ahead[i], seconds / (double)n)) return false;
    show(r, &r->ahead[n - 1]);
    return true;
}

static void ask_for_step(Run *r) {
    Session *s = r->s;
    if (r->nahead == 0) r->asked = seconds_now();
    Step *step = &r->ahead[r->nahead++];
    *step = (Step){.number = s->state.step + 1, .first_example = s->state.examples};
    (s->module.buffer ? buffered_step : fused_step)(s, next_table(s), step);
    s->state.step++;
}

static bool one_step(Run *r) {
    const Options *o = r->s->options;
    ask_for_step(r);
    const int64_t step = r->s->state.step;
    const bool last = step == r->s->last_step;
    const bool evaluation = o->eval_every > 0 && (step % o->eval_every == 0 || last);
    const bool saving = o->save_every > 0 && step % o->save_every == 0;
    const bool due = step % r->log_every == 0 || step == r->first + 1 || last || evaluation || saving;
    if (!device_ok(&r->s->device) || (due && !look(r))) return false;
    return (!evaluation || evaluate_now(r)) && (!saving || save(r));
}

static void summarize(const Run *r) {
    const TrainState *st = &r->s->state;
    int64_t done = st->step - r->first, n = done < RECENT ? done : RECENT;
    if (out_of_patience(r))
        printf("stopped early: %" PRId64 " evaluations no better than that of step %" PRId64 ", %.6f\n",
               st->evals_since_best, st->best_step, st->best_loss);
    if (done == 0) {
        printf("trained 0 steps\n");
        return;
    }
    double loss = r->recent[st->step % RECENT], mean = 0;
    for (int64_t i = 0; i < n; i++) mean += r->recent[(st->step - i) % RECENT] / (double)n;
    char time[32];
    printf("trained %" PRId64 " steps, to step %" PRId64
           ", in %s: loss %.6f, perplexity %.4f; mean loss of the last %" PRId64 ": %.6f; %.0f tokens/s\n",
           done, st->step, duration_text(seconds_now() - r->began, time), loss, exp(loss), n, mean,
           (double)done * tokens_of_step(st) / r->busy);
}

static bool run(Run *r) {
    Session *s = r->s;
    const Options *o = s->options;
    bool unnamed = o->report && !o->log;
    if (unnamed ? !runlog_open_unnamed(&r->log) : !runlog_open(&r->log, o->log, o->resume != NULL)) return false;
    if (o->eval_every > 0 && !evaluate_now(r)) return false;
    r->began = seconds_now();
    while (s->state.step < s->last_step && !interrupt_pending() && !out_of_patience(r))
        if (!one_step(r)) return false;
    if (!look(r)) return false;
    progress_clear(&r->progress);
    if (o->save && !save(r)) return false;
    if (!device_finish(&s->device)) return false;
    summarize(r);
    if (o->save) printf("saved %s\n", o->save);
    return true;
}

/* Also of a run that failed or was interrupted: it is looked into all the more. */
static bool report(const Run *r, RunLog *log, double seconds) {
    const char *path = r->s->options->report;
    if (!path || !log->file) return true;
    if (!report_write(r->s, log, seconds)) return false;
    printf("wrote %s\n", path);
    return true;
}

bool train(Session *s) {
    const Options *o = s->options;
    Run r = {.s = s, .progress = progress_start(o->quiet), .first = s->state.step, .saved = -1};
    interrupt_catch(o->quiet);
    if (o->report && !report_can_write(o->report)) return false;
    r.log_every = s->module.buffer ? 1 : o->log_every > 0 ? o->log_every : s->device.kind->steps_ahead;
    r.ahead = rt_calloc((size_t)r.log_every, sizeof *r.ahead);
    double start = seconds_now();
    bool ok = run(&r);
    free(r.ahead);
    progress_clear(&r.progress);
    ok = report(&r, &r.log, seconds_now() - start) && ok;
    return runlog_close(&r.log) && ok;
}
