/* --export: GGUF and safetensors files against the codes, scales and latents they were made from, which are
 * random and stand in the arena of a module made here; tokenizers; what cannot be exported. */
#include "../runtime/error.h"
#include "../runtime/export/export.h"
#include "../runtime/files/f16.h"
#include "../runtime/export/gguf_vocab.h"
#include "gguf_reader.h"
#include "rt_tools.h"
#include <dirent.h>

/* ---- a model of one layer; the codes are there already */

typedef struct Sizes {
    int64_t vocab, hidden, ffn, heads, kv, head_dim;
    uint32_t group; /* 0: full precision */
    bool tied;
} Sizes;
static const Sizes plain = {260, 256, 384, 4, 2, 64, 128, true};

enum { MAX_PARAMS = 14 };
typedef struct Model {
    tbc_tensor tensors[2 * MAX_PARAMS];
    tbc_table table;
    tbc_module_t desc;
    Options options;
    Session session;
    uint64_t used;
} Model;

static void add_param(Model *m, const char *name, int64_t rows, int64_t cols, uint32_t group) {
    tbc_tensor t = {.name = name, .kind = TBC_PARAM, .table = -1, .group = group, .rank = rows ? 2 : 1};
    t.dim[0] = rows ? rows : cols;
    t.dim[1] = rows ? cols : 0;
    t.offset = m->used;
    t.bytes = (uint64_t)((rows ? rows : 1) * cols) * 4;
    m->used = (m->used + t.bytes + 63) / 64 * 64;
    m->tensors[m->desc.ntensors++] = t;
    if (!group) return;
    tbc_tensor c = t;
    c.kind = TBC_CODES, c.dtype = TBC_T2, c.offset = m->used;
    c.bytes =
        (uint64_t)((rows * ((cols + 15) / 16 * 4) + 63) / 64 * 64 + rows * ((cols + group - 1) / group) * 2);
    m->used = (m->used + c.bytes + 63) / 64 * 64;
    m->tensors[m->desc.ntensors++] = c;
}

static void add_params(Model *m, const Sizes *z) {
    add_param(m, "model.embed_tokens.weight", z->vocab, z->hidden, z->group);
#define LAYER "model.layers.0."
    add_param(m, LAYER "input_layernorm.weight", 0, z->hidden, 0);
    add_param(m, LAYER "self_attn.q_proj.weight", z->heads * z->head_dim, z->hidden, z->group);
    add_param(m, LAYER "self_attn.k_proj.weight", z->kv * z->head_dim, z->hidden, z->group);
    add_param(m, LAYER "self_attn.v_proj.weight", z->kv * z->head_dim, z->hidden, z->group);
    add_param(m, LAYER "self_attn.q_norm.weight", 0, z->head_dim, 0);
    add_param(m, LAYER "self_attn.k_norm.weight", 0, z->head_dim, 0);
    add_param(m, LAYER "self_attn.o_proj.weight", z->hidden, z->heads * z->head_dim, z->group);
    add_param(m, LAYER "post_attention_layernorm.weight", 0, z->hidden, 0);
    add_param(m, LAYER "mlp.gate_proj.weight", z->ffn, z->hidden, z->group);
    add_param(m, LAYER "mlp.up_proj.weight", z->ffn, z->hidden, z->group);
    add_param(m, LAYER "mlp.down_proj.weight", z->hidden, z->ffn, z->group);
    add_param(m, "model.norm.weight", 0, z->hidden, 0);
    if (!z->tied) add_param(m, "lm_head.weight", z->vocab, z->hidden, z->group);
}

static void *at_tensor(const Model *m, const tbc_tensor *t) {
    return m->session.device.arena + t->offset;
}

