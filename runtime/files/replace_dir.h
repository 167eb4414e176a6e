/* A directory that replaces another as a whole: it is written beside it, then the two change places.
 *
 * While a save is under way there is PATH.tbc-new, and where the system cannot exchange two names in one go,
 * for a moment PATH.tbc-old. At any moment PATH, or what dir_recover makes of it, is the old directory or the
 * new one, complete, with the files in it that are not ours; the next newdir_open clears up what a crash
 * left. */
#ifndef TBC_RT_REPLACE_DIR_H
#define TBC_RT_REPLACE_DIR_H

#include <stdbool.h>
#include <stddef.h>

typedef struct NewDir {
    char *path, *temp; /* where it goes, symbolic links followed; where it is written */
    bool replaces;     /* there is something at path */
} NewDir;

/* Names of the files that belong to us in such a directory; everything else in it is the user's, is never
 * deleted, and moves over. */
typedef struct OwnFiles {
    const char *const *names;
    size_t n;
} OwnFiles;

/* Creates the temporary directory. One process at a time may do so for a path. False, without a word, where a
 * directory cannot be replaced: a mount point, the current directory, a parent that cannot be written to. */
bool newdir_open(NewDir *, const char *path, OwnFiles);
/* Puts it in place and takes over what else was there. False, without a word: it cannot be put there, nothing
 * has changed, and the temporary is gone. */
bool newdir_commit(NewDir *, OwnFiles);
void newdir_discard(NewDir *, OwnFiles); /* a zeroed NewDir is allowed */

/* Where path is missing because a crash came between two renames: brings it back. To be called before
 * reading. */
void dir_recover(const char *path);

#endif
