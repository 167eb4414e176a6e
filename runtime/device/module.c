/* Opening a train.so: from a path that may be anything to a descriptor that can be trusted.
 *
 *   regular file -> ELF for x86-64 -> trailer and hash -> dlopen -> magic, ABI -> CPU features -> meta
 *   -> module_check
 *
 * Nothing of the file is mapped for execution before the trailer's hash has matched, so a truncated or
 * damaged module ends in a message and not in a crash. */
#include "module.h"
#include "../error.h"
#include "../files/files.h"
#include <cjson/cJSON.h>
#include <dlfcn.h>
#include <elf.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool check_file(const char *path, const unsigned char *at, size_t size) {
    Elf64_Ehdr elf;
    tbc_trailer trailer;
    if (size < sizeof elf || memcmp(at, ELFMAG, SELFMAG))
        return rt_error(path, "not a compiled module (make one with: tbc compile SPEC -o OUT.so)");
    memcpy(&elf, at, sizeof elf);
    if (elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_ident[EI_DATA] != ELFDATA2LSB ||
        elf.e_machine != EM_X86_64 || elf.e_type != ET_DYN)
        return rt_error(path, "not a shared object for x86-64");
    if (size < sizeof elf + sizeof trailer) return rt_error(path, "truncated");
    memcpy(&trailer, at + size - sizeof trailer, sizeof trailer);
    if (memcmp(trailer.magic, "tbc-end", sizeof trailer.magic))
        return rt_error(path, "not a tbc module, or truncated: it lacks the trailer");
    if (trailer.bytes != size - sizeof trailer || trailer.hash != tbc_hash(at, size - sizeof trailer))
        return rt_error(path, "damaged: its content does not match its hash (compile it again)");
    return true;
}

/* Is feature one of the words of `flags`, a line of /proc/cpuinfo? */
static bool has_word(const char *flags, const char *feature, size_t n) {
    for (const char *at = flags; (at = strstr(at, feature)); at += n)
        if (at > flags && at[-1] == ' ' && (at[n] == ' ' || at[n] == '\n' || !at[n])) return true;
    return false;
}

/* The kernel's list of features, unlike CPUID, has only those whose registers it saves. */
static bool check_cpu(const char *path, const char *needs) {
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file) return rt_error_errno("/proc/cpuinfo", "cannot tell what this CPU has");
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    while (!found && getline(&line, &room, file) > 0) found = !strncmp(line, "flags", 5);
    fclose(file);
    bool ok = true;
    for (const char *at = needs; ok && *at; at += *at == ',') {
        char feature[32];
        size_t n = strcspn(at, ",");
        if (n >= sizeof feature) n = sizeof feature - 1;
        memcpy(feature, at, n), feature[n] = 0;
        at += strcspn(at, ",");
        if (!found || !has_word(line, feature, n))
            ok = rt_error(path, "needs %s, which this CPU lacks (compile with --cpu for this machine)",
                          feature);
    }
    free(line);
    return ok;
}

/* ---- metadata */

static bool meta_number(const LoadedModule *m, const cJSON *object, const char *key, double min, double max,
                        double *out) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= min && item->valuedouble <= max))
        return rt_error(m->path, "the module's metadata lacks a proper \"%s\"", key);
    *out = item->valuedouble;
    return true;
}

static bool meta_integer(const LoadedModule *m, const cJSON *object, const char *key, int64_t min,
                         int64_t *out) {
    double value = 0;
    if (!meta_number(m, object, key, (double)min, INT32_MAX, &value)) return false;
    if (value != floor(value)) return rt_error(m->path, "\"%s\" in the module's metadata is no integer", key);
    *out = (int64_t)value;
    return true;
}

static bool read_meta(LoadedModule *m, const cJSON *meta) {
    const cJSON *train = cJSON_GetObjectItemCaseSensitive(meta, "train");
    const cJSON *config = cJSON_GetObjectItemCaseSensitive(meta, "config");
    const cJSON *grads = cJSON_GetObjectItemCaseSensitive(meta, "grads");
    if (!cJSON_IsObject(config)) return rt_error(m->path, "the module's metadata lacks \"config\"");
    m->config = cJSON_Print(config);
    m->buffer = cJSON_IsString(grads) && !strcmp(grads->valuestring, "buffer");
    m->bias_correction = !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(train, "bias_correction"));
    return meta_integer(m, meta, "batch", 1, &m->batch) && meta_integer(m, meta, "seq", 1, &m->seq) &&
           meta_integer(m, meta, "vocab", 1, &m->vocab) && meta_integer(m, train, "warmup", 0, &m->warmup) &&
           meta_number(m, train, "lr", 0, 1e3, &m->lr) &&
           meta_number(m, train, "weight_decay", 0, 1e3, &m->weight_decay) &&
           meta_number(m, train, "beta1", 0, 1, &m->beta1) && meta_number(m, train, "beta2", 0, 1, &m->beta2);
}

