/* One-line errors, and allocation that does not fail. */
#include "error.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *vprintf_alloc(const char *fmt, va_list args) {
    char *text;
    if (vasprintf(&text, fmt, args) < 0) {
        fputs("tbc-run: error: out of memory\n", stderr);
        exit(1);
    }
    return text;
}

/* Prints in one write, so that lines of several processes on one terminal do not mix. path, reason: or NULL.
 */
static void print_line(const char *path, const char *kind, const char *reason, const char *fmt,
                       va_list args) {
    char *text = vprintf_alloc(fmt, args);
    char *line = rt_printf("tbc-run: %s%s%s: %s%s%s", path ? path : "", path ? ": " : "", kind, text,
                           reason ? ": " : "", reason ? reason : "");
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    fprintf(stderr, "%s\n", line);
    free(line), free(text);
}

bool rt_error(const char *path, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    print_line(path, "error", NULL, fmt, args);
    va_end(args);
    return false;
}

bool rt_error_errno(const char *path, const char *fmt, ...) {
    const char *reason = strerror(errno);
    va_list args;
    va_start(args, fmt);
    print_line(path, "error", reason, fmt, args);
    va_end(args);
    return false;
}

void rt_note(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    print_line(NULL, "note", NULL, fmt, args);
    va_end(args);
}

char *rt_printf(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char *text = vprintf_alloc(fmt, args);
    va_end(args);
    return text;
}

void *rt_realloc(void *old, size_t bytes) {
    void *new = realloc(old, bytes ? bytes : 1);
    if (!new) {
        rt_error(NULL, "out of memory (%zu bytes wanted)", bytes);
        exit(1);
    }
    return new;
}

void *rt_calloc(size_t n, size_t size) {
    void *new = calloc(n ? n : 1, size ? size : 1);
    if (!new) {
        rt_error(NULL, "out of memory (%zu times %zu bytes wanted)", n, size);
        exit(1);
    }
    return new;
}
