/* ldmatrix, stmatrix, mma.sync. Fragments as in PTX ISA 9.7.14: lane l is in group g = l / 4, thread t = l %
 * 4 of it. With E elements a register, register i of A holds row g + 8*(i%2), columns 4E*(i/2) + E*t + e; of
 * B row 4E*i + E*t + e, column g; of the accumulators row g + 8*(i/2), column 2*t + i%2. */
#include "ptx.h"
#include "warp.h"
#include "real.h"
#include <math.h>
#include <string.h>

/* ---- ldmatrix ---- */
static void act_ldmatrix(Warp *w, const Ins *i, u32 mask) {
    if (mask != FULL)
        fault(w, i, __builtin_ctz(mask), ERR_LAUNCH_FAILED, "ldmatrix by a warp of which lanes have exited");
    u16 rows[4][8][8];
    u8 clean[4][8][8];
    w->now = NULL;
    for (int l = 0; l < 8 * i->vec; l++) {
        if (src_poison(w, i->s) >> l & 1)
            suspect(w, i, l, "the address depends on a value that was never written");
        u64 a = src_lane(w, i->s, l) + (u64)i->imm, offset = a;
        if (i->space == S_GENERIC && window_of(a, &offset) != S_SHARED)
            fault(w, i, l, ERR_ADDRESS_SPACE, "ldmatrix from an address that is not shared");
        u8 *state, *data = touch(w, i, l, S_SHARED, offset, 16, READ, false, &state);
        memcpy(rows[l / 8][l % 8], data, 16);
        for (int k = 0; k < 8; k++) clean[l / 8][l % 8][k] = state[2 * k] & state[2 * k + 1] & ST_INIT;
    }
    for (int r = 0; r < i->vec; r++)
        for (int l = 0; l < LANES; l++) {
            int g = l / 4, t = 2 * (l % 4);
            u16(*m)[8] = rows[r];
            u8(*c)[8] = clean[r];
            u32 v = i->op ? m[t][g] | (u32)m[t + 1][g] << 16 : m[g][t] | (u32)m[g][t + 1] << 16;
            set_lane(w, &i->d[r], l, v, !(i->op ? c[t][g] && c[t + 1][g] : c[g][t] && c[g][t + 1]));
        }
}

static void act_stmatrix(Warp *w, const Ins *i, u32 mask) {
    if (mask != FULL)
        fault(w, i, __builtin_ctz(mask), ERR_LAUNCH_FAILED, "stmatrix by a warp of which lanes have exited");
    w->now = NULL;
    for (int l = 0; l < 8 * i->vec; l++) {
        u64 a = src_lane(w, i->s, l) + (u64)i->imm, offset = a;
        if (i->space == S_GENERIC && window_of(a, &offset) != S_SHARED)
            fault(w, i, l, ERR_ADDRESS_SPACE, "stmatrix to an address that is not shared");
        u8 *state, *data = touch(w, i, l, S_SHARED, offset, 16, WRITE, false, &state);
        for (int k = 0; k < 8; k++) { /* element k of row l % 8 */
            int row = l % 8, lane = i->op ? k * 4 + row / 2 : row * 4 + k / 2, half = i->op ? row % 2 : k % 2;
            u32 v = (u32)src_lane(w, &i->s[1 + l / 8], lane);
            u16 h = (u16)(v >> 16 * half);
            memcpy(data + 2 * k, &h, 2);
            bool poison = src_poison(w, &i->s[1 + l / 8]) >> lane & 1;
            memset(state + 2 * k, poison ? ST_MAPPED : ST_MAPPED | ST_INIT, 2);
        }
    }
}

static void decode_ldmatrix(Parser *p, Stmt *s) {
    bool store = s->op[0] == 's';
    if (!mod(s, "sync") || !mod(s, "aligned") || !mod(s, "m8n8"))
        ptx_fail(p, s->line, "'%s.sync.aligned.m8n8' is meant", s->op);
    u32 n = mod(s, "x1") ? 1 : mod(s, "x2") ? 2 : mod(s, "x4") ? 4 : 0;
    bool trans = mod(s, "trans");
    Space space = mod_space(s, S_GENERIC);
    if (!n || !mod(s, "b16") || (space != S_SHARED && space != S_GENERIC))
        ptx_fail(p, s->line, "this form of %s is not supported", s->op);
    operands_are(p, s, 2, 2);
    Opnd all[5];
    i64 displacement;
    Operand *items;
    const Operand *value = &s->operands[store];
    all[0] = address(p, s, &s->operands[!store], &space, &displacement);
    if (vector_of(p, s, value, &items) != n)
        ptx_fail(p, s->line, "'%s' with .x%u moves %u registers", s->op, n, n);
    for (u32 k = 0; k < n; k++)
        all[1 + k] = store ? source(p, s, &items[k], T_B32) : dest(p, s, &items[k], T_B32, false);
    Ins *i = new_ins(p, s);
    i->exec = exec_sync;
    i->act = store ? act_stmatrix : act_ldmatrix;
    i->aligned = true;
    i->vec = (u8)n;
    i->op = trans;
    i->space = (u8)space;
    i->size = 16;
    i->imm = displacement;
    if (store)
        set_sources(p, i, all, n + 1);
    else
        set_sources(p, i, all, 1), set_dests(p, i, all + 1, n);
}

