#!/usr/bin/env bash
# Builds a kernel program beside its source, or somewhere else: build.sh [SOURCE [OUTPUT]]. Without SOURCE, ours. Needs Debian's
# clang-14 and its llvm-strip. The same bytes come out in every folder; .ci/run compares them with the committed objects.
set -euo pipefail
source=$(realpath "${1:-$(dirname "$0")/portcullis.bpf.c}")
output=$(realpath -m "${2:-${source%.c}.o}")
cd "$(dirname "$source")"
strip=$(command -v llvm-strip-14 || command -v llvm-strip)
clang-14 -nostdinc -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Wno-unused-function \
    -fdebug-compilation-dir=. -ffile-prefix-map="$PWD"=. -c "$(basename "$source")" -o "$output"
"$strip" -g "$output"
