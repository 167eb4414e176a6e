/* Safetensors: reading every dtype, shards, writing, malformed and damaged files, a full disk. */
#include "rt_tools.h"
#include "../runtime/files/safetensors.h"
#include <math.h>

/* A file of this header and n bytes of data, 0, 1, 2, ... */
static const char *put_st(const char *name, const char *header, size_t n) {
    unsigned char file[4096];
    uint64_t length = strlen(header);
    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < n; i++) file[8 + length + i] = (unsigned char)i;
    return put_file(name, file, 8 + length + n);
}

static bool opens(const char *path) {
    SafeTensors *st = st_open(path);
    st_close(st);
    return st;
}

/* ---- good files ---- */

START_TEST(written_file_reads_back) {
    float a[6] = {1, -2, 3e-40f, 4, 5, -0.0f}, b[1] = {7};
    uint16_t half[3] = {0x3f80, 0xc040, 0x0001}; /* 1, -3, and the smallest */
    const NamedTensor tensors[] = {{"z.weight", 2, {2, 3}, a, NULL},
                                   {"odd \"name\"\n", 0, {0}, b, NULL},
                                   {"a", 3, {1, 0, 5}, NULL, NULL},
                                   {"half", 1, {3}, NULL, half}};
    const char *metadata[] = {"format", "pt", NULL};
    NewFile file;
    ck_assert(newfile_open(&file, scratch("w.safetensors")));
    ck_assert(st_write(&file, tensors, 4, metadata) && newfile_close(&file) && newfile_commit(&file));
    ck_assert(!file_exists(scratch("w.safetensors.tmp")));

    SafeTensors *st = st_open(scratch("w.safetensors"));
    ck_assert_ptr_nonnull(st);
    ck_assert_uint_eq(st_count(st), 4);
    ck_assert_str_eq(st_at(st, 0)->name, "a");
    ck_assert_uint_eq(st_at(st, 0)->bytes, 0);
    ck_assert_str_eq(st_metadata(st, "format"), "pt");
    ck_assert_ptr_null(st_metadata(st, "other"));
    ck_assert_ptr_null(st_find(st, "b"));
    const StTensor *t = st_find(st, "z.weight");
    ck_assert_uint_eq(t->rank, 2);
    ck_assert_int_eq(t->dim[1], 3);
    float back[6];
    ck_assert(st_read_f32(t, back));
    ck_assert_mem_eq(back, a, sizeof a);
    ck_assert(st_read_f32(st_find(st, "odd \"name\"\n"), back));
    ck_assert_float_eq(back[0], 7);
    uint16_t again[6];
    ck_assert_str_eq(st_find(st, "half")->dtype, "BF16");
    ck_assert(st_read_bf16(st_find(st, "half"), again));
    ck_assert_mem_eq(again, half, sizeof half);
    ck_assert(st_read_f32(st_find(st, "half"), back));
    ck_assert(back[0] == 1 && back[1] == -3 && tensor_value(&tensors[3], 1) == -3);
    ck_assert(st_read_bf16(t, again)); /* from f32, to nearest */
    ck_assert(again[0] == 0x3f80 && again[1] == 0xc000 && again[2] == 0x0003 && again[5] == 0x8000);
    st_close(st);

    size_t n;
    char *bytes = get_file(scratch("w.safetensors"), &n);
    uint64_t length;
    memcpy(&length, bytes, 8);
    ck_assert_uint_eq(length % 8, 0);
    ck_assert_uint_eq(n, 8 + length + 28 + sizeof half);
    free(bytes);
}
END_TEST

