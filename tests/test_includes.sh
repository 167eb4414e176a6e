#!/bin/sh
# Who may include whom (see the README's map): an include across folders that is not drawn fails.
#     frontend, passes, codegen -> ir;  codegen -> runtime/tbc_module.h;  runtime -> nothing;
#     the command line, frontend/cmd*, sees all; LLVM's headers are for codegen alone.
# Within a folder a file includes those beside it, and
#     codegen <- codegen/x86, codegen/nvptx, whose generators kinds.c and emit.c list;
#     runtime/files <- device, text <- data, export, report <- runtime: its small headers are for all of it.
cd "$TBC_SOURCE" || exit 1
bad=$(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"[^"]*/' frontend/*.[ch] ir/*.[ch] passes/*.[ch] codegen/*.[ch] codegen/*/*.[ch] runtime/*.[ch] runtime/*/*.[ch] |
    grep -vE '^(frontend|passes|codegen)/[^/:]*:[0-9]+:#include "\.\./ir/[a-z_]+\.(h|def)"' |
    grep -vE '^(frontend|codegen)/[^/:]*:[0-9]+:#include "\.\./runtime/tbc_module\.h"' |
    grep -vE '^codegen/(kinds|emit)\.c:[0-9]+:#include "nvptx/[a-z]+\.h"' |
    grep -vE '^codegen/(x86|nvptx)/[^:]*:[0-9]+:#include "\.\./([a-z_]+|\.\./runtime/tbc_module)\.h"' |
    grep -vE '^runtime/[a-z]+/[^:]*:[0-9]+:#include "\.\./(error|progress|options|tbc_module)\.h"' |
    grep -vE '^runtime/(device|text|data|export|report)/[^:]*:[0-9]+:#include "\.\./files/[a-z0-9_]+\.h"' |
    grep -vE '^runtime/(data|report)/[^:]*:[0-9]+:#include "\.\./device/[a-z_]+\.h"' |
    grep -vE '^runtime/data/[^:]*:[0-9]+:#include "\.\./text/[a-z_]+\.h"' |
    grep -vE '^runtime/(export|report)/[^:]*:[0-9]+:#include "\.\./(codes|session|runlog)\.h"' |
    grep -vE '^runtime/[^/:]*:[0-9]+:#include "(files|device|text|data|export|report)/[a-z0-9_]+\.h"' |
    grep -vE '^frontend/cmd[a-z_]*\.[ch]:[0-9]+:#include "\.\./(passes/pass|codegen/codegen)\.h"')
llvm=$(grep -lE '#[[:space:]]*include[[:space:]]*<llvm' ir/*.[ch] passes/*.[ch] frontend/*.[ch] runtime/*.[ch] runtime/*/*.[ch])
bare=$(for folder in frontend ir passes codegen codegen/x86 codegen/nvptx runtime runtime/files runtime/device runtime/text runtime/data runtime/export runtime/report; do
    sed -nE "s|^[[:space:]]*#[[:space:]]*include[[:space:]]*\"([^/\"]+)\".*|\1|p" $folder/*.[ch] | sort -u | while read -r header; do
        [ -e "$folder/$header" ] || echo "$folder includes $header, which it does not have"
    done
done)
[ -z "$bad$llvm$bare" ] && exit 0
printf '%s\n' "$bad" "$llvm" "$bare" >&2
exit 1
