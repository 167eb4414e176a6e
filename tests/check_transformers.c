/* Logits, number by number, against those of Transformers' Qwen3 on a random model that it saved itself:
 * config.json and weights are as it wrote them. golden/transformers/NAME/logits.safetensors has
 *
 *     tokens   [B,S+1], as f32
 *     full     [B,S,V], logits after each of the first S tokens
 *     ternary  the same of weights projected in groups of 20
 *
 * The model is compiled, loaded, saved and loaded again; its table decode must give these logits one token at
 * a time, and eval their cross-entropy. */
#include "rt_session.h"
#include "../runtime/error.h"
#include <math.h>

enum { GROUP = 20 };

static const struct {
    const char *model, *weights; /* a folder of golden/transformers; full or ternary */
} cases[] = {{"tied", "ternary"}, {"untied", "full"}};

static float *values(const SafeTensors *st, const char *name) {
    const StTensor *t = st_find(st, name);
    ck_assert_msg(t != NULL, "no tensor %s", name);
    float *out = rt_calloc((size_t)tensor_count(t->rank, t->dim), sizeof *out);
    ck_assert(st_read_f32(t, out));
    return out;
}

/* Compiles the model for as many tokens as there are; the path of the module. */
static const char *compile_case(int i, const StTensor *tokens) {
    char folder[4096], spec[8192], command[4096];
    ck_assert_ptr_nonnull(getcwd(folder, sizeof folder));
    if (!strcmp(cases[i].weights, "full"))
        snprintf(spec, sizeof spec,
                 "{\"extends\":\"%s/golden/transformers/%s/config.json\",\"ternary\":null}", folder,
                 cases[i].model);
    else
        snprintf(spec, sizeof spec,
                 "{\"extends\":\"%s/golden/transformers/%s/config.json\",\"ternary\":{\"group_size\":%d}}",
                 folder, cases[i].model, GROUP);
    put_file("spec.json", spec, strlen(spec));
    snprintf(command, sizeof command, "%s/tbc compile %s", getenv("TBC_BUILD"), scratch("spec.json"));
    size_t n = strlen(command);
    snprintf(command + n, sizeof command - n, " -o %s --batch %lld --seq %lld", scratch("m.so"),
             (long long)tokens->dim[0], (long long)tokens->dim[1] - 1);
    ck_assert_int_eq(system(command), 0);
    return scratch("m.so");
}

/* In units of the largest number that is wanted. */
static void assert_near(double got, double want, double largest, const char *what, int64_t at) {
    ck_assert_msg(fabs(got - want) <= 1e-5 * largest, "%s %lld is %.9g, in Transformers %.9g", what,
                  (long long)at, got, want);
}

static double largest_of(const float *x, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)x[i]));
    return largest;
}

static void compare_decode(Session *s, const float *tokens, const float *want) {
    const tbc_table *project = module_table(&s->module, "project"),
                    *decode = module_table(&s->module, "decode");
    const int64_t batch = s->module.batch, seq = s->module.seq, vocab = s->module.vocab;
    const double largest = largest_of(want, batch * seq * vocab);
    if (project) device_run(&s->device, project);
    for (int64_t i = 0; i < batch * seq; i++) {
        *(int32_t *)session_input(s, decode, "tokens") = (int32_t)tokens[i / seq * (seq + 1) + i % seq];
        *(int32_t *)session_input(s, decode, "pos") = (int32_t)(i % seq);
        session_upload_inputs(s, decode);
        device_run(&s->device, decode);
        const float *got = session_output(s, decode, "logits");
        for (int64_t v = 0; v < vocab; v++)
            assert_near((double)got[v], (double)want[i * vocab + v], largest, "logit", i * vocab + v);
    }
}

static double cross_entropy(const float *logits, int64_t vocab, int64_t target) {
    double sum = 0;
    for (int64_t v = 0; v < vocab; v++) sum += exp((double)logits[v] - (double)logits[target]);
    return log(sum);
}

static void compare_eval(Session *s, const float *tokens, const float *want) {
    const tbc_table *eval = module_table(&s->module, "eval");
    const int64_t batch = s->module.batch, seq = s->module.seq, vocab = s->module.vocab;
    int32_t *in = session_input(s, eval, "tokens"), *targets = session_input(s, eval, "targets");
    for (int64_t i = 0; i < batch * seq; i++) {
        const float *token = &tokens[i / seq * (seq + 1) + i % seq];
        in[i] = (int32_t)token[0], targets[i] = (int32_t)token[1];
    }
    session_upload_inputs(s, eval);
    device_run(&s->device, eval);
    const float *got = session_output(s, eval, "nll");
    for (int64_t i = 0; i < batch * seq; i++) {
        int64_t target = (int64_t)tokens[i / seq * (seq + 1) + i % seq + 1];
        assert_near((double)got[i], cross_entropy(want + i * vocab, vocab, target), 1, "cross-entropy", i);
    }
}

START_TEST(logits) {
    char golden[256], from[512];
    snprintf(golden, sizeof golden, "golden/transformers/%s/logits.safetensors", cases[_i].model);
    SafeTensors *st = st_open(golden);
    ck_assert(st != NULL);
    float *tokens = values(st, "tokens"), *want = values(st, cases[_i].weights);
    const char *module = compile_case(_i, st_find(st, "tokens"));
    snprintf(from, sizeof from, "--weights golden/transformers/%s/model.safetensors", cases[_i].model);
    for (int saved = 0; saved < 2; saved++) {
        Session s;
        open_session(&s, "%s %s --verify", module, from);
        compare_decode(&s, tokens, want);
        compare_eval(&s, tokens, want);
        ck_assert(session_save(&s, scratch("saved")));
        session_close(&s);
        snprintf(from, sizeof from, "--resume %s", scratch("saved"));
    }
    free(tokens), free(want);
    st_close(st);
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("transformers");
    tcase_add_loop_test(tests, logits, 0, sizeof cases / sizeof *cases);
    return run_tests("transformers", tests);
}
