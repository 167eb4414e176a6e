/* Parser of PTX text: tokens, symbols, and the statements in a function's body. Names are resolved as they
 * are read, in nested scopes; only branches to labels further down wait (fixups) until their scope closes.
 * Statements go to decode() one by one. */
#include "ptx.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Noreturn void ptx_fail(Parser *p, u32 line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int n = snprintf(p->log->text, LOG_BYTES, "ptx line %u: error: %s\n", line, text);
    p->log->length = (u32)n;
    longjmp(p->fail, 1);
}

/* ---- tokens ---- */
void advance(Parser *p) {
    p->tok = lex(&p->lexer);
    if (p->lexer.error) ptx_fail(p, p->tok.line, "%s", p->lexer.error);
}
bool is_punct(const Parser *p, char c) {
    return p->tok.kind == K_PUNCT && *p->tok.text == c;
}
bool accept(Parser *p, char c) {
    if (!is_punct(p, c)) return false;
    advance(p);
    return true;
}
_Noreturn void unexpected(Parser *p, const char *wanted) {
    if (p->tok.kind == K_END) ptx_fail(p, p->tok.line, "expected %s, found the end of the text", wanted);
    ptx_fail(p, p->tok.line, "expected %s, found '%s%.*s'", wanted, p->tok.kind == K_DOT ? "." : "",
             (int)p->tok.length, p->tok.text);
}
void expect(Parser *p, char c) {
    char wanted[] = {'\'', c, '\'', 0};
    if (!accept(p, c)) unexpected(p, wanted);
}
bool tok_is(Tok t, TokKind kind, const char *word) {
    return t.kind == kind && t.length == strlen(word) && !memcmp(t.text, word, t.length);
}
bool is_dot(const Parser *p, const char *word) {
    return tok_is(p->tok, K_DOT, word);
}
bool accept_dot(Parser *p, const char *word) {
    if (!is_dot(p, word)) return false;
    advance(p);
    return true;
}
char *tok_string(Parser *p, Tok t) {
    return pool_string(&p->m->pool, t.text, t.length);
}
char *expect_word(Parser *p) {
    if (p->tok.kind != K_WORD) unexpected(p, "a name");
    char *s = tok_string(p, p->tok);
    advance(p);
    return s;
}
u64 expect_int(Parser *p) {
    if (p->tok.kind != K_INT) unexpected(p, "an integer");
    u64 v = p->tok.value;
    advance(p);
    return v;
}

/* ---- symbols ---- */
static u32 hash(const char *s) {
    u32 h = 2166136261u;
    for (; *s; s++) h = (h ^ (u8)*s) * 16777619u;
    return h % BUCKETS;
}

Sym *sym_find(Parser *p, const char *name) {
    for (Sym *s = p->buckets[hash(name)]; s; s = s->next)
        if (!strcmp(s->name, name)) return s;
    return NULL;
}

Sym *sym_add(Parser *p, const char *name, SymKind kind, u32 line) {
    Sym *old = sym_find(p, name);
    if (old && old->depth == p->depth) ptx_fail(p, line, "'%s' is declared twice", name);
    Sym *s = pool_alloc(&p->m->pool, sizeof *s);
    *s = (Sym){.next = p->buckets[hash(name)], .name = name, .kind = kind, .depth = p->depth};
    return p->buckets[hash(name)] = s;
}

static void resolve(Parser *p, Fixup *f, const Sym *s) {
    if (s->kind != Y_LABEL) ptx_fail(p, f->line, "'%s' is not a label", f->name);
    if (f->slot == NO_SLOT)
        p->m->code[f->ins].target = s->label;
    else
        ((u32 *)p->m->code[f->ins].targets)[f->slot] = s->label;
}

/* A scope closes: branches inside it find their labels or wait for the scope around it. */
void close_scope(Parser *p) {
    for (Fixup **f = &p->fixups; *f;) {
        Sym *s = (*f)->depth == p->depth ? sym_find(p, (*f)->name) : NULL;
        if (s && s->depth == p->depth) {
            resolve(p, *f, s);
            *f = (*f)->next;
            continue;
        }
        if ((*f)->depth == p->depth) {
            if (p->depth == 1) ptx_fail(p, (*f)->line, "unknown label '%s'", (*f)->name);
            (*f)->depth--;
        }
        f = &(*f)->next;
    }
    for (int i = 0; i < BUCKETS; i++)
        while (p->buckets[i] && p->buckets[i]->depth == p->depth) p->buckets[i] = p->buckets[i]->next;
    p->depth--;
}

