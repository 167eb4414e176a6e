/* Kernels of row regions against the interpreter: the idioms that models are made of, and random bodies,
 * for row lengths around the vector widths and several kinds of broadcasting. */
#include "device_test.h"
#include "seeds.h"
#include "suite.h"

/* ---- bodies under construction */

typedef struct Body {
    Graph *g;
    uint32_t rank; /* the domain: leading dims, then n */
    int64_t dim[MAX_RANK], n, rows, args;
    uint64_t rng;
} Body;

static const Loc no_loc = {0};

static Body body_new(uint32_t lead, const int64_t *dim, int64_t n, uint64_t seed) {
    Body b = {.g = graph_new(""), .rank = lead + 1, .n = n, .rows = 1, .rng = seed};
    for (uint32_t i = 0; i < lead; i++) b.rows *= b.dim[i] = dim[i];
    b.dim[lead] = n;
    return b;
}

static Val typed(Body *b, Op op, const Type *t, Val x) {
    return graph_add(b->g, NULL, NULL, no_loc, op, t, &x, x != VAL_NONE, NULL);
}

static Val arg(Body *b, DType dtype, uint32_t rank, const int64_t *dim) {
    Type t = type_make(dtype, rank, dim);
    return graph_add(b->g, NULL, NULL, no_loc, OP_arg, &t, NULL, 0, ATTRS(index, b->args++));
}

static Type full_type(const Body *b) {
    return type_make(DT_F32, b->rank, b->dim);
}
static Val full(Body *b) {
    return arg(b, DT_F32, b->rank, b->dim);
}
static Val vector(Body *b) {
    return arg(b, DT_F32, 1, &b->n);
}
static Val number(Body *b) {
    return arg(b, DT_F32, 1, (int64_t[]){1});
}
static Val indices(Body *b) {
    return arg(b, DT_I32, 1, &b->rows);
}
static Type one_a_row(const Body *b) {
    Type t = full_type(b);
    t.dim[t.rank - 1] = 1;
    return t;
}
static Val scalar(Body *b) {
    return arg(b, DT_F32, b->rank, one_a_row(b).dim);
}
/* [S,1,n] for a domain [B,S,H,n]: the same for all of the innermost leading dim and of the outermost. */
static Val table(Body *b) {
    if (b->rank < 3) return vector(b);
    return arg(b, DT_F32, 3, (int64_t[]){b->dim[b->rank - 3], 1, b->n});
}

static Val un(Body *b, Op op, Val x) {
    return ir_unary(b->g, no_loc, op, x);
}
static Val bin(Body *b, Op op, Val x, Val y) {
    return ir_binary(b->g, no_loc, op, x, y);
}
static Val add(Body *b, Val x, Val y) {
    return bin(b, OP_add, x, y);
}
static Val sub(Body *b, Val x, Val y) {
    return bin(b, OP_sub, x, y);
}
static Val mul(Body *b, Val x, Val y) {
    return bin(b, OP_mul, x, y);
}
static Val scaled(Body *b, Val x, double c) {
    return ir_scale(b->g, no_loc, x, c);
}
static Val offset(Body *b, Val x, double c) {
    return ir_offset(b->g, no_loc, x, c);
}

static Val partial_sum(Body *b, Val x) {
    int64_t parts = b->rows < 5 ? b->rows : 5;
    Type t = type_make(DT_F32, 2, (int64_t[]){parts, type_cols(val_type(b->g, x))});
    return typed(b, OP_partial_sum, &t, x);
}

static void yield(Body *b, uint32_t n, const Val *results) {
    graph_add(b->g, NULL, NULL, no_loc, OP_yield, NULL, results, n, NULL);
}
#define YIELD(b, ...) yield(b, sizeof((Val[]){__VA_ARGS__}) / sizeof(Val), (Val[]){__VA_ARGS__})

/* ---- running one body as a kernel and in the interpreter */

typedef struct Case {
    char name[64];
    Graph *outer; /* inputs, and the region as the last node */
    KernelSize size;
} Case;

