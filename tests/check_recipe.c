/* The training recipe: schedules, plans over several runs, early stopping, the best checkpoint, what is
 * logged, and how a run that stops being finite ends. On the module written by hand. */
#include "rt_session.h"
#include "../runtime/diagnose.h"
#include "../runtime/evaluate.h"
#include "../runtime/interrupt.h"
#include <math.h>

/* ---- schedules */

START_TEST(hyper_follows_the_recipe) {
    TrainState st = {.lr = 5e-4, .weight_decay = 0.01, .plan = {.warmup = 2, .weight_decay_until = 1}};
    LoadedModule m = {.bias_correction = true, .beta1 = 0.9, .beta2 = 0.95};
    ck_assert_double_eq(learning_rate(&st, 1), 2.5e-4);
    ck_assert_double_eq(learning_rate(&st, 2), 5e-4);
    ck_assert_double_eq(learning_rate(&st, 100), 5e-4);
    float hyper[4];
    hyper_at(&st, &m, 1, 1, hyper);
    ck_assert_float_eq(hyper[0], (float)(1 - 2.5e-6));
    ck_assert_float_eq(hyper[1], (float)(2.5e-4 / (1 - 0.9)));
    ck_assert_float_eq(hyper[2], (float)(1 / (1 - 0.95)));
    ck_assert_float_eq(hyper[3], 1);
    m.bias_correction = false;
    hyper_at(&st, &m, 3, 0.25, hyper);
    ck_assert_float_eq(hyper[1], 5e-4f);
    ck_assert_float_eq(hyper[2], 1);
    ck_assert_float_eq(hyper[3], 0.25f);
    st.plan.warmup = 0;
    ck_assert_double_eq(learning_rate(&st, 1), 5e-4);
}
END_TEST

/* 100 steps, the first 10 of them warm-up, decay over the last 40 (or all): factors by hand. */
static const struct {
    Plan plan;
    struct {
        int64_t step;
        double factor;
    } at[6];
} by_hand[] = {
    {{SCHEDULE_constant, 10, 100, 0, 1, 0}, {{1, 0.1}, {10, 1}, {60, 1}, {61, 1}, {100, 1}, {1000, 1}}},
    {{SCHEDULE_linear, 10, 100, 0.4, 1, 0},
     {{5, 0.5}, {10, 1}, {60, 1}, {61, 40.0 / 41}, {100, 1.0 / 41}, {1000, 1.0 / 41}}},
    {{SCHEDULE_linear, 10, 100, 1, 1, 0},
     {{5, 0.5}, {10, 1}, {11, 90.0 / 91}, {55, 46.0 / 91}, {100, 1.0 / 91}, {101, 1.0 / 91}}},
    {{SCHEDULE_cosine, 0, 99, 1, 1, 0},
     {{1, 0.99975328}, {25, 0.85355339}, {50, 0.5}, {75, 0.14644661}, {99, 0.00024671982}, {0, 1}}},
    {{SCHEDULE_wsd, 10, 100, 0.4, 1, 0},
     {{5, 0.5}, {10, 1}, {60, 1}, {61, 0.8438262381}, {100, 0.0122704034}, {101, 0.0122704034}}},
    {{SCHEDULE_wsd, 10, 8, 0.4, 1, 0},
     {{5, 0.5}, {8, 0.8}, {10, 1}, {11, 1}, {12, 1}, {100, 1}}}, /* warm-up only */
};

START_TEST(schedules_have_their_shapes) {
    for (int i = 0; i < 6; i++)
        ck_assert_double_eq_tol(plan_learning_rate(&by_hand[_i].plan, by_hand[_i].at[i].step),
                                by_hand[_i].at[i].factor, 1e-8);
    for (Schedule s = 0; s < SCHEDULE_COUNT; s++) {
        ck_assert_int_eq(schedule_named(schedule_name(s)), s);
        Plan plan = {s, 7, 83, _i / 6.0, 1, 0};
        double before = 2;
        for (int64_t step = 7; step <= 90; step++) { /* never rises, never 0 */
            double factor = plan_learning_rate(&plan, step);
            ck_assert(factor > 0 && factor <= before);
            before = factor;
        }
    }
    ck_assert_int_eq(schedule_named("cos"), SCHEDULE_COUNT);
}
END_TEST

