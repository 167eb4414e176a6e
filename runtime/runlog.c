/* The JSONL log of a run. Losses are printed with nine digits: enough to read back every f32 exactly. */
#include "runlog.h"
#include "error.h"
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

bool runlog_open(RunLog *log, const char *path, bool append) {
    *log = (RunLog){.path = path};
    if (!path) return true;
    log->file = fopen(path, append ? "a" : "w");
    if (!log->file) return rt_error_errno(path, "cannot write the log");
    setvbuf(log->file, NULL, _IOLBF, BUFSIZ);
    return true;
}

bool runlog_open_unnamed(RunLog *log) {
    *log = (RunLog){.file = tmpfile()};
    return log->file || rt_error_errno(NULL, "cannot make a temporary file");
}

FILE *runlog_read(RunLog *log) {
    int fd = fflush(log->file) ? -1 : dup(fileno(log->file));
    FILE *file = log->path ? fopen(log->path, "r") : fd < 0 ? NULL : fdopen(fd, "r");
    if (fd >= 0 && (log->path || !file)) close(fd);
    if (!file) rt_error_errno(log->path, "cannot read the log");
    if (file) rewind(file);
    return file;
}

static bool written(const RunLog *log) {
    return !ferror(log->file) || rt_error_errno(log->path, "cannot write the log");
}

bool runlog_step(RunLog *log, int64_t step, double loss, double lr, double tokens_per_s, double grad_norm,
                 double lambda) {
    if (!log->file) return true;
    fprintf(log->file, "{\"step\":%" PRId64 ",\"loss\":%.9g,\"lr\":%.9g,\"tokens_per_s\":%.6g", step, loss,
            lr, tokens_per_s);
    if (grad_norm >= 0) fprintf(log->file, ",\"grad_norm\":%.9g", grad_norm);
    if (lambda < 1) fprintf(log->file, ",\"lambda\":%.9g", lambda);
    fputs("}\n", log->file);
    return written(log);
}

bool runlog_eval(RunLog *log, int64_t step, double loss, double perplexity) {
    if (!log->file) return true;
    fprintf(log->file, "{\"step\":%" PRId64 ",\"eval_loss\":%.9g,\"eval_ppl\":%.9g}\n", step, loss,
            perplexity);
    return written(log);
}

bool runlog_codes(RunLog *log, int64_t step, const CodeShare *codes, size_t n) {
    if (!log->file || n == 0) return true;
    fprintf(log->file, "{\"step\":%" PRId64 ",\"codes\":{", step);
    for (size_t i = 0; i < n; i++) {
        cJSON *string = cJSON_CreateString(codes[i].name);
        char *name = cJSON_PrintUnformatted(string); /* quoted */
        const double *share = codes[i].share;
        fprintf(log->file, "%s%s:[%.6f,%.6f,%.6f]", i ? "," : "", name, share[0], share[1], share[2]);
        free(name);
        cJSON_Delete(string);
    }
    fputs("}}\n", log->file);
    return written(log);
}

bool runlog_close(RunLog *log) {
    FILE *file = log->file;
    log->file = NULL;
    if (file && fclose(file)) return rt_error_errno(log->path, "cannot write the log");
    return true;
}
