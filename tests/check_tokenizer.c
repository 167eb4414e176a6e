/* The byte-level BPE: a small tokenizer.json made here, with known ids; its errors; the ids' cache; and,
 * where the data home has it, Qwen3's tokenizer against ids that the reference made. */
#include "rt_tools.h"
#include "../runtime/text/bpe_text.h"
#include "../runtime/data/corpus.h"
#include "../runtime/text/token_cache.h"
#include "../runtime/text/tokenizer.h"
#include "../runtime/text/utf8.h"
#include <cjson/cJSON.h>
#include <dirent.h>
#include <stdarg.h>

/* ---- a small tokenizer: ids 0 .. 255 are the bytes in the order of their stand-ins, then the merges'
 * results */

static const char *const merges[][2] = {{"h", "e"},      {"l", "l"},           {"he", "ll"}, {"hell", "o"},
                                        {"\u0120", "w"}, {"a", "a"},           {"b", "c"},   {"a", "b"},
                                        {"ab", "c"},     {"\u00c3", "\u00a9"}, {"1", "2"},   {"aa", "aa"}};
enum {
    MERGES = sizeof merges / sizeof *merges,
    HE = 256,
    LL,
    HELL,
    HELLO,
    SPACE_W,
    AA,
    BC,
    AB,
    ABC,
    E_ACUTE,
    TWELVE,
    AAAA,
    END, /* added tokens */
    BEGIN,
    BEGINNING,
    IDS
};

