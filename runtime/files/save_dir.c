/* Saving several files into a directory at once. */
#include "save_dir.h"
#include "../error.h"
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool save_dir_check(const char *dir) {
    if (file_exists(dir)) return rt_error(dir, "cannot save here: not a directory");
    char *copy = rt_printf("%s", dir);
    const char *writable = file_is_dir(dir) ? dir : dirname(copy);
    bool ok = access(writable, W_OK | X_OK) == 0 || rt_error_errno(dir, "cannot save here");
    free(copy);
    return ok;
}

/* Writes all, then renames all; on failure no temporary is left. */
static bool write_all(const char *dir, OwnFiles own, SaveFile *write, const void *context) {
    NewFile *files = rt_calloc(own.n, sizeof *files);
    bool ok = true;
    for (size_t i = 0; ok && i < own.n; i++) {
        char *path = file_join(dir, own.names[i]);
        ok = newfile_open(&files[i], path) && write(&files[i], i, context) && newfile_close(&files[i]);
        free(path);
    }
    for (size_t i = 0; ok && i < own.n; i++) ok = newfile_commit(&files[i]);
    for (size_t i = 0; i < own.n; i++) newfile_discard(&files[i]);
    free(files);
    return ok;
}

/* Into a directory that is there or can be made, beside the files that it has already. */
static bool save_in_place(const char *dir, OwnFiles own, SaveFile *write, const void *context) {
    bool created = mkdir(dir, 0777) == 0;
    if (!created && errno != EEXIST) return rt_error_errno(dir, "cannot create this directory");
    bool ok = write_all(dir, own, write, context);
    if (!ok && created) rmdir(dir);
    return ok;
}

/* A directory in the place of a file could not be replaced: to be noticed before anything is. */
static bool check_place(const char *dir, OwnFiles own) {
    if (file_exists(dir)) return rt_error(dir, "cannot save here: not a directory");
    bool ok = true;
    for (size_t i = 0; ok && i < own.n; i++) {
        char *path = file_join(dir, own.names[i]);
        if (file_is_dir(path)) ok = rt_error(path, "cannot replace: not a regular file");
        free(path);
    }
    return ok;
}

bool save_dir(const char *dir, OwnFiles own, SaveFile *write, const void *context) {
    if (!check_place(dir, own)) return false;
    NewDir new;
    if (!newdir_open(&new, dir, own)) return save_in_place(dir, own, write, context);
    if (!write_all(new.temp, own, write, context)) {
        newdir_discard(&new, own);
        return false;
    }
    return newdir_commit(&new, own) || save_in_place(dir, own, write, context);
}
