/* tbc-run's own parts, on a module written by hand (fake_module.c): loader, device, options, training loop,
 * evaluation, sampling, verification. What the command does as a whole: test_run.sh. */
#include "rt_session.h"
#include "../runtime/evaluate.h"
#include "../runtime/sample.h"
#include "../runtime/device/parallel.h"
#include "../runtime/verify.h"
#include <math.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- options */

START_TEST(options_are_read) {
    Options o;
    ck_assert_int_eq(
        parse(&o, "x.so --data d --lr 5e-4 --warmup=0 --steps 7 --seed 9 --no-shuffle --threads 3"),
        OPTIONS_RUN);
    ck_assert_str_eq(o.module, "x.so");
    ck_assert_str_eq(o.data, "d");
    ck_assert_double_eq(o.lr, 5e-4);
    ck_assert_int_eq(o.warmup, 0);
    ck_assert_int_eq(o.steps, 7);
    ck_assert_int_eq(o.seed, 9);
    ck_assert_int_eq(o.threads, 3);
    ck_assert(o.no_shuffle && o.train && !o.verify);
    ck_assert(o.weight_decay < 0 && o.accumulate < 0 && o.clip < 0); /* not given */
    ck_assert_int_eq(parse(&o, "x.so --weights w --generate=--text"), OPTIONS_RUN);
    ck_assert_str_eq(o.generate, "--text");
    ck_assert(!o.train);
    ck_assert_double_eq(o.temperature, 0.8);
}
END_TEST

static const struct {
    const char *line, *says;
} wrong_usage[] = {
    {"", "which module"},
    {"x.so", "training needs --data"},
    {"x.so y.so --verify", "one module"},
    {"x.so --frobnicate", "unknown flag '--frobnicate'"},
    {"x.so --dat d", "unknown flag '--dat'"},
    {"x.so --data", "--data: its value is missing"},
    {"x.so --data --quiet", "--data: its value is missing"},
    {"x.so --data=", "is empty"},
    {"x.so --verify=yes", "takes no value"},
    {"x.so --data d --steps -1", "--steps: '-1'"},
    {"x.so --data d --steps 1e3", "whole number"},
    {"x.so --data d --steps 99999999999999999999", "whole number"},
    {"x.so --data d --steps 0x10", "whole number"},
    {"x.so --data d --seed 9007199254740993", "--seed"}, /* a checkpoint could not keep it */
    {"x.so --data d --lr nan", "--lr: 'nan'"},
    {"x.so --data d --lr inf", "--lr: 'inf'"},
    {"x.so --data d --lr -0.1", "--lr: '-0.1'"},
    {"x.so --data d --lr 1e-3,", "--lr: '1e-3,'"},
    {"x.so --data d --clip 0", "--clip: '0'"},
    {"x.so --data d --threads 0", "from 1 to 1024"},
    {"x.so --data d --threads 1025", "from 1 to 1024"},
    {"x.so --data d --accumulate 0", "--accumulate"},
    {"x.so --data d --eval-every 0", "--eval-every"},
    {"x.so --data d --device gpu", "expected cpu or cuda"},
    {"x.so --data d --save-every 5", "--save-every needs --save"},
    {"x.so --data d --schedule exponential", "'exponential' is no schedule"},
    {"x.so --data d --decay-fraction 1.5", "--decay-fraction: '1.5'"},
    {"x.so --data d --patience 3", "--patience needs --eval-every"},
    {"x.so --data d --save-best b", "--save-best needs --eval-every"},
    {"x.so --data d --eval-every 1 --save b --save-best b", "overwrite each other"},
    {"x.so --verify --schedule linear", "--schedule is for training"},
    {"x.so --data d --resume r --weights w", "leave --weights out"},
    {"x.so --eval-only", "--eval-only needs --data"},
    {"x.so --eval-only --data d --steps 3", "--steps is for training"},
    {"x.so --eval-only --data d --save s", "--save is for training"},
    {"x.so --verify --steps 3", "which needs --data"},
    {"x.so --generate t --log l", "which needs --data"},
};

