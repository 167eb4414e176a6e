/* Words, numbers and punctuation of PTX text. A dot and the word behind it are one token (K_DOT). */
#include "ptx.h"
#include <stdlib.h>
#include <string.h>

static bool word_start(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c == '%';
}
static bool digit(char c) {
    return c >= '0' && c <= '9';
}
static bool word_char(char c) {
    return word_start(c) || digit(c);
}

static bool skip_space(Lexer *l) {
    const char *start = l->at;
    for (;;) {
        if (*l->at == '\n')
            l->line++, l->at++;
        else if (*l->at == ' ' || *l->at == '\t' || *l->at == '\r' || *l->at == '\f' || *l->at == '\v')
            l->at++;
        else if (l->at[0] == '/' && l->at[1] == '/')
            l->at += strcspn(l->at, "\n");
        else if (l->at[0] == '/' && l->at[1] == '*') {
            for (l->at += 2; *l->at && !(l->at[0] == '*' && l->at[1] == '/'); l->at++)
                l->line += *l->at == '\n';
            if (*l->at)
                l->at += 2;
            else
                l->error = "a comment that does not end";
        } else
            return l->at != start;
    }
}

static int hex(char c) {
    if (digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return 99;
}

/* The bits of a float: 0f and 8 digits, 0d and 16. */
static Tok hex_float(Lexer *l, Tok t) {
    bool wide = t.text[1] == 'd' || t.text[1] == 'D';
    int digits = 0;
    for (l->at = t.text + 2; hex(*l->at) < 16; l->at++, digits++) t.value = t.value << 4 | (u64)hex(*l->at);
    if (digits != (wide ? 16 : 8)) l->error = "a float constant needs 8 digits after 0f, 16 after 0d";
    t.kind = wide ? K_F64 : K_F32;
    return t;
}

static Tok number(Lexer *l, Tok t) {
    char second = t.text[1];
    if (t.text[0] == '0' && second && strchr("fFdD", second) && hex(t.text[2]) < 16) return hex_float(l, t);
    int base = 10;
    const char *p = t.text;
    if (p[0] == '0' && (second == 'x' || second == 'X'))
        base = 16, p += 2;
    else if (p[0] == '0' && (second == 'b' || second == 'B'))
        base = 2, p += 2;
    else if (p[0] == '0' && digit(second))
        base = 8, p += 1;
    const char *first = p;
    bool fits = true;
    for (; hex(*p) < base; p++) {
        if (t.value > (UINT64_MAX - (u64)hex(*p)) / (u64)base) fits = false;
        t.value = t.value * (u64)base + (u64)hex(*p);
    }
    t.kind = K_INT;
    if (p == first) l->error = "a number without digits";
    if (base != 16 && base != 2 && (*p == '.' || *p == 'e' || *p == 'E')) {
        char *end;
        double v = strtod(t.text, &end);
        memcpy(&t.value, &v, sizeof v);
        t.kind = K_FLOAT;
        p = end;
    } else {
        if (!fits) l->error = "a constant that does not fit 64 bits";
        if (*p == 'U') t.is_unsigned = true, p++;
    }
    if (word_char(*p)) l->error = "a malformed number";
    l->at = p;
    return t;
}

Tok lex(Lexer *l) {
    bool spaced = skip_space(l);
    Tok t = {.kind = K_PUNCT, .text = l->at, .line = l->line, .spaced = spaced};
    char c = *l->at;
    if (!c)
        t.kind = K_END;
    else if (word_start(c)) {
        t.kind = K_WORD;
        while (word_char(*l->at)) l->at++;
    } else if (digit(c))
        t = number(l, t);
    else if (c == '.' && word_char(l->at[1])) {
        t.kind = K_DOT;
        t.text = ++l->at;
        while (word_char(*l->at) || (l->at[0] == ':' && l->at[1] == ':' && word_char(l->at[2])))
            l->at += *l->at == ':' ? 2 : 1;
    } else if (c == '"') {
        t.kind = K_STRING;
        t.text = ++l->at;
        while (*l->at && *l->at != '"' && *l->at != '\n') l->at += l->at[0] == '\\' && l->at[1] ? 2 : 1;
        t.length = (u32)(l->at - t.text);
        if (*l->at == '"')
            l->at++;
        else
            l->error = "a string that does not end";
        return t;
    } else
        l->at++;
    t.length = (u32)(l->at - t.text);
    return t;
}
