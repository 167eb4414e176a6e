/* Mapped files, and files that replace others whole. */
#include "files.h"
#include "../error.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool file_map(FileMap *map, const char *path) {
    *map = (FileMap){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not to hang on a pipe */
    if (fd < 0) return rt_error_errno(path, "cannot open");
    struct stat info;
    bool ok = fstat(fd, &info) == 0 || rt_error_errno(path, "cannot stat");
    if (ok && !S_ISREG(info.st_mode)) ok = rt_error(path, "not a regular file");
    if (ok) {
        map->at = (const unsigned char *)"";
        map->size = (size_t)info.st_size;
    }
    if (ok && map->size) {
        void *mapping = mmap(NULL, map->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (mapping == MAP_FAILED) {
            ok = rt_error_errno(path, "cannot map");
            *map = (FileMap){0};
        } else {
            map->at = map->mapping = mapping;
        }
    }
    close(fd);
    return ok;
}

void file_unmap(FileMap *map) {
    if (map->mapping) munmap(map->mapping, map->size);
    *map = (FileMap){0};
}

void file_forget(const void *at, size_t size) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)at + page - 1) / page * page, to = ((uintptr_t)at + size) / page * page;
    if (from < to) madvise((void *)from, to - from, MADV_DONTNEED); /* else the memory is freed with the map */
}

bool file_is_dir(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && !S_ISDIR(info.st_mode);
}

char *file_join(const char *dir, const char *name) {
    size_t n = strlen(dir);
    return rt_printf("%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
}

char *file_beside(const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    if (file_is_dir(path)) return file_join(path, name);
    return rt_printf("%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, name);
}

char *data_home(void) {
    const char *data = getenv("TBC_DATA_HOME"), *home = getenv("HOME");
    return data && *data ? rt_printf("%s", data) : rt_printf("%s/.cache/tbc", home ? home : "");
}

bool make_dirs(const char *path) {
    char *part = rt_printf("%s", path);
    for (char *slash = part; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        if (slash > part) mkdir(part, 0777);
    }
    bool made = mkdir(part, 0777) == 0 || file_is_dir(part);
    free(part);
    return made;
}

bool newfile_open(NewFile *new, const char *path) {
    *new = (NewFile){0};
    /* rename() would replace a device or fail on a directory only after all the writing */
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return rt_error(path, "cannot replace: not a regular file");
    char *temp = rt_printf("%s.tmp", path);
    FILE *file = fopen(temp, "wbe");
    if (!file) {
        rt_error_errno(temp, "cannot create");
        free(temp);
        return false;
    }
    *new = (NewFile){rt_printf("%s", path), temp, file};
    return true;
}

void newfile_discard(NewFile *new) {
    if (new->file) fclose(new->file);
    if (new->temp) unlink(new->temp);
    free(new->temp);
    free(new->path);
    *new = (NewFile){0};
}

/* Reports a failed write with errno as it is now and takes the temporary away. */
static bool write_failed(NewFile *new) {
    rt_error_errno(new->path, "cannot write");
    newfile_discard(new);
    return false;
}

bool newfile_write(NewFile *new, const void *bytes, size_t n) {
    return n == 0 || fwrite(bytes, 1, n, new->file) == n || write_failed(new);
}

bool newfile_close(NewFile *new) {
    /* some file systems cannot fsync and say EINVAL: their files are as safe as they get */
    if (fflush(new->file) != 0 || (fsync(fileno(new->file)) != 0 && errno != EINVAL))
        return write_failed(new);
    FILE *file = new->file;
    new->file = NULL;
    return fclose(file) == 0 || write_failed(new);
}

bool newfile_commit(NewFile *new) {
    if (rename(new->temp, new->path) != 0) return write_failed(new);
    free(new->temp);
    new->temp = NULL;
    newfile_discard(new);
    return true;
}
