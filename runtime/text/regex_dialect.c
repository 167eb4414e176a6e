/* Oniguruma's regular expressions to PCRE2's: what both take in the same sense goes through, \s and \S are
 * spelled out, all else is an error. Among that: \w (other characters), \h (there: hexadecimal digits), ^ and
 * $ (there: of any line), (?m) (there: a dot takes newlines), && and [ in a class (there: sets), {,n}, and
 * {n}? (there: perhaps n of them). */
#include "regex_dialect.h"
#include "../error.h"
#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct Pattern {
    const char *at; /* of what is to come */
    char *out;
    size_t n;
} Pattern;

static void put(Pattern *p, const char *text, size_t n) {
    memcpy(p->out + p->n, text, n);
    p->n += n;
}

/* ---- the length of the piece that begins at s, if both dialects take it in the same sense; else 0 */

static size_t digits(const char *s) {
    return strspn(s, "0123456789");
}

/* \p{L}, \P{Lu}, \p{^Han}. */
static size_t property(const char *s) {
    if (s[2] != '{') return 0;
    size_t n = 3 + (s[3] == '^');
    n += strspn(s + n, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_");
    return s[n] == '}' ? n + 1 : 0;
}

static size_t escape(const char *s) {
    if (s[1] == 'p' || s[1] == 'P') return property(s);
    if (s[1] == 'x' && s[2] == '{') {
        size_t n = 3 + strspn(s + 3, "0123456789abcdefABCDEF");
        return n > 3 && s[n] == '}' ? n + 1 : 0;
    }
    return s[1] && (strchr("sSdDrntf", s[1]) || ispunct((unsigned char)s[1])) ? 2 : 0;
}

/* {3}, {3,} or {3,5}. */
static size_t interval(const char *s) {
    size_t n = 1 + digits(s + 1);
    if (n == 1) return 0;
    if (s[n] == ',') n += 1 + digits(s + n + 1);
    if (s[n] != '}' || s[n + 1] == '?' || s[n + 1] == '+') return 0;
    return n + 1;
}

static size_t group(const char *s) {
    static const char *const kinds[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (s[1] != '?') return s[1] == '*' ? 0 : 1;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strncmp(s, kinds[i], strlen(kinds[i])) == 0) return strlen(kinds[i]);
    return 0;
}

static size_t outside(const char *s) {
    switch (*s) {
    case '\\':
        return escape(s);
    case '{':
        return interval(s);
    case '(':
        return group(s);
    case '^':
    case '$':
        return 0;
    default:
        return 1;
    }
}

static size_t inside(const char *s) {
    if (*s == '\\') return escape(s);
    return *s == '[' || (*s == '&' && s[1] == '&') ? 0 : 1;
}

/* ---- the pattern */

/* Where case does not matter, Oniguruma takes a few characters for several: U+00DF for ss, U+FB01 for fi.
 * NULL, or what in the pattern such a one may stand for. */
static const char *folded(const char *pattern) {
    static const char *const several[] = {"ss", "ff", "fi", "fl", "st"};
    if (!strstr(pattern, "(?i")) return NULL;
    for (const char *p = pattern; *p; p++) {
        if ((unsigned char)*p >= 0x80) return p;
        for (size_t i = 0; i < sizeof several / sizeof *several; i++)
            if (strncasecmp(p, several[i], 2) == 0) return p;
    }
    return NULL;
}

/* The piece goes over; \s of PCRE2 has U+180E, which is no white space in Unicode since 6.3 and not in
 * Oniguruma. */
static void take(Pattern *p, size_t n) {
    const bool space = n == 2 && *p->at == '\\' && (p->at[1] == 's' || p->at[1] == 'S');
    const char *text = !space ? p->at : p->at[1] == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
    put(p, text, space ? strlen(text) : n);
    p->at += n;
}

/* A class from its bracket to the one that ends it. False: at `at` is something else than in both dialects.
 */
static bool class(Pattern *p) {
    take(p, 1);
    if (*p->at == '^') take(p, 1);
    if (*p->at == ']') take(p, 1); /* the first stands for itself */
    while (*p->at && *p->at != ']') {
        size_t n = inside(p->at);
        if (!n) return false;
        take(p, n);
    }
    if (*p->at) take(p, 1);
    return true;
}

static bool translate(Pattern *p) {
    if (strncmp(p->at, "(?i)", 4) == 0) take(p, 4); /* further on it is there a group up to the end */
    while (*p->at) {
        size_t n = *p->at == '[' ? 0 : outside(p->at);
        if (*p->at == '[' ? !class(p) : !n) return false;
        take(p, n);
    }
    return true;
}

char *regex_translate(const char *path, const char *pattern) {
    Pattern p = {.at = pattern, .out = rt_calloc(strlen(pattern) + 1, sizeof "\\p{White_Space}")};
    const char *wrong = translate(&p) ? folded(pattern) : p.at;
    if (!wrong) return p.out;
    rt_error(
        path,
        "pre_tokenizer: the regular expression '%s' is not supported from '%.12s' on (PCRE2 may take it in "
        "another sense than Oniguruma)",
        pattern, wrong);
    free(p.out);
    return NULL;
}
