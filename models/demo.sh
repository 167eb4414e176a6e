#!/bin/sh
# The whole way in a few minutes: build tbc, compile a tiny ternary Qwen3 into one train.so, watch it learn
# English, and let it write. Trains on WikiText-2 where it is at hand ($TBC_DATA_HOME/wikitext2), else on
# tbc's own sources. Everything lands in build/.
set -eu
cd "$(dirname "$0")/.."
sh .ci/install-packages
echo "== building tbc and tbc-run"
cmake -S . -B build -G Ninja >/dev/null
cmake --build build --target tbc tbc-run | tail -n 1

out=build/demo
mkdir -p "$out"
home=${TBC_DATA_HOME:-$HOME/.cache/tbc}
if [ -f "$home/wikitext2/train.txt" ]; then
    data=$home/wikitext2
    prompt="The history of the "
else
    data=$out/sources.txt
    cat README.md */*.[ch] */*/*.[ch] */*.def */*.md >"$data"
    prompt="static "
fi

run() { echo "\$ $*" && "$@"; }
echo "== compiling models/qwen3-tiny.json"
run build/tbc compile models/qwen3-tiny.json -o "$out/train.so"
echo "== training, with the validation perplexity before, half-way and after"
run build/tbc-run "$out/train.so" --data "$data" --steps "${TBC_DEMO_STEPS:-400}" --eval-every 200 --save "$out/model" --log "$out/log.jsonl"
echo "== the ternary codes"
run build/tbc-run "$out/train.so" --resume "$out/model" --verify
echo "== what it writes"
run build/tbc-run "$out/train.so" --resume "$out/model" --generate "$prompt" --temperature 0.7 --seed 1
