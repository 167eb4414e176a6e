/* Where a loss or gradient that is not finite comes from. */
#ifndef TBC_RT_DIAGNOSE_H
#define TBC_RT_DIAGNOSE_H

#include "session.h"

/* Notes on stderr which parameters and moments are not finite, and their ranges; `when` ends "not finite ..".
 * True: there are some. */
bool diagnose_weights(const Session *, const char *when);

/* Runs a table on the inputs that are in place, launch by launch and without its updates, until one leaves
 * values that are not finite; notes on stderr which, and the ranges of what it read and wrote. True: there is
 * one. */
bool diagnose_table(Session *, const tbc_table *);

#endif
