/* Weights in, checkpoints out and back in. A saved directory:
 *
 *     config.json            the model's Hugging Face configuration
 *     model.safetensors      parameters, f32 latents under their original names
 *     optimizer.safetensors  NAME.m, NAME.v
 *     state.json             TrainState: enough to go on bit for bit
 *     tokenizer.json, ..     the companions of the model (companions.h), as they were where it came from
 *
 * A save is atomic as a whole: all files are written and flushed into DIR.tbc-new, which then changes
 * places with DIR (replace_dir.h). A failure or a crash at any moment leaves the previous checkpoint or the
 * new one; other files in DIR are kept. Where DIR cannot be renamed (a mount point, the
 * current directory) the files are replaced one after the other, each whole. Both safetensors files carry the
 * step in their metadata, so a set torn by a power cut then is recognised. */
#ifndef TBC_RT_CHECKPOINT_H
#define TBC_RT_CHECKPOINT_H

#include "companions.h"
#include "files/safetensors.h"
#include "schedule.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a run needs besides the tensors. Integers are 0 <= x < 2^53 (JSON numbers). */
typedef struct TrainState {
    int64_t step;     /* optimizer steps done */
    int64_t examples; /* training examples consumed: order_at(.., examples) is the next one */
    int64_t seed;
    bool shuffle;
    int64_t batch, seq, accumulate;
    int64_t rows, data;            /* training rows and dataset_fingerprint */
    double lr, weight_decay, clip; /* clip 0: none */
    Plan plan;
    double best_loss;         /* of all evaluations; below zero: there was none */
    int64_t best_step;        /* when */
    int64_t evals_since_best; /* how many did not do better since */
} TrainState;

/* Loads weights from a file or directory into params, all of them. Missing, unknown and mis-shaped tensors
 * are reported together, one line each kind; a NaN or infinity is an error that names the tensor.
 * lm_head.weight may be there without being wanted if it is the embedding again (tied). False: an error was
 * printed, and the contents of params are undefined. */
bool weights_load(const char *path, const NamedTensor *params, size_t n);

/* Can a checkpoint be saved to dir? To be asked before a long run. Creates nothing. Prints an error if not.
 */
bool checkpoint_can_save(const char *dir);

/* Saves. dir is created when missing (its parent must be there). False: an error was printed. */
bool checkpoint_save(const char *dir, const char *config_json, const NamedTensor *params, size_t nparams,
                     const NamedTensor *moments, size_t nmoments, const TrainState *, const Companions *);

/* Loads what checkpoint_save wrote; without moments (NULL) the optimizer's file is not looked at. False: an error was
 * printed. */
bool checkpoint_load(const char *dir, const NamedTensor *params, size_t nparams, const NamedTensor *moments,
                     size_t nmoments, TrainState *);

#endif
