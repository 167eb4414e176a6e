/* Reader and writer of safetensors files. */
#include "safetensors.h"
#include "../error.h"
#include "f16.h"
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HEADER 100000000u /* as in the reference implementation */

typedef struct Shard {
    char *path;
    FileMap map;
    cJSON *header; /* owns the names */
} Shard;

struct SafeTensors {
    Shard *shards;
    size_t nshards;
    StTensor *tensors;
    size_t n, cap;
};

static const struct {
    const char *name;
    unsigned bytes;
} dtypes[] = {{"F32", 4}, {"BF16", 2}, {"F16", 2}, {"F64", 8},     {"BOOL", 1},
              {"U8", 1},  {"I8", 1},   {"U16", 2}, {"I16", 2},     {"U32", 4},
              {"I32", 4}, {"U64", 8},  {"I64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

int64_t tensor_count(uint32_t rank, const int64_t *dim) {
    int64_t n = 1;
    for (uint32_t i = 0; i < rank; i++) n *= dim[i];
    return n;
}

/* A JSON number that is an integer in 0 .. 2^53. */
static bool get_integer(const cJSON *item, int64_t *out) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 0x1p53)) return false;
    *out = (int64_t)item->valuedouble;
    return (double)*out == item->valuedouble;
}

static bool read_dtype(const Shard *s, const cJSON *item, StTensor *t, unsigned *bytes) {
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "dtype"));
    if (!name) return rt_error(s->path, "%s: no dtype (like \"F32\")", t->name);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            t->dtype = dtypes[i].name;
            *bytes = dtypes[i].bytes;
            return true;
        }
    return rt_error(s->path, "%s: unknown dtype %s (like F32, BF16 or F16)", t->name, name);
}

static bool read_shape(const Shard *s, const cJSON *item, StTensor *t) {
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape"), *d;
    if (!cJSON_IsArray(shape)) return rt_error(s->path, "%s: no shape (an array of integers)", t->name);
    cJSON_ArrayForEach(d, shape) {
        if (t->rank == ST_MAX_RANK)
            return rt_error(s->path, "%s: more than %d dimensions", t->name, ST_MAX_RANK);
        if (!get_integer(d, &t->dim[t->rank++]))
            return rt_error(s->path, "%s: a dimension is not a non-negative integer", t->name);
    }
    return true;
}

/* data_offsets [begin, end): within the data, and as long as dtype and shape say. */
static bool read_extent(const Shard *s, const cJSON *item, StTensor *t, unsigned element, size_t data_at) {
    const cJSON *pair = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    int64_t begin, end, bytes = element;
    if (!cJSON_IsArray(pair) || cJSON_GetArraySize(pair) != 2 || !get_integer(pair->child, &begin) ||
        !get_integer(pair->child->next, &end) || begin > end)
        return rt_error(s->path, "%s: bad data_offsets (expected [begin, end])", t->name);
    if ((size_t)end > s->map.size - data_at)
        return rt_error(s->path, "%s: its data end at byte %lld, after the %zu bytes of data (truncated?)",
                        t->name, (long long)end, s->map.size - data_at);
    for (uint32_t i = 0; i < t->rank; i++)
        if (__builtin_mul_overflow(bytes, t->dim[i], &bytes))
            return rt_error(s->path, "%s: the shape overflows", t->name);
    if (bytes != end - begin)
        return rt_error(s->path, "%s: %lld bytes of data (its shape needs %lld)", t->name,
                        (long long)(end - begin), (long long)bytes);
    t->data = s->map.at + data_at + begin;
    t->bytes = (size_t)bytes;
    return true;
}

