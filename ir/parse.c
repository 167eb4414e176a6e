/* Reads the text form, .tir (grammar in README.md), by recursive descent over the characters.
 *
 * The text may come from a user, so everything is checked: the syntax here, operands by graph_add, the
 * whole by verify. Parsing stops at the first syntax error and goes on after a type error: a node that
 * does not fit is replaced by a placeholder of the types that the text states for it.
 *
 * While parsing, nodes carry their place in the .tir, so that graph_add's and verify's messages point
 * there; once everything is checked they get the locations that the text gave them. */
#include "ir.h"
#include "shape.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Parser {
    const char *at, *line_start;
    uint32_t line;
    const char *file;
    Diag *diag;
    Module *m;
    VEC(const char *) files; /* as declared by the text */
    VEC(Loc) locs;           /* of all nodes, as stated; a body's before its region's */
    bool in_body;
} Parser;

/* ---- places, errors, tokens */

static Loc here(const Parser *p) {
    return (Loc){.line = p->line, .col = loc_column((size_t)(p->at - p->line_start) + 1)};
}

TBC_PRINTF(3, 4) static bool error_at(Parser *p, Loc at, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    diag_verror(p->diag, p->file, at.line, at.col, fmt, ap);
    va_end(ap);
    return false;
}

static void skip_blanks(Parser *p) {
    while (*p->at == ' ' || *p->at == '\t' || *p->at == '\r') p->at++;
    if (*p->at == '#') p->at += strcspn(p->at, "\n");
}

static void skip(Parser *p) {
    for (skip_blanks(p); *p->at == '\n'; skip_blanks(p)) {
        p->line_start = ++p->at;
        p->line++;
    }
}

/* Says what stands where something else was expected. */
static bool expected(Parser *p, const char *what) {
    skip(p);
    unsigned char c = (unsigned char)*p->at;
    if (!c) return error_at(p, here(p), "expected %s, found the end of the text", what);
    if (!isprint(c)) return error_at(p, here(p), "expected %s, found byte 0x%02x", what, c);
    int n = 1;
    if (isalnum(c)) {
        while (n < 32 && (isalnum((unsigned char)p->at[n]) || p->at[n] == '_')) n++;
    }
    return error_at(p, here(p), "expected %s, found '%.*s'", what, n, p->at);
}

static bool accept(Parser *p, char c) {
    skip(p);
    if (*p->at != c) return false;
    p->at++;
    return true;
}

static bool expect(Parser *p, char c) {
    if (accept(p, c)) return true;
    return expected(p, (char[]){'\'', c, '\'', 0});
}

#define WORD_BYTES 64
typedef char Word[WORD_BYTES];

/* An identifier, or an empty word where none stands; p->at moves behind it. Overlong ones are cut, which
 * makes them unknown. */
static bool word(Parser *p, Word out) {
    size_t n = 0;
    if (isalpha((unsigned char)*p->at) || *p->at == '_') {
        for (; isalnum((unsigned char)*p->at) || *p->at == '_'; p->at++) {
            if (n < WORD_BYTES - 1) out[n++] = *p->at;
        }
    }
    out[n] = 0;
    return n > 0;
}

/* Moves behind the given word if it stands here. */
static bool accept_word(Parser *p, const char *text) {
    skip(p);
    const char *start = p->at;
    Word w;
    if (word(p, w) && strcmp(w, text) == 0) return true;
    p->at = start;
    return false;
}

/* ---- numbers, strings, types */

static bool parse_i64(Parser *p, int64_t *out) {
    skip(p);
    Loc at = here(p);
    bool negative = *p->at == '-';
    const char *digit = p->at + negative;
    if (!isdigit((unsigned char)*digit)) return expected(p, "an integer");
    int64_t v = 0;
    for (; isdigit((unsigned char)*digit); digit++) {
        int64_t d = *digit - '0';
        if (v > (INT64_MAX - d) / 10) return error_at(p, at, "the integer is too large");
        v = v * 10 + d;
    }
    if (isalnum((unsigned char)*digit) || *digit == '.') return error_at(p, at, "malformed integer");
    p->at = digit;
    *out = negative ? -v : v;
    return true;
}

