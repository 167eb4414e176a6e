/* Declarations: registers, variables, parameters; and constant expressions. */
#include "ptx.h"
#include "memory.h"
#include <stdio.h>
#include <string.h>

/* ---- constant expressions: C's, over 64 bits; unsigned where an operand is ---- */
typedef struct Const {
    u64 v;
    bool uns;
} Const;
static Const parse_ternary(Parser *p);

static Const parse_unary(Parser *p) {
    if (accept(p, '-')) {
        Const c = parse_unary(p);
        c.v = 0 - c.v;
        return c;
    }
    if (accept(p, '+')) return parse_unary(p);
    if (accept(p, '~')) {
        Const c = parse_unary(p);
        c.v = ~c.v;
        return c;
    }
    if (accept(p, '!')) return (Const){!parse_unary(p).v, false};
    if (accept(p, '(')) {
        if (accept_dot(p, "s64") || is_dot(p, "u64")) {
            bool uns = accept_dot(p, "u64");
            expect(p, ')');
            return (Const){parse_unary(p).v, uns};
        }
        Const c = parse_ternary(p);
        expect(p, ')');
        return c;
    }
    if (p->tok.kind == K_WORD && p->tok.length == 7 && !memcmp(p->tok.text, "WARP_SZ", 7)) {
        advance(p);
        return (Const){LANES, false};
    }
    if (p->tok.kind != K_INT)
        ptx_fail(p, p->tok.line, "expected an operand, found '%.*s'", (int)p->tok.length, p->tok.text);
    Const c = {p->tok.value, p->tok.is_unsigned || p->tok.value >> 63};
    advance(p);
    return c;
}

static const struct {
    const char text[3];
    int level;
} binary[] = {{"||", 1}, {"&&", 2}, {"==", 6}, {"!=", 6}, {"<=", 7}, {">=", 7},
              {"<<", 8}, {">>", 8}, {"|", 3},  {"^", 4},  {"&", 5},  {"<", 7},
              {">", 7},  {"+", 9},  {"-", 9},  {"*", 10}, {"/", 10}, {"%", 10}};
enum { BINARY = sizeof binary / sizeof *binary };

static int operator_here(Parser *p) {
    if (p->tok.kind != K_PUNCT) return -1;
    for (int i = 0; i < BINARY; i++) {
        size_t n = strlen(binary[i].text);
        if (!memcmp(p->tok.text, binary[i].text, n)) return i;
    }
    return -1;
}

static Const apply(Parser *p, int op, Const a, Const b) {
    bool uns = a.uns || b.uns;
    u64 x = a.v, y = b.v;
    i64 sx = (i64)x, sy = (i64)y;
    bool divides = binary[op].text[0] == '/' || binary[op].text[0] == '%';
    if (divides && (!y || (!uns && sy == -1 && sx == INT64_MIN)))
        ptx_fail(p, p->tok.line, "division by zero or overflow in a constant");
    switch (op) {
    case 0:
        return (Const){x || y, false};
    case 1:
        return (Const){x && y, false};
    case 2:
        return (Const){x == y, false};
    case 3:
        return (Const){x != y, false};
    case 4:
        return (Const){uns ? x <= y : sx <= sy, false};
    case 5:
        return (Const){uns ? x >= y : sx >= sy, false};
    case 6:
        return (Const){y < 64 ? x << y : 0, a.uns};
    case 7:
        return (Const){a.uns ? (y < 64 ? x >> y : 0) : (u64)(sx >> (y < 64 ? y : 63)), a.uns};
    case 8:
        return (Const){x | y, uns};
    case 9:
        return (Const){x ^ y, uns};
    case 10:
        return (Const){x & y, uns};
    case 11:
        return (Const){uns ? x < y : sx < sy, false};
    case 12:
        return (Const){uns ? x > y : sx > sy, false};
    case 13:
        return (Const){x + y, uns};
    case 14:
        return (Const){x - y, uns};
    case 15:
        return (Const){x * y, uns};
    case 16:
        return (Const){uns ? x / y : (u64)(sx / sy), uns};
    default:
        return (Const){uns ? x % y : (u64)(sx % sy), uns};
    }
}

