"""Continues a text greedily with llama.cpp:  python3 llama_greedy.py MODEL.gguf THREADS TOKENS TEXT
Prints the text and its continuation as `tbc-run --generate TEXT --temperature 0 --max-tokens TOKENS` does, speeds on
stderr. Needs the package llama-cpp-python. Exit 77: there is none; 1, with llama.cpp's words: it does not load the model."""
import sys
import time

try:
    import llama_cpp
except Exception as why:
    print(f"llama_cpp: {why}", file=sys.stderr)
    sys.exit(77)
import numpy as np

path, threads, count, text = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
room = len(text.encode()) + count
try:
    model = llama_cpp.Llama(path, n_ctx=room, n_threads=threads, n_threads_batch=threads, verbose=False)
except Exception:
    llama_cpp.Llama(path, n_ctx=room, verbose=True)  # fails again, and says why
    raise
vocab = llama_cpp.llama_model_get_vocab(model.model)


def next_token(tokens):
    model.eval(tokens)
    logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
    return int(np.argmax(np.ctypeslib.as_array(logits, shape=(model.n_vocab(),))))


def speed(what, tokens, seconds):
    print(f"{what}: {tokens} tokens, {tokens / seconds:.1f} tokens/s", file=sys.stderr)


prompt = model.tokenize(text.encode(), add_bos=False, special=True)
model.eval(prompt[:1])  # the first run sets things up
model.reset()
start = time.perf_counter()
token = next_token(prompt)
middle = time.perf_counter()
made = []
while len(made) < count and not llama_cpp.llama_vocab_is_eog(vocab, token):
    made.append(token)
    if len(made) < count:
        token = next_token([token])
end = time.perf_counter()
sys.stdout.buffer.write(text.encode() + model.detokenize(made, prev_tokens=prompt) + b"\n")
speed("prompt", len(prompt), middle - start)
speed("generated", len(made), end - middle)
