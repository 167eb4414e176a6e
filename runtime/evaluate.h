/* Loss and perplexity on a split that is not trained on. */
#ifndef TBC_RT_EVALUATE_H
#define TBC_RT_EVALUATE_H

#include "progress.h"
#include "runlog.h"
#include "session.h"

typedef struct Evaluation {
    double loss, perplexity; /* nats a target, and e to that */
    DataSplit split;
    int64_t stride;        /* from one window to the next */
    int64_t rows, of_rows; /* windows evaluated, and in the split */
    int64_t targets;       /* whose losses count */
    bool interrupted;      /* by a signal (interrupt.h): there is no result */
} Evaluation;

/* Evaluates the first max_batches batches of the evaluation split, in order (0: all of it). Split and stride
 * are what --split and --stride say. False: an error was printed (the loss is not finite, and why). */
bool evaluate(Session *, int64_t max_batches, Progress *, Evaluation *);

/* Evaluates, prints the result to stdout with how it was obtained, and logs it, with the distribution of the
 * codes of every ternary parameter. */
bool evaluate_and_report(Session *, int64_t max_batches, Progress *, RunLog *, Evaluation *);

#endif
