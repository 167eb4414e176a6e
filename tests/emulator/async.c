/* cp.async: the data arrive as late as they may, at the wait. And mbarrier. */
#include "ptx.h"
#include "warp.h"
#include <stdlib.h>
#include <string.h>

/* ---- cp.async ---- */
static void exec_copy(Warp *w, const Ins *i, u32 mask) {
    w->now = NULL;
    for (int k = 0; k < i->ns; k++) {
        u32 bad = src_poison(w, &i->s[k]) & mask;
        if (bad) suspect(w, i, __builtin_ctz(bad), "an operand depends on a value that was never written");
    }
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u64 dst = src_lane(w, &i->s[0], l) + (u64)i->imm,
            from = src_lane(w, &i->s[1], l) + (u64) * (const i64 *)i->targets, offset = dst;
        u32 size = i->size, copied = size;
        if (i->op == 1) copied = (u32)src_lane(w, &i->s[2], l);
        if (i->op == 2 && src_pred(w, &i->s[2]) >> l & 1) copied = 0; /* ignore-src */
        if (copied > size)
            fault(w, i, l, ERR_ILLEGAL_INSTRUCTION, "cp.async: src-size %u is more than cp-size %u", copied,
                  size);
        if (i->space == S_GENERIC && window_of(dst, &offset) != S_SHARED)
            fault(w, i, l, ERR_ADDRESS_SPACE, "cp.async to an address that is not shared");
        u8 *state;
        touch(w, i, l, S_SHARED, offset, size, START_COPY, false, &state);
        for (u32 k = 0; k < size; k++) state[k] |= ST_FLIGHT;
        if (from & (size - 1))
            fault(w, i, l, ERR_MISALIGNED, "misaligned cp.async of %u bytes from 0x%llx", size,
                  (unsigned long long)from);
        for (u32 k = 0; k < copied;) {
            u32 part = copied - k >= 4 ? 4 : 1;
            touch(w, i, l, S_GLOBAL, from + k, part, READ, false, &state);
            k += part;
        }
        if (w->ncopies == w->copies_cap) {
            w->copies_cap = w->copies_cap ? 2 * w->copies_cap : 256;
            if (!(w->copies = realloc(w->copies, w->copies_cap * sizeof *w->copies))) abort();
        }
        w->copies[w->ncopies++] = (Copy){(u32)l, (u32)offset, size, copied, w->group[l], from, i->line};
    }
}

static void arrive(Warp *w, const Ins *i, const Copy *c) {
    Block *b = w->block;
    for (u32 k = 0; k < c->size; k++) b->shared_state[c->dst + k] &= (u8)~ST_FLIGHT;
    u8 *state, *dst = touch(w, i, (int)c->lane, S_SHARED, c->dst, c->size, WRITE, false, &state);
    memset(dst, 0, c->size);
    memset(state, ST_MAPPED | ST_INIT, c->size);
    for (u32 k = 0; k < c->copied; k++) {
        u8 *old, *from = touch(w, i, (int)c->lane, S_GLOBAL, c->src + k, 1, READ, false, &old);
        dst[k] = *from;
        if (!(*old & ST_INIT)) state[k] = ST_MAPPED;
    }
}

/* The copies of these lanes that are in their group `before` or an earlier one. */
static void complete(Warp *w, const Ins *i, u32 mask, const u32 *before) {
    u32 kept = 0;
    w->now = NULL;
    for (u32 k = 0; k < w->ncopies; k++) {
        Copy c = w->copies[k];
        if (mask >> c.lane & 1 && c.group < before[c.lane])
            arrive(w, i, &c);
        else
            w->copies[kept++] = c;
    }
    w->ncopies = kept;
}

static void exec_commit(Warp *w, const Ins *i, u32 mask) {
    (void)i;
    for (u32 m = mask; m; m &= m - 1) w->group[__builtin_ctz(m)]++;
}

static void exec_wait(Warp *w, const Ins *i, u32 mask) {
    u32 before[LANES];
    for (int l = 0; l < LANES; l++)
        before[l] = i->op ? FULL : w->group[l] > (u32)i->imm ? w->group[l] - (u32)i->imm : 0;
    complete(w, i, mask, before);
}

static void decode_mbarrier_arrive_copies(Parser *p, Stmt *s);