/* Random latents; random codes, padding and scales (f16: subnormal, 0 and large ones too). */
static void fill(Model *m) {
    for (uint32_t i = 0; i < m->desc.ntensors; i++) {
        const tbc_tensor *t = &m->tensors[i];
        float *w = at_tensor(m, t);
        uint8_t *bytes = at_tensor(m, t);
        for (int64_t j = 0; t->kind == TBC_PARAM && j < tensor_values(t); j++)
            w[j] = (float)(rng_uniform(7, i, (uint64_t)j) - 0.5);
        if (t->kind != TBC_CODES) continue;
        uint64_t scales = (uint64_t)(t->dim[0] * ((t->dim[1] + 15) / 16 * 4) + 63) / 64 * 64;
        for (uint64_t j = 0; j < scales; j++)
            for (int k = 0; k < 4; k++) bytes[j] |= (uint8_t)(rng_bits(8 + (uint64_t)k, i, j) % 3 << 2 * k);
        for (uint64_t j = scales; j < t->bytes; j += 2) {
            uint16_t scale = (uint16_t)(rng_bits(9, i, j) % 0x7c00);
            memcpy(bytes + j, &scale, 2);
        }
    }
}

static Model *make_model(const Sizes *z, const char *model_type) {
    Model *m = calloc(1, sizeof *m);
    add_params(m, z);
    m->table = (tbc_table){.name = "eval"};
    m->desc.tables = &m->table, m->desc.ntables = 1;
    m->desc.tensors = m->tensors;
    m->desc.meta = "{\"name\":\"tiny\"}";
    LoadedModule *module = &m->session.module;
    *module = (LoadedModule){.desc = &m->desc, .path = "m.so", .vocab = z->vocab};
    module->config = rt_printf(
        "{\"model_type\":\"%s\",\"num_hidden_layers\":1,\"max_position_embeddings\":512,\"hidden_size\":%d,"
        "\"intermediate_size\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"head_dim\":%d,"
        "\"rope_theta\":1000000,\"rms_norm_eps\":1e-6,\"eos_token_id\":7,"
        "\"quantization_config\":{\"quant_method\":\"ternary\",\"group_size\":%u}}",
        model_type, (int)z->hidden, (int)z->ffn, (int)z->heads, (int)z->kv, (int)z->head_dim, z->group);
    m->session.options = &m->options;
    m->session.device = (Device){.module = module, .arena = calloc(m->used, 1), .kind = &device_cpu};
    m->session.tokenizer = tokenizer_open("byte");
    fill(m);
    return m;
}

static void free_model(Model *m) {
    tokenizer_close(m->session.tokenizer);
    free(m->session.module.config);
    free(m->session.device.arena);
    free(m);
}

/* What the forward pass computes with: code * scale, or the latent weight. Read by the contract alone. */
static float effective(const Model *m, const tbc_tensor *t, int64_t i) {
    const tbc_tensor *c = t + 1;
    if (!t->group) return ((float *)at_tensor(m, t))[i];
    int64_t cols = t->dim[1], row = i / cols, j = i % cols, row_bytes = (cols + 15) / 16 * 4;
    const uint8_t *at = at_tensor(m, c);
    const uint8_t *scales = at + (t->dim[0] * row_bytes + 63) / 64 * 64;
    int64_t groups = (cols + c->group - 1) / c->group;
    return (float)(((at[row * row_bytes + j / 4] >> 2 * (j % 4) & 3) - 1) *
                   gguf_half(scales + 2 * (row * groups + j / c->group)));
}

/* Exports, as main would; the text of what it says on stdout is of no interest. */
static bool export_to(Model *m, const char *path, const char *type) {
    m->options.export = path;
    m->options.gguf_type = strstr(path, ".gguf") ? type : NULL;
    m->options.export_as = strstr(path, ".gguf") ? NULL : type;
    return export_check(&m->session) && export_model(&m->session);
}

static GgufFile *read_back(const char *path) {
    size_t n;
    char *bytes = get_file(path, &n);
    return gguf_read(bytes, n);
}

static void free_file(GgufFile *f) {
    free((void *)(uintptr_t)f->bytes);
    free(f);
}

