/* Opening a compiled module for a look at it, and the look in words; inspect_json.c has it as JSON. */
#include "inspect.h"
#include "inspect_gpu.h"
#include "inspect_json.h"
#include "json.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening */

/* What is wrong with the file as a container, NULL if nothing is. */
static const char *file_problem(const char *at, size_t n) {
    tbc_trailer t;
    Elf64_Ehdr elf;
    if (n < sizeof t + sizeof elf) return "not a tbc module (too short)";
    memcpy(&t, at + n - sizeof t, sizeof t);
    memcpy(&elf, at, sizeof elf);
    if (memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0) return "not a tbc module (no ELF file)";
    if (memcmp(t.magic, "tbc-end", sizeof t.magic) != 0) return "not a tbc module, or its end is missing";
    if (t.bytes != n - sizeof t || t.hash != tbc_hash(at, n - sizeof t)) return "the file is damaged";
    if (elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_ident[EI_DATA] != ELFDATA2LSB || elf.e_type != ET_DYN ||
        elf.e_machine != EM_X86_64)
        return "not a module for x86-64";
    return NULL;
}

static const char *module_problem(const tbc_module_t *m) {
    if (!m || memcmp(m->magic, TBC_MAGIC, sizeof m->magic) != 0) return "not a tbc module";
    if (m->abi != TBC_ABI || m->bytes != sizeof *m)
        return "made by another version of tbc (compile it again)";
    return NULL;
}

/* The module in a checked file, its handle for dlclose in *handle. NULL after a reported error. */
static const tbc_module_t *open_module(const char *path, void **handle, Diag *diag) {
    size_t n;
    char *bytes = read_file(path, &n);
    const char *problem = bytes ? file_problem(bytes, n) : strerror(errno);
    free(bytes);
    const tbc_module_t *m = NULL;
    if (!problem) {
        Buf place = {0}; /* dlopen searches its own path for a name without a slash */
        buf_printf(&place, "%s%s", strchr(path, '/') ? "" : "./", path);
        *handle = dlopen(place.at, RTLD_NOW | RTLD_LOCAL);
        buf_free(&place);
        if (*handle) m = dlsym(*handle, "tbc_module");
        problem = *handle ? module_problem(m) : dlerror();
    }
    if (!problem) return m;
    diag_error(diag, path, 0, 0, "%s", problem);
    if (*handle) dlclose(*handle);
    *handle = NULL;
    return NULL;
}

/* ---- printing */

/* 4720000, "B" as "4.72 MB", right-aligned. */
static void print_count(FILE *out, int width, double count, const char *unit) {
    static const char *const prefix[] = {"", "k", "M", "G", "T", "P"};
    int p = 0;
    while (count >= 1000 && p < 5) count /= 1000, p++;
    char text[32];
    snprintf(text, sizeof text, "%.*f %s%s", p ? 2 : 0, count, prefix[p], unit);
    fprintf(out, "%*s", width, text);
}

static void print_shape(FILE *out, const tbc_tensor *t) {
    Buf b = {0};
    buf_printf(&b, "%s[", inspect_dtype(t));
    for (uint32_t i = 0; i < t->rank && i < TBC_MAX_RANK; i++)
        buf_printf(&b, "%s%lld", i ? "," : "", (long long)t->dim[i]);
    buf_printf(&b, "]");
    fprintf(out, "%-18s", b.at);
    buf_free(&b);
}

/* The meta's members, one a line. */
static void print_meta(const char *meta, FILE *out) {
    Diag quiet = {0};
    Sources src = {.arena = arena_new(), .diag = &quiet};
    const Json *root = json_parse(&src, "meta", meta, strlen(meta));
    for (const Json *v = root ? root->first : NULL; v && v->key; v = v->next) {
        Buf b = {0};
        json_print(&b, v);
        fprintf(out, "  %-10s %s\n", v->key, b.at);
        buf_free(&b);
    }
    vec_free(&src.files);
    arena_free(src.arena);
    buf_free(&quiet.text);
}

static void print_facts(const char *path, const tbc_module_t *m, FILE *out) {
    fprintf(out, "%s: tbc module, ABI %u\n", path, m->abi);
    print_meta(m->meta, out);
    if (*m->cpu_features) fprintf(out, "  %-10s %s\n", "needs", m->cpu_features);
    fprintf(out, "  %-10s ", "memory");
    print_count(out, 0, (double)m->arena_bytes, "B");
    if (m->scratch_bytes) {
        fprintf(out, ", and ");
        print_count(out, 0, (double)m->scratch_bytes, "B");
        fprintf(out, " a thread");
    }
    fprintf(out, "\n  %-10s %u\n", "kernels", m->nkernels);
    Updates u = inspect_updates(m);
    fprintf(out, "  %-10s %u in the product of their gradient, %u from a gradient in memory\n", "updates",
            u.fused, u.materialised);
}

