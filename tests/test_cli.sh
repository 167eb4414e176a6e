# The tbc command line: what it writes, where, and how it says no.
tbc=$TBC_BUILD/tbc
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
spec=$TBC_SOURCE/tests/errors/include/base.json
failures=0

fail() {
    echo "FAIL: $*"
    failures=$((failures + 1))
}

# expect STATUS "TEXT" ARG...: tbc exits with STATUS and says TEXT, in one line if it is an error.
expect() {
    status=$1 text=$2
    shift 2
    "$tbc" "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    [ $got = "$status" ] || fail "tbc $*: exit $got, not $status: $(cat "$dir/err")"
    [ -z "$text" ] || grep -qF -e "$text" "$dir/err" "$dir/out" || fail "tbc $*: no '$text' in: $(cat "$dir/err")"
    if [ "$status" != 0 ] && [ "$(wc -l <"$dir/err")" != 1 ]; then fail "tbc $*: not one line: $(cat "$dir/err")"; fi
}

# ---- help and tables
expect 0 'tbc compile SPEC' --help
expect 0 'tbc compile SPEC' compile --help
expect 0 'tbc ' --version
expect 0 '| matmul | 2 to 3 |' ops
expect 0 '| rms_norm | x | weight shape eps |' ops
expect 0 '| autodiff | ste | grads |' passes

# ---- wrong usage: 2
expect 2 'a command is missing'
expect 2 "unknown command 'comple'" comple
expect 2 'a model spec is missing' compile
expect 2 "unexpected argument 'b.json'" compile "$spec" b.json
expect 2 "did you mean '--batch'" compile "$spec" --bach 3
expect 2 '--batch needs a value' compile "$spec" --batch
expect 2 '--batch 0' compile "$spec" --batch 0
expect 2 '--batch 2x' compile "$spec" --batch 2x
expect 2 '--seq -1' compile "$spec" --seq -1
expect 2 '--seq: 16777216 at most' compile "$spec" --seq 16777217
expect 2 '--emit exe' compile "$spec" --emit exe
expect 2 '--precision f64' compile "$spec" --precision f64
expect 2 '--grads none' compile "$spec" --grads none
expect 2 '--target arm' compile "$spec" --target arm
expect 2 "unknown pass 'csee' (did you mean 'cse'?)" compile "$spec" --stop-after csee
expect 2 "unknown pass 'zzz'" compile "$spec" --print-after zzz
expect 2 '--emit so needs all passes' compile "$spec" --emit so --stop-after cse
expect 2 'a .tir file is missing' opt --passes cse
expect 2 "unknown pass 'nope'" opt x.tir --passes cse,nope
expect 2 "a pass is missing after ','" opt x.tir --passes cse,
expect 2 "a pass is missing before ','" opt x.tir --passes ,cse
expect 2 '--memory 0x10: a size' compile "$spec" --memory 0x10
expect 2 '-o -: a file was expected' compile "$spec" -o -
expect 2 'a compiled module is missing' inspect
expect 2 'tbc ops takes no arguments' ops x

# ---- targets
expect 2 '--emit ptx needs --target nvptx64' compile "$spec" --emit ptx
expect 2 '--gpu sm_80 needs --target nvptx64' compile "$spec" --gpu sm_80
expect 2 '--cores: --target nvptx64 is for GPUs' compile "$spec" --target nvptx64 --cores 8
expect 2 '--cores: 4096 at most' compile "$spec" --cores 5000
expect 2 '--cpu haswell: --target nvptx64 takes --gpu' compile "$spec" --target nvptx64 --cpu haswell
expect 1 '--gpu sm_70: not a known architecture (sm_80,' compile "$spec" --target nvptx64 --gpu sm_70

# ---- precision
cat >"$dir/f32.tir" <<'EOF'
tbc_ir 1
func @eval {
  %0: f32[2,2] = param {name="w"}
  output %0 {name="y"}
}
EOF
expect 1 '--precision i16: the model has no ternary weights' compile "$dir/f32.tir" --precision i16
expect 1 '--precision i16: the model has no ternary weights' compile "$spec" --ternary off --precision i16
expect 0 'precision="i16"' compile "$spec" --precision i16 --stop-after precision
cp "$dir/out" "$dir/i16.tir"
expect 1 '--precision f32: the module is past the precision pass and has i16' compile "$dir/i16.tir" --precision f32
expect 0 'gemm_i16_' compile "$dir/i16.tir" --emit ll
"$tbc" compile "$spec" --stop-after dce -o "$dir/dce.tir" && "$tbc" opt "$dir/dce.tir" --passes fuse-ternary-matmul,precision --precision i16 |
    grep -q 'precision="i16"' || fail 'opt --precision i16'