static Const parse_binary(Parser *p, int level) {
    Const a = parse_unary(p);
    for (int op; (op = operator_here(p)) >= 0 && binary[op].level >= level;) {
        advance(p);
        if (binary[op].text[1]) advance(p);
        a = apply(p, op, a, parse_binary(p, binary[op].level + 1));
    }
    return a;
}

static Const parse_ternary(Parser *p) {
    Const c = parse_binary(p, 1);
    if (!accept(p, '?')) return c;
    Const a = parse_ternary(p);
    expect(p, ':');
    Const b = parse_ternary(p);
    return c.v ? a : b;
}

u64 parse_expression(Parser *p) {
    return parse_ternary(p).v;
}
/* `|` between operands means a pair of predicates, so that a constant outside of parentheses has no `|`. */
u64 parse_constant(Parser *p) {
    return parse_binary(p, 4).v;
}

/* ---- registers ---- */
static void remember_type(Parser *p, Func *f, Type type) { /* doubles at powers of two */
    u32 k = f->regs - 1;
    if (!(k & (k - 1))) {
        u8 *more = pool_alloc(&p->m->pool, k ? 2 * k : 2);
        if (k) memcpy(more, f->reg_types, k);
        f->reg_types = more;
    }
    f->reg_types[k] = (u8)type;
}
Opnd new_register(Parser *p, Type type) {
    Func *f = p->func;
    Opnd o = {.off = f->reg_bytes, .poison = ++f->regs, .type = (u8)type};
    f->reg_bytes += type_size(type) == 8 ? LANES * 8 : LANES * 4;
    if (!f->entry) remember_type(p, f, type);
    return o;
}

static void add_register(Parser *p, const char *name, Type type, u32 vector, u32 line) {
    static const char *const parts[] = {".x", ".y", ".z", ".w"};
    if (!vector) {
        sym_add(p, name, Y_REG, line)->reg = new_register(p, type);
        return;
    }
    for (u32 i = 0; i < vector; i++) {
        char text[256];
        int n = snprintf(text, sizeof text, "%s%s", name, parts[i]);
        sym_add(p, pool_string(&p->m->pool, text, (u64)n), Y_REG, line)->reg = new_register(p, type);
    }
}

static Type parse_type(Parser *p) {
    Type t = T_NONE;
    if (is_dot(p, "texref") || is_dot(p, "surfref") || is_dot(p, "samplerref"))
        ptx_fail(p, p->tok.line, ".%.*s: textures and surfaces are not supported", (int)p->tok.length,
                 p->tok.text);
    if (p->tok.kind == K_DOT) t = type_of(tok_string(p, p->tok));
    if (t == T_NONE)
        ptx_fail(p, p->tok.line, "expected a type, found '%.*s'", (int)p->tok.length, p->tok.text);
    advance(p);
    return t;
}

static u32 parse_vector(Parser *p) {
    return accept_dot(p, "v2") ? 2 : accept_dot(p, "v4") ? 4 : 0;
}

void parse_registers(Parser *p) { /* .reg [.v2] .f32 a, b<4>; */
    u32 vector = parse_vector(p);
    Type type = parse_type(p);
    if (type == T_B128 || (type != T_PRED && !type_size(type)))
        ptx_fail(p, p->tok.line, "registers of type .%s are not supported", type_name(type));
    do {
        u32 line = p->tok.line;
        char *name = expect_word(p);
        if (!accept(p, '<')) {
            add_register(p, name, type, vector, line);
            continue;
        }
        u64 n = expect_int(p);
        expect(p, '>');
        if (n > 1000000) ptx_fail(p, line, "too many registers");
        for (u64 i = 0; i < n; i++) {
            char text[256];
            int length = snprintf(text, sizeof text, "%s%llu", name, (unsigned long long)i);
            add_register(p, pool_string(&p->m->pool, text, (u64)length), type, vector, line);
        }
    } while (accept(p, ','));
    expect(p, ';');
}

/* ---- variables ---- */
typedef struct Decl {
    u32 align, vector, line;
    Type type;
    char *name;
    u64 size, dims[MAX_DIMS]; /* of a vector its elements are the last one */
    u32 ndims;
    bool open;
} Decl;

