/* A device: where a module's arena lies and its launches run. There are two kinds, the CPU (device_cpu.c) and
 * an NVIDIA GPU (device_cuda.c), and nothing else in the runtime knows which it works with.
 *
 * The rest of the runtime reads and writes tensors by pointer, in host memory of the arena's layout. On the
 * CPU that memory is the arena. On a GPU it is a mirror of the arena, of which only the pages that are
 * touched cost anything, and which holds only what has crossed:
 *
 *   constants: to the device when it is opened
 *
 *   parameters, moments: to the device once they are loaded (session), back before they are saved or exported
 *
 *   inputs of a table: to the device before each run of it
 *
 *   outputs, codes: back after the run, when they are read; or single numbers of them later, without waiting
 *
 *   gradients, temporaries: back only to be looked at (diagnose)
 *
 * Whoever writes a tensor calls device_upload before the run that reads it, and whoever reads one calls
 * device_download after the run that wrote it; on the CPU both do nothing. Uploads, runs and zeroing happen
 * in the order in which they were asked for, but later: only downloads and sums wait for them.
 *
 * That is also when an error of a GPU comes to light. It is printed once; from then on the calls do nothing,
 * downloads leave what was there, and device_ok says false: ask it before results are believed, and
 * device_finish before a run is said to have succeeded. */
#ifndef TBC_RT_DEVICE_H
#define TBC_RT_DEVICE_H

#include "module.h"
#include "profile.h"
#include <stddef.h>

typedef struct Device Device;

/* What a kind of device does; offset and bytes are a range of the arena. */
typedef struct DeviceKind {
    bool (*open)(Device *, int threads); /* sets name, arena, self; false: an error was printed */
    void (*close)(Device *);
    bool (*ok)(const Device *);
    bool (*finish)(const Device *);
    void (*run)(Device *, const tbc_table *);
    void (*upload)(const Device *, uint64_t offset, uint64_t bytes);
    void (*download)(const Device *, uint64_t offset, uint64_t bytes);
    void (*zero)(Device *, uint64_t offset, uint64_t bytes);
    void (*read_later)(Device *, uint64_t offset, double *to);
    double (*sum_squares)(Device *, const tbc_tensor *const *, size_t n);
    Roofline (*roofline)(const Device *); /* NULL: it is to be measured */
    int steps_ahead; /* of training that are asked for before waiting for what they gave, unless the user says */
} DeviceKind;

extern const DeviceKind device_cpu, device_cuda;

struct Device {
    const DeviceKind *kind;
    const LoadedModule *module;
    char name[80];        /* for people: "4 threads", "NVIDIA H100" */
    char *arena;          /* the host's memory, 64-byte aligned */
    uint64_t arena_bytes; /* of the module, and a little more so that it is never nothing */
    void *self;           /* the kind's own */
    Profile *profile;     /* where launches are timed; NULL: nowhere */
};

/* Host memory, zeroed, of which pages that are never touched cost nothing; munmap gives it back. NULL: there
 * is none. For kinds of devices. */
void *device_map(uint64_t bytes);

/* Sets up memory for a module, zeroed, with its constants in place. which: "cpu" or "cuda". threads of a CPU,
 * 0: as many as the process may use. False: an error was printed (no such device, memory, a module for
 * another device). */
bool device_open(Device *, const LoadedModule *, const char *which, int threads);
void device_close(Device *); /* a zeroed Device is allowed */

static inline bool device_ok(const Device *d) {
    return d->kind->ok(d);
}

/* Waits for everything asked for so far; false after an error. */
static inline bool device_finish(const Device *d) {
    return d->kind->finish(d);
}

/* Runs a table, or a part of one: its launches, in order. */
static inline void device_run(Device *d, const tbc_table *table) {
    d->kind->run(d, table);
}

static inline void *device_at(const Device *d, const tbc_tensor *t) {
    return d->arena + t->offset;
}

static inline void device_upload(const Device *d, const tbc_tensor *t) {
    d->kind->upload(d, t->offset, t->bytes);
}

static inline void device_download(const Device *d, const tbc_tensor *t) {
    d->kind->download(d, t->offset, t->bytes);
}

/* Zeroes a tensor on the device; a mirror keeps what it has. */
static inline void device_zero(Device *d, const tbc_tensor *t) {
    d->kind->zero(d, t->offset, t->bytes);
}

/* The one f32 that t holds now is in *to when device_finish has returned; it may be there earlier, and is not if the
 * device fails. */
static inline void device_read_later(Device *d, const tbc_tensor *t, double *to) {
    d->kind->read_later(d, t->offset, to);
}

/* Sum of the squares of all values of n f32 tensors, in f64, in an order that depends on their sizes only. */
static inline double device_sum_squares(Device *d, const tbc_tensor *const *tensors, size_t n) {
    return d->kind->sum_squares(d, tensors, n);
}

#endif
