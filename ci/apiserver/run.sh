#!/usr/bin/env bash
# The watch of portcullis-kube against a real API server: builds etcd and kube-apiserver from their Go modules, runs the
# test program with them, and takes everything down again.
#
#   ci/apiserver/run.sh [FOLDER]
#
# FOLDER keeps the two programs between runs, 131 MB; the usual one is target/apiserver. A first build takes 10 to 25
# minutes and needs Go 1.26 and the Go module proxy; programs that are in FOLDER already are used as they are.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
programs=$(realpath -m "${1:-${CARGO_TARGET_DIR:-$root/target}/apiserver}")

missing=()
for program in etcd kube-apiserver; do
    [ -x "$programs/$program" ] || missing+=("$program")
done
if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v go >/dev/null; then
        echo "not in $programs: ${missing[*]}; to build them takes Go, which is not here" >&2
        exit 1
    fi
    mkdir -p "$programs"
    (cd "$root/ci/apiserver" && for program in "${missing[@]}"; do
        CGO_ENABLED=0 GOFLAGS='-mod=readonly -buildvcs=false -p=1' nice go build -trimpath -ldflags '-s -w' -o "$programs/" "./cmd/$program"
    done)
fi
command -v openssl >/dev/null || { echo "openssl is missing: it makes the key of service accounts" >&2; exit 1; }

cd "$root"
PORTCULLIS_APISERVER=$programs cargo test --locked -p portcullis-kube --test apiserver -- --nocapture --test-threads 1
