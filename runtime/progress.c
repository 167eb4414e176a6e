/* The progress line. A terminal gets it rewritten in place ten times a second at most; a file a plain line
 * every five seconds. */
#include "progress.h"
#include "device/profile.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

Progress progress_start(bool quiet) {
    return (Progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO), .shown = seconds_now()};
}

bool progress_due(const Progress *p) {
    return !p->quiet && seconds_now() - p->shown >= (p->terminal ? 0.1 : 5.0);
}

/* How many characters a live line may have: one that wraps could not be rewritten. */
static int columns(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 79;
}

void progress_show(Progress *p, const char *fmt, ...) {
    if (p->quiet) return;
    char *line;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&line, fmt, args);
    va_end(args);
    if (n < 0) return;
    if (p->terminal)
        fprintf(stderr, "\r%.*s\033[K", columns(), line); /* erase what a longer line left */
    else
        fprintf(stderr, "%s\n", line);
    free(line);
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

char *memory_text(char *buffer) {
    double pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%*s %lf", &pages) != 1) pages = 0;
    if (file) fclose(file);
    double mb = pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
    snprintf(buffer, 32, mb < 1000 ? "%.0f MB" : "%.2f GB", mb < 1000 ? mb : mb / 1000);
    return buffer;
}
