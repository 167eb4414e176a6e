/* Unpacking with libarchive. */
#include "unpack.h"
#include "../error.h"
#include "../files/files.h"
#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>

static bool copy_entry(struct archive *a, const char *path, NewFile *out) {
    const void *block;
    size_t n;
    int64_t offset, at = 0; /* an archive may leave holes; its texts have none */
    int result;
    while ((result = archive_read_data_block(a, &block, &n, &offset)) == ARCHIVE_OK) {
        if (offset != at) return rt_error(path, "a sparse file in the archive");
        at += (int64_t)n;
        if (!newfile_write(out, block, n)) return false;
    }
    return result == ARCHIVE_EOF || rt_error(path, "damaged archive: %s", archive_error_string(a));
}

/* Writes what the archive has of the members to files that are not committed yet. */
static bool extract(struct archive *a, const char *path, const Member *members, size_t n, NewFile *files) {
    struct archive_entry *entry;
    int result;
    while ((result = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
        const char *name = archive_entry_pathname(entry);
        for (size_t i = 0; name && i < n; i++) {
            if (strcmp(name, members[i].name) != 0 || files[i].temp) continue;
            if (!newfile_open(&files[i], members[i].path) || !copy_entry(a, path, &files[i]) ||
                !newfile_close(&files[i]))
                return false;
        }
    }
    if (result != ARCHIVE_EOF) return rt_error(path, "cannot read the archive: %s", archive_error_string(a));
    for (size_t i = 0; i < n; i++)
        if (!files[i].temp) return rt_error(path, "no %s in the archive", members[i].name);
    return true;
}

bool unpack(const char *path, const Member *members, size_t n) {
    struct archive *a = archive_read_new();
    NewFile *files = rt_calloc(n, sizeof *files);
    archive_read_support_filter_all(a);
    archive_read_support_format_all(a);
    bool ok = archive_read_open_filename(a, path, 1 << 16) == ARCHIVE_OK ||
              rt_error(path, "cannot read the archive: %s", archive_error_string(a));
    ok = ok && extract(a, path, members, n, files);
    for (size_t i = 0; ok && i < n; i++) ok = newfile_commit(&files[i]);
    for (size_t i = 0; i < n; i++) newfile_discard(&files[i]);
    archive_read_free(a);
    free(files);
    return ok;
}
