/* tokenizer.json to a BpeTokenizer. Every key is known or an error. */
#include "tokenizer_json.h"
#include "../error.h"
#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MOST_IDS = 1 << 24 };

/* The one of ByteLevel, from GPT-2's encoder.py. */
static const char gpt2_regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

typedef struct Reader {
    const char *path;
    BpeTokenizer *t;
    size_t texts_n;  /* bytes of t->texts in use */
    int32_t next_id; /* of an added token that the vocabulary has not */
} Reader;

/* ---- JSON */

static cJSON *get(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool is_null(const cJSON *value) {
    return !value || cJSON_IsNull(value);
}

static bool is_false(const cJSON *value) {
    return !value || cJSON_IsFalse(value);
}

/* Absent, null or "". */
static bool is_empty(const cJSON *value) {
    return is_null(value) || (cJSON_IsString(value) && !*value->valuestring);
}

/* value is an object, and each of its keys is in the list, which is separated by spaces, and comes once. */
static bool check_keys(const Reader *r, const cJSON *value, const char *where, const char *keys) {
    if (!cJSON_IsObject(value))
        return rt_error(r->path, "%s: %s (expected an object)", where, value ? "wrong type" : "missing");
    for (const cJSON *item = value->child; item; item = item->next) {
        size_t n = strlen(item->string);
        const char *known = keys;
        while (known && !(strncmp(known, item->string, n) == 0 && (known[n] == ' ' || !known[n]))) {
            known = strchr(known, ' ');
            if (known) known++;
        }
        if (!known || n == 0) return rt_error(r->path, "%s: unknown key '%s'", where, item->string);
        if (get(value, item->string) != item)
            return rt_error(r->path, "%s: the key '%s' comes twice", where, item->string);
    }
    return true;
}

static const char *type_of(const cJSON *object) {
    const char *type = cJSON_GetStringValue(get(object, "type"));
    return type ? type : "";
}

/* For values that would need work that is not done here. */
static bool unsupported(const Reader *r, const char *where, const char *key, const char *expected) {
    return rt_error(r->path, "%s: this value of '%s' is not supported (expected %s)", where, key, expected);
}

static bool wrong_type(const Reader *r, const char *where, const cJSON *object, const char *expected) {
    return rt_error(r->path, "%s: type '%s' is not supported (expected %s)", where, type_of(object),
                    expected);
}

static bool read_id(const Reader *r, const cJSON *value, const char *what, int32_t *id) {
    double number = cJSON_IsNumber(value) ? value->valuedouble : -1;
    if (!(number >= 0 && number < MOST_IDS) || number != (double)(int32_t)number)
        return rt_error(r->path, "the id of %s is not a whole number from 0 to %d", what, MOST_IDS - 1);
    *id = (int32_t)number;
    return true;
}

/* ---- texts */

/* The byte that a character of a token stands for; -1: none. Printable characters of Latin-1 stand for
 * themselves, U+0100 and up for the other bytes in their order (GPT-2's bytes_to_unicode). */
static int byte_of(uint32_t character) {
    static const struct { uint32_t first, last; } self[] = {{0x21, 0x7e}, {0xa1, 0xac}, {0xae, 0xff}};
    for (int i = 0; i < 3; i++)
        if (character >= self[i].first && character <= self[i].last) return (int)character;
    if (character < 0x100 || character > 0x143) return -1;
    uint32_t n = character - 0x100; /* of 0..0x20, 0x7f..0xa0, 0xad */
    return n < 0x21 ? (int)n : n < 0x43 ? (int)(n - 0x21 + 0x7f) : 0xad;
}

/* Writes the bytes that a token's characters stand for. False: not all stand for one. */
static bool to_bytes(const char *text, char *out, size_t *n) {
    *n = 0;
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        uint32_t character = *s;
        if (character >= 0x80) { /* they are all of two bytes */
            if (character >= 0xe0 || (s[1] & 0xc0) != 0x80) return false;
            character = (character & 0x1f) << 6 | (*++s & 0x3fu);
        }
        int byte = byte_of(character);
        if (byte < 0) return false;
        out[(*n)++] = (char)byte;
    }
    return true;
}

