#!/usr/bin/env bash
# Builds the rivals' programs: build.sh [OUTPUT]. As ../../backends/ebpf/bpf/build.sh does it, with the same flags.
set -euo pipefail
cd "$(dirname "$0")"
output=${1:-rivals.bpf.o}
strip=$(command -v llvm-strip-14 || command -v llvm-strip)
clang-14 -nostdinc -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Wno-unused-function \
    -fdebug-compilation-dir=. -ffile-prefix-map="$PWD"=. -c rivals.bpf.c -o "$output"
"$strip" -g "$output"
