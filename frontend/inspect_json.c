/* `tbc inspect --json`: {"abi", "meta": {..}, "tensors": [..], "tables": [{"launches": [..]}], ..}, and of a
 * module for a GPU "gpu", whose keys inspect_gpu.h lists. */
#include "inspect_json.h"
#include "inspect_gpu.h"
#include <string.h>

const char *const inspect_kind[INSPECT_KINDS] = {"param", "state", "input", "output",
                                                 "codes", "temp",  "cache"};

typedef unsigned long long ull;

Updates inspect_updates(const tbc_module_t *m) {
    Updates u = {0};
    for (uint32_t i = 0; i < m->nlaunches; i++) {
        const char *label = m->launches[i].label ? m->launches[i].label : "";
        u.fused += strncmp(label, "matmul_adamw ", strlen("matmul_adamw ")) == 0;
        u.materialised += strncmp(label, "adamw ", strlen("adamw ")) == 0;
    }
    return u;
}

const char *inspect_dtype(const tbc_tensor *t) {
    static const char *const name[] = {[TBC_F32] = "f32", [TBC_I32] = "i32", [TBC_T2] = "t2", [TBC_BF16] = "bf16"};
    return t->dtype < sizeof name / sizeof *name ? name[t->dtype] : "?";
}

static void add_text(Buf *b, const char *key, const char *text) {
    buf_printf(b, "\"%s\":", key);
    buf_quote(b, text ? text : "");
    buf_printf(b, ",");
}

static void add_tensor(Buf *b, const tbc_module_t *m, const tbc_tensor *t) {
    buf_printf(b, "{");
    add_text(b, "name", t->name);
    add_text(b, "kind", t->kind < INSPECT_KINDS ? inspect_kind[t->kind] : "?");
    add_text(b, "dtype", inspect_dtype(t));
    if (t->table >= 0 && (uint32_t)t->table < m->ntables) add_text(b, "table", m->tables[t->table].name);
    buf_printf(b, "\"group\":%u,\"shape\":[", t->group);
    for (uint32_t i = 0; i < t->rank && i < TBC_MAX_RANK; i++)
        buf_printf(b, "%s%lld", i ? "," : "", (long long)t->dim[i]);
    buf_printf(b, "],\"offset\":%llu,\"bytes\":%llu,\"live\":[%u,%u]}", (ull)t->offset, (ull)t->bytes,
               t->live_first, t->live_last);
}

static void add_launch(Buf *b, const tbc_module_t *m, const tbc_launch *l) {
    buf_printf(b, "{");
    add_text(b, "kernel", m->kernels[l->kernel].name);
    add_text(b, "label", l->label);
    buf_printf(b, "\"tiles\":%u,\"flops\":%llu,\"bytes\":%llu,\"args\":[", l->tiles, (ull)l->flops,
               (ull)l->bytes);
    for (uint32_t i = 0; i < l->nargs; i++) buf_printf(b, "%s%llu", i ? "," : "", (ull)m->args[l->args + i]);
    buf_printf(b, "]}");
}

void inspect_json(const tbc_module_t *m, FILE *out) {
    Buf b = {0};
    buf_printf(&b, "{\"abi\":%u,", m->abi);
    add_text(&b, "cpu_features", m->cpu_features);
    Updates u = inspect_updates(m);
    buf_printf(&b, "\"updates\":{\"fused\":%u,\"materialised\":%u},", u.fused, u.materialised);
    buf_printf(&b, "\"arena_bytes\":%llu,\"scratch_bytes\":%llu,\"kernels\":%u,\"meta\":%s,\"tensors\":[",
               (ull)m->arena_bytes, (ull)m->scratch_bytes, m->nkernels, m->meta);
    for (uint32_t i = 0; i < m->ntensors; i++) {
        if (i) buf_printf(&b, ",");
        add_tensor(&b, m, &m->tensors[i]);
    }
    buf_printf(&b, "],\"tables\":[");
    for (uint32_t i = 0; i < m->ntables; i++) {
        const tbc_table *t = &m->tables[i];
        buf_printf(&b, i ? ",{" : "{");
        add_text(&b, "name", t->name);
        buf_printf(&b, "\"launches\":[");
        for (uint32_t l = 0; l < t->count; l++) {
            if (l) buf_printf(&b, ",");
            add_launch(&b, m, &m->launches[t->first + l]);
        }
        buf_printf(&b, "]}");
    }
    buf_printf(&b, "]");
    if (m->gpu) {
        buf_printf(&b, ",\"gpu\":");
        inspect_gpu_json(m, &b);
    }
    buf_printf(&b, "}\n");
    fwrite(b.at, 1, b.n, out);
    buf_free(&b);
}
