/* Data sets: finding the files, cutting texts into rows, checking the ids. */
#include "data.h"
#include "error.h"
#include "files.h"
#include "npy.h"
#include <stdlib.h>
#include <string.h>

/* Rows of one split: row r is the seq+1 elements from r*stride on. */
typedef struct Split {
    const unsigned char *tokens; /* in a map, perhaps unaligned */
    uint32_t width;              /* bytes of an element: 1, 4 or 8 */
    int64_t stride, rows;
    const char *path;
} Split;

/* A file, which is a text or an array. */
typedef struct Source {
    char *path;
    FileMap text;
    Npy array;
} Source;

struct Dataset {
    int64_t seq, vocab;
    int64_t text_vocab; /* of the tokenizer */
    Split split[DATA_SPLITS];
    Source source[DATA_SPLITS];
};

const char *data_split_name(DataSplit split) {
    static const char *const names[DATA_SPLITS] = {"train", "valid", "test"};
    return names[split];
}

static int64_t token_at(const Split *split, int64_t i) {
    const unsigned char *at = split->tokens + (size_t)i * split->width;
    int32_t narrow;
    int64_t wide;
    switch (split->width) {
    case 1:
        return *at;
    case 4:
        memcpy(&narrow, at, 4);
        return narrow;
    default:
        memcpy(&wide, at, 8);
        return wide;
    }
}

/* Elements that the rows of a split cover. */
static int64_t covered(const Dataset *ds, const Split *split) {
    return split->rows ? (split->rows - 1) * split->stride + ds->seq + 1 : 0;
}

static bool check_text_ids(const Dataset *ds, const Split *split) {
    if (ds->vocab >= ds->text_vocab) return true;
    for (int64_t i = 0; i < covered(ds, split); i++)
        if (token_at(split, i) >= ds->vocab)
            return rt_error(split->path,
                            "token %lld at byte %lld is outside the vocabulary (expected 0 .. %lld)",
                            (long long)token_at(split, i), (long long)i, (long long)ds->vocab - 1);
    return true;
}

static bool check_array_ids(const Dataset *ds, const Split *split) {
    for (int64_t i = 0; i < covered(ds, split); i++) {
        int64_t id = token_at(split, i);
        if (id < 0 || id >= ds->vocab)
            return rt_error(
                split->path,
                "token %lld at row %lld, column %lld is outside the vocabulary (expected 0 .. %lld)",
                (long long)id, (long long)(i / split->stride), (long long)(i % split->stride),
                (long long)ds->vocab - 1);
    }
    return true;
}

static bool is_npy(const char *path) {
    size_t n = strlen(path);
    return n >= 4 && strcmp(path + n - 4, ".npy") == 0;
}

static bool open_array(Dataset *ds, Source *source, Split *split) {
    if (!npy_open(&source->array, source->path)) return false;
    const Npy *array = &source->array;
    if (array->cols - 1 != ds->seq)
        return rt_error(source->path, "rows of %lld tokens (expected %lld: the module's seq of %lld, plus 1)",
                        (long long)array->cols, (long long)ds->seq + 1, (long long)ds->seq);
    if (!array->rows) return rt_error(source->path, "no rows (expected at least one)");
    *split = (Split){array->data, array->width, array->cols, array->rows, source->path};
    return check_array_ids(ds, split);
}

/* The byte tokenizer reads the text in place. */
static bool open_text(Dataset *ds, Source *source, Split *split) {
    if (!file_map(&source->text, source->path)) return false;
    int64_t n = (int64_t)source->text.size;
    if (n < ds->seq + 1)
        return rt_error(source->path,
                        "%lld tokens are less than one example (expected at least seq + 1 = %lld)",
                        (long long)n, (long long)ds->seq + 1);
    *split = (Split){source->text.at, 1, ds->seq, (n - 1) / ds->seq, source->path};
    return check_text_ids(ds, split);
}

/* Takes over path. */
static bool open_split(Dataset *ds, DataSplit which, char *path) {
    Source *source = &ds->source[which];
    source->path = path;
    return (is_npy(path) ? open_array : open_text)(ds, source, &ds->split[which]);
}

