/* Taking single files out of an archive (zip, tar, .. whatever libarchive reads). */
#ifndef TBC_RT_UNPACK_H
#define TBC_RT_UNPACK_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Member {
    const char *name; /* in the archive */
    const char *path; /* the file that it becomes */
} Member;

/* Writes all n members to their paths, or none. Prints an error and returns false on failure: not an archive,
 * damaged, a member missing, no space. */
bool unpack(const char *archive, const Member *, size_t n);

#endif
