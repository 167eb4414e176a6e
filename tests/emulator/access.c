/* One lane's access to memory: windows of the generic address space, bounds, alignment, what may be written.
 */
#include "memory.h"
#include "warp.h"
#include <string.h>

Space window_of(u64 a, u64 *offset) {
    *offset = a & 0xffffffffffull;
    switch (a >> 40) {
    case SHARED_WINDOW >> 40:
        return S_SHARED;
    case LOCAL_WINDOW >> 40:
        return S_LOCAL;
    case PARAM_WINDOW >> 40:
        return S_PARAM;
    default:
        *offset = a;
        return S_GLOBAL;
    }
}

static const char *how_name(enum Touch how) {
    return how == READ ? "read" : how == ATOMIC ? "atomic access" : "write";
}

static u8 *touch_param(Warp *w, const Ins *i, int lane, u64 a, u32 size, enum Touch how, u8 **state) {
    static u8 written[32];
    memset(written, ST_MAPPED | ST_INIT, sizeof written);
    const Launch *l = w->block->launch;
    if (how != READ) fault(w, i, lane, ERR_ILLEGAL_ADDRESS, "write to a kernel parameter");
    if (a + size > l->func->param_bytes)
        fault(w, i, lane, ERR_ILLEGAL_ADDRESS, "read of %u bytes at %llu of %u bytes of parameters", size,
              (unsigned long long)a, l->func->param_bytes);
    *state = written;
    return l->params + a;
}

static _Noreturn void outside(Warp *w, const Ins *i, int lane, Space space, u64 a, u32 size, enum Touch how) {
    char text[160] = "";
    if (space == S_GLOBAL) mem_whereabouts(a, text, sizeof text);
    static const char *const names[] = {[S_GLOBAL] = "global", [S_SHARED] = "shared", [S_LOCAL] = "local"};
    fault(w, i, lane, ERR_ILLEGAL_ADDRESS, "out of bounds: %s of %u bytes at %s address 0x%llx%s%s",
          how_name(how), size, names[space], (unsigned long long)a, *text ? ": " : "", text);
}

/* Whether all bytes are mapped; *any: the states of all of them together. Sizes are powers of two up to 16. */
static inline bool all_mapped(const u8 *state, u32 size, u8 *any) {
    u64 all, some;
    u32 narrow;
    if (size >= 8) {
        u64 more;
        memcpy(&all, state, 8);
        memcpy(&more, state + size - 8, 8);
        some = all | more, all &= more;
    } else if (size == 4) {
        memcpy(&narrow, state, 4);
        some = narrow, all = narrow | 0xffffffff00000000ull;
    } else {
        some = state[0] | state[size - 1], all = state[0] & state[size - 1];
        all *= 0x0101010101010101ull;
    }
    some |= some >> 32, some |= some >> 16, some |= some >> 8;
    *any = (u8)some;
    return (all & 0x0101010101010101ull * ST_MAPPED) == 0x0101010101010101ull * ST_MAPPED;
}

static u8 *touch_host(u64 a, u32 size, u8 **state) {
    static u8 written[32];
    memset(written, ST_MAPPED | ST_INIT, sizeof written);
    *state = written;
    return host_bytes(a, size);
}

u8 *touch(Warp *w, const Ins *i, int lane, Space space, u64 address, u32 size, enum Touch how, bool strong,
          u8 **state) {
    u64 a = address;
    if (space == S_GENERIC) space = window_of(address, &a);
    if (a & (size - 1))
        fault(w, i, lane, ERR_MISALIGNED, "misaligned %s of %u bytes at address 0x%llx", how_name(how), size,
              (unsigned long long)address);
    u8 *data, *st, any = 0;
    if (space == S_PARAM) return touch_param(w, i, lane, a, size, how, state);
    if (space == S_SHARED) {
        const Block *b = w->block;
        if (a >= b->launch->func->shared_end) outside(w, i, lane, space, a, size, how);
        data = b->shared + a, st = b->shared_state + a;
    } else if (space == S_LOCAL) {
        u32 bytes = w->block->launch->module->local_bytes;
        if (a < 64 || a + size > bytes) outside(w, i, lane, space, a, size, how);
        data = w->local + (u64)lane * bytes + a, st = w->local_state + (u64)lane * bytes + a;
    } else {
        space = S_GLOBAL; /* .const variables lie there too */
        if (a - GLOBAL_WINDOW >= mem_total() * 2) {
            if ((data = touch_host(a, size, state))) return data;
            outside(w, i, lane, space, a, size, how);
        }
        data = mem_bytes(a), st = mem_state(a);
    }
    if (!all_mapped(st, size, &any)) outside(w, i, lane, space, a, size, how);
    *state = st;
    if (space == S_LOCAL) return data;
    if (any & ST_CONST && how != READ)
        fault(w, i, lane, ERR_ILLEGAL_ADDRESS, "write to a .const variable at 0x%llx", (unsigned long long)a);
    if (any & ST_FLIGHT && how != START_COPY)
        suspect(w, i, lane,
                "%s of shared memory at 0x%llx where a cp.async that nobody has waited for is under way",
                how_name(how), (unsigned long long)a);
    if (!settings.strict) return data;
    enum Touch race = how == START_COPY ? WRITE : how;
    if (space == S_SHARED)
        race_shared(w, i, lane, (u32)a, size, race, strong);
    else if (!(any & ST_CONST))
        race_global(w, i, lane, a, size, race, strong);
    return data;
}
