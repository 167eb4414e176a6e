#!/bin/sh
# For a machine that has an NVIDIA GPU: builds, checks the GPU's results, times it, and prints tables.
#     sh tests/gpu.sh [--emulated]
# 1. Every kernel against that of the CPU, launch by launch, and against the interpreter; the golden cases against PyTorch.
#    Exits 1 on a difference.
# 2. Steps of a 29 M and a Qwen3-0.6B model: tokens/s, and every kernel's time against its bound, the larger of
#    operations / peak and bytes / bandwidth. $GPU_PEAKS="F32 BF16 GBS" (TFLOP/s, TFLOP/s, GB/s) says what the GPU can
#    do, if the script does not know it by name; i16 counts as bf16, as two products of int8 at twice the speed.
# --emulated: on the emulated device, with a tiny model: shows that this script works; its times mean nothing.
# $TBC_BUILD is a build to use instead of build-gpu/, $GPU_PRECISIONS some of "f32 i16 bf16".
set -u
cd "$(dirname "$0")" || exit 1
suites="check_nvptx_gemm check_nvptx_attention check_gemm_adamw check_rows"
tests=$PWD
case ${1-} in
'') emulated= ;;
--emulated) emulated=yes ;;
*) sed -n '2,11s/^# *//p' "$0" >&2 && exit 2 ;;
esac
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT

if [ -z "${TBC_BUILD-}" ]; then
    TBC_BUILD=$tests/../build-gpu
    sh ../.ci/install-packages && cmake -S .. -B "$TBC_BUILD" -G Ninja >"$work/log" &&
        cmake --build "$TBC_BUILD" --target tbc tbc-run compare_training compare_devices $suites ${emulated:+emulated_cuda} >"$work/log" || { cat "$work/log" >&2; exit 1; }
fi
if [ "$emulated" ]; then
    export LD_LIBRARY_PATH="$TBC_BUILD/tests/emulator"
    gpu="emulated device" GPU_PEAKS="1 1 1"
    models="tiny:$tests/tiny.json:2:16:2" cases=mqa_ragged # of the golden ones; test_emulated.sh has the others
else
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
    [ "$gpu" ] || { echo "there is no NVIDIA GPU here (nvidia-smi names none)" >&2; exit 1; }
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader | head -n 1
    models="29m:$tests/bench/qwen3-29m.json:8:512:30 0.6b:qwen3.json:16:1024:12" # NAME:SPEC:BATCH:SEQ:STEPS
fi

# What to compile for is known of GPUs with much shared memory; code for any GPU does for the others.
case $gpu in
*H[12]00* | *B[12]00*) tune="--gpu sm_90" ;;
*A100*) tune="--gpu sm_80" ;;
*) tune= ;;
esac

peaks() { # dense TFLOP/s in f32 and bf16, GB/s: NVIDIA's data sheets
    case ${GPU_PEAKS-$gpu} in
    *H200*) echo 67 989 4800 ;;
    *H100*PCIe*) echo 51 756 2000 ;;
    *H100*) echo 67 989 3350 ;;
    *A100*80GB*) echo 19.5 312 2039 ;;
    *A100*) echo 19.5 312 1555 ;;
    *L40S*) echo 91.6 362 864 ;;
    *" L4"*) echo 30.3 121 300 ;;
    *"RTX 4090"*) echo 82.6 165 1008 ;;
    *"RTX 3090"*) echo 35.6 71 936 ;;
    *) echo "${GPU_PEAKS-0 0 0}" ;;
    esac
}
compile() { # compile SPEC FILE OPTION..: false if this precision is not to be had
    spec=$1 file=$2 && shift 2
    "$TBC_BUILD/tbc" compile "$spec" -o "$file" "$@" 2>"$work/err" && return
    sed 's/^/    /' "$work/err"
    return 1
}

# ---- results

. ./golden_cases.sh
failed= compile_flags="--target nvptx64" run_flags="--device cuda"
for precision in ${GPU_PRECISIONS-f32 i16 bf16}; do
    printf '\n== kernels, %s\n' $precision
    # With these the launches are the same for both targets.
    flags="--batch 2 --seq 33 --precision $precision --grads buffer --saved f32"
    compile tiny.json "$work/cpu.so" $flags && compile tiny.json "$work/gpu.so" $flags --target nvptx64 || continue
    tolerance=$([ $precision = f32 ] && echo 1e-4 || echo 1e-2)
    "$TBC_BUILD/tests/compare_devices" "$work/cpu.so" "$work/gpu.so" $tolerance || failed="$failed kernels-$precision"
done
if [ ! "$emulated" ]; then
    printf '\n== kernels against the interpreter\n'
    for suite in $suites; do TBC_TEST_GPU=1 "$TBC_BUILD/tests/$suite" || failed="$failed $suite"; done
fi
printf '\n== golden cases\n'
for name in ${cases-$(ls golden/pytorch)}; do
    compare "golden/pytorch/$name"
    compare "golden/pytorch/$name" --grads buffer
    [ "$emulated" ] || compare_low "golden/pytorch/$name"
done

# ---- speed

profile() { # the rows of a profile on stdin, with bounds; $1 steps, $2 $3 $4 peaks
    awk -v steps="$1" -v f32="$2" -v bf16="$3" -v gbs="$4" '
    $1 == "ms" { printf "%10s %6s %8s %9s %8s %10s %6s  %s\n", "ms/step", "%", "launches", "GFLOP/s", "GB/s", "bound ms", "share", "kernel"; rows = 1; next }
    !rows || NF < 7 { next }
    { peak = 1000 * ($NF ~ /i16|bf16/ ? bf16 : f32); bound = 0
      if (peak > 0 && gbs > 0) { bound = $1 * $4 / peak; if ($1 * $5 / gbs > bound) bound = $1 * $5 / gbs }
      if ($NF == "total") bound = sum; else sum += bound
      printf "%10.3f %6.1f %8.0f %9.1f %8.1f %10.3f %5.0f%%  %s\n", $1 / steps, $2, $3 / steps, $4, $5, bound / steps, ($1 ? 100 * bound / $1 : 0), $NF }'
}
awk 'BEGIN { for (i = 0; i < 300000; i++) print i, i * i % 8191 }' >"$work/text"
for model in $models; do
    IFS=: read -r name spec batch seq steps <<END
$model
END
    for precision in ${GPU_PRECISIONS-f32 i16 bf16}; do
        printf '\n== %s, %s, %s: a step of %s x %s tokens\n' "$gpu" "$name" $precision "$batch" "$seq"
        compile "$spec" "$work/gpu.so" --target nvptx64 $tune --precision $precision --batch "$batch" --seq "$seq" || continue
        run="$TBC_BUILD/tbc-run $work/gpu.so --device cuda --data $work/text --tokenizer byte --quiet"
        $run --steps 2 >/dev/null && $run --steps "$steps" >"$work/out" || { failed="$failed $name-$precision"; continue; }
        sed -n 's/^trained.*; \([0-9]* tokens.s\)$/\1/p' "$work/out"
        $run --steps 3 --profile | profile 3 $(peaks)
    done
done
[ -z "$failed" ] || { printf '\nDIFFERENT OR FAILED:%s\n' "$failed"; exit 1; }
