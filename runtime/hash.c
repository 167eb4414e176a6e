/* FNV-1a by words. */
#include "hash.h"
#include <string.h>

uint64_t hash_bytes(const void *bytes, size_t n) {
    const unsigned char *at = bytes;
    uint64_t hash = 0xcbf29ce484222325u, word;
    for (; n >= sizeof word; at += sizeof word, n -= sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = (hash ^ word) * 0x100000001b3u;
    }
    for (; n; at++, n--) hash = (hash ^ *at) * 0x100000001b3u;
    return hash;
}
