/* From a finished LLVM module to a shared object: object code, linked by ld, with the trailer of
 * tbc_module.h. */
#include "gen.h"
#include "tool.h"
#include "../runtime/tbc_module.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Writes linked (a whole ELF file) plus its trailer to path. */
static bool write_module(const char *linked, const char *path, Diag *diag) {
    size_t n;
    char *elf = read_file(linked, &n);
    if (!elf) {
        diag_error(diag, path, 0, 0, "cannot read back the linked module: %s", strerror(errno));
        return false;
    }
    tbc_trailer trailer = {.hash = tbc_hash(elf, n), .bytes = n, .magic = "tbc-end"};
    elf = xrealloc(elf, n + sizeof trailer);
    memcpy(elf + n, &trailer, sizeof trailer);
    bool ok = write_file(path, elf, n + sizeof trailer);
    if (!ok) diag_error(diag, path, 0, 0, "cannot write: %s", strerror(errno));
    free(elf);
    return ok;
}

/* Links object code, which stands in the file `object`, into the file `linked`. */
static bool run_linker(const char *object, const char *linked, const char *path, Diag *diag) {
    char *argv[] = {"ld",  "-shared", "--build-id=none",  "-z", "noexecstack",  "-z",
                    "now", "-s",      "--hash-style=gnu", "-o", (char *)linked, (char *)object,
                    NULL};
    Buf said = {0};
    int status = run_tool(argv, &said);
    if (status == -1)
        diag_error(diag, path, 0, 0, "cannot run the linker ld: %s (install binutils)", strerror(errno));
    else if (status)
        diag_error(diag, path, 0, 0, "the linker failed: %.*s", said.n ? (int)strcspn(said.at, "\n") : 0,
                   said.n ? said.at : "");
    buf_free(&said);
    return status == 0;
}

bool gen_link(Gen *g, const char *path, Diag *diag) {
    gen_optimize(g);
    LLVMMemoryBufferRef code = gen_assemble(g, false, diag);
    if (!code) return false;
    Arena *scratch = arena_new();
    char *object = arena_printf(scratch, "%s.%ld.o", path, (long)getpid());
    char *linked = arena_printf(scratch, "%s.%ld.elf", path, (long)getpid());
    bool ok = write_file(object, LLVMGetBufferStart(code), LLVMGetBufferSize(code));
    if (!ok) diag_error(diag, path, 0, 0, "cannot write: %s", strerror(errno));
    LLVMDisposeMemoryBuffer(code);
    ok = ok && run_linker(object, linked, path, diag) && write_module(linked, path, diag);
    unlink(object);
    unlink(linked);
    arena_free(scratch);
    return ok;
}
