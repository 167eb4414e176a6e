/* What the machine can do at most: a CPU timed with the module's own kernels (its table roofline), a GPU by what
 * it says of itself. */
#ifndef TBC_RT_ROOFLINE_H
#define TBC_RT_ROOFLINE_H

#include "device.h"

/* Takes some hundredths of a second on a CPU. What is unknown is 0. */
Roofline roofline_of(Device *);

#endif
