/* Exchange between the lanes of a warp: shfl, vote, match, redux, elect. A member mask is met exactly (park).
 * Lanes that have exited count as met; reading one gives a value that was never written. These orders no
 * memory. */
#include "ptx.h"
#include "warp.h"
#include <string.h>

static void sync_ins(Ins *i, Exec *act) {
    i->exec = exec_sync;
    i->act = act;
}

/* ---- shfl ---- */
enum { UP, DOWN, BFLY, IDX };
static void act_shfl(Warp *w, const Ins *i, u32 mask) {
    u32 values[LANES], poison = src_poison(w, &i->s[0]),
                       control = src_poison(w, &i->s[1]) | src_poison(w, &i->s[2]), p = 0;
    memcpy(values, src(w, &i->s[0]), sizeof values);
    u32 results[LANES], spoiled = 0;
    for (u32 m = mask; m; m &= m - 1) {
        u32 l = (u32)__builtin_ctz(m), b = (u32)src_lane(w, &i->s[1], (int)l),
            c = (u32)src_lane(w, &i->s[2], (int)l);
        u32 segment = c >> 8 & 31, bval = b & 31, cval = c & 31,
            most = (l & segment) | (cval & ~segment & 31), least = l & segment;
        i32 j = i->op == UP     ? (i32)l - (i32)bval
                : i->op == DOWN ? (i32)(l + bval)
                : i->op == BFLY ? (i32)(l ^ bval)
                                : (i32)(least | (bval & ~segment & 31));
        bool in = i->op == UP ? j >= (i32)most : j <= (i32)most;
        if (!in) j = (i32)l;
        p |= (u32)in << l;
        results[l] = values[j];
        if (!(mask >> j & 1) || poison >> j & 1 || control >> l & 1) spoiled |= 1u << l;
    }
    for (u32 m = mask; m; m &= m - 1)
        set_lane(w, &i->d[0], __builtin_ctz(m), results[__builtin_ctz(m)], spoiled >> __builtin_ctz(m) & 1);
    if (i->nd > 1) set_pred(w, &i->d[1], mask, p, control);
}

static void decode_shfl(Parser *p, Stmt *s) {
    static const char *const modes[] = {"up", "down", "bfly", "idx", NULL};
    if (!mod(s, "sync")) ptx_fail(p, s->line, "shfl without .sync does not exist on sm_70 and later");
    int mode = mod_of(s, modes);
    if (mode < 0 || mod_type(p, s) != T_B32)
        ptx_fail(p, s->line, "shfl.sync.{up,down,bfly,idx}.b32 is meant");
    operands_are(p, s, 5, 5);
    Opnd d[2], a[4];
    d[0] = dest(p, s, &s->operands[0], T_B32, false);
    if (s->operands[0].pair) d[1] = dest(p, s, s->operands[0].pair, T_PRED, false);
    for (int k = 0; k < 4; k++) a[k] = source(p, s, &s->operands[1 + k], k ? T_U32 : T_B32);
    Ins *i = new_ins(p, s);
    sync_ins(i, act_shfl);
    i->op = (u8)mode;
    set_dests(p, i, d, s->operands[0].pair ? 2 : 1);
    set_sources(p, i, a, 4);
}

/* ---- vote ---- */
enum { ALL, ANY, UNI, BALLOT };
static void act_vote(Warp *w, const Ins *i, u32 mask) {
    u32 votes = src_pred(w, &i->s[0]) & mask, poison = src_poison(w, &i->s[0]) & mask ? FULL : 0;
    if (i->op == BALLOT) {
        for (u32 m = mask; m; m &= m - 1) set_lane(w, i->d, __builtin_ctz(m), votes, poison);
        return;
    }
    bool r = i->op == ALL ? votes == mask : i->op == ANY ? votes : !votes || votes == mask;
    set_pred(w, i->d, mask, r ? FULL : 0, poison);
}
static void decode_vote(Parser *p, Stmt *s) {
    static const char *const modes[] = {"all", "any", "uni", "ballot", NULL};
    if (!mod(s, "sync")) ptx_fail(p, s->line, "vote without .sync does not exist on sm_70 and later");
    int mode = mod_of(s, modes);
    if (mode < 0 || mod_type(p, s) != (mode == BALLOT ? T_B32 : T_PRED))
        ptx_fail(p, s->line, "vote.sync.{all,any,uni}.pred or .ballot.b32 is meant");
    operands_are(p, s, 3, 3);
    Opnd d = dest(p, s, &s->operands[0], mode == BALLOT ? T_B32 : T_PRED, false);
    Opnd a[2] = {predicate(p, s, &s->operands[1]), source(p, s, &s->operands[2], T_U32)};
    Ins *i = new_ins(p, s);
    sync_ins(i, act_vote);
    i->op = (u8)mode;
    set_dests(p, i, &d, 1);
    set_sources(p, i, a, 2);
}

