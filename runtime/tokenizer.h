/* Text to token ids and back. This version knows one tokenizer, `byte`: ids 0..255 are the bytes. */
#ifndef TBC_RT_TOKENIZER_H
#define TBC_RT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Tokenizer Tokenizer;

/* spec is the value of --tokenizer ("byte" or a path), NULL for the default. Prints an error and returns
 * NULL when it cannot be had. */
Tokenizer *tokenizer_open(const char *spec);
void tokenizer_close(Tokenizer *); /* NULL is allowed */

const char *tokenizer_name(const Tokenizer *);
int64_t tokenizer_vocab(const Tokenizer *); /* ids are 0 .. vocab-1 */

/* Both return heap arrays (free()), never NULL, and the length in *n. Ids outside the vocabulary decode to
 * nothing (a model may have more rows than its tokenizer has tokens). */
int32_t *tokenizer_encode(const Tokenizer *, const char *text, size_t bytes, size_t *n);
char *tokenizer_decode(const Tokenizer *, const int32_t *ids, size_t ids_n, size_t *n); /* also terminated */

#endif
