/* Regular expressions of tokenizer.json: those that Oniguruma and PCRE2 take in the same sense are compiled,
 * others are an error that says where. Which is which was found by encoding texts with Hugging Face's
 * `tokenizers`. */
#include "rt_tools.h"
#include "../runtime/text/bpe_text.h"
#include "../runtime/text/regex_dialect.h"

static const char *const same[] = {
    /* GPT-2, Llama 3, o200k, DeepSeek */
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
    "\\s+(?!\\S)|\\s+",
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t)?|"
    "\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|\\s+",
    "[]a]+|.",
    "[^]a]+|.",
    "(?<=a|bc)x|.",
    "(?<!x)c+|.",
    "(?>\\p{L}+)|.",
    "\\p{^L}+|\\P{^Lu}+|.",
    "a{2}|b{2,}|.",
    "\\d{3}|\\D",
    "\\x{4e00}+|.",
    "[a&b]+|.",
};

static const struct {
    const char *pattern, *says;
} other[] = {
    {"a+|\\w+", "'a+|\\w+' is not supported from '\\w+' on"},
    {"[^\\w]+", "from '\\w]+' on"},
    {"\\bx", "from '\\bx' on"},
    {"\\h+", "from '\\h+' on"},
    {"\\v+", "from '\\v+' on"},
    {"\\X", "from '\\X' on"},
    {"\\u4e00", "from '\\u4e00' on"},
    {"(a)\\1", "from '\\1' on"},
    {"x^", "from '^' on"},
    {"x$", "from '$' on"},
    {"(?m).+", "from '(?m).+' on"},
    {"a(?i)b|c", "from '(?i)b|c' on"},
    {"(?<n>a)", "from '(?<n>a)' on"},
    {"(*UCP)a", "from '(*UCP)a' on"},
    {"[\\p{L}&&[^a]]+", "from '&&[^a]]+' on"},
    {"[a[bc]]+", "from '[bc]]+' on"},
    {"[[:punct:]]+", "from '[:punct:]]+' on"},
    {"a{,3}", "from '{,3}' on"},
    {"a{2}?", "from '{2}?' on"},
    {"a{", "from '{' on"},
    {"a\\", "from '\\' on"},
    {"\\p{L", "from '\\p{L' on"},
    {"(?i)a+", "from '(?i)a+' on"},
    {"(?i:it|Strasse)", "from '(?i:it|Stras' on"}, /* st, and ss after it */
    {"(?i:\u00df)", "from '(?i:\u00df)' on"},
    {"(?i:\\p{Lu})", "from '(?i:\\p{Lu})' on"},
    {"\\p{Klingon}", "is not understood"},
    {"\\p{Any}", "is not understood"},
    {"[a", "is not understood"},
    {"a?", "'a?' matches nothing as well"},
    {"", "'' matches nothing as well"},
};

START_TEST(the_same_in_both_dialects) {
    BpeTokenizer t = {0};
    ck_assert_msg(bpe_text_regex(&t, "tokenizer.json", same[_i]), "%s", same[_i]);
    bpe_text_close(&t);
}
END_TEST

START_TEST(of_another_sense) {
    BpeTokenizer t = {0};
    ck_fails(bpe_text_regex(&t, "tokenizer.json", other[_i].pattern), other[_i].says);
    bpe_text_close(&t);
}
END_TEST

START_TEST(what_is_spelled_out) {
    char *out = regex_translate("tokenizer.json", "\\p{Han}[^\\s\\P{^Hira}]\\S\\p{Lu}");
    ck_assert_str_eq(out, "\\p{sc:Han}[^\\p{White_Space}\\P{^sc:Hira}]\\P{White_Space}\\p{Lu}");
    free(out);
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("regex_dialect");
    tcase_add_loop_test(tests, the_same_in_both_dialects, 0, sizeof same / sizeof *same);
    tcase_add_loop_test(tests, of_another_sense, 0, sizeof other / sizeof *other);
    tcase_add_test(tests, what_is_spelled_out);
    return run_tests("regex_dialect", tests);
}
