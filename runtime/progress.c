/* The progress line. A terminal gets it rewritten in place ten times a second at most; a file a plain line
 * every five seconds. */
#include "progress.h"
#include "profile.h"
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

Progress progress_start(bool quiet) {
    return (Progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO), .shown = seconds_now()};
}

bool progress_due(const Progress *p) {
    return !p->quiet && seconds_now() - p->shown >= (p->terminal ? 0.1 : 5.0);
}

void progress_show(Progress *p, const char *fmt, ...) {
    if (p->quiet) return;
    va_list args;
    va_start(args, fmt);
    if (p->terminal) fputs("\r", stderr);
    vfprintf(stderr, fmt, args);
    fputs(p->terminal ? "\033[K" : "\n", stderr); /* erase what a longer line left */
    va_end(args);
    p->live = p->terminal;
    p->shown = seconds_now();
}

void progress_clear(Progress *p) {
    if (p->live) fputs("\r\033[K", stderr);
    p->live = false;
}

char *duration_text(double seconds, char *buffer) {
    long s = seconds < 3.6e8 ? (long)(seconds + 0.5) : 360000000;
    if (s >= 3600)
        snprintf(buffer, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(buffer, 32, "%ld:%02ld", s / 60, s % 60);
    return buffer;
}