/* An integer of at most `max`; what names it in errors. */
static bool parse_count(Parser *p, const char *what, int64_t max, int64_t *out) {
    skip(p);
    Loc at = here(p);
    if (!parse_i64(p, out)) return false;
    if (*out >= 0 && *out <= max) return true;
    return error_at(p, at, "%s %lld is not from 0 to %lld", what, (long long)*out, (long long)max);
}

static const char *skip_digits(const char *s) {
    while (isdigit((unsigned char)*s)) s++;
    return s;
}

static bool parse_f64(Parser *p, double *out) {
    skip(p);
    Loc at = here(p);
    const char *start = p->at + (*p->at == '-'), *s = skip_digits(start);
    if (s == start) return expected(p, "a finite number");
    if (*s == '.') s = skip_digits(s + 1);
    if (*s == 'e' || *s == 'E') {
        const char *exponent = s + 1 + (s[1] == '-' || s[1] == '+');
        s = skip_digits(exponent);
        if (s == exponent) return error_at(p, at, "malformed number");
    }
    if (isalnum((unsigned char)*s) || *s == '.') return error_at(p, at, "malformed number");
    *out = strtod(p->at, NULL);
    p->at = s;
    return isfinite(*out) || error_at(p, at, "the number is too large");
}

static bool parse_bool(Parser *p, bool *out) {
    int64_t v;
    if (!parse_count(p, "truth value", 1, &v)) return false;
    *out = v;
    return true;
}

