#!/bin/sh
# tbc-run as a command: exit codes, messages, files left behind, interruption; on a module written by hand
# and on one that tbc compiles.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
run=$TBC_BUILD/tbc-run
fail() { echo "FAILED: $*" >&2; sed 's/^/    /' "$work/err" >&2; failed=1; }

module() { # module FILE OPTION..: builds and seals fake_module.c
    file=$1 && shift
    "$CC" -std=c17 -O1 -fPIC -shared "$@" fake_module.c -o "$file" -lm && "$work/seal" "$file"
}
expect() { # expect CODE TEXT ARGUMENT..: exits so, with one line of error that holds TEXT
    code=$1 text=$2 && shift 2
    "$run" "$@" >"$work/out" 2>"$work/err"
    got=$?
    [ $got -eq "$code" ] || fail "$*: exit $got, expected $code"
    [ "$(wc -l <"$work/err")" -eq 1 ] && grep -q '^tbc-run: \(.*: \)\{0,1\}error: ' "$work/err" || fail "$*: not one line of error"
    grep -qF -e "$text" "$work/err" || fail "$*: expected '$text'"
}
good() { # good ARGUMENT..: exits 0, without a word on stderr
    "$run" "$@" --quiet >"$work/out" 2>"$work/err" || fail "$*: exit $?"
    [ ! -s "$work/err" ] || fail "$*: not quiet"
}
says() { grep -q -e "$1" "$work/out" || fail "stdout lacks: $1"; }
losses() { sed -n 's/^{"step":\([0-9]*\),"loss":\([^,]*\),.*/\1 \2/p' "$1"; }
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }

"$CC" seal.c -o "$work/seal" && module "$work/m.so" && module "$work/b.so" -DBUFFER || exit 1
awk 'BEGIN { for (i = 0; i < 400; i++) print i, "the quick brown fox jumps over the lazy dog", i * i }' >"$work/text"
m=$work/m.so data=$work/text

# Usage, and input that cannot be used.
expect 2 "which module"
expect 2 "unknown flag" "$m" --what
expect 2 "needs --data" "$m" --steps 3
expect 2 "is missing" "$m" --data
expect 1 "No such file" "$work/none.so" --data "$data"
expect 1 "not a compiled module" "$data" --data "$data"
expect 1 "is compiled for the CPU" "$m" --data "$data" --device cuda
expect 1 "--grads buffer" "$m" --data "$data" --clip 1
expect 1 "No such file" "$m" --data "$data" --log "$work/none/log" --quiet
expect 1 "cannot save here" "$m" --data "$data" --save "$work/none/dir"
expect 1 "No such file" "$m" --weights "$work/none" --verify
expect 1 "" "$m" --data "$work/none"
expect 1 "No space left" "$m" --data "$data" --steps 1 --quiet --log /dev/full
(ulimit -f 16 && exec "$run" "$m" --data "$data" --steps 1 --quiet --save "$work/limited") >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q '^tbc-run: .*error: .*File too large$' "$work/err" || fail "ulimit -f is no error of its own"
ls "$work" | grep limited && fail "files left behind where ulimit -f stops a save"
"$run" "$m" --data "$data" --quiet --lr 1000 --warmup 0 --save "$work/diverged" >"$work/out" 2>"$work/err"
[ $? -eq 1 ] || fail "a diverged model: exit $?"
grep -q '^tbc-run: error: step [0-9]*: the loss is not finite' "$work/err" || fail "divergence is not an error"
grep -q '^tbc-run: note: first in launch [0-9]* of table train: ' "$work/err" || fail "divergence is not explained"
[ ! -e "$work/diverged" ] || fail "a diverged model was saved"
"$run" --help >"$work/out" 2>"$work/err" || fail "--help"
says '--eval-every'
"$run" "$m" --verify >/dev/full 2>"$work/err" && fail "a full stdout goes unnoticed"

# Training, in one go and in two; the log of the second part goes on where the first ended.
good "$m" --data "$data" --steps 9 --log "$work/whole.log" --save "$work/whole"
says 'trained 9 steps, to step 9'
says "saved $work/whole"
good "$m" --data "$data" --steps 5 --log "$work/parts.log" --save "$work/parts" --threads 1
good "$m" --data "$data" --steps 4 --log "$work/parts.log" --save "$work/parts" --resume "$work/parts"
losses "$work/whole.log" >"$work/a" && losses "$work/parts.log" >"$work/b" && same "$work/a" "$work/b"
[ "$(wc -l <"$work/a")" -eq 9 ] || fail "nine steps, $(wc -l <"$work/a") lines"
for file in model.safetensors optimizer.safetensors state.json config.json; do same "$work/whole/$file" "$work/parts/$file"; done
good "$m" --data "$data" --steps 4 --save "$work/often" --save-every 2 --eval-every 2
[ "$(grep -c 'eval loss' "$work/out")" -eq 3 ] || fail "evaluations: before, after 2, after 4"

