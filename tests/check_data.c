/* Random numbers, the order of examples, tokenizer, .npy files and data sets. */
#include "rt_tools.h"
#include "../runtime/data/data.h"
#include "../runtime/data/datasets.h"
#include "../runtime/data/npy.h"
#include <math.h>
#include <omp.h>

/* ---- rng ---- */

/* The known answers of the Random123 distribution. */
START_TEST(philox_known_answers) {
    uint32_t out[4];
    rng_block(0, 0, 0, out);
    ck_assert_uint_eq(out[0], 0x6627e8d5);
    ck_assert_uint_eq(out[1], 0xe169c58d);
    ck_assert_uint_eq(out[2], 0xbc57ac4c);
    ck_assert_uint_eq(out[3], 0x9b00dbd8);
    rng_block(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, out);
    ck_assert_uint_eq(out[0], 0xd16cfe09);
    ck_assert_uint_eq(out[1], 0x94fdcceb);
    ck_assert_uint_eq(out[2], 0x5001e420);
    ck_assert_uint_eq(out[3], 0x24126ea1);
}
END_TEST

START_TEST(uniform_is_in_range) {
    double sum = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        double u = rng_uniform(1, 2, i);
        ck_assert(u >= 0 && u < 1);
        sum += u;
    }
    ck_assert_double_eq_tol(sum / 10000, 0.5, 0.01);
}
END_TEST

START_TEST(normals_have_their_moments) {
    enum { N = 200001 };
    float *x = calloc(N, sizeof *x);
    rng_normals(7, rng_stream("w"), 0.5, x, N);
    double m1 = 0, m2 = 0, m4 = 0, lag = 0;
    for (int i = 0; i < N; i++) {
        double z = x[i] / 0.5;
        m1 += z / N, m2 += z * z / N, m4 += z * z * z * z / N;
        if (i) lag += z * x[i - 1] / 0.5 / N;
    }
    ck_assert_double_eq_tol(m1, 0, 0.01);
    ck_assert_double_eq_tol(m2, 1, 0.02);
    ck_assert_double_eq_tol(m4, 3, 0.1);
    ck_assert_double_eq_tol(lag, 0, 0.01);
    free(x);
}
END_TEST

/* The formula in rng.h, in double. */
START_TEST(normals_are_those_of_box_and_muller) {
    enum { N = 4 * RNG_BLOCKS * 20 + 5 };
    static float x[N + 1];
    uint64_t stream = rng_stream("w") + 1;
    x[N] = 7;
    rng_normals(8, stream, 0.5, x, N);
    for (int i = 0; i < N; i++) {
        uint32_t block[4], *word = block + i % 4 / 2 * 2;
        rng_block(8, stream, (uint64_t)i / 4, block);
        double radius = 0.5 * sqrt(-2 * log(((word[0] >> 1) + 0.5) / 0x1p31));
        double angle = M_PI * word[1] / 0x1p31;
        ck_assert_double_eq_tol(x[i], radius * (i % 2 ? sin(angle) : cos(angle)), 2e-6);
    }
    ck_assert_float_eq(x[N], 7);
}
END_TEST

START_TEST(init_depends_on_seed_and_name_only) {
    float a[999], b[999];
    const int64_t dim[] = {27, 37};
    omp_set_num_threads(1);
    rng_init_tensor(5, "one", 2, dim, a);
    omp_set_num_threads(4);
    rng_init_tensor(5, "one", 2, dim, b);
    ck_assert_mem_eq(a, b, sizeof a);
    rng_init_tensor(5, "two", 2, dim, b);
    ck_assert_mem_ne(a, b, sizeof a);
    rng_init_tensor(6, "one", 2, dim, b);
    ck_assert_mem_ne(a, b, sizeof a);
    double square = 0;
    for (int i = 0; i < 999; i++) square += (double)a[i] * a[i];
    ck_assert_double_eq_tol(square / 999 * 37, 1, 0.15);
    rng_init_tensor(5, "norm", 1, dim, b);
    for (int i = 0; i < 27; i++) ck_assert_float_eq(b[i], 1);
}
END_TEST

/* ---- order ---- */

