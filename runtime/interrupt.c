/* A signal handler can reach nothing but globals: those of the runtime. */
#include "interrupt.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t pending;
static const char *volatile notice; /* the answer to a signal; NULL: none */

static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
enum { CAUGHT = sizeof caught / sizeof *caught };

/* nohup ignores SIGHUP, and that is to stay so. A script ignores SIGINT for all that it starts with `&`, without
 * meaning it. */
static void set_handler(int number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, before;
    if (number == SIGHUP && sigaction(number, NULL, &before) == 0 && before.sa_handler == SIG_IGN) return;
    sigaction(number, &action, NULL);
}

static void remember(int number) {
    int saved = errno;
    pending = number;
    for (int i = 0; i < CAUGHT; i++) set_handler(caught[i], SIG_DFL);
    if (notice) (void)!write(STDERR_FILENO, notice, strlen(notice));
    errno = saved;
}

void interrupt_catch(bool quiet) {
    static const char text[] =
        "\ninterrupted: finishing what has begun, then saving (once more to quit at once)\n";
    notice = quiet ? NULL : isatty(STDERR_FILENO) ? text : text + 1; /* below the live line */
    for (int i = 0; i < CAUGHT; i++) set_handler(caught[i], remember);
}

int interrupt_pending(void) {
    return pending;
}
