/* --export FILE.gguf: a qwen3 model as llama.cpp loads it. Keys and names are those that llama.cpp's
 * convert_hf_to_gguf.py writes. Vectors are F32, ternary matrices --gguf-type, other matrices F16:
 *
 *     q2_0   blocks of 64 weights; a scale of a group of 128 goes into two of them
 *     pq2_0  blocks of 128 weights, as Prism's fork of llama.cpp reads them
 *     f16    code * scale, which f16 holds exactly */
#include "../error.h"
#include "export.h"
#include "../files/f16.h"
#include "gguf_vocab.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    GgmlType type;
    uint32_t file_type; /* llama_ftype; 141 is the fork's */
} types[] = {{"q2_0", GGML_Q2_0, 41}, {"pq2_0", GGML_PQ2_0, 141}, {"f16", GGML_F16, 1}};
enum { TYPES = sizeof types / sizeof *types };

/* Index of --gguf-type; options.c lets only these through. */
static int asked_type(const Session *s) {
    int i = 0;
    while (s->options->gguf_type && i < TYPES - 1 && strcmp(s->options->gguf_type, types[i].name) != 0) i++;
    return i;
}

static GgmlType type_of(const Session *s, const tbc_tensor *param) {
    return param->rank == 1 ? GGML_F32 : param->group ? types[asked_type(s)].type : GGML_F16;
}

/* ---- names */

static const struct {
    const char *ours, *theirs;
} of_model[] = {{"model.embed_tokens.weight", "token_embd.weight"},
                {"model.norm.weight", "output_norm.weight"},
                {"lm_head.weight", "output.weight"}},
  of_block[] = {{"input_layernorm.weight", "attn_norm.weight"},
                {"self_attn.q_proj.weight", "attn_q.weight"},
                {"self_attn.k_proj.weight", "attn_k.weight"},
                {"self_attn.v_proj.weight", "attn_v.weight"},
                {"self_attn.q_norm.weight", "attn_q_norm.weight"},
                {"self_attn.k_norm.weight", "attn_k_norm.weight"},
                {"self_attn.o_proj.weight", "attn_output.weight"},
                {"post_attention_layernorm.weight", "ffn_norm.weight"},
                {"mlp.gate_proj.weight", "ffn_gate.weight"},
                {"mlp.up_proj.weight", "ffn_up.weight"},
                {"mlp.down_proj.weight", "ffn_down.weight"}};
enum { PER_BLOCK = sizeof of_block / sizeof *of_block };

/* GGUF's name for a parameter, heap; NULL: a qwen3 model has no such parameter. */
static char *gguf_name(const char *name) {
    for (size_t i = 0; i < sizeof of_model / sizeof *of_model; i++)
        if (!strcmp(name, of_model[i].ours)) return rt_printf("%s", of_model[i].theirs);
    unsigned layer;
    int at = 0;
    if (sscanf(name, "model.layers.%u.%n", &layer, &at) != 1 || !at) return NULL;
    for (size_t i = 0; i < PER_BLOCK; i++)
        if (!strcmp(name + at, of_block[i].ours)) return rt_printf("blk.%u.%s", layer, of_block[i].theirs);
    return NULL;
}

/* ---- can it be exported? */

static bool check_blocks(const Session *s, const tbc_tensor *t) {
    const char *name = types[asked_type(s)].name;
    int64_t block = ggml_block_weights(type_of(s, t)), cols = t->dim[t->rank - 1];
    if (cols % block)
        return rt_error(s->module.path,
                        "%s: rows of %" PRId64 " weights are no multiple of %s's blocks of %" PRId64
                        " (use --gguf-type f16)",
                        t->name, cols, name, block);
    if (t->group % block && t->group < cols)
        return rt_error(s->module.path,
                        "%s: groups of %" PRIu32 " weights are no multiple of %s's blocks of %" PRId64
                        " (use --gguf-type f16)",
                        t->name, t->group, name, block);
    return true;
}

static bool check_parameters(const Session *s, int64_t layers) {
    int64_t params = 0;
    bool ternary = false, head = false;
    for (uint32_t i = 0; i < s->module.desc->ntensors; i++) {
        const tbc_tensor *t = &s->module.desc->tensors[i];
        if (t->kind != TBC_PARAM) continue;
        char *name = gguf_name(t->name);
        bool known = name != NULL;
        free(name);
        if (!known) return rt_error(s->module.path, "%s: not a parameter of a qwen3 model", t->name);
        if (!check_blocks(s, t)) return false;
        params++;
        ternary |= t->group > 0;
        head |= !strcmp(t->name, "lm_head.weight");
    }
    if (params != layers * PER_BLOCK + 2 + head)
        return rt_error(s->module.path,
                        "%" PRId64 " parameters, a qwen3 model of %" PRId64 " layers has %" PRId64, params,
                        layers, layers * PER_BLOCK + 2 + head);
    return ternary || types[asked_type(s)].type == GGML_F16 ||
           rt_error(s->module.path, "the model is in full precision, %s is ternary (use --gguf-type f16)",
                    types[asked_type(s)].name);
}

