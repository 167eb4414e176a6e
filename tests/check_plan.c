/* schedule and plan-memory. A plan is proved on random models by running them: node by node in the
 * interpreter, but with every tensor in one byte arena at its planned offset. Beside the data, each word of
 * the arena has a tag that says which result's element was last written there; an operand must still have
 * all of its own. How much memory a plan takes is compared with what is in use at once, on real models. */
#include "../frontend/build.h"
#include "../passes/rerun.h"
#include "random_storage.h"
#include "seeds.h"
#include "suite.h"

#define MODELS    SEEDS_OF(300) /* random modules */
#define LONG      SEEDS_OF(30) /* with enough rows for several chunks of logits */
#define STORAGES  SEEDS_OF(1000)
#define BATCH     20 /* seeds that one test runs through */
#define TOLERANCE 1e-9

static void run(Module *m, const PassOptions *options, const char *first, const char *last) {
    Diag diag = {0};
    uint32_t from = (uint32_t)(pass_find(first) - pass_info), to = (uint32_t)(pass_find(last) - pass_info);
    const PassInfo *passes[32];
    for (uint32_t i = from; i <= to; i++) passes[i - from] = &pass_info[i];
    bool ok = passes_run(m, &diag, options, passes, to - from + 1);
    ck_assert_msg(ok, "%s", diag.text.at);
    buf_free(&diag.text);
}

/* ---- a machine that runs a plan */

typedef struct Machine {
    const Module *m;
    const Graph *g;
    uint64_t seed;
    Arena *arena;
    char *bytes;   /* the module's arena */
    uint32_t *tag; /* of each word in it: who wrote it last; 0: nobody */
    uint32_t next_tag;
    uint32_t **expect; /* of each value: the tags of its words */
    Tensor *ternary;   /* of each value: contents of t2, which have no form in the arena here */
    Bindings in;
} Machine;

static int64_t words(const Graph *g, Val v) {
    return (type_bytes(val_type(g, v)) + 3) / 4;
}
static uint32_t *tags_at(const Machine *x, int64_t offset) {
    return x->tag + offset / 4;
}
static int64_t offset_of(const Machine *x, Val v) {
    return x->g->values.at[v].offset;
}

static void check_intact(const Machine *x, Val v, int64_t offset, const char *when) {
    if (memcmp(tags_at(x, offset), x->expect[v], (size_t)words(x->g, v) * sizeof *x->tag) == 0) return;
    ck_abort_msg("seed %d: @%s: %%%u at %lld is overwritten %s", (int)x->seed, x->g->name, v,
                 (long long)offset, when);
}

