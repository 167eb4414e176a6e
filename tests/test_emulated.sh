#!/bin/sh
# What tbc compiles for a GPU, run by the unmodified tbc-run --device cuda on the emulated device (emulator/): every
# kernel against that of the CPU, training against PyTorch, and work that changes devices half-way.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; cat "$work/err" >&2; failed="${failed-} ${1%% *}"; }
. ./on_emulator.sh
: >"$work/err"

# At its most adverse: approximate instructions err as far as they may.
export TBC_EMU_PERTURB=1

# Kernel by kernel. With gradients in memory the launches are the same for both targets.
for target in x86-64 nvptx64; do
    "$TBC_BUILD/tbc" compile tiny.json -o "$work/tiny-$target.so" --batch 2 --seq 16 --grads buffer --target $target || exit 1
done
"$TBC_BUILD/tests/compare_devices" "$work/tiny-x86-64.so" "$work/tiny-nvptx64.so" >"$work/out" 2>"$work/err" || { fail "kernels"; cat "$work/out" >&2; }

# Whole runs, from weights to checkpoint.
. ./golden_cases.sh
compile_flags="--target nvptx64" run_flags="--device cuda"
for case in clipped_warmup full_precision mqa_ragged; do compare golden/pytorch/$case; done
compare golden/pytorch/untied_gqa --grads buffer