/* ---- GGUF: weights */

static const struct {
    const char *ours, *theirs;
} names[] = {{"model.embed_tokens.weight", "token_embd.weight"},
             {"model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"},
             {"model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"},
             {"model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k.weight"},
             {"model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight"},
             {"model.layers.0.self_attn.q_norm.weight", "blk.0.attn_q_norm.weight"},
             {"model.layers.0.self_attn.k_norm.weight", "blk.0.attn_k_norm.weight"},
             {"model.layers.0.self_attn.o_proj.weight", "blk.0.attn_output.weight"},
             {"model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"},
             {"model.layers.0.mlp.gate_proj.weight", "blk.0.ffn_gate.weight"},
             {"model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight"},
             {"model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"},
             {"model.norm.weight", "output_norm.weight"},
             {"lm_head.weight", "output.weight"}};

static const tbc_tensor *param_named(const Model *m, const char *name) {
    for (uint32_t i = 0; i < m->desc.ntensors; i++)
        if (m->tensors[i].kind == TBC_PARAM && !strcmp(m->tensors[i].name, name)) return &m->tensors[i];
    return NULL;
}

/* Every weight of the file is the module's, bit by bit; f16 may round latents. */
static void compare_weights(const Model *m, const GgufFile *f, uint32_t type) {
    uint64_t compared = 0;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        const tbc_tensor *t = param_named(m, names[k].ours);
        if (!t) continue;
        const GgufTensor *g = gguf_tensor(f, names[k].theirs);
        ck_assert_uint_eq(g->rank, t->rank);
        for (uint32_t d = 0; d < t->rank; d++) ck_assert_int_eq((int64_t)g->dim[t->rank - 1 - d], t->dim[d]);
        ck_assert_uint_eq(g->type, t->rank == 1 ? 0 : t->group ? type : 1);
        for (int64_t i = 0; i < tensor_values(t); i++) {
            float want = effective(m, t, i), got = gguf_weight(g, (uint64_t)i);
            float tolerance = g->type == 1 && !t->group ? fabsf(want) / 2048 + 0x1p-25f : 0;
            ck_assert_msg(fabsf(got - want) <= tolerance, "%s: weight %ld is %g, expected %g", names[k].ours,
                          (long)i, (double)got, (double)want);
        }
        compared++;
    }
    ck_assert_uint_eq(f->ntensors, compared);
}

static const struct {
    Sizes sizes;
    const char *type;
    uint32_t id, file_type;
} good[] = {
    {{260, 256, 384, 4, 2, 64, 128, true}, "q2_0", 42, 41},
    {{260, 256, 384, 4, 2, 64, 128, false}, NULL, 42, 41},  /* q2_0 is the default */
    {{256, 192, 320, 3, 1, 64, 128, true}, "q2_0", 42, 41}, /* a last group of 64 */
    {{256, 64, 64, 2, 1, 32, 100, true}, "q2_0", 42, 41},   /* one group a row */
    {{256, 128, 192, 4, 2, 32, 64, false}, "q2_0", 42, 41},
    {{256, 128, 256, 4, 2, 32, 128, true}, "pq2_0", 142, 141},
    {{256, 256, 512, 4, 2, 64, 256, false}, "pq2_0", 142, 141},
    {{257, 50, 66, 5, 1, 10, 24, true}, "f16", 1, 1},
    {{256, 64, 96, 4, 2, 16, 0, false}, "f16", 1, 1},
};

START_TEST(gguf_weights_are_the_modules) {
    Model *m = make_model(&good[_i].sizes, "qwen3");
    ck_assert(export_to(m, scratch("m.gguf"), good[_i].type));
    GgufFile *f = read_back(scratch("m.gguf"));
    compare_weights(m, f, good[_i].id);
    ck_assert_uint_eq(gguf_u32(f, "general.file_type"), good[_i].file_type);
    free_file(f);
    free_model(m);
}
END_TEST

/* ---- GGUF: metadata and tokenizers */

