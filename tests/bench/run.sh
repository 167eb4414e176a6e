#!/bin/sh
# Kernels against the machine's peaks, then whole training steps against PyTorch, JAX and MLX, in one run.
#     sh tests/bench/run.sh [--short] [--no-peers] [--json FILE]
# --short: one layer and one step, under two minutes; else a Qwen3-0.6B step as well, under ten.
# --json FILE: one object a line. what: KERNEL/PRECISION/SIZES as `bench` names them, or step/PRECISION/MODEL/BATCHxSEQ
# seconds; gflops or gb_per_s; peak_share of the peak of such multiply-adds, above 1 for look-up (few rows: of the memory's
# speed); peak_rss_gb; peer, peer_seconds, peer_rss_gb; ratio = peer_seconds / seconds.
# Peers come from $PYTHON if that has torch, else from PyPI into a virtual environment that is thrown away.
set -eu
cd "$(dirname "$0")/../.."
short= peers=yes json=
while [ $# -gt 0 ]; do
    case $1 in
    --short) short=yes ;;
    --no-peers) peers= ;;
    --json) json=${2:?--json FILE} && shift ;;
    *) sed -n '3,8s/^# *//p' "$0" >&2 && exit 2 ;;
    esac
    shift
done
sh .ci/install-packages
cmake -S . -B build -G Ninja >/dev/null && cmake --build build --target tbc tbc-run bench | tail -n 1
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
results=${json:-$work/results} && : >"$results"
threads=$(nproc) began=$(date +%s)

