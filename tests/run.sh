#!/bin/sh
# Installs what is missing, builds, and runs every test: once as shipped, once with AddressSanitizer and
# UndefinedBehaviorSanitizer, and the threaded runtime with ThreadSanitizer. Builds go to build/, build-asan/, build-tsan/.
set -eu
cd "$(dirname "$0")/.."
sh .ci/install-packages
jobs=$(nproc)

build() { # build DIR TARGETS OPTION..
    dir=$1 targets=$2 && shift 2
    cmake -S . -B "$dir" -G Ninja "$@" >"$dir.log" 2>&1 && cmake --build "$dir" -j "$jobs" --target $targets >>"$dir.log" 2>&1 || {
        tail -n 40 "$dir.log" >&2
        echo "building $dir failed" >&2
        exit 1
    }
    rm -f "$dir.log"
}
check() { # check DIR CTEST-OPTION..
    dir=$1 && shift
    ctest --test-dir "$dir" -j "$jobs" --output-on-failure "$@"
}

build build all
check build
build build-asan all -DTBC_ASAN=ON
check build-asan -LE slow
build build-tsan "check_runtime check_recipe" -DTBC_TSAN=ON
check build-tsan -L threads
