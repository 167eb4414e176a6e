/* What the parts of a report share: the history read back from a log, and the drawing of charts. */
#ifndef TBC_RT_REPORT_PARTS_H
#define TBC_RT_REPORT_PARTS_H

#include "../device/module.h"
#include <stdio.h>

/* y over the step, steps ascending. */
typedef struct Series {
    double *x, *y;
    size_t n, capacity;
} Series;

/* The shares of codes -1, 0 and 1 in one ternary parameter, over the steps. */
typedef struct CodeHistory {
    char *name;
    Series share[3];
} CodeHistory;

typedef struct History {
    Series loss, lr, grad_norm, tokens_per_s, eval_loss;
    CodeHistory *codes;
    size_t ncodes;
} History;

/* Reads a log from where `file` stands; what is no line of a log is left out. Where a step comes again, as
 * after a resumption from an older checkpoint, the later lines hold. */
void history_read(History *, FILE *file);
void history_free(History *);

typedef struct Curve {
    const char *name, *style; /* style: a CSS class */
    const Series *series;
    bool noisy; /* drawn faintly with its moving average, if long; else as it is, with a dot at each point */
} Curve;

/* A chart as <figure>. Curves without points are left out; none at all: no chart. `map` (NULL: none) is
 * applied to y first. A log_scale needs y above 0. */
void chart_curves(FILE *, const char *title, const char *note, const Curve *, size_t n, double (*map)(double),
                  bool log_scale);
/* A small chart of three shares that make 1, stacked. */
void chart_shares(FILE *, const char *title, const Series share[3]);

void report_codes(FILE *, const History *, const tbc_module_t *); /* the code distribution, layer by layer */
void report_memory(FILE *, const tbc_module_t *);                 /* the memory plan */

void html_text(FILE *, const char *);        /* with &, < and > as entities */
char *size_text(double bytes, char *buffer); /* "1.53 GB", in a buffer of 32 bytes, which is returned */

#endif