static const char qwen_regex[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static const char stages[] =
    "\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
    "\"normalizer\":{\"type\":\"NFC\"},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
    "\"%s\"},"
    "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
    "\"trim_offsets\":false,\"use_regex\":false}]},"
    "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\",\"add_prefix_space\":"
    "false,"
    "\"trim_offsets\":false,\"use_regex\":false},{\"type\":\"TemplateProcessing\",\"single\":[{"
    "\"SpecialToken\":"
    "{\"id\":\"<begin>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],"
    "\"special_tokens\":{}}]},"
    "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":"
    "false},";

/* The character that stands for a byte (bytes_to_unicode of GPT-2). */
static unsigned stand_in(unsigned byte) {
    unsigned others = 0;
    for (unsigned b = 0; b <= byte; b++) {
        bool self = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (b == byte) return self ? byte : 0x100 + others;
        others += !self;
    }
    return 0;
}

static char *append(char *at, const char *format, ...) __attribute__((format(printf, 2, 3)));
static char *append(char *at, const char *format, ...) {
    va_list args;
    va_start(args, format);
    at += vsprintf(at, format, args);
    va_end(args);
    return at;
}

/* The small tokenizer.json; returns its length. */
static size_t small_json(char *out) {
    char escaped[512], *e = escaped, *at = out;
    for (const char *p = qwen_regex; *p; p++) e = append(e, *p == '\\' ? "\\\\" : "%c", *p);
    at = append(at, "{");
    at = append(at, stages, escaped);
    at = append(at, "\"added_tokens\":[");
    const char *const added[] = {"</s>", "<begin", "<begin>"};
    for (int i = 0; i < 3; i++)
        at = append(at,
                    "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                    "\"normalized\":false,\"special\":true}",
                    i ? "," : "", END + i, added[i]);
    at = append(at, "],\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                    "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\",\"fuse_unk\":false,"
                    "\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{");
    for (unsigned b = 0; b < 256; b++) at = append(at, "\"\\u%04x\":%u,", stand_in(b), b);
    for (int i = 0; i < MERGES; i++)
        at = append(at, "%s\"%s%s\":%d", i ? "," : "", merges[i][0], merges[i][1], 256 + i);
    at = append(at, "},\"merges\":[");
    for (int i = 0; i < MERGES; i++)
        at =
            append(at, i % 2 ? "%s\"%s %s\"" : "%s[\"%s\",\"%s\"]", i ? "," : "", merges[i][0], merges[i][1]);
    at = append(at, "]}}\n");
    return (size_t)(at - out);
}

static const char *put_small(void) {
    static char json[16384];
    return put_file("tokenizer.json", json, small_json(json));
}

static Tokenizer *open_small(void) {
    Tokenizer *t = tokenizer_open(put_small());
    ck_assert_ptr_nonnull(t);
    return t;
}

static void check_ids(const Tokenizer *t, const char *text, size_t bytes, const int32_t *want,
                      size_t want_n) {
    size_t n;
    int32_t *ids = tokenizer_encode(t, text, bytes, &n);
    ck_assert_ptr_nonnull(ids);
    ck_assert_msg(n == want_n, "'%.99s': %zu ids, expected %zu", text, n, want_n);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(ids[i] == want[i], "'%.99s': id %zu is %d, expected %d", text, i, (int)ids[i],
                      (int)want[i]);
    free(ids);
}

/* `want` is a list of ids. */
#define ck_encodes(t, text, ...)                                                                             \
    do {                                                                                                     \
        const int32_t want_[] = {__VA_ARGS__};                                                               \
        check_ids(t, text, sizeof(text) - 1, want_, sizeof want_ / sizeof *want_);                           \
    } while (0)

START_TEST(merges_by_rank) {
    Tokenizer *t = open_small();
    ck_assert_int_eq(tokenizer_vocab(t), IDS);
    check_ids(t, "", 0, NULL, 0);
    ck_encodes(t, "hello", HELLO);
    ck_encodes(t, "hell", HELL);
    ck_encodes(t, "hel", HE, 'l');
    ck_encodes(t, "hello world", HELLO, SPACE_W, 'o', 'r', 'l', 'd');
    ck_encodes(t, "abc", 'a', BC); /* b c comes before a b, so that ab c never does */
    ck_encodes(t, "aaa", AA, 'a');
    ck_encodes(t, "aaaaa", AAAA, 'a');
    ck_encodes(t, "aabc", AA, BC);
    ck_encodes(t, "12", '1', '2'); /* each digit is a word */
    tokenizer_close(t);
}
END_TEST

START_TEST(words_are_cut) {
    Tokenizer *t = open_small();
    ck_encodes(t, "a  w", 'a', ' ', SPACE_W);
    ck_encodes(t, "he'LL he", HE, '\'', 'L', 'L', ' ', HE);
    ck_encodes(t, "\n\n w \n", '\n', '\n', SPACE_W, ' ', '\n');
    ck_encodes(t,
               "a\xe1\xa0\x8e"
               "a",
               'a', 0xe1, 0xa0, 0x8e, 'a'); /* U+180E is no white space */
    tokenizer_close(t);
}
END_TEST

START_TEST(added_tokens_are_cut_out_first) {
    Tokenizer *t = open_small();
    ck_encodes(t, "</s>", END);
    ck_encodes(t, "he</s>he<begin><begin>>", HE, END, HE, BEGINNING, BEGINNING, '>');
    ck_encodes(t, "<begin<beg", BEGIN, '<', 'b', 'e', 'g'); /* the longest one, and no part of one */
    ck_encodes(t, "a</s>\xcc\x81", 'a', END, 0xcc, 0x81);   /* nothing composes across */
    ck_assert_int_eq(tokenizer_end_of_text(t), END);
    tokenizer_close(t);
}
END_TEST

START_TEST(text_is_normalised) {
    Tokenizer *t = open_small();
    ck_encodes(t, "e\xcc\x81", E_ACUTE);
    ck_encodes(t, "he e\xcc\x81 \xc3\xa9", HE, ' ', E_ACUTE, ' ', E_ACUTE);
    ck_encodes(t, "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", 0xea, 0xb0, 0x81);       /* Hangul jamo */
    ck_encodes(t, "\xea\xb0\x80\xe1\x86\xa7", 0xea, 0xb0, 0x80, 0xe1, 0x86, 0xa7); /* no such consonant */
    ck_encodes(t, "\xe2\x84\xab", 0xc3, 0x85);                                     /* ANGSTROM SIGN */
    ck_encodes(t, "a\xcc\xa3\xcc\x82", 0xe1, 0xba, 0xad);
    tokenizer_close(t);
}
END_TEST

START_TEST(bytes_that_are_no_text_are_kept) {
    Tokenizer *t = open_small();
    ck_encodes(t, "he\xff\xfehe\xc3", HE, 0xff, 0xfe, HE, 0xc3);
    ck_encodes(t, "\xc3\xc3\xa9", 0xc3, E_ACUTE);
    ck_encodes(t, "a\0a", 'a', 0, 'a');
    ck_encodes(t, "\xed\xa0\x80", 0xed, 0xa0, 0x80); /* a surrogate */
    tokenizer_close(t);
}
END_TEST

/* Every text comes back, unless it is normalised; the pieces that it is fed in do not show. */
START_TEST(texts_round_trip) {
    Tokenizer *t = open_small();
    static const char *const parts[] = {
        "hello", " w",   "\n",  " ",  "</s>",         "\xc3\xa9", "\xff",
        "12",    "aaaa", "abc", "'s", "\xe4\xbd\xa0", "!",        "\xf0\x9f\x98\x80",
        "\t"};
    for (uint64_t seed = 0; seed < 60; seed++) {
        size_t room = 400000, n = 0, m, ids_n,
               length = 1 + rng_bits(seed, 0, 0) % (seed < 50 ? 300 : room - 10);
        char *text = calloc(room, 1);
        while (n < length) {
            uint64_t bits = rng_bits(seed, 1, n);
            const char *part = parts[bits % (sizeof parts / sizeof *parts)];
            for (uint64_t i = (bits >> 8) % 64 ? 1 : 1 + (bits >> 16) % 999; i && n < length; i--) {
                strcpy(text + n, part);
                n += strlen(part);
            }
        }
        int32_t *ids = tokenizer_encode(t, text, n, &ids_n);
        char *back = tokenizer_decode(t, ids, ids_n, &m);
        ck_assert_uint_eq(n, m);
        ck_assert_mem_eq(text, back, n);
        free(back), free(ids), free(text);
    }
    tokenizer_close(t);
}
END_TEST

/* A long word takes no time that grows with its square, and is merged like a short one. */
START_TEST(long_words) {
    Tokenizer *t = open_small();
    enum { N = 1 << 20 };
    char *text = malloc(N);
    memset(text, 'a', N);
    size_t n;
    int32_t *ids = tokenizer_encode(t, text, N, &n);
    ck_assert_uint_eq(n, N / 4);
    for (size_t i = 0; i < n; i++) ck_assert_int_eq(ids[i], AAAA);
    free(ids);
    memset(text, ' ', N); /* the last line end is found, however far it is */
    text[1] = text[N - 2] = '\n';
    ids = tokenizer_encode(t, text, N, &n);
    ck_assert_uint_eq(n, N);
    free(ids), free(text);
    tokenizer_close(t);
}
END_TEST

/* ---- decoding */

START_TEST(decoding) {
    Tokenizer *t = open_small();
    const int32_t ids[] = {HELLO, SPACE_W, END, -1, IDS, 1000000, E_ACUTE, 0};
    size_t n;
    char *text = tokenizer_decode(t, ids, sizeof ids / sizeof *ids, &n);
    ck_assert_uint_eq(n, 14);
    ck_assert_mem_eq(text, "hello w</s>\xc3\xa9\0", 15);
    free(text);
    tokenizer_close(t);
}
END_TEST

START_TEST(streaming_holds_characters_together) {
    Tokenizer *t = open_small();
    static const char *const want[] = {"h",
                                       "",
                                       "",
                                       "\xe4\xbd\xa0",
                                       "",
                                       "",
                                       "",
                                       "\xf0\x9f\x98\x80",
                                       "\xef\xbf\xbd"
                                       "a",
                                       "\xef\xbf\xbd",
                                       "",
                                       "\xef\xbf\xbd"};
    static const int32_t ids[] = {'h', 0xe4, 0xbd, 0xa0, 0xf0, 0x9f, 0x98, 0x80, -2, 0xff, 0xe4, -1};
    TextStream s = {0};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        size_t n;
        const int32_t cut[] = {0xc3, 'a'}; /* -2: a character that is not completed; -1: the end */
        char *text = ids[i] == -2   ? tokenizer_stream(t, &s, cut, 2, &n)
                     : ids[i] == -1 ? tokenizer_stream(t, &s, NULL, 0, &n)
                                    : tokenizer_stream(t, &s, &ids[i], 1, &n);
        ck_assert_str_eq(text, want[i]);
        ck_assert_uint_eq(n, strlen(want[i]));
        free(text);
    }
    tokenizer_close(t);
}
END_TEST