/* Where the next text may be written: there is room for all strings of the file, terminated. */
static char *texts_end(const Reader *r) {
    return r->t->texts + r->texts_n;
}

/* ---- model */

static bool add_vocab_token(Reader *r, const cJSON *item) {
    Bpe *b = &r->t->bpe;
    int32_t id = -1;
    char *text = texts_end(r);
    size_t n;
    if (!read_id(r, item, "a token in model.vocab", &id)) return false;
    if (!*item->string) return rt_error(r->path, "model.vocab: a token without text");
    if (b->tokens[id].text) return rt_error(r->path, "model.vocab: id %d comes twice", (int)id);
    if (to_bytes(item->string, text, &n)) {
        if (!bpe_add_token(b, id, text, (uint32_t)n))
            return rt_error(r->path, "model.vocab: token '%s' comes twice", item->string);
    } else {
        /* encoding makes no such token; decoding shows its characters */
        n = strlen(item->string);
        memcpy(text, item->string, n);
        b->tokens[id] = (Token){text, (uint32_t)n};
    }
    r->texts_n += n;
    return true;
}

static bool check_bytes(const Reader *r) {
    for (int i = 0; i < 256; i++)
        if (r->t->bpe.byte_id[i] < 0)
            return rt_error(r->path, "model.vocab: no token for byte 0x%02x (expected one for every byte)",
                            i);
    return true;
}

/* Splits "left right", or takes [left, right]. */
static bool merge_parts(const cJSON *merge, const char **left, size_t *left_n, const char **right) {
    if (cJSON_IsString(merge)) {
        const char *space = strchr(merge->valuestring, ' ');
        *left = merge->valuestring;
        *left_n = space ? (size_t)(space - merge->valuestring) : 0;
        *right = space ? space + 1 : "";
    } else {
        const cJSON *first = cJSON_IsArray(merge) ? merge->child : NULL, *second = first ? first->next : NULL;
        if (!cJSON_IsString(first) || !cJSON_IsString(second) || second->next) return false;
        *left = first->valuestring;
        *left_n = strlen(*left);
        *right = second->valuestring;
    }
    return *left_n > 0 && **right;
}

static bool add_merge(Reader *r, const cJSON *merge, uint32_t rank) {
    const char *left, *right;
    size_t left_n, right_n;
    if (!merge_parts(merge, &left, &left_n, &right))
        return rt_error(r->path, "model.merges[%u]: expected two tokens", rank);
    char *pair = texts_end(r); /* not kept; two strings of the file fit */
    memcpy(pair, left, left_n);
    pair[left_n] = 0;
    char *joined = pair + left_n + 1;
    const Bpe *b = &r->t->bpe;
    int32_t id[3] = {-1, -1, -1};
    if (to_bytes(pair, joined, &left_n) && to_bytes(right, joined + left_n, &right_n)) {
        id[0] = bpe_find(b, joined, left_n);
        id[1] = bpe_find(b, joined + left_n, right_n);
        id[2] = bpe_find(b, joined, left_n + right_n);
    }
    if (id[0] < 0 || id[1] < 0 || id[2] < 0)
        return rt_error(r->path,
                        "model.merges[%u]: '%s' and '%s', or what they make, is no token in model.vocab",
                        rank, pair, right);
    bpe_add_merge(&r->t->bpe, id[0], id[1], id[2], rank);
    return true;
}

