/* Checkpoints: round trips bit for bit, what loading refuses, and saves that fail half-way. */
#include "rt_tools.h"
#include "checkpoint.h"
#include "same_config.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { NPARAMS = 3, NMOMENTS = 6 };

/* A small model: three parameters with their moments in one memory, as in a module's arena. */
typedef struct Model {
    float memory[3 * 26];
    NamedTensor params[NPARAMS], moments[NMOMENTS];
} Model;

static Model *make_model(float first) {
    static const char *const names[NPARAMS] = {"model.embed_tokens.weight", "model.norm.weight",
                                               "head.weight"};
    static const char *const moment_names[NMOMENTS] = {"model.embed_tokens.weight.m",
                                                       "model.embed_tokens.weight.v",
                                                       "model.norm.weight.m",
                                                       "model.norm.weight.v",
                                                       "head.weight.m",
                                                       "head.weight.v"};
    static const struct {
        uint32_t rank;
        int64_t dim[2];
    } shapes[NPARAMS] = {{2, {4, 3}}, {1, {2}}, {2, {3, 4}}};
    Model *m = calloc(1, sizeof *m);
    float *at = m->memory;
    for (int i = 0; i < NPARAMS; i++)
        for (int part = 0; part < 3; part++) {
            NamedTensor *t = part ? &m->moments[2 * i + part - 1] : &m->params[i];
            t->name = part ? moment_names[2 * i + part - 1] : names[i];
            t->rank = shapes[i].rank;
            memcpy(t->dim, shapes[i].dim, sizeof shapes[i].dim);
            t->data = at;
            at += tensor_count(t->rank, t->dim);
        }
    for (int i = 0; i < 78; i++) m->memory[i] = first + (float)i / 3;
    return m;
}

static const TrainState a_state = {.step = 12,
                                   .examples = 96,
                                   .seed = (INT64_C(1) << 53) - 1,
                                   .shuffle = true,
                                   .batch = 4,
                                   .seq = 64,
                                   .accumulate = 2,
                                   .rows = 1000,
                                   .data = 9007199254740001,
                                   .lr = 0.1 + 0.2, /* needs 17 digits */
                                   .weight_decay = 1.0 / 3,
                                   .clip = 0,
                                   .plan = {SCHEDULE_wsd, 50, 1000, 0.2, 0.7},
                                   .best_loss = 1.0 / 7,
                                   .best_step = 10,
                                   .evals_since_best = 2};

static bool save(const char *dir, const Model *m, const TrainState *state) {
    return checkpoint_save(dir, "{\"model_type\":\"qwen3\"}", m->params, NPARAMS, m->moments, NMOMENTS, state,
                           &(Companions){0});
}

static bool load(const char *dir, Model *m, TrainState *state) {
    return checkpoint_load(dir, m->params, NPARAMS, m->moments, NMOMENTS, state);
}

/* Writes n tensors as a file of weights. */
static const char *put_weights(const char *name, const NamedTensor *tensors, size_t n) {
    NewFile file;
    ck_assert(newfile_open(&file, scratch(name)) && st_write(&file, tensors, n, NULL) &&
              newfile_close(&file) && newfile_commit(&file));
    return scratch(name);
}

