/* What specs are read with: expressions, JSON with locations; and the words of the command line. */
#include "../frontend/args.h"
#include "../frontend/expr.h"
#include "../frontend/json.h"
#include "../frontend/suggest.h"
#include "sources_test.h"

#include <stdlib.h>
#include <string.h>

/* ---- expressions, words, arguments */

static const Dim test_dims[] = {{.name = "a", .value = 6}, {.name = "long_name2", .value = -3}};

static bool eval_text(const char *text, int64_t *out, Buf *error, size_t *at) {
    Scope scope = {0};
    for (size_t i = 0; i < sizeof test_dims / sizeof *test_dims; i++) vec_push(&scope, test_dims[i]);
    bool ok = expr_eval(text, &scope, out, error, at);
    vec_free(&scope);
    return ok;
}

START_TEST(expressions) {
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {{"3", 3},
                {" a ", 6},
                {"a*a+1", 37},
                {"1+a*a", 37},
                {"(1+a)*a", 42},
                {"a/2*3", 9},
                {"a-2-1", 3},
                {"-a", -6},
                {"--a", 6},
                {"2*-a", -12},
                {"long_name2/-3", 1},
                {"((((a))))", 6},
                {"9223372036854775807", INT64_MAX},
                {"a*(a-5)/(1+1)", 3}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t value;
        size_t at;
        Buf error = {0};
        ck_assert_msg(eval_text(good[i].text, &value, &error, &at), "%s: %s", good[i].text, error.at);
        ck_assert_int_eq(value, good[i].value);
        buf_free(&error);
    }
}
END_TEST