static u64 parse_dimensions(Parser *p, Decl *d) {
    u64 n = 1;
    for (bool first = true; accept(p, '['); first = false) {
        if (d->ndims == MAX_DIMS - 1) ptx_fail(p, d->line, "'%s' has too many dimensions", d->name);
        if (accept(p, ']')) {
            if (!first) ptx_fail(p, d->line, "only the first dimension of '%s' may be open", d->name);
            d->open = true;
            d->dims[d->ndims++] = 1;
            continue;
        }
        u64 k = parse_expression(p);
        if (k > (1ull << 36) / n) ptx_fail(p, d->line, "'%s' is too large", d->name);
        n *= k;
        d->dims[d->ndims++] = k;
        expect(p, ']');
    }
    return n;
}

static void parse_declaration(Parser *p, Decl *d) { /* [.align n] [.v2] .type */
    *d = (Decl){.line = p->tok.line};
    if (accept_dot(p, "align")) d->align = (u32)expect_int(p);
    if (is_dot(p, "attribute")) ptx_fail(p, d->line, ".attribute is not supported");
    d->vector = parse_vector(p);
    d->type = parse_type(p);
    if (!type_size(d->type))
        ptx_fail(p, d->line, "variables of type .%s are not supported", type_name(d->type));
}

static void parse_name(Parser *p, Decl *d) {
    d->line = p->tok.line;
    d->name = expect_word(p);
    d->open = false;
    d->ndims = 0;
    u64 element = type_size(d->type) * (d->vector ? d->vector : 1);
    if (!d->align) d->align = (u32)element;
    if (d->align & (d->align - 1)) ptx_fail(p, d->line, "alignment %u is not a power of two", d->align);
    d->size = parse_dimensions(p, d) * element;
    if (d->vector) d->dims[d->ndims++] = d->vector;
}

static void place(Parser *p, Var *v) {
    Module *m = p->m;
    Func *f = p->func;
    switch (v->space) {
    case S_SHARED:
        if (v->external) {
            v->address = DYNAMIC_SHARED;
            return;
        }
        u32 *next = f && f->entry ? &f->shared_end : &m->shared_next;
        if (f && f->entry && *next < m->shared_next) *next = m->shared_next;
        v->address = (*next + v->align - 1) / v->align * v->align;
        *next = (u32)(v->address + v->size + 16); /* a red zone */
        v->owner = f && f->entry ? f : NULL;
        if (f) f->shared_bytes = (u32)((f->shared_bytes + v->align - 1) / v->align * v->align + v->size);
        return;
    case S_LOCAL:
        v->address = (m->local_bytes + 64 + v->align - 1) / v->align * v->align;
        m->local_bytes = (u32)(v->address + v->size);
        return;
    case S_CONST:
        m->const_bytes += v->size; /* fall through */
    case S_GLOBAL:
        if (m->const_bytes > 65536) ptx_fail(p, p->tok.line, "more than 64 KiB of .const");
        v->address = mem_alloc(v->size, v->align < 256 ? 256 : v->align);
        if (!v->address) ptx_fail(p, p->tok.line, "too little device memory for '%s'", v->name);
        return;
    default:
        return;
    }
}

static Var *add_var(Parser *p, Space space, const Decl *d) {
    Module *m = p->m;
    Var *v = pool_alloc(&m->pool, sizeof *v);
    *v = (Var){.name = d->name, .space = space, .size = d->size, .align = d->align, .module = !p->func};
    Sym *s = sym_add(p, d->name, Y_VAR, d->line);
    s->var = v;
    s->type = d->type;
    return v;
}

static void remember(Parser *p, Var *v, Var ***list, u32 *n) {
    Var **all = pool_alloc(&p->m->pool, (*n + 1) * sizeof v);
    if (*n) memcpy(all, *list, *n * sizeof v);
    all[(*n)++] = v;
    *list = all;
}

/* The .global or .const variable of that name, of this text or another one that it is linked with; NULL:
 * none. */
static Var *linked_var(Parser *p, Space space, const Decl *d) {
    Sym *s = space == S_GLOBAL || space == S_CONST ? sym_find(p, d->name) : NULL;
    Var *v = s && s->kind == Y_VAR && s->var->space == space ? s->var : NULL;
    if (v && !d->open && v->size != d->size)
        ptx_fail(p, d->line, "'%s' is declared with another size", d->name);
    return v;
}