START_TEST(wrong_usage_is_refused) {
    Options o;
    ck_fails(parse(&o, wrong_usage[_i].line) == OPTIONS_RUN, wrong_usage[_i].says);
    capture_start();
    OptionsResult result = parse(&o, wrong_usage[_i].line);
    capture_stop();
    ck_assert_int_eq(result, OPTIONS_WRONG);
}
END_TEST

/* ---- loader */

START_TEST(module_loads) {
    LoadedModule m;
    ck_assert(module_load(&m, build_module("m.so", "")));
    ck_assert_int_eq(m.batch, 3);
    ck_assert_int_eq(m.seq, 16);
    ck_assert_int_eq(m.vocab, 256);
    ck_assert_int_eq(m.warmup, 4);
    ck_assert_double_eq(m.lr, 0.02);
    ck_assert(m.bias_correction && !m.buffer);
    ck_assert_ptr_nonnull(strstr(m.config, "bigram"));
    ck_assert_ptr_nonnull(module_table(&m, "train"));
    ck_assert_ptr_null(module_table(&m, "backward"));
    ck_fails(module_need(&m, "backward") != NULL, "no table 'backward'");
    module_unload(&m);
}
END_TEST

static bool loads(const char *path) {
    LoadedModule m;
    bool ok = module_load(&m, path);
    if (ok) module_unload(&m);
    return ok;
}

START_TEST(other_files_are_refused) {
    ck_fails(loads(scratch("nothing.so")), "No such file");
    ck_fails(loads(scratch_dir), "not a regular file");
    ck_fails(loads(put_file("empty.so", "", 0)), "not a compiled module");
    ck_fails(loads(put_file("text.so", "#!/bin/sh\n", 10)), "not a compiled module");
    ck_fails(loads("/proc/self/exe"), "trailer");
    size_t n;
    char *file = get_file(build_module("m.so", ""), &n);
    file[18] = 0x28; /* e_machine: ARM */
    ck_fails(loads(put_file("arm.so", file, n)), "x86-64");
    free(file);
}
END_TEST

START_TEST(damage_is_noticed) {
    size_t n;
    char *file = get_file(build_module("m.so", ""), &n);
    for (uint64_t i = 0; i < 300; i++) {
        size_t at = rng_bits(1, 2, i) % n;
        file[at] ^= (char)(1 << i % 8);
        capture_start();
        bool ok = loads(put_file("flipped.so", file, n));
        const char *text = capture_stop();
        ck_assert_msg(!ok && are_error_lines(text, 1), "byte %zu: %s", at, text);
        file[at] ^= (char)(1 << i % 8);
    }
    for (size_t length = 0; length < n; length += n / 50)
        ck_fails(loads(put_file("short.so", file, length)), "error");
    free(file);
}
END_TEST

START_TEST(missing_cpu_features_are_named) {
    ck_fails(loads(build_module("m.so", "-DNEEDS='\"sse2,avx9000\"'")),
             "needs avx9000, which this CPU lacks");
    ck_fails(loads(build_module("n.so", "-DNEEDS='\"ss\"'")), "needs ss,"); /* only whole words count */
}
END_TEST

/* Each row spoils one field of a copy of the descriptor. */
typedef struct Copy {
    tbc_module_t d;
    tbc_kernel kernels[16];
    tbc_tensor tensors[32];
    tbc_table tables[8];
    tbc_launch launches[16];
    uint64_t args[32];
    tbc_const consts[4];
} Copy;

static void copy_descriptor(Copy *c, const tbc_module_t *d) {
    c->d = *d;
#define COPY(list) c->d.list = memcpy(c->list, d->list, d->n##list * sizeof *d->list)
    COPY(kernels), COPY(tensors), COPY(tables), COPY(launches), COPY(args), COPY(consts);
}

