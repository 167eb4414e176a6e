/* Finds the row (rows_*) that fits a pure instruction: its opcode and the modifiers in the row's name are
 * there, its type is the row's, and whatever else it carries the row's flags allow. */
#include "ptx.h"
#include <string.h>

static const Row *const tables[] = {rows_int, rows_logic, rows_float, rows_half, rows_approx};

static bool has(const Row *r, char flag) {
    return strchr(r->flags, flag) != NULL;
}

/* The index of a modifier not taken yet, from `from` on; -1: it is not there. */
static int find(const Stmt *s, const char *word, int from) {
    for (int i = from; i < (int)s->nmods; i++)
        if (!s->used[i] && !strcmp(s->mods[i], word)) return i;
    return -1;
}

/* Takes the modifiers of the name "mul.hi". Types in a name ("slct.s32", "dp4a.u32.s32") stand in this order,
 * behind the type of the row. */
static bool take_name(Stmt *s, const Row *r) {
    int type_at = -1;
    if (r->type != T_NONE) {
        if ((type_at = find(s, type_name(r->type), 0)) < 0) return false;
        s->used[type_at] = true;
    }
    for (const char *at = r->name + strcspn(r->name, "."); *at;) {
        char word[32];
        size_t length = strcspn(++at, ".");
        memcpy(word, at, length);
        word[length] = 0;
        at += length;
        bool type = type_of(word) != T_NONE;
        int k = find(s, word, type ? type_at + 1 : 0);
        if (k < 0) return false;
        s->used[k] = true;
        if (type) type_at = k;
    }
    return true;
}

typedef struct Found {
    int rounding;
    bool ftz, sat;
} Found;

static bool fits(Stmt *s, const Row *r, Found *f) {
    memset(s->used, 0, sizeof s->used);
    *f = (Found){0};
    if (!take_name(s, r)) return false;
    if (has(r, 'r') || has(r, 'R'))
        f->rounding = mod_rounding(s);
    else if (has(r, 'n') || has(r, 'N'))
        f->rounding = mod(s, "rn");
    if (f->rounding > R_RP) return false;
    if (!f->rounding && (has(r, 'R') || has(r, 'N'))) return false;
    if (has(r, 'f')) f->ftz = mod(s, "ftz");
    if (has(r, 's')) f->sat = mod(s, "sat");
    for (u32 i = 0; i < s->nmods; i++)
        if (!s->used[i]) return false;
    return true;
}

static Type twice(Type t) {
    static const u8 wide[T_COUNT] = {[T_U16] = T_U32, [T_S16] = T_S32, [T_U32] = T_U64, [T_S32] = T_S64};
    return (Type)wide[t];
}

static Type sig_type(char c, Type t) {
    switch (c) {
    case 'w':
        return twice(t);
    case 'u':
        return T_U32;
    case 's':
        return T_S32;
    case 'b':
        return T_B32;
    case 'q':
        return T_B64;
    case 'h':
        return T_B16;
    case 'f':
        return T_F32;
    case 'p':
        return T_PRED;
    default:
        return t;
    }
}

static void emit(Parser *p, Stmt *s, const Row *r, const Found *f) {
    u32 n = (u32)strlen(r->sig) - 1;
    operands_are(p, s, n + 1, n + 1);
    bool immediate = r->sig[n] == 'i';
    i64 imm = immediate ? integer(p, s, &s->operands[n]) : 0;
    n -= immediate;
    Opnd src[4], d = dest(p, s, &s->operands[0], sig_type(r->sig[0], r->type), false);
    for (u32 k = 0; k < n; k++) src[k] = source(p, s, &s->operands[k + 1], sig_type(r->sig[k + 1], r->type));
    Ins *i = new_ins(p, s);
    i->kernel = r->kernel;
    i->type = (u8)r->type;
    i->rnd = (u8)f->rounding;
    i->csr = csr_of(f->rounding, f->ftz);
    i->ftz = f->ftz;
    i->sat = f->sat;
    i->imm = imm;
    set_dests(p, i, &d, 1);
    set_sources(p, i, src, n);
}

bool decode_alu(Parser *p, Stmt *s) {
    bool opcode = false;
    for (u32 t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const Row *r = tables[t]; r->name; r++) {
            size_t n = strcspn(r->name, ".");
            if (strncmp(s->op, r->name, n) || s->op[n]) continue;
            opcode = true;
            Found f;
            if (!fits(s, r, &f)) continue;
            emit(p, s, r, &f);
            return true;
        }
    if (!opcode) return false;
    char text[256] = "";
    for (u32 i = 0; i < s->nmods && strlen(text) + strlen(s->mods[i]) + 2 < sizeof text; i++)
        strcat(strcat(text, "."), s->mods[i]);
    ptx_fail(p, s->line, "unknown or unsupported form '%s%s': a modifier or type that '%s' does not take",
             s->op, text, s->op);
}