/* Generates the kernel and wraps the body, which it takes over. */
static Case case_of(Gen *g, const char *name, Body *b) {
    Case c = {.outer = graph_new("test")};
    snprintf(c.name, sizeof c.name, "%s", name);
    c.size = TEST_EMIT(g, c.name, rows, {b->g});
    Val in[16];
    for (uint32_t i = 0; i < b->g->nodes.n; i++) {
        const Node *n = &b->g->nodes.at[i];
        if (n->op != OP_arg) continue;
        char input[8];
        snprintf(input, sizeof input, "a%d", (int)n->attrs.index);
        in[n->attrs.index] = graph_add(c.outer, NULL, NULL, no_loc, OP_input, val_type(b->g, n->out), NULL, 0,
                                       ATTRS(name, input));
    }
    graph_add_region(c.outer, no_loc, in, (uint32_t)b->args, b->g);
    return c;
}

/* Random data for an operand, in the kernel's memory and the interpreter's. */
static void fill_operand(const Type *t, int64_t limit, char *at, Tensor *out, uint64_t *rng) {
    for (int64_t i = 0; i < type_count(t); i++) {
        float x = test_random(rng);
        int32_t index = (int32_t)((x + 1) / 2 * (float)limit);
        if (index >= limit) index = (int32_t)limit - 1;
        if (t->dtype == DT_I32)
            memcpy(at + 4 * i, &index, 4), out->at[i] = index;
        else if (t->dtype == DT_BF16)
            x = bf16_round(x), memcpy(at + 2 * i, (char *)&x + 2, 2), out->at[i] = x;
        else
            memcpy(at + 4 * i, &x, 4), out->at[i] = x;
    }
}

/* Element i of a result. */
static float element(const Type *t, const char *at, int64_t i) {
    int64_t bytes = t->dtype == DT_BF16 ? 2 : 4;
    float x = 0;
    memcpy((char *)&x + 4 - bytes, at + bytes * i, (size_t)bytes);
    return x;
}

/* What is stored as bf16 may be rounded the other way. */
static void compare(const Case *c, uint32_t result, const Tensor *expected, const char *got, double tol) {
    const Type *t = &expected->type;
    double largest = 1e-3, ulp = t->dtype == DT_BF16 ? 0x1p-7 : 0;
    for (int64_t i = 0; i < type_count(t); i++) largest = fmax(largest, fabs(expected->at[i]));
    for (int64_t i = 0; i < type_count(t); i++)
        ck_assert_msg(fabs(element(t, got, i) - expected->at[i]) <= tol * largest + ulp * fabs(expected->at[i]),
                      "%s: result %u, element %lld: %.9g, expected %.9g", c->name, result, (long long)i,
                      (double)element(t, got, i), expected->at[i]);
}

/* With share, each result takes the buffer of an operand of its type, if there is one to take. */
static void run_case(const TestModule *m, const Case *c, int64_t n, uint64_t seed, bool share, double tol) {
    const Node *region = &c->outer->nodes.at[c->outer->nodes.n - 1];
    Arena *arena = arena_new();
    Tensor *in = arena_array(arena, Tensor, region->nin), *out = arena_array(arena, Tensor, region->nout);
    uint64_t room = 4096;
    for (Val v = 0; v < c->outer->values.n; v++)
        room += (uint64_t)type_count(val_type(c->outer, v)) * 4 + 2 * TEST_GUARD;
    TestArgs args = test_args(room);
    bool taken[16] = {0};
    char *got[16];
    for (uint32_t i = 0; i < region->nin; i++) {
        const Type *t = val_type(c->outer, region->in[i]);
        in[i] = (Tensor){*t, arena_array(arena, double, type_count(t))};
        fill_operand(t, n, test_arg(&args, (uint64_t)type_bytes(t)), &in[i], &seed);
    }
    for (uint32_t i = 0; i < region->nout; i++) {
        const Type *t = val_type(c->outer, region->out + i);
        uint64_t bytes = (uint64_t)type_bytes(t);
        got[i] = test_arg(&args, bytes);
        memset(got[i], 0xff, bytes);
        for (uint32_t k = 0; share && k < region->nin; k++) {
            if (taken[k] || !type_equal(&in[k].type, t)) continue;
            taken[k] = true;
            args.at[region->nin + i] = args.at[k];
            got[i] = args.arena + args.at[k];
            break;
        }
    }
    eval_node(c->outer, region, EVAL_F64, in, out, arena);
    test_launch(m, c->name, &args, c->size);
    for (uint32_t i = 0; i < region->nout; i++) compare(c, i, &out[i], got[i], tol);
    test_args_free(&args);
    arena_free(arena);
}