START_TEST(weight_decay_ends) {
    Plan plan = {.total = 10, .weight_decay_until = 0.5};
    ck_assert_double_eq(plan_weight_decay(&plan, 1), 1);
    ck_assert_double_eq(plan_weight_decay(&plan, 5), 1);
    ck_assert_double_eq(plan_weight_decay(&plan, 6), 0);
    plan.weight_decay_until = 0;
    ck_assert_double_eq(plan_weight_decay(&plan, 1), 0);
    plan.weight_decay_until = 1;
    ck_assert_double_eq(plan_weight_decay(&plan, 11), 1);
    TrainState st = {.lr = 0.1, .weight_decay = 0.5, .plan = {.total = 10, .weight_decay_until = 0.5}};
    float hyper[4];
    hyper_at(&st, &(LoadedModule){0}, 5, 1, hyper);
    ck_assert_float_eq(hyper[0], 0.95f);
    hyper_at(&st, &(LoadedModule){0}, 6, 1, hyper);
    ck_assert_float_eq(hyper[0], 1);
}
END_TEST

START_TEST(lambda_rises) {
    Plan plan = {.lambda_warmup = 4};
    ck_assert_double_eq(plan_lambda(&plan, 1), 0);
    ck_assert_double_eq(plan_lambda(&plan, 2), 0.25);
    ck_assert_double_eq(plan_lambda(&plan, 4), 0.75);
    ck_assert_double_eq(plan_lambda(&plan, 5), 1);
    ck_assert_double_eq(plan_lambda(&plan, 1000), 1);
    ck_assert_double_eq(plan_lambda(&(Plan){0}, 1), 1);
}
END_TEST

/* ---- plans over several runs */

static const char *const recipes[] = {
    "--schedule constant",
    "--schedule linear --weight-decay 0.3 --weight-decay-until 0.6",
    "--schedule cosine --decay-fraction 0.7",
    "--schedule wsd --decay-fraction 0.4 --accumulate 2 --clip 0.2",
};

START_TEST(resuming_changes_nothing) {
    const char *module = build_module("b.so", "-DBUFFER"), *dir = scratch("ck");
    char flags[1024];
    snprintf(flags, sizeof flags, "--steps 9 %s", recipes[_i]);
    uint64_t whole = hash_after(module, flags);
    snprintf(flags, sizeof flags, "--steps 3 --total-steps 9 %s --save %s", recipes[_i], dir);
    ck_assert_uint_ne(hash_after(module, flags), whole);
    snprintf(flags, sizeof flags, "--steps 4 --resume %s --save %s", dir, dir); /* the recipe comes along */
    hash_after(module, flags);
    snprintf(flags, sizeof flags, "--resume %s", dir); /* and how many steps are left */
    ck_assert_uint_eq(hash_after(module, flags), whole);
    /* a shorter plan is another recipe, where the rate decays */
    snprintf(flags, sizeof flags, "--steps 6 %s --save %s", recipes[_i], dir);
    hash_after(module, flags);
    snprintf(flags, sizeof flags, "--steps 3 --resume %s", dir);
    ck_assert((hash_after(module, flags) == whole) == (_i == 0));
}
END_TEST

