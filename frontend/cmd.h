/* The subcommands of tbc, and what they share. Each takes the arguments after its name. */
#ifndef TBC_CMD_H
#define TBC_CMD_H

#include "../passes/pass.h"
#include "args.h"
#include "spec.h"

/* Exit status. */
enum { DONE = 0, FAILED = 1, USAGE = 2 };

int cmd_compile(int argc, char **argv, Diag *), cmd_opt(int argc, char **argv, Diag *);
int cmd_graph(int argc, char **argv, Diag *);

/* Prints the message, and where help is. Returns USAGE. */
TBC_PRINTF(1, 2) int usage_error(const char *fmt, ...);
/* Says which pass may have been meant. Returns USAGE. */
int unknown_pass(const char *name);
/* Reads arguments; DONE, or USAGE after a message. *file: the one that is no option, file_name: what it
 * should be. */
int cmd_parse(int argc, char **argv, const ArgOption *, const char **file, const char *file_name);

/* Is the file the IR's text form? */
bool is_tir(const char *path);
/* The module in a .tir file, to be freed; NULL after a reported error. */
Module *load_tir(const char *path, Diag *);

/* A spec with the module that it describes; spec_close frees both. */
typedef struct SpecModule {
    Sources sources;
    Spec *spec;
    Module *module; /* NULL: an error was reported */
} SpecModule;
bool spec_open(SpecModule *, const char *name, const SpecOptions *, Diag *);
void spec_close(SpecModule *);

/* Writes text to path, or to stdout if path is NULL or "-"; false after a reported error. */
bool write_text(const char *path, const char *text, size_t n, Diag *);
bool write_tir(const Module *, const char *path, Diag *);

/* PassOptions.recomputed: what recompute did goes into the meta, and with --memory to stderr. */
bool note_recomputed(PassCtx *, Module *, const char *what);
/* --precision, as PassOptions has it. */
const char *option_precision(const char *precision);

#endif
