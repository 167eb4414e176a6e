#!/bin/sh
# tbc-run --encode and --decode as commands: output, exit codes, messages; with Qwen3's tokenizer where the data
# home has it.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
run=$TBC_BUILD/tbc-run
failed=0
fail() { echo "FAILED: $*" >&2; sed 's/^/    /' "$work/err" >&2; failed=1; }
expect() { # expect CODE TEXT ARGUMENT..: exits so, with one line of error that holds TEXT
    code=$1 text=$2 && shift 2
    "$run" "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ $got -eq "$code" ] || fail "$*: exit $got, expected $code"
    [ "$(wc -l <"$work/err")" -eq 1 ] && grep -qF -e "$text" "$work/err" || fail "$*: expected '$text'"
}
is() { # is EXPECTED GOT
    [ "$1" = "$2" ] || { : >"$work/err"; fail "expected '$1', got '$2'"; }
}

printf 'hi\n\377' >"$work/text"
is "104 105 10 255" "$("$run" --tokenizer byte --encode "$work/text")"
is "104 105 10 255" "$("$run" --tokenizer byte --encode - <"$work/text")"
is "" "$("$run" --tokenizer byte --encode - </dev/null)"
"$run" --tokenizer byte --encode "$work/text" | "$run" --tokenizer byte --decode - | cmp - "$work/text" || failed=1
is "hi" "$(printf ' 104\n\t105 ' | "$run" --tokenizer byte --decode -)"

echo '104 1x' >"$work/ids"
expect 1 "$work/ids:1:5: error: no token's id" --tokenizer byte --decode "$work/ids"
echo '104 256' >"$work/ids"
expect 1 ":1:5: error: no token's id (expected whole numbers from 0 to 255" --tokenizer byte --decode "$work/ids"
expect 1 "No such file" --tokenizer byte --encode "$work/none"
expect 1 "No such file" --tokenizer "$work/none.json" --encode "$work/text"
expect 1 "no such tokenizer" --tokenizer nosuch --encode "$work/text"
expect 1 "not JSON" --tokenizer "$work/text" --encode "$work/text"
expect 2 "by which tokenizer?" --encode "$work/text"
expect 2 "exclude each other" --tokenizer byte --encode a --decode b
expect 2 "no module" m.so --tokenizer byte --encode "$work/text"
"$run" --tokenizer byte --encode "$work/text" >/dev/full 2>"$work/err" && fail "a full stdout goes unnoticed"

if [ -r "${TBC_DATA_HOME:-}/qwen3-tokenizer/tokenizer.json" ]; then
    is "9707 11 1879 0" "$(printf 'Hello, world!' | "$run" --tokenizer qwen3 --encode -)"
    is "Hello, world!" "$(echo 9707 11 1879 0 | "$run" --tokenizer qwen3 --decode -)"
    is "9707" "$(printf Hello | "$run" --weights "$TBC_DATA_HOME/qwen3-tokenizer" --encode -)"
else
    echo "skipped: qwen3-tokenizer is not in TBC_DATA_HOME"
fi
exit $failed
