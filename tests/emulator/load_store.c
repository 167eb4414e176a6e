/* ld, ldu, st: scalars and vectors, all state spaces. Cache operators and hints change nothing here. */
#include "ptx.h"
#include "warp.h"
#include "memory.h"
#include <string.h>

static u64 extend(u64 v, const Ins *i) { /* a signed type in a wider register */
    switch (i->type) {
    case T_S8:
        return (u64)(i64)(int8_t)v;
    case T_S16:
        return (u64)(i64)(i16)v;
    case T_S32:
        return (u64)(i64)(i32)v;
    default:
        return v;
    }
}
static u64 fit(u64 v, const Opnd *o) {
    return type_size((Type)o->type) == 2 ? (u16)v : type_size((Type)o->type) == 1 ? (u8)v : v;
}

enum { LINE = 128 }; /* bytes of a line of the second cache */

static void addresses(Warp *w, const Ins *i, u32 mask) {
    const Opnd *o = i->s;
    u32 bad = src_poison(w, o) & mask;
    if (bad) suspect(w, i, __builtin_ctz(bad), "the address depends on a value that was never written");
    w->now = i;
    bool eight = wide(o);
    const void *v = src(w, o);
    for (int l = 0; l < LANES; l++)
        w->addr[l] =
            mask >> l & 1 ? (eight ? ((const u64 *)v)[l] : ((const u32 *)v)[l]) + (u64)i->imm : UINT64_MAX;
}

static inline u64 fetch(const u8 *p, u32 size) {
    u64 v;
    u32 w;
    u16 h;
    switch (size) {
    case 8:
        memcpy(&v, p, 8);
        return v;
    case 4:
        memcpy(&w, p, 4);
        return w;
    case 2:
        memcpy(&h, p, 2);
        return h;
    default:
        return *p;
    }
}
static inline void deposit(u8 *p, u32 size, u64 v) {
    u32 w = (u32)v;
    u16 h = (u16)v;
    switch (size) {
    case 8:
        memcpy(p, &v, 8);
        return;
    case 4:
        memcpy(p, &w, 4);
        return;
    case 2:
        memcpy(p, &h, 2);
        return;
    default:
        *p = (u8)v;
    }
}
static inline bool written(const u8 *state, u32 size) {
    u64 want = 0x0101010101010101ull * ST_INIT >> (64 - 8 * size);
    return (fetch(state, size) & want) == want;
}

/* Kernel parameters and other uniform places: one check for all lanes. */
static void load_param(Warp *w, const Ins *i, u32 mask) {
    int first = __builtin_ctz(mask);
    u8 *state, *data = touch(w, i, first, S_PARAM, w->addr[first], i->size * i->vec, READ, false, &state);
    for (u32 k = 0; k < i->vec; k++) {
        u64 v = fetch(data + k * i->size, i->size);
        for (u32 m = mask; m; m &= m - 1)
            set_lane(w, &i->d[k], __builtin_ctz(m), fit(extend(v, i), &i->d[k]), false);
    }
}

static bool uniform(const Warp *w, u32 mask) {
    u64 a = w->addr[__builtin_ctz(mask)];
    for (u32 m = mask; m; m &= m - 1)
        if (w->addr[__builtin_ctz(m)] != a) return false;
    return true;
}

/* The common case by columns: a register of words for all lanes at once. Returns the lanes that are left. */
static u32 load_words(Warp *w, const Ins *i, u32 mask) {
    u32 quick = race_quick_reads(w, mask, 4u * i->vec);
    const u8 *shared = w->block->shared;
    for (u32 k = 0; quick && k < i->vec; k++) {
        if (i->d[k].sink) continue;
        u8 *d = w->regs + i->d[k].off;
        for (u32 m = quick; m; m &= m - 1) {
            int l = __builtin_ctz(m);
            memcpy(d + 4 * l, shared + w->addr[l] + 4 * k, 4);
        }
        w->poison[i->d[k].poison] &= ~quick;
    }
    return mask & ~quick;
}

static void exec_ld(Warp *w, const Ins *i, u32 mask) {
    addresses(w, i, mask);
    if (i->space == S_PARAM && uniform(w, mask)) {
        load_param(w, i, mask);
        return;
    }
    bool strong = i->strength != WEAK;
    if (strong) sync_strong(w, READ);
    u32 size = i->size, n = i->vec;
    if (i->words) mask = load_words(w, i, mask);
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u8 *state, *data = touch(w, i, l, (Space)i->space, w->addr[l], size * n, READ, strong, &state);
        if (n == 1 && size == 4 && !wide(i->d) && !i->d->sink) { /* the common case */
            u32 bit = 1u << l, *p = &w->poison[i->d->poison];
            memcpy(w->regs + i->d->off + 4 * l, data, 4);
            *p = written(state, 4) ? *p & ~bit : *p | bit;
            continue;
        }
        for (u32 k = 0; k < n; k++) {
            u64 v = fetch(data + k * size, size);
            set_lane(w, &i->d[k], l, fit(extend(v, i), &i->d[k]), !written(state + k * size, size));
        }
    }
}

