/* What every Check suite shares. */
#ifndef TBC_SUITE_H
#define TBC_SUITE_H

#include <check.h>

/* An assertion that holds sends a message to the parent process: a write, and a copy of all messages before it. In loops
 * over numbers that took most of the time of the suites; it only serves to say near which assertion a test crashed. */
#define _mark_point(file, line) ((void)0)

/* Runs the suite and frees it; what main returns: 0 if every test passed. */
static inline int run_suite(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

#endif