/* ---- movmatrix ---- */
static void act_movmatrix(Warp *w, const Ins *i, u32 mask) {
    if (mask != FULL)
        fault(w, i, __builtin_ctz(mask), ERR_LAUNCH_FAILED, "movmatrix by a warp of which lanes have exited");
    u32 from[LANES], poison = src_poison(w, i->s);
    memcpy(from, src(w, i->s), sizeof from);
    for (u32 l = 0; l < LANES; l++) {
        u32 row = l / 4, v = 0, bad = 0;
        for (u32 e = 0; e < 2; e++) { /* element (row, column) is what was at (column, row) */
            u32 column = 2 * (l % 4) + e, lane = 4 * column + row / 2;
            v |= (from[lane] >> 16 * (row % 2) & 0xffff) << 16 * e;
            bad |= poison >> lane & 1;
        }
        set_lane(w, i->d, (int)l, v, bad);
    }
}

static void decode_movmatrix(Parser *p, Stmt *s) {
    if (!mod(s, "sync") || !mod(s, "aligned") || !mod(s, "m8n8") || !mod(s, "trans") || !mod(s, "b16"))
        ptx_fail(p, s->line, "movmatrix.sync.aligned.m8n8.trans.b16 is meant");
    operands_are(p, s, 2, 2);
    Opnd d = dest(p, s, &s->operands[0], T_B32, false), a = source(p, s, &s->operands[1], T_B32);
    Ins *i = new_ins(p, s);
    i->exec = exec_sync;
    i->act = act_movmatrix;
    i->aligned = true;
    set_dests(p, i, &d, 1);
    set_sources(p, i, &a, 1);
}

/* ---- mma: single bits are taken as words of 32, whose products are counted ---- */
typedef struct Shape {
    const char *name;
    u16 m, n, k;
} Shape;
static const Shape shapes[] = {{"m16n8k4", 16, 8, 4},     {"m16n8k8", 16, 8, 8},    {"m16n8k16", 16, 8, 16},
                               {"m16n8k32", 16, 8, 32},   {"m16n8k64", 16, 8, 64},  {"m8n8k4", 8, 8, 4},
                               {"m8n8k16", 8, 8, 16},     {"m8n8k32", 8, 8, 32},    {"m8n8k128", 8, 8, 128},
                               {"m16n8k128", 16, 8, 128}, {"m16n8k256", 16, 8, 256}};
enum { MAX_K = 64 };
typedef struct Tiles {
    double a[16][MAX_K], b[MAX_K][8], c[16][8]; /* f64 */
    float fa[16][MAX_K], fb[MAX_K][8], fc[16][8];
    i32 ia[16][MAX_K], ib[MAX_K][8], ic[16][8];
    u32 bad_rows, bad_columns;
    bool bad_c[16][8];
} Tiles;

static u32 elements(Type t) { /* a register */
    switch (t) {
    case T_B1:
    case T_F64:
    case T_TF32:
    case T_F32:
        return 1;
    case T_F16:
    case T_BF16:
        return 2;
    case T_S8:
    case T_U8:
    case T_E4M3:
    case T_E5M2:
        return 4;
    default:
        return 8;
    }
}

static float float_element(u64 v, u32 e, Type t) {
    switch (t) {
    case T_F16:
        return (float)f16_to_double((u32)(v >> 16 * e));
    case T_BF16:
        return bf16_to_float((u32)(v >> 16 * e) & 0xffff);
    case T_E4M3:
        return (float)widen(v >> 8 * e & 0xff, &e4m3_format);
    case T_E5M2:
        return (float)widen(v >> 8 * e & 0xff, &e5m2_format);
    default:
        return bits_to_float((u32)v & 0xffffe000u); /* tf32: the low bits are not looked at */
    }
}
static i32 int_element(u64 v, u32 e, Type t) {
    switch (t) {
    case T_B1:
        return (i32)v;
    case T_S8:
        return (int8_t)(v >> 8 * e);
    case T_U8:
        return (u8)(v >> 8 * e);
    case T_S4:
        return (i32)((u32)(v >> 4 * e) << 28) >> 28;
    default:
        return (i32)(v >> 4 * e & 15);
    }
}

