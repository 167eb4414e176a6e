/* Parsing: cJSON's tree and the text are walked together, so that each value gets its place. Where cJSON
 * gave up there is no tree, and the walk goes on until it finds the reason. */
#include "json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_BYTES   (4 << 20)
#define MAX_DEPTH   64
#define MAX_MEMBERS 10000 /* of one object: duplicates are looked for pair by pair */

typedef struct Scan {
    Sources *src;
    const char *path, *text;
    size_t n, at;      /* text[n] is 0 */
    size_t line_start; /* of the line that `at` is in */
    uint32_t line;
    uint16_t file;
    uint32_t depth;
    bool failed;
} Scan;

static Loc here(const Scan *s) {
    return (Loc){.file = s->file, .line = s->line, .col = loc_column(s->at - s->line_start + 1)};
}

/* Only the first syntax error is reported: what follows it would be guesses. */
TBC_PRINTF(2, 3) static void *syntax_error(Scan *s, const char *fmt, ...) {
    if (s->failed) return NULL;
    s->failed = true;
    Loc at = here(s);
    va_list ap;
    va_start(ap, fmt);
    diag_verror(s->src->diag, s->path, at.line, at.col, fmt, ap);
    va_end(ap);
    return NULL;
}

static void *unexpected(Scan *s, const char *wanted) {
    unsigned char c = (unsigned char)s->text[s->at];
    if (s->at >= s->n) return syntax_error(s, "unexpected end of the file (%s was expected)", wanted);
    if (c > 0x20 && c < 0x7f) return syntax_error(s, "unexpected '%c' (%s was expected)", c, wanted);
    return syntax_error(s, "unexpected character (%s was expected)", wanted);
}

static void skip_space(Scan *s) {
    for (;; s->at++) {
        char c = s->text[s->at];
        if (c == '\n') {
            s->line++;
            s->line_start = s->at + 1;
        } else if (c != ' ' && c != '\t' && c != '\r') {
            return;
        }
    }
}

static bool digits(Scan *s) {
    size_t start = s->at;
    while (s->text[s->at] >= '0' && s->text[s->at] <= '9') s->at++;
    return s->at > start || unexpected(s, "a digit");
}

static bool scan_number(Scan *s) {
    if (s->text[s->at] == '-') s->at++;
    bool zero = s->text[s->at] == '0';
    size_t start = s->at;
    if (!digits(s)) return false;
    if (zero && s->at > start + 1) return syntax_error(s, "a number with a leading zero");
    if (s->text[s->at] == '.') {
        s->at++;
        if (!digits(s)) return false;
    }
    if (s->text[s->at] == 'e' || s->text[s->at] == 'E') {
        s->at++;
        if (s->text[s->at] == '+' || s->text[s->at] == '-') s->at++;
        if (!digits(s)) return false;
    }
    return s->at - start < 60 || syntax_error(s, "a number with 60 characters and more");
}

/* The four digits after \u at the cursor; false, without a report, if they are not there. */
static bool hex4(const Scan *s, size_t at, uint32_t *code) {
    *code = 0;
    for (int i = 0; i < 4; i++) {
        static const char hex[] = "0123456789abcdef0123456789ABCDEF";
        const char *digit = s->text[at + (size_t)i] ? strchr(hex, s->text[at + (size_t)i]) : NULL;
        if (!digit) return false;
        *code = *code * 16 + (uint32_t)(digit - hex) % 16;
    }
    return true;
}

static bool scan_escape(Scan *s) {
    const char *e = s->text + s->at + 1;
    if (*e != 'u') {
        if (*e && strchr("\"\\/bfnrt", *e)) return s->at += 2, true;
        return syntax_error(s, "unknown escape in a string (after '\\' comes one of \"\\/bfnrtu)");
    }
    uint32_t code, low;
    if (!hex4(s, s->at + 2, &code) || code == 0)
        return syntax_error(s, "bad \\u escape in a string (four hexadecimal digits, not 0000)");
    s->at += 6;
    if (code < 0xd800 || code > 0xdfff) return true;
    bool pair = code < 0xdc00 && strncmp(s->text + s->at, "\\u", 2) == 0 && hex4(s, s->at + 2, &low);
    if (!pair || low < 0xdc00 || low > 0xdfff) return syntax_error(s, "half of a surrogate pair in a string");
    s->at += 6;
    return true;
}

static bool scan_string(Scan *s) {
    Scan start = *s;
    s->at++;
    while (s->text[s->at] != '"') {
        if (s->at >= s->n || s->text[s->at] == '\n') {
            *s = start;
            return syntax_error(s, "this string has no end");
        }
        if ((unsigned char)s->text[s->at] < 0x20)
            return syntax_error(s, "a raw control character in a string");
        if (s->text[s->at] != '\\') {
            s->at++;
        } else if (!scan_escape(s)) {
            return false;
        }
    }
    s->at++;
    return true;
}

static bool scan_value(Scan *, Json *, const cJSON *);

static bool scan_word(Scan *s, const char *word) {
    size_t n = strlen(word);
    if (strncmp(s->text + s->at, word, n) != 0) return unexpected(s, "a JSON value");
    s->at += n;
    return true;
}

/* Reported like other errors of the input, so that several can be. */
static void check_duplicate(Scan *s, const Json *object, const Json *member) {
    for (const Json *m = object->first; m != member; m = m->next) {
        if (strcmp(m->key, member->key) != 0) continue;
        json_key_error(s->src, member, "the key is there twice (first in line %u)", m->key_loc.line);
        s->failed = true;
        return;
    }
}

