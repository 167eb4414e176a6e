/* Operands of PTX statements: names and parts of registers, constants, addresses, vectors, lists, pairs. */
#include "ptx.h"
#include <stdio.h>
#include <string.h>

static Operand *new_operands(Parser *p, const Operand *from, u32 n) {
    Operand *o = pool_alloc(&p->m->pool, (n + !n) * sizeof *o);
    return n ? memcpy(o, from, n * sizeof *o) : o;
}

void parse_items(Parser *p, Operand *o, char end) {
    Operand items[64];
    u32 n = 0;
    if (!is_punct(p, end)) do {
            if (n == 64) ptx_fail(p, p->tok.line, "too many operands in a list");
            items[n++] = parse_operand(p);
        } while (accept(p, ','));
    expect(p, end);
    o->items = new_operands(p, items, n);
    o->nitems = n;
}

/* %tid.x, and r.x of a vector register, are one name. */
static char *dotted_name(Parser *p) {
    Tok t = p->tok;
    char *name = expect_word(p);
    if (p->tok.kind != K_DOT || p->tok.spaced) return name;
    t.length = (u32)(p->tok.text + p->tok.length - t.text);
    advance(p);
    return tok_string(p, t);
}

/* The vector {r.x, r.y, ..} that r stands for; without elements if it stands for none. */
static Operand vector_register(Parser *p, const char *name) {
    static const char elements[] = "xyzw";
    Operand items[4];
    u32 n = 0;
    for (; n < 4; n++) {
        char text[256];
        snprintf(text, sizeof text, "%s.%c", name, elements[n]);
        Sym *y = sym_find(p, text);
        if (!y) break;
        items[n] = (Operand){.kind = O_NAME, .name = y->name, .sym = y};
    }
    return (Operand){.kind = O_VECTOR, .items = new_operands(p, items, n), .nitems = n};
}

Operand parse_named(Parser *p, OpKind kind) {
    Operand o = {.kind = kind, .name = dotted_name(p)};
    o.sym = sym_find(p, o.name);
    const char *dot = strrchr(o.name, '.');
    if (o.sym || kind != O_NAME) return o;
    if (dot && (dot[1] == 'b' || dot[1] == 'h')) {
        o.name = pool_string(&p->m->pool, o.name, (u64)(dot - o.name));
        o.sym = sym_find(p, o.name);
        o.part = dot + 1;
    } else if (!dot) {
        Operand v = vector_register(p, o.name);
        if (v.nitems) return v;
    }
    return o;
}

static Operand parse_address(Parser *p) {
    Operand o = {.kind = O_ADDRESS};
    if (p->tok.kind == K_WORD)
        o = parse_named(p, O_ADDRESS);
    else
        o.value = parse_constant(p);
    if (o.name && accept(p, '+'))
        o.value = parse_constant(p);
    else if (o.name && is_punct(p, '-'))
        o.value = parse_constant(p);
    if (is_punct(p, ','))
        ptx_fail(p, p->tok.line,
                 "an address with several coordinates: textures and surfaces are not supported");
    expect(p, ']');
    return o;
}

static Operand parse_float(Parser *p, bool minus) {
    Operand o = {.value = p->tok.value};
    if (p->tok.kind == K_F32)
        o.kind = O_F32, o.value ^= (u64)minus << 31;
    else
        o.kind = p->tok.kind == K_F64 ? O_F64 : O_FLOAT, o.value ^= (u64)minus << 63;
    advance(p);
    return o;
}

static Operand parse_primary(Parser *p) {
    Operand o = {0};
    if (accept(p, '[')) return parse_address(p);
    if (accept(p, '{')) {
        o.kind = O_VECTOR;
        parse_items(p, &o, '}');
        return o;
    }
    if (accept(p, '!')) {
        o = parse_named(p, O_NAME);
        o.neg = true;
        return o;
    }
    if (tok_is(p->tok, K_WORD, "_")) {
        advance(p);
        o.kind = O_SINK;
        return o;
    }
    if (p->tok.kind == K_WORD && !tok_is(p->tok, K_WORD, "WARP_SZ")) {
        o = parse_named(p, O_NAME);
        if (o.sym && o.sym->kind == Y_VAR && is_punct(p, '+')) { /* mov.u64 d, var+4 */
            advance(p);
            o.value = parse_constant(p);
        }
        return o;
    }
    if (p->tok.kind == K_F32 || p->tok.kind == K_F64 || p->tok.kind == K_FLOAT) return parse_float(p, false);
    Lexer before = p->lexer;
    Tok tok = p->tok;
    if (accept(p, '-') && (p->tok.kind == K_F32 || p->tok.kind == K_F64 || p->tok.kind == K_FLOAT))
        return parse_float(p, true);
    p->lexer = before;
    p->tok = tok;
    o.kind = O_INT;
    o.is_unsigned = p->tok.is_unsigned;
    o.value = parse_constant(p);
    return o;
}

Operand parse_operand(Parser *p) {
    if (is_punct(p, '(')) { /* the lists of a call, or a constant expression */
        Lexer before = p->lexer;
        Tok tok = p->tok;
        advance(p);
        if (p->tok.kind == K_WORD || is_punct(p, ')')) {
            Operand list = {.kind = O_LIST};
            parse_items(p, &list, ')');
            return list;
        }
        p->lexer = before;
        p->tok = tok;
    }
    Operand o = parse_primary(p);
    if (accept(p, '|')) {
        Operand second = parse_primary(p);
        o.pair = new_operands(p, &second, 1);
    }
    return o;
}
