/* A session: one run of tbc-run and everything it works on. Opened from the options, then handed to
 * train, evaluate, verify and generate. */
#ifndef TBC_RT_SESSION_H
#define TBC_RT_SESSION_H

#include "checkpoint.h"
#include "data/data.h"
#include "device/device.h"
#include "options.h"

typedef struct Session {
    const Options *options;
    LoadedModule module;
    Device device;
    Profile profile;
    Tokenizer *tokenizer;
    Companions companions; /* for --save, --save-best, --export */
    Dataset *data;                         /* NULL: no --data */
    NamedTensor *params, *moments; /* where the host has them (device.h); moments: NAME.m and NAME.v */
    const tbc_tensor **grads;
    size_t nparams, nmoments, ngrads;
    int32_t *row;      /* seq+1 ids, where examples pass through */
    int64_t last_step; /* at which this run ends */
    TrainState state;  /* step 0 at the start, or the checkpoint's; its recipe is the one in force */
} Session;

/* Opens what the options name, cheap checks first, and fills the parameters: from --resume, --weights, or
 * random ones. False: an error was printed; close the session all the same. */
bool session_open(Session *, const Options *);
void session_close(Session *);

/* The directory or file that the weights are from; NULL: they were random. */
const char *session_model(const Session *);

/* Inputs and outputs are those that tbc_module.h lists for the table. A run of one: fill its inputs, have them
 * all uploaded, device_run, read outputs.
 *
 * Where the host writes an input. */
void *session_input(const Session *, const tbc_table *, const char *name);
void session_upload_inputs(const Session *, const tbc_table *);
/* Waits for the last run and gives its output; device_ok says whether to believe it. */
const void *session_output(const Session *, const tbc_table *, const char *name);

/* Copies example `row` of a split into place b of the table's inputs tokens and targets. */
void session_feed(Session *, const tbc_table *, DataSplit, int64_t row, int64_t b);

/* The same with window `window` of those with this stride (data.h). */
void session_feed_window(Session *, const tbc_table *, DataSplit, int64_t stride, int64_t window, int64_t b);

/* Brings parameters and moments to where the host has them: before those are read. False: the device failed. */
bool session_download_weights(const Session *);

/* Saves a checkpoint to a directory. False: an error was printed (weights that are not finite, no space, ..).
 */
bool session_save(const Session *, const char *dir);

#endif
