/* Device memory and its shadow: which bytes are mapped, written, in flight; and races. */
#ifndef MEMORY_H
#define MEMORY_H
#include "emu.h"

/* One address space of 2^34 bytes at most, reserved and touched lazily. All of this is global: one device a
 * process. */
bool mem_open(u64 bytes);
u64 mem_total(void);
u64 mem_used(void);
u64 mem_alloc(u64 bytes, u64 align); /* device address, 0: too little is left. Red zones lie on both sides. */
void mem_own(u64 address, const void *owner);
void mem_free_of(const void *owner); /* all that is left of it */
bool mem_free(u64 address);          /* false: no allocation begins there */
bool mem_range(u64 address, u64 *base, u64 *bytes); /* the allocation around an address */
bool mem_mapped(u64 address, u64 bytes);            /* all of it inside one allocation */
void mem_const(u64 address, u64 bytes);             /* kernels may not write it */
u8 *mem_bytes(u64 address);
u8 *mem_state(u64 address);
const char *mem_whereabouts(u64 address, char *text, u64 size); /* for reports: the nearest allocation */
/* Host memory that kernels may use under the address the host has. */
void host_register(void *p, u64 bytes);
bool host_unregister(void *p);
u8 *host_bytes(u64 address, u64 bytes);
u64 host_size(void *p);
#endif
