/* Reading JSON Lines with cJSON, a line at a time: the file may be larger than memory. */
#include "jsonl.h"
#include "../error.h"
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* cJSON's strings end at a NUL, so a text with one would be cut short: is there a \u0000, or the byte itself?
 * A backslash that is itself escaped begins nothing. */
static bool has_nul(const char *line, size_t n) {
    if (memchr(line, 0, n)) return true;
    for (size_t i = 0; i + 5 < n; i++) {
        if (line[i] != '\\') continue;
        if (!memcmp(line + i + 1, "u0000", 5)) return true;
        i++;
    }
    return false;
}

static bool is_escape_from(const char *at, const char *end, char first, char last) {
    return end - at >= 6 && at[0] == '\\' && at[1] == 'u' && (at[2] | 0x20) == 'd' &&
           (at[3] | 0x20) >= first && (at[3] | 0x20) <= last;
}

/* Half of a UTF-16 pair, \ud800 to \udfff, stands for no character on its own; cJSON would call it no JSON.
 */
static bool has_lone_surrogate(const char *line, size_t n) {
    for (const char *at = line, *end = line + n; at < end; at++) {
        if (*at != '\\') continue;
        if (is_escape_from(at, end, 'c', 'f')) return true;
        if (is_escape_from(at, end, '8', '9') || is_escape_from(at, end, 'a', 'b')) {
            if (!is_escape_from(at + 6, end, 'c', 'f')) return true;
            at += 6;
        }
        at++;
    }
    return false;
}

static bool is_blank(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!text[i] || !strchr(" \t\r", text[i])) return false;
    return true;
}

/* Its one string under "text"; NULL: none, or two of them. */
static const char *text_of(const cJSON *object) {
    const cJSON *text = NULL;
    for (const cJSON *item = object->child; item; item = item->next) {
        if (strcmp(item->string, "text") != 0) continue;
        if (text) return NULL;
        text = item;
    }
    return cJSON_GetStringValue(text);
}

/* The line's object, which the caller deletes; NULL: *what says what is wrong. */
static cJSON *parse_line(const char *line, size_t n, const char **what) {
    const char *end;
    *what = "a NUL character in the text";
    if (has_nul(line, n)) return NULL;
    *what = "half of a surrogate pair in the text";
    if (has_lone_surrogate(line, n)) return NULL;
    *what = "not a JSON object";
    cJSON *object = cJSON_ParseWithLengthOpts(line, n, &end, false);
    if (!object) return NULL;
    if (is_blank(end, n - (size_t)(end - line)) && cJSON_IsObject(object)) {
        *what = "not one \"text\" with a string";
        if (text_of(object)) return object;
    }
    cJSON_Delete(object);
    return NULL;
}

static bool put_boundary(const Tokenizer *t, TokenSink *sink) {
    int32_t id = tokenizer_is_byte(t) ? '\n' : tokenizer_end_of_text(t);
    return id < 0 || sink->put(sink, &id, 1);
}

bool tokenize_jsonl(const Tokenizer *t, const char *path, const FileMap *file, TokenSink *sink) {
    const char *at = (const char *)file->at, *end = at + file->size;
    bool ok = true, first = true;
    for (size_t number = 1; ok && at < end; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at)), *line = at, *what;
        size_t n = (size_t)((newline ? newline : end) - line);
        at = newline ? newline + 1 : end;
        if (is_blank(line, n)) continue;
        cJSON *object = parse_line(line, n, &what);
        if (!object) {
            char *where = rt_printf("%s:%zu", path, number);
            rt_error(where, "%s (expected one like {\"text\": \"...\"} on each line)", what);
            free(where);
            return false;
        }
        const char *text = text_of(object);
        ok = (first || put_boundary(t, sink)) && tokenizer_encode_to(t, text, strlen(text), sink);
        first = false;
        cJSON_Delete(object);
    }
    return ok;
}
