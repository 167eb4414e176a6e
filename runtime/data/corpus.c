/* Opening files of token ids and texts, and folders of them. */
#include "corpus.h"
#include "../error.h"
#include "jsonl.h"
#include "npy.h"
#include "../text/token_cache.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

const char *const corpus_endings[] = {".txt", ".jsonl", ".npy", ".bin", NULL};

static bool ends_with(const char *name, const char *ending) {
    size_t n = strlen(name), e = strlen(ending);
    return n > e && strcmp(name + n - e, ending) == 0;
}

static bool outside(const Corpus *c, const char *path, int32_t id, const char *unit, int64_t at) {
    return rt_error(path, "token %d at %s %lld is outside the vocabulary (expected 0 .. %lld)", (int)id, unit,
                    (long long)at, (long long)c->vocab - 1);
}

/* ---- files of ids */

/* A file's ids must not be mixed with another's examples. */
static bool check_kind(Corpus *c, const char *path, bool examples) {
    if (c->ids.n > 0 && c->examples != examples)
        return rt_error(path, examples ? "rows of examples, among files that are not (expected 1-D ids)"
                                       : "no rows of examples, among files that are (expected a 2-D .npy)");
    c->examples = examples;
    return true;
}

static bool append_array(Corpus *c, const char *path, const Npy *array) {
    bool examples = array->rank == 2;
    int64_t cols = c->seq + 1, start = c->ids.n;
    if (!check_kind(c, path, examples)) return false;
    if (examples && array->cols != cols)
        return rt_error(path, "rows of %lld tokens (expected %lld: the module's seq of %lld, plus 1)",
                        (long long)array->cols, (long long)cols, (long long)c->seq);
    if (array->rows == 0) return rt_error(path, "no %s (expected at least one)", examples ? "rows" : "ids");
    stream_append(&c->ids, array->data, array->type, array->rows * (examples ? cols : 1));
    int32_t id;
    int64_t at = stream_find_invalid(&c->ids, start, c->vocab, &id) - start;
    if (at < 0) return true;
    if (!examples) return outside(c, path, id, "position", at);
    return rt_error(path, "token %d at row %lld, column %lld is outside the vocabulary (expected 0 .. %lld)",
                    (int)id, (long long)(at / cols), (long long)(at % cols), (long long)c->vocab - 1);
}

static bool open_npy(Corpus *c, CorpusFile *file) {
    Npy array;
    if (!npy_open(&array, file->path)) return false;
    file->map = array.map;
    c->open_document = false;
    return append_array(c, file->path, &array);
}

static bool open_bin(Corpus *c, CorpusFile *file) {
    if (!file_map(&file->map, file->path)) return false;
    IdType type = c->vocab <= 65536 ? ID_U16 : ID_U32;
    size_t width = id_bytes(type);
    if (file->map.size % width)
        return rt_error(file->path, "%zu bytes are no whole number of %zu-byte ids (truncated?)",
                        file->map.size, width);
    c->open_document = false;
    Npy flat = {.rank = 1, .rows = (int64_t)(file->map.size / width), .type = type, .data = file->map.at};
    return append_array(c, file->path, &flat);
}

/* ---- texts */

/* Between two documents. */
static void append_boundary(Corpus *c) {
    if (tokenizer_is_byte(c->tokenizer))
        stream_append(&c->ids, "\n", ID_U8, 1);
    else if (c->end_of_text >= 0)
        stream_append(&c->ids, &c->end_of_text, ID_I32, 1);
}

static bool is_jsonl(const CorpusFile *file) {
    return ends_with(file->path, ".jsonl");
}

/* The byte tokenizer reads a plain text in place; other ids come from their cache. */
static bool in_place(const Corpus *c, const CorpusFile *file) {
    return tokenizer_is_byte(c->tokenizer) && !is_jsonl(file);
}

static bool append_text(Corpus *c, CorpusFile *file) {
    if (in_place(c, file)) {
        stream_append(&c->ids, file->map.at, ID_U8, (int64_t)file->map.size);
        return true;
    }
    FileMap text = file->map;
    int64_t n;
    file->map = (FileMap){0};
    bool ok = token_cache_open(&file->map, &n, c->tokenizer, file->path, &text,
                               is_jsonl(file) ? tokenize_jsonl : tokenize_text);
    if (ok) stream_append(&c->ids, file->map.at, ID_I32, n);
    file_unmap(&text);
    return ok;
}

static bool open_text(Corpus *c, CorpusFile *file) {
    if (!check_kind(c, file->path, false) || !file_map(&file->map, file->path)) return false;
    if (c->open_document) append_boundary(c);
    c->open_document = true;
    int64_t start = c->ids.n;
    if (!append_text(c, file)) return false;
    if (c->vocab >= tokenizer_vocab(c->tokenizer)) return true;
    int32_t id;
    int64_t at = stream_find_invalid(&c->ids, start, c->vocab, &id) - start;
    if (at < 0) return true;
    return outside(c, file->path, id, in_place(c, file) ? "byte" : "token", at);
}

/* ---- files and folders */

/* Takes over path. */
static bool open_file(Corpus *c, char *path) {
    c->files = rt_realloc(c->files, (c->nfiles + 1) * sizeof *c->files);
    CorpusFile *file = &c->files[c->nfiles++];
    *file = (CorpusFile){.path = path};
    if (ends_with(path, ".npy")) return open_npy(c, file);
    if (ends_with(path, ".bin")) return open_bin(c, file);
    return open_text(c, file);
}

static int counts(const struct dirent *entry) {
    if (entry->d_name[0] == '.') return 0;
    for (const char *const *ending = corpus_endings; *ending; ending++)
        if (ends_with(entry->d_name, *ending)) return 1;
    return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

bool corpus_has_files(const char *folder) {
    DIR *dir = opendir(folder);
    bool found = false;
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));) found = counts(entry);
    if (dir) closedir(dir);
    return found;
}

static bool open_folder(Corpus *c, const char *path) {
    struct dirent **entries;
    int n = scandir(path, &entries, counts, by_name);
    if (n < 0) return rt_error_errno(path, "cannot read the folder");
    bool ok = true;
    for (int i = 0; i < n; i++) {
        char *file = file_join(path, entries[i]->d_name);
        if (ok && !file_is_dir(file))
            ok = open_file(c, file);
        else
            free(file);
        free(entries[i]);
    }
    free(entries);
    return ok;
}

bool corpus_open(Corpus *c, const char *path, const Tokenizer *tokenizer, int64_t seq, int64_t vocab) {
    *c = (Corpus){.seq = seq, .vocab = vocab, .tokenizer = tokenizer};
    c->end_of_text = tokenizer_end_of_text(tokenizer);
    return file_is_dir(path) ? open_folder(c, path) : open_file(c, rt_printf("%s", path));
}

void corpus_close(Corpus *c) {
    for (size_t i = 0; i < c->nfiles; i++) {
        file_unmap(&c->files[i].map);
        free(c->files[i].path);
    }
    free(c->files);
    stream_free(&c->ids);
    *c = (Corpus){0};
}
