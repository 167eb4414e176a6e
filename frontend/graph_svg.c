/* Drawings as SVG, alone or in a page. Colours follow the reader's light or dark setting. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

static void put_text(Buf *out, const char *text) {
    for (const char *c = text; *c; c++) {
        if (*c == '&')
            buf_printf(out, "&amp;");
        else if (*c == '<')
            buf_printf(out, "&lt;");
        else if (*c == '>')
            buf_printf(out, "&gt;");
        else if ((unsigned char)*c >= 32)
            buf_add(out, c, 1);
        else
            buf_add(out, "?", 1);
    }
}

static void put_label(Buf *out, double x, double y, const char *class, const char *text) {
    buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    put_text(out, text);
    buf_printf(out, "</text>\n");
}

static void put_style(Buf *out) {
    static const char *const kind[DRAW_KINDS][4] = {
#define DRAW_KIND(name, legend, ...) {__VA_ARGS__},
#include "graph_kinds.def"
#undef DRAW_KIND
    };
    buf_printf(
        out, "<style>\n"
             "text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
             "font-size:11px;fill:#495057}\n"
             ".bg{fill:#fff}.title{font-size:20px;font-weight:600;fill:#212529}.sub{font-size:12px}\n"
             ".op{font-size:13px;font-weight:600;fill:#212529;text-anchor:middle}.line{text-anchor:middle}\n"
             ".name{font-size:12px;font-weight:600}.badge{font-size:12px;font-weight:600;fill:#fff;"
             "text-anchor:middle}.pill{fill:#495057}\n"
             ".shape{fill:#868e96;stroke:#fff;stroke-width:3px;paint-order:stroke;font-size:10.5px}\n"
             ".box{stroke-width:1.2}.cluster{fill:#f8f9fa;fill-opacity:.65;stroke:#ced4da}\n"
             ".wire{fill:none;stroke:#868e96;stroke-width:1.2}.tip{fill:#868e96}"
             ".loop{fill:none;stroke:#495057;stroke-width:1.4;stroke-dasharray:5 4}.looptip{fill:#495057}\n");
    for (int i = 0; i < DRAW_KINDS; i++)
        buf_printf(out, ".k%d{fill:%s;stroke:%s}", i, kind[i][0], kind[i][1]);
    buf_printf(
        out,
        "\n@media (prefers-color-scheme:dark){\n"
        "text{fill:#adb5bd}.bg{fill:#16191c}.title,.op{fill:#f1f3f5}.shape{fill:#868e96;stroke:#16191c}\n"
        ".cluster{fill:#1e2226;stroke:#495057}.wire{stroke:#6c757d}.tip{fill:#6c757d}"
        ".loop{stroke:#adb5bd}.looptip{fill:#adb5bd}.pill{fill:#6c757d}.badge{fill:#fff}\n");
    for (int i = 0; i < DRAW_KINDS; i++)
        buf_printf(out, ".k%d{fill:%s;stroke:%s}", i, kind[i][2], kind[i][3]);
    buf_printf(out, "\n}\n</style>\n");
}

static void put_header(const Drawing *d, Buf *out) {
    put_label(out, 24, 34, "title", d->title);
    put_label(out, 24, 54, "sub", d->subtitle);
}

/* The kinds that occur, at the bottom left; the height that they take. */
static double put_legend(const Drawing *d, Buf *out, double y) {
    bool used[DRAW_KINDS] = {false};
    for (uint32_t i = 1; i < d->items.n; i++) used[d->items.at[i].kind] |= !d->items.at[i].is_cluster;
    double x = 24, top = y;
    for (int i = 0; i < DRAW_KINDS; i++) {
        if (!used[i]) continue;
        double w = 34 + 7.0 * (double)strlen(draw_kind_name[i]);
        if (x + w > d->width - 24 && x > 24) x = 24, y += 20;
        buf_printf(out,
                   "<rect x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"12\" rx=\"3\" class=\"box k%d\"/>\n", x,
                   y + 4, i);
        put_label(out, x + 18, y + 14, "", draw_kind_name[i]);
        x += w;
    }
    return y - top + 20;
}

static void put_cluster(Buf *out, const DrawItem *c) {
    buf_printf(out,
               "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"10\" class=\"cluster\"/>\n",
               c->x, c->y, c->w, c->h);
    put_label(out, c->x + 14, c->y + 20, "name", c->title);
    if (c->badge) {
        double w = 16 + 8.0 * ((double)strlen(c->badge) - 1), x = c->x + 24 + 7.4 * (double)strlen(c->title);
        buf_printf(out,
                   "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"19\" rx=\"9.5\" class=\"pill\"/>\n",
                   x, c->y + 6.5, w);
        put_label(out, x + w / 2, c->y + 20, "badge", c->badge);
    }
    if (!c->carried) return;
    double x = c->x + 16, y0 = c->y + c->h - 16, y1 = c->y + 42;
    buf_printf(
        out,
        "<path d=\"M%.1f %.1fH%.1fQ%.1f %.1f %.1f %.1fV%.1f\" class=\"loop\"><title>the next turn takes up "
        "what this one gives</title></path>\n",
        x + 18, y0, x + 8, x, y0, x, y0 - 8, y1);
    buf_printf(out, "<path d=\"M%.1f %.1fl-4 8h8z\" class=\"looptip\"/>\n", x, y1 - 7);
}

