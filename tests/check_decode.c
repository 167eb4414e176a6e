/* Decoding a token at a time, with caches and codes that stay, against eval on the whole sequence: compiled
 * models of several kinds must give the same logits. And the codes that training leaves, against project's.
 *
 * eval gives the loss of one target a position. Every token in turn as the target of all positions gives the
 * whole distribution: nll[target] = log-sum-exp - logit. */
#include "../codegen/codegen.h"
#include "../frontend/build.h"
#include "../passes/pass.h"
#include "../runtime/device/device.h"
#include "../runtime/data/rng.h"
#include "suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VOCAB = 29, SEQ = 80, BATCH = 2, CHUNK = 64 /* of prefill */ };

typedef struct Model {
    const char *name, *config; /* keys of a config.json besides those that all share */
    const char *precision;     /* NULL: f32 */
} Model;
static const Model models[] = {
    {"tied", "\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16,"
             "\"tie_word_embeddings\": true", NULL},
    {"untied",
     "\"hidden_size\": 64, \"num_attention_heads\": 2, \"num_key_value_heads\": 2, \"head_dim\": 24,"
     "\"tie_word_embeddings\": false", NULL},
    {"one key head",
     "\"hidden_size\": 96, \"num_attention_heads\": 6, \"num_key_value_heads\": 1, \"head_dim\": 10,"
     "\"tie_word_embeddings\": true", NULL},
    {"ragged groups",
     "\"hidden_size\": 200, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 32,"
     "\"tie_word_embeddings\": true", NULL},
    {"groups within words", "\"hidden_size\": 72, \"num_attention_heads\": 2, \"num_key_value_heads\": 1,"
                            "\"head_dim\": 20, \"tie_word_embeddings\": false,"
                            "\"quantization_config\": {\"group_size\": 20}", NULL},
    {"full precision", "\"hidden_size\": 64, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
                       "\"head_dim\": 16, \"tie_word_embeddings\": true, \"quantization_config\": null", NULL},
    {"ragged groups in int16", "\"hidden_size\": 200, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
                               "\"head_dim\": 32, \"tie_word_embeddings\": false", "i16"},
    {"groups within blocks in int16", "\"hidden_size\": 96, \"num_attention_heads\": 2, \"num_key_value_heads\": 1,"
                                      "\"head_dim\": 20, \"tie_word_embeddings\": false,"
                                      "\"quantization_config\": {\"group_size\": 32}", "i16"},
};
enum { MODELS = sizeof models / sizeof *models };

typedef struct Run {
    LoadedModule module;
    Device device;
} Run;

static char *temp_path(char *path, const char *end) {
    snprintf(path, 64, "/tmp/check_decode-XXXXXX%s", end);
    int fd = mkstemps(path, (int)strlen(end));
    ck_assert_int_ge(fd, 0);
    close(fd);
    return path;
}

static Module *build_spec(const char *path, Sources *src) {
    Spec *spec = spec_load(src, path, &(SpecOptions){.batch = BATCH, .seq = SEQ});
    Module *m = spec ? build_module(spec) : NULL;
    spec_free(spec);
    return m;
}

static void compile(const Model *model, bool buffer, const char *path) {
    char config[64];
    FILE *f = fopen(temp_path(config, ".json"), "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f,
            "{\"model_type\": \"qwen3\", \"vocab_size\": %d, \"intermediate_size\": 88, "
            "\"num_hidden_layers\": 2, %s}",
            VOCAB, model->config);
    fclose(f);
    Diag diag = {.out = stderr};
    Sources src = {.diag = &diag, .arena = arena_new()};
    Module *m = build_spec(config, &src);
    unlink(config);
    Target target;
    ck_assert(m && target_init(&target, NULL, 0, src.arena, &diag));
    ck_assert(passes_run_all(m, &diag, &(PassOptions){.verify = true, .grads_buffer = buffer, .precision = model->precision}));
    ck_assert(codegen_emit(m, &target, EMIT_SO, path, &diag));
    module_free(m);
    vec_free(&src.files);
    arena_free(src.arena);
}

