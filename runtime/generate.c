/* Generation with the decode table: one run a token, which adds its keys and values to the caches and gives
 * the logits of the next one. Of a long prompt all tokens but the last go through the prefill table, many in a run.
 *
 * The caches have room for seq tokens. When they are full the older half of the text is forgotten: the other
 * half is fed again from position 0, so that about seq/2 tokens more fit. */
#include "generate.h"
#include "error.h"
#include "interrupt.h"
#include "data/rng.h"
#include "sample.h"
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_WORTH = 4 /* a run of prefill takes as long as a chunk's 4th part in decode, about */ };

typedef struct Text {
    Session *s;
    const tbc_table *decode, *prefill; /* prefill: NULL where the module has none */
    int64_t chunk;                     /* tokens of a run of prefill */
    const cJSON *eos; /* what the config says of where a text ends; NULL: nothing */
    Sampler *sampler;
    int32_t *tokens;      /* room for size of them, of which n are there */
    int64_t n, size, fed; /* the first `fed` are in the caches */
    int64_t ran;          /* how many were fed in all */
    bool forgot;          /* the beginning of the text */
    TextStream printed;   /* how far it is printed */
} Text;

static void push(Text *t, int32_t token) {
    if (t->n == t->size) {
        int64_t keep = t->size / 2;
        memmove(t->tokens, t->tokens + t->n - keep, (size_t)keep * sizeof *t->tokens);
        t->n = keep, t->fed = 0;
        if (!t->forgot && !t->s->options->quiet)
            fprintf(stderr,
                    "the text is longer than the model's window of %" PRId64
                    " tokens: its beginning is forgotten\n",
                    t->size);
        t->forgot = true;
    }
    t->tokens[t->n++] = token;
    sampler_see(t->sampler, token);
}

/* Feeds `count` tokens from `first` on. Inputs are written for every run: it may use their memory again. */
static void feed(Text *t, const tbc_table *table, int64_t first, int64_t count) {
    Session *s = t->s;
    memcpy(session_input(s, table, "tokens"), t->tokens + first, (size_t)count * sizeof *t->tokens);
    *(int32_t *)session_input(s, table, "pos") = (int32_t)first;
    session_upload_inputs(s, table);
    device_run(&s->device, table);
    t->ran += first + count - t->fed;
    t->fed = first + count;
}

/* Feeds tokens but for the last in chunks. The last chunk may feed some again, which changes nothing. A text of less
 * than a chunk is padded with token 0: decode overwrites what that leaves before anything sees it. */
static void prefill(Text *t) {
    int64_t left;
    while (t->prefill && (left = t->n - 1 - t->fed) >= t->chunk / CHUNK_WORTH && left > 0) {
        int64_t first = left < t->chunk ? t->n - 1 - t->chunk : t->fed;
        if (first < 0) {
            memset(session_input(t->s, t->prefill, "tokens"), 0, (size_t)t->chunk * sizeof *t->tokens);
            feed(t, t->prefill, 0, t->n - 1);
        } else {
            feed(t, t->prefill, first, t->chunk);
        }
    }
}

/* Logits of the token after the text, NULL if the device failed. */
static const float *next_logits(Text *t) {
    Session *s = t->s;
    prefill(t);
    while (t->fed < t->n) feed(t, t->decode, t->fed, 1);
    const float *logits = session_output(s, t->decode, "logits");
    return device_ok(&s->device) ? logits : NULL;
}

/* Without ids, prints what is still held back. */
static bool print_tokens(Text *t, const int32_t *ids, size_t n) {
    size_t bytes;
    char *text = tokenizer_stream(t->s->tokenizer, &t->printed, ids, n, &bytes);
    bool ok = fwrite(text, 1, bytes, stdout) == bytes && fflush(stdout) == 0;
    free(text);
    return ok || rt_error_errno(NULL, "cannot write the text");
}

static bool read_prompt(Text *t) {
    const Session *s = t->s;
    size_t n;
    const char *text = s->options->generate;
    int32_t *ids = tokenizer_encode(s->tokenizer, text, strlen(text), &n);
    if (!ids) return false;
    bool ok = n > 0 || rt_error(NULL, "--generate: the text has no tokens");
    for (size_t i = 0; ok && i < n; i++) {
        if (ids[i] >= s->module.vocab)
            ok = rt_error(NULL,
                          "--generate: token %" PRId32
                          " of the text is not in the model's vocabulary of %" PRId64,
                          ids[i], s->module.vocab);
        else
            push(t, ids[i]);
    }
    ok = ok && print_tokens(t, ids, n);
    free(ids);
    return ok;
}

