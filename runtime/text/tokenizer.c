/* The two kinds of tokenizer behind one interface, and where tokenizers are looked for. */
#include "tokenizer.h"
#include "bpe_text.h"
#include "../error.h"
#include "../files/files.h"
#include "hash.h"
#include "tokenizer_json.h"
#include "utf8.h"
#include <stdlib.h>
#include <string.h>

#define RULES     1u     /* to be raised when the same tokenizer.json encodes differently than before */
#define QWEN3_IDS 151000 /* a vocabulary of at least this many is taken for Qwen3's */

struct Tokenizer {
    char *name;
    bool byte;
    BpeTokenizer bpe; /* unless byte */
    uint64_t hash;
    int32_t end_of_text;
};

/* ---- opening */

static Tokenizer *open_byte(void) {
    Tokenizer *t = rt_calloc(1, sizeof *t);
    *t = (Tokenizer){.name = rt_printf("byte"), .byte = true, .hash = RULES, .end_of_text = -1};
    return t;
}

/* The token that ends a document goes by several names. */
static int32_t find_end_of_text(const BpeTokenizer *t) {
    static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>", "</s>"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        for (size_t i = 0; i < t->nadded; i++)
            if (t->added[i].bytes == strlen(names[k]) &&
                !memcmp(t->added[i].text, names[k], t->added[i].bytes))
                return t->added[i].id;
    return -1;
}

static Tokenizer *open_json(const char *path) {
    FileMap map;
    if (!file_map(&map, path)) return NULL;
    Tokenizer *t = rt_calloc(1, sizeof *t);
    if (tokenizer_json_read(&t->bpe, path, &map)) {
        t->name = rt_printf("%s", path);
        t->hash = tbc_hash(map.at, map.size) * 31 + RULES;
        t->end_of_text = find_end_of_text(&t->bpe);
    } else {
        free(t);
        t = NULL;
    }
    file_unmap(&map);
    return t;
}

/* NAME-tokenizer/tokenizer.json in the data home, heap. */
static char *named_path(const char *name) {
    char *home = data_home(), *path = rt_printf("%s/%s-tokenizer/tokenizer.json", home, name);
    free(home);
    return path;
}

static Tokenizer *open_named(const char *name) {
    char *path = named_path(name);
    Tokenizer *t = NULL;
    if (file_exists(path))
        t = open_json(path);
    else
        rt_error(name,
                 "no such tokenizer (expected `byte`, a tokenizer.json, a directory with one, or a name "
                 "in the data home: %s)",
                 path);
    free(path);
    return t;
}

Tokenizer *tokenizer_open(const char *spec) {
    if (!spec || strcmp(spec, "byte") == 0) return open_byte();
    if (file_is_dir(spec)) {
        char *path = file_join(spec, "tokenizer.json");
        Tokenizer *t = open_json(path);
        free(path);
        return t;
    }
    return file_exists(spec) || strchr(spec, '/') ? open_json(spec) : open_named(spec);
}

/* Takes over a path; NULL: there is no such file. */
static char *if_exists(char *path) {
    if (file_exists(path)) return path;
    free(path);
    return NULL;
}

Tokenizer *tokenizer_choose(const char *spec, const char *beside, int64_t vocab) {
    if (spec) return tokenizer_open(spec);
    char *path = beside ? if_exists(file_beside(beside, "tokenizer.json")) : NULL;
    if (!path && vocab >= QWEN3_IDS) path = if_exists(named_path("qwen3"));
    Tokenizer *t = path ? open_json(path) : open_byte();
    free(path);
    return t;
}

void tokenizer_close(Tokenizer *t) {
    if (!t) return;
    bpe_text_close(&t->bpe);
    free(t->name);
    free(t);
}

const char *tokenizer_name(const Tokenizer *t) {
    return t->name;
}
const char *tokenizer_path(const Tokenizer *t) {
    return t->byte ? NULL : t->name;
}
int64_t tokenizer_vocab(const Tokenizer *t) {
    return t->byte ? 256 : t->bpe.bpe.ids;
}
uint64_t tokenizer_hash(const Tokenizer *t) {
    return t->hash;
}
bool tokenizer_is_byte(const Tokenizer *t) {
    return t->byte;
}
int32_t tokenizer_end_of_text(const Tokenizer *t) {
    return t->end_of_text;
}

