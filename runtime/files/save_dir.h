/* A set of files that appears in a directory as a whole or not at all. */
#ifndef TBC_RT_SAVE_DIR_H
#define TBC_RT_SAVE_DIR_H

#include "files.h"
#include "replace_dir.h"

/* Writes the file names[which]; on failure prints an error and returns false. */
typedef bool SaveFile(NewFile *, size_t which, const void *context);

/* Can files be saved to dir? To be asked before a long run. Creates nothing. Prints an error if not. */
bool save_dir_check(const char *dir);

/* Saves the files, each written by write(.., context). dir is created when missing (its parent must be
 * there); other files in it are kept. All of them are written and flushed into DIR.tbc-new, which then
 * changes places with DIR; where DIR cannot be renamed (a mount point, the current directory) they are
 * replaced one after the other, each whole. False: an error was printed. */
bool save_dir(const char *dir, OwnFiles, SaveFile *write, const void *context);

#endif