START_TEST(descriptor_is_checked) {
    LoadedModule m;
    ck_assert(module_load(&m, build_module("m.so", "")));
    LoadedModule spoiled = m;
    Copy c;
    spoiled.desc = &c.d;
    copy_descriptor(&c, m.desc);
    ck_assert(module_check(&spoiled));
#define SPOIL(field, value, says)                                                                            \
    do {                                                                                                     \
        copy_descriptor(&c, m.desc);                                                                         \
        c.field = value;                                                                                     \
        ck_fails(module_check(&spoiled), says);                                                              \
    } while (0)
    SPOIL(launches[3].kernel, c.d.nkernels, "launch 3");
    SPOIL(launches[3].args, UINT32_MAX, "launch 3");
    SPOIL(launches[3].nargs, UINT32_MAX, "launch 3");
    SPOIL(kernels[1].run, NULL, "kernel 1");
    SPOIL(d.gpu, &(tbc_gpu){0}, "kernel 0"); /* it has code for the CPU */
    SPOIL(args[2], c.d.arena_bytes + 1, "argument 2");
    SPOIL(tables[0].count, UINT32_MAX, "table 0");
    SPOIL(tables[1].first, UINT32_MAX, "table 1");
    SPOIL(consts[0].offset, c.d.arena_bytes, "constant 0");
    SPOIL(consts[0].bytes, UINT64_MAX, "constant 0");
    SPOIL(tensors[0].offset, c.d.arena_bytes - 4, "tensor 0");
    SPOIL(tensors[0].offset, 2, "tensor 0");
    SPOIL(tensors[0].bytes, 16, "tensor 0");
    SPOIL(tensors[0].dim[0], INT64_MAX, "tensor 0");
    SPOIL(tensors[0].dim[1], -256, "tensor 0");
    SPOIL(tensors[0].rank, 5, "tensor 0");
    SPOIL(tensors[0].dtype, TBC_I32, "tensor 0");
    SPOIL(tensors[0].table, 0, "tensor 0");
    SPOIL(tensors[6].table, 99, "tensor 6");
    SPOIL(tensors[2].name, "w.x", "unknown state 'w.x'");
    SPOIL(tensors[2].name, "w.v", "two tensors 'w.v'");
    SPOIL(tensors[6].name, "toks", "table 'train' lacks a proper 'tokens'");
    SPOIL(tensors[6].dim[0], 1, "table 'train' lacks a proper 'tokens'");
    SPOIL(d.ntensors, c.d.ntensors - 1, "table 'train' lacks a proper 'fault'");
    SPOIL(d.tensors, NULL, "a list is missing");
    SPOIL(d.arena_bytes, UINT64_MAX, "impossible memory sizes");
    module_unload(&m);
}
END_TEST

START_TEST(gpu_module_is_checked_and_refused_by_the_cpu) {
    LoadedModule m;
    ck_assert(module_load(&m, build_module("m.so", "")));
    LoadedModule changed = m;
    Copy c;
    copy_descriptor(&c, m.desc);
    changed.desc = &c.d;
    tbc_gpu_kernel kernels[16] = {{0}};
    for (uint32_t i = 0; i < c.d.nkernels; i++) c.kernels[i].run = NULL, kernels[i].threads = 32;
    tbc_gpu gpu = {.ptx = "", .sm = 80, .kernels = kernels};
    c.d.gpu = &gpu;
    ck_assert(module_check(&changed));
    Device d;
    ck_fails(device_open(&d, &changed, "cpu", 1), "compiled for a GPU");
    kernels[2].threads = 2048;
    ck_fails(module_check(&changed), "GPU kernel 2");
    kernels[2].threads = 32;
    gpu.nimages = 1;
    ck_fails(module_check(&changed), "a part of its GPU code is missing");
    module_unload(&m);
}
END_TEST

/* ---- device */

static void count_tile(void *context, uint64_t tile, int thread) {
    ck_assert_int_lt(thread, 5);
    ((int *)context)[tile]++;
}

START_TEST(every_tile_runs_once) {
    int *times = calloc(1000, sizeof *times);
    parallel_tiles(5, 1000, count_tile, times);
    for (int i = 0; i < 1000; i++) ck_assert_int_eq(times[i], 1);
    parallel_tiles(5, 0, count_tile, NULL);
    free(times);
}
END_TEST

