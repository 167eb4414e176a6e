#!/bin/sh
# A train.so needs nothing but libc: it names no other library, and a small C program runs its training step.
set -eu
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
"$TBC_BUILD/tbc" compile tiny.json -o "$work/train.so" --batch 2 --seq 32
if command -v readelf >/dev/null; then
    others=$(readelf -d "$work/train.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v -e '^libc\.' || true)
    [ -z "$others" ] || { echo "needs more than libc: $others" >&2; exit 1; }
fi
"$CC" -std=c17 -O1 -Wall -Wextra -Werror embed.c -o "$work/embed" -ldl
"$work/embed" "$work/train.so" 20 >"$work/losses"
# log 256 = 5.55: an untrained model starts near it, and one batch is learnt by heart.
awk 'NR == 1 { first = $1 } { last = $1 } END {
    printf "loss %s -> %s in %d steps\n", first, last, NR
    exit !(NR == 20 && first > 4 && first < 8 && last < first - 0.5) }' "$work/losses"
