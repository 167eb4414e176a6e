/* Hugging Face's config.json of a Qwen3 model as a spec: it extends the built-in qwen3.json and sets its
 * dims. Keys that would change the computation and are not supported are errors; others travel along
 * into the config.json that checkpoints carry. Defaults are those of Transformers' Qwen3Config. */
#include "spec.h"
#include "suggest.h"

#include <string.h>

/* The keys that size the model, in Transformers' words and in ours. The largest values keep every matrix
 * below 2^40 elements, far from any real model, so that what is too large is reported here. */
typedef struct Size {
    const char *key, *dim;
    int64_t max;
    int64_t missing;  /* the default; 0: the key is required */
    const char *null; /* the key whose value null stands for; NULL: null is the default */
} Size;
static const Size sizes[] = {
    {"vocab_size", "vocab", 1 << 24, 0, NULL},
    {"hidden_size", "hidden", 1 << 16, 0, NULL},
    {"intermediate_size", "ffn", 1 << 20, 0, NULL},
    {"num_hidden_layers", "layers", 512, 0, NULL},
    {"num_attention_heads", "heads", 1024, 0, NULL},
    {"num_key_value_heads", "kv_heads", 1024, 0, "num_attention_heads"},
    {"head_dim", "head_dim", 4096, 128, NULL},
};
#define SIZES (sizeof sizes / sizeof *sizes)

static bool is_set(const Json *v) {
    return v && v->kind != JSON_NULL;
}

static void check_sizes(Sources *src, const Json *config, Json *dims) {
    for (size_t i = 0; i < SIZES; i++) {
        const Json *v = json_get(config, sizes[i].key);
        int64_t value = sizes[i].missing;
        if (v && !is_set(v) && sizes[i].null) v = json_get(config, sizes[i].null);
        if (!v && !value) json_error(src, config, "the key '%s' is missing", sizes[i].key);
        if ((is_set(v) || (v && !value)) && !json_int(src, v, 1, sizes[i].max, &value)) value = 0;
        if (!value) continue;
        Json number = {.kind = JSON_NUMBER, .number = (double)value};
        number.loc = number.key_loc = v ? v->loc : config->loc;
        json_add(src, dims, sizes[i].dim, &number);
    }
    const Json *heads = json_get(dims, "heads"), *kv = json_get(dims, "kv_heads"),
               *width = json_get(dims, "head_dim");
    if (heads && kv && (int64_t)heads->number % (int64_t)kv->number)
        json_error(
            src, json_get(config, "num_key_value_heads"),
            "%.0f does not divide num_attention_heads %.0f (each key head serves equally many query heads)",
            kv->number, heads->number);
    if (width && (int64_t)width->number % 2)
        json_error(src, json_get(config, "head_dim"),
                   "%.0f is odd (RoPE rotates pairs: an even number was expected)", width->number);
}

/* Adds number `key` of the config (default: missing) as const `name`; it must be above 0. */
static void check_const(Sources *src, const Json *v, double missing, const char *name, Json *consts) {
    Json number = {.kind = JSON_NUMBER, .number = missing};
    number.loc = number.key_loc = consts->loc;
    if (is_set(v)) {
        if (!json_number(src, v, &number.number)) return;
        if (!(number.number > 0)) json_error(src, v, "%g is not above 0", number.number);
        number.loc = v->loc;
    }
    json_add(src, consts, name, &number);
}

static void check_boolean(Sources *src, const Json *v, const char *name, Json *dims) {
    Json tied = {.kind = JSON_BOOL};
    tied.loc = tied.key_loc = dims->loc;
    if (is_set(v)) {
        if (!json_is(src, v, JSON_BOOL)) return;
        tied = *v;
    }
    json_add(src, dims, name, &tied);
}

/* rope_theta stands in the config itself or in rope_parameters; scaled variants are not supported. */
static const Json *check_rope(Sources *src, const Json *config) {
    static const char *const holders[] = {"rope_parameters", "rope_scaling"};
    const Json *theta = json_get(config, "rope_theta");
    for (int i = 0; i < 2; i++) {
        const Json *rope = json_get(config, holders[i]);
        if (!is_set(rope) || !json_is(src, rope, JSON_OBJECT)) continue;
        const Json *type = json_get(rope, "rope_type"), *nested = json_get(rope, "rope_theta");
        const Json *partial = json_get(rope, "partial_rotary_factor");
        if (!is_set(type)) type = json_get(rope, "type");
        if (i == 1 && !is_set(type))
            json_error(src, rope, "scaled RoPE is not supported (null was expected)");
        if (is_set(type) && json_is(src, type, JSON_STRING) && strcmp(type->string, "default") != 0)
            json_error(src, type, "RoPE of type '%.60s' is not supported ('default' was expected)",
                       type->string);
        if (is_set(partial) && (partial->kind != JSON_NUMBER || partial->number != 1))
            json_error(src, partial, "partial RoPE is not supported (1 was expected)");
        if (theta && nested && theta->kind == JSON_NUMBER && nested->kind == JSON_NUMBER &&
            theta->number != nested->number)
            json_error(src, nested, "%g, but another rope_theta of this file is %g", nested->number,
                       theta->number);
        if (!is_set(theta)) theta = nested;
    }
    return theta;
}