START_TEST(gguf_metadata) {
    Model *m = make_model(&plain, "qwen3");
    ck_assert(export_to(m, scratch("m.gguf"), "q2_0"));
    GgufFile *f = read_back(scratch("m.gguf"));
    ck_assert(gguf_text_is(f, "general.architecture", 0, "qwen3"));
    ck_assert(gguf_text_is(f, "general.name", 0, "tiny"));
    ck_assert_uint_eq(gguf_u32(f, "general.quantization_version"), 2);
    ck_assert_uint_eq(gguf_u32(f, "qwen3.block_count"), 1);
    ck_assert_uint_eq(gguf_u32(f, "qwen3.context_length"), 512);
    ck_assert_uint_eq(gguf_u32(f, "qwen3.embedding_length"), 256);
    ck_assert_uint_eq(gguf_u32(f, "qwen3.feed_forward_length"), 384);
    ck_assert_uint_eq(gguf_u32(f, "qwen3.attention.head_count"), 4);
    ck_assert_uint_eq(gguf_u32(f, "qwen3.attention.head_count_kv"), 2);
    ck_assert_uint_eq(gguf_u32(f, "qwen3.attention.key_length"), 64);
    ck_assert_uint_eq(gguf_u32(f, "qwen3.attention.value_length"), 64);
    ck_assert_float_eq(gguf_f32(f, "qwen3.rope.freq_base"), 1e6f);
    ck_assert_float_eq(gguf_f32(f, "qwen3.attention.layer_norm_rms_epsilon"), 1e-6f);
    free_file(f);
    free_model(m);
}
END_TEST

#define KEY(name) "tokenizer.ggml." name

START_TEST(byte_tokenizer) {
    static const struct {
        int byte;
        const char *text;
    } symbols[] = {{0, "\u0100"},   {'\n', "\u010a"}, {' ', "\u0120"},   {'!', "!"},       {'A', "A"},
                   {'~', "~"},      {127, "\u0121"},  {160, "\u0142"},   {161, "\u00a1"},  {173, "\u0143"},
                   {174, "\u00ae"}, {255, "\u00ff"},  {256, "[PAD256]"}, {259, "[PAD259]"}};
    Model *m = make_model(&plain, "qwen3");
    ck_assert(export_to(m, scratch("m.gguf"), "q2_0"));
    GgufFile *f = read_back(scratch("m.gguf"));
    ck_assert(gguf_text_is(f, KEY("model"), 0, "gpt2"));
    ck_assert(gguf_text_is(f, KEY("pre"), 0, "gpt-2"));
    ck_assert_uint_eq(gguf_pair(f, KEY("tokens"))->n, 260);
    ck_assert_uint_eq(gguf_pair(f, KEY("token_type"))->n, 260);
    ck_assert_uint_eq(gguf_pair(f, KEY("merges"))->n, 0);
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        uint64_t id = (uint64_t)symbols[i].byte;
        ck_assert_msg(gguf_text_is(f, KEY("tokens"), id, symbols[i].text), "byte %d", symbols[i].byte);
        ck_assert_int_eq(gguf_i32_at(f, KEY("token_type"), id), id < 256 ? 1 : 5);
    }
    free_file(f);
    free_model(m);
}
END_TEST

#define QWEN2                                                                                                \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "                        \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define PRE(regex)                                                                                           \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"          \
    "\"Regex\":\"" regex "\"}},{\"type\":\"ByteLevel\",\"use_regex\":false}]}"
#define BPE(vocab, merges) "\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}"
#define ADDED                                                                                                \
    "\"added_tokens\":[{\"id\":4,\"content\":\"<|end|>\",\"special\":true},"                                 \
    "{\"id\":5,\"content\":\"<tool>\",\"special\":false},{\"id\":6,\"content\":\"<|fim|>\",\"special\":"     \
    "false}]"
#define SMALL "{\"a\":0,\"b\":1,\"ab\":2,\"\u0120\":3}"

