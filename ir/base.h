/* Memory and strings for the whole compiler: arenas, growable vectors, text buffers.
 *
 * Running out of memory ends the process with one line on stderr and exit 1; no
 * function here returns NULL. */
#ifndef TBC_BASE_H
#define TBC_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define TBC_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define TBC_PRINTF(fmt, args)
#endif

/* A region of memory that is freed as a whole. */
typedef struct Arena Arena;

Arena *arena_new(void);
void arena_free(Arena *);                   /* NULL is allowed */
void *arena_alloc(Arena *, size_t bytes);   /* zeroed, 16-byte aligned */
char *arena_strdup(Arena *, const char *);
char *arena_printf(Arena *, const char *fmt, ...) TBC_PRINTF(2, 3);
#define arena_array(arena, T, n) ((T *)arena_alloc((arena), sizeof(T) * (size_t)(n)))

/* realloc and calloc that never return NULL. */
void *xrealloc(void *, size_t bytes);
void *xcalloc(size_t n, size_t size);

/* A growable array on the heap: VEC(Node) nodes; vec_push(&nodes, x); nodes.at[i]; vec_free(&nodes).
 * Growth moves the elements: keep indices, not pointers. */
#define VEC(T)                                                                                               \
    struct {                                                                                                 \
        T *at;                                                                                               \
        uint32_t n, cap;                                                                                     \
    }
void vec_grow(void **at, uint32_t *cap, uint32_t need, size_t size);
#define vec_push(v, x)                                                                                       \
    (vec_grow((void **)&(v)->at, &(v)->cap, (v)->n + 1, sizeof *(v)->at), (v)->at[(v)->n++] = (x))
#define vec_free(v) (free((v)->at), (v)->at = NULL, (v)->n = (v)->cap = 0)

/* A growable, always terminated text. Start from a zeroed Buf; free with buf_free. */
typedef struct Buf {
    char *at;
    size_t n, cap;
} Buf;
void buf_printf(Buf *, const char *fmt, ...) TBC_PRINTF(2, 3);
void buf_vprintf(Buf *, const char *fmt, va_list);
void buf_add(Buf *, const char *bytes, size_t n);
void buf_quote(Buf *, const char *text);    /* as a JSON string, with the quotes */
void buf_free(Buf *);

/* The whole file as a terminated heap string (free() it), its length in *size when size is not NULL.
 * On failure returns NULL with errno set. */
char *read_file(const char *path, size_t *size);
/* Writes path through a temporary file beside it and a rename, so that a failure (full disk, missing
 * directory) leaves nothing behind. Returns false with errno set. */
bool write_file(const char *path, const void *bytes, size_t n);

/* 64-bit FNV-1a; start from FNV_INIT. */
#define FNV_INIT 0xcbf29ce484222325u
uint64_t fnv1a(uint64_t hash, const void *bytes, size_t n);

#endif
