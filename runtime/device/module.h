/* A train.so, opened: checked from the outside (file, trailer, hash), mapped, checked from the inside
 * (every index and offset of tbc_module.h), and its metadata read. After module_load has returned true, the
 * rest of the runtime follows the descriptor without checking anything again. */
#ifndef TBC_RT_MODULE_H
#define TBC_RT_MODULE_H

#include "../tbc_module.h"
#include <stdbool.h>

typedef struct LoadedModule {
    const tbc_module_t *desc;
    char *path;
    void *handle; /* dlopen's */
    int64_t batch, seq, vocab;
    char *config; /* the model's config.json, as text */
    bool buffer;  /* gradients go through NAME.grad: tables backward and update instead of train */
    bool bias_correction;
    double lr, weight_decay, beta1, beta2;
    int64_t warmup;
    bool frozen; /* its user's promise: no table that updates or makes gradients will run; at first false */
} LoadedModule;

/* Opens path. False: an error was printed and there is nothing to unload. */
bool module_load(LoadedModule *, const char *path);
void module_unload(LoadedModule *);

/* The table of that name; NULL: the module has none. */
const tbc_table *module_table(const LoadedModule *, const char *name);
/* The same, but having none is an error, which is printed. */
const tbc_table *module_need(const LoadedModule *, const char *name);
/* The tensor of that kind and name; table NULL: shared by all. NULL: there is none. The inputs and outputs
 * that tbc_module.h lists for a table are always there. */
const tbc_tensor *module_tensor(const LoadedModule *, const tbc_table *, enum tbc_kind, const char *name);

/* What the module lists at an offset of the arena before (or after) launch i of a table, counted from the table's
 * first. A temporary is there from the launch that makes it to the last one that reads it; one that is built on
 * the memory of another takes over at launch i. NULL: nothing. */
const tbc_tensor *module_tensor_at(const LoadedModule *, const tbc_table *, uint32_t i, uint64_t offset, bool after);

/* How many bytes of the arena, from its beginning on, are ever touched: all of them, or of a frozen module those
 * that other tables than those of training need. */
uint64_t module_memory(const LoadedModule *);

int64_t tensor_values(const tbc_tensor *); /* number of elements */
bool tensor_is_moment(const tbc_tensor *);

/* Checks a descriptor against itself and the contract (module_check.c). False: an error was printed. */
bool module_check(const LoadedModule *);

#endif
