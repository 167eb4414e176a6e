/* Generation with the decode table: it recomputes a window of seq tokens for each new one. The window is
 * filled from its start; what stands behind the last token does not matter, since attention is causal. When
 * it is full its oldest token drops out. */
#include "generate.h"
#include "error.h"
#include "rng.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t sample(const float *logits, int64_t n, double temperature, double u) {
    int64_t best = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(logits[i])) return -1;
        if (logits[i] > logits[best]) best = i;
    }
    if (temperature == 0) return best;
    double top = (double)logits[best], sum = 0;
    for (int64_t i = 0; i < n; i++) sum += exp(((double)logits[i] - top) / temperature);
    double left = u * sum;
    for (int64_t i = 0; i < n; i++) {
        left -= exp(((double)logits[i] - top) / temperature);
        if (left < 0) return i;
    }
    return best; /* rounding ate the last bit of the sum */
}

typedef struct Window {
    int32_t *tokens; /* size of them, zeros from n on */
    int64_t n, size;
    TextStream text; /* how far their text is printed */
} Window;

static void push(Window *w, int32_t token) {
    if (w->n == w->size) memmove(w->tokens, w->tokens + 1, (size_t)--w->n * sizeof *w->tokens);
    w->tokens[w->n++] = token;
}

/* Without ids, prints what is still held back. */
static bool print_tokens(const Session *s, Window *w, const int32_t *ids, size_t n) {
    size_t bytes;
    char *text = tokenizer_stream(s->tokenizer, &w->text, ids, n, &bytes);
    bool ok = fwrite(text, 1, bytes, stdout) == bytes && fflush(stdout) == 0;
    free(text);
    return ok || rt_error_errno(NULL, "cannot write the text");
}

/* Fills the window with the prompt. */
static bool read_prompt(const Session *s, Window *w) {
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
            push(w, ids[i]);
    }
    ok = ok && print_tokens(s, w, ids, n);
    free(ids);
    return ok;
}

/* Logits of the token after the window. Inputs are written for every run: it may use their memory again. */
static const float *next_logits(Session *s, const tbc_table *table, const Window *w) {
    memcpy(session_io(s, table, TBC_INPUT, "tokens"), w->tokens, (size_t)w->size * sizeof *w->tokens);
    *(int32_t *)session_io(s, table, TBC_INPUT, "pos") = (int32_t)(w->n - 1);
    device_run(&s->device, table);
    return session_io(s, table, TBC_OUTPUT, "logits");
}

static bool continue_text(Session *s, Window *w) {
    const Options *o = s->options;
    const tbc_table *table = module_table(&s->module, "decode");
    /* A model may have more tokens than the tokenizer has texts for. */
    int64_t known = tokenizer_vocab(s->tokenizer), vocab = known < s->module.vocab ? known : s->module.vocab;
    uint64_t stream = rng_stream("sample"), seed = (uint64_t)(o->seed >= 0 ? o->seed : s->state.seed);

    for (int64_t i = 0; i < o->max_tokens; i++) {
        int64_t token =
            sample(next_logits(s, table, w), vocab, o->temperature, rng_uniform(seed, stream, (uint64_t)i));
        if (token < 0) return rt_error(NULL, "the model's output is not finite at token %" PRId64, i + 1);
        push(w, (int32_t)token);
        if (!print_tokens(s, w, &(int32_t){(int32_t)token}, 1)) return false;
    }
    if (!print_tokens(s, w, NULL, 0)) return false;
    putchar('\n');
    return true;
}

bool generate(Session *s) {
    Window w = {.size = s->module.seq};
    w.tokens = rt_calloc((size_t)w.size, sizeof *w.tokens);
    bool ok = read_prompt(s, &w) && continue_text(s, &w);
    free(w.tokens);
    return ok;
}