/* The registers o of A or B (is_a), element by element; inlined, so that the types are constants where it
 * matters. */
static inline __attribute__((always_inline)) u32 gather(Warp *w, const Opnd *o, u32 n, Type t, bool is_a,
                                                        bool tall, Tiles *x) {
    u32 E = elements(t), bad = 0;
    for (u32 r = 0; r < n; r++) {
        u32 poison = src_poison(w, &o[r]), base = 4 * E * (tall ? r / 2 : r), below = tall ? 8 * (r % 2) : 0;
        const void *values = src(w, &o[r]);
        for (u32 l = 0; l < LANES; l++) {
            u32 row = l / 4 + below, at = base + E * (l % 4);
            u64 v = t == T_F64 ? ((const u64 *)values)[l] : ((const u32 *)values)[l];
            for (u32 e = 0; e < E; e++) {
                if (t == T_F64)
                    *(is_a ? &x->a[row][at + e] : &x->b[at + e][row]) = bits_to_double(v);
                else if (type_float(t))
                    *(is_a ? &x->fa[row][at + e] : &x->fb[at + e][row]) = float_element(v, e, t);
                else
                    *(is_a ? &x->ia[row][at + e] : &x->ib[at + e][row]) = int_element(v, e, t);
            }
            if (poison >> l & 1) bad |= 1u << row;
        }
    }
    return bad;
}
static void gather_inputs(Warp *w, const Ins *i, const Shape *sh, Tiles *x, u32 na, u32 nb) {
    Type ta = (Type)i->type, tb = (Type)i->type2;
    bool tall = sh->m == 16;
    if (ta == T_BF16 && tall) {
        x->bad_rows = gather(w, i->s, na, T_BF16, true, true, x);
        x->bad_columns = gather(w, i->s + na, nb, T_BF16, false, false, x);
    } else if (ta == T_S8 && tb == T_S8 && tall) {
        x->bad_rows = gather(w, i->s, na, T_S8, true, true, x);
        x->bad_columns = gather(w, i->s + na, nb, T_S8, false, false, x);
    } else {
        x->bad_rows = gather(w, i->s, na, ta, true, tall, x);
        x->bad_columns = gather(w, i->s + na, nb, tb, false, false, x);
    }
}

/* Where element e of accumulator register r of lane l lies. */
static void accumulator_at(u32 r, u32 e, u32 per, u32 l, u32 *row, u32 *column) {
    u32 k = r * per + e;
    *row = l / 4 + 8 * (k / 2);
    *column = 2 * (l % 4) + k % 2;
}

static void gather_c(Warp *w, const Ins *i, Tiles *x, const Opnd *c, u32 n, Type t) {
    u32 per = t == T_F16 ? 2 : 1;
    for (u32 r = 0; r < n; r++)
        for (u32 l = 0; l < LANES; l++)
            for (u32 e = 0; e < per; e++) {
                u32 row, column;
                accumulator_at(r, e, per, l, &row, &column);
                u64 v = src_lane(w, &c[r], (int)l);
                if (t == T_F64)
                    x->c[row][column] = bits_to_double(v);
                else if (t == T_S32)
                    x->ic[row][column] = (i32)v;
                else
                    x->fc[row][column] =
                        t == T_F16 ? (float)f16_to_double((u32)(v >> 16 * e)) : bits_to_float((u32)v);
                x->bad_c[row][column] = src_poison(w, &c[r]) >> l & 1;
            }
    (void)i;
}

static void scatter_d(Warp *w, const Ins *i, const Tiles *x, u32 n, Type t) {
    u32 per = t == T_F16 ? 2 : 1;
    for (u32 r = 0; r < n; r++)
        for (u32 l = 0; l < LANES; l++) {
            u64 v = 0;
            bool bad = false;
            for (u32 e = 0; e < per; e++) {
                u32 row, column;
                accumulator_at(r, e, per, l, &row, &column);
                bad |= x->bad_c[row][column] || x->bad_rows >> row & 1 || x->bad_columns >> column & 1;
                if (t == T_F64)
                    v = double_to_bits(x->c[row][column]);
                else if (t == T_S32)
                    v = (u32)x->ic[row][column];
                else if (t == T_F32)
                    v = float_to_bits(canon(x->fc[row][column]));
                else
                    v |= (u64)double_to_f16(x->fc[row][column]) << 16 * e;
            }
            set_lane(w, &i->d[r], (int)l, v, bad);
        }
}