static const struct {
    const char *flags;
    int64_t last, total;
    const char *says; /* instead */
} plans[] = {
    {"", 12, 12, NULL}, /* what is left: 12 steps were planned, 5 done */
    {"--steps 3", 8, 12, NULL},
    {"--steps 20", 25, 25, NULL},
    {"--total-steps 40", 40, 40, NULL},
    {"--total-steps 40 --steps 3", 8, 40, NULL},
    {"--total-steps 5", 5, 5, NULL},
    {"--total-steps 4", 0, 0, "--total-steps 4: this run ends at step 5"},
    {"--total-steps 7 --steps 3", 0, 0, "--total-steps 7: this run ends at step 8"},
    {"--decay-fraction 0.5", 0, 0, "a constant rate does not decay"},
};

START_TEST(plans_are_kept) {
    const char *module = build_module("m.so", "");
    char line[2048];
    snprintf(line, sizeof line, "--steps 5 --total-steps 12 --save %s", scratch("ck"));
    hash_after(module, line);
    snprintf(line, sizeof line, "%s --data %s --resume %s %s", module, text_file(), scratch("ck"),
             plans[_i].flags);
    Session s;
    ck_assert_int_eq(parse(&options_now, line), OPTIONS_RUN);
    if (plans[_i].says) {
        ck_fails(session_open(&s, &options_now), plans[_i].says);
    } else {
        ck_assert(session_open(&s, &options_now));
        ck_assert_int_eq(s.last_step, plans[_i].last);
        ck_assert_int_eq(s.state.plan.total, plans[_i].total);
    }
    session_close(&s);
}
END_TEST

/* ---- evaluations */

START_TEST(early_stopping_waits_for_a_better_evaluation) {
    const char *module = build_module("m.so", "");
    Session s;
    open_session(&s,
                 "%s --data %s --quiet --warmup 0 --lr 3 --eval-every 2 --steps 100 --patience 3 --save %s",
                 module, text_file(), scratch("ck"));
    ck_assert(train(&s));
    ck_assert_int_eq(s.state.evals_since_best, 3);
    ck_assert_int_eq(s.state.step, s.state.best_step + 6);
    ck_assert_int_lt(s.state.step, 100);
    int64_t stopped = s.state.step;
    session_close(&s);
    /* what was counted comes along with the checkpoint */
    open_session(&s, "%s --data %s --quiet --eval-every 2 --patience 4 --resume %s", module, text_file(),
                 scratch("ck"));
    ck_assert_int_eq(s.state.evals_since_best, 3);
    ck_assert(train(&s));
    ck_assert(s.state.step == stopped + 2 || s.state.best_step > stopped);
    session_close(&s);
}
END_TEST

START_TEST(the_best_checkpoint_is_kept) {
    const char *module = build_module("m.so", "");
    Session s, best;
    open_session(&s,
                 "%s --data %s --quiet --warmup 0 --lr 3 --eval-every 2 --steps 12 --save-best %s --log %s",
                 module, text_file(), scratch("best"), scratch("log"));
    ck_assert(train(&s));
    int64_t best_step = s.state.best_step;
    double best_loss = s.state.best_loss;
    session_close(&s);
    size_t n;
    char *log = get_file(scratch("log"), &n);
    double least = INFINITY;
    for (char *line = log; (line = strstr(line, "\"eval_loss\":")); line++)
        least = fmin(least, strtod(line + 12, NULL));
    ck_assert_double_eq_tol(least, best_loss, 1e-8);
    free(log);
    if (best_step == 0) {
        ck_assert(!file_is_dir(scratch("best")));
        return;
    }
    open_session(&best, "%s --data %s --quiet --resume %s", module, text_file(), scratch("best"));
    ck_assert_int_eq(best.state.step, best_step);
    ck_assert(best.state.best_loss == best_loss);
    session_close(&best);
}
END_TEST

