/* A corpus: the token ids of one file, or of all the files of a folder one after the other.
 *
 * What a file holds is told by the end of its name:
 *   .npy    ids (npy.h): 1-D a stream; 2-D [rows, seq+1] examples, each row as it is
 *   .bin    a stream of little-endian ids and nothing else: uint16 where the vocabulary has at most 65,536
 *           tokens, else uint32
 *   .jsonl  a document a line, as the "text" of a JSON object
 *   others  a text, one document
 * A folder counts its .txt, .jsonl, .npy and .bin files, in the order of their names (bytes compared);
 * names that begin with a dot do not count. Between two documents comes a boundary: the
 * tokenizer's end-of-text token, for bytes a newline.
 *
 * Everything is mapped and read in place (texts as bytes, or as the ids in their token_cache.h); the
 * tokenizer is needed while opening only. */
#ifndef TBC_RT_CORPUS_H
#define TBC_RT_CORPUS_H

#include "../files/files.h"
#include "stream.h"
#include "../text/tokenizer.h"

typedef struct CorpusFile {
    char *path;
    FileMap map;
} CorpusFile;

/* Starts zeroed. */
typedef struct Corpus {
    int64_t seq, vocab; /* what the model takes */
    const Tokenizer *tokenizer;
    CorpusFile *files;
    size_t nfiles;
    Stream ids;          /* all of them in 0 .. vocab-1 */
    bool examples;       /* ids are rows of seq+1, not to be cut otherwise */
    bool open_document;  /* the last id belongs to a text */
    int32_t end_of_text; /* -1: the tokenizer has none */
} Corpus;

/* Opens a file or folder. seq and vocab are the module's; the tokenizer stays the caller's. Prints an error
 * and returns false on failure; close the corpus all the same. */
bool corpus_open(Corpus *, const char *path, const Tokenizer *, int64_t seq, int64_t vocab);
void corpus_close(Corpus *);

/* Does the folder have a file that counts? */
bool corpus_has_files(const char *folder);

/* The endings that a folder's files may have, in a list closed by NULL. */
extern const char *const corpus_endings[];

#endif
