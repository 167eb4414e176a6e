/* A fixture: sources to read from, and the messages about them, new for each test. */
#ifndef TBC_SOURCES_TEST_H
#define TBC_SOURCES_TEST_H

#include "../frontend/json.h"
#include "suite.h"
#include <stdlib.h>

static Diag diag;
static Sources src;

static void setup(void) {
    diag = (Diag){0};
    src = (Sources){.arena = arena_new(), .diag = &diag};
}

static void teardown(void) {
    vec_free(&src.files);
    arena_free(src.arena);
    buf_free(&diag.text);
}

#endif