static bool read_entry(SafeTensors *st, const Shard *s, const cJSON *item, size_t data_at) {
    StTensor t = {.name = item->string, .file = s->path};
    unsigned element = 0;
    if (!cJSON_IsObject(item))
        return rt_error(s->path, "%s: not an object (dtype, shape, data_offsets)", t.name);
    if (!read_dtype(s, item, &t, &element) || !read_shape(s, item, &t) ||
        !read_extent(s, item, &t, element, data_at))
        return false;
    if (st->n == st->cap) {
        st->cap = st->cap ? 2 * st->cap : 64;
        st->tensors = rt_realloc(st->tensors, st->cap * sizeof *st->tensors);
    }
    st->tensors[st->n++] = t;
    return true;
}

static int by_place(const void *a, const void *b) {
    const StTensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The tensors of a file, in the order of their data, must follow each other from its start to its end. */
static bool check_coverage(const Shard *s, StTensor *tensors, size_t n, size_t data_at) {
    if (n) qsort(tensors, n, sizeof *tensors, by_place);
    const unsigned char *at = s->map.at + data_at, *end = s->map.at + s->map.size;
    for (size_t i = 0; i < n; at += tensors[i++].bytes)
        if (tensors[i].data != at)
            return rt_error(s->path, "%s: its data %s (expected at byte %zu)", tensors[i].name,
                            tensors[i].data < at ? "overlap another tensor's" : "follow a hole",
                            (size_t)(at - s->map.at) - data_at);
    if (at != end)
        return rt_error(s->path, "%zu bytes after the last tensor (expected none)", (size_t)(end - at));
    return true;
}

/* Checks the length field and parses the JSON; *data_at is where the data begin. */
static bool parse_header(Shard *s, size_t *data_at) {
    uint64_t n = 0;
    if (s->map.size < 8) return rt_error(s->path, "%zu bytes: not a safetensors file", s->map.size);
    memcpy(&n, s->map.at, 8);
    if (n > MAX_HEADER)
        return rt_error(s->path, "a header of %llu bytes: not a safetensors file", (unsigned long long)n);
    if (n > s->map.size - 8) return rt_error(s->path, "the file ends inside its header (truncated?)");
    if (n < 2 || s->map.at[8] != '{') return rt_error(s->path, "the header is not a JSON object");
    *data_at = 8 + (size_t)n;
    const char *text = (const char *)s->map.at + 8, *end = NULL;
    s->header = cJSON_ParseWithLengthOpts(text, (size_t)n, &end, false);
    if (!s->header) return rt_error(s->path, "the header is not valid JSON");
    for (; end < text + n; end++)
        if (!memchr(" \t\r\n", *end, 4)) return rt_error(s->path, "text after the JSON header");
    return true;
}

static bool check_metadata(const Shard *s, const cJSON *metadata) {
    const cJSON *item;
    if (!cJSON_IsObject(metadata)) return rt_error(s->path, "__metadata__ is not an object");
    cJSON_ArrayForEach(item, metadata) {
        if (!cJSON_IsString(item)) return rt_error(s->path, "__metadata__: %s is not a string", item->string);
    }
    return true;
}

/* Takes over path. */
static bool open_shard(SafeTensors *st, char *path) {
    st->shards = rt_realloc(st->shards, (st->nshards + 1) * sizeof *st->shards);
    Shard *s = &st->shards[st->nshards++];
    *s = (Shard){.path = path};
    size_t data_at = 0, first = st->n;
    if (!file_map(&s->map, path) || !parse_header(s, &data_at)) return false;
    const cJSON *item;
    cJSON_ArrayForEach(item, s->header) {
        bool meta = strcmp(item->string, "__metadata__") == 0;
        if (meta ? !check_metadata(s, item) : !read_entry(st, s, item, data_at)) return false;
    }
    return check_coverage(s, st->tensors + first, st->n - first, data_at);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const StTensor *)a)->name, ((const StTensor *)b)->name);
}

static bool sort_names(SafeTensors *st) {
    if (st->n) qsort(st->tensors, st->n, sizeof *st->tensors, by_name);
    for (size_t i = 1; i < st->n; i++)
        if (by_name(&st->tensors[i - 1], &st->tensors[i]) == 0)
            return rt_error(st->tensors[i].file, "%s: twice in the checkpoint", st->tensors[i].name);
    return true;
}

