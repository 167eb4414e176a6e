#!/bin/sh
# tbc-run --data NAME as a command, with a mirror that breaks off and serves wrong bytes, and with none.
set -u
work=$(mktemp -d) && trap 'kill $server 2>/dev/null; rm -rf "$work"' EXIT
server=
run=$TBC_BUILD/tbc-run
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY
export TBC_DATA_HOME="$work/home" TBC_DATA_URL
fail() { echo "FAILED: $*" >&2; sed 's/^/    /' "$work/err" >&2; failed=1; }
serve() { # serve FILE BEHAVIOUR..: sets TBC_DATA_URL
    [ -z "$server" ] || kill "$server"
    rm -f "$work/notes" "$work/port"
    file=$1 && shift
    "$work/http_server" "$file" "$work/notes" "$@" >"$work/port" &
    server=$!
    while [ ! -s "$work/port" ]; do sleep 0.05; done
    TBC_DATA_URL=http://127.0.0.1:$(cat "$work/port")/base/
}
expect() { # expect TEXT: training on wikitext2 ends in one line of error that holds TEXT
    "$run" "$work/m.so" --data wikitext2 --steps 1 --quiet >"$work/out" 2>"$work/err"
    got=$?
    [ $got -eq 1 ] || fail "exit $got, expected 1"
    [ "$(wc -l <"$work/err")" -eq 1 ] && grep -q '^tbc-run: wikitext2: error: ' "$work/err" || fail "not one line of error"
    grep -qF -e "$1" "$work/err" || fail "expected '$1'"
}

"$CC" seal.c -o "$work/seal" && "$CC" -D_GNU_SOURCE http_server.c -o "$work/http_server" || exit 1
"$CC" -std=c17 -O1 -fPIC -shared fake_module.c -o "$work/m.so" -lm && "$work/seal" "$work/m.so" || exit 1

serve fake_module.c ok
expect "the server has a file of $(wc -c <fake_module.c) bytes (expected 4721645) (put train.txt and valid.txt into $work/home/wikitext2, or set TBC_DATA_URL to a mirror)"

# As large as the real archive, and broken off once.
head -c 4721645 /dev/zero >"$work/zeros"
serve "$work/zeros" cut:1000000 ok
expect 'not the expected file: its SHA-256 is '
[ "$(tr '\n' ' ' <"$work/notes")" = '0 1000000 ' ] || fail "asked for: $(cat "$work/notes")"
[ -z "$(ls "$work/home")" ] || fail "left behind: $(ls "$work/home")"

serve "$work/zeros" cut:1000 404
expect 'HTTP status 404'
[ "$(wc -c <"$work/home/wikitext-2-raw-v1.zip.part")" -eq 1000 ] || fail "the part was not kept"

TBC_DATA_URL=http://127.0.0.1:1
expect "127.0.0.1:1/wikitext-2-raw-v1.zip: "

# What is there is not fetched.
mkdir "$work/home/wikitext2"
cat ./*.c >"$work/home/wikitext2/train.txt"
"$run" "$work/m.so" --data wikitext2 --steps 1 --quiet >"$work/out" 2>"$work/err" || fail "data that is there"

[ -z "${failed-}" ]
