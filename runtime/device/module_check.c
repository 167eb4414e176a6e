/* Does a module's descriptor keep the contract of tbc_module.h? Every index within its array, every buffer
 * within the arena, every input and output of the known tables there with the right type and size. What
 * kernels do inside the arena is the compiler's responsibility; it cannot be checked from here. */
#include "../error.h"
#include "module.h"
#include <stdlib.h>
#include <string.h>

static bool broken(const LoadedModule *m, const char *what, uint32_t index) {
    return rt_error(m->path, "inconsistent module: %s %u is out of range (compile it again)", what, index);
}

static bool within(uint64_t offset, uint64_t bytes, uint64_t end) {
    return bytes <= end && offset <= end - bytes;
}

/* ---- launches and constants */

static bool check_code(const LoadedModule *m) {
    const tbc_module_t *d = m->desc;
    for (uint32_t i = 0; i < d->nkernels; i++)
        if (!d->kernels[i].name || d->kernels[i].math >= TBC_MATHS ||
            (d->kernels[i].run == NULL) != (d->gpu != NULL))
            return broken(m, "kernel", i);
    for (uint32_t i = 0; i < d->nlaunches; i++) {
        const tbc_launch *l = &d->launches[i];
        if (l->kernel >= d->nkernels || !within(l->args, l->nargs, d->nargs) || !l->label)
            return broken(m, "launch", i);
    }
    for (uint32_t i = 0; i < d->nargs; i++)
        if (d->args[i] > d->arena_bytes) return broken(m, "argument", i);
    for (uint32_t i = 0; i < d->ntables; i++)
        if (!d->tables[i].name || !within(d->tables[i].first, d->tables[i].count, d->nlaunches))
            return broken(m, "table", i);
    for (uint32_t i = 0; i < d->nconsts; i++)
        if (!d->consts[i].data || !within(d->consts[i].offset, d->consts[i].bytes, d->arena_bytes))
            return broken(m, "constant", i);
    return true;
}

/* ---- tensors */

/* Bytes that a tensor of this type and shape takes, 0 if there is no such tensor. */
static uint64_t tensor_bytes(const tbc_tensor *t) {
    const int64_t most = INT64_C(1) << 48;
    int64_t values = 1;
    if (t->rank > TBC_MAX_RANK) return 0;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (t->dim[i] <= 0 || t->dim[i] > most / values) return 0;
        values *= t->dim[i];
    }
    if (t->dtype == TBC_F32 || t->dtype == TBC_I32) return (uint64_t)values * 4;
    if (t->dtype == TBC_BF16) return (uint64_t)values * 2;
    if (t->dtype != TBC_T2 || t->rank == 0 || t->group == 0) return 0;
    int64_t cols = t->dim[t->rank - 1], rows = values / cols;
    int64_t codes = rows * ((cols + 15) / 16 * 4), groups = (cols + t->group - 1) / t->group;
    return (uint64_t)((codes + 63) / 64 * 64 + rows * groups * 2);
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), e = strlen(end);
    return n > e && !strcmp(text + n - e, end);
}

static bool check_tensor(const LoadedModule *m, uint32_t index) {
    const tbc_module_t *d = m->desc;
    const tbc_tensor *t = &d->tensors[index];
    uint64_t bytes = tensor_bytes(t);
    bool shared = t->kind == TBC_PARAM || t->kind == TBC_STATE || t->kind == TBC_CACHE;
    if (!t->name || t->kind > TBC_CACHE || bytes == 0 || t->bytes < bytes || t->offset % 4 ||
        !within(t->offset, t->bytes, d->arena_bytes))
        return broken(m, "tensor", index);
    bool f32 = t->dtype == TBC_F32 || (t->dtype == TBC_BF16 && tensor_is_moment(t));
    if (shared ? t->table != -1 || !f32 : t->table < -1 || t->table >= (int64_t)d->ntables)
        return broken(m, "tensor", index);
    if (t->kind == TBC_STATE && !tensor_is_moment(t) && !ends_with(t->name, ".grad") && strcmp(t->name, "fault"))
        return rt_error(m->path, "unknown state '%s' (expected NAME.m, NAME.v, NAME.grad or fault)", t->name);
    if (t->kind == TBC_CODES && t->dtype != TBC_T2) return broken(m, "tensor", index);
    return true;
}

