/* The device's memory: one reserved range of the host's, where allocations lie with red zones between them,
 * and a byte of state for each byte (mapped, written, freed, ...). Pages are touched only when they are used.
 */
#include "memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { RED_ZONE = 256, ALIGN = 256 };
typedef struct Alloc {
    u64 at, bytes;
    const void *owner; /* a context; NULL: freed by whoever has it */
} Alloc;

static u8 *bytes_, *state_;
static u64 total_, used_;
static Alloc *allocs; /* sorted by address */
static u64 nallocs, cap;

static void *reserve(u64 bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

bool mem_open(u64 bytes) {
    if (bytes_) return true;
    u64 range = bytes * 2 + (64 << 20); /* red zones and holes */
    bytes_ = reserve(range);
    state_ = reserve(range);
    total_ = bytes;
    return bytes_ && state_;
}

u64 mem_total(void) {
    return total_;
}
u64 mem_used(void) {
    return used_;
}
u8 *mem_bytes(u64 address) {
    return bytes_ + (address - GLOBAL_WINDOW);
}
u8 *mem_state(u64 address) {
    return state_ + (address - GLOBAL_WINDOW);
}

static u64 first_above(u64 at) { /* index of the first allocation that begins above */
    u64 low = 0, high = nallocs;
    while (low < high) {
        u64 mid = (low + high) / 2;
        if (allocs[mid].at > at)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static u64 round_up(u64 v, u64 to) {
    return (v + to - 1) / to * to;
}

/* First fit above where the last one was placed, so that freed memory is used again as late as possible. */
static u64 find_gap(u64 bytes, u64 align, u64 from, u64 limit, u64 *index) {
    u64 k = first_above(from), at = from;
    if (k && at < allocs[k - 1].at + allocs[k - 1].bytes) at = allocs[k - 1].at + allocs[k - 1].bytes;
    for (;; k++) {
        u64 place = round_up(at + RED_ZONE, align), end = k < nallocs ? allocs[k].at : limit;
        if (place + bytes + RED_ZONE <= end) {
            *index = k;
            return place;
        }
        if (k >= nallocs) return 0;
        at = allocs[k].at + allocs[k].bytes;
    }
}

u64 mem_alloc(u64 bytes, u64 align) {
    static u64 next;
    u64 size = round_up(bytes ? bytes : 1, ALIGN), index = 0, limit = total_ * 2 + (64 << 20);
    if (!bytes_ || size < bytes || used_ + size > total_) return 0;
    u64 place = find_gap(size, align < ALIGN ? ALIGN : align, next, limit, &index);
    if (!place) place = find_gap(size, align < ALIGN ? ALIGN : align, 0, limit, &index);
    if (!place) return 0;
    if (nallocs == cap) {
        cap = cap ? 2 * cap : 256;
        if (!(allocs = realloc(allocs, cap * sizeof *allocs))) abort();
    }
    memmove(allocs + index + 1, allocs + index, (nallocs++ - index) * sizeof *allocs);
    allocs[index] = (Alloc){place, bytes ? bytes : 1, NULL};
    next = place + size;
    used_ += size;
    memset(bytes_ + place, 0xff, size); /* what was never written is a NaN, or -1 */
    memset(state_ + place, 0, size);
    memset(state_ + place, ST_MAPPED, allocs[index].bytes);
    return GLOBAL_WINDOW + place;
}

static Alloc *around(u64 address) {
    if (address < GLOBAL_WINDOW) return NULL;
    u64 k = first_above(address - GLOBAL_WINDOW);
    if (!k) return NULL;
    Alloc *a = &allocs[k - 1];
    return address - GLOBAL_WINDOW < a->at + a->bytes ? a : NULL;
}

bool mem_free(u64 address) {
    Alloc *a = around(address);
    if (!a || a->at + GLOBAL_WINDOW != address) return false;
    u64 size = round_up(a->bytes, ALIGN);
    used_ -= size;
    memset(bytes_ + a->at, 0xdb, a->bytes);
    memset(state_ + a->at, ST_FREED, a->bytes);
    u64 k = (u64)(a - allocs);
    memmove(a, a + 1, (--nallocs - k) * sizeof *a);
    return true;
}

void mem_own(u64 address, const void *owner) {
    around(address)->owner = owner;
}
void mem_free_of(const void *owner) {
    for (u64 k = nallocs; k-- > 0;)
        if (allocs[k].owner == owner) mem_free(allocs[k].at + GLOBAL_WINDOW);
}

bool mem_range(u64 address, u64 *base, u64 *bytes) {
    Alloc *a = around(address);
    if (!a) return false;
    *base = a->at + GLOBAL_WINDOW;
    *bytes = a->bytes;
    return true;
}

bool mem_mapped(u64 address, u64 bytes) {
    Alloc *a = around(address);
    return !bytes || (a && bytes <= a->at + a->bytes - (address - GLOBAL_WINDOW));
}

void mem_const(u64 address, u64 bytes) {
    u8 *s = mem_state(address);
    for (u64 k = 0; k < bytes; k++) s[k] |= ST_CONST;
}

const char *mem_whereabouts(u64 address, char *text, u64 size) {
    u64 off = address - GLOBAL_WINDOW, k = first_above(off);
    if (address < GLOBAL_WINDOW || off >= total_ * 2)
        snprintf(text, size, "no device memory lies there");
    else if (state_[off] & ST_FREED)
        snprintf(text, size, "the memory there was freed");
    else if (k && off - (allocs[k - 1].at + allocs[k - 1].bytes) <=
                      (k < nallocs ? allocs[k].at - off : UINT64_MAX))
        snprintf(text, size, "%llu bytes behind an allocation of %llu bytes at 0x%llx",
                 (unsigned long long)(off - (allocs[k - 1].at + allocs[k - 1].bytes)),
                 (unsigned long long)allocs[k - 1].bytes,
                 (unsigned long long)(allocs[k - 1].at + GLOBAL_WINDOW));
    else if (k < nallocs)
        snprintf(text, size, "%llu bytes before an allocation of %llu bytes at 0x%llx",
                 (unsigned long long)(allocs[k].at - off), (unsigned long long)allocs[k].bytes,
                 (unsigned long long)(allocs[k].at + GLOBAL_WINDOW));
    else
        snprintf(text, size, "nothing is allocated");
    return text;
}

/* ---- host memory that the device may use ---- */
typedef struct Host {
    u8 *at;
    u64 bytes;
} Host;
static Host *hosts;
static u32 nhosts;

void host_register(void *p, u64 bytes) {
    if (!(hosts = realloc(hosts, (nhosts + 1) * sizeof *hosts))) abort();
    hosts[nhosts++] = (Host){p, bytes};
}
bool host_unregister(void *p) {
    for (u32 i = 0; i < nhosts; i++)
        if (hosts[i].at == p) {
            hosts[i] = hosts[--nhosts];
            return true;
        }
    return false;
}
u8 *host_bytes(u64 address, u64 bytes) {
    for (u32 i = 0; i < nhosts; i++)
        if (address >= (u64)(uintptr_t)hosts[i].at &&
            address - (u64)(uintptr_t)hosts[i].at <= hosts[i].bytes &&
            bytes <= hosts[i].bytes - (address - (u64)(uintptr_t)hosts[i].at))
            return (u8 *)(uintptr_t)address;
    return NULL;
}
u64 host_size(void *p) {
    for (u32 i = 0; i < nhosts; i++)
        if (hosts[i].at == (u8 *)p) return hosts[i].bytes;
    return 0;
}
