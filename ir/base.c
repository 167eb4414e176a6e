/* Memory and text: arenas, growable vectors, text buffers, whole files. */
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static _Noreturn void out_of_memory(size_t bytes) {
    fprintf(stderr, "tbc: error: out of memory (%zu bytes more were needed)\n", bytes);
    exit(1);
}

void *xrealloc(void *p, size_t bytes) {
    void *q = realloc(p, bytes ? bytes : 1);
    if (!q) out_of_memory(bytes);
    return q;
}

void *xcalloc(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (!p) out_of_memory(n * size);
    return p;
}

void vec_grow(void **at, uint32_t *cap, uint32_t need, size_t size) {
    if (need <= *cap) return;
    uint32_t grown = *cap < 8 ? 8 : *cap <= UINT32_MAX / 2 ? *cap * 2 : UINT32_MAX;
    *cap = grown < need ? need : grown;
    *at = xrealloc(*at, *cap * size);
}

/* ---- arenas: a list of blocks, the current one first */

/* Blocks double in size: a region's body, of which there are many, stays small. */
#define FIRST_BLOCK_BYTES 1024
#define BLOCK_BYTES       65536

typedef struct Block {
    struct Block *next;
    size_t used, cap;
    _Alignas(16) char bytes[];
} Block;

struct Arena {
    Block *blocks;
};

Arena *arena_new(void) {
    return xcalloc(1, sizeof(Arena));
}

void arena_free(Arena *a) {
    if (!a) return;
    for (Block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}

void *arena_alloc(Arena *a, size_t bytes) {
    if (bytes > SIZE_MAX / 2) out_of_memory(bytes);
    bytes = (bytes + 15) & ~(size_t)15;
    Block *b = a->blocks;
    if (!b || b->cap - b->used < bytes) {
        size_t cap = !b ? FIRST_BLOCK_BYTES : b->cap < BLOCK_BYTES / 2 ? b->cap * 2 : BLOCK_BYTES;
        if (cap < bytes) cap = bytes;
        b = xcalloc(1, sizeof(Block) + cap);
        b->cap = cap;
        b->next = a->blocks;
        a->blocks = b;
    }
    void *p = b->bytes + b->used;
    b->used += bytes;
    return p;
}

char *arena_strdup(Arena *a, const char *s) {
    size_t n = strlen(s) + 1;
    return memcpy(arena_alloc(a, n), s, n);
}

char *arena_printf(Arena *a, const char *fmt, ...) {
    Buf b = {0};
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    char *s = arena_strdup(a, b.at);
    buf_free(&b);
    return s;
}

/* ---- text buffers */

static void buf_reserve(Buf *b, size_t more) {
    if (b->cap - b->n > more) return; /* one byte is kept for the terminator */
    b->cap = (b->n + more + 1) * 2;
    b->at = xrealloc(b->at, b->cap);
}

void buf_add(Buf *b, const char *bytes, size_t n) {
    buf_reserve(b, n);
    if (n) memcpy(b->at + b->n, bytes, n);
    b->n += n;
    b->at[b->n] = 0;
}

void buf_vprintf(Buf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0) {
        buf_reserve(b, (size_t)n);
        vsnprintf(b->at + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void buf_printf(Buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_quote(Buf *b, const char *text) {
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    buf_add(b, "\"", 1);
    for (const char *c = text; *c; c++) {
        const char *special = strchr(plain, *c);
        if (special) {
            buf_printf(b, "\\%c", letter[special - plain]);
        } else if ((unsigned char)*c < 0x20) {
            buf_printf(b, "\\u%04x", (unsigned)*c);
        } else {
            buf_add(b, c, 1);
        }
    }
    buf_add(b, "\"", 1);
}

void buf_free(Buf *b) {
    free(b->at);
    *b = (Buf){0};
}

/* ---- files */

char *read_file(const char *path, size_t *size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    Buf b = {0};
    buf_add(&b, "", 0);
    for (;;) {
        buf_reserve(&b, BLOCK_BYTES);
        ssize_t n = read(fd, b.at + b.n, BLOCK_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            int error = errno;
            close(fd);
            buf_free(&b);
            errno = error;
            return NULL;
        }
        if (n == 0) break;
        b.n += (size_t)n;
    }
    close(fd);
    b.at[b.n] = 0;
    if (size) *size = b.n;
    return b.at;
}

/* Writes all bytes and closes fd; false with errno set. */
static bool write_all(int fd, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t w = write(fd, bytes, n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) {
            int error = errno;
            close(fd);
            errno = error;
            return false;
        }
        bytes += w;
        n -= (size_t)w;
    }
    return close(fd) == 0;
}

static bool write_by_rename(const char *path, const void *bytes, size_t n) {
    Buf temp = {0};
    buf_printf(&temp, "%s.XXXXXX", path);
    int fd = mkstemp(temp.at);
    bool ok = fd >= 0;
    if (ok) {
        mode_t mask = umask(0);
        umask(mask);
        fchmod(fd, 0666 & ~mask); /* mkstemp's 0600 is not what the user expects of an output file */
        ok = write_all(fd, bytes, n) && rename(temp.at, path) == 0;
        if (!ok) {
            int error = errno;
            unlink(temp.at);
            errno = error;
        }
    }
    buf_free(&temp);
    return ok;
}

bool write_file(const char *path, const void *bytes, size_t n) {
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        /* A device or a pipe: a rename would replace it by a file. */
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        return fd >= 0 && write_all(fd, bytes, n);
    }
    char real[PATH_MAX]; /* through a symbolic link to what it names */
    return write_by_rename(realpath(path, real) ? real : path, bytes, n);
}

uint64_t fnv1a(uint64_t hash, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}