START_TEST(codes_are_logged) {
    Session s;
    open_session(&s, "%s --data %s --quiet --steps 2 --eval-every 2 --log %s", build_module("m.so", ""),
                 text_file(), scratch("log"));
    ck_assert(train(&s));
    session_close(&s);
    size_t n;
    char *log = get_file(scratch("log"), &n), *line = log;
    for (int step = 0; step <= 2; step += 2) {
        double share[3];
        int at;
        line = strstr(line + 1, ",\"codes\":");
        ck_assert_ptr_nonnull(line);
        ck_assert_int_eq(sscanf(line, ",\"codes\":{\"w\":[%lf,%lf,%lf]}}", &share[0], &share[1], &share[2]),
                         3);
        while (line[-1] != '\n') line--;
        ck_assert_int_eq(sscanf(line, "{\"step\":%d,", &at), 1);
        ck_assert_int_eq(at, step);
        line = strstr(line, "codes");
        ck_assert_double_eq_tol(share[0] + share[1] + share[2], 1, 2e-6);
        /* normal weights: |w| < s/2 of mean |w| = s has probability erf(1/(2 sqrt(pi))) = 0.31 */
        if (step == 0) ck_assert_double_eq_tol(share[1], 0.31, 0.01);
    }
    free(log);
}
END_TEST

/* ---- runs that stop being finite */

/* Trains, which must fail. What stderr said, good until the next capture. */
static const char *train_fails(Session *s) {
    capture_start();
    bool ok = train(s);
    const char *text = capture_stop();
    ck_assert(!ok);
    ck_assert_msg(!strncmp(text, "tbc-run: error: step ", 21), "%s", text);
    return text;
}

#define ck_says(text, fragment) ck_assert_msg(strstr(text, fragment), "expected '%s' in: %s", fragment, text)

START_TEST(a_loss_that_is_not_finite_is_traced) {
    Session s;
    open_session(&s, "%s --data %s --quiet --steps 3 --save %s", build_module("m.so", _i ? "-DBUFFER" : ""),
                 text_file(), scratch("ck"));
    NamedTensor *bias = !strcmp(s.params[0].name, "bias") ? &s.params[0] : &s.params[1];
    bias->data[5] = 1e4f; /* exp overflows */
    uint64_t before = weights_hash(&s);
    const char *text = train_fails(&s);
    ck_says(text, "step 1: the loss is not finite");
    ck_says(text, _i ? "first in launch 1 of table backward: mean (kernel mean)"
                     : "first in launch 3 of table train: mean (kernel mean)");
    ck_says(text, "result loss: none of its 1 values is finite");
    ck_assert_uint_eq(weights_hash(&s), before); /* the update was not run */
    session_close(&s);
    ck_assert(!file_is_dir(scratch("ck")));
}
END_TEST

START_TEST(projections_are_looked_at) {
    Session s;
    open_session(&s, "%s --data %s --quiet --steps 3", build_module("m.so", ""), text_file());
    NamedTensor *w = !strcmp(s.params[0].name, "w") ? &s.params[0] : &s.params[1];
    for (int i = 0; i < 100; i++) w->data[i] = i % 2 ? 1e5f : -1e5f; /* f16 ends at 65504 */
    capture_start();
    bool found = diagnose_table(&s, module_table(&s.module, "eval"));
    const char *text = capture_stop();
    ck_assert(found);
    ck_says(text, "first in launch 0 of table project: w (kernel ternary)");
    ck_says(text, "result scales of w: ");
    ck_says(text, "1 of 768 values not finite");
    ck_says(text, "operand w: -100000 to 100000, 0 of 65536 values not finite");
    session_close(&s);
}
END_TEST

START_TEST(a_gradient_that_is_not_finite_is_traced) {
    Session s;
    open_session(&s, "%s --data %s --quiet --steps 3 --accumulate 2",
                 build_module("b.so", "-DBUFFER -DBAD_GRADIENT"), text_file());
    uint64_t before = weights_hash(&s);
    const char *text = train_fails(&s);
    ck_says(text, "step 1: the gradient is not finite");
    ck_says(text, "first in launch 3 of table backward: bias (kernel gradient_bias)");
    ck_says(text, "result bias.grad: ");
    ck_says(text, "1 of 256 values not finite");
    ck_assert_uint_eq(weights_hash(&s), before);
    session_close(&s);
}
END_TEST

