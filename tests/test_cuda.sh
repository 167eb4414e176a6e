#!/bin/sh
# tbc-run --device cuda without a GPU. First on stand-ins for the driver library: one that runs a module written by
# hand (fake_cuda.c), and can go wrong in every way that is reported. Then on real driver libraries, where there is
# one, which have to find no GPU.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
run=$TBC_BUILD/tbc-run
fail() { echo "FAILED: $*" >&2; sed 's/^/    /' "$work/err" >&2; failed=1; }

module() { # module FILE OPTION..: builds and seals fake_module.c
    file=$1 && shift
    "$CC" -std=c17 -O1 -ffp-contract=off -fPIC -shared "$@" fake_module.c -o "$file" -lm && "$work/seal" "$file"
}
cuda() { LD_LIBRARY_PATH=$work FAKE_CUDA_MODULE=$1 FAKE_CUDA_STATS=$work/stats "$run" "$@" --device cuda; }
expect() { # expect FAULT TEXT ARGUMENT..: with that fault exits 1, with one line of error that holds TEXT, and notes
    fault=$1 text=$2 && shift 2
    FAKE_CUDA_FAULT=$fault cuda "$@" --quiet >"$work/out" 2>"$work/err"
    got=$?
    [ $got -eq 1 ] || fail "$fault: exit $got"
    [ "$(grep -vc '^tbc-run: note: ' "$work/err")" -eq 1 ] && grep -q '^tbc-run: \(.*: \)\{0,1\}error: ' "$work/err" || fail "$fault: not one line of error"
    grep -qF -e "$text" "$work/err" || fail "$fault: expected '$text'"
}
good() { "$@" --quiet >"$work/out" 2>"$work/err" && [ ! -s "$work/err" ] || fail "$*"; }
timeless() { sed 's/ in [0-9:]*: loss/ loss/; s/; [0-9]* tokens.s$//'; }
says() { grep -q -e "$1" "$work/out" || fail "stdout lacks: $1"; }
same() { # same DIR DIR: two checkpoints are equal
    for f in model.safetensors optimizer.safetensors state.json; do cmp -s "$1/$f" "$2/$f" || fail "$1 and $2 differ in $f"; done
}
stats() { grep -q "$1" "$work/stats" || fail "expected '$1', the driver counted: $(cat "$work/stats")"; }

"$CC" seal.c -o "$work/seal" && "$CC" -std=c17 -D_GNU_SOURCE -O1 -fPIC -shared fake_cuda.c -o "$work/libcuda.so.1" -ldl &&
    module "$work/m.so" && module "$work/g.so" -DGPU && module "$work/b.so" -DBUFFER && module "$work/gb.so" -DBUFFER -DGPU || exit 1
awk 'BEGIN { for (i = 0; i < 400; i++) print i, "the quick brown fox jumps over the lazy dog", i * i }' >"$work/text"
m=$work/m.so g=$work/g.so b=$work/b.so gb=$work/gb.so data=$work/text

# The same bits as the CPU, which has the same kernels: random weights, training, evaluation, resuming either way.
good "$run" "$m" --data "$data" --steps 9 --eval-every 5 --log "$work/cpu.log" --save "$work/cpu"
good cuda "$g" --data "$data" --steps 9 --eval-every 5 --log "$work/cuda.log" --save "$work/cuda"
same "$work/cpu" "$work/cuda"
for log in cpu cuda; do sed 's/,"tokens_per_s":[^,}]*//' "$work/$log.log" >"$work/$log.numbers"; done
cmp -s "$work/cpu.numbers" "$work/cuda.numbers" || fail "the logs differ"
good cuda "$g" --data "$data" --steps 4 --save "$work/begun-cuda"
good "$run" "$m" --data "$data" --steps 5 --resume "$work/begun-cuda" --save "$work/ended-cpu"
good "$run" "$m" --data "$data" --steps 4 --save "$work/begun-cpu"
good cuda "$g" --data "$data" --steps 5 --resume "$work/begun-cpu" --save "$work/ended-cuda"
for dir in ended-cpu ended-cuda; do
    for f in model optimizer; do cmp -s "$work/cpu/$f.safetensors" "$work/$dir/$f.safetensors" || fail "$dir: not resumed exactly"; done
