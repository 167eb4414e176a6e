#!/bin/sh
# Generation with tbc-run and with llama.cpp, of the same model in the same minute: tokens/s of prompt and continuation,
# and whether both continue greedily in the same way.
#     sh tests/bench/decode.sh [--config FILE] [--precision P] [--tokenizer DIR|byte] [--gguf-type T] [--tokens N]
#         [--steps N] [--threads N]
# The model is trained from a random start for some steps on the C sources of tbc, so that it has preferences.
# llama.cpp is the package llama-cpp-python: of $PYTHON if that has it, else built from PyPI in a virtual environment that
# is thrown away (CMAKE_BUILD_PARALLEL_LEVEL: by so many compilers at a time). LLAMA_CPP_LIB_PATH, which that package
# reads, names a folder with another libllama.so. Its threads spin: on a machine with other work compare with one thread each.
set -eu
cd "$(dirname "$0")/../.."
config=tests/bench/qwen3-29m.json precision=f32 tokenizer=byte type=q2_0 tokens=128 steps=20 threads=$(nproc)
while [ $# -gt 1 ]; do
    case $1 in
    --config) config=$2 ;;
    --precision) precision=$2 ;;
    --tokenizer) tokenizer=$2 ;;
    --gguf-type) type=$2 ;;
    --tokens) tokens=$2 ;;
    --steps) steps=$2 ;;
    --threads) threads=$2 ;;
    *) break ;;
    esac
    shift 2
done
[ $# -eq 0 ] || { sed -n '2,9s/^# *//p' "$0" >&2 && exit 2; }
build=${TBC_BUILD:-build}
[ "${TBC_BUILD-}" ] || { cmake -S . -B build -G Ninja >/dev/null && cmake --build build --target tbc tbc-run | tail -n 1; }
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python=${PYTHON:-python3}
if ! "$python" -c 'import llama_cpp' 2>/dev/null; then
    log=$build/llama-cpp-python.log
    echo "building llama-cpp-python from PyPI, which takes a while (its log: $log)"
    "$python" -m venv "$work/venv"
    CMAKE_ARGS="-DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF ${CMAKE_ARGS-}" "$work/venv/bin/pip" install -v llama-cpp-python >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2 && exit 1; }
    python=$work/venv/bin/python
fi

cat runtime/*.c codegen/*.c codegen/x86/*.c >"$work/text"
prompt=$(head -c 256 runtime/train.c)
"$build/tbc" compile "$config" -o "$work/m.so" --batch 1 --seq 512 --precision "$precision"
"$build/tbc-run" "$work/m.so" --data "$work/text" --tokenizer "$tokenizer" --steps "$steps" --lr 1e-3 --warmup 0 --quiet --save "$work/ck"
"$build/tbc-run" "$work/m.so" --resume "$work/ck" --tokenizer "$tokenizer" --export "$work/m.gguf" --gguf-type "$type" --quiet
echo "$config, products in $precision, GGUF $type, $threads threads"
for run in 1 2 3; do
    "$build/tbc-run" "$work/m.so" --resume "$work/ck" --tokenizer "$tokenizer" --threads "$threads" --generate "$prompt" \
        --temperature 0 --max-tokens "$tokens" >"$work/ours" 2>"$work/speed"
    sed -n 's/^\(prompt\|generated\):/tbc        &/p' "$work/speed"
    "$python" tests/llama_greedy.py "$work/m.gguf" "$threads" "$tokens" "$prompt" >"$work/theirs" 2>"$work/speed" ||
        { cat "$work/speed" >&2 && exit 1; }
    sed -n 's/^\(prompt\|generated\):/llama.cpp  &/p' "$work/speed"
done
if cmp -s "$work/ours" "$work/theirs"; then
    echo "the same continuation"
else
    echo "continuations differ from byte $(cmp "$work/ours" "$work/theirs" | sed 's/.*byte \([0-9]*\).*/\1/') on (the prompt has 256)"
fi