# What takes long is done with TBC_EMULATE=all: the other golden cases in bf16 and i16, 20 steps of the loss curve in
# each precision (they take minutes). Without it one case and one step.
low=golden/pytorch/clipped_warmup precisions=f32 length=1
[ "${TBC_EMULATE-}" = all ] && low=$(echo golden/pytorch/*) precisions="f32 i16 bf16" length=20
for case in $low; do compare_low $case; done

curve=${TBC_DATA_HOME:-none}/../golden/curve
[ -d "$curve" ] || { echo "skipped: curve (no golden cases beside TBC_DATA_HOME)" && precisions=; }
sed -n '/"losses"/,/]/p' "$curve/expected.json" 2>/dev/null | grep -o '[0-9][0-9.]*' | head -n $length >"$work/want"
for precision in $precisions; do
    "$TBC_BUILD/tbc" compile "$curve/config.json" -o "$work/curve.so" --batch 8 --seq 128 --target nvptx64 --precision $precision || exit 1
    "$TBC_BUILD/tbc-run" "$work/curve.so" --device cuda --weights "$curve/model.safetensors" --data "$curve/rows.npy" \
        --no-shuffle --steps $length --lr 5e-4 --warmup 20 --quiet --log "$work/curve.jsonl" >"$work/out" 2>"$work/err" || fail "curve $precision"
    case $precision in f32) most=1e-5 ;; i16) most=2e-4 ;; *) most=1e-3 ;; esac # as far as the CPU is from PyTorch
    sed 's/.*"loss":\([^,]*\),.*/\1/' "$work/curve.jsonl" | paste - "$work/want" | awk -v most=$most '
        { d = ($1 - $2) / $2; if (d < 0) d = -d; if (d > worst) worst = d; if (NF != 2 || d > most) bad = 1 }
        END { printf "curve %s: %d losses, relative error up to %.1e\n", "'$precision'", NR, worst; exit bad || NR != '$length' }' || fail "curve-$precision"
    rm -f "$work/curve.jsonl"
done

unset TBC_EMU_PERTURB # below, some results are compared bit by bit

# The same random weights; the same codes; a run that goes on on the other device.
run() { # run cpu|cuda ARGUMENT..
    on=$1 && shift
    target=$([ "$on" = cpu ] && echo x86-64 || echo nvptx64)
    "$TBC_BUILD/tbc-run" "$work/tiny-$target.so" --device "$on" --quiet "$@" >"$work/out" 2>"$work/err" || fail "$on $*"
}
numbers() { sed 's/.*"loss":\([^,]*\),.*"grad_norm":\([^,}]*\).*/\1\n\2/' "$@"; }
near() { # near FILE FILE: numbers, one a line, to 1e-4
    paste "$1" "$2" | awk '{ d = $1 - $2; if (d < 0) d = -d; if (NF != 2 || d > 1e-4 * $1) bad = 1 } END { exit bad || NR == 0 }' || fail "$1 and $2 differ"
}
awk 'BEGIN { for (i = 0; i < 90; i++) printf "%c%c", 33 + i * i % 90, 33 + i % 89 }' >"$work/text"
data="--data $work/text --tokenizer byte"
for device in cpu cuda; do
    other=$([ $device = cpu ] && echo cuda || echo cpu)
    run $device $data --steps 0 --save "$work/random-$device"
    run $device $data --steps 2 --clip 0.5 --save "$work/$device" --log "$work/$device.jsonl"
    run $other $data --steps 2 --resume "$work/$device" --save "$work/$device" --log "$work/$device.jsonl"
    numbers "$work/$device.jsonl" >"$work/$device.numbers"
    run $device --resume "$work/cpu" $data --eval-only
    sed 's/.*eval loss \([^,]*\), perplexity \([^ ]*\) .*/\1/' "$work/out" >"$work/$device.eval"
    run $device --resume "$work/cpu" --verify
    run $device --resume "$work/cpu" --export "$work/export-$device"
    run $device --resume "$work/cpu" --tokenizer byte --generate abc --max-tokens 20 --temperature 0
    cp "$work/out" "$work/$device.text"
done
# Kernels want no more shared memory than the smaller GPUs have, unless they are made for larger ones.
sed 's/"head_dim": *[0-9]*/"head_dim": 128/' tiny.json >"$work/wide.json"
small() { # small PRECISION TBC-ARGUMENT..
    "$TBC_BUILD/tbc" compile "$work/wide.json" --batch 1 --seq 40 --target nvptx64 --precision "$@" -o "$work/wide.so" || exit 1
    TBC_EMU_DEVICE=sm_86 "$TBC_BUILD/tbc-run" "$work/wide.so" --device cuda $data --steps 1 --quiet >"$work/out" 2>"$work/err"
}
for precision in f32 i16 bf16; do small $precision || fail "$precision on sm_86"; done
small bf16 --gpu sm_80 && fail "more shared memory than there is on sm_86"
grep -q 'this GPU has less shared memory than .*: kernel attention_grad_bf16_.* wants 104448 bytes' "$work/err" || fail "what is said of shared memory"
run cuda $data --steps 1 --profile
grep -q '^roofline: f32 19491.8 GFLOP/s, i16 311869.4 GFLOP/s, bf16 311869.4 GFLOP/s, memory 1555.2 GB/s$' "$work/out" || fail "roofline of an A100"
cmp -s "$work/random-cpu/model.safetensors" "$work/random-cuda/model.safetensors" || fail "random weights differ"
cmp -s "$work/export-cpu/model.safetensors" "$work/export-cuda/model.safetensors" || fail "exports differ"
cmp -s "$work/cpu.text" "$work/cuda.text" || fail "generated texts differ"
# The fourth loss is not finite, and that is seen after the fifth step.
for device in cpu cuda; do
    target=$([ $device = cpu ] && echo x86-64 || echo nvptx64)
    "$TBC_BUILD/tbc" compile tiny.json -o "$work/fused.so" --batch 2 --seq 16 --target $target || exit 1
    "$TBC_BUILD/tests/run_ahead" "$work/fused.so" --device $device $data --steps 7 --lr 1 --weight-decay 100 --warmup 0 --quiet \
        --log-every 5 --log "$work/ahead.jsonl" >"$work/out" 2>"$work/err" || fail "ahead on $device"
    grep -q '^failed in step 4$' "$work/out" && [ "$(wc -l <"$work/ahead.jsonl")" -eq 3 ] || fail "ahead on $device: another step"
done
near "$work/cpu.numbers" "$work/cuda.numbers" # losses and norms of gradients, which are clipped
near "$work/cpu.eval" "$work/cuda.eval"
# The script for a machine with a GPU, in the precision in which most is different there.
GPU_PRECISIONS=bf16 sh gpu.sh --emulated >"$work/out" 2>"$work/err" || { fail "gpu.sh"; cat "$work/out" >&2; }
[ -z "${failed-}" ] || { echo "failed:$failed" >&2; exit 1; }