/* ---- idioms */

static Val norm_factor(Body *b, Val x) {
    Val mean = scaled(b, un(b, OP_sum, mul(b, x, x)), 1.0 / (double)b->n);
    return un(b, OP_rsqrt, offset(b, mean, 1e-2));
}
static Val rms_norm(Body *b, Val x, Val w) {
    return mul(b, w, mul(b, x, norm_factor(b, x)));
}

static void build_norm(Body *b) {
    Val x = full(b), w = vector(b);
    YIELD(b, rms_norm(b, x, w));
}

/* y = x + o stays, and feeds the norm */
static void build_residual_norm(Body *b) {
    Val x = full(b), o = full(b), w = vector(b), y = add(b, x, o);
    YIELD(b, rms_norm(b, y, w), y);
}

static void build_norm_grad(Body *b) {
    Val x = full(b), w = vector(b), dy = full(b), residual = full(b);
    Val r = norm_factor(b, x), g = mul(b, dy, w);
    Val c = scaled(b, mul(b, un(b, OP_sum, mul(b, g, x)), mul(b, r, mul(b, r, r))), 1.0 / (double)b->n);
    Val dx = sub(b, mul(b, g, r), mul(b, x, c));
    YIELD(b, add(b, residual, dx), partial_sum(b, mul(b, dy, mul(b, x, r))));
}

static Val rotary(Body *b, Val x, Val cos, Val sin) {
    return add(b, mul(b, x, cos), mul(b, un(b, OP_rotate_half, x), sin));
}

static void build_rope_norm(Body *b) {
    Val x = full(b), w = vector(b), cos = table(b), sin = table(b);
    if (b->n % 2)
        YIELD(b, rms_norm(b, x, w));
    else
        YIELD(b, rotary(b, rms_norm(b, x, w), cos, sin));
}

/* The transpose of a rotation by rotate_half, then the norm's gradient. */
static void build_rope_norm_grad(Body *b) {
    Val x = full(b), w = vector(b), cos = table(b), sin = table(b), dz = full(b), dy = mul(b, dz, cos);
    if (b->n % 2 == 0) dy = sub(b, dy, un(b, OP_rotate_half, mul(b, dz, sin)));
    Val r = norm_factor(b, x), g = mul(b, dy, w);
    Val c = mul(b, un(b, OP_sum, mul(b, g, x)), mul(b, r, mul(b, r, r)));
    YIELD(b, sub(b, mul(b, g, r), mul(b, x, scaled(b, c, 1.0 / (double)b->n))),
          partial_sum(b, mul(b, dy, mul(b, x, r))));
}

static void build_swiglu(Body *b) {
    Val gate = full(b), up = full(b);
    YIELD(b, mul(b, mul(b, gate, un(b, OP_sigmoid, gate)), up));
}

static void build_swiglu_grad(Body *b) {
    Val gate = full(b), up = full(b), dy = full(b), s = un(b, OP_sigmoid, gate);
    Val slope = mul(b, s, offset(b, mul(b, gate, offset(b, un(b, OP_neg, s), 1)), 1));
    YIELD(b, mul(b, mul(b, dy, up), slope), mul(b, dy, mul(b, gate, s)), mul(b, mul(b, gate, s), up));
}

/* Loss of each row, its sum over the tiles, and the gradient, which may overwrite the logits. */
static void build_loss(Body *b) {
    Val z = full(b), target = indices(b), factor = number(b);
    Val most = un(b, OP_stop, un(b, OP_max, z));
    Val e = un(b, OP_exp, sub(b, z, most)), sum = un(b, OP_sum, e);
    Val nll = sub(b, add(b, un(b, OP_log, sum), most), bin(b, OP_pick, z, target));
    Type t = full_type(b);
    Val grad = sub(b, bin(b, OP_div, e, sum), typed(b, OP_onehot, &t, target));
    YIELD(b, mul(b, grad, factor), nll, partial_sum(b, nll));
}

