# tbc graph: what it draws of a model and of the IR, that the files are well-formed, and how it says no.
tbc=$TBC_BUILD/tbc here=$PWD
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failures=0
fail() {
    echo "FAIL: $*"
    failures=$((failures + 1))
}
has() { # has FILE TEXT..: each in the file
    file=$1 && shift
    for text; do grep -qF -e "$text" "$file" || fail "$file lacks '$text'"; done
}
count() { # count FILE TEXT N
    got=$(grep -oF -e "$2" "$1" | wc -l)
    [ "$got" -eq "$3" ] || fail "$1: '$2' $got times, not $3"
}
refuse() { # refuse STATUS TEXT ARG..: says so in one line, writes nothing
    status=$1 text=$2 && shift 2
    "$tbc" graph "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    [ $got -eq "$status" ] || fail "graph $*: exit $got, not $status"
    [ "$(wc -l <"$dir/err")" = 1 ] && grep -qF -e "$text" "$dir/err" || fail "graph $*: $(cat "$dir/err")"
    [ ! -s "$dir/out" ] || fail "graph $*: output in spite of an error"
}
well_formed() { awk -f "$here/well_formed.awk" "$1" || fail "$1 is not well-formed"; }

# ---- a model: each statement once, the layers with their count
cd "$dir" || exit 1
"$tbc" graph qwen3.json -o m.svg || fail 'a spec'
"$tbc" graph qwen3.json >stdout.svg && cmp -s m.svg stdout.svg || fail 'SVG goes to stdout'
"$tbc" graph qwen3-tiny.json | cmp - "$TBC_SOURCE/models/qwen3-tiny.svg" || fail 'models/qwen3-tiny.svg is not what tbc draws now'
well_formed m.svg
has m.svg 'qwen3-0.6b' '596 M parameters' '× 28' 'self_attn.q_proj.weight' '2048×1024 ternary' '2×512×151936'
count m.svg 'class="op">attention<' 1
count m.svg 'class="op">linear<' 8
"$tbc" graph qwen3-tiny.json -o m.dot || fail 'dot'
has m.dot 'subgraph cluster_' '× 3' '8×256×192'
count m.dot 'label="attention"' 1
[ "$(grep -c '{' m.dot)" -ge 2 ] && [ "$(grep -o '{' m.dot | grep -c .)" = "$(grep -o '}' m.dot | grep -c .)" ] || fail 'braces'
"$tbc" graph qwen3-tiny.json -o m.html || fail 'html'
has m.html '<!DOCTYPE html>' '</html>' 'onwheel'
! grep -qE '(src|href)=' m.html || fail 'the page needs other files'
[ "$(head -c 3 m.html)" = '<!D' ] || fail 'm.html begins with something else'

# ---- the IR, at every level
"$tbc" compile "$TBC_SOURCE/models/qwen3-tiny.json" --dump-ir d -o t.so || fail 'compile'
for f in d/*.tir; do
    "$tbc" graph "$f" -o t.svg || fail "$f"
    well_formed t.svg
    ! grep -qE '(nan|inf)"' t.svg || fail "$f: a place that is none"
done
"$tbc" graph d/00-frontend.tir -o t.svg
has t.svg '× 3' 'rotate_half'
count t.svg 'class="op">attention<' 1 # the layers are folded
"$tbc" graph d/*-fuse.tir -o t.svg
has t.svg '>region<' '>attention_grad<' '>adamw<' 'model.layers.0.mlp.up_proj.weight'
"$tbc" graph d/*-fuse.tir --function decode -o t.svg || fail --function
has t.svg '>take_row<'
# Names are text, whatever they are.
sed 's/model\.embed_tokens\.weight/a<b\&c/g' d/00-frontend.tir >odd.tir
"$tbc" graph odd.tir -o odd.svg && well_formed odd.svg
has odd.svg 'a&lt;b&amp;c'

# ---- no
refuse 2 'a model spec or a .tir file is missing'
refuse 2 'ends in .svg, .dot or .html' qwen3.json -o model.png
refuse 2 '--function needs a .tir file' qwen3.json --function train
refuse 1 "no function 'x'" d/00-frontend.tir --function x
refuse 1 'there is no such file' nothing.json
refuse 1 'cannot write' qwen3.json -o "$dir/missing/m.svg"

[ $failures = 0 ] && echo 'all as expected'
exit $failures
