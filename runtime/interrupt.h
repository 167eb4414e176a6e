/* Ctrl-C while training: remembered, so that the step can be finished and saved. */
#ifndef TBC_RT_INTERRUPT_H
#define TBC_RT_INTERRUPT_H

/* From now on the first SIGINT or SIGTERM is only remembered; a second one ends the process. */
void interrupt_catch(void);
/* The signal that arrived, 0 if none did. */
int interrupt_pending(void);

#endif
