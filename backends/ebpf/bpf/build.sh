#!/usr/bin/env bash
# Builds the kernel program: build.sh [OUTPUT]. Needs Debian's clang-14 and its llvm-strip. The same bytes come out in
# every folder; .ci/run compares them with the committed object.
set -euo pipefail
cd "$(dirname "$0")"
output=${1:-portcullis.bpf.o}
strip=$(command -v llvm-strip-14 || command -v llvm-strip)
clang-14 -nostdinc -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Wno-unused-function \
    -fdebug-compilation-dir=. -ffile-prefix-map="$PWD"=. -c portcullis.bpf.c -o "$output"
"$strip" -g "$output"
