/* For suites of the runtime: a scratch folder per test, and stderr as text. Every test runs in its own
 * process (Check forks), so the state here is one test's. */
#ifndef TBC_RT_TOOLS_H
#define TBC_RT_TOOLS_H

#include "../runtime/data/rng.h"
#include "suite.h"
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_dir[256];
static char scratch_path[8][512]; /* the last few results of scratch() */
static FILE *captured;
static char captured_text[8192];
static int real_stderr;

static void scratch_setup(void) {
    const char *tmp = getenv("TMPDIR");
    snprintf(scratch_dir, sizeof scratch_dir, "%s/tbc-test-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(scratch_dir));
    captured = tmpfile();
    ck_assert_ptr_nonnull(captured);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw) {
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static void scratch_teardown(void) {
    fclose(captured);
    nftw(scratch_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* The path of a name in the scratch folder; good for the next seven calls. */
static inline const char *scratch(const char *name) {
    static unsigned next;
    char *path = scratch_path[next++ % 8];
    snprintf(path, sizeof scratch_path[0], "%s/%s", scratch_dir, name);
    return path;
}

static inline const char *put_file(const char *name, const void *bytes, size_t n) {
    const char *path = scratch(name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    fclose(f);
    return path;
}

/* The whole file, heap, terminated. */
static inline char *get_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    struct stat info;
    fstat(fileno(f), &info);
    char *bytes = calloc((size_t)info.st_size + 1, 1);
    *n = fread(bytes, 1, (size_t)info.st_size, f);
    fclose(f);
    return bytes;
}

static inline void capture_start(void) {
    fflush(stderr);
    real_stderr = dup(2);
    rewind(captured);
    ck_assert_int_eq(ftruncate(fileno(captured), 0), 0);
    dup2(fileno(captured), 2);
}

/* What stderr got since capture_start. */
static inline const char *capture_stop(void) {
    fflush(stderr);
    dup2(real_stderr, 2);
    close(real_stderr);
    ssize_t n = pread(fileno(captured), captured_text, sizeof captured_text - 1, 0);
    captured_text[n > 0 ? n : 0] = 0;
    return captured_text;
}

/* Is text exactly n lines `tbc-run: ...error: ...`? */
static inline bool are_error_lines(const char *text, int n) {
    for (; n > 0; n--) {
        const char *end = strchr(text, '\n'), *error = strstr(text, "error: ");
        if (strncmp(text, "tbc-run: ", 9) != 0 || !end || !error || error > end) return false;
        text = end + 1;
    }
    return *text == 0;
}

/* condition fails with one line of error that holds `fragment`. */
#define ck_fails(condition, fragment)                                                                        \
    do {                                                                                                     \
        capture_start();                                                                                     \
        bool ok_ = (condition);                                                                              \
        const char *text_ = capture_stop();                                                                  \
        ck_assert_msg(!ok_, "expected failure: %s", fragment);                                               \
        ck_assert_msg(are_error_lines(text_, 1), "expected one line of error, got: %s", text_);              \
        ck_assert_msg(strstr(text_, fragment), "expected '%s' in: %s", fragment, text_);                     \
    } while (0)

/* From here on files may not grow beyond `bytes`: writing fails as on a full disk. No ck_ call may come
 * before file_limit(RLIM_INFINITY), for Check itself keeps its messages in a file. */
static inline void file_limit(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){bytes, RLIM_INFINITY});
}

/* Damages the first `hot` of a good file's n bytes at random: sets and flips bytes, takes bytes out, cuts the
 * end off. Returns the new length. */
static inline size_t mutate(unsigned char *file, size_t n, size_t hot, uint64_t seed) {
    uint64_t edits = 1 + rng_bits(seed, 1, 0) % 3;
    for (uint64_t e = 1; e <= edits; e++) {
        uint64_t bits = rng_bits(seed, 2, e);
        size_t at = (bits >> 8) % (n < hot ? n : hot);
        switch (bits % 4) {
        case 0:
            file[at] = (unsigned char)(bits >> 40);
            break;
        case 1:
            file[at] ^= (unsigned char)(1u << (bits >> 40) % 8);
            break;
        case 2:
            n = bits >> 63 ? 1 + (bits >> 8) % n : n;
            break;
        default:
            memmove(file + at, file + at + 1, --n - at);
            file[n] = 0;
        }
        if (n < 2) return n;
    }
    return n;
}

/* Main of a suite: runs one test case with the scratch folder around every test. */
static inline int run_tests(const char *name, TCase *tests) {
    Suite *suite = suite_create(name);
    tcase_add_checked_fixture(tests, scratch_setup, scratch_teardown);
    tcase_set_timeout(tests, 120);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}

#endif