static void exec_st(Warp *w, const Ins *i, u32 mask) {
    addresses(w, i, mask);
    bool strong = i->strength != WEAK;
    if (i->strength == RELEASE) sync_fence(w, true);
    if (strong) sync_strong(w, WRITE);
    u32 size = i->size, n = i->vec;
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u8 *state, *data = touch(w, i, l, (Space)i->space, w->addr[l], size * n, WRITE, strong, &state);
        for (u32 k = 0; k < n; k++) {
            const Opnd *o = &i->s[1 + k];
            u64 v = src_lane(w, o, l);
            deposit(data + k * size, size, v);
            bool poison = src_poison(w, o) >> l & 1;
            if (poison && state >= mem_state(GLOBAL_WINDOW) &&
                state < mem_state(GLOBAL_WINDOW) + mem_total() * 2)
                suspect(w, i, l, "a value that was never written goes to global memory at 0x%llx",
                        (unsigned long long)w->addr[l]);
            u64 flags = 0x0101010101010101ull * ST_INIT, old = fetch(state + k * size, size);
            deposit(state + k * size, size, poison ? old & ~flags : old | flags);
        }
    }
}

/* ---- decoding ---- */
static void take_hints(Parser *p, Stmt *s, bool *policy) {
    static const char *const hints[] = {"L1::evict_normal",
                                        "L1::evict_unchanged",
                                        "L1::evict_first",
                                        "L1::evict_last",
                                        "L1::no_allocate",
                                        "L2::evict_normal",
                                        "L2::evict_first",
                                        "L2::evict_last",
                                        "L2::64B",
                                        "L2::128B",
                                        "L2::256B",
                                        "ca",
                                        "cg",
                                        "cs",
                                        "lu",
                                        "cv",
                                        "wb",
                                        "wt",
                                        NULL};
    (void)p;
    while (mod_of(s, hints) >= 0) continue;
    *policy = mod(s, "L2::cache_hint");
}

static int take_strength(Parser *p, Stmt *s, bool store) {
    static const char *const words[] = {"weak", "relaxed", "volatile", "acquire", "release", NULL},
                             *const scopes[] = {"cta", "cluster", "gpu", "sys", NULL};
    bool mmio = mod(s, "mmio");
    int k = mod_of(s, words);
    int scope = k < 0 ? -1 : mod_of(s, scopes);
    if ((k == RELAXED || k >= ACQUIRE) != (scope >= 0))
        ptx_fail(p, s->line, "'%s': a scope belongs to .relaxed, .acquire and .release", s->op);
    if (mmio && (k != RELAXED || scope != 3)) ptx_fail(p, s->line, "'%s.mmio.relaxed.sys' is meant", s->op);
    if (k == (store ? ACQUIRE : RELEASE)) ptx_fail(p, s->line, "'%s' has no such order", s->op);
    return k < 0 ? WEAK : k;
}

static u32 take_vector(Stmt *s) {
    return mod(s, "v2") ? 2 : mod(s, "v4") ? 4 : mod(s, "v8") ? 8 : 1;
}

/* 16 bytes at most; of global memory 32, as .v8 of 4 bytes or .v4 of 8, from sm_100 on. */
static void check_vector(Parser *p, Stmt *s, u32 n, u32 size, Space space) {
    bool global = space == S_GLOBAL && p->m->sm >= 100 && p->m->version >= 808;
    if (size * n > (global && size >= 4 ? 32u : 16u))
        ptx_fail(p, s->line, "a vector of %u bytes%s", size * n,
                 size * n == 32 ? ": for .global, sm_100 and PTX 8.8" : "");
}

