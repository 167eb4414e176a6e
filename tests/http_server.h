/* An HTTP/1.1 server on 127.0.0.1 that serves one file, well or badly, to test downloads: one request a
 * connection, one connection at a time. What it does with the k-th request is the k-th behaviour of a list,
 * whose last one goes on: ok           the file, or the range asked for slow         the same in 20 parts, 20
 * ms apart cut:N        the same, but the connection breaks after N bytes stall:N      the same, but after N
 * bytes nothing more comes whole:N      the whole file whatever range is asked for, cut after N bytes wrong
 * like ok, with other bytes longer       a file one byte longer unsized:N    N bytes of the file, without
 * saying how long it is shifted      another range than the one asked for drop         closes the connection
 * without an answer again        a redirection to the same file CODE         this status, with a page about
 * it Each request is noted as a line: its range's first byte, 0 without a range. */
#ifndef TBC_HTTP_SERVER_H
#define TBC_HTTP_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct ServedFile {
    char *bytes;
    long n;
} ServedFile;

/* A socket that listens on a free port, which is put into *port. */
static inline int http_listen(int *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, size) || listen(fd, 8) ||
        getsockname(fd, (struct sockaddr *)&at, &size))
        return -1;
    *port = ntohs(at.sin_port);
    return fd;
}

static inline void http_pause(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static inline void http_send(int fd, const char *bytes, long n) {
    while (n > 0) {
        ssize_t sent = send(fd, bytes, (size_t)n, MSG_NOSIGNAL);
        if (sent <= 0) return;
        bytes += sent, n -= sent;
    }
}

/* Reads the request; returns the first byte of its range, -1 without one, -2 if there is no request. */
static inline long http_request(int fd) {
    char text[4096];
    size_t n = 0;
    text[0] = 0;
    while (n < sizeof text - 1 && !strstr(text, "\r\n\r\n")) {
        ssize_t got = recv(fd, text + n, sizeof text - 1 - n, 0);
        if (got <= 0) return -2;
        text[n += (size_t)got] = 0;
    }
    const char *range = strstr(text, "Range: bytes=");
    return range ? atol(range + 13) : -1;
}

static inline void http_body(int fd, const char *how, const char *bytes, long n, long limit) {
    if (!strcmp(how, "slow")) {
        for (long part = n / 20 + 1; n > 0; bytes += part, n -= part) {
            http_send(fd, bytes, n < part ? n : part);
            http_pause(20);
        }
        return;
    }
    http_send(fd, bytes, limit < n ? limit : n);
    char rest;
    if (!strncmp(how, "stall", 5)) (void)!recv(fd, &rest, 1, 0); /* until the client gives up */
}

static inline void http_file(int fd, const char *how, const ServedFile *file, long from) {
    char head[256], *bytes = malloc((size_t)file->n + 1);
    const char *colon = strchr(how, ':');
    long n = file->n, limit = colon ? atol(colon + 1) : n + 1;
    memcpy(bytes, file->bytes, (size_t)n);
    bytes[n] = 'x';
    if (!strcmp(how, "wrong"))
        for (long i = 0; i < n; i += 1000) bytes[i] ^= 1;
    if (!strcmp(how, "longer")) n++;
    if (!strcmp(how, "shifted")) from++;
    if (!strncmp(how, "whole", 5)) from = -1;
    long start = from < 0 ? 0 : from;
    if (!strncmp(how, "unsized", 7))
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    else if (from >= n)
        snprintf(head, sizeof head, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n");
    else if (from < 0)
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %ld\r\n\r\n", n);
    else
        snprintf(head, sizeof head,
                 "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: %ld\r\n"
                 "Content-Range: bytes %ld-%ld/%ld\r\n\r\n",
                 n - start, start, n - 1, n);
    http_send(fd, head, (long)strlen(head));
    if (start < n) http_body(fd, how, bytes + start, n - start, limit);
    free(bytes);
}

static inline void http_answer(int fd, const char *how, const ServedFile *file, long from) {
    char head[256];
    if (!strcmp(how, "drop")) return;
    if (!strcmp(how, "again"))
        snprintf(head, sizeof head,
                 "HTTP/1.1 302 Found\r\nLocation: /again\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    else if (atoi(how) > 0)
        snprintf(head, sizeof head,
                 "HTTP/1.1 %d Of No Use\r\nConnection: close\r\nContent-Length: 5\r\n\r\nsorry", atoi(how));
    else {
        http_file(fd, how, file, from);
        return;
    }
    http_send(fd, head, (long)strlen(head));
}

/* Serves until it is killed. */
static inline void http_serve(int listener, const char *path, char *const *behaviours, int n,
                              const char *notes) {
    ServedFile file = {0};
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) || (file.n = ftell(f)) < 0) exit(1);
    rewind(f);
    file.bytes = malloc((size_t)file.n + 1);
    if (fread(file.bytes, 1, (size_t)file.n, f) != (size_t)file.n) exit(1);
    fclose(f);
    for (int k = 0;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        long from = http_request(fd);
        if (from > -2) {
            FILE *log = fopen(notes, "a");
            if (log) fprintf(log, "%ld\n", from < 0 ? 0 : from), fclose(log);
            http_answer(fd, behaviours[k], &file, from);
            if (k + 1 < n) k++;
        }
        shutdown(fd, SHUT_WR);
        close(fd);
    }
}

#endif
