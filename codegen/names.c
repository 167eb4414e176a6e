/* Names of kernels: the descriptor spelled out, so that equal kernels have equal names, and a table of
 * launches can be read. */
#include "lower.h"
#include <string.h>

/* A region's body as text, without locations: equal texts make equal kernels. */
static void region_key(const Graph *body, Buf *b) {
    for (uint32_t i = 0; i < body->nodes.n; i++) {
        const Node *n = &body->nodes.at[i];
        buf_printf(b, "%s", op_info[n->op].name);
        for (uint32_t j = 0; j < n->nin; j++) buf_printf(b, " %u", n->in[j]);
        if (n->attrs.set) buf_printf(b, " {%.17g %lld}", n->attrs.c, (long long)n->attrs.index);
        for (uint32_t j = 0; j < n->nout; j++) buf_printf(b, " "), print_type(val_type(body, n->out + j), b);
        buf_printf(b, "\n");
    }
}

/* ---- what tells kernels of one kind apart: a function for each descriptor, which spells out its fields */

#define LL(x) ((long long)(x))

static void spell_GemmDesc(const GemmDesc *d, Buf *b) {
    static const char *const b_kind[] = {"kn", "nk", "t2kn", "t2nk", "bf16kn"};
    buf_printf(b, "%lldx%lldx%lld_%s%s_%s", LL(d->m), LL(d->n), LL(d->k), d->a_bf16 ? "bf16" : "",
               d->a_cols ? "km" : "mk", b_kind[d->b]);
    if (d->group) buf_printf(b, "%lld", LL(d->group));
    if (d->accumulate) buf_printf(b, "_acc");
}

static void spell_GemvDesc(const GemvDesc *d, Buf *b) {
    buf_printf(b, "%lldx%lldx%lld_g%lld%s", LL(d->m), LL(d->n), LL(d->k), LL(d->group), d->i16 ? "_i16" : "");
}

static void spell_AttnDesc(const AttnDesc *d, Buf *b) {
    buf_printf(b, "b%llds%lldh%lldg%lldd%lld_%.9g", LL(d->b), LL(d->s), LL(d->h), LL(d->g), LL(d->d), d->scale);
    if (d->half) buf_printf(b, "_bf16x%x", d->half);
}

static void spell_AttnDecodeDesc(const AttnDecodeDesc *d, Buf *b) {
    spell_AttnDesc(&d->at, b);
    buf_printf(b, "_%lld", LL(d->queries));
}

/* The largest value of the body; a hash of its key follows. */
static void spell_RowsDesc(const RowsDesc *d, Buf *b) {
    const Type *largest = val_type(d->body, 0);
    for (uint32_t v = 1; v < d->body->values.n; v++)
        if (type_count(val_type(d->body, v)) > type_count(largest)) largest = val_type(d->body, v);
    buf_printf(b, "%lldx%lld", LL(type_rows(largest)), LL(type_cols(largest)));
}

static void spell_groups(int64_t rows, int64_t cols, int64_t group, Buf *b) {
    buf_printf(b, "%lldx%lld_g%lld", LL(rows), LL(cols), LL(group));
}
static void spell_TernaryDesc(const TernaryDesc *d, Buf *b) {
    spell_groups(d->rows, d->cols, d->group, b);
}
static void spell_DecodeDesc(const DecodeDesc *d, Buf *b) {
    spell_groups(d->rows, d->cols, d->group, b);
}
static void spell_SteClipDesc(const SteClipDesc *d, Buf *b) {
    spell_groups(d->rows, d->cols, d->group, b);
}

static void spell_EmbedDesc(const EmbedDesc *d, Buf *b) {
    buf_printf(b, "%lld_of_%lldx%lld_g%lld", LL(d->tokens), LL(d->vocab), LL(d->n), LL(d->group));
}

static void spell_EmbedGradDesc(const EmbedGradDesc *d, Buf *b) {
    buf_printf(b, "%lld_of_%lldx%lld", LL(d->tokens), LL(d->vocab), LL(d->n));
}

static void spell_AdamwDesc(const AdamwDesc *d, Buf *b) {
    buf_printf(b, "%lld_%.9g_%.9g_%.9g%s", LL(d->count), d->beta1, d->beta2, d->eps, d->bf16 ? "_bf16" : "");
}

static void spell_GemmAdamwDesc(const GemmAdamwDesc *d, Buf *b) {
    buf_printf(b, "%s%lldx%lldx%lld%s%s_g%lld_%.9g_%.9g_%.9g%s", d->bf16 ? "bf16_" : "", LL(d->m), LL(d->n), LL(d->k),
               d->a_bf16 ? "_bf16km" : "", d->b_bf16 ? "_bf16kn" : "", LL(d->group), d->beta1, d->beta2, d->eps,
               d->moments_bf16 ? "_bf16" : "");
}

static void spell_SumRowsDesc(const SumRowsDesc *d, Buf *b) {
    buf_printf(b, "%lldx%lld", LL(d->rows), LL(d->cols));
}

static void spell_TakeRowDesc(const TakeRowDesc *d, Buf *b) {
    buf_printf(b, "%lldx%lldx%lld_%lld", LL(d->b), LL(d->s), LL(d->n), LL(d->rows));
}

static void spell_CacheRowDesc(const CacheRowDesc *d, Buf *b) {
    buf_printf(b, "%lldx%lldx%lld_%lld", LL(d->b), LL(d->s), LL(d->n), LL(d->rows));
}

static void spell_CopyDesc(const CopyDesc *d, Buf *b) {
    buf_printf(b, "%lld", LL(d->bytes));
}

static void spell_FillDesc(const FillDesc *d, Buf *b) {
    buf_printf(b, "%lld_%.9g", LL(d->count), d->c);
}

static void spell_PeakDesc(const PeakDesc *d, Buf *b) {
    static const char *const type[] = {"f32", "bf16", "i16", "rounded"};
    buf_printf(b, "%s", d->lut ? "lut" : type[d->type]);
}

static void spell_StreamDesc(const StreamDesc *d, Buf *b) {
    buf_printf(b, "%lld", LL(d->bytes));
}

/* ---- the whole name */

static void spell(const KernelDesc *d, Buf *b) {
    switch (d->kind) {
#define KIND(kind, Desc)                                                                                     \
    case KERNEL_##kind:                                                                                      \
        buf_printf(b, #kind "_");                                                                            \
        spell_##Desc(&d->kind, b);                                                                           \
        break;
        KERNEL_KINDS(KIND)
#undef KIND
    }
}

/* Names are symbols, and PTX wants identifiers: 0.9 becomes 0p9, 1e-08 1em08. */
static const char *identifier(const char *name, Arena *arena) {
    char *out = arena_strdup(arena, name), *to = out;
    for (const char *c = name; *c; c++)
        if (*c != '+') *to++ = *c == '.' ? 'p' : *c == '-' ? 'm' : *c;
    *to = 0;
    return out;
}

KernelName kernel_name(const KernelDesc *d, Arena *arena) {
    Buf key = {0}, name = {0};
    spell(d, &name);
    if (d->kind == KERNEL_rows) {
        region_key(d->rows.body, &key);
        buf_printf(&name, "_%08x", (unsigned)(fnv1a(FNV_INIT, key.at, key.n) & 0xffffffffu));
    }
    KernelName out = {identifier(name.at, arena), arena_strdup(arena, key.n ? key.at : name.at)};
    buf_free(&key), buf_free(&name);
    return out;
}
