#!/bin/sh
# Do the emulated device's checks see what missing barriers would do? One kernel after the other loses its barriers and
# waits (TBC_EMU_OMIT), and a step of training must bring a report of that kernel, although nothing else in the run might
# show it. A sample of the kernels. TBC_MUTATE=1 takes every kernel, then every single barrier, and prints which of these
# nobody missed: some are there for other shapes than these, with a second tile or a second warp.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
every=5 failed=0
[ -n "${TBC_MUTATE:-}" ] && every=1
cat >"$work/spec.json" <<'EOF'
{"model_type": "qwen3", "vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
 "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
 "tie_word_embeddings": true}
EOF
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
    [ $every -gt 1 ] && continue
    for line in $(grep -nE '^[[:space:]]+(@!?%p[0-9]+ )?(bar\.|barrier\.|cp\.async\.wait|membar|fence)' "$work/m.ptx" | cut -d: -f1); do
        step "$line" || sed -n "${line}s/^/$precision, line $line, not missed:/p" "$work/m.ptx"
    done
done
exit $failed