/* One element of an array or member of an object, appended to it. */
static bool scan_child(Scan *s, Json *parent, Json ***end, const cJSON *item) {
    Json *child = arena_alloc(s->src->arena, sizeof *child);
    child->parent = parent;
    child->index = parent->count++;
    **end = child;
    *end = (Json **)&child->next;
    if (parent->kind == JSON_OBJECT) {
        child->key_loc = here(s);
        child->key = item ? arena_strdup(s->src->arena, item->string) : "";
        if (s->text[s->at] != '"') return unexpected(s, "a key in double quotes");
        if (!scan_string(s)) return false;
        if (parent->count > MAX_MEMBERS)
            return syntax_error(s, "an object with more than %d keys", MAX_MEMBERS);
        if (item) check_duplicate(s, parent, child);
        skip_space(s);
        if (s->text[s->at] != ':') return unexpected(s, "':'");
        s->at++;
        skip_space(s);
    }
    return scan_value(s, child, item);
}

static bool scan_children(Scan *s, Json *parent, const cJSON *item) {
    char close = parent->kind == JSON_OBJECT ? '}' : ']';
    const char *wanted = parent->kind == JSON_OBJECT ? "',' or '}'" : "',' or ']'";
    if (++s->depth > MAX_DEPTH) return syntax_error(s, "more than %d levels of nesting", MAX_DEPTH);
    Json **end = &parent->first;
    s->at++;
    skip_space(s);
    const cJSON *child = item ? item->child : NULL;
    while (parent->count > 0 || s->text[s->at] != close) {
        if (!scan_child(s, parent, &end, child)) return false;
        if (child) child = child->next;
        skip_space(s);
        if (s->text[s->at] == close) break;
        if (s->text[s->at] != ',') return unexpected(s, wanted);
        s->at++;
        skip_space(s);
    }
    s->at++;
    s->depth--;
    return true;
}

/* Fills v. `item` is cJSON's view of the same value, NULL if cJSON could not parse the text. */
static bool scan_value(Scan *s, Json *v, const cJSON *item) {
    v->loc = here(s);
    switch (s->text[s->at]) {
    case '{':
        v->kind = JSON_OBJECT;
        return scan_children(s, v, item);
    case '[':
        v->kind = JSON_ARRAY;
        return scan_children(s, v, item);
    case 't':
        v->kind = JSON_BOOL, v->boolean = true;
        return scan_word(s, "true");
    case 'f':
        v->kind = JSON_BOOL;
        return scan_word(s, "false");
    case 'n':
        v->kind = JSON_NULL;
        return scan_word(s, "null");
    case '"':
        v->kind = JSON_STRING;
        v->string = item ? arena_strdup(s->src->arena, item->valuestring) : "";
        return scan_string(s);
    default:
        if (s->text[s->at] != '-' && (s->text[s->at] < '0' || s->text[s->at] > '9'))
            return unexpected(s, "a JSON value");
        v->kind = JSON_NUMBER;
        v->number = item ? item->valuedouble : 0;
        if (!isfinite(v->number)) return syntax_error(s, "this number is too large");
        return scan_number(s);
    }
}

/* Length of the UTF-8 sequence at p, 0 if it is none. */
static size_t utf8_length(const unsigned char *p) {
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0; /* the terminator ends the loop as well */
    }
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0; /* overlong, surrogates */
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0;
    return n;
}

static bool is_text(const char *text, size_t n) {
    for (size_t i = 0, length; i < n; i += length) {
        length = text[i] ? utf8_length((const unsigned char *)text + i) : 0;
        if (length == 0) return false;
    }
    return true;
}

const Json *json_parse(Sources *src, const char *path, const char *text, size_t n) {
    if (n > MAX_BYTES || !is_text(text, n)) {
        const char *what = n > MAX_BYTES ? "is larger than 4 MiB" : "is not text";
        diag_error(src->diag, path, 0, 0, "the file %s (a model spec in JSON, UTF-8, was expected)", what);
        return NULL;
    }
    if (src->files.n > UINT16_MAX) ice("more than 65536 source files");
    Scan s = {.src = src, .path = arena_strdup(src->arena, path), .text = text, .n = n, .line = 1};
    s.file = (uint16_t)src->files.n;
    vec_push(&src->files, s.path);
    if (strncmp(text, "\xef\xbb\xbf", 3) == 0) s.at = s.line_start = 3; /* byte-order mark */
    skip_space(&s);
    if (s.at >= n) return syntax_error(&s, "the file is empty (a model spec in JSON was expected)");
    cJSON *tree = cJSON_ParseWithLength(text, n);
    Json *root = arena_alloc(src->arena, sizeof *root);
    if (scan_value(&s, root, tree)) {
        skip_space(&s);
        if (s.at < n) {
            unexpected(&s, "the end of the file");
        } else if (!tree) {
            syntax_error(&s, "this is not valid JSON");
        }
    }
    cJSON_Delete(tree);
    return s.failed ? NULL : root;
}

const Json *json_load(Sources *src, const char *path) {
    struct stat st;
    const char *problem = NULL;
    if (stat(path, &st) != 0) {
        problem = strerror(errno);
    } else if (S_ISDIR(st.st_mode)) {
        problem = strerror(EISDIR);
    } else if (S_ISREG(st.st_mode) && st.st_size > MAX_BYTES) {
        problem = "larger than 4 MiB";
    } else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
        problem = "a device, not a file";
    }
    size_t n = 0;
    char *text = problem ? NULL : read_file(path, &n);
    if (!text) {
        diag_error(src->diag, path, 0, 0, "cannot read the file: %s", problem ? problem : strerror(errno));
        return NULL;
    }
    const Json *root = json_parse(src, path, text, n);
    free(text);
    return root;
}
