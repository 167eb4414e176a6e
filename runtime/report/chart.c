/* Charts as SVG: curves over the steps, and small stacked shares. */
#include "../error.h"
#include "parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double WIDTH = 560, HEIGHT = 250, LEFT = 58, RIGHT = 14, TOP = 10, BOTTOM = 30;
enum {
    COLUMNS = 480, /* more points than this, and each column shows its lowest and highest */
    FEW = 24       /* up to this many points are dots, and no average */
};

void html_text(FILE *f, const char *text) {
    for (const char *c = text; *c; c++) {
        if (*c == '&')
            fputs("&amp;", f);
        else if (*c == '<')
            fputs("&lt;", f);
        else if (*c == '>')
            fputs("&gt;", f);
        else
            fputc((unsigned char)*c < 32 ? '?' : *c, f);
    }
}

char *size_text(double bytes, char *buffer) {
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    int i = 0;
    while (bytes >= 999.5 && i < 4) bytes /= 1000, i++;
    snprintf(buffer, 32, "%.*f %s", i == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2, bytes, unit[i]);
    return buffer;
}

/* ---- axes */

typedef struct Axis {
    double lo, hi;   /* of the values, or their logarithms */
    double from, to; /* in the picture */
    bool log_scale;
} Axis;

static double place(const Axis *a, double value) {
    double v = a->log_scale ? log10(value) : value;
    return a->from + (v - a->lo) / (a->hi - a->lo) * (a->to - a->from);
}

/* The smallest of 1, 2, 5 times a power of ten that is at least x. */
static double round_up(double x) {
    double power = pow(10, floor(log10(x))), m = x / power;
    return power * (m <= 1.0001 ? 1 : m <= 2.0001 ? 2 : m <= 5.0001 ? 5 : 10);
}

static void number(FILE *f, double v) {
    double a = fabs(v);
    if (a >= 1e6)
        fprintf(f, "%gM", v / 1e6);
    else if (a >= 1e4)
        fprintf(f, "%gk", v / 1e3);
    else
        fprintf(f, "%g", a < 1e-12 ? 0 : v);
}

static void y_tick(FILE *f, const Axis *y, double v) {
    double at = place(y, v);
    fprintf(f, "<path d=\"M%g %.1fH%g\" class=\"grid\"/><text x=\"%g\" y=\"%.1f\" class=\"y\">", LEFT, at,
            WIDTH - RIGHT, LEFT - 7, at + 3.5);
    number(f, v);
    fputs("</text>\n", f);
}

static void y_ticks(FILE *f, const Axis *y) {
    if (y->log_scale && y->hi - y->lo > 0.8) {
        static const double digit[] = {1, 2, 5};
        int each = y->hi - y->lo > 2.5 ? 1 : 3; /* 1 2 5 of each decade, or 1 only */
        for (int p = (int)floor(y->lo); p <= (int)ceil(y->hi); p++) {
            for (int i = 0; i < each; i++) {
                double v = digit[i] * pow(10, p);
                if (log10(v) >= y->lo - 1e-9 && log10(v) <= y->hi + 1e-9) y_tick(f, y, v);
            }
        }
        return;
    }
    double lo = y->log_scale ? pow(10, y->lo) : y->lo, hi = y->log_scale ? pow(10, y->hi) : y->hi;
    double step = round_up((hi - lo) / 6);
    for (double v = ceil(lo / step - 1e-9) * step; v <= hi + 1e-9 * step; v += step) y_tick(f, y, v);
}

static void x_ticks(FILE *f, const Axis *x) {
    double step = fmax(1, round_up((x->hi - x->lo) / 7));
    for (double v = ceil(x->lo / step - 1e-9) * step; v <= x->hi + 1e-9 * step; v += step) {
        fprintf(f, "<text x=\"%.1f\" y=\"%g\" class=\"x\">", place(x, v), HEIGHT - BOTTOM + 17);
        number(f, v);
        fputs("</text>\n", f);
    }
}

/* ---- curves */

typedef struct Chart {
    FILE *f;
    Axis x, y;
    double (*map)(double);
} Chart;

static double value_at(const Chart *c, const Series *s, size_t i) {
    return c->map ? c->map(s->y[i]) : s->y[i];
}

/* Through all points; of long series, through the lowest and highest of each column. */
static void plain_path(const Chart *c, const Curve *curve, const char *style) {
    const Series *s = curve->series;
    size_t columns = s->n > COLUMNS ? COLUMNS : s->n;
    fprintf(c->f, "<path class=\"curve %s%s\" d=\"", curve->style, style);
    for (size_t k = 0; k < columns; k++) {
        size_t from = k * s->n / columns, to = (k + 1) * s->n / columns;
        double lo = value_at(c, s, from), hi = lo;
        for (size_t i = from; i < to; i++) {
            lo = fmin(lo, value_at(c, s, i));
            hi = fmax(hi, value_at(c, s, i));
        }
        double x = place(&c->x, s->x[from]);
        fprintf(c->f, "%c%.1f %.1f", k ? 'L' : 'M', x, place(&c->y, lo));
        if (hi > lo) fprintf(c->f, "V%.1f", place(&c->y, hi));
    }
    fputs("\"/>\n", c->f);
}

/* The moving average over a thirtieth of the series, in about COLUMNS / 2 places; of what is drawn, before
 * map. */