START_TEST(too_much_memory_is_refused) {
    LoadedModule m;
    Device d;
    ck_assert(module_load(&m, build_module("m.so", "-DARENA='(1ull<<46)'")));
    ck_fails(device_open(&d, &m, "cpu", 1), "needs 65536.00 GiB of memory");
    m.frozen = true; /* the matrix and its codes, the bias, and what eval and decode need */
    ck_assert_int_lt(module_memory(&m), 600000);
    module_unload(&m);
}
END_TEST

/* The arena lies on all memory nodes in turn, where the kernel lets a process say so: numa_maps has a line
 * for each mapping, its address and policy first. */
START_TEST(the_arena_is_interleaved) {
    LoadedModule m;
    Device d;
    FILE *maps = fopen("/proc/self/numa_maps", "r");
    if (!maps || syscall(SYS_get_mempolicy, NULL, NULL, 0UL, NULL, 0UL)) {
        printf("skipped: memory policies cannot be set here\n");
        if (maps) fclose(maps);
        return;
    }
    ck_assert(module_load(&m, build_module("m.so", "")));
    ck_assert(device_open(&d, &m, "cpu", 1));
    char begin[64], line[4096];
    size_t n = (size_t)snprintf(begin, sizeof begin, "%lx interleave:", (unsigned long)d.arena);
    bool found = false;
    while (!found && fgets(line, sizeof line, maps)) found = strncmp(line, begin, n) == 0;
    ck_assert(found);
    fclose(maps);
    device_close(&d);
    module_unload(&m);
}
END_TEST

/* ---- sessions: what the command does, in this process */

START_TEST(threads_do_not_change_results) {
    const char *fused = build_module("m.so", ""), *buffer = build_module("b.so", "-DBUFFER");
    uint64_t hash = hash_after(fused, "--steps 6 --threads 1");
    ck_assert_uint_eq(hash, hash_after(fused, "--steps 6 --threads 2"));
    ck_assert_uint_eq(hash, hash_after(fused, "--steps 6 --threads 7"));
    ck_assert_uint_eq(hash,
                      hash_after(buffer, "--steps 6 --threads 2")); /* and the two kinds of module agree */
    ck_assert_uint_ne(hash, hash_after(fused, "--steps 6 --threads 1 --seed 1"));
    ck_assert_uint_eq(hash_after(buffer, "--steps 3 --threads 1 --accumulate 4 --clip 0.1"),
                      hash_after(buffer, "--steps 3 --threads 5 --accumulate 4 --clip 0.1"));
}
END_TEST

START_TEST(resuming_changes_nothing) {
    const char *module = build_module("b.so", "-DBUFFER");
    char flags[1024];
    uint64_t hash = hash_after(module, "--steps 7 --accumulate 2 --clip 0.2");
    snprintf(flags, sizeof flags, "--steps 3 --accumulate 2 --clip 0.2 --save %s", scratch("ck"));
    hash_after(module, flags);
    snprintf(flags, sizeof flags, "--steps 4 --resume %s", scratch("ck")); /* the recipe comes along */
    ck_assert_uint_eq(hash, hash_after(module, flags));
}
END_TEST

START_TEST(resuming_something_else_is_refused) {
    const char *module = build_module("m.so", ""), *dir = scratch("ck"), *text = text_file();
    char flags[1024];
    snprintf(flags, sizeof flags, "--steps 1 --save %s", dir);
    hash_after(module, flags);
    static const struct {
        const char *flags, *says;
    } cases[] = {{"--seed 5", "trained with --seed 0"},
                 {"--no-shuffle", "shuffled"},
                 {"", "other data"},
                 {"", "trained with --seq 16, the module has 8"}};
    for (int i = 0; i < 4; i++) {
        char line[2048];
        const char *data = i == 2 ? "check_runtime.c" : text;
        if (i == 3) module = build_module("short.so", "-DSEQ=8");
        snprintf(line, sizeof line, "%s --data %s --resume %s %s", module, data, dir, cases[i].flags);
        Session s;
        ck_assert_int_eq(parse(&options_now, line), OPTIONS_RUN);
        ck_fails(session_open(&s, &options_now), cases[i].says);
        session_close(&s);
    }
}
END_TEST