static void decode_memory(Parser *p, Stmt *s) {
    bool store = s->op[0] == 's', policy;
    int strength = take_strength(p, s, store);
    Space space = mod_space(s, S_GENERIC);
    take_hints(p, s, &policy);
    if (!store && mod(s, "nc") && space != S_GLOBAL) ptx_fail(p, s->line, "ld.nc is for .global");
    u32 n = take_vector(s);
    Type t = mod_type(p, s);
    u32 size = type_size(t);
    if (!size || size > 8 || (type_float(t) && t != T_F32 && t != T_F64))
        ptx_fail(p, s->line, "'%s' of .%s is not supported", s->op, type_name(t));
    check_vector(p, s, n, size, space);
    operands_are(p, s, policy ? 3 : 2, policy ? 3 : 2);
    const Operand *value = &s->operands[store ? 1 : 0], *place = &s->operands[store ? 0 : 1];
    i64 displacement;
    Opnd all[9];
    all[0] = address(p, s, place, &space, &displacement);
    if (store && (space == S_PARAM || space == S_CONST))
        ptx_fail(p, s->line, "st to .%s", space == S_CONST ? "const" : "param");
    Operand *items;
    u32 elements = vector_of(p, s, value, &items);
    if (elements != n || (n > 1) != (value->kind == O_VECTOR))
        ptx_fail(p, s->line, "'%s' moves %u elements, the operand has %u", s->op, n, elements);
    for (u32 k = 0; k < n; k++)
        all[1 + k] = store ? source_any(p, s, &items[k], t) : dest(p, s, &items[k], t, true);
    if (policy) source(p, s, &s->operands[2], T_B64);
    Ins *i = new_ins(p, s);
    i->exec = store ? exec_st : exec_ld;
    i->space = (u8)space;
    i->type = (u8)t;
    i->size = (u8)size;
    i->vec = (u8)n;
    i->imm = displacement;
    i->strength = (u8)strength;
    if (store)
        set_sources(p, i, all, n + 1);
    else
        set_sources(p, i, all, 1), set_dests(p, i, all + 1, n);
    i->words = !store && space == S_SHARED && size == 4 && strength == WEAK;
    for (u32 k = 0; k < n; k++) i->words &= !wide(&all[1 + k]);
}

static void exec_prefetch(Warp *w, const Ins *i, u32 mask) {
    (void)w, (void)i, (void)mask;
}
static void decode_prefetch(Parser *p, Stmt *s) {
    static const char *const levels[] = {"L1", "L2", "L2::evict_last", "L2::evict_normal", NULL};
    Space space = mod_space(s, S_GENERIC);
    if (mod_of(s, levels) < 0) ptx_fail(p, s->line, "'%s' lacks its level", s->op);
    operands_are(p, s, 1, 1);
    i64 displacement;
    address(p, s, &s->operands[0], &space, &displacement);
    new_ins(p, s)->exec = exec_prefetch;
}

/* discard.global.L2 [a], 128: the line holds what was never written. */
static void exec_discard(Warp *w, const Ins *i, u32 mask) {
    addresses(w, i, mask);
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (w->addr[l] % LINE) fault(w, i, l, ERR_MISALIGNED, "misaligned discard of %d bytes", LINE);
        for (u32 k = 0; k < LINE; k += 16) {
            u8 *state;
            touch(w, i, l, S_GLOBAL, w->addr[l] + k, 16, WRITE, false, &state);
            for (u32 b = 0; b < 16; b++) state[b] &= (u8)~ST_INIT;
        }
    }
}
static void decode_line(Parser *p, Stmt *s) {
    bool discard = s->op[0] == 'd';
    Space space = mod_space(s, S_GENERIC);
    if (!mod(s, discard ? "L2" : "L2::evict_normal") || (space != S_GLOBAL && space != S_GENERIC))
        ptx_fail(p, s->line, "this form of %s is not known", s->op);
    operands_are(p, s, 2, 2);
    i64 displacement;
    Opnd a = address(p, s, &s->operands[0], &space, &displacement);
    if (integer(p, s, &s->operands[1]) != LINE) ptx_fail(p, s->line, "'%s' is of %d bytes", s->op, LINE);
    Ins *i = new_ins(p, s);
    i->exec = discard ? exec_discard : exec_prefetch;
    i->imm = displacement;
    set_sources(p, i, &a, 1);
}

static void decode_createpolicy(Parser *p, Stmt *s) { /* what it makes is a hint only */
    static const char *const words[] = {"fractional",
                                        "L2::evict_last",
                                        "L2::evict_normal",
                                        "L2::evict_first",
                                        "L2::evict_unchanged",
                                        "range",
                                        "global",
                                        "cvt",
                                        "L2",
                                        NULL};
    while (mod_of(s, words) >= 0) continue;
    if (mod_type(p, s) != T_B64) ptx_fail(p, s->line, "createpolicy.b64 is meant");
    operands_are(p, s, 1, 4);
    Opnd d = dest(p, s, &s->operands[0], T_B64, false);
    Ins *i = new_ins(p, s);
    i->kernel = NULL;
    i->exec = exec_prefetch;
    set_dests(p, i, &d, 1);
}

const Special decoders_memory[] = {
    {"ld", decode_memory},         {"ldu", decode_memory},         {"st", decode_memory},
    {"prefetch", decode_prefetch}, {"prefetchu", decode_prefetch}, {"createpolicy", decode_createpolicy},
    {"discard", decode_line},      {"applypriority", decode_line}, {0}};