START_TEST(utf8_is_strict) {
    static const struct {
        const char *text;
        Utf8 kind;
        size_t length;
    } cases[] = {{"a", UTF8_VALID, 1},
                 {"\xc2\x80", UTF8_VALID, 2},
                 {"\xef\xbf\xbf", UTF8_VALID, 3},
                 {"\xf4\x8f\xbf\xbf", UTF8_VALID, 4},
                 {"\x80", UTF8_INVALID, 1},
                 {"\xc0\x80", UTF8_INVALID, 1},
                 {"\xe0\x9f\x80", UTF8_INVALID, 1},
                 {"\xed\xa0\x80", UTF8_INVALID, 1},
                 {"\xf0\x8f\x80\x80", UTF8_INVALID, 1},
                 {"\xf4\x90\x80\x80", UTF8_INVALID, 1},
                 {"\xf5", UTF8_INVALID, 1},
                 {"\xe4\xbd"
                  "a",
                  UTF8_INVALID, 2},
                 {"\xf0\x9f\x98", UTF8_CUT, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t length;
        ck_assert_int_eq(utf8_next(cases[i].text, strlen(cases[i].text), &length), cases[i].kind);
        ck_assert_uint_eq(length, cases[i].length);
    }
}
END_TEST

/* ---- malformed files */

/* Replaces `from` in the small file by `to`. */
static const struct {
    const char *from, *to, *says;
} wrong[] = {
    {"\"version\":\"1.0\"", "\"version\":\"2.0\"", "value of 'version' is not supported"},
    {"\"version\":", "\"verzion\":", "the file: unknown key 'verzion'"},
    {"\"padding\":null", "\"truncation\":null", "the key 'truncation' comes twice"},
    {"\"padding\":null", "\"padding\":{}", "value of 'padding' is not supported"},
    {"\"NFC\"", "\"NFKC\"", "normalizer: type 'NFKC' is not supported (expected NFC"},
    {"{\"type\":\"NFC\"}", "7", "normalizer: wrong type (expected an object)"},
    {"\"Sequence\"", "\"Whitespace\"", "pre_tokenizer: type 'Whitespace' is not supported"},
    {"\"Split\"", "\"Digits\"", "pre_tokenizer: type 'Digits' is not supported"},
    {"\"Isolated\"", "\"Removed\"", "value of 'behavior' is not supported"},
    {"\"Regex\"", "\"String\"", "pattern: unknown key 'String'"},
    {"(?i:", "(?i:(", "the regular expression"},
    {"\"invert\":false", "\"invert\":true", "value of 'invert'"},
    {"\"add_prefix_space\":false", "\"add_prefix_space\":true",
     "value of 'add_prefix_space' is not supported"},
    {"\"use_regex\":false", "\"use_regex\":true", "value of 'use_regex' is not supported"},
    {"TemplateProcessing", "BertProcessing", "post_processor: type 'BertProcessing' is not supported"},
    {"\"processors\"", "\"processor\"", "post_processor: a Sequence without its processors"},
    {"\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"Metaspace\"",
     "decoder: type 'Metaspace'"},
    {"\"BPE\"", "\"Unigram\"", "model: type 'Unigram' is not supported (expected BPE)"},
    {"\"dropout\":null", "\"dropout\":0.1", "value of 'dropout'"},
    {"\"byte_fallback\":false", "\"byte_fallback\":true", "value of 'byte_fallback'"},
    {"\"end_of_word_suffix\":\"\"", "\"end_of_word_suffix\":\"x\"", "value of 'end_of_word_suffix'"},
    {"\"vocab\":{", "\"vocab\":[],\"x\":{", "model: unknown key 'x'"},
    {"\"\\u0021\":33", "\"\\u0021\":-1", "the id of a token in model.vocab is not a whole number"},
    {"\"\\u0021\":33", "\"\\u0021\":1e9", "the id of a token in model.vocab is not a whole number"},
    {"\"\\u0021\":33", "\"\\u0021\":34", "id 34 comes twice"},
    {"\"\\u0021\":33", "\"\\u0022\":33", "comes twice"},
    {"\"\\u0021\":33", "\"\\u0021x\":33", "no token for byte 0x21"},
    {"[\"h\",\"e\"]", "[\"h\"]", "model.merges[0]: expected two tokens"},
    {"[\"h\",\"e\"]", "[\"h\",\"x\"]", "model.merges[0]: 'h' and 'x', or what they make, is no token"},
    {"\"l l\"", "\"ll\"", "model.merges[1]: expected two tokens"},
    {"\"content\":\"</s>\"", "\"content\":\"\"", "added_tokens: a token without content"},
    {"\"content\":\"</s>\"", "\"content\":\"<begin\"", "'<begin' comes twice"},
    {"\"id\":268", "\"id\":65", "'</s>' has id 65 (expected 268"},
    {"\"id\":269", "\"id\":272", "'<begin' has id 272 (expected 269"},
    {"\"content\":\"</s>\"", "\"content\":\"a\"", "'a' has id 268 (expected 97"},
    {"\"id\":268,\"content\":\"</s>\"", "\"id\":260,\"content\":\" w\"", "' w' has id 260 (expected 268"},
    {"\"\u0120w\":260", "\"\u0120w\":268", "id 268 of '</s>' is another token's"},
    {"\"lstrip\":false", "\"lstrip\":true", "added_tokens: this value of 'lstrip' is not supported"},
    {"\"normalized\":false", "\"normalized\":1", "added_tokens: this value of 'normalized'"},
    {"</s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false",
     "e\\u0301\",\"normalized\":true", "is to be found in normalised text, but is not normalised"},
    {"]}}\n", "]}", "tokenizer.json:1:"},
    {"]}}\n", "]}}\n\nx", "tokenizer.json:3:1: error: not JSON from here on"},
};

/* "</s>" is looked for after NFC, when what composes with its last character has become a part of that, and
 * after the tokens that are looked for before. */
START_TEST(added_tokens_of_normalised_text) {
    static char good[16384], json[20000];
    const char *key = "\"normalized\":", *at;
    small_json(good), at = strstr(good, key) + strlen(key);
    int n = snprintf(json, sizeof json, "%.*strue%s", (int)(at - good), good, at + strlen("false"));
    Tokenizer *t = tokenizer_open(put_file("tokenizer.json", json, (size_t)n));
    ck_assert_ptr_nonnull(t);
    ck_encodes(t, "</s>", END);
    ck_encodes(t, "he</s>\xff</s></s", HE, END, 0xff, END, '<', '/', 's');
    ck_encodes(t, "a</s>\xcc\xb8", 'a', '<', '/', 's', 0xe2, 0x89, 0xaf); /* U+226F, not greater than */
    ck_encodes(t, "a<begin>\xcc\xb8", 'a', BEGINNING, 0xcc, 0xb8);
    ck_encodes(t, "i\xcc\x81</s>", 0xc3, 0xad, END);
    tokenizer_close(t);
}
END_TEST

START_TEST(malformed_files) {
    static char good[16384], bad[20000];
    size_t n = small_json(good);
    const char *at = strstr(good, wrong[_i].from);
    ck_assert_msg(at != NULL, "%s", wrong[_i].from);
    int length = snprintf(bad, sizeof bad, "%.*s%s%s", (int)(at - good), good, wrong[_i].to,
                          at + strlen(wrong[_i].from));
    ck_assert_uint_le(strlen(good), n);
    ck_fails(tokenizer_open(put_file("tokenizer.json", bad, (size_t)length)), wrong[_i].says);
}
END_TEST

START_TEST(damaged_files_are_survived) {
    static unsigned char good[16384], bad[16384];
    size_t n = small_json((char *)good);
    int opened = 0;
    for (uint64_t seed = 0; seed < 1500; seed++) {
        memcpy(bad, good, n);
        const char *path = put_file("m.json", bad, mutate(bad, n, n, seed));
        capture_start();
        Tokenizer *t = tokenizer_open(path);
        const char *text = capture_stop();
        ck_assert_msg(are_error_lines(text, t ? 0 : 1), "seed %d: %s", (int)seed, text);
        if (!t) continue;
        opened++;
        size_t ids_n, bytes;
        int32_t *ids = tokenizer_encode(t, "hello w\xc3\xa9 aaaa </s>", 18, &ids_n);
        if (ids) free(tokenizer_decode(t, ids, ids_n, &bytes));
        free(ids);
        tokenizer_close(t);
    }
    ck_assert_int_gt(opened, 10);
}
END_TEST

START_TEST(where_tokenizers_are_found) {
    Tokenizer *t;
    mkdir(scratch("weights"), 0777);
    mkdir(scratch("home"), 0777);
    mkdir(scratch("home/qwen3-tokenizer"), 0777);
    setenv("TBC_DATA_HOME", scratch("home"), 1);
    static char json[16384];
    size_t n = small_json(json);
    const struct {
        const char *spec, *beside;
        int64_t vocab;
        const char *name;
    } cases[] = {{NULL, NULL, 256, "byte"},
                 {NULL, NULL, 151936, "home/qwen3-tokenizer/tokenizer.json"},
                 {"byte", "weights", 151936, "byte"},
                 {NULL, "weights", 151936, "weights/tokenizer.json"},
                 {NULL, "weights/model.safetensors", 300, "weights/tokenizer.json"},
                 {NULL, "none", 300, "byte"},
                 {"weights", NULL, 300, "weights/tokenizer.json"},
                 {"weights/tokenizer.json", "none", 300, "weights/tokenizer.json"}};
    put_file("weights/tokenizer.json", json, n);
    put_file("home/qwen3-tokenizer/tokenizer.json", json, n);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool word = !cases[i].spec || strcmp(cases[i].spec, "byte") == 0;
        t = tokenizer_choose(word ? cases[i].spec : scratch(cases[i].spec),
                             cases[i].beside ? scratch(cases[i].beside) : NULL, cases[i].vocab);
        ck_assert_ptr_nonnull(t);
        ck_assert_str_eq(tokenizer_name(t), strcmp(cases[i].name, "byte") ? scratch(cases[i].name) : "byte");
        tokenizer_close(t);
    }
    t = tokenizer_open("qwen3");
    ck_assert_str_eq(tokenizer_path(t), scratch("home/qwen3-tokenizer/tokenizer.json"));
    tokenizer_close(t);
    ck_fails(tokenizer_open("gpt2"), "gpt2: error: no such tokenizer");
}
END_TEST