START_TEST(accumulation_is_a_larger_batch) {
    /* Two micro-batches of the same rows have the mean gradient of one. */
    const char *module = build_module("b.so", "-DBUFFER");
    int32_t rows[6][17];
    for (int r = 0; r < 6; r++)
        for (int j = 0; j < 17; j++) rows[r][j] = (r % 3 * 17 + j * j) % 256;
    char npy[128 + sizeof rows] = "\x93NUMPY\x01\x00\x76";
    memset(npy + 10, ' ', 118);
    memcpy(npy + 10, "{'descr': '<i4', 'fortran_order': False, 'shape': (6, 17), }", 60);
    npy[127] = '\n';
    memcpy(npy + 128, rows, sizeof rows);
    const char *data = put_file("rows.npy", npy, sizeof npy);
    float m[2][256]; /* a tenth of the gradient of the bias */
    for (int i = 0; i < 2; i++) {
        Session s;
        open_session(&s, "%s --data %s --quiet --no-shuffle --steps 1 --accumulate %d", module, data, i + 1);
        ck_assert(train(&s));
        ck_assert_int_eq(s.state.examples, 3 * (i + 1));
        for (size_t j = 0; j < s.nmoments; j++)
            if (!strcmp(s.moments[j].name, "bias.m")) memcpy(m[i], s.moments[j].data, sizeof m[i]);
        session_close(&s);
    }
    for (int j = 0; j < 256; j++) ck_assert_float_eq_tol(m[0][j], m[1][j], 1e-6f * fabsf(m[0][j]) + 1e-9f);
    ck_assert_float_ne(m[0][0], 0);
}
END_TEST

START_TEST(clipping_bounds_the_gradient) {
    /* After one step m = 0.1 * clipped gradient. */
    Session s;
    open_session(&s, "%s --data %s --quiet --steps 1 --clip 0.01", build_module("b.so", "-DBUFFER"),
                 text_file());
    ck_assert(train(&s));
    const tbc_tensor *m[] = {module_tensor(&s.module, NULL, TBC_STATE, "w.m"),
                             module_tensor(&s.module, NULL, TBC_STATE, "bias.m")};
    ck_assert_double_eq_tol(10 * sqrt(device_sum_squares(&s.device, m, 2)), 0.01, 1e-7);
    session_close(&s);
}
END_TEST

START_TEST(fused_modules_cannot_accumulate) {
    Session s;
    char line[1024];
    snprintf(line, sizeof line, "%s --data %s --accumulate 2", build_module("m.so", ""), text_file());
    ck_assert_int_eq(parse(&options_now, line), OPTIONS_RUN);
    ck_fails(session_open(&s, &options_now), "compile with --grads buffer");
    session_close(&s);
}
END_TEST

START_TEST(spoiled_weights_are_not_saved) {
    Session s;
    open_session(&s, "%s --data %s --quiet --steps 0 --save %s", build_module("m.so", ""), text_file(),
                 scratch("ck"));
    s.params[0].data[5] = NAN;
    ck_fails(session_save(&s, scratch("ck")), "w is no longer finite");
    s.params[0].data[5] = 0;
    s.moments[1].data[5] = INFINITY; /* could not be loaded again */
    ck_fails(session_save(&s, scratch("ck")), "w.v is no longer finite");
    ck_assert(!file_is_dir(scratch("ck")));
    session_close(&s);
}
END_TEST

START_TEST(evaluation_is_the_mean_over_the_split) {
    /* All weights zero: every token costs log 256, also in the rows of the last batch, which is not full. */
    Session s;
    open_session(&s, "%s --data %s --quiet --eval-only", build_module("m.so", ""), text_file());
    for (size_t i = 0; i < s.nparams; i++)
        memset(s.params[i].data, 0, 4 * (size_t)tensor_count(s.params[i].rank, s.params[i].dim));
    device_run(&s.device, module_table(&s.module, "project"));
    Progress quiet = progress_start(true);
    Evaluation e;
    ck_assert(evaluate(&s, 0, &quiet, &e));
    ck_assert_int_eq(e.rows, dataset_rows(s.data, DATA_VALID));
    ck_assert_int_ne(e.rows % 3, 0);
    ck_assert_double_eq_tol(e.loss, log(256), 1e-6);
    ck_assert_double_eq_tol(e.perplexity, 256, 1e-3);
    ck_assert(evaluate(&s, 2, &quiet, &e));
    ck_assert_int_eq(e.rows, 6);
    session_close(&s);
}
END_TEST