START_TEST(bad_expressions) {
    static const struct {
        const char *text, *error;
        size_t at;
    } bad[] = {{"", "expected a dim, an integer or '('", 0},
               {"a+", "expected a dim, an integer or '('", 2},
               {"a b", "an operator + - * / was expected here", 2},
               {"(a", "'(' without ')'", 0},
               {"a)", "an operator + - * / was expected here", 1},
               {"a/4", "6 / 4 is not an integer", 1},
               {"a/(a-6)", "division by zero", 1},
               {"9223372036854775808", "this integer is too large", 0},
               {"9223372036854775807+1", "overflow", 19},
               {"(-9223372036854775807-1)/-1", "overflow", 24},
               {"-(-9223372036854775807-1)", "overflow", 0},
               {"a*9223372036854775807", "overflow", 1},
               {"long_nam2", "unknown dim 'long_nam2' (did you mean 'long_name2'?)", 0},
               {"\xc3\xa9", "expected a dim, an integer or '('", 0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t value;
        size_t at;
        Buf error = {0};
        ck_assert_msg(!eval_text(bad[i].text, &value, &error, &at), "%s", bad[i].text);
        ck_assert_str_eq(error.at, bad[i].error);
        ck_assert_uint_eq(at, bad[i].at);
        buf_free(&error);
    }
    char deep[1000] = {0};
    memset(deep, '(', sizeof deep - 1);
    int64_t value;
    size_t at;
    Buf error = {0};
    ck_assert(!eval_text(deep, &value, &error, &at));
    ck_assert_str_eq(error.at, "more than 50 levels of nesting");
    buf_free(&error);
}
END_TEST

START_TEST(suggestions) {
    static const char *const words[] = {"heads", "head_dim", "hidden", "i"};
    ck_assert_str_eq(suggest("hiden", words, 4), "hidden");
    ck_assert_str_eq(suggest("heds", words, 4), "heads");
    ck_assert_str_eq(suggest("headdim", words, 4), "head_dim");
    ck_assert_ptr_null(suggest("x", words, 4));
    ck_assert_ptr_null(suggest("", words, 4));
    ck_assert_ptr_null(suggest("layers", words, 4));
}
END_TEST

START_TEST(arguments) {
    bool flag = false;
    const char *text = NULL, *file;
    int64_t count = 0;
    ArgList list = {0};
    const ArgOption options[] = {{"--flag", ARG_FLAG, &flag, NULL},
                                 {"--text", ARG_TEXT, &text, "so|ll"},
                                 {"--count", ARG_COUNT, &count, NULL},
                                 {"--list", ARG_LIST, &list, NULL},
                                 {NULL, ARG_FLAG, NULL, NULL}};
    char *good[] = {"--flag", "in", "--text=ll", "--count", "12", "--list", "a", "--list", "-b"};
    Buf error = {0};
    ck_assert(args_parse(9, good, options, &file, 1, "a file", &error));
    ck_assert(flag && count == 12 && list.n == 2);
    ck_assert_str_eq(text, "ll");
    ck_assert_str_eq(file, "in");
    vec_free(&list);
    static const struct {
        char *arg[2];
        const char *error;
    } bad[] = {{{"--fla", "in"}, "unknown option '--fla' (did you mean '--flag'?)"},
               {{"in", "--text"}, "--text needs a value"},
               {{"in", "--text=exe"}, "--text exe: one of so|ll was expected"},
               {{"in", "--count=0"}, "--count 0: a whole number above 0 was expected"},
               {{"in", "--count=9999999999999999999"},
                "--count 9999999999999999999: a whole number above 0 was expected"},
               {{"in", "--count=7x"}, "--count 7x: a whole number above 0 was expected"},
               {{"in", "--flag=1"}, "--flag takes no value"},
               {{"in", "out"}, "unexpected argument 'out'"},
               {{"--flag", "--flag"}, "a file is missing"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_free(&error);
        ck_assert(!args_parse(2, (char **)bad[i].arg, options, &file, 1, "a file", &error));
        ck_assert_str_eq(error.at, bad[i].error);
    }
    buf_free(&error);
}
END_TEST

/* ---- JSON */

START_TEST(json_locations) {
    const char *text =
        "\xef\xbb\xbf{ \"a\": [1, {\"b\":\n\t\"x\\u00e9\\n\"}],\r\n  \"A\": -1.5e2, \"~/\": null }";
    const Json *root = json_parse(&src, "x.json", text, strlen(text));
    ck_assert_ptr_nonnull(root);
    const Json *a = json_get(root, "a"), *b = json_get(a->first->next, "b");
    ck_assert_uint_eq(a->loc.line, 1);
    ck_assert_uint_eq(a->loc.col, 8);
    ck_assert_uint_eq(a->key_loc.col, 3);
    ck_assert_uint_eq(b->loc.line, 2);
    ck_assert_uint_eq(b->loc.col, 2);
    ck_assert_str_eq(b->string, "x\xc3\xa9\n");
    ck_assert(json_get(root, "A")->number == -150);
    ck_assert_ptr_null(json_get(root, "B"));
    json_error(&src, b, "here");
    json_key_error(&src, json_get(root, "~/"), "there");
    ck_assert_str_eq(diag.text.at,
                     "tbc: x.json:2:2: error: /a/1/b: here\ntbc: x.json:3:16: error: /~0~1: there\n");
    Buf out = {0};
    json_print(&out, root);
    ck_assert_str_eq(out.at, "{\"a\":[1,{\"b\":\"x\xc3\xa9\\n\"}],\"A\":-150,\"~/\":null}");
    buf_free(&out);
}
END_TEST

START_TEST(json_numbers) {
    static const double numbers[] = {0.1, 1e-8, 5e-4, 1.0 / 3, 1e300, 123456789012, 0.95, 5e-324};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        Buf out = {0};
        json_print_number(&out, numbers[i]);
        ck_assert(strtod(out.at, NULL) == numbers[i]);
        ck_assert_uint_lt(out.n, 24);
        buf_free(&out);
    }
}
END_TEST

/* Bytes that no .json file in errors/ should hold. */
START_TEST(json_bytes) {
    static const struct {
        const char *text, *error;
        size_t n;
    } bad[] = {
        {"{\"a\":\"\xff\"}",
         "tbc: x: error: the file is not text (a model spec in JSON, UTF-8, was expected)\n", 9},
        {"{\"a\":\"\xc0\x80\"}",
         "tbc: x: error: the file is not text (a model spec in JSON, UTF-8, was expected)\n", 10},
        {"\x7f"
         "ELF\0\0",
         "tbc: x: error: the file is not text (a model spec in JSON, UTF-8, was expected)\n", 6},
        {"{\"a\":\"\x01\"}", "tbc: x:1:7: error: a raw control character in a string\n", 9},
        {"{\"a\"\x01:1}", "tbc: x:1:5: error: unexpected character (':' was expected)\n", 8},
        {"{\"a\":1\xc3\xa9}", "tbc: x:1:7: error: unexpected character (',' or '}' was expected)\n", 9},
        {"\xef\xbb\xbf", "tbc: x:1:1: error: the file is empty (a model spec in JSON was expected)\n", 3},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_free(&diag.text);
        ck_assert_ptr_null(json_parse(&src, "x", bad[i].text, bad[i].n));
        ck_assert_str_eq(diag.text.at, bad[i].error);
    }
}
END_TEST

START_TEST(json_limits) {
    size_t n = 5 << 20;
    char *text = malloc(n + 1);
    memset(text, '[', n);
    text[n] = 0;
    ck_assert_ptr_null(json_parse(&src, "x", text, n));
    ck_assert_ptr_null(json_parse(&src, "x", text, 0));
    text[1000] = 0;
    ck_assert_ptr_null(json_parse(&src, "x", text, 1000));
    free(text);
    Buf many = {0};
    for (int i = 0; i < 20000; i++) buf_printf(&many, "%s\"k%d\":0", i ? "," : "{", i);
    buf_printf(&many, "}");
    ck_assert_ptr_null(json_parse(&src, "x", many.at, many.n));
    buf_free(&many);
    ck_assert_uint_eq(diag.errors, 4);
}
END_TEST

START_TEST(unreadable_files) {
    ck_assert_ptr_null(json_load(&src, "errors"));
    ck_assert_ptr_null(json_load(&src, "errors/nothing.json"));
    ck_assert_ptr_null(json_load(&src, "errors/empty.json/x"));
    ck_assert_ptr_null(json_load(&src, "/dev/zero"));
    ck_assert_str_eq(diag.text.at,
                     "tbc: errors: error: cannot read the file: Is a directory\n"
                     "tbc: errors/nothing.json: error: cannot read the file: No such file or directory\n"
                     "tbc: errors/empty.json/x: error: cannot read the file: Not a directory\n"
                     "tbc: /dev/zero: error: cannot read the file: a device, not a file\n");
}
END_TEST

int main(void) {
    Suite *s = suite_create("json");
    TCase *t = tcase_create("json");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, expressions);
    tcase_add_test(t, bad_expressions);
    tcase_add_test(t, suggestions);
    tcase_add_test(t, arguments);
    tcase_add_test(t, json_locations);
    tcase_add_test(t, json_numbers);
    tcase_add_test(t, json_bytes);
    tcase_add_test(t, json_limits);
    tcase_add_test(t, unreadable_files);
    suite_add_tcase(s, t);
    return run_suite(s);
}
