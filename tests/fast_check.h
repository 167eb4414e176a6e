/* Check, without the message that each assertion that holds sends to the parent process: a write and a copy of
 * all messages before it, which in loops over numbers took most of the time of the suites. It only served to say near
 * which assertion a test crashed. Included before all else in every suite (CMakeLists.txt). */
#ifndef TBC_FAST_CHECK_H
#define TBC_FAST_CHECK_H

#include <check.h>

#define _mark_point(file, line) ((void)0)

#endif
