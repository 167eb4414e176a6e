/* Counts what the loop with most FLOPs does in a turn (ptx_loop.h).
 *
 * Kernels spend their time in loops that are unrolled but for one; that one is found as the text from a label
 * to the last branch back to it. Each instruction counts once, whatever its predicate. Shared memory serves
 * 128 bytes of a warp at a time: narrower loads take as long, and so do those of which many lanes want the
 * same.
 */
#include "ptx_loop.h"
#include "../ir/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 32, SERVED = 128 /* bytes */ };

typedef struct Work { /* of a warp */
    double flops, shared;
} Work;

typedef struct Label {
    char name[48];
    Work before, turn; /* all that stands before it; from it to the last branch back to it */
} Label;

typedef struct Scan {
    VEC(Label) labels;
    Work total;
    bool asynchronous;
} Scan;

static bool starts(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

static double flops_of(const char *op) {
    int m, n, k;
    if (sscanf(op, "mma.sync.aligned.m%dn%dk%d", &m, &n, &k) == 3)
        return strstr(op, ".s8") ? (double)m * n * k
                                 : 2. * m * n * k; /* of 8 bits: two make a product of 16 */
    if (starts(op, "fma.rn.f32")) return 2 * LANES;
    bool simple = starts(op, "add.rn.f32") || starts(op, "sub.rn.f32") || starts(op, "mul.rn.f32");
    return simple ? LANES : 0;
}

/* Bytes that take as long; `line` has the operands. */
static double shared_of(const char *op, const char *line) {
    double each = 0; /* of a lane */
    if (starts(op, "ldmatrix.")) {
        each = strstr(op, ".x4") ? 16 : strstr(op, ".x2") ? 8 : 4;
    } else if (starts(op, "cp.async.c")) {
        const char *from = strstr(line, "],"), *size = from ? strstr(from + 1, "],") : NULL;
        each = size ? atoi(size + 2) : 0;
    } else if (starts(op, "ld.shared.") || starts(op, "st.shared.")) {
        const char *bits = op + strlen(op);
        while (bits > op && bits[-1] >= '0' && bits[-1] <= '9') bits--;
        each = atoi(bits) / 8. * (strstr(op, ".v4.") ? 4 : strstr(op, ".v2.") ? 2 : 1);
    } else {
        return 0;
    }
    return each * LANES > SERVED ? each * LANES : SERVED;
}

static void end_turn(Scan *s, const char *label) {
    for (size_t i = 0; i < s->labels.n; i++) {
        Label *l = &s->labels.at[i];
        if (strcmp(l->name, label) == 0)
            l->turn = (Work){s->total.flops - l->before.flops, s->total.shared - l->before.shared};
    }
}

/* The turn with most FLOPs; of loops around each other the inner one. All, where nothing turns. */
static Work most_work(const Scan *s) {
    Work most = {0};
    for (size_t i = 0; i < s->labels.n; i++) {
        Work turn = s->labels.at[i].turn;
        if (turn.flops > most.flops || (turn.flops == most.flops && turn.shared < most.shared)) most = turn;
    }
    return most.flops > 0 ? most : s->total;
}

static void scan_line(Scan *s, const char *line) {
    char op[96], label[48];
    while (*line == ' ' || *line == '\t') line++;
    if (*line == '$' && sscanf(line, "%47[^:]", label) == 1) {
        Label l = {.before = s->total};
        memcpy(l.name, label, sizeof label);
        vec_push(&s->labels, l);
        return;
    }
    if (*line == '@') line += strcspn(line, " \t");
    if (sscanf(line, " %95[^ \t;]", op) != 1) return;
    if (starts(op, "bra") && sscanf(strstr(line, "bra") + strlen(op), " %47[^; \t]", label) == 1)
        end_turn(s, label);
    s->total.flops += flops_of(op);
    s->total.shared += shared_of(op, line);
    s->asynchronous |= starts(op, "cp.async");
}

PtxWork ptx_work(const char *ptx, const char *name) {
    char entry[512], line[512];
    snprintf(entry, sizeof entry, ".entry %s(", name);
    const char *at = strstr(ptx, entry);
    Scan s = {0};
    while (at && (at = strchr(at, '\n')) != NULL) {
        at++;
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
        if (strstr(line, ".entry ")) break;
        scan_line(&s, line);
    }
    Work loop = most_work(&s);
    vec_free(&s.labels);
    return (PtxWork){s.asynchronous, loop.flops > 0 ? loop.shared / loop.flops : 0};
}
