/* From a checked spec to the IR: one graph a function, in terms of the few ops of ir/ops.def. */
#ifndef TBC_BUILD_H
#define TBC_BUILD_H

#include "../ir/ir.h"
#include "spec.h"

/* Builds train, eval, decode and prefill (runtime/tbc_module.h says what they take and give) and the module's
 * meta. Every node has the location of its statement. NULL after reported errors,
 * also those of spec_load: what can be checked in spite of them is. */
Module *build_module(Spec *);

/* The module's meta: name, batch, seq, vocab, train, config; the compiler adds the rest (main.c).
 * NULL after reported errors in the spec's config template. Memory of the arena (meta.c). */
const char *build_meta(const Spec *, int64_t vocab, Arena *);

/* Sets keys of a module's meta to strings, in the places of those that are there: pairs is key, value, .., NULL. False if the meta is no JSON
 * object (a .tir file may say anything). */
bool meta_set(Module *, const char *const *pairs);

#endif
