# What `cmake --install` puts under a prefix, used from there: programs, models, manuals, completions, pkg-config,
# the examples in C and Python.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
failed=0
fail() { echo "FAILED: $*" >&2; failed=1; }
cmake --install "$TBC_BUILD" --prefix "$work/first" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
mv "$work/first" "$work/prefix" # it can be moved
prefix=$work/prefix
PATH=$prefix/bin:$PATH && export PATH
cd "$work" || exit 1

# Every flag that the programs know is in their manuals and completions.
for program in tbc tbc-run; do
    man=$prefix/share/man/man1/$program.1
    [ -s "$man" ] || fail "$program has no manual"
    "$prefix/bin/$program" --help | grep -oE -- '(^ +|, |\[|tbc )--?[a-z][a-z-]*' | sed 's/^[^-]*//' | sort -u >"$work/flags"
    [ "$(wc -l <"$work/flags")" -gt 10 ] || fail "$program --help lists no flags"
    while read -r flag; do
        sed 's/\\-/-/g' "$man" | grep -qE -- "(^|[^a-z-])$flag([^a-z-]|\$)" || fail "$man lacks $flag"
        name=${flag#-} && name=${name#-}
        for file in bash-completion/completions/$program zsh/site-functions/_$program; do
            grep -qE -- "(^|[^a-z-])$flag([^a-z-]|\$)" "$prefix/share/$file" || fail "$file lacks $flag"
        done
        grep -qE -- "-[ls] $name( |\$)" "$prefix/share/fish/vendor_completions.d/$program.fish" || fail "fish: $program lacks $flag"
    done <"$work/flags"
    ! grep -rq '@[A-Z_]*@' "$man" "$prefix/share/bash-completion" "$prefix/share/zsh" "$prefix/share/fish" || fail 'a template is not filled in'
    if command -v man >/dev/null; then
        man --warnings -l "$man" 2>"$work/err" >"$work/page" </dev/null || fail "$man"
        [ ! -s "$work/err" ] || fail "$man: $(head -n 3 "$work/err")"
    fi
done
if command -v bash >/dev/null; then
    complete() { # complete WORD..: what bash offers for the last word
        bash -c 'p=$1; shift; . "$p/share/bash-completion/completions/$1"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            if [ "$1" = tbc ]; then _tbc; else _tbc_run; fi; echo "${COMPREPLY[@]}"' bash "$prefix" "$@"
    }
    [ "$(complete tbc gr)" = graph ] || fail 'bash: tbc gr'
    [ "$(complete tbc compile x.json --emit t)" = tir ] || fail 'bash: --emit t'
    [ "$(complete tbc opt x.tir --passes autod)" = autodiff ] || fail 'bash: --passes autod'
    [ "$(complete tbc-run x.so --eval-o)" = --eval-only ] || fail 'bash: --eval-o'
fi
for shell in zsh fish; do
    command -v $shell >/dev/null || continue
    for file in "$prefix"/share/$shell/*/*tbc*; do $shell -n "$file" || fail "$file"; done
done

# Models are found beside the program, wherever that is; from where it was built, in the source tree.
echo '{"extends":"qwen3-tiny.json","name":"mine"}' >"$prefix/share/tbc/models/installed-only.json"
tbc compile installed-only.json --stop-after insert-ste -o a.tir || fail 'the installed models are not found'
"$TBC_BUILD/tbc" compile installed-only.json --stop-after insert-ste -o b.tir 2>/dev/null && fail 'a program that is not installed takes installed models'
tbc compile nowhere.json 2>"$work/err" && fail 'nowhere.json'
grep -qF "$prefix/share/tbc/models" "$work/err" || fail "names no place: $(cat "$work/err")"
tbc compile qwen3-tiny.json --batch 1 --seq 16 -o train.so || fail 'tbc compile'
awk 'BEGIN { for (i = 0; i < 200; i++) print i, "the quick brown fox jumps over the lazy dog" }' >text
tbc-run train.so --data text --steps 2 --quiet >out || fail 'tbc-run'

# The examples: three steps, with the loss going down.
learns() { awk '/^step [123]: loss [0-9.]+$/ { n++; if (n == 1) first = $4; last = $4 } END { exit !(n == 3 && last < first) }' "$1"; }
examples=$prefix/share/doc/tbc/examples
flags=$(PKG_CONFIG_PATH=$prefix/share/pkgconfig pkg-config --cflags --libs tbc) || fail pkg-config
# shellcheck disable=SC2086
"$CC" -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror "$examples/train.c" -o train $flags -lm || fail 'the C example does not compile'
./train ./train.so >out && learns out || fail "the C example: $(cat out)"
if command -v python3 >/dev/null; then
    python3 "$examples/train.py" train.so >out && learns out || fail "the Python example: $(cat out)"
else
    echo 'skipped: the Python example (no python3)'
fi

[ $failed = 0 ] && echo 'all as expected'
exit $failed
