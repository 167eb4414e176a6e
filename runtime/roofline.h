/* What the machine can do at most, timed with the module's own kernels (its table roofline). */
#ifndef TBC_RT_ROOFLINE_H
#define TBC_RT_ROOFLINE_H

#include "device.h"

/* Takes some hundredths of a second. A module without the table (on a GPU) leaves zeros: unknown. */
Roofline roofline_measure(Device *);

#endif
