/* Ctrl-C, or the terminal's end, while training: remembered, so that the step can be finished and saved. */
#ifndef TBC_RT_INTERRUPT_H
#define TBC_RT_INTERRUPT_H

#include <stdbool.h>

/* From now on the first SIGINT, SIGTERM or SIGHUP is only remembered, and answered by a line on stderr unless
 * quiet; a second one, of any kind, ends the process. Under nohup SIGHUP stays ignored. */
void interrupt_catch(bool quiet);
/* The signal that arrived, 0 if none did. */
int interrupt_pending(void);

#endif
