#!/bin/sh
# Modules for NVIDIA GPUs as far as no GPU is needed: the PTX, cubins, what ptxas says of every kernel of the tiny
# model, and a ptxas that fails.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
tbc=$TBC_BUILD/tbc spec=$TBC_SOURCE/models/qwen3-tiny.json
failed=0
fail() { echo "FAILED: $*" >&2; failed=1; }
gpu() { "$tbc" compile "$spec" --target nvptx64 "$@"; }

# PTX text for the architecture asked for; every kernel is an entry, and nothing is called that PTX has not.
gpu --emit ptx -o "$work/tiny.ptx" || exit 1
grep -q '^\.version 7.8' "$work/tiny.ptx" && grep -q '^\.target sm_80' "$work/tiny.ptx" || fail "not PTX 7.8 for sm_80"
gpu --gpu sm_90 --emit ptx | grep -q '^\.target sm_90' || fail "not for sm_90"
grep -q '\.extern \.func' "$work/tiny.ptx" && fail "calls an unknown function"

# A module in which the assembler has no part, or a wrong one. The stand-in knows sm_80 only.
mkdir "$work/bin"
cat >"$work/bin/ptxas" <<'EOF'
#!/bin/sh
[ "$1" = --version ] && exit 0
[ -n "${BROKEN-}" ] && echo "ptxas fatal   : it broke" && exit 255
case $* in *sm_80*) ;; *) echo "ptxas fatal   : Value '$1' is not defined for option 'gpu-name'" && exit 255 ;; esac
while [ "$1" != -o ]; do shift; done
echo cubin >"$2"
EOF
chmod +x "$work/bin/ptxas"
PATH=$work/bin:$PATH gpu -o "$work/m.so" || fail "a ptxas that knows sm_80 only"
PATH=$work/bin:$PATH BROKEN=1 gpu -o "$work/broken.so" 2>"$work/err" && fail "a broken ptxas"
grep -q '^tbc: .*broken.so: error: ptxas failed for sm_80: ptxas fatal   : it broke' "$work/err" || fail "$(cat "$work/err")"
"$tbc" inspect "$work/m.so" | grep -q 'GPU code: PTX for sm_80 and newer, .* bytes; cubin for sm_80, 6 bytes$' || fail "inspect of m.so"
[ "$(ls "$work" | grep -c broken)" -eq 0 ] || fail "files are left: $(ls "$work")"

# Attention in bf16 reads and stores heads as bf16: q, k, v and out (f); of its gradient q, k, v, dout and dv (117).
gpu --precision bf16 -o "$work/heads.so" && "$tbc" inspect "$work/heads.so" >"$work/said"
for kernel in 'attention_bf16_[^ ]*_bf16xf' 'attention_grad_bf16_[^ ]*_bf16x117'; do
    grep -q " $kernel " "$work/said" || fail "no kernel $kernel"
done

# The real one: no kernel spills on any of the three architectures.
if ! command -v ptxas >/dev/null && [ ! -x /usr/local/cuda/bin/ptxas ]; then
    echo "skipped: what ptxas says of the kernels (there is no ptxas)"
    exit $failed
fi
for precision in i16 bf16; do # i16 is f32 but for ternary products
    gpu --precision $precision -o "$work/m.so" && "$tbc" inspect "$work/m.so" >"$work/said" || { fail "$precision"; continue; }
    kernels=$(sed -n 's/^  kernels *//p' "$work/said")
    clean=$(grep -c '^  .* threads  | A100 .* 0 sp .* | H100 .* 0 sp .* | B200 .* 0 sp ' "$work/said")
    [ "$clean" -eq "$kernels" ] || fail "$precision: $clean of $kernels kernels without spills: $(grep ' [1-9][0-9]* sp ' "$work/said")"
done
"$tbc" inspect "$work/m.so" --json >"$work/json"
for key in '"sm":80,"ptx_bytes":' '"name":"H100","sm":90,"peak_flops":989500000000000,' '"spill_bytes":0,"shared_bytes":' '"occupancy":0.' '"mfu":0.'; do
    grep -qF "$key" "$work/json" || fail "inspect --json: no $key"
done
grep -q '^  H100 train *[0-9.]* ms, [0-9.]* TFLOP/s, [0-9.]* % of the bf16 peak$' "$work/said" || fail "inspect: no time of a step"
exit $failed