static bool check_model(const Reader *r, const cJSON *model) {
    if (cJSON_IsObject(model) && strcmp(type_of(model), "BPE") != 0)
        return wrong_type(r, "model", model, "BPE");
    if (!check_keys(r, model, "model",
                    "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
                    "byte_fallback ignore_merges vocab merges"))
        return false;
    const cJSON *dropout = get(model, "dropout"), *unknown = get(model, "unk_token");
    const cJSON *fuse = get(model, "fuse_unk"), *ignore = get(model, "ignore_merges");
    if (!is_null(dropout)) return unsupported(r, "model", "dropout", "null");
    if (!is_null(unknown) && !cJSON_IsString(unknown)) /* never comes up: every byte has a token */
        return unsupported(r, "model", "unk_token", "null or a string");
    if (!is_empty(get(model, "continuing_subword_prefix")))
        return unsupported(r, "model", "continuing_subword_prefix", "null");
    if (!is_empty(get(model, "end_of_word_suffix")))
        return unsupported(r, "model", "end_of_word_suffix", "null");
    if (fuse && !cJSON_IsBool(fuse)) return unsupported(r, "model", "fuse_unk", "true or false");
    if (!is_false(get(model, "byte_fallback"))) return unsupported(r, "model", "byte_fallback", "false");
    if (ignore && !cJSON_IsBool(ignore)) return unsupported(r, "model", "ignore_merges", "true or false");
    if (!cJSON_IsObject(get(model, "vocab"))) return rt_error(r->path, "model.vocab: expected an object");
    return cJSON_IsArray(get(model, "merges")) || rt_error(r->path, "model.merges: expected an array");
}

/* The ids that there are: those in vocab and of the added tokens. */
static bool count_ids(const Reader *r, const cJSON *vocab, const cJSON *added, int32_t *ids) {
    int32_t id = -1;
    *ids = 0;
    for (const cJSON *item = vocab->child; item; item = item->next) {
        if (!read_id(r, item, "a token in model.vocab", &id)) return false;
        if (id >= *ids) *ids = id + 1;
    }
    for (const cJSON *item = added ? added->child : NULL; item; item = item->next) {
        if (!read_id(r, get(item, "id"), "an added token", &id)) return false;
        if (id >= *ids) *ids = id + 1;
    }
    return true;
}

static bool read_model(Reader *r, const cJSON *model, const cJSON *added) {
    int32_t ids;
    if (!check_model(r, model) || !count_ids(r, get(model, "vocab"), added, &ids)) return false;
    const cJSON *merges = get(model, "merges");
    bpe_init(&r->t->bpe, ids, (size_t)cJSON_GetArraySize(merges));
    r->t->bpe.ignore_merges = cJSON_IsTrue(get(model, "ignore_merges"));
    for (const cJSON *item = get(model, "vocab")->child; item; item = item->next)
        if (!add_vocab_token(r, item)) return false;
    if (!check_bytes(r)) return false;
    uint32_t rank = 0;
    for (const cJSON *item = merges->child; item; item = item->next)
        if (!add_merge(r, item, rank++)) return false;
    r->next_id = cJSON_GetArraySize(get(model, "vocab"));
    return true;
}

/* ---- added tokens */

static bool is_nfc(const char *text) {
    utf8proc_uint8_t *composed = utf8proc_NFC((const utf8proc_uint8_t *)text);
    bool same = composed && strcmp((const char *)composed, text) == 0;
    free(composed);
    return same;
}

/* The vocabulary's token with this text; -1: none. Not all are of characters that stand for bytes. */
static int32_t vocab_find(const Reader *r, const char *content) {
    const Bpe *b = &r->t->bpe;
    char *bytes = texts_end(r); /* not kept */
    size_t n;
    if (to_bytes(content, bytes, &n)) return bpe_find(b, bytes, n);
    n = strlen(content);
    const int32_t other = bpe_find(b, content, n); /* these bytes, in other characters */
    for (int32_t id = 0; id < b->ids; id++)
        if (b->tokens[id].bytes == n && id != other && memcmp(b->tokens[id].text, content, n) == 0) return id;
    return -1;
}

/* The library gives an added token the id that the vocabulary has, else the next, whatever the file says. */
static bool check_added_id(Reader *r, const char *content, int32_t id) {
    const int32_t found = vocab_find(r, content), expected = found < 0 ? r->next_id : found;
    if (id != expected)
        return rt_error(r->path,
                        "added_tokens: '%s' has id %d (expected %d, which `tokenizers` would give it)",
                        content, (int)id, (int)expected);
    r->next_id += found < 0;
    return true;
}

