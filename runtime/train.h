/* The training loop. */
#ifndef TBC_RT_TRAIN_H
#define TBC_RT_TRAIN_H

#include "session.h"

/* The factors of a step as kernels take them; tbc_module.h defines them. grad_factor multiplies gradients. */
void hyper_at(const TrainState *, const LoadedModule *, int64_t step, double grad_factor, float hyper[4]);
/* Learning rate and weight decay of a step, counted from 1. */
double learning_rate(const TrainState *, int64_t step);
double weight_decay(const TrainState *, int64_t step);

/* Trains as the options say, with evaluation, log, checkpoints and a summary on stdout. False: an error was
 * printed. After a signal it ends early, saves, and returns true (interrupt.h tells). */
bool train(Session *);

#endif
