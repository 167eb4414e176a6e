#!/bin/sh
# Who may include whom (see the README's map): an include across folders that is not drawn fails.
#     frontend, passes, codegen -> ir;  codegen -> runtime/tbc_module.h;  runtime -> nothing;
#     codegen <-> codegen/nvptx;
#     frontend/main.c sees all; LLVM's headers are for codegen alone.
cd "$TBC_SOURCE" || exit 1
bad=$(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"\.\./' frontend/*.[ch] ir/*.[ch] passes/*.[ch] codegen/*.[ch] codegen/nvptx/*.[ch] runtime/*.[ch] |
    grep -vE '^(frontend|passes|codegen)/[^:]*:[0-9]+:#include "\.\./ir/[a-z_]+\.(h|def)"' |
    grep -vE '^(frontend|codegen)/[^:]*:[0-9]+:#include "\.\./runtime/tbc_module\.h"' |
    grep -vE '^codegen/nvptx/[^:]*:[0-9]+:#include "\.\./([a-z_]+|\.\./runtime/tbc_module)\.h"' |
    grep -vE '^frontend/main\.c:[0-9]+:#include "\.\./(passes/pass|codegen/codegen)\.h"')
llvm=$(grep -lE '#[[:space:]]*include[[:space:]]*<llvm' ir/*.[ch] passes/*.[ch] frontend/*.[ch] runtime/*.[ch])
bare=$(for folder in frontend ir passes codegen codegen/nvptx runtime; do
    sed -nE "s|^[[:space:]]*#[[:space:]]*include[[:space:]]*\"([^/\"]+)\".*|\1|p" $folder/*.[ch] | sort -u | while read -r header; do
        [ -e "$folder/$header" ] || echo "$folder includes $header, which it does not have"
    done
done)
[ -z "$bad$llvm$bare" ] && exit 0
printf '%s\n' "$bad" "$llvm" "$bare" >&2
exit 1
