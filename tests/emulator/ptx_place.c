/* When the whole text is read: where the registers of functions lie, which functions call themselves, and
 * whether there is a stack. */
#include "ptx.h"
#include <string.h>

/* The registers of .func lie behind those of the largest entry. */
void place_functions(Module *m) {
    m->reg_bytes = m->entry_reg_bytes ? m->entry_reg_bytes : SREG_BYTES;
    m->regs = m->entry_regs;
    for (u32 k = 0; k < m->nfuncs; k++) {
        Func *f = m->funcs[k];
        if (f->entry || !f->defined) continue;
        for (u32 c = f->begin; c < f->end; c++) {
            Ins *i = &m->code[c];
            calls_move(i, m->reg_bytes, m->regs);
            if (i->guarded) i->guard += m->reg_bytes, i->guard_poison += m->regs;
            for (u32 n = 0; n < (u32)i->nd + i->ns; n++) {
                Opnd *o = n < i->nd ? &i->d[n] : &i->s[n - i->nd];
                if (!o->imm && !o->sink && o->poison) o->off += m->reg_bytes, o->poison += m->regs;
            }
        }
        for (u32 n = 0; n < f->nparams + f->nrets; n++) {
            Sym *s = n < f->nparams ? f->params[n].sym : f->rets[n - f->nparams].sym;
            if (s->kind == Y_REG) s->reg.off += m->reg_bytes, s->reg.poison += m->regs;
        }
        f->shift.off += m->reg_bytes, f->shift.poison += m->regs;
        f->reg_begin = m->reg_bytes, f->poison_begin = m->regs;
        m->reg_bytes += f->reg_bytes;
        m->regs += f->regs;
    }
    m->regs++;
}

/* Whether f calls goal, itself or through others; seen: those that were asked already. */
static bool reaches(Module *m, const Func *f, const Func *goal, bool *seen) {
    if (seen[f->index]) return false;
    seen[f->index] = true;
    for (u32 c = f->begin; f->defined && c < f->end; c++)
        if (m->code[c].callee && (m->code[c].callee == goal || reaches(m, m->code[c].callee, goal, seen)))
            return true;
    return false;
}
enum { STACK_BYTES = 16 << 10 };
void find_recursion(Parser *p) {
    Module *m = p->m;
    bool *seen = pool_alloc(&m->pool, m->nfuncs + 1);
    for (u32 k = 0; k < m->nfuncs; k++) {
        Func *f = m->funcs[k];
        memset(seen, 0, m->nfuncs);
        f->recursive = !f->entry && reaches(m, f, f, seen);
        if (f->recursive && f->shares)
            ptx_fail(p, f->line, "'%s' calls itself and takes the address of a parameter: not supported",
                     f->name);
        m->stacked |= f->shifted && (f->recursive || m->indirect);
    }
    m->stack_begin = m->local_bytes ? (m->local_bytes + 15) / 16 * 16 : 64; /* 0 is no address */
    if (m->stacked) m->local_bytes = m->stack_begin + STACK_BYTES;
}
