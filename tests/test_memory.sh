#!/bin/sh
# tbc compile --memory: the module fits, and says what it computes again; training gives the same bits as
# without; what cannot fit is one clear error that says how much would. And moments as bf16.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
tbc=$TBC_BUILD/tbc run=$TBC_BUILD/tbc-run
fail() { echo "FAILED: $*" >&2; sed 's/^/    /' "$work/err" >&2; failed=1; }
compile() { # compile CODE OPTION..: exits so
    code=$1 && shift
    "$tbc" compile tiny.json --batch 4 --seq 96 "$@" 2>"$work/err"
    got=$?
    [ $got -eq "$code" ] || fail "$*: exit $got, expected $code"
}
says() { grep -q -e "$1" "$work/err" || fail "stderr lacks: $1"; }
arena() { "$tbc" inspect "$1" --json | sed -n 's/.*"arena_bytes": *\([0-9]*\).*/\1/p' | head -n 1; }

for size in 0 -1 8X GB 1e30 99999999T ''; do
    compile 2 --memory "$size" -o "$work/m.so"
    [ "$(wc -l <"$work/err")" -eq 1 ] && says '^tbc: error: --memory' || fail "--memory '$size': not one line of usage"
done

awk 'BEGIN { for (i = 0; i < 600; i++) print i, "the quick brown fox jumps over the lazy dog", i * i }' >"$work/text"
for form in "--grads fused --precision f32" "--grads buffer --precision i16"; do
    rm -f "$work"/*.so
    compile 0 $form -o "$work/whole.so"
    [ ! -s "$work/err" ] || fail "$form: not quiet"
    compile 1 $form --memory 1.5MiB -o "$work/none.so"
    [ "$(wc -l <"$work/err")" -eq 1 ] && says 'error: @[a-z]* does not fit 1.50 MiB of memory: .* it needs ' || fail "$form: not one line of error"
    [ ! -e "$work/none.so" ] || fail "$form: a file is left"
    least=$(sed 's/.* it needs \([0-9.]*\) MiB.*/\1/' "$work/err")
    compile 0 $form --memory "${least}M" -o "$work/least.so"
    says ': [0-9]* values of the forward part are computed again (.* tmatmul, .* region): .*MiB instead of .*MiB'
    "$tbc" inspect "$work/least.so" | grep -q '^  recompute .*[0-9] values of the forward part' || fail "$form: inspect does not say so"
    [ "$(arena "$work/least.so")" -lt "$(($(arena "$work/whole.so") * 3 / 4))" ] || fail "$form: $(arena "$work/least.so") bytes are not much less than $(arena "$work/whole.so")"
    for m in whole least; do
        "$run" "$work/$m.so" --data "$work/text" --tokenizer byte --steps 3 --seed 5 --save "$work/$m" --log "$work/$m.log" \
            --quiet >"$work/out" 2>"$work/err" || fail "$form: $m: training fails"
    done
    for file in model optimizer; do
        cmp "$work/whole/$file.safetensors" "$work/least/$file.safetensors" 2>"$work/err" || fail "$form: $file differs"
    done
    sed 's/,"tokens_per_s.*//' "$work/whole.log" >"$work/a" && sed 's/,"tokens_per_s.*//' "$work/least.log" >"$work/b"
    cmp "$work/a" "$work/b" 2>"$work/err" || fail "$form: losses differ"
    rm -rf "$work/whole" "$work/least"
done

# Each of the cores that it is for needs scratch.
needs() { compile 1 --memory 1M --cores "$1" -o "$work/none.so" && sed 's/.* it needs \([0-9]*\).*/\1/' "$work/err"; }
[ "$(needs 64)" -gt "$(($(needs 1) + 8))" ] || fail "64 cores need $(needs 64) MiB, 1 needs $(needs 1)"

compile 0 --emit tir -o "$work/a" && compile 0 --memory 1G --emit tir -o "$work/b"
cmp "$work/a" "$work/b" 2>"$work/err" || fail "a budget that is no bound changes the module"

# Activations saved as bf16 take less, and change the gradients a little.
compile 0 --precision i16 -o "$work/f32.so" && compile 0 --precision i16 --saved bf16 -o "$work/saved.so"
[ "$(arena "$work/saved.so")" -lt "$(($(arena "$work/f32.so") * 9 / 10))" ] || fail "--saved bf16 takes $(arena "$work/saved.so") bytes"
for m in f32 saved; do
    "$run" "$work/$m.so" --data "$work/text" --tokenizer byte --steps 5 --seed 5 --log "$work/$m.log" --quiet >"$work/out" 2>"$work/err" || fail "$m: training fails"
done
paste "$work/f32.log" "$work/saved.log" | awk -F '"loss":' '{ a = $2 + 0; b = $3 + 0; if ((a - b) ^ 2 > 1e-6 * a ^ 2) exit 1; other += a != b }
    END { exit !(NR == 5 && other) }' || fail "--saved bf16: other losses, or the same bits"

# IR goes on where it stands; past the pass a budget is too late.
compile 0 --memory "${least}M" --grads buffer --precision i16 --stop-after recompute -o "$work/m.tir"
"$tbc" opt "$work/m.tir" --passes cse,schedule,plan-memory -o "$work/p.tir" 2>"$work/err" || fail "opt goes on"
grep -q '= after ' "$work/p.tir" || fail "opt: no values are held back"
grep -qF '\"recompute\":' "$work/p.tir" || fail "opt: what was recomputed is forgotten"
"$tbc" compile "$work/m.tir" --grads buffer --memory 1G -o "$work/m.so" 2>"$work/err" && fail "--memory past recompute"
says 'past the recompute pass'

# Moments as bf16: half the file, the same bits for any number of threads and across a resume.
cat >"$work/bf16.json" <<'EOF'
{ "extends": "qwen3-tiny.json", "dims": { "hidden": 64, "ffn": 96, "layers": 1, "heads": 4, "kv_heads": 2, "head_dim": 16 },
  "train": { "batch": 2, "seq": 48, "optimizer": { "moments": "bf16" } } }
EOF
train() { # train NAME OPTION..: saves
    name=$1 && shift
    "$run" "$work/bf16.so" --data "$work/text" --tokenizer byte --quiet --save "$work/$name" "$@" >"$work/out" 2>"$work/err" || fail "bf16: $name"
}
"$tbc" compile "$work/bf16.json" -o "$work/bf16.so" 2>"$work/err" || fail "bf16: compile"
train one --steps 5 --threads 1
train two --steps 5 --threads 2
train half --steps 2
train rest --resume "$work/half" --steps 3
for name in two rest; do
    for file in model optimizer; do
        cmp "$work/one/$file.safetensors" "$work/$name/$file.safetensors" 2>"$work/err" || fail "bf16: $name: $file differs"
    done
done
head -c 300 "$work/one/optimizer.safetensors" | grep -q '"dtype":"BF16"' || fail "bf16: the moments are saved as something else"
exit ${failed-0}
