/* The frontend: specs and config.json to IR, every error message in errors/, and random damage to a good spec.
 * UPDATE=1 in the environment rewrites errors/NAME.err. */
#include "../frontend/build.h"
#include "sources_test.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- helpers */

static Module *build(const char *path, int64_t batch, int64_t seq) {
    Spec *spec = spec_load(&src, path, &(SpecOptions){.batch = batch, .seq = seq});
    Module *m = spec ? build_module(spec) : NULL;
    spec_free(spec);
    ck_assert_msg((m != NULL) == (diag.errors == 0), "%s: %s", path, diag.text.at ? diag.text.at : "");
    return m;
}

/* Builds what must be right. */
static Module *build_good(const char *path, int64_t batch, int64_t seq) {
    Module *m = build(path, batch, seq);
    ck_assert_msg(m != NULL, "%s: %s", path, diag.text.at);
    ck_assert_msg(verify(m, &diag), "%s: %s", path, diag.text.at);
    return m;
}

/* A temporary file with this text; unlinked and freed by drop_file. */
static char *temp_file(const char *text, size_t n) {
    static char path[64];
    strcpy(path, "/tmp/check_frontend-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, n), (ssize_t)n);
    close(fd);
    return path;
}

static Module *build_text(const char *text, int64_t batch, int64_t seq) {
    char *path = temp_file(text, strlen(text));
    Module *m = build(path, batch, seq);
    unlink(path);
    return m;
}

/* Number of params of a graph, of their elements in *count, of ternary ones in *ternary. */
static uint32_t count_params(const Graph *g, int64_t *count, uint32_t *ternary) {
    uint32_t n = 0;
    *count = *ternary = 0;
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *node = &g->nodes.at[i];
        if (node->op != OP_param) continue;
        ck_assert_uint_eq(i, n); /* parameters come first */
        n++;
        *count += type_count(val_type(g, node->out));
        *ternary += (node->attrs.set & A(group)) != 0;
    }
    return n;
}

static const Node *find_named(const Graph *g, Op op, const char *name) {
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        if (n->op == op && (n->attrs.set & A(name)) && strcmp(n->attrs.name, name) == 0) return n;
    }
    ck_abort_msg("%s has no %s of the name %s", g->name, op_info[op].name, name);
    return NULL;
}

/* The type of an input or param, or of what an output outputs, as text. */
static void assert_type(const Graph *g, Op op, const char *name, const char *type) {
    const Node *n = find_named(g, op, name);
    Buf b = {0};
    print_type(val_type(g, n->nout ? n->out : n->in[0]), &b);
    ck_assert_str_eq(b.at, type);
    buf_free(&b);
}

/* ---- every message in errors/ */

static int not_hidden(const struct dirent *d) {
    size_t n = strlen(d->d_name);
    return n > 5 && strcmp(d->d_name + n - 5, ".json") == 0;
}

START_TEST(error_messages) {
    struct dirent **cases;
    int n = scandir("errors", &cases, not_hidden, alphasort);
    ck_assert_int_gt(n, 80);
    for (int i = 0; i < n; i++) {
        char path[300], expected_path[300];
        snprintf(path, sizeof path, "errors/%s", cases[i]->d_name);
        snprintf(expected_path, sizeof expected_path, "%.*s.err", (int)strlen(path) - 5, path);
        teardown();
        setup();
        ck_assert_msg(build(path, 0, 0) == NULL, "%s: no error", path);
        if (getenv("UPDATE")) ck_assert(write_file(expected_path, diag.text.at, diag.text.n));
        char *expected = read_file(expected_path, NULL);
        ck_assert_msg(expected != NULL, "%s is missing", expected_path);
        ck_assert_str_eq(diag.text.at, expected);
        free(expected);
        free(cases[i]);
    }
    free(cases);
}
END_TEST

/* ---- models */

static const struct {
    const char *name;
    uint32_t tensors;
    int64_t params;
} models[] = {{"qwen3.json", 310, 596049920},
              {"qwen3-1.7b.json", 310, 1720574976},
              {"qwen3-4b.json", 398, 4022468096},
              {"qwen3-8b.json", 399, 8190735360},
              {"qwen3-tiny.json", 35, 1488576}};

