/* For suites that run sessions, as the command does, on the module written by hand (fake_module.c). */
#ifndef TBC_RT_SESSION_TEST_H
#define TBC_RT_SESSION_TEST_H

#include "rt_tools.h"
#include "../runtime/options.h"
#include "../runtime/train.h"
#include <stdarg.h>

#ifdef __SANITIZE_THREAD__
#define SANITIZE " -fsanitize=thread -g" /* so that races between its tiles are seen */
#else
#define SANITIZE ""
#endif

static inline const char *compiler(void) {
    return getenv("CC") ? getenv("CC") : "cc";
}

/* Builds fake_module.c with some options and seals it. The path stays good for the next three calls. */
static inline const char *build_module(const char *name, const char *options) {
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    const char *seal = scratch("seal");
    snprintf(path, sizeof paths[0], "%s", scratch(name));
    char command[2048];
    snprintf(command, sizeof command,
             "%s -std=c17 -O1 -ffp-contract=off -fPIC -shared" SANITIZE " %s fake_module.c -o %s -lm && "
             "{ test -x %s || %s seal.c -o %s; } && %s %s",
             compiler(), options, path, seal, compiler(), seal, seal, path);
    ck_assert_int_eq(system(command), 0);
    return path;
}

/* Splits a line at spaces and parses it. The options point into memory that the next call uses again. */
static inline OptionsResult parse(Options *o, const char *line) {
    static char words[2048];
    char *argv[64] = {"tbc-run"};
    int argc = 1;
    snprintf(words, sizeof words, "%s", line);
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    return options_parse(o, argc, argv);
}

static Options options_now;

static inline void open_session(Session *s, const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ck_assert_int_eq(parse(&options_now, line), OPTIONS_RUN);
    ck_assert(session_open(s, &options_now));
}

static inline const char *text_file(void) {
    char text[8000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "the quick brown fox jumps over the lazy dog. "[i % 45];
    return put_file("text.txt", text, sizeof text);
}

/* The bytes of all parameters and moments, as one hash. */
static inline uint64_t weights_hash(const Session *s) {
    uint64_t hash = 0;
    for (size_t i = 0; i < s->nparams + s->nmoments; i++) {
        const NamedTensor *t = i < s->nparams ? &s->params[i] : &s->moments[i - s->nparams];
        const unsigned char *at = (const unsigned char *)t->data;
        for (int64_t j = 0; j < 4 * tensor_count(t->rank, t->dim); j++)
            hash = (hash ^ at[j]) * 0x100000001b3u;
    }
    return hash;
}

static inline uint64_t hash_after(const char *module, const char *flags) {
    Session s;
    open_session(&s, "%s --data %s --quiet %s", module, text_file(), flags);
    ck_assert(train(&s));
    uint64_t hash = weights_hash(&s);
    session_close(&s);
    return hash;
}

#endif
