/* The runtime's hash for content, which is that of tbc_module.h: whether a file is what it was, and where a key
 * lies in a table. */
#ifndef TBC_RT_HASH_H
#define TBC_RT_HASH_H

#include "../tbc_module.h"

/* The slot of a hash in a table of 2^bits slots, bits > 0. All bits of the hash count. */
static inline size_t hash_slot(uint64_t hash, unsigned bits) {
    hash ^= hash >> 32;
    return (size_t)((hash * 0x9e3779b97f4a7c15u) >> (64 - bits));
}

#endif
