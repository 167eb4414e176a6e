/* Lowering: each node of a planned graph becomes launches of kernels on arena offsets.
 *
 * Views and declarations need none. Where the plan did not put a value in place (a store, a concat
 * operand, a sum taken over), a copy is launched; a good plan needs hardly any. */
#include "lower.h"
#include <stdlib.h>
#include <string.h>

typedef struct Lower {
    const Module *m;
    const Graph *g;
    const Target *target;
    Arena *arena;
    Lowered *out;
    const Node *node; /* being lowered */
} Lower;

/* ---- kernels */

/* The arithmetic that a kernel does most of. */
static enum tbc_math math_of(const KernelDesc *d, const Target *t) {
    switch (d->kind) {
    case KERNEL_gemm:
        return !t->sm && gemm_looks_up(&d->gemm, false, t) ? TBC_MATH_LUT : TBC_MATH_F32;
    case KERNEL_gemm_i16:
        return TBC_MATH_I16;
    case KERNEL_gemm_bf16:
        return !t->sm && gemm_looks_up(&d->gemm_bf16, true, t) ? TBC_MATH_LUT : TBC_MATH_BF16;
    case KERNEL_attention_bf16:
    case KERNEL_attention_grad_bf16:
        return TBC_MATH_BF16;
    case KERNEL_gemm_adamw:
        return d->gemm_adamw.bf16 ? TBC_MATH_BF16 : TBC_MATH_F32;
    default:
        return TBC_MATH_F32;
    }
}

/* The kernel of that descriptor, made on first use. */
static uint32_t kernel_of(Lower *l, const KernelDesc *d) {
    Lowered *o = l->out;
    const KernelName name = kernel_name(d, l->arena);
    uint32_t k = 0;
    while (k < o->kernels.n && strcmp(o->kernels.at[k].name, name.name) != 0) k++;
    if (k < o->kernels.n && strcmp(o->kernels.at[k].key, name.key) != 0)
        ice("two kernels are called %s", name.name);
    if (k == o->kernels.n) {
        Kernel kernel = {.name = name.name,
                         .key = name.key,
                         .desc = *d,
                         .math = math_of(d, l->target),
                         .size = kernel_size(d, l->target)};
        if (kernel.size.scratch > o->scratch_bytes) o->scratch_bytes = kernel.size.scratch;
        vec_push(&o->kernels, kernel);
    }
    return k;
}

/* ---- launches */

