/* Data sets by name: the data home, and what can be fetched into it.
 *
 * Data set NAME is the directory NAME in the data home (files.h). One that is not there and is known
 * (datasets.def) is downloaded, checked, and unpacked as train.txt, valid.txt and test.txt. $TBC_DATA_URL is
 * the base URL of a mirror, which is then asked instead of the public addresses. */
#ifndef TBC_RT_DATASETS_H
#define TBC_RT_DATASETS_H

#include "download.h"

typedef struct KnownDataset {
    const char *name, *title;
    int64_t bytes;
    const char *sha256;
    const char *member[3]; /* of the archive: train, valid, test */
    const char *url[2];    /* the second may be NULL */
} KnownDataset;

/* Where the value of --data lies, heap: spec itself if there is such a file or directory, else a data set's
 * directory, fetched if need be. Prints an error and returns NULL where there is nothing. */
char *dataset_locate(const char *spec, bool quiet);

/* Downloads a data set and unpacks it to home/NAME, which appears whole or not at all. Prints an error and
 * returns false on failure. */
bool dataset_fetch(const KnownDataset *, const char *home, const Patience *, bool quiet);

#endif
