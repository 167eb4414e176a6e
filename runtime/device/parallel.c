/* The parallel loop, by OpenMP: the one place that has to be right about threads.
 *
 * ThreadSanitizer does not see the barriers of GCC's libgomp, which is not instrumented. So that it can see
 * real races and nothing else, the loop states the two edges that the barriers give: what came before it
 * happens before each tile, and each tile before what follows. The variables that the compiler passes into
 * the outlined loop body are read before the first edge can be stated, hence the suppression of reports
 * whose top frame is that body; what it calls, kernels above all, stays checked. */
#include "parallel.h"
#include <omp.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) {
    return "race_top:_omp_fn\n";
}
static char before_tiles, after_tiles; /* only their addresses matter */
#define HAPPENS_BEFORE(edge) __tsan_release(&(edge))
#define HAPPENS_AFTER(edge)  __tsan_acquire(&(edge))
#else
#define HAPPENS_BEFORE(edge) (void)0
#define HAPPENS_AFTER(edge)  (void)0
#endif

/* A step is hundreds of launches, each with a barrier. Threads that spin there for long use up their time slices,
 * and as soon as anything else wants the cores every barrier waits for a thread that is not scheduled: with two
 * other busy processes on two cores, steps take ten times as long. Threads that sleep at once cost a wake-up of 10
 * microseconds a launch, as long as the launches of decoding themselves. So they spin for a few microseconds. */
#define SPINS "300" /* of some 10 to 20 ns */

void parallel_setup(char **argv) {
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (!setenv("OMP_WAIT_POLICY", "passive", 1) && !setenv("GOMP_SPINCOUNT", SPINS, 1))
        execv("/proc/self/exe", argv);
}

int parallel_all(void) {
    return omp_get_num_procs();
}

void parallel_tiles(int threads, uint64_t tiles, tile_fn *run, void *context) {
    if (threads == 0) threads = parallel_all();
    if (tiles == 1 || threads == 1) { /* not worth waking anybody */
        for (uint64_t tile = 0; tile < tiles; tile++) run(context, tile, 0);
        return;
    }
    HAPPENS_BEFORE(before_tiles);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (uint64_t tile = 0; tile < tiles; tile++) {
        HAPPENS_AFTER(before_tiles);
        run(context, tile, omp_get_thread_num());
        HAPPENS_BEFORE(after_tiles);
    }
    HAPPENS_AFTER(after_tiles);
}
