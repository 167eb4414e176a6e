/* Files that go along with a model as they are, when it is saved or exported, so that its texts can be read
 * and written there: those of its tokenizer, and generation_config.json, which says where a text ends. */
#ifndef TBC_RT_COMPANIONS_H
#define TBC_RT_COMPANIONS_H

#include "files/files.h"
#include "text/tokenizer.h"

#define GENERATION_CONFIG "generation_config.json"

enum { MAX_COMPANIONS = 8 };

/* Zeroed: none. They are mapped from the start, so that a save at the end of a run does not depend on them
 * being still there. */
typedef struct Companions {
    size_t n;
    const char *names[MAX_COMPANIONS];
    FileMap maps[MAX_COMPANIONS];
} Companions;

/* Finds them: tokenizer.json and what Transformers keeps beside it, beside the tokenizer's file, none for
 * `byte`; and generation_config.json in `model` (a directory, or beside that file; NULL: none). False: an
 * error was printed; close them all the same. */
bool companions_open(Companions *, const Tokenizer *, const char *model);
void companions_close(Companions *);

/* Writes file number i. False: an error was printed. */
bool companions_write(const Companions *, size_t i, NewFile *);

#endif
