/* The memory plan of the step: the arena from bottom to top, launches from left to right; what is there all
 * the time as bands, temporaries as rectangles from the launch that writes them to the last that reads them.
 */
#include "../error.h"
#include "parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double WIDTH = 1140, HEIGHT = 380, LEFT = 66, RIGHT = 8, TOP = 8, BOTTOM = 30;

typedef enum Class { PARAMETERS, STATE, INPUTS, TEMPORARIES, CONSTANTS, CLASSES } Class;
static const char *const class_name[CLASSES] = {"parameters", "optimizer state, gradients", "inputs, results",
                                                "temporaries", "constants"};

static Class class_of(const tbc_tensor *t) {
    return t->kind == TBC_PARAM   ? PARAMETERS
           : t->kind == TBC_STATE ? STATE
           : t->kind == TBC_TEMP  ? TEMPORARIES
                                  : INPUTS;
}

typedef struct Plan {
    FILE *f;
    const tbc_module_t *m;
    uint32_t table, launches;
} Plan;

static double x_of(const Plan *p, double launch) {
    return LEFT + launch / fmax(1, p->launches) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const Plan *p, double offset) {
    return HEIGHT - BOTTOM - offset / fmax(1, (double)p->m->arena_bytes) * (HEIGHT - TOP - BOTTOM);
}

static void rectangle(const Plan *p, Class class, double first, double end, double offset, double bytes,
                      const char *name) {
    char size[32];
    double y1 = y_of(p, offset), y0 = y_of(p, offset + bytes);
    fprintf(p->f, "<rect class=\"m%d\" x=\"%.1f\" y=\"%.2f\" width=\"%.1f\" height=\"%.2f\"><title>", class,
            x_of(p, first), y0, x_of(p, end) - x_of(p, first), fmax(y1 - y0, 0.15));
    html_text(p->f, name);
    fprintf(p->f, ", %s</title></rect>\n", size_text(bytes, size));
}

static int by_offset(const void *a, const void *b) {
    const tbc_tensor *x = *(const tbc_tensor *const *)a, *y = *(const tbc_tensor *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Neighbours of one class make one band. */
static void draw_bands(const Plan *p) {
    const tbc_tensor **sorted = rt_calloc(p->m->ntensors + 1u, sizeof *sorted);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->m->ntensors; i++) {
        const tbc_tensor *t = &p->m->tensors[i];
        if (t->table < 0 && class_of(t) != TEMPORARIES) sorted[n++] = t;
    }
    qsort(sorted, n, sizeof *sorted, by_offset);
    for (uint32_t i = 0, j; i < n; i = j) {
        Class class = class_of(sorted[i]);
        for (j = i + 1; j < n && class_of(sorted[j]) == class; j++) {}
        char *name = j == i + 1 ? rt_printf("%s", sorted[i]->name)
                                : rt_printf("%s: %u tensors", class_name[class], j - i);
        const tbc_tensor *last = sorted[j - 1];
        rectangle(p, class, 0, p->launches, (double)sorted[i]->offset,
                  (double)(last->offset + last->bytes - sorted[i]->offset), name);
        free(name);
    }
    free(sorted);
    for (uint32_t i = 0; i < p->m->nconsts; i++)
        rectangle(p, CONSTANTS, 0, p->launches, (double)p->m->consts[i].offset, (double)p->m->consts[i].bytes,
                  "a constant");
}

static void draw_temporaries(const Plan *p) {
    for (uint32_t i = 0; i < p->m->ntensors; i++) {
        const tbc_tensor *t = &p->m->tensors[i];
        if (t->table != (int32_t)p->table) continue;
        Class class = class_of(t);
        double first = class == TEMPORARIES ? t->live_first : 0,
               last = class == TEMPORARIES ? t->live_last + 1.0 : p->launches;
        rectangle(p, class, first, fmin(last, p->launches), (double)t->offset, (double)t->bytes, t->name);
    }
}

static void draw_axes(const Plan *p) {
    char size[32];
    for (int i = 0; i <= 4; i++) {
        double bytes = (double)p->m->arena_bytes * i / 4, y = y_of(p, bytes);
        fprintf(p->f,
                "<path d=\"M%g %.1fH%g\" class=\"grid\"/><text x=\"%g\" y=\"%.1f\" class=\"y\">%s</text>\n",
                LEFT, y, WIDTH - RIGHT, LEFT - 7, y + (i == 4 ? 8 : 3.5), size_text(bytes, size));
    }
    for (int i = 0; i <= 8; i++) {
        double launch = floor((double)p->launches * i / 8);
        fprintf(p->f, "<text x=\"%.1f\" y=\"%g\" class=\"%s\">%.0f</text>\n", x_of(p, launch),
                HEIGHT - BOTTOM + 17, i == 8 ? "x end" : "x", launch);
    }
}

/* Bytes of each class, and the most that temporaries hold at any launch. */
static void measure(const Plan *p, double bytes[CLASSES], double *peak) {
    double *change = rt_calloc(p->launches + 2u, sizeof *change), live = 0;
    *peak = 0;
    for (uint32_t i = 0; i < p->m->nconsts; i++) bytes[CONSTANTS] += (double)p->m->consts[i].bytes;
    for (uint32_t i = 0; i < p->m->ntensors; i++) {
        const tbc_tensor *t = &p->m->tensors[i];
        if (t->table >= 0 && t->table != (int32_t)p->table) continue;
        bytes[class_of(t)] += (double)t->bytes;
        if (class_of(t) != TEMPORARIES || t->live_last >= p->launches || t->live_first > t->live_last)
            continue;
        change[t->live_first] += (double)t->bytes;
        change[t->live_last + 1] -= (double)t->bytes;
    }
    for (uint32_t i = 0; i < p->launches; i++) {
        live += change[i];
        *peak = fmax(*peak, live);
    }
    free(change);
}

void report_memory(FILE *f, const tbc_module_t *m) {
    Plan p = {.f = f, .m = m};
    for (uint32_t i = m->ntables; i-- > 0;) /* the step: train, or backward */
        if (!strcmp(m->tables[i].name, "train") || !strcmp(m->tables[i].name, "backward"))
            p.table = i, p.launches = m->tables[i].count;
    if (!p.launches || !m->arena_bytes) return;
    double bytes[CLASSES] = {0}, peak;
    char size[32], all[32];
    measure(&p, bytes, &peak);
    fprintf(f,
            "<section><h2>Memory plan</h2><p class=\"note\">table %s, %u launches in %s; temporaries hold %s "
            "at most and "
            "share their places<br/><span class=\"legend\">",
            m->tables[p.table].name, p.launches, size_text((double)m->arena_bytes, all),
            size_text(peak, size));
    for (int i = 0; i < CLASSES; i++)
        if (bytes[i] > 0 && i != TEMPORARIES)
            fprintf(f, "<span><i class=\"m%d\"></i>%s %s</span>", i, class_name[i],
                    size_text(bytes[i], size));
    fprintf(
        f,
        "<span><i class=\"m%d\"></i>%s</span></span></p>\n<figure><svg viewBox=\"0 0 %g %g\" role=\"img\" "
        "aria-label=\"memory plan\">\n",
        TEMPORARIES, class_name[TEMPORARIES], WIDTH, HEIGHT);
    draw_bands(&p);
    draw_temporaries(&p);
    draw_axes(&p);
    fputs("</svg></figure></section>\n", f);
}
