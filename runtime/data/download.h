/* Fetching a file of known size and SHA-256 over HTTP(S).
 *
 * What has arrived is kept in PATH.part, from which a later attempt, of this run or the next, goes on
 * (Range); a server that does not know ranges sends all of it again. A broken transfer is tried again after a
 * pause that doubles each time; progress makes patience whole again. What cannot get better by waiting is not
 * tried again: a server that was never reached, an answer of 4xx, a file of another size or content. */
#ifndef TBC_RT_DOWNLOAD_H
#define TBC_RT_DOWNLOAD_H

#include "../progress.h"
#include <stdint.h>

typedef struct Remote {
    const char *url;
    int64_t bytes;
    const char *sha256; /* 64 hexadecimal digits, lower case */
} Remote;

typedef struct Patience {
    int attempts; /* in a row without a new byte */
    double pause; /* seconds before the second attempt */
    long stall;   /* a transfer that brings next to nothing for so many seconds counts as broken */
} Patience;

extern const Patience download_patience; /* what people are served with */

/* Fetches the file to path, which appears complete and checked or not at all. Nothing is printed but
 * progress. False: *why (heap) says why, without a path. */
bool download(const Remote *, const char *path, const Patience *, Progress *, char **why);

#endif
