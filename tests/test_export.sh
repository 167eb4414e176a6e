#!/bin/sh
# --export as a command: a compiled model is trained and exported; what comes out computes what the model
# computes. Whether the numbers in the files are the module's: check_export.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
tbc=$TBC_BUILD/tbc run=$TBC_BUILD/tbc-run
fail() { echo "FAILED: $*" >&2; exit 1; }
expect() { # expect CODE TEXT ARGUMENT..: exits so, with one line of error that holds TEXT
    code=$1 text=$2 && shift 2
    "$run" "$@" >/dev/null 2>"$work/err"
    got=$?
    [ $got -eq "$code" ] || fail "$*: exit $got, expected $code: $(cat "$work/err")"
    [ "$(wc -l <"$work/err")" -eq 1 ] && grep -qF -e "$text" "$work/err" || fail "$*: expected '$text', got $(cat "$work/err")"
}
good() { "$run" "$@" --quiet >"$work/out" 2>"$work/err" || fail "$*: $(cat "$work/err")"; }
loss() { sed -n 's/.*"eval_loss":\([^,}]*\).*/\1/p' "$1"; }
same_loss() { # same_loss A B: the last losses of two logs, to 1e-6
    awk -v a="$(loss "$1" | tail -n 1)" -v b="$(loss "$2" | tail -n 1)" \
        'BEGIN { exit !(a > 0 && (a - b) ^ 2 <= (1e-6 * a) ^ 2) }' || fail "losses differ: $(loss "$1") and $(loss "$2")"
}

cat >"$work/config.json" <<'JSON'
{ "model_type": "qwen3", "vocab_size": 256, "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2,
  "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
  "max_position_embeddings": 256, "tie_word_embeddings": true }
JSON
"$tbc" compile "$work/config.json" -o "$work/m.so" --batch 2 --seq 32 || fail compile
"$tbc" compile tiny.json -o "$work/tiny.so" --batch 2 --seq 32 || fail compile
cat "$TBC_SOURCE"/runtime/*.c | head -c 20000 >"$work/text"
m=$work/m.so

# Usage.
expect 2 "of which weights?" "$m" --export "$work/x.gguf"
expect 2 "--gguf-type needs --export" "$m" --resume "$work/ck" --verify --gguf-type f16
expect 2 "--gguf-type is for --export FILE.gguf" "$m" --resume "$work/ck" --export "$work/x" --gguf-type f16
expect 2 "--export-as is for --export DIR" "$m" --resume "$work/ck" --export "$work/x.gguf" --export-as latent
expect 2 "'q4' is not known" "$m" --resume "$work/ck" --export "$work/x.gguf" --gguf-type q4
expect 2 "'bf16' is not known" "$m" --resume "$work/ck" --export "$work/x" --export-as bf16

# What cannot be exported is said before the training.
expect 1 "model.layers.0.mlp.down_proj.weight: rows of 96 weights" "$work/tiny.so" --data "$work/text" --steps 1000000 --quiet --export "$work/x.gguf"
expect 1 "No such file" "$m" --data "$work/text" --steps 1000000 --quiet --export "$work/none/x.gguf"

# Training and exporting in one go, or from a checkpoint: the same bytes.
good "$m" --data "$work/text" --steps 20 --lr 5e-3 --warmup 0 --save "$work/ck" --export "$work/now.gguf"
grep -q "^exported $work/now.gguf" "$work/out" || fail "it does not say what it exported"
good "$m" --resume "$work/ck" --export "$work/later.gguf" --verify
cmp "$work/now.gguf" "$work/later.gguf" || fail "exported again, another file"
good "$m" --resume "$work/ck" --export "$work/f16.gguf" --gguf-type f16
[ "$(head -c 4 "$work/later.gguf")" = GGUF ] && [ "$(head -c 4 "$work/f16.gguf")" = GGUF ] || fail "no GGUF files"
expect 1 "blocks of 128" "$m" --resume "$work/ck" --export "$work/p.gguf" --gguf-type pq2_0
[ ! -e "$work/p.gguf" ] || fail "a file in spite of an error"
expect 1 "is a checkpoint" "$m" --resume "$work/ck" --export "$work/ck"

"$TBC_BUILD/tests/compare_export" "$m" "$work/ck/model.safetensors" "$work/now.gguf" >"$work/out" || fail "$(cat "$work/out")"
grep -q '^15 matrices: codes and scales equal' "$work/out" || fail "not compared: $(cat "$work/out")"

# De-quantised weights in full precision, and latent ones projected again, compute what the checkpoint does.
good "$m" --resume "$work/ck" --export "$work/hf"
good "$m" --resume "$work/ck" --export "$work/latent" --export-as latent
for dir in hf latent; do "$tbc" compile "$work/$dir/config.json" -o "$work/$dir.so" --batch 2 --seq 32 || fail "compile $dir"; done
good "$m" --resume "$work/ck" --data "$work/text" --eval-only --log "$work/ck.log"
good "$work/hf.so" --weights "$work/hf" --data "$work/text" --eval-only --log "$work/hf.log"
good "$work/latent.so" --weights "$work/latent" --data "$work/text" --eval-only --log "$work/latent.log"
same_loss "$work/ck.log" "$work/hf.log"
same_loss "$work/ck.log" "$work/latent.log"
good "$work/hf.so" --weights "$work/hf" --verify
grep -q 'full precision' "$work/out" || fail "the export is quantised again"

# llama.cpp continues a text greedily as we do, from the quantised weights and from those in f16.
if [ -z "${LLAMA_PYTHON-}" ]; then
    echo "skipped: llama.cpp (LLAMA_PYTHON names no Python with llama-cpp-python)"
    exit 0
fi
good "$m" --resume "$work/ck" --generate "static const" --temperature 0 --max-tokens 20
mv "$work/out" "$work/ours"
for file in now f16; do
    "$LLAMA_PYTHON" "$TBC_SOURCE/tests/llama_greedy.py" "$work/$file.gguf" 1 20 "static const" >"$work/theirs" 2>"$work/err" ||
        fail "llama.cpp, $file.gguf: $(cat "$work/err")"
    cmp "$work/ours" "$work/theirs" || fail "llama.cpp, $file.gguf: $(cat "$work/theirs"), not $(cat "$work/ours")"
done
