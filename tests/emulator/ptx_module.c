/* Parser of PTX text: functions, the directives of a module, and the module as a whole. */
#include "memory.h"
#include "ptx.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- functions ---- */
static void parse_params(Parser *p, Func *f, Param **list, u32 *n) { /* from after ( */
    Param params[256];
    u32 count = 0;
    if (!is_punct(p, ')')) do {
            if (count == 256) ptx_fail(p, p->tok.line, "too many parameters");
            Param q = parse_param(p, f->entry);
            if (f->entry) {
                q.offset = (f->param_bytes + q.align - 1) / q.align * q.align;
                q.sym->var->address = q.offset;
                f->param_bytes = q.offset + q.size;
            }
            params[count++] = q;
        } while (accept(p, ','));
    expect(p, ')');
    *list = pool_alloc(&p->m->pool, (count + 1) * sizeof *params);
    memcpy(*list, params, count * sizeof *params);
    *n = count;
}

/* An integer that directives keep in 32 bits. */
static u32 expect_count(Parser *p) {
    if (p->tok.kind == K_INT && p->tok.value > UINT32_MAX)
        ptx_fail(p, p->tok.line, "%llu is too large", (unsigned long long)p->tok.value);
    return (u32)expect_int(p);
}

static void parse_performance(Parser *p, Func *f) {
    while (p->tok.kind == K_DOT) {
        u32 n[3] = {0, 1, 1};
        bool req = is_dot(p, "reqntid");
        if (req || is_dot(p, "maxntid")) {
            advance(p);
            for (int i = 0; i < 3; i++) {
                n[i] = expect_count(p);
                if (!accept(p, ',')) break;
            }
            f->max_threads = n[0] * n[1] * n[2];
            if (req) memcpy(f->req, n, sizeof n);
        } else if (accept_dot(p, "maxnreg"))
            f->max_regs = expect_count(p);
        else if (accept_dot(p, "minnctapersm"))
            f->min_blocks = expect_count(p);
        else if (accept_dot(p, "maxnctapersm"))
            expect_int(p);
        else if (accept_dot(p, "noreturn"))
            continue;
        else if (accept_dot(p, "pragma"))
            skip_pragma(p);
        else
            ptx_fail(p, p->tok.line, "unknown directive '.%.*s'", (int)p->tok.length, p->tok.text);
    }
}

static Func *add_func(Parser *p, const char *name, bool entry, u32 line) {
    Module *m = p->m;
    Func *f = pool_alloc(&m->pool, sizeof *f);
    *f = (Func){.name = (char *)name, .entry = entry, .line = line, .module = m, .index = m->nfuncs};
    Func **funcs = pool_alloc(&m->pool, (m->nfuncs + 1) * sizeof f);
    if (m->nfuncs) memcpy(funcs, m->funcs, m->nfuncs * sizeof f);
    m->funcs = funcs;
    m->funcs[m->nfuncs++] = f;
    sym_add(p, name, Y_FUNC, line)->func = f;
    return f;
}

static void parse_function_body(Parser *p, Func *f) {
    f->defined = true;
    f->live_regs = f->max_regs ? f->max_regs : 32; /* what the driver says; nothing is allocated here */
    f->begin = p->m->ncode;
    if (f->entry) f->reg_bytes = SREG_BYTES;
    parse_body(p);
    Stmt end = {.line = p->tok.line, .op = f->entry ? "exit" : "ret"}; /* falling off the end */
    decode(p, &end);
    f->end = p->m->ncode;
    f->local_end = p->m->local_bytes;
    close_scope(p);
    Module *m = p->m;
    if (f->entry && m->entry_reg_bytes < f->reg_bytes) m->entry_reg_bytes = f->reg_bytes;
    if (f->entry && m->entry_regs < f->regs) m->entry_regs = f->regs;
}

static void parse_function(Parser *p, bool entry) {
    Func prototype = {.entry = entry, .local_begin = p->m->local_bytes};
    p->func = &prototype; /* parameters are its registers */
    p->depth = 1;         /* and belong to its scope */
    if (!entry && accept(p, '(')) parse_params(p, &prototype, &prototype.rets, &prototype.nrets);
    u32 line = p->tok.line;
    char *name = expect_word(p);
    if (accept(p, '(')) parse_params(p, &prototype, &prototype.params, &prototype.nparams);
    parse_performance(p, &prototype);
    p->depth = 0;
    Sym *known = sym_find(p, name);
    if (known && (known->kind != Y_FUNC || known->func->entry != entry))
        ptx_fail(p, line, "'%s' is declared twice", name);
    Func *f = known ? known->func : add_func(p, name, entry, line);
    p->depth = 1;
    if (f->defined && is_punct(p, '{')) ptx_fail(p, line, "'%s' is defined twice", name);
    if (known && (f->nparams != prototype.nparams || f->nrets != prototype.nrets))
        ptx_fail(p, line, "'%s' is declared with other parameters", name);
    prototype.name = f->name, prototype.line = line, prototype.module = p->m, prototype.index = f->index;
    if (!f->defined) *f = prototype; /* else it is declared again */
    p->func = f;
    if (accept(p, '{'))
        parse_function_body(p, f);
    else {
        expect(p, ';');
        close_scope(p);
    }
    p->func = NULL;
}

