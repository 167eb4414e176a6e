/* Evaluation. The protocol: windows of seq tokens in the order of the split, each `stride` tokens after the
 * one before; every window starts from an empty context, and each of its targets is predicted from the tokens
 * before it in the window. With stride seq windows do not overlap and every target counts. With a smaller
 * one, after the first window only the last `stride` targets do: each target counts once, and has at least
 * seq - stride tokens of context, or all there are. The loss is the mean over the targets that count, added
 * up in f64. */
#include "evaluate.h"
#include "codes.h"
#include "diagnose.h"
#include "interrupt.h"
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Adds the next `rows` windows; returns the sum of their losses. A batch that is not full repeats its last
 * window, and the surplus is not counted. */
static double batch_loss(Session *s, const tbc_table *table, Evaluation *e, int64_t rows) {
    const LoadedModule *m = &s->module;
    for (int64_t b = 0; b < m->batch; b++)
        session_feed_window(s, table, e->split, e->stride, e->rows + (b < rows ? b : rows - 1), b);
    session_upload_inputs(s, table);
    device_run(&s->device, table);
    const float *nll = session_output(s, table, "nll");
    double sum = 0;
    for (int64_t b = 0; b < rows; b++) {
        int64_t skip = e->rows + b > 0 ? m->seq - e->stride : 0;
        for (int64_t i = skip; i < m->seq; i++) sum += (double)nll[b * m->seq + i];
        e->targets += m->seq - skip;
    }
    e->rows += rows;
    return sum;
}

bool evaluate(Session *s, int64_t max_batches, Progress *progress, Evaluation *e) {
    const tbc_table *table = module_table(&s->module, "eval");
    const int64_t batch = s->module.batch;
    const Options *o = s->options;
    *e = (Evaluation){.split = dataset_eval_split(s->data, o->split),
                      .stride = o->stride > 0 ? o->stride : s->module.seq};
    e->of_rows = dataset_windows(s->data, e->split, e->stride);
    int64_t limit = max_batches > 0 && e->of_rows / batch >= max_batches ? max_batches * batch : e->of_rows;
    double sum = 0;
    while (e->rows < limit) {
        int64_t rows = limit - e->rows < batch ? limit - e->rows : batch;
        sum += batch_loss(s, table, e, rows);
        if (!device_ok(&s->device)) return false;
        if (!isfinite(sum)) {
            progress_clear(progress);
            rt_error(NULL, "the evaluation loss is not finite after step %" PRId64, s->state.step);
            if (!diagnose_weights(s, "after that step")) diagnose_table(s, table);
            return false;
        }
        if (interrupt_pending()) {
            e->interrupted = true;
            return true;
        }
        if (progress_due(progress))
            progress_show(progress, "evaluating window %" PRId64 "/%" PRId64, e->rows, limit);
    }
    progress_clear(progress);
    e->loss = sum / (double)e->targets;
    e->perplexity = fmin(exp(e->loss), DBL_MAX);
    return true;
}

/* Logs what the evaluation read as weights. */
static bool log_codes(const Session *s, RunLog *log) {
    if (!log->file) return true;
    const tbc_module_t *d = s->module.desc;
    CodeShare *list = rt_calloc(d->ntensors, sizeof *list);
    size_t n = 0;
    bool ok = true;
    for (uint32_t i = 0; i < d->ntensors; i++) {
        Codes codes;
        int64_t count[3];
        if (d->tensors[i].kind != TBC_PARAM || d->tensors[i].group == 0) continue;
        ok = codes_of(s, &d->tensors[i], &codes);
        if (!ok) break;
        codes_count(&codes, count);
        list[n].name = d->tensors[i].name;
        for (int j = 0; j < 3; j++)
            list[n].share[j] = (double)count[j] / (double)tensor_values(&d->tensors[i]);
        n++;
    }
    ok = ok && runlog_codes(log, s->state.step, list, n);
    free(list);
    return ok;
}

bool evaluate_and_report(Session *s, int64_t max_batches, Progress *progress, RunLog *log, Evaluation *e) {
    if (!evaluate(s, max_batches, progress, e)) return false;
    if (e->interrupted) return true;
    printf("step %" PRId64 ": eval loss %.6f, perplexity %.4f (%s split: %" PRId64 " of %" PRId64
           " windows of %" PRId64 " tokens, stride %" PRId64 ", %" PRId64 " targets)\n",
           s->state.step, e->loss, e->perplexity, data_split_name(e->split), e->rows, e->of_rows,
           s->module.seq, e->stride, e->targets);
    fflush(stdout);
    return runlog_eval(log, s->state.step, e->loss, e->perplexity) && log_codes(s, log);
}
