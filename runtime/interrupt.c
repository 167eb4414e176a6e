/* A signal handler can reach nothing but globals: those of the runtime. */
#include "interrupt.h"
#include <errno.h>
#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t pending, silent;

static void remember(int number) {
    static const char text[] =
        "\ninterrupted: finishing what has begun, then saving (once more to quit at once)\n";
    int saved = errno;
    pending = number;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (!silent) (void)!write(STDERR_FILENO, text, sizeof text - 1);
    errno = saved;
}

void interrupt_catch(bool quiet) {
    struct sigaction action = {.sa_handler = remember, .sa_flags = SA_RESTART};
    silent = quiet;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int interrupt_pending(void) {
    return pending;
}
