/* Oniguruma's regular expressions to PCRE2's: what both take in the same sense goes over, \s and scripts are
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

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define DIGITS  "0123456789"

typedef struct Pattern {
    const char *at; /* what is to come */
    char *out;
    size_t n;
} Pattern;

static bool put(Pattern *p, const char *text, size_t n) {
    memcpy(p->out + p->n, text, n);
    p->n += n;
    return true;
}

/* n bytes go over as they are. */
static bool take(Pattern *p, size_t n) {
    put(p, p->at, n);
    p->at += n;
    return true;
}

/* ---- what a pattern is made of: each goes over, or false: the two dialects may differ */

/* A general category, \p{L} or \P{^Lu}; or a script, \p{Han}: to PCRE2 that alone would be its extensions
 * as well, U+3001 among them. */
static bool property(Pattern *p) {
    if (p->at[2] != '{') return false;
    const size_t head = 3 + (p->at[3] == '^'), name = strspn(p->at + head, LETTERS "_");
    if (!name || p->at[head + name] != '}') return false;
    take(p, head);
    if (name > 2) put(p, "sc:", 3);
    return take(p, name + 1);
}

/* PCRE2's \s has U+180E, which is no white space in Unicode since 6.3 and not in Oniguruma. */
static bool space(Pattern *p) {
    put(p, p->at[1] == 's' ? "\\p{White_Space}" : "\\P{White_Space}", 15);
    p->at += 2;
    return true;
}

/* \x{4e00}. */
static bool code_point(Pattern *p) {
    const size_t n = p->at[2] == '{' ? strspn(p->at + 3, DIGITS "ABCDEFabcdef") : 0;
    return n && p->at[3 + n] == '}' && take(p, n + 4);
}

static bool escape(Pattern *p) {
    switch (p->at[1]) {
    case 'p':
    case 'P':
        return property(p);
    case 's':
    case 'S':
        return space(p);
    case 'x':
        return code_point(p);
    case 'd':
    case 'D':
    case 'r':
    case 'n':
    case 't':
    case 'f':
        return take(p, 2);
    default:
        return ispunct((unsigned char)p->at[1]) && take(p, 2);
    }
}

/* {3}, {3,} or {3,5}. */
static bool interval(Pattern *p) {
    size_t n = 1 + strspn(p->at + 1, DIGITS);
    if (n == 1) return false;
    if (p->at[n] == ',') n += 1 + strspn(p->at + n + 1, DIGITS);
    if (p->at[n] != '}' || p->at[n + 1] == '?' || p->at[n + 1] == '+') return false;
    return take(p, n + 1);
}

/* (?i:'s|'t), of nothing but letters, ' and |. There are characters that Oniguruma takes for two of these
 * letters: U+00DF for ss, U+FB01 for fi. */
static bool caseless(Pattern *p) {
    static const char *const pairs[] = {"ss", "ff", "fi", "fl", "st"};
    const size_t n = 4 + strspn(p->at + 4, LETTERS "'|");
    if (p->at[n] != ')') return false;
    for (const char *s = p->at + 4; s < p->at + n; s++)
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
            if (strncasecmp(s, pairs[i], 2) == 0) return false;
    return take(p, n + 1);
}

/* Where a group begins. */
static bool group(Pattern *p) {
    static const char *const kinds[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (strncmp(p->at, "(?i:", 4) == 0) return caseless(p);
    if (p->at[1] != '?') return p->at[1] != '*' && take(p, 1);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strncmp(p->at, kinds[i], strlen(kinds[i])) == 0) return take(p, strlen(kinds[i]));
    return false;
}

/* [...], from bracket to bracket; where none ends it, PCRE2 says so. */
static bool class(Pattern *p) {
    take(p, 1 + (p->at[1] == '^'));
    if (*p->at == ']') take(p, 1); /* the first stands for itself */
    while (*p->at && *p->at != ']') {
        const bool set = *p->at == '[' || strncmp(p->at, "&&", 2) == 0;
        if (*p->at == '\\' ? !escape(p) : set || !take(p, 1)) return false;
    }
    return *p->at ? take(p, 1) : true;
}

static bool piece(Pattern *p) {
    switch (*p->at) {
    case '\\':
        return escape(p);
    case '{':
        return interval(p);
    case '(':
        return group(p);
    case '[':
        return class(p);
    case '^':
    case '$':
        return false;
    default:
        return take(p, 1);
    }
}

char *regex_translate(const char *path, const char *pattern) {
    Pattern p = {.at = pattern, .out = rt_calloc(strlen(pattern) + 1, sizeof "\\p{White_Space}")};
    while (*p.at) {
        if (piece(&p)) continue;
        rt_error(
            path,
            "pre_tokenizer: the regular expression '%s' is not supported from '%.12s' on (PCRE2 may take "
            "it in another sense than Oniguruma)",
            pattern, p.at);
        free(p.out);
        return NULL;
    }
    return p.out;
}