static void open_run(Run *r, const Model *model, bool buffer) {
    char path[64];
    compile(model, buffer, temp_path(path, ".so"));
    ck_assert(module_load(&r->module, path) && device_open(&r->device, &r->module, "cpu", model == models ? 2 : 1));
    unlink(path);
    for (uint32_t i = 0; i < r->module.desc->ntensors; i++) {
        const tbc_tensor *t = &r->module.desc->tensors[i];
        if (t->kind == TBC_PARAM) rng_init_tensor(5, t->name, t->rank, t->dim, device_at(&r->device, t));
    }
}

static void close_run(Run *r) {
    device_close(&r->device);
    module_unload(&r->module);
}

static void *io(const Run *r, const tbc_table *table, enum tbc_kind kind, const char *name) {
    return device_at(&r->device, module_tensor(&r->module, table, kind, name));
}

/* want[i][v] = -log p(v | tokens 0 .. i) */
static void evaluate(Run *r, const int32_t *tokens, float want[SEQ][VOCAB]) {
    const tbc_table *eval = module_table(&r->module, "eval");
    for (int32_t v = 0; v < VOCAB; v += BATCH) { /* a token each sequence */
        int32_t *in = io(r, eval, TBC_INPUT, "tokens"), *targets = io(r, eval, TBC_INPUT, "targets");
        for (int i = 0; i < BATCH * SEQ; i++) in[i] = tokens[i % SEQ], targets[i] = (v + i / SEQ) % VOCAB;
        device_run(&r->device, eval);
        const float *nll = io(r, eval, TBC_OUTPUT, "nll");
        for (int i = 0; i < BATCH * SEQ; i++) want[i % SEQ][(v + i / SEQ) % VOCAB] = nll[i];
    }
}

static void decode(Run *r, int32_t token, int32_t pos, double got[VOCAB]) {
    const tbc_table *table = module_table(&r->module, "decode");
    *(int32_t *)io(r, table, TBC_INPUT, "tokens") = token;
    *(int32_t *)io(r, table, TBC_INPUT, "pos") = pos;
    device_run(&r->device, table);
    const float *logits = io(r, table, TBC_OUTPUT, "logits");
    double sum = 0;
    for (int v = 0; v < VOCAB; v++) sum += exp((double)logits[v]);
    for (int v = 0; v < VOCAB; v++) got[v] = log(sum) - (double)logits[v];
}

static void compare(Run *r, const Model *model, const int32_t *tokens, float want[SEQ][VOCAB], int from) {
    for (int i = from; i < SEQ; i++) {
        double got[VOCAB];
        decode(r, tokens[i], i, got);
        /* f32 sums that differ in their last bit are rounded to other int16: so far is f32 from int16, too */
        double most = model->precision ? 5e-4 : 1e-5;
        for (int v = 0; v < VOCAB; v++)
            ck_assert_msg(fabs(got[v] - (double)want[i][v]) < most,
                          "%s: position %d, token %d: %.7g, not %.7g", model->name, i, v, got[v],
                          (double)want[i][v]);
    }
}

static void clear_caches(const Run *r) {
    for (uint32_t i = 0; i < r->module.desc->ntensors; i++) {
        const tbc_tensor *t = &r->module.desc->tensors[i];
        if (t->kind == TBC_CACHE) memset(device_at(&r->device, t), 0, t->bytes);
    }
}

/* tokens[0 .. n-1] from `pos` on, in a run that is padded. */
static void prefill(Run *r, const int32_t *tokens, int n, int32_t pos) {
    const tbc_table *table = module_table(&r->module, "prefill");
    int32_t *in = io(r, table, TBC_INPUT, "tokens");
    memset(in, 0, CHUNK * sizeof *in);
    memcpy(in, tokens, (size_t)n * sizeof *in);
    *(int32_t *)io(r, table, TBC_INPUT, "pos") = pos;
    device_run(&r->device, table);
}

