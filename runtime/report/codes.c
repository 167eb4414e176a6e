/* How the ternary codes are distributed, layer by layer: the matrices of a layer together, each counted by
 * its number of weights. A layer is what the name says up to its first number: "model.layers.7". */
#include "../error.h"
#include "parts.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Length of the part of a parameter's name that names its layer; 0: it is in none. */
static size_t layer_length(const char *name) {
    for (const char *c = name; (c = strchr(c, '.')) != NULL;) {
        size_t digits = strspn(++c, "0123456789");
        if (digits && (c[digits] == '.' || !c[digits])) return (size_t)(c - name) + digits;
    }
    return 0;
}

static bool same_layer(const char *a, const char *b) {
    size_t n = layer_length(a);
    return n && n == layer_length(b) && !strncmp(a, b, n);
}

static double weights_of(const tbc_module_t *m, const char *name) {
    for (uint32_t i = 0; i < m->ntensors; i++)
        if (m->tensors[i].kind == TBC_PARAM && !strcmp(m->tensors[i].name, name))
            return (double)tensor_values(&m->tensors[i]);
    return 1;
}

/* "model.layers.7.mlp.up_proj.weight" -> "layer 7", "model.embed_tokens.weight" -> "embed_tokens". */
static char *title_of(const char *name) {
    size_t n = layer_length(name);
    if (n) {
        while (n && isdigit((unsigned char)name[n - 1])) n--;
        return rt_printf("layer %d", atoi(name + n));
    }
    const char *start = !strncmp(name, "model.", 6) ? name + 6 : name;
    size_t length = strlen(start);
    if (length > 7 && !strcmp(start + length - 7, ".weight")) length -= 7;
    return rt_printf("%.*s", (int)length, start);
}

/* The layer of parameter `first`, whose members have the same steps as it. */
static void draw_layer(FILE *f, const History *h, size_t first, const tbc_module_t *m) {
    const CodeHistory *head = &h->codes[first];
    const size_t n = head->share[0].n;
    Series mean[3];
    double total = 0;
    for (int k = 0; k < 3; k++)
        mean[k] = (Series){.x = head->share[0].x, .y = rt_calloc(n + 1, sizeof(double)), .n = n};
    for (size_t i = first; i < h->ncodes; i++) {
        const CodeHistory *c = &h->codes[i];
        if ((i > first && !same_layer(head->name, c->name)) || c->share[0].n != n) continue;
        double weights = weights_of(m, c->name);
        total += weights;
        for (int k = 0; k < 3; k++)
            for (size_t j = 0; j < n && c->share[k].n == n; j++) mean[k].y[j] += weights * c->share[k].y[j];
    }
    for (int k = 0; k < 3; k++)
        for (size_t j = 0; j < n; j++) mean[k].y[j] /= total;
    char *title = title_of(head->name);
    chart_shares(f, title, mean);
    free(title);
    for (int k = 0; k < 3; k++) free(mean[k].y);
}

void report_codes(FILE *f, const History *h, const tbc_module_t *m) {
    if (!h->ncodes) return;
    fputs("<section><h2>Ternary codes</h2><p class=\"note\">shares of "
          "<span class=\"legend\"><span><i class=\"minus\"></i>−1</span><span><i "
          "class=\"zero\"></i>0</span>"
          "<span><i class=\"plus\"></i>+1</span></span> from the first evaluation to the last; the figures "
          "are the last "
          "ones</p>\n<div class=\"smalls\">\n",
          f);
    for (size_t i = 0; i < h->ncodes; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++) seen = same_layer(h->codes[j].name, h->codes[i].name);
        if (!seen) draw_layer(f, h, i, m);
    }
    fputs("</div></section>\n", f);
}