/* ---- the cache */

/* The only file of the folder that ends in .ids; good until the next call. NULL: there is none. */
static const char *cache_in(const char *folder) {
    static char path[1024];
    DIR *dir = opendir(folder);
    bool found = false;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        size_t n = strlen(entry->d_name);
        if (n < 4 || strcmp(entry->d_name + n - 4, ".ids") != 0) continue;
        ck_assert(!found);
        found = true;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    }
    if (dir) closedir(dir);
    return found ? path : NULL;
}

static int times_tokenized;

static bool counting(const Tokenizer *t, const char *path, const FileMap *file, TokenSink *sink) {
    times_tokenized++;
    return tokenize_text(t, path, file, sink);
}

static void check_cached(const Tokenizer *t, const char *path, int times) {
    FileMap text, ids;
    int64_t n;
    size_t want_n;
    times_tokenized = 0;
    ck_assert(file_map(&text, path));
    ck_assert(token_cache_open(&ids, &n, t, path, &text, counting));
    ck_assert_int_eq(times_tokenized, times);
    int32_t *want = tokenizer_encode(t, (const char *)text.at, text.size, &want_n);
    ck_assert_uint_eq((size_t)n, want_n);
    ck_assert_mem_eq(ids.at, want, want_n * sizeof *want);
    free(want);
    file_unmap(&ids);
    file_unmap(&text);
}