static inline void multiply_row(float *sum, float a, const float *b) { /* one vector instruction */
    _Pragma("GCC unroll 1") for (u32 c = 0; c < 8; c++) sum[c] = fmaf(a, b[c], sum[c]);
}
static void multiply_floats(Tiles *x, u32 m, u32 k, bool other_order) {
    for (u32 r = 0; r < m; r++)
        if (!other_order) {
            for (u32 q = 0; q < k; q++) multiply_row(x->fc[r], x->fa[r][q], x->fb[q]);
        } else { /* from the last to the first, the accumulator added at the end */
            float sum[8] = {0};
            for (u32 q = k; q-- > 0;) multiply_row(sum, x->fa[r][q], x->fb[q]);
            for (u32 c = 0; c < 8; c++) x->fc[r][c] += sum[c];
        }
}
static void multiply_doubles(Tiles *x, u32 m, u32 k) {
    for (u32 r = 0; r < m; r++)
        for (u32 q = 0; q < k; q++)
            for (u32 c = 0; c < 8; c++) x->c[r][c] = fma(x->a[r][q], x->b[q][c], x->c[r][c]);
}
static void multiply_ints(Tiles *x, u32 m, u32 k, bool clamp) {
    for (u32 r = 0; r < m; r++)
        for (u32 c = 0; c < 8; c++) {
            i64 sum = x->ic[r][c];
            for (u32 q = 0; q < k; q++) sum += x->ia[r][q] * x->ib[q][c];
            x->ic[r][c] = clamp && sum > INT32_MAX   ? INT32_MAX
                          : clamp && sum < INT32_MIN ? INT32_MIN
                                                     : (i32)(u32)(u64)sum;
        }
}

static void multiply_bits(Tiles *x, u32 m, u32 words, bool xor) {
    for (u32 r = 0; r < m; r++)
        for (u32 c = 0; c < 8; c++)
            for (u32 q = 0; q < words; q++) {
                u32 a = (u32)x->ia[r][q], b = (u32)x->ib[q][c];
                x->ic[r][c] = (i32)((u32)x->ic[r][c] + (u32)__builtin_popcount(xor? a ^ b : a &b));
            }
}

static u32 steps(const Shape *sh, Type t) {
    return t == T_B1 ? sh->k / 32u : sh->k;
}

static void act_mma(Warp *w, const Ins *i, u32 mask) {
    if (mask != FULL)
        fault(w, i, __builtin_ctz(mask), ERR_LAUNCH_FAILED, "mma by a warp of which lanes have exited");
    static Tiles tiles;
    Tiles *x = &tiles;
    const Shape *sh = &shapes[i->op];
    u32 na = i->bits & 15, nb = i->bits >> 4;
    Type tc = (Type)i->space, td = (Type)i->space2;
    gather_inputs(w, i, sh, x, na, nb);
    gather_c(w, i, x, &i->s[na + nb], i->ns - na - nb, tc);
    if (td == T_F64)
        multiply_doubles(x, sh->m, sh->k);
    else if ((Type)i->type == T_B1)
        multiply_bits(x, sh->m, steps(sh, T_B1), i->rnd);
    else if (td == T_S32)
        multiply_ints(x, sh->m, sh->k, i->sat);
    else
        multiply_floats(x, sh->m, sh->k, settings.perturb && random_next(&w->block->launch->rng) & 1);
    scatter_d(w, i, x, i->nd, td);
}

