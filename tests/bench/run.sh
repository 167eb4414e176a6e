#!/bin/sh
# Kernels against the machine's peak, then a whole training step of a 29 M-weight Qwen3 against PyTorch, in one run.
#     sh tests/bench/run.sh [--no-peers]
# PyTorch comes from $PYTHON if that has it, else from PyPI into a virtual environment that is thrown away.
set -eu
cd "$(dirname "$0")/../.."
sh .ci/install-packages
cmake -S . -B build -G Ninja >/dev/null && cmake --build build --target tbc tbc-run bench | tail -n 1
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
config=tests/bench/qwen3-29m.json batch=8 seq=256

build/tests/bench

awk 'BEGIN { for (i = 0; i < 300000; i++) print i, i * i % 8191 }' >"$work/text"
ours() { # ours PRECISION: the fastest of six steps, in seconds
    build/tbc compile $config -o "$work/$1.so" --batch $batch --seq $seq --precision "$1"
    build/tbc-run "$work/$1.so" --data "$work/text" --tokenizer byte --steps 6 --quiet --log "$work/$1.jsonl" >/dev/null
    sed -n 's/.*"tokens_per_s":\([0-9.]*\).*/\1/p' "$work/$1.jsonl" |
        awk -v tokens=$((batch * seq)) '$1 > best { best = $1 } END { printf "%.3f", tokens / best }'
}
printf '\nseconds a step, 29 M weights, %s x %s tokens\n' $batch $seq
printf '%-34s %s\n' "tbc f32" "$(ours f32)" "tbc i16" "$(ours i16)"
[ "${1-}" != --no-peers ] || exit 0

python=${PYTHON:-python3}
if ! "$python" -c 'import torch' 2>/dev/null; then
    "$python" -m venv "$work/venv" && python=$work/venv/bin/python && "$python" -m pip install -q torch numpy
fi
peer() { "$python" tests/bench/peer_torch.py $config --batch $batch --seq $seq --threads "$(nproc)" "$@"; }
printf '%-34s %s\n' "PyTorch f32" "$(peer)"
