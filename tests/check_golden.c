/* Golden tests of passes: every golden/FOLDER/NAME.tir is one. Its form:
 *
 *     # run: simplify,cse          the passes, in order
 *     # options: grads-buffer      may be left out; also logits-bytes=N, memory=N, precision=i16|bf16, saved=f32|bf16
 *     # any other comment
 *     tbc_ir 1 ...                 the module to start from
 *     # expect:
 *     tbc_ir 1 ...                 exactly what comes out, or the diagnostics if a pass fails
 *
 * UPDATE=1 in the environment rewrites what is expected; read the diff before committing it. Every
 * result must also survive printing, parsing and printing again. */
#include "../passes/pass.h"
#include "suite.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static VEC(char *) files;

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool has_suffix(const char *s, const char *suffix) {
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

/* Adds all golden/FOLDER/NAME.tir; depth counts the folders entered. */
static void find_files(const char *dir, int depth) {
    DIR *d = opendir(dir);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        Buf path = {0};
        buf_printf(&path, "%s/%s", dir, e->d_name);
        if (depth == 0)
            find_files(path.at, 1);
        else if (has_suffix(e->d_name, ".tir")) {
            vec_push(&files, path.at);
            continue;
        }
        buf_free(&path);
    }
    closedir(d);
}

typedef struct Golden {
    const char *path;
    char *text, *input; /* the file; its input, comments blanked so that lines keep their numbers */
    const char *expect; /* within text */
    const PassInfo *passes[32];
    uint32_t npasses;
    PassOptions options;
} Golden;

static void read_run(Golden *g, char *list) {
    for (char *name = strtok(list, ", "); name; name = strtok(NULL, ", ")) {
        const PassInfo *p = pass_find(name);
        ck_assert_msg(p != NULL, "%s: there is no pass '%s'", g->path, name);
        ck_assert_msg(g->npasses < 32, "%s: too many passes", g->path);
        g->passes[g->npasses++] = p;
    }
}

static void read_options(Golden *g, char *list) {
    for (char *o = strtok(list, ", "); o; o = strtok(NULL, ", ")) {
        if (strcmp(o, "grads-buffer") == 0)
            g->options.grads_buffer = true;
        else if (strncmp(o, "logits-bytes=", 13) == 0)
            g->options.logits_bytes = atoll(o + 13);
        else if (strncmp(o, "memory=", 7) == 0)
            g->options.memory.bytes = atoll(o + 7);
        else if (strcmp(o, "precision=i16") == 0)
            g->options.precision = "i16";
        else if (strcmp(o, "precision=bf16") == 0)
            g->options.precision = "bf16";
        else if (strcmp(o, "saved=f32") == 0)
            g->options.saved = "f32";
        else if (strcmp(o, "saved=bf16") == 0)
            g->options.saved = "bf16";
        else
            ck_abort_msg("%s: there is no option '%s'", g->path, o);
    }
}

static Golden read_golden(const char *path) {
    static const char marker[] = "# expect:\n";
    Golden g = {
        .path = path, .options.verify = true, .text = read_file(path, NULL), .input = read_file(path, NULL)};
    ck_assert_msg(g.text && g.input, "cannot read %s", path);
    const char *found = strstr(g.text, marker);
    ck_assert_msg(found != NULL, "%s: no '# expect:' line", path);
    g.expect = found + strlen(marker);
    g.input[found - g.text] = '\0';
    for (const char *line = g.input; *line == '#'; line += strcspn(line, "\n"), line += *line == '\n') {
        Buf copy = {0};
        buf_add(&copy, line, strcspn(line, "\n"));
        if (strncmp(line, "# run:", 6) == 0) read_run(&g, copy.at + 6);
        if (strncmp(line, "# options:", 10) == 0) read_options(&g, copy.at + 10);
        buf_free(&copy);
    }
    ck_assert_msg(g.npasses > 0, "%s: no '# run:' line", path);
    return g;
}

static void check_round_trip(const char *text, const char *path) {
    Diag diag = {0};
    Buf again = {0};
    Module *m = parse_module(text, path, &diag);
    ck_assert_msg(m != NULL, "%s: the result does not parse: %s", path, diag.text.at);
    print_module(m, &again);
    ck_assert_msg(strcmp(text, again.at) == 0, "%s: the result prints differently after parsing", path);
    buf_free(&again);
    module_free(m);
}

/* What the passes make of the input: a printed module, or diagnostics. */
static Buf run_passes(const Golden *g) {
    const char *name = strrchr(g->path, '/') + 1;
    Diag diag = {0};
    Buf out = {0};
    Module *m = parse_module(g->input, name, &diag);
    ck_assert_msg(m && verify(m, &diag), "%s: bad input: %s", g->path, diag.text.at);
    if (passes_run(m, &diag, &g->options, g->passes, g->npasses)) {
        print_module(m, &out);
        check_round_trip(out.at, g->path);
    } else {
        buf_printf(&out, "%s", diag.text.at);
    }
    module_free(m);
    buf_free(&diag.text);
    return out;
}

static void update(const Golden *g, const Buf *out) {
    Buf file = {0};
    buf_add(&file, g->text, (size_t)(g->expect - g->text));
    buf_add(&file, out->at, out->n);
    ck_assert_msg(write_file(g->path, file.at, file.n), "cannot write %s", g->path);
    buf_free(&file);
}

START_TEST(golden) {
    Golden g = read_golden(files.at[_i]);
    Buf out = run_passes(&g);
    if (getenv("UPDATE"))
        update(&g, &out);
    else
        ck_assert_msg(strcmp(out.at, g.expect) == 0, "%s: expected\n%s\ngot\n%s", g.path, g.expect, out.at);
    buf_free(&out);
    free(g.text);
    free(g.input);
}
END_TEST

int main(void) {
    find_files("golden", 0);
    if (files.n == 0) return fprintf(stderr, "no golden/*/*.tir here: run this in the tests folder\n"), 1;
    qsort(files.at, files.n, sizeof *files.at, by_name);
    Suite *s = suite_create("golden");
    TCase *t = tcase_create("golden");
    tcase_add_loop_test(t, golden, 0, (int)files.n);
    suite_add_tcase(s, t);
    int failed = run_suite(s);
    for (uint32_t i = 0; i < files.n; i++) free(files.at[i]);
    vec_free(&files);
    return failed;
}
