/* http_server FILE NOTES BEHAVIOUR..: prints its port and serves (http_server.h). For shell tests. */
#include "http_server.h"

int main(int argc, char **argv) {
    int port = 0, listener = argc > 3 ? http_listen(&port) : -1;
    if (listener < 0) return 1;
    printf("%d\n", port);
    fflush(stdout);
    http_serve(listener, argv[1], argv + 3, argc - 3, argv[2]);
}
