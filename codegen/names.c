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

static void gemm_name(const char *kind, const GemmDesc *d, Buf *b) {
    static const char *const b_kind[] = {"kn", "nk", "t2kn", "t2nk", "bf16kn"};
    buf_printf(b, "%s_%lldx%lldx%lld_%s_%s", kind, (long long)d->m, (long long)d->n, (long long)d->k,
               d->a_cols ? "km" : "mk", b_kind[d->b]);
    if (d->group) buf_printf(b, "%lld", (long long)d->group);
    if (d->accumulate) buf_printf(b, "_acc");
}

static void attention_name(const char *kind, const AttnDesc *a, Buf *b) {
    buf_printf(b, "%s_b%llds%lldh%lldg%lldd%lld_%.9g", kind, (long long)a->b, (long long)a->s,
               (long long)a->h, (long long)a->g, (long long)a->d, a->scale);
}

/* The descriptor spelled out, unique but for regions, which end in a hash of their key. */
static void spell(const KernelDesc *d, const char *key, Buf *b) {
    switch (d->kind) {
    case KERNEL_gemm:
        gemm_name("gemm", &d->gemm, b);
        break;
    case KERNEL_gemm_bf16:
        gemm_name("gemm_bf16", &d->gemm_bf16, b);
        break;
    case KERNEL_gemm_i16:
        gemm_name("gemm_i16", &d->gemm_i16, b);
        break;
    case KERNEL_gemv:
        buf_printf(b, "gemv_%lldx%lldx%lld_g%lld", (long long)d->gemv.m, (long long)d->gemv.n,
                   (long long)d->gemv.k, (long long)d->gemv.group);
        break;
    case KERNEL_attention:
        attention_name("attention", &d->attention, b);
        break;
    case KERNEL_attention_bf16:
        attention_name("attention_bf16", &d->attention_bf16, b);
        break;
    case KERNEL_attention_grad_bf16:
        attention_name("attention_grad_bf16", &d->attention_grad_bf16, b);
        break;
    case KERNEL_attention_grad:
        attention_name("attention_grad", &d->attention_grad, b);
        break;
    case KERNEL_attention_decode:
        attention_name("attention_decode", &d->attention_decode.at, b);
        buf_printf(b, "_%lld", (long long)d->attention_decode.queries);
        break;
    case KERNEL_cache_row:
        buf_printf(b, "cache_row_%lldx%lldx%lld_%lld", (long long)d->cache_row.b, (long long)d->cache_row.s,
                   (long long)d->cache_row.n, (long long)d->cache_row.rows);
        break;
    case KERNEL_rows: {
        const Graph *body = d->rows.body;
        int64_t rows = 0, cols = 0;
        for (uint32_t v = 0; v < body->values.n; v++)
            if (type_count(val_type(body, v)) > rows * cols)
                rows = type_rows(val_type(body, v)), cols = type_cols(val_type(body, v));
        buf_printf(b, "rows_%lldx%lld_%08x", (long long)rows, (long long)cols,
                   (unsigned)(fnv1a(FNV_INIT, key, strlen(key)) & 0xffffffffu));
        break;
    }
    case KERNEL_ternary:
        buf_printf(b, "ternary_%lldx%lld_g%lld", (long long)d->ternary.rows, (long long)d->ternary.cols,
                   (long long)d->ternary.group);
        break;
    case KERNEL_decode:
        buf_printf(b, "decode_%lldx%lld_g%lld", (long long)d->decode.rows, (long long)d->decode.cols,
                   (long long)d->decode.group);
        break;
    case KERNEL_ste_clip:
        buf_printf(b, "ste_clip_%lldx%lld_g%lld", (long long)d->ste_clip.rows, (long long)d->ste_clip.cols,
                   (long long)d->ste_clip.group);
        break;
    case KERNEL_embed:
        buf_printf(b, "embed_%lld_of_%lldx%lld_g%lld", (long long)d->embed.tokens, (long long)d->embed.vocab,
                   (long long)d->embed.n, (long long)d->embed.group);
        break;
    case KERNEL_embed_grad:
        buf_printf(b, "embed_grad_%lld_of_%lldx%lld", (long long)d->embed_grad.tokens,
                   (long long)d->embed_grad.vocab, (long long)d->embed_grad.n);
        break;
    case KERNEL_adamw:
        buf_printf(b, "adamw_%lld_%.9g_%.9g_%.9g", (long long)d->adamw.count, d->adamw.beta1, d->adamw.beta2,
                   d->adamw.eps);
        break;
    case KERNEL_adamw_bf16:
        buf_printf(b, "adamw_bf16_%lld_%.9g_%.9g_%.9g", (long long)d->adamw_bf16.count, d->adamw_bf16.beta1,
                   d->adamw_bf16.beta2, d->adamw_bf16.eps);
        break;
    case KERNEL_gemm_adamw:
        buf_printf(b, "gemm_adamw%s_%lldx%lldx%lld%s_g%lld_%.9g_%.9g_%.9g", d->gemm_adamw.bf16 ? "_bf16" : "",
                   (long long)d->gemm_adamw.m, (long long)d->gemm_adamw.n, (long long)d->gemm_adamw.k,
                   d->gemm_adamw.b_bf16 ? "_bf16kn" : "", (long long)d->gemm_adamw.group, d->gemm_adamw.beta1, d->gemm_adamw.beta2,
                   d->gemm_adamw.eps);
        break;
    case KERNEL_sum_rows:
        buf_printf(b, "sum_rows_%lldx%lld", (long long)d->sum_rows.rows, (long long)d->sum_rows.cols);
        break;
    case KERNEL_take_row:
        buf_printf(b, "take_row_%lldx%lldx%lld_%lld", (long long)d->take_row.b, (long long)d->take_row.s,
                   (long long)d->take_row.n, (long long)d->take_row.rows);
        break;
    case KERNEL_copy:
        buf_printf(b, "copy_%lld", (long long)d->copy.bytes);
        break;
    case KERNEL_fill:
        buf_printf(b, "fill_%lld_%.9g", (long long)d->fill.count, d->fill.c);
        break;
    case KERNEL_peak: {
        static const char *const type[] = {"f32", "bf16", "i16"};
        buf_printf(b, "peak_%s", type[d->peak.type]);
        break;
    }
    case KERNEL_stream:
        buf_printf(b, "stream_%lld", (long long)d->stream.bytes);
        break;
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
    if (d->kind == KERNEL_rows) region_key(d->rows.body, &key);
    spell(d, key.at, &name);
    KernelName out = {identifier(name.at, arena), arena_strdup(arena, key.n ? key.at : name.at)};
    buf_free(&key), buf_free(&name);
    return out;
}
