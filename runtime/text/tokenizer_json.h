/* Reader of Hugging Face's tokenizer.json, as far as it describes a byte-level BPE (GPT-2, Qwen, ..).
 *
 *   added_tokens   [{id, content, single_word, lstrip, rstrip, normalized, special}]; the flags but `special`
 *                  must be false (`normalized` may be true where nothing is normalised)
 *   normalizer     null or {type: NFC}
 *   pre_tokenizer  {type: ByteLevel}, which has the regular expression of GPT-2, or {type: Sequence} of a
 *                  {type: Split, pattern: {Regex}, behavior: Isolated} and a ByteLevel with use_regex false
 *   post_processor null, ByteLevel, which does nothing to ids, TemplateProcessing, of which nothing is done (as with
 *                  add_special_tokens=False: packed text has no special tokens around it), a Sequence of these
 *   decoder        ByteLevel
 *   model          {type: BPE, vocab: {text: id}, merges: [[left, right]] or ["left right"]}
 *
 * Source: the serialization of https://github.com/huggingface/tokenizers (tokenizers/src). What would make
 * the ids different from that library's, and is not done here, is an error that names it. */
#ifndef TBC_RT_TOKENIZER_JSON_H
#define TBC_RT_TOKENIZER_JSON_H

#include "bpe_text.h"
#include "../files/files.h"

/* Reads a mapped file; path is for messages. False: an error was printed, nothing is to be closed. */
bool tokenizer_json_read(BpeTokenizer *, const char *path, const FileMap *);

#endif
