/* Data sets: finding the files of the splits, and cutting their ids into rows and windows. */
#include "data.h"
#include "corpus.h"
#include "../error.h"
#include <stdlib.h>
#include <string.h>

/* A range of the ids of a corpus: a row begins every `stride` ids. */
typedef struct Split {
    const Corpus *corpus;
    int64_t first, n; /* ids */
    int64_t stride, rows;
    const char *path;
} Split;

struct Dataset {
    int64_t seq, vocab;
    const Tokenizer *tokenizer;
    Split split[DATA_SPLITS];
    Corpus corpus[DATA_SPLITS];
    char *path[DATA_SPLITS];
};

const char *data_split_name(DataSplit split) {
    static const char *const names[DATA_SPLITS] = {"train", "valid", "test"};
    return names[split];
}

/* Windows of seq+1 ids that begin every `stride` of n ids. */
static int64_t count_windows(int64_t n, int64_t seq, int64_t stride) {
    return n > seq ? (n - seq - 1) / stride + 1 : 0;
}

/* Takes over path. */
static bool open_split(Dataset *ds, DataSplit which, char *path) {
    Corpus *corpus = &ds->corpus[which];
    ds->path[which] = path;
    if (!corpus_open(corpus, path, ds->tokenizer, ds->seq, ds->vocab)) return false;
    int64_t n = corpus->ids.n, stride = corpus->examples ? ds->seq + 1 : ds->seq;
    if (n < ds->seq + 1)
        return rt_error(path, "%lld tokens are less than one example (expected at least seq + 1 = %lld)",
                        (long long)n, (long long)ds->seq + 1);
    ds->split[which] = (Split){corpus, 0, n, stride, count_windows(n, ds->seq, stride), path};
    return true;
}

/* Gives the last twentieth of the training rows, rounded up, to validation, if one row remains. */
static void hold_out(Dataset *ds) {
    Split *train = &ds->split[DATA_TRAIN], *valid = &ds->split[DATA_VALID];
    if (train->rows < 2 || train->corpus->examples) return;
    *valid = *train;
    valid->rows = (train->rows + 19) / 20;
    train->rows -= valid->rows;
    valid->first = train->rows * train->stride;
    valid->n -= valid->first;
    train->n = valid->first + 1;
}

static bool open_whole(Dataset *ds, const char *path) {
    if (!open_split(ds, DATA_TRAIN, rt_printf("%s", path))) return false;
    hold_out(ds);
    return true;
}

/* ---- directories */

/* What a directory has of a split: NAME.txt, NAME.npy, .. or the folder NAME; *found is heap, NULL if
 * nothing. */
static bool find_split(const char *dir, const char *name, char **found) {
    bool ok = true;
    *found = NULL;
    for (const char *const *ending = corpus_endings; ok; ending++) {
        char *path = rt_printf("%s/%s%s", dir, name, *ending ? *ending : "");
        bool here = *ending ? file_exists(path) : file_is_dir(path);
        if (here && *found)
            ok = rt_error(dir, "both %s and %s are here (expected one of them)", strrchr(*found, '/') + 1,
                          strrchr(path, '/') + 1);
        if (here && !*found)
            *found = path;
        else
            free(path);
        if (!*ending) break;
    }
    return ok;
}

/* A directory without splits is one corpus. */
static bool open_dir(Dataset *ds, const char *dir) {
    bool any = false;
    for (int i = 0; i < DATA_SPLITS; i++) {
        char *path;
        bool ok = find_split(dir, data_split_name((DataSplit)i), &path);
        any |= path != NULL;
        if (ok && path)
            ok = open_split(ds, (DataSplit)i, path);
        else
            free(path);
        if (!ok) return false;
    }
    if (any) return true;
    if (!corpus_has_files(dir))
        return rt_error(dir, "no data here (expected train.txt, and valid.txt and test.txt if there are any; "
                             "or any .txt, .jsonl, .npy or .bin files)");
    return open_whole(ds, dir);
}

Dataset *dataset_open(const char *path, const Tokenizer *tokenizer, int64_t seq, int64_t vocab) {
    Dataset *ds = rt_calloc(1, sizeof *ds);
    ds->seq = seq;
    ds->vocab = vocab;
    ds->tokenizer = tokenizer;
    if ((file_is_dir(path) ? open_dir : open_whole)(ds, path)) return ds;
    dataset_close(ds);
    return NULL;
}

void dataset_close(Dataset *ds) {
    if (!ds) return;
    for (int i = 0; i < DATA_SPLITS; i++) {
        corpus_close(&ds->corpus[i]);
        free(ds->path[i]);
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
    stream_read(&split->corpus->ids, split->first + row * split->stride, ds->seq + 1, out);
}

int64_t dataset_windows(const Dataset *ds, DataSplit which, int64_t stride) {
    const Split *split = &ds->split[which];
    if (stride == ds->seq) return split->rows;
    if (split->rows && split->corpus->examples) return -1;
    return count_windows(split->n, ds->seq, stride);
}

void dataset_window(const Dataset *ds, DataSplit which, int64_t stride, int64_t window, int32_t *out) {
    const Split *split = &ds->split[which];
    int64_t step = stride == ds->seq ? split->stride : stride;
    stream_read(&split->corpus->ids, split->first + window * step, ds->seq + 1, out);
}

DataSplit dataset_eval_split(const Dataset *ds, const char *name) {
    for (int i = 0; name && i < DATA_SPLITS; i++)
        if (!strcmp(name, data_split_name((DataSplit)i))) return (DataSplit)i;
    if (ds->split[DATA_VALID].rows) return DATA_VALID;
    return ds->split[DATA_TEST].rows ? DATA_TEST : DATA_TRAIN;
}

/* FNV-1a over the ids that the rows cover. */
int64_t dataset_fingerprint(const Dataset *ds, DataSplit which) {
    enum { BLOCK = 4096 };
    const Split *split = &ds->split[which];
    int32_t block[BLOCK];
    uint64_t hash = 0xcbf29ce484222325u;
    int64_t covered = split->rows ? (split->rows - 1) * split->stride + ds->seq + 1 : 0;
    for (int64_t at = 0; at < covered; at += BLOCK) {
        int64_t n = covered - at < BLOCK ? covered - at : BLOCK;
        stream_read(&split->corpus->ids, split->first + at, n, block);
        for (int64_t i = 0; i < n; i++) hash = (hash ^ (uint64_t)block[i]) * 0x100000001b3u;
    }
    return (int64_t)(hash >> 11);
}