void branch_target(Parser *p, Ins *i, u32 slot, const Operand *o, u32 line) {
    if (o->kind != O_NAME || o->neg || o->pair) ptx_fail(p, line, "a branch needs a label");
    /* a label of an outer scope may be hidden by one further down in this scope: decided when the scope
     * closes */
    Fixup *f = pool_alloc(&p->m->pool, sizeof *f);
    *f = (Fixup){p->fixups, o->name, (u32)(i - p->m->code), slot, p->depth, line};
    p->fixups = f;
}

/* ---- statements ---- */
static void parse_instruction(Parser *p, bool guarded, Operand guard) {
    Stmt s = {.line = p->tok.line, .guarded = guarded, .guard = guard};
    s.op = expect_word(p);
    while (p->tok.kind == K_DOT) {
        if (s.nmods == MAX_MODS) ptx_fail(p, s.line, "too many modifiers");
        s.mods[s.nmods++] = tok_string(p, p->tok);
        advance(p);
    }
    bool call = !strcmp(s.op, "call");
    if (!is_punct(p, ';')) do {
            if (s.noperands == MAX_OPERANDS) ptx_fail(p, s.line, "too many operands");
            if (call && is_punct(p, '(')) { /* (0f3F800000) is a list there */
                advance(p);
                Operand list = {.kind = O_LIST};
                parse_items(p, &list, ')');
                s.operands[s.noperands++] = list;
            } else
                s.operands[s.noperands++] = parse_operand(p);
        } while (accept(p, ','));
    expect(p, ';');
    decode(p, &s);
}

/* tag: .callprototype (...) _ (...); or tag: .calltargets f, g; only the kind matters */
static void parse_proto(Parser *p, Sym *s) {
    s->kind = Y_PROTO;
    while (!is_punct(p, ';') && p->tok.kind != K_END) advance(p);
    expect(p, ';');
}

static void parse_targets(Parser *p, Sym *s) {
    char *names[1024];
    s->kind = Y_TARGETS;
    do {
        if (s->nnames == 1024) ptx_fail(p, p->tok.line, "too many branch targets");
        names[s->nnames++] = expect_word(p);
    } while (accept(p, ','));
    expect(p, ';');
    s->names = pool_alloc(&p->m->pool, s->nnames * sizeof *names);
    memcpy(s->names, names, s->nnames * sizeof *names);
}

static bool parse_label(Parser *p) {
    if (p->tok.kind != K_WORD) return false;
    Lexer before = p->lexer;
    Tok t = p->tok;
    advance(p);
    if (!accept(p, ':')) {
        p->lexer = before;
        p->tok = t;
        return false;
    }
    Sym *s = sym_add(p, tok_string(p, t), Y_LABEL, t.line);
    s->label = p->m->ncode;
    if (accept_dot(p, "callprototype") || accept_dot(p, "calltargets"))
        parse_proto(p, s);
    else if (accept_dot(p, "branchtargets"))
        parse_targets(p, s);
    return true;
}

void skip_loc(Parser *p) { /* .loc 1 2 3 [, function_name f, inlined_at 1 2 3]; .file 1 "name" */
    u32 line = p->tok.line;
    while (p->tok.kind != K_END && p->tok.line == line && !is_punct(p, ';')) advance(p);
}

void skip_pragma(Parser *p) {
    do {
        if (p->tok.kind != K_STRING) unexpected(p, "a string");
        advance(p);
    } while (accept(p, ','));
    expect(p, ';');
}

bool parse_space(Parser *p, Space *space) {
    static const struct {
        const char *word;
        Space space;
    } spaces[] = {{"local", S_LOCAL},
                  {"shared", S_SHARED},
                  {"param", S_PARAM},
                  {"global", S_GLOBAL},
                  {"const", S_CONST}};
    for (u32 i = 0; i < sizeof spaces / sizeof *spaces; i++)
        if (accept_dot(p, spaces[i].word)) {
            *space = spaces[i].space;
            return true;
        }
    return false;
}

void parse_body(Parser *p) { /* from after its { */
    while (!accept(p, '}')) {
        Space space;
        bool external = is_dot(p, "extern");
        if (external) advance(p);
        if (accept(p, '{')) {
            p->depth++;
            parse_body(p);
            close_scope(p);
        } else if (accept_dot(p, "reg"))
            parse_registers(p);
        else if (parse_space(p, &space))
            parse_variable(p, space, external);
        else if (is_dot(p, "loc"))
            skip_loc(p);
        else if (accept_dot(p, "pragma"))
            skip_pragma(p);
        else if (accept(p, '@')) {
            bool neg = accept(p, '!');
            Operand guard = parse_named(p, O_NAME);
            guard.neg = neg;
            parse_instruction(p, true, guard);
        } else if (accept(p, ';'))
            continue;
        else if (parse_label(p))
            continue;
        else if (p->tok.kind == K_WORD)
            parse_instruction(p, false, (Operand){0});
        else
            unexpected(p, "a statement");
    }
}