static bool add_added_token(Reader *r, const cJSON *item) {
    if (!check_keys(r, item, "added_tokens", "id content single_word lstrip rstrip normalized special"))
        return false;
    const char *content = cJSON_GetStringValue(get(item, "content"));
    if (!content || !*content) return rt_error(r->path, "added_tokens: a token without content");
    static const char *const plain[] = {"single_word", "lstrip", "rstrip"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!is_false(get(item, plain[i]))) return unsupported(r, "added_tokens", plain[i], "false");
    const cJSON *normalized = get(item, "normalized");
    if (!is_false(normalized) && !cJSON_IsTrue(normalized))
        return unsupported(r, "added_tokens", "normalized", "true or false");
    const bool normalised = r->t->nfc && cJSON_IsTrue(normalized);
    if (normalised && !is_nfc(content))
        return rt_error(
            r->path, "added_tokens: '%s' is to be found in normalised text, but is not normalised", content);
    int32_t id = -1;
    if (!read_id(r, get(item, "id"), "an added token", &id) || !check_added_id(r, content, id)) return false;
    size_t n = strlen(content);
    char *text = texts_end(r);
    memcpy(text, content, n);
    r->texts_n += n;
    Token *token = &r->t->bpe.tokens[id];
    if (token->text && (token->bytes != n || memcmp(token->text, content, n) != 0))
        return rt_error(r->path, "added_tokens: id %d of '%s' is another token's", (int)id, content);
    *token = (Token){text, (uint32_t)n};
    for (size_t i = 0; i < r->t->nadded; i++)
        if (r->t->added[i].bytes == n && memcmp(r->t->added[i].text, content, n) == 0)
            return rt_error(r->path, "added_tokens: '%s' comes twice", content);
    r->t->added[r->t->nadded++] = (AddedToken){text, (uint32_t)n, id, normalised};
    r->t->added_normalised |= normalised;
    return true;
}

static bool read_added(Reader *r, const cJSON *added) {
    if (is_null(added)) return true;
    r->t->added = rt_calloc((size_t)cJSON_GetArraySize(added), sizeof *r->t->added);
    for (const cJSON *item = added->child; item; item = item->next)
        if (!add_added_token(r, item)) return false;
    return true;
}

/* ---- the stages around the model */

static bool read_normalizer(Reader *r, const cJSON *stage) {
    if (is_null(stage)) return true;
    if (cJSON_IsObject(stage) && strcmp(type_of(stage), "NFC") != 0)
        return wrong_type(r, "normalizer", stage, "NFC, or null");
    r->t->nfc = true;
    return check_keys(r, stage, "normalizer", "type");
}

/* A ByteLevel stage of any kind; regex: may it have the regular expression of its own? */
static bool check_byte_level(const Reader *r, const cJSON *stage, const char *where, bool pre, bool regex) {
    if (cJSON_IsObject(stage) && strcmp(type_of(stage), "ByteLevel") != 0)
        return wrong_type(r, where, stage, "ByteLevel");
    if (!check_keys(r, stage, where, "type add_prefix_space trim_offsets use_regex")) return false;
    if (pre && !cJSON_IsFalse(get(stage, "add_prefix_space")))
        return unsupported(r, where, "add_prefix_space", "false");
    if (pre && !regex && !cJSON_IsFalse(get(stage, "use_regex")))
        return unsupported(r, where, "use_regex", "false beside a Split");
    return true;
}

static bool read_split(Reader *r, const cJSON *split) {
    const char *where = "pre_tokenizer (Split)";
    if (cJSON_IsObject(split) && strcmp(type_of(split), "Split") != 0)
        return wrong_type(r, "pre_tokenizer", split, "a Split, then a ByteLevel");
    if (!check_keys(r, split, where, "type pattern behavior invert") ||
        !check_keys(r, get(split, "pattern"), "pre_tokenizer (Split): pattern", "Regex"))
        return false;
    const char *regex = cJSON_GetStringValue(get(get(split, "pattern"), "Regex"));
    const char *behavior = cJSON_GetStringValue(get(split, "behavior"));
    if (!regex) return unsupported(r, where, "pattern", "a Regex");
    if (!behavior || strcmp(behavior, "Isolated") != 0)
        return unsupported(r, where, "behavior", "\"Isolated\"");
    if (!is_false(get(split, "invert"))) return unsupported(r, where, "invert", "false");
    return bpe_text_regex(r->t, r->path, regex);
}

