/* Evaluation. The protocol: the rows of the split as they are, without overlap; every row starts from an
 * empty context, and each of its seq targets is predicted from the tokens before it in the row. The loss is
 * the mean over all targets, added up in f64. */
#include "evaluate.h"
#include <float.h>
#include <inttypes.h>
#include <math.h>

/* Sum of the losses of `rows` rows from `first` on. A batch that is not full repeats its last row, and the
 * surplus is not counted. */
static double batch_loss(Session *s, const tbc_table *table, DataSplit split, int64_t first, int64_t rows) {
    const LoadedModule *m = &s->module;
    for (int64_t b = 0; b < m->batch; b++)
        session_feed(s, table, split, first + (b < rows ? b : rows - 1), b);
    device_run(&s->device, table);
    const float *nll = session_io(s, table, TBC_OUTPUT, "nll");
    double sum = 0;
    for (int64_t i = 0; i < rows * m->seq; i++) sum += (double)nll[i];
    return sum;
}

bool evaluate(Session *s, int64_t max_batches, Progress *progress, Evaluation *e) {
    const tbc_table *table = module_table(&s->module, "eval");
    const int64_t batch = s->module.batch;
    *e = (Evaluation){.split = dataset_eval_split(s->data)};
    e->of_rows = dataset_rows(s->data, e->split);
    int64_t limit = max_batches > 0 && e->of_rows / batch >= max_batches ? max_batches * batch : e->of_rows;
    double sum = 0;
    while (e->rows < limit) {
        int64_t rows = limit - e->rows < batch ? limit - e->rows : batch;
        sum += batch_loss(s, table, e->split, e->rows, rows);
        e->rows += rows;
        if (progress_due(progress))
            progress_show(progress, "evaluating row %" PRId64 "/%" PRId64, e->rows, limit);
    }
    progress_clear(progress);
    e->loss = sum / ((double)e->rows * (double)s->module.seq);
    e->perplexity = fmin(exp(e->loss), DBL_MAX);
    if (!isfinite(e->loss))
        return rt_error(NULL, "the evaluation loss is %g after step %" PRId64, e->loss, s->state.step);
    return true;
}

bool evaluate_and_report(Session *s, int64_t max_batches, Progress *progress, RunLog *log) {
    Evaluation e;
    if (!evaluate(s, max_batches, progress, &e)) return false;
    printf("step %" PRId64 ": eval loss %.6f, perplexity %.4f (%" PRId64 " of %" PRId64
           " rows of the %s split, %" PRId64 " targets each)\n",
           s->state.step, e.loss, e.perplexity, e.rows, e.of_rows, data_split_name(e.split), s->module.seq);
    fflush(stdout);
    return runlog_eval(log, s->state.step, e.loss, e.perplexity);
}
