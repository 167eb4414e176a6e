/* The command line of tbc-run. */
#ifndef TBC_RT_OPTIONS_H
#define TBC_RT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* One field a flag, named as in options.def. Not given: NULL, false, or below zero where the default
 * depends on something else; other defaults are filled in. */
typedef struct Options {
    const char *module; /* OUT.so */
    const char *schedule, *save_best;
    const char *data, *tokenizer, *weights, *save, *resume, *log, *report, *device, *generate, *split;
    const char *encode, *decode;
    int64_t steps, warmup, seed, accumulate, eval_every, save_every, log_every, threads, max_tokens, stride;
    int64_t total_steps, patience, lambda_warmup;
    double decay_fraction, weight_decay_until;
    double lr, weight_decay, clip, temperature;
    const char *export, *export_as, *gguf_type;
    int64_t top_k;
    double top_p, min_p, repetition_penalty;
    bool no_shuffle, eval_only, verify, profile, quiet;
    bool train; /* is training asked for? With --data, unless --eval-only */
} Options;

typedef enum OptionsResult { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_WRONG } OptionsResult;

/* Parses the arguments. DONE: --help or --version was printed. WRONG: an error was printed (exit 2). */
OptionsResult options_parse(Options *, int argc, char **argv);

bool options_export_gguf(const Options *); /* does --export name a FILE.gguf? */

#endif
