/* The page of --report: a headline, curves, codes, kernels, memory. */
#include "report.h"
#include "../error.h"
#include "../files/files.h"
#include "../progress.h"
#include "parts.h"
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char style[] =
    ":root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1f2328;--dim:#66707b;--line:#e3e6ea;"
    "--a:#2f6fd0;--b:#d9662b;--c:#2a9573;--d:#8353cc;--e:#b9c0c8}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2024;--ink:#e9ecef;--dim:#98a2ad;--line:#"
    "30363c;"
    "--a:#6ba1f2;--b:#f08c55;--c:#4fc09b;--d:#ab84e8;--e:#565f68}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
    "font:14px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "main{max-width:1200px;margin:0 auto;padding:32px 20px "
    "48px}h1{font-size:26px;margin:0}h2{font-size:18px;margin:0 0 4px}\n"
    "p{margin:2px 0 14px}.note{color:var(--dim);font-size:12.5px}section{margin-top:28px}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:20px}\n"
    ".tiles div,figure,.table{background:var(--card);border:1px solid var(--line);border-radius:10px}\n"
    ".tiles div{padding:12px 16px}.tiles b{display:block;font-size:20px;font-variant-numeric:tabular-nums}"
    ".tiles span{color:var(--dim);font-size:12.5px}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:16px}\n"
    "figure{margin:0;padding:14px 16px "
    "8px}figcaption{display:flex;gap:10px;align-items:baseline;flex-wrap:wrap;margin-bottom:6px}"
    "svg{width:100%;height:auto;display:block}\n"
    ".legend{font-size:12.5px;color:var(--dim);margin-left:auto}.note .legend{margin:0}.legend "
    "span{margin-left:12px;white-space:nowrap}"
    ".note .legend span{margin:0 12px 0 0}.legend "
    "i{display:inline-block;width:11px;height:11px;border-radius:3px;"
    "margin-right:5px;vertical-align:-1px}\n"
    "text{font-size:11px;fill:var(--dim);font-variant-numeric:tabular-nums}.y{text-anchor:end}.x{text-anchor:"
    "middle}"
    ".x.end{text-anchor:end}.grid{stroke:var(--line)}.axis{stroke:var(--dim)}\n"
    ".curve{fill:none;stroke-width:1.8;stroke-linejoin:round}.curve.faint{stroke-width:1;opacity:.35}\n"
    ".train{stroke:var(--a)}.valid{stroke:var(--b)}.rate{stroke:var(--c)}.norm{stroke:var(--d)}.speed{stroke:"
    "var(--a)}"
    "circle.train,circle.speed,i.train{fill:var(--a);background:var(--a)}circle.valid,i.valid{fill:var(--b);"
    "background:var(--b)}"
    "circle.rate{fill:var(--c)}circle.norm{fill:var(--d)}circle{stroke:none!important}\n"
    ".smalls{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px}.small{padding:"
    "8px 12px}"
    ".small figcaption{font-size:12.5px;margin-bottom:3px;overflow-wrap:anywhere}.small "
    "svg{border-radius:4px}\n"
    ".minus{fill:var(--b);background:var(--b)}.zero{fill:var(--e);background:var(--e)}.plus{fill:var(--a);"
    "background:var(--a)}\n"
    ".table{overflow-x:auto}table{border-collapse:collapse;width:100%}td,th{padding:5px "
    "14px;text-align:right;"
    "font-variant-numeric:tabular-nums;white-space:nowrap}th{color:var(--dim);font-weight:500;font-size:12."
    "5px}"
    "tr+tr td{border-top:1px solid "
    "var(--line)}td:first-child,th:first-child{text-align:left;font-family:ui-monospace,"
    "Menlo,Consolas,'DejaVu Sans "
    "Mono',monospace;font-size:12px;max-width:420px;overflow:hidden;text-overflow:ellipsis}\n"
    ".bar{width:24%;min-width:120px}.bar "
    "i{display:block;height:10px;border-radius:3px;background:var(--e);min-width:1px}.bar "
    "b{display:block;height:10px;border-radius:3px;background:var(--a)}\n"
    ".m0{fill:var(--a);background:var(--a)}.m1{fill:var(--d);background:var(--d)}.m2{fill:var(--b);"
    "background:var(--b)}"
    ".m3{fill:var(--c);background:var(--c)}.m4{fill:var(--e);background:var(--e)}"
    "rect{stroke:var(--card);stroke-width:.4}rect:hover{opacity:.7}\n";

/* ---- headline */

static void tile(FILE *f, const char *what, const char *value) {
    fprintf(f, "<div><b>%s</b><span>%s</span></div>\n", value, what);
}

static void number_tile(FILE *f, const char *what, const char *format, double value) {
    char text[32];
    snprintf(text, sizeof text, format, value);
    tile(f, what, text);
}

/* Of the last twentieth: one step says little. */
static double recent_loss(const Series *loss) {
    size_t n = loss->n / 20 + 1;
    double sum = 0;
    for (size_t i = loss->n - n; i < loss->n; i++) sum += loss->y[i];
    return sum / (double)n;
}

static void headline(FILE *f, const Session *s, const History *h, double seconds) {
    const tbc_module_t *m = s->module.desc;
    cJSON *meta = cJSON_Parse(m->meta);
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(meta, "name"));
    double params = 0;
    char text[32];
    for (size_t i = 0; i < s->nparams; i++)
        params += (double)tensor_count(s->params[i].rank, s->params[i].dim);
    fputs("<h1>", f);
    html_text(f, name ? name : "model");
    fprintf(f, "</h1>\n<p class=\"note\">%.4g M parameters · batch %" PRId64 ", seq %" PRId64 " · on ",
            params / 1e6, s->module.batch, s->module.seq);
    html_text(f, s->options->data);
    fprintf(f, " · %s · tbc-run %s</p>\n<div class=\"tiles\">\n", s->device.name, TBC_VERSION);
    cJSON_Delete(meta);
    number_tile(f, "steps", "%.0f", (double)s->state.step);
    if (h->loss.n) {
        double loss = recent_loss(&h->loss);
        number_tile(f, "training loss, mean of the end", "%.4f", loss);
        number_tile(f, "training perplexity", "%.4g", exp(loss));
    }
    if (h->eval_loss.n) {
        double best = INFINITY;
        for (size_t i = 0; i < h->eval_loss.n; i++) best = fmin(best, h->eval_loss.y[i]);
        number_tile(f, "validation loss", "%.4f", h->eval_loss.y[h->eval_loss.n - 1]);
        number_tile(f, "best validation perplexity", "%.4g", exp(best));
    }
    tile(f, "this run", duration_text(seconds, text));
    tile(f, "memory of the model", size_text((double)m->arena_bytes, text));
    fputs("</div>\n", f);
}

