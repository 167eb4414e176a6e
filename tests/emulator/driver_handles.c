/* Which handles are alive. What a program passes in is looked up here before it is followed, so that one that
 * was destroyed, or never was one, is an error and no crash. */
#include "driver.h"
#include <stdlib.h>

typedef struct Slot {
    const void *handle; /* NULL: free; &gone: one was here */
    u32 kind;
} Slot;
static Slot *slots;
static u64 room, taken; /* a power of two; slots that are not free */
static const char gone;

static Slot *slot_of(const void *p) {
    if (!p || !room) return NULL;
    for (u64 k = ((u64)(uintptr_t)p >> 4) * 0x9e3779b97f4a7c15ull >> 32;; k++) {
        Slot *s = &slots[k & (room - 1)];
        if (s->handle == p) return s;
        if (!s->handle) return NULL;
    }
}
static void put(const void *p, u32 kind) {
    u64 k = ((u64)(uintptr_t)p >> 4) * 0x9e3779b97f4a7c15ull >> 32;
    while (slots[k & (room - 1)].handle) k++;
    slots[k & (room - 1)] = (Slot){p, kind};
    taken++;
}
static void grow(void) {
    Slot *old = slots;
    u64 n = room;
    room = room ? 2 * room : 1024;
    taken = 0;
    if (!(slots = calloc(room, sizeof *slots))) abort();
    for (u64 k = 0; k < n; k++)
        if (old[k].handle && old[k].handle != &gone) put(old[k].handle, old[k].kind);
    free(old);
}

void handle_add(const void *p, u32 kind) {
    Slot *s = slot_of(p);
    if (s) {
        s->kind = kind;
        return;
    }
    if (2 * taken >= room) grow();
    put(p, kind);
}
bool is_handle(const void *p, u32 kind) {
    const Slot *s = slot_of(p);
    return s && s->kind == kind;
}
void handle_end(const void *p) {
    Slot *s = slot_of(p);
    if (s) *s = (Slot){&gone, 0};
}
