/* How tbc-run reports what went wrong: one line on stderr, and false to the caller.
 *
 *     tbc-run: rows.npy: error: 33 columns, expected 65 (seq + 1 of the module)
 *
 * Functions that can fail on user input print through rt_error exactly once per problem and return false
 * or NULL; callers only pass the failure on, and main turns it into exit code 1. */
#ifndef TBC_RT_ERROR_H
#define TBC_RT_ERROR_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__GNUC__)
#define RT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define RT_PRINTF(fmt, args)
#endif

/* Prints `tbc-run: PATH: error: ...`, or `tbc-run: error: ...` when path is NULL. Always returns false.
 * fmt carries no newline; control characters in what is printed (names from a file) appear as `?`, so the
 * result is one line whatever the input. */
bool rt_error(const char *path, const char *fmt, ...) RT_PRINTF(2, 3);

/* The same with strerror(errno) at the end: `...: error: cannot open: No such file or directory`. */
bool rt_error_errno(const char *path, const char *fmt, ...) RT_PRINTF(2, 3);

/* Prints `tbc-run: note: ...`, more about the error before it. */
void rt_note(const char *fmt, ...) RT_PRINTF(1, 2);

/* calloc, realloc and asprintf that never return NULL: running out of memory ends the process with one
 * line and exit 1. Free with free(). */
void *rt_calloc(size_t n, size_t size);
void *rt_realloc(void *, size_t bytes);
char *rt_printf(const char *fmt, ...) RT_PRINTF(1, 2);

#endif
