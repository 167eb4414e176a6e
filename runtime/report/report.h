/* --report: a page about a run, drawn from its log, its profile and the module's memory plan. One file of
 * HTML with SVG and CSS inside, without scripts, light or dark as the reader's system is. */
#ifndef TBC_RT_REPORT_H
#define TBC_RT_REPORT_H

#include "../runlog.h"
#include "../session.h"

/* Can a report be written there? To be asked before a long run. False: an error was printed. */
bool report_can_write(const char *path);
/* Writes the page to --report. `seconds`: how long the run took. False: an error was printed. */
bool report_write(const Session *, RunLog *, double seconds);

#endif
