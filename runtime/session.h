/* A session: one run of tbc-run and everything it works on. Opened from the options, then handed to
 * train, evaluate, verify and generate. */
#ifndef TBC_RT_SESSION_H
#define TBC_RT_SESSION_H

#include "checkpoint.h"
#include "data.h"
#include "device_cpu.h"
#include "options.h"

typedef struct Session {
    const Options *options;
    LoadedModule module;
    Device device;
    Profile profile;
    Tokenizer *tokenizer;
    Dataset *data;                         /* NULL: no --data */
    NamedTensor *params, *moments, *grads; /* in the arena; moments: NAME.m and NAME.v */
    size_t nparams, nmoments, ngrads;
    int32_t *row;      /* seq+1 ids, where examples pass through */
    int64_t last_step; /* at which this run ends */
    TrainState state;  /* step 0 at the start, or the checkpoint's; its recipe is the one in force */
} Session;

/* Opens what the options name, cheap checks first, and fills the parameters: from --resume, --weights, or
 * random ones. False: an error was printed; close the session all the same. */
bool session_open(Session *, const Options *);
void session_close(Session *);

/* The memory of an input or output that tbc_module.h lists for the table. */
void *session_io(const Session *, const tbc_table *, enum tbc_kind, const char *name);

/* Copies example `row` of a split into place b of the table's inputs tokens and targets. */
void session_feed(Session *, const tbc_table *, DataSplit, int64_t row, int64_t b);

/* The same with window `window` of those with this stride (data.h). */
void session_feed_window(Session *, const tbc_table *, DataSplit, int64_t stride, int64_t window, int64_t b);

/* Saves a checkpoint to a directory. False: an error was printed (weights that are not finite, no space, ..).
 */
bool session_save(const Session *, const char *dir);

#endif
