/* The tables of ops, attributes and props as data, and what types say about themselves: sizes, storage, equality. */
#include "ir.h"

#include <string.h>

const OpInfo op_info[OP_COUNT] = {
#define OP(name, min, max, results, attrs, optional, flags, shape, grad, cost, help)                         \
    {#name, min, max, results, attrs, optional, flags, #shape, #grad, #cost, help},
#include "ops.def"
#undef OP
};

const char *const attr_name[ATTR_COUNT] = {
#define ATTR(name, kind, help) #name,
#include "attrs.def"
#undef ATTR
};

const char *const prop_name[PROP_COUNT] = {
#define PROP(name, help) #name,
#include "props.def"
#undef PROP
};

_Static_assert(ATTR_COUNT <= 32 && PROP_COUNT <= 32, "attributes and props are bits of a uint32_t");

bool op_from_name(const char *name, Op *out) {
    for (int op = 0; op < OP_COUNT; op++) {
        if (strcmp(op_info[op].name, name) == 0) {
            *out = (Op)op;
            return true;
        }
    }
    return false;
}

Type type_make(DType dtype, uint32_t rank, const int64_t *dim) {
    if (rank > MAX_RANK) ice("type of rank %u", rank);
    Type t = {.dtype = dtype, .rank = rank};
    for (uint32_t i = 0; i < rank; i++) t.dim[i] = dim[i];
    return t;
}

bool type_equal(const Type *a, const Type *b) {
    if (a->dtype != b->dtype || a->group != b->group || a->rank != b->rank) return false;
    for (uint32_t i = 0; i < a->rank; i++) {
        if (a->dim[i] != b->dim[i]) return false;
    }
    return true;
}

int64_t type_count(const Type *t) {
    return type_rows(t) * type_cols(t);
}

int64_t type_rows(const Type *t) {
    int64_t n = 1;
    for (uint32_t i = 0; i + 1 < t->rank; i++) n *= t->dim[i];
    return n;
}

int64_t type_cols(const Type *t) {
    return t->rank ? t->dim[t->rank - 1] : 1;
}

int64_t type_bytes(const Type *t) {
    if (t->dtype == DT_T2) return ternary_layout(type_rows(t), type_cols(t), t->group).bytes;
    if (t->dtype == DT_BF16) return (type_count(t) + 1) / 2 * 4; /* whole words */
    return type_count(t) * 4;
}

TernaryLayout ternary_layout(int64_t rows, int64_t cols, int64_t group) {
    TernaryLayout l;
    l.row_bytes = (cols + 15) / 16 * 4;
    l.groups = (cols + group - 1) / group;
    l.scales_at = (rows * l.row_bytes + 63) / 64 * 64;
    l.bytes = l.scales_at + rows * l.groups * 2;
    return l;
}