static bool check_meta(LoadedModule *m) {
    if (!m->desc->meta) return rt_error(m->path, "the module has no metadata");
    cJSON *meta = cJSON_Parse(m->desc->meta);
    bool ok = meta ? read_meta(m, meta) : rt_error(m->path, "the module's metadata is not JSON");
    cJSON_Delete(meta);
    return ok;
}

/* ---- opening */

static bool check_inside(LoadedModule *m) {
    const tbc_module_t *d = m->desc = dlsym(m->handle, "tbc_module");
    if (!d || memcmp(d->magic, TBC_MAGIC, sizeof d->magic)) return rt_error(m->path, "not a tbc module");
    if (d->abi != TBC_ABI || d->bytes != sizeof *d)
        return rt_error(m->path, "made for ABI %u, this tbc-run speaks %u (compile it again)", d->abi,
                        TBC_ABI);
    if (!d->cpu_features) return rt_error(m->path, "the module does not say which CPU it is for");
    return check_cpu(m->path, d->cpu_features) && check_meta(m) && module_check(m);
}

bool module_load(LoadedModule *m, const char *path) {
    *m = (LoadedModule){0};
    FileMap map;
    if (!file_map(&map, path)) return false;
    bool ok = check_file(path, map.at, map.size);
    file_unmap(&map);
    if (!ok) return false;

    m->path = rt_printf("%s", path);
    /* A name without a slash would make dlopen search the library path instead. */
    char *file = strchr(path, '/') ? rt_printf("%s", path) : rt_printf("./%s", path);
    m->handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    free(file);
    if (!m->handle) {
        const char *why = dlerror();
        ok = rt_error(path, "cannot load: %s", why ? why : "unknown reason");
    }
    if (!ok || !check_inside(m)) {
        module_unload(m);
        return false;
    }
    return true;
}

void module_unload(LoadedModule *m) {
    if (m->handle) dlclose(m->handle);
    free(m->path);
    free(m->config);
    *m = (LoadedModule){0};
}

/* ---- finding things */

const tbc_table *module_table(const LoadedModule *m, const char *name) {
    for (uint32_t i = 0; i < m->desc->ntables; i++)
        if (!strcmp(m->desc->tables[i].name, name)) return &m->desc->tables[i];
    return NULL;
}

const tbc_table *module_need(const LoadedModule *m, const char *name) {
    const tbc_table *table = module_table(m, name);
    if (!table) rt_error(m->path, "the module has no table '%s'", name);
    return table;
}

const tbc_tensor *module_tensor(const LoadedModule *m, const tbc_table *table, enum tbc_kind kind,
                                const char *name) {
    int32_t index = table ? (int32_t)(table - m->desc->tables) : -1;
    for (uint32_t i = 0; i < m->desc->ntensors; i++) {
        const tbc_tensor *t = &m->desc->tensors[i];
        if (t->kind == kind && t->table == index && !strcmp(t->name, name)) return t;
    }
    return NULL;
}

const tbc_tensor *module_tensor_at(const LoadedModule *m, const tbc_table *table, uint32_t i, uint64_t offset,
                                   bool after) {
    const tbc_tensor *found = NULL;
    for (uint32_t t = 0; t < m->desc->ntensors; t++) {
        const tbc_tensor *x = &m->desc->tensors[t];
        if (offset < x->offset || offset - x->offset >= x->bytes) continue;
        if (x->table >= 0 && x->table != table - m->desc->tables) continue;
        bool temp = x->kind == TBC_TEMP;
        if (temp && (i > x->live_last || (after ? i < x->live_first : i <= x->live_first))) continue;
        if (!found || temp) found = x;
    }
    return found;
}

static bool trains(const tbc_table *table) {
    static const char *const names[] = {"train", "warmup", "backward", "update"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(table->name, names[i])) return true;
    return false;
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Moments and gradients stand behind all that tables which do not train need. */
uint64_t module_memory(const LoadedModule *m) {
    const tbc_module_t *d = m->desc;
    uint64_t end = 0;
    if (!m->frozen) return d->arena_bytes;
    for (uint32_t i = 0; i < d->nconsts; i++) end = larger(end, d->consts[i].offset + d->consts[i].bytes);
    for (uint32_t i = 0; i < d->ntensors; i++) {
        const tbc_tensor *t = &d->tensors[i];
        bool needed = t->table < 0 ? t->kind != TBC_STATE : !trains(&d->tables[t->table]);
        if (needed) end = larger(end, t->offset + t->bytes);
    }
    return end;
}

int64_t tensor_values(const tbc_tensor *t) {
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

bool tensor_is_moment(const tbc_tensor *t) {
    size_t n = strlen(t->name);
    return t->kind == TBC_STATE && n > 2 && (!strcmp(t->name + n - 2, ".m") || !strcmp(t->name + n - 2, ".v"));
}
