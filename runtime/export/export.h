/* --export: the trained model for other programs, as GGUF for llama.cpp (FILE.gguf) or as Hugging Face
 * safetensors (DIR).
 *
 * Ternary parameters go out as the codes and scales of a forward pass of the module itself, so a program that
 * multiplies codes by scales computes with the numbers that were trained. */
#ifndef TBC_RT_EXPORT_H
#define TBC_RT_EXPORT_H

#include "../codes.h"

/* Can the model be exported as the options ask for? To be asked before a long run: module, sizes, and whether
 * the place can be written to. Prints an error if not. */
bool export_check(const Session *);

/* Exports. The file or directory appears whole or not at all. False: an error was printed. */
bool export_model(Session *);

/* ---- between the files of export */

/* One parameter to export. */
typedef struct Exported {
    const tbc_tensor *param;
    const float *latent;
    Codes codes; /* codes.at NULL: the parameter is used in full precision */
} Exported;

/* export_gguf.c: qwen3 models only, others are an error. */
bool export_gguf_check(const Session *);
bool export_gguf(const Session *, const Exported *, size_t n);

/* export_hf.c. --export-as dequantized (the default): what the forward pass computes with, code * scale; its
 * config.json says that nothing is left to be quantised. latent: the f32 weights that training goes on from.
 */
bool export_hf_check(const Session *);
bool export_hf(const Session *, const Exported *, size_t n);

#endif
