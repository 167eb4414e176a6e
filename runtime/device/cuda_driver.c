/* Loading of the CUDA driver library, and its errors as lines of text. */
#include "cuda_driver.h"
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define NEEDED_VERSION 11080 /* as cuDriverGetVersion counts: CUDA 11.8, the first that reads PTX 7.8 */
#define NEEDED_TEXT    "CUDA 11.8 or newer is needed"

bool cuda_error(const CudaDriver *cu, const char *path, CUresult result, const char *fmt, ...) {
    const char *name = NULL, *meaning = NULL;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (cu->cuGetErrorName(result, &name) || !name) return rt_error(path, "%s: CUDA error %d", text, result);
    if (cu->cuGetErrorString(result, &meaning) || !meaning) return rt_error(path, "%s: %s", text, name);
    return rt_error(path, "%s: %s (%s)", text, name, meaning);
}

static bool find_entry_points(CudaDriver *cu, void *library) {
    static const struct {
        const char *name;
        size_t at;
    } entries[] = {
#define ENTRY(name, parameters) {#name, offsetof(CudaDriver, name)},
        CUDA_ENTRY_POINTS(ENTRY)
#undef ENTRY
    };
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        void *address = dlsym(library, entries[i].name);
        if (!address)
            return rt_error(NULL,
                            "--device cuda: the NVIDIA driver is too old, it lacks %s (" NEEDED_TEXT ")",
                            entries[i].name);
        memcpy((char *)cu + entries[i].at, &address, sizeof address);
    }
    return true;
}

static bool start(const CudaDriver *cu) {
    int version = 0;
    CUresult result = cu->cuInit(0);
    if (result == CUDA_ERROR_NO_DEVICE)
        return cuda_error(cu, NULL, result, "--device cuda: there is no NVIDIA GPU");
    if (result) return cuda_error(cu, NULL, result, "--device cuda: the NVIDIA driver does not start");
    result = cu->cuDriverGetVersion(&version);
    if (result)
        return cuda_error(cu, NULL, result, "--device cuda: the NVIDIA driver does not say its version");
    if (version < NEEDED_VERSION)
        return rt_error(NULL,
                        "--device cuda: the NVIDIA driver is too old, it is for CUDA %d.%d (" NEEDED_TEXT ")",
                        version / 1000, version % 1000 / 10);
    return true;
}

bool cuda_driver_load(CudaDriver *cu) {
    *cu = (CudaDriver){0};
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return rt_error(NULL, "--device cuda: no NVIDIA driver: %s", dlerror());
    return find_entry_points(cu, library) && start(cu);
}