/* Every f16 and bf16 value, against the compiler's own conversion and the definition. */
START_TEST(half_types_convert_exactly) {
    const char *header = "{\"h\":{\"dtype\":\"F16\",\"shape\":[65536],\"data_offsets\":[0,131072]},"
                         "\"b\":{\"dtype\":\"BF16\",\"shape\":[65536],\"data_offsets\":[131072,262144]}}";
    size_t length = strlen(header), n = 8 + length + 262144;
    unsigned char *file = calloc(n, 1);
    memcpy(file, &(uint64_t){length}, 8);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < 131072; i++) {
        file[8 + length + 2 * i] = (unsigned char)i;
        file[8 + length + 2 * i + 1] = (unsigned char)(i >> 8);
    }
    SafeTensors *st = st_open(put_file("half.safetensors", file, n));
    ck_assert_ptr_nonnull(st);
    float *half = calloc(65536, 4), *brain = calloc(65536, 4);
    ck_assert(st_read_f32(st_find(st, "h"), half) && st_read_f32(st_find(st, "b"), brain));
    for (uint32_t i = 0; i < 65536; i++) {
        __extension__ _Float16 h;
        uint16_t low = (uint16_t)i;
        uint32_t high = i << 16;
        float expected = 0;
        memcpy(&h, &low, 2);
        expected = (float)h;
        ck_assert(isnan(expected) ? isnan(half[i]) : memcmp(&expected, &half[i], 4) == 0);
        ck_assert_mem_eq(&high, &brain[i], 4);
    }
    st_close(st);
    free(half);
    free(brain);
    free(file);
}
END_TEST

START_TEST(doubles_are_rounded_and_integers_refused) {
    const double x[2] = {0.1, -3};
    char file[256], *header = "{\"i\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[16,32]},"
                              "\"d\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,16]}}";
    uint64_t n = strlen(header);
    memset(file, 0, sizeof file);
    memcpy(file, &n, 8);
    memcpy(file + 8, header, n);
    memcpy(file + 8 + n, x, sizeof x);
    SafeTensors *st = st_open(put_file("d.safetensors", file, 8 + n + 32));
    ck_assert_ptr_nonnull(st);
    float out[2];
    ck_assert(st_read_f32(st_find(st, "d"), out));
    ck_assert_float_eq(out[0], 0.1f);
    ck_assert_float_eq(out[1], -3);
    ck_fails(st_read_f32(st_find(st, "i"), out), "i: dtype I64 (expected F32, F16, BF16 or F64)");
    st_close(st);
}
END_TEST

#define ENTRY(name, shape, begin, end)                                                                       \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

START_TEST(empty_and_padded_headers) {
    ck_assert(opens(put_st("e.safetensors", "{}", 0)));
    ck_assert(opens(put_st("e.safetensors", "{" ENTRY("a", "[]", "0", "4") "}      \n", 4)));
}
END_TEST

/* ---- shards ---- */

START_TEST(shards_are_joined) {
    put_st("one.safetensors", "{" ENTRY("b", "[1]", "0", "4") "," ENTRY("a", "[2]", "4", "12") "}", 12);
    put_st("two.safetensors", "{" ENTRY("c", "[1,1]", "0", "4") "}", 4);
    const char *index = "{\"metadata\":{\"total_size\":16},\"weight_map\":{\"a\":\"one.safetensors\","
                        "\"b\":\"one.safetensors\",\"c\":\"two.safetensors\"}}";
    put_file("model.safetensors.index.json", index, strlen(index));
    SafeTensors *st = st_open(scratch_dir);
    ck_assert_ptr_nonnull(st);
    ck_assert_uint_eq(st_count(st), 3);
    ck_assert_str_eq(st_find(st, "c")->file, scratch("two.safetensors"));
    st_close(st);
}
END_TEST

