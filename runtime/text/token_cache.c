/* Cache files: where they lie, how they are written and checked. */
#include "token_cache.h"
#include "../error.h"
#include "hash.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = "tbc-ids";

typedef struct Trailer {
    uint64_t text_hash, text_bytes, tokenizer_hash; /* what the ids are of */
    uint64_t ids_hash, n;
    char magic[8];
} Trailer;

/* A running hash of ids, FNV-1a by ids. */
static uint64_t hash_ids(uint64_t hash, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) hash = (hash ^ (uint32_t)ids[i]) * 0x100000001b3u;
    return hash;
}

/* ---- reading */

/* Maps the cache if it is there and as it was written. Says nothing if not. */
static bool map_cache(FileMap *map, const char *path, const Trailer *want, int64_t *n) {
    Trailer have;
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode) || !file_map(map, path)) return false;
    size_t bytes = map->size - sizeof have;
    if (map->size >= sizeof have) {
        memcpy(&have, map->at + bytes, sizeof have);
        const int32_t *ids = (const int32_t *)(const void *)map->at;
        if (!memcmp(have.magic, magic, sizeof magic) && have.text_hash == want->text_hash &&
            have.text_bytes == want->text_bytes && have.tokenizer_hash == want->tokenizer_hash &&
            have.n == bytes / sizeof *ids && bytes % sizeof *ids == 0 &&
            have.ids_hash == hash_ids(0, ids, (size_t)have.n)) {
            *n = (int64_t)have.n;
            return true;
        }
    }
    file_unmap(map);
    return false;
}

/* ---- writing */

typedef struct CacheFile {
    TokenSink sink; /* first */
    NewFile file;
    Trailer trailer;
} CacheFile;

static bool put_in_file(TokenSink *sink, const int32_t *ids, size_t n) {
    CacheFile *c = (CacheFile *)sink;
    c->trailer.ids_hash = hash_ids(c->trailer.ids_hash, ids, n);
    c->trailer.n += n;
    return newfile_write(&c->file, ids, n * sizeof *ids);
}

/* Several processes may make the same cache: each writes a file of its own, the last one stays. */
static bool make_cache(const char *cache, const Trailer *want, const Tokenizer *t, const char *path,
                       const FileMap *file, TokenizeFn *tokenize) {
    CacheFile c = {.sink.put = put_in_file, .trailer = *want};
    char *own = rt_printf("%s.%ld", cache, (long)getpid());
    bool ok = newfile_open(&c.file, own) && tokenize(t, path, file, &c.sink) &&
              newfile_write(&c.file, &c.trailer, sizeof c.trailer) && newfile_close(&c.file) &&
              newfile_commit(&c.file);
    newfile_discard(&c.file);
    if (ok && rename(own, cache) != 0) {
        ok = rt_error_errno(cache, "cannot write");
        unlink(own);
    }
    free(own);
    return ok;
}

/* ---- places */

/* Root could write anywhere, but leaves folders alone that nobody may write. */
static bool may_write(const char *folder) {
    struct stat info;
    return stat(folder, &info) == 0 && S_ISDIR(info.st_mode) && (info.st_mode & 0222) &&
           access(folder, W_OK) == 0;
}

/* Where the cache of a file lies, heap; NULL: an error was printed. */
static char *cache_path(const char *path, const Trailer *want) {
    char *folder = rt_printf("%s", path), *slash = strrchr(folder, '/');
    if (slash) slash[1] = 0;
    bool beside = may_write(slash ? folder : ".");
    free(folder);
    uint64_t key = tbc_hash(want, offsetof(Trailer, ids_hash));
    if (beside) return rt_printf("%s.%016" PRIx64 ".ids", path, key);
    const char *home = getenv("HOME");
    folder = rt_printf("%s/.cache/tbc/ids", home ? home : "");
    make_dirs(folder); /* or may_write will say so */
    char *cache = rt_printf("%s/%016" PRIx64 ".ids", folder, key);
    if (!may_write(folder)) {
        rt_error(path, "its tokens can be kept neither beside it nor in %s (make one of them writable)",
                 folder);
        free(cache);
        cache = NULL;
    }
    free(folder);
    return cache;
}

bool tokenize_text(const Tokenizer *t, const char *path, const FileMap *file, TokenSink *sink) {
    (void)path;
    return tokenizer_encode_to(t, (const char *)file->at, file->size, sink);
}

bool token_cache_open(FileMap *ids, int64_t *n, const Tokenizer *t, const char *path, const FileMap *file,
                      TokenizeFn *tokenize) {
    bool other_form = tokenize != tokenize_text; /* whose ids are not those of the same bytes as a text */
    Trailer want = {.text_hash = tbc_hash(file->at, file->size) + other_form,
                    .text_bytes = file->size,
                    .tokenizer_hash = tokenizer_hash(t)};
    memcpy(want.magic, magic, sizeof magic);
    char *cache = cache_path(path, &want);
    bool ok = cache && (map_cache(ids, cache, &want, n) ||
                        (make_cache(cache, &want, t, path, file, tokenize) &&
                         (map_cache(ids, cache, &want, n) || rt_error(cache, "cannot be read back"))));
    free(cache);
    return ok;
}
