# tbc-run --report: a page that is well-formed and self-contained, shows what the run's log has, and the history of
# the runs before; how it is refused.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
run=$TBC_BUILD/tbc-run failed=0
fail() { echo "FAILED: $*" >&2; failed=1; }
has() { # has FILE TEXT..
    file=$1 && shift
    for text; do grep -qF -e "$text" "$file" || fail "$file lacks '$text'"; done
}
lacks() { # lacks FILE TEXT..
    file=$1 && shift
    for text; do ! grep -qF -e "$text" "$file" || fail "$file has '$text'"; done
}
good() { "$run" "$@" --quiet >"$work/out" 2>"$work/err" || fail "$*: $(cat "$work/err")"; }
refuse() { # refuse STATUS TEXT ARG..
    status=$1 text=$2 && shift 2
    "$run" "$@" --quiet >"$work/out" 2>"$work/err"
    got=$?
    [ $got -eq "$status" ] && grep -qF -e "$text" "$work/err" || fail "$*: exit $got: $(cat "$work/err")"
}
page() { # page FILE: one page that needs nothing else
    awk -f well_formed.awk "$1" || fail "$1 is not well-formed"
    has "$1" '<!DOCTYPE html>' '</html>' 'prefers-color-scheme'
    ! grep -qE '<(script|link|img)|https?://|url\(|@import' "$1" || fail "$1 is not self-contained"
    ! grep -qiE '[="> ,LMV](-?nan|-?inf)\b' "$1" || fail "$1 has a number that is none"
}
points() { # points FILE CLASS: how many points a curve goes through
    sed -n "s/.*class=\"curve $2\" d=\"\([^\"]*\)\".*/\1/p" "$1" | head -n 1 | grep -o '[ML]' | grep -c .
}

"$CC" seal.c -o "$work/seal" || exit 1
for m in m b; do
    flag=-DFUSED && [ $m = m ] || flag=-DBUFFER
    "$CC" -std=c17 -O1 -fPIC -shared $flag fake_module.c -o "$work/$m.so" -lm && "$work/seal" "$work/$m.so" || exit 1
done
awk 'BEGIN { for (i = 0; i < 400; i++) print i, "the quick brown fox jumps over the lazy dog", i * i }' >"$work/text"
m=$work/m.so data=$work/text

# A few steps, without a log.
good "$m" --data "$data" --steps 5 --report "$work/few.html"
has "$work/out" "wrote $work/few.html"
page "$work/few.html"
has "$work/few.html" '<b>Loss</b>' '<b>Perplexity</b>' '<b>Learning rate</b>' '<b>5</b><span>steps' 'Memory plan'
lacks "$work/few.html" 'Gradient norm' 'Kernels' 'Ternary codes' 'validation'
[ "$(points "$work/few.html" train)" = 5 ] || fail "5 steps, $(points "$work/few.html" train) points"

# Everything there is.
good "$work/b.so" --data "$data" --steps 30 --clip 1 --eval-every 10 --profile --report "$work/all.html" --log "$work/all.log"
page "$work/all.html"
has "$work/all.html" 'validation loss' 'Gradient norm' 'Kernels' 'GFLOP/s'

# A resumed run shows the whole history, with what its log says of codes; a damaged line is left out.
good "$m" --data "$data" --steps 6 --log "$work/log" --save "$work/ck"
{
    echo '{"step":3,"codes":{"model.layers.0.a<b&c.weight":[0.25,0.5,0.25],"model.layers.0.d.weight":[0.2,0.6,0.2]}}'
    echo '{"step":6,"codes":{"model.layers.0.a<b&c.weight":[0.3,0.4,0.3],"model.layers.0.d.weight":[0.3,0.4,0.3]}}'
    echo '{"step":6,"codes":{"odd<name>.weight":[0.3,0.4,0.3],"worse":[1,2],"worst":7}}'
    echo '{"step":7,"lo'
    echo '[1]'
} >>"$work/log"
good "$m" --data "$data" --steps 4 --log "$work/log" --resume "$work/ck" --report "$work/resumed.html"
page "$work/resumed.html"
has "$work/resumed.html" 'Ternary codes' '>layer 0<' '30.0 · 40.0 · 30.0 %' 'odd&lt;name&gt;' '<b>10</b><span>steps'
lacks "$work/resumed.html" 'worse' 'worst'
[ "$(points "$work/resumed.html" train)" = 10 ] || fail "10 steps, $(points "$work/resumed.html" train) points"

# A long run: the page stays small, the curve covers all steps.
good "$m" --data "$data" --steps 5000 --report "$work/long.html"
page "$work/long.html"
has "$work/long.html" '<b>5000</b><span>steps' '>5000<'
[ "$(wc -c <"$work/long.html")" -lt 200000 ] || fail "a page of $(wc -c <"$work/long.html") bytes"

# No.
refuse 2 "needs --data" "$m" --verify --report "$work/x.html"
refuse 1 "cannot create" "$m" --data "$data" --steps 1 --report "$work/none/x.html"
refuse 1 "cannot replace" "$m" --data "$data" --steps 1 --report "$work"
lacks "$work/out" trained # said before the work, not after it
refuse 1 "not finite" "$m" --data "$data" --lr 1000 --warmup 0 --report "$work/failed.html"
page "$work/failed.html" # what there is of a run that failed
[ ! -e "$work/x.html" ] && ! ls "$work" | grep -q '\.tmp$' || fail "files left behind"

[ $failed = 0 ] && echo 'all as expected'
exit $failed
