/* Printing ids of texts, and texts of ids. */
#include "transcode.h"
#include "../error.h"
#include "../files/files.h"
#include "tokenizer.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- input: a mapped file, or all of stdin */

typedef struct Input {
    const char *path; /* for messages */
    FileMap map;
    char *heap;
    const char *text;
    size_t bytes;
} Input;

static bool read_stdin(Input *in) {
    size_t room = 0, got;
    do {
        room = room ? 2 * room : 1 << 16;
        in->heap = rt_realloc(in->heap, room);
        got = fread(in->heap + in->bytes, 1, room - in->bytes, stdin);
        in->bytes += got;
    } while (got && in->bytes == room);
    in->text = in->heap;
    return !ferror(stdin) || rt_error_errno(in->path, "cannot read");
}

static bool input_open(Input *in, const char *path) {
    bool is_stdin = strcmp(path, "-") == 0;
    *in = (Input){.path = is_stdin ? "stdin" : path};
    if (is_stdin) return read_stdin(in);
    if (!file_map(&in->map, path)) return false;
    in->text = (const char *)in->map.at;
    in->bytes = in->map.size;
    return true;
}

static void input_close(Input *in) {
    file_unmap(&in->map);
    free(in->heap);
}

/* ---- encode */

typedef struct IdPrinter {
    TokenSink sink; /* first */
    bool any;
} IdPrinter;

static bool print_ids(TokenSink *sink, const int32_t *ids, size_t n) {
    IdPrinter *p = (IdPrinter *)sink;
    char text[4096];
    for (size_t i = 0; i < n;) {
        size_t used = 0;
        for (; i < n && used + 12 <= sizeof text; i++) { /* a space and ten digits at most */
            char digits[10];
            int count = 0;
            for (uint32_t id = (uint32_t)ids[i]; count == 0 || id; id /= 10)
                digits[count++] = (char)('0' + id % 10);
            if (p->any) text[used++] = ' ';
            while (count) text[used++] = digits[--count];
            p->any = true;
        }
        if (fwrite(text, 1, used, stdout) != used) return rt_error_errno(NULL, "cannot write to stdout");
    }
    return true;
}

static bool encode(const Tokenizer *t, const Input *in) {
    IdPrinter printer = {.sink.put = print_ids};
    return tokenizer_encode_to(t, in->text, in->bytes, &printer.sink) &&
           (putchar('\n') != EOF || rt_error_errno(NULL, "cannot write to stdout"));
}

/* ---- decode */

static bool wrong_id(const Input *in, size_t at, const Tokenizer *t) {
    long line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        column = in->text[i] == '\n' ? 1 : column + 1;
        line += in->text[i] == '\n';
    }
    char *place = rt_printf("%s:%ld:%ld", in->path, line, column);
    rt_error(place, "no token's id (expected whole numbers from 0 to %" PRId64 ", with spaces between them)",
             tokenizer_vocab(t) - 1);
    free(place);
    return false;
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Reads an id that begins at *at. False: there is none there. */
static bool read_id(const Input *in, size_t *at, int64_t vocab, int32_t *id) {
    int64_t value = 0;
    size_t start = *at;
    for (; *at < in->bytes && in->text[*at] >= '0' && in->text[*at] <= '9' && value < vocab; ++*at)
        value = 10 * value + (in->text[*at] - '0');
    *id = (int32_t)value;
    return *at > start && value < vocab && (*at == in->bytes || is_space(in->text[*at]));
}

static bool decode(const Tokenizer *t, const Input *in) {
    enum { BATCH = 4096 };
    int32_t ids[BATCH];
    size_t n = 0, at = 0;
    bool ok = true, more = true;
    while (ok && more) {
        while (at < in->bytes && is_space(in->text[at])) at++;
        size_t start = at;
        more = at < in->bytes;
        if (more && !read_id(in, &at, tokenizer_vocab(t), &ids[n++])) return wrong_id(in, start, t);
        if (n < BATCH && more) continue;
        size_t bytes;
        char *text = tokenizer_decode(t, ids, n, &bytes);
        ok = fwrite(text, 1, bytes, stdout) == bytes || rt_error_errno(NULL, "cannot write to stdout");
        free(text);
        n = 0;
    }
    return ok;
}

bool transcode(const Options *o) {
    Tokenizer *t = tokenizer_choose(o->tokenizer, o->weights, 0);
    Input in = {0};
    bool ok =
        t && input_open(&in, o->encode ? o->encode : o->decode) && (o->encode ? encode : decode)(t, &in);
    input_close(&in);
    tokenizer_close(t);
    return ok;
}