START_TEST(ids_are_cached) {
    Tokenizer *t = open_small();
    mkdir(scratch("data"), 0777);
    const char *path = put_file("data/a.txt", "hello world", 11);
    check_cached(t, path, 1);
    check_cached(t, path, 0);
    char good[1024];
    size_t n;
    snprintf(good, sizeof good, "%s", cache_in(scratch("data")));
    unsigned char *bytes = (unsigned char *)get_file(good, &n);
    for (size_t i = 0; i < n; i++) { /* any byte that changes, or a cut, is seen */
        FILE *f = fopen(good, "wb");
        bytes[i] ^= 0x10;
        fwrite(bytes, 1, i % 3 ? n : i, f);
        bytes[i] ^= 0x10;
        fclose(f);
        check_cached(t, path, 1);
        check_cached(t, path, 0);
    }
    free(bytes);
    check_cached(t, put_file("b.txt", "", 0), 1);
    check_cached(t, scratch("b.txt"), 0);
    check_cached(t, put_file("b.txt", "other", 5), 1);
    tokenizer_close(t);
}
END_TEST

START_TEST(folders_that_may_not_be_written_are_left_alone) {
    Tokenizer *t = open_small();
    mkdir(scratch("data"), 0777);
    mkdir(scratch("home"), 0777);
    setenv("HOME", scratch("home"), 1);
    const char *path = put_file("data/a.txt", "hello world", 11);
    chmod(scratch("data"), 0555);
    check_cached(t, path, 1);
    check_cached(t, path, 0);
    ck_assert_ptr_null(cache_in(scratch("data")));
    ck_assert_ptr_nonnull(cache_in(scratch("home/.cache/tbc/ids")));
    setenv("HOME", "/dev/null", 1);
    FileMap text, ids;
    int64_t n;
    ck_assert(file_map(&text, path));
    ck_fails(token_cache_open(&ids, &n, t, path, &text, counting), "can be kept neither beside it nor in");
    file_unmap(&text);
    chmod(scratch("data"), 0777);
    tokenizer_close(t);
}
END_TEST