START_TEST(model_sizes) {
    Module *m = build_good(models[_i].name, 0, 0); /* by name alone: found among the models */
    ck_assert_uint_eq(m->graphs.n, 4);
    for (uint32_t g = 0; g < m->graphs.n; g++) {
        int64_t params;
        uint32_t ternary;
        ck_assert_uint_eq(count_params(m->graphs.at[g], &params, &ternary), models[_i].tensors);
        ck_assert_int_eq(params, models[_i].params);
        ck_assert_uint_gt(ternary, models[_i].tensors / 2);
    }
    module_free(m);
}
END_TEST

START_TEST(model_interface) {
    Module *m = build_good("../models/qwen3.json", 0, 0);
    const Graph *train = module_graph(m, "train"), *eval = module_graph(m, "eval"),
                *decode = module_graph(m, "decode"), *prefill = module_graph(m, "prefill");
    static const char *const params[][2] = {{"model.embed_tokens.weight", "f32[151936,1024]"},
                                            {"model.layers.0.input_layernorm.weight", "f32[1024]"},
                                            {"model.layers.13.self_attn.q_proj.weight", "f32[2048,1024]"},
                                            {"model.layers.13.self_attn.k_proj.weight", "f32[1024,1024]"},
                                            {"model.layers.13.self_attn.v_proj.weight", "f32[1024,1024]"},
                                            {"model.layers.13.self_attn.o_proj.weight", "f32[1024,2048]"},
                                            {"model.layers.13.self_attn.q_norm.weight", "f32[128]"},
                                            {"model.layers.13.self_attn.k_norm.weight", "f32[128]"},
                                            {"model.layers.27.post_attention_layernorm.weight", "f32[1024]"},
                                            {"model.layers.27.mlp.gate_proj.weight", "f32[3072,1024]"},
                                            {"model.layers.27.mlp.up_proj.weight", "f32[3072,1024]"},
                                            {"model.layers.27.mlp.down_proj.weight", "f32[1024,3072]"},
                                            {"model.norm.weight", "f32[1024]"}};
    for (size_t i = 0; i < sizeof params / sizeof *params; i++) {
        assert_type(train, OP_param, params[i][0], params[i][1]);
        assert_type(decode, OP_param, params[i][0], params[i][1]);
    }
    assert_type(train, OP_input, "tokens", "i32[2,512]");
    assert_type(train, OP_input, "targets", "i32[2,512]");
    assert_type(train, OP_output, "loss", "f32[1]");
    assert_type(eval, OP_output, "nll", "f32[2,512,1]");
    assert_type(decode, OP_input, "tokens", "i32[1,1]");
    assert_type(decode, OP_input, "pos", "i32[1]");
    assert_type(decode, OP_output, "logits", "f32[1,1,151936]");
    assert_type(prefill, OP_input, "tokens", "i32[1,64]");
    assert_type(prefill, OP_input, "pos", "i32[1]");
    ck_assert_int_eq(find_named(train, OP_param, "model.embed_tokens.weight")->attrs.group, 128);
    ck_assert(!(find_named(train, OP_param, "model.norm.weight")->attrs.set & A(group)));
    ck_assert(train->attrs.beta1 == 0.9 && train->attrs.beta2 == 0.95 && train->attrs.eps == 1e-8);
    ck_assert_uint_eq(m->props, 0);
    module_free(m);
}
END_TEST

START_TEST(text_round_trip) {
    Module *m = build_good("qwen3-tiny.json", 2, 32);
    Buf once = {0}, twice = {0};
    print_module(m, &once);
    Module *again = parse_module(once.at, "once.tir", &diag);
    ck_assert_msg(again != NULL, "%s", diag.text.at);
    print_module(again, &twice);
    ck_assert_str_eq(once.at, twice.at);
    buf_free(&once);
    buf_free(&twice);
    module_free(again);
    module_free(m);
}
END_TEST

/* With weights of zero every token is equally likely: log(vocab) nats. */
START_TEST(untrained_loss) {
    Module *m = build_good("errors/include/base.json", 0, 0);
    int64_t shape[2] = {16, 8};
    double weights[128] = {0}, tokens[8] = {0, 3, 5, 1, 15, 2, 7, 9};
    Tensor w = {type_make(DT_F32, 2, shape), weights}, t = {type_make(DT_I32, 2, (int64_t[]){2, 4}), tokens};
    Binding in[] = {{"embed", w}, {"head", w}, {"tokens", t}, {"targets", t}};
    Arena *arena = arena_new();
    Bindings out = {0};
    ck_assert(eval_graph(module_graph(m, "train"), EVAL_F64, in, 4, arena, &out, &diag));
    ck_assert_uint_eq(out.n, 1);
    ck_assert_double_eq_tol(out.at[0].tensor.at[0], log(16), 1e-12);
    vec_free(&out);
    arena_free(arena);
    module_free(m);
}
END_TEST

