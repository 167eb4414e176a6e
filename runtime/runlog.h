/* --log: one JSON object a line, flushed line by line so that it can be followed while training. */
#ifndef TBC_RT_RUNLOG_H
#define TBC_RT_RUNLOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct RunLog {
    const char *path; /* NULL: no log was asked for, and the functions do nothing */
    FILE *file;
} RunLog;

/* append: go on with a log that is there already. These print an error and return false on failure. */
bool runlog_open(RunLog *, const char *path, bool append);
/* A log without a name, which is gone when it is closed: for the report of a run without --log. */
bool runlog_open_unnamed(RunLog *);
/* An open log from its first line on, for the caller to read and close. NULL: an error was printed. */
FILE *runlog_read(RunLog *);
/* grad_norm is left out where it is below zero, lambda where it is 1. All numbers must be finite. */
bool runlog_step(RunLog *, int64_t step, double loss, double lr, double tokens_per_s, double grad_norm,
                 double lambda);
bool runlog_eval(RunLog *, int64_t step, double loss, double perplexity);
/* What the codes of a ternary parameter are. */
typedef struct CodeShare {
    const char *name;
    double share[3]; /* of -1, 0 and 1; their sum is 1 */
} CodeShare;
bool runlog_codes(RunLog *, int64_t step, const CodeShare *, size_t n); /* nothing is written where n is 0 */
bool runlog_close(RunLog *);                                            /* a zeroed RunLog is allowed */

#endif
