/* Finding and fetching data sets by name. */
#include "datasets.h"
#include "../error.h"
#include "../files/files.h"
#include "unpack.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MEMBERS = 3, URLS = 2 };

static const char *const file_names[MEMBERS] = {"train.txt", "valid.txt", "test.txt"};

static const KnownDataset known[] = {
#define DATASET(name, title, bytes, sha256, train, valid, test, ...)                                         \
    {#name, title, bytes, sha256, {train, valid, test}, {__VA_ARGS__}},
#include "datasets.def"
#undef DATASET
};
enum { KNOWN = sizeof known / sizeof *known };

/* ---- fetching */

static bool dir_ready(const char *path) {
    return make_dirs(path) || rt_error_errno(path, "cannot make the directory");
}

/* What is tried in turn: the mirror, or else the public addresses. Heap strings; NULL: no more. */
static void list_urls(const KnownDataset *set, char *urls[URLS]) {
    const char *mirror = getenv("TBC_DATA_URL"), *archive = strrchr(set->url[0], '/') + 1;
    memset(urls, 0, URLS * sizeof *urls);
    if (mirror && *mirror) {
        urls[0] = file_join(mirror, archive);
        return;
    }
    for (int i = 0; i < URLS && set->url[i]; i++) urls[i] = rt_printf("%s", set->url[i]);
}

/* Downloads to path from the first address that has the file. */
static bool download_any(const KnownDataset *set, const char *path, const char *home,
                         const Patience *patience, bool quiet) {
    Progress progress = progress_start(quiet);
    char *urls[URLS], *reasons = rt_printf("%s", "");
    bool ok = false;
    list_urls(set, urls);
    for (int i = 0; i < URLS && urls[i] && !ok; i++) {
        char *why, *before = reasons;
        ok = download(&(Remote){urls[i], set->bytes, set->sha256}, path, patience, &progress, &why);
        if (ok) break;
        reasons = rt_printf("%s%s%s: %s", before, *before ? "; " : "", urls[i], why);
        free(before), free(why);
    }
    if (!ok)
        rt_error(set->name,
                 "cannot be downloaded: %s (put train.txt and valid.txt into %s/%s, or set TBC_DATA_URL to a "
                 "mirror)",
                 reasons, home, set->name);
    for (int i = 0; i < URLS; i++) free(urls[i]);
    free(reasons);
    return ok;
}

/* Unpacks beside the final place, then renames the directory. */
static bool unpack_to(const KnownDataset *set, const char *archive, const char *dir) {
    char *temp = rt_printf("%s.tmp", dir);
    Member members[MEMBERS];
    char *paths[MEMBERS];
    for (int i = 0; i < MEMBERS; i++) {
        paths[i] = file_join(temp, file_names[i]);
        members[i] = (Member){set->member[i], paths[i]};
    }
    bool ok = dir_ready(temp) && unpack(archive, members, MEMBERS);
    if (ok && rename(temp, dir) != 0) ok = rt_error_errno(dir, "cannot rename %s to this", temp);
    for (int i = 0; i < MEMBERS; i++) {
        if (!ok) unlink(paths[i]);
        free(paths[i]);
    }
    if (!ok) rmdir(temp);
    free(temp);
    return ok;
}

bool dataset_fetch(const KnownDataset *set, const char *home, const Patience *patience, bool quiet) {
    char *dir = file_join(home, set->name), *archive = file_join(home, strrchr(set->url[0], '/') + 1);
    bool ok = dir_ready(home) && download_any(set, archive, home, patience, quiet);
    if (ok) {
        ok = unpack_to(set, archive, dir);
        unlink(archive);
    }
    if (ok && !quiet) fprintf(stderr, "%s: %s, unpacked into %s\n", set->name, set->title, dir);
    free(dir), free(archive);
    return ok;
}

/* ---- finding */

static const KnownDataset *find_known(const char *name) {
    for (int i = 0; i < KNOWN; i++)
        if (!strcmp(known[i].name, name)) return &known[i];
    return NULL;
}

static bool unknown(const char *name, const char *dir) {
    char *names = rt_printf("%s", known[0].name);
    for (int i = 1; i < KNOWN; i++) {
        char *before = names;
        names = rt_printf("%s, %s", before, known[i].name);
        free(before);
    }
    rt_error(name,
             "no such file, and no data set of this name (put train.txt and valid.txt into %s, or set "
             "TBC_DATA_HOME; known names: %s)",
             dir, names);
    free(names);
    return false;
}

char *dataset_locate(const char *spec, bool quiet) {
    if (file_is_dir(spec) || file_exists(spec)) return rt_printf("%s", spec);
    if (!*spec || strchr(spec, '/')) {
        rt_error(spec, "no such file or directory");
        return NULL;
    }
    const KnownDataset *set = find_known(spec);
    char *home = data_home(), *dir = file_join(home, spec);
    bool ok =
        file_is_dir(dir) || (set ? dataset_fetch(set, home, &download_patience, quiet) : unknown(spec, dir));
    free(home);
    if (ok) return dir;
    free(dir);
    return NULL;
}
