/* The CPU or GPU to generate for: instruction-set level, register tile, cache sizes.
 *
 * Code uses a level (x86-64-v3 or -v4), for products of pairs the instructions that are made for them, and no
 * more; it is only tuned for the named CPU, so that what a module needs of a CPU can be said in one short
 * list. */
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

/* LLVM's C interface cannot say which features a named CPU has, so they stand here. */
typedef struct Cpu {
    const char *name;
    bool v4, vnni, bf16;
} Cpu;

static const Cpu cpus[] = {
    {"x86-64-v3", false, false, false},     {"haswell", false, false, false},
    {"broadwell", false, false, false},     {"skylake", false, false, false},
    {"core-avx2", false, false, false},     {"znver1", false, false, false},
    {"znver2", false, false, false},        {"znver3", false, false, false},
    {"alderlake", false, true, false},      {"raptorlake", false, true, false},
    {"meteorlake", false, true, false},     {"arrowlake", false, true, false},
    {"lunarlake", false, true, false},      {"gracemont", false, true, false},
    {"sierraforest", false, true, false},   {"x86-64-v4", true, false, false},
    {"skylake-avx512", true, false, false}, {"cannonlake", true, false, false},
    {"cascadelake", true, true, false},     {"icelake-client", true, true, false},
    {"icelake-server", true, true, false},  {"tigerlake", true, true, false},
    {"rocketlake", true, true, false},      {"cooperlake", true, true, true},
    {"sapphirerapids", true, true, true},   {"emeraldrapids", true, true, true},
    {"graniterapids", true, true, true},    {"znver4", true, true, true},
    {"znver5", true, true, true},
};

static const Cpu *find_cpu(const char *name) {
    for (size_t i = 0; i < sizeof cpus / sizeof *cpus; i++)
        if (strcmp(cpus[i].name, name) == 0) return &cpus[i];
    return NULL;
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

/* This CPU; its name is NULL if it is below x86-64-v3. */
static Cpu host_cpu(Arena *arena) {
    char *features = LLVMGetHostCPUFeatures(), *name = LLVMGetHostCPUName();
    Cpu cpu = {.v4 = has_all(features, levels[1].llvm_features)};
    cpu.vnni = has_all(features, cpu.v4 ? "+avx512vnni" : "+avxvnni");
    cpu.bf16 = cpu.v4 && has_all(features, "+avx512bf16");
    if (has_all(features, levels[0].llvm_features)) cpu.name = arena_strdup(arena, name);
    LLVMDisposeMessage(features), LLVMDisposeMessage(name);
    return cpu;
}

/* What sysconf says of the host. */
static int64_t host_has(int which, int64_t otherwise) {
    long n = sysconf(which);
    return n > 0 ? n : otherwise;
}

/* The extra instructions of a level, as LLVM and as the kernel call them. */
static const struct {
    bool v4, vnni, bf16;
    const char *features, *needs;
} extras[] = {{false, true, false, "+avxvnni", ",avx_vnni"},
              {true, true, false, "+avx512vnni", ",avx512_vnni"},
              {true, false, true, "+avx512bf16", ",avx512_bf16"},
              {true, true, true, "+avx512vnni,+avx512bf16", ",avx512_vnni,avx512_bf16"}};

Target target_without(const Target *t, bool vnni, bool bf16, Arena *arena) {
    bool v4 = t->vl == 16;
    Target out = *t;
    out.vnni &= !vnni, out.bf16 &= !bf16;
    out.features = "", out.needs = levels[v4].needs;
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
        if (extras[i].v4 != v4 || extras[i].vnni != out.vnni || extras[i].bf16 != out.bf16) continue;
        out.features = extras[i].features;
        out.needs = arena_printf(arena, "%s%s", levels[v4].needs, extras[i].needs);
    }
    return out;
}

bool target_init(Target *t, const char *cpu, int64_t cores, Arena *arena, Diag *diag) {
    Cpu host = {0};
    const Cpu *c = cpu ? find_cpu(cpu) : &host;
    if (!c) {
        diag_error(diag, NULL, 0, 0,
                   "--cpu %s: not a known x86-64 CPU with AVX2 (like x86-64-v3, x86-64-v4, haswell, znver4)",
                   cpu);
        return false;
    }
    if (!cpu) host = host_cpu(arena);
    if (!c->name) {
        diag_error(diag, NULL, 0, 0,
                   "this CPU lacks AVX2, FMA or F16C (give --cpu to compile for another one)");
        return false;
    }
    const Level *level = &levels[c->v4];
    *t = (Target){.triple = TRIPLE_X86,
                  .cpu = c->name,
                  .level = level->name,
                  .vnni = c->vnni,
                  .bf16 = c->bf16,
                  .vl = level->vl,
                  .mr = level->mr,
                  .nr = level->nr,
                  .cores = (int)(cores ? cores : host_has(_SC_NPROCESSORS_ONLN, 1)),
                  .l1 = host_has(_SC_LEVEL1_DCACHE_SIZE, 32 << 10),
                  .l2 = host_has(_SC_LEVEL2_CACHE_SIZE, 512 << 10),
                  .l3 = host_has(_SC_LEVEL3_CACHE_SIZE, 16 << 20)};
    *t = target_without(t, false, false, arena);
    return true;
}

/* Where the tables of a module for a GPU live: any x86-64. */
const Target target_tables = {
    .triple = TRIPLE_X86, .cpu = "x86-64", .level = "x86-64", .features = "", .needs = "", .vl = 4};

/* PTX 7.8 is read by drivers from CUDA 11.8 on, and is the first that knows sm_90. GPUs run code made for
 * older ones, if it does not want more shared memory than they have: smaller ones have 99 KB for a block
 * (CUDA C Programming Guide, "Technical Specifications per Compute Capability"), which holds for code that is
 * made for none in particular. */
bool target_init_gpu(Target *t, const char *gpu, Diag *diag) {
    static const struct {
        const char *name;
        int sm, shared_kb;
    } known[] = {
        {"sm_80", 80, 163}, {"sm_86", 86, 99}, {"sm_87", 87, 163}, {"sm_89", 89, 99}, {"sm_90", 90, 227}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (gpu && strcmp(gpu, known[i].name) != 0) continue;
        *t = (Target){.triple = "nvptx64-nvidia-cuda",
                      .cpu = known[i].name,
                      .level = known[i].name,
                      .features = "+ptx78",
                      .needs = "",
                      .sm = known[i].sm,
                      .shared = (gpu ? known[i].shared_kb : 99) * 1024,
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