"$tbc" compile "$spec" --precision i16 -o "$dir/i16.so" && "$tbc" inspect "$dir/i16.so" --json | grep -q '"precision":"i16"' ||
    fail 'the meta does not say i16'
expect 0 'microkernel_bf16' compile "$spec" --precision bf16 --cpu sapphirerapids --emit asm
cat >"$dir/update.tir" <<'EOF'
tbc_ir 1
props ste tmatmul updates precision regions recomputed
func @update {
  %0: f32[32,32] = param {name="w"}
  %1: f32[32,32] = state {name="w.m"}
  %2: f32[32,32] = state {name="w.v"}
  %3: f32[64,32] = input {name="a"}
  %4: f32[64,32] = input {name="b"}
  %5: f32[4] = input {name="hyper"}
  %6: f32[32,32], %7: f32[32,32], %8: f32[32,32] = matmul_adamw %3, %4, %0, %1, %2, %5 {eps=1e-08, beta1=0.9, beta2=0.95, precision="bf16"}
  store %6 {name="w"}
}
EOF
expect 0 'vdpbf16ps' compile "$dir/update.tir" --cpu znver4 --emit asm
for p in f32 i16 bf16; do # a module needs what its kernels use
    "$tbc" compile "$spec" --precision $p --cpu sapphirerapids -o "$dir/$p.so"
done
grep -qa 'avx512vl,avx512_vnni' "$dir/i16.so" && grep -qa 'avx512vl,avx512_bf16' "$dir/bf16.so" &&
    ! grep -qa 'avx512vl,' "$dir/f32.so" || fail 'features that modules need'

# ---- bad input: 1
expect 1 'nothing.json: error: there is no such file here, nor in' compile nothing.json
expect 1 "$dir/nothing.json: error: cannot read the file" compile "$dir/nothing.json"
expect 1 "$dir: error: cannot read the file: Is a directory" compile "$dir"
head -c 100000 "$tbc" >"$dir/program"
expect 1 'error: the file is not text' compile "$dir/program"
expect 1 'no-such-cpu' compile "$spec" --cpu no-such-cpu -o "$dir/x.so"
expect 1 'cannot read the file' opt "$dir/nothing.tir"
printf 'tbc_ir 1\nfunc @train {\n  %%0: f32[2] = nothing\n}\n' >"$dir/bad.tir"
expect 1 "$dir/bad.tir:" opt "$dir/bad.tir"
printf '\0\0' >"$dir/zero.tir"
expect 1 'the file is not text' opt "$dir/zero.tir"
expect 1 'not a tbc module' inspect "$tbc"
expect 1 'not a tbc module' inspect "$spec"
expect 1 'Is a directory' inspect "$dir"
head -c 5000000 /dev/zero | tr '\0' '[' >"$dir/deep.json"
expect 1 'larger than 4 MiB' compile "$dir/deep.json"

# ---- outputs that cannot be written: 1, and nothing left behind
mkdir "$dir/work" && cd "$dir/work" || exit 1
expect 1 "$dir/missing/x.so: error:" compile "$spec" -o "$dir/missing/x.so"
expect 1 "$dir/missing/x.tir: error:" compile "$spec" --emit tir -o "$dir/missing/x.tir"
expect 1 "$dir/missing/dump: error:" compile "$spec" --dump-ir "$dir/missing/dump"
expect 1 "$dir: error:" compile "$spec" -o "$dir"
if [ -w /dev/full ]; then
    expect 1 '/dev/full: error:' compile "$spec" --emit tir -o /dev/full
    "$tbc" ops >/dev/full 2>"$dir/err" && fail 'tbc ops to a full disk: exit 0'
    grep -q 'cannot write to standard output' "$dir/err" || fail "full disk: $(cat "$dir/err")"
fi
(ulimit -f 8 && exec "$tbc" compile "$spec" -o limited.so) 2>"$dir/err"
[ $? -eq 1 ] && [ "$(cat "$dir/err")" = 'tbc: limited.so: error: cannot write: File too large' ] || fail "ulimit -f: $(cat "$dir/err")"
cp "$spec" "$dir/own.json"
expect 2 "-o $dir/own.json: that is the input" compile "$dir/own.json" -o "$dir/own.json"
cmp -s "$spec" "$dir/own.json" || fail 'a spec was replaced by what was made from it'
[ -z "$(ls -A)" ] || fail "files left behind: $(ls -A)"
[ ! -e "$dir/missing" ] || fail 'a directory was made'