/* ---- curves */

static void curves(FILE *f, const History *h) {
    const Curve losses[] = {{"training", "train", &h->loss, true},
                            {"validation", "valid", &h->eval_loss, false}};
    const Curve rate[] = {{"", "rate", &h->lr, false}}, norm[] = {{"", "norm", &h->grad_norm, true}},
                speed[] = {{"", "speed", &h->tokens_per_s, true}};
    bool log_norm = h->grad_norm.n > 0;
    for (size_t i = 0; i < h->grad_norm.n; i++) log_norm = log_norm && h->grad_norm.y[i] > 0;
    fputs("<section><h2>Training</h2><p class=\"note\">over the steps; long noisy series as their moving "
          "average, with "
          "the range behind it</p>\n<div class=\"charts\">\n",
          f);
    chart_curves(f, "Loss", "nats per token", losses, 2, NULL, false);
    chart_curves(f, "Perplexity", "e to the loss", losses, 2, exp, true);
    chart_curves(f, "Learning rate", "", rate, 1, NULL, false);
    chart_curves(f, "Gradient norm", "before clipping", norm, 1, NULL, log_norm);
    chart_curves(f, "Speed", "tokens per second", speed, 1, NULL, false);
    fputs("</div></section>\n", f);
}

/* ---- kernels */

