/* Files as the runtime needs them: read-only maps, and replacements that appear whole or not at all.
 *
 * A map stays valid while the file is not truncated by somebody else. */
#ifndef TBC_RT_FILES_H
#define TBC_RT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct FileMap {
    const unsigned char *at; /* never NULL once mapped; not terminated */
    size_t size;
    void *mapping; /* what file_unmap returns to the system; NULL for an empty file */
} FileMap;

/* Maps a regular file. On failure prints an error and returns false; map is then zeroed. */
bool file_map(FileMap *map, const char *path);
void file_unmap(FileMap *map); /* a zeroed map is allowed */
/* A part of a map that has been read: its pages leave the process's memory, and come back when they are read again. */
void file_forget(const void *at, size_t size);

bool file_is_dir(const char *path);
bool file_exists(const char *path);                 /* anything but a directory */
char *file_join(const char *dir, const char *name); /* heap: DIR/NAME */
char *file_beside(const char *path, const char *name); /* heap: NAME in the directory `path`, or beside that file */
char *data_home(void); /* heap: $TBC_DATA_HOME, else ~/.cache/tbc: where named things are looked for */
bool make_dirs(const char *path); /* with its parents, as far as they are missing; false: see errno */

/* A file being written beside its final place, as PATH.tmp. Protocol: open; write; close (flushes to
 * disk); commit (renames). Each prints an error and returns false on failure, with the temporary removed
 * then. discard removes the temporary at any point before commit; after commit it does nothing. */
typedef struct NewFile {
    char *path, *temp;
    FILE *file; /* NULL once closed */
} NewFile;
bool newfile_open(NewFile *, const char *path);
bool newfile_write(NewFile *, const void *bytes, size_t n);
bool newfile_close(NewFile *);
bool newfile_commit(NewFile *);
void newfile_discard(NewFile *); /* a zeroed NewFile is allowed */

#endif
