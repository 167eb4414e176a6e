/* Running the assembler or linker. */
#ifndef TBC_TOOL_H
#define TBC_TOOL_H

#include "../ir/base.h"

/* Runs argv[0] (found in PATH) with argv, which ends in NULL. What it prints on stderr and stdout is added to
 * *said. Returns its exit status, 128 if a signal ended it, -1 with errno if it cannot be run. */
int run_tool(char *const argv[], Buf *said);

#endif