/* Writes tokenizer.json, and adds it to a head that is then read back; NULL: it failed. */
static GgufFile *read_vocab(const char *json, int64_t vocab, const char *config_text) {
    put_file("tokenizer.json", json, strlen(json));
    cJSON *config = cJSON_Parse(config_text);
    Gguf g = {0};
    NewFile file;
    bool ok = gguf_add_vocab(&g, scratch("tokenizer.json"), vocab, config);
    cJSON_Delete(config);
    if (ok)
        ok = newfile_open(&file, scratch("vocab.gguf")) && gguf_write_head(&g, &file) &&
             newfile_close(&file) && newfile_commit(&file);
    gguf_free(&g);
    return ok ? read_back(scratch("vocab.gguf")) : NULL;
}

START_TEST(tokenizer_of_a_file) {
    static const char settings[] = "{\"eos_token\":\"<|end|>\",\"pad_token\":{\"content\":\"<tool>\"},"
                                   "\"bos_token\":null,\"chat_template\":\"{{ x }}\\n\"}";
    static const char *const json[] = {
        "{" PRE(QWEN2) "," ADDED "," BPE(SMALL, "[[\"a\",\"b\"],[\"\u0120\",\"a\"]]") "}",
        "{" PRE(QWEN2) "," ADDED "," BPE(SMALL, "[\"a b\",\"\u0120 a\"]") "}"};
    static const char *const texts[] = {"a", "b", "ab", "\u0120", "<|end|>", "<tool>", "<|fim|>", "[PAD7]"};
    static const int32_t types[] = {1, 1, 1, 1, 3, 4, 3, 5};
    put_file("tokenizer_config.json", settings, strlen(settings));
    GgufFile *f = read_vocab(json[_i], 8, "{\"bos_token_id\":2,\"eos_token_id\":3}");
    ck_assert_ptr_nonnull(f);
    ck_assert(gguf_text_is(f, KEY("model"), 0, "gpt2"));
    ck_assert(gguf_text_is(f, KEY("pre"), 0, "qwen2"));
    ck_assert_uint_eq(gguf_pair(f, KEY("tokens"))->n, 8);
    for (uint64_t i = 0; i < 8; i++) {
        ck_assert(gguf_text_is(f, KEY("tokens"), i, texts[i]));
        ck_assert_int_eq(gguf_i32_at(f, KEY("token_type"), i), types[i]);
    }
    ck_assert_uint_eq(gguf_pair(f, KEY("merges"))->n, 2);
    ck_assert(gguf_text_is(f, KEY("merges"), 0, "a b"));
    ck_assert(gguf_text_is(f, KEY("merges"), 1, "\u0120 a"));
    ck_assert_uint_eq(gguf_u32(f, KEY("bos_token_id")), 2); /* only config.json has it */
    ck_assert_uint_eq(gguf_u32(f, KEY("eos_token_id")), 4);
    ck_assert_uint_eq(gguf_u32(f, KEY("padding_token_id")), 5);
    ck_assert(gguf_text_is(f, "tokenizer.chat_template", 0, "{{ x }}\n"));
    free_file(f);
}
END_TEST

START_TEST(chat_template_of_a_file) {
    put_file("chat_template.jinja", "{% y %}", 7);
    GgufFile *f = read_vocab("{\"pre_tokenizer\":{\"type\":\"ByteLevel\"}," BPE(SMALL, "[]") "}", 4, "{}");
    ck_assert_ptr_nonnull(f);
    ck_assert(gguf_text_is(f, KEY("pre"), 0, "gpt-2"));
    ck_assert(gguf_text_is(f, "tokenizer.chat_template", 0, "{% y %}"));
    ck_assert_ptr_null(gguf_pair(f, KEY("eos_token_id")));
    free_file(f);
}
END_TEST