/* prefill leaves in the caches what decode does, which goes on from there; what is behind the text is overwritten. */
static void check_prefill(Run *r, const Model *model, const int32_t *tokens, float want[SEQ][VOCAB]) {
    const tbc_table *table = module_table(&r->module, "prefill");
    ck_assert_int_eq(tensor_values(module_tensor(&r->module, table, TBC_INPUT, "tokens")), CHUNK);
    clear_caches(r);
    prefill(r, tokens, 10, 0);
    compare(r, model, tokens, want, 10);
    clear_caches(r);
    prefill(r, tokens, CHUNK, 0);
    prefill(r, tokens + SEQ - 3 - CHUNK, CHUNK, SEQ - 3 - CHUNK); /* some of them again */
    compare(r, model, tokens, want, SEQ - 3);
}

/* All codes, one after the other, in memory to be freed. */
static unsigned char *all_codes(const Run *r, uint64_t *bytes) {
    unsigned char *all = NULL;
    *bytes = 0;
    for (uint32_t i = 0; i < r->module.desc->ntensors; i++) {
        const tbc_tensor *t = &r->module.desc->tensors[i];
        if (t->kind != TBC_CODES) continue;
        all = realloc(all, *bytes + t->bytes);
        ck_assert(all != NULL);
        memcpy(all + *bytes, device_at(&r->device, t), t->bytes);
        *bytes += t->bytes;
    }
    return all;
}

/* One step on some tokens, by table train, or by backward and update. */
static void train(Run *r, bool buffer) {
    const tbc_table *loss = module_table(&r->module, buffer ? "backward" : "train");
    const tbc_table *update = module_table(&r->module, buffer ? "update" : "train");
    int32_t *in = io(r, loss, TBC_INPUT, "tokens"), *targets = io(r, loss, TBC_INPUT, "targets");
    float *hyper = io(r, update, TBC_INPUT, "hyper");
    for (int i = 0; i < BATCH * SEQ; i++) in[i] = i * i % VOCAB, targets[i] = (i + 1) * (i + 1) % VOCAB;
    if (buffer) device_run(&r->device, loss);
    hyper[0] = 1, hyper[1] = 0.1f, hyper[2] = 20, hyper[3] = 1;
    device_run(&r->device, update);
}

/* Training leaves the codes that project makes of the new weights, to the bit. */
static void check_codes_after_training(Run *r, bool buffer) {
    uint64_t bytes;
    unsigned char *first = all_codes(r, &bytes);
    train(r, buffer), train(r, buffer);
    unsigned char *left = all_codes(r, &bytes);
    device_run(&r->device, module_table(&r->module, "project"));
    unsigned char *made = all_codes(r, &bytes);
    ck_assert(memcmp(left, made, bytes) == 0);
    ck_assert(memcmp(left, first, bytes) != 0);
    free(first), free(left), free(made);
}

START_TEST(decode_equals_eval) {
    const Model *model = &models[_i];
    Run r;
    open_run(&r, model, false);
    int32_t tokens[SEQ];
    for (int i = 0; i < SEQ; i++) tokens[i] = (int32_t)(rng_bits(7, 1, (uint64_t)i) % VOCAB);
    const tbc_table *project = module_table(&r.module, "project");
    ck_assert_int_eq(project != NULL, strcmp(model->name, "full precision") != 0);
    if (project) device_run(&r.device, project);
    float want[SEQ][VOCAB];
    evaluate(&r, tokens, want);
    compare(&r, model, tokens, want, 0); /* eval in between has left codes and caches alone */
    for (int i = SEQ / 2; i < SEQ; i++) tokens[i] = (tokens[i] + 1) % VOCAB;
    evaluate(&r, tokens, want);
    compare(&r, model, tokens, want, SEQ / 2); /* another end after the same beginning */
    check_prefill(&r, model, tokens, want);
    if (project) check_codes_after_training(&r, false);
    evaluate(&r, tokens, want);
    compare(&r, model, tokens, want, 0); /* decode reads the new codes, as eval does */
    close_run(&r);
}
END_TEST

START_TEST(update_leaves_codes) {
    Run r;
    open_run(&r, &models[3], true);
    device_run(&r.device, module_table(&r.module, "project"));
    check_codes_after_training(&r, true);
    close_run(&r);
}
END_TEST

int main(void) {
    Suite *s = suite_create("decode");
    TCase *c = tcase_create("decode");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, decode_equals_eval, 0, MODELS);
    tcase_add_test(c, update_leaves_codes);
    suite_add_tcase(s, c);
    return run_suite(s);
}