/* ---- match ---- */
static void act_match(Warp *w, const Ins *i, u32 mask) {
    u32 poison = src_poison(w, &i->s[0]) & mask ? FULL : 0;
    u64 first = src_lane(w, &i->s[0], __builtin_ctz(mask));
    bool all = true;
    u32 same[LANES];
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u64 v = src_lane(w, &i->s[0], l);
        all &= v == first;
        same[l] = 0;
        for (u32 n = mask; n; n &= n - 1)
            if (src_lane(w, &i->s[0], __builtin_ctz(n)) == v) same[l] |= n & -n;
    }
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        set_lane(w, &i->d[0], l, i->op == ALL ? (all ? mask : 0) : same[l], poison);
    }
    if (i->nd > 1) set_pred(w, &i->d[1], mask, all ? FULL : 0, poison);
}
static void decode_match(Parser *p, Stmt *s) {
    static const char *const modes[] = {"all", "any", NULL};
    int mode = mod_of(s, modes);
    Type t = mod(s, "sync") && mode >= 0 ? mod_type(p, s) : T_NONE;
    if (t != T_B32 && t != T_B64) ptx_fail(p, s->line, "match.{all,any}.sync.{b32,b64} is meant");
    operands_are(p, s, 3, 3);
    Opnd d[2], a[2] = {source(p, s, &s->operands[1], t), source(p, s, &s->operands[2], T_U32)};
    d[0] = dest(p, s, &s->operands[0], T_B32, false);
    if (s->operands[0].pair && mode == ANY) ptx_fail(p, s->line, "match.any has no predicate");
    if (s->operands[0].pair) d[1] = dest(p, s, s->operands[0].pair, T_PRED, false);
    Ins *i = new_ins(p, s);
    sync_ins(i, act_match);
    i->op = (u8)mode;
    set_dests(p, i, d, s->operands[0].pair ? 2 : 1);
    set_sources(p, i, a, 2);
}

/* ---- redux, elect ---- */
enum { R_ADD, R_MIN, R_MAX, R_AND, R_OR, R_XOR };
static void act_redux(Warp *w, const Ins *i, u32 mask) {
    u32 r = (u32)src_lane(w, &i->s[0], __builtin_ctz(mask)), poison = src_poison(w, &i->s[0]) & mask;
    for (u32 m = mask & (mask - 1); m; m &= m - 1) {
        u32 v = (u32)src_lane(w, &i->s[0], __builtin_ctz(m));
        bool less = i->type == T_S32 ? (i32)v < (i32)r : v < r;
        r = i->op == R_ADD   ? r + v
            : i->op == R_MIN ? (less ? v : r)
            : i->op == R_MAX ? (less ? r : v)
            : i->op == R_AND ? r & v
            : i->op == R_OR  ? r | v
                             : r ^ v;
    }
    for (u32 m = mask; m; m &= m - 1) set_lane(w, i->d, __builtin_ctz(m), r, poison);
}
static void decode_redux(Parser *p, Stmt *s) {
    static const char *const ops[] = {"add", "min", "max", "and", "or", "xor", NULL};
    if (!mod(s, "sync")) ptx_fail(p, s->line, "redux.sync is meant");
    int op = mod_of(s, ops);
    Type t = mod_type(p, s);
    if (op < 0 || (op >= R_AND ? t != T_B32 : t != T_U32 && t != T_S32))
        ptx_fail(p, s->line, "this form of redux is not known");
    operands_are(p, s, 3, 3);
    Opnd d = dest(p, s, &s->operands[0], t, false),
         a[2] = {source(p, s, &s->operands[1], t), source(p, s, &s->operands[2], T_U32)};
    Ins *i = new_ins(p, s);
    sync_ins(i, act_redux);
    i->op = (u8)op;
    i->type = (u8)t;
    set_dests(p, i, &d, 1);
    set_sources(p, i, a, 2);
}

static void act_elect(Warp *w, const Ins *i, u32 mask) {
    u32 leader = (u32)__builtin_ctz(mask);
    for (u32 m = mask; m; m &= m - 1) set_lane(w, &i->d[0], __builtin_ctz(m), leader, false);
    set_pred(w, &i->d[1], mask, 1u << leader, 0);
}
static void decode_elect(Parser *p, Stmt *s) {
    if (!mod(s, "sync") || s->noperands != 2 || !s->operands[0].pair)
        ptx_fail(p, s->line, "elect.sync d|p, membermask is meant");
    Opnd d[2] = {dest(p, s, &s->operands[0], T_B32, false), dest(p, s, s->operands[0].pair, T_PRED, false)};
    Opnd a = source(p, s, &s->operands[1], T_U32);
    Ins *i = new_ins(p, s);
    sync_ins(i, act_elect);
    set_dests(p, i, d, 2);
    set_sources(p, i, &a, 1);
}

const Special decoders_warp[] = {{"shfl", decode_shfl},   {"vote", decode_vote},   {"match", decode_match},
                                 {"redux", decode_redux}, {"elect", decode_elect}, {0}};
