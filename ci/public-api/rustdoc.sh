#!/usr/bin/env bash
# rustdoc, writing JSON. Cargo calls it by the variable RUSTDOC. Only rustdoc itself sees RUSTC_BOOTSTRAP: build scripts
# look at it, and would be run again.
set -euo pipefail
RUSTC_BOOTSTRAP=1 exec rustdoc "$@" -Z unstable-options --output-format json
