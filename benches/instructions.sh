#!/usr/bin/env bash
# Instructions per operation, counted by valgrind: benches/instructions.sh [--check | --write]
# --check compares with benches/instructions.txt and fails when an operation takes over a tenth more; --write
# replaces that file. Counts depend on the compiler and the C library, not on the machine's load.
# Needs valgrind (Debian: apt-get install valgrind).
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:-}
recorded=benches/instructions.txt
command -v valgrind >/dev/null || { echo "valgrind is missing: apt-get install valgrind" >&2; exit 3; }
cargo build --quiet --profile bench --locked -p portcullis-bench
program=${CARGO_TARGET_DIR:-target}/release/portcullis-bench

# All instructions of a run of $1, $2 times.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" instructions "$1" "$2" 2>&1 >/dev/null |
        sed -n 's/.*Collected : //p'
}

status=0
lines=
for operation in selector-parse selector-match verdict pod-event; do
    few=$(count "$operation" 200)
    many=$(count "$operation" 1200)
    each=$(((many - few) / 1000))
    lines+="$operation $each"$'\n'
    before=$(sed -n "s/^$operation //p" "$recorded" 2>/dev/null || true)
    echo "$operation: $each instructions${before:+, recorded $before}"
    if [ "$mode" = --check ] && { [ -z "$before" ] || [ $((each * 10)) -gt $((before * 11)) ]; }; then
        echo "$operation: more than a tenth above the recorded count" >&2
        status=1
    fi
done
if [ "$mode" = --write ]; then
    printf '%s' "$lines" >"$recorded"
fi
exit "$status"
