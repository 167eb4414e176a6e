/* Text to the tokens of a byte pair encoding, the way Hugging Face's `tokenizers` does it for a byte-level
 * BPE:
 *
 *   1. added tokens are cut out of the text, the leftmost first, the longest of those that begin there;
 *   2. what is between them is normalised (NFC, or not at all), and added tokens that are to be found in normalised
 *      text are cut out of that in the same way;
 *   3. a regular expression cuts that into words, what it does not match being words too;
 *   4. each word is encoded by itself (bpe.h).
 *
 * Bytes that are not UTF-8, which that library has no idea of, are words of their own and so are not lost. */
#ifndef TBC_RT_BPE_TEXT_H
#define TBC_RT_BPE_TEXT_H

#include "bpe.h"
#include "tokenizer.h"

typedef struct AddedToken {
    const char *text;
    uint32_t bytes; /* > 0 */
    int32_t id;
    bool normalised; /* looked for in step 2: what NFC changes is no such token, or becomes one */
} AddedToken;

/* Read-only once it is complete, and then good for several threads. */
typedef struct BpeTokenizer {
    Bpe bpe;
    char *texts;       /* what the tokens' texts point into */
    AddedToken *added; /* bpe_text_finish sorts them */
    size_t nadded;
    uint32_t added_from[257]; /* those that begin with byte c are added[added_from[c]] ..
                                 added[added_from[c+1]-1] */
    bool nfc, added_normalised; /* the latter: there are such added tokens */
    struct pcre2_real_code_8 *regex;
    uint32_t lookbehind; /* characters that it looks back */
} BpeTokenizer;

/* Compiles the regular expression of step 3, in the dialect of tokenizer.json (Oniguruma's, as far as the
 * dialects agree). False: an error was printed, with the path. */
bool bpe_text_regex(BpeTokenizer *, const char *path, const char *pattern);
/* To be called when all tokens are added. */
void bpe_text_finish(BpeTokenizer *);
void bpe_text_close(BpeTokenizer *);

/* Encodes a text of any length in little memory beyond the longest word's (with tokens of step 2, beyond the longest
 * text between others). False: an error was printed. */
bool bpe_text_encode(const BpeTokenizer *, const char *text, size_t bytes, TokenSink *);

#endif
