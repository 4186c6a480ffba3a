#!/usr/bin/env bash
# Builds somebody else's program: build.sh [OUTPUT]. As backends/ebpf/bpf/build.sh.
set -euo pipefail
cd "$(dirname "$0")"
output=${1:-foreign.bpf.o}
strip=$(command -v llvm-strip-14 || command -v llvm-strip)
clang-14 -nostdinc -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Wno-unused-function \
    -fdebug-compilation-dir=. -ffile-prefix-map="$PWD"=. -c foreign.bpf.c -o "$output"
"$strip" -g "$output"
