/* train TRAIN.so: trains a compiled model for three steps on one batch, in one thread, and prints the losses.
 *
 *     cc train.c -o train $(pkg-config --cflags --libs tbc) -lm */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tbc_module.h>

static const tbc_module_t *m;
static char *arena, *scratch;

/* The tensor of that kind and name; table NULL: shared by all tables. */
static void *tensor(const tbc_table *table, enum tbc_kind kind, const char *name) {
    for (uint32_t i = 0; i < m->ntensors; i++) {
        const tbc_tensor *t = &m->tensors[i];
        int32_t of = table ? (int32_t)(table - m->tables) : -1;
        if (t->kind == kind && t->table == of && !strcmp(t->name, name)) return arena + t->offset;
    }
    fprintf(stderr, "the module has no %s\n", name);
    exit(1);
}

static const tbc_table *find_table(const char *name) {
    for (uint32_t i = 0; i < m->ntables; i++)
        if (!strcmp(m->tables[i].name, name)) return &m->tables[i];
    return NULL;
}

static void load(const char *path) {
    void *handle = dlopen(path, RTLD_NOW);
    m = handle ? dlsym(handle, "tbc_module") : NULL;
    if (!m || memcmp(m->magic, TBC_MAGIC, sizeof m->magic) || m->abi != TBC_ABI || m->gpu) {
        fprintf(stderr, "%s: %s\n", path, handle ? "not a module of this version for the CPU" : dlerror());
        exit(1);
    }
    arena = aligned_alloc(64, (m->arena_bytes + 63) / 64 * 64);
    scratch = aligned_alloc(64, m->scratch_bytes / 64 * 64 + 64);
    if (!arena || !scratch) exit(1);
    memset(arena, 0, m->arena_bytes);
    for (uint32_t i = 0; i < m->nconsts; i++)
        memcpy(arena + m->consts[i].offset, m->consts[i].data, m->consts[i].bytes);
}

/* Norms 1, matrices uniform with the variance 1 / fan-in. A real program loads a checkpoint here. */
static void fill_weights(void) {
    for (uint32_t i = 0; i < m->ntensors; i++) {
        const tbc_tensor *t = &m->tensors[i];
        float *w = (float *)(arena + t->offset);
        for (uint64_t j = 0; t->kind == TBC_PARAM && j < t->bytes / sizeof *w; j++)
            w[j] = t->rank < 2 ? 1 : (float)((2.0 * rand() / RAND_MAX - 1) * sqrt(3.0 / (double)t->dim[t->rank - 1]));
    }
}

static void run(const tbc_table *table) {
    for (uint32_t i = 0; i < table->count; i++) {
        const tbc_launch *l = &m->launches[table->first + i];
        for (uint64_t tile = 0; tile < l->tiles; tile++) /* in any order, on any thread */
            m->kernels[l->kernel].run(arena, m->args + l->args, tile, scratch);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: train ./TRAIN.so\n"), 2;
    load(argv[1]);
    fill_weights();
    const tbc_table *train = find_table("train"), *project = find_table("project");
    if (!train) return fprintf(stderr, "the module has no table train (compile with --grads fused)\n"), 1;
    if (project) run(project); /* the codes of these weights */
    int32_t *tokens = tensor(train, TBC_INPUT, "tokens"), *targets = tensor(train, TBC_INPUT, "targets");
    float *hyper = tensor(train, TBC_INPUT, "hyper"), *loss = tensor(train, TBC_OUTPUT, "loss");
    uint64_t count = 0;
    for (uint32_t i = 0; i < m->ntensors; i++)
        if ((char *)tokens == arena + m->tensors[i].offset && m->tensors[i].kind == TBC_INPUT) count = m->tensors[i].bytes / 4;

    const double lr = 1e-3, decay = 0.01, beta1 = 0.9, beta2 = 0.95;
    for (int step = 1; step <= 3; step++) {
        for (uint64_t i = 0; i < count; i++) { /* inputs, before every run */
            tokens[i] = (int32_t)(i * i % 61);
            targets[i] = (int32_t)((i + 1) * (i + 1) % 61);
        }
        hyper[0] = (float)(1 - lr * decay);
        hyper[1] = (float)(lr / (1 - pow(beta1, step)));
        hyper[2] = (float)(1 / (1 - pow(beta2, step)));
        hyper[3] = 1;
        run(train);
        printf("step %d: loss %.4f\n", step, (double)*loss);
    }
    return 0;
}
