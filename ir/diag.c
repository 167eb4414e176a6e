/* Diagnostics: one line per located error, collected over a run. */
#include "diag.h"

#include <stdlib.h>

#define DEFAULT_LIMIT 20

void diag_verror(Diag *d, const char *file, uint32_t line, uint32_t col, const char *fmt, va_list ap) {
    if (d->errors++ >= (d->limit ? d->limit : DEFAULT_LIMIT)) return;
    size_t start = d->text.n;
    buf_printf(&d->text, "tbc: ");
    if (file) {
        buf_printf(&d->text, "%s:", file);
        if (line) buf_printf(&d->text, "%u:", line);
        if (line && col) buf_printf(&d->text, "%u:", col);
        buf_printf(&d->text, " ");
    }
    buf_printf(&d->text, "error: ");
    buf_vprintf(&d->text, fmt, ap);
    buf_printf(&d->text, "\n");
    if (d->out) fputs(d->text.at + start, d->out);
}

void diag_error(Diag *d, const char *file, uint32_t line, uint32_t col, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    diag_verror(d, file, line, col, fmt, ap);
    va_end(ap);
}

void ice(const char *fmt, ...) {
    va_list ap;
    fflush(stdout);
    fputs("tbc: internal error: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\n", stderr);
    abort();
}
