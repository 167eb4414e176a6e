/* The byte tokenizer. */
#include "tokenizer.h"
#include "error.h"
#include <stdlib.h>
#include <string.h>

struct Tokenizer {
    const char *name;
    int64_t vocab;
};

Tokenizer *tokenizer_open(const char *spec) {
    if (spec && strcmp(spec, "byte") != 0) {
        rt_error(spec, "this version has no such tokenizer (only `byte`)");
        return NULL;
    }
    Tokenizer *t = rt_calloc(1, sizeof *t);
    *t = (Tokenizer){"byte", 256};
    return t;
}

void tokenizer_close(Tokenizer *t) {
    free(t);
}

const char *tokenizer_name(const Tokenizer *t) {
    return t->name;
}

int64_t tokenizer_vocab(const Tokenizer *t) {
    return t->vocab;
}

int32_t *tokenizer_encode(const Tokenizer *t, const char *text, size_t bytes, size_t *n) {
    (void)t;
    int32_t *ids = rt_calloc(bytes, sizeof *ids);
    for (size_t i = 0; i < bytes; i++) ids[i] = (unsigned char)text[i];
    *n = bytes;
    return ids;
}

char *tokenizer_decode(const Tokenizer *t, const int32_t *ids, size_t ids_n, size_t *n) {
    char *text = rt_calloc(ids_n + 1, 1);
    *n = 0;
    for (size_t i = 0; i < ids_n; i++)
        if (ids[i] >= 0 && ids[i] < t->vocab) text[(*n)++] = (char)ids[i];
    return text;
}