static void decode_copy(Parser *p, Stmt *s) {
    static const char *const hints[] = {"L2::64B", "L2::128B", "L2::256B", NULL};
    if (!mod(s, "async")) ptx_fail(p, s->line, "'cp' of this kind is not supported");
    if (mod(s, "commit_group") || mod(s, "wait_all")) {
        operands_are(p, s, 0, 0);
        Ins *i = new_ins(p, s);
        i->op = !strcmp(s->mods[1], "wait_all");
        i->exec = i->op ? exec_wait : exec_commit;
        return;
    }
    if (mod(s, "wait_group")) {
        operands_are(p, s, 1, 1);
        i64 n = integer(p, s, &s->operands[0]);
        Ins *i = new_ins(p, s);
        i->exec = exec_wait;
        i->imm = n;
        return;
    }
    if (mod(s, "mbarrier")) {
        decode_mbarrier_arrive_copies(p, s);
        return;
    }
    bool cg = mod(s, "cg"), ca = mod(s, "ca"), policy = mod(s, "L2::cache_hint");
    mod_of(s, hints);
    if (cg == ca || !(mod(s, "shared") || mod(s, "shared::cta")) || !mod(s, "global"))
        ptx_fail(p, s->line, "cp.async.{ca,cg}.shared.global is meant");
    operands_are(p, s, 3 + policy, 4 + policy);
    Space to = S_SHARED, from = S_GLOBAL;
    i64 to_at, *from_at = pool_alloc(&p->m->pool, sizeof *from_at), size = integer(p, s, &s->operands[2]);
    if (size != 16 && (cg || (size != 4 && size != 8)))
        ptx_fail(p, s->line, "cp.async of %lld bytes", (long long)size);
    Opnd a[3] = {address(p, s, &s->operands[0], &to, &to_at), address(p, s, &s->operands[1], &from, from_at)};
    u8 op = 0;
    if (s->noperands == 4u + policy) {
        const Operand *o = &s->operands[3];
        bool pred = o->kind == O_NAME && o->sym && o->sym->kind == Y_REG && o->sym->reg.type == T_PRED;
        a[2] = pred ? predicate(p, s, o) : source(p, s, o, T_U32);
        op = pred ? 2 : 1;
    }
    Ins *i = new_ins(p, s);
    i->exec = exec_copy;
    i->op = op;
    i->size = (u8)size;
    i->space = S_SHARED;
    i->imm = to_at;
    i->targets = (const u32 *)from_at;
    set_sources(p, i, a, op ? 3 : 2);
}

/* ---- mbarrier: 8 bytes of shared memory, 20 bits pending arrivals, 20 bits expected ones, the phase ---- */
enum { COUNT_BITS = 20 };
#define COUNT_MASK ((1ull << COUNT_BITS) - 1)
enum { M_INIT, M_INVAL, M_ARRIVE, M_DROP, M_WAIT };

static u64 get(const u8 *p) {
    u64 v;
    memcpy(&v, p, 8);
    return v;
}
static u64 arrived(u64 v, u64 n) {
    u64 pending = v & COUNT_MASK, expected = v >> COUNT_BITS & COUNT_MASK, phase = v >> 40;
    pending -= n;
    if (!pending) pending = expected, phase++;
    return pending | expected << COUNT_BITS | phase << 40;
}

static void exec_mbarrier(Warp *w, const Ins *i, u32 mask) {
    w->now = NULL;
    for (u32 m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        u64 at = src_lane(w, &i->s[0], l) + (u64)i->imm, offset = at;
        if (i->space == S_GENERIC && window_of(at, &offset) != S_SHARED)
            fault(w, i, l, ERR_ADDRESS_SPACE, "an mbarrier that is not in shared memory");
        bool begin = i->op == M_INIT || i->op == M_INVAL;
        u8 *state, *data = touch(w, i, l, S_SHARED, offset, 8, begin ? WRITE : ATOMIC, !begin, &state);
        if (i->op != M_INIT && !(state[0] & ST_INIT))
            fault(w, i, l, ERR_LAUNCH_FAILED, "an mbarrier that was not initialised");
        u64 v = get(data), n = i->ns > 1 ? src_lane(w, &i->s[1], l) : 1;
        if (i->op == M_INIT) {
            if (!n || n > COUNT_MASK)
                fault(w, i, l, ERR_ILLEGAL_INSTRUCTION, "an mbarrier of %llu arrivals",
                      (unsigned long long)n);
            v = n | n << COUNT_BITS;
        } else if (i->op == M_INVAL)
            v = 0;
        else if (i->op == M_WAIT) {
            bool done = i->bits ? ((v >> 40) & 1) != (n & 1) : (v >> 40) != (n >> 40);
            if (done) sync_strong(w, READ);
            set_pred(w, i->d, 1u << l, done ? FULL : 0, 0);
            if (!done) w->stop = true, w->resume_min = 2;
            continue;
        } else {
            if (n > (v & COUNT_MASK))
                fault(w, i, l, ERR_LAUNCH_FAILED, "an mbarrier gets more arrivals than it expects");
            if (i->size) {
                u32 all[LANES];
                memset(all, 0xff, sizeof all);
                complete(w, i, 1u << l, all);
            }
            sync_fence(w, false);
            sync_strong(w, ATOMIC);
            if (i->nd) set_lane(w, i->d, l, v, false);
            if (i->op == M_DROP) v -= n << COUNT_BITS;
            if (!i->bits) v = arrived(v, n);
        }
        memcpy(data, &v, 8);
        memset(state, i->op == M_INVAL ? ST_MAPPED : ST_MAPPED | ST_INIT, 8);
    }
}

