/* Files beside a model, found and copied. */
#include "companions.h"
#include <stdlib.h>

/* Beside a tokenizer.json, as Transformers writes them. */
static const char *const beside_tokenizer[] = {
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja"};

static bool add(Companions *c, const char *name, const char *path) {
    c->names[c->n] = name;
    return file_map(&c->maps[c->n++], path);
}

static bool add_beside(Companions *c, const char *name, const char *path) {
    char *at = file_beside(path, name);
    bool ok = !file_exists(at) || add(c, name, at);
    free(at);
    return ok;
}

bool companions_open(Companions *c, const Tokenizer *tokenizer, const char *model) {
    const char *path = tokenizer_path(tokenizer);
    bool ok = !path || add(c, "tokenizer.json", path);
    for (size_t i = 0; ok && path && i < sizeof beside_tokenizer / sizeof *beside_tokenizer; i++)
        ok = add_beside(c, beside_tokenizer[i], path);
    return ok && (!model || add_beside(c, GENERATION_CONFIG, model));
}

void companions_close(Companions *c) {
    for (size_t i = 0; i < c->n; i++) file_unmap(&c->maps[i]);
    *c = (Companions){0};
}

bool companions_write(const Companions *c, size_t i, NewFile *file) {
    return newfile_write(file, c->maps[i].at, c->maps[i].size);
}
