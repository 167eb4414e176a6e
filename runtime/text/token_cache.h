/* The ids of texts, kept in files so that a text is tokenized once.
 *
 * A cache lies beside the text, as TEXT.KEY.ids, or, where that folder may not be written, in
 * ~/.cache/tbc/ids/KEY.ids; KEY, 16 hex digits, is of the text's content and the tokenizer's. It holds the
 * ids as little-endian int32, then a trailer that says what they are of. It appears whole or not at all; one
 * that does not match its trailer is made again. */
#ifndef TBC_RT_TOKEN_CACHE_H
#define TBC_RT_TOKEN_CACHE_H

#include "../files/files.h"
#include "tokenizer.h"

/* Makes the ids of a file, which need not be a text that is encoded as it is. False: an error was printed. */
typedef bool TokenizeFn(const Tokenizer *, const char *path, const FileMap *file, TokenSink *);

/* A whole text, encoded as it is. */
TokenizeFn tokenize_text;

/* Maps the ids of a file: from the cache, which is made first if need be. The first *n int32 of *ids are
 * they. False: an error was printed. */
bool token_cache_open(FileMap *ids, int64_t *n, const Tokenizer *, const char *path, const FileMap *file,
                      TokenizeFn *);

#endif