START_TEST(order_visits_every_row_once_an_epoch) {
    for (int64_t rows = 1; rows < 300; rows = rows * 3 / 2 + 1)
        for (int64_t epoch = 0; epoch < 3; epoch++) {
            char seen[512] = {0};
            for (int64_t k = 0; k < rows; k++) {
                int64_t row = order_at(9, true, rows, epoch * rows + k);
                ck_assert(row >= 0 && row < rows && !seen[row]);
                seen[row] = 1;
                ck_assert_int_eq(order_at(9, false, rows, epoch * rows + k), k);
            }
        }
}
END_TEST

START_TEST(order_differs_by_epoch_and_seed) {
    int same_epoch = 0, same_seed = 0, fixed = 0;
    for (int64_t k = 0; k < 1000; k++) {
        int64_t row = order_at(1, true, 1000, k);
        same_epoch += row == order_at(1, true, 1000, 1000 + k);
        same_seed += row == order_at(2, true, 1000, k);
        fixed += row == k;
    }
    ck_assert_int_lt(same_epoch, 8); /* the expected number is 1 */
    ck_assert_int_lt(same_seed, 8);
    ck_assert_int_lt(fixed, 8);
}
END_TEST

/* All six orders of three rows come up equally often. */
START_TEST(order_is_uniform) {
    int count[27] = {0}, kinds = 0;
    for (int64_t e = 0; e < 6000; e++)
        count[9 * order_at(3, true, 3, 3 * e) + 3 * order_at(3, true, 3, 3 * e + 1) +
              order_at(3, true, 3, 3 * e + 2)]++;
    for (int i = 0; i < 27; i++) {
        if (!count[i]) continue;
        kinds++;
        ck_assert_int_gt(count[i], 880);
        ck_assert_int_lt(count[i], 1120);
    }
    ck_assert_int_eq(kinds, 6);
}
END_TEST

/* ---- tokenizer ---- */

START_TEST(bytes_round_trip) {
    Tokenizer *t = tokenizer_open("byte");
    ck_assert_int_eq(tokenizer_vocab(t), 256);
    const char text[] = "a\0\xff\xc3\xa9";
    size_t n, m;
    int32_t *ids = tokenizer_encode(t, text, sizeof text - 1, &n);
    ck_assert_uint_eq(n, 5);
    ck_assert_int_eq(ids[2], 255);
    char *back = tokenizer_decode(t, ids, n, &m);
    ck_assert_uint_eq(m, 5);
    ck_assert_mem_eq(back, text, 6);
    free(back);
    ids[0] = 300, ids[1] = -1;
    back = tokenizer_decode(t, ids, n, &m);
    ck_assert_uint_eq(m, 3);
    free(back);
    free(ids);
    tokenizer_close(t);
    ck_fails(tokenizer_open("bpe"), "bpe: error: no such tokenizer (expected `byte`, a tokenizer.json");
    ck_fails(tokenizer_open("./bpe.json"), "./bpe.json: error: cannot open: No such file");
}
END_TEST

/* ---- npy ---- */

/* A .npy file with this header text; returns its length. */
static size_t make_npy(unsigned char *out, int version, const char *header, const void *data, size_t bytes) {
    size_t n = strlen(header), start = version == 1 ? 10 : 12;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (unsigned char)version;
    out[7] = 0;
    for (size_t i = 8; i < start; i++) out[i] = (unsigned char)(n >> 8 * (i - 8));
    memcpy(out + start, header, n);
    if (bytes) memcpy(out + start + n, data, bytes);
    return start + n + bytes;
}

static const int32_t six[] = {0, 1, 2, 3, 4, 127};

START_TEST(npy_versions_and_types) {
    unsigned char file[512];
    const char *h4 = "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }      \n";
    const char *h8 = "{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"<i8\"}";
    int64_t wide[6];
    for (int i = 0; i < 6; i++) wide[i] = six[i];
    for (int version = 1; version <= 3; version++)
        for (int eight = 0; eight < 2; eight++) {
            size_t n =
                make_npy(file, version, eight ? h8 : h4, eight ? (const void *)wide : six, eight ? 48 : 24);
            Npy npy;
            ck_assert(npy_open(&npy, put_file("a.npy", file, n)));
            ck_assert_int_eq(npy.rows, 2);
            ck_assert_int_eq(npy.cols, 3);
            ck_assert_int_eq(npy.type, eight ? ID_I64 : ID_I32);
            ck_assert_mem_eq(npy.data, eight ? (const void *)wide : six, eight ? 48 : 24);
            npy_close(&npy);
        }
}
END_TEST

