/* Command-line arguments by a table: flags, values and positional arguments of one subcommand. */
#ifndef TBC_ARGS_H
#define TBC_ARGS_H

#include "../ir/base.h"

typedef enum ArgKind {
    ARG_FLAG,  /* bool: --time-passes */
    ARG_TEXT,  /* const char *: -o OUT */
    ARG_COUNT, /* int64_t above 0: --batch 8 */
    ARG_SIZE,  /* int64_t, bytes above 0: 512M, 7.5GiB (powers of 1024), 8GB (of 1000), 4096 */
    ARG_LIST,  /* ArgList: --print-after cse --print-after dce */
} ArgKind;

typedef VEC(const char *) ArgList;

typedef struct ArgOption {
    const char *name; /* with its dashes */
    ArgKind kind;
    void *to;            /* what the kind says; left alone where the option is not given */
    const char *choices; /* of a text: the values it can have, "so|tir|ll"; NULL: any */
} ArgOption;

/* Reads arguments into options (a list that ends with name NULL) and positional[0 .. npositional-1], all
 * of which must be there. --name=value works as well; "--" ends the options. On wrong usage returns false
 * with a message in *error. */
bool args_parse(int argc, char **argv, const ArgOption *options, const char **positional,
                uint32_t npositional, const char *positional_names, Buf *error);

#endif
