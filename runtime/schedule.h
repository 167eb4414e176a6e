/* How learning rate and weight decay change over a run. All schedules warm up linearly and depend on nothing
 * but the step and the plan, so a resumed run goes on exactly. */
#ifndef TBC_RT_SCHEDULE_H
#define TBC_RT_SCHEDULE_H

#include <stdint.h>

/* SCHEDULE(name, default decay fraction, factor of the learning rate where p of the decay has passed, 0 < p <
 * 1). wsd is warm-up, stable, decay: its 1-sqrt cool-down does better than a line (Hägele et al. 2024,
 * arXiv:2405.18392, section 3.2). */
#define SCHEDULES(SCHEDULE)                                                                                  \
    SCHEDULE(constant, 0.0, 1.0)                                                                             \
    SCHEDULE(linear, 1.0, 1 - p)                                                                             \
    SCHEDULE(cosine, 1.0, (1 + cos(M_PI * p)) / 2)                                                           \
    SCHEDULE(wsd, 0.2, 1 - sqrt(p))

typedef enum Schedule {
#define SCHEDULE(name, decay, factor) SCHEDULE_##name,
    SCHEDULES(SCHEDULE)
#undef SCHEDULE
        SCHEDULE_COUNT
} Schedule;

/* The schedule of that name; SCHEDULE_COUNT: there is none. */
Schedule schedule_named(const char *name);
const char *schedule_name(Schedule);
/* The fraction of a run over which it decays if nothing else is said. */
double schedule_decay_fraction(Schedule);

typedef struct Plan {
    Schedule schedule;
    int64_t warmup, total;     /* steps; total: of the whole run, over all its parts */
    double decay_fraction;     /* the last part of the run, in which the learning rate falls towards 0 */
    double weight_decay_until; /* the first part of the run, in which weights decay */
    int64_t lambda_warmup;     /* steps over which weights go from latent to ternary */
} Plan;

/* What the peak learning rate is multiplied by at a step, counted from 1. The warm-up ends before the decay
 * begins; the last planned step and those after it have the smallest factor, which is above 0. */
double plan_learning_rate(const Plan *, int64_t step);
/* The same for weight decay: 1, then 0. */
double plan_weight_decay(const Plan *, int64_t step);
/* The part of a weight's way from its latent to its ternary value: (step-1)/lambda_warmup, 0 at the first step;
 * 1, ternary, at the first after lambda_warmup and from there on. */
double plan_lambda(const Plan *, int64_t step);

#endif
