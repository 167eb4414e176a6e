/* A tokenizer as GGUF metadata (tokenizer.ggml.*), in the form that llama.cpp's own converter gives it:
 * model "gpt2" (byte-level BPE) whatever the model, one text and one type for each of the model's tokens. */
#ifndef TBC_RT_GGUF_VOCAB_H
#define TBC_RT_GGUF_VOCAB_H

#include "gguf.h"
#include <cjson/cJSON.h>

/* Adds the tokenizer of a Hugging Face tokenizer.json (byte-level BPE). vocab is the number of the model's
 * tokens: ids that the tokenizer does not have become unused ones. Special tokens and the chat template come
 * from tokenizer_config.json (and chat_template.jinja) next to it, where they are; ids that it does not tell,
 * from config, the model's config.json. False: an error was printed. */
bool gguf_add_vocab(Gguf *, const char *tokenizer_json, int64_t vocab, const cJSON *config);

/* Adds a tokenizer whose ids 0 .. 255 are the bytes; byte 0 begins and ends texts. */
bool gguf_add_byte_vocab(Gguf *, int64_t vocab);

#endif
