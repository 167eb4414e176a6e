/* The runtime's one parallel loop. */
#ifndef TBC_RT_PARALLEL_H
#define TBC_RT_PARALLEL_H

#include <stdint.h>

/* Does one tile; thread counts from 0, and no two tiles run on one at the same time. */
typedef void tile_fn(void *context, uint64_t tile, int thread);

/* Runs tiles 0 .. tiles-1 on up to `threads` threads (0: all that the process may use), in any order.
 * Everything that tiles have written is visible when it returns. */
void parallel_tiles(int threads, uint64_t tiles, tile_fn *, void *context);

/* To be called first in main. Lets threads that wait for work sleep rather than spin, which OpenMP only takes
 * from the environment as the program starts: so this starts the program again, once. Does nothing where the
 * environment already says how to wait. */
void parallel_setup(char **argv);

int parallel_all(void); /* how many threads the process may use */

#endif