/* Row scalars only: no loop is needed, but a pick of something computed. */
static void build_scalars(Body *b) {
    Val x = full(b), i = indices(b), s = scalar(b), w = vector(b);
    Val picked = bin(b, OP_pick, mul(b, x, w), i);
    YIELD(b, add(b, picked, s), mul(b, un(b, OP_exp, s), picked));
}

/* Everything full, nothing across columns: one flat row. */
static void build_flat(Body *b) {
    Val x = full(b), y = full(b), c = number(b);
    YIELD(b, add(b, mul(b, x, c), un(b, OP_exp, y)), sub(b, x, y));
}

/* Broadcast of a row scalar and of a vector, and results that are operands or constants. */
static void build_broadcast(Body *b) {
    Val s = scalar(b), w = vector(b), x = full(b);
    Type t = full_type(b);
    YIELD(b, typed(b, OP_broadcast, &t, s), typed(b, OP_broadcast, &t, w), x,
          ir_splat(b->g, no_loc, &t, 0.25), un(b, OP_sum, add(b, x, s)));
}

/* The maximum and its place depend on the sum before: three loops, a pick after the second. */
static void build_chain(Body *b) {
    Val x = full(b), i = indices(b);
    Val e = un(b, OP_exp, x), p = bin(b, OP_div, e, un(b, OP_sum, e));
    Val top = un(b, OP_max, p), q = mul(b, p, un(b, OP_sigmoid, sub(b, p, top)));
    Val total = un(b, OP_sum, mul(b, q, e));
    YIELD(b, sub(b, q, total), mul(b, bin(b, OP_pick, q, i), bin(b, OP_pick, sub(b, e, total), i)));
}

/* A pick that can be computed after the last sum only, but must not come after the store to its operand. */
static void build_late_pick(Body *b) {
    Val x = full(b), i = indices(b), y = scaled(b, x, 2),
        mean = scaled(b, un(b, OP_sum, x), 1.0 / (double)b->n);
    YIELD(b, y, bin(b, OP_pick, sub(b, x, mean), i));
}

static const struct {
    const char *name;
    void (*build)(Body *);
} idioms[] = {
    {"norm", build_norm},           {"residual_norm", build_residual_norm},   {"norm_grad", build_norm_grad},
    {"rope_norm", build_rope_norm}, {"rope_norm_grad", build_rope_norm_grad}, {"swiglu", build_swiglu},
    {"loss", build_loss},           {"swiglu_grad", build_swiglu_grad},       {"scalars", build_scalars},
    {"flat", build_flat},           {"broadcast", build_broadcast},           {"chain", build_chain},
    {"late_pick", build_late_pick},
};
enum { IDIOMS = sizeof idioms / sizeof *idioms };

static const int64_t lengths[] = {1, 2, 3, 7, 16, 17, 64, 100, 128, 1000, 4096};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

static const struct {
    uint32_t rank;
    int64_t dim[3];
} leads[] = {{0, {0}}, {1, {7}}, {2, {2, 5}}, {3, {2, 3, 4}}, {3, {1, 6, 1}}, {3, {3, 1, 7}}};
enum { LEADS = sizeof leads / sizeof *leads };

/* Leading dims long enough for several tiles, at short rows. */
static const int64_t many_rows[] = {3, 1000};

/* An idiom for all row lengths and leading dims (few, but on the host) in one module. */
START_TEST(test_idioms) {
    Case cases[LENGTHS * LEADS];
    int64_t n[LENGTHS * LEADS];
    uint32_t count = 0;
    TestDevice device = (TestDevice)(_i / IDIOMS);
    int idiom = _i % IDIOMS;
    Gen *g = test_device_gen(device);
    for (int i = 0; i < LENGTHS; i++) {
        for (int k = 0; k < (device == TEST_HOST && lengths[i] % 16 < 2 && lengths[i] < 100 ? LEADS : 2);
             k++) {
            bool many = leads[k].rank == 2 && lengths[i] == 17;
            Body b = body_new(leads[k].rank, many ? many_rows : leads[k].dim, lengths[i], 1);
            idioms[idiom].build(&b);
            char name[64];
            snprintf(name, sizeof name, "%s_%d_%lld", idioms[idiom].name, k, (long long)lengths[i]);
            n[count] = lengths[i];
            cases[count++] = case_of(g, name, &b);
        }
    }
    TestModule m = test_module(g);
    for (uint32_t i = 0; i < count; i++) {
        for (int share = 0; share < 2; share++) run_case(&m, &cases[i], n[i], i + 1, share, 1e-5);
        graph_free(cases[i].outer);
    }
    test_module_free(&m);
}
END_TEST