/* A number of bf16 is the upper half of an f32. */
static uint16_t bf16_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}
static float bf16_value(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The content of v as if just computed: new tags, at its offset. */
static void fill(Machine *x, Val v, const Tensor *t) {
    int64_t at = offset_of(x, v), n = type_count(&t->type);
    x->expect[v] = arena_array(x->arena, uint32_t, words(x->g, v));
    for (int64_t i = 0; i < words(x->g, v); i++) tags_at(x, at)[i] = x->expect[v][i] = x->next_tag++;
    if (t->type.dtype == DT_T2) x->ternary[v] = *t;
    for (int64_t i = 0; t->type.dtype != DT_T2 && i < n; i++) {
        if (t->type.dtype == DT_I32)
            ((int32_t *)(x->bytes + at))[i] = (int32_t)t->at[i];
        else if (t->type.dtype == DT_BF16)
            ((uint16_t *)(x->bytes + at))[i] = bf16_bits((float)t->at[i]);
        else
            ((float *)(x->bytes + at))[i] = (float)t->at[i];
    }
}

static Tensor fetch(const Machine *x, Val v, int64_t offset, const char *when) {
    const Type *type = val_type(x->g, v);
    check_intact(x, v, offset, when);
    if (type->dtype == DT_T2) return x->ternary[v];
    Tensor t = tensor_new(x->arena, type);
    const char *at = x->bytes + offset;
    for (int64_t i = 0; i < type_count(type); i++)
        t.at[i] = type->dtype == DT_I32    ? ((const int32_t *)at)[i]
                  : type->dtype == DT_BF16 ? bf16_value(((const uint16_t *)at)[i])
                                           : ((const float *)at)[i];
    return t;
}

static void move(Machine *x, Val v, int64_t from, int64_t to) {
    check_intact(x, v, from, "before it is copied");
    memmove(x->bytes + to, x->bytes + from, (size_t)type_bytes(val_type(x->g, v)));
    memmove(tags_at(x, to), tags_at(x, from), (size_t)words(x->g, v) * sizeof *x->tag);
}

static bool overlap(const Machine *x, Val a, Val b) {
    return offset_of(x, a) < offset_of(x, b) + type_bytes(val_type(x->g, b)) &&
           offset_of(x, b) < offset_of(x, a) + type_bytes(val_type(x->g, a));
}

/* A kernel may write a result over an operand only if it works in place. */
static void check_overlaps(const Machine *x, const Node *n) {
    for (uint32_t r = 0; r < n->nout; r++) {
        for (uint32_t other = 0; other < r; other++) ck_assert(!overlap(x, n->out + r, n->out + other));
        for (uint32_t k = 0; k < n->nin; k++) {
            if (!overlap(x, n->out + r, n->in[k])) continue;
            static const uint32_t updated[] = {2, 3, 4, 6};
            uint32_t own = n->op == OP_matmul_adamw ? updated[r]
                           : n->op == OP_adamw      ? (r ? r + 1 : 0)
                           : n->op == OP_cache_row  ? 0
                                                    : 2;
            bool taken = (op_info[n->op].flags & INPLACE) && k == own;
            bool same = type_equal(val_type(x->g, n->in[k]), val_type(x->g, n->out + r)) &&
                        offset_of(x, n->in[k]) == offset_of(x, n->out + r);
            ck_assert_msg(same && (taken || n->op == OP_region), "seed %d: @%s: %%%u is written over %%%u",
                          (int)x->seed, x->g->name, n->out + r, n->in[k]);
        }
    }
}

static void run_kernel(Machine *x, const Node *n) {
    Tensor *in = arena_array(x->arena, Tensor, n->nin), *out = arena_array(x->arena, Tensor, n->nout);
    check_overlaps(x, n);
    for (uint32_t k = 0; k < n->nin; k++)
        in[k] = fetch(x, n->in[k], offset_of(x, n->in[k]), "before it is read");
    eval_node(x->g, n, EVAL_F32, in, out, x->arena);
    for (uint32_t r = 0; r < n->nout; r++) fill(x, n->out + r, &out[r]);
}

static void run_view(Machine *x, const Node *n) {
    int64_t entry = type_bytes(val_type(x->g, n->out)) / val_type(x->g, n->out)->dim[0];
    int64_t delta = n->op == OP_slice ? n->attrs.begin * entry : 0;
    x->expect[n->out] = x->expect[n->in[0]] + delta / 4;
    if (offset_of(x, n->out) != offset_of(x, n->in[0]) + delta)
        move(x, n->out, offset_of(x, n->in[0]) + delta, offset_of(x, n->out));
}

static void run_concat(Machine *x, const Node *n) {
    int64_t to = offset_of(x, n->out);
    uint32_t *expect = x->expect[n->out] = arena_array(x->arena, uint32_t, words(x->g, n->out));
    for (uint32_t k = 0; k < n->nin; k++) {
        if (offset_of(x, n->in[k]) != to) move(x, n->in[k], offset_of(x, n->in[k]), to);
        memcpy(expect, x->expect[n->in[k]], (size_t)words(x->g, n->in[k]) * sizeof *expect);
        expect += words(x->g, n->in[k]);
        to += type_bytes(val_type(x->g, n->in[k]));
    }
}

static const Node *declared(const Graph *g, const char *name) {
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if ((n->op == OP_param || n->op == OP_state) && strcmp(n->attrs.name, name) == 0) return n;
    }
    return NULL;
}

static void run_store(Machine *x, const Node *n) {
    int64_t to = offset_of(x, declared(x->g, n->attrs.name)->out);
    if (offset_of(x, n->in[0]) != to) move(x, n->in[0], offset_of(x, n->in[0]), to);
}

static bool is_set_before(Op op) {
    return op == OP_param || op == OP_state || op == OP_input || op == OP_rope_cos || op == OP_rope_sin;
}

static void set_before(Machine *x, const Node *n) {
    Tensor t;
    if (op_info[n->op].attrs & A(theta))
        eval_node(x->g, n, EVAL_F32, NULL, &t, x->arena);
    else
        t = *find_tensor(&x->in, n->attrs.name);
    fill(x, n->out, &t);
}