done

# Gradients in memory: zeroed, summed and clipped on the device.
flags="--data $data --steps 5 --accumulate 3 --clip 0.05"
good "$run" "$b" $flags --log "$work/cpu.log" --save "$work/cpu-buffer"
good cuda "$gb" $flags --log "$work/cuda.log" --save "$work/cuda-buffer"
same "$work/cpu-buffer" "$work/cuda-buffer"
for log in cpu cuda; do sed 's/.*"grad_norm":\(.\{12\}\).*/\1/' "$work/$log.log" >"$work/$log.numbers"; done
cmp -s "$work/cpu.numbers" "$work/cuda.numbers" || fail "the gradient norms differ"

# What else reads tensors.
for command in "--resume $work/cpu --verify" "--resume $work/cpu --data $data --eval-only" "--resume $work/cpu --export $work/model" \
    "--resume $work/cpu --generate the --max-tokens 24 --temperature 0" "--data $data --steps 3 --verify --export $work/model"; do
    rm -rf "$work/model" "$work/model-cpu"
    good "$run" "$m" $command
    timeless <"$work/out" >"$work/expected"
    [ ! -d "$work/model" ] || mv "$work/model" "$work/model-cpu"
    good cuda "$g" $command
    timeless <"$work/out" | cmp -s - "$work/expected" || fail "$command: another output than on the CPU"
    [ ! -d "$work/model" ] || cmp -s "$work/model/model.safetensors" "$work/model-cpu/model.safetensors" || fail "$command: another export than on the CPU"
done
cuda "$g" --data "$data" --steps 2 >"$work/out" 2>"$work/err"
grep -q '^device: Fake GPU (sm_86)$' "$work/err" || fail "the device is not named"

# Kernel by kernel; a wrong one is found.
both() { LD_LIBRARY_PATH=$work FAKE_CUDA_MODULE=$g "$TBC_BUILD/tests/compare_devices" "$m" "$g" >"$work/out" 2>"$work/err"; }
both || fail "compare_devices sees differences"
FAKE_CUDA_FAULT=wrong both && fail "compare_devices sees no difference"
[ "$(grep -c BAD "$work/out")" -eq 1 ] && says 'BAD *mean' || fail "compare_devices does not name the kernel"

# A step is one graph, and waits for nothing but in the end of each interval. Codes are made before.
good cuda "$g" --data "$data" --steps 100 --log-every 20
stats '^launches 1 graphs 1 replays 100 '
waits=$(sed 's/.*waits \([0-9]*\).*/\1/' "$work/stats")
[ "$waits" -lt 12 ] || fail "100 steps wait $waits times"
stats 'images 1$'
FAKE_CUDA_FAULT=image good cuda "$g" --data "$data" --steps 1 # PTX will do
stats 'images 0$'
good cuda "$g" --data "$data" --steps 3 --profile
says '^ *[0-9.]* *[0-9.]* *3 .* forward$'
stats '^launches 31 graphs 0 '

# A loss that is not finite in the middle of an interval: what was asked for after it changes nothing. And uploads that
# the host makes ahead of the device.
ahead() { LD_LIBRARY_PATH=$work FAKE_CUDA_MODULE=$1 "$TBC_BUILD/tests/run_ahead" "$@" --data "$data" --lr 250 --warmup 0 --steps 9 --threads 2 --quiet >"$work/out" 2>"$work/err" || fail "ahead $*"; }
ahead "$m" --log-every 1
cp "$work/err" "$work/expected"
says '^failed in step 3$'
for run_of in "$m" "$g --device cuda"; do
    ahead $run_of --log-every 7
    says '^failed in step 3$'
    cmp -s "$work/err" "$work/expected" || fail "$run_of: a failure ahead is explained in another way"
done