static const struct {
    const char *index, *error;
} bad_index[] = {
    {"{", "no weight_map"},
    {"", "no weight_map"},
    {"{\"weight_map\":[]}", "no weight_map"},
    {"{\"weight_map\":{\"a\":1}}", "a: not the name of a file"},
    {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", "a: not the name of a file"},
    {"{\"weight_map\":{\"a\":\"none.safetensors\"}}", "none.safetensors: error: cannot open"},
    {"{\"weight_map\":{\"b\":\"one.safetensors\"}}", "b is not in one.safetensors"},
    {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"same.safetensors\"}}", "a: twice in the checkpoint"},
    {"{\"weight_map\":{\"a\":\".\"}}", "not a regular file"},
};

START_TEST(index_errors) {
    put_st("one.safetensors", "{" ENTRY("a", "[1]", "0", "4") "}", 4);
    put_st("same.safetensors", "{" ENTRY("a", "[1]", "0", "4") "}", 4);
    put_file("model.safetensors.index.json", bad_index[_i].index, strlen(bad_index[_i].index));
    ck_fails(opens(scratch_dir), bad_index[_i].error);
}
END_TEST

/* ---- bad files ---- */

static const struct {
    const char *header;
    size_t data;
    const char *error;
} bad_header[] = {
    {"[]", 0, "the header is not a JSON object"},
    {"", 0, "the header is not a JSON object"},
    {"{\"a\"", 0, "not valid JSON"},
    {"{} x", 0, "text after the JSON header"},
    {"{\"a\":1}", 0, "a: not an object"},
    {"{\"a\":{}}", 0, "a: no dtype"},
    {"{\"a\":{\"dtype\":5}}", 0, "a: no dtype"},
    {"{\"a\":{\"dtype\":\"F31\"}}", 0, "a: unknown dtype F31"},
    {"{\"a\":{\"dtype\":\"F32\"}}", 0, "a: no shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, "a: bad data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0]}}", 4, "a: bad data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4,8]}}", 4, "a: bad data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,\"4\"]}}", 4, "a: bad data_offsets"},
    {"{" ENTRY("a", "[1]", "4", "0") "}", 4, "a: bad data_offsets"},
    {"{" ENTRY("a", "[1]", "-4", "0") "}", 4, "a: bad data_offsets"},
    {"{" ENTRY("a", "[1]", "0.5", "4.5") "}", 8, "a: bad data_offsets"},
    {"{" ENTRY("a", "[1]", "0", "1e300") "}", 4, "a: bad data_offsets"},
    {"{" ENTRY("a", "[1]", "0", "8") "}", 4, "a: its data end at byte 8, after the 4 bytes of data"},
    {"{" ENTRY("a", "[2]", "0", "4") "}", 4, "a: 4 bytes of data (its shape needs 8)"},
    {"{" ENTRY("a", "[-1]", "0", "4") "}", 4, "a: a dimension is not"},
    {"{" ENTRY("a", "[1.5]", "0", "4") "}", 4, "a: a dimension is not"},
    {"{" ENTRY("a", "[null]", "0", "4") "}", 4, "a: a dimension is not"},
    {"{" ENTRY("a", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "a: more than 8 dimensions"},
    {"{" ENTRY("a", "[4294967296,4294967296]", "0", "4") "}", 4, "a: the shape overflows"},
    {"{" ENTRY("a", "[1]", "0", "4") "," ENTRY("a", "[1]", "4", "8") "}", 8, "a: twice in the checkpoint"},
    {"{" ENTRY("a", "[2]", "0", "8") "," ENTRY("b", "[1]", "4", "8") "}", 8, "b: its data overlap"},
    {"{" ENTRY("a", "[1]", "0", "4") "," ENTRY("b", "[1]", "8", "12") "}", 12, "b: its data follow a hole"},
    {"{" ENTRY("a", "[1]", "0", "4") "}", 6, "2 bytes after the last tensor"},
    {"{\"__metadata__\":5}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"k\":5}}", 0, "__metadata__: k is not a string"},
    {"{\"line\\nbreak\":1}", 0, "line?break: not an object"},
};

START_TEST(header_errors) {
    ck_fails(opens(put_st("bad.safetensors", bad_header[_i].header, bad_header[_i].data)),
             bad_header[_i].error);
}
END_TEST

START_TEST(file_errors) {
    ck_fails(opens(put_file("bad.safetensors", "", 0)), "0 bytes: not a safetensors file");
    ck_fails(opens(put_file("bad.safetensors", "\2\0\0\0\0\0\0\0", 8)), "ends inside its header");
    ck_fails(opens(put_file("bad.safetensors", "\377\377\377\377\377\377\377\377{}", 10)),
             "not a safetensors file");
    ck_fails(opens(scratch("none.safetensors")), "cannot open: No such file");
    ck_fails(opens("/dev/zero"), "not a regular file");
    mkdir(scratch("dir"), 0777);
    ck_fails(opens(scratch("dir")), "no weights here (expected model.safetensors");
}
END_TEST

