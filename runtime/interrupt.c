/* A signal handler can reach nothing but a global: the one of the runtime. */
#include "interrupt.h"
#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t pending;

static void remember(int signal) {
    pending = signal;
}

void interrupt_catch(void) {
    struct sigaction action = {.sa_handler = remember, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int interrupt_pending(void) {
    return pending;
}