static void put_box(Buf *out, const DrawItem *b) {
    double middle = b->x + b->w / 2;
    buf_printf(out,
               "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"6\" class=\"box k%d\"/>\n",
               b->x, b->y, b->w, b->h, b->kind);
    put_label(out, middle, b->y + 20, "op", b->title);
    for (uint32_t i = 0; i < b->nlines; i++) put_label(out, middle, b->y + 36 + 15 * i, "line", b->line[i]);
}

static void put_wire(Buf *out, const DrawWire *w) {
    const DrawPoint *p = w->at;
    double middle = (p[1].y + p[2].y) / 2, end = w->arrives ? p[3].y - 5 : p[3].y;
    buf_printf(out, "<path d=\"M%.1f %.1f", p[0].x, p[0].y);
    if (p[1].y > p[0].y + 0.05) buf_printf(out, "V%.1f", p[1].y);
    if (p[1].x == p[2].x)
        buf_printf(out, "V%.1f", end);
    else
        buf_printf(out, "C%.1f %.1f %.1f %.1f %.1f %.1fV%.1f", p[1].x, middle, p[2].x, middle, p[2].x,
                   p[2].y < end ? p[2].y : end, end);
    buf_printf(out, "\" class=\"wire\"/>\n");
    if (w->arrives) buf_printf(out, "<path d=\"M%.1f %.1fl-3.5 -7h7z\" class=\"tip\"/>\n", p[3].x, p[3].y);
}

/* Each value's shape once, where it leaves its box. */
static void put_shapes(const Drawing *d, Buf *out) {
    bool *done = xcalloc(d->values.n + 1, sizeof *done);
    for (uint32_t i = 0; i < d->wires.n; i++) {
        const DrawWire *w = &d->wires.at[i];
        if (!w->starts || done[w->value]) continue;
        done[w->value] = true;
        put_label(out, w->at[0].x + 5, w->at[0].y + 12, "shape", d->values.at[w->value].label);
    }
    free(done);
}

void draw_svg(const Drawing *d, Buf *out) {
    Buf legend = {0};
    double height = d->height + put_legend(d, &legend, d->height) + 16;
    buf_printf(out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f "
               "%.0f\">\n<title>",
               d->width, height, d->width, height);
    put_text(out, d->title);
    buf_printf(out, "</title>\n");
    put_style(out);
    buf_printf(out, "<rect width=\"100%%\" height=\"100%%\" class=\"bg\"/>\n");
    put_header(d, out);
    for (uint32_t i = 1; i < d->items.n; i++) {
        if (d->items.at[i].is_cluster) put_cluster(out, &d->items.at[i]);
    }
    for (uint32_t i = 0; i < d->wires.n; i++) put_wire(out, &d->wires.at[i]);
    for (uint32_t i = 1; i < d->items.n; i++) {
        if (!d->items.at[i].is_cluster) put_box(out, &d->items.at[i]);
    }
    put_shapes(d, out);
    if (legend.n) buf_add(out, legend.at, legend.n);
    buf_printf(out, "</svg>\n");
    buf_free(&legend);
}

/* Drag moves, the wheel zooms at the pointer, a double click shows everything. */
static const char pan_zoom[] =
    "const s=document.querySelector('svg'),W=s.viewBox.baseVal.width,H=s.viewBox.baseVal.height;"
    "let v,drag;"
    "s.removeAttribute('width');s.removeAttribute('height');"
    "function show(){s.setAttribute('viewBox',v.join(' '))}"
    "function all(){v=[0,0,W,H];show()}"
    "function whole(){const z=innerWidth/innerHeight;v=[(W-innerWidth)/2,0,innerWidth,innerWidth/z];"
    "if(W>innerWidth)v[0]=0;show()}"
    "s.onwheel=e=>{e.preventDefault();const k=Math.exp(e.deltaY*.0015),r=s.getScreenCTM().inverse(),"
    "p=new DOMPoint(e.clientX,e.clientY).matrixTransform(r);"
    "v=[p.x-(p.x-v[0])*k,p.y-(p.y-v[1])*k,v[2]*k,v[3]*k];show()};"
    "s.onpointerdown=e=>{drag=[e.clientX,e.clientY,v[0],v[1],1/"
    "s.getScreenCTM().a];s.setPointerCapture(e.pointerId)};"
    "s.onpointermove=e=>{if(!drag)return;v[0]=drag[2]-(e.clientX-drag[0])*drag[4];v[1]=drag[3]-(e.clientY-"
    "drag[1])*drag[4];"
    "show()};"
    "s.onpointerup=s.onpointercancel=()=>drag=null;"
    "s.ondblclick=all;whole();";

void draw_html(const Drawing *d, Buf *out) {
    buf_printf(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                    "<meta name=\"viewport\" content=\"width=device-width\"/>\n<title>");
    put_text(out, d->title);
    buf_printf(
        out, "</title>\n<style>html,body{margin:0;height:100%%;background:#fff;overflow:hidden}"
             "svg{width:100%%;height:100%%;display:block;cursor:grab}svg .bg{display:none}"
             "@media (prefers-color-scheme:dark){html,body{background:#16191c}}</style>\n</head>\n<body>\n");
    draw_svg(d, out);
    buf_printf(out, "<script>%s</script>\n</body>\n</html>\n", pan_zoom);
}
