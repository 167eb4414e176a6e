/* Checkpoints: lists of tensors matched against files, and the state of a run as JSON. */
#include "checkpoint.h"
#include "error.h"
#include "files/save_dir.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors in ---- */

/* Names gathered for one line of error: the first few are spelled out, all are counted. */
typedef struct Listing {
    char *text;
    size_t n;
} Listing;

/* Takes over entry. */
static void list_add(Listing *list, char *entry) {
    enum { SHOWN = 8 };
    if (list->n++ < SHOWN) {
        char *longer = list->text ? rt_printf("%s, %s", list->text, entry) : rt_printf("%s", entry);
        free(list->text);
        list->text = longer;
    } else if (list->n == SHOWN + 1) {
        char *longer = rt_printf("%s, ..", list->text);
        free(list->text);
        list->text = longer;
    }
    free(entry);
}

/* Prints the line, if there is something in the list, and frees it. */
static bool list_report(Listing *list, const char *path, const char *what, const char *expected) {
    if (!list->n) return true;
    rt_error(path, "%zu %s: %s (%s)", list->n, what, list->text, expected);
    free(list->text);
    return false;
}

static char *shape_text(uint32_t rank, const int64_t *dim) {
    char *text = rt_printf("[");
    for (uint32_t i = 0; i < rank; i++) {
        char *longer = rt_printf("%s%s%lld", text, i ? ", " : "", (long long)dim[i]);
        free(text);
        text = longer;
    }
    char *closed = rt_printf("%s]", text);
    free(text);
    return closed;
}

static char *mismatch_text(const NamedTensor *want, const StTensor *have) {
    char *a = shape_text(have->rank, have->dim), *b = shape_text(want->rank, want->dim);
    char *text = rt_printf("%s is %s, expected %s", want->name, a, b);
    free(a);
    free(b);
    return text;
}

static bool same_shape(const NamedTensor *want, const StTensor *have) {
    return want->rank == have->rank && memcmp(want->dim, have->dim, want->rank * sizeof *want->dim) == 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Published tied checkpoints carry their head a second time: the embedding, byte by byte. */
static bool is_embedding(const SafeTensors *st, const StTensor *head) {
    const StTensor *e = st_find(st, "model.embed_tokens.weight");
    return e && head->bytes == e->bytes && strcmp(head->dtype, e->dtype) == 0 &&
           memcmp(head->data, e->data, e->bytes) == 0;
}

/* Tensors of the file that nobody wants. */
static void list_unknown(const SafeTensors *st, const NamedTensor *wanted, size_t n, Listing *unknown) {
    const char **names = rt_calloc(n, sizeof *names);
    for (size_t i = 0; i < n; i++) names[i] = wanted[i].name;
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < st_count(st); i++) {
        const StTensor *t = st_at(st, i);
        const bool head = strcmp(t->name, "lm_head.weight") == 0;
        if (bsearch(&t->name, names, n, sizeof *names, by_name) || (head && is_embedding(st, t))) continue;
        list_add(unknown, rt_printf("%s%s", t->name, head ? " that is not the embedding" : ""));
    }
    free(names);
}

static bool match_names(const SafeTensors *st, const char *path, const NamedTensor *wanted, size_t n) {
    Listing missing = {0}, unknown = {0}, misshaped = {0};
    for (size_t i = 0; i < n; i++) {
        const StTensor *t = st_find(st, wanted[i].name);
        if (!t)
            list_add(&missing, rt_printf("%s", wanted[i].name));
        else if (!same_shape(&wanted[i], t))
            list_add(&misshaped, mismatch_text(&wanted[i], t));
    }
    list_unknown(st, wanted, n, &unknown);
    bool ok = list_report(&missing, path, "tensors missing", "the module needs them");
    ok &= list_report(&unknown, path, "unknown tensors", "the module has no such parameters");
    ok &= list_report(&misshaped, path, "tensors of another shape", "compile for these sizes");
    return ok;
}

/* Index of the first value that is not finite, or -1. */
static int64_t find_nonfinite(const NamedTensor *t) {
    for (int64_t i = 0, n = tensor_count(t->rank, t->dim); i < n; i++)
        if (!isfinite(tensor_value(t, i))) return i;
    return -1;
}

static bool read_tensor(const StTensor *from, const NamedTensor *to) {
    return to->bf16 ? st_read_bf16(from, to->bf16) : st_read_f32(from, to->data);
}

