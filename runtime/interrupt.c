/* A signal handler can reach nothing but globals: those of the runtime. */
#include "interrupt.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t pending;
static const char *volatile notice; /* the answer to a signal; NULL: none */

static void remember(int number) {
    int saved = errno;
    pending = number;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (notice) (void)!write(STDERR_FILENO, notice, strlen(notice));
    errno = saved;
}

void interrupt_catch(bool quiet) {
    static const char text[] =
        "\ninterrupted: finishing what has begun, then saving (once more to quit at once)\n";
    struct sigaction action = {.sa_handler = remember, .sa_flags = SA_RESTART};
    notice = quiet ? NULL : isatty(STDERR_FILENO) ? text : text + 1; /* below the live line */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int interrupt_pending(void) {
    return pending;
}