/* The bar is the time; its dark part what the roofline allows at best. */
static void kernel_row(FILE *f, const KernelTime *k, double total, double longest) {
    double per_second = k->seconds > 0 ? 1e-9 / k->seconds : 0, share = profile_share(k);
    fputs("<tr><td>", f);
    html_text(f, k->name);
    fprintf(f,
            "</td><td class=\"bar\"><i style=\"width:%.1f%%\"><b "
            "style=\"width:%.1f%%\"></b></i></td><td>%.1f %%</td>"
            "<td>%.1f</td><td>%" PRIu64 "</td><td>%.1f</td><td>%.1f</td>",
            100 * k->seconds / longest, 100 * fmin(share, 1), 100 * k->seconds / total, 1e3 * k->seconds,
            k->launches, k->flops * per_second, k->bytes * per_second);
    if (share > 0)
        fprintf(f, "<td>%.0f %%</td></tr>\n", 100 * share);
    else
        fputs("<td></td></tr>\n", f);
}

static void kernels(FILE *f, const Profile *p) {
    enum { SHOWN = 20 };
    KernelTime total, rest = {.name = "all others"};
    uint32_t n;
    KernelTime *sorted = profile_sorted(p, &n, &total);
    for (uint32_t i = SHOWN; i < n; i++) {
        rest.launches += sorted[i].launches;
        rest.seconds += sorted[i].seconds;
        rest.flops += sorted[i].flops;
        rest.bytes += sorted[i].bytes;
        rest.bound += sorted[i].bound;
    }
    if (total.seconds > 0) {
        double longest = fmax(sorted[0].seconds, rest.seconds);
        fprintf(
            f,
            "<section><h2>Kernels</h2><p class=\"note\">%.1f s in kernels; the dark part of a bar is what "
            "this machine would need at best</p><div class=\"table\"><table>\n"
            "<tr><th>kernel</th><th></th><th>time</th><th>ms</th><th>launches</th><th>GFLOP/s</th>"
            "<th>GB/s</th><th>of roofline</th></tr>\n",
            total.seconds);
        for (uint32_t i = 0; i < n && i < SHOWN; i++) kernel_row(f, &sorted[i], total.seconds, longest);
        if (rest.launches) kernel_row(f, &rest, total.seconds, longest);
        fputs("</table></div></section>\n", f);
    }
    free(sorted);
}

/* ---- the page */

static void page(FILE *f, const Session *s, const History *h, double seconds) {
    fprintf(
        f,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n<title>tbc-run</title>\n"
        "<style>\n%s</style>\n</head>\n<body>\n<main>\n",
        style);
    headline(f, s, h, seconds);
    curves(f, h);
    report_codes(f, h, s->module.desc);
    if (s->options->profile) kernels(f, &s->profile);
    report_memory(f, s->module.desc);
    fputs("</main>\n</body>\n</html>\n", f);
}

bool report_can_write(const char *path) {
    NewFile file;
    if (!newfile_open(&file, path)) return false;
    newfile_discard(&file);
    return true;
}

bool report_write(const Session *s, RunLog *log, double seconds) {
    NewFile file;
    History h;
    FILE *lines = runlog_read(log);
    if (!lines) return false;
    history_read(&h, lines);
    fclose(lines);
    if (!newfile_open(&file, s->options->report)) {
        history_free(&h);
        return false;
    }
    page(file.file, s, &h, seconds);
    history_free(&h);
    if (ferror(file.file)) {
        newfile_discard(&file);
        return rt_error(s->options->report, "cannot write");
    }
    return newfile_close(&file) && newfile_commit(&file);
}
