/* Which .target a form of an instruction needs, where that is more than sm_80: ptxas refuses the module, so
 * it is refused here. */
#include "ptx.h"
#include <stdio.h>
#include <string.h>

typedef struct Need {
    const char *op, *words; /* all of these modifiers */
    u32 sm;
} Need;
static const Need needs[] = {
    {"min", "xorsign", 86},        {"max", "xorsign", 86},
    {"min", "relu", 90},           {"max", "relu", 90},
    {"min", "u16x2", 90},          {"max", "u16x2", 90},
    {"min", "s16x2", 90},          {"max", "s16x2", 90},
    {"add", "u16x2", 90},          {"add", "s16x2", 90},
    {"add", "bf16", 90},           {"add", "bf16x2", 90},
    {"sub", "bf16", 90},           {"sub", "bf16x2", 90},
    {"mul", "bf16", 90},           {"mul", "bf16x2", 90},
    {"set", "bf16", 90},           {"set", "bf16x2", 90},
    {"setp", "bf16", 90},          {"setp", "bf16x2", 90},
    {"ex2", "bf16", 90},           {"ex2", "bf16x2", 90},
    {"tanh", "bf16", 90},          {"tanh", "bf16x2", 90},
    {"cvt", "e4m3x2", 89},         {"cvt", "e5m2x2", 89},
    {"cvt", "rn tf32", 90},        {"cvt", "rz tf32", 90},
    {"cvt", "f32 bf16 ftz", 90},   {"atom", "bf16", 90},
    {"atom", "bf16x2", 90},        {"red", "bf16", 90},
    {"red", "bf16x2", 90},         {"mma", "f64 m16n8k4", 90},
    {"mma", "f64 m16n8k8", 90},    {"mma", "f64 m16n8k16", 90},
    {"stmatrix", "", 90},          {"elect", "", 90},
    {"griddepcontrol", "", 90},    {"mbarrier", "try_wait", 90},
    {"mbarrier", "expect_tx", 90}, {"fence", "async", 90},
    {"fence", "cluster", 90},      {"ld", "cluster", 90},
    {"st", "cluster", 90},         {"atom", "cluster", 90},
    {"red", "cluster", 90},        {"ld", "shared::cluster", 90},
    {"st", "shared::cluster", 90},
};

static bool carries(const Stmt *s, const char *word, size_t length) {
    for (u32 k = 0; k < s->nmods; k++)
        if (!strncmp(s->mods[k], word, length) && !s->mods[k][length]) return true;
    return false;
}
static bool carries_all(const Stmt *s, const char *words) {
    for (size_t n; (n = strcspn(words, " ")); words += n + (words[n] == ' '))
        if (!carries(s, words, n)) return false;
    return true;
}

void needs_target(Parser *p, u32 line, const char *what, u32 sm) {
    if (p->m->sm < sm) ptx_fail(p, line, "'%s' needs .target sm_%u", what, sm);
}

/* cvt of .bf16: from and to .f32 is older than the others. */
static bool bf16_other_than_f32(const Stmt *s) {
    u32 bf16 = 0, f32 = 0;
    for (u32 k = 0; k < s->nmods; k++) {
        bf16 += !strcmp(s->mods[k], "bf16");
        f32 += !strcmp(s->mods[k], "f32");
    }
    return bf16 && !f32;
}

void check_target(Parser *p, const Stmt *s) {
    if (p->m->sm >= 90) return;
    for (size_t k = 0; k < sizeof needs / sizeof *needs; k++) {
        const Need *n = &needs[k];
        if (p->m->sm >= n->sm || strcmp(s->op, n->op) || !carries_all(s, n->words)) continue;
        char what[128];
        snprintf(what, sizeof what, *n->words ? "%s.%s" : "%s", n->op, n->words);
        for (char *c = what; *c; c++)
            if (*c == ' ') *c = '.';
        needs_target(p, s->line, what, n->sm);
    }
    if (!strcmp(s->op, "cvt") && bf16_other_than_f32(s))
        needs_target(p, s->line, "cvt of .bf16 and not .f32", 90);
}