static const struct {
    const char *json, *error;
} bad_tokenizers[] = {
    {"[]", "not a JSON object"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{}}}", "not a tokenizer of type BPE"},
    {"{" PRE(QWEN2) "," BPE("{\"a\":8}", "[]") "}", "its id is 8, the model has 8 tokens only"},
    {"{" PRE(QWEN2) "," BPE("{\"a\":-1}", "[]") "}", "not a token with an id"},
    {"{" PRE(QWEN2) "," BPE("{\"a\":0.5}", "[]") "}", "not a token with an id"},
    {"{" PRE(QWEN2) "," BPE("{\"a\":1,\"b\":1}", "[]") "}", "id 1 is both 'a' and 'b'"},
    {"{\"added_tokens\":[{\"id\":1}]," BPE("{}", "[]") "}", "not a token with an id"},
    {"{" PRE("x+") "," BPE("{\"a\":1}", "[]") "}", "pre-tokenizer"},
    {"{" BPE("{\"a\":1}", "[]") "}", "pre-tokenizer"},
    {"{" PRE(QWEN2) "," BPE("{\"a\":1}", "{}") "}", "no merges"},
    {"{" PRE(QWEN2) "," BPE("{\"a\":1}", "[[\"a\"]]") "}", "not a pair"},
};

START_TEST(tokenizers_that_cannot_be_exported) {
    ck_fails(read_vocab(bad_tokenizers[_i].json, 8, "{}") != NULL, bad_tokenizers[_i].error);
}
END_TEST

START_TEST(qwen3_tokenizer) {
    const char *home = getenv("TBC_DATA_HOME");
    char *path = rt_printf("%s/qwen3-tokenizer/tokenizer.json", home ? home : "");
    if (!home || !file_exists(path)) {
        printf("skipped: qwen3_tokenizer (no %s)\n", path);
        free(path);
        return;
    }
    Gguf g = {0};
    NewFile file;
    ck_assert(gguf_add_vocab(&g, path, 151936, NULL));
    ck_assert(newfile_open(&file, scratch("v.gguf")) && gguf_write_head(&g, &file) && newfile_close(&file) &&
              newfile_commit(&file));
    GgufFile *f = read_back(scratch("v.gguf"));
    ck_assert(gguf_text_is(f, KEY("pre"), 0, "qwen2"));
    ck_assert_uint_eq(gguf_pair(f, KEY("tokens"))->n, 151936);
    ck_assert_uint_eq(gguf_pair(f, KEY("merges"))->n, 151387);
    ck_assert(gguf_text_is(f, KEY("tokens"), 151645, "<|im_end|>"));
    ck_assert_int_eq(gguf_i32_at(f, KEY("token_type"), 151645), 3);
    ck_assert_int_eq(gguf_i32_at(f, KEY("token_type"), 151668), 4);
    ck_assert_int_eq(gguf_i32_at(f, KEY("token_type"), 151669), 5);
    free_file(f);
    gguf_free(&g);
    free(path);
}
END_TEST

/* ---- safetensors */

static char *config_of(const char *path, bool *full_precision) {
    size_t n;
    char *text = get_file(path, &n);
    cJSON *json = cJSON_Parse(text);
    *full_precision = cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(json, "quantization_config"));
    ck_assert_ptr_nonnull(cJSON_GetObjectItemCaseSensitive(json, "rope_theta"));
    cJSON_Delete(json);
    return text;
}

static void compare_safetensors(const Model *m, const char *dir, bool latent) {
    SafeTensors *st = st_open(dir);
    ck_assert_ptr_nonnull(st);
    for (uint32_t k = 0; k < m->desc.ntensors; k++) {
        const tbc_tensor *t = &m->tensors[k];
        if (t->kind != TBC_PARAM) continue;
        const StTensor *got = st_find(st, t->name);
        ck_assert_ptr_nonnull(got);
        ck_assert_uint_eq(got->rank, t->rank);
        ck_assert_mem_eq(got->dim, t->dim, t->rank * sizeof *t->dim);
        int64_t n = tensor_values(t);
        float *values = malloc((size_t)n * sizeof *values);
        ck_assert(st_read_f32(got, values));
        for (int64_t i = 0; i < n; i++)
            ck_assert_float_eq(values[i], latent ? ((float *)at_tensor(m, t))[i] : effective(m, t, i));
        free(values);
    }
    st_close(st);
}