/* Reads all of wanted, and nothing else may be there. */
static bool read_tensors(const SafeTensors *st, const char *path, const NamedTensor *wanted, size_t n) {
    bool ok = match_names(st, path, wanted, n);
    Listing bad = {0};
    for (size_t i = 0; ok && i < n; i++) {
        const NamedTensor *to = &wanted[i];
        ok = read_tensor(st_find(st, to->name), to);
        int64_t at = ok ? find_nonfinite(to) : -1;
        if (at >= 0)
            list_add(&bad,
                     rt_printf("%s (%g at %lld)", to->name, (double)tensor_value(to, at), (long long)at));
    }
    return list_report(&bad, path, "tensors with values that are not finite", "f32 numbers are needed") && ok;
}

bool weights_load(const char *path, const NamedTensor *params, size_t n) {
    SafeTensors *st = st_open(path);
    bool ok = st && read_tensors(st, path, params, n);
    st_close(st);
    return ok;
}

/* ---- state.json ---- */

typedef enum FieldType { INTEGER, REAL, BOOLEAN, SCHEDULE_NAME } FieldType;
static const struct Field {
    const char *name;
    FieldType type;
    size_t offset;
    bool later; /* 0 in checkpoints that lack it: saved before there was such a thing */
} fields[] = {
#define FIELD(name, type)                                                                                    \
    { #name, type, offsetof(TrainState, name), false }
#define PLAN(name, type)                                                                                     \
    { #name, type, offsetof(TrainState, plan.name), false }
#define LATER_PLAN(name, type)                                                                               \
    { #name, type, offsetof(TrainState, plan.name), true }
    FIELD(step, INTEGER),
    FIELD(examples, INTEGER),
    FIELD(seed, INTEGER),
    FIELD(shuffle, BOOLEAN),
    FIELD(batch, INTEGER),
    FIELD(seq, INTEGER),
    FIELD(accumulate, INTEGER),
    FIELD(rows, INTEGER),
    FIELD(data, INTEGER),
    FIELD(lr, REAL),
    FIELD(weight_decay, REAL),
    FIELD(clip, REAL),
    PLAN(schedule, SCHEDULE_NAME),
    PLAN(warmup, INTEGER),
    PLAN(total, INTEGER),
    PLAN(decay_fraction, REAL),
    PLAN(weight_decay_until, REAL),
    FIELD(best_loss, REAL),
    FIELD(best_step, INTEGER),
    FIELD(evals_since_best, INTEGER),
    LATER_PLAN(lambda_warmup, INTEGER),
#undef FIELD
#undef PLAN
#undef LATER_PLAN
};
enum { NFIELDS = sizeof fields / sizeof *fields };

/* The shortest decimal that reads back as x; cJSON's own printing rounds to 15 digits. */
static char *real_text(double x) {
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    return rt_printf("%s", text);
}

static char *field_text(const struct Field *field, const TrainState *state) {
    const void *at = (const char *)state + field->offset;
    switch (field->type) {
    case INTEGER:
        return rt_printf("%lld", (long long)*(const int64_t *)at);
    case REAL:
        return real_text(*(const double *)at);
    case BOOLEAN:
        return rt_printf("%s", *(const bool *)at ? "true" : "false");
    case SCHEDULE_NAME:
        break;
    }
    return rt_printf("\"%s\"", schedule_name(*(const Schedule *)at));
}

static char *state_text(const TrainState *state) {
    cJSON *json = cJSON_CreateObject();
    for (size_t i = 0; i < NFIELDS; i++) {
        char *value = field_text(&fields[i], state);
        cJSON_AddRawToObject(json, fields[i].name, value);
        free(value);
    }
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    return text;
}

static bool read_field(const cJSON *json, const struct Field *field, TrainState *state) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, field->name);
    void *at = (char *)state + field->offset;
    if (!item && field->later) return true;
    if (field->type == BOOLEAN) {
        *(bool *)at = cJSON_IsTrue(item);
        return cJSON_IsBool(item);
    }
    if (field->type == SCHEDULE_NAME) {
        Schedule schedule = cJSON_IsString(item) ? schedule_named(item->valuestring) : SCHEDULE_COUNT;
        *(Schedule *)at = schedule;
        return schedule != SCHEDULE_COUNT;
    }
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble)) return false;
    double x = item->valuedouble;
    if (field->type == REAL) {
        *(double *)at = x;
        return true;
    }
    if (!(x >= 0 && x < 0x1p53) || x != floor(x)) return false;
    *(int64_t *)at = (int64_t)x;
    return true;
}

