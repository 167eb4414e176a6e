/* Diagnostics: located errors, collected over a run and printed one line each.
 *
 *     tbc: qwen3.json:14:23: error: /dims/heads: expected an integer, found a string (like 16)
 *
 * A file, a line and a column are printed where they are known. */
#ifndef TBC_DIAG_H
#define TBC_DIAG_H

#include "base.h"
#include <stdio.h>

/* A place in one of a module's source files. line and col count from 1; line 0 means "no place". */
typedef struct Loc {
    uint16_t file; /* index into Module.files */
    uint16_t col;
    uint32_t line;
} Loc;
/* A column as a Loc holds it: those too far right are its last. */
static inline uint16_t loc_column(size_t col) {
    return (uint16_t)(col < UINT16_MAX ? col : UINT16_MAX);
}

typedef struct Diag {
    FILE *out;        /* where lines go; NULL: nowhere (tests) */
    uint32_t errors;  /* number reported so far */
    uint32_t limit;   /* errors printed at most; 0 means 20. Further ones are counted only. */
    Buf text;         /* everything printed, for tests; buf_free it */
} Diag;

/* Reports one error. file may be NULL, line 0 and col 0 where unknown. fmt carries no newline. */
void diag_error(Diag *, const char *file, uint32_t line, uint32_t col, const char *fmt, ...) TBC_PRINTF(5, 6);
void diag_verror(Diag *, const char *file, uint32_t line, uint32_t col, const char *fmt, va_list);

/* A bug in the compiler itself: prints what and where, then aborts. Never for user input. */
_Noreturn void ice(const char *fmt, ...) TBC_PRINTF(1, 2);

#endif