/* What is known of the token ids that end a text, of a tree that the caller deletes: eos_token_id in the model's
 * generation_config.json, else in its config.json. False: an error was printed. */
static bool read_eos(const Session *s, cJSON **tree, const cJSON **eos) {
    const char *model = session_model(s);
    char *path = model ? file_beside(model, GENERATION_CONFIG) : NULL;
    FileMap map = {0};
    bool ok = true;
    if (path && file_exists(path)) {
        ok = file_map(&map, path);
        *tree = ok ? cJSON_ParseWithLength((const char *)map.at, map.size) : NULL;
        ok = ok && (*tree || rt_error(path, "not JSON"));
        file_unmap(&map);
    }
    free(path);
    *eos = cJSON_GetObjectItemCaseSensitive(*tree, "eos_token_id");
    if (!ok || *eos) return ok;
    cJSON_Delete(*tree);
    *tree = cJSON_Parse(s->module.config);
    *eos = cJSON_GetObjectItemCaseSensitive(*tree, "eos_token_id");
    return true;
}

/* Is the token eos_token_id, a number or one of a list? */
static bool is_eos(const cJSON *eos, int64_t token) {
    if (cJSON_IsNumber(eos)) return eos->valuedouble == (double)token;
    const cJSON *item;
    cJSON_ArrayForEach(item, eos) if (is_eos(item, token)) return true;
    return false;
}

/* Documents in training data end with the tokenizer's own token. */
static bool ends_text(const Text *t, int32_t token) {
    return is_eos(t->eos, token) || token == tokenizer_end_of_text(t->s->tokenizer);
}

/* Returns how many tokens it made, -1 after an error. */
static int64_t continue_text(Text *t) {
    Session *s = t->s;
    const Options *o = s->options;
    uint64_t stream = rng_stream("sample"), seed = (uint64_t)(o->seed >= 0 ? o->seed : s->state.seed);
    int64_t made = 0;
    while (made < o->max_tokens && !interrupt_pending()) {
        double u = rng_uniform(seed, stream, (uint64_t)made);
        const float *logits = next_logits(t);
        if (!logits) return -1;
        int32_t token = (int32_t)sampler_pick(t->sampler, logits, u);
        if (token < 0) {
            rt_error(NULL, "the model's output is not finite at token %" PRId64, made + 1);
            return -1;
        }
        if (ends_text(t, token)) break;
        made++;
        push(t, token);
        if (!print_tokens(t, &token, 1)) return -1;
    }
    if (!print_tokens(t, NULL, 0)) return -1;
    putchar('\n'), fflush(stdout);
    return made;
}

static void print_speed(const char *what, int64_t tokens, double seconds) {
    fprintf(stderr, "%s: %" PRId64 " tokens, %.1f tokens/s\n", what, tokens, (double)tokens / seconds);
}

static bool generate_text(Text *t) {
    Session *s = t->s;
    if (!read_prompt(t)) return false;
    double start = seconds_now();
    if (!next_logits(t)) return false;
    double middle = seconds_now();
    int64_t prompt = t->ran, made = continue_text(t);
    if (made < 0) return false;
    if (!s->options->quiet) {
        print_speed("prompt", prompt, middle - start);
        print_speed("generated", made, seconds_now() - middle);
    }
    return true;
}

bool generate(Session *s) {
    const Options *o = s->options;
    Text t = {.s = s, .decode = module_table(&s->module, "decode"), .size = s->module.seq};
    t.prefill = module_table(&s->module, "prefill");
    if (t.prefill) t.chunk = tensor_values(module_tensor(&s->module, t.prefill, TBC_INPUT, "tokens"));
    const Sampling how = {o->temperature, o->top_p, o->min_p, o->repetition_penalty, o->top_k};
    /* A model may have more tokens than the tokenizer has texts for. */
    int64_t known = tokenizer_vocab(s->tokenizer), vocab = s->module.vocab;
    t.sampler = sampler_new(&how, known < vocab ? known : vocab);
    t.tokens = rt_calloc((size_t)t.size, sizeof *t.tokens);
    cJSON *config = NULL;
    bool ok = read_eos(s, &config, &t.eos) && generate_text(&t);
    cJSON_Delete(config);
    sampler_free(t.sampler);
    free(t.tokens);
    return ok;
}
