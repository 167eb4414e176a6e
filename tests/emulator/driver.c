/* The device, errors. One device; its settings are read from the environment by cuInit. */
#include "driver.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool initialised;

API cuInit(unsigned flags) {
    if (flags) return INVALID_VALUE;
    if (initialised) return OK;
    settings_read();
    if (!mem_open(settings.memory) || !race_open(settings.memory)) return OUT_OF_MEMORY;
    initialised = true;
    return OK;
}
API cuDriverGetVersion(int *v) {
    if (!v) return INVALID_VALUE;
    *v = 13000;
    return OK;
}

/* ---- the device ---- */
int device_ok(CUdevice d) {
    return !initialised ? NOT_INITIALIZED : d ? INVALID_DEVICE : OK;
}

API cuDeviceGetCount(int *n) {
    if (!n) return INVALID_VALUE;
    *n = 1;
    return initialised ? OK : NOT_INITIALIZED;
}
API cuDeviceGet(CUdevice *d, int ordinal) {
    if (!d) return INVALID_VALUE;
    *d = 0;
    return device_ok(ordinal);
}
API cuDeviceGetName(char *name, int size, CUdevice d) {
    if (!name || size < 1) return INVALID_VALUE;
    snprintf(name, (size_t)size, "tbc emulated device (sm_%u)", settings.sm);
    return device_ok(d);
}
API cuDeviceTotalMem_v2(size_t *bytes, CUdevice d) {
    if (!bytes) return INVALID_VALUE;
    *bytes = settings.memory;
    return device_ok(d);
}
API cuDeviceGetUuid_v2(char *uuid, CUdevice d) {
    if (!uuid) return INVALID_VALUE;
    memcpy(uuid, "tbc-emulated-gpu", 16);
    return device_ok(d);
}
API cuDeviceGetUuid(char *uuid, CUdevice d) {
    return cuDeviceGetUuid_v2(uuid, d);
}
API cuDeviceComputeCapability(int *major, int *minor, CUdevice d) {
    if (!major || !minor) return INVALID_VALUE;
    *major = (int)settings.sm / 10, *minor = (int)settings.sm % 10;
    return device_ok(d);
}
API cuDeviceGetAttribute(int *out, int attribute, CUdevice d) {
    static const struct {
        int attribute, value;
    } fixed[] = {{1, 1024},     {2, 1024},     {3, 1024},     {4, 64},        {5, 0x7fffffff},  {6, 65535},
                 {7, 65535},    {8, 48 << 10}, {9, 64 << 10}, {10, 32},       {11, 0x7fffffff}, {12, 65536},
                 {13, 1410000}, {14, 512},     {15, 1},       {16, 108},      {17, 0},          {18, 0},
                 {19, 1},       {20, 0},       {31, 1},       {32, 0},        {33, 0},          {34, 0},
                 {35, 0},       {36, 1215000}, {37, 5120},    {38, 40 << 20}, {39, 2048},       {40, 3},
                 {41, 1},       {50, 0},       {78, 1},       {79, 1},        {80, 1},          {81, 0},
                 {82, 65536},   {83, 0},       {84, 0},       {85, 0},        {86, 1},          {87, 2},
                 {88, 0},       {89, 0},       {90, 0},       {91, 0},        {95, 1},          {96, 1},
                 {101, 0},      {106, 32},     {109, 0},      {111, 1024},    {115, 0},         {120, 0}};
    int r = device_ok(d);
    if (r) return r;
    if (!out) return INVALID_VALUE;
    u32 shared = settings.sm == 80                        ? 164 << 10
                 : settings.sm >= 90 && settings.sm < 120 ? 228 << 10
                                                          : 100 << 10;
    if (attribute == 75)
        *out = (int)settings.sm / 10;
    else if (attribute == 76)
        *out = (int)settings.sm % 10;
    else if (attribute == 81)
        *out = (int)shared;
    else if (attribute == 97)
        *out = (int)shared - 1024;
    else {
        for (u32 k = 0; k < sizeof fixed / sizeof *fixed; k++)
            if (fixed[k].attribute == attribute) {
                *out = fixed[k].value;
                return OK;
            }
        if (attribute < 1 || attribute > 150) return INVALID_VALUE;
        *out = 0;
    }
    return OK;
}
API cuDeviceCanAccessPeer(int *can, CUdevice a, CUdevice b) {
    if (!can) return INVALID_VALUE;
    *can = 0;
    return device_ok(a) ? device_ok(a) : device_ok(b);
}
API cuDeviceGetPCIBusId(char *id, int size, CUdevice d) {
    if (!id || size < 13) return INVALID_VALUE;
    snprintf(id, (size_t)size, "0000:00:00.0");
    return device_ok(d);
}

/* ---- errors ---- */
static const struct {
    int code;
    const char *name, *text;
} errors[] = {
    {OK, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {DEINITIALIZED, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain."},
    {FILE_NOT_FOUND, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ERR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {ERR_TIMEOUT, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {ERR_ASSERT, "CUDA_ERROR_ASSERT", "device-side assert triggered"},
    {HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
     "part or all of the requested memory range is already mapped"},
    {HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
     "pointer does not correspond to a registered memory region"},
    {ERR_ILLEGAL_INSTRUCTION, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"},
    {ERR_MISALIGNED, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {ERR_ADDRESS_SPACE, "CUDA_ERROR_INVALID_ADDRESS_SPACE",
     "operation not supported on global/shared address space"},
    {ERR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {COOPERATIVE_TOO_LARGE, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE",
     "too many blocks in cooperative launch"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CONTEXT_IS_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
     "capture was not ended in the same stream as it began"},
    {CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};
static int find_error(int code) {
    for (u32 k = 0; k < sizeof errors / sizeof *errors; k++)
        if (errors[k].code == code) return (int)k;
    return -1;
}
API cuGetErrorName(int code, const char **out) {
    int k = find_error(code);
    if (!out) return INVALID_VALUE;
    *out = k < 0 ? NULL : errors[k].name;
    return k < 0 ? INVALID_VALUE : OK;
}
API cuGetErrorString(int code, const char **out) {
    int k = find_error(code);
    if (!out) return INVALID_VALUE;
    *out = k < 0 ? NULL : errors[k].text;
    return k < 0 ? INVALID_VALUE : OK;
}

/* "cuMemAlloc" is cuMemAlloc_v2, and so on: the newest form of before CUDA 13. */
API cuGetProcAddress_v2(const char *name, void **out, int version, u64 flags, int *status) {
    (void)version, (void)flags;
    if (!name || !out) return INVALID_VALUE;
    char text[128];
    Dl_info self;
    *out = NULL;
    if (dladdr((void *)(uintptr_t)cuInit, &self)) {
        void *lib = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
        for (int v = 2; lib && v >= 1 && !*out; v--) {
            snprintf(text, sizeof text, v == 2 ? "%s_v2" : "%s", name);
            if (v == 2 && !strcmp(name, "cuEventElapsedTime")) continue;
            *out = dlsym(lib, text);
        }
        if (lib) dlclose(lib);
    }
    if (status) *status = *out ? 0 : 1;
    return *out ? OK : NOT_FOUND;
}
API cuGetProcAddress(const char *name, void **out, int version, u64 flags) {
    return cuGetProcAddress_v2(name, out, version, flags, NULL);
}
API cuProfilerStart(void) {
    return ready();
}
API cuProfilerStop(void) {
    return ready();
}
