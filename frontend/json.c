/* The tree that json_parse.c makes: looking things up, merging, typed access, errors with their place, and
 * printing. */
#include "json.h"
#include "suggest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading the tree */

const Json *json_get(const Json *object, const char *key) {
    if (!object || object->kind != JSON_OBJECT) return NULL;
    for (const Json *m = object->first; m; m = m->next) {
        if (strcmp(m->key, key) == 0) return m;
    }
    return NULL;
}

const char *json_kind_name(const Json *v) {
    static const char *const name[] = {"null", "a boolean", "a number", "a string", "an array", "an object"};
    return name[v->kind];
}

static Json *copy_of(Sources *src, const Json *v) {
    Json *copy = arena_alloc(src->arena, sizeof *copy);
    *copy = *v;
    return copy;
}

const Json *json_merge(Sources *src, const Json *base, const Json *over) {
    Json *merged = copy_of(src, over);
    if (base->kind != JSON_OBJECT || over->kind != JSON_OBJECT) return merged;
    Json **end = &merged->first;
    merged->count = 0;
    /* Children keep their old parents: the path to them is the same. */
    for (const Json *b = base->first; b; b = b->next) {
        const Json *o = json_get(over, b->key);
        Json *member = o ? (Json *)json_merge(src, b, o) : copy_of(src, b);
        *end = member, end = (Json **)&member->next, merged->count++;
    }
    for (const Json *o = over->first; o; o = o->next) {
        if (json_get(base, o->key)) continue;
        Json *member = copy_of(src, o);
        *end = member, end = (Json **)&member->next, merged->count++;
    }
    *end = NULL;
    return merged;
}

Json *json_object(Sources *src, const Json *at) {
    Json *object = arena_alloc(src->arena, sizeof *object);
    object->kind = JSON_OBJECT;
    object->loc = object->key_loc = at->loc;
    return object;
}

Json *json_add(Sources *src, Json *object, const char *key, const Json *value) {
    Json **end = &object->first;
    while (*end) end = (Json **)&(*end)->next;
    Json *member = *end = copy_of(src, value);
    member->key = key;
    member->index = object->count++;
    member->parent = object;
    member->next = NULL;
    return member;
}

/* ---- errors */

static void print_pointer(Buf *b, const Json *v) {
    if (!v->parent) return;
    print_pointer(b, v->parent);
    buf_printf(b, "/");
    if (!v->key) {
        buf_printf(b, "%u", v->index);
        return;
    }
    for (const char *c = v->key; *c; c++) {
        if (c - v->key == 60) { /* a key out of all proportion is shown by its beginning */
            buf_printf(b, "...");
            return;
        }
        if (*c == '~' || *c == '/') {
            buf_printf(b, *c == '~' ? "~0" : "~1");
        } else {
            buf_add(b, c, 1);
        }
    }
}

static void report(Sources *src, const Json *v, Loc at, const char *fmt, va_list ap) {
    Buf b = {0};
    print_pointer(&b, v);
    if (b.n) buf_printf(&b, ": ");
    buf_vprintf(&b, fmt, ap);
    for (size_t i = 0; i < b.n; i++) { /* keys and strings may hold anything: one error is one line */
        if ((unsigned char)b.at[i] < 0x20 || b.at[i] == 0x7f) b.at[i] = '?';
    }
    diag_error(src->diag, src->files.at[at.file], at.line, at.col, "%s", b.at);
    buf_free(&b);
}

void json_error(Sources *src, const Json *v, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    report(src, v, v->loc, fmt, ap);
    va_end(ap);
}

void json_key_error(Sources *src, const Json *v, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    report(src, v, v->key ? v->key_loc : v->loc, fmt, ap);
    va_end(ap);
}

void json_string_error(Sources *src, const Json *v, size_t at, const char *fmt, ...) {
    Loc loc = v->loc;
    if (v->kind == JSON_STRING) loc.col = loc_column(loc.col + 1 + at);
    va_list ap;
    va_start(ap, fmt);
    report(src, v, loc, fmt, ap);
    va_end(ap);
}

/* ---- typed access */

bool json_is(Sources *src, const Json *v, JsonKind kind) {
    if (v->kind == kind) return true;
    json_error(src, v, "expected %s, found %s", json_kind_name(&(Json){.kind = kind}), json_kind_name(v));
    return false;
}

bool json_int(Sources *src, const Json *v, int64_t lo, int64_t hi, int64_t *out) {
    if (v->kind != JSON_NUMBER || v->number != floor(v->number)) {
        json_error(src, v, "expected an integer, found %s",
                   v->kind == JSON_NUMBER ? "a fraction" : json_kind_name(v));
        return false;
    }
    if (v->number < (double)lo || v->number > (double)hi) {
        json_error(src, v, "%.17g is out of range (%lld to %lld)", v->number, (long long)lo, (long long)hi);
        return false;
    }
    *out = (int64_t)v->number;
    return true;
}

bool json_number(Sources *src, const Json *v, double *out) {
    if (!json_is(src, v, JSON_NUMBER)) return false;
    *out = v->number;
    return true;
}

bool json_known_keys(Sources *src, const Json *object, const char *const *keys) {
    uint32_t n = 0;
    while (keys[n]) n++;
    bool ok = true;
    for (const Json *m = object->first; m; m = m->next) {
        bool known = false;
        for (uint32_t i = 0; i < n; i++) known |= strcmp(keys[i], m->key) == 0;
        if (known) continue;
        ok = false;
        const char *near = suggest(m->key, keys, n);
        if (near) {
            json_key_error(src, m, "unknown key (did you mean '%s'?)", near);
            continue;
        }
        Buf list = {0};
        for (uint32_t i = 0; i < n; i++) buf_printf(&list, "%s%s", i ? ", " : "", keys[i]);
        json_key_error(src, m, "unknown key (known are %s)", list.at);
        buf_free(&list);
    }
    return ok;
}

/* ---- printing */

void json_print_number(Buf *b, double number) {
    char text[32];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, number);
        if (strtod(text, NULL) == number) break;
    }
    buf_printf(b, "%s", text);
}

void json_print(Buf *b, const Json *v) {
    switch (v->kind) {
    case JSON_NULL:
        buf_printf(b, "null");
        return;
    case JSON_BOOL:
        buf_printf(b, v->boolean ? "true" : "false");
        return;
    case JSON_NUMBER:
        json_print_number(b, v->number);
        return;
    case JSON_STRING:
        buf_quote(b, v->string);
        return;
    case JSON_ARRAY:
    case JSON_OBJECT:
        buf_printf(b, v->kind == JSON_ARRAY ? "[" : "{");
        for (const Json *child = v->first; child; child = child->next) {
            if (child != v->first) buf_printf(b, ",");
            if (child->key) {
                buf_quote(b, child->key);
                buf_printf(b, ":");
            }
            json_print(b, child);
        }
        buf_printf(b, v->kind == JSON_ARRAY ? "]" : "}");
    }
}