/* ---- Hugging Face's config.json */

#define HF_SIZES                                                                                             \
    "\"model_type\":\"qwen3\",\"vocab_size\":151,\"hidden_size\":576,\"intermediate_size\":300,"             \
    "\"num_hidden_layers\":2,\"num_attention_heads\":6,\"num_key_value_heads\":1"

START_TEST(hf_defaults) {
    Module *m = build_text("{" HF_SIZES "}", 3, 45);
    ck_assert_msg(m && verify(m, &diag), "%s", diag.text.at);
    const Graph *g = module_graph(m, "train");
    assert_type(g, OP_param, "model.layers.1.self_attn.q_proj.weight", "f32[768,576]");
    assert_type(g, OP_param, "model.layers.1.self_attn.k_proj.weight", "f32[128,576]");
    assert_type(g, OP_param, "lm_head.weight", "f32[151,576]"); /* Transformers' default: not tied */
    assert_type(g, OP_input, "tokens", "i32[3,45]");
    ck_assert_int_eq(find_named(g, OP_param, "lm_head.weight")->attrs.group, 128);
    ck_assert_ptr_nonnull(strstr(m->meta, "\"rope_theta\":10000,"));
    ck_assert_ptr_nonnull(strstr(m->meta, "\"tie_word_embeddings\":false"));
    ck_assert_ptr_nonnull(
        strstr(m->meta, "\"quantization_config\":{\"quant_method\":\"ternary\",\"group_size\":128}"));
    ck_assert_ptr_nonnull(strstr(m->meta, "\"batch\":3,\"seq\":45,\"vocab\":151,"));
    module_free(m);
}
END_TEST

START_TEST(hf_options) {
    Module *m = build_text(
        "{" HF_SIZES ",\"head_dim\":64,\"rope_parameters\":{\"rope_theta\":5000.5,\"rope_type\":\"default\"},"
        "\"tie_word_embeddings\":true,\"rms_norm_eps\":1e-5,\"torch_dtype\":\"bfloat16\",\"eos_token_id\":7,"
        "\"sliding_window\":null,\"max_position_embeddings\":99,\"layer_types\":[\"full_attention\"],"
        "\"quantization_config\":{\"group_size\":100}}",
        0, 0);
    ck_assert_msg(m && verify(m, &diag), "%s", diag.text.at);
    const Graph *g = module_graph(m, "train");
    assert_type(g, OP_param, "model.layers.1.self_attn.q_proj.weight", "f32[384,576]");
    assert_type(g, OP_input, "tokens", "i32[2,512]"); /* from qwen3.json */
    ck_assert_int_eq(find_named(g, OP_param, "model.embed_tokens.weight")->attrs.group, 100);
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        ck_assert(n->op != OP_rope_cos || n->attrs.theta == 5000.5);
        ck_assert(n->op != OP_offset || n->attrs.c == 1e-5);
    }
    ck_assert_ptr_nonnull(strstr(m->meta, "\"torch_dtype\":\"float32\""));
    ck_assert_ptr_null(strstr(m->meta, "bfloat16"));
    ck_assert_ptr_nonnull(strstr(m->meta, "\"eos_token_id\":7"));
    ck_assert_ptr_nonnull(strstr(m->meta, "\"max_position_embeddings\":99"));
    ck_assert_ptr_nonnull(strstr(m->meta, "\"group_size\":100}"));
    module_free(m);
}
END_TEST

START_TEST(hf_null_key_heads) {
    Module *m = build_text(
        "{\"model_type\":\"qwen3\",\"vocab_size\":151,\"hidden_size\":64,\"intermediate_size\":96,"
        "\"num_hidden_layers\":1,\"num_attention_heads\":6,\"head_dim\":16,\"num_key_value_heads\":null}",
        1, 8);
    ck_assert_msg(m && verify(m, &diag), "%s", diag.text.at);
    assert_type(module_graph(m, "train"), OP_param, "model.layers.0.self_attn.k_proj.weight", "f32[96,64]");
    ck_assert_ptr_nonnull(strstr(m->meta, "\"num_key_value_heads\":6"));
    module_free(m);
}
END_TEST