static const struct {
    const char *header, *error;
} bad_npy[] = {
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", "elements of type '<f4'"},
    {"{'descr': '>i4', 'fortran_order': False, 'shape': (2, 3), }", "elements of type '>i4'"},
    {"{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }", "Fortran order"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (5,), }",
     "24 bytes of data do not make shape (5, 1)"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (), }", "0 dimensions (expected 2"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2, 3), }", "3 dimensions (expected 2"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (3, 3), }",
     "24 bytes of data do not make shape (3, 3)"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (1, 3), }", "do not make shape"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (9223372036854775807, 8), }", "do not make shape"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (9223372036854775808, 8), }", "malformed header"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (-2, -3), }", "malformed header"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (2 3), }", "malformed header"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3", "malformed header"},
    {"{'descr': '<i4', 'fortran_order': False}", "malformed header"},
    {"{'descr': '<i4', 'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }", "malformed header"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}", "malformed header"},
    {"{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (2, 3), }", "malformed header"},
    {"", "malformed header"},
};

START_TEST(npy_header_errors) {
    unsigned char file[512];
    Npy npy;
    size_t n = make_npy(file, 1, bad_npy[_i].header, six, sizeof six);
    ck_fails(npy_open(&npy, put_file("bad.npy", file, n)), bad_npy[_i].error);
}
END_TEST

START_TEST(npy_file_errors) {
    unsigned char file[512] = "\x93NUMPY\x04";
    Npy npy;
    ck_fails(npy_open(&npy, put_file("bad.npy", file, 100)), ".npy version 4.0");
    ck_fails(npy_open(&npy, put_file("bad.npy", "", 0)), "not a .npy file");
    ck_fails(npy_open(&npy, put_file("bad.npy", "hello hello hello", 17)), "not a .npy file");
    file[6] = 2, file[9] = 200;
    ck_fails(npy_open(&npy, put_file("bad.npy", file, 11)), "ends inside its header");
    ck_fails(npy_open(&npy, put_file("bad.npy", file, 100)), "ends inside its header");
    ck_fails(npy_open(&npy, scratch("none.npy")), "cannot open: No such file");
    ck_fails(npy_open(&npy, scratch_dir), "not a regular file");
}
END_TEST

START_TEST(npy_survives_mutation) {
    unsigned char good[512], file[512];
    size_t n = make_npy(good, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }      \n", six,
                        sizeof six);
    Tokenizer *t = tokenizer_open(NULL);
    int opened = 0;
    for (uint64_t seed = 0; seed < 4000; seed++) {
        memcpy(file, good, n);
        const char *path = put_file("m.npy", file, mutate(file, n, n, seed));
        capture_start();
        Dataset *ds = dataset_open(path, t, 2, 128);
        const char *text = capture_stop();
        ck_assert_msg(are_error_lines(text, ds ? 0 : 1), "seed %d: %s", (int)seed, text);
        if (!ds) continue;
        opened++;
        int32_t row[3];
        for (int64_t r = 0; r < dataset_rows(ds, DATA_TRAIN); r++) {
            dataset_row(ds, DATA_TRAIN, r, row);
            for (int i = 0; i < 3; i++) ck_assert(row[i] >= 0 && row[i] < 128);
        }
        dataset_close(ds);
    }
    ck_assert_int_gt(opened, 10);
    tokenizer_close(t);
}
END_TEST

/* ---- data sets ---- */

static const char *put_npy(const char *name, int64_t rows, int64_t cols, const int32_t *data) {
    unsigned char file[4096];
    char header[128];
    snprintf(header, sizeof header, "{'descr': '<i4', 'fortran_order': False, 'shape': (%d, %d), }\n",
             (int)rows, (int)cols);
    return put_file(name, file, make_npy(file, 1, header, data, (size_t)(rows * cols) * 4));
}

static Dataset *open_set(const char *spec, int64_t seq, int64_t vocab) {
    Tokenizer *t = tokenizer_open(NULL);
    char *path = dataset_locate(spec, true);
    Dataset *ds = path ? dataset_open(path, t, seq, vocab) : NULL;
    free(path);
    tokenizer_close(t);
    return ds;
}

