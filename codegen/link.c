/* From a finished LLVM module to files: text, assembly, or a linked shared object with its trailer. */
#include "gen.h"
#include "../runtime/tbc_module.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Runs argv, with what it prints on stderr kept in *said. Returns its exit status, -1 if it cannot be run. */
static int run_tool(char *const argv[], Buf *said) {
    int fd[2];
    if (pipe2(fd, O_CLOEXEC)) return -1;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd[1], STDERR_FILENO);
    pid_t pid;
    int failed = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(fd[1]);
    char chunk[512];
    for (ssize_t n; !failed && ((n = read(fd[0], chunk, sizeof chunk)) > 0 || (n < 0 && errno == EINTR));)
        if (n > 0) buf_add(said, chunk, (size_t)n);
    close(fd[0]);
    int status = 0;
    if (failed) return errno = failed, -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* FNV-1a over 8-byte words, then the bytes that remain: tbc_trailer.hash. */
static uint64_t file_hash(const char *at, size_t n) {
    uint64_t h = FNV_INIT, word;
    for (; n >= sizeof word; at += sizeof word, n -= sizeof word) {
        memcpy(&word, at, sizeof word);
        h = (h ^ word) * 0x100000001b3u;
    }
    return fnv1a(h, at, n);
}

/* Writes linked (a whole ELF file) plus its trailer to path. */
static bool write_module(const char *linked, const char *path, Diag *diag) {
    size_t n;
    char *elf = read_file(linked, &n);
    if (!elf) {
        diag_error(diag, path, 0, 0, "cannot read back the linked module: %s", strerror(errno));
        return false;
    }
    tbc_trailer trailer = {.hash = file_hash(elf, n), .bytes = n, .magic = "tbc-end"};
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