START_TEST(round_trip) {
    Model *a = make_model(1), *b = make_model(2);
    const char *dir = scratch("ckpt");
    TrainState state;
    ck_assert(checkpoint_can_save(dir));
    ck_assert(!file_is_dir(dir));
    ck_assert(save(dir, a, &a_state));
    ck_assert(load(dir, b, &state));
    ck_assert_mem_eq(a->memory, b->memory, sizeof a->memory);
    ck_assert_int_eq(state.step, a_state.step);
    ck_assert_int_eq(state.examples, a_state.examples);
    ck_assert_int_eq(state.seed, a_state.seed);
    ck_assert(state.shuffle);
    ck_assert_int_eq(state.batch, a_state.batch);
    ck_assert_int_eq(state.seq, a_state.seq);
    ck_assert_int_eq(state.accumulate, a_state.accumulate);
    ck_assert_int_eq(state.rows, a_state.rows);
    ck_assert_int_eq(state.data, a_state.data);
    ck_assert_int_eq(state.plan.schedule, SCHEDULE_wsd);
    ck_assert_int_eq(state.plan.warmup, 50);
    ck_assert_int_eq(state.plan.total, 1000);
    ck_assert(state.plan.decay_fraction == 0.2 && state.plan.weight_decay_until == 0.7);
    ck_assert(state.best_loss == a_state.best_loss);
    ck_assert_int_eq(state.best_step, 10);
    ck_assert_int_eq(state.evals_since_best, 2);
    ck_assert(state.lr == a_state.lr && state.weight_decay == a_state.weight_decay && state.clip == 0);

    size_t n;
    char *config = get_file(scratch("ckpt/config.json"), &n);
    ck_assert_str_eq(config, "{\"model_type\":\"qwen3\"}\n");
    free(config);
    SafeTensors *st = st_open(dir);
    ck_assert_str_eq(st_metadata(st, "format"), "pt"); /* Transformers wants it */
    st_close(st);

    /* saving over it, and loading its weights alone */
    Model *c = make_model(3);
    TrainState later = a_state;
    later.step = 13;
    ck_assert(checkpoint_can_save(dir));
    ck_assert(save(dir, c, &later));
    ck_assert(weights_load(dir, b->params, NPARAMS));
    ck_assert_mem_eq(b->params[2].data, c->params[2].data, 48);
    ck_assert_mem_ne(b->moments[0].data, c->moments[0].data, 48);
    free(a);
    free(b);
    free(c);
}
END_TEST

START_TEST(weights_are_matched_by_name) {
    Model *m = make_model(0);
    NamedTensor given[5] = {m->params[2], m->params[0], m->params[1]};
    const char *path = put_weights("w.safetensors", given, 3);
    ck_assert(weights_load(path, m->params, NPARAMS));

    given[3] = m->params[0], given[3].name = "lm_head.weight"; /* the copy of a tied head */
    ck_assert(weights_load(put_weights("w.safetensors", given, 4), m->params, NPARAMS));
    given[3].data = m->params[0].data + 1; /* a head of its own */
    ck_fails(weights_load(put_weights("w.safetensors", given, 4), m->params, NPARAMS),
             "1 unknown tensors: lm_head.weight that is not the embedding (");
    given[3] = (NamedTensor){"lm_head.weight", 1, {1}, m->memory, NULL};
    ck_fails(weights_load(put_weights("w.safetensors", given, 4), m->params, NPARAMS),
             "1 unknown tensors: lm_head.weight that is not the embedding (");

    ck_fails(weights_load(put_weights("w.safetensors", given, 1), m->params, NPARAMS),
             "2 tensors missing: model.embed_tokens.weight, model.norm.weight (");
    given[3] = m->params[0], given[3].name = "lm_head.weight";
    given[4] = (NamedTensor){"rope.freqs", 1, {1}, m->memory, NULL};
    ck_fails(weights_load(put_weights("w.safetensors", given, 5), m->params, NPARAMS),
             "1 unknown tensors: rope.freqs (");
    given[1].dim[0] = 3;
    given[2].rank = 2, given[2].dim[1] = 1;
    ck_fails(weights_load(put_weights("w.safetensors", given, 3), m->params, NPARAMS),
             "2 tensors of another shape: model.embed_tokens.weight is [3, 3], expected [4, 3], "
             "model.norm.weight is "
             "[2, 1], expected [2] (");

    given[0].name = "unexpected";
    capture_start();
    ck_assert(!weights_load(put_weights("w.safetensors", given, 2), m->params, NPARAMS));
    ck_assert(are_error_lines(capture_stop(), 3)); /* missing, unknown, mis-shaped: all in one run */
    free(m);
}
END_TEST

static const struct {
    const char *config, *says;
} configs[] = {
    {"{\"rope_theta\":10000.0,\"rms_norm_eps\":1e-06}", NULL},
    {"{}", NULL},
    {"{\"rope_theta\":5,\"rope_parameters\":{\"rope_theta\":1e4},\"rope_scaling\":null}", NULL},
    {"{\"rope_theta\":5}", "config.json: error: rope_theta is 5, but 10000 in the module ("},
    {"{\"rope_theta\":1e4,\"rope_parameters\":{\"rope_theta\":5}}",
     "rope_theta is 5, but 10000 in the module"},
    {"{\"rms_norm_eps\":1e-5}", "rms_norm_eps is 1e-05, but 1e-06 in the module"},
    {"[]", "config.json: error: not a JSON object"},
    {"", "config.json: error: not a JSON object"},
};

