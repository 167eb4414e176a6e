/* Downloads, from a server that is slow, breaks off, ignores ranges or serves the wrong bytes; archives; and
 * whole data sets. */
#include "rt_tools.h"
#include "../runtime/data/datasets.h"
#include "../runtime/files/files.h"
#include "http_server.h"
#include "../runtime/data/unpack.h"
#include <archive.h>
#include <archive_entry.h>
#include <openssl/evp.h>
#include <sys/wait.h>

static const Patience hasty = {.attempts = 3, .pause = 0.01, .stall = 1};

enum { SIZE = 300000 };
static char content[SIZE];

static struct Server {
    pid_t pid;
    char url[64]; /* of its file */
} server;

static void sha256_hex(const void *bytes, size_t n, char hex[65]) {
    unsigned char digest[32];
    ck_assert(EVP_Q_digest(NULL, "SHA256", NULL, bytes, n, digest, NULL));
    for (size_t i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static void serve(const char *file, int n, char **behaviours) {
    int port = 0, listener = http_listen(&port);
    ck_assert_int_ge(listener, 0);
    unlink(scratch("notes"));
    server.pid = fork();
    if (server.pid == 0) http_serve(listener, file, behaviours, n, scratch("notes"));
    close(listener);
    snprintf(server.url, sizeof server.url, "http://127.0.0.1:%d/file.zip", port);
}

static void stop(void) {
    kill(server.pid, SIGKILL);
    waitpid(server.pid, NULL, 0);
}

/* The first bytes of the ranges that were asked for, as "0 1000 ". */
static const char *asked(void) {
    static char text[256];
    size_t n;
    char *notes = get_file(scratch("notes"), &n);
    for (size_t i = 0; i < n; i++) text[i] = notes[i];
    for (char *p = text; *p; p++)
        if (*p == '\n') *p = ' ';
    text[n] = 0;
    free(notes);
    return text;
}

/* Serves content[] so and downloads it; the reason of a failure, NULL if it went well. Good until the next.
 */
static const char *fetch(const char *path, int n, char **behaviours) {
    static char *why;
    char hex[65];
    free(why);
    for (int i = 0; i < SIZE; i++) content[i] = (char)(i * 7 + i / 251);
    sha256_hex(content, SIZE, hex);
    serve(put_file("served", content, SIZE), n, behaviours);
    Progress progress = progress_start(true);
    bool ok = download(&(Remote){server.url, SIZE, hex}, path, &hasty, &progress, &why);
    stop();
    ck_assert(ok == (why == NULL));
    return why;
}

static void ck_content(const char *path) {
    size_t n;
    char *bytes = get_file(path, &n);
    ck_assert_uint_eq(n, SIZE);
    ck_assert_mem_eq(bytes, content, SIZE);
    free(bytes);
    ck_assert(!file_exists(scratch("got.part")));
}

#define BEHAVIOURS(...)                                                                                      \
    sizeof((char *[]){__VA_ARGS__}) / sizeof(char *), (char *[]) {                                           \
        __VA_ARGS__                                                                                          \
    }

/* ---- transfers that end well */

static struct Case {
    char *behaviours[8];
    const char *asked; /* the ranges that must have been asked for */
} good[] = {
    {{"ok"}, "0 "},
    {{"slow"}, "0 "},
    {{"again", "ok"}, "0 0 "},
    {{"cut:1000", "ok"}, "0 1000 "},
    {{"cut:1000", "cut:1", "cut:1", "cut:1", "cut:1", "slow"}, "0 1000 1001 1002 1003 1004 "},
    {{"stall:5000", "ok"}, "0 5000 "},
    {{"drop", "503", "ok"}, "0 0 0 "},
    {{"cut:1000", "429", "drop", "ok"}, "0 1000 1000 1000 "},
    {{"cut:1000", "whole:400000"}, "0 1000 "},
    {{"cut:1000", "whole:2000", "ok"}, "0 1000 2000 "},
    {{"cut:1000", "416", "ok"}, "0 1000 0 "},
    {{"unsized:1000", "ok"}, "0 1000 "},
    {{"unsized:400000"}, "0 "},
};

static int count(char **behaviours) {
    int n = 0;
    while (behaviours[n]) n++;
    return n;
}

START_TEST(arrives) {
    struct Case *c = &good[_i];
    const char *why = fetch(scratch("got"), count(c->behaviours), c->behaviours);
    ck_assert_msg(!why, "%s", why);
    ck_content(scratch("got"));
    ck_assert_str_eq(asked(), c->asked);
}
END_TEST

/* ---- and such that do not */

static struct BadCase {
    char *behaviours[8];
    const char *why;
    long part; /* bytes that are kept for another time; 0: no file */
    const char *asked;
} bad[] = {
    {{"404"}, "HTTP status 404", 0, "0 "},
    {{"cut:1000", "403"}, "HTTP status 403", 1000, "0 1000 "},
    {{"500"}, "HTTP status 500", 0, "0 0 0 "},
    {{"cut:1000", "drop"}, "Empty reply", 1000, "0 1000 1000 1000 "},
    {{"cut:1000", "stall:0"}, "Operation too slow", 1000, "0 1000 1000 1000 "},
    {{"cut:1000", "whole:900"}, "bytes remaining to read", 900, "0 1000 900 900 "},
    {{"wrong"}, "not the expected file: its SHA-256 is ", 0, "0 "},
    {{"longer"}, "the server has a file of 300001 bytes (expected 300000)", 0, "0 "},
    {{"cut:1000", "longer"}, "the server has a file of 300001 bytes", 1000, "0 1000 "},
    {{"cut:1000", "shifted"}, "another range than asked for", 1000, "0 1000 "},
    {{"again"}, "redirects", 0, NULL},
};

START_TEST(fails) {
    struct BadCase *c = &bad[_i];
    const char *why = fetch(scratch("got"), count(c->behaviours), c->behaviours);
    ck_assert_msg(why && strstr(why, c->why), "expected '%s', got '%s'", c->why, why);
    if (c->asked) ck_assert_str_eq(asked(), c->asked);
    ck_assert(!file_exists(scratch("got")));
    struct stat info;
    long part = stat(scratch("got.part"), &info) == 0 ? (long)info.st_size : 0;
    ck_assert_int_eq(part, c->part);
    ck_assert(c->part || !file_exists(scratch("got.part")));
}
END_TEST

/* ---- from one run to the next */

START_TEST(goes_on_where_an_earlier_run_ended) {
    ck_assert_ptr_nonnull(fetch(scratch("got"), BEHAVIOURS("cut:1000", "404")));
    ck_assert_ptr_null(fetch(scratch("got"), BEHAVIOURS("ok")));
    ck_content(scratch("got"));
    ck_assert_str_eq(asked(), "1000 ");
}
END_TEST

START_TEST(bad_beginnings_are_thrown_away) {
    fetch(scratch("got"), BEHAVIOURS("404"));
    content[5] ^= 1;
    put_file("got.part", content, 1000);
    ck_assert_ptr_null(fetch(scratch("got"), BEHAVIOURS("ok")));
    ck_content(scratch("got"));
    ck_assert_str_eq(asked(), "1000 0 ");

    content[5] ^= 1;
    put_file("got.part", content, SIZE); /* complete, and wrong */
    ck_assert_ptr_null(fetch(scratch("got"), BEHAVIOURS("ok")));
    ck_content(scratch("got"));
    ck_assert_str_eq(asked(), "0 ");

    put_file("got.part", content, SIZE); /* complete, and right: no need to ask */
    ck_assert_ptr_null(fetch(scratch("got"), BEHAVIOURS("404")));
    ck_content(scratch("got"));

    char more[SIZE + 10] = "";
    put_file("got.part", more, sizeof more);
    ck_assert_ptr_null(fetch(scratch("got"), BEHAVIOURS("ok")));
    ck_content(scratch("got"));
    ck_assert_str_eq(asked(), "0 ");
}
END_TEST

START_TEST(no_server_is_not_waited_for) {
    char *why, url[64];
    int port = 0, listener = http_listen(&port);
    close(listener);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/x", port);
    Progress progress = progress_start(true);
    Patience patient = {.attempts = 5, .pause = 100, .stall = 100};
    ck_assert(!download(&(Remote){url, 1, ""}, scratch("x"), &patient, &progress, &why));
    ck_assert_msg(strstr(why, "Failed to connect"), "%s", why);
    free(why);
    ck_assert(!download(&(Remote){"file:///etc/passwd", 1, ""}, scratch("x"), &patient, &progress, &why));
    ck_assert_msg(strstr(why, "rotocol"), "%s", why);
    free(why);
    ck_assert(!download(&(Remote){url, 1, ""}, scratch("none/x"), &patient, &progress, &why));
    ck_assert_msg(strstr(why, "No such file"), "%s", why);
    free(why);
}
END_TEST

/* ---- archives and data sets */

static const char *put_zip(const char *name, int n, const char *const members[][2]) {
    const char *path = scratch(name);
    struct archive *a = archive_write_new();
    archive_write_set_format_zip(a);
    ck_assert_int_eq(archive_write_open_filename(a, path), ARCHIVE_OK);
    for (int i = 0; i < n; i++) {
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, members[i][0]);
        archive_entry_set_size(entry, (la_int64_t)strlen(members[i][1]));
        archive_entry_set_filetype(entry, AE_IFREG);
        ck_assert_int_eq(archive_write_header(a, entry), ARCHIVE_OK);
        archive_write_data(a, members[i][1], strlen(members[i][1]));
        archive_entry_free(entry);
    }
    archive_write_free(a);
    return path;
}

static const char *const texts[4][2] = {{"set/valid.raw", "the second text"},
                                        {"../evil", "x"},
                                        {"set/train.raw", "the first text, again and again and again"},
                                        {"set/test.raw", "third"}};

static void ck_text(const char *path, const char *text) {
    size_t n;
    char *bytes = get_file(path, &n);
    ck_assert_str_eq(bytes, text);
    free(bytes);
}

/* Serves a zip with the first `members` of texts[] so, as data set "tiny" of a data home. */
static bool fetch_set(int members, char *behaviour, bool quiet) {
    size_t n;
    char hex[65], *zip = get_file(put_zip("set.zip", members, texts), &n);
    sha256_hex(zip, n, hex);
    free(zip);
    serve(scratch("set.zip"), 1, &behaviour);
    KnownDataset set = {
        "tiny",      "a tiny set", (int64_t)n, hex, {"set/train.raw", "set/valid.raw", "set/test.raw"},
        {server.url}};
    bool ok = dataset_fetch(&set, scratch("a/home"), &hasty, quiet);
    stop();
    return ok;
}

START_TEST(data_set_is_fetched_and_unpacked) {
    capture_start();
    bool ok = fetch_set(4, "ok", false);
    const char *said = capture_stop();
    ck_assert(ok);
    ck_assert_msg(strstr(said, "tiny: a tiny set, unpacked into"), "%s", said);
    ck_text(scratch("a/home/tiny/train.txt"), texts[2][1]);
    ck_text(scratch("a/home/tiny/valid.txt"), texts[0][1]);
    ck_text(scratch("a/home/tiny/test.txt"), texts[3][1]);
    ck_assert(!file_exists(scratch("a/home/file.zip")) && !file_is_dir(scratch("a/home/tiny.tmp")));
    setenv("TBC_DATA_HOME", scratch("a/home"), 1);
    char *found = dataset_locate("tiny", true);
    ck_assert_str_eq(found, scratch("a/home/tiny"));
    free(found);
}
END_TEST

START_TEST(data_set_errors) {
    char where[600];
    snprintf(where, sizeof where, "HTTP status 404 (put train.txt and valid.txt into %s",
             scratch("a/home/tiny"));
    ck_fails(fetch_set(4, "404", true), where);
    ck_fails(fetch_set(4, "wrong", true), "not the expected file");
    ck_fails(fetch_set(3, "ok", true), "no set/test.raw in the archive");
    ck_assert(!file_is_dir(scratch("a/home/tiny")) && !file_is_dir(scratch("a/home/tiny.tmp")));
    setenv("TBC_DATA_HOME", scratch("a/home"), 1);
    setenv("TBC_DATA_URL", "http://127.0.0.1:1/mirror", 1);
    ck_fails(dataset_locate("wikitext2", true) != NULL,
             "wikitext2: error: cannot be downloaded: http://127.0.0.1:1/mirror/wikitext-2-raw-v1.zip: ");
    put_file("file", "x", 1);
    setenv("TBC_DATA_HOME", scratch("file"), 1);
    ck_fails(dataset_locate("wikitext2", true) != NULL, "cannot make the directory");
}
END_TEST

START_TEST(damaged_archives) {
    size_t n;
    char *zip = get_file(put_zip("set.zip", 4, texts), &n);
    char out[300], temp[310];
    snprintf(out, sizeof out, "%s/out", scratch_dir);
    snprintf(temp, sizeof temp, "%s.tmp", out);
    const Member members[] = {{"set/train.raw", out}};
    for (uint64_t seed = 0; seed < 500; seed++) {
        unsigned char damaged[2000];
        memcpy(damaged, zip, n);
        const char *path = put_file("damaged.zip", damaged, mutate(damaged, n, n, seed));
        capture_start();
        bool ok = unpack(path, members, 1);
        const char *text = capture_stop();
        ck_assert_msg(are_error_lines(text, ok ? 0 : 1), "seed %d: %s", (int)seed, text);
        ck_assert(file_exists(out) == ok && !file_exists(temp));
        if (ok) ck_text(out, texts[2][1]);
        unlink(out);
    }
    free(zip);
    ck_fails(unpack(put_file("text", "hello", 5), members, 1), "text: error: cannot read the archive");
    ck_fails(unpack(scratch("none"), members, 1), "cannot read the archive: ");
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("download");
    for (int i = 0; i < 5; i++)
        unsetenv(((const char *[]){"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "TBC_DATA_URL"})[i]);
    tcase_add_loop_test(tests, arrives, 0, sizeof good / sizeof *good);
    tcase_add_loop_test(tests, fails, 0, sizeof bad / sizeof *bad);
    tcase_add_test(tests, goes_on_where_an_earlier_run_ended);
    tcase_add_test(tests, bad_beginnings_are_thrown_away);
    tcase_add_test(tests, no_server_is_not_waited_for);
    tcase_add_test(tests, data_set_is_fetched_and_unpacked);
    tcase_add_test(tests, data_set_errors);
    tcase_add_test(tests, damaged_archives);
    return run_tests("download", tests);
}
