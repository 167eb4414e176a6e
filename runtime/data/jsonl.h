/* JSON Lines: one JSON object a line, whose "text" is a document; other keys do not matter, empty lines
 * neither. */
#ifndef TBC_RT_JSONL_H
#define TBC_RT_JSONL_H

#include "../text/token_cache.h"

/* The documents' ids, with a boundary between two: the end-of-text token if the tokenizer has one, for bytes
 * a newline. Errors name the line. */
TokenizeFn tokenize_jsonl;

#endif