START_TEST(hugging_face_weights) {
    bool latent = _i & 1, full;
    const char *dir = scratch("hf");
    Model *m = make_model(&good[_i / 2 % 2 ? 7 : 1].sizes, "anything");
    ck_assert(export_to(m, dir, latent ? "latent" : _i & 2 ? "dequantized" : NULL));
    compare_safetensors(m, dir, latent);
    free(config_of(scratch("hf/config.json"), &full));
    ck_assert(full == !latent);
    ck_assert(export_to(m, dir, "dequantized")); /* over the previous one */
    compare_safetensors(m, dir, false);
    free_model(m);
}
END_TEST

/* Scales with few bits: the matrix that has only such is bf16, and as exact. */
START_TEST(bf16_where_it_is_exact) {
    Model *m = make_model(&plain, "qwen3");
    const tbc_tensor *t = param_named(m, "model.layers.0.mlp.up_proj.weight");
    uint8_t *scales = (uint8_t *)at_tensor(m, t + 1) + t->dim[0] * t->dim[1] / 4;
    for (int64_t i = 0; i < t->dim[0] * t->dim[1] / t->group; i++) scales[2 * i] &= 0xf8;
    ck_assert(export_to(m, scratch("hf"), NULL));
    compare_safetensors(m, scratch("hf"), false);
    SafeTensors *st = st_open(scratch("hf"));
    ck_assert_str_eq(st_find(st, t->name)->dtype, "BF16");
    ck_assert_str_eq(st_find(st, "model.layers.0.mlp.gate_proj.weight")->dtype, "F32");
    st_close(st);
    free_model(m);
}
END_TEST

/* ---- what cannot be exported, and where to */

START_TEST(sizes_that_do_not_fit) {
    static const struct {
        Sizes sizes;
        const char *type, *error;
    } bad[] = {
        {{256, 64, 96, 2, 1, 32, 128, true}, "q2_0", "mlp.down_proj.weight: rows of 96 weights"},
        {{256, 192, 256, 2, 1, 32, 96, true}, "q2_0", "model.embed_tokens.weight: groups of 96 weights"},
        {{256, 192, 256, 2, 1, 64, 128, true}, "pq2_0", "model.embed_tokens.weight: rows of 192 weights"},
        {{256, 256, 256, 2, 1, 64, 64, true},
         "pq2_0",
         "groups of 64 weights are no multiple of pq2_0's blocks"},
        {{256, 128, 128, 2, 1, 64, 0, true}, "q2_0", "full precision"},
        {{200, 128, 128, 2, 1, 64, 128, true}, "q2_0", "the model has 200 tokens"},
    };
    Model *m = make_model(&bad[_i].sizes, "qwen3");
    ck_fails(export_to(m, scratch("m.gguf"), bad[_i].type), bad[_i].error);
    ck_assert(!file_exists(scratch("m.gguf")) && !file_exists(scratch("m.gguf.tmp")));
    free_model(m);
}
END_TEST

START_TEST(models_that_are_no_qwen3) {
    Model *m = make_model(&plain, "bigram");
    ck_fails(export_to(m, scratch("m.gguf"), NULL), "a model of type 'bigram'");
    free_model(m);
    m = make_model(&plain, "qwen3");
    m->tensors[2].name = "model.layers.0.input_layernorm.bias";
    ck_fails(export_to(m, scratch("m.gguf"), NULL), "not a parameter of a qwen3 model");
    m->tensors[2].name = "model.layers.0.input_layernorm.weight";
    m->desc.ntensors--;
    ck_fails(export_to(m, scratch("m.gguf"), NULL), "12 parameters, a qwen3 model of 1 layers has 13");
    m->desc.ntensors++;
    memcpy(strstr(m->session.module.config, "head_dim"), "dead_him", 8);
    ck_fails(export_to(m, scratch("m.gguf"), NULL), "config lacks head_dim");
    free_model(m);
}
END_TEST

