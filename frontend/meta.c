/* The module's meta: one JSON object that travels into train.so, with the config.json that checkpoints
 * get. Strings "{expression}" of the spec's config template become numbers, booleans or consts. */
#include "build.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

typedef struct Meta {
    const Spec *spec;
    Scope scope;
    Buf out;
    bool ok;
} Meta;

/* The text between the braces of "{...}", NULL for any other string. */
static const char *template_text(const Meta *m, const char *text) {
    size_t n = strlen(text);
    if (n < 2 || text[0] != '{' || text[n - 1] != '}') return NULL;
    return arena_printf(m->spec->src->arena, "%.*s", (int)(n - 2), text + 1);
}

static void print_template(Meta *m, const Json *v, const char *text) {
    const Const *constant = spec_const(m->spec, text);
    const Dim *dim = scope_find(&m->scope, text);
    int64_t value;
    size_t at;
    Buf error = {0};
    if (constant) {
        json_print_number(&m->out, constant->value);
    } else if (dim && dim->is_bool) {
        buf_printf(&m->out, dim->value ? "true" : "false");
    } else if (expr_eval(text, &m->scope, &value, &error, &at)) {
        buf_printf(&m->out, "%lld", (long long)value);
    } else {
        json_string_error(m->spec->src, v, at + 1, "%s", error.at);
        m->ok = false;
    }
    buf_free(&error);
}

static void print_value(Meta *m, const Json *v) {
    const char *text = v->kind == JSON_STRING ? template_text(m, v->string) : NULL;
    if (text) {
        print_template(m, v, text);
        return;
    }
    if (v->kind != JSON_ARRAY && v->kind != JSON_OBJECT) {
        json_print(&m->out, v);
        return;
    }
    buf_printf(&m->out, v->kind == JSON_ARRAY ? "[" : "{");
    for (const Json *child = v->first; child; child = child->next) {
        if (child != v->first) buf_printf(&m->out, ",");
        if (child->key) {
            buf_quote(&m->out, child->key);
            buf_printf(&m->out, ":");
        }
        print_value(m, child);
    }
    buf_printf(&m->out, v->kind == JSON_ARRAY ? "]" : "}");
}

static void print_config(Meta *m) {
    buf_printf(&m->out, "{");
    const Json *config = m->spec->config;
    for (const Json *v = config ? config->first : NULL; v; v = v->next) {
        if (strcmp(v->key, "quantization_config") == 0) continue; /* said by "ternary" */
        buf_quote(&m->out, v->key);
        buf_printf(&m->out, ":");
        print_value(m, v);
        buf_printf(&m->out, ",");
    }
    if (m->spec->group)
        buf_printf(&m->out, "\"quantization_config\":{\"quant_method\":\"ternary\",\"group_size\":%lld}}",
                   (long long)m->spec->group);
    else
        buf_printf(&m->out, "\"quantization_config\":null}");
}

static void print_train(Meta *m) {
    const Optimizer *o = &m->spec->optimizer;
    const struct {
        const char *key;
        double value;
    } number[] = {{"lr", o->lr},       {"warmup", (double)o->warmup}, {"weight_decay", o->weight_decay},
                  {"beta1", o->beta1}, {"beta2", o->beta2},           {"eps", o->eps}};
    buf_printf(&m->out, "{");
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        buf_printf(&m->out, "\"%s\":", number[i].key);
        json_print_number(&m->out, number[i].value);
        buf_printf(&m->out, ",");
    }
    buf_printf(&m->out, "\"bias_correction\":%s}", o->bias_correction ? "true" : "false");
}

const char *build_meta(const Spec *spec, int64_t vocab, Arena *arena) {
    Meta m = {.spec = spec, .scope = {0}, .ok = true};
    Dim sizes[] = {{.name = "batch", .value = spec->batch}, {.name = "seq", .value = spec->seq}};
    for (uint32_t i = 0; i < spec->dims.n; i++) vec_push(&m.scope, spec->dims.at[i]);
    for (uint32_t i = 0; i < 2; i++) vec_push(&m.scope, sizes[i]);
    buf_printf(&m.out, "{\"name\":");
    buf_quote(&m.out, spec->name);
    buf_printf(&m.out, ",\"batch\":%lld,\"seq\":%lld,\"vocab\":%lld,\"train\":", (long long)spec->batch,
               (long long)spec->seq, (long long)vocab);
    print_train(&m);
    buf_printf(&m.out, ",\"config\":");
    print_config(&m);
    buf_printf(&m.out, "}");
    const char *text = m.ok ? arena_strdup(arena, m.out.at) : NULL;
    buf_free(&m.out);
    free(m.scope.at);
    return text;
}

bool meta_set(Module *m, const char *const *pairs) {
    cJSON *meta = cJSON_Parse(m->meta);
    bool ok = cJSON_IsObject(meta);
    for (; ok && *pairs; pairs += 2) {
        cJSON *value = cJSON_CreateString(pairs[1]);
        if (cJSON_GetObjectItemCaseSensitive(meta, pairs[0]))
            cJSON_ReplaceItemInObjectCaseSensitive(meta, pairs[0], value);
        else
            cJSON_AddItemToObject(meta, pairs[0], value);
    }
    if (ok) {
        char *text = cJSON_PrintUnformatted(meta);
        m->meta = arena_strdup(m->arena, text);
        cJSON_free(text);
    }
    cJSON_Delete(meta);
    return ok;
}
