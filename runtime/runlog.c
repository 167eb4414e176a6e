/* The JSONL log of a run. Losses are printed with nine digits: enough to read back every f32 exactly. */
#include "runlog.h"
#include "error.h"
#include <inttypes.h>

bool runlog_open(RunLog *log, const char *path, bool append) {
    *log = (RunLog){.path = path};
    if (!path) return true;
    log->file = fopen(path, append ? "a" : "w");
    if (!log->file) return rt_error_errno(path, "cannot write the log");
    setvbuf(log->file, NULL, _IOLBF, BUFSIZ);
    return true;
}

static bool written(const RunLog *log) {
    return !ferror(log->file) || rt_error_errno(log->path, "cannot write the log");
}

bool runlog_step(RunLog *log, int64_t step, double loss, double lr, double tokens_per_s, double grad_norm) {
    if (!log->file) return true;
    fprintf(log->file, "{\"step\":%" PRId64 ",\"loss\":%.9g,\"lr\":%.9g,\"tokens_per_s\":%.6g", step, loss,
            lr, tokens_per_s);
    if (grad_norm >= 0) fprintf(log->file, ",\"grad_norm\":%.9g", grad_norm);
    fputs("}\n", log->file);
    return written(log);
}

bool runlog_eval(RunLog *log, int64_t step, double loss, double perplexity) {
    if (!log->file) return true;
    fprintf(log->file, "{\"step\":%" PRId64 ",\"eval_loss\":%.9g,\"eval_ppl\":%.9g}\n", step, loss,
            perplexity);
    return written(log);
}

bool runlog_close(RunLog *log) {
    FILE *file = log->file;
    log->file = NULL;
    if (file && fclose(file)) return rt_error_errno(log->path, "cannot write the log");
    return true;
}
