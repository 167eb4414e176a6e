#!/bin/sh
# Do the emulated device's checks see what missing barriers would do? One kernel after the other loses its barriers and
# waits (TBC_EMU_OMIT), and a step of training, or else generation or evaluation, must bring a report of that kernel, although
# nothing else in the run might show it: a sample of the kernels. Then each barrier, wait and commit of pipelined products alone,
# of those that turn often enough to come back to every stage. TBC_MUTATE=1 takes every kernel and every single line, of a
# larger model, in minutes: each must be missed, but for those that expected() knows a reason for.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
every=9 failed=0 hidden=32 ffn=136 head=16 seq=80 precisions="f32 bf16"
[ -n "${TBC_MUTATE:-}" ] && every=1 hidden=64 ffn=136 head=48 seq=80 precisions="f32 bf16 i16"
cat >"$work/spec.json" <<EOF
{"model_type": "qwen3", "vocab_size": 256, "hidden_size": $hidden, "intermediate_size": $ffn, "num_hidden_layers": 1,
 "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": $head, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
 "tie_word_embeddings": true}
EOF
. ./on_emulator.sh
fail() { echo "FAILED: $*" >&2; failed=1; }
run() { # run WITHOUT ARGUMENT..: true: something was reported
    without=$1 && shift
    TBC_EMU_OMIT=$without "$TBC_BUILD/tbc-run" "$work/m.so" --device cuda "$@" >"$work/out" 2>"$work/err"
    grep -q '^tbc-emulator: ' "$work/err"
}
step() { run "$1" --data "$TBC_SOURCE/README.md" --steps 1; }
generate() { run "$1" --generate "$(head -c 70 "$TBC_SOURCE/README.md")" --tokenizer byte --max-tokens 2; }
head -c 400 "$TBC_SOURCE/README.md" >"$work/text"
evaluate() { run "$1" --data "$work/text" --eval-only; }
anything() { step "$1" || generate "$1" || evaluate "$1"; }
expected() { # expected KERNEL INSTRUCTION: may it be left out?
    case $1:$2 in
    gemm_adamw_bf16_*x80_*bf16kn_*:bar.sync) ;; # three turns: the last one's stage is not what the epilogue writes to
    *) return 1 ;;
    esac
}

for precision in $precisions; do
    set -- "$work/spec.json" --seq $seq --batch 1 --precision $precision --target nvptx64
    "$TBC_BUILD/tbc" compile "$@" -o "$work/m.so" && "$TBC_BUILD/tbc" compile "$@" --emit ptx -o "$work/m.ptx" || exit 1
    step '' && { fail "$precision: a step with all barriers"; cat "$work/err" >&2; continue; }
    # Kernels with barriers between warps.
    awk '/\.entry/ { sub(/\(.*/, "", $3); name = $3 } /bar\.sync/ { print name }' "$work/m.ptx" | uniq >"$work/kernels"
    for kernel in $(awk "NR % $every == 1 % $every" "$work/kernels"); do
        anything "$kernel" && grep -q "in $kernel," "$work/err" || fail "$precision: nobody missed the barriers of $kernel"
    done
    awk '/\.entry/ { sub(/\(.*/, "", $3); name = $3 } /[ \t](bar|barrier|membar|fence)\.|cp\.async\.(wait|commit)/ { print NR, name }' "$work/m.ptx" >"$work/every"
    grep -E " (gemm_(bf16_)?(256x${hidden}x${seq}_km_kn|${seq}x${hidden}x256_mk_t2kn128)|gemm_adamw_bf16_${hidden}x${ffn}x.*|attention_(grad_)?bf16_.*)\$" "$work/every" >"$work/lines"
    [ $precision = i16 ] || [ -s "$work/lines" ] || fail "$precision: no pipelined product"
    [ $every -gt 1 ] || mv "$work/every" "$work/lines"
    while read -r line kernel; do
        anything "$line" && continue
        instruction=$(sed -n "${line}s/^[[:space:]]*\([^ ;]*\).*/\1/p" "$work/m.ptx")
        expected "$kernel" "$instruction" || fail "$precision: nobody missed $instruction in line $line, $kernel"
    done <"$work/lines"
done
exit $failed