START_TEST(a_full_disk_leaves_no_cache) {
    Tokenizer *t = open_small();
    mkdir(scratch("data"), 0777);
    static char long_text[20000];
    memset(long_text, '!', sizeof long_text);
    const char *path = put_file("data/a.txt", long_text, sizeof long_text);
    FileMap text, ids;
    int64_t n;
    ck_assert(file_map(&text, path));
    capture_start();
    file_limit(4096);
    bool ok = token_cache_open(&ids, &n, t, path, &text, counting);
    file_limit(RLIM_INFINITY);
    ck_assert(are_error_lines(capture_stop(), 1));
    ck_assert(!ok);
    ck_assert_ptr_null(cache_in(scratch("data")));
    file_unmap(&text);
    check_cached(t, path, 1);
    tokenizer_close(t);
}
END_TEST

START_TEST(corpora_are_tokenized) {
    Tokenizer *t = open_small();
    mkdir(scratch("data"), 0777);
    put_file("data/1.txt", "hello hello", 11);
    put_file("data/2.txt", "hello", 5);
    for (int again = 0; again < 2; again++) { /* the second time from the cache, which is no part of it */
        Corpus c;
        ck_assert(corpus_open(&c, scratch("data"), t, 2, IDS));
        ck_assert_int_eq(c.ids.n, 4 + 1);
        int32_t ids[5];
        stream_read(&c.ids, 0, 5, ids);
        ck_assert_int_eq(ids[0], HELLO);
        ck_assert_int_eq(ids[1], ' ');
        ck_assert_int_eq(ids[3], END);
        ck_assert_int_eq(ids[4], HELLO);
        corpus_close(&c);
    }
    Corpus c;
    capture_start();
    bool ok = corpus_open(&c, scratch("data"), t, 2, HELLO);
    const char *says = capture_stop();
    ck_assert(!ok && are_error_lines(says, 1) &&
              strstr(says, "token 259 at token 0 is outside the vocabulary"));
    corpus_close(&c);
    tokenizer_close(t);
}
END_TEST