/* In a bigram model context makes no difference: every stride must count every target once. */
START_TEST(overlapping_windows_count_every_target_once) {
    Progress quiet = progress_start(true);
    Evaluation whole, e;
    Session s;
    char text[16 * 12];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * i % 251);
    const char *module = build_module("m.so", ""), *data = put_file("short.txt", text, sizeof text);
    for (int stride = 16; stride; stride /= 2) {
        open_session(&s, "%s --data %s --quiet --eval-only --split train --stride %d", module, data, stride);
        ck_assert(evaluate(&s, 0, &quiet, stride == 16 ? &whole : &e));
        if (stride == 16) {
            ck_assert_int_eq(whole.rows, dataset_rows(s.data, DATA_TRAIN));
            ck_assert_int_eq(whole.targets, whole.rows * 16);
        } else {
            ck_assert_int_eq(e.rows, (whole.rows - 1) * (16 / stride) + 1);
            ck_assert_int_eq(e.targets, whole.targets);
            ck_assert_double_eq_tol(e.loss, whole.loss, 1e-9);
        }
        session_close(&s);
    }
}
END_TEST

START_TEST(log_holds_what_was_trained) {
    Session s;
    open_session(&s, "%s --data %s --quiet --steps 2 --eval-every 2 --log %s",
                 build_module("b.so", "-DBUFFER"), text_file(), scratch("log"));
    ck_assert(train(&s));
    session_close(&s);
    size_t n;
    char *log = get_file(scratch("log"), &n);
    int64_t step;
    double loss, lr, rate, norm;
    char *line = strstr(log, "}}\n") + 2; /* after the evaluation before the first step, and its codes */
    ck_assert_int_eq(sscanf(log, "{\"step\":0,\"eval_loss\":%lf,\"eval_ppl\":%lf}", &loss, &rate), 2);
    ck_assert_double_eq_tol(rate, exp(loss), 1e-5 * rate);
    for (int64_t i = 1; i <= 2; i++) {
        ck_assert_int_eq(
            sscanf(line, "\n{\"step\":%ld,\"loss\":%lf,\"lr\":%lf,\"tokens_per_s\":%lf,\"grad_norm\":%lf}",
                   &step, &loss, &lr, &rate, &norm),
            5);
        ck_assert_int_eq(step, i);
        ck_assert_double_eq(lr, 0.02 * (double)i / 4);
        ck_assert(loss > 1 && loss < 7 && rate > 0 && norm > 0);
        line = strchr(line + 1, '\n');
    }
    ck_assert_int_eq(sscanf(line, "\n{\"step\":2,\"eval_loss\":%lf", &loss), 1);
    free(log);
}
END_TEST

/* ---- sampling */

static int64_t pick(Sampling how, const float *logits, int64_t n, double u) {
    if (how.top_p == 0) how.top_p = 1;
    if (how.repetition_penalty == 0) how.repetition_penalty = 1;
    Sampler *s = sampler_new(&how, n);
    sampler_see(s, 1);
    sampler_see(s, 2);
    sampler_see(s, 99); /* no such token */
    int64_t token = sampler_pick(s, logits, u);
    sampler_free(s);
    return token;
}

START_TEST(sampling_follows_the_temperature) {
    const float logits[] = {1, 3, 2, 3};
    ck_assert_int_eq(pick((Sampling){0}, logits, 4, 0.99), 1); /* the first of equals */
    int count[4] = {0};
    for (int i = 0; i < 10000; i++) count[pick((Sampling){.temperature = 0.5}, logits, 4, i / 10000.0)]++;
    double sum = 2 * exp(6) + exp(4) + exp(2);
    for (int i = 0; i < 4; i++)
        ck_assert_double_eq_tol(count[i] / 10000.0, exp(2 * (double)logits[i]) / sum, 2e-4);
    ck_assert_int_eq(pick((Sampling){.temperature = 1}, (float[]){0, NAN}, 2, 0.5), -1);
    ck_assert_int_eq(pick((Sampling){.temperature = 1e-3}, (float[]){-3e38f, 3e38f}, 2, 0.999999), 1);
}
END_TEST