/* ---- the module ---- */
static void parse_version(Parser *p) {
    double v;
    if (p->tok.kind != K_FLOAT) unexpected(p, "a version number like 7.8");
    memcpy(&v, &p->tok.value, sizeof v);
    if (v > 9.0) ptx_fail(p, p->tok.line, "PTX version %g is newer than the 9.0 known here", v);
    p->m->version = (u32)v * 100 + (u32)(v * 10 + 0.5) % 10;
    advance(p);
}

static void parse_target(Parser *p) {
    do {
        u32 line = p->tok.line;
        char *word = expect_word(p);
        unsigned sm = 0;
        char suffix = 0, more = 0;
        int found = sscanf(word, "sm_%3u%c%c", &sm, &suffix, &more);
        if (found == 1)
            p->m->sm = sm;
        else if (found == 2 && (suffix == 'a' || suffix == 'f'))
            ptx_fail(p, line, "target %s: architecture-specific targets are not supported", word);
        else if (strcmp(word, "texmode_independent") && strcmp(word, "debug"))
            ptx_fail(p, line, "unknown target '%s'", word);
    } while (accept(p, ','));
}

static void skip_section(Parser *p) { /* .section name { ... } */
    while (!is_punct(p, '{') && p->tok.kind != K_END) advance(p);
    u32 depth = 0;
    do {
        if (is_punct(p, '{')) depth++;
        if (is_punct(p, '}')) depth--;
        if (p->tok.kind == K_END) unexpected(p, "'}'");
        advance(p);
    } while (depth);
}

static void parse_directive(Parser *p) {
    bool external = false;
    Space space;
    for (;; advance(p)) {
        if (is_dot(p, "extern"))
            external = true;
        else if (!is_dot(p, "visible") && !is_dot(p, "weak") && !is_dot(p, "common"))
            break;
    }
    if (accept_dot(p, "entry"))
        parse_function(p, true);
    else if (accept_dot(p, "func"))
        parse_function(p, false);
    else if (parse_space(p, &space))
        parse_variable(p, space, external);
    else if (accept_dot(p, "version"))
        parse_version(p);
    else if (accept_dot(p, "target"))
        parse_target(p);
    else if (accept_dot(p, "address_size")) {
        u32 line = p->tok.line; /* the next token may be on another */
        if (expect_int(p) != 64) ptx_fail(p, line, "only .address_size 64 is supported");
    } else if (is_dot(p, "file") || is_dot(p, "loc"))
        skip_loc(p);
    else if (accept_dot(p, "section"))
        skip_section(p);
    else if (accept_dot(p, "pragma"))
        skip_pragma(p);
    else if (is_punct(p, ';'))
        advance(p);
    else
        unexpected(p, "a directive");
}

static bool builtin(const char *name) {
    return !strcmp(name, "vprintf") || !strcmp(name, "__assertfail");
}

static void parse_module(Parser *p) {
    Module *m = p->m;
    advance(p);
    if (!is_dot(p, "version")) ptx_fail(p, p->tok.line, "PTX begins with .version");
    while (p->tok.kind != K_END) parse_directive(p);
    if (!m->sm) ptx_fail(p, p->tok.line, ".target is missing");
    for (u32 c = 0; c < m->ncode; c++)
        if (m->code[c].callee && !m->code[c].callee->defined && !builtin(m->code[c].callee->name))
            ptx_fail(p, m->code[c].line, "'%s' is called but not defined", m->code[c].callee->name);
    for (u32 k = 0; k < m->nvars; k++)
        if (m->vars[k]->external)
            ptx_fail(p, p->tok.line, "'%s' is external, and nothing defines it", m->vars[k]->name);
    find_recursion(p);
    place_functions(m);
}

Module *ptx_load(const char *text, Log *log) {
    Parser *p = calloc(1, sizeof *p);
    if (!p || !(p->m = calloc(1, sizeof *p->m))) abort();
    log->length = 0;
    p->log = log;
    p->lexer = (Lexer){text, 1, NULL};
    p->m->shared_next = STATIC_SHARED;
    p->m->entry_reg_bytes = SREG_BYTES;
    if (setjmp(p->fail)) {
        module_free(p->m);
        free(p);
        return NULL;
    }
    parse_module(p);
    Module *m = p->m;
    free(p);
    return m;
}

void module_free(Module *m) {
    for (u32 k = 0; k < m->nvars; k++)
        if (m->vars[k]->address) mem_free(m->vars[k]->address);
    pool_free(&m->pool);
    free(m->code);
    free(m);
}
