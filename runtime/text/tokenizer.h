/* Text to token ids and back. There are two kinds of tokenizer: `byte`, whose ids 0 .. 255 are the bytes, and
 * the byte-level BPE of a tokenizer.json (tokenizer_json.h). Tokenizers are read-only once opened. */
#ifndef TBC_RT_TOKENIZER_H
#define TBC_RT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Tokenizer Tokenizer;

/* spec is the value of --tokenizer: `byte`, a tokenizer.json, a directory with one, or NAME for
 * NAME-tokenizer/tokenizer.json in the data home; NULL for `byte`. Prints an error and returns NULL when it
 * cannot be had. */
Tokenizer *tokenizer_open(const char *spec);
void tokenizer_close(Tokenizer *); /* NULL is allowed */

/* The tokenizer of a model: spec if it is given; else the tokenizer.json in `beside` (a directory, or beside
 * a file; NULL: none); else, for a vocabulary of the size of Qwen3's, `qwen3` if it is in the data home; else
 * `byte`. */
Tokenizer *tokenizer_choose(const char *spec, const char *beside, int64_t vocab);

const char *tokenizer_name(const Tokenizer *);    /* `byte`, or the file it is from */
const char *tokenizer_path(const Tokenizer *);    /* the tokenizer.json; NULL: `byte` */
int64_t tokenizer_vocab(const Tokenizer *);       /* ids are 0 .. vocab-1 */
uint64_t tokenizer_hash(const Tokenizer *);       /* two that are different encode differently */
bool tokenizer_is_byte(const Tokenizer *);        /* a text is its own ids */
int32_t tokenizer_end_of_text(const Tokenizer *); /* the id that ends a document; -1: there is none */

/* Where ids go, in order. put returns false to end the encoding, after printing an error. */
typedef struct TokenSink {
    bool (*put)(struct TokenSink *, const int32_t *ids, size_t n);
} TokenSink;

/* Encodes a text of any length, a part at a time. False: an error was printed. */
bool tokenizer_encode_to(const Tokenizer *, const char *text, size_t bytes, TokenSink *);

/* Returns a heap array (free()) and its length in *n; NULL: an error was printed. */
int32_t *tokenizer_encode(const Tokenizer *, const char *text, size_t bytes, size_t *n);

/* Returns the bytes that the ids stand for, heap and terminated, never NULL, and their number in *n. Ids
 * without a token decode to nothing (a model may have more rows than its tokenizer has tokens). */
char *tokenizer_decode(const Tokenizer *, const int32_t *ids, size_t ids_n, size_t *n);

/* Decoding for people, an id after the other: what comes out is UTF-8 at any time, for a character that is
 * not complete is held back, and U+FFFD stands for what can be none. Starts zeroed. */
typedef struct TextStream {
    char held[4];
    size_t n;
} TextStream;

/* Like tokenizer_decode. With ids_n 0, ends the stream: nothing is held back. */
char *tokenizer_stream(const Tokenizer *, TextStream *, const int32_t *ids, size_t ids_n, size_t *n);

#endif