/* Rows too long for a GPU's registers, in odd and even halves. */
START_TEST(test_walked_rows) {
    static const int64_t long_rows[] = {5001, 9002};
    Case cases[2];
    Gen *g = test_device_gen(TEST_GPU);
    for (int i = 0; i < 2; i++) {
        Body b = body_new(1, (int64_t[]){7}, long_rows[i], 1);
        char name[64];
        snprintf(name, sizeof name, "%s_%d", idioms[_i].name, i);
        idioms[_i].build(&b);
        cases[i] = case_of(g, name, &b);
    }
    TestModule m = test_module(g);
    for (int i = 0; i < 2; i++) {
        for (int share = 0; share < 2; share++) run_case(&m, &cases[i], long_rows[i], 3, share, 1e-5);
        graph_free(cases[i].outer);
    }
    test_module_free(&m);
}
END_TEST

/* ---- random bodies */

static uint32_t below(Body *b, uint32_t n) {
    uint32_t i = (uint32_t)((test_random(&b->rng) + 1) / 2 * (float)n);
    return i < n ? i : n - 1;
}

static Val random_operand(Body *b) {
    switch (below(b, 8)) {
    case 0:
        return vector(b);
    case 1:
        return scalar(b);
    case 2:
        return table(b);
    case 3:
        return number(b);
    case 4: /* of bf16, all or one number a row */
        return un(b, OP_widen, arg(b, DT_BF16, b->rank, below(b, 3) ? b->dim : one_a_row(b).dim));
    default:
        return full(b);
    }
}

/* Something bounded, made of x (and y). */
static Val random_value(Body *b, Val x, Val y, Val index) {
    Val positive = offset(b, mul(b, x, x), 0.5);
    bool row = type_cols(val_type(b->g, x)) == b->n;
    Type t = full_type(b);
    switch (below(b, 15)) {
    case 0:
        return add(b, scaled(b, x, 0.5), scaled(b, y, 0.5));
    case 1:
        return sub(b, x, y);
    case 2:
        return mul(b, x, y);
    case 3:
        return bin(b, OP_div, y, positive);
    case 4:
        return un(b, OP_exp, un(b, OP_neg, positive));
    case 5:
        return un(b, OP_log, positive);
    case 6:
        return un(b, OP_rsqrt, positive);
    case 7:
        return un(b, OP_sigmoid, x);
    case 8:
        return scaled(b, un(b, OP_sum, x), 1.0 / (double)b->n);
    case 9:
        return scaled(b, un(b, OP_sum, mul(b, x, x)), 1.0 / (double)b->n);
    case 10:
        return un(b, OP_max, x);
    case 11:
        return type_cols(val_type(b->g, x)) % 2 ? x : un(b, OP_rotate_half, x);
    case 12:
        return row && type_rows(val_type(b->g, x)) == b->rows ? bin(b, OP_pick, x, index) : x;
    case 13:
        return typed(b, OP_onehot, &t, index);
    default:
        return typed(b, OP_broadcast, &t, x);
    }
}

/* x under all of the domain's leading dims, as results are. */
static Val random_result(Body *b, Val x, Val per_row) {
    Val y = type_rows(val_type(b->g, x)) == b->rows ? x : add(b, x, per_row);
    switch (below(b, 8)) {
    case 0:
    case 1:
        return partial_sum(b, y);
    case 2:
        return un(b, OP_narrow, y);
    default:
        return y;
    }
}

