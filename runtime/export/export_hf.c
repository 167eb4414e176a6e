/* --export DIR: config.json, model.safetensors, and the model's companions as they are. */
#include "../error.h"
#include "export.h"
#include "../files/f16.h"
#include "../files/save_dir.h"
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CONFIG, MODEL, NFILES };
static const char *const file_names[NFILES] = {"config.json", "model.safetensors"};

static bool is_latent(const Session *s) {
    return s->options->export_as && !strcmp(s->options->export_as, "latent");
}

/* ---- can it be exported? */

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* What training goes on from is not to be overwritten with what it cannot go on from. */
bool export_hf_check(const Session *s) {
    const char *dir = s->options->export, *weights = s->options->weights;
    char *state = file_join(dir, "state.json"), *model = file_join(dir, file_names[MODEL]);
    bool ok = save_dir_check(dir);
    if (ok && (file_exists(state) || (s->options->save && !strcmp(s->options->save, dir))))
        ok = rt_error(dir, "is a checkpoint (export to another directory)");
    if (ok && weights && (same_file(dir, weights) || same_file(model, weights)))
        ok = rt_error(dir, "holds the weights that are exported (export to another directory)");
    free(state);
    free(model);
    return ok;
}

/* ---- model.safetensors */

/* Can bf16, which is the upper half of f32, hold all scales, and so all code * scale? */
static bool fits_bf16(const Codes *c) {
    for (int64_t row = 0; row < c->rows; row++)
        for (int64_t g = 0; g < c->groups; g++) {
            float scale = f16_to_f32(codes_scale(c, row, g));
            uint32_t bits;
            memcpy(&bits, &scale, sizeof bits);
            if (bits & 0xffff) return false;
        }
    return true;
}

/* One row of code * scale: f32, or its upper halves. */
static void put_row(const Codes *c, int64_t row, bool halves, unsigned char *out) {
    const uint8_t *codes = c->at + row * c->row_bytes;
    for (int64_t j = 0; j < c->cols; j++) {
        float x = (float)code_at(codes, j) * f16_to_f32(codes_scale(c, row, j / c->group));
        const unsigned char *bytes = (const unsigned char *)&x;
        if (halves)
            memcpy(out + 2 * j, bytes + 2, 2);
        else
            memcpy(out + 4 * j, bytes, 4);
    }
}

static bool write_products(NewFile *file, const Codes *c, bool halves) {
    size_t row_bytes = (size_t)c->cols * (halves ? 2 : 4);
    unsigned char *out = rt_calloc(row_bytes, 1);
    bool ok = true;
    for (int64_t row = 0; ok && row < c->rows; row++) {
        put_row(c, row, halves, out);
        ok = newfile_write(file, out, row_bytes);
    }
    free(out);
    return ok;
}

/* Everything that goes into the directory. */
typedef struct Contents {
    const Session *session;
    const Exported *list;
    const NamedTensor *tensors;
    const char **dtypes;
    size_t n;
} Contents;

static bool write_model(NewFile *file, const Contents *c) {
    static const char *const metadata[] = {"format", "pt", NULL};
    bool ok = st_write_header(file, c->tensors, c->dtypes, c->n, metadata);
    for (size_t i = 0; ok && i < c->n; i++) {
        const Exported *e = &c->list[i];
        ok = e->codes.at && !is_latent(c->session)
                 ? write_products(file, &e->codes, !strcmp(c->dtypes[i], "BF16"))
                 : newfile_write(file, e->latent, (size_t)tensor_values(e->param) * sizeof *e->latent);
    }
    return ok;
}

/* ---- the other files */

static bool write_config(NewFile *file, const Session *s) {
    cJSON *config = cJSON_Parse(s->module.config);
    if (!is_latent(s)) {
        cJSON_DeleteItemFromObjectCaseSensitive(config, "quantization_config");
        cJSON_AddNullToObject(config, "quantization_config");
    }
    char *text = cJSON_Print(config);
    bool ok = newfile_write(file, text, strlen(text)) && newfile_write(file, "\n", 1);
    cJSON_free(text);
    cJSON_Delete(config);
    return ok;
}

static bool write_one(NewFile *file, size_t which, const void *contents) {
    const Contents *c = contents;
    if (which == CONFIG) return write_config(file, c->session);
    if (which == MODEL) return write_model(file, c);
    return companions_write(&c->session->companions, which - NFILES, file);
}

bool export_hf(const Session *s, const Exported *list, size_t n) {
    NamedTensor *tensors = rt_calloc(n, sizeof *tensors);
    const char **dtypes = rt_calloc(n, sizeof *dtypes);
    for (size_t i = 0; i < n; i++) {
        const tbc_tensor *t = list[i].param;
        tensors[i] = (NamedTensor){.name = t->name, .rank = t->rank};
        memcpy(tensors[i].dim, t->dim, t->rank * sizeof *t->dim);
        dtypes[i] = list[i].codes.at && !is_latent(s) && fits_bf16(&list[i].codes) ? "BF16" : "F32";
    }
    Contents contents = {s, list, tensors, dtypes, n};
    const char *names[NFILES + MAX_COMPANIONS];
    memcpy(names, file_names, sizeof file_names);
    memcpy(names + NFILES, s->companions.names, s->companions.n * sizeof *names);
    OwnFiles files = {names, NFILES + s->companions.n};
    bool ok = save_dir(s->options->export, files, write_one, &contents);
    free(tensors);
    free(dtypes);
    return ok;
}
