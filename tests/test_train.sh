#!/bin/sh
# A compiled model trains: the same bits for any number of threads and cores and across a resume, the same codes as an
# independent projection, and, where the data home has a golden loss curve beside it, PyTorch's curve.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
tbc=$TBC_BUILD/tbc run=$TBC_BUILD/tbc-run
fail() { echo "FAILED: $*" >&2; exit 1; }
losses() { sed -n 's/^{"step":\([0-9]*\),"loss":\([^,]*\),.*/\1 \2/p' "$1"; }

# Odd sizes, so that no tile comes out even; several rows of tiles, and a chunked head.
cat >"$work/config.json" <<'JSON'
{ "model_type": "qwen3", "vocab_size": 331, "hidden_size": 200, "intermediate_size": 328, "num_hidden_layers": 2,
  "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 48, "rms_norm_eps": 1e-6, "rope_theta": 1e4,
  "tie_word_embeddings": true }
JSON
"$tbc" compile "$work/config.json" -o "$work/m.so" --batch 3 --seq 150 --cores 1 || fail compile
"$tbc" compile "$work/config.json" -o "$work/cut.so" --batch 3 --seq 150 --cores 64 || fail "compile --cores"
cmp -s "$work/m.so" "$work/cut.so" && fail "64 cores get the tiles of one"
cat "$TBC_SOURCE"/runtime/*.c "$TBC_SOURCE"/runtime/*/*.c >"$work/text"
train() { "$run" "${module:-$work/m.so}" --data "$work/text" --quiet "$@" >"$work/out" || fail "train $*"; }

for threads in 1 2; do train --steps 4 --threads $threads --save "$work/$threads" --log "$work/$threads.log"; done
module=$work/cut.so train --steps 4 --threads 4 --save "$work/cut" --log "$work/cut.log"
for other in 2 cut; do
    for file in model optimizer; do
        cmp "$work/1/$file.safetensors" "$work/$other/$file.safetensors" || fail "another $file than on one core: $other"
    done
    [ "$(losses "$work/1.log")" = "$(losses "$work/$other.log")" ] || fail "other losses than on one core: $other"
done

train --steps 2 --save "$work/half" --log "$work/half.log"
train --steps 2 --resume "$work/half" --save "$work/half" --log "$work/half.log"
[ "$(losses "$work/1.log")" = "$(losses "$work/half.log")" ] || fail "resuming gives other losses"
cmp "$work/1/optimizer.safetensors" "$work/half/optimizer.safetensors" || fail "resuming gives other moments"

"$run" "$work/m.so" --resume "$work/1" --verify >"$work/out" || fail "verify: $(tail -n 1 "$work/out")"
grep -q '^verified: 15 parameters' "$work/out" || fail "verify says: $(tail -n 1 "$work/out")"

curve=${TBC_DATA_HOME:-none}/../golden/curve
[ -d "$curve" ] || { echo "skipped: curve (no golden cases beside TBC_DATA_HOME)"; exit 0; }
"$tbc" compile "$curve/config.json" -o "$work/m.so" --batch 8 --seq 128 || fail compile
"$run" "$work/m.so" --weights "$curve/model.safetensors" --data "$curve/rows.npy" --no-shuffle --steps 200 --lr 5e-4 \
    --warmup 20 --quiet --log "$work/curve.log" >/dev/null || fail curve
sed -n '/"losses"/,/]/p' "$curve/expected.json" | grep -o '[0-9][0-9.]*' | tail -n 20 >"$work/want"
losses "$work/curve.log" | tail -n 20 | cut -d ' ' -f 2 | paste - "$work/want" |
    awk '{ got += $1; want += $2 } END { printf "curve: mean of the last 20 losses %.5f, PyTorch %.5f\n", got / NR, want / NR
           exit !(NR == 20 && (got - want) ^ 2 <= (0.005 * want) ^ 2) }' || fail "the loss curve is not PyTorch's"
