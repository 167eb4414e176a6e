/* Where a loss or gradient that is not finite comes from. */
#ifndef TBC_RT_DIAGNOSE_H
#define TBC_RT_DIAGNOSE_H

#include "session.h"

/* Does a launch update parameters, that is, work on their moments? */
bool launch_updates(const LoadedModule *, const tbc_launch *);

/* How many launches of the table bring the output `loss`, if none of them updates anything; 0: one does.
 * Before the rest of them run, weights and moments are as they were before the step. */
uint32_t launches_until_loss(const LoadedModule *, const tbc_table *);

/* Notes on stderr which parameters and moments are not finite, and their ranges; `when` ends "not finite ..".
 * True: there are some. */
bool diagnose_weights(const Session *, const char *when);

/* Runs a table on the inputs that are in place, launch by launch and without its updates, until one leaves
 * values that are not finite; notes on stderr which, and the ranges of what it read and wrote. True: there is
 * one. */
bool diagnose_table(Session *, const tbc_table *);

#endif
