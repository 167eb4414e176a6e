/* tokenizer.json to GGUF metadata. tokenizer.json writes bytes as printable stand-ins, one character a byte,
 * and so does GGUF: texts go over as they are. */
#include "gguf_vocab.h"
#include "../error.h"
#include <stdlib.h>
#include <string.h>

#define KEY(name) "tokenizer.ggml." name

enum { NORMAL = 1, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5 }; /* llama_token_type */

/* The vocabulary while it is gathered: a text and a type for each id. */
typedef struct Vocab {
    const char **text; /* NULL: no token has this id */
    int32_t *type;
    int64_t n;
    const char *path; /* of tokenizer.json */
} Vocab;

static const cJSON *get(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const char *get_text(const cJSON *object, const char *key) {
    return cJSON_GetStringValue(get(object, key));
}

/* ---- tokens */

static bool add_token(Vocab *v, const cJSON *id, const char *text, int32_t type) {
    double at = cJSON_IsNumber(id) ? id->valuedouble : -1;
    if (!text || !(at >= 0 && at < 0x1p31) || at != (double)(int64_t)at)
        return rt_error(v->path, "%s: not a token with an id", text ? text : "added_tokens");
    if (at >= (double)v->n)
        return rt_error(v->path, "%s: its id is %.0f, the model has %lld tokens only", text, at,
                        (long long)v->n);
    const char **slot = &v->text[(int64_t)at];
    if (*slot && strcmp(*slot, text) != 0)
        return rt_error(v->path, "id %.0f is both '%s' and '%s'", at, *slot, text);
    *slot = text;
    v->type[(int64_t)at] = type;
    return true;
}

/* Some tokenizers do not mark all of their control tokens as special. */
static bool looks_special(const char *text) {
    size_t n = strlen(text);
    return n >= 4 && !strncmp(text, "<|", 2) && !strcmp(text + n - 2, "|>");
}

static bool gather_tokens(Vocab *v, const cJSON *json) {
    const cJSON *model = get(json, "model"), *vocab = get(model, "vocab"), *item;
    const char *type = get_text(model, "type");
    if (!type || strcmp(type, "BPE") != 0 || !cJSON_IsObject(vocab))
        return rt_error(v->path, "not a tokenizer of type BPE (llama.cpp gets byte-level BPE from here)");
    cJSON_ArrayForEach(item, vocab) {
        if (!add_token(v, item, item->string, NORMAL)) return false;
    }
    cJSON_ArrayForEach(item, get(json, "added_tokens")) {
        const char *text = get_text(item, "content");
        bool special = text && (cJSON_IsTrue(get(item, "special")) || looks_special(text));
        if (!add_token(v, get(item, "id"), text, special ? CONTROL : USER_DEFINED)) return false;
    }
    return true;
}

static void put_tokens(Gguf *g, const Vocab *v) {
    gguf_begin_texts(g, KEY("tokens"), (uint64_t)v->n);
    for (int64_t i = 0; i < v->n; i++) {
        char unused[32];
        snprintf(unused, sizeof unused, "[PAD%lld]", (long long)i);
        gguf_push_text(g, v->text[i] ? v->text[i] : unused);
    }
    gguf_begin_i32s(g, KEY("token_type"), (uint64_t)v->n);
    for (int64_t i = 0; i < v->n; i++) gguf_push_i32(g, v->text[i] ? v->type[i] : UNUSED);
}

/* ---- merges: "A B", or ["A", "B"] */

static bool put_merges(Gguf *g, const char *path, const cJSON *merges) {
    if (!cJSON_IsArray(merges)) return rt_error(path, "no merges (an array was expected)");
    const cJSON *item;
    gguf_begin_texts(g, KEY("merges"), (uint64_t)cJSON_GetArraySize(merges));
    cJSON_ArrayForEach(item, merges) {
        const char *text = cJSON_GetStringValue(item);
        const char *a = cJSON_GetStringValue(cJSON_GetArrayItem(item, 0));
        const char *b = cJSON_GetStringValue(cJSON_GetArrayItem(item, 1));
        if (!text && !(a && b)) return rt_error(path, "a merge is not a pair of tokens");
        char *joined = text ? rt_printf("%s", text) : rt_printf("%s %s", a, b);
        gguf_push_text(g, joined);
        free(joined);
    }
    return true;
}

/* ---- the pre-tokenizer: llama.cpp has them built in, by name */

static const struct {
    const char *regex, *name;
} pre_tokenizers[] = {
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
     "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     "qwen2"},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
     "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     "llama-bpe"},
};

/* The regex of a pre-tokenizer, or of the first part of a sequence that has one. NULL: there is none. */
static const char *split_regex(const cJSON *pre) {
    const char *regex = get_text(get(pre, "pattern"), "Regex");
    const cJSON *part;
    cJSON_ArrayForEach(part, get(pre, "pretokenizers")) {
        if (!regex) regex = get_text(get(part, "pattern"), "Regex");
    }
    return regex;
}

static bool put_pre_tokenizer(Gguf *g, const char *path, const cJSON *pre) {
    const char *regex = split_regex(pre), *type = get_text(pre, "type");
    const char *name = NULL;
    for (size_t i = 0; regex && i < sizeof pre_tokenizers / sizeof *pre_tokenizers; i++)
        if (!strcmp(regex, pre_tokenizers[i].regex)) name = pre_tokenizers[i].name;
    if (!regex && type && !strcmp(type, "ByteLevel") && !cJSON_IsFalse(get(pre, "use_regex"))) name = "gpt-2";
    if (!name)
        return rt_error(path,
                        "a pre-tokenizer that llama.cpp has no name for (known: qwen2, llama-bpe, gpt-2)");
    gguf_add_text(g, KEY("pre"), name);
    return true;
}

/* ---- special tokens and the chat template */

/* The id of the token with this text, -1: there is none. */
static int64_t find_token(const Vocab *v, const char *text) {
    for (int64_t i = v->n - 1; i >= 0; i--) /* special ones come last */
        if (v->text[i] && !strcmp(v->text[i], text)) return i;
    return -1;
}

/* settings is tokenizer_config.json, or NULL. Its tokens are texts, or objects with a "content". */
static void put_special(Gguf *g, const Vocab *v, const cJSON *settings, const cJSON *config) {
    static const struct {
        const char *token, *id, *key;
    } kinds[] = {{"bos_token", "bos_token_id", KEY("bos_token_id")},
                 {"eos_token", "eos_token_id", KEY("eos_token_id")},
                 {"unk_token", "unk_token_id", KEY("unknown_token_id")},
                 {"pad_token", "pad_token_id", KEY("padding_token_id")}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const cJSON *token = get(settings, kinds[i].token), *number = get(config, kinds[i].id);
        const char *text = cJSON_IsObject(token) ? get_text(token, "content") : cJSON_GetStringValue(token);
        int64_t id = text ? find_token(v, text) : -1;
        if (id < 0 && cJSON_IsNumber(number) && number->valuedouble >= 0 &&
            number->valuedouble < (double)v->n)
            id = (int64_t)number->valuedouble;
        if (id >= 0) gguf_add_u32(g, kinds[i].key, (uint32_t)id);
    }
    gguf_add_bool(g, KEY("add_bos_token"), cJSON_IsTrue(get(settings, "add_bos_token")));
}

/* The file NAME next to path, mapped. False: there is none, or it cannot be read, which is not an error
 * of the tokenizer's. */
static bool map_neighbour(const char *path, const char *name, FileMap *map) {
    char *neighbour = file_beside(path, name);
    bool ok = file_exists(neighbour) && file_map(map, neighbour);
    free(neighbour);
    return ok;
}

static void put_chat_template(Gguf *g, const char *path, const cJSON *settings) {
    const char *text = get_text(settings, "chat_template");
    FileMap map;
    if (text) {
        gguf_add_text(g, "tokenizer.chat_template", text);
    } else if (map_neighbour(path, "chat_template.jinja", &map)) {
        char *copy = rt_printf("%.*s", (int)map.size, (const char *)map.at);
        gguf_add_text(g, "tokenizer.chat_template", copy);
        free(copy);
        file_unmap(&map);
    }
}

/* ---- all of it */

static bool put_vocab(Gguf *g, Vocab *v, const cJSON *json, const cJSON *config) {
    if (!gather_tokens(v, json)) return false;
    gguf_add_text(g, KEY("model"), "gpt2");
    if (!put_pre_tokenizer(g, v->path, get(json, "pre_tokenizer"))) return false;
    put_tokens(g, v);
    if (!put_merges(g, v->path, get(get(json, "model"), "merges"))) return false;
    FileMap map;
    cJSON *settings = NULL;
    if (map_neighbour(v->path, "tokenizer_config.json", &map)) {
        settings = cJSON_ParseWithLength((const char *)map.at, map.size);
        file_unmap(&map);
    }
    put_special(g, v, settings, config);
    put_chat_template(g, v->path, settings);
    cJSON_Delete(settings);
    return true;
}

bool gguf_add_vocab(Gguf *g, const char *path, int64_t vocab, const cJSON *config) {
    FileMap map;
    if (!file_map(&map, path)) return false;
    cJSON *json = cJSON_ParseWithLength((const char *)map.at, map.size);
    file_unmap(&map);
    if (!cJSON_IsObject(json)) {
        cJSON_Delete(json);
        return rt_error(path, "not a JSON object (a tokenizer.json was expected)");
    }
    Vocab v = {.text = rt_calloc((size_t)vocab, sizeof *v.text),
               .type = rt_calloc((size_t)vocab, sizeof *v.type),
               .n = vocab,
               .path = path};
    bool ok = put_vocab(g, &v, json, config);
    free(v.text);
    free(v.type);
    cJSON_Delete(json);
    return ok;
}

/* GPT-2's stand-in for a byte, as UTF-8: the printable bytes of Latin-1 stand for themselves, the others for
 * the characters from 256 on, in order. */
static void byte_symbol(int byte, char out[3]) {
    int code = 256;
    for (int b = 0; b <= byte; b++) {
        bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xff && b != 0xad);
        if (b == byte && printable) code = b;
        if (b < byte && !printable) code++;
    }
    memset(out, 0, 3);
    if (code < 0x80) {
        out[0] = (char)code;
    } else {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
    }
}

bool gguf_add_byte_vocab(Gguf *g, int64_t vocab) {
    enum { BYTES = 256 };
    if (vocab < BYTES)
        return rt_error(NULL, "--export: the model has %lld tokens, bytes need %d", (long long)vocab, BYTES);
    char symbols[BYTES][3];
    Vocab v = {.text = rt_calloc((size_t)vocab, sizeof *v.text),
               .type = rt_calloc((size_t)vocab, sizeof *v.type),
               .n = vocab};
    for (int i = 0; i < BYTES; i++) {
        byte_symbol(i, symbols[i]);
        v.text[i] = symbols[i];
        v.type[i] = NORMAL;
    }
    gguf_add_text(g, KEY("model"), "gpt2");
    gguf_add_text(g, KEY("pre"), "gpt-2");
    put_tokens(g, &v);
    gguf_begin_texts(g, KEY("merges"), 0);
    gguf_add_u32(g, KEY("bos_token_id"), 0);
    gguf_add_u32(g, KEY("eos_token_id"), 0);
    gguf_add_bool(g, KEY("add_bos_token"), false);
    free(v.text);
    free(v.type);
    return true;
}
