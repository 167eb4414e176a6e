/* Command-line parsing, driven by options.def: which flags there are, what values they take, and which
 * cannot be combined. --flag value and --flag=value are the same. */
#include "options.h"
#include "error.h"
#include "schedule.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum Kind { KIND_text, KIND_count, KIND_number, KIND_on } Kind;

typedef struct Flag {
    const char *name;
    size_t field; /* offset in Options */
    Kind kind;
    double min, max;
    const char *arg, *help;
} Flag;

static const Flag flags[] = {
#define OPTION(flag, field, kind, min, max, arg, help)                                                       \
    {"--" #flag, offsetof(Options, field), KIND_##kind, min, max, arg, help},
#include "options.def"
#undef OPTION
};
enum { FLAGS = sizeof flags / sizeof *flags };

static void print_help(void) {
    printf("usage: tbc-run OUT.so [flags]\n"
           "Trains, evaluates and samples the model that `tbc compile` put into OUT.so.\n\n");
    for (int i = 0; i < FLAGS; i++) printf("  %-21s%-14s %s\n", flags[i].name, flags[i].arg, flags[i].help);
    printf("  %-35s %s\n  %-35s %s\n", "--help", "this text", "--version", "the version");
}

/* ---- values */

static bool wrong_number(const Flag *f, const char *text) {
    return rt_error(NULL, "%s: '%s' is not a %s from %g to %g", f->name, text,
                    f->kind == KIND_count ? "whole number" : "number", f->min, f->max);
}

static bool set_count(const Flag *f, const char *text, int64_t *out) {
    if (!*text || strspn(text, "0123456789") != strlen(text)) return wrong_number(f, text);
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno || (double)value < f->min || (double)value > f->max) return wrong_number(f, text);
    *out = value;
    return true;
}

static bool set_number(const Flag *f, const char *text, double *out) {
    char *end;
    double value = strtod(text, &end);
    if (!*text || isspace((unsigned char)*text) || *end || !(value >= f->min && value <= f->max))
        return wrong_number(f, text);
    *out = value;
    return true;
}

static bool set(Options *o, const Flag *f, const char *value) {
    void *field = (char *)o + f->field;
    switch (f->kind) {
    case KIND_text:
        if (!*value) return rt_error(NULL, "%s: the value is empty (expected %s)", f->name, f->arg);
        *(const char **)field = value;
        return true;
    case KIND_count:
        return set_count(f, value, field);
    case KIND_number:
        return set_number(f, value, field);
    case KIND_on:
        *(bool *)field = true;
        return true;
    }
    return false;
}

/* Takes argv[*at], and its value, which may be the next argument. */
static bool take_flag(Options *o, int argc, char **argv, int *at) {
    const char *arg = argv[*at], *equals = strchr(arg, '=');
    size_t n = equals ? (size_t)(equals - arg) : strlen(arg);
    const Flag *f = NULL;
    for (int i = 0; i < FLAGS && !f; i++)
        if (strlen(flags[i].name) == n && !strncmp(flags[i].name, arg, n)) f = &flags[i];
    if (!f) return rt_error(NULL, "unknown flag '%.*s' (tbc-run --help lists them)", (int)n, arg);
    if (f->kind == KIND_on) return equals ? rt_error(NULL, "%s takes no value", f->name) : set(o, f, NULL);
    if (equals) return set(o, f, equals + 1);
    if (*at + 1 >= argc || !strncmp(argv[*at + 1], "--", 2)) /* a value like that can be had with = */
        return rt_error(NULL, "%s: its value is missing (expected %s)", f->name, f->arg);
    return set(o, f, argv[++*at]);
}

/* ---- combinations */

static bool check_training(const Options *o) {
    if (o->train) return true;
    const struct {
        const char *flag;
        bool given;
    } training[] = {
        {"--steps", o->steps >= 0},
        {"--total-steps", o->total_steps >= 0},
        {"--lr", o->lr >= 0},
        {"--warmup", o->warmup >= 0},
        {"--schedule", o->schedule != NULL},
        {"--decay-fraction", o->decay_fraction >= 0},
        {"--weight-decay", o->weight_decay >= 0},
        {"--weight-decay-until", o->weight_decay_until >= 0},
        {"--lambda-warmup", o->lambda_warmup >= 0},
        {"--accumulate", o->accumulate >= 0},
        {"--clip", o->clip >= 0},
        {"--eval-every", o->eval_every >= 0},
        {"--patience", o->patience >= 0},
        {"--save", o->save != NULL},
        {"--save-best", o->save_best != NULL},
        {"--report", o->report != NULL},
        {"--log", o->log && !o->eval_only},
        {"--log-every", o->log_every >= 0},
        {"--no-shuffle", o->no_shuffle && !o->eval_only},
    };
    for (size_t i = 0; i < sizeof training / sizeof *training; i++)
        if (training[i].given)
            return rt_error(NULL,
                            o->eval_only ? "%s is for training, --eval-only does not train"
                                         : "%s is for training, which needs --data",
                            training[i].flag);
    return true;
}

