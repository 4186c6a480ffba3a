#!/usr/bin/env bash
# Shows that portcullis-core, portcullis-k8s and portcullis-matcher need no standard library: builds a static program
# without one that links them, runs it, and then shows that the same build fails once a dependency uses std.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/no-std-gate
cd "$root/ci/no-std-gate"

# The flags below must reach this program alone: own target directory, nothing from the outside.
unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET CARGO_TARGET_DIR
host=$(rustc -vV | sed -n 's/^host: //p')
flags='-Dwarnings -Clink-arg=-nostdlib -Clink-arg=-nostartfiles -Clink-arg=-static -Crelocation-model=static'

# `--target` keeps the flags away from build scripts and procedural macros, which do run on std.
build() {
    RUSTFLAGS=$flags cargo build --quiet --release --locked --target "$host" --target-dir "$target" "$@"
}

build
program=$target/$host/release/no-std-gate
status=0
"$program" || status=$?
if [ "$status" -ne 0 ]; then
    echo "no-std gate: the program exits with $status: a decision is wrong" >&2
    exit 1
fi
echo "no-std gate: $(stat -c %s "$program") byte program without std takes the right decisions"

# The control. E0152 is the duplicate panic handler that std brings along; any other failure proves nothing.
if errors=$(build --features control-std 2>&1); then
    echo "no-std gate: the control with a dependency on std builds, so this gate proves nothing" >&2
    exit 1
fi
if ! grep -q 'E0152' <<<"$errors"; then
    printf 'no-std gate: the control fails for another reason:\n%s\n' "$errors" >&2
    exit 1
fi
echo "no-std gate: the control with a dependency on std is refused"
