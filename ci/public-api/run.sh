#!/usr/bin/env bash
# Compares the public interface of each published library with the listing in ci/api, and shows what differs.
#
#   ci/public-api/run.sh           compares
#   ci/public-api/run.sh update    records
#
# Needs the stable toolchain only. The listing is one of all features.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
listings=$root/ci/api
cd "$root"

packages=()
for manifest in crates/*/Cargo.toml backends/*/Cargo.toml; do
    # What is never published has no interface to keep; a program has none at all.
    if ! grep -q '^publish = false' "$manifest" && [ -f "$(dirname "$manifest")/src/lib.rs" ]; then
        packages+=("$(sed -n '/^\[package\]/,/^name/s/^name = "\(.*\)"/\1/p' "$manifest")")
    fi
done

RUSTDOC=$root/ci/public-api/rustdoc.sh RUSTDOCFLAGS='' \
    cargo doc --quiet --locked --no-deps --lib --all-features "${packages[@]/#/-p}"
(cd ci/public-api && cargo build --quiet --locked --target-dir "$target/public-api")

mkdir -p "$listings"
different=0
new=$(mktemp)
for package in "${packages[@]}"; do
    "$target/public-api/debug/public-api-listing" "$target/doc/${package//-/_}.json" >"$new"
    if [ "${1:-}" = update ]; then
        cp "$new" "$listings/$package.txt"
        echo "$package: $(wc -l <"$new") items recorded"
    elif diff -u "$listings/$package.txt" "$new"; then
        echo "$package: $(wc -l <"$new") items, as recorded"
    else
        different=$((different + 1))
    fi
done
rm "$new"
# A library that is gone keeps no listing.
for listing in "$listings"/*.txt; do
    name=$(basename "$listing" .txt)
    if [[ " ${packages[*]} " != *" $name "* ]]; then
        if [ "${1:-}" = update ]; then
            rm "$listing"
        else
            echo "$listing: there is no published library of this name" >&2
            different=$((different + 1))
        fi
    fi
done
if [ "$different" -gt 0 ]; then
    echo "the public interface of $different libraries is not as recorded; when that is meant: ci/public-api/run.sh update" >&2
    exit 1
fi