static bool hex4(const char *s, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 4; i++) {
        if (!isxdigit((unsigned char)s[i])) return false;
        int c = tolower((unsigned char)s[i]);
        *out = *out * 16 + (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

static void add_utf8(Buf *b, uint32_t c) {
    char u[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) u[i] = (char)(0x80 | (c & 0x3f));
    u[0] = (char)(n == 1 ? c : (0xf00u >> n & 0xf0u) | c);
    buf_add(b, u, n);
}

/* The part of \uXXXX (or of a surrogate pair) behind the u. */
static bool parse_unicode(Parser *p, Buf *b) {
    uint32_t c, low;
    if (!hex4(p->at, &c)) return error_at(p, here(p), "expected four hexadecimal digits");
    Loc at = here(p);
    p->at += 4;
    if (c >= 0xd800 && c < 0xdc00 && p->at[0] == '\\' && p->at[1] == 'u' && hex4(p->at + 2, &low) &&
        low >= 0xdc00 && low < 0xe000) {
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        p->at += 6;
    }
    if (c == 0 || (c >= 0xd800 && c < 0xe000))
        return error_at(p, at, "not a character that a string can hold");
    add_utf8(b, c);
    return true;
}

static bool string_chars(Parser *p, Buf *b) {
    static const char letter[] = "\"\\/bfnrt", plain[] = "\"\\/\b\f\n\r\t";
    while (*p->at != '"') {
        if ((unsigned char)*p->at < 0x20) return error_at(p, here(p), "the string does not end on its line");
        if (*p->at != '\\') {
            buf_add(b, p->at++, 1);
            continue;
        }
        p->at++;
        const char *escape = *p->at ? strchr(letter, *p->at) : NULL;
        if (*p->at == 'u') {
            p->at++;
            if (!parse_unicode(p, b)) return false;
        } else if (escape) {
            buf_add(b, &plain[escape - letter], 1);
            p->at++;
        } else {
            return error_at(p, here(p), "unknown escape in a string");
        }
    }
    p->at++;
    return true;
}

static bool parse_str(Parser *p, const char **out) {
    skip(p);
    if (*p->at != '"') return expected(p, "a string");
    p->at++;
    Buf b = {0};
    buf_add(&b, "", 0);
    bool ok = string_chars(p, &b);
    if (ok) *out = arena_strdup(p->m->arena, b.at);
    buf_free(&b);
    return ok;
}

static bool parse_type(Parser *p, Type *t) {
    *t = (Type){0};
    skip(p);
    Loc at = here(p);
    if (accept_word(p, "f32")) {
        t->dtype = DT_F32;
    } else if (accept_word(p, "i32")) {
        t->dtype = DT_I32;
    } else if (accept_word(p, "bf16")) {
        t->dtype = DT_BF16;
    } else if (accept_word(p, "t2")) {
        int64_t group;
        t->dtype = DT_T2;
        if (!expect(p, '/') || !parse_count(p, "group", INT32_MAX, &group)) return false;
        t->group = (uint32_t)group;
    } else {
        return expected(p, "a type (f32[..], i32[..], bf16[..] or t2/GROUP[..])");
    }
    if (!expect(p, '[')) return false;
    while (!accept(p, ']')) {
        if (t->rank == MAX_RANK) return error_at(p, here(p), "more than %d dims", MAX_RANK);
        if (t->rank && !expect(p, ',')) return false;
        if (!parse_i64(p, &t->dim[t->rank++])) return false;
    }
    const char *problem = type_problem(t);
    return !problem || error_at(p, at, "the type %s", problem);
}

/* ---- attributes and locations */

static bool parse_attr(Parser *p, Attrs *a) {
    skip(p);
    Loc at = here(p);
    Word key;
    if (!word(p, key)) return expected(p, "an attribute");
    if (!expect(p, '=')) return false;
#define ATTR(name, kind, help)                                                                               \
    if (strcmp(key, #name) == 0) {                                                                           \
        if (a->set & A(name)) return error_at(p, at, "attribute '" #name "' comes twice");                   \
        a->set |= A(name);                                                                                   \
        return parse_##kind(p, &a->name);                                                                    \
    }
#include "attrs.def"
#undef ATTR
    return error_at(p, at, "unknown attribute '%s'", key);
}

/* "{key=value, ..}" if that is what follows; a '{' that opens a body is left alone. */
static bool parse_attrs(Parser *p, Attrs *a) {
    *a = (Attrs){0};
    Parser before = *p;
    Word key;
    bool attrs = accept(p, '{') && (skip(p), word(p, key)) && accept(p, '=');
    p->at = before.at, p->line_start = before.line_start, p->line = before.line;
    if (!attrs) return true;
    accept(p, '{');
    do {
        if (!parse_attr(p, a)) return false;
    } while (accept(p, ','));
    return expect(p, '}');
}

/* "@line:col" or "@file:line:col" if that follows. */
static bool parse_loc(Parser *p, Loc *loc) {
    *loc = (Loc){0};
    if (!accept(p, '@')) return true;
    Loc at = here(p);
    int64_t part[3];
    int n = 0;
    do {
        if (!parse_count(p, "location", UINT32_MAX, &part[n++])) return false;
    } while (n < 3 && accept(p, ':'));
    if (n < 2) return error_at(p, at, "expected a location LINE:COL or FILE:LINE:COL");
    int64_t file = n == 3 ? part[0] : 0, line = part[n - 2], col = part[n - 1];
    if (line == 0) return error_at(p, at, "lines count from 1");
    if (col > UINT16_MAX) return error_at(p, at, "column %lld is above %d", (long long)col, UINT16_MAX);
    if (file > 0 && file >= p->files.n) return error_at(p, at, "there is no file %lld", (long long)file);
    *loc = (Loc){.file = (uint16_t)file, .line = (uint32_t)line, .col = (uint16_t)col};
    return true;
}

/* ---- nodes */

/* A node as the text states it. */
typedef struct Stated {
    Loc at;
    VEC(Type) types;
    VEC(int64_t) offsets;
    VEC(Val) in;
    bool operands_ok;
    Op op;
    Attrs attrs;
    Graph *body;
} Stated;

static bool parse_id(Parser *p, Val *out) {
    int64_t id;
    *out = VAL_NONE;
    if (!expect(p, '%')) return false;
    if (!isdigit((unsigned char)*p->at)) return expected(p, "a value's number");
    if (!parse_count(p, "value", UINT32_MAX - 1, &id)) return false;
    *out = (Val)id;
    return true;
}

/* "%7: f32[2,3] at 4096, %8: .. =" */
static bool parse_results(Parser *p, const Graph *g, Stated *s) {
    do {
        skip(p);
        Loc at = here(p);
        Val id;
        Type type;
        int64_t offset = -1;
        if (!parse_id(p, &id)) return false;
        if (id != g->values.n + s->types.n)
            return error_at(p, at, "values are numbered in order: expected %%%u", g->values.n + s->types.n);
        if (!expect(p, ':') || !parse_type(p, &type)) return false;
        if (accept_word(p, "at") && !parse_count(p, "offset", INT64_MAX, &offset)) return false;
        vec_push(&s->types, type);
        vec_push(&s->offsets, offset);
    } while (accept(p, ','));
    return expect(p, '=');
}

static bool parse_operands(Parser *p, const Graph *g, Stated *s) {
    s->operands_ok = true;
    skip(p);
    if (*p->at != '%') return true;
    /* A '%' after an op without operands would be the next node's result: those end in ':'. */
    const char *after = skip_digits(p->at + 1);
    if (*after == ':') return true;
    do {
        skip(p);
        Loc at = here(p);
        Val id;
        if (!parse_id(p, &id)) return false;
        if (id >= g->values.n) s->operands_ok = error_at(p, at, "%%%u is not defined before its use", id);
        vec_push(&s->in, id);
    } while (accept(p, ','));
    return true;
}

static bool parse_body(Parser *p, Graph *g);

static bool parse_region_body(Parser *p, Stated *s) {
    if (p->in_body) return error_at(p, s->at, "regions cannot contain regions");
    skip(p);
    if (*p->at != '{') return expected(p, "'{' and the region's body");
    s->body = graph_new("");
    p->in_body = true;
    bool ok = parse_body(p, s->body);
    p->in_body = false;
    return ok;
}

static bool parse_stated(Parser *p, const Graph *g, Stated *s, Loc *loc) {
    Word name;
    skip(p);
    s->at = here(p);
    if (*p->at == '%' && !parse_results(p, g, s)) return false;
    skip(p);
    Loc at = here(p);
    if (!word(p, name)) return expected(p, s->types.n ? "an op" : "a node or '}'");
    if (!op_from_name(name, &s->op)) return error_at(p, at, "unknown op '%s'", name);
    return parse_operands(p, g, s) && parse_attrs(p, &s->attrs) && parse_loc(p, loc) &&
           (s->op != OP_region || parse_region_body(p, s));
}

/* Adds the node; false, reported, if it does not fit. */
static bool add_stated(Parser *p, Graph *g, Stated *s) {
    if (!s->operands_ok) return false;
    NodeShape shape = {
        .g = g, .op = s->op, .in = s->in.at, .nin = s->in.n, .attrs = &s->attrs, .body = s->body};
    uint32_t nout = shape_results(&shape);
    if (nout != s->types.n)
        return error_at(p, s->at, "%s has %u result%s, not %u", op_info[s->op].name, nout,
                        nout == 1 ? "" : "s", s->types.n);
    uint32_t nodes = g->nodes.n;
    if (s->op == OP_region) {
        Type *types = arena_array(g->arena, Type, nout);
        Buf why = {0};
        bool ok = shape_infer(&shape, types, &why) || error_at(p, s->at, "%s", why.at);
        buf_free(&why);
        if (!ok) return false;
        graph_add_region(g, s->at, s->in.at, s->in.n, s->body);
        s->body = NULL; /* the graph's now */
    } else {
        graph_add(g, p->m, p->diag, s->at, s->op, s->types.at, s->in.at, s->in.n, &s->attrs);
    }
    return g->nodes.n > nodes;
}

static bool check_stated_types(Parser *p, Graph *g, const Stated *s) {
    const Node *n = &g->nodes.at[g->nodes.n - 1];
    bool ok = true;
    for (uint32_t i = 0; i < n->nout; i++) {
        Value *v = &g->values.at[n->out + i];
        v->offset = s->offsets.at[i];
        if (type_equal(&v->type, &s->types.at[i])) continue;
        Buf b = {0};
        print_type(&s->types.at[i], &b);
        buf_printf(&b, " but %s gives ", op_info[n->op].name);
        print_type(&v->type, &b);
        ok = error_at(p, s->at, "%%%u is stated as %s", n->out + i, b.at);
        buf_free(&b);
    }
    return ok;
}

/* Stands for a wrong node, so that later ones can be checked; the module is never returned. */
static void add_placeholders(Parser *p, Graph *g, const Stated *s) {
    for (uint32_t i = 0; i < s->types.n; i++)
        graph_add(g, p->m, p->diag, s->at, OP_state, &s->types.at[i], NULL, 0, ATTRS(name, "?"));
}

static bool parse_node(Parser *p, Graph *g) {
    Stated s = {0};
    Loc loc;
    bool ok = parse_stated(p, g, &s, &loc);
    if (ok) {
        vec_push(&p->locs, loc);
        if (add_stated(p, g, &s))
            check_stated_types(p, g, &s);
        else
            add_placeholders(p, g, &s);
    }
    vec_free(&s.types);
    vec_free(&s.offsets);
    vec_free(&s.in);
    graph_free(s.body);
    return ok;
}

static bool parse_body(Parser *p, Graph *g) {
    if (!expect(p, '{')) return false;
    while (!accept(p, '}')) {
        if (!parse_node(p, g)) return false;
    }
    return true;
}

/* ---- the module */

static bool parse_function(Parser *p) {
    skip(p);
    Loc at = here(p);
    Word name;
    if (!expect(p, '@')) return false;
    if (!word(p, name)) return expected(p, "a function's name");
    if (module_graph(p->m, name)) return error_at(p, at, "function @%s comes twice", name);
    Graph *g = graph_new(name);
    vec_push(&p->m->graphs, g);
    return parse_attrs(p, &g->attrs) && parse_body(p, g);
}

static bool parse_file(Parser *p) {
    skip(p);
    Loc at = here(p);
    int64_t index;
    const char *name;
    if (!parse_count(p, "file", UINT16_MAX, &index)) return false;
    if (index != p->files.n) return error_at(p, at, "files are numbered in order: expected %u", p->files.n);
    if (!parse_str(p, &name)) return false;
    vec_push(&p->files, name);
    return true;
}

/* The props up to the end of the line. */
static bool parse_props(Parser *p) {
    for (skip_blanks(p); *p->at && *p->at != '\n'; skip_blanks(p)) {
        Loc at = here(p);
        Word name;
        if (!word(p, name)) return expected(p, "a prop");
        uint32_t prop = 0;
        while (prop < PROP_COUNT && strcmp(name, prop_name[prop]) != 0) prop++;
        if (prop == PROP_COUNT) return error_at(p, at, "unknown prop '%s'", name);
        if (p->m->props & 1u << prop) return error_at(p, at, "prop '%s' comes twice", name);
        p->m->props |= 1u << prop;
    }
    return true;
}

static bool parse_text(Parser *p) {
    int64_t version;
    skip(p);
    Loc at = here(p);
    if (!accept_word(p, "tbc_ir")) return expected(p, "'tbc_ir 1'");
    if (!parse_i64(p, &version)) return false;
    if (version != 1)
        return error_at(p, at, "version %lld of the text form; this tbc reads 1", (long long)version);
    while (accept_word(p, "file")) {
        if (!parse_file(p)) return false;
    }
    if (accept_word(p, "props") && !parse_props(p)) return false;
    if (accept_word(p, "arena") && !parse_count(p, "arena", INT64_MAX, &p->m->arena_bytes)) return false;
    if (accept_word(p, "meta") && !parse_str(p, &p->m->meta)) return false;
    while (accept_word(p, "func")) {
        if (!parse_function(p)) return false;
    }
    skip(p);
    return !*p->at || expected(p, "'func' or the end of the text");
}

static const Loc *set_locs(Graph *g, const Loc *next) {
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        if (g->nodes.at[i].body) next = set_locs(g->nodes.at[i].body, next);
        g->nodes.at[i].loc = *next++;
    }
    return next;
}

/* From places in the .tir to the places and files that the text states. */
static void set_stated_places(Parser *p) {
    const Loc *next = p->locs.at;
    for (uint32_t i = 0; i < p->m->graphs.n; i++) next = set_locs(p->m->graphs.at[i], next);
    p->m->files.n = 0;
    for (uint32_t i = 0; i < p->files.n; i++) vec_push(&p->m->files, p->files.at[i]);
}

Module *parse_module(const char *text, const char *file, Diag *diag) {
    Parser p = {.at = text, .line_start = text, .line = 1, .file = file, .diag = diag, .m = module_new()};
    uint32_t errors = diag->errors;
    if (file) vec_push(&p.m->files, arena_strdup(p.m->arena, file));
    bool ok = parse_text(&p) && diag->errors == errors && verify(p.m, diag);
    if (ok) set_stated_places(&p);
    vec_free(&p.files);
    vec_free(&p.locs);
    if (ok) return p.m;
    module_free(p.m);
    return NULL;
}
