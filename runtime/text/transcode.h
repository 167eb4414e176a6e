/* The --encode and --decode of tbc-run: files between text and ids, without a module. */
#ifndef TBC_RT_TRANSCODE_H
#define TBC_RT_TRANSCODE_H

#include "../options.h"

/* Does what the options ask for: prints the ids of the text --encode on one line, separated by spaces, or the
 * bytes of the ids in --decode (decimal numbers between white space). FILE `-` is stdin. False: an error was
 * printed. */
bool transcode(const Options *);

#endif