# ---- good runs
expect 0 'func @decode' compile "$spec" --stop-after cse
expect 0 'func @train' compile "$spec" --emit tir
expect 0 'func @backward' compile "$spec" --emit tir --grads buffer
expect 0 'define' compile "$spec" --emit ll
expect 0 '.globl' compile "$spec" --emit asm
expect 0 'func @train' compile "$spec" --print-after cse --emit ll
mkfifo "$dir/pipe"
cat "$spec" >"$dir/pipe" &
expect 0 'func @train' compile "$dir/pipe" --emit tir
expect 0 'i32[3,7]' compile "$spec" --stop-after insert-ste --batch 3 --seq=7
[ -z "$(ls -A)" ] || fail "text output made files: $(ls -A)"
expect 0 '' compile "$spec" --dump-ir dumps --time-passes
[ -f train.so ] || fail 'no train.so by default'
grep -q 'insert-ste' "$dir/err" || fail '--time-passes prints no table'
[ -f dumps/00-frontend.tir ] || fail 'no 00-frontend.tir'
set -- dumps/*.tir
[ $# = $(($("$tbc" passes | wc -l) - 2 + 1)) ] || fail "not a dump for each pass: $*"

# Every dump reads back and prints the same; compiling it goes on from there to the same end.
for f in dumps/*.tir; do last=$f; done
for f in dumps/*.tir; do
    "$tbc" opt "$f" | cmp -s - "$f" || fail "$f does not read back"
    "$tbc" compile "$f" --emit tir | cmp -s - "$last" || fail "$f does not compile to $last"
done
"$tbc" compile "$spec" --precision bf16 --dump-ir half --emit tir -o half.tir
"$tbc" compile half/*narrow-saved.tir --emit tir | cmp -s - half.tir || fail 'what is narrowed already'
# Heads that wait as bf16 for a GPU's attention are nothing for that of a CPU.
"$tbc" compile "$TBC_SOURCE/tests/tiny.json" --precision bf16 --target nvptx64 --dump-ir heads --emit tir -o heads.tir
grep -q '= attention .*precision="bf16", narrow=1' heads/*narrow-saved.tir || fail 'no attention in bf16'
for dump in heads.tir heads/*narrow-saved.tir; do expect 1 'cannot generate it for' compile "$dump" -o heads.so; done
"$tbc" opt dumps/00-frontend.tir --passes insert-ste,autodiff | cmp -s - dumps/02-autodiff.tir || fail 'opt --passes'
expect 2 '--batch, --seq and --ternary need a spec' compile dumps/00-frontend.tir --batch 2
expect 1 'past the optimizer pass' compile "$last" --grads buffer
sed 's/ regions recomputed / /' "$last" >claims.tir
expect 1 "pass 'schedule' needs the property 'regions'" compile claims.tir
expect 1 "pass 'autodiff' needs" opt dumps/00-frontend.tir --passes autodiff

# The same input gives the same module.
cp train.so first.so
expect 0 '' compile "$spec" -o train.so
cmp -s first.so train.so || fail 'two compilations differ'

expect 0 'Table train' inspect train.so
expect 0 '"kind":"param"' inspect train.so --json
expect 0 '1 in the product of their gradient, 1 from a gradient in memory' inspect train.so
expect 0 '"updates":{"fused":1,"materialised":1}' inspect train.so --json
expect 0 '' compile "$spec" --grads buffer -o buffer.so
expect 0 '"updates":{"fused":0,"materialised":2}' inspect buffer.so --json
head -c 3000 train.so >cut.so
expect 1 'cut.so: error:' inspect cut.so
{ head -c 2000 train.so; printf X; tail -c +2002 train.so; } >damaged.so
expect 1 'the file is damaged' inspect damaged.so

# Models by name, from anywhere; the current directory comes first.
expect 0 'f32[151936,1024]' compile qwen3.json --stop-after insert-ste
cp "$spec" qwen3.json
expect 0 'f32[16,8]' compile qwen3.json --stop-after insert-ste

[ $failures = 0 ] && echo 'all as expected'
exit $failures
