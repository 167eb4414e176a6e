#!/bin/sh
# --generate as a command: where a text ends, beyond the window, interrupted; and the tokenizer that goes along
# with a checkpoint. Models that count digits, of a tokenizer with a token a byte and one that ends texts.
set -u
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
run=$TBC_BUILD/tbc-run
fail() { echo "FAILED: $*" >&2; sed 's/^/    /' "$work/err" >&2; failed=1; }
good() { "$run" "$@" >"$work/out" 2>"$work/err" || fail "$*: exit $?"; }
continues() { # continues TEXT WHOLE ARGUMENT..: greedily, to exactly WHOLE
    text=$1 whole=$2 && shift 2
    good "$work/m.so" --generate "$text" --temperature 0 "$@"
    [ "$(cat "$work/out")" = "$whole" ] || fail "$text $*: expected $whole, got $(cat "$work/out")"
}
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }

mkdir "$work/tok" && awk 'BEGIN {
    print "{ \"added_tokens\": [{ \"id\": 256, \"content\": \"<|endoftext|>\", \"special\": true, \"normalized\": false }],"
    print "  \"pre_tokenizer\": { \"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true },"
    print "  \"decoder\": { \"type\": \"ByteLevel\" }, \"model\": { \"type\": \"BPE\", \"merges\": [], \"vocab\": {"
    for (b = 0; b < 256; b++) {
        shown = (b > 32 && b < 127) || (b > 160 && b != 173)
        printf "%s\"\\u%04x\": %d", b ? ", " : "", shown ? b : 256 + other++, b
    }
    print "} } }"
}' >"$work/tok/tokenizer.json"
echo '{ "eos_token": "<|endoftext|>" }' >"$work/tok/tokenizer_config.json"
awk 'BEGIN { for (i = 0; i < 300; i++) printf "0123456789" }' >"$work/circle"
awk 'BEGIN { for (i = 0; i < 300; i++) print "{\"text\": \"0123456789\"}" }' >"$work/documents.jsonl"
cat >"$work/config.json" <<'JSON'
{ "model_type": "qwen3", "vocab_size": 260, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
  "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-6, "rope_theta": 1e4,
  "tie_word_embeddings": true, "eos_token_id": 55 }
JSON
"$TBC_BUILD/tbc" compile "$work/config.json" -o "$work/m.so" --batch 4 --seq 16 2>"$work/err" || fail compile
train() { good "$work/m.so" --data "$1" --steps 100 --lr 1e-2 --warmup 5 --tokenizer "$2" --save "$3"; }
train "$work/circle" "$work/tok" "$work/ck"

# A checkpoint has its tokenizer, and hands it on; one of bytes has none.
for file in tokenizer.json tokenizer_config.json; do same "$work/tok/$file" "$work/ck/$file"; done
echo mine >"$work/ck/notes"
good "$work/m.so" --resume "$work/ck" --data "$work/circle" --steps 1 --save "$work/ck2"
good "$work/m.so" --resume "$work/ck" --data "$work/circle" --steps 1 --save "$work/ck"
for file in tokenizer.json tokenizer_config.json; do
    same "$work/tok/$file" "$work/ck/$file"
    same "$work/tok/$file" "$work/ck2/$file"
done
[ "$(cat "$work/ck/notes")" = mine ] || fail "a file of the user is gone"
train "$work/circle" byte "$work/bytes"
[ ! -e "$work/bytes/tokenizer.json" ] || fail "a tokenizer of bytes was saved"

# Who does not train needs no moments.
mv "$work/ck2/optimizer.safetensors" "$work/moments"
continues 012 0123456 --resume "$work/ck2"
"$run" "$work/m.so" --resume "$work/ck2" --data "$work/circle" --steps 1 --quiet >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q 'optimizer.safetensors: error: cannot open' "$work/err" || fail "training without moments"
mv "$work/moments" "$work/ck2/optimizer.safetensors"

# The end: by config.json (7 is token 55), by generation_config.json (a number, a list), by the tokenizer.
continues 0123 0123456 --resume "$work/ck"
echo '{}' >"$work/ck/generation_config.json"
continues 0123 0123456 --resume "$work/ck"
grep -q '^generated: 3 tokens' "$work/err" || fail "the token that ends a text is not one of its tokens"
echo '{ "eos_token_id": 57 }' >"$work/ck/generation_config.json"
continues 0123 012345678 --resume "$work/ck"
echo '{ "eos_token_id": [1, 57, 50] }' >"$work/ck/generation_config.json"
continues 4 45678 --resume "$work/ck"
continues 901 901 --weights "$work/ck/model.safetensors"
good "$work/m.so" --resume "$work/ck" --data "$work/circle" --steps 1 --save "$work/ck2"
same "$work/ck/generation_config.json" "$work/ck2/generation_config.json"
echo '{ "eos_token_id": null }' >"$work/ck/generation_config.json"
continues 4 4567890 --resume "$work/ck" --max-tokens 6
echo '{ "eos' >"$work/ck/generation_config.json"
"$run" "$work/m.so" --resume "$work/ck" --generate 5 --quiet >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && [ "$(cat "$work/err")" = "tbc-run: $work/ck/generation_config.json: error: not JSON" ] || fail "a damaged generation_config.json"

# Beyond the window of 16 tokens, from a text that fits and from one that does not.
echo '{ "eos_token_id": null }' >"$work/ck/generation_config.json"
circle=0123456789012345678901234567890123456789
continues 012 $circle --resume "$work/ck" --max-tokens 37
[ "$(grep -c 'its beginning is forgotten' "$work/err")" -eq 1 ] || fail "said once that the beginning is forgotten"
continues $circle ${circle}0123456789 --resume "$work/ck" --max-tokens 10
continues 0123456789012345 01234567890123456 --resume "$work/ck" --max-tokens 1

# Interrupted.
"$run" "$work/m.so" --resume "$work/ck" --generate 0 --max-tokens 1000000000 >"$work/out" 2>"$work/err" &
pid=$!
while [ ! -s "$work/out" ] && kill -0 $pid 2>/dev/null; do sleep 0.1; done
kill -INT $pid
wait $pid
[ $? -eq 130 ] || fail "interrupted: exit $?"

# Nowhere to write to: one line of error.
"$run" "$work/m.so" --resume "$work/ck" --generate 0 --quiet >/dev/full 2>"$work/err"
[ $? -eq 1 ] && [ "$(cat "$work/err")" = "tbc-run: error: cannot write the text: No space left on device" ] || fail "a full disk"

# Documents end with the tokenizer's token, whatever the config says.
train "$work/documents.jsonl" "$work/tok" "$work/ends"
echo '{ "eos_token_id": 1 }' >"$work/ends/generation_config.json"
continues 456 456789 --resume "$work/ends"

[ -z "${failed-}" ]