/* ---- encoding */

static bool encode_bytes(const char *text, size_t bytes, TokenSink *sink) {
    int32_t block[4096];
    for (size_t n; bytes; text += n, bytes -= n) {
        n = bytes < 4096 ? bytes : 4096;
        for (size_t i = 0; i < n; i++) block[i] = (unsigned char)text[i];
        if (!sink->put(sink, block, n)) return false;
    }
    return true;
}

bool tokenizer_encode_to(const Tokenizer *t, const char *text, size_t bytes, TokenSink *sink) {
    return t->byte ? encode_bytes(text, bytes, sink) : bpe_text_encode(&t->bpe, text, bytes, sink);
}

typedef struct IdList {
    TokenSink sink; /* first */
    int32_t *ids;
    size_t n, room;
} IdList;

static bool put_in_list(TokenSink *sink, const int32_t *ids, size_t n) {
    IdList *list = (IdList *)sink;
    if (list->n + n > list->room) {
        list->room = 2 * (list->n + n);
        list->ids = rt_realloc(list->ids, list->room * sizeof *ids);
    }
    memcpy(list->ids + list->n, ids, n * sizeof *ids);
    list->n += n;
    return true;
}

int32_t *tokenizer_encode(const Tokenizer *t, const char *text, size_t bytes, size_t *n) {
    IdList list = {.sink.put = put_in_list, .ids = rt_calloc(1, sizeof *list.ids)};
    *n = 0;
    if (!tokenizer_encode_to(t, text, bytes, &list.sink)) {
        free(list.ids);
        return NULL;
    }
    *n = list.n;
    return list.ids;
}

/* ---- decoding */

static Token token_of(const Tokenizer *t, int32_t id) {
    static const Token none;
    return id < 0 || id >= t->bpe.bpe.ids ? none : t->bpe.bpe.tokens[id];
}

char *tokenizer_decode(const Tokenizer *t, const int32_t *ids, size_t ids_n, size_t *n) {
    size_t room = ids_n;
    if (!t->byte) {
        room = 0;
        for (size_t i = 0; i < ids_n; i++) room += token_of(t, ids[i]).bytes;
    }
    char *text = rt_calloc(room + 1, 1);
    *n = 0;
    for (size_t i = 0; i < ids_n; i++) {
        Token token = t->byte ? (Token){0} : token_of(t, ids[i]);
        if (t->byte && ids[i] >= 0 && ids[i] < 256) text[(*n)++] = (char)ids[i];
        if (token.text) memcpy(text + *n, token.text, token.bytes);
        *n += token.bytes;
    }
    return text;
}

char *tokenizer_stream(const Tokenizer *t, TextStream *s, const int32_t *ids, size_t ids_n, size_t *n) {
    static const char replacement[] = "\xef\xbf\xbd";
    size_t bytes, length, at = 0;
    char *decoded = tokenizer_decode(t, ids, ids_n, &bytes);
    decoded = rt_realloc(decoded, bytes + s->n + 1);
    memmove(decoded + s->n, decoded, bytes);
    memcpy(decoded, s->held, s->n);
    bytes += s->n;
    s->n = 0;
    char *text = rt_calloc(3 * bytes + 1, 1); /* a byte may become a replacement */
    for (*n = 0; at < bytes; at += length) {
        Utf8 kind = utf8_next(decoded + at, bytes - at, &length);
        if (kind == UTF8_CUT && ids_n) {
            memcpy(s->held, decoded + at, length);
            s->n = length;
            continue;
        }
        memcpy(text + *n, kind == UTF8_VALID ? decoded + at : replacement, kind == UTF8_VALID ? length : 3);
        *n += kind == UTF8_VALID ? length : 3;
    }
    free(decoded);
    return text;
}