static void run_node(Machine *x, const Node *n) {
    if (is_set_before(n->op) || n->op == OP_output) return;
    if (op_info[n->op].flags & VIEW)
        run_view(x, n);
    else if (n->op == OP_concat)
        run_concat(x, n);
    else if (n->op == OP_store)
        run_store(x, n);
    else
        run_kernel(x, n);
}

/* ---- what must hold afterwards */

static void check_result(const Machine *x, const Node *n, int64_t offset, const Bindings *expected) {
    Tensor got = fetch(x, n->in[0], offset, "at the end");
    const Tensor *want = find_tensor(expected, n->attrs.name);
    ck_assert(want && type_equal(&want->type, &got.type));
    for (int64_t i = 0; i < type_count(&got.type); i++)
        ck_assert_msg(got.at[i] == want->at[i], "seed %d: @%s: %s: element %lld", (int)x->seed, x->g->name,
                      n->attrs.name, (long long)i);
}

static bool is_stored(const Graph *g, const char *name) {
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (g->nodes.at[i].op == OP_store && strcmp(g->nodes.at[i].attrs.name, name) == 0) return true;
    return false;
}

/* Results are there, so are codes to be looked at, and what is not stored to is as it was. */
static void check_end(const Machine *x, const Bindings *expected) {
    for (uint32_t i = 0; i < x->g->nodes.n; i++) {
        const Node *n = &x->g->nodes.at[i];
        if (n->op == OP_output) check_result(x, n, offset_of(x, n->in[0]), expected);
        if (n->op == OP_store) check_result(x, n, offset_of(x, declared(x->g, n->attrs.name)->out), expected);
        bool stored = n->op != OP_input && is_set_before(n->op) && (op_info[n->op].attrs & A(name)) &&
                      is_stored(x->g, n->attrs.name);
        bool lasts = is_set_before(n->op) && !stored;
        for (uint32_t r = 0; r < n->nout; r++) {
            Val v = n->out + r;
            if ((lasts && n->op != OP_input) || (val_type(x->g, v)->dtype == DT_T2 && !stored))
                check_intact(x, v, offset_of(x, v), "at the end");
        }
    }
}

/* Words of params and states that only other functions use must not be touched either. */
static void check_others(const Machine *x) {
    for (uint32_t j = 0; j < x->m->graphs.n; j++) {
        const Graph *g = x->m->graphs.at[j];
        for (uint32_t i = 0; i < g->nodes.n; i++) {
            const Node *n = &g->nodes.at[i];
            if (n->op != OP_param && n->op != OP_state) continue;
            const Node *here = declared(x->g, n->attrs.name);
            int64_t at = g->values.at[n->out].offset;
            if (here) ck_assert_int_eq(offset_of(x, here->out), at);
            for (int64_t w = 0; !here && w < words(g, n->out); w++) ck_assert_uint_eq(tags_at(x, at)[w], 0);
        }
    }
}

static void execute(const Module *m, const Graph *g, uint64_t seed) {
    Arena *arena = arena_new();
    Diag diag = {0};
    Machine x = {.m = m, .g = g, .seed = seed, .arena = arena, .next_tag = 1};
    x.bytes = arena_alloc(arena, (size_t)m->arena_bytes);
    x.tag = arena_array(arena, uint32_t, m->arena_bytes / 4);
    x.expect = arena_array(arena, uint32_t *, g->values.n);
    x.ternary = arena_array(arena, Tensor, g->values.n);
    bind_random(g, seed, arena, &x.in);
    Bindings expected = {0};
    ck_assert_msg(eval_graph(g, EVAL_F32, x.in.at, x.in.n, arena, &expected, &diag), "%s", diag.text.at);
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (is_set_before(g->nodes.at[i].op)) set_before(&x, &g->nodes.at[i]);
    for (uint32_t i = 0; i < g->nodes.n; i++) run_node(&x, &g->nodes.at[i]);
    check_end(&x, &expected);
    check_others(&x);
    vec_free(&x.in), vec_free(&expected);
    buf_free(&diag.text);
    arena_free(arena);
}

/* ---- random models */

static uint32_t dropped; /* values, in all models of this process */

