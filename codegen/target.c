/* The CPU or GPU to generate for: instruction-set level, register tile, cache sizes.
 *
 * Code uses a level (x86-64-v3 or -v4) and no more, and is only tuned for the named CPU, so that what a
 * module needs of a CPU can be said in one short list. */
#include "gen.h"
#include <llvm-c/Target.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRIPLE_X86 "x86_64-pc-linux-gnu"

typedef struct Level {
    const char *name, *needs, *llvm_features; /* what LLVMGetHostCPUFeatures must list */
    int vl, mr, nr;
} Level;

/* The register tile leaves room for one row of B and a broadcast: 6x16 takes 12 of 16 registers for the
 * sums, 14x32 takes 28 of 32. */
static const Level levels[] = {
    {"x86-64-v3", "avx2,bmi1,bmi2,f16c,fma,abm,movbe", "+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe", 8, 6, 16},
    {"x86-64-v4", "avx2,bmi1,bmi2,f16c,fma,abm,movbe,avx512f,avx512bw,avx512cd,avx512dq,avx512vl",
     "+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl", 16, 14,
     32},
};

/* LLVM's C interface cannot say which features a named CPU has, so the names stand here. */
static const char *const v3_cpus[] = {"x86-64-v3",  "haswell",      "broadwell", "skylake",
                                      "znver1",     "znver2",       "znver3",    "alderlake",
                                      "raptorlake", "meteorlake",   "arrowlake", "lunarlake",
                                      "gracemont",  "sierraforest", "core-avx2", NULL};
static const char *const v4_cpus[] = {
    "x86-64-v4",      "skylake-avx512", "cascadelake", "cooperlake", "cannonlake",
    "icelake-client", "icelake-server", "tigerlake",   "rocketlake", "sapphirerapids",
    "emeraldrapids",  "graniterapids",  "znver4",      "znver5",     NULL};

static bool listed(const char *const *names, const char *name) {
    for (; *names; names++)
        if (strcmp(*names, name) == 0) return true;
    return false;
}

/* Does the comma-separated list have every item of `wanted`? */
static bool has_all(const char *list, const char *wanted) {
    while (*wanted) {
        size_t n = strcspn(wanted, ",");
        const char *p = list;
        while (*p && !(strncmp(p, wanted, n) == 0 && (p[n] == ',' || p[n] == 0))) {
            p += strcspn(p, ",");
            p += *p == ',';
        }
        if (!*p) return false;
        wanted += n + (wanted[n] == ',');
    }
    return true;
}

static const Level *host_level(void) {
    char *features = LLVMGetHostCPUFeatures();
    const Level *best = NULL;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (has_all(features, levels[i].llvm_features)) best = &levels[i];
    LLVMDisposeMessage(features);
    return best;
}

static int64_t cache_size(int which, int64_t otherwise) {
    long n = sysconf(which);
    return n > 0 ? n : otherwise;
}

bool target_init(Target *t, const char *cpu, Arena *arena, Diag *diag) {
    const Level *level;
    if (cpu) {
        if (!listed(v3_cpus, cpu) && !listed(v4_cpus, cpu)) {
            diag_error(
                diag, NULL, 0, 0,
                "--cpu %s: not a known x86-64 CPU with AVX2 (like x86-64-v3, x86-64-v4, haswell, znver4)",
                cpu);
            return false;
        }
        level = &levels[listed(v4_cpus, cpu)];
    } else {
        char *host = LLVMGetHostCPUName();
        cpu = arena_strdup(arena, host);
        LLVMDisposeMessage(host);
        level = host_level();
        if (!level) {
            diag_error(diag, NULL, 0, 0,
                       "this CPU (%s) lacks AVX2, FMA or F16C (give --cpu to compile for another one)", cpu);
            return false;
        }
    }
    *t = (Target){.triple = TRIPLE_X86,
                  .cpu = cpu,
                  .level = level->name,
                  .features = "",
                  .needs = level->needs,
                  .vl = level->vl,
                  .mr = level->mr,
                  .nr = level->nr,
                  .l1 = cache_size(_SC_LEVEL1_DCACHE_SIZE, 32 << 10),
                  .l2 = cache_size(_SC_LEVEL2_CACHE_SIZE, 512 << 10),
                  .l3 = cache_size(_SC_LEVEL3_CACHE_SIZE, 16 << 20)};
    return true;
}

/* Where the tables of a module for a GPU live: any x86-64. */
const Target target_tables = {
    .triple = TRIPLE_X86, .cpu = "x86-64", .level = "x86-64", .features = "", .needs = "", .vl = 4};

/* PTX 7.8 is read by drivers from CUDA 11.8 on, and is the first that knows sm_90. GPUs run code made for
 * older ones, so the newest here serves all that follow. */
bool target_init_gpu(Target *t, const char *gpu, Diag *diag) {
    static const struct {
        const char *name;
        int sm;
    } known[] = {{"sm_80", 80}, {"sm_86", 86}, {"sm_87", 87}, {"sm_89", 89}, {"sm_90", 90}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (gpu && strcmp(gpu, known[i].name) != 0) continue;
        *t = (Target){.triple = "nvptx64-nvidia-cuda",
                      .cpu = known[i].name,
                      .level = known[i].name,
                      .features = "+ptx78",
                      .needs = "",
                      .sm = known[i].sm,
                      .vl = 4};
        return true;
    }
    diag_error(
        diag, NULL, 0, 0,
        "--gpu %s: not a known architecture (sm_80, sm_86, sm_87, sm_89 or sm_90, which newer GPUs run "
        "too)",
        gpu);
    return false;
}