/* --encode and --decode are commands of their own. */
static bool check_transcoding(const Options *o) {
    const char *flag = o->encode ? "--encode" : "--decode";
    if (o->encode && o->decode) return rt_error(NULL, "--encode and --decode exclude each other");
    if (o->module || o->data || o->generate || o->resume)
        return rt_error(NULL, "%s takes --tokenizer or --weights, and no module", flag);
    if (!o->tokenizer && !o->weights)
        return rt_error(NULL, "%s: by which tokenizer? (give --tokenizer PATH|byte)", flag);
    return true;
}

static bool is_one_of(const char *flag, const char *value, const char *const *names) {
    for (int i = 0; names[i]; i++)
        if (!strcmp(value, names[i])) return true;
    return rt_error(NULL, "%s: '%s' is not known (tbc-run --help lists them)", flag, value);
}

static bool check_export(const Options *o) {
    static const char *const types[] = {"q2_0", "pq2_0", "f16", NULL};
    static const char *const forms[] = {"dequantized", "latent", NULL};
    if (!o->export) {
        const char *flag = o->gguf_type ? "--gguf-type" : "--export-as";
        return (!o->gguf_type && !o->export_as) || rt_error(NULL, "%s needs --export", flag);
    }
    if (!o->weights && !o->resume && !o->data)
        return rt_error(NULL, "--export: of which weights? (give --resume, --weights, or --data to train)");
    bool gguf = options_export_gguf(o);
    if (o->gguf_type && !gguf) return rt_error(NULL, "--gguf-type is for --export FILE.gguf");
    if (o->export_as && gguf) return rt_error(NULL, "--export-as is for --export DIR");
    return (!o->gguf_type || is_one_of("--gguf-type", o->gguf_type, types)) &&
           (!o->export_as || is_one_of("--export-as", o->export_as, forms));
}

bool options_export_gguf(const Options *o) {
    size_t n = strlen(o->export);
    return n > 5 && !strcmp(o->export + n - 5, ".gguf");
}

static bool check_combinations(const Options *o) {
    if (o->encode || o->decode) return check_transcoding(o);
    if (!o->module) return rt_error(NULL, "which module? usage: tbc-run OUT.so [flags] (--help lists them)");
    if (strcmp(o->device, "cpu") && strcmp(o->device, "cuda"))
        return rt_error(NULL, "--device: '%s' is no device (expected cpu or cuda)", o->device);
    if (o->eval_only && !o->data) return rt_error(NULL, "--eval-only needs --data");
    if ((o->split || o->stride >= 0) && !o->eval_only)
        return rt_error(NULL, "%s needs --eval-only", o->split ? "--split" : "--stride");
    if (o->split && strcmp(o->split, "train") && strcmp(o->split, "valid") && strcmp(o->split, "test"))
        return rt_error(NULL, "--split: '%s' is no split (expected train, valid or test)", o->split);
    if (o->save_every >= 0 && !o->save) return rt_error(NULL, "--save-every needs --save DIR");
    if (o->patience >= 0 && o->eval_every < 0) return rt_error(NULL, "--patience needs --eval-every N");
    if (o->save_best && o->eval_every < 0) return rt_error(NULL, "--save-best needs --eval-every N");
    if (o->save_best && o->save && !strcmp(o->save, o->save_best))
        return rt_error(NULL, "--save and --save-best would overwrite each other in %s", o->save);
    if (o->schedule && schedule_named(o->schedule) == SCHEDULE_COUNT)
        return rt_error(NULL, "--schedule: '%s' is no schedule (expected constant, linear, cosine or wsd)",
                        o->schedule);
    if (o->resume && o->weights)
        return rt_error(NULL, "--resume brings its own weights (leave --weights out)");
    if (!check_training(o) || !check_export(o)) return false;
    if (!o->data && !o->generate && !o->verify && !o->export)
        return rt_error(NULL, "nothing to do: training needs --data (or give --generate TEXT or --verify)");
    return true;
}

OptionsResult options_parse(Options *o, int argc, char **argv) {
    *o = (Options){.device = "cpu", .temperature = 0.8, .top_p = 1, .repetition_penalty = 1, .max_tokens = 256};
    o->steps = o->total_steps = o->warmup = o->seed = o->accumulate = -1;
    o->eval_every = o->patience = o->save_every = o->stride = o->lambda_warmup = o->log_every = -1;
    o->lr = o->decay_fraction = o->weight_decay = o->weight_decay_until = o->clip = -1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help();
            return OPTIONS_DONE;
        }
        if (!strcmp(argv[i], "--version")) {
            printf("tbc-run %s\n", TBC_VERSION);
            return OPTIONS_DONE;
        }
        if (argv[i][0] == '-') {
            if (!take_flag(o, argc, argv, &i)) return OPTIONS_WRONG;
        } else if (o->module) {
            rt_error(NULL, "one module at a time: '%s' and '%s'", o->module, argv[i]);
            return OPTIONS_WRONG;
        } else {
            o->module = argv[i];
        }
    }
    o->train = o->data && !o->eval_only;
    return check_combinations(o) ? OPTIONS_RUN : OPTIONS_WRONG;
}