static void print_params(const tbc_module_t *m, FILE *out) {
    fprintf(out, "\nParameters\n");
    double bytes = 0, count = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->ntensors; i++) {
        const tbc_tensor *t = &m->tensors[i];
        if (t->kind != TBC_PARAM) continue;
        double elements = 1;
        for (uint32_t d = 0; d < t->rank; d++) elements *= (double)t->dim[d];
        fprintf(out, "  ");
        print_shape(out, t);
        if (t->group)
            fprintf(out, " ternary/%-5u", t->group);
        else
            fprintf(out, " %-13s", "full");
        print_count(out, 11, (double)t->bytes, "B");
        fprintf(out, "  %s\n", t->name);
        bytes += (double)t->bytes, count += elements, n++;
    }
    fprintf(out, "  %u tensors, %.0f numbers, ", n, count);
    print_count(out, 0, bytes, "B\n");
}

static int by_bytes(const void *a, const void *b) {
    const tbc_tensor *x = *(const tbc_tensor *const *)a, *y = *(const tbc_tensor *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x < y ? -1 : x > y;
}

static void print_largest(const tbc_module_t *m, FILE *out) {
    enum { LARGEST = 20 };
    VEC(const tbc_tensor *) temps = {0};
    for (uint32_t i = 0; i < m->ntensors; i++) {
        if (m->tensors[i].kind == TBC_TEMP || m->tensors[i].kind == TBC_CODES)
            vec_push(&temps, &m->tensors[i]);
    }
    if (temps.n) qsort(temps.at, temps.n, sizeof *temps.at, by_bytes);
    for (uint32_t i = 0; i < temps.n && i < LARGEST; i++) {
        const tbc_tensor *t = temps.at[i];
        const char *table =
            t->table >= 0 && (uint32_t)t->table < m->ntables ? m->tables[t->table].name : "all";
        print_count(out, 12, (double)t->bytes, "B");
        fprintf(out, " at %-12llu ", (unsigned long long)t->offset);
        print_shape(out, t);
        fprintf(out, " %-8s launches %5u to %5u  %s\n", table, t->live_first, t->live_last,
                t->name ? t->name : "");
    }
    if (temps.n > LARGEST) fprintf(out, "  and %u smaller ones\n", temps.n - LARGEST);
    vec_free(&temps);
}

static void print_memory(const tbc_module_t *m, FILE *out) {
    fprintf(out, "\nMemory plan (temporaries share memory; their sum is not what they take)\n");
    for (uint32_t kind = 0; kind < INSPECT_KINDS; kind++) {
        double bytes = 0;
        uint32_t n = 0;
        for (uint32_t i = 0; i < m->ntensors; i++) {
            if (m->tensors[i].kind == kind) bytes += (double)m->tensors[i].bytes, n++;
        }
        fprintf(out, "  %-10s %5u ", inspect_kind[kind], n);
        print_count(out, 11, bytes, "B");
        fprintf(out, "\n");
    }
    fprintf(out, "Largest temporaries\n");
    print_largest(m, out);
}

static void print_table(const tbc_module_t *m, const tbc_table *t, FILE *out) {
    double flops = 0, bytes = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        flops += (double)m->launches[t->first + i].flops;
        bytes += (double)m->launches[t->first + i].bytes;
    }
    fprintf(out, "\nTable %s: %u launches, ", t->name, t->count);
    print_count(out, 0, flops, "FLOP, ");
    print_count(out, 0, bytes, "B\n");
    for (uint32_t i = 0; i < t->count; i++) {
        const tbc_launch *l = &m->launches[t->first + i];
        fprintf(out, "  %5u  %-34s %6u tiles", i, m->kernels[l->kernel].name, l->tiles);
        print_count(out, 14, (double)l->flops, "FLOP");
        print_count(out, 12, (double)l->bytes, "B");
        fprintf(out, "  %s\n", l->label ? l->label : "");
    }
}

bool inspect_module(const char *path, bool json, FILE *out, Diag *diag) {
    void *handle = NULL;
    const tbc_module_t *m = open_module(path, &handle, diag);
    if (!m) return false;
    if (json) {
        inspect_json(m, out);
    } else {
        print_facts(path, m, out);
        print_params(m, out);
        print_memory(m, out);
        for (uint32_t i = 0; i < m->ntables; i++) print_table(m, &m->tables[i], out);
        if (m->gpu) inspect_gpu(m, out);
    }
    dlclose(handle);
    return true;
}