table() { # the objects on stdin as rows for people
    awk '
    function get(key) { return match($0, "\"" key "\": *\"?[^,\"}]*") ? substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) : "" }
    function value(key,  v) { v = get(key); gsub(/^[: "]+/, "", v); return v }
    { name = value("peer") == "" ? value("what") : "    " value("peer")
      seconds = value("peer") == "" ? value("seconds") : value("peer_seconds")
      rss = value("peer") == "" ? value("peak_rss_gb") : value("peer_rss_gb")
      printf "%-46s %12s", name, seconds == "" ? "no result" : sprintf("%.3f ms", 1000 * seconds)
      if (value("gflops") != "") printf " %8.1f GFLOP/s", value("gflops")
      if (value("gb_per_s") != "") printf " %8.1f GB/s   ", value("gb_per_s")
      if (value("peak_share") != "") printf " %6.1f %%", 100 * value("peak_share")
      if (rss != "") printf " %6.2f GB", rss
      if (value("ratio") != "") printf "  tbc is %.2fx as fast", value("ratio")
      print ""; fflush() }'
}
record() { tee -a "$results" | table; }

# ---- kernels

printf '%s, %s threads\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$threads"
if [ "$short" ]; then
    shapes="--gemm 1024,1024,3072 --attention 2,512,16,8,128"
else
    shapes="--gemm 1024,1024,3072 --gemm 1024,3072,1024 --gemm 1024,1024,2048 --attention 2,512,16,8,128 --attention 1,2048,16,8,128 --gemm 1,1024,3072"
fi
build/tests/bench --json --threads "$threads" $shapes | record

# ---- whole steps

awk 'BEGIN { for (i = 0; i < 300000; i++) print i, i * i % 8191 }' >"$work/text"

# The command, with its peak memory in bytes left in $work/rss.
watched() {
    "$@" &
    while peak=$(awk '/VmHWM/ { print 1024 * $2 }' /proc/$!/status 2>/dev/null) && [ -n "$peak" ]; do
        echo "$peak" >"$work/rss"
        sleep 0.1
    done
    wait $!
}

ours() { # ours MODEL CONFIG BATCH SEQ PRECISION STEPS: the fastest of the steps; its seconds are left in $seconds
    build/tbc compile "$2" -o "$work/train.so" --batch "$3" --seq "$4" --precision "$5"
    rm -f "$work/log"
    watched build/tbc-run "$work/train.so" --data "$work/text" --tokenizer byte --steps "$6" --threads "$threads" --quiet --log "$work/log" >/dev/null
    seconds=$(sed -n 's/.*"tokens_per_s":\([0-9.]*\).*/\1/p' "$work/log" |
        awk -v tokens=$(($3 * $4)) '$1 > best { best = $1 } END { printf "%.4f", tokens / best }')
    printf '{"what": "step/%s/%s/%sx%s", "seconds": %s, "peak_rss_gb": %.2f}\n' "$5" "$1" "$3" "$4" "$seconds" \
        "$(awk '{ print $1 / 1e9 }' "$work/rss")" | record
}

# peer NAME MODEL CONFIG BATCH SEQ PRECISION STEPS SCRIPT [OPTION..]: after ours at the same sizes; at most 150 s, and no
# longer than what is left of ten minutes.
peer() {
    [ "$peers" ] || return 0
    left=$((began + 590 - $(date +%s)))
    limit=$((left > 150 ? 150 : left > 1 ? left : 1))
    name=$1 what="step/$6/$2/$4x$5" config=$3 batch=$4 seq=$5 steps=$7 script=$8 && shift 8
    timeout "$limit" "$python" "tests/bench/$script" "$config" --batch "$batch" --seq "$seq" --steps "$steps" --threads "$threads" "$@" \
        >"$work/peer" 2>"$work/peer.log" || : >"$work/peer"
    awk -v what="$what" -v peer="$name" -v ours="$seconds" -F '[:,}]' '
        { printf "{\"what\": \"%s\", \"peer\": \"%s\", \"seconds\": %s, \"peer_seconds\": %s, \"peer_rss_gb\": %s, \"ratio\": %.3f}\n", what, peer, ours, $2, $4, $2 / ours; any = 1 }
        END { if (!any) printf "{\"what\": \"%s\", \"peer\": \"%s\"}\n", what, peer }' "$work/peer" | record
}

python=${PYTHON:-python3}
if [ "$peers" ] && ! "$python" -c 'import torch' 2>/dev/null; then
    "$python" -m venv "$work/venv" && python=$work/venv/bin/python
    "$python" -m pip install -q torch numpy
    [ "$short" ] || "$python" -m pip install -q jax optax 'mlx[cpu]' || echo "JAX and MLX are not to be had"
fi
[ ! "$peers" ] || "$python" -m pip list 2>/dev/null | awk '$1 ~ /^(torch|jax|mlx)$/ { printf "%s %s  ", $1, $2 } END { print "" }'
small=tests/bench/qwen3-29m.json

if [ "$short" ]; then
    ours 29m $small 4 256 f32 4
    peer torch-eager 29m $small 4 256 f32 2 peer_torch.py
    exit 0
fi
ours 29m $small 8 256 f32 6
peer torch-eager 29m $small 8 256 f32 3 peer_torch.py
peer torch-compile 29m $small 8 256 f32 3 peer_torch.py --compile
peer jax 29m $small 8 256 f32 3 peer_jax.py
ours 29m $small 8 256 i16 6
ours 29m $small 8 256 bf16 6
peer jax 29m $small 8 256 bf16 2 peer_jax.py --bf16
ours 29m $small 1 128 bf16 6
peer torch-eager 29m $small 1 128 bf16 1 peer_torch.py --bf16
ours 29m $small 1 128 f32 6
peer mlx 29m $small 1 128 f32 1 peer_mlx.py
ours 0.6b tests/bench/qwen3-0.6b.json 2 512 i16 2
ours 0.6b tests/bench/qwen3-0.6b.json 2 512 f32 2
peer torch-eager 0.6b tests/bench/qwen3-0.6b.json 2 512 f32 1 peer_torch.py
peer torch-compile 0.6b tests/bench/qwen3-0.6b.json 2 512 f32 1 peer_torch.py --compile
