#!/bin/sh
# Training runs against PyTorch's (golden_cases.sh): the cases in golden/pytorch, and those beside the data home
# (../golden) where there are any.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
. ./golden_cases.sh

for case in golden/pytorch/*/; do
    compare "${case%/}"
    compare "${case%/}" --grads buffer
    compare_low "${case%/}"
done
outside=${TBC_DATA_HOME:-none}/../golden
if [ -d "$outside" ]; then
    for case in "$outside"/*/; do
        [ -f "$case/grads.safetensors" ] || continue
        compare "${case%/}"
        compare_low "${case%/}"
    done
else
    echo "skipped: tied, untied (no golden cases beside TBC_DATA_HOME)"
fi
[ -z "${failed-}" ] || { echo "differ from PyTorch:$failed" >&2; exit 1; }