START_TEST(full_precision) {
    static const char *const specs[] = {"{" HF_SIZES ",\"quantization_config\":null}",
                                        "{\"extends\":\"qwen3-tiny.json\",\"ternary\":null}"};
    for (int i = 0; i < 2; i++) {
        Module *m = build_text(specs[i], 1, 8);
        ck_assert_msg(m != NULL, "%s", diag.text.at);
        int64_t params;
        uint32_t ternary;
        count_params(module_graph(m, "train"), &params, &ternary);
        ck_assert_uint_eq(ternary, 0);
        ck_assert_ptr_nonnull(strstr(m->meta, "\"quantization_config\":null"));
        module_free(m);
    }
}
END_TEST

/* ---- variants */

START_TEST(variants) {
    Module *m = build_text(
        "{\"extends\":\"qwen3-tiny.json\",\"name\":\"v\",\"dims\":{\"layers\":1,\"ffn\":\"hidden*2\"},"
        "\"ternary\":{\"group_size\":32},"
        "\"train\":{\"optimizer\":{\"betas\":[0.8,0.9],\"beta1\":null}}}",
        0, 0);
    ck_assert_ptr_null(m); /* beta1 comes along with the base */
    teardown();
    setup();
    m = build_text(
        "{\"extends\":\"qwen3-tiny.json\",\"name\":\"v\",\"dims\":{\"layers\":1,\"ffn\":\"hidden*2\"},"
        "\"ternary\":{\"group_size\":32},\"train\":{\"optimizer\":{\"beta1\":0.8,\"bias_correction\":false}}"
        "}",
        0, 16);
    ck_assert_msg(m && verify(m, &diag), "%s", diag.text.at);
    const Graph *g = module_graph(m, "train");
    assert_type(g, OP_param, "model.layers.0.mlp.gate_proj.weight", "f32[384,192]");
    assert_type(g, OP_input, "tokens", "i32[8,16]");
    ck_assert(g->attrs.beta1 == 0.8 && g->attrs.beta2 == 0.95);
    ck_assert_ptr_nonnull(strstr(m->meta, "\"name\":\"v\""));
    ck_assert_ptr_nonnull(strstr(m->meta, "\"bias_correction\":false"));
    ck_assert(meta_set(m, (const char *const[]){"grads", "fused", "name", "w", NULL}));
    ck_assert_int_eq(strncmp(m->meta, "{\"name\":\"w\",", 12), 0); /* where it was, so that meta keeps its order */
    ck_assert_ptr_nonnull(strstr(m->meta, "\"eps\":1e-08"));
    m->meta = "[]";
    ck_assert(!meta_set(m, (const char *const[]){"grads", "fused", NULL}));
    module_free(m);
}
END_TEST

START_TEST(ternary_variants) {
    Module *m = build_text("{\"extends\":\"qwen3-tiny.json\",\"dims\":{\"layers\":1},"
                           "\"ternary\":{\"ste\":\"clipped\",\"lambda_warmup\":true}}",
                           1, 8);
    ck_assert_msg(m && verify(m, &diag), "%s", diag.text.at);
    const Graph *warmup = module_graph(m, "warmup");
    ck_assert(warmup && warmup->attrs.beta1 == 0.9);
    assert_type(warmup, OP_input, "lambda", "f32[1]");
    for (uint32_t i = 0; i < m->graphs.n; i++)
        for (uint32_t k = 0; k < m->graphs.at[i]->nodes.n; k++) {
            const Node *n = &m->graphs.at[i]->nodes.at[k];
            ck_assert(n->op != OP_param || n->attrs.clip == (n->attrs.group != 0));
        }
    module_free(m);
    m = build_text("{\"extends\":\"qwen3-tiny.json\",\"ternary\":{\"ste\":\"identity\"}}", 1, 8);
    ck_assert_msg(m && !module_graph(m, "warmup"), "%s", diag.text.at);
    ck_assert_uint_eq(module_graph(m, "train")->nodes.at[0].attrs.set & A(clip), 0);
    module_free(m);
}
END_TEST