static uint64_t offset_of(const Lower *l, Val v) {
    int64_t at = l->g->values.at[v].offset;
    if (at < 0) ice("%s: %%%u has no place in the memory plan", l->g->name, v);
    return (uint64_t)at;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

/* The parameter whose codes state n keeps; NULL: it is another state. */
static const char *codes_owner(const Lower *l, const Node *n) {
    const char *name = n->attrs.name;
    if (n->op != OP_state || val_type(l->g, n->out)->dtype != DT_T2 || !ends_with(name, ".codes"))
        return NULL;
    return arena_printf(l->arena, "%.*s", (int)(strlen(name) - strlen(".codes")), name);
}

/* The parameter that v is made from or becomes the new value of, for labels; NULL if none is near. */
static const char *parameter_near(const Lower *l, const Node *n) {
    for (uint32_t i = 0; i < n->nin; i++) {
        const Node *d = val_node(l->g, n->in[i]);
        if (n->op == OP_ternary && d->op == OP_adamw) d = val_node(l->g, d->in[0]);
        const char *owner = codes_owner(l, d);
        if (owner) return owner;
        if (d->op == OP_param || d->op == OP_state) return d->attrs.name;
        if (d->op == OP_ternary && val_is(l->g, d->in[0], OP_param))
            return val_node(l->g, d->in[0])->attrs.name;
    }
    for (uint32_t i = (uint32_t)(n - l->g->nodes.at) + 1, look = 4; i < l->g->nodes.n && look && n->nout;
         i++, look--) {
        const Node *user = &l->g->nodes.at[i];
        for (uint32_t j = 0; j < user->nin; j++)
            if (user->in[j] == n->out && user->op == OP_adamw) return val_node(l->g, user->in[0])->attrs.name;
    }
    return NULL;
}

/* "op of parameter", or "op, op .. @ file:line" of the spec. */
static const char *label_of(const Lower *l) {
    const Node *n = l->node;
    Buf b = {0};
    buf_printf(&b, "%s", op_info[n->op].name);
    if (n->op == OP_region) {
        for (uint32_t i = 0, listed = 0; i < n->body->nodes.n && listed < 8; i++) {
            Op op = n->body->nodes.at[i].op;
            if ((op_info[op].flags & ROW) && ++listed)
                buf_printf(&b, "%s%s", listed == 1 ? " " : ",", op_info[op].name);
        }
    }
    const char *name = parameter_near(l, n);
    if (name)
        buf_printf(&b, " %s", name);
    else if (n->loc.line && n->loc.file < l->m->files.n)
        buf_printf(&b, " @ %s:%u", l->m->files.at[n->loc.file], n->loc.line);
    const char *label = arena_strdup(l->arena, b.at);
    buf_free(&b);
    return label;
}

static void launch(Lower *l, const KernelDesc *d, Cost cost, const uint64_t *args, uint32_t nargs) {
    Lowered *o = l->out;
    uint32_t k = kernel_of(l, d);
    tbc_launch x = {.kernel = k,
                    .tiles = o->kernels.at[k].size.tiles,
                    .args = o->args.n,
                    .nargs = nargs,
                    .flops = (uint64_t)cost.flops,
                    .bytes = (uint64_t)cost.bytes,
                    .label = l->node ? label_of(l) : ""};
    for (uint32_t i = 0; i < nargs; i++) vec_push(&o->args, args[i]);
    vec_push(&o->launches, x);
}

/* One launch for the whole node, on its operands and then its results. */
static void launch_node(Lower *l, KernelDesc d) {
    const Node *n = l->node;
    uint64_t *args = arena_array(l->arena, uint64_t, n->nin + n->nout);
    for (uint32_t i = 0; i < n->nin; i++) args[i] = offset_of(l, n->in[i]);
    for (uint32_t i = 0; i < n->nout; i++) args[n->nin + i] = offset_of(l, n->out + i);
    launch(l, &d, node_cost(l->g, n), args, n->nin + n->nout);
}

/* Brings bytes from one place of the arena to another, if they are not the same. */
static void copy(Lower *l, uint64_t from, uint64_t to, int64_t bytes) {
    if (from == to || bytes == 0) return;
    KernelDesc d = {.kind = KERNEL_copy, .copy = {bytes}};
    launch(l, &d, (Cost){0, 2 * bytes}, (uint64_t[]){from, to}, 2);
}

/* Makes sure that operand `taken` stands where result `result` is to be built on it. */
static void take_over(Lower *l, uint32_t taken, uint32_t result) {
    Val from = l->node->in[taken], to = l->node->out + result;
    copy(l, offset_of(l, from), offset_of(l, to), type_bytes(val_type(l->g, to)));
}

static bool is_bf16(const Node *n) {
    return n->attrs.set & A(precision) && strcmp(n->attrs.precision, "bf16") == 0;
}

static void lower_matmul(Lower *l) {
    const Node *n = l->node;
    const Type *a = val_type(l->g, n->in[0]), *b = val_type(l->g, n->in[1]);
    bool packed = b->dtype == DT_T2;
    GemmDesc d = {.m = n->attrs.ta ? type_cols(a) : type_rows(a),
                  .k = n->attrs.ta ? type_rows(a) : type_cols(a),
                  .n = n->attrs.tb ? type_rows(b) : type_cols(b),
                  .a_cols = n->attrs.ta,
                  .b = packed        ? (n->attrs.tb ? GEMM_B_T2_NK : GEMM_B_T2_KN)
                       : n->attrs.tb ? GEMM_B_NK
                       : b->dtype == DT_BF16 ? GEMM_B_BF16_KN
                                     : GEMM_B_KN,
                  .group = packed ? b->group : 0,
                  .accumulate = n->nin == 3,
                  .a_bf16 = a->dtype == DT_BF16};
    if (n->nin == 3) take_over(l, 2, 0);
    KernelDesc k = {.kind = KERNEL_gemm, .gemm = d};
    const bool i16 = !is_bf16(n) && n->attrs.set & A(precision);
    GemvDesc few = {d.m, d.n, d.k, d.group, i16};
    /* no kernel for a GPU takes few rows in i16, or weights in f32 */
    bool gemv = gemv_fits(&few) && (d.b == GEMM_B_T2_NK ? !i16 || !l->target->sm
                                                        : d.b == GEMM_B_NK && !d.accumulate && !l->target->sm);
    if (is_bf16(n))
        k = (KernelDesc){.kind = KERNEL_gemm_bf16, .gemm_bf16 = d};
    else if (gemv)
        k = (KernelDesc){.kind = KERNEL_gemv, .gemv = few};
    else if (i16)
        k = (KernelDesc){.kind = KERNEL_gemm_i16, .gemm_i16 = d};
    uint64_t args[] = {offset_of(l, n->in[0]), offset_of(l, n->in[1]), offset_of(l, n->out)};
    launch(l, &k, node_cost(l->g, n), args, 3);
}

static void lower_attention(Lower *l) {
    bool grad = l->node->op == OP_attention_grad, bf16 = is_bf16(l->node);
    const Type *q = val_type(l->g, l->node->in[0]), *k = val_type(l->g, l->node->in[1]);
    AttnDesc d = {q->dim[0], q->dim[1], q->dim[2], k->dim[2], q->dim[3], l->node->attrs.c, 0};
    for (uint32_t i = 0; i < l->node->nin; i++)
        if (val_type(l->g, l->node->in[i])->dtype == DT_BF16) d.half |= 1u << i;
    for (uint32_t i = 0; i < l->node->nout; i++)
        if (val_type(l->g, l->node->out + i)->dtype == DT_BF16) d.half |= 1u << (l->node->nin + i);
    if (grad && bf16)
        launch_node(l, (KernelDesc){.kind = KERNEL_attention_grad_bf16, .attention_grad_bf16 = d});
    else if (grad)
        launch_node(l, (KernelDesc){.kind = KERNEL_attention_grad, .attention_grad = d});
    else if (bf16)
        launch_node(l, (KernelDesc){.kind = KERNEL_attention_bf16, .attention_bf16 = d});
    else
        launch_node(l, (KernelDesc){.kind = KERNEL_attention, .attention = d});
}

static void lower_attention_decode(Lower *l) {
    const Type *q = val_type(l->g, l->node->in[0]), *k = val_type(l->g, l->node->in[1]);
    AttnDecodeDesc d = {.at = {q->dim[0], k->dim[1], q->dim[2], k->dim[2], q->dim[3], l->node->attrs.c, 0},
                        .queries = q->dim[1]};
    launch_node(l, (KernelDesc){.kind = KERNEL_attention_decode, .attention_decode = d});
}

static void lower_cache_row(Lower *l) {
    const Node *n = l->node;
    const Type *cache = val_type(l->g, n->out);
    take_over(l, 0, 0);
    KernelDesc k = {.kind = KERNEL_cache_row,
                    .cache_row = {cache->dim[0], cache->dim[1], cache->dim[2] * cache->dim[3],
                                  val_type(l->g, n->in[1])->dim[1]}};
    uint64_t args[] = {offset_of(l, n->in[1]), offset_of(l, n->in[2]), offset_of(l, n->out)};
    launch(l, &k, node_cost(l->g, n), args, 3);
}

static void lower_embedding_grad(Lower *l) {
    const Node *n = l->node;
    const Type *out = val_type(l->g, n->out);
    EmbedGradDesc d = {type_count(val_type(l->g, n->in[0])), out->dim[0], out->dim[1]};
    KernelDesc clear = {.kind = KERNEL_fill, .fill = {type_count(out), 0}};
    if (n->nin == 3)
        take_over(l, 2, 0);
    else
        launch(l, &clear, (Cost){0, type_bytes(out)}, (uint64_t[]){offset_of(l, n->out)}, 1);
    KernelDesc k = {.kind = KERNEL_embed_grad, .embed_grad = d};
    uint64_t args[] = {offset_of(l, n->in[0]), offset_of(l, n->in[1]), offset_of(l, n->out)};
    launch(l, &k, node_cost(l->g, n), args, 3);
}

static void lower_adamw(Lower *l) {
    const Node *n = l->node;
    take_over(l, 0, 0), take_over(l, 2, 1), take_over(l, 3, 2);
    AdamwDesc d = {type_count(val_type(l->g, n->out)), n->attrs.beta1, n->attrs.beta2, n->attrs.eps, n->nin > 5};
    uint64_t args[] = {offset_of(l, n->out),     offset_of(l, n->in[1]), offset_of(l, n->out + 1),
                       offset_of(l, n->out + 2), offset_of(l, n->in[4]), offset_of(l, n->in[n->nin - 1])};
    launch(l, &(KernelDesc){.kind = KERNEL_adamw, .adamw = d}, node_cost(l->g, n), args, n->nin);
}

static void lower_ste_clip(Lower *l) {
    const Node *n = l->node;
    const Type *t2 = val_type(l->g, n->in[1]);
    take_over(l, 0, 0);
    KernelDesc k = {.kind = KERNEL_ste_clip, .ste_clip = {type_rows(t2), type_cols(t2), t2->group}};
    uint64_t args[] = {offset_of(l, n->in[1]), offset_of(l, n->in[2]), offset_of(l, n->out)};
    launch(l, &k, node_cost(l->g, n), args, 3);
}

static void lower_matmul_adamw(Lower *l) {
    const Node *n = l->node;
    const Type *a = val_type(l->g, n->in[0]), *b = val_type(l->g, n->in[1]);
    bool codes = n->nout > 3, key = n->nin > (codes ? 7 : 6);
    take_over(l, 2, 0), take_over(l, 3, 1), take_over(l, 4, 2);
    GemmAdamwDesc d = {.m = type_cols(a),
                       .n = type_cols(b),
                       .k = type_rows(a),
                       .group = codes ? val_type(l->g, n->in[6])->group : 0,
                       .bf16 = is_bf16(n),
                       .a_bf16 = a->dtype == DT_BF16,
                       .b_bf16 = b->dtype == DT_BF16,
                       .moments_bf16 = key,
                       .beta1 = n->attrs.beta1,
                       .beta2 = n->attrs.beta2,
                       .eps = n->attrs.eps};
    uint64_t args[8] = {offset_of(l, n->in[0]),   offset_of(l, n->in[1]),   offset_of(l, n->out),
                        offset_of(l, n->out + 1), offset_of(l, n->out + 2), offset_of(l, n->in[5])};
    if (codes) args[6] = offset_of(l, n->out + 3);
    if (key) args[n->nin - 1] = offset_of(l, n->in[n->nin - 1]);
    launch(l, &(KernelDesc){.kind = KERNEL_gemm_adamw, .gemm_adamw = d}, node_cost(l->g, n), args, n->nin);
}

static void lower_concat(Lower *l) {
    const Node *n = l->node;
    uint64_t to = offset_of(l, n->out);
    for (uint32_t i = 0; i < n->nin; i++) {
        int64_t bytes = type_bytes(val_type(l->g, n->in[i]));
        copy(l, offset_of(l, n->in[i]), to, bytes);
        to += (uint64_t)bytes;
    }
}

static void lower_view(Lower *l) {
    const Node *n = l->node;
    int64_t row = type_bytes(val_type(l->g, n->out)) / val_type(l->g, n->out)->dim[0];
    uint64_t at = offset_of(l, n->in[0]) + (n->op == OP_slice ? (uint64_t)(n->attrs.begin * row) : 0);
    copy(l, at, offset_of(l, n->out), type_bytes(val_type(l->g, n->out)));
}

static void lower_store(Lower *l) {
    const Node *n = l->node;
    for (uint32_t i = 0; i < l->g->nodes.n; i++) {
        const Node *d = &l->g->nodes.at[i];
        if ((d->op == OP_param || d->op == OP_state) && strcmp(d->attrs.name, n->attrs.name) == 0)
            copy(l, offset_of(l, n->in[0]), offset_of(l, d->out), type_bytes(val_type(l->g, d->out)));
    }
}

/* Tables of cosines and sines are data of the module, computed here in f64 and rounded once. */
static void lower_constant(Lower *l) {
    uint64_t at = offset_of(l, l->node->out);
    for (uint32_t i = 0; i < l->out->consts.n; i++)
        if (l->out->consts.at[i].offset == at) return;
    Tensor t;
    eval_node(l->g, l->node, EVAL_F64, NULL, &t, l->arena);
    int64_t n = type_count(&t.type);
    float *data = arena_array(l->arena, float, n);
    for (int64_t i = 0; i < n; i++) data[i] = (float)t.at[i];
    tbc_const c = {.offset = at, .bytes = (uint64_t)n * sizeof *data, .data = data};
    vec_push(&l->out->consts, c);
}

/* The value of a ste is its first operand's; the second is for the gradient only. */
static void lower_ste(Lower *l) {
    const Node *n = l->node;
    const Type *t2 = val_type(l->g, n->in[0]);
    KernelDesc d = {.kind = KERNEL_decode, .decode = {type_rows(t2), type_cols(t2), t2->group}};
    launch(l, &d, node_cost(l->g, n), (uint64_t[]){offset_of(l, n->in[0]), offset_of(l, n->out)}, 2);
}

/* The kernel of an op whose operands and results are its arguments just as they are. */
static KernelDesc plain_kernel(const Lower *l) {
    const Node *n = l->node;
    const Type *x = n->nin ? val_type(l->g, n->in[0]) : NULL;
    const Type *out = n->nout ? val_type(l->g, n->out) : NULL;
    const Type *table = n->op == OP_embedding ? val_type(l->g, n->in[1]) : NULL;
    switch (n->op) {
    case OP_region:
        return (KernelDesc){.kind = KERNEL_rows, .rows = {n->body}};
    case OP_splat:
        return (KernelDesc){.kind = KERNEL_fill, .fill = {type_count(out), n->attrs.c}};
    case OP_sum_rows:
        return (KernelDesc){.kind = KERNEL_sum_rows, .sum_rows = {type_rows(x), type_cols(x)}};
    case OP_take_row:
        return (KernelDesc){.kind = KERNEL_take_row,
                            .take_row = {x->dim[0], x->dim[1], x->dim[2], out->dim[1]}};
    case OP_ternary:
        return (KernelDesc){.kind = KERNEL_ternary, .ternary = {type_rows(x), type_cols(x), n->attrs.group}};
    case OP_embedding:
        return (KernelDesc){.kind = KERNEL_embed,
                            .embed = {type_count(x), table->dim[0], table->dim[1], table->group}};
    default:
        ice("%s: no kernel for %s outside of a region", l->g->name, op_info[n->op].name);
    }
}

static void lower_node(Lower *l) {
    switch (l->node->op) {
    case OP_input:
    case OP_param:
    case OP_state:
    case OP_output:
        return;
    case OP_rope_cos:
    case OP_rope_sin:
        lower_constant(l);
        return;
    case OP_reshape:
    case OP_slice:
    case OP_after:
        lower_view(l);
        return;
    case OP_concat:
        lower_concat(l);
        return;
    case OP_store:
        lower_store(l);
        return;
    case OP_matmul:
    case OP_tmatmul:
        lower_matmul(l);
        return;
    case OP_attention:
    case OP_attention_grad:
        lower_attention(l);
        return;
    case OP_attention_decode:
        lower_attention_decode(l);
        return;
    case OP_cache_row:
        lower_cache_row(l);
        return;
    case OP_adamw:
        lower_adamw(l);
        return;
    case OP_matmul_adamw:
        lower_matmul_adamw(l);
        return;
    case OP_embedding_grad:
        lower_embedding_grad(l);
        return;
    case OP_ste:
        lower_ste(l);
        return;
    case OP_ste_clip:
        lower_ste_clip(l);
        return;
    default:
        launch_node(l, plain_kernel(l));
    }
}

/* ---- tensors */

static void add_tensor(Lower *l, const char *name, enum tbc_kind kind, int32_t table, Val v, uint32_t group,
                       uint32_t first, uint32_t last) {
    const Type *t = val_type(l->g, v);
    tbc_tensor x = {.name = arena_strdup(l->arena, name),
                    .kind = kind,
                    .dtype = (uint32_t)t->dtype,
                    .table = table,
                    .group = group,
                    .rank = t->rank,
                    .offset = offset_of(l, v),
                    .bytes = (uint64_t)type_bytes(t),
                    .live_first = first,
                    .live_last = last};
    for (uint32_t i = 0; i < t->rank; i++) x.dim[i] = t->dim[i];
    vec_push(&l->out->tensors, x);
}

static bool has_shared(const Lowered *o, uint64_t at) {
    for (uint32_t i = 0; i < o->tensors.n; i++)
        if (o->tensors.at[i].table < 0 && o->tensors.at[i].offset == at) return true;
    return false;
}

/* A state is listed as what it is to the runtime; NAME.codes under the parameter's name. */
static void add_state(Lower *l, const Node *n) {
    const char *name = n->attrs.name, *owner = codes_owner(l, n);
    if (owner)
        add_tensor(l, owner, TBC_CODES, -1, n->out, val_type(l->g, n->out)->group, 0, 0);
    else
        add_tensor(l, name, ends_with(name, ".cache") ? TBC_CACHE : TBC_STATE, -1, n->out, 0, 0, 0);
}

/* Parameters or states of the current graph that no earlier graph had. */
static void add_shared(Lower *l, Op op) {
    for (uint32_t i = 0; i < l->g->nodes.n; i++) {
        const Node *n = &l->g->nodes.at[i];
        if (n->op != op || has_shared(l->out, offset_of(l, n->out))) continue;
        if (op == OP_state)
            add_state(l, n);
        else
            add_tensor(l, n->attrs.name, TBC_PARAM, -1, n->out, (uint32_t)n->attrs.group, 0, 0);
    }
}

/* What is of one table only: inputs, outputs, codes, and temporaries with the launches they live between.
 * start[i] is the table's first launch of node i. */
static void add_local(Lower *l, int32_t table, const uint32_t *start) {
    const Graph *g = l->g;
    uint32_t *last = arena_array(l->arena, uint32_t, g->values.n + 1);
    for (uint32_t i = 0; i < g->nodes.n; i++)
        for (uint32_t j = 0; j < g->nodes.at[i].nin; j++) last[g->nodes.at[i].in[j]] = start[i];
    for (uint32_t i = g->nodes.n; i-- > 0;) { /* a view keeps what it looks at alive */
        const Node *n = &g->nodes.at[i];
        if ((op_info[n->op].flags & VIEW) && last[n->out] > last[n->in[0]]) last[n->in[0]] = last[n->out];
    }
    for (uint32_t i = 0; i < g->nodes.n; i++) {
        const Node *n = &g->nodes.at[i];
        uint32_t flags = op_info[n->op].flags;
        if (n->op == OP_input) add_tensor(l, n->attrs.name, TBC_INPUT, table, n->out, 0, 0, 0);
        if (n->op == OP_output) add_tensor(l, n->attrs.name, TBC_OUTPUT, table, n->in[0], 0, 0, 0);
        if (n->op == OP_ternary && has_shared(l->out, offset_of(l, n->out))) continue; /* made to stay */
        if (n->op == OP_ternary && val_is(g, n->in[0], OP_param)) {
            uint32_t group = val_type(g, n->out)->group;
            add_tensor(l, val_node(g, n->in[0])->attrs.name, TBC_CODES, table, n->out, group, 0, 0);
            continue;
        }
        if ((flags & VIEW) || ((flags & SOURCE) && n->op != OP_splat) || n->op == OP_adamw ||
            n->op == OP_matmul_adamw || n->op == OP_cache_row)
            continue;
        l->node = n;
        for (uint32_t j = 0; j < n->nout; j++)
            add_tensor(l, label_of(l), TBC_TEMP, table, n->out + j, 0, start[i], last[n->out + j]);
    }
}

/* ---- the table roofline */

/* The peak of each kind of arithmetic that kernels of the module do, and reading its parameters, which lie side by
 * side: any run has written them, and only small models have all of theirs in a cache. */
static void add_roofline(Lower *l) {
    static const PeakDesc peak[TBC_MATHS] = {[TBC_MATH_F32] = {.type = PANELS_F32},
                                             [TBC_MATH_I16] = {.type = PANELS_I16},
                                             [TBC_MATH_BF16] = {.type = PANELS_BF16},
                                             [TBC_MATH_LUT] = {.lut = true}};
    Lowered *o = l->out;
    bool used[TBC_MATHS] = {false};
    for (uint32_t i = 0; i < o->kernels.n; i++) used[o->kernels.at[i].math] = true;
    tbc_table table = {.name = "roofline", .first = o->launches.n};
    l->node = NULL;
    for (enum tbc_math math = TBC_MATH_F32; math < TBC_MATHS; math++) {
        KernelDesc d = {.kind = KERNEL_peak, .peak = peak[math]};
        if (!used[math]) continue;
        launch(l, &d, (Cost){.flops = peak_flops(&d.peak, l->target)}, NULL, 0);
        o->kernels.at[o->launches.at[o->launches.n - 1].kernel].math = math;
    }
    uint64_t first = UINT64_MAX, end = 0;
    for (uint32_t i = 0; i < o->tensors.n; i++) {
        const tbc_tensor *t = &o->tensors.at[i];
        if (t->kind != TBC_PARAM) continue;
        if (t->offset < first) first = t->offset;
        if (t->offset + t->bytes > end) end = t->offset + t->bytes;
    }
    if (end) {
        KernelDesc d = {.kind = KERNEL_stream, .stream = {(int64_t)(end - first)}};
        launch(l, &d, (Cost){.bytes = (int64_t)(end - first)}, &first, 1);
    }
    table.count = o->launches.n - table.first;
    vec_push(&o->tables, table);
}

void lower_module(const Module *m, const Target *target, Arena *arena, Lowered *out) {
    *out = (Lowered){0};
    Lower l = {.m = m, .target = target, .arena = arena, .out = out};
    for (uint32_t t = 0; t < m->graphs.n; t++) l.g = m->graphs.at[t], add_shared(&l, OP_param);
    for (uint32_t t = 0; t < m->graphs.n; t++) l.g = m->graphs.at[t], add_shared(&l, OP_state);
    for (uint32_t t = 0; t < m->graphs.n; t++) {
        l.g = m->graphs.at[t];
        uint32_t first = out->launches.n, *start = arena_array(arena, uint32_t, l.g->nodes.n);
        for (uint32_t i = 0; i < l.g->nodes.n; i++) {
            l.node = &l.g->nodes.at[i];
            start[i] = out->launches.n - first;
            lower_node(&l);
        }
        tbc_table table = {.name = l.g->name, .first = first, .count = out->launches.n - first};
        vec_push(&out->tables, table);
        add_local(&l, (int32_t)t, start);
    }
    if (!target->sm) add_roofline(&l);
}

void lowered_free(Lowered *o) {
    vec_free(&o->kernels);
    vec_free(&o->launches);
    vec_free(&o->args);
    vec_free(&o->tables);
    vec_free(&o->tensors);
    vec_free(&o->consts);
}