/* Opens every shard that the index names, once. */
static bool open_listed(SafeTensors *st, const char *dir, const char *index, const cJSON *map) {
    const cJSON *item;
    cJSON_ArrayForEach(item, map) {
        const char *name = cJSON_GetStringValue(item);
        if (!name || !*name || strchr(name, '/'))
            return rt_error(index, "weight_map: %s: not the name of a file in this directory", item->string);
        char *path = file_join(dir, name);
        bool known = false;
        for (size_t i = 0; i < st->nshards && !known; i++) known = strcmp(st->shards[i].path, path) == 0;
        if (known)
            free(path);
        else if (!open_shard(st, path))
            return false;
    }
    if (!sort_names(st)) return false;
    cJSON_ArrayForEach(item, map) {
        const StTensor *t = st_find(st, item->string);
        if (!t || strcmp(strrchr(t->file, '/') + 1, item->valuestring) != 0)
            return rt_error(index, "%s is not in %s", item->string, item->valuestring);
    }
    return true;
}

static bool open_index(SafeTensors *st, const char *dir, const char *index) {
    FileMap map;
    if (!file_map(&map, index)) return false;
    cJSON *json = cJSON_ParseWithLength((const char *)map.at, map.size);
    const cJSON *weights = cJSON_GetObjectItemCaseSensitive(json, "weight_map");
    bool ok = cJSON_IsObject(weights)
                  ? open_listed(st, dir, index, weights)
                  : rt_error(index, "no weight_map (expected JSON {\"weight_map\": {NAME: FILE, ..}})");
    cJSON_Delete(json);
    file_unmap(&map);
    return ok;
}

static bool open_dir(SafeTensors *st, const char *dir) {
    char *single = file_join(dir, "model.safetensors"),
         *index = file_join(dir, "model.safetensors.index.json");
    bool ok;
    if (file_exists(single)) {
        ok = open_shard(st, rt_printf("%s", single)) && sort_names(st);
    } else if (file_exists(index)) {
        ok = open_index(st, dir, index);
    } else {
        ok = rt_error(dir, "no weights here (expected model.safetensors or model.safetensors.index.json)");
    }
    free(single);
    free(index);
    return ok;
}

SafeTensors *st_open(const char *path) {
    SafeTensors *st = rt_calloc(1, sizeof *st);
    if (file_is_dir(path) ? open_dir(st, path) : open_shard(st, rt_printf("%s", path)) && sort_names(st))
        return st;
    st_close(st);
    return NULL;
}

void st_close(SafeTensors *st) {
    if (!st) return;
    for (size_t i = 0; i < st->nshards; i++) {
        cJSON_Delete(st->shards[i].header);
        file_unmap(&st->shards[i].map);
        free(st->shards[i].path);
    }
    free(st->shards);
    free(st->tensors);
    free(st);
}

size_t st_count(const SafeTensors *st) {
    return st->n;
}
const StTensor *st_at(const SafeTensors *st, size_t i) {
    return &st->tensors[i];
}

const StTensor *st_find(const SafeTensors *st, const char *name) {
    StTensor key = {.name = name};
    return st->n ? bsearch(&key, st->tensors, st->n, sizeof key, by_name) : NULL;
}

const char *st_metadata(const SafeTensors *st, const char *key) {
    for (size_t i = 0; i < st->nshards; i++) {
        const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(st->shards[i].header, "__metadata__");
        const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(metadata, key));
        if (value) return value;
    }
    return NULL;
}