START_TEST(npy_rows_are_the_examples) {
    Dataset *ds = open_set(put_npy("rows.npy", 2, 3, six), 2, 128);
    ck_assert_ptr_nonnull(ds);
    ck_assert_int_eq(dataset_rows(ds, DATA_TRAIN), 2);
    ck_assert_int_eq(dataset_rows(ds, DATA_VALID), 0);
    ck_assert_int_eq(dataset_eval_split(ds, NULL), DATA_TRAIN);
    int32_t row[3];
    dataset_row(ds, DATA_TRAIN, 1, row);
    ck_assert_mem_eq(row, six + 3, sizeof row);
    dataset_close(ds);
}
END_TEST

/* A text of 1003 bytes and rows of 10 targets: 100 rows, the last 5 held out; every byte from the second to
 * the 1001st is a target exactly once. */
START_TEST(text_is_cut_into_windows) {
    char text[1003];
    for (int i = 0; i < 1003; i++) text[i] = (char)(i * 7);
    Dataset *ds = open_set(put_file("text.txt", text, sizeof text), 10, 300);
    ck_assert_ptr_nonnull(ds);
    ck_assert_int_eq(dataset_rows(ds, DATA_TRAIN), 95);
    ck_assert_int_eq(dataset_rows(ds, DATA_VALID), 5);
    ck_assert_int_eq(dataset_eval_split(ds, NULL), DATA_VALID);
    int at = 0;
    for (int split = 0; split < 2; split++)
        for (int64_t r = 0; r < dataset_rows(ds, (DataSplit)split); r++) {
            int32_t row[11];
            dataset_row(ds, (DataSplit)split, r, row);
            for (int i = 0; i < 11; i++) ck_assert_int_eq(row[i], (unsigned char)text[at + i]);
            at += 10;
        }
    ck_assert_int_eq(at, 1000);
    dataset_close(ds);
    ds = open_set(put_file("one.txt", text, 11), 10, 256);
    ck_assert_int_eq(dataset_rows(ds, DATA_TRAIN), 1);
    ck_assert_int_eq(dataset_rows(ds, DATA_VALID), 0);
    dataset_close(ds);
}
END_TEST

START_TEST(directory_and_name) {
    mkdir(scratch("set"), 0777);
    put_file("set/train.txt", "abcdefgh", 8);
    put_file("set/valid.txt", "ABCDE", 5);
    put_npy("set/test.npy", 2, 3, six);
    put_file("set/notes.md", "x", 1);
    setenv("TBC_DATA_HOME", scratch_dir, 1);
    const char *specs[] = {scratch("set"), "set"};
    for (int i = 0; i < 2; i++) {
        Dataset *ds = open_set(specs[i], 2, 256);
        ck_assert_ptr_nonnull(ds);
        ck_assert_int_eq(dataset_rows(ds, DATA_TRAIN), 3);
        ck_assert_int_eq(dataset_rows(ds, DATA_VALID), 2);
        ck_assert_int_eq(dataset_rows(ds, DATA_TEST), 2);
        ck_assert_str_eq(dataset_path(ds, DATA_VALID), scratch("set/valid.txt"));
        int32_t row[3];
        dataset_row(ds, DATA_VALID, 1, row);
        ck_assert_int_eq(row[0], 'C');
        dataset_close(ds);
    }
    put_npy("set/valid.npy", 2, 3, six);
    ck_fails(open_set("set", 2, 256), "both valid.txt and valid.npy");
}
END_TEST

/* All ids of the rows of a split, each id once, as text. */
static const char *split_text(const Dataset *ds, DataSplit split, int64_t seq) {
    static char text[256];
    int32_t row[64];
    size_t n = 0;
    for (int64_t r = 0; r < dataset_rows(ds, split); r++) {
        dataset_row(ds, split, r, row);
        for (int64_t i = r > 0; i <= seq; i++) text[n++] = (char)row[i];
    }
    text[n] = 0;
    return text;
}