/* ---- Qwen3's tokenizer */

/* A file of the data home; NULL, after a word on it: it is not there. */
static const char *from_home(const char *name) {
    static char path[1024];
    const char *home = getenv("TBC_DATA_HOME");
    snprintf(path, sizeof path, "%s/%s", home ? home : "", name);
    if (home && access(path, R_OK) == 0) return path;
    printf("skipped: %s is not in TBC_DATA_HOME\n", name);
    return NULL;
}

START_TEST(qwen3_golden_strings) {
    const char *path = from_home("qwen3-tokenizer/golden.json");
    if (!path) return;
    size_t n;
    char *text = get_file(path, &n);
    cJSON *cases = cJSON_ParseWithLength(text, n);
    ck_assert_int_gt(cJSON_GetArraySize(cases), 0);
    Tokenizer *t = tokenizer_open("qwen3");
    ck_assert_ptr_nonnull(t);
    ck_assert_int_eq(tokenizer_vocab(t), 151669);
    ck_assert_int_eq(tokenizer_end_of_text(t), 151643);
    for (const cJSON *c = cases->child; c; c = c->next) {
        const char *string = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c, "text"));
        const cJSON *ids = cJSON_GetObjectItemCaseSensitive(c, "ids");
        int32_t want[4096];
        size_t want_n = 0;
        for (const cJSON *id = ids->child; id; id = id->next) want[want_n++] = (int32_t)id->valuedouble;
        check_ids(t, string, strlen(string), want, want_n);
    }
    tokenizer_close(t);
    cJSON_Delete(cases);
    free(text);
}
END_TEST

