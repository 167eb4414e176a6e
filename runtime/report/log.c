/* The history of a run, read back from its JSONL log. */
#include "../error.h"
#include "parts.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add(Series *s, double x, double y) {
    if (!isfinite(y)) return;
    while (s->n && s->x[s->n - 1] >= x) s->n--;
    if (s->n == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 64;
        s->x = rt_realloc(s->x, s->capacity * sizeof *s->x);
        s->y = rt_realloc(s->y, s->capacity * sizeof *s->y);
    }
    s->x[s->n] = x;
    s->y[s->n++] = y;
}

static CodeHistory *codes_of(History *h, const char *name) {
    for (size_t i = 0; i < h->ncodes; i++)
        if (!strcmp(h->codes[i].name, name)) return &h->codes[i];
    h->codes = rt_realloc(h->codes, (h->ncodes + 1) * sizeof *h->codes);
    h->codes[h->ncodes] = (CodeHistory){.name = rt_printf("%s", name)};
    return &h->codes[h->ncodes++];
}

static void add_codes(History *h, double step, const cJSON *codes) {
    const cJSON *entry;
    cJSON_ArrayForEach(entry, codes) {
        if (!cJSON_IsArray(entry) || cJSON_GetArraySize(entry) != 3) continue;
        CodeHistory *c = codes_of(h, entry->string);
        for (int i = 0; i < 3; i++)
            add(&c->share[i], step, cJSON_GetNumberValue(cJSON_GetArrayItem(entry, i)));
    }
}

static void add_line(History *h, const cJSON *line) {
    const struct {
        const char *key;
        Series *series;
    } known[] = {{"loss", &h->loss},
                 {"lr", &h->lr},
                 {"grad_norm", &h->grad_norm},
                 {"tokens_per_s", &h->tokens_per_s},
                 {"eval_loss", &h->eval_loss}};
    const double step = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(line, "step"));
    if (!isfinite(step)) return;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(line, known[i].key);
        if (cJSON_IsNumber(value)) add(known[i].series, step, value->valuedouble);
    }
    add_codes(h, step, cJSON_GetObjectItemCaseSensitive(line, "codes"));
}

void history_read(History *h, FILE *file) {
    char *text = NULL;
    size_t capacity = 0;
    *h = (History){0};
    while (getline(&text, &capacity, file) >= 0) {
        cJSON *line = cJSON_Parse(text);
        if (line) add_line(h, line);
        cJSON_Delete(line);
    }
    free(text);
}

static void series_free(Series *s) {
    free(s->x), free(s->y);
}

void history_free(History *h) {
    Series *all[] = {&h->loss, &h->lr, &h->grad_norm, &h->tokens_per_s, &h->eval_loss};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) series_free(all[i]);
    for (size_t i = 0; i < h->ncodes; i++) {
        free(h->codes[i].name);
        for (int j = 0; j < 3; j++) series_free(&h->codes[i].share[j]);
    }
    free(h->codes);
}