/* Which tokens can come, as a set of bits. */
static unsigned possible(Sampling how, const float *logits, int64_t n) {
    unsigned set = 0;
    how.temperature = 1;
    for (int i = 0; i < 1000; i++) set |= 1u << pick(how, logits, n, i / 1000.0);
    return set;
}

START_TEST(sampling_keeps_the_likeliest) {
    /* probabilities 0.1, 0.4, 0.2, 0.2, 0.06, 0.04 */
    const float logits[] = {logf(10), logf(40), logf(20), logf(20), logf(6), logf(4)};
    ck_assert_uint_eq(possible((Sampling){0}, logits, 6), 63);
    ck_assert_uint_eq(possible((Sampling){.top_k = 1}, logits, 6), 2);
    ck_assert_uint_eq(possible((Sampling){.top_k = 2}, logits, 6), 2 | 4); /* of equals the first */
    ck_assert_uint_eq(possible((Sampling){.top_k = 100}, logits, 6), 63);
    ck_assert_uint_eq(possible((Sampling){.top_p = 1e-9}, logits, 6), 2);
    ck_assert_uint_eq(possible((Sampling){.top_p = 0.39}, logits, 6), 2);
    ck_assert_uint_eq(possible((Sampling){.top_p = 0.41}, logits, 6), 2 | 4);
    ck_assert_uint_eq(possible((Sampling){.top_p = 0.89}, logits, 6), 1 | 2 | 4 | 8);
    ck_assert_uint_eq(possible((Sampling){.min_p = 0.26}, logits, 6), 2 | 4 | 8);
    ck_assert_uint_eq(possible((Sampling){.min_p = 1}, logits, 6), 2);
    /* among the first three top p counts their probabilities as 1/2, 1/4, 1/4 */
    ck_assert_uint_eq(possible((Sampling){.top_k = 3, .top_p = 0.49}, logits, 6), 2);
    ck_assert_uint_eq(possible((Sampling){.top_k = 3, .min_p = 0.6}, logits, 6), 2);
    int count[6] = {0};
    Sampling three = {.temperature = 1, .top_k = 3};
    for (int i = 0; i < 4000; i++) count[pick(three, logits, 6, i / 4000.0)]++;
    ck_assert_int_le(abs(count[1] - 2000), 2);
    ck_assert_int_le(abs(count[2] - 1000), 2);
    ck_assert_int_le(abs(count[3] - 1000), 2);
}
END_TEST

START_TEST(sampling_penalises_repetition) { /* tokens 1 and 2 have been seen */
    ck_assert_int_eq(pick((Sampling){.repetition_penalty = 2}, (float[]){1.6f, 3, 3, 1}, 4, 0), 0);
    ck_assert_int_eq(pick((Sampling){.repetition_penalty = 1.5}, (float[]){1.6f, 3, 3, 1}, 4, 0), 1);
    ck_assert_int_eq(pick((Sampling){.repetition_penalty = 2}, (float[]){-3, -1, -1, -1.9f}, 4, 0), 3);
    ck_assert_int_eq(pick((Sampling){.repetition_penalty = 0.5}, (float[]){1.6f, 1, 1, 1}, 4, 0), 1);
}
END_TEST

/* ---- verification */

START_TEST(f16_rounds_to_nearest_even) {
    for (uint32_t h = 0; h < 0x7c00; h++) {
        double x = (double)f16_to_f32((uint16_t)h), above = (double)f16_to_f32((uint16_t)(h + 1));
        ck_assert_uint_eq(f16_from_f64(x), h);
        ck_assert_uint_eq(f16_from_f64(-x), h | 0x8000u);
        if (h == 0x7bff) break;
        ck_assert_uint_eq(f16_from_f64((x + above) / 2), h + (h & 1));
        ck_assert_uint_eq(f16_from_f64((x + above) / 2 * (1 + 1e-12)), h + 1);
    }
    ck_assert_uint_eq(f16_from_f64(65519), 0x7bff);
    ck_assert_uint_eq(f16_from_f64(65520), 0x7c00);
    ck_assert_float_eq(f16_to_f32(0x3555), 0.333251953125f);
}
END_TEST

