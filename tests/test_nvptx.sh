#!/bin/sh
# Modules for NVIDIA GPUs as far as no GPU is needed: the PTX, what ptxas says of every kernel of the tiny model (no
# spills on three architectures), cubins, and a ptxas that fails.
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

# The real one.
ptxas=$(command -v ptxas || ls /usr/local/cuda/bin/ptxas 2>/dev/null)
if [ -z "$ptxas" ]; then
    echo "skipped: what ptxas says of the kernels (there is no ptxas)"
    exit $failed
fi
entries=$(grep -c '\.entry' "$work/tiny.ptx")
for arch in 80 90 100; do
    "$ptxas" -v -arch=sm_$arch "$work/tiny.ptx" -o "$work/cubin" >"$work/said" 2>&1 ||
        { fail "sm_$arch: $(grep -v info "$work/said" | head -n 3)"; continue; }
    [ "$(grep -c 'Compiling entry' "$work/said")" -eq "$entries" ] || fail "sm_$arch: kernels are missing"
    awk '/Compiling entry/ { kernel = $7 } /spill/ && !/ 0 bytes spill stores, 0 bytes spill loads/ { print kernel, $0 }' \
        "$work/said" >"$work/spills"
    [ -s "$work/spills" ] && fail "sm_$arch: $(cat "$work/spills")"
done
gpu -o "$work/m.so" && "$tbc" inspect "$work/m.so" >"$work/said" || fail "a module with cubins"
grep -q '^  embed_2048_of_256x192_g128 .* H100 *[1-9][0-9]* r .* 0 sp ' "$work/said" || fail "inspect: no registers"
grep -q '^  H100 train *[0-9.]* ms, [0-9.]* TFLOP/s, [0-9.]* % of the bf16 peak$' "$work/said" || fail "inspect: no time of a step"
exit $failed