static bool read_pre_tokenizer(Reader *r, const cJSON *stage) {
    if (strcmp(type_of(stage), "ByteLevel") == 0) {
        if (!check_byte_level(r, stage, "pre_tokenizer", true, true)) return false;
        const cJSON *use_regex = get(stage, "use_regex");
        if (use_regex && !cJSON_IsTrue(use_regex))
            return unsupported(r, "pre_tokenizer", "use_regex", "true");
        return bpe_text_regex(r->t, r->path, gpt2_regex);
    }
    if (cJSON_IsObject(stage) && strcmp(type_of(stage), "Sequence") != 0)
        return wrong_type(r, "pre_tokenizer", stage, "ByteLevel, or a Sequence of Split and ByteLevel");
    if (!check_keys(r, stage, "pre_tokenizer", "type pretokenizers")) return false;
    const cJSON *list = get(stage, "pretokenizers");
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != 2)
        return rt_error(r->path, "pre_tokenizer: a Sequence of %d (expected a Split, then a ByteLevel)",
                        cJSON_GetArraySize(list));
    return read_split(r, list->child) && check_byte_level(r, list->child->next, "pre_tokenizer", true, false);
}

/* None of these changes ids but TemplateProcessing, which puts special tokens around a text: here texts are
 * packed without, as the library does it with add_special_tokens=False. */
static bool check_post_processor(const Reader *r, const cJSON *stage) {
    if (is_null(stage) || strcmp(type_of(stage), "TemplateProcessing") == 0) return true;
    if (strcmp(type_of(stage), "Sequence") != 0)
        return check_byte_level(r, stage, "post_processor", false, true);
    const cJSON *list = get(stage, "processors");
    if (!cJSON_IsArray(list)) return rt_error(r->path, "post_processor: a Sequence without its processors");
    for (const cJSON *item = list->child; item; item = item->next)
        if (!check_post_processor(r, item)) return false;
    return true;
}

static bool read_stages(Reader *r, const cJSON *json) {
    const cJSON *version = get(json, "version"), *added = get(json, "added_tokens");
    if (version && (!cJSON_IsString(version) || strcmp(version->valuestring, "1.0") != 0))
        return unsupported(r, "the file", "version", "\"1.0\"");
    if (!is_null(get(json, "truncation"))) return unsupported(r, "the file", "truncation", "null");
    if (!is_null(get(json, "padding"))) return unsupported(r, "the file", "padding", "null");
    if (!is_null(added) && !cJSON_IsArray(added)) return rt_error(r->path, "added_tokens: expected an array");
    return read_normalizer(r, get(json, "normalizer")) && read_pre_tokenizer(r, get(json, "pre_tokenizer")) &&
           check_post_processor(r, get(json, "post_processor")) &&
           check_byte_level(r, get(json, "decoder"), "decoder", false, true) &&
           read_model(r, get(json, "model"), added) && read_added(r, added);
}

/* ---- the file */

static bool wrong_syntax(const char *path, const char *text, const char *at) {
    int line = 1, column = 1;
    for (; text < at; text++) {
        column = *text == '\n' ? 1 : column + 1;
        line += *text == '\n';
    }
    char *place = rt_printf("%s:%d:%d", path, line, column);
    rt_error(place, "not JSON from here on");
    free(place);
    return false;
}

bool tokenizer_json_read(BpeTokenizer *t, const char *path, const FileMap *file) {
    const char *text = (const char *)file->at, *end = text;
    cJSON *json = cJSON_ParseWithLengthOpts(text, file->size, &end, false);
    const char *rest = end;
    while (rest < text + file->size && strchr(" \t\r\n", *rest) && *rest) rest++;
    Reader r = {.path = path, .t = t};
    *t = (BpeTokenizer){0};
    t->texts = rt_calloc(file->size + 1, 2); /* no string is longer read than written */
    bool ok = json && rest == text + file->size;
    ok = ok ? check_keys(
                  &r, json, "the file",
                  "version truncation padding added_tokens normalizer pre_tokenizer post_processor decoder "
                  "model") &&
                  read_stages(&r, json)
            : wrong_syntax(path, text, json ? rest : end);
    cJSON_Delete(json);
    if (ok)
        bpe_text_finish(t);
    else
        bpe_text_close(t);
    return ok;
}
