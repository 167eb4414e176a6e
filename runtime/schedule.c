/* The schedules, as functions of the step. */
#include "schedule.h"
#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    double decay_fraction;
} schedules[] = {
#define SCHEDULE(name, decay, factor) {#name, decay},
    SCHEDULES(SCHEDULE)
#undef SCHEDULE
};

Schedule schedule_named(const char *name) {
    Schedule s = 0;
    while (s < SCHEDULE_COUNT && strcmp(schedules[s].name, name) != 0) s++;
    return s;
}

const char *schedule_name(Schedule s) {
    return schedules[s].name;
}

double schedule_decay_fraction(Schedule s) {
    return schedules[s].decay_fraction;
}

/* Factor where p of the decay has passed. */
static double factor_at(Schedule s, double p) {
    switch (s) {
#define SCHEDULE(name, decay, factor)                                                                        \
    case SCHEDULE_##name:                                                                                    \
        return factor;
        SCHEDULES(SCHEDULE)
#undef SCHEDULE
    case SCHEDULE_COUNT:
        break;
    }
    return 1;
}

double plan_learning_rate(const Plan *plan, int64_t step) {
    if (step < plan->warmup) return (double)step / (double)plan->warmup;
    int64_t stable = plan->total - (int64_t)rint(plan->decay_fraction * (double)plan->total);
    if (stable < plan->warmup) stable = plan->warmup;
    if (step > plan->total) step = plan->total;
    if (step <= stable) return 1;
    return factor_at(plan->schedule, (double)(step - stable) / (double)(plan->total - stable + 1));
}

double plan_weight_decay(const Plan *plan, int64_t step) {
    return (double)step <= plan->weight_decay_until * (double)plan->total || plan->weight_decay_until >= 1;
}

double plan_lambda(const Plan *plan, int64_t step) {
    return step > plan->lambda_warmup ? 1 : (double)(step - 1) / (double)plan->lambda_warmup;
}