START_TEST(survives_mutation) {
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"}," ENTRY("a", "[2,3]", "0", "24") "," ENTRY(
        "b", "[5]", "24", "44") "," ENTRY("c", "[]", "44", "48") "}";
    size_t n;
    unsigned char *good = (unsigned char *)get_file(put_st("m.safetensors", header, 48), &n),
                  *file = calloc(n, 1);
    int opened = 0;
    for (uint64_t seed = 0; seed < 6000; seed++) {
        memcpy(file, good, n);
        const char *path = put_file("m.safetensors", file, mutate(file, n, n - 48, seed));
        capture_start();
        SafeTensors *st = st_open(path);
        float values[64];
        bool ok = st != NULL;
        for (size_t i = 0; ok && i < st_count(st); i++) {
            ck_assert_int_le(tensor_count(st_at(st, i)->rank, st_at(st, i)->dim), 48);
            ok = st_read_f32(st_at(st, i), values);
        }
        const char *text = capture_stop();
        ck_assert_msg(are_error_lines(text, ok ? 0 : 1), "seed %d: %s", (int)seed, text);
        opened += ok;
        st_close(st);
    }
    ck_assert_int_gt(opened, 10);
    free(good);
    free(file);
}
END_TEST

/* ---- failing to write ---- */

static bool write_zeros(const char *path, int64_t n) {
    float *zeros = calloc((size_t)n, sizeof *zeros);
    const NamedTensor tensor = {"a", 1, {n}, zeros, NULL};
    NewFile file;
    bool ok = newfile_open(&file, path) && st_write(&file, &tensor, 1, NULL) && newfile_close(&file) &&
              newfile_commit(&file);
    free(zeros);
    return ok;
}

static bool write_limited(const char *path, int64_t n, rlim_t bytes) {
    file_limit(bytes);
    bool ok = write_zeros(path, n);
    file_limit(RLIM_INFINITY);
    return ok;
}

/* Writing fails in the middle, or when the last buffer is flushed. */
START_TEST(full_disk_keeps_the_old_file) {
    ck_assert(write_zeros(scratch("a.safetensors"), 10));
    ck_fails(write_limited(scratch("a.safetensors"), _i ? 100000 : 500, 1024),
             "cannot write: File too large");
    ck_assert(!file_exists(scratch("a.safetensors.tmp")));
    SafeTensors *st = st_open(scratch("a.safetensors"));
    ck_assert_ptr_nonnull(st);
    ck_assert_int_eq(st_at(st, 0)->dim[0], 10);
    st_close(st);
}
END_TEST

START_TEST(cannot_create) {
    ck_fails(write_zeros(scratch("no/such/a.safetensors"), 10), "cannot create: No such file");
    ck_fails(write_zeros(scratch_dir, 10), "cannot replace: not a regular file");
    ck_fails(write_zeros("/dev/full", 10), "cannot replace: not a regular file");
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("safetensors");
    tcase_add_test(tests, written_file_reads_back);
    tcase_add_test(tests, half_types_convert_exactly);
    tcase_add_test(tests, doubles_are_rounded_and_integers_refused);
    tcase_add_test(tests, empty_and_padded_headers);
    tcase_add_test(tests, shards_are_joined);
    tcase_add_loop_test(tests, index_errors, 0, sizeof bad_index / sizeof *bad_index);
    tcase_add_loop_test(tests, header_errors, 0, sizeof bad_header / sizeof *bad_header);
    tcase_add_test(tests, file_errors);
    tcase_add_test(tests, survives_mutation);
    tcase_add_loop_test(tests, full_disk_keeps_the_old_file, 0, 2);
    tcase_add_test(tests, cannot_create);
    return run_tests("safetensors", tests);
}