/* Loops and conditions: the second of three layers has no weights; names with two numbers. */
START_TEST(control_flow) {
    Module *m = build_good("specs/control-flow.json", 0, 0);
    int64_t params;
    uint32_t ternary;
    const Graph *g = module_graph(m, "train");
    ck_assert_uint_eq(count_params(g, &params, &ternary), 5);
    find_named(g, OP_param, "w.0.10");
    find_named(g, OP_param, "w.2.11");
    module_free(m);
}
END_TEST

/* The schema knows every op that the compiler knows. */
START_TEST(schema_ops) {
    char *schema = read_file("../models/spec.schema.json", NULL);
    ck_assert_ptr_nonnull(schema);
    for (int i = 0; i < SPEC_OP_COUNT; i++) {
        char quoted[64];
        snprintf(quoted, sizeof quoted, "\"%s\"", spec_op_info[i].name);
        ck_assert_msg(strstr(schema, quoted) != NULL, "%s is missing in the schema", quoted);
    }
    ck_assert_ptr_nonnull(json_parse(&src, "schema", schema, strlen(schema)));
    free(schema);
}
END_TEST

/* ---- damage */

static uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* Changes the text at a random place; returns the new length. There is room for 64 more bytes. */
static size_t damage(char *text, size_t n, uint64_t *state) {
    static const char *const bits[] = {
        "null", "-1", "0",  "1e400", "\"x\"", "[]", "{}", "9007199254740993",    "4096",
        "{i}",  "\"", "\\", "true",  "1.5",   ",",  ":",  "hidden*hidden*hidden"};
    const char *bit = bits[next_random(state) % (sizeof bits / sizeof *bits)];
    size_t at = next_random(state) % n, length = strlen(bit), cut = next_random(state) % 12;
    if (cut > n - at) cut = n - at;
    switch (next_random(state) % 4) {
    case 0:
        text[at] = (char)(next_random(state) % 256);
        return n;
    case 1:
        memmove(text + at, text + at + cut, n - at - cut + 1);
        return n - cut;
    case 2:
        memmove(text + at + length, text + at, n - at + 1);
        break;
    default: /* in place of a number or the rest of a word */
        while (at < n && !strchr(" :[", text[at])) at++;
        if (at < n) at++;
        cut = strcspn(text + at, ",]} ");
        memmove(text + at + length, text + at + cut, n - at - cut + 1);
        memcpy(text + at, bit, length);
        return n + length - cut;
    }
    memcpy(text + at, bit, length);
    return n + length;
}

START_TEST(fuzz) {
    size_t n;
    char *good = read_file("../models/qwen3.json", &n);
    ck_assert_ptr_nonnull(good);
    char *layers = strstr(good, "\"layers\": 28");
    ck_assert_ptr_nonnull(layers);
    memcpy(layers, "\"layers\":  2", 12);
    char *text = malloc(n + 256);
    uint64_t state = 1;
    uint32_t built = 0;
    for (int round = 0; round < 3000; round++) {
        teardown();
        setup();
        memcpy(text, good, n + 1);
        size_t length = n;
        for (uint32_t i = 1 + next_random(&state) % 3; i > 0; i--) length = damage(text, length, &state);
        char *path = temp_file(text, length);
        Module *m = build(path, 1 + round % 3, 8);
        unlink(path);
        if (!m) continue;
        built++;
        ck_assert_msg(verify(m, &diag), "round %d: %s", round, diag.text.at);
        module_free(m);
    }
    ck_assert_uint_gt(built, 100);
    free(text);
    free(good);
}
END_TEST

int main(void) {
    Suite *s = suite_create("frontend");
    TCase *t = tcase_create("frontend");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 300);
    tcase_add_test(t, error_messages);
    tcase_add_loop_test(t, model_sizes, 0, sizeof models / sizeof *models);
    tcase_add_test(t, model_interface);
    tcase_add_test(t, text_round_trip);
    tcase_add_test(t, untrained_loss);
    tcase_add_test(t, hf_defaults);
    tcase_add_test(t, hf_options);
    tcase_add_test(t, hf_null_key_heads);
    tcase_add_test(t, full_precision);
    tcase_add_test(t, variants);
    tcase_add_test(t, ternary_variants);
    tcase_add_test(t, control_flow);
    tcase_add_test(t, schema_ops);
    tcase_add_test(t, fuzz);
    suite_add_tcase(s, t);
    return run_suite(s);
}
