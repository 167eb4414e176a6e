/* What people see on stderr while they wait: one live line on a terminal, a plain line now and then in a
 * file or pipe, nothing with --quiet. */
#ifndef TBC_RT_PROGRESS_H
#define TBC_RT_PROGRESS_H

#include "error.h"

typedef struct Progress {
    bool quiet, terminal;
    bool live;    /* a live line is on the terminal */
    double shown; /* when the last line was shown, at first when this began (seconds_now) */
} Progress;

Progress progress_start(bool quiet);

/* Is it time for another line? To be asked first where making one costs something. */
bool progress_due(const Progress *);
/* Shows a line, whether due or not. fmt carries no newline. */
void progress_show(Progress *, const char *fmt, ...) RT_PRINTF(2, 3);
/* Ends the live line, so that something else can be printed: stderr and stdout may be the same terminal. */
void progress_clear(Progress *);

/* "1:02:03" or "2:03" of a number of seconds, in a buffer of 32 bytes, which is returned. */
char *duration_text(double seconds, char *buffer);

/* "812 MB" or "7.53 GB": what the process occupies of the machine's memory. The same kind of buffer. */
char *memory_text(char *buffer);

#endif