static void build_random(Body *b) {
    Val pool[40], results[4];
    uint32_t n = 0, operands = 2 + below(b, 4), ops = 2 + below(b, 12), nresults = 1 + below(b, 4);
    Val index = indices(b), per_row = scalar(b);
    pool[n++] = full(b);
    for (uint32_t i = 0; i < operands; i++) pool[n++] = random_operand(b);
    for (uint32_t i = 0; i < ops; i++) {
        Val x = pool[below(b, n)], y = pool[below(b, n)];
        pool[n++] = random_value(b, x, y, index);
    }
    for (uint32_t i = 0; i < nresults; i++)
        results[i] = random_result(b, pool[n - 1 - below(b, n < 6 ? n : 6)], per_row);
    yield(b, nresults, results);
}

enum { BATCH = 32, BATCHES = SEEDS_OF(12) };

START_TEST(test_random_bodies) {
    Case cases[BATCH];
    int64_t n[BATCH];
    Gen *g = test_device_gen((TestDevice)(_i / BATCHES ? TEST_GPU : _i % 2));
    for (uint32_t i = 0; i < BATCH; i++) {
        uint64_t seed = (uint64_t)(_i % BATCHES) * BATCH + i + 1;
        uint32_t lead = (uint32_t)(seed % LEADS);
        n[i] = lengths[seed / LEADS % (LENGTHS - 1)];
        Body b = body_new(leads[lead].rank, leads[lead].dim, n[i], seed * 7919);
        build_random(&b);
        char name[64];
        snprintf(name, sizeof name, "random_%llu", (unsigned long long)seed);
        cases[i] = case_of(g, name, &b);
    }
    TestModule m = test_module(g);
    for (uint32_t i = 0; i < BATCH; i++) {
        run_case(&m, &cases[i], n[i], i + 1, i % 2, 1e-4); /* values may cancel */
        graph_free(cases[i].outer);
    }
    test_module_free(&m);
}
END_TEST

/* ---- what cannot be run here, and sizes */

START_TEST(test_wide) {
    Gen *g = test_gen(_i ? "sapphirerapids" : "znver4");
    for (int i = 0; i < IDIOMS; i++) {
        for (int k = 0; k < LENGTHS; k += 4) {
            Body b = body_new(leads[3].rank, leads[3].dim, lengths[k], 1);
            idioms[i].build(&b);
            char name[64];
            snprintf(name, sizeof name, "%s_%lld", idioms[i].name, (long long)lengths[k]);
            graph_free(case_of(g, name, &b).outer);
        }
    }
    char *assembly = test_compile(g);
    ck_assert(strstr(assembly, "zmm") != NULL);
    free(assembly);
}
END_TEST

/* A long row takes no more code than a short one, and has its exponentials computed once. */
START_TEST(test_long_rows) {
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        Gen *g = test_gen(NULL);
        Body b = body_new(1, (int64_t[]){64}, i ? 151936 : 512, 1);
        build_loss(&b);
        RowsDesc desc = {b.g};
        ck_assert_uint_eq(rows_scratch(&desc, g->target), (uint64_t)b.n * 4);
        ck_assert_uint_eq(rows_tiles(&desc, g->target), 5); /* of the partial sum */
        graph_free(case_of(g, "loss", &b).outer);
        char *assembly = test_compile(g);
        bytes[i] = strlen(assembly);
        free(assembly);
    }
    ck_assert_uint_lt(bytes[1], bytes[0] + bytes[0] / 8);
}
END_TEST

int main(void) {
    /* GPU code is not instrumented, takes long here, and upsets the leak checker. */
#ifdef __SANITIZE_ADDRESS__
    int devices = TEST_GPU;
#else
    int devices = test_devices();
#endif
    Suite *suite = suite_create("rows");
    TCase *t = tcase_create("rows");
    tcase_set_timeout(t, 300);
    int on_gpu = devices > TEST_GPU ? SEEDS_OF(IDIOMS) : 0;
    tcase_add_loop_test(t, test_idioms, 0, TEST_GPU * IDIOMS + on_gpu);
    tcase_add_loop_test(t, test_random_bodies, 0, devices > TEST_GPU ? BATCHES + (BATCHES + 2) / 3 : BATCHES);
    tcase_add_loop_test(t, test_walked_rows, 0, on_gpu);
    tcase_add_loop_test(t, test_wide, 0, 2);
    tcase_add_test(t, test_long_rows);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
