# For scripts to source: whole training runs against PyTorch's, from config.json to saved checkpoint. Wants $work, a
# folder for files, and $TBC_BUILD; $compile_flags and $run_flags say for which device. A case with a spec.json is
# compiled from that, and one with "lambda_warmup" begins with so many steps of it. $failed gathers the names of the
# cases that differ.
field() { sed -n "s/^ *\"$2\": *\([0-9]*\),*$/\1/p" "$1/expected.json"; }

train() { # train STEPS OUT, of $case
    "$TBC_BUILD/tbc-run" "$work/train.so" --weights "$case/model.safetensors" --data "$case/rows.npy" --no-shuffle \
        --steps "$1" --lr 5e-4 --warmup "$(field "$case" warmup)" $lambda --save "$2" --log "$2.jsonl" --quiet ${run_flags-} >/dev/null
}

compare() { # compare CASE COMPILE-OPTION.., within $tolerances (of compare_training)
    case=$1 && shift
    rm -rf "$work"/one* "$work"/all*
    steps=$(sed -n '/"losses"/,/]/p' "$case/expected.json" | grep -c '^ *[0-9]')
    spec=$case/config.json lambda=$(field "$case" lambda_warmup)
    [ -f "$case/spec.json" ] && spec=$case/spec.json
    lambda=${lambda:+--lambda-warmup $lambda}
    "$TBC_BUILD/tbc" compile "$spec" -o "$work/train.so" --batch "$(field "$case" batch)" --seq "$(field "$case" seq)" ${compile_flags-} "$@" &&
        train 1 "$work/one" && train "$steps" "$work/all" &&
        printf '%s: ' "$(basename "$case") $*" &&
        "$TBC_BUILD/tests/compare_training" "$case" "$work/all.jsonl" "$work/one" "$work/all" ${tolerances-} || failed="${failed-} $(basename "$case")"
}

compare_low() { # one step is close; after a few, a weight near a threshold has gone another way
    tolerances='1e-2 1e-2 2e-2 0.3' # of single tensors; PyTorch under bf16 autocast: up to 2.5e-2
    compare "$1" --precision bf16
    tolerances='1e-4 1e-3 1e-3 0.2'
    ! grep -q '"ternary": null\|"quantization_config": null' "$1/config.json" && compare "$1" --precision i16
    tolerances=
}