/* Gives the last twentieth of the training rows, rounded up, to validation, if one row remains. */
static void hold_out(Dataset *ds) {
    Split *train = &ds->split[DATA_TRAIN], *valid = &ds->split[DATA_VALID];
    if (train->rows < 2) return;
    *valid = *train;
    valid->rows = (train->rows + 19) / 20;
    train->rows -= valid->rows;
    valid->tokens += (size_t)(train->rows * train->stride) * train->width;
}

static bool open_file(Dataset *ds, const char *path) {
    if (!open_split(ds, DATA_TRAIN, rt_printf("%s", path))) return false;
    if (!is_npy(path)) hold_out(ds);
    return true;
}

static bool open_dir(Dataset *ds, const char *dir) {
    bool any = false;
    for (int i = 0; i < DATA_SPLITS; i++) {
        char *stem = file_join(dir, data_split_name((DataSplit)i));
        char *text = rt_printf("%s.txt", stem), *array = rt_printf("%s.npy", stem);
        bool has_text = file_exists(text), has_array = file_exists(array), ok = true;
        if (has_text && has_array)
            ok = rt_error(dir, "both %s.txt and %s.npy are here (expected one of them)",
                          data_split_name((DataSplit)i), data_split_name((DataSplit)i));
        else if (has_text || has_array)
            ok = open_split(ds, (DataSplit)i, rt_printf("%s", has_text ? text : array));
        any |= has_text || has_array;
        free(stem);
        free(text);
        free(array);
        if (!ok) return false;
    }
    return any ||
           rt_error(dir, "no data here (expected train.txt, and valid.txt and test.txt if there are any)");
}

/* NAME's directory in the data home, heap. */
static char *home_dir(const char *name) {
    const char *data = getenv("TBC_DATA_HOME"), *home = getenv("HOME");
    if (data && *data) return file_join(data, name);
    return rt_printf("%s/.cache/tbc/%s", home ? home : "", name);
}

static bool open_named(Dataset *ds, const char *spec) {
    if (file_is_dir(spec)) return open_dir(ds, spec);
    if (file_exists(spec)) return open_file(ds, spec);
    if (!*spec || strchr(spec, '/')) return rt_error(spec, "no such file or directory");
    char *dir = home_dir(spec);
    bool ok = file_is_dir(dir) ? open_dir(ds, dir)
                               : rt_error(spec,
                                          "no such file, and no data set of this name (put train.txt and "
                                          "valid.txt into %s, or set TBC_DATA_HOME)",
                                          dir);
    free(dir);
    return ok;
}

Dataset *dataset_open(const char *spec, const Tokenizer *tokenizer, int64_t seq, int64_t vocab) {
    Dataset *ds = rt_calloc(1, sizeof *ds);
    ds->seq = seq;
    ds->vocab = vocab;
    ds->text_vocab = tokenizer_vocab(tokenizer);
    if (open_named(ds, spec)) return ds;
    dataset_close(ds);
    return NULL;
}

void dataset_close(Dataset *ds) {
    if (!ds) return;
    for (int i = 0; i < DATA_SPLITS; i++) {
        file_unmap(&ds->source[i].text);
        npy_close(&ds->source[i].array);
        free(ds->source[i].path);
    }
    free(ds);
}

int64_t dataset_rows(const Dataset *ds, DataSplit split) {
    return ds->split[split].rows;
}
const char *dataset_path(const Dataset *ds, DataSplit split) {
    return ds->split[split].path;
}

void dataset_row(const Dataset *ds, DataSplit which, int64_t row, int32_t *out) {
    const Split *split = &ds->split[which];
    for (int64_t i = 0; i <= ds->seq; i++) out[i] = (int32_t)token_at(split, row * split->stride + i);
}

DataSplit dataset_eval_split(const Dataset *ds) {
    if (ds->split[DATA_VALID].rows) return DATA_VALID;
    return ds->split[DATA_TEST].rows ? DATA_TEST : DATA_TRAIN;
}

/* FNV-1a over the tokens. */
int64_t dataset_fingerprint(const Dataset *ds, DataSplit which) {
    const Split *split = &ds->split[which];
    uint64_t hash = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < covered(ds, split); i++)
        hash = (hash ^ (uint64_t)token_at(split, i)) * 0x100000001b3u;
    return (int64_t)(hash >> 11);
}
