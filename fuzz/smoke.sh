#!/usr/bin/env bash
# Runs every fuzz target for a number of seconds each: fuzz/smoke.sh [SECONDS]
# Needs a nightly toolchain, a C++ compiler and cargo-fuzz (CONTRIBUTING.md says which version).
# CARGO_FUZZ names another cargo-fuzz binary, FUZZ_TOOLCHAIN another toolchain.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-30}
fuzz=${CARGO_FUZZ:-cargo-fuzz}

# cargo-fuzz runs `cargo` itself; the toolchain is chosen here, so that a plain `cargo` may stay stable.
export RUSTUP_TOOLCHAIN=${FUZZ_TOOLCHAIN:-nightly}
unset CARGO_TARGET_DIR

# cargo-fuzz has no --locked, so a lock file that is out of date is found here.
cargo metadata --locked --format-version=1 >/dev/null
if ! log=$("$fuzz" build --fuzz-dir . 2>&1); then
    printf '%s\n' "$log"
    echo "fuzz: the targets do not build" >&2
    exit 1
fi
for target in $("$fuzz" list --fuzz-dir .); do
    mkdir -p "corpus/$target"
    echo "fuzz: $target for $seconds s"
    status=0
    log=$("$fuzz" run --fuzz-dir . "$target" "corpus/$target" "seeds/$target" -- \
        -max_total_time="$seconds" -max_len=8192 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -verbosity=0 2>&1) || status=$?
    if [ "$status" -ne 0 ]; then
        printf '%s\n' "$log" | tail -n 60
        echo "fuzz: $target found a failure; the input is under fuzz/artifacts/$target" >&2
        exit 1
    fi
    grep -E 'number_of_executed_units|peak_rss' <<<"$log" || true
done
