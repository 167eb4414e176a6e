/* Replacing directories: renameat2 with RENAME_EXCHANGE, or two renames where a file system lacks it. */
#include "replace_dir.h"
#include "../error.h"
#include "files.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names */

/* PATH as an absolute one without symbolic links, so that what a link points to is replaced and not the link.
 * The last component need not exist. NULL: its parent does not. */
static char *resolve(const char *path) {
    char *real = realpath(path, NULL);
    if (real || errno != ENOENT) return real;
    char *for_dir = rt_printf("%s", path), *for_base = rt_printf("%s", path);
    char *parent = realpath(dirname(for_dir), NULL);
    if (parent) real = file_join(parent, basename(for_base));
    free(for_dir), free(for_base), free(parent);
    return real;
}

static char *temp_name(const char *real) {
    return rt_printf("%s.tbc-new", real);
}

static char *old_name(const char *real) {
    return rt_printf("%s.tbc-old", real);
}

static bool is_own(const char *name, OwnFiles own) {
    for (size_t i = 0; i < own.n; i++) {
        size_t length = strlen(own.names[i]);
        if (!strncmp(name, own.names[i], length) && (!name[length] || !strcmp(name + length, ".tmp")))
            return true;
    }
    return false;
}

static void sync_dir(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* ---- what is in a directory */

typedef void EntryVisitor(const char *at, const char *there, bool own);

/* Visits every entry `at` of `from`, beside its place in `to`. */
static void each_entry(const char *from, const char *to, OwnFiles own, EntryVisitor *visit) {
    DIR *dir = opendir(from);
    if (!dir) return;
    for (const struct dirent *entry; (entry = readdir(dir));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        char *at = file_join(from, entry->d_name), *there = file_join(to, entry->d_name);
        visit(at, there, is_own(entry->d_name, own));
        free(at), free(there);
    }
    closedir(dir);
}

/* So that files of the user are there from the first moment on. Where that cannot be (directories, file
 * systems without hard links), they are moved later. */
static void link_entry(const char *at, const char *there, bool own) {
    if (!own) (void)!link(at, there);
}

static void dissolve_entry(const char *at, const char *there, bool own) {
    struct stat here, other;
    bool taken = lstat(there, &other) == 0;
    if (own || (taken && lstat(at, &here) == 0 && same_file(&here, &other)))
        unlink(at);
    else if (!taken)
        rename(at, there);
}

/* Deletes what is ours in `from`, moves the rest to `to`, and removes the directory. What `to` has as another
 * file of the same name stays in `from`, and so does then `from`. */
static void dissolve(const char *from, const char *to, OwnFiles own) {
    each_entry(from, to, own, dissolve_entry);
    rmdir(from);
}

static void recover(const char *real) {
    char *old = old_name(real);
    if (!file_is_dir(real)) rename(old, real);
    free(old);
}

static void settle(const char *real, OwnFiles own) {
    char *temp = temp_name(real), *old = old_name(real);
    recover(real);
    dissolve(temp, real, own);
    dissolve(old, real, own);
    free(temp), free(old);
}

void dir_recover(const char *path) {
    char *real = resolve(path);
    if (real) recover(real);
    free(real);
}

/* ---- the new directory */

/* Renaming the current directory would take it away from under the shell; a mount point cannot be renamed. */
static bool can_be_renamed(const char *real) {
    struct stat dir, current, parent;
    char *up = file_join(real, "..");
    bool ok = stat(real, &dir) == 0 && stat(".", &current) == 0 && stat(up, &parent) == 0 &&
              !same_file(&dir, &current) && dir.st_dev == parent.st_dev;
    free(up);
    return ok;
}

bool newdir_open(NewDir *new, const char *path, OwnFiles own) {
    *new = (NewDir){.path = resolve(path)};
    if (!new->path) return false;
    settle(new->path, own);
    struct stat old;
    new->replaces = stat(new->path, &old) == 0;
    new->temp = temp_name(new->path);
    if ((new->replaces && !can_be_renamed(new->path)) || mkdir(new->temp, 0777) != 0) {
        free(new->path), free(new->temp);
        *new = (NewDir){0};
        return false;
    }
    if (new->replaces) chmod(new->temp, old.st_mode & 07777);
    return true;
}

/* Afterwards path is the new directory. Returns the name of the old one, heap; NULL: nothing has changed. */
static char *swap(const NewDir *new) {
    if (renameat2(AT_FDCWD, new->temp, AT_FDCWD, new->path, RENAME_EXCHANGE) == 0)
        return rt_printf("%s", new->temp);
    if (errno != EINVAL && errno != ENOSYS) return NULL;
    char *old = old_name(new->path);
    if (rename(new->path, old) == 0) {
        if (rename(new->temp, new->path) == 0) return old;
        rename(old, new->path);
    }
    free(old);
    return NULL;
}

bool newdir_commit(NewDir *new, OwnFiles own) {
    if (new->replaces) each_entry(new->path, new->temp, own, link_entry);
    sync_dir(new->temp);
    char *old = new->replaces ? swap(new) : NULL;
    bool ok = new->replaces ? old != NULL : rename(new->temp, new->path) == 0;
    if (ok) {
        char *up = file_join(new->path, "..");
        sync_dir(up);
        free(up);
        free(new->temp);
        new->temp = NULL;
    }
    if (old) dissolve(old, new->path, own);
    free(old);
    newdir_discard(new, own);
    return ok;
}

void newdir_discard(NewDir *new, OwnFiles own) {
    if (new->temp) dissolve(new->temp, new->path, own);
    free(new->path), free(new->temp);
    *new = (NewDir){0};
}
