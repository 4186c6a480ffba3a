#!/usr/bin/env bash
# Shows that the lower bounds in Cargo.toml are true: takes each of our own dependencies in the lowest version that its
# bound allows, and checks the published crates with them, in a copy of the project.
#
# Needs a nightly toolchain to choose the versions; the check itself is by the stable one.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/minimal-versions
copy=$target/project
cd "$root"

rm -rf "$target"
mkdir -p "$copy"
git -c safe.directory='*' ls-files -z | tar --null --files-from=- -cf - | tar -C "$copy" -xf -
cd "$copy"

packages=()
for manifest in crates/*/Cargo.toml backends/*/Cargo.toml; do
    if ! grep -q '^publish = false' "$manifest"; then
        packages+=("$(sed -n '/^\[package\]/,/^name/s/^name = "\(.*\)"/\1/p' "$manifest")")
    fi
done

cargo +nightly update --quiet -Z direct-minimal-versions
CARGO_TARGET_DIR=$target cargo check --quiet --locked --all-features "${packages[@]/#/-p}"
echo "${#packages[@]} crates build with the lowest versions that they say they need"
rm -rf "$target"
