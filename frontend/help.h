/* What tbc says about itself: the help text, and the op tables as Markdown. */
#ifndef TBC_HELP_H
#define TBC_HELP_H

extern const char help_all[];
void print_ops(void); /* the IR's ops, then the spec's, on stdout */

#endif
