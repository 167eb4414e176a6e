/* tbc: the command line of the compiler.
 *
 *     compile   spec, config.json or .tir -> frontend -> passes -> codegen -> train.so (cmd_compile.c)
 *     opt       .tir -> chosen passes -> .tir (cmd_opt.c)
 *     graph     spec or .tir -> a picture (cmd_graph.c)
 *     inspect   what is in a train.so
 *     ops, passes   the tables as Markdown
 *
 * Exit status: 0 done, 1 an error in the input or while working, 2 wrong usage. */
#include "cmd.h"
#include "help.h"
#include "inspect.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

/* ---- tbc inspect, ops, passes */

static int cmd_inspect(int argc, char **argv, Diag *diag) {
    const char *input;
    bool json = false;
    const ArgOption options[] = {{"--json", ARG_FLAG, &json, NULL}, {NULL, ARG_FLAG, NULL, NULL}};
    int status = cmd_parse(argc, argv, options, &input, "a compiled module");
    if (status) return status;
    return inspect_module(input, json, stdout, diag) ? DONE : FAILED;
}

static void print_props(uint32_t props) {
    for (uint32_t i = 0, first = 1; i < PROP_COUNT; i++) {
        if (!(props >> i & 1)) continue;
        printf("%s%s", first ? "" : ", ", prop_name[i]);
        first = 0;
    }
}

static void print_passes(void) {
    printf("| pass | needs | gives | breaks | what it does |\n|---|---|---|---|---|\n");
    for (uint32_t i = 0; i < pass_count; i++) {
        const PassInfo *p = &pass_info[i];
        printf("| %s | ", p->name);
        print_props(p->needs);
        printf(" | ");
        print_props(p->gives);
        printf(" | ");
        print_props(p->breaks);
        printf(" | %s |\n", p->help);
    }
}

static int cmd_table(int argc, const char *name, void (*print)(void)) {
    if (argc) return usage_error("tbc %s takes no arguments", name);
    print();
    return DONE;
}

/* ---- dispatch */

static int dispatch(int argc, char **argv, Diag *diag) {
    if (argc < 2) return usage_error("a command is missing: compile, opt, graph, inspect, ops or passes");
    const char *command = argv[1];
    int n = argc - 2;
    char **rest = argv + 2;
    if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0) return fputs(help_all, stdout), DONE;
    if (strcmp(command, "--version") == 0) return puts("tbc " TBC_VERSION), DONE;
    for (int i = 0; i < n; i++) {
        if (strcmp(rest[i], "--help") == 0 || strcmp(rest[i], "-h") == 0)
            return fputs(help_all, stdout), DONE;
    }
    if (strcmp(command, "compile") == 0) return cmd_compile(n, rest, diag);
    if (strcmp(command, "opt") == 0) return cmd_opt(n, rest, diag);
    if (strcmp(command, "graph") == 0) return cmd_graph(n, rest, diag);
    if (strcmp(command, "inspect") == 0) return cmd_inspect(n, rest, diag);
    if (strcmp(command, "ops") == 0) return cmd_table(n, "ops", print_ops);
    if (strcmp(command, "passes") == 0) return cmd_table(n, "passes", print_passes);
    return usage_error("unknown command '%s'", command);
}

int main(int argc, char **argv) {
    Diag diag = {.out = stderr};
    signal(SIGXFSZ, SIG_IGN); /* a file beyond ulimit -f is a failed write, which has its message */
    int status = dispatch(argc, argv, &diag);
    if ((fflush(stdout) || ferror(stdout)) && status == DONE) {
        diag_error(&diag, NULL, 0, 0, "cannot write to standard output: %s", strerror(errno));
        status = FAILED;
    }
    if (diag.errors > 20) fprintf(stderr, "tbc: %u errors in all, 20 shown\n", diag.errors);
    buf_free(&diag.text);
    return status;
}