static double number(const cJSON *config, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(config, key);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

static const struct {
    const char *ours, *theirs;
} sizes[] = {{"num_hidden_layers", "qwen3.block_count"},
             {"max_position_embeddings", "qwen3.context_length"},
             {"hidden_size", "qwen3.embedding_length"},
             {"intermediate_size", "qwen3.feed_forward_length"},
             {"num_attention_heads", "qwen3.attention.head_count"},
             {"num_key_value_heads", "qwen3.attention.head_count_kv"},
             {"head_dim", "qwen3.attention.key_length"},
             {"head_dim", "qwen3.attention.value_length"}},
  reals[] = {{"rope_theta", "qwen3.rope.freq_base"},
             {"rms_norm_eps", "qwen3.attention.layer_norm_rms_epsilon"}};

static bool check_config(const Session *s, const cJSON *config) {
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(config, "model_type"));
    if (!type || strcmp(type, "qwen3") != 0)
        return rt_error(s->module.path, "a model of type '%s' (GGUF is written for qwen3)",
                        type ? type : "unknown");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        double x = number(config, sizes[i].ours);
        if (!(x >= 1 && x <= UINT32_MAX) || x != floor(x))
            return rt_error(s->module.path, "the model's config lacks %s", sizes[i].ours);
    }
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (!(number(config, reals[i].ours) > 0))
            return rt_error(s->module.path, "the model's config lacks %s", reals[i].ours);
    return check_parameters(s, (int64_t)number(config, "num_hidden_layers"));
}

/* ---- the head */

static void put_metadata(Gguf *g, const Session *s, const cJSON *config) {
    cJSON *meta = cJSON_Parse(s->module.desc->meta);
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(meta, "name"));
    gguf_add_text(g, "general.architecture", "qwen3");
    gguf_add_text(g, "general.type", "model");
    gguf_add_text(g, "general.name", name ? name : "qwen3");
    cJSON_Delete(meta);
    gguf_add_u32(g, "general.file_type", types[asked_type(s)].file_type);
    gguf_add_u32(g, "general.quantization_version", 2);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        gguf_add_u32(g, sizes[i].theirs, (uint32_t)number(config, sizes[i].ours));
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        gguf_add_f32(g, reals[i].theirs, (float)number(config, reals[i].ours));
}

static bool put_vocab(Gguf *g, const Session *s, const cJSON *config) {
    return tokenizer_is_byte(s->tokenizer)
               ? gguf_add_byte_vocab(g, s->module.vocab)
               : gguf_add_vocab(g, tokenizer_name(s->tokenizer), s->module.vocab, config);
}

static bool put_head(Gguf *g, const Session *s) {
    cJSON *config = cJSON_Parse(s->module.config);
    bool ok = check_config(s, config);
    if (ok) put_metadata(g, s, config);
    ok = ok && put_vocab(g, s, config);
    cJSON_Delete(config);
    return ok;
}

bool export_gguf_check(const Session *s) {
    Gguf head = {0};
    NewFile file;
    bool ok = put_head(&head, s) && newfile_open(&file, s->options->export);
    if (ok) newfile_discard(&file);
    gguf_free(&head);
    return ok;
}

/* ---- the data: one row of a parameter into out */

static void put_blocks(const Codes *c, int64_t row, GgmlType type, uint8_t *out) {
    int64_t block = ggml_block_weights(type);
    const uint8_t *codes = c->at + row * c->row_bytes; /* in the order and bits of a block */
    for (int64_t j = 0; j < c->cols; j += block) {
        uint16_t scale = codes_scale(c, row, j / c->group);
        memcpy(out, &scale, 2);
        memcpy(out + 2, codes + j / 4, (size_t)block / 4);
        out += ggml_block_bytes(type);
    }
}

static void put_products(const Codes *c, int64_t row, uint8_t *out) {
    for (int64_t j = 0; j < c->cols; j++) {
        uint16_t scale = codes_scale(c, row, j / c->group);
        int code = code_at(c->at + row * c->row_bytes, j);
        uint16_t value = code > 0 ? scale : code < 0 ? scale ^ 0x8000u : 0;
        memcpy(out + 2 * j, &value, 2);
    }
}

static bool put_halves(const Exported *e, int64_t row, int64_t cols, uint8_t *out) {
    for (int64_t j = 0; j < cols; j++) {
        float x = e->latent[row * cols + j];
        uint16_t value = f16_from_f64((double)x);
        if ((value & 0x7fff) == 0x7c00)
            return rt_error(NULL, "%s: %g is too large for f16; not exported", e->param->name, (double)x);
        memcpy(out + 2 * j, &value, 2);
    }
    return true;
}

static bool write_parameter(NewFile *file, const Exported *e, GgmlType type, uint64_t bytes) {
    int64_t cols = e->param->dim[e->param->rank - 1], rows = tensor_values(e->param) / cols;
    size_t row_bytes = (size_t)bytes / (size_t)rows;
    uint8_t *out = rt_calloc(row_bytes, 1);
    bool ok = true;
    for (int64_t row = 0; ok && row < rows; row++) {
        if (type == GGML_F32)
            memcpy(out, e->latent + row * cols, row_bytes);
        else if (!e->codes.at)
            ok = put_halves(e, row, cols, out);
        else if (type == GGML_F16)
            put_products(&e->codes, row, out);
        else
            put_blocks(&e->codes, row, type, out);
        ok = ok && newfile_write(file, out, row_bytes);
    }
    free(out);
    return ok && gguf_write_padding(file, bytes);
}

bool export_gguf(const Session *s, const Exported *list, size_t n) {
    Gguf head = {0};
    NewFile file = {0};
    uint64_t *bytes = rt_calloc(n, sizeof *bytes);
    bool ok = put_head(&head, s) && newfile_open(&file, s->options->export);
    for (size_t i = 0; ok && i < n; i++) {
        const tbc_tensor *t = list[i].param;
        char *name = gguf_name(t->name);
        bytes[i] = gguf_add_tensor(&head, name, t->rank, t->dim, type_of(s, t));
        free(name);
    }
    ok = ok && gguf_write_head(&head, &file);
    for (size_t i = 0; ok && i < n; i++)
        ok = write_parameter(&file, &list[i], type_of(s, list[i].param), bytes[i]);
    ok = ok && newfile_close(&file) && newfile_commit(&file);
    newfile_discard(&file);
    gguf_free(&head);
    free(bytes);
    return ok;
}
