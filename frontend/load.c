/* From a spec's name to one JSON tree: where files are found, `extends`, Hugging Face's config.json. */
#include "spec.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_EXTENDS 16

enum { MODEL_DIRS = 3 };

typedef struct Chain {
    const struct Chain *from; /* the file that extends this one */
    dev_t dev;
    ino_t ino;
    uint32_t length;
} Chain;

static bool exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

/* The models of the installation that this program is part of, wherever that was moved to: it lies in
 * PREFIX/bin. NULL: it is run from where it was built. */
static const char *installed_models(Sources *src) {
    static const char bin[] = "/" TBC_BIN_DIR "/";
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) return NULL;
    exe[n] = 0;
    size_t folder = (size_t)(strrchr(exe, '/') + 1 - exe), tail = sizeof bin - 1;
    if (folder < tail || memcmp(exe + folder - tail, bin, tail) != 0) return NULL;
    return arena_printf(src->arena, "%.*s/" TBC_DATA_DIR "/tbc/models", (int)(folder - tail), exe);
}

/* Where specs are looked for: beside this program, in the source tree that it was built from, and where an
 * installation would be; so an uninstalled compiler does not take an older one's specs. NULL: no such place. */
static void model_dirs(Sources *src, const char *dirs[MODEL_DIRS]) {
    dirs[0] = installed_models(src);
    dirs[1] = TBC_SOURCE_MODELS_DIR;
    dirs[2] = TBC_MODELS_DIR;
}

static const char *find_model(Sources *src, const char *name) {
    const char *dirs[MODEL_DIRS];
    model_dirs(src, dirs);
    for (size_t i = 0; i < MODEL_DIRS; i++) {
        const char *path = dirs[i] ? arena_printf(src->arena, "%s/%s", dirs[i], name) : NULL;
        if (path && exists(path)) return path;
    }
    return NULL;
}

/* For messages: where specs would be. */
static const char *models_here(Sources *src) {
    const char *installed = installed_models(src);
    return installed ? installed : TBC_SOURCE_MODELS_DIR;
}

/* A spec named on the command line: the path as it stands if nothing better is found, for the message. */
static const char *find_spec(Sources *src, const char *name) {
    if (strchr(name, '/') || exists(name)) return name;
    const char *model = find_model(src, name);
    return model ? model : name;
}

/* A spec named by `extends` in file `from`. */
static const char *find_base(Sources *src, const char *name, const char *from) {
    const char *slash = strrchr(from, '/');
    const char *beside = name;
    if (slash && name[0] != '/')
        beside = arena_printf(src->arena, "%.*s/%s", (int)(slash - from), from, name);
    return exists(beside) ? beside : strchr(name, '/') ? beside : find_spec(src, name);
}

static const Json *load_file(Sources *, const char *path, const Chain *from);

static const Json *load_base(Sources *src, const Json *root, const Json *name, const Chain *chain,
                             bool built_in) {
    if (!json_is(src, name, JSON_STRING)) return NULL;
    const char *from = src->files.at[root->loc.file];
    const char *path = built_in ? find_model(src, name->string) : find_base(src, name->string, from);
    if (!path) {
        json_error(src, root, "the built-in spec %s is not installed (%s)", name->string, models_here(src));
        return NULL;
    }
    struct stat st;
    if (stat(path, &st) != 0) {
        json_error(src, name, "cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    for (const Chain *c = chain; c; c = c->from) {
        if (c->dev == st.st_dev && c->ino == st.st_ino) {
            json_error(src, name, "%s extends itself", path);
            return NULL;
        }
    }
    if (chain->length >= MAX_EXTENDS) {
        json_error(src, name, "a chain of more than %d specs", MAX_EXTENDS);
        return NULL;
    }
    return load_file(src, path, chain);
}

static const Json *load_file(Sources *src, const char *path, const Chain *from) {
    const Json *root = json_load(src, path);
    if (!root || !json_is(src, root, JSON_OBJECT)) return NULL;
    if (!json_get(root, "tbc_spec") && !json_get(root, "extends") && !json_get(root, "model_type")) {
        json_error(src, root,
                   "not a model spec (the key 'tbc_spec', 'extends' or 'model_type' was expected)");
        return NULL;
    }
    bool hugging_face = json_get(root, "model_type") && !json_get(root, "tbc_spec");
    if (hugging_face && !(root = hf_spec(src, root))) return NULL;
    const Json *extends = json_get(root, "extends");
    if (!extends) return root;
    struct stat st = {0};
    stat(path, &st); /* it was read a moment ago */
    Chain chain = {from, st.st_dev, st.st_ino, from ? from->length + 1 : 1};
    const Json *base = load_base(src, root, extends, &chain, hugging_face);
    return base ? json_merge(src, base, root) : NULL;
}

const Json *load_tree(Sources *src, const char *name) {
    const char *path = find_spec(src, name);
    if (!strchr(path, '/') && !exists(path)) {
        diag_error(src->diag, path, 0, 0, "there is no such file here, nor in %s", models_here(src));
        return NULL;
    }
    return load_file(src, path, NULL);
}
