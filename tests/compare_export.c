/* compare_export MODULE.so CHECKPOINT FILE.gguf: runs a forward pass of the module on the checkpoint's
 * weights, then compares every code and every scale that its kernels read with those in the file, bit by bit.
 * For test_export.sh. */
#include "../runtime/checkpoint.h"
#include "../runtime/device/device.h"
#include "gguf_reader.h"
#include <stdio.h>

static char **paths;

static void load_weights(const Device *d, const LoadedModule *m) {
    SafeTensors *st = st_open(paths[2]);
    ck_assert_ptr_nonnull(st);
    for (size_t i = 0; i < st_count(st); i++) {
        const tbc_tensor *t = module_tensor(m, NULL, TBC_PARAM, st_at(st, i)->name);
        ck_assert_ptr_nonnull(t);
        ck_assert(st_read_f32(st_at(st, i), device_at(d, t)));
    }
    st_close(st);
}

/* A matrix in the file and as t2[rows, cols] in the arena. */
static void compare(const GgufTensor *g, const tbc_tensor *t, const unsigned char *at) {
    int64_t rows = t->dim[0], cols = t->dim[1], row_bytes = (cols + 15) / 16 * 4, group = t->group;
    int64_t groups = (cols + group - 1) / group, block = g->type == 42 ? 64 : 128;
    const unsigned char *scales = at + (rows * row_bytes + 63) / 64 * 64, *b = g->data;
    ck_assert(g->type == 42 || g->type == 142);
    ck_assert_int_eq((int64_t)g->n, rows * cols);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t j = 0; j < cols; j += block, b += 2 + block / 4) {
            ck_assert_mem_eq(b, scales + 2 * (row * groups + j / group), 2);
            for (int64_t k = 0; k < block; k++)
                ck_assert_int_eq(b[2 + k / 4] >> 2 * (k % 4) & 3,
                                 at[row * row_bytes + (j + k) / 4] >> 2 * ((j + k) % 4) & 3);
        }
}

/* The file has the module's parameters in their order. */
START_TEST(codes_and_scales_are_equal) {
    LoadedModule m;
    Device d;
    ck_assert(module_load(&m, paths[1]) && device_open(&d, &m, "cpu", 1));
    const tbc_table *project = module_table(&m, "project");
    load_weights(&d, &m);
    if (project) device_run(&d, project);
    FileMap map;
    ck_assert(file_map(&map, paths[3]));
    GgufFile *f = gguf_read(map.at, map.size);
    uint64_t at = 0, matrices = 0;
    for (uint32_t i = 0; i < m.desc->ntensors; i++) {
        const tbc_tensor *t = &m.desc->tensors[i];
        if (t->kind != TBC_PARAM) continue;
        const GgufTensor *g = &f->tensors[at++];
        if (t->group == 0) {
            ck_assert_mem_eq(g->data, device_at(&d, t), t->bytes);
            continue;
        }
        const tbc_tensor *codes = module_tensor(&m, NULL, TBC_CODES, t->name);
        ck_assert_ptr_nonnull(codes);
        compare(g, codes, device_at(&d, codes));
        matrices++;
    }
    ck_assert_uint_eq(at, f->ntensors);
    printf("%llu matrices: codes and scales equal those of the forward pass\n", (unsigned long long)matrices);
    free(f);
    file_unmap(&map);
    device_close(&d);
    module_unload(&m);
}
END_TEST

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    paths = argv;
    Suite *suite = suite_create("compare_export");
    TCase *tests = tcase_create("compare_export");
    tcase_add_test(tests, codes_and_scales_are_equal);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