bool st_read_f32(const StTensor *t, float *out) {
    int64_t n = tensor_count(t->rank, t->dim);
    if (strcmp(t->dtype, "F32") == 0) {
        if (n) memcpy(out, t->data, t->bytes);
    } else if (strcmp(t->dtype, "BF16") == 0 || strcmp(t->dtype, "F16") == 0) {
        bool brain = *t->dtype == 'B';
        for (int64_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, t->data + 2 * i, 2);
            out[i] = brain ? f32_of_bits((uint32_t)h << 16) : f16_to_f32(h);
        }
    } else if (strcmp(t->dtype, "F64") == 0) {
        for (int64_t i = 0; i < n; i++) {
            double x;
            memcpy(&x, t->data + 8 * i, 8);
            out[i] = (float)x;
        }
    } else {
        return rt_error(t->file, "%s: dtype %s (expected F32, F16, BF16 or F64)", t->name, t->dtype);
    }
    file_forget(t->data, t->bytes);
    return true;
}

bool st_read_bf16(const StTensor *t, uint16_t *out) {
    int64_t n = tensor_count(t->rank, t->dim);
    if (strcmp(t->dtype, "BF16") == 0) {
        if (n) memcpy(out, t->data, t->bytes);
        file_forget(t->data, t->bytes);
        return true;
    }
    float *wide = rt_calloc((size_t)n, sizeof *wide);
    bool ok = st_read_f32(t, wide);
    for (int64_t i = 0; ok && i < n; i++) out[i] = bf16_from_f32(wide[i]);
    free(wide);
    return ok;
}

float tensor_value(const NamedTensor *t, int64_t i) {
    return t->bf16 ? f32_of_bits((uint32_t)t->bf16[i] << 16) : t->data[i];
}

static unsigned dtype_bytes(const char *name) {
    size_t i = 0;
    while (strcmp(name, dtypes[i].name) != 0) i++;
    return dtypes[i].bytes;
}

/* The header's JSON text, heap. cJSON prints integers exactly up to 1e15: a petabyte. */
static char *header_text(const NamedTensor *tensors, const char *const *types, size_t n,
                         const char *const *metadata) {
    cJSON *header = cJSON_CreateObject();
    if (metadata) {
        cJSON *object = cJSON_AddObjectToObject(header, "__metadata__");
        for (; *metadata; metadata += 2) cJSON_AddStringToObject(object, metadata[0], metadata[1]);
    }
    int64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const char *type = types ? types[i] : tensors[i].bf16 ? "BF16" : "F32";
        cJSON *entry = cJSON_AddObjectToObject(header, tensors[i].name);
        cJSON_AddStringToObject(entry, "dtype", type);
        cJSON *shape = cJSON_AddArrayToObject(entry, "shape");
        for (uint32_t d = 0; d < tensors[i].rank; d++)
            cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)tensors[i].dim[d]));
        cJSON *pair = cJSON_AddArrayToObject(entry, "data_offsets");
        cJSON_AddItemToArray(pair, cJSON_CreateNumber((double)at));
        at += tensor_count(tensors[i].rank, tensors[i].dim) * (int64_t)dtype_bytes(type);
        cJSON_AddItemToArray(pair, cJSON_CreateNumber((double)at));
    }
    char *text = cJSON_PrintUnformatted(header);
    cJSON_Delete(header);
    return text;
}

bool st_write_header(NewFile *file, const NamedTensor *tensors, const char *const *types, size_t n,
                     const char *const *metadata) {
    char *text = header_text(tensors, types, n, metadata);
    if (!text) return rt_error(file->path, "out of memory for the header");
    /* spaces after the JSON align the data to 8 bytes */
    uint64_t used = strlen(text), padded = (used + 7) / 8 * 8;
    bool ok = newfile_write(file, &padded, 8) && newfile_write(file, text, used) &&
              newfile_write(file, "       ", padded - used);
    free(text);
    return ok;
}

bool st_write(NewFile *file, const NamedTensor *tensors, size_t n, const char *const *metadata) {
    bool ok = st_write_header(file, tensors, NULL, n, metadata);
    for (size_t i = 0; ok && i < n; i++) {
        size_t count = (size_t)tensor_count(tensors[i].rank, tensors[i].dim);
        ok = tensors[i].bf16 ? newfile_write(file, tensors[i].bf16, count * sizeof(uint16_t))
                             : newfile_write(file, tensors[i].data, count * sizeof(float));
    }
    return ok;
}
