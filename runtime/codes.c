/* Finding the codes and scales that a forward pass used. */
#include "codes.h"
#include "error.h"
#include <string.h>

const tbc_table *codes_project(Session *s) {
    const tbc_table *table = module_table(&s->module, "eval");
    if (!table && !(table = module_need(&s->module, "project"))) return NULL;
    for (uint32_t i = 0; i < s->module.desc->ntensors; i++) {
        const tbc_tensor *t = &s->module.desc->tensors[i];
        if (t->kind == TBC_INPUT && t->table == table - s->module.desc->tables)
            memset(device_at(&s->device, t), 0, t->bytes);
    }
    session_upload_inputs(s, table);
    device_run(&s->device, table);
    return table;
}

bool codes_of(const Session *s, const tbc_table *table, const tbc_tensor *param, Codes *c) {
    const LoadedModule *m = &s->module;
    const tbc_tensor *t = module_tensor(m, table, TBC_CODES, param->name);
    if (!t) t = module_tensor(m, NULL, TBC_CODES, param->name); /* made by project */
    if (!t || t->group != param->group || tensor_values(t) != tensor_values(param) ||
        t->dim[t->rank - 1] != param->dim[param->rank - 1])
        return rt_error(m->path, "the module does not show the codes of %s", param->name);
    device_download(&s->device, t);
    if (!device_ok(&s->device)) return false;
    int64_t cols = param->dim[param->rank - 1], rows = tensor_values(param) / cols;
    *c = (Codes){.at = device_at(&s->device, t), .rows = rows, .cols = cols, .group = t->group};
    c->groups = (cols + c->group - 1) / c->group;
    c->row_bytes = (cols + 15) / 16 * 4;
    c->scales = c->at + (rows * c->row_bytes + 63) / 64 * 64;
    return true;
}

void codes_count(const Codes *c, int64_t count[3]) {
    int64_t n = c->rows * c->cols, zero = 0, plus = 0;
    for (int64_t i = 0; i < c->rows * c->row_bytes; i += 4) {
        uint32_t word; /* 16 codes + 1, so 2 has the high bit of its two, 1 the low bit, as has padding */
        memcpy(&word, c->at + i, sizeof word);
        zero += __builtin_popcount(word & 0x55555555u);
        plus += __builtin_popcount(word & 0xaaaaaaaau);
    }
    zero -= c->rows * (c->row_bytes * 4 - c->cols);
    count[0] = n - zero - plus, count[1] = zero, count[2] = plus;
}