/* The files in the order of their names, with a newline between two texts; other files do not count. */
START_TEST(folder_is_one_corpus) {
    mkdir(scratch("mixed"), 0777);
    mkdir(scratch("mixed/z.txt"), 0777);
    const uint16_t ids[] = {'i', 'd', 's'};
    const int32_t more[] = {'1', 'd'};
    unsigned char npy[512];
    put_file("mixed/b.txt", "second", 6);
    put_file("mixed/a.txt", "first", 5);
    put_file("mixed/B.txt", "", 0);
    put_file("mixed/A.txt", "zeroth", 6);
    put_file("mixed/c.bin", ids, sizeof ids);
    put_file("mixed/d.npy", npy,
             make_npy(npy, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }", more, 8));
    put_file("mixed/e.txt", "last", 4);
    put_file("mixed/.hidden.txt", "hidden", 6);
    put_file("mixed/readme.md", "readme", 6);
    Dataset *ds = open_set(scratch("mixed"), 28, 256);
    ck_assert_ptr_nonnull(ds);
    ck_assert_int_eq(dataset_rows(ds, DATA_TRAIN), 1);
    ck_assert_str_eq(split_text(ds, DATA_TRAIN, 28), "zeroth\n\nfirst\nsecondids1dlast");
    dataset_close(ds);
    ck_fails(open_set(scratch("mixed"), 29, 256), "29 tokens are less than one example");
}
END_TEST

/* Splits may be folders, and .bin files of either width. */
START_TEST(splits_of_all_kinds) {
    mkdir(scratch("kinds"), 0777);
    mkdir(scratch("kinds/train"), 0777);
    put_file("kinds/train/2.txt", "two", 3);
    put_file("kinds/train/1.txt", "one", 3);
    put_file("kinds/other.txt", "other", 5);
    const uint16_t narrow[] = {'a', 'b', 'c', 'd', 'e'};
    const uint32_t wide[] = {65536, 1, 2};
    put_file("kinds/valid.bin", narrow, sizeof narrow);
    Dataset *ds = open_set(scratch("kinds"), 2, 65536);
    ck_assert_ptr_nonnull(ds);
    ck_assert_str_eq(split_text(ds, DATA_TRAIN, 2), "one\ntwo");
    ck_assert_str_eq(split_text(ds, DATA_VALID, 2), "abcde");
    dataset_close(ds);
    ds = open_set(put_file("wide.bin", wide, sizeof wide), 2, 65537);
    int32_t row[3];
    dataset_row(ds, DATA_TRAIN, 0, row);
    ck_assert_int_eq(row[0], 65536);
    dataset_close(ds);
    put_file("kinds/train.txt", "one", 3);
    ck_fails(open_set(scratch("kinds"), 2, 65536), "both train.txt and train are here");
}
END_TEST

/* Documents of one file and of several, with the escapes that JSON has, read again from the cache. */
START_TEST(json_lines_are_documents) {
    static const char lines[] = "{\"id\": 7, \"text\": \"one\\n\\u00e9 \\\\u0000\", \"more\": {\"text\": 1}}\n"
                                "\r\n"
                                "{\"text\":\"\"}\r\n"
                                "{\"text\": \"two \\ud83d\\ude00\"}";
    static const char expected[] = "one\n\xc3\xa9 \\u0000\n\ntwo \xf0\x9f\x98\x80\nthree";
    mkdir(scratch("lines"), 0777);
    put_file("lines/1.jsonl", lines, sizeof lines - 1);
    put_file("lines/2.txt", "three", 5);
    for (int i = 0; i < 2; i++) {
        int64_t seq = (int64_t)strlen(expected) - 1;
        Dataset *ds = open_set(scratch("lines"), seq, 256);
        ck_assert_ptr_nonnull(ds);
        ck_assert_str_eq(split_text(ds, DATA_TRAIN, seq), expected);
        dataset_close(ds);
    }
    ck_fails(open_set(scratch("lines/1.jsonl"), 2, 128), "1.jsonl: error: token 195 at token 4 is outside");
}
END_TEST

static const struct {
    const char *lines, *error;
} bad_lines[] = {
    {"{\"text\": \"a\"}\n[1]\n", ":2: error: not a JSON object"},
    {"\n\n{\"text\": \"a\"", ":3: error: not a JSON object"},
    {"{\"text\": \"a\"} x\n", ":1: error: not a JSON object"},
    {"{\"text\": \"a\"}{\"text\": \"a\"}\n", ":1: error: not a JSON object"},
    {"{\"Text\": \"a\"}\n", ":1: error: not one \"text\" with a string"},
    {"{\"text\": null}\n", ":1: error: not one \"text\" with a string"},
    {"{\"text\": \"a\", \"text\": \"b\"}\n", ":1: error: not one \"text\" with a string"},
    {"{\"text\": \"a\\u0000b\"}\n", ":1: error: a NUL character"},
    {"{\"text\": \"a\\uD800b\"}\n", ":1: error: half of a surrogate pair"},
    {"{\"text\": \"\\ud83d\\ud83d\\ude00\"}\n", ":1: error: half of a surrogate pair"},
    {"{\"text\": \"\\udc00\"}\n", ":1: error: half of a surrogate pair"},
};

START_TEST(json_line_errors) {
    ck_fails(open_set(put_file("x.jsonl", bad_lines[_i].lines, strlen(bad_lines[_i].lines)), 2, 256),
             bad_lines[_i].error);
    ck_fails(open_set(put_file("x.jsonl", "{\"text\": \"a\0b\"}", 14), 2, 256), ":1: error: a NUL character");
    ck_fails(open_set(put_file("x.jsonl", "\n", 1), 2, 256), "0 tokens are less than one example");
}
END_TEST

START_TEST(folder_errors) {
    mkdir(scratch("bad"), 0777);
    put_file("bad/x.bin", "abc", 3);
    ck_fails(open_set(scratch("bad"), 2, 256), "x.bin: error: 3 bytes are no whole number of 2-byte ids");
    ck_fails(open_set(scratch("bad"), 2, 65537), "3 bytes are no whole number of 4-byte ids");
    put_file("bad/x.bin", "", 0);
    ck_fails(open_set(scratch("bad"), 2, 256), "x.bin: error: no ids");
    put_file("bad/x.bin", "a\0b\0\0\1", 6);
    ck_fails(open_set(scratch("bad"), 2, 256), "token 256 at position 2 is outside the vocabulary");
    put_file("bad/x.bin", "a\0b\0c\0", 6);
    put_npy("bad/y.npy", 2, 3, six);
    ck_fails(open_set(scratch("bad"), 2, 256), "y.npy: error: rows of examples, among files that are not");
    rename(scratch("bad/y.npy"), scratch("bad/a.npy"));
    ck_fails(open_set(scratch("bad"), 2, 256), "x.bin: error: no rows of examples, among files that are");
    put_file("bad/b.txt", "b", 1);
    ck_fails(open_set(scratch("bad"), 2, 256), "b.txt: error: no rows of examples, among files that are");
    put_npy("bad/x.npy", 1, 3, (int32_t[]){0, INT32_MIN, 0});
    ck_fails(open_set(scratch("bad/x.npy"), 2, 256), "token -2147483648 at row 0, column 1");
}
END_TEST

/* Windows overlap, stay inside their split, and reach as far as they fit. */
START_TEST(windows_overlap) {
    char text[101];
    for (int i = 0; i < 101; i++) text[i] = (char)i;
    Dataset *ds = open_set(put_file("windows.txt", text, sizeof text), 10, 256);
    ck_assert_int_eq(dataset_rows(ds, DATA_TRAIN), 9); /* ids 0 .. 90 and 90 .. 100 */
    for (int64_t stride = 1; stride <= 10; stride++) {
        ck_assert_int_eq(dataset_windows(ds, DATA_TRAIN, stride), 80 / stride + 1);
        ck_assert_int_eq(dataset_windows(ds, DATA_VALID, stride), 1);
        ck_assert_int_eq(dataset_windows(ds, DATA_TEST, stride), 0);
        int32_t window[11];
        dataset_window(ds, DATA_TRAIN, stride, 80 / stride, window);
        for (int i = 0; i < 11; i++) ck_assert_int_eq(window[i], 80 / stride * stride + i);
        dataset_window(ds, DATA_VALID, stride, 0, window);
        ck_assert_int_eq(window[0], 90);
    }
    dataset_close(ds);
    ds = open_set(put_npy("rows.npy", 2, 3, six), 2, 256);
    ck_assert_int_eq(dataset_windows(ds, DATA_TRAIN, 1), -1);
    ck_assert_int_eq(dataset_windows(ds, DATA_TRAIN, 2), 2);
    int32_t row[3];
    dataset_window(ds, DATA_TRAIN, 2, 1, row);
    ck_assert_mem_eq(row, six + 3, sizeof row);
    dataset_close(ds);
}
END_TEST

START_TEST(fingerprint_sees_content) {
    Dataset *a = open_set(put_file("a.txt", "abcdefghi", 9), 2, 256);
    Dataset *b = open_set(put_file("b.txt", "abcdefghi", 9), 2, 256);
    Dataset *c = open_set(put_file("c.txt", "abxdefghi", 9), 2, 256);
    int64_t hash = dataset_fingerprint(a, DATA_TRAIN);
    ck_assert(hash >= 0 && hash < INT64_C(1) << 53);
    ck_assert_int_eq(hash, dataset_fingerprint(b, DATA_TRAIN));
    ck_assert_int_ne(hash, dataset_fingerprint(c, DATA_TRAIN));
    dataset_close(a);
    dataset_close(b);
    dataset_close(c);
}
END_TEST

START_TEST(data_errors) {
    setenv("TBC_DATA_HOME", scratch("home"), 1);
    char where[600];
    snprintf(where, sizeof where, "put train.txt and valid.txt into %s", scratch("home/wiki"));
    ck_fails(open_set("wiki", 2, 256), where);
    ck_fails(open_set("no/such", 2, 256), "no/such: error: no such file or directory");
    ck_fails(open_set(scratch_dir, 2, 256), "no data here (expected train.txt");
    ck_fails(open_set(put_file("short.txt", "ab", 2), 2, 256),
             "2 tokens are less than one example (expected at least");
    ck_fails(open_set(put_file("empty.txt", "", 0), 2, 256), "0 tokens are less");
    ck_fails(open_set(put_file("high.txt",
                               "ab\xe9"
                               "c",
                               4),
                      2, 128),
             "token 233 at byte 2 is outside the vocabulary");
    ck_fails(open_set(put_npy("rows.npy", 2, 3, six), 3, 256),
             "rows of 3 tokens (expected 4: the module's seq of 3");
    ck_fails(open_set(scratch("rows.npy"), 2, 127), "token 127 at row 1, column 2 is outside the vocabulary");
    int32_t negative[] = {0, -1, 0};
    ck_fails(open_set(put_npy("neg.npy", 1, 3, negative), 2, 127), "token -1 at row 0, column 1");
    ck_fails(open_set(put_npy("none.npy", 0, 3, NULL), 2, 127), "no rows");
    ck_fails(open_set("/dev/null", 2, 127), "not a regular file");
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("data");
    tcase_add_test(tests, philox_known_answers);
    tcase_add_test(tests, uniform_is_in_range);
    tcase_add_test(tests, normals_have_their_moments);
    tcase_add_test(tests, normals_are_those_of_box_and_muller);
    tcase_add_test(tests, init_depends_on_seed_and_name_only);
    tcase_add_test(tests, order_visits_every_row_once_an_epoch);
    tcase_add_test(tests, order_differs_by_epoch_and_seed);
    tcase_add_test(tests, order_is_uniform);
    tcase_add_test(tests, bytes_round_trip);
    tcase_add_test(tests, npy_versions_and_types);
    tcase_add_loop_test(tests, npy_header_errors, 0, sizeof bad_npy / sizeof *bad_npy);
    tcase_add_test(tests, npy_file_errors);
    tcase_add_test(tests, npy_survives_mutation);
    tcase_add_test(tests, npy_rows_are_the_examples);
    tcase_add_test(tests, text_is_cut_into_windows);
    tcase_add_test(tests, directory_and_name);
    tcase_add_test(tests, folder_is_one_corpus);
    tcase_add_test(tests, splits_of_all_kinds);
    tcase_add_test(tests, json_lines_are_documents);
    tcase_add_loop_test(tests, json_line_errors, 0, sizeof bad_lines / sizeof *bad_lines);
    tcase_add_test(tests, folder_errors);
    tcase_add_test(tests, windows_overlap);
    tcase_add_test(tests, fingerprint_sees_content);
    tcase_add_test(tests, data_errors);
    return run_tests("data", tests);
}