/* Code is resolved as it is read, so what is declared gets its memory. */
static void declare_external(Parser *p, Space space, Decl *d) {
    if (linked_var(p, space, d)) return;
    if (d->open) ptx_fail(p, d->line, "'%s' is external, and has no size before it is defined", d->name);
    Var *v = add_var(p, space, d);
    v->external = true;
    place(p, v);
    remember(p, v, &p->m->vars, &p->m->nvars);
}

static void add_local(Parser *p, Var *v) {
    Func *f = p->func;
    if (!f->shifted) f->shift = new_register(p, T_U64);
    f->shifted = true;
    v->owner = f;
    if (f->nlocals == sizeof f->locals / sizeof *f->locals) {
        f->shares = true; /* more than are kept apart */
        return;
    }
    f->locals[f->nlocals].begin = (u32)v->address;
    f->locals[f->nlocals++].end = (u32)(v->address + v->size);
}

/* What is open is as long as the list of its initialisers. */
static void open_array(Parser *p, Var *v, Decl *d) {
    d->dims[0] = count_items(p);
    if (d->dims[0] > (1ull << 36) / d->size) ptx_fail(p, d->line, "'%s' is too large", d->name);
    v->size = d->size *= d->dims[0];
}

void parse_variable(Parser *p, Space space, bool external) {
    Decl d;
    parse_declaration(p, &d);
    u32 align = d.align;
    do {
        d.align = align;
        parse_name(p, &d);
        if (space == S_PARAM && !p->func) ptx_fail(p, d.line, ".param outside of a function");
        if (external && (space == S_GLOBAL || space == S_CONST)) {
            declare_external(p, space, &d);
            continue;
        }
        Space kept = space == S_PARAM ? S_LOCAL : space; /* arguments of calls */
        Var *declared = linked_var(p, space, &d);
        bool completes = declared && declared->external;
        Var *v = completes ? declared : add_var(p, kept, &d);
        v->external = external || (d.open && space == S_SHARED);
        if (d.open && !external && space != S_GLOBAL && space != S_CONST)
            ptx_fail(p, d.line, "the size of '%s' is missing", d.name);
        if (accept(p, '=')) {
            if (space != S_GLOBAL && space != S_CONST)
                ptx_fail(p, d.line, "only .global and .const variables have initialisers");
            if (d.open) open_array(p, v, &d);
            v->init = pool_alloc(&p->m->pool, v->size + 16);
            parse_initialiser(p, v, d.type, d.dims, d.ndims);
        }
        if (completes) continue;
        place(p, v);
        if (space == S_LOCAL && p->func && !p->func->entry) add_local(p, v);
        if (space == S_GLOBAL || space == S_CONST) remember(p, v, &p->m->vars, &p->m->nvars);
        if (space == S_SHARED && !v->external) remember(p, v, &p->m->shared, &p->m->nshared);
    } while (accept(p, ','));
    expect(p, ';');
}

/* .param .u64 name, .param .align 8 .b8 name[16], .param .u64 .ptr .global .align 16 name; a .func may take
 * .reg */
Param parse_param(Parser *p, bool entry) {
    Decl d;
    if (!entry && accept_dot(p, "reg")) {
        Type type = parse_type(p);
        u32 line = p->tok.line;
        char *name = expect_word(p);
        Sym *s = sym_add(p, name, Y_REG, line);
        s->reg = new_register(p, type);
        return (Param){name, 0, type_size(type), type_size(type), type, s};
    }
    if (!accept_dot(p, "param")) ptx_fail(p, p->tok.line, "expected .param");
    parse_declaration(p, &d);
    if (accept_dot(p, "ptr")) {
        if (!(accept_dot(p, "global") || accept_dot(p, "shared") || accept_dot(p, "local")))
            accept_dot(p, "const");
        if (accept_dot(p, "align")) expect_int(p);
    }
    parse_name(p, &d);
    Var *v = add_var(p, entry ? S_PARAM : S_LOCAL, &d);
    place(p, v);
    return (Param){d.name, 0, (u32)d.size, d.align, d.type, sym_find(p, d.name)};
}

u64 ptx_symbol_address(const struct Sym *s) {
    return s->kind == Y_FUNC ? CODE_WINDOW + s->func->index * 16ull : s->var->address;
}
