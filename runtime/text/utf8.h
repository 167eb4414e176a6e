/* UTF-8, one character at a time. */
#ifndef TBC_RT_UTF8_H
#define TBC_RT_UTF8_H

#include <stddef.h>

typedef enum Utf8 {
    UTF8_VALID,   /* a character */
    UTF8_INVALID, /* bytes that begin no character: what U+FFFD stands for once */
    UTF8_CUT      /* the beginning of a character, up to the end of the text */
} Utf8;

/* What the text, which is not empty, begins with, and how many bytes that is (Unicode 15, table 3-7 and
 * "maximal subparts" of section 3.9). */
Utf8 utf8_next(const char *text, size_t bytes, size_t *length);

/* How many bytes of the text come before the first that is not UTF-8. */
size_t utf8_valid(const char *text, size_t bytes);

#endif