# Interrupted: the step is finished and saved.
"$run" "$m" --data "$data" --steps 1000000 --log "$work/int.log" --save "$work/int" --report "$work/int.html" >"$work/out" 2>"$work/err" &
pid=$!
while [ ! -s "$work/int.log" ] && kill -0 $pid 2>/dev/null; do sleep 0.1; done
kill -INT $pid
wait $pid
[ $? -eq 130 ] || fail "interrupted: exit $?"
says "saved $work/int"
says "wrote $work/int.html"
awk -f well_formed.awk "$work/int.html" && grep -q '</html>' "$work/int.html" || fail "the report of an interrupted run"
[ ! -e "$work/int.html.tmp" ] || fail "a half-written report"
grep -q "\"step\":.*$(tail -n 1 "$work/int.log" | sed 's/{"step":\([0-9]*\),.*/\1/')," "$work/int/state.json" || fail "not saved at the last step"
grep -q '^step 1/1000000  loss ' "$work/err" || fail "no progress on stderr"

# What was trained can be looked at.
good "$m" --resume "$work/whole" --verify
says 'verified: 1 parameters, 65536 weights'
good "$m" --weights "$work/whole" --data "$data" --eval-only --profile
says '(valid split: \([0-9]*\) of \1 windows of 16 tokens, stride 16, '
says ' forward$'
good "$m" --weights "$work/whole" --data "$data" --eval-only --split train --stride 4
says '(train split: .* windows of 16 tokens, stride 4, '
expect 1 "there is no test split here" "$m" --data "$data" --eval-only --split test
expect 1 "at most the module's seq of 16" "$m" --data "$data" --eval-only --stride 17
expect 2 "--stride needs --eval-only" "$m" --data "$data" --stride 4
expect 2 "is no split" "$m" --data "$data" --eval-only --split dev
good "$m" --resume "$work/whole" --generate 'the quick' --max-tokens 20 --temperature 0
cp "$work/out" "$work/greedy"
[ "$(wc -c <"$work/greedy")" -eq 30 ] || fail "9 + 20 bytes and a newline expected"
good "$m" --resume "$work/whole" --generate 'the quick' --max-tokens 20 --temperature 0 --seed 3
same "$work/greedy" "$work/out"
"$run" "$m" --resume "$work/whole" --generate 'the quick' --max-tokens 20 --top-k 1 >"$work/out" 2>"$work/err"
same "$work/greedy" "$work/out"
grep -q '^generated: 20 tokens, ' "$work/err" || fail "no speed on stderr"

# Gradients in memory.
good "$work/b.so" --data "$data" --steps 5 --log "$work/buffer.log"
losses "$work/whole.log" | head -n 5 >"$work/a" && losses "$work/buffer.log" >"$work/b" && same "$work/a" "$work/b"
grep -q '"grad_norm":' "$work/buffer.log" || fail "no grad_norm"
good "$work/b.so" --data "$data" --steps 5 --accumulate 3 --clip 0.5

# A module by tbc: any number of threads gives the same bits, and the projection is what it should be.
"$TBC_BUILD/tbc" compile tiny.json -o "$work/tiny.so" --batch 2 --seq 48 2>"$work/err" || fail "tbc compile"
for threads in 1 2 4; do
    good "$work/tiny.so" --data "$data" --steps 4 --threads $threads --save "$work/t$threads" --log "$work/t$threads.log"
    for file in model.safetensors optimizer.safetensors; do same "$work/t1/$file" "$work/t$threads/$file"; done
done
good "$work/tiny.so" --data "$data" --steps 60 --lr 5e-3 --save "$work/learnt" --log "$work/tiny.log" --verify
says '^verified: 15 parameters, 77824 weights, codes\*scales equal the forward pass$'
losses "$work/tiny.log" | awk 'NR == 1 { first = $2 } { last = $2 } END { exit !(last < first - 1) }' || fail "it does not learn"
good "$work/tiny.so" --resume "$work/learnt" --generate 'the quick brown fox jumps over the lazy dog, the quick brown fox' --max-tokens 40

# A lambda warm-up, in one go and in two.
expect 1 '--lambda-warmup needs a table' "$work/tiny.so" --data "$data" --steps 4 --lambda-warmup 3
printf '{ "extends": "%s/tiny.json", "ternary": { "ste": "clipped", "lambda_warmup": true } }' "$PWD" >"$work/warmup.json"
for grads in fused buffer; do
    "$TBC_BUILD/tbc" compile "$work/warmup.json" -o "$work/warmup.so" --batch 2 --seq 48 --grads $grads 2>"$work/err" || fail "tbc compile"
    good "$work/warmup.so" --data "$data" --steps 4 --lambda-warmup 3 --save "$work/warm" --log "$work/warm.log"
    [ "$(sed -n 's/.*"lambda":\([^,}]*\).*/\1/p' "$work/warm.log" | xargs)" = "0 0.333333333 0.666666667" ] || fail "lambda in the log"
    good "$work/warmup.so" --data "$data" --steps 2 --total-steps 4 --lambda-warmup 3 --save "$work/warm2"
    good "$work/warmup.so" --data "$data" --resume "$work/warm2" --save "$work/warm2"
    for file in model.safetensors optimizer.safetensors state.json; do same "$work/warm/$file" "$work/warm2/$file"; done
done
"$run" "$work/warmup.so" --data "$data" --steps 4 --lambda-warmup 3 >"$work/out" 2>"$work/err" || fail "a lambda warm-up"
[ "$(grep -c '^step [14]/4' "$work/err")" -eq 2 ] && grep -q '^step 1/4 .* lambda 0.00 ' "$work/err" &&
    ! grep -q '^step 4/4 .* lambda' "$work/err" || fail "lambda in the progress line"

[ -z "${failed-}" ]
