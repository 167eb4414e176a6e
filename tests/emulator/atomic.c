/* atom and red. The lanes of a warp take their turns from a random one on. */
#include "ptx.h"
#include "warp.h"
#include "real.h"
#include <string.h>

enum { A_ADD, A_AND, A_OR, A_XOR, A_EXCH, A_CAS, A_INC, A_DEC, A_MIN, A_MAX };
static const char *const op_words[] = {"add", "and", "or",  "xor", "exch", "cas",
                                       "inc", "dec", "min", "max", NULL};

static u64 add(u64 x, u64 b, Type t) {
    switch (t) {
    case T_F32:
        return float_to_bits(canon(bits_to_float((u32)x) + bits_to_float((u32)b)));
    case T_F64:
        return double_to_bits(bits_to_double(x) + bits_to_double(b));
    case T_F16:
        return double_to_f16(f16_to_double((u32)x) + f16_to_double((u32)b));
    case T_BF16:
        return narrow((double)bf16_to_float((u16)x) + (double)bf16_to_float((u16)b), &bf16_format, R_RN,
                      false);
    case T_F16X2:
        return add(x & 0xffff, b & 0xffff, T_F16) | add(x >> 16 & 0xffff, b >> 16 & 0xffff, T_F16) << 16;
    case T_BF16X2:
        return add(x & 0xffff, b & 0xffff, T_BF16) | add(x >> 16 & 0xffff, b >> 16 & 0xffff, T_BF16) << 16;
    default:
        return x + b;
    }
}
static bool less(u64 a, u64 b, Type t) {
    switch (t) {
    case T_S32:
        return (i32)a < (i32)b;
    case T_S64:
        return (i64)a < (i64)b;
    case T_U32:
        return (u32)a < (u32)b;
    default:
        return a < b;
    }
}
/* "atom.add.f32 on global memory flushes subnormal inputs and results", that on shared memory does not. */
static u64 add_flushed(u64 x, u64 b) {
    float f = flush(bits_to_float((u32)x)) + flush(bits_to_float((u32)b));
    return float_to_bits(flush(canon(f)));
}
static u64 update(const Ins *i, u64 x, u64 b, u64 c, bool global) {
    Type t = (Type)i->type;
    switch (i->op) {
    case A_ADD:
        return global && t == T_F32 ? add_flushed(x, b) : add(x, b, t);
    case A_AND:
        return x & b;
    case A_OR:
        return x | b;
    case A_XOR:
        return x ^ b;
    case A_EXCH:
        return b;
    case A_CAS:
        return x == b ? c : x;
    case A_INC:
        return x >= b ? 0 : x + 1;
    case A_DEC:
        return x == 0 || x > b ? b : x - 1;
    case A_MIN:
        return less(b, x, t) ? b : x;
    default:
        return less(x, b, t) ? b : x;
    }
}

static void exec_atom(Warp *w, const Ins *i, u32 mask) {
    const Opnd *o = i->s;
    u32 bad = src_poison(w, o) & mask;
    if (bad) suspect(w, i, __builtin_ctz(bad), "the address depends on a value that was never written");
    w->now = NULL;
    if (i->strength >= RELEASE) sync_fence(w, true);
    sync_strong(w, ATOMIC);
    u32 first = settings.seed ? (u32)random_next(&w->block->launch->rng) % LANES : 0;
    for (u32 k = 0; k < LANES; k++) {
        int l = (int)((first + k) % LANES);
        if (!(mask >> l & 1)) continue;
        u64 at = src_lane(w, o, l) + (u64)i->imm, offset;
        bool global = i->space == S_GLOBAL || (i->space == S_GENERIC && window_of(at, &offset) == S_GLOBAL);
        u8 *state, *data = touch(w, i, l, (Space)i->space, at, i->size, ATOMIC, true, &state);
        u64 x = 0, b = src_lane(w, &i->s[1], l), c = i->ns > 2 ? src_lane(w, &i->s[2], l) : 0;
        if (i->size < 8) b &= (1ull << i->size * 8) - 1, c &= (1ull << i->size * 8) - 1;
        memcpy(&x, data, i->size);
        bool poison = (src_poison(w, &i->s[1]) | (i->ns > 2 ? src_poison(w, &i->s[2]) : 0)) >> l & 1,
             old = false;
        for (u32 n = 0; n < i->size; n++) old |= !(state[n] & ST_INIT);
        if (poison) suspect(w, i, l, "an atomic operand that was never written");
        if (old && i->op != A_EXCH) suspect(w, i, l, "an atomic operation on memory that was never written");
        u64 r = update(i, x, b, c, global);
        memcpy(data, &r, i->size);
        for (u32 n = 0; n < i->size; n++) state[n] |= ST_INIT;
        if (i->nd) set_lane(w, i->d, l, x, old);
    }
}

