/* The examples a model is trained and evaluated on: rows of seq+1 token ids, mapped from files.
 *
 * A row's first seq ids are the inputs, its last seq ids the targets. A data set is
 *   DIR    train, valid and test, as far as they are there: each a file NAME.txt, .jsonl, .npy or .bin, or a
 *          folder NAME. Without any of them the folder itself is one corpus.
 *   FILE   one corpus.
 * What files hold, and how a folder of them becomes one stream: corpus.h. A stream is cut into windows with
 * stride seq, so that every id but the first is a target once (a ragged tail is dropped); rows of a 2-D .npy
 * are taken as they are. Of one corpus, if it is a stream, the last 5 % of the rows, at least one where there
 * are two, are the validation split. Every id is checked against the vocabulary when the data set is opened.
 */
#ifndef TBC_RT_DATA_H
#define TBC_RT_DATA_H

#include "../text/tokenizer.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum DataSplit { DATA_TRAIN, DATA_VALID, DATA_TEST, DATA_SPLITS } DataSplit;

typedef struct Dataset Dataset;

/* path is a file or directory (dataset_locate finds it); seq and vocab are the module's. The tokenizer
 * (needed for text only, but never NULL) stays the caller's. Prints an error and returns NULL on failure. At
 * least one split has rows. */
Dataset *dataset_open(const char *path, const Tokenizer *, int64_t seq, int64_t vocab);
void dataset_close(Dataset *); /* NULL is allowed */

int64_t dataset_rows(const Dataset *, DataSplit);     /* 0: no such split */
const char *dataset_path(const Dataset *, DataSplit); /* the file it comes from; NULL: no such split */
const char *data_split_name(DataSplit);               /* "train", "valid", "test" */

/* Copies row 0 <= row < dataset_rows of a split: seq+1 ids, all in 0 .. vocab-1. */
void dataset_row(const Dataset *, DataSplit, int64_t row, int32_t *out);

/* For evaluation: the windows of seq+1 ids that begin every `stride` ids of a split (1 <= stride <= seq);
 * with stride seq these are its rows. -1: the split is rows that are not to be cut otherwise. */
int64_t dataset_windows(const Dataset *, DataSplit, int64_t stride);
void dataset_window(const Dataset *, DataSplit, int64_t stride, int64_t window, int32_t *out);

/* The split to evaluate on: the one of this name; with NULL valid, else test, else train (a lone .npy). */
DataSplit dataset_eval_split(const Dataset *, const char *name);

/* A number that differs when the training rows do (path aside: size and content of the split), kept in
 * checkpoints so that --resume can tell another data set from the one it was trained on. Below 2^53. */
int64_t dataset_fingerprint(const Dataset *, DataSplit);

#endif
