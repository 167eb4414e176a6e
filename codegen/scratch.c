/* How much scratch memory a module's kernels need, before any of them is generated. */
#include "lower.h"

uint64_t codegen_scratch(const Module *m, const Target *t) {
    Arena *arena = arena_new();
    Lowered lowered;
    lower_module(m, t, arena, &lowered);
    uint64_t bytes = lowered.scratch_bytes;
    lowered_free(&lowered);
    arena_free(arena);
    return bytes;
}