START_TEST(configs_of_weights_are_those_of_modules) {
    static const char module[] = "{\"rope_theta\":10000,\"rms_norm_eps\":0.000001}";
    const char *says = configs[_i].says;
    put_file("config.json", configs[_i].config, strlen(configs[_i].config));
    if (says)
        ck_fails(same_config(scratch("w.safetensors"), module), says);
    else
        ck_assert(same_config(scratch("w.safetensors"), module));
    ck_assert(same_config(scratch("nowhere/w.safetensors"), module));
}
END_TEST

START_TEST(long_lists_are_cut) {
    Model *m = make_model(0);
    NamedTensor many[40];
    char names[40][16];
    for (int i = 0; i < 40; i++) {
        snprintf(names[i], sizeof names[i], "t%02d", i);
        many[i] = (NamedTensor){names[i], 1, {1}, m->memory, NULL};
    }
    const char *path = put_weights("w.safetensors", m->params, NPARAMS);
    capture_start();
    ck_assert(!weights_load(path, many, 40));
    const char *text = capture_stop();
    ck_assert(are_error_lines(text, 2));
    ck_assert(strstr(text, "40 tensors missing: t00, t01, t02, t03, t04, t05, t06, t07, .. ("));
    free(m);
}
END_TEST

START_TEST(weights_must_be_finite) {
    Model *m = make_model(0);
    m->params[2].data[5] = NAN;
    ck_fails(weights_load(put_weights("w.safetensors", m->params, NPARAMS), m->params, NPARAMS),
             "1 tensors with values that are not finite: head.weight (nan at 5)");
    m->params[2].data[5] = -INFINITY;
    ck_fails(weights_load(put_weights("w.safetensors", m->params, NPARAMS), m->params, NPARAMS),
             "head.weight (-inf at 5)");
    free(m);
}
END_TEST

/* ---- loading what is not whole ---- */