static int by_kind_and_name(const void *a, const void *b) {
    const tbc_tensor *x = *(const tbc_tensor *const *)a, *y = *(const tbc_tensor *const *)b;
    return x->kind != y->kind ? (x->kind < y->kind ? -1 : 1) : strcmp(x->name, y->name);
}

/* Parameters and states are saved by name. */
static bool check_names(const LoadedModule *m) {
    const tbc_module_t *d = m->desc;
    const tbc_tensor **shared = rt_calloc(d->ntensors + 1u, sizeof *shared);
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->ntensors; i++)
        if (d->tensors[i].kind <= TBC_STATE) shared[n++] = &d->tensors[i];
    qsort(shared, n, sizeof *shared, by_kind_and_name);
    bool ok = n > 0 || rt_error(m->path, "the module has no parameters");
    for (uint32_t i = 1; ok && i < n; i++)
        if (!by_kind_and_name(&shared[i - 1], &shared[i]))
            ok = rt_error(m->path, "inconsistent module: two tensors '%s'", shared[i]->name);
    free(shared);
    return ok;
}

/* ---- inputs and outputs */

enum Extent { ONE, HYPER, TOKENS, VOCAB, CHUNK }; /* 1, 4, B*S, V, 1 .. S values */

static const struct {
    const char *table, *name;
    enum tbc_kind kind;
    enum tbc_dtype dtype;
    enum Extent extent;
} contract[] = {
    {"train", "tokens", TBC_INPUT, TBC_I32, TOKENS},    {"train", "targets", TBC_INPUT, TBC_I32, TOKENS},
    {"train", "hyper", TBC_INPUT, TBC_F32, HYPER},      {"train", "loss", TBC_OUTPUT, TBC_F32, ONE},
    {"train", "fault", TBC_STATE, TBC_F32, ONE},
    {"warmup", "tokens", TBC_INPUT, TBC_I32, TOKENS},   {"warmup", "targets", TBC_INPUT, TBC_I32, TOKENS},
    {"warmup", "lambda", TBC_INPUT, TBC_F32, ONE},      {"warmup", "hyper", TBC_INPUT, TBC_F32, HYPER},
    {"warmup", "loss", TBC_OUTPUT, TBC_F32, ONE},
    {"backward", "tokens", TBC_INPUT, TBC_I32, TOKENS}, {"backward", "targets", TBC_INPUT, TBC_I32, TOKENS},
    {"backward", "loss", TBC_OUTPUT, TBC_F32, ONE},     {"update", "hyper", TBC_INPUT, TBC_F32, HYPER},
    {"eval", "tokens", TBC_INPUT, TBC_I32, TOKENS},     {"eval", "targets", TBC_INPUT, TBC_I32, TOKENS},
    {"eval", "nll", TBC_OUTPUT, TBC_F32, TOKENS},       {"decode", "tokens", TBC_INPUT, TBC_I32, ONE},
    {"decode", "pos", TBC_INPUT, TBC_I32, ONE},         {"decode", "logits", TBC_OUTPUT, TBC_F32, VOCAB},
    {"prefill", "tokens", TBC_INPUT, TBC_I32, CHUNK},   {"prefill", "pos", TBC_INPUT, TBC_I32, ONE},
};

static bool has_extent(const LoadedModule *m, const tbc_tensor *t, enum Extent extent) {
    const int64_t values[] = {
        [ONE] = 1, [HYPER] = 4, [TOKENS] = m->batch * m->seq, [VOCAB] = m->vocab};
    int64_t n = tensor_values(t);
    return extent == CHUNK ? n >= 1 && n <= m->seq : n == values[extent];
}