static const struct {
    const char *file;
    size_t ids;
} counts[] = {
    {"wikitext2/train.txt", 2549174}, {"wikitext2/valid.txt", 270674}, {"wikitext2/raw/valid.txt", 262338}};

START_TEST(qwen3_whole_files) {
    const char *path = from_home(counts[_i].file);
    if (!path) return;
    size_t bytes, n, m;
    char *text = get_file(path, &bytes);
    Tokenizer *t = tokenizer_open("qwen3");
    ck_assert_ptr_nonnull(t);
    int32_t *ids = tokenizer_encode(t, text, bytes, &n);
    ck_assert_uint_eq(n, counts[_i].ids);
    char *back = tokenizer_decode(t, ids, n, &m);
    ck_assert_uint_eq(m, bytes);
    ck_assert_mem_eq(back, text, bytes); /* the files are in NFC */
    free(back), free(ids), free(text);
    tokenizer_close(t);
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("tokenizer");
    tcase_add_test(tests, merges_by_rank);
    tcase_add_test(tests, words_are_cut);
    tcase_add_test(tests, added_tokens_are_cut_out_first);
    tcase_add_test(tests, text_is_normalised);
    tcase_add_test(tests, bytes_that_are_no_text_are_kept);
    tcase_add_test(tests, texts_round_trip);
    tcase_add_test(tests, long_words);
    tcase_add_test(tests, decoding);
    tcase_add_test(tests, streaming_holds_characters_together);
    tcase_add_test(tests, utf8_is_strict);
    tcase_add_test(tests, added_tokens_of_normalised_text);
    tcase_add_loop_test(tests, malformed_files, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(tests, damaged_files_are_survived);
    tcase_add_test(tests, where_tokenizers_are_found);
    tcase_add_test(tests, ids_are_cached);
    tcase_add_test(tests, folders_that_may_not_be_written_are_left_alone);
    tcase_add_test(tests, a_full_disk_leaves_no_cache);
    tcase_add_test(tests, corpora_are_tokenized);
    tcase_add_test(tests, qwen3_golden_strings);
    tcase_add_loop_test(tests, qwen3_whole_files, 0, sizeof counts / sizeof *counts);
    return run_tests("tokenizer", tests);
}
