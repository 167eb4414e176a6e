/* embed TRAIN.so STEPS: what it takes to run a train.so without tbc-run. Sets up the memory that the module
 * describes, gives it small weights and one batch, runs the training step some times, and prints the losses.
 */
#include "../runtime/tbc_module.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run_table(const tbc_module_t *m, const char *name, char *arena, char *scratch) {
    for (uint32_t i = 0; i < m->ntables; i++)
        for (uint32_t j = 0; !strcmp(m->tables[i].name, name) && j < m->tables[i].count; j++) {
            const tbc_launch *l = &m->launches[m->tables[i].first + j];
            for (uint64_t tile = 0; tile < l->tiles; tile++)
                m->kernels[l->kernel].run(arena, m->args + l->args, tile, scratch);
        }
}

int main(int argc, char **argv) {
    void *handle = argc == 3 ? dlopen(argv[1], RTLD_NOW) : NULL;
    const tbc_module_t *m = handle ? dlsym(handle, "tbc_module") : NULL;
    if (!m || memcmp(m->magic, TBC_MAGIC, sizeof m->magic) || m->abi != TBC_ABI || m->gpu) return 1;

    char *arena = aligned_alloc(64, (m->arena_bytes + 63) / 64 * 64);
    char *scratch = aligned_alloc(64, m->scratch_bytes / 64 * 64 + 64);
    memset(arena, 0, m->arena_bytes);
    for (uint32_t i = 0; i < m->nconsts; i++)
        memcpy(arena + m->consts[i].offset, m->consts[i].data, m->consts[i].bytes);
    for (uint32_t i = 0; i < m->ntensors; i++) { /* norms 1, matrices random */
        const tbc_tensor *t = &m->tensors[i];
        for (uint64_t j = 0; t->kind == TBC_PARAM && j < t->bytes / 4; j++)
            ((float *)(arena + t->offset))[j] = t->rank == 1 ? 1 : (float)(rand() % 201 - 100) / 1000;
    }
    run_table(m, "project", arena, scratch); /* the codes of these weights */
    for (int step = 0; step < atoi(argv[2]); step++) {
        const float hyper[4] = {1, 0.001f, 1, 1}, *loss = NULL;
        for (uint32_t i = 0; i < m->ntensors; i++) { /* inputs, before every run */
            const tbc_tensor *t = &m->tensors[i];
            if (t->table < 0 || strcmp(m->tables[t->table].name, "train")) continue;
            if (!strcmp(t->name, "hyper")) memcpy(arena + t->offset, hyper, sizeof hyper);
            if (!strcmp(t->name, "loss")) loss = (float *)(arena + t->offset);
            for (uint64_t j = 0; t->dtype == TBC_I32 && t->kind == TBC_INPUT && j < t->bytes / 4; j++)
                ((int32_t *)(arena + t->offset))[j] = (int32_t)(j * j % 97);
        }
        run_table(m, "train", arena, scratch);
        printf("%.6f\n", (double)*loss);
    }
    return 0;
}