static bool check_io(const LoadedModule *m) {
    for (size_t i = 0; i < sizeof contract / sizeof *contract; i++) {
        const tbc_table *table = module_table(m, contract[i].table);
        if (!table || (m->buffer && contract[i].extent == HYPER && strcmp(contract[i].table, "update") != 0))
            continue; /* gradients need no hyper */
        const tbc_tensor *t = module_tensor(m, contract[i].kind == TBC_STATE ? NULL : table, contract[i].kind,
                                            contract[i].name);
        if (!t || t->dtype != contract[i].dtype || !has_extent(m, t, contract[i].extent))
            return rt_error(m->path, "inconsistent module: table '%s' lacks a proper '%s' (compile it again)",
                            contract[i].table, contract[i].name);
    }
    return true;
}

/* Tables that update moments kept as bf16 take a key for rounding them. */
static bool check_keys(const LoadedModule *m) {
    static const char *const tables[] = {"train", "warmup", "update"};
    bool bf16 = false;
    for (uint32_t i = 0; i < m->desc->ntensors; i++)
        bf16 |= m->desc->tensors[i].dtype == TBC_BF16 && tensor_is_moment(&m->desc->tensors[i]);
    for (size_t i = 0; bf16 && i < sizeof tables / sizeof *tables; i++) {
        const tbc_table *table = module_table(m, tables[i]);
        if (!table || !module_tensor(m, table, TBC_INPUT, "hyper")) continue;
        const tbc_tensor *key = module_tensor(m, table, TBC_INPUT, "key");
        if (!key || key->dtype != TBC_I32 || tensor_values(key) != 2)
            return rt_error(m->path, "inconsistent module: table '%s' lacks a proper 'key' (compile it again)",
                            tables[i]);
    }
    return true;
}

/* A module that trains through gradients keeps one for each parameter. */
static bool check_grads(const LoadedModule *m) {
    if (!m->buffer) return true;
    for (uint32_t i = 0; i < m->desc->ntensors; i++) {
        const tbc_tensor *p = &m->desc->tensors[i];
        if (p->kind != TBC_PARAM) continue;
        char *name = rt_printf("%s.grad", p->name);
        const tbc_tensor *grad = module_tensor(m, NULL, TBC_STATE, name);
        free(name);
        if (!grad || tensor_values(grad) != tensor_values(p))
            return rt_error(m->path, "inconsistent module: parameter '%s' lacks a gradient", p->name);
    }
    return true;
}

/* ---- code for a GPU */

static bool check_gpu(const LoadedModule *m) {
    const tbc_gpu *g = m->desc->gpu;
    if (!g) return true;
    if (!g->ptx || !g->sm || (m->desc->nkernels && !g->kernels) || (g->nimages && !g->images))
        return rt_error(m->path, "inconsistent module: a part of its GPU code is missing (compile it again)");
    for (uint32_t i = 0; i < m->desc->nkernels; i++)
        if (!g->kernels[i].threads || g->kernels[i].threads > 1024) return broken(m, "GPU kernel", i);
    for (uint32_t i = 0; i < g->nimages; i++)
        if (!g->images[i].data || !g->images[i].bytes) return broken(m, "GPU image", i);
    return true;
}

bool module_check(const LoadedModule *m) {
    const tbc_module_t *d = m->desc;
    if ((d->nkernels && !d->kernels) || (d->ntensors && !d->tensors) || (d->ntables && !d->tables) ||
        (d->nlaunches && !d->launches) || (d->nargs && !d->args) || (d->nconsts && !d->consts))
        return rt_error(m->path, "inconsistent module: a list is missing (compile it again)");
    if (d->arena_bytes > UINT64_C(1) << 48 || d->scratch_bytes > UINT64_C(1) << 40)
        return rt_error(m->path, "inconsistent module: impossible memory sizes (compile it again)");
    if (!check_code(m) || !check_gpu(m)) return false;
    for (uint32_t i = 0; i < d->ntensors; i++)
        if (!check_tensor(m, i)) return false;
    return check_names(m) && check_io(m) && check_keys(m) && check_grads(m);
}
