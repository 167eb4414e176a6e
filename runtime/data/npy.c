/* Reader of integer .npy files.
 *
 * Layout: "\x93NUMPY", version major and minor, header length (u16 in version 1, u32 in 2 and 3), a Python
 * dict literal {'descr': '<i4', 'fortran_order': False, 'shape': (rows, cols), }, padding, the data. */
#include "npy.h"
#include "../error.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct Header {
    const char *at, *end; /* the text still to be read */
    char descr[8];
    bool fortran;
    int64_t dim[2];
    unsigned rank;
    unsigned seen; /* bits: 1 descr, 2 fortran_order, 4 shape */
} Header;

static void skip_space(Header *h) {
    while (h->at < h->end && isspace((unsigned char)*h->at)) h->at++;
}

/* Skips white space and takes c if it comes next. */
static bool take(Header *h, char c) {
    skip_space(h);
    if (h->at == h->end || *h->at != c) return false;
    h->at++;
    return true;
}

static bool take_word(Header *h, const char *word) {
    skip_space(h);
    size_t n = strlen(word);
    if ((size_t)(h->end - h->at) < n || memcmp(h->at, word, n) != 0) return false;
    h->at += n;
    return true;
}

/* A quoted string without escapes, cut to size-1 bytes. */
static bool take_string(Header *h, char *out, size_t size) {
    char quote = take(h, '\'') ? '\'' : take(h, '"') ? '"' : 0;
    if (!quote) return false;
    const char *close = memchr(h->at, quote, (size_t)(h->end - h->at));
    if (!close) return false;
    size_t n = (size_t)(close - h->at);
    if (n >= size) n = size - 1;
    memcpy(out, h->at, n);
    out[n] = 0;
    h->at = close + 1;
    return true;
}

static bool take_integer(Header *h, int64_t *out) {
    skip_space(h);
    const char *start = h->at;
    for (*out = 0; h->at < h->end && isdigit((unsigned char)*h->at); h->at++)
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, *h->at - '0', out))
            return false;
    return h->at > start;
}

/* (), (n,), (n, m), ...; dims after the second are counted only. */
static bool take_shape(Header *h) {
    if (!take(h, '(')) return false;
    while (!take(h, ')')) {
        int64_t n;
        if (!take_integer(h, &n)) return false;
        if (h->rank < 2) h->dim[h->rank] = n;
        h->rank++;
        if (!take(h, ',')) return take(h, ')');
    }
    return true;
}

static bool take_entry(Header *h) {
    char key[16];
    if (!take_string(h, key, sizeof key) || !take(h, ':')) return false;
    unsigned bit;
    if (strcmp(key, "descr") == 0) {
        bit = 1;
        if (!take_string(h, h->descr, sizeof h->descr)) return false;
    } else if (strcmp(key, "fortran_order") == 0) {
        bit = 2;
        h->fortran = take_word(h, "True");
        if (!h->fortran && !take_word(h, "False")) return false;
    } else if (strcmp(key, "shape") == 0) {
        bit = 4;
        if (!take_shape(h)) return false;
    } else {
        return false;
    }
    bool repeated = h->seen & bit;
    h->seen |= bit;
    return !repeated;
}

static bool parse_header(Header *h) {
    if (!take(h, '{')) return false;
    while (!take(h, '}')) {
        if (!take_entry(h)) return false;
        if (!take(h, ',')) {
            if (!take(h, '}')) return false;
            break;
        }
    }
    skip_space(h);
    return h->at == h->end && h->seen == 7;
}

/* Finds the header's text; false where the file is not a .npy or ends inside. */
static bool find_header(const FileMap *map, const char *path, Header *h) {
    const unsigned char *b = map->at;
    if (map->size < 10 || memcmp(b, "\x93NUMPY", 6) != 0)
        return rt_error(path, "not a .npy file (a NumPy array of integers)");
    if (b[6] < 1 || b[6] > 3) return rt_error(path, ".npy version %d.%d (1, 2 or 3 are known)", b[6], b[7]);
    size_t start = b[6] == 1 ? 10 : 12, n = b[8] | (size_t)b[9] << 8;
    if (start == 12 && map->size >= 12) n |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (map->size < start || map->size - start < n)
        return rt_error(path, "the file ends inside its header (truncated?)");
    h->at = (const char *)b + start;
    h->end = h->at + n;
    return true;
}

static bool find_type(const char *descr, IdType *type) {
    static const struct {
        const char *descr;
        IdType type;
    } types[] = {{"<u2", ID_U16}, {"<i4", ID_I32}, {"<u4", ID_U32}, {"<i8", ID_I64}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(descr, types[i].descr) != 0) continue;
        *type = types[i].type;
        return true;
    }
    return false;
}

static bool read_header(Npy *npy, const char *path) {
    Header h = {0};
    if (!find_header(&npy->map, path, &h)) return false;
    const unsigned char *data = (const unsigned char *)h.end;
    if (!parse_header(&h))
        return rt_error(path, "malformed header (expected {'descr': '<i4', 'fortran_order': False, 'shape': "
                              "(rows, seq+1), })");
    if (!find_type(h.descr, &npy->type))
        return rt_error(
            path, "elements of type '%s' (expected little-endian integers: '<u2', '<i4', '<u4' or '<i8')",
            h.descr);
    if (h.fortran) return rt_error(path, "the array is in Fortran order (expected C order)");
    if (h.rank != 1 && h.rank != 2)
        return rt_error(path, "%u dimensions (expected 2: [rows, seq+1], or 1)", h.rank);
    npy->rank = h.rank;
    npy->rows = h.dim[0];
    npy->cols = h.rank == 2 ? h.dim[1] : 1;
    npy->data = data;
    int64_t need, have = (int64_t)(npy->map.size - (size_t)(data - npy->map.at));
    if (__builtin_mul_overflow(npy->rows, npy->cols, &need) ||
        __builtin_mul_overflow(need, (int64_t)id_bytes(npy->type), &need) || need != have)
        return rt_error(path, "%lld bytes of data do not make shape (%lld, %lld) of '%s' (truncated?)",
                        (long long)have, (long long)npy->rows, (long long)npy->cols, h.descr);
    return true;
}

bool npy_open(Npy *npy, const char *path) {
    *npy = (Npy){0};
    if (!file_map(&npy->map, path)) return false;
    if (read_header(npy, path)) return true;
    npy_close(npy);
    return false;
}

void npy_close(Npy *npy) {
    file_unmap(&npy->map);
    *npy = (Npy){0};
}