static Ins *mbarrier(Parser *p, Stmt *s, int op, const Operand *d, Type dt, const Operand *at,
                     const Operand *n, Type nt) {
    Space space = mod_space(s, S_GENERIC);
    if (!mod(s, "b64")) ptx_fail(p, s->line, "'%s' lacks .b64", s->op);
    Opnd to = {0}, a[2];
    i64 displacement;
    if (d) to = dest(p, s, d, dt, false);
    a[0] = address(p, s, at, &space, &displacement);
    if (space != S_SHARED && space != S_GENERIC) ptx_fail(p, s->line, "an mbarrier lies in shared memory");
    if (n) a[1] = source(p, s, n, nt);
    Ins *i = new_ins(p, s);
    i->exec = exec_mbarrier;
    i->op = (u8)op;
    i->space = (u8)space;
    i->imm = displacement;
    set_dests(p, i, &to, d && !to.sink);
    set_sources(p, i, a, n ? 2 : 1);
    return i;
}

static void decode_mbarrier_arrive_copies(Parser *p, Stmt *s) {
    if (!mod(s, "arrive")) ptx_fail(p, s->line, "cp.async.mbarrier.arrive is meant");
    bool noinc = mod(s, "noinc");
    operands_are(p, s, 1, 1);
    Ins *i = mbarrier(p, s, M_ARRIVE, NULL, T_NONE, &s->operands[0], NULL, T_NONE);
    i->size = 1;
    i->bits = !noinc; /* one more is expected and arrives at once */
}

static void decode_mbarrier(Parser *p, Stmt *s) {
    static const char *const ops[] = {"init",      "inval",    "arrive", "arrive_drop",
                                      "test_wait", "try_wait", NULL};
    static const char *const sems[] = {"release", "acquire", "relaxed", NULL};
    int op = mod_of(s, ops);
    mod_of(s, sems);
    mod(s, "cta");
    const Operand *o = s->operands;
    switch (op) {
    case 0:
        operands_are(p, s, 2, 2);
        mbarrier(p, s, M_INIT, NULL, T_NONE, &o[0], &o[1], T_U32);
        return;
    case 1:
        operands_are(p, s, 1, 1);
        mbarrier(p, s, M_INVAL, NULL, T_NONE, &o[0], NULL, T_NONE);
        return;
    case 2:
    case 3:
        operands_are(p, s, 2, 3);
        mod(s, "noComplete"); /* a promise: this arrival does not end the phase */
        mbarrier(p, s, op == 2 ? M_ARRIVE : M_DROP, &o[0], T_B64, &o[1], s->noperands > 2 ? &o[2] : NULL,
                 T_U32);
        return;
    case 4:
    case 5: {
        bool parity = mod(s, "parity");
        operands_are(p, s, 3, op == 5 ? 4 : 3);
        mbarrier(p, s, M_WAIT, &o[0], T_PRED, &o[1], &o[2], parity ? T_U32 : T_B64)->bits = parity;
        return;
    }
    default:
        if (mod(s, "pending_count") && decode_alu(p, s)) return;
        ptx_fail(p, s->line, "this form of mbarrier is not supported");
    }
}

const Special decoders_async[] = {{"cp", decode_copy}, {"mbarrier", decode_mbarrier}, {0}};
