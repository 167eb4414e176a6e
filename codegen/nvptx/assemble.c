/* Cubins from PTX, by running ptxas on a temporary file. */
#include "assemble.h"
#include "../tool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the data centre GPUs of today are; all others compile the PTX when they load it. */
static const int architectures[] = {80, 90, 100};

/* The ptxas to run, NULL if there is none. */
static const char *find_ptxas(void) {
    static const char *const known[] = {"ptxas", "/usr/local/cuda/bin/ptxas"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        Buf said = {0};
        char *argv[] = {(char *)known[i], "--version", NULL};
        int status = run_tool(argv, &said);
        buf_free(&said);
        if (status == 0) return known[i];
    }
    return NULL;
}

/* Adds the image for one architecture. What ptxas does not know is left out. */
static bool assemble(const char *ptxas, const char *ptx, const char *cubin, int sm, NvImages *images,
                     const char *path, Diag *diag) {
    char arch[32];
    snprintf(arch, sizeof arch, "-arch=sm_%d", sm);
    char *argv[] = {(char *)ptxas, "-v", arch, (char *)ptx, "-o", (char *)cubin, NULL};
    Buf said = {0};
    int status = run_tool(argv, &said);
    bool unknown = status && said.n && strstr(said.at, "gpu-name"); /* "not defined for option 'gpu-name'" */
    if (status == 0) {
        NvImage image = {.sm = (uint32_t)sm};
        image.data = read_file(cubin, &image.bytes);
        image.said = said;
        if (image.data) return vec_push(images, image), true;
        status = -1;
    }
    if (status == -1)
        diag_error(diag, path, 0, 0, "cannot run ptxas: %s", strerror(errno));
    else if (status && !unknown)
        diag_error(diag, path, 0, 0, "ptxas failed for sm_%d: %.*s", sm,
                   said.n ? (int)strcspn(said.at, "\n") : 0, said.n ? said.at : "");
    buf_free(&said);
    return status == 0 || unknown;
}

bool nv_assemble(const char *ptx, size_t n, int sm, const char *path, NvImages *images, Diag *diag) {
    const char *ptxas = find_ptxas();
    if (!ptxas) return true;
    Arena *scratch = arena_new();
    const char *source = arena_printf(scratch, "%s.%ld.ptx", path, (long)getpid());
    const char *cubin = arena_printf(scratch, "%s.%ld.cubin", path, (long)getpid());
    bool ok = write_file(source, ptx, n);
    if (!ok) diag_error(diag, path, 0, 0, "cannot write: %s", strerror(errno));
    for (size_t i = 0; ok && i < sizeof architectures / sizeof *architectures; i++)
        if (architectures[i] >= sm) ok = assemble(ptxas, source, cubin, architectures[i], images, path, diag);
    unlink(source);
    unlink(cubin);
    arena_free(scratch);
    return ok;
}

void nv_images_free(NvImages *images) {
    for (uint32_t i = 0; i < images->n; i++) free(images->at[i].data), buf_free(&images->at[i].said);
    vec_free(images);
}

/* The number in front of `unit`, on the first line from `at` on that has it, within the next kernel; 0 if
 * none. */
static uint32_t number_before(const char *at, const char *unit) {
    const char *end = strstr(at, "Compiling entry"), *found = strstr(at, unit);
    if (!found || (end && found > end)) return 0;
    while (found > at && found[-1] >= '0' && found[-1] <= '9') found--;
    return (uint32_t)strtoul(found, NULL, 10);
}

/* ptxas -v: Compiling entry function 'NAME' for 'sm_80' .. 0 bytes stack frame, 8 bytes spill stores, 8 bytes
 * spill loads .. Used 40 registers, used 1 barriers, 64 bytes smem, .. */
tbc_gpu_usage nv_usage(const NvImage *image, const char *kernel) {
    Buf quoted = {0};
    buf_printf(&quoted, "entry function '%s'", kernel);
    const char *at = image->said.n ? strstr(image->said.at, quoted.at) : NULL;
    if (at) at += quoted.n;
    buf_free(&quoted);
    if (!at) return (tbc_gpu_usage){0};
    return (tbc_gpu_usage){.registers = number_before(at, " registers"),
                           .shared_bytes = number_before(at, " bytes smem"),
                           .spill_bytes = number_before(at, " bytes spill stores") +
                                          number_before(at, " bytes spill loads")};
}