static bool mma_known(const Shape *sh, Type td, Type ta, Type tb, Type tc) {
    bool eighths = ta == T_E4M3 || ta == T_E5M2;
    if (eighths)
        return (tb == T_E4M3 || tb == T_E5M2) && (td == T_F32 || td == T_F16) && tc == td && sh->m == 16 &&
               (sh->k == 16 || sh->k == 32);
    if (ta == T_B1 || tb == T_B1) return ta == tb && td == T_S32 && tc == T_S32 && sh->k >= 128;
    if (!type_float(ta)) {
        u32 k16 = ta == T_S8 || ta == T_U8 ? 16 : 32;
        bool b = tb == T_S8 || tb == T_U8 ? k16 == 16 : (tb == T_S4 || tb == T_U4) && k16 == 32;
        return b && td == T_S32 && tc == T_S32 && (sh->k == k16 || (sh->m == 16 && sh->k == 2 * k16)) &&
               (ta == T_S8 || ta == T_U8 || ta == T_S4 || ta == T_U4);
    }
    if (ta != tb) return false;
    if (ta == T_F64)
        return td == T_F64 && tc == T_F64 && ((sh->m == 8 && sh->k == 4) || (sh->m == 16 && sh->k <= 16));
    if (sh->m != 16) return false;
    if (ta == T_TF32) return td == T_F32 && tc == T_F32 && (sh->k == 4 || sh->k == 8);
    if (ta == T_BF16) return td == T_F32 && tc == T_F32 && (sh->k == 8 || sh->k == 16);
    return ta == T_F16 && (td == T_F32 || td == T_F16) && tc == td && (sh->k == 8 || sh->k == 16);
}

static u32 fragment(Parser *p, Stmt *s, const Operand *o, Opnd *to, u32 want, Type t, bool write) {
    Operand *items;
    u32 n = vector_of(p, s, o, &items);
    if (n != want) ptx_fail(p, s->line, "a fragment of %u registers where mma takes %u", n, want);
    for (u32 k = 0; k < n; k++) to[k] = write ? dest(p, s, &items[k], t, false) : source(p, s, &items[k], t);
    return n;
}
static Type register_type(Type t) {
    return t == T_F64 || t == T_F32 || t == T_S32 ? t : T_B32;
}

static void decode_mma(Parser *p, Stmt *s) {
    if (!mod(s, "sync") || !mod(s, "aligned")) ptx_fail(p, s->line, "mma.sync.aligned is meant");
    int sh = -1;
    for (u32 k = 0; k < sizeof shapes / sizeof *shapes; k++)
        if (mod(s, shapes[k].name)) sh = (int)k;
    if (sh < 0 || !mod(s, "row") || !mod(s, "col"))
        ptx_fail(p, s->line, "this shape or layout of mma is not supported");
    bool sat = mod(s, "satfinite"), counts = mod(s, "popc"), xor = counts &&mod(s, "xor");
    Type td = mod_type(p, s), ta = mod_type(p, s), tb = mod_type(p, s), tc = mod_type(p, s);
    if (counts != (ta == T_B1) || (counts && !xor&&!mod(s, "and")))
        ptx_fail(p, s->line, ".xor.popc and .and.popc belong to .b1");
    if ((ta == T_E4M3 || ta == T_E5M2) && p->m->sm < 89)
        ptx_fail(p, s->line, "mma of .%s is for sm_89", type_name(ta));
    if (!mma_known(&shapes[sh], td, ta, tb, tc) || (sat && td != T_S32))
        ptx_fail(p, s->line, "mma.%s.%s.%s.%s.%s is not supported", shapes[sh].name, type_name(td),
                 type_name(ta), type_name(tb), type_name(tc));
    operands_are(p, s, 4, 4);
    u32 m = shapes[sh].m, k = steps(&shapes[sh], ta), na = m * k / LANES / elements(ta),
        nb = k * 8 / LANES / elements(tb);
    u32 nc = m * 8 / LANES / (tc == T_F16 ? 2 : 1), ndst = m * 8 / LANES / (td == T_F16 ? 2 : 1);
    Opnd d[8], a[32];
    fragment(p, s, &s->operands[0], d, ndst, register_type(td), true);
    fragment(p, s, &s->operands[1], a, na, register_type(ta), false);
    fragment(p, s, &s->operands[2], a + na, nb, register_type(tb), false);
    fragment(p, s, &s->operands[3], a + na + nb, nc, register_type(tc), false);
    Ins *i = new_ins(p, s);
    i->exec = exec_sync;
    i->act = act_mma;
    i->aligned = true;
    i->op = (u8)sh;
    i->sat = sat;
    i->rnd = xor;
    i->type = (u8)ta, i->type2 = (u8)tb, i->space = (u8)tc, i->space2 = (u8)td;
    i->bits = (u8)(na | nb << 4);
    set_dests(p, i, d, ndst);
    set_sources(p, i, a, na + nb + nc);
}

const Special decoders_matrix[] = {{"ldmatrix", decode_ldmatrix},
                                   {"stmatrix", decode_ldmatrix},
                                   {"movmatrix", decode_movmatrix},
                                   {"mma", decode_mma},
                                   {0}};