# Everything that goes wrong is one line, and ends the run without saving.
expect no_device "there is no NVIDIA GPU: CUDA_ERROR_NO_DEVICE (fake error 100)" "$g" --verify
expect no_start "the NVIDIA driver does not start: CUDA_ERROR_FAKE" "$g" --verify
expect old "too old, it is for CUDA 11.4 (CUDA 11.8 or newer is needed)" "$g" --verify
expect sm_75 "$g: error: needs a GPU of sm_80 or newer, this is Fake GPU (sm_75)" "$g" --verify
expect memory "GiB of memory on the GPU, 0.00 of 1.00 GiB are free" "$g" --verify
expect ptx "the driver cannot compile the kernels for Fake GPU (sm_86)" "$g" --verify
grep -q 'note: ptxas fake, line 3' "$work/err" || fail "the driver's log is missing"
expect kernel "lacks kernel adamw" "$g" --verify
expect shared "this GPU has less shared memory than the module was compiled for (without --gpu it runs on any): kernel adamw wants 65536 bytes" "$g" --verify
expect launch "kernel gradient failed on Fake GPU (sm_86) (w): CUDA_ERROR_FAKE" "$g" --data "$data" --save "$work/spoiled"
expect run "Fake GPU (sm_86) failed in table 'train' (with --profile," "$g" --data "$data" --save "$work/spoiled"
expect update "failed in table 'train'" "$g" --data "$data" --steps 1
expect run "kernel forward failed on Fake GPU (sm_86) (loss)" "$g" --data "$data" --save "$work/spoiled" --profile
expect run "failed in table 'backward'" "$gb" --data "$data" --clip 1 --save "$work/spoiled"
expect run "failed in table 'eval'" "$g" --data "$data" --eval-only
expect project "failed in table 'project'" "$g" --resume "$work/cpu" --export "$work/spoiled"
[ ! -e "$work/spoiled" ] || fail "something was saved after a failure"
expect none "$m: error: is compiled for the CPU (use --device cpu, or compile it with --target nvptx64)" "$m" --verify
"$run" "$g" --verify >"$work/out" 2>"$work/err" && fail "a module for a GPU runs on the CPU"
grep -q 'is compiled for a GPU (use --device cuda' "$work/err" || fail "a module for a GPU on the CPU: no reason"
"$run" "$m" --data "$data" --quiet --lr 1000 --warmup 0 2>"$work/expected" >"$work/out"
cuda "$g" --data "$data" --quiet --lr 1000 --warmup 0 --save "$work/spoiled" >"$work/out" 2>"$work/err" && fail "a diverged model"
cmp -s "$work/err" "$work/expected" || fail "divergence is explained in another way than on the CPU"
[ ! -e "$work/spoiled" ] || fail "a diverged model was saved"

# Real driver libraries on a machine without a GPU: the same lines, from the real thing.
real() { # real TEXT LIBRARY
    mkdir -p "$work/real" && ln -sf "$2" "$work/real/libcuda.so.1"
    LD_LIBRARY_PATH=$work/real "$run" "$g" --device cuda --verify >"$work/out" 2>"$work/err" && fail "$2: runs"
    [ "$(wc -l <"$work/err")" -eq 1 ] && grep -qF -e "--device cuda: $1" "$work/err" || fail "$2: expected '$1'"
}
rm "$work/libcuda.so.1"
if [ -d /proc/driver/nvidia ]; then
    echo "skipped: a driver without a GPU (here is one)"
else
    driver=$(ls ${TBC_CUDA_DRIVER-} /usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.1 /usr/lib/x86_64-linux-gnu/libcuda.so.1 2>/dev/null | head -n 1)
    if [ "$driver" ]; then real "there is no NVIDIA GPU" "$driver"; else echo "skipped: a driver without a GPU (no libcuda1 here)"; fi
    stub=$(ls /usr/local/cuda*/lib*/stubs/libcuda.so 2>/dev/null | head -n 1)
    if [ "$stub" ]; then real "" "$stub"; else echo "skipped: the toolkit's stub of a driver (no CUDA toolkit here)"; fi
    if ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; then
        echo "skipped: no driver at all (one is installed)"
    else
        expect none "--device cuda: no NVIDIA driver: libcuda.so.1" "$g" --verify
    fi
fi
[ -z "${failed-}" ] || exit 1