/* The text of state.json with one part replaced. */
static void edit_state(const char *from, const char *to) {
    size_t n;
    char *text = get_file(scratch("ckpt/state.json"), &n), *at = strstr(text, from), edited[2048];
    ck_assert_msg(at, "no %s in %s", from, text);
    snprintf(edited, sizeof edited, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    put_file("ckpt/state.json", edited, strlen(edited));
    free(text);
}

static const struct {
    const char *from, *to, *error;
} bad_state[] = {
    {"{", "", "not a JSON object"},
    {"\"step\"", "\"stop\"", "step: missing or malformed"},
    {"true", "1", "shuffle: missing or malformed"},
    {"96", "96.5", "examples: missing or malformed"},
    {"96", "-96", "examples: missing or malformed"},
    {"96", "1e99", "examples: missing or malformed"},
    {"96", "\"96\"", "examples: missing or malformed"},
    {"0.3", "1e999", "lr: missing or malformed"},
    {"\"wsd\"", "\"wds\"", "schedule: missing or malformed"},
    {"\"wsd\"", "3", "schedule: missing or malformed"},
    {"\"accumulate\":\t2", "\"accumulate\":\t0", "accumulate or decay_fraction: out of range"},
    {"12", "13", "belongs to step 12, not to step 13 of state.json"},
};

START_TEST(state_errors) {
    Model *m = make_model(1);
    TrainState state;
    ck_assert(save(scratch("ckpt"), m, &a_state));
    edit_state(bad_state[_i].from, bad_state[_i].to);
    ck_fails(load(scratch("ckpt"), m, &state), bad_state[_i].error);
    free(m);
}
END_TEST

/* What later versions have added to the state is 0 where it is not there, but it must be right where it is.
 */
START_TEST(older_states) {
    Model *m = make_model(1);
    TrainState state, warm = a_state;
    warm.plan.lambda_warmup = 7;
    ck_assert(save(scratch("ckpt"), m, &warm) && load(scratch("ckpt"), m, &state));
    ck_assert_int_eq(state.plan.lambda_warmup, 7);
    edit_state(",\n\t\"lambda_warmup\":\t7", "");
    ck_assert(load(scratch("ckpt"), m, &state));
    ck_assert_int_eq(state.plan.lambda_warmup, 0);
    ck_assert_int_eq(state.step, a_state.step);
    edit_state("12", "12, \"lambda_warmup\": null");
    ck_fails(load(scratch("ckpt"), m, &state), "lambda_warmup: missing or malformed");
    free(m);
}
END_TEST

START_TEST(partial_checkpoints_are_refused) {
    Model *m = make_model(1);
    TrainState state, later = a_state;
    later.step = 13;
    ck_fails(load(scratch("none"), m, &state), "not a directory");
    ck_assert(save(scratch("ckpt"), m, &a_state));
    ck_assert(save(scratch("later"), m, &later));
    ck_assert_int_eq(rename(scratch("later/optimizer.safetensors"), scratch("ckpt/optimizer.safetensors")),
                     0);
    ck_fails(load(scratch("ckpt"), m, &state), "belongs to step 13, not to step 12");
    put_weights("ckpt/optimizer.safetensors", m->moments, NMOMENTS);
    ck_fails(load(scratch("ckpt"), m, &state), "belongs to step unknown");
    unlink(scratch("ckpt/optimizer.safetensors"));
    ck_fails(load(scratch("ckpt"), m, &state), "cannot open: No such file");
    unlink(scratch("ckpt/state.json"));
    ck_fails(load(scratch("ckpt"), m, &state), "state.json: error: cannot open");
    free(m);
}
END_TEST

/* Damages one file of a checkpoint at a time. */
START_TEST(survives_mutation) {
    static const char *const files[] = {"ckpt/state.json", "ckpt/model.safetensors",
                                        "ckpt/optimizer.safetensors"};
    Model *m = make_model(1);
    TrainState state;
    ck_assert(save(scratch("ckpt"), m, &a_state));
    for (int which = 0; which < 3; which++) {
        size_t n;
        unsigned char *good = (unsigned char *)get_file(scratch(files[which]), &n), *file = calloc(n, 1);
        for (uint64_t seed = 0; seed < 1000; seed++) {
            memcpy(file, good, n);
            put_file(files[which], file, mutate(file, n, n, seed));
            capture_start();
            bool ok = load(scratch("ckpt"), m, &state);
            const char *text = capture_stop();
            bool lines = false;
            for (int i = ok ? 0 : 1; i <= (ok ? 0 : 3); i++) lines |= are_error_lines(text, i);
            ck_assert_msg(lines, "seed %d: %s", (int)seed, text);
        }
        put_file(files[which], good, n);
        free(good);
        free(file);
    }
    ck_assert(load(scratch("ckpt"), m, &state));
    free(m);
}
END_TEST

/* ---- saves that fail ---- */

/* Number of entries of a directory, . and .. aside. */
static int entries(const char *dir) {
    char command[600];
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", dir);
    FILE *pipe = popen(command, "r");
    int n = -1;
    ck_assert_int_eq(fscanf(pipe, "%d", &n), 1);
    pclose(pipe);
    return n;
}

static bool save_limited(const char *dir, const Model *m, const TrainState *state, rlim_t bytes) {
    file_limit(bytes);
    bool ok = save(dir, m, state);
    file_limit(RLIM_INFINITY);
    return ok;
}

/* The limit falls into the third file, after config.json and model.safetensors went well. */
START_TEST(full_disk_keeps_the_old_checkpoint) {
    Model *a = make_model(1), *b = make_model(2);
    TrainState state, later = a_state;
    later.step = 13;
    ck_assert(save(scratch("ckpt"), a, &a_state));
    struct stat model, optimizer;
    ck_assert_int_eq(stat(scratch("ckpt/model.safetensors"), &model), 0);
    ck_assert_int_eq(stat(scratch("ckpt/optimizer.safetensors"), &optimizer), 0);
    ck_assert_int_lt(model.st_size, optimizer.st_size);
    ck_fails(save_limited(scratch("ckpt"), b, &later, (rlim_t)model.st_size),
             "optimizer.safetensors: error: cannot write: File too large");
    ck_assert_int_eq(entries(scratch("ckpt")), 4);
    ck_assert(load(scratch("ckpt"), b, &state));
    ck_assert_int_eq(state.step, 12);
    ck_assert_mem_eq(a->memory, b->memory, sizeof a->memory);

    ck_fails(save_limited(scratch("fresh"), b, &later, (rlim_t)model.st_size),
             "cannot write: File too large");
    ck_assert(!file_is_dir(scratch("fresh")));
    free(a);
    free(b);
}
END_TEST

START_TEST(places_that_cannot_be_saved_to) {
    Model *m = make_model(1);
    const char *file = put_file("file", "x", 1);
    ck_fails(checkpoint_can_save(file), "not a directory");
    ck_fails(save(file, m, &a_state), "not a directory");
    ck_fails(checkpoint_can_save(scratch("no/such")), "cannot save here: No such file or directory");
    ck_fails(save(scratch("no/such"), m, &a_state),
             "cannot create this directory: No such file or directory");
    /* something that a rename could not replace is noticed before anything is replaced */
    ck_assert(save(scratch("ckpt"), m, &a_state));
    unlink(scratch("ckpt/state.json"));
    mkdir(scratch("ckpt/state.json"), 0777);
    TrainState later = a_state;
    later.step = 13;
    ck_fails(save(scratch("ckpt"), m, &later), "state.json: error: cannot replace: not a regular file");
    SafeTensors *st = st_open(scratch("ckpt"));
    ck_assert_str_eq(st_metadata(st, "step"), "12");
    st_close(st);
    ck_assert_int_eq(entries(scratch("ckpt")), 4);
    free(m);
}
END_TEST

/* ---- a save is atomic as a whole ---- */

/* In place of libc's: every change to a directory that the runtime makes passes here. */
static int changes_left = -1; /* until the process dies as in a crash; below zero: it does not */
static bool no_exchange;      /* as on file systems that cannot do it */

static void count_change(void) {
    if (changes_left == 0) _exit(99);
    if (changes_left > 0) changes_left--;
}

int rename(const char *from, const char *to) {
    count_change();
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
    count_change();
    if (no_exchange) return errno = EINVAL, -1;
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

int unlink(const char *path) {
    count_change();
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int rmdir(const char *path) {
    count_change();
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}

/* Saves in a process of its own that dies at change n. Exit code: 0 saved, 99 died. */
static int save_and_die(int n, const Model *m, const TrainState *state) {
    pid_t pid = fork();
    if (pid == 0) {
        changes_left = n;
        _exit(save(scratch("ckpt"), m, state) ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Is the user's part of the checkpoint there? */
static bool has_extras(void) {
    struct stat info;
    return stat(scratch("ckpt/tokenizer.json"), &info) == 0 && info.st_size == 2;
}

static void put_checkpoint_with_extras(const Model *m) {
    ck_assert(save(scratch("ckpt"), m, &a_state));
    put_file("ckpt/tokenizer.json", "{}", 2);
    mkdir(scratch("ckpt/notes"), 0777);
    put_file("ckpt/notes/today", "good", 4);
}

START_TEST(a_crash_leaves_the_old_or_the_new) {
    Model *a = make_model(1), *b = make_model(2), *got = make_model(3);
    TrainState state, later = a_state;
    later.step = 13;
    no_exchange = _i;
    put_checkpoint_with_extras(a);
    int died = 0, seen[2] = {0};
    for (;; died++) {
        int code = save_and_die(died, b, &later);
        ck_assert(load(scratch("ckpt"), got, &state));
        ck_assert_msg(state.step == 12 || state.step == 13, "step %d", (int)state.step);
        ck_assert_mem_eq(got->memory, state.step == 12 ? a->memory : b->memory, sizeof got->memory);
        ck_assert_msg(has_extras(), "the tokenizer is gone after %d changes", died);
        seen[state.step - 12]++;
        if (code == 0) break;
        ck_assert_int_eq(code, 99);
        ck_assert(save(scratch("ckpt"), a, &a_state)); /* what is left behind does not stand in the way */
        ck_assert_int_eq(entries(scratch_dir), 1);
        ck_assert_int_eq(entries(scratch("ckpt")), 6);
    }
    ck_assert_int_ge(died, 8);
    ck_assert(seen[0] > 0 && seen[1] > 1);
    ck_assert_int_eq(entries(scratch_dir), 1);
    ck_assert_int_eq(entries(scratch("ckpt/notes")), 1);
    free(a), free(b), free(got);
}
END_TEST

START_TEST(files_of_the_user_are_kept) {
    Model *a = make_model(1), *got = make_model(2);
    TrainState state, later = a_state;
    put_checkpoint_with_extras(a);
    chmod(scratch("ckpt"), 0750);
    for (later.step = 13; later.step < 16; later.step++) {
        ck_assert(save(scratch("ckpt"), a, &later));
        ck_assert_int_eq(entries(scratch("ckpt")), 6);
        ck_assert_int_eq(entries(scratch("ckpt/notes")), 1);
        ck_assert(has_extras());
    }
    struct stat info;
    ck_assert_int_eq(stat(scratch("ckpt"), &info), 0);
    ck_assert_int_eq(info.st_mode & 07777, 0750);
    ck_assert_int_eq(entries(scratch_dir), 1);
    /* of two versions, neither is deleted */
    mkdir(scratch("ckpt.tbc-new"), 0777);
    put_file("ckpt.tbc-new/tokenizer.json", "[1]", 3);
    put_file("ckpt.tbc-new/model.safetensors", "half", 4);
    ck_assert(save(scratch("ckpt"), a, &later));
    ck_assert(has_extras());
    ck_assert_int_eq(entries(scratch("ckpt.tbc-new")), 1);
    ck_assert(load(scratch("ckpt"), got, &state));
    ck_assert_int_eq(state.step, 16);
    free(a), free(got);
}
END_TEST

/* A link stays a link, and the current directory the current directory. */
START_TEST(places_that_must_stay_in_place) {
    Model *a = make_model(1), *got = make_model(2);
    TrainState state, later = a_state;
    later.step = 13;
    mkdir(scratch("disk"), 0777);
    ck_assert_int_eq(symlink(scratch("disk"), scratch("ckpt")), 0);
    ck_assert(save(scratch("ckpt"), a, &a_state));
    ck_assert(save(scratch("ckpt/"), a, &later));
    struct stat info;
    ck_assert_int_eq(lstat(scratch("ckpt"), &info), 0);
    ck_assert(S_ISLNK(info.st_mode));
    ck_assert(load(scratch("disk"), got, &state));
    ck_assert_int_eq(state.step, 13);
    ck_assert_int_eq(chdir(scratch("disk")), 0);
    ck_assert(save(".", a, &a_state));
    ck_assert(load(".", got, &state));
    ck_assert_int_eq(state.step, 12);
    ck_assert_int_eq(entries(scratch_dir), 2);
    ck_assert_int_eq(entries("."), 4);
    ck_assert_int_eq(chdir("/"), 0);
    free(a), free(got);
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("checkpoint");
    tcase_add_test(tests, round_trip);
    tcase_add_test(tests, weights_are_matched_by_name);
    tcase_add_loop_test(tests, configs_of_weights_are_those_of_modules, 0, sizeof configs / sizeof *configs);
    tcase_add_test(tests, long_lists_are_cut);
    tcase_add_test(tests, weights_must_be_finite);
    tcase_add_loop_test(tests, state_errors, 0, sizeof bad_state / sizeof *bad_state);
    tcase_add_test(tests, older_states);
    tcase_add_test(tests, partial_checkpoints_are_refused);
    tcase_add_test(tests, survives_mutation);
    tcase_add_test(tests, full_disk_keeps_the_old_checkpoint);
    tcase_add_test(tests, places_that_cannot_be_saved_to);
    tcase_add_loop_test(tests, a_crash_leaves_the_old_or_the_new, 0, 2);
    tcase_add_test(tests, files_of_the_user_are_kept);
    tcase_add_test(tests, places_that_must_stay_in_place);
    return run_tests("checkpoint", tests);
}