static void average_path(const Chart *c, const Curve *curve) {
    const Series *s = curve->series;
    size_t half = s->n / 60 + 1, places = s->n > COLUMNS / 2 ? COLUMNS / 2 : s->n;
    double *sum = rt_calloc(s->n + 1, sizeof *sum);
    for (size_t i = 0; i < s->n; i++) sum[i + 1] = sum[i] + s->y[i];
    fprintf(c->f, "<path class=\"curve %s\" d=\"", curve->style);
    for (size_t k = 0; k < places; k++) {
        size_t i = places > 1 ? k * (s->n - 1) / (places - 1) : 0;
        size_t before = half < i ? half : i; /* and no more after: a loss falls steeply at first */
        size_t after = before < s->n - 1 - i ? before : s->n - 1 - i;
        double mean = (sum[i + after + 1] - sum[i - before]) / (double)(before + after + 1);
        fprintf(c->f, "%c%.1f %.1f", k ? 'L' : 'M', place(&c->x, s->x[i]),
                place(&c->y, c->map ? c->map(mean) : mean));
    }
    fputs("\"/>\n", c->f);
    free(sum);
}

static void draw_curve(const Chart *c, const Curve *curve) {
    const Series *s = curve->series;
    bool averaged = curve->noisy && s->n > FEW;
    plain_path(c, curve, averaged ? " faint" : "");
    if (averaged) average_path(c, curve);
    for (size_t i = 0; i < s->n && (s->n <= FEW || (!curve->noisy && s->n <= 4 * FEW)); i++)
        fprintf(c->f,
                "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\"><title>step %.0f: "
                "%.6g</title></circle>\n",
                curve->style, place(&c->x, s->x[i]), place(&c->y, value_at(c, s, i)), s->x[i],
                value_at(c, s, i));
}

/* The axes hold all values, with a little room; a single value stands in the middle. */
static void fit_axes(Chart *c, const Curve *curves, size_t n, bool log_scale) {
    Axis x = {INFINITY, -INFINITY, LEFT, WIDTH - RIGHT, false},
         y = {INFINITY, -INFINITY, HEIGHT - BOTTOM, TOP, log_scale};
    for (size_t k = 0; k < n; k++) {
        const Series *s = curves[k].series;
        for (size_t i = 0; i < s->n; i++) {
            double v = value_at(c, s, i);
            v = log_scale ? log10(v) : v;
            x.lo = fmin(x.lo, s->x[i]), x.hi = fmax(x.hi, s->x[i]);
            y.lo = fmin(y.lo, v), y.hi = fmax(y.hi, v);
        }
    }
    if (x.hi - x.lo < 1e-9) x.lo -= 1, x.hi += 1;
    double room = fmax(0.06 * (y.hi - y.lo), 1e-3 * fmax(fabs(y.hi), 1e-9));
    double lowest = y.lo;
    y.lo -= room, y.hi += room;
    if (!log_scale && lowest >= 0 && y.lo < 0) y.lo = 0;
    c->x = x, c->y = y;
}

static void legend(FILE *f, const Curve *curves, size_t n) {
    if (n < 2) return;
    fputs("<span class=\"legend\">", f);
    for (size_t k = 0; k < n; k++)
        if (curves[k].series->n)
            fprintf(f, "<span><i class=\"%s\"></i>%s</span>", curves[k].style, curves[k].name);
    fputs("</span>", f);
}

void chart_curves(FILE *f, const char *title, const char *note, const Curve *curves, size_t n,
                  double (*map)(double), bool log_scale) {
    Chart c = {.f = f, .map = map};
    size_t points = 0;
    for (size_t k = 0; k < n; k++) points += curves[k].series->n;
    if (!points) return;
    fit_axes(&c, curves, n, log_scale);
    fprintf(f, "<figure><figcaption><b>%s</b> <span class=\"note\">%s</span>", title, note);
    legend(f, curves, n);
    fprintf(f, "</figcaption>\n<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">\n", WIDTH, HEIGHT,
            title);
    y_ticks(f, &c.y);
    x_ticks(f, &c.x);
    fprintf(f, "<path d=\"M%g %gH%g\" class=\"axis\"/>\n", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT);
    for (size_t k = 0; k < n; k++)
        if (curves[k].series->n) draw_curve(&c, &curves[k]);
    fputs("</svg></figure>\n", f);
}

/* ---- shares */

void chart_shares(FILE *f, const char *title, const Series share[3]) {
    static const char *const style[] = {"minus", "zero", "plus"};
    static const double W = 150, H = 64;
    const size_t n = share[0].n;
    if (!n) return;
    double first = share[0].x[0], span = share[0].x[n - 1] - first;
    double *below = rt_calloc(n, sizeof *below);
    fputs("<figure class=\"small\"><figcaption>", f);
    html_text(f, title);
    fprintf(f, "</figcaption><svg viewBox=\"0 0 %g %g\">", W, H);
    for (int k = 0; k < 3; k++) {
        fprintf(f, "<path class=\"%s\" d=\"M0 %.1f", style[k], H * (1 - below[0]));
        for (size_t i = 0; i < n; i++)
            fprintf(f, "L%.1f %.1f", span > 0 ? W * (share[k].x[i] - first) / span : 0, H * (1 - below[i]));
        fprintf(f, "L%g %.1f", W, H * (1 - below[n - 1]));
        for (size_t i = 0; i < n; i++) below[i] += share[k].y[i];
        fprintf(f, "L%g %.1f", W, H * (1 - below[n - 1]));
        for (size_t i = n; i-- > 0;)
            fprintf(f, "L%.1f %.1f", span > 0 ? W * (share[k].x[i] - first) / span : 0, H * (1 - below[i]));
        fputs("z\"/>", f);
    }
    fprintf(f, "</svg><span class=\"note\">%.1f · %.1f · %.1f %%</span></figure>\n", 100 * share[0].y[n - 1],
            100 * share[1].y[n - 1], 100 * share[2].y[n - 1]);
    free(below);
}