/* What pass recompute does, for any number of values. Results must be the same bits. */
static void drop_some(Module *m, uint64_t seed) {
    PassCtx ctx = {.options = &(PassOptions){0}, .module = m, .scratch = arena_new()};
    Module *before = module_copy(m);
    Graph *from = schedule_graph(&ctx, m->graphs.at[0]);
    Rerun r = rerun_new(from, ctx.scratch);
    Drops drops = {0};
    RerunCost cost;
    rerun_rank(&r, &drops);
    uint32_t n = drops.at.n ? 1 + (uint32_t)(seed * 7 % drops.at.n) : 0;
    graph_free(m->graphs.at[0]);
    m->graphs.at[0] = rerun_build(&r, &drops, n, &cost);
    Buf why = {0};
    ck_assert_msg(modules_agree(before, m, seed, 0, &why), "model %d, %u dropped: %s", (int)seed, n, why.at);
    vec_free(&drops.at);
    graph_free(from);
    module_free(before);
    arena_free(ctx.scratch);
    dropped += n;
}

static void check_module(Module *m, uint64_t seed, const PassOptions *options) {
    run(m, options, "insert-ste", "fuse-update");
    Module *before = module_copy(m);
    if (seed % 4) drop_some(m, seed);
    run(m, options, "schedule", "schedule");
    Buf why = {0};
    ck_assert_msg(modules_agree(before, m, seed, TOLERANCE, &why), "model %llu: %s", (unsigned long long)seed,
                  why.at);
    run(m, options, "plan-memory", "plan-memory");
    for (uint32_t i = 0; i < m->graphs.n; i++) execute(m, m->graphs.at[i], seed);
    module_free(before);
    module_free(m);
}

static void run_model(uint64_t seed) {
    PassOptions options = {.verify = true, .grads_buffer = seed % 3 == 0};
    check_module(random_module(seed), seed, &options);
}

static void run_long_model(uint64_t seed) {
    PassOptions options = {.verify = true, .grads_buffer = seed % 2 == 0};
    RandomModel model = {.rng = {seed}};
    random_params(&model);
    model.batch = 2, model.seq = 64 + (int64_t)rng_below(&model.rng, 20);
    Module *m = module_new();
    vec_push(&m->graphs, random_train(&model, seed % 2));
    vec_push(&m->graphs, random_eval(&model, seed % 2));
    check_module(m, seed, &options);
}

/* ---- random storage */

static Module *fused_storage(uint64_t seed, const PassOptions *options) {
    Module *m = random_storage(seed);
    run(m, options, "fuse", "fuse");
    return m;
}

static void run_storage(uint64_t seed) {
    PassOptions options = {.verify = true};
    Module *m = fused_storage(seed, &options), *before = module_copy(m);
    run(m, &options, "schedule", "schedule");
    Buf why = {0};
    ck_assert_msg(modules_agree(before, m, seed, TOLERANCE, &why), "seed %d: %s", (int)seed, why.at);
    run(m, &options, "plan-memory", "plan-memory");
    execute(m, m->graphs.at[0], seed);
    module_free(before);
    module_free(m);
}

/* Beyond stores, the plan does not rely on the order: where memory cannot be taken over, it is not. */
static void run_unscheduled_storage(uint64_t seed) {
    PassOptions options = {.verify = true};
    Module *m = fused_storage(seed, &options);
    m->props |= P(scheduled);
    Diag diag = {0};
    const PassInfo *plan = pass_find("plan-memory");
    bool ok = passes_run(m, &diag, &options, &plan, 1);
    if (ok)
        execute(m, m->graphs.at[0], seed);
    else
        ck_assert(diag.errors == 1 && strstr(diag.text.at, "is read after it is stored to"));
    buf_free(&diag.text);
    module_free(m);
}

static void batch(void run_seed(uint64_t), int i, int seeds) {
    for (int seed = i * BATCH; seed < (i + 1) * BATCH && seed < seeds; seed++) run_seed((uint64_t)seed);
}

START_TEST(models_run) {
    batch(run_model, _i, MODELS);
    ck_assert_uint_gt(dropped, 0);
}
END_TEST
START_TEST(long_models_run) {
    batch(run_long_model, _i, LONG);
}
END_TEST
START_TEST(storage_runs) {
    batch(run_storage, _i, STORAGES);
}
END_TEST
START_TEST(unscheduled_storage_runs) {
    batch(run_unscheduled_storage, _i, STORAGES);
}
END_TEST

/* ---- memory */

static Val viewed(const Graph *g, Val v) {
    while (op_info[val_node(g, v)->op].flags & VIEW) v = val_node(g, v)->in[0];
    return v;
}

/* Bytes that any plan needs: at each node, all values outside of the shared area (which ends at `base`)
 * that are computed and still to be read, each in the interval [first, last]. Results that may be built on
 * an operand count from the next node on. */