START_TEST(groups_are_compared_bit_by_bit) {
    /* mean|w| = 1: codes are round(w), and 0.5 goes to even. */
    const float w[8] = {0.5f, -0.5f, 1.5f, -1.5f, 0.25f, -0.25f, 2.5f, -1.0f};
    uint8_t codes[2] = {1 | 1 << 2 | 2 << 4 | 0 << 6, 1 | 1 << 2 | 2 << 4 | 0 << 6};
    int64_t count[3] = {0};
    ck_assert(verify_group(w, 8, 0x3c00, codes, 0, count));
    ck_assert_int_eq(count[0], 2);
    ck_assert_int_eq(count[1], 4);
    ck_assert_int_eq(count[2], 2);
    ck_assert(!verify_group(w, 8, 0x3c01, codes, 0, count));
    ck_assert(!verify_group(w, 8, 0x3bff, codes, 0, count));
    for (int j = 0; j < 8; j++) { /* any other code, 3 included, is found */
        codes[j / 4] ^= (uint8_t)(1 << 2 * (j % 4));
        ck_assert(!verify_group(w, 8, 0x3c00, codes, 0, count));
        codes[j / 4] ^= (uint8_t)(1 << 2 * (j % 4));
    }
    const float zero[2] = {0, 0};
    ck_assert(verify_group(zero, 2, 0, (uint8_t[]){1 | 1 << 2}, 0, count));
    /* On the boundary between two scales either is right; next to it only one. */
    float edge = 1 + 0x1p-11f, near = 1 + 0x1p-11f + 0x1p-15f;
    uint8_t plus = 2;
    ck_assert(verify_group(&edge, 1, 0x3c00, &plus, 0, count));
    ck_assert(verify_group(&edge, 1, 0x3c01, &plus, 0, count));
    ck_assert(verify_group(&near, 1, 0x3c01, &plus, 0, count));
    ck_assert(!verify_group(&near, 1, 0x3c00, &plus, 0, count));
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("runtime");
    tcase_add_test(tests, options_are_read);
    tcase_add_loop_test(tests, wrong_usage_is_refused, 0, sizeof wrong_usage / sizeof *wrong_usage);
    tcase_add_test(tests, module_loads);
    tcase_add_test(tests, other_files_are_refused);
    tcase_add_test(tests, damage_is_noticed);
    tcase_add_test(tests, gpu_module_is_checked_and_refused_by_the_cpu);
    tcase_add_test(tests, missing_cpu_features_are_named);
    tcase_add_test(tests, descriptor_is_checked);
    tcase_add_test(tests, every_tile_runs_once);
    tcase_add_test(tests, too_much_memory_is_refused);
    tcase_add_test(tests, the_arena_is_interleaved);
    tcase_add_test(tests, threads_do_not_change_results);
    tcase_add_test(tests, resuming_changes_nothing);
    tcase_add_test(tests, resuming_something_else_is_refused);
    tcase_add_test(tests, accumulation_is_a_larger_batch);
    tcase_add_test(tests, clipping_bounds_the_gradient);
    tcase_add_test(tests, fused_modules_cannot_accumulate);
    tcase_add_test(tests, spoiled_weights_are_not_saved);
    tcase_add_test(tests, evaluation_is_the_mean_over_the_split);
    tcase_add_test(tests, overlapping_windows_count_every_target_once);
    tcase_add_test(tests, log_holds_what_was_trained);
    tcase_add_test(tests, sampling_follows_the_temperature);
    tcase_add_test(tests, sampling_keeps_the_likeliest);
    tcase_add_test(tests, sampling_penalises_repetition);
    tcase_add_test(tests, f16_rounds_to_nearest_even);
    tcase_add_test(tests, groups_are_compared_bit_by_bit);
    return run_tests("runtime", tests);
}