static bool known(int op, Type t) {
    switch (op) {
    case A_ADD:
        return t == T_U32 || t == T_S32 || t == T_U64 ||
               (type_float(t) && type_size(t) >= 2 && t != T_TF32 && t < T_E4M3);
    case A_AND:
    case A_OR:
    case A_XOR:
        return t == T_B32 || t == T_B64;
    case A_EXCH:
        return t == T_B32 || t == T_B64;
    case A_CAS:
        return t == T_B16 || t == T_B32 || t == T_B64;
    case A_INC:
    case A_DEC:
        return t == T_U32;
    default:
        return t == T_U32 || t == T_S32 || t == T_U64 || t == T_S64;
    }
}

static void decode_atom(Parser *p, Stmt *s) {
    static const char *const sems[] = {"relaxed", "acquire", "release", "acq_rel", NULL}, *const scopes[] = {
                                                                                              "cta",
                                                                                              "cluster",
                                                                                              "gpu", "sys",
                                                                                              NULL};
    static const u8 strengths[] = {RELAXED, ACQUIRE, RELEASE, ACQ_REL};
    bool red = !strcmp(s->op, "red");
    int sem = mod_of(s, sems);
    mod_of(s, scopes);
    if (red && (sem == 1 || sem == 3)) ptx_fail(p, s->line, "red is .relaxed or .release");
    Space space = mod_space(s, S_GENERIC);
    if (space == S_CONST || space == S_LOCAL || space == S_PARAM)
        ptx_fail(p, s->line, "'%s' of this state space", s->op);
    int op = mod_of(s, op_words);
    bool noftz = mod(s, "noftz"), policy = mod(s, "L2::cache_hint");
    Type t = mod_type(p, s);
    if (op < 0 || !known(op, t) || (red && (op == A_EXCH || op == A_CAS)))
        ptx_fail(p, s->line, "'%s%s%s.%s' does not exist", s->op, op < 0 ? "" : ".",
                 op < 0 ? "" : op_words[op], type_name(t));
    bool half = type_float(t) && t != T_F32 && t != T_F64;
    if (half != noftz) ptx_fail(p, s->line, ".noftz belongs to the additions of halves");
    u32 n = (red ? 2 : 3) + (op == A_CAS) + policy, at = !red;
    operands_are(p, s, n, n);
    i64 displacement;
    Opnd d = {0}, a[3];
    if (!red) d = dest(p, s, &s->operands[0], t, false);
    a[0] = address(p, s, &s->operands[at], &space, &displacement);
    a[1] = source(p, s, &s->operands[at + 1], t);
    if (op == A_CAS) a[2] = source(p, s, &s->operands[at + 2], t);
    Ins *i = new_ins(p, s);
    i->exec = exec_atom;
    i->op = (u8)op;
    i->type = (u8)t;
    i->size = (u8)type_size(t);
    i->vec = 1;
    i->space = (u8)space;
    i->strength = sem < 0 ? RELAXED : strengths[sem];
    i->imm = displacement;
    set_dests(p, i, &d, !red && !d.sink);
    set_sources(p, i, a, op == A_CAS ? 3 : 2);
}

const Special decoders_atomic[] = {{"atom", decode_atom}, {"red", decode_atom}, {0}};