START_TEST(weights_that_are_not_finite) {
    Model *m = make_model(&plain, "qwen3");
    ((float *)at_tensor(m, param_named(m, "model.norm.weight")))[5] = NAN;
    ck_fails(export_to(m, scratch("m.gguf"), NULL), "model.norm.weight is not finite");
    free_model(m);
    m = make_model(&good[8].sizes, "qwen3");
    ((float *)at_tensor(m, param_named(m, "lm_head.weight")))[3] = 65520;
    ck_fails(export_to(m, scratch("m.gguf"), "f16"), "lm_head.weight: 65520 is too large for f16");
    ck_assert(!file_exists(scratch("m.gguf")) && !file_exists(scratch("m.gguf.tmp")));
    free_model(m);
}
END_TEST

static bool export_limited(Model *m, const char *path, rlim_t limit) {
    file_limit(limit);
    bool ok = export_to(m, path, NULL);
    file_limit(RLIM_INFINITY);
    return ok;
}

static int entries(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;
}

START_TEST(a_full_disk_leaves_nothing) {
    Model *m = make_model(&plain, "qwen3");
    ck_fails(export_limited(m, scratch("m.gguf"), 70000), "m.gguf: error: cannot write: File too large");
    ck_fails(export_limited(m, scratch("hf"), 70000), "cannot write: File too large");
    ck_assert_int_eq(entries(scratch_dir), 0);
    free_model(m);
}
END_TEST

START_TEST(places_that_are_not_overwritten) {
    Model *m = make_model(&plain, "qwen3");
    mkdir(scratch("ck"), 0777);
    put_file("ck/state.json", "{}", 2);
    ck_fails(export_to(m, scratch("ck"), NULL), "is a checkpoint");
    m->options.weights = scratch("hf");
    mkdir(scratch("hf"), 0777);
    ck_fails(export_to(m, scratch("hf/"), NULL), "holds the weights that are exported");
    put_file("hf/model.safetensors", "", 0);
    m->options.weights = scratch("hf/model.safetensors");
    ck_fails(export_to(m, scratch("hf"), NULL), "holds the weights that are exported");
    ck_fails(export_to(m, scratch("none/m.gguf"), NULL), "No such file");
    ck_fails(export_to(m, scratch("none/hf"), NULL), "No such file");
    mkdir(scratch("d.gguf"), 0777);
    ck_fails(export_to(m, scratch("d.gguf"), NULL), "not a regular file");
    free_model(m);
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("export");
    tcase_add_loop_test(tests, gguf_weights_are_the_modules, 0, sizeof good / sizeof *good);
    tcase_add_test(tests, gguf_metadata);
    tcase_add_test(tests, byte_tokenizer);
    tcase_add_loop_test(tests, tokenizer_of_a_file, 0, 2);
    tcase_add_test(tests, chat_template_of_a_file);
    tcase_add_loop_test(tests, tokenizers_that_cannot_be_exported, 0,
                        sizeof bad_tokenizers / sizeof *bad_tokenizers);
    tcase_add_test(tests, qwen3_tokenizer);
    tcase_add_loop_test(tests, hugging_face_weights, 0, 4);
    tcase_add_test(tests, bf16_where_it_is_exact);
    tcase_add_loop_test(tests, sizes_that_do_not_fit, 0, 6);
    tcase_add_test(tests, models_that_are_no_qwen3);
    tcase_add_test(tests, weights_that_are_not_finite);
    tcase_add_test(tests, a_full_disk_leaves_nothing);
    tcase_add_test(tests, places_that_are_not_overwritten);
    return run_tests("export", tests);
}
