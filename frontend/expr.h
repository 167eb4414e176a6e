/* Integer expressions over named dims: "heads*head_dim", "(seq + 1) / 2", "3". */
#ifndef TBC_EXPR_H
#define TBC_EXPR_H

#include "../ir/base.h"

typedef struct Dim {
    const char *name;
    int64_t value;
    bool is_bool; /* written as true or false, which count as 1 and 0 */
} Dim;
typedef VEC(Dim) Scope;

const Dim *scope_find(const Scope *, const char *name); /* the last one of that name, or NULL */

/* Grammar: sum = product {("+"|"-") product}; product = unary {("*"|"/") unary};
 * unary = "-" unary | "(" sum ")" | integer | name. A division must leave no remainder.
 * On failure returns false with a message in *error (append) and the character it is about in *at. */
bool expr_eval(const char *text, const Scope *, int64_t *out, Buf *error, size_t *at);

bool is_identifier(const char *); /* [A-Za-z_][A-Za-z0-9_]*, at most 63 characters */

#endif
