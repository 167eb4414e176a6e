/* Finding the codes and scales that a forward pass reads. */
#include "codes.h"
#include "error.h"
#include <string.h>

Codes codes_at(const tbc_tensor *t, const void *at) {
    int64_t cols = t->dim[t->rank - 1], rows = tensor_values(t) / cols;
    Codes c = {.at = at, .rows = rows, .cols = cols, .group = t->group};
    c.groups = (cols + c.group - 1) / c.group;
    c.row_bytes = (cols + 15) / 16 * 4;
    c.scales = c.at + (rows * c.row_bytes + 63) / 64 * 64;
    return c;
}

bool codes_of(const Session *s, const tbc_tensor *param, Codes *c) {
    const LoadedModule *m = &s->module;
    const tbc_tensor *t = module_tensor(m, NULL, TBC_CODES, param->name);
    if (!t || t->group != param->group || tensor_values(t) != tensor_values(param) ||
        t->dim[t->rank - 1] != param->dim[param->rank - 1])
        return rt_error(m->path, "the module does not show the codes of %s", param->name);
    device_download(&s->device, t);
    *c = codes_at(t, device_at(&s->device, t));
    return device_ok(&s->device);
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