static int64_t least_bytes(const Graph *g, int64_t base) {
    uint32_t *last = xcalloc(g->values.n, sizeof *last);
    int64_t *change = xcalloc(g->nodes.n + 2, sizeof *change), live = 0, most = 0;
    for (Val v = 0; v < g->values.n; v++) last[v] = g->values.at[v].node;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        for (uint32_t k = 0; k < n->nin; k++) {
            Val v = viewed(g, n->in[k]);
            if (last[v] < i) last[v] = n->op == OP_output ? g->nodes.n : i;
        }
    }
    for (Val v = 0; v < g->values.n; v++) {
        const Node *n = val_node(g, v);
        if (viewed(g, v) != v || g->values.at[v].offset < base) continue;
        bool codes = val_type(g, v)->dtype == DT_T2,
             on_top = n->op == OP_region || n->op == OP_concat || (op_info[n->op].flags & INPLACE);
        uint32_t first = codes ? 0 : g->values.at[v].node + on_top, end = codes ? g->nodes.n : last[v];
        if (first > end) continue;
        change[first] += type_bytes(val_type(g, v));
        change[end + 1] -= type_bytes(val_type(g, v));
    }
    for (uint32_t i = 0; i <= g->nodes.n; i++) {
        live += change[i];
        if (live > most) most = live;
    }
    free(last);
    free(change);
    return most;
}

static int64_t end_of_shared(const Module *m) {
    int64_t end = 0;
    for (uint32_t j = 0; j < m->graphs.n; j++) {
        const Graph *g = m->graphs.at[j];
        for (uint32_t i = 0; i < g->nodes.n; i++) {
            const Node *n = &g->nodes.at[i];
            if (!is_set_before(n->op) || n->op == OP_input) continue;
            int64_t e = g->values.at[n->out].offset + type_bytes(val_type(g, n->out));
            if (e > end) end = e;
        }
    }
    return end;
}

static const struct {
    const char *spec;
    int64_t batch, seq;
    bool buffer;
} real_models[] = {{"../models/qwen3-tiny.json", 8, 256, false},
                   {"../models/qwen3-tiny.json", 8, 256, true},
                   {"../models/qwen3.json", 2, 512, false},
                   {"../models/qwen3.json", 1, 33, true}};

START_TEST(plans_are_tight) {
    Arena *arena = arena_new();
    Diag diag = {0};
    Sources sources = {.arena = arena, .diag = &diag};
    SpecOptions size = {.batch = real_models[_i].batch, .seq = real_models[_i].seq};
    Spec *spec = spec_load(&sources, real_models[_i].spec, &size);
    ck_assert_msg(spec != NULL, "%s", diag.text.at);
    Module *m = build_module(spec);
    ck_assert_msg(m != NULL, "%s", diag.text.at);
    PassOptions options = {.verify = true, .grads_buffer = real_models[_i].buffer};
    run(m, &options, "insert-ste", "plan-memory");
    int64_t base = end_of_shared(m);
    for (uint32_t j = 0; j < m->graphs.n; j++) {
        const Graph *g = m->graphs.at[j];
        int64_t least = least_bytes(g, base), end = base;
        for (Val v = 0; v < g->values.n; v++) {
            int64_t e = g->values.at[v].offset + type_bytes(val_type(g, v));
            if (e > end) end = e;
        }
        printf("%s @%s: %.1f MB, at least %.1f MB, ratio %.3f\n", real_models[_i].spec, g->name,
               1e-6 * (double)(end - base), 1e-6 * (double)least, (double)(end - base) / (double)least);
        ck_assert_int_le(end, m->arena_bytes);
        ck_assert((double)(end - base) <= 1.25 * (double)least + 8192);
    }
    module_free(m);
    spec_free(spec);
    vec_free(&sources.files);
    buf_free(&diag.text);
    arena_free(arena);
}
END_TEST

int main(void) {
    Suite *s = suite_create("plan");
    TCase *t = tcase_create("plan");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, models_run, 0, (MODELS + BATCH - 1) / BATCH);
    tcase_add_loop_test(t, long_models_run, 0, (LONG + BATCH - 1) / BATCH);
    tcase_add_loop_test(t, storage_runs, 0, (STORAGES + BATCH - 1) / BATCH);
    tcase_add_loop_test(t, unscheduled_storage_runs, 0, (STORAGES + BATCH - 1) / BATCH);
    tcase_add_loop_test(t, plans_are_tight, 0, sizeof real_models / sizeof *real_models);
    suite_add_tcase(s, t);
    return run_suite(s);
}