START_TEST(spoiled_weights_are_named) {
    /* The gradient is in no memory that could be looked at: the step after it finds the weights spoiled. */
    Session s;
    open_session(&s, "%s --data %s --quiet --steps 3", build_module("m.so", "-DBAD_GRADIENT"), text_file());
    const char *text = train_fails(&s);
    ck_says(text, "step 2: the loss is not finite");
    ck_says(text, "not finite before this step:");
    ck_says(text, "parameter bias: ");
    ck_says(text, "moment bias.m: ");
    ck_assert_ptr_null(strstr(text, "parameter w:"));
    session_close(&s);
}
END_TEST

/* ---- interruption */

START_TEST(a_second_signal_quits) {
    interrupt_catch(true);
    ck_assert_int_eq(interrupt_pending(), 0);
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    raise(numbers[_i]);
    ck_assert_int_eq(interrupt_pending(), numbers[_i]);
    raise(numbers[(_i + 1) % 3]);
}
END_TEST

START_TEST(under_nohup_a_hangup_is_ignored) {
    signal(SIGHUP, SIG_IGN);
    interrupt_catch(true);
    raise(SIGHUP);
    ck_assert_int_eq(interrupt_pending(), 0);
    raise(SIGINT);
    raise(SIGHUP);
    ck_assert_int_eq(interrupt_pending(), SIGINT);
}
END_TEST

START_TEST(an_interrupted_evaluation_does_not_count) {
    Session s;
    open_session(&s, "%s --data %s --quiet --steps 5 --eval-every 1 --log %s", build_module("m.so", ""),
                 text_file(), scratch("log"));
    interrupt_catch(true);
    raise(SIGINT);
    Progress quiet = progress_start(true);
    Evaluation e;
    ck_assert(evaluate(&s, 0, &quiet, &e));
    ck_assert(e.interrupted);
    ck_assert_int_eq(e.rows, 3); /* one batch */
    ck_assert(train(&s));
    ck_assert_int_eq(s.state.step, 0);
    ck_assert(s.state.best_loss < 0);
    session_close(&s);
    size_t n;
    free(get_file(scratch("log"), &n));
    ck_assert_uint_eq(n, 0);
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("recipe");
    tcase_add_test(tests, hyper_follows_the_recipe);
    tcase_add_loop_test(tests, schedules_have_their_shapes, 0, sizeof by_hand / sizeof *by_hand);
    tcase_add_test(tests, weight_decay_ends);
    tcase_add_test(tests, lambda_rises);
    tcase_add_loop_test(tests, resuming_changes_nothing, 0, sizeof recipes / sizeof *recipes);
    tcase_add_loop_test(tests, plans_are_kept, 0, sizeof plans / sizeof *plans);
    tcase_add_test(tests, early_stopping_waits_for_a_better_evaluation);
    tcase_add_test(tests, the_best_checkpoint_is_kept);
    tcase_add_test(tests, codes_are_logged);
    tcase_add_loop_test(tests, a_loss_that_is_not_finite_is_traced, 0, 2);
    tcase_add_test(tests, projections_are_looked_at);
    tcase_add_test(tests, a_gradient_that_is_not_finite_is_traced);
    tcase_add_test(tests, spoiled_weights_are_named);
    tcase_add_loop_test_raise_signal(tests, a_second_signal_quits, SIGINT, 0, 1);
    tcase_add_loop_test_raise_signal(tests, a_second_signal_quits, SIGHUP, 1, 2);
    tcase_add_loop_test_raise_signal(tests, a_second_signal_quits, SIGTERM, 2, 3);
    tcase_add_test(tests, under_nohup_a_hangup_is_ignored);
    tcase_add_test(tests, an_interrupted_evaluation_does_not_count);
    return run_tests("recipe", tests);
}
