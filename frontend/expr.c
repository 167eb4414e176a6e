/* Evaluation by recursive descent. */
#include "expr.h"
#include "suggest.h"

#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 50
#define MAX_NAME  63

typedef struct Expr {
    const char *text;
    size_t at;
    const Scope *scope;
    Buf *error;
    uint32_t depth;
} Expr;

static bool sum(Expr *, int64_t *);

const Dim *scope_find(const Scope *scope, const char *name) {
    for (uint32_t i = scope->n; i-- > 0;) {
        if (strcmp(scope->at[i].name, name) == 0) return &scope->at[i];
    }
    return NULL;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool is_identifier(const char *text) {
    if (!is_letter(text[0])) return false;
    size_t n = 1;
    while (is_letter(text[n]) || is_digit(text[n])) n++;
    return !text[n] && n <= MAX_NAME;
}

TBC_PRINTF(3, 4) static bool fail(Expr *e, size_t at, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(e->error, fmt, ap);
    va_end(ap);
    e->at = at;
    return false;
}

static char next(Expr *e) {
    while (e->text[e->at] == ' ') e->at++;
    return e->text[e->at];
}

static bool unknown_name(Expr *e, size_t start, const char *name) {
    uint32_t n = e->scope->n;
    const char **known = xcalloc(n, sizeof *known);
    for (uint32_t i = 0; i < n; i++) known[i] = e->scope->at[i].name;
    const char *near = suggest(name, known, n);
    free(known);
    if (near) return fail(e, start, "unknown dim '%s' (did you mean '%s'?)", name, near);
    return fail(e, start, "unknown dim '%s'", name);
}

static bool name(Expr *e, int64_t *out) {
    size_t start = e->at;
    while (is_letter(e->text[e->at]) || is_digit(e->text[e->at])) e->at++;
    if (e->at - start > MAX_NAME) return fail(e, start, "a name of more than %d characters", MAX_NAME);
    char text[MAX_NAME + 1] = {0};
    memcpy(text, e->text + start, e->at - start);
    const Dim *dim = scope_find(e->scope, text);
    if (!dim) return unknown_name(e, start, text);
    *out = dim->value;
    return true;
}

static bool integer(Expr *e, int64_t *out) {
    size_t start = e->at;
    *out = 0;
    for (; is_digit(e->text[e->at]); e->at++) {
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, e->text[e->at] - '0', out))
            return fail(e, start, "this integer is too large");
    }
    return true;
}

static bool group(Expr *e, int64_t *out) {
    size_t open = e->at++;
    if (!sum(e, out)) return false;
    if (next(e) != ')') return fail(e, open, "'(' without ')'");
    e->at++;
    return true;
}

static bool negation(Expr *e, int64_t *out);

static bool unary(Expr *e, int64_t *out) {
    if (e->depth >= MAX_DEPTH) return fail(e, e->at, "more than %d levels of nesting", MAX_DEPTH);
    e->depth++;
    char c = next(e);
    bool ok;
    if (c == '-') {
        ok = negation(e, out);
    } else if (c == '(') {
        ok = group(e, out);
    } else if (is_digit(c)) {
        ok = integer(e, out);
    } else if (is_letter(c)) {
        ok = name(e, out);
    } else {
        ok = fail(e, e->at, "expected a dim, an integer or '('");
    }
    e->depth--;
    return ok;
}

static bool negation(Expr *e, int64_t *out) {
    size_t at = e->at++;
    if (!unary(e, out)) return false;
    return !__builtin_sub_overflow(0, *out, out) || fail(e, at, "overflow");
}

static bool divide(Expr *e, size_t at, int64_t *a, int64_t b) {
    if (b == 0) return fail(e, at, "division by zero");
    if (*a == INT64_MIN && b == -1) return fail(e, at, "overflow");
    if (*a % b != 0) return fail(e, at, "%lld / %lld is not an integer", (long long)*a, (long long)b);
    *a /= b;
    return true;
}

static bool product(Expr *e, int64_t *out) {
    if (!unary(e, out)) return false;
    for (char c = next(e); c == '*' || c == '/'; c = next(e)) {
        size_t at = e->at++;
        int64_t right;
        if (!unary(e, &right)) return false;
        if (c == '/') {
            if (!divide(e, at, out, right)) return false;
        } else if (__builtin_mul_overflow(*out, right, out)) {
            return fail(e, at, "overflow");
        }
    }
    return true;
}

static bool sum(Expr *e, int64_t *out) {
    if (!product(e, out)) return false;
    for (char c = next(e); c == '+' || c == '-'; c = next(e)) {
        size_t at = e->at++;
        int64_t right;
        if (!product(e, &right)) return false;
        bool overflow =
            c == '+' ? __builtin_add_overflow(*out, right, out) : __builtin_sub_overflow(*out, right, out);
        if (overflow) return fail(e, at, "overflow");
    }
    return true;
}

bool expr_eval(const char *text, const Scope *scope, int64_t *out, Buf *error, size_t *at) {
    Expr e = {.text = text, .scope = scope, .error = error};
    bool ok = sum(&e, out);
    if (ok && next(&e)) ok = fail(&e, e.at, "an operator + - * / was expected here");
    *at = e.at;
    return ok;
}
