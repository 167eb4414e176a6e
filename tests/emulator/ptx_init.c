/* Initialisers: constants, addresses, and lists of them, which braces shape as in C. */
#include "ptx.h"
#include <string.h>

static void add_reloc(Parser *p, Var *v, u64 at, bool generic) {
    u32 line = p->tok.line;
    if (generic) expect(p, '(');
    char *name = expect_word(p);
    Sym *s = sym_find(p, name);
    if (!s || (s->kind != Y_VAR && s->kind != Y_FUNC))
        ptx_fail(p, line, "unknown name '%s' in an initialiser", name);
    struct Reloc *r = pool_alloc(&p->m->pool, sizeof *r);
    *r = (struct Reloc){.at = at, .sym = s, .generic = generic, .line = line, .next = v->relocs};
    if (generic) expect(p, ')');
    if (is_punct(p, '+') || is_punct(p, '-')) r->add = (i64)parse_constant(p);
    v->relocs = r;
}

/* 0f3f800000 for .f32, .f64 and .b32; others for .f32, .f64 and .b64. */
static u64 float_bits(Parser *p, Type type, bool minus) {
    u64 bits = p->tok.value, size = type_size(type);
    bool single = p->tok.kind == K_F32;
    if (size < 4 || !(type_float(type) || (type_untyped(type) && size == (single ? 4 : 8))))
        ptx_fail(p, p->tok.line, "a float constant for a .%s", type_name(type));
    if (single && size == 8) {
        float f;
        u32 b = (u32)bits;
        memcpy(&f, &b, sizeof f);
        double d = f;
        memcpy(&bits, &d, sizeof bits);
    } else if (!single && size == 4) {
        double d;
        memcpy(&d, &bits, sizeof d);
        float f = (float)d;
        u32 b;
        memcpy(&b, &f, sizeof b);
        bits = b;
    }
    advance(p);
    return bits ^ (u64)minus << (size * 8 - 1);
}

static bool is_word(const Parser *p, const char *word) {
    return tok_is(p->tok, K_WORD, word);
}

static void parse_scalar(Parser *p, Var *v, Type type, u64 *at, u64 end) {
    u32 size = type_size(type);
    if (*at + size > end) ptx_fail(p, p->tok.line, "too many initialisers for '%s'", v->name);
    u64 bits = 0;
    if (p->tok.kind == K_WORD && !is_word(p, "WARP_SZ")) {
        bool generic = is_word(p, "generic");
        if (generic) advance(p);
        if (size != 8) ptx_fail(p, p->tok.line, "an address needs a 64-bit element");
        add_reloc(p, v, *at, generic);
    } else {
        Lexer before = p->lexer;
        Tok tok = p->tok;
        bool minus = accept(p, '-');
        if (p->tok.kind == K_F32 || p->tok.kind == K_F64 || p->tok.kind == K_FLOAT)
            bits = float_bits(p, type, minus);
        else {
            p->lexer = before;
            p->tok = tok;
            if (type_float(type)) ptx_fail(p, p->tok.line, "an integer constant for a .%s", type_name(type));
            bits = parse_expression(p);
        }
    }
    memcpy(v->init + *at, &bits, size > 8 ? 8 : size);
    *at += size;
}

/* From after the opening brace. A list inside is a row, and begins where a row does; what it leaves out is 0.
 */
static void parse_list(Parser *p, Var *v, Type type, const u64 *dims, u32 ndims, u64 *at) {
    u64 row = type_size(type), start = *at;
    for (u32 k = 1; k < ndims; k++) row *= dims[k];
    u64 end = start + row * (ndims ? dims[0] : 1);
    if (!is_punct(p, '}')) do {
            if (!accept(p, '{')) {
                parse_scalar(p, v, type, at, end);
                continue;
            }
            if (ndims < 2 || (*at - start) % row || *at + row > end)
                ptx_fail(p, p->tok.line, "braces that are no row of '%s'", v->name);
            parse_list(p, v, type, dims + 1, ndims - 1, at);
        } while (accept(p, ','));
    expect(p, '}');
    *at = end;
}

void parse_initialiser(Parser *p, Var *v, Type type, const u64 *dims, u32 ndims) {
    u64 at = 0;
    if (accept(p, '{'))
        parse_list(p, v, type, dims, ndims, &at);
    else
        parse_scalar(p, v, type, &at, v->size);
}

u64 count_items(Parser *p) {
    Lexer before = p->lexer;
    Tok tok = p->tok;
    u64 n = 0;
    expect(p, '{');
    for (u32 depth = 1; depth && p->tok.kind != K_END; advance(p)) {
        if (!n) n = !is_punct(p, '}');
        if (is_punct(p, '{')) depth++;
        if (is_punct(p, '}')) depth--;
        if (is_punct(p, ',') && depth == 1) n++;
    }
    p->lexer = before;
    p->tok = tok;
    return n ? n : 1;
}
