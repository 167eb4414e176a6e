/* JSON with locations. cJSON decodes; one scan of the same text gives every value its line, column and
 * place in the tree, and says in words what is wrong where.
 *
 * Stricter than cJSON: duplicate keys, leading zeros, raw control characters and text that is not UTF-8
 * are errors. Keys are compared case by case. All memory belongs to the Sources' arena. */
#ifndef TBC_JSON_H
#define TBC_JSON_H

#include "../ir/diag.h"

typedef enum JsonKind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonKind;

typedef struct Json Json;
struct Json {
    JsonKind kind;
    bool boolean;       /* JSON_BOOL */
    double number;      /* JSON_NUMBER, finite */
    const char *string; /* JSON_STRING */
    const char *key;    /* of a member of an object, else NULL */
    uint32_t index;     /* position in its parent */
    uint32_t count;     /* children of an array or object, a list from `first` on through `next` */
    const Json *parent, *next;
    Json *first;
    Loc loc, key_loc; /* of the value, and of its key */
};

/* The files that a spec is made of; Loc.file indexes `files`. Errors go to diag. */
typedef struct Sources {
    Arena *arena;
    Diag *diag;
    VEC(const char *) files;
} Sources;

/* Reads and parses a file. NULL after a reported error. */
const Json *json_load(Sources *, const char *path);
/* The same for n bytes of terminated text; path is for messages. */
const Json *json_parse(Sources *, const char *path, const char *text, size_t n);

const Json *json_get(const Json *object, const char *key); /* NULL if it is not there, or no object */
const char *json_kind_name(const Json *);                  /* "a string" */

/* The merge of `extends`: members of objects merge, everything else of `over` replaces `base`. */
const Json *json_merge(Sources *, const Json *base, const Json *over);

/* An empty object that stands where `at` does, and a new last member of it, a copy of `value`. */
Json *json_object(Sources *, const Json *at);
Json *json_add(Sources *, Json *object, const char *key, const Json *value);

/* Reports an error at a value, with its JSON pointer: FILE:L:C: error: /dims/heads: ... */
void json_error(Sources *, const Json *, const char *fmt, ...) TBC_PRINTF(3, 4);
/* The same at a member's key. */
void json_key_error(Sources *, const Json *, const char *fmt, ...) TBC_PRINTF(3, 4);
/* The same at character `at` of a string. */
void json_string_error(Sources *, const Json *, size_t at, const char *fmt, ...) TBC_PRINTF(4, 5);

/* Typed access; each reports what it expected and returns false (NULL) if the value is something else. */
bool json_is(Sources *, const Json *, JsonKind);
bool json_int(Sources *, const Json *, int64_t lo, int64_t hi, int64_t *out);
bool json_number(Sources *, const Json *, double *out);
/* Reports every member of `object` whose key is not in the NULL-terminated list. */
bool json_known_keys(Sources *, const Json *object, const char *const *keys);

/* A number so that it reads back as the same double: 16, 1e-06, 0.0005. */
void json_print_number(Buf *, double);
void json_print(Buf *, const Json *);

#endif
