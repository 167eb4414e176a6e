#!/bin/sh
# Do the emulated device's checks see what a missing barrier would do? Barriers of our kernels are left out one at a time
# (TBC_EMU_OMIT), and one step of training must bring a report, although nothing else in the run would show it. Some
# barriers are there for shapes other than these (a second tile, a second warp), so that not every removal matters: of
# those tried, more than half do. A sample; TBC_MUTATE=1 tries all and names those that nobody missed.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
every=15 failed=0
[ -n "${TBC_MUTATE:-}" ] && every=1
cat >"$work/spec.json" <<'EOF'
{"model_type": "qwen3", "vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
 "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
 "tie_word_embeddings": true}
EOF
LD_LIBRARY_PATH=$TBC_BUILD/tests/emulator${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
fail() { echo "FAILED: $*" >&2; failed=1; }
step() { "$TBC_BUILD/tbc-run" "$work/$1.so" --device cuda --data "$TBC_SOURCE/README.md" --steps 1 >"$work/out" 2>"$work/err"; }

for precision in f32 bf16; do
    set -- "$work/spec.json" --seq 48 --batch 1 --precision $precision --target nvptx64
    "$TBC_BUILD/tbc" compile "$@" -o "$work/$precision.so" && "$TBC_BUILD/tbc" compile "$@" --emit ptx -o "$work/$precision.ptx" || exit 1
    step $precision && ! grep -q '^tbc-emulator:' "$work/err" || { fail "$precision: the step itself"; cat "$work/err" >&2; continue; }
    grep -nE '^[[:space:]]+(@!?%p[0-9]+ )?(bar\.|barrier\.|cp\.async\.wait|membar|fence)' "$work/$precision.ptx" | cut -d: -f1 >"$work/lines"
    tried=0 seen=0
    for line in $(awk "NR % $every == 0" "$work/lines"); do
        TBC_EMU_OMIT=$line step $precision
        tried=$((tried + 1))
        if grep -q '^tbc-emulator: error: ' "$work/err"; then seen=$((seen + 1))
        elif [ $every -eq 1 ]; then sed -n "${line}p" "$work/$precision.ptx" | sed "s/^/$precision, line $line, not missed:/"
        fi
    done
    echo "$precision: $seen of $tried removals reported"
    [ $tried -ge 4 ] && [ $((2 * seen)) -gt $tried ] || fail "$precision: $seen of $tried removals reported"
done
exit $failed