static bool read_state(const char *path, TrainState *state) {
    FileMap map;
    *state = (TrainState){0};
    if (!file_map(&map, path)) return false;
    cJSON *json = cJSON_ParseWithLength((const char *)map.at, map.size);
    file_unmap(&map);
    bool ok = cJSON_IsObject(json) || rt_error(path, "not a JSON object (the state that --save writes)");
    for (size_t i = 0; ok && i < NFIELDS; i++)
        ok = read_field(json, &fields[i], state) ||
             rt_error(path, "%s: missing or malformed (the state that --save writes)", fields[i].name);
    cJSON_Delete(json);
    const Plan *plan = &state->plan;
    if (ok && (state->accumulate < 1 || plan->decay_fraction < 0 || plan->decay_fraction > 1))
        return rt_error(path, "accumulate or decay_fraction: out of range (the state that --save writes)");
    return ok;
}

/* ---- whole checkpoints ---- */

enum { CONFIG, MODEL, OPTIMIZER, STATE, NFILES };
static const char *const file_names[NFILES] = {"config.json", "model.safetensors", "optimizer.safetensors",
                                               "state.json"};

bool checkpoint_can_save(const char *dir) {
    return save_dir_check(dir);
}

static bool write_text(NewFile *file, const char *text) {
    return newfile_write(file, text, strlen(text)) && newfile_write(file, "\n", 1);
}

/* Everything that goes into a checkpoint. */
typedef struct Contents {
    const char *config, *state;
    const NamedTensor *params, *moments;
    size_t nparams, nmoments;
    const char *const *metadata;
    const Companions *companions;
} Contents;

static bool write_one(NewFile *file, size_t which, const void *contents) {
    const Contents *c = contents;
    switch (which) {
    case CONFIG:
        return write_text(file, c->config);
    case MODEL:
        return st_write(file, c->params, c->nparams, c->metadata);
    case OPTIMIZER:
        return st_write(file, c->moments, c->nmoments, c->metadata);
    case STATE:
        return write_text(file, c->state);
    default:
        return companions_write(c->companions, which - NFILES, file);
    }
}

bool checkpoint_save(const char *dir, const char *config_json, const NamedTensor *params, size_t nparams,
                     const NamedTensor *moments, size_t nmoments, const TrainState *state,
                     const Companions *companions) {
    char step[24], *text = state_text(state);
    snprintf(step, sizeof step, "%lld", (long long)state->step);
    const char *metadata[] = {"format", "pt", "step", step, NULL};
    Contents contents = {config_json, text, params, moments, nparams, nmoments, metadata, companions};
    const char *names[NFILES + MAX_COMPANIONS];
    memcpy(names, file_names, sizeof file_names);
    memcpy(names + NFILES, companions->names, companions->n * sizeof *names);
    OwnFiles files = {names, NFILES + companions->n};
    bool ok = text ? save_dir(dir, files, write_one, &contents) : rt_error(dir, "out of memory");
    free(text);
    return ok;
}

/* Loads one of the two safetensors files and checks that it belongs to the state's step. */
static bool load_part(const char *path, const NamedTensor *tensors, size_t n, int64_t step) {
    SafeTensors *st = st_open(path);
    if (!st) return false;
    const char *text = st_metadata(st, "step");
    char want[24];
    snprintf(want, sizeof want, "%lld", (long long)step);
    bool ok = text && strcmp(text, want) == 0;
    if (!ok)
        rt_error(path, "belongs to step %s, not to step %s of state.json (not one whole checkpoint)",
                 text ? text : "unknown", want);
    ok = ok && read_tensors(st, path, tensors, n);
    st_close(st);
    return ok;
}

bool checkpoint_load(const char *dir, const NamedTensor *params, size_t nparams, const NamedTensor *moments,
                     size_t nmoments, TrainState *state) {
    dir_recover(dir);
    if (!file_is_dir(dir)) return rt_error(dir, "not a directory (expected one that --save wrote)");
    char *paths[NFILES];
    for (int i = 0; i < NFILES; i++) paths[i] = file_join(dir, file_names[i]);
    bool ok = read_state(paths[STATE], state) && load_part(paths[MODEL], params, nparams, state->step) &&
              (!moments || load_part(paths[OPTIMIZER], moments, nmoments, state->step));
    for (int i = 0; i < NFILES; i++) free(paths[i]);
    return ok;
}