/* Keys whose only supported value is one that leaves the computation as it is. */
static void check_unsupported(Sources *src, const Json *config) {
    static const char *const off[] = {"attention_bias", "use_sliding_window"};
    for (int i = 0; i < 2; i++) {
        const Json *v = json_get(config, off[i]);
        if (is_set(v) && json_is(src, v, JSON_BOOL) && v->boolean)
            json_error(src, v, "not supported (false was expected)");
    }
    const Json *act = json_get(config, "hidden_act"), *dropout = json_get(config, "attention_dropout");
    if (is_set(act) && json_is(src, act, JSON_STRING) && strcmp(act->string, "silu") != 0)
        json_error(src, act, "'%.60s' is not supported ('silu' was expected)", act->string);
    double rate;
    if (is_set(dropout) && json_number(src, dropout, &rate) && rate != 0)
        json_error(src, dropout, "dropout is not supported (0 was expected)");
    const Json *types = json_get(config, "layer_types");
    if (!is_set(types) || !json_is(src, types, JSON_ARRAY)) return;
    for (const Json *t = types->first; t; t = t->next) {
        if (!json_is(src, t, JSON_STRING) || strcmp(t->string, "full_attention") == 0) continue;
        json_error(src, t, "'%.60s' is not supported ('full_attention' was expected)", t->string);
        return;
    }
}

/* A key that is nearly one of those that matter is a typing error; any other key is fine. */
static void check_spelling(Sources *src, const Json *config) {
    static const char *const matter[] = {
        "vocab_size",          "hidden_size",         "intermediate_size",  "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "head_dim",           "rms_norm_eps",
        "rope_theta",          "rope_parameters",     "rope_scaling",       "attention_bias",
        "tie_word_embeddings", "hidden_act",          "use_sliding_window", "attention_dropout",
        "sliding_window",      "quantization_config"};
    for (const Json *m = config->first; m; m = m->next) {
        if (strcmp(m->key, "ternary") == 0)
            json_key_error(src, m, "a config.json says this as 'quantization_config' (null: full precision)");
        const char *near = suggest(m->key, matter, sizeof matter / sizeof *matter);
        if (near && strcmp(m->key, near) != 0)
            json_key_error(src, m, "unknown key (did you mean '%s'?)", near);
    }
}

/* quantization_config: absent is ternary as well, null is full precision. */
static void add_ternary(Sources *src, const Json *config, Json *spec) {
    static const char *const keys[] = {"quant_method", "group_size", NULL};
    const Json *quant = json_get(config, "quantization_config");
    if (!quant) return;
    Json *ternary = json_add(src, spec, "ternary", quant);
    if (quant->kind != JSON_OBJECT) {
        if (quant->kind != JSON_NULL) json_is(src, quant, JSON_OBJECT);
        return;
    }
    json_known_keys(src, quant, keys);
    const Json *method = json_get(quant, "quant_method"), *size = json_get(quant, "group_size");
    if (method && json_is(src, method, JSON_STRING) && strcmp(method->string, "ternary") != 0)
        json_error(src, method, "'%.60s' is not supported ('ternary' was expected)", method->string);
    int64_t group;
    *ternary = *json_object(src, quant);
    ternary->key = "ternary", ternary->parent = spec;
    if (size && json_int(src, size, 1, MAX_GROUP, &group)) json_add(src, ternary, "group_size", size);
}

/* What the checkpoint's config.json takes over: everything but what this compiler decides itself. */
static void add_config(Sources *src, const Json *config, Json *spec) {
    static const char *const ours[] = {"torch_dtype", "dtype", "quantization_config"};
    Json *kept = json_add(src, spec, "config", json_object(src, config));
    for (const Json *m = config->first; m; m = m->next) {
        bool keep = is_set(m) && !(m->kind == JSON_STRING && m->string[0] == '{'); /* no template of ours */
        for (int i = 0; i < 3; i++) keep = keep && strcmp(m->key, ours[i]) != 0;
        if (keep) json_add(src, kept, m->key, m);
    }
}

/* ".../tiny/config.json" is called tiny, ".../tiny.json" as well. */
static const char *name_of(Sources *src, const char *path) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = strcspn(base, ".");
    if (slash && strcmp(base, "config.json") == 0) {
        const char *start = slash;
        while (start > path && start[-1] != '/') start--;
        if (slash > start && start[0] != '.') base = start, n = (size_t)(slash - start);
    }
    return n > 0 && n <= 100 ? arena_printf(src->arena, "%.*s", (int)n, base) : "qwen3";
}

const Json *hf_spec(Sources *src, const Json *config) {
    uint32_t before = src->diag->errors;
    const Json *type = json_get(config, "model_type");
    if (!json_is(src, type, JSON_STRING)) return NULL;
    if (strcmp(type->string, "qwen3") != 0) {
        json_error(src, type, "'%.60s' is not supported ('qwen3' was expected)", type->string);
        return NULL;
    }
    Json *spec = json_object(src, config);
    Json base = {.kind = JSON_STRING, .string = "qwen3.json", .loc = config->loc, .key_loc = config->loc};
    Json name = base;
    name.string = name_of(src, src->files.at[config->loc.file]);
    json_add(src, spec, "extends", &base);
    json_add(src, spec, "name", &name);
    Json *dims = json_add(src, spec, "dims", json_object(src, config));
    Json *consts = json_add(src, spec, "consts", json_object(src, config));
    check_sizes(src, config, dims);
    check_boolean(src, json_get(config, "tie_word_embeddings"), "tied", dims);
    check_const(src, json_get(config, "rms_norm_eps"), 1e-6, "eps", consts);
    check_const(src, check_rope(src, config), 10000, "theta", consts);
    add_ternary(src, config, spec);
    check_unsupported(src, config);
    check_spelling(src, config);
    add_config(src, config, spec);
    return src->diag->errors == before ? spec : NULL;
}
