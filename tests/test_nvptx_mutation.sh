#!/bin/sh
# Do the emulated device's checks see what missing barriers would do? One kernel after the other loses its barriers and
# waits (TBC_EMU_OMIT), and a step of training must bring a report of that kernel, although nothing else in the run might
# show it: a sample of the kernels. Then each barrier, wait and commit of pipelined products alone, of those that turn
# often enough to come back to every stage. TBC_MUTATE=1 takes every kernel, then every single line, and prints which of
# these nobody missed: some are there for other shapes than these, with a second tile, turn or warp.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
every=9 failed=0
[ -n "${TBC_MUTATE:-}" ] && every=1
cat >"$work/spec.json" <<'EOF'
{"model_type": "qwen3", "vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
 "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
 "tie_word_embeddings": true}
EOF
# The emulated device takes PTX only: an assembler that knows no architecture saves the time for the others.
printf '#!/bin/sh\n[ "$1" = --version ] || { echo "unknown gpu-name"; exit 255; }\n' >"$work/ptxas"
chmod +x "$work/ptxas"
PATH=$work:$PATH
LD_LIBRARY_PATH=$TBC_BUILD/tests/emulator${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
fail() { echo "FAILED: $*" >&2; failed=1; }
step() { # step WITHOUT: a step of training; true: something was reported
    TBC_EMU_OMIT=$1 "$TBC_BUILD/tbc-run" "$work/m.so" --device cuda --data "$TBC_SOURCE/README.md" --steps 1 >"$work/out" 2>"$work/err"
    grep -q '^tbc-emulator: ' "$work/err"
}

for precision in f32 bf16; do
    set -- "$work/spec.json" --seq 48 --batch 1 --precision $precision --target nvptx64
    "$TBC_BUILD/tbc" compile "$@" -o "$work/m.so" && "$TBC_BUILD/tbc" compile "$@" --emit ptx -o "$work/m.ptx" || exit 1
    step '' && { fail "$precision: a step with all barriers"; cat "$work/err" >&2; continue; }
    # Kernels of the training step with barriers between warps.
    awk '/\.entry/ { sub(/\(.*/, "", $3); name = $3 } /bar\.sync/ && name !~ /decode/ { print name }' "$work/m.ptx" | uniq >"$work/kernels"
    for kernel in $(awk "NR % $every == 1 % $every" "$work/kernels"); do
        step "$kernel" && grep -q "in $kernel," "$work/err" || fail "$precision: nobody missed the barriers of $kernel"
    done
    awk '/\.entry/ { sub(/\(.*/, "", $3); name = $3 } /[ \t](bar|barrier|membar|fence)\.|cp\.async\.(wait|commit)/ { print NR, name }' "$work/m.ptx" >"$work/every"
    grep -E ' gemm_(bf16_)?(256x32x48_km_kn|48x32x256_mk_t2kn128)$' "$work/every" >"$work/lines"
    [ -s "$work/lines" ] || fail "$precision: no pipelined product"
    [ $every -gt 1 ] || mv "$work/every" "$work/lines"
    while read -r line kernel; do
        step "$line" || sed -n "${line}s/^/$precision, line $line of $kernel, not missed:/p" "$work/m.ptx"
    done <"$work/lines" >"$work/missed"
    cat "$work/missed"
    [ $every -gt 1 ] && [ -s "$work/missed" ] && fail "$precision: a pipelined product"
done
exit $failed
